-- Sends reads to the read-only servers and all else to the read/write server, for clients that know nothing of it.
--
--   mysql-proxy --proxy-backend-addresses=primary:3306 --proxy-read-only-backend-addresses=replica:3306 \
--     --proxy-lua-script=examples/rw_splitting.lua
--
-- For reads a client swaps its connection for an idle one to a replica, and back for anything else. Only a login opens
-- a connection: one of a user who left is kept, so that his next login can open one to a replica. Transactions stay on
-- the primary, and clients with something on their connection: a variable, a temporary table, an auto-increment value.

local tokenizer = require "proxy.tokenizer"

local SPARE = 4 -- idle connections to keep for a server and user
local SCHEMA, STATEMENT = 1, 2 -- ids in the queue
local COM_RESET_CONNECTION = 31
local STREAMED = { resultset_is_needed = false }

local function set(words)
  local found = {}
  words:gsub("%S+", function(word)
    found[word] = true
  end)
  return found
end

local LEAVES_NOTHING = set [[SELECT INSERT UPDATE DELETE REPLACE SHOW EXPLAIN DESC DESCRIBE BEGIN START COMMIT ROLLBACK
  CREATE ALTER DROP TRUNCATE]]
local LEAVES = set "GET_LOCK TEMPORARY"
local ASKS_BACK = set "LAST_INSERT_ID FOUND_ROWS ROW_COUNT"
local NO_READ = set "TK_SQL_INTO TK_SQL_FOR TK_SQL_LOCK TK_SEMICOLON TK_COMMENT_MYSQL"

local backends = proxy.global.backends
local users = proxy.global.users or {} -- IP address -> the user who comes from there, false if several do
proxy.global.users = users

local primary -- index of the client's read/write server
local held, leaves, in_transaction = false, false, false

for i = 1, #backends do
  backends[i].pool.min_idle_connections = math.huge -- nobody gets another user's connection
end

local function idle(i, user)
  return backends[i].pool.users[user].cur_idle_connections
end

-- The server of a kind with the fewest clients, of those with `least` to `most` idle connections of the user.
local function choose(type, user, least, most)
  local best
  for i = 1, #backends do
    local backend, count = backends[i], idle(i, user)
    if backend.type == type and backend.state ~= proxy.BACKEND_STATE_DOWN and count >= least and count <= most
      and (not best or backend.connected_clients < backends[best].connected_clients) then
      best = i
    end
  end
  return best
end

local function move_to(i)
  if i and proxy.connection.backend_ndx ~= i then
    proxy.connection.backend_ndx = i
  end
  return proxy.connection.backend_ndx == i
end

-- A connection to a replica is opened if one to a primary is idle, and none of those whose clients read at the moment.
function connect_server()
  local user, spare = users[proxy.connection.client.src.address], 0
  for i = 1, user and #backends or 0 do
    local writes = backends[i].type == proxy.BACKEND_TYPE_RW
    spare = spare + (writes and idle(i, user) or -backends[i].connected_clients)
  end
  if spare > 0 then
    proxy.connection.backend_ndx = choose(proxy.BACKEND_TYPE_RO, user, 0, SPARE - 1) or 0
  end
end

function read_auth_result(auth)
  if auth.packet:byte() ~= proxy.MYSQLD_PACKET_OK then
    return
  end
  local ip, user = proxy.connection.client.src.address, proxy.connection.client.username
  users[ip] = (users[ip] == nil or users[ip] == user) and user
  primary = proxy.connection.backend_ndx
  if backends[primary].type == proxy.BACKEND_TYPE_RO then
    primary = choose(proxy.BACKEND_TYPE_RW, user, 1, math.huge)
    if not move_to(primary) then -- that was another user's
      users[ip] = false
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1040, sqlstate = "08004",
        errmsg = "no connection to the read/write server is idle, try again" }
      return proxy.PROXY_SEND_RESULT
    end
  end
end

-- Where a command belongs: "read", "write", or "here" if it is about the one before; and if it leaves something.
local function examine(packet)
  if packet:byte() ~= proxy.COM_QUERY then
    return "write", packet:byte() ~= COM_RESET_CONNECTION
  end
  local tokens = tokenizer.tokenize(packet:sub(2))
  local first = tokenizer.first_stmt_token(tokens)
  local word = first and first.text:upper()
  local where, leaving = word == "SELECT" and "read" or "write", not LEAVES_NOTHING[word]
  for i = 1, #tokens do
    local name, text = tokens[i].token_name, tokens[i].text:upper()
    if name == "TK_LITERAL" and text:find("^@[^@]") or LEAVES[text] or name == "TK_COMMENT" and text:find("^M!") then
      return "write", true
    elseif NO_READ[name] then
      where = "write"
    elseif ASKS_BACK[text] and where == "read" then
      where = "here"
    end
  end
  return where, leaving
end

local HERE = set(table.concat({ proxy.COM_PING, proxy.COM_INIT_DB, proxy.COM_STATISTICS }, " "))

function read_query(packet)
  local command, client = packet:byte(), proxy.connection.client
  local stays = held or in_transaction
  if command == proxy.COM_QUIT and not stays then
    move_to(primary)
    proxy.response.type = proxy.MYSQLD_PACKET_OK
    return proxy.PROXY_SEND_RESULT -- the connection outlives the client
  elseif HERE[tostring(command)] or held and command ~= COM_RESET_CONNECTION then
    return
  end
  local where
  where, leaves = examine(packet)
  if where == "read" and not stays and backends[proxy.connection.backend_ndx].type == proxy.BACKEND_TYPE_RW then
    move_to(choose(proxy.BACKEND_TYPE_RO, client.username, 1, math.huge))
  elseif where == "write" and not move_to(primary) then
    proxy.connection.connection_close = true
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "the connection to the read/write server was lost" }
    return proxy.PROXY_SEND_RESULT
  elseif command == proxy.COM_CHANGE_USER then
    held = true
    return
  end
  if client.default_db ~= "" and client.default_db ~= proxy.connection.server.default_db then
    proxy.queries:append(SCHEMA, string.char(proxy.COM_INIT_DB) .. client.default_db)
  end
  proxy.queries:append(STATEMENT, packet, STREAMED)
  return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
  local result = inj.resultset
  local done = result.query_status == proxy.MYSQLD_PACKET_OK
  if inj.id == SCHEMA then
    if done then
      return proxy.PROXY_IGNORE_RESULT
    end
    proxy.queries:reset()
  elseif done and inj.query:byte() == COM_RESET_CONNECTION then
    held, in_transaction = false, false
  else
    held = held or leaves or (result.insert_id or 0) > 0
    if done and inj.query:byte() == proxy.COM_QUERY then
      in_transaction = result.flags.in_trans
    end
  end
end

function disconnect_client()
  local server = proxy.connection.server
  if primary and server and not held and not in_transaction then
    if idle(proxy.connection.backend_ndx, server.username) < SPARE then
      proxy.connection.backend_ndx = 0
    end
  end
end
