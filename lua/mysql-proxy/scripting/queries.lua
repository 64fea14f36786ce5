-- proxy.queries: what a script wants to be sent instead of the client's command.

local M = {}

-- Lua 5.1 asks only a userdata for its length: scripts get one, the commands are in a table beside it.
local queues = setmetatable({}, { __mode = "k" })

local function queue_of(self, name)
  return queues[self] or error(("call it with a colon: proxy.queries:%s(...)"):format(name), 3)
end

local function check(name, id, packet, options)
  if not tonumber(id) then
    error(("bad argument #1 to '%s' (number expected, got %s)"):format(name, id == nil and "no value" or type(id)), 3)
  elseif type(packet) ~= "string" and type(packet) ~= "number" then
    error(("bad argument #2 to '%s' (string expected, got %s)"):format(
      name, packet == nil and "no value" or type(packet)), 3)
  elseif options ~= nil and type(options) ~= "table" then
    error(("bad argument #3 to '%s' (table expected, got %s)"):format(name, type(options)), 3)
  end
  local needed = options and options.resultset_is_needed
  if needed ~= nil and type(needed) ~= "boolean" then
    error(("bad argument #3 to '%s' (:%s(..., { resultset_is_needed = boolean } ), is %s)"):format(
      name, name, type(needed)), 3)
  end
  id = tonumber(id)
  return {
    id = id >= 0 and math.floor(id) or math.ceil(id),
    packet = tostring(packet),
    streamed = needed == false,
  }
end

local methods = {}

--- Adds a command at the end.
---@param id integer comes back as inj.id
---@param packet string the command byte and what belongs to it
---@param options? { resultset_is_needed: boolean } false: the client gets the answer while it arrives
function methods:append(id, packet, options)
  local queue, item = queue_of(self, "append"), check("append", id, packet, options)
  queue.last = queue.last + 1
  queue[queue.last] = item
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
---@return { id: integer, packet: string, streamed: boolean }|nil
function M.take(queue)
  local item = queue[queue.first]
  if item then
    queue[queue.first] = nil
    queue.first = queue.first + 1
  end
  return item
end

return M
