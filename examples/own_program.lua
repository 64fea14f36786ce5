-- A program of one's own that has the proxy in it: two proxies on one loop, each with its servers, and a line about
-- them whenever something has changed.
--
--   luarocks make rockspec/mysql-proxy-scm-1.rockspec       (or the two paths of README.md, out of the build tree)
--   lua5.1 examples/own_program.lua 127.0.0.1:4040=127.0.0.1:3306 127.0.0.1:4050=db1:3306,db2:3306
--
-- Ctrl-C lets running statements end.

local mysql_proxy = require "mysql-proxy"
local uv = require "luv"

local CHECK_MS = 200

local function split(text)
  local parts = {}
  for part in text:gmatch("[^,]+") do
    parts[#parts + 1] = part
  end
  return parts
end

local proxies = {}
for _, argument in ipairs(arg) do
  local listen, backends = argument:match("^([^=]+)=(.+)$")
  assert(listen, "arguments are LISTEN=BACKEND,...: " .. argument)
  local proxy = assert(mysql_proxy.new {
    proxy_address = { listen },
    proxy_backend_addresses = split(backends),
  })
  proxy:listen(function(ok, message)
    assert(ok, message)
    print(("%s listens, in front of %s"):format(listen, backends))
  end)
  proxies[#proxies + 1] = { name = listen, proxy = proxy, clients = 0 }
end

-- Anything else that luv offers runs beside them: here a timer.
local timer = uv.new_timer()
timer:start(CHECK_MS, CHECK_MS, function()
  for _, entry in ipairs(proxies) do
    if entry.clients ~= entry.proxy.session_count then
      entry.clients = entry.proxy.session_count
      print(("%s has %d clients"):format(entry.name, entry.clients))
    end
  end
end)

local interrupt = uv.new_signal()
interrupt:start("sigint", function()
  interrupt:close()
  timer:close()
  for _, entry in ipairs(proxies) do
    entry.proxy:shutdown(5, function()
      print(entry.name .. " has ended")
    end)
  end
end)

uv.run() -- until nothing is left to do
