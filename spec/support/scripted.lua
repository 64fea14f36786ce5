-- A proxy with a script, or with one script after the other.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"

local M = {}

--- Starts a proxy in front of a server with a script of this text.
---@param backends table[]|table servers, or one
---@param text string
---@param options? string[]
---@return table proxy with `script`, the file's path
function M.start(backends, text, options)
  local path = process.write_file(process.path("script.lua"), text)
  local all = { "--proxy-lua-script=" .. path, unpack(options or {}) }
  local proxy = proxies.start(backends.port and { backends } or backends, all)
  proxy.script = path
  return proxy
end

--- Logs in at a proxy as a user without a password.
function M.client(proxy, user, more)
  return raw.connect(proxy.port):login(user or "nopass", more)
end

--- A script that answers `EVAL expression, ...` with the values, and leaves everything else to the server. `here` is
--- its environment.
M.EVAL = [[
  here = getfenv(1)
  function read_query(packet)
    local expressions = packet:match("^\3EVAL (.*)")
    if not expressions then return end
    local values, count = {}, 0
    local function take(...) count, values = select("#", ...), { ... } end
    take(setfenv(assert(loadstring("return " .. expressions)), here)())
    for i = 1, count do values[i] = tostring(values[i]) end
    proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
      fields = { { name = "values", type = proxy.MYSQL_TYPE_STRING } }, rows = { { table.concat(values, " ") } } } }
    return proxy.PROXY_SEND_RESULT
  end
]]

--- The values that EVAL gives a client, with blanks between them.
function M.says(client, expressions)
  local answer = client:ask("EVAL " .. expressions)
  return answer.rows and answer.rows[1][1] or answer.errmsg
end

--- What EVAL says of statements: what they return, or their error without its place.
function M.does(client, statements)
  return (M.says(client, ("(function(ok, ...) return ... end)(pcall(function() %s end))"):format(statements))
    :gsub("^%[string .-%]:%d+: ", ""))
end

local Series = {}
Series.__index = Series

--- A proxy that gets one script after the other: whoever connects after run() gets the new one.
---@param backends table[]|table
---@param options? string[]
function M.series(backends, options)
  return setmetatable({ proxy = M.start(backends, "", options), clients = {} }, Series)
end

--- The next script. What was printed and logged before does not count any more.
function Series:run(text)
  process.write_file(self.proxy.script, text)
  self.printed, self.logged = #self.proxy.process:stdout(), #self.proxy:log()
end

function Series:stdout()
  return self.proxy.process:stdout():sub(self.printed + 1)
end

function Series:log()
  return self.proxy:log():sub(self.logged + 1)
end

local function wait_for(what, read, pattern, plain)
  assert(process.wait_until(function()
    return read():find(pattern, 1, plain)
  end, 10), ("%s: %s is not in: %s"):format(what, pattern, read()))
end

--- Waits until the script has printed this.
function Series:prints(pattern, plain)
  wait_for("printed", function() return self:stdout() end, pattern, plain)
end

--- Waits until this is in the log.
function Series:logs(pattern, plain)
  wait_for("log", function() return self:log() end, pattern, plain)
end

--- Logs in; the client is gone after leave().
function Series:login(user, more)
  local client = M.client(self.proxy, user, more)
  table.insert(self.clients, client)
  return client
end

--- All clients go; returns the errors of hooks that the log has.
function Series:leave()
  for _, client in ipairs(self.clients) do
    client:close()
  end
  self.clients = {}
  local errors = {}
  for line in self:log():gmatch("[^\n]+") do
    local critical = line:find("%(critical%) [^l]") and not line:find(": slow hook: ", 1, true) -- the machine is busy
    if critical or line:find("error in a callback", 1, true) then
      errors[#errors + 1] = line:gsub("^.-%(critical%) ", "")
    end
  end
  return errors
end

--- The first critical line of a log about a session or a script's hook, but for slow hooks: the machine may be busy.
function M.complaints(log)
  for line in log:gmatch("%(critical%) [s(][^\n]*") do
    if not line:find(": slow hook: ", 1, true) then
      return line
    end
  end
  return nil
end

function Series:stop()
  assert(self.proxy:stop() == 0, self.proxy:log())
end

return M
