-- One client's life, from accept to close. The states have the names of the manual's hooks; the packets of the login
-- pass through here one by one, those of the command phase through a relay in C that comes back only for what was
-- asked for.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

---@class Session
---@field id integer
---@field state string
---@field client userdata the stream to the client
---@field server userdata|nil the stream to the backend
---@field backend Backend|nil
---@field challenge table|nil the decoded greeting
---@field login table|nil the decoded handshake response
---@field relay userdata|nil
local Session = {}
Session.__index = Session

-- What each state does with a packet that comes from the client or from the server. A packet from a side that is not
-- named ends the session.
local states = {
  connect_server = {},
  read_handshake = { server = "take_greeting" },
  read_auth = { client = "take_handshake_response" },
  read_auth_result = { server = "take_auth_result", client = "take_auth_data" },
  read_query = {}, -- the relay has the streams
  close = {},
}

-- Both sides speak in the clear and uncompressed.
local MASKED = proto.capabilities.CLIENT_COMPRESS
  + proto.capabilities.CLIENT_SSL
  + proto.capabilities.CLIENT_ZSTD_COMPRESSION_ALGORITHM

local OK, ERR = 0x00, 0xff

local last_id = 0

---@param proxy table the proxy that it belongs to
---@param port table the listening port that accepted it: backend_type, hooks
---@param client userdata
---@return Session
local function new(proxy, port, client)
  last_id = last_id + 1
  local self = setmetatable({ id = last_id, proxy = proxy, port = port, client = client }, Session)
  client:owner(self)
  client:timeout(proxy.login_timeout)
  client:read_packets(proxy.login_packet_limit)
  self.state = "connect_server"
  self:connect_server()
  return self
end

function Session:__tostring()
  return ("session %d (%s -> %s, %s)"):format(
    self.id,
    self.client_name or self.client:address("peer") or "?",
    self.backend and self.backend.address or "no backend",
    self.state
  )
end

function Session:log(level, text)
  local log = self.proxy.log
  if log:enabled(level) then
    log[level](log, tostring(self) .. ": " .. text)
  end
end

-- connect_server: backends are tried until one greets -----------------------------------------------------------

function Session:connect_server()
  local backend = self.proxy.backends:choose(self.port.backend_type)
  if not backend then
    self.proxy.log:critical("Cannot connect, all backends are down.")
    return self:refuse(0, { errcode = 1105, errmsg = "(proxy) all backends are down", protocol_41 = false })
  end
  self:attach(backend)
  self.client:timeout(self.proxy.connect_timeout) -- until the host name is resolved
  backend:resolve(self.proxy.log:guard(function(message, places)
    if self.state ~= "connect_server" or self.backend ~= backend or self.places then
      return
    end
    self.client:timeout(self.proxy.login_timeout)
    if not places then
      return self:backend_failed(message)
    end
    self.places, self.place = places, 0
    self:connect_next()
  end))
end

-- A host name may stand for several places: all are tried before the backend counts as down.
function Session:connect_next(message)
  self.place = self.place + 1
  local place = self.places[self.place]
  if not place then
    return self:backend_failed(message)
  end
  local server, failure = stream.connect(self, place.path or place.ip, place.port)
  if not server then
    return self:connect_next(failure)
  end
  self.server = server
  server:timeout(self.proxy.connect_timeout)
end

function Session:on_connect(server, message)
  if server ~= self.server then
    return
  end
  if message then
    self.server = nil
    return self:connect_next(message)
  end
  self.places, self.place = nil, nil
  self.state = "read_handshake"
  server:read_packets(self.proxy.login_packet_limit)
end

function Session:backend_failed(message)
  local log, name = self.proxy.log, self.backend.address
  log:critical(("connect(%s) failed: %s. Retrying with different backend."):format(name, message))
  log:critical(("connecting to backend (%s) failed, marking it as down for ..."):format(name))
  self.backend:mark_down()
  self:detach()
  self.state, self.places = "connect_server", nil
  return self:connect_server()
end

function Session:attach(backend)
  self.backend = backend
  backend.connected_clients = backend.connected_clients + 1
end

function Session:detach()
  if self.server then
    self.server:close()
    self.server = nil
  end
  if self.backend then
    self.backend.connected_clients = self.backend.connected_clients - 1
    self.backend = nil
  end
end

-- the login: packets pass one by one -----------------------------------------------------------------------------

function Session:on_packet(from, payload, sequence)
  local side = from == self.client and "client" or "server"
  local take = states[self.state][side]
  if not take then
    return self:protocol_error(side, "received a packet out of turn")
  end
  return self[take](self, payload, sequence)
end

function Session:take_greeting(payload, sequence)
  self.backend:mark_up()
  if payload:byte() == ERR then
    self.client:send(payload, sequence)
    return self:close("the server refused the connection")
  end
  local ok, challenge = pcall(proto.from_challenge_packet, payload)
  if not ok then
    self:log("critical", "the server's greeting cannot be decoded: " .. challenge)
    return self:refuse(0, { errcode = 1105, errmsg = "(proxy) the server's greeting is not one of MySQL" })
  end
  self.challenge = challenge
  self.server:timeout(self.proxy.login_timeout)
  self.client:send(proto.mask_capabilities(payload, MASKED), sequence)
  self.state = "read_auth"
end

function Session:take_handshake_response(payload, sequence)
  local ok, login = pcall(proto.from_response_packet, payload, self.challenge.capabilities)
  if not ok then
    return self:protocol_error("client", "the handshake response cannot be decoded: " .. login)
  elseif login.ssl_request then
    return self:refuse(sequence + 1, { errcode = 1105, sqlstate = "HY000", errmsg = "(proxy) TLS is not offered" })
  elseif not login.protocol_41 then
    return self:refuse(sequence + 1, { errcode = 2007, errmsg = "4.0 protocol is not supported", protocol_41 = false })
  end
  self.login = login
  self.server:send(payload, sequence)
  self.state = "read_auth_result"
end

function Session:take_auth_result(payload, sequence)
  self.client:send(payload, sequence)
  local kind = payload:byte()
  if kind == OK then
    return self:begin_queries()
  elseif kind == ERR then
    return self:close("the server refused the login")
  end -- else a step of the authentication plugin's conversation
end

function Session:take_auth_data(payload, sequence)
  self.server:send(payload, sequence)
end

-- the command phase ----------------------------------------------------------------------------------------------

function Session:begin_queries()
  self.state = "read_query"
  self.relay = stream.relay(self.client, self.server, self.challenge, self.login, self.proxy.relay_options)
  local hooks = self.port.hooks
  if hooks then
    self.relay:watch(unpack(hooks.watched))
    hooks.begin_queries(self)
  end
  self.relay:start()
  if self.proxy.shutting_down then
    self.relay:close_when_idle()
  end
end

--- A watched command: the port's hook answers it, or it goes on as it came.
function Session:on_command(relay, packet)
  self.port.hooks.read_query(self, relay, packet)
end

function Session:on_answer(_, error, packets)
  self.port.hooks.read_query_result(self, error, packets)
end

-- the end --------------------------------------------------------------------------------------------------------

function Session:on_relay_end(_, side, message, code)
  if code == "EPROTO" then
    self:log("critical", ("%s: %s closing the connection"):format(side, message))
  else
    self:log("debug", message and ("%s: %s"):format(side, message) or side .. " closed")
  end
  self.server = nil -- the relay closes it, once it has got what the client sent
  self:ended()
end

function Session:on_end(from, message)
  if from ~= self.client and (self.state == "connect_server" or self.state == "read_handshake") then
    return self:backend_failed(message or "closed before the greeting")
  end
  if from ~= self.client and self.state ~= "close" then
    return self:refuse(self.state == "read_auth_result" and 2 or 0, {
      errcode = 2013, sqlstate = "HY000", errmsg = "Lost connection to MySQL server during login",
    })
  end
  self:close(("%s %s"):format(from == self.client and "client" or "server", message or "closed"))
end

function Session:on_timeout(from)
  local resolving = self.state == "connect_server" and not self.places
  if from == self.client and not resolving then
    return self:close("the login took too long")
  elseif self.state == "read_auth" or self.state == "read_auth_result" then
    return self:refuse(2, { errcode = 1105, errmsg = "backend timed out" })
  end
  local log = self.proxy.log
  log:debug(("connecting to %s timed out after %.2f seconds. Trying another backend."):format(
    self.backend.address, self.proxy.connect_timeout))
  if self.state == "connect_server" and not resolving then
    self.server:close()
    self.server = nil
    return self:connect_next("timed out")
  end
  return self:backend_failed(resolving and "the host name was not resolved in time" or "timed out")
end

--- Says why in an ERR packet, and closes.
function Session:refuse(sequence, err)
  self.client:send(proto.to_err_packet(err), sequence % 256)
  return self:close(err.errmsg)
end

function Session:protocol_error(side, problem)
  self:log("critical", ("%s: %s. closing the connection"):format(side, problem))
  return self:close(problem)
end

--- Ends the session: the client after what was sent to it, the server at once.
function Session:close(reason)
  if self.state == "close" then
    return
  end
  self:log("debug", reason)
  self.client:finish()
  self:ended()
end

function Session:ended()
  if self.state == "close" then
    return
  end
  self:detach()
  self.state = "close"
  self.proxy:session_ended(self)
end

--- For a shutdown: at once if no answer is due, else after it.
function Session:close_when_idle()
  if self.relay then
    self.relay:close_when_idle()
  else
    self:close("the proxy shuts down")
  end
end

return { new = new }
