-- What a server says, byte for byte, in a file: for answers that are too large to keep in memory.

local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"

local M = {}

local Transcript = {}
Transcript.__index = Transcript

local COM_QUIT, COM_STMT_PREPARE = "\1", "\22"
local MAX_PAYLOAD = 2 ^ 24 - 1

-- Returns the statement id as it is on the wire. It is not the same in every session.
local function prepare(client, sql, end_of_definitions)
  client:send(COM_STMT_PREPARE .. sql)
  local ok = client:packet()
  assert(ok:byte() == 0, "the statement cannot be prepared")
  local columns, params = ok:byte(6) + ok:byte(7) * 256, ok:byte(8) + ok:byte(9) * 256
  local packets = columns + params
  if end_of_definitions then
    packets = packets + (columns > 0 and 1 or 0) + (params > 0 and 1 or 0)
  end
  for _ = 1, packets do
    client:packet()
  end
  return ok:sub(2, 5)
end

--- Logs in as a user without a password; from here on everything that comes is written down.
---@param port integer
---@param options? { flags: number, prepare: string } further capability flags; a statement to prepare before
function M.open(port, options)
  options = options or {}
  local flags = options.flags or 0
  local client = raw.connect(port):login("nopass", flags)
  local self = setmetatable({ client = client, size = 0, path = process.path("transcript") }, Transcript)
  if options.prepare then
    self.statement = prepare(client, options.prepare, flags ~= proto.capabilities.CLIENT_DEPRECATE_EOF)
  end
  assert(client:rest() == "", "the server says something that was not asked for")
  client:pause()
  self.file = assert(io.open(self.path, "wb"))
  self:resume()
  return self
end

function Transcript:pause()
  self.client:pause()
end

function Transcript:resume()
  self.client.socket:read_start(function(failure, bytes)
    if bytes then
      self.file:write(bytes)
      self.size = self.size + #bytes
    else
      self.ended = failure or "EOF"
    end
  end)
end

--- Sends a command and does not wait for its answer.
function Transcript:send(payload)
  self.client:send(payload)
end

--- Sends COM_QUIT: once the server has answered all that came before, it closes.
---@return string path, integer size
function Transcript:finish(seconds)
  self:send(COM_QUIT)
  process.wait_until(function()
    return self.ended
  end, seconds or 60)
  self.file:close()
  self.client:close()
  assert(self.ended == "EOF", ("after %d bytes: %s"):format(self.size, self.ended or "no end of the answers"))
  if self.statement then -- servers name its number in their errors, and MariaDB counts other commands too
    local low, middle = self.statement:byte(1, 2)
    assert(process.run("sed", { "-i", ("s/(%d)/(?)/"):format(low + middle * 256), self.path }) == 0)
    self.size = uv.fs_stat(self.path).size
  end
  return self.path, self.size
end

--- The SHA-256 of a file, or of its first bytes.
---@param path string
---@param bytes? integer
function M.digest(path, bytes)
  local command = bytes and ("head -c %d '%s' | sha256sum"):format(bytes, path) or ("sha256sum <'%s'"):format(path)
  local code, output, errors = process.run("sh", { "-c", command })
  assert(code == 0, errors)
  return output:match("%x+")
end

--- A file's bytes from an offset on; a negative one counts from the end.
function M.tail(path, offset)
  local file = assert(io.open(path, "rb"))
  if not file:seek(offset < 0 and "end" or "set", offset) then
    file:seek("set")
  end
  local bytes = file:read("*a")
  file:close()
  return bytes
end

--- The payload lengths of the packets in a file, as they were on the wire.
---@return integer[]
function M.packet_lengths(path)
  local file, lengths = assert(io.open(path, "rb")), {}
  local header = file:read(4)
  while header do
    local low, middle, high = header:byte(1, 3)
    lengths[#lengths + 1] = low + middle * 256 + high * 65536
    file:seek("cur", lengths[#lengths])
    header = file:read(4)
  end
  file:close()
  return lengths
end

--- How a payload is cut into packets.
---@return integer[] lengths
function M.chain(length)
  local lengths = {}
  while length >= MAX_PAYLOAD do
    lengths[#lengths + 1] = MAX_PAYLOAD
    length = length - MAX_PAYLOAD
  end
  lengths[#lengths + 1] = length
  return lengths
end

return M
