-- A relay between two ends that a spec plays by hand, all in this process: what one end sends, and what the other
-- receives, byte by byte. The login is left out; a relay begins behind it.

local packet = require "mysql.packet"
local resultset = require "mysql.resultset"
local stream = require "mysql.stream"
local uv = require "luv"

local assert = require "luassert"
local process = require "spec.support.process"

local M = {}

local function readable(bytes)
  return (bytes:gsub("[%c\128-\255]", function(byte)
    return ("\\%d "):format(byte:byte())
  end))
end

-- The two ends ----------------------------------------------------------------------------------------------------

local End = {}
End.__index = End

local function new_end(socket, name)
  local self = setmetatable({ socket = socket, name = name, chunks = {}, length = 0 }, End)
  socket:nodelay(true)
  self:read()
  return self
end

function End:read()
  self.socket:read_start(function(failure, bytes)
    if bytes then
      self.chunks[#self.chunks + 1] = bytes
      self.length = self.length + #bytes
    else
      self.ended = failure or "EOF"
    end
  end)
end

--- Takes nothing more, so that the relay has to keep what it has for this end.
function End:pause()
  self.socket:read_stop()
end

function End:write(bytes)
  self.socket:write(bytes)
end

--- Sends payloads as packets with sequence numbers from `sequence` on. Returns the bytes.
function End:send(sequence, ...)
  local bytes = M.packets(sequence, ...)
  self.socket:write(bytes)
  return bytes
end

--- Waits for these bytes and no others.
function End:receives(bytes)
  process.wait_until(function()
    return self.length >= #bytes or self.ended
  end, 20)
  local received = table.concat(self.chunks)
  self.chunks, self.length = {}, 0
  if received ~= bytes then
    assert(#bytes + #received < 10000, self.name .. " received other bytes") -- 16 MiB are nothing to print
    assert.equal(readable(bytes), readable(received))
  end
end

--- Waits for the end of the connection; nothing may have come before it.
function End:closes(how)
  assert(process.wait_until(function()
    return self.ended
  end, 20), "nothing closed " .. self.name)
  assert.equal(how or "EOF", self.ended)
  assert.equal("", table.concat(self.chunks))
end

--- Sends nothing more, but listens.
function End:shutdown()
  self.socket:shutdown()
end

function End:close()
  if not self.socket:is_closing() then
    self.socket:close()
  end
end

-- The conversation --------------------------------------------------------------------------------------------------

local Conversation = {}
Conversation.__index = Conversation

-- What the relay tells the owner of its streams; a spec may put functions of its own in their place.

function Conversation:on_connection(_, client)
  self.streams.client = client
end

function Conversation:on_connect(_, message)
  assert.is_nil(message)
  self.connected = true
end

function Conversation:on_relay_end(_, side, message, code)
  self.over = { side = side, message = message, code = code }
end

--- Packets as they are on the wire, with sequence numbers from `sequence` on.
function M.packets(sequence, ...)
  local bytes = {}
  for i = 1, select("#", ...) do
    bytes[i], sequence = packet.frame((select(i, ...)), sequence)
  end
  return table.concat(bytes)
end

--- The packets of an answer that a relay has kept for its owner; nil or false stays as it is.
function M.kept(answer)
  return answer and resultset.packets(answer)
end

--- Opens the two connections, without a relay yet: join() makes it.
function M.connect()
  local self = setmetatable({ streams = {}, errors = {} }, Conversation)
  stream.on_error(function(text)
    self.errors[#self.errors + 1] = text
  end)
  local listener = assert(stream.listen(self, "127.0.0.1", 0, 1))
  local behind, client, server = uv.new_tcp(), uv.new_tcp(), uv.new_tcp()
  assert(behind:bind("127.0.0.1", 0))
  assert(behind:listen(1, function()
    behind:accept(server)
    self.server = new_end(server, "the server")
  end))
  self.streams.server = assert(stream.connect(self, "127.0.0.1", behind:getsockname().port))
  client:connect("127.0.0.1", (select(3, listener:address("local"))), function(failure)
    assert(not failure, failure)
    self.client = new_end(client, "the client")
  end)
  assert(process.wait_until(function()
    return self.client and self.server and self.streams.client and self.connected
  end))
  listener:close()
  behind:close()
  return self
end

---@param options? table capabilities, extended_capabilities (numbers: what both sides have agreed on); watched (a list
---  of command bytes); read_timeout, write_timeout, command_limit, answer_limit
function Conversation:join(options)
  options = options or {}
  local agreed = {
    capabilities = options.capabilities or 0, extended_capabilities = options.extended_capabilities or 0,
  }
  self.relay = stream.relay(self.streams.client, self.streams.server, agreed, agreed, {
    read_timeout = options.read_timeout, write_timeout = options.write_timeout,
    command_limit = options.command_limit, answer_limit = options.answer_limit,
  })
  self.relay:watch(unpack(options.watched or {}))
  self.relay:start()
  return self
end

--- Both at once.
function M.open(options)
  return M.connect():join(options)
end

--- Both at once, with commands that are shown to `on_command` and listed in `seen`.
---@param on_command? fun(relay: userdata, payload: string): any
function M.watch(on_command, options)
  local self = M.connect()
  self.seen = {}
  function self.on_command(_, relay, payload)
    self.seen[#self.seen + 1] = payload
    if on_command then
      return on_command(relay, payload)
    end
  end
  return self:join(options)
end

--- How many answers the relay waits for.
function Conversation:due()
  return tonumber((tostring(self.relay):match("open, (%d+) answers due")))
end

--- The client sends a command, and the server gets it.
function Conversation:command(payload)
  self.server:receives(self.client:send(0, payload))
end

--- The server sends packets with sequence numbers from `sequence` on, and the client gets them.
function Conversation:answer(sequence, ...)
  self.client:receives(self.server:send(sequence, ...))
end

--- Waits for the end of the relay, and that it came in this way.
function Conversation:ends(side, message, code)
  assert(process.wait_until(function()
    return self.over
  end, 20), "the session did not end")
  assert.same({ side = side, message = message, code = code }, self.over)
end

--- Asks for an end as soon as no answer is due: it has to come at once.
function Conversation:is_idle()
  assert.equal(0, self:due())
  self.relay:close_when_idle()
  assert.same({ side = "idle" }, self.over)
  self.client:closes()
  self.server:closes()
end

--- For after_each: closes all, and raises what went wrong in the owner's methods.
function Conversation:close()
  self.client:close()
  self.server:close()
  self.streams.client:close()
  self.streams.server:close()
  process.wait_until(function()
    return tostring(self.streams.client) == "mysql.stream (closed)"
  end)
  uv.run("nowait")
  assert.same({}, self.errors)
end

return M
