-- A client of its own for proxy.async.query: one connection, one statement, its answer.

local packet = require "mysql.packet"
local password = require "mysql.password"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"
local stream = require "mysql.stream"

local M = {}

local OK, MORE_DATA, EOF, ERR = 0x00, 0x01, 0xfe, 0xff
local FAST_AUTH_SUCCESS = 3
local MAX_EOF_LENGTH = 9
local CHARSET_UTF8MB4 = 45
local COM_QUERY, COM_QUIT = 3, "\1"
local FLAGS = proto.capabilities
local CAPABILITIES = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
  + FLAGS.CLIENT_TRANSACTIONS + FLAGS.CLIENT_CONNECT_WITH_DB

-- How a plugin answers the server's challenge.
local plugins = {
  mysql_native_password = function(challenge, secret)
    return password.scramble(challenge, password.hash(secret))
  end,
  caching_sha2_password = function(challenge, secret)
    return password.sha256_scramble(challenge, password.sha256(secret))
  end,
}

---@class Client owner of its stream
local Client = {}
Client.__index = Client

function Client:finish(result, message)
  if self.stream then
    self.stream:close()
    self.stream = nil
  end
  local done = self.done
  self.done = function() end
  return done(result, message)
end

function Client:on_connect(_, message)
  if message then
    return self:finish(nil, message)
  end
  self.stream:read_packets(self.limit)
end

function Client:too_long()
  return ("the answer is longer than the %d bytes that a script may ask for (--proxy-answer-limit)"):format(self.limit)
end

function Client:on_end(_, message)
  if message and message:find("^EMSGSIZE") then
    message = self:too_long()
  end
  return self:finish(nil, message or "the server has closed the connection")
end

function Client:on_timeout()
  return self:finish(nil, "timed out")
end

function Client:on_packet(_, payload, sequence)
  local ok, message = pcall(self[self.state], self, payload, sequence)
  if not ok then
    return self:finish(nil, message)
  end
end

function Client:response(plugin, challenge)
  local secret = self.login.password or ""
  if secret == "" then
    return ""
  elseif not plugins[plugin] then
    error(("accounts of the plugin %s cannot be used here"):format(tostring(plugin)), 0)
  end
  return plugins[plugin](challenge:sub(1, 20), secret)
end

function Client:greeting(payload, sequence)
  if payload:byte() == ERR then
    error(proto.from_err_packet(payload).errmsg, 0)
  end
  local challenge = proto.from_challenge_packet(payload)
  local plugin = plugins[challenge.auth_plugin_name] and challenge.auth_plugin_name or "mysql_native_password"
  self.stream:send(proto.to_response_packet {
    capabilities = CAPABILITIES, server_capabilities = challenge.capabilities, max_packet_size = 2 ^ 30,
    charset = CHARSET_UTF8MB4, username = self.login.user or "", database = self.login.database,
    response = self:response(plugin, challenge.challenge), auth_plugin_name = plugin,
  }, sequence + 1)
  self.state = "authentication"
end

function Client:authentication(payload, sequence)
  local kind = payload:byte()
  if kind == OK then
    self.state = "answer"
    self.stream:send(string.char(COM_QUERY) .. self.sql, 0)
  elseif kind == ERR then
    error(proto.from_err_packet(payload).errmsg, 0)
  elseif kind == EOF then
    local plugin, challenge = payload:match("^.(%Z+)%z(.*)$")
    self.stream:send(self:response(plugin, challenge or ""), sequence + 1)
  elseif kind == MORE_DATA and payload:byte(2) ~= FAST_AUTH_SUCCESS then
    error("the server wants the whole password, which is not sent in the clear: log in once with another client", 0)
  end
end

function Client:answer(payload, sequence)
  local kind, first = payload:byte(), #self.packets == 0
  self.packets[#self.packets + 1] = packet.frame(payload, sequence)
  self.length = self.length + #payload
  if self.length > self.limit then
    error(self:too_long(), 0)
  end
  if kind == EOF and #payload < MAX_EOF_LENGTH then
    self.eofs = self.eofs + 1
  end
  if kind == ERR and (first or self.eofs == 1) then
    error(proto.from_err_packet(payload).errmsg, 0)
  elseif (first and kind == OK) or self.eofs == 2 then
    self.stream:send(COM_QUIT, 0)
    return self:finish(resultset.new(table.concat(self.packets), COM_QUERY, CAPABILITIES))
  end
end

--- Connects, logs in, asks, and leaves.
---@param place mysql_proxy.endpoint
---@param sql string
---@param login { user: string, password: string|nil, database: string|nil }
---@param options { timeout: number, limit: integer } seconds that nothing may move; bytes of the answer
---@param done fun(result: userdata|nil, message: string|nil) mysql.resultset
---@return fun() cancel
function M.query(place, sql, login, options, done)
  local self = setmetatable({
    sql = sql, login = login, limit = options.limit, done = done, state = "greeting", packets = {}, length = 0,
    eofs = 0,
  }, Client)
  local message
  self.stream, message = stream.connect(self, place.path or place.ip, place.port)
  if not self.stream then
    done(nil, message)
  else
    self.stream:timeout(options.timeout)
  end
  return function()
    self.done = function() end
    self:finish()
  end
end

return M
