-- Messages between a supervisor and a worker, over a socket that only they have.
--
-- A message is a list of strings, numbers, booleans and nils. It goes as one packet of the MySQL protocol, whose
-- payload has a byte for the type of each value, and behind that a string or number, as a length-encoded string.

local packet = require "mysql.packet"
local stream = require "mysql.stream"

local M = {}

local LIMIT = 4 * 1024 * 1024 -- bytes of a message

local CONSTANTS = { ["-"] = "nil", t = true, f = false }

---@class WorkerChannel
---@field received fun(values: table, count: integer)
---@field gone fun(reason: string)
---@field on_drain fun()|nil
local Channel = {}
Channel.__index = Channel

--- The bytes of a message.
---@param values table
---@param count integer how many there are, with those that are nil
---@return string
function M.encode(values, count)
  local parts = {}
  for index = 1, count do
    local value = values[index]
    if type(value) == "string" then
      parts[index] = "s" .. packet.to_lenenc_string(value)
    elseif type(value) == "number" then
      parts[index] = "n" .. packet.to_lenenc_string(("%.17g"):format(value))
    else
      parts[index] = value == nil and "-" or value and "t" or "f"
    end
  end
  return table.concat(parts)
end

--- The message that these bytes are.
---@param bytes string
---@return table|nil values nil: they are none
---@return integer count
function M.decode(bytes)
  local values, count, at = {}, 0, 1
  while at <= #bytes do
    local kind, value = bytes:sub(at, at), nil
    count, at = count + 1, at + 1
    if kind == "s" or kind == "n" then
      value, at = packet.from_lenenc_string(bytes, at)
      value = kind == "n" and tonumber(value) or kind == "s" and value or nil
      if not value then
        return nil, count
      end
    elseif CONSTANTS[kind] == nil then
      return nil, count
    elseif kind ~= "-" then
      value = CONSTANTS[kind]
    end
    values[count] = value
  end
  return values, count
end

--- Takes over one end of the socket.
---@param descriptor integer
---@param received fun(values: table, count: integer)
---@param gone fun(reason: string) the other end has closed, or has sent what is no message; called once
---@return WorkerChannel|nil
---@return string|nil message
function M.open(descriptor, received, gone)
  local self = setmetatable({ received = received, gone = gone }, Channel)
  local message
  self.stream, message = stream.open(self, descriptor)
  if not self.stream then
    return nil, message
  end
  self.stream:read_packets(LIMIT)
  return self
end

---@param values table
---@param count integer
function Channel:send(values, count)
  self.stream:send(M.encode(values, count), 0)
end

--- Whether the other end has taken what was sent; if not, on_drain() is called when it has, or has gone.
function Channel:drained()
  return self.stream:drained()
end

function Channel:on_packet(_, payload)
  local values, count = M.decode(payload)
  if values then
    return self.received(values, count)
  end
  self:close()
  return self.gone("sent what is no message")
end

function Channel:on_end(_, message)
  return self.gone(message or "closed")
end

function Channel:close()
  self.stream:close()
end

return M
