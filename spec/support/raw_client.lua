-- Many clients in this process: they log in for real, send queries, count the bytes of the answers, and leave in
-- whatever way a spec wants. They use none of the proxy's modules.
--
-- A client calls `step(client, event, detail)`:
--   "connected"          before anything is read; the client goes on by itself
--   "greeting"           the server's greeting is here: call client:login(), or do something else
--   "ready"              logged in
--   "data"               more of an answer has come
--   "answer"             an answer has ended
--   "failed", message    an ERR packet, or the connection ended or failed: it is closed

local uv = require "luv"

local M = {}

local Client = {}
Client.__index = Client

local CLIENT_LONG_PASSWORD, CLIENT_PROTOCOL_41 = 0x1, 0x200
local CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH = 0x8000, 0x80000
local OK, EOF, ERR = 0x00, 0xfe, 0xff
local LONG = 4096 -- of a packet longer than this only the first byte is looked at

local function packet(sequence, payload)
  local length = #payload
  return string.char(length % 256, math.floor(length / 256) % 256, math.floor(length / 65536), sequence) .. payload
end

--- A handshake response for a user without a password, for client:send(): client:login() sends it whole.
function M.login_packet(user)
  local flags = CLIENT_LONG_PASSWORD + CLIENT_PROTOCOL_41 + CLIENT_SECURE_CONNECTION + CLIENT_PLUGIN_AUTH
  return packet(1, table.concat {
    string.char(flags % 256, math.floor(flags / 256) % 256, math.floor(flags / 65536), 0), -- capabilities
    "\0\0\0\1", -- max_packet_size
    "\8", -- character set: latin1
    ("\0"):rep(23),
    user, "\0",
    "\0", -- length of the auth response
    "mysql_native_password\0",
  })
end

--- A COM_QUERY packet.
function M.query_packet(sql)
  return packet(0, "\3" .. sql)
end

--- Begins to connect to 127.0.0.1.
---@param port integer
---@param step fun(client: table, event: string, detail: string|nil)
function M.open(port, step)
  local self = setmetatable({
    tcp = uv.new_tcp(), step = step, state = "greeting", input = "", skip = 0, bytes = 0,
  }, Client)
  assert(self.tcp:connect("127.0.0.1", port, function(failure)
    if self.closed then
      return
    elseif failure then
      return self:fail(failure)
    end
    self:step("connected")
    self:resume()
  end))
  return self
end

function Client:fail(message)
  if not self.closed then
    self:close()
    self:step("failed", message)
  end
end

function Client:pause()
  if not self.closed then
    self.tcp:read_stop()
  end
end

function Client:resume()
  if self.closed then
    return
  end
  self.tcp:read_start(function(failure, chunk)
    if failure or not chunk then
      return self:fail(failure or "closed by the other side")
    end
    self:take(chunk)
  end)
end

function Client:take(chunk)
  self.bytes = self.bytes + #chunk
  if self.skip >= #chunk then
    self.skip = self.skip - #chunk
    return self:step("data")
  end
  local input = self.input .. chunk:sub(self.skip + 1)
  self.skip = 0
  local at = 1
  while not self.closed and #input - at >= 4 do
    local low, middle, high, sequence, first = input:byte(at, at + 4)
    local length = low + middle * 256 + high * 65536
    local after = at + 4 + length
    if after > #input + 1 then
      if length <= LONG then
        break
      end
      self.skip = after - (#input + 1)
      after = #input + 1
    end
    self[self.state](self, first, length, input:sub(at + 4, math.min(after - 1, at + 3 + LONG)), sequence)
    at = after
  end
  self.input = input:sub(at)
  if not self.closed and self.state == "answer" then
    self:step("data")
  end
end

-- What the packets of each state mean.

function Client:greeting(first, _, payload)
  if first == ERR then
    return self:fail(payload:sub(4))
  end
  self.state = "login_result"
  self:step("greeting")
end

function Client:login_result(first, _, payload, sequence)
  if first == ERR then
    self:fail(payload:sub(10))
  elseif first == EOF then -- auth switch: with any plugin the answer is empty, as there is no password
    self:send(packet(sequence + 1, ""))
  elseif first == OK then
    self.state = "ready"
    self:step("ready")
  end
end

function Client:ready()
  self:fail("a packet that was not asked for")
end

function Client:answer(first, length, payload)
  self.packets = self.packets + 1
  if first == ERR then
    return self:fail(payload:sub(10))
  elseif first == EOF and length < 9 then
    self.eofs = self.eofs + 1
  end
  if self.eofs == 2 or (self.packets == 1 and first == OK) then
    self.state = "ready"
    self:step("answer")
  end
end

--- Sends bytes as they are.
function Client:send(bytes)
  if not self.closed then
    self.tcp:write(bytes)
  end
end

--- Logs in as a user who has no password.
function Client:login(user)
  self:send(M.login_packet(user))
end

--- client.bytes and client.packets count its answer.
function Client:query(sql)
  self.state, self.bytes, self.packets, self.eofs = "answer", 0, 0, 0
  self:send(M.query_packet(sql))
end

--- Leaves as the protocol wants it.
function Client:quit()
  self:send(packet(0, "\1"))
  self:close()
end

--- Closes without a word: with "reset", the other side gets a RST instead of a FIN.
function Client:close(how)
  if self.closed then
    return
  end
  self.closed = true
  if how == "reset" and self.tcp:close_reset() == 0 then
    return
  end
  self.tcp:close()
end

return M
