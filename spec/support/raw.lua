-- A client that speaks the protocol by hand, for what no ordinary client would do.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"

local PATIENCE = 60 -- seconds: a busy machine sets processes aside for long

local M = {}

local Raw = {}
Raw.__index = Raw

--- A prepared statement's id as commands have it. MariaDB goes on counting when a thread gets another client: it may
--- be large.
---@param id integer
function M.statement_id(id)
  return string.char(id % 256, math.floor(id / 256) % 256, math.floor(id / 65536) % 256, math.floor(id / 16777216))
end

--- Connects to a port and collects what comes.
function M.connect(port)
  local self = setmetatable({ socket = uv.new_tcp(), received = "", at = 1, chunks = {}, waiting = 0 }, Raw)
  assert(self.socket:connect("127.0.0.1", port, function(err)
    self.failure = err
    self.connected = true
    if not err then
      self:read()
    end
  end))
  assert(process.wait_until(function()
    return self.connected
  end, PATIENCE) and not self.failure, self.failure)
  return self
end

function Raw:read()
  self.socket:read_start(function(err, data)
    if data then
      self.chunks[#self.chunks + 1] = data
      self.waiting = self.waiting + #data
    else
      self.ended = err or "EOF"
    end
  end)
end

function Raw:pause()
  self.socket:read_stop()
end

-- What has come becomes one string when the packet that it begins can be there: not for each piece of a large one.
function Raw:take()
  local have = #self.received - self.at + 1 + self.waiting
  if #self.chunks > 0 and have >= (self.wanted or 0) then
    self.received = self.received:sub(self.at) .. table.concat(self.chunks)
    self.at, self.chunks, self.waiting = 1, {}, 0
  end
  local payload, sequence, after = packet.parse(self.received, self.at)
  local low, middle, high = self.received:byte(self.at, self.at + 2)
  self.wanted = not payload and high and 4 + low + middle * 256 + high * 65536 or nil
  return payload, sequence, after
end

--- What has come and has not been taken as packets.
function Raw:rest()
  return self.received:sub(self.at) .. table.concat(self.chunks)
end

--- The next packet: payload and sequence number, or nil at the end of the connection. That none comes is an error: who
--- went on without it would take it for the answer to his next command.
---@param seconds? number how long to wait; nil when none has come by then
function Raw:packet(seconds)
  local payload, sequence, after
  process.wait_until(function()
    payload, sequence, after = self:take()
    return payload or self.ended
  end, seconds or PATIENCE)
  assert(payload or self.ended or seconds, ("no packet has come in %d seconds"):format(PATIENCE))
  if payload then
    self.at = after
    if self.at > #self.received then
      self.received, self.at = "", 1
    end
  end
  return payload, sequence
end

function Raw:wait_for_end()
  return process.wait_until(function()
    return self.ended
  end, PATIENCE)
end

function Raw:send(payload, sequence)
  self.socket:write((packet.frame(payload, sequence or 0)))
end

function Raw:write(bytes)
  self.socket:write(bytes)
end

local FLAGS = proto.capabilities

--- Logs in as a user without a password. If that fails, client.refused is what came instead (see answer()).
---@param more? number further capability flags
function Raw:login(user, more)
  local greeting = self:packet()
  if not greeting or greeting:byte() == 0xff then
    self.refused = self:answer(greeting)
    return self
  end
  self.challenge = proto.from_challenge_packet(greeting)
  self:send(proto.to_response_packet {
    capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
      + FLAGS.CLIENT_TRANSACTIONS + FLAGS.CLIENT_MULTI_STATEMENTS + FLAGS.CLIENT_MULTI_RESULTS
      + FLAGS.CLIENT_PS_MULTI_RESULTS + FLAGS.CLIENT_LOCAL_FILES + (more or 0),
    server_capabilities = self.challenge.capabilities,
    extended_capabilities = self.extended_capabilities,
    max_packet_size = 2 ^ 30, charset = self.charset or 45, username = user,
    auth_plugin_name = self.challenge.auth_plugin_name, attributes = self.attributes,
  }, 1)
  repeat
    local payload, sequence = self:packet()
    if not payload then
      self.refused = { closed = true }
      return self
    end
    if payload:byte() == 0xfe then -- another plugin: it has no password either
      self:send("", sequence + 1)
    end
    self.refused = payload:byte() == 0xff and self:answer(payload) or nil
  until payload:byte() == 0 or payload:byte() == 0xff
  return self
end

--- Sends a statement. Returns the first packet of its answer.
function Raw:query(sql)
  self:send("\3" .. sql)
  return self:packet()
end

local function row_of(payload)
  local row, at, index = {}, 1, 0
  while at <= #payload do
    index = index + 1
    if payload:byte(at) == 0xfb then
      at = at + 1
    else
      row[index], at = packet.from_lenenc_string(payload, at)
    end
  end
  return row
end

-- The rest of an answer whose first packet this is: a login without CLIENT_DEPRECATE_EOF is assumed.
function Raw:answer(first)
  if not first then
    return { closed = true }
  end
  local kind = first:byte()
  if kind == 0 then
    return proto.from_ok_packet(first)
  elseif kind == 0xff then
    return proto.from_err_packet(first)
  end
  local answer, eofs = { rows = {}, names = {} }, 0
  while eofs < 2 do
    local payload = assert(self:packet(), "the connection ended within a result")
    if payload:byte() == 0xfe and #payload < 9 then
      eofs = eofs + 1
    elseif payload:byte() == 0xff then
      return proto.from_err_packet(payload)
    elseif eofs == 0 then
      local at, text = 1, nil
      for _ = 1, 5 do -- catalog, schema, table, org_table, name
        text, at = packet.from_lenenc_string(payload, at)
      end
      answer.names[#answer.names + 1] = text
    else
      answer.rows[#answer.rows + 1] = row_of(payload)
    end
  end
  return answer
end

--- Sends a statement and reads all of its answer: rows and names, or the fields of an OK or ERR packet, or closed.
function Raw:ask(sql)
  return self:answer(self:query(sql))
end

function Raw:close()
  if not self.socket:is_closing() then
    self.socket:close()
  end
  uv.run("nowait")
end

--- The rows of an answer as one text: columns by commas, rows by blanks.
function M.text_of(answer)
  assert(answer.rows, answer.errmsg)
  local lines = {}
  for number, row in ipairs(answer.rows) do
    local cells = {}
    for index = 1, #answer.names do
      cells[index] = row[index] or "NULL"
    end
    lines[number] = table.concat(cells, ",")
  end
  return table.concat(lines, " ")
end

return M
