-- proxy.queries: what a script wants to be sent instead of the client's command.

local STREAMED = {} -- a key of an item that scripts cannot name: the client gets the answer while it arrives

local M = { STREAMED = STREAMED }

-- Lua 5.1 asks only a userdata for its length: scripts get one, the commands are in a table beside it.
local queues = setmetatable({}, { __mode = "k" })

local function queue_of(self, name)
  return queues[self] or error(("call it with a colon: proxy.queries:%s(...)"):format(name), 3)
end

local function refuse(name, index, expected, value)
  error(("bad argument #%d to '%s' (%s expected, got %s)"):format(
    index, name, expected, value == nil and "no value" or type(value)), 4)
end

-- COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID: nobody can wait for the end of the answer.
local ENDLESS = { [18] = true, [30] = true }

-- What a script has given, as an item of the queue.
local function check(name, id, packet, options)
  local number, streamed = tonumber(id), false
  if not number then
    refuse(name, 1, "number", id)
  elseif type(packet) ~= "string" then
    packet = type(packet) == "number" and tostring(packet) or refuse(name, 2, "string", packet)
  elseif packet == "" then
    error(("bad argument #2 to '%s' (a command of at least 1 byte expected)"):format(name), 3)
  end
  if options ~= nil then
    if type(options) ~= "table" then
      refuse(name, 3, "table", options)
    end
    local needed = options.resultset_is_needed
    if needed ~= nil and type(needed) ~= "boolean" then
      error(("bad argument #3 to '%s' (:%s(..., { resultset_is_needed = boolean } ), is %s)"):format(
        name, name, type(needed)), 3)
    end
    streamed = needed == false
  end
  if ENDLESS[packet:byte()] then
    streamed = true
  end
  return { id = number - number % (number < 0 and -1 or 1), query = packet, [STREAMED] = streamed }
end

local methods = {}

--- Adds a command at the end.
---@param id integer comes back as inj.id
---@param packet string the command byte and what belongs to it
---@param options? { resultset_is_needed: boolean } false: the client gets the answer while it arrives
function methods:append(id, packet, options)
  local queue, item = queues[self] or queue_of(self, "append"), check("append", id, packet, options)
  local last = queue.last + 1
  queue.last, queue[last] = last, item
end

--- Adds a command at the front.
function methods:prepend(id, packet, options)
  local queue, item = queue_of(self, "prepend"), check("prepend", id, packet, options)
  queue.first = queue.first - 1
  queue[queue.first] = item
end

--- Empties it.
function methods:reset()
  M.clear(queue_of(self, "reset"))
end

--- How many commands are in it.
function methods:len()
  return M.count(queue_of(self, "len"))
end

local template = newproxy(true)
local meta = getmetatable(template)
meta.__index = methods
meta.__len = methods.len

function meta.__tostring(self)
  return ("proxy.queries (%d)"):format(#self)
end

-- For the proxy ---------------------------------------------------------------------------------------------------

--- An empty queue, and what a script gets as proxy.queries.
function M.new()
  local queue, face = { first = 1, last = 0 }, newproxy(template)
  queues[face] = queue
  return queue, face
end

function M.count(queue)
  return queue.last - queue.first + 1
end

function M.clear(queue)
  for index = queue.first, queue.last do
    queue[index] = nil
  end
  queue.first, queue.last = 1, 0
end

--- Takes the first command out.
---@return { id: integer, query: string }|nil
function M.take(queue)
  local first = queue.first
  local item = queue[first]
  if item then
    queue[first] = nil
    if first == queue.last then
      queue.first, queue.last = 1, 0
    else
      queue.first = first + 1
    end
  end
  return item
end

return M
