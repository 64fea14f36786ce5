-- Idle connections of a backend, which a script has put aside for other clients: by user, the oldest first.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

local M = {}

local OK = 0x00

---@class Pool
---@field min_idle_connections integer so many of another user's are left alone
---@field max_idle_connections integer for scripts to read
local Pool = {}
Pool.__index = Pool

function M.new()
  return setmetatable({ min_idle_connections = 0, max_idle_connections = 0, users = {}, lists = {} }, Pool)
end

--- How many are idle.
function Pool:count()
  local count = 0
  for _, name in ipairs(self.users) do
    count = count + #self.lists[name]
  end
  return count
end

-- The list that a user is served from: his own, else the first that has some to spare.
function Pool:list_for(user)
  local own = self.lists[user]
  if user ~= "" and own and #own > 0 then
    return own
  end
  for _, name in ipairs(self.users) do
    if #self.lists[name] > self.min_idle_connections then
      return self.lists[name]
    end
  end
end

--- How many connections a user would be served from.
function Pool:count_for(user)
  local list = self:list_for(user)
  return list and #list or 0
end

function Pool:add(server)
  local list = self.lists[server.username]
  if not list then
    list = {}
    self.lists[server.username] = list
    table.insert(self.users, server.username)
  end
  list[#list + 1] = server

  local function remove()
    for index, each in ipairs(list) do
      if each == server then
        table.remove(list, index)
        server.stream:close()
        return
      end
    end
  end
  -- Whatever an idle server says, it is of no use any more.
  server.stream:owner({ on_end = remove, on_packet = remove, on_timeout = remove })
  server.stream:timeout(0)
  server.stream:read_packets(65535)
end

-- Somebody has logged in, and no other login is under way.
local function usable(session, server)
  local logging_in = session.state == "read_auth_result"
  return server.username and (not logging_in or session.auth_result and session.auth_result:byte() == OK)
end

--- Puts the session's server connection aside, or closes it if it is of no use to others.
function M.release(session)
  local server = session.server
  if not server then
    return
  end
  local open = true
  if session.relay then
    open = session.relay:detach() ~= nil
  end
  session.server = nil
  session.backend.connected_clients = session.backend.connected_clients - 1
  session.backend = nil
  if not open or not usable(session, server) then
    return server.stream:close()
  end
  if session.state == "read_query" or session.state == "read_auth_result" then -- else it is as it was taken
    server.capabilities, server.all_capabilities = stream.negotiated(session.greeted, session.login)
  end
  return server.backend.pool:add(server)
end

--- An idle connection for a session. Before the login it may be anybody's, as it is logged in anew; after that it must
--- be one of the client's user, who has negotiated what the client has.
---@return Server|nil
function M.take(backend, session, before_login)
  local list
  if before_login then
    list = backend.pool:list_for("")
  else
    list = backend.pool.lists[session.login.username or ""]
  end
  local wanted = not before_login and stream.negotiated(session.greeted, session.login)
  for index, server in ipairs(list or {}) do
    if not wanted or server.capabilities == wanted then
      table.remove(list, index)
      return server
    end
  end
end

local ALL_FLAGS = 2 ^ 32 - 1

--- What the greeting of an idle connection may not offer: it has been agreed upon once for all.
function M.not_negotiated(server)
  return ALL_FLAGS - server.all_capabilities % 2 ^ 32
end

local SERVER_OK = { server_status = 2 }
local ACCESS_DENIED = { errcode = 1045, sqlstate = "28000", errmsg = "(proxy-pool) login failed" }

--- A client logs in over an idle connection, whose greeting it has got.
function M.log_in(session, sequence)
  local server, login = session.server, session.login
  if session.proxy.pool_no_change_user then
    local known = server.username == (login.username or "") and server.scrambled_password == (login.response or "")
    session.client:send(known and proto.to_ok_packet(SERVER_OK) or proto.to_err_packet(ACCESS_DENIED), sequence + 1)
    if known then
      return session:begin_queries()
    end
    return session:close("another password than that of the idle connection")
  end
  session.sequence_shift = sequence -- the server counts from its command on, the client from its login
  server.stream:timeout(session.proxy.login_timeout)
  server.stream:read_packets(session.proxy.login_packet_limit)
  server.stream:send(proto.to_change_user_packet {
    username = login.username, response = login.response, database = login.database,
    charset = login.charset % 256, auth_plugin_name = login.auth_plugin_name,
  }, 0)
end

return M
