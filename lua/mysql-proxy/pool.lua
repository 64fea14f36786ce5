-- Idle connections of a backend, which a script has put aside for other clients: by user, the oldest first.

local proto = require "mysql.proto"
local stream = require "mysql.stream"

local M = {}

local OK, ERR = 0x00, 0xff

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
  -- Whatever an idle server says, it is of no use any more. An error is why it is about to close.
  local function on_packet(_, _, payload)
    if payload:byte() ~= ERR then
      server.backend.list.log:critical(("an idle connection to %s said there is something to read, oops: %d"):format(
        server.backend.address, #payload))
    end
    return remove()
  end
  server.stream:owner({ on_end = remove, on_packet = on_packet, on_timeout = remove })
  server.stream:timeout(0)
  server.stream:read_packets(65535)
end

--- Closes all: nobody is to have this backend any more.
function Pool:close()
  for _, list in pairs(self.lists) do
    for _, server in ipairs(list) do
      server.stream:close()
    end
  end
  self.users, self.lists = {}, {}
end

-- No login is under way, or the server has just let the client in.
local function is_logged_in(session)
  return session.state ~= "read_auth_result" or session.auth_result and session.auth_result:byte() == OK
end

-- Somebody has logged in, and no other login is under way.
local function usable(session, server)
  return server.username and is_logged_in(session)
end

--- Where a session's idle connections are. The read-only port has its own: a connection that could write may have
--- statements prepared that do, and one that could not is of no use to others.
---@return Pool
function M.of(backend, session)
  return session and session.port.hooks and backend.read_only_pool or backend.pool
end

--- Puts the session's server connection aside, or closes it if it is of no use to others.
function M.release(session)
  local server = session.server
  if not server then
    return
  end
  local open, doubtful = true, false
  if session.relay then
    open, doubtful = session.relay:detach()
  end
  session.server, session.backend = nil, nil
  server.backend:lose_client()
  if not open or doubtful or server.backend.order or not usable(session, server) then
    return server.stream:close()
  end
  if not server.capabilities then -- the next who logs in changes nothing of that
    server.capabilities, server.all_capabilities = stream.negotiated(session.greeted, session.login)
  end
  return M.of(server.backend, session):add(server)
end

local PLUGIN_AUTH, CONNECT_ATTRS = proto.capabilities.CLIENT_PLUGIN_AUTH, proto.capabilities.CLIENT_CONNECT_ATTRS

--- Whether a flag is set.
---@param flags number
---@param flag number a power of 2
function M.has(flags, flag)
  return flags % (2 * flag) >= flag
end
local has = M.has

-- Which idle connections a client can get on with: it has to speak as was agreed upon there. If it is not logged in
-- anew, as `unchanged` says, its login has to have named the same character set, too: results would come in another
-- client's. What clients have set since then (SET NAMES, the schema, variables) is left to the script, as ever.
local function suitable(session, unchanged)
  local login = session.login
  local wanted, all = stream.negotiated(session.greeted, login)
  return function(server)
    return server.capabilities == wanted
      and (has(server.all_capabilities, PLUGIN_AUTH) or not has(all, PLUGIN_AUTH))
      and (not unchanged or server.charset == login.charset)
  end
end

local function anyone()
  return true
end

local function take_first(list, suits)
  for index, server in ipairs(list or {}) do
    if suits(server) then
      return table.remove(list, index)
    end
  end
end

--- An idle connection for a session. Before the login it may be anybody's, as it is logged in anew; after that it is
--- one of the client's user, if that is who he is.
---@return Server|nil
function M.take(backend, session, before_login)
  if before_login then
    return take_first(M.of(backend, session):list_for(""), anyone)
  elseif not is_logged_in(session) then
    return nil
  end
  return take_first(M.of(backend, session).lists[session.login.username or ""], suitable(session, true))
end

local SERVER_OK = { server_status = 2 }
local ACCESS_DENIED = { errcode = 1045, sqlstate = "28000", errmsg = "(proxy-pool) login failed" }
local RESPONSE_LIMIT = 255 -- of COM_CHANGE_USER

-- Source: "COM_CHANGE_USER". What it ends with was agreed upon when the connection was made.
local function change_user(session, login, sequence)
  local server = session.server
  local flags = server.all_capabilities
  session:await_auth_result(sequence) -- the server counts from its command on, the client from its login
  server.stream:send(proto.to_change_user_packet {
    username = login.username, response = login.response, database = login.database, charset = login.charset,
    auth_plugin_name = has(flags, PLUGIN_AUTH) and (login.auth_plugin_name or "mysql_native_password") or nil,
    attributes = has(flags, CONNECT_ATTRS) and (login.attributes or {}) or nil,
  }, 0)
end

-- --proxy-pool-no-change-user
local function compare_login(session, login, sequence)
  local server = session.server
  local known = server.username == (login.username or "") and server.scrambled_password == (login.response or "")
  session.client:send(known and proto.to_ok_packet(SERVER_OK) or proto.to_err_packet(ACCESS_DENIED), sequence + 1)
  if known then
    return session:begin_queries()
  end
  return session:close("another password than that of the idle connection")
end

--- A client's login for a server whose challenge it has not seen: by a plugin that no account has. The server asks for
--- the right one then, with its own challenge (AuthSwitchRequest).
function M.login_to_be_asked(login)
  return setmetatable({ response = "", auth_plugin_name = "mysql_proxy_asks_again" }, { __index = login })
end

--- A client logs in over an idle connection, whose greeting it has got. If it cannot get on with that one, another of
--- the backend takes its place, idle or new.
function M.log_in(session, sequence)
  local login, backend, unchanged = session.login, session.backend, session.proxy.pool_no_change_user
  local suits = suitable(session, unchanged)
  local fits = suits(session.server) and (not unchanged or session.server.response_checked)
  if fits and unchanged then
    return compare_login(session, login, sequence)
  elseif fits and #(login.response or "") <= RESPONSE_LIMIT then
    return change_user(session, login, sequence)
  elseif not has(login.capabilities, PLUGIN_AUTH) then
    return session:cannot_ask_again()
  end
  local other = fits and session.server or not unchanged and take_first(M.of(backend, session):list_for(""), suits)
  if not other then
    M.release(session)
    return session:connect_again(backend)
  elseif other ~= session.server then
    M.release(session)
    session:use_server(other)
  end
  return change_user(session, M.login_to_be_asked(login), sequence)
end

local OWN_LOGIN_FAILED = "(lua) the login that read_auth has queued is of no use on the idle connection: %s"

--- A script logs in over an idle connection in the client's stead, with what was computed for its challenge.
---@param login table|nil the script's login, nil if it is none
function M.log_in_as(session, sequence, login)
  local problem = not login and "it cannot be decoded"
    or #(login.response or "") > RESPONSE_LIMIT and ("its response is longer than %d bytes"):format(RESPONSE_LIMIT)
    or not suitable(session)(session.server) and "the client speaks otherwise than that connection"
  if problem then
    return session:refuse(sequence + 1, {
      errcode = 1105, sqlstate = "07000", errmsg = OWN_LOGIN_FAILED:format(problem),
    })
  end
  return change_user(session, login, sequence)
end

return M
