-- proxy.connection: who talks to whom. What a script reads is looked up when it reads it.

local M = {}

local SESSION = {} -- the key of the session in these tables, which scripts cannot name

local AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10

--- An address as scripts see it.
---@param name string "ip:port", "[ip]:port", a socket's path, or ""
function M.address(name)
  local ip, port = name:match("^%[(.*)%]:(%d+)$")
  if ip then
    return { type = AF_INET6, name = name, address = ip, port = tonumber(port) }
  end
  ip, port = name:match("^([^/]*):(%d+)$")
  if ip then
    return { type = AF_INET, name = name, address = ip, port = tonumber(port) }
  end
  return { type = AF_UNIX, name = name, address = name }
end

local function stream_address(stream, which)
  local name = stream and stream:address(which)
  return name and M.address(name)
end

local function version_number(challenge)
  return challenge and challenge.server_version
end

-- The client's side.
local client = {}

function client.src(session)
  return M.address(session.client_name)
end

function client.dst(session)
  return stream_address(session.client, "local")
end

function client.address(session)
  return session.client_name
end

function client.mysqld_version(session)
  return version_number(session.greeted)
end

function client.thread_id(session)
  return session.greeted and session.greeted.thread_id
end

function client.scramble_buffer(session)
  return session.greeted and session.greeted.challenge
end

function client.username(session)
  return session.login and (session.login.username or "")
end

function client.scrambled_password(session)
  return session.login and (session.login.response or "")
end

function client.default_db(session)
  return session.client_db or session.login and (session.login.database or "") or nil
end

function client.auth_plugin_name(session)
  return session.login and session.login.auth_plugin_name or session.greeted and session.greeted.auth_plugin_name
end

-- The server's side.
local server = {}

function server.src(session)
  return stream_address(session.server.stream, "local")
end

function server.dst(session)
  return stream_address(session.server.stream, "peer")
end

function server.address(session)
  return session.server.stream:address("peer")
end

function server.mysqld_version(session)
  return version_number(session.server.challenge)
end

function server.thread_id(session)
  local challenge = session.server.challenge
  return challenge and challenge.thread_id
end

function server.scramble_buffer(session)
  local challenge = session.server.challenge
  return challenge and challenge.challenge
end

for _, key in ipairs { "username", "scrambled_password", "default_db" } do
  server[key] = function(session)
    return session.server[key]
  end
end

function server.auth_plugin_name(session)
  local name, challenge = session.server.auth_plugin_name, session.server.challenge
  return name or challenge and challenge.auth_plugin_name
end

local client_meta, server_meta = {}, {}

function client_meta.__index(self, key)
  local read = client[key]
  return read and read(self[SESSION])
end

function server_meta.__index(self, key)
  local read, session = server[key], self[SESSION]
  if read and not session.server then
    error("the session has no server connection any more: proxy.connection.server is nil now", 2)
  end
  return read and read(session)
end

-- What was in proxy.connection itself before 0.6.
local flat = {}

function flat.thread_id(session)
  return session.server and server.thread_id(session)
end

flat.default_db = client.default_db

function flat.mysqld_version(session)
  return session.server and server.mysqld_version(session)
end
flat.server_version = flat.mysqld_version

function flat.backend_ndx(session)
  return session:backend_index()
end

function flat.connection_close(session)
  return session.closes_after_answer or false
end

local meta = {}

function meta.__index(self, key)
  local session = self[SESSION]
  if key == "client" then
    local object = session.client_view
    if not object then
      object = setmetatable({ [SESSION] = session }, client_meta)
      session.client_view = object
    end
    return object
  elseif key == "server" then
    return session.server and setmetatable({ [SESSION] = session }, server_meta)
  end
  local read = flat[key]
  return read and read(session)
end

function meta.__newindex(self, key, value)
  local session = self[SESSION]
  if key == "backend_ndx" then
    local index = tonumber(value)
    if not index then
      error(("bad argument to 'backend_ndx' (number expected, got %s)"):format(type(value)), 2)
    end
    session:use_backend(index >= 0 and math.floor(index) or math.ceil(index))
  elseif key == "connection_close" then
    if type(value) ~= "boolean" then
      error(("bad argument to 'connection_close' (boolean expected, got %s)"):format(type(value)), 2)
    end
    session:close_after_answer(value)
  else
    error(("proxy.connection.%s is not writable"):format(tostring(key)), 2)
  end
end

--- proxy.connection of a session.
function M.new(session)
  return setmetatable({ [SESSION] = session }, meta)
end

return M
