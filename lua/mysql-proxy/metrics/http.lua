-- A small HTTP server for monitoring: GET and HEAD of a few paths, one request on each connection. It promises to
-- nobody that he gets an answer, but that nobody else is disturbed: the size of a request, its time and the number of
-- connections are limited, and of too many the oldest has to go, so that slow ones do not keep others out.

local uv = require "luv"

local request_head = require "mysql-proxy.metrics.request"

local MOST_CONNECTIONS = 32
local HEAD_LIMIT = 8192 -- bytes
local SECONDS = 5 -- for the request, and as many for the answer
local IGNORED_LIMIT = 65536 -- bytes behind the request that are read and thrown away
local BACKLOG = 64

local M = {}

local REASONS = {
  [200] = "OK",
  [400] = "Bad Request",
  [404] = "Not Found",
  [405] = "Method Not Allowed",
  [408] = "Request Timeout",
  [431] = "Request Header Fields Too Large",
  [500] = "Internal Server Error",
  [503] = "Service Unavailable",
}

---@alias HttpRoute fun(respond: fun(status: integer, body: string, content_type: string|nil)) may respond later

---@class HttpListener
---@field routes table<string, HttpRoute>
local Listener = {}
Listener.__index = Listener

local Connection = {}
Connection.__index = Connection

function Connection:close()
  if self.listener.connections[self.number] then
    self.listener.connections[self.number] = nil
    self.listener.count = self.listener.count - 1
    self.timer:close()
    self.socket:close()
  end
end

-- A socket that is closed with unread bytes is reset, and the answer may be lost. So the client closes first, if it
-- does so in time.
function Connection:close_when_both_are_done()
  if self.sent and self.client_done then
    self:close()
  end
end

function Connection:answer(status, body, content_type, more)
  self.answered = true
  self.timer:start(SECONDS * 1000, 0, self.on_timeout)
  local head = ("HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n")
    :format(status, REASONS[status], os.date("!%a, %d %b %Y %H:%M:%S GMT"),
      content_type or "text/plain; charset=utf-8", #body, more or "")
  self.socket:write(self.without_body and head or { head, body })
  local request = self.socket:shutdown(self.listener.log:guard(function()
    self.sent = true
    self:close_when_both_are_done()
  end))
  if not request then
    self:close()
  end
end

function Connection:refuse(status, more)
  return self:answer(status, REASONS[status] .. "\n", nil, more)
end

function Connection:take_request(head)
  local request = request_head.parse(head)
  if not request then
    return self:refuse(400)
  end
  self.without_body = request.method == "HEAD"
  if request.method ~= "GET" and request.method ~= "HEAD" then
    return self:refuse(405, "Allow: GET, HEAD\r\n")
  end
  local route = self.listener.routes[request.path]
  if not route then
    return self:refuse(404)
  end
  self.answered = true
  self.timer:start(SECONDS * 1000, 0, self.on_timeout)
  return route(function(...)
    if self.listener.connections[self.number] then -- it may have gone
      self:answer(...)
    end
  end)
end

function Connection:take(bytes)
  if self.answered then
    self.ignored = self.ignored + #bytes
    if self.ignored > IGNORED_LIMIT then
      self:close()
    end
    return
  end
  local before = #self.received
  self.received = self.received .. bytes
  local after = request_head.find_end(self.received, math.max(1, before - 2))
  if not request_head.may_begin(self.received) then
    return self:refuse(400)
  elseif (after and after - 1 or #self.received) > HEAD_LIMIT then
    return self:refuse(431)
  elseif after then
    return self:take_request(self.received:sub(1, after - 1))
  end
end

function Connection:on_read(failure, bytes)
  if bytes then
    return self:take(bytes)
  elseif failure or not self.answered then
    return self:close()
  end
  self.client_done = true
  return self:close_when_both_are_done()
end

function Listener:accept()
  local socket = uv.new_tcp()
  if not self.socket:accept(socket) then
    return socket:close()
  end
  self.last = self.last + 1
  local connection = setmetatable({
    listener = self, number = self.last, socket = socket, timer = uv.new_timer(), received = "", ignored = 0,
  }, Connection)
  self.connections[connection.number] = connection
  self.count = self.count + 1
  local function close()
    connection:close()
  end
  connection.on_timeout = self.log:guard(function()
    if connection.answered then
      return connection:close()
    end
    return connection:refuse(408)
  end, close)
  connection.timer:start(SECONDS * 1000, 0, connection.on_timeout)
  socket:read_start(self.log:guard(function(failure, bytes)
    return connection:on_read(failure, bytes)
  end, close))
  if self.count > MOST_CONNECTIONS then
    self:close_oldest()
  end
end

function Listener:close_oldest()
  while not self.connections[self.oldest] do
    self.oldest = self.oldest + 1
  end
  self.connections[self.oldest]:close()
end

--- Where it listens.
---@return string name ip:port
function Listener:address()
  local name = self.socket:getsockname()
  return (name.family == "inet6" and "[%s]:%d" or "%s:%d"):format(name.ip, name.port)
end

--- The number of its socket.
---@return integer|nil
---@return string|nil message
function Listener:descriptor()
  return self.socket:fileno()
end

--- Closes it and its connections at once.
function Listener:close()
  self.socket:close()
  for _, connection in pairs(self.connections) do
    connection:close()
  end
end

--- Opens a listener.
---@param place mysql_proxy.endpoint|{ descriptor: integer } descriptor: of a socket that was made by somebody else
---@param routes table<string, HttpRoute> by path
---@param log table
---@return HttpListener|nil
---@return string|nil message
---@return string|nil code
function M.listen(place, routes, log)
  local self = setmetatable({
    socket = uv.new_tcp(), routes = routes, log = log, connections = {}, count = 0, last = 0, oldest = 1,
  }, Listener)
  local ok, message, code
  if place.descriptor then
    ok, message, code = self.socket:open(place.descriptor)
  else
    ok, message, code = self.socket:bind(place.ip, place.port)
  end
  if ok then
    ok, message, code = self.socket:listen(BACKLOG, log:guard(function(failure)
      if not failure then
        self:accept()
      end
    end))
  end
  if not ok then
    self.socket:close()
    return nil, message, code
  end
  return self
end

return M
