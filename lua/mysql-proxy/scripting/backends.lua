-- proxy.global.backends: the servers, as scripts see them.

local connection = require "mysql-proxy.scripting.connection"
local hooks = require "mysql-proxy.hooks"
local pools = require "mysql-proxy.pool"

local M = {}

local readers = {}

function readers.address(backend)
  return backend.address
end

function readers.dst(backend)
  local place = backend.places and backend.places[1]
  local ip = place and place.ip
  local form = ip and ip:find(":", 1, true) and "[%s]:%d" or "%s:%d"
  return connection.address(place and (place.path or form:format(ip, place.port)) or backend.address)
end

function readers.state(backend)
  return backend:state_for_scripts()
end

for _, key in ipairs { "connected_clients", "type", "uuid" } do
  readers[key] = function(backend)
    return backend[key]
  end
end

function readers.idling_connections(backend)
  return pools.of(backend, hooks.session()):count()
end

-- pool.users[NAME].cur_idle_connections
local function users_of(pool)
  return setmetatable({}, {
    __index = function(_, name)
      return { cur_idle_connections = pool:count_for(tostring(name)) }
    end,
  })
end

local LIMITS = { max_idle_connections = true, min_idle_connections = true }

local function pool_face(pool)
  return setmetatable({}, {
    __index = function(_, key)
      if key == "users" then
        return users_of(pool)
      end
      return LIMITS[key] and pool[key]
    end,
    __newindex = function(_, key, value)
      if not LIMITS[key] then
        error(("proxy.backend[...].%s is not writable"):format(tostring(key)), 2)
      end
      pool[key] = tonumber(value)
        or error(("bad argument to '%s' (number expected, got %s)"):format(key, type(value)), 2)
    end,
  })
end

function readers.pool(backend)
  local pool = pools.of(backend, hooks.session())
  pool.face = pool.face or pool_face(pool)
  return pool.face
end

local function face_of(backend)
  return setmetatable({}, {
    __index = function(_, key)
      local read = readers[key]
      return read and read(backend)
    end,
    __newindex = function(_, key, value)
      if key == "state" then
        backend:set_state(tonumber(value)
          or error(("bad argument to 'state' (number expected, got %s)"):format(type(value)), 2))
      elseif key == "uuid" then
        if value ~= nil and type(value) ~= "string" then
          error("proxy.global.backends[...].uuid has to be a string", 2)
        end
        backend.uuid = value
      else
        error(("proxy.global.backends[...].%s is not writable"):format(tostring(key)), 2)
      end
    end,
  })
end

--- What scripts get for a list of backends: a userdata, as Lua 5.1 asks no table for its length.
---@param backends table mysql-proxy.backends
function M.new(backends)
  local face = newproxy(true)
  local meta = getmetatable(face)
  function meta.__len()
    return #backends
  end
  function meta.__index(_, key)
    local index = tonumber(key)
    if not index then
      error(("bad argument to 'backends' (number expected, got %s)"):format(type(key)), 2)
    end
    local backend = backends[index]
    if backend then
      backend.face = backend.face or face_of(backend)
    end
    return backend and backend.face
  end
  function meta.__newindex()
    error("proxy.global.backends is not writable", 2)
  end
  function meta.__tostring()
    return ("proxy.global.backends (%d)"):format(#backends)
  end
  return face
end

return M
