-- What an operator has a proxy do: each process of it. Arguments and results are such as can be sent to another
-- process: strings, numbers, booleans, nil.

local backends = require "mysql-proxy.backends"

local M = {}

local function find(proxy, id)
  for session in pairs(proxy.sessions) do
    if session.id == id then
      return session
    end
  end
end

--- Ends a session.
---@param id integer
---@return string|nil text what it was, nil if there is none
function M.kill(proxy, id)
  local victim = find(proxy, id)
  if not victim then
    return nil
  end
  local text = tostring(victim)
  victim:close("killed")
  return text
end

--- Where a session's statements run.
---@param id integer
---@return string|nil text what the session is, nil if there is none
---@return string|nil backend nil if it has no statement
---@return integer thread_id of the server
---@return string|nil path of the server's socket
---@return string|nil ip
---@return integer|nil port
function M.find_statement(proxy, id)
  local session = find(proxy, id)
  local server = session and session.server
  if not server or not server.challenge or not session.relay then
    return session and tostring(session)
  end
  local path, ip, port = server.stream:address("peer")
  return tostring(session), server.backend.address, server.challenge.thread_id, not ip and path or nil, ip, port
end

-- Orders name a server by both, as it may have left meanwhile, and another may have its index.
local function backend_at(proxy, index, address)
  local backend = proxy.backends[index]
  return backend and not backend.gone and backend.address == address and backend or nil
end

--- What an operator wants of a server: down is draining, and the sessions end at once.
---@param index integer
---@param address string
---@param state "up"|"down"|"draining"
function M.order_backend(proxy, index, address, state)
  local backend = backend_at(proxy, index, address)
  if backend then
    backend:obey(state)
  end
  if backend and state == "down" then
    for each in pairs(proxy.sessions) do
      if each.backend == backend then
        each:close("an operator has taken its server down")
      end
    end
  end
end

--- A script's own opinion of a server, which the next connection may change.
---@param state integer UNKNOWN, UP or DOWN
function M.set_backend_state(proxy, index, address, state)
  local backend = backend_at(proxy, index, address)
  if backend then
    backend:set_state(state)
  end
end

---@param type integer READ_WRITE or READ_ONLY
function M.set_backend_type(proxy, index, address, type)
  local backend = backend_at(proxy, index, address)
  if backend then
    backend.type = type
  end
end

--- A new server.
---@return integer|nil index
---@return string|nil message
function M.add_backend(proxy, index, address, type)
  local backend, message = proxy.backends:add(address, type, index)
  return backend and backend.index, message
end

--- Takes a server out, when its last session has ended.
function M.remove_backend(proxy, index, address)
  local backend = backend_at(proxy, index, address)
  if backend then
    proxy.backends:remove(backend)
  end
end

--- The servers as they are elsewhere, before the first session.
---@param ... any index, address, type and order of each in turn
function M.restore_backends(proxy, ...)
  local values, count = { ... }, select("#", ...)
  local same = #proxy.backends * 4 == count
  for place = 1, count, 4 do
    local known = proxy.backends[values[place]]
    same = same and known and known.address == values[place + 1] and known.type == values[place + 2]
      and known.order == values[place + 3]
  end
  if same then
    return
  end
  proxy.backends = backends.new(proxy.log)
  for place = 1, count, 4 do
    local index, address, type, order = unpack(values, place, place + 3)
    assert(proxy.backends:add(address, type, index)).order = order
  end
end

local FORGET = {
  commands = function(proxy)
    proxy.statistics:reset_commands()
  end,
  digests = function(proxy)
    proxy.statistics:reset_digests()
  end,
  hooks = function(proxy)
    proxy.statistics:reset_hooks()
  end,
  errors = function(proxy)
    proxy.recent_errors:clear()
  end,
}

--- Begins a report of mysql-proxy.reports anew.
---@param report "commands"|"digests"|"hooks"|"errors"
function M.forget(proxy, report)
  return FORGET[report](proxy)
end

--- An option of the proxy, whose value has been looked at.
function M.set_option(proxy, name, value)
  require("mysql-proxy.admin.options").write(proxy, name, value)
end

return M
