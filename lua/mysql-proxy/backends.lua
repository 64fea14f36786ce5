-- The servers behind the proxy: their state, how many clients each has, and which one comes next.

local uv = require "luv"

local address = require "mysql-proxy.address"
local pool = require "mysql-proxy.pool"

local M = {}

-- As the scripting interface numbers them.
M.UNKNOWN, M.UP, M.DOWN = 0, 1, 2
M.READ_WRITE, M.READ_ONLY = 1, 2

M.STATES = { [M.UNKNOWN] = "unknown", [M.UP] = "up", [M.DOWN] = "down" }

local DOWN_SECONDS = 4 -- after this a new client tries a server that was down again
local LOOK_SECONDS = 1 -- whether one was down for so long is not looked at more often
local RESOLVED_SECONDS = 10 -- how long a resolved host name is good

---@class Backend
---@field address string as given
---@field type integer READ_WRITE or READ_ONLY
---@field state integer UNKNOWN, UP or DOWN
---@field connected_clients integer
---@field connect_failures integer so far
---@field times_down integer how often it was marked down
---@field order "down"|"draining"|nil what an operator has told it: no new sessions
---@field deleted boolean|nil it leaves with its last session
---@field gone boolean|nil it has left, and its index is free
local Backend = {}
Backend.__index = Backend

---@class Backends
---@field on_state fun(backend: Backend)|nil other processes have the servers' state: it is told what a script says
local Backends = {}
Backends.__index = Backends

---@param log table
---@return Backends
function M.new(log)
  return setmetatable({ log = log, last = 0, looked_at = -math.huge }, Backends)
end

-- Whether two addresses are written for the same place. (Names are not looked up for this.)
local function same_place(a, b)
  local function host(parsed)
    local name = parsed.host and parsed.host:lower()
    return name == "localhost" and "127.0.0.1" or name
  end
  return a.path == b.path and a.port == b.port and host(a) == host(b)
end

-- An index stays a server's as long as it is there, as scripts keep it; that of one that has left is free for the next.
function Backends:free_index()
  for index, backend in ipairs(self) do
    if backend.gone then
      return index
    end
  end
  return #self + 1
end

local function new_backend(list, index, text, parsed, type)
  return setmetatable({
    address = text,
    parsed = parsed,
    type = type,
    state = M.UNKNOWN,
    connected_clients = 0,
    connect_failures = 0,
    times_down = 0,
    index = index,
    pool = pool.new(),
    read_only_pool = pool.new(), -- of the read-only port's sessions
    list = list,
  }, Backend)
end

--- Adds a server.
---@param text string host:port, [v6]:port or a socket's path
---@param type integer
---@param index? integer default: one that is free
---@return Backend|nil, string|nil message
function Backends:add(text, type, index)
  local parsed, message = address.parse(text, 3306)
  if not parsed then
    return nil, message
  end
  for _, known in ipairs(self:present()) do
    if same_place(known.parsed, parsed) then
      return nil, ("backend %s is already known!"):format(text)
    end
  end
  index = index or self:free_index()
  if self[index] and not self[index].gone then
    return nil, ("there is a backend %d: %s"):format(index, self[index].address)
  end
  for before = #self + 1, index - 1 do -- as if others had left
    self[before] = new_backend(self, before, "", {}, type)
    self[before].order, self[before].gone = "draining", true
  end
  self[index] = new_backend(self, index, text, parsed, type)
  self.log:message(("added %s backend: %s"):format(type == M.READ_ONLY and "read-only" or "read/write", text))
  return self[index]
end

--- Takes a server out: at once, or when its last session has ended. Until then it is as one that drains.
---@param backend Backend
function Backends:remove(backend)
  backend.deleted = true
  backend:obey("draining")
  self:forget_deleted(backend)
end

--- Those that have not left, in the order of their indexes.
---@return Backend[]
function Backends:present()
  local list = {}
  for _, backend in ipairs(self) do
    if not backend.gone then
      list[#list + 1] = backend
    end
  end
  return list
end

function Backends:forget_deleted(backend)
  if not backend.deleted or backend.connected_clients > 0 then
    return
  end
  self.log:message(("removed backend: %s"):format(backend.address))
  backend.gone = true
  while #self > 0 and self[#self].gone do
    self[#self] = nil
  end
end

-- One that was down for long enough may be up again.
function Backend:known_down()
  return self.state == M.DOWN and uv.now() - self.down_since <= DOWN_SECONDS * 1000
end

--- A client is to get a server: those that were down for long enough are unknown again.
function Backends:wake_up()
  local now = uv.now()
  if now - self.looked_at < LOOK_SECONDS * 1000 then
    return
  end
  self.looked_at = now
  for _, backend in ipairs(self) do
    if backend.state == M.DOWN and not backend:known_down() then
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
  if chosen and (not self[chosen] or self[chosen]:takes_sessions()) then
    return self[chosen]
  elseif type == M.READ_ONLY and not self:has(type) then
    type = M.READ_WRITE -- readers are served by these then
  end
  local best, best_index
  for step = 1, #self do
    local index = (self.last + step - 1) % #self + 1
    local backend = self[index]
    if backend.type == type and backend:takes_sessions() then
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
    if backend.type == type and not backend.deleted then
      return true
    end
  end
  return false
end

--- Whether a new session may have it.
function Backend:takes_sessions()
  return self.state ~= M.DOWN and not self.order
end

--- What an operator wants: it stands, whatever the server does or a script says.
---@param order "up"|"down"|"draining"
function Backend:obey(order)
  if order == "up" then
    self.order, self.deleted = nil, nil
    return self:mark_up()
  end
  self.order = order
  self.pool:close()
  self.read_only_pool:close()
end

--- A session has ended, or gone to another server.
function Backend:lose_client()
  self.connected_clients = self.connected_clients - 1
  self.list:forget_deleted(self)
end

--- As scripts see it: one that takes no sessions is down.
function Backend:state_for_scripts()
  return self.order and M.DOWN or self.state
end

--- A script's own opinion.
function Backend:set_state(state)
  if self.list.on_state then
    self.state = state
    return self.list.on_state(self)
  end
  if state == M.DOWN and self.state ~= M.DOWN then
    self.times_down = self.times_down + 1
  end
  self.state = state
  self.down_since, self.down_at = state == M.DOWN and uv.now() or nil, os.time()
end

function Backend:mark_up()
  self.state, self.down_since = M.UP, nil
end

--- It could not be connected to.
---@param reason string
function Backend:mark_down(reason)
  self.connect_failures = self.connect_failures + 1
  self.times_down = self.times_down + (self.state == M.DOWN and 0 or 1)
  self.state = M.DOWN
  self.down_since, self.down_at = uv.now(), os.time()
  self.last_error, self.last_error_at = reason, self.down_at
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
