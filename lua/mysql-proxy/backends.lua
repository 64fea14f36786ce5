-- The servers behind the proxy: their state, how many clients each has, and which one comes next.

local uv = require "luv"

local address = require "mysql-proxy.address"
local pool = require "mysql-proxy.pool"

local M = {}

-- As the scripting interface numbers them.
M.UNKNOWN, M.UP, M.DOWN = 0, 1, 2
M.READ_WRITE, M.READ_ONLY = 1, 2

local DOWN_SECONDS = 4 -- after this a new client tries a server that was down again
local RESOLVED_SECONDS = 10 -- how long a resolved host name is good

---@class Backend
---@field address string as given
---@field type integer READ_WRITE or READ_ONLY
---@field state integer UNKNOWN, UP or DOWN
---@field connected_clients integer
local Backend = {}
Backend.__index = Backend

---@class Backends
local Backends = {}
Backends.__index = Backends

---@param log table
---@return Backends
function M.new(log)
  return setmetatable({ log = log, last = 0 }, Backends)
end

--- Adds a server.
---@param text string host:port, [v6]:port or a socket's path
---@param type integer
---@return Backend|nil, string|nil message
function Backends:add(text, type)
  local parsed, message = address.parse(text, 3306)
  if not parsed then
    return nil, message
  end
  local backend = setmetatable({
    address = text,
    parsed = parsed,
    type = type,
    state = M.UNKNOWN,
    connected_clients = 0,
    index = #self + 1,
    pool = pool.new(),
    read_only_pool = pool.new(), -- of the read-only port's sessions
  }, Backend)
  self[backend.index] = backend
  self.log:message(("added %s backend: %s"):format(type == M.READ_ONLY and "read-only" or "read/write", text))
  return backend
end

function Backends:wake_up()
  local now = uv.now()
  for _, backend in ipairs(self) do
    if backend.state == M.DOWN and now - backend.down_since > DOWN_SECONDS * 1000 then
      self.log:debug(("backend %s was down for more than %d sec, waking it up"):format(backend.address, DOWN_SECONDS))
      backend.state = M.UNKNOWN
    end
  end
end

--- The server for the next client: of those that are not down, one with the fewest clients; among equals the one
--- after the last choice, so that clients who come and go are spread too.
---@param type integer
---@param chosen? integer a script's choice of any server, which stands unless that server is down
---@return Backend|nil nil also for a choice that is no server
function Backends:choose(type, chosen)
  self:wake_up()
  if chosen and (not self[chosen] or self[chosen].state ~= M.DOWN) then
    return self[chosen]
  end
  local best, best_index
  for step = 1, #self do
    local index = (self.last + step - 1) % #self + 1
    local backend = self[index]
    if backend.type == type and backend.state ~= M.DOWN then
      if not best or backend.connected_clients < best.connected_clients then
        best, best_index = backend, index
      end
    end
  end
  if best then
    self.last = best_index
  end
  return best
end

---@param type integer
---@return boolean
function Backends:has(type)
  for _, backend in ipairs(self) do
    if backend.type == type then
      return true
    end
  end
  return false
end

--- A script's own opinion.
function Backend:set_state(state)
  self.state = state
  self.down_since = state == M.DOWN and uv.now() or nil
end

function Backend:mark_up()
  self.state = M.UP
end

function Backend:mark_down()
  self.state = M.DOWN
  self.down_since = uv.now()
end

--- Where to connect to.
---@param callback fun(message: string|nil, places: table|nil) at once if that is known
function Backend:resolve(callback)
  if self.places and (self.parsed.family == "unix" or uv.now() - self.resolved_at < RESOLVED_SECONDS * 1000) then
    return callback(nil, self.places)
  end
  if self.waiting then -- one look-up at a time: a resolver that hangs must not take up all of luv's threads
    table.insert(self.waiting, callback)
    return
  end
  self.waiting = { callback }
  address.resolve(self.parsed, function(message, places)
    if places then
      self.places, self.resolved_at = places, uv.now()
    end
    local waiting = self.waiting
    self.waiting = nil
    for _, each in ipairs(waiting) do
      each(message, places)
    end
  end)
end

return M
