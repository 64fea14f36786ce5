-- A client that speaks the protocol by hand, for what no ordinary client would do.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"

local M = {}

local Raw = {}
Raw.__index = Raw

--- Connects to a port and collects what comes.
function M.connect(port)
  local self = setmetatable({ socket = uv.new_tcp(), received = "", at = 1 }, Raw)
  self.socket:connect("127.0.0.1", port, function(err)
    self.failure = err
    self.connected = true
    if not err then
      self:read()
    end
  end)
  assert(process.wait_until(function()
    return self.connected
  end, 5) and not self.failure, self.failure)
  return self
end

function Raw:read()
  self.socket:read_start(function(err, data)
    if data then
      self.received = self.received .. data
    else
      self.ended = err or "EOF"
    end
  end)
end

function Raw:pause()
  self.socket:read_stop()
end

--- The next packet: payload and sequence number, or nil at the end of the connection.
function Raw:packet(seconds)
  local payload, sequence, after
  process.wait_until(function()
    payload, sequence, after = packet.parse(self.received, self.at)
    return payload or self.ended
  end, seconds or 10)
  if payload then
    self.at = after
    if self.at > #self.received then
      self.received, self.at = "", 1
    end
  end
  return payload, sequence
end

function Raw:wait_for_end(seconds)
  return process.wait_until(function()
    return self.ended
  end, seconds or 10)
end

function Raw:send(payload, sequence)
  self.socket:write((packet.frame(payload, sequence or 0)))
end

function Raw:write(bytes)
  self.socket:write(bytes)
end

local FLAGS = proto.capabilities

--- Logs in as a user without a password.
---@param more? number further capability flags
function Raw:login(user, more)
  self.challenge = proto.from_challenge_packet((self:packet()))
  self:send(proto.to_response_packet {
    capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
      + FLAGS.CLIENT_TRANSACTIONS + FLAGS.CLIENT_MULTI_STATEMENTS + FLAGS.CLIENT_MULTI_RESULTS
      + FLAGS.CLIENT_PS_MULTI_RESULTS + FLAGS.CLIENT_LOCAL_FILES + (more or 0),
    server_capabilities = self.challenge.capabilities,
    extended_capabilities = self.extended_capabilities,
    max_packet_size = 2 ^ 30, charset = 45, username = user, auth_plugin_name = self.challenge.auth_plugin_name,
  }, 1)
  repeat
    local payload, sequence = self:packet()
    assert(payload, "closed during the login")
    if payload:byte() == 0xfe then -- another plugin: it has no password either
      self:send("", sequence + 1)
    end
  until payload:byte() == 0 or payload:byte() == 0xff
  return self
end

--- Sends a statement. Returns the first packet of its answer.
function Raw:query(sql)
  self:send("\3" .. sql)
  return self:packet()
end

function Raw:close()
  if not self.socket:is_closing() then
    self.socket:close()
  end
  uv.run("nowait")
end

return M
