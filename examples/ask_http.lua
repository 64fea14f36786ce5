-- Asks a web service whether a statement may run. The hook waits for its answer; other clients do not.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/ask_http.lua
--
-- For each statement the service at HOST:PORT gets GET /allowed?user=NAME&query=TEXT, with ? for values in the text.
-- Status 200 lets the statement run; after any other the client gets error 1227 with the first line of the answer's
-- body. A service that is down or slower than TIMEOUT_MS allows nothing.

local tokenizer = require "proxy.tokenizer"
local uv = require "luv"

local HOST, PORT = "127.0.0.1", 8080
local TIMEOUT_MS = 2000
local LONGEST = 65536 -- bytes of an answer

local REQUEST = "GET %s HTTP/1.0\r\nHost: %s:%d\r\nConnection: close\r\n\r\n"

local function escape(text)
  return (text:gsub("[^%w._~-]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

-- Waits for the answer of the service: its status and body, or nil and what went wrong.
local function get(path)
  return proxy.async.await(function(resume)
    local tcp, timer, parts, length = uv.new_tcp(), uv.new_timer(), {}, 0
    local function finish(...)
      if not tcp:is_closing() then
        tcp:close()
        timer:close()
        resume(...)
      end
    end
    local function read(failure, chunk)
      parts[#parts + 1] = chunk
      length = length + #(chunk or "")
      if failure or length > LONGEST then
        return finish(nil, failure or "the answer is too long")
      elseif not chunk then -- the end
        local status, body = table.concat(parts):match("^HTTP/%S+ (%d+).-\r\n\r\n(.*)")
        return finish(tonumber(status), body or "that was no HTTP")
      end
    end
    timer:start(TIMEOUT_MS, 0, function()
      finish(nil, "no answer in time")
    end)
    tcp:connect(HOST, PORT, function(failure)
      if failure then
        return finish(nil, failure)
      end
      tcp:read_start(read)
      tcp:write(REQUEST:format(path, HOST, PORT))
    end)
    return finish -- if the client leaves meanwhile
  end)
end

function read_query(packet)
  local command = packet:byte()
  if command ~= proxy.COM_QUERY and command ~= proxy.COM_STMT_PREPARE then
    return
  end
  local kind = tokenizer.normalize(tokenizer.tokenize(packet:sub(2)))
  local user = proxy.connection.client.username
  local status, answer = get(("/allowed?user=%s&query=%s"):format(escape(user), escape(kind)))
  if status ~= 200 then
    local reason = status and answer:match("[^\r\n]*") or "cannot be asked: " .. answer
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1227, sqlstate = "42000",
      errmsg = "Not allowed: " .. reason }
    return proxy.PROXY_SEND_RESULT
  end
end
