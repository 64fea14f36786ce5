-- One client of the admin interface. What takes long runs in a coroutine that pauses, so that the proxy's clients get
-- on; the admin client's next command waits meanwhile, and while it does not take its answers.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

local commands = require "mysql-proxy.admin.commands"
local errors = require "mysql-proxy.admin.errors"
local ids = require "mysql-proxy.session_ids"
local login = require "mysql-proxy.admin.login"
local task = require "mysql-proxy.task"

local PACKET_LIMIT = 17 * 1024 * 1024 -- more than one packet may have, so that such a command gets an error

local PORT = { kind = "admin" } -- what a session of the proxy has of its listener

local Session = { CHARSET = 45 } -- utf8mb4
Session.__index = Session

local M = {}

-- What a state does with a packet.
local states = {
  login = "take_login",
  auth_switch = "take_auth_switch",
  commands = "take_command",
}

--- Greets a client.
---@param admin Admin
---@param client userdata
function M.new(admin, client)
  local name = client:address("peer") or "?"
  local self = setmetatable({
    admin = admin, client = client, client_name = name, id = ids.next(), state = "login",
    host = name == "" and "localhost" or name:match("^%[?(.-)%]?:%d+$") or name, statements = {},
    count = 0, port = PORT, warnings = {},
  }, Session)
  admin.sessions[self] = true
  client:owner(self)
  client:timeout(admin.proxy.login_timeout)
  if admin.script then
    admin.script:begin(self, self.greet)
  else
    self:greet()
  end
end

function Session:greet()
  if not self.closed then
    self.client:read_packets(self.admin.proxy.login_packet_limit)
    login.greet(self)
  end
end

function Session:__tostring()
  return ("admin session %d (%s)"):format(self.id, self.client_name)
end

--- Who it is, for the log.
function Session:who()
  return ("%s@%s"):format(self.login and self.login.username or "", self.client_name)
end

-- The login -------------------------------------------------------------------------------------------------------

function Session:on_packet(_, payload, sequence)
  return self[states[self.state]](self, payload, sequence)
end

function Session:take_login(payload, sequence)
  local ok, decoded = pcall(proto.from_response_packet, payload, self.greeted.capabilities)
  if not ok then
    return self:refuse(sequence + 1, { errcode = 1043, sqlstate = "08S01", errmsg = "Bad handshake" })
  elseif decoded.ssl_request then
    return self:refuse(sequence + 1, {
      errcode = 1105, sqlstate = "HY000", errmsg = "TLS is not offered by the admin interface",
    })
  elseif not decoded.protocol_41 then
    return self:refuse(sequence + 1, { errcode = 2007, errmsg = "4.0 protocol is not supported", protocol_41 = false })
  end
  self.capabilities = stream.negotiated(self.greeted, decoded)
  return login.begin(self, decoded, sequence)
end

function Session:take_auth_switch(payload, sequence)
  return login.answer(self, payload, sequence)
end

function Session:logged_in()
  self.state = "commands"
  self.database = self.login.database
  self.client:timeout(self.admin.proxy.relay_options.read_timeout)
  self.client:read_packets(PACKET_LIMIT)
end

-- Commands --------------------------------------------------------------------------------------------------------

function Session:take_command(payload, sequence)
  if sequence ~= 0 and #payload < 2 ^ 24 - 1 then
    return self:refuse(sequence + 1, { errcode = 1156, sqlstate = "08S01", errmsg = "Got packets out of order" })
  end
  self.sequence, self.count = (sequence + 1) % 256, self.count + 1
  return commands.take(self, payload)
end

--- Runs what may take long: work(). It writes the answer; an error that it raises becomes one.
function Session:run(work)
  self.client:hold_packets()
  self.work = task.new(self.admin.proxy.log, work, function(failure)
    self.work = nil
    local err = failure and errors.of(failure)
    if not failure then
      return self:done()
    elseif not err then
      self.admin.proxy.log:critical(("%s: %s"):format(tostring(self), tostring(failure)))
      err = { errcode = 1105, sqlstate = "HY000", errmsg = "The admin interface has failed, see the log" }
    end
    return self:answer(proto.to_err_packet(err))
  end)
  return self.work:start()
end

--- For what runs: waits until `start(resume)` has called resume(...), and returns its arguments.
function Session:wait(start)
  return self.work:wait(start)
end

--- For what runs: lets others get on, if it is time.
function Session:pause()
  return self.work:pause()
end

--- Answers the command with one packet.
function Session:answer(payload)
  self.client:send(payload, self.sequence)
  return self:done()
end

--- The command has had its answer: the next one, when the client has taken what there is.
function Session:done()
  local after = self.after_answer
  if self.work then
    return -- it goes on
  elseif after then
    self.after_answer = nil
    after()
  end
  if self.closed then
    return
  elseif self.closes then
    return self:close()
  elseif self.client:drained() then
    return self.client:read_packets(PACKET_LIMIT)
  end
  return self.client:hold_packets()
end

function Session:on_drain()
  if not self.work and not self.closed then
    self.client:read_packets(PACKET_LIMIT)
  end
end

-- The end ---------------------------------------------------------------------------------------------------------

--- Says why in an ERR packet, and closes.
function Session:refuse(sequence, err)
  self.client:send(proto.to_err_packet(err), sequence % 256)
  return self:close()
end

-- A command that is too long is told so behind its second packet, where most have their last.
function Session:on_end(_, _, code)
  if code == "EMSGSIZE" and self.state == "commands" then
    return self:refuse(2, {
      errcode = 1153, sqlstate = "08S01", errmsg = "Got a packet bigger than the admin interface's limit of 17 MiB",
    })
  end
  return self:close()
end

function Session:on_timeout()
  if not self.work then
    return self:close()
  end
end

function Session:close()
  if self.closed then
    return
  end
  self.closed, self.state = true, "close"
  self.client:finish()
  if self.admin.script then
    self.admin.script:ended(self)
  end
  if type(self.work) == "table" then
    self.work:cancel()
  end
  self.admin:session_ended(self)
end

-- What scripts ask of a session: it has no server.

function Session.backend_index()
  return 0
end

function Session.use_backend() end

--- Closes, after the answer that is due.
function Session:close_when_idle()
  self.closes = true
  if not self.work then
    return self:close()
  end
end

return M
