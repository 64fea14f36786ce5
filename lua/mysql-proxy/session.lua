-- One client's life, from accept to close. The states have the names of the manual's hooks; the packets of the login
-- pass one by one (mysql-proxy.login), those of the command phase through a relay in C that comes back only for what
-- was asked for.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

local bug_25371 = require "mysql-proxy.bug_25371"
local connect = require "mysql-proxy.connect"
local constants = require "mysql-proxy.scripting.constants"
local ids = require "mysql-proxy.session_ids"
local login = require "mysql-proxy.login"
local pool = require "mysql-proxy.pool"

---@class Session
---@field id integer
---@field state string
---@field client userdata the stream to the client
---@field server Server|nil
---@field backend Backend|nil
---@field greeted table|nil the decoded greeting that the client got
---@field login table|nil the decoded handshake response
---@field relay userdata|nil
---@field view table|nil what its script sees as `proxy`
local Session = {}
Session.__index = Session
for name, method in pairs(login.methods) do
  Session[name] = method
end

---@class Server a connection to a backend
---@field stream userdata
---@field backend Backend
---@field greeting string its greeting's payload
---@field challenge table its greeting decoded
---@field capabilities number what client and server have negotiated for the time after the login
---@field all_capabilities number and for the login
---@field username string|nil who is logged in
---@field scrambled_password string|nil what its client sent as the response to the challenge
---@field response_checked boolean it was that by which the server has let it in
---@field charset integer|nil the character set that its login named
---@field default_db string|nil
---@field auth_plugin_name string|nil that its login named
---@field told_read_only boolean|nil by the read-only port (read_only_port.lua)

-- What each state does with a packet that comes from the client or from the server. A packet from a side that is not
-- named, or while a hook of the script waits, ends the session.
local states = {
  connect_server = {},
  read_handshake = { server = "take_greeting" },
  read_auth = { client = "take_handshake_response" },
  connect_again = { server = "take_second_greeting" }, -- in the midst of a login, as no idle connection suits
  read_auth_result = { server = "take_auth_result", client = "take_auth_data" },
  read_query = {}, -- the relay has the streams
  close = {},
}

local STATES = { -- of open sessions, in their order
  "connect_server", "read_handshake", "read_auth", "connect_again", "read_auth_result", "read_query",
}

local ERR = 0xff
local SEND_RESULT, IGNORE_RESULT = constants.PROXY_SEND_RESULT, constants.PROXY_IGNORE_RESULT

---@param proxy table the proxy that it belongs to
---@param port table the listening port that accepted it: backend_type, hooks
---@param client userdata
---@return Session
local function new(proxy, port, client)
  local self = setmetatable({
    id = ids.next(), proxy = proxy, port = port, client = client, client_name = client:address("peer") or "?",
    state = "connect_server",
    -- With room for what comes in each login.
    attempt = nil, backend = nil, server = nil, greeted = nil, login = nil, login_packet = nil, login_sequence = nil,
    turn = nil, client_sequence = nil, sequence_shift = nil, switched = nil, auth_result = nil, auth_sequence = nil,
    client_db = nil, relay = nil, hooks = nil, ending = nil, chosen = nil,
  }, Session)
  client:owner(self)
  client:timeout(proxy.login_timeout)
  client:read_packets(proxy.login_packet_limit)
  if proxy.lua_script then
    proxy.scripting.begin(self, self.connect_server)
  else
    self:connect_server()
  end
  return self
end

function Session:__tostring()
  return ("session %d (%s%s -> %s, %s)"):format(
    self.id,
    self.login and self.login.username and self.login.username .. "@" or "",
    self.client_name,
    self.backend and self.backend.address or "no backend",
    self.state
  )
end

function Session:log(level, text)
  self.proxy.log:about(self, level, text)
end

-- Asks the script, if there is one, and goes on with next(self, verdict).
function Session:ask(hook, argument, next)
  if self.view then
    return self.proxy.scripting.ask(self, hook, argument, next)
  end
  return next(self, nil)
end

-- connect_server: backends are tried until one greets -----------------------------------------------------------

function Session:connect_server()
  self.state, self.chosen = "connect_server", nil
  self.proxy.backends:wake_up() -- before the script looks
  return self:ask("connect_server", nil, self.choose_backend)
end

function Session:choose_backend(verdict, failed)
  if failed then
    self.chosen = nil
  elseif verdict == SEND_RESULT then
    return self:greet_without_server()
  elseif verdict == IGNORE_RESULT and self.server then
    return self:greet(self.server.greeting, self.server.challenge, login.MASKED)
  end
  pool.release(self)
  local backend = self.proxy.backends:choose(self.port.backend_type, self.chosen)
  if not backend then
    self.proxy.log:critical("Cannot connect, all backends are down.", nil, self)
    return self:refuse(0, { errcode = 1105, errmsg = "(proxy) all backends are down", protocol_41 = false })
  end
  self:attach(backend)
  self.client:timeout(0) -- it has to wait, however long
  return self:connect("read_handshake")
end

-- Connects to the session's backend, whose greeting is taken in the state `next`.
function Session:connect(next)
  local backend = self.backend
  local attempt = connect.begin(backend, self.proxy.connect_timeout, self.proxy.log, function(server, message)
    self.attempt = nil
    if not server then
      return self:backend_failed(message)
    end
    self.server = { stream = server, backend = backend }
    self.state = next
    server:owner(self)
    server:timeout(self.proxy.connect_timeout)
    server:read_packets(self.proxy.login_packet_limit)
  end)
  if not attempt.over then -- else the next one may have begun
    self.attempt = attempt
  end
end

-- A system error in the words that the log has always had for it: "Connection refused".
local function in_words(message)
  return (message:gsub("^E%u+: (%l)", string.upper))
end

function Session:backend_failed(message)
  local log, name = self.proxy.log, self.backend.address
  if message:find("^E[MN]FILE") then -- the proxy's own limit, for which no server is to blame
    log:critical(("connect(%s) failed: %s"):format(name, in_words(message)), nil, self)
    return self:refuse(self:error_sequence(), {
      errcode = 1040, errmsg = "Too many connections", protocol_41 = self.login ~= nil,
    })
  end
  if message == "timed out" then
    log:debug(("connecting to %s timed out after %.2f seconds. Trying another backend."):format(
      name, self.proxy.connect_timeout), nil, self)
  end
  log:critical(("connect(%s) failed: %s. Retrying with different backend."):format(name, in_words(message)), nil, self)
  log:critical(("connecting to backend (%s) failed, marking it as down for ..."):format(name), nil, self)
  self.backend:mark_down(message)
  if self.login then -- it has been told that this is the server
    return self:refuse(self:error_sequence(), {
      errcode = 1105, sqlstate = "HY000", errmsg = ("(proxy) cannot connect to %s"):format(name),
    })
  end
  self:detach()
  return self:connect_server()
end

function Session:attach(backend)
  self.backend = backend
  backend.connected_clients = backend.connected_clients + 1
end

function Session:detach()
  if self.server then
    self.server.stream:close()
    self.server = nil
  end
  if self.backend then
    local backend = self.backend
    self.backend = nil
    backend:lose_client()
  end
end

--- What a script assigns to proxy.connection.backend_ndx. An idle connection of that backend is taken at once.
---@param index integer 0 gives the session's connection to the pool
function Session:use_backend(index)
  local choosing = self.state == "connect_server"
  if (self.state == "read_handshake" or self.state == "read_auth") and not self.ending then
    return -- the server that has greeted is the one to log in at
  elseif self.relay and self.relay:due() > 0 and not self.ending then
    return -- what the server has still to say is for this client
  end
  local backend = self.proxy.backends[index]
  if choosing then
    self.chosen = index > 0 and index or nil
  elseif index ~= 0 and not backend then
    return
  end
  local idle = backend and (self.relay or not self.ending) and pool.take(backend, self, choosing)
  if idle or choosing or index == 0 then
    pool.release(self)
  end
  if idle then
    self:use_server(idle)
  end
end

--- Takes over an idle connection.
---@param server Server
function Session:use_server(server)
  self.server = server
  self:attach(server.backend)
  server.stream:owner(self)
  if self.relay and not self.ending then
    self.relay:attach(server.stream)
    if self.proxy.profiling then
      self.proxy.statistics:count(self)
    end
  end
end

function Session:backend_index()
  return self.server and self.backend.index or self.state == "connect_server" and self.chosen or 0
end

-- the login: packets pass one by one (mysql-proxy.login) --------------------------------------------------------

function Session:on_packet(from, payload, sequence)
  local side = from == self.client and "client" or "server"
  local take = states[self.state][side]
  if not take or self.call then
    return self:protocol_error(side, "received a packet out of turn")
  elseif side == "client" and sequence ~= self.client_sequence then
    return self:protocol_error(side, ("received packet-id %d, but expected %d ... out of sync"):format(sequence,
      self.client_sequence))
  end
  return self[take](self, payload, sequence)
end

-- the command phase ----------------------------------------------------------------------------------------------

function Session:begin_queries()
  self.state = "read_query"
  self.relay = stream.relay(self.client, self.server and self.server.stream, self.greeted, self.login,
    self.proxy.relay_options)
  if self.proxy.profiling then
    self.proxy.statistics:count(self)
  end
  self.hooks = self.view and self.proxy.scripting.commands or self.port.hooks
  if self.hooks then
    local hooks = self.hooks
    self.on_command, self.on_answer = hooks.read_query, hooks.read_query_result
    self.on_local_infile = hooks.local_infile
    self.relay:watch(unpack(hooks.watched))
    hooks.begin_queries(self)
  end
  if bug_25371.has(self.server) then
    bug_25371.guard(self)
  end
  self.relay:close_after_answer(self.closes_after_answer)
  self.relay:start()
  if self.proxy.shutting_down then
    self.relay:close_when_idle()
  end
end

--- Whether the session ends when the client's command at hand, or its login, has been answered.
---@param yes boolean
function Session:close_after_answer(yes)
  self.closes_after_answer = yes
  if self.relay then
    self.relay:close_after_answer(yes)
  end
end

-- the end --------------------------------------------------------------------------------------------------------

function Session:on_relay_end(_, side, message, code)
  if code == "EPROTO" then
    self:log("critical", ("%s: %s closing the connection"):format(side, message))
  elseif side == "timeout" then
    self:log("debug", ("connection between %s and %s timed out. closing it"):format(
      self.client_name, self.backend and self.backend.address or "no backend"))
  else
    self:log("debug", message and ("%s: %s"):format(side, message) or side .. " closed")
  end
  self:ended(true) -- the relay closes the streams, the server's once it has got what the client sent
end

function Session:on_end(from, message)
  if from ~= self.client and self.state == "read_handshake" and not self.call then
    return self:backend_failed(message or "closed before the greeting")
  elseif from ~= self.client and self.auth_result and self.auth_result:byte() == ERR then
    return -- it has said why, which the client is told when the hook has had its say
  end
  if from ~= self.client and self.state ~= "close" then
    return self:refuse(self:error_sequence(), {
      errcode = 2013, sqlstate = "HY000", errmsg = "Lost connection to MySQL server during login",
    })
  end
  self:close(("%s %s"):format(from == self.client and "client" or "server", message or "closed"))
end

function Session:on_timeout(from)
  if self.call then
    return -- a hook waits, which has a limit of its own
  elseif from == self.client and self.turn == "server" then
    return -- the server has its own time-out
  elseif from == self.client or self.turn == "client" then
    return self:close("the login took too long")
  elseif self.state == "read_handshake" then
    return self:backend_failed("timed out")
  end
  return self:refuse(self:error_sequence(), { errcode = 1105, errmsg = "backend timed out" })
end

-- An ERR packet in the login follows the client's last packet, or the one that it is about to send.
function Session:error_sequence()
  return self.client_sequence and self.client_sequence + 1 or 0
end

--- Says why in an ERR packet, and closes.
function Session:refuse(sequence, err)
  self.proxy.recent_errors:add(self, err)
  self.client:send(proto.to_err_packet(err), sequence % 256)
  return self:close(err.errmsg)
end

-- An ERR packet of the server's is about to go to the client.
function Session:passes_error(payload)
  local ok, err = pcall(proto.from_err_packet, payload)
  if ok then
    self.proxy.recent_errors:add(self, err)
  end
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

function Session:ended(relay_closes)
  if self.state == "close" or self.ending then
    return
  end
  self.ending = true
  if self.attempt then
    self.attempt:cancel()
  end
  local server = self.server
  if self.view then
    self.proxy.scripting.ended(self)
  end
  if relay_closes and self.server == server then
    self.server = nil
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

return { new = new, STATES = STATES }
