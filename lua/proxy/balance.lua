--- Chooses a backend that has an idle connection in its pool for the client's user. A script can then send the client's
-- commands there without a login.

local M = {}

local function has_idle_connection(backend)
  local user = backend.pool.users[proxy.connection.client.username]
  return backend.state ~= proxy.BACKEND_STATE_DOWN and user and user.cur_idle_connections > 0
end

--- The first backend for writes.
---@return integer index in proxy.global.backends; 0 if there is none
function M.idle_failsafe_rw()
  local backends = proxy.global.backends
  for i = 1, #backends do
    local backend = backends[i]
    if backend.type == proxy.BACKEND_TYPE_RW and has_idle_connection(backend) then
      return i
    end
  end
  return 0
end

--- The backend for reads that has the fewest clients.
---@return integer index in proxy.global.backends; 0 if there is none
function M.idle_ro()
  local backends = proxy.global.backends
  local best, fewest = 0, math.huge
  for i = 1, #backends do
    local backend = backends[i]
    local clients = backend.connected_clients
    if backend.type == proxy.BACKEND_TYPE_RO and clients < fewest and has_idle_connection(backend) then
      best, fewest = i, clients
    end
  end
  return best
end

return M
