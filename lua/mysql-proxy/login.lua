-- A session's login: the packets of both sides pass through here one by one. These are methods of mysql-proxy.session,
-- whose states say which of them is next.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

local constants = require "mysql-proxy.scripting.constants"
local pool = require "mysql-proxy.pool"

-- Both sides speak in the clear and uncompressed.
local MASKED_FLAGS = {
  proto.capabilities.CLIENT_COMPRESS, proto.capabilities.CLIENT_SSL,
  proto.capabilities.CLIENT_ZSTD_COMPRESSION_ALGORITHM,
}
local MASKED = MASKED_FLAGS[1] + MASKED_FLAGS[2] + MASKED_FLAGS[3]

local PLUGIN_AUTH = proto.capabilities.CLIENT_PLUGIN_AUTH

local OK, AUTH_SWITCH, ERR = 0x00, 0xfe, 0xff
local SEND_QUERY, SEND_RESULT = constants.PROXY_SEND_QUERY, constants.PROXY_SEND_RESULT
local STATUS_AUTOCOMMIT = 2

---@class Session
local Session = {}

-- Keeps a server's greeting; false if it is none, which the client is told in a packet of that number.
function Session:keep_greeting(payload, sequence)
  self.backend:mark_up()
  if payload:byte() == ERR then
    self:passes_error(payload)
    self.client:send(payload, sequence)
    self:close("the server refused the connection")
    return false
  end
  local ok, challenge = pcall(proto.from_challenge_packet, payload)
  if not ok then
    self:log("critical", "the server's greeting cannot be decoded: " .. challenge)
    self:refuse(sequence, {
      errcode = 1105, sqlstate = "HY000", errmsg = "(proxy) the server's greeting is not one of MySQL",
      protocol_41 = self.login ~= nil,
    })
    return false
  end
  self.server.greeting, self.server.challenge = payload, challenge
  self.server.stream:timeout(self.proxy.login_timeout)
  return true
end

function Session:take_greeting(payload)
  if not self:keep_greeting(payload, 0) then
    return
  end
  return self:ask("read_handshake", self.view and self.proxy.scripting.handshake(self), self.pass_greeting)
end

function Session:pass_greeting(verdict)
  if verdict == SEND_QUERY then
    self:log("warning", "(read_handshake) return proxy.PROXY_SEND_QUERY is deprecated, use PROXY_SEND_RESULT instead")
  end
  if verdict == SEND_RESULT or verdict == SEND_QUERY then
    self.client:write((self.proxy.scripting.response(self, 0)))
    return self:close("the script has answered read_handshake")
  end
  return self:greet(self.server.greeting, self.server.challenge, MASKED)
end

function Session:greet(greeting, challenge, masked)
  self.greeted = challenge
  self.client:timeout(self.proxy.login_timeout)
  self.client:send(proto.mask_capabilities(greeting, masked), 0)
  self:await_client(1)
  self.state = "read_auth"
end

-- A script has answered connect_server: with a greeting of its own it is the server, else that was the end.
function Session:greet_without_server()
  local packets, first = self.proxy.scripting.response(self, 0)
  self.client:write(packets)
  local ok, challenge = pcall(proto.from_challenge_packet, first)
  if not ok then
    return self:close("the script has answered connect_server")
  end
  self.greeted = challenge
  self:await_client(1)
  self.state = "read_auth"
end

-- In the login the sides take turns. What a client sends before it is its turn waits, so that a command cannot pass as
-- a part of the login.
function Session:await_client(sequence)
  self.turn, self.client_sequence = "client", sequence
end

function Session:await_server(sequence)
  self.turn, self.client_sequence = "server", sequence
  self.client:hold_packets()
end

-- A login without what the client was not offered. The server has offered it, and would speak so from then on: what
-- it understands would not be what is seen here.
local function masked_login(payload, login)
  local flags = login.capabilities
  for _, flag in ipairs(MASKED_FLAGS) do
    flags = pool.has(flags, flag) and flags - flag or flags
  end
  if flags == login.capabilities then
    return payload
  end
  login.capabilities = flags
  return string.char(flags % 256, math.floor(flags / 2 ^ 8) % 256, math.floor(flags / 2 ^ 16) % 256,
    math.floor(flags / 2 ^ 24)) .. payload:sub(5)
end

function Session:take_handshake_response(payload, sequence)
  local ok, login = pcall(proto.from_response_packet, payload, self.greeted.capabilities)
  if not ok then
    return self:protocol_error("client", "the handshake response cannot be decoded: " .. login)
  elseif login.ssl_request then
    return self:refuse(sequence + 1, { errcode = 1105, sqlstate = "HY000", errmsg = "(proxy) TLS is not offered" })
  elseif not login.protocol_41 then
    return self:refuse(sequence + 1, { errcode = 2007, errmsg = "4.0 protocol is not supported", protocol_41 = false })
  end
  if login.auth_plugin_name == "authentication_windows_client" and #(login.response or "") == 255 then
    return self:refuse(sequence + 1, {
      errcode = 1105, sqlstate = "HY000",
      errmsg = "long packets for windows-authentication aren't completely handled yet. "
        .. "Please use another auth-method for now.",
    })
  end
  self:await_server(sequence)
  self.login, self.login_packet, self.login_sequence = login, masked_login(payload, login), sequence
  return self:ask("read_auth", self.view and self.proxy.scripting.auth(self), self.pass_handshake_response)
end

function Session:pass_handshake_response(verdict)
  local packet, sequence = self.login_packet, self.login_sequence
  self.login_packet = nil
  if verdict == SEND_RESULT then
    local packets, first = self.proxy.scripting.response(self, sequence + 1)
    self.client:write(packets)
    if self.server or first:byte() == ERR then
      return self:close("the script has answered read_auth")
    end
    return self:begin_queries()
  elseif not self.server and verdict == SEND_QUERY then
    return self:refuse(sequence + 1, {
      errcode = 1105, sqlstate = "07000", errmsg = "(lua) read_auth wants to send a login, but there is no server",
    })
  elseif not self.server then
    self.client:send(proto.to_ok_packet { server_status = STATUS_AUTOCOMMIT }, sequence + 1)
    return self:begin_queries()
  end
  local own, login
  if verdict == SEND_QUERY then
    own, login = self.proxy.scripting.login_packet(self)
  end
  self.scripts_login = own ~= nil
  if not self.server.username then
    self:await_auth_result(0)
    self.server.stream:send(own or packet, sequence)
  elseif own then
    pool.log_in_as(self, sequence, login)
  else
    pool.log_in(self, sequence)
  end
end

--- The server is about to get a login.
---@param shift integer so much higher are the numbers of the client's packets
function Session:await_auth_result(shift)
  self.state, self.sequence_shift, self.switched = "read_auth_result", shift, false
  self.server.stream:timeout(self.proxy.login_timeout)
  self.server.stream:read_packets(self.proxy.login_packet_limit)
end

--- Has a new connection to the backend take the place of the idle one that has greeted the client.
function Session:connect_again(backend)
  self:attach(backend)
  self.state = "connect_again"
  return self:connect("connect_again")
end

function Session:take_second_greeting(payload)
  if not self:keep_greeting(payload, self:error_sequence()) then
    return
  end
  local challenge, login = self.server.challenge, self.login
  if stream.negotiated(challenge, login) ~= stream.negotiated(self.greeted, login) then
    return self:refuse(self:error_sequence(), {
      errcode = 1105, sqlstate = "HY000", errmsg = "(proxy) the server is not what it was, connect again",
    })
  end
  self:await_auth_result(0)
  self.server.stream:send(proto.to_response_packet(setmetatable({ server_capabilities = challenge.capabilities },
    { __index = pool.login_to_be_asked(login) })), self.login_sequence)
end

--- The client's response is for another challenge or plugin, and it cannot be asked again.
function Session:cannot_ask_again()
  return self:refuse(self:error_sequence(), {
    errcode = 1251, sqlstate = "08004",
    errmsg = "Client does not support authentication protocol requested by server; consider upgrading MySQL client",
  })
end

--- Who the server connection is logged in as, and what the client believes.
---@param login table a decoded handshake response or COM_CHANGE_USER
---@param client boolean it was the client's own doing
function Session:logged_in(login, client)
  local server = self.server
  server.username, server.scrambled_password = login.username or "", login.response or ""
  server.default_db, server.charset = login.database or "", login.charset
  server.auth_plugin_name = login.auth_plugin_name
  server.response_checked = false
  if client then
    self.login.username, self.login.response = login.username, login.response
    self.login.charset = login.charset
    self.client_db = login.database or ""
  end
end

function Session:take_auth_result(payload, sequence)
  local kind = payload:byte()
  self.switched = self.switched or kind == AUTH_SWITCH
  if kind == AUTH_SWITCH and #payload > 1 and not pool.has(self.login.capabilities, PLUGIN_AUTH) then
    return self:cannot_ask_again()
  end
  self:logged_in(self.login, true)
  self.server.response_checked = kind == OK and not self.switched and not self.scripts_login
  self.auth_result, self.auth_sequence = payload, (sequence + self.sequence_shift) % 256
  self.server.stream:hold_packets() -- its next may have come already, and the hook may wait
  return self:ask("read_auth_result", self.view and { packet = payload }, self.pass_auth_result)
end

function Session:pass_auth_result(verdict)
  local payload, sequence, kind = self.auth_result, self.auth_sequence, self.auth_result:byte()
  self.auth_result = nil
  if kind ~= OK and kind ~= ERR and not self.server then
    return self:refuse(sequence, {
      errcode = 1105, sqlstate = "07000", errmsg = "(lua) read-auth-old-password failed as backend_ndx got reset.",
    })
  end
  local sent, next = payload, (sequence + 1) % 256
  if verdict == SEND_RESULT then
    local packets
    packets, sent, next = self.proxy.scripting.response(self, sequence)
    self.sequence_shift = self.sequence_shift + next - sequence - 1 -- the server has sent one
    self.client:write(packets)
  else
    self.client:send(payload, sequence)
  end
  if kind == OK and sent:byte() ~= ERR then
    return self:begin_queries()
  elseif kind == OK or kind == ERR then
    self:passes_error(sent)
    return self:close(kind == OK and "the script has refused the login" or "the server refused the login")
  end -- else a step of the authentication plugin's conversation
  self:await_client(next)
  self.client:read_packets(self.proxy.login_packet_limit)
  if self.state == "read_auth_result" then
    self.server.stream:read_packets(self.proxy.login_packet_limit)
  end
end

function Session:take_auth_data(payload, sequence)
  self:await_server(sequence)
  self.server.stream:send(payload, (sequence - self.sequence_shift) % 256)
end

return { methods = Session, MASKED = MASKED }
