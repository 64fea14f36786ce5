--[[

  splitter.lua: reads go to the read-only backends, everything else to the master, over pooled connections

  A client has one server connection at a time. For a read it hands the one to the master to the pool and takes an
  idle one to a slave; for the next write it goes back. It stays on the master

    - in a transaction, and with autocommit = 0
    - while it has temporary tables, locked tables, or prepared statements
    - once it has used user variables or SET, GET_LOCK(), CALL, PREPARE, HANDLER
    - once it has made an auto-increment value (splitter.hold_insert_id; otherwise for the next statement only)

  and where it is for what is about the statement before: FOUND_ROWS(), ROW_COUNT(), SHOW WARNINGS ...

  Only a login opens a connection, so idle ones to the slaves come from clients that log in while some of the same user
  are idle on the master: these clients are logged in at the slave and get one of the master's. That is why there must
  never be more clients away from the master than connections of their user idle there. Who will log in is a guess: the
  user who came last from that address. If another one comes he is told to try again (error 1040).

    SHOW SPLITTER STATUS;
    PROXY SET GLOBAL splitter.max_idle = 20;      or SET GLOBAL splitter.max_idle = 20

--]]

local commands    = require("proxy.commands")
local tokenizer   = require("proxy.tokenizer")
local parser      = require("proxy.parser")
local balance     = require("proxy.balance")
local auto_config = require("proxy.auto-config")
local proto       = require("mysql.proto")

if not proxy.global.config.splitter then
  proxy.global.config.splitter = {
    is_debug        = false,
    is_enabled      = true,
    min_idle        = 1,      -- of a user on each slave
    max_idle        = 8,      -- of a user on each backend
    reuse_logins    = true,   -- a new client may log in over a connection that is idle
    hold_insert_id  = true,
    default_charset = "utf8mb4",
  }
end

if not proxy.global.splitter then
  proxy.global.splitter = {
    users = {},     -- address of a client -> user who came from there
    away  = {},     -- user -> how many of his clients are on a slave
    names = {},     -- server connection -> its last SET NAMES
    status = { to_master = 0, to_slave = 0, moves = 0, init_db = 0, set_names = 0, reused_logins = 0,
      slave_logins = 0, refused = 0, quits = 0, pooled = 0 },
  }
end

local config = proxy.global.config.splitter
local shared = proxy.global.splitter
local status = shared.status

local NOBODY = 1000000000 -- so many idle connections no user has: nobody is given another user's

-- ids in the queue
local CLIENT, INIT_DB, NAMES = 1, 2, 3

local COM_RESET_CONNECTION = 31 -- which was not there in the old days

-- of this connection
local master      -- index of its master
local away_as     -- the user as whom it is counted in shared.away
local names       -- what the client wants of SET NAMES
local is_in_transaction, is_autocommit, is_locked = false, true, false
local is_dirty    -- why it cannot leave the master any more
local is_sticky = false
local temporary_tables, statements = {}, {}
local pending = {} -- what becomes true when the statement succeeds

local function debug_print(fmt, ...)
  if config.is_debug then
    print(("[splitter] [%d] "):format(proxy.connection.client.src.port or 0) .. fmt:format(...))
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- backends and their pools
--

local function idle(ndx, user)
  return proxy.global.backends[ndx].pool.users[user].cur_idle_connections
end

-- how many connections a user has on the masters that no client of his will come back for
local function spare(user)
  local n = -(shared.away[user] or 0)
  for i = 1, #proxy.global.backends do
    if proxy.global.backends[i].type == proxy.BACKEND_TYPE_RW then
      n = n + idle(i, user)
    end
  end
  return n
end

local function most_away()
  local most = 0
  for _, n in pairs(shared.away) do
    most = math.max(most, n)
  end
  return most
end

local function is_master(ndx)
  return proxy.global.backends[ndx].type == proxy.BACKEND_TYPE_RW
end

local function set_away(user)
  if away_as then
    shared.away[away_as] = shared.away[away_as] - 1
  end
  if user then
    shared.away[user] = (shared.away[user] or 0) + 1
  end
  away_as = user
end

local function move_to(ndx)
  local before = proxy.connection.backend_ndx
  if before == ndx then
    return true
  elseif ndx == 0 then
    return false
  end
  proxy.connection.backend_ndx = ndx
  if proxy.connection.backend_ndx ~= ndx then
    debug_print("no connection to %s is idle", proxy.global.backends[ndx].dst.name)
    return false
  end
  status.moves = status.moves + 1
  debug_print("moved from %d to %d", before, ndx)
  set_away(not is_master(ndx) and proxy.connection.client.username or nil)
  return true
end

local function server_key()
  return proxy.connection.backend_ndx .. ":" .. proxy.connection.server.thread_id
end

--- ------------------------------------------------------------------------------------------------------------------
-- the login
--

function connect_server()
  local address = proxy.connection.client.src.address
  local user = shared.users[address]

  for i = 1, #proxy.global.backends do
    local s = proxy.global.backends[i]
    s.pool.min_idle_connections = NOBODY
    s.pool.max_idle_connections = config.max_idle
  end
  set_away(nil) -- we might be here again as a server was down
  if not config.is_enabled then
    return
  end

  if user and spare(user) > 0 then
    for i = 1, #proxy.backends do
      local s = proxy.backends[i]
      if s.type == proxy.BACKEND_TYPE_RO and s.state ~= proxy.BACKEND_STATE_DOWN
        and idle(i, user) < config.min_idle then
        debug_print("a login for slave %s", s.address)
        set_away(user) -- the one on the master is ours from now on, however many log in at the same time
        proxy.connection.backend_ndx = i
        return
      end
    end
  end

  if config.reuse_logins then
    for i = 1, #proxy.servers do
      local s = proxy.servers[i]
      if s.type == proxy.BACKEND_TYPE_RW and s.state ~= proxy.BACKEND_STATE_DOWN then
        s.pool.min_idle_connections = most_away()
        proxy.connection.backend_ndx = i
        s.pool.min_idle_connections = NOBODY
        if proxy.connection.server then
          status.reused_logins = status.reused_logins + 1
          return proxy.PROXY_IGNORE_RESULT
        end
        proxy.connection.backend_ndx = 0
      end
    end
  end
end

function read_auth_result(auth)
  if auth.packet:byte() ~= proxy.MYSQLD_PACKET_OK then
    return
  end
  local address, user = proxy.connection.client.src.address, proxy.connection.client.username
  shared.users[address] = user
  shared.names[server_key()] = nil
  master = proxy.connection.backend_ndx
  if is_master(master) then
    return
  end
  status.slave_logins = status.slave_logins + 1
  set_away(nil)
  master = balance.idle_failsafe_rw()
  if not move_to(master) then
    shared.users[address] = nil
    status.refused = status.refused + 1
    proxy.response = {
      type = proxy.MYSQLD_PACKET_ERR, errcode = 1040, sqlstate = "08004",
      errmsg = ("no connection of %s to the master is idle, try again"):format(user),
    }
    return proxy.PROXY_SEND_RESULT
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- where does a statement belong?
--

local function words(text)
  local found = {}
  for word in text:gmatch("%S+") do
    found[word] = true
  end
  return found
end

-- about the statement before
local SAME_SERVER = words [[ LAST_INSERT_ID FOUND_ROWS ROW_COUNT CONNECTION_ID WARNINGS ERRORS DIAGNOSTICS
  @@IDENTITY @@LAST_INSERT_ID @@INSERT_ID @@WARNING_COUNT @@ERROR_COUNT ]]

-- these leave something on the connection
local LEAVES = words [[ GET_LOCK RELEASE_LOCK IS_FREE_LOCK IS_USED_LOCK RELEASE_ALL_LOCKS NEXTVAL LASTVAL ]]
local LEAVE_STATEMENT = words [[ SET CALL PREPARE EXECUTE DEALLOCATE HANDLER LOAD FLUSH DO KILL XA INSTALL SAVEPOINT ]]

-- a SELECT with one of them is no plain read
local NO_READ = words [[ TK_SQL_INTO TK_SQL_FOR TK_SQL_LOCK TK_COMMENT_MYSQL TK_ASSIGN ]]

local function is_user_variable(token)
  return token.token_name == "TK_LITERAL" and token.text:sub(1, 1) == "@" and token.text:sub(1, 2) ~= "@@"
end

local function table_names(tokens)
  local names_found = {}
  for name in pairs(parser.get_tables(tokens)) do
    names_found[#names_found + 1] = name
  end
  return names_found
end

-- statements that are known by their first word
local by_first_word = {}

function by_first_word.SET(bare, text)
  if bare[2] and bare[2]:upper() == "NAMES" then
    pending.names = text
  elseif not (bare[2] and bare[2]:lower() == "autocommit" and #bare == 4) then
    pending.dirty = text
  end
  return "master"
end

function by_first_word.LOCK()
  pending.locked = true
  return "master"
end

function by_first_word.UNLOCK()
  pending.locked = false
  return "master"
end

function by_first_word.CREATE(bare, _, tokens)
  if bare[2] and bare[2]:upper() == "TEMPORARY" or bare[4] and bare[4]:upper() == "TEMPORARY" then
    pending.created = table_names(tokens)
  end
  return "master"
end

function by_first_word.DROP(_, _, tokens)
  pending.dropped = table_names(tokens)
  return "master"
end

function by_first_word.SHOW(bare)
  if bare[2] and SAME_SERVER[bare[2]:upper()] or bare[6] and SAME_SERVER[bare[6]:upper()] then
    return "same"
  end
  return "master"
end

by_first_word.USE = function() return "same" end
by_first_word.GET = function() return "same" end -- DIAGNOSTICS

local function classify_query(text)
  local tokens = tokenizer.tokenize(text)
  local first  = tokenizer.first_stmt_token(tokens)
  local bare   = tokenizer.bare_tokens(tokens)
  for i = 1, #tokens do -- (SELECT ...)
    if first and first.token_name == "TK_OBRACE" and tokens[i].token_name ~= "TK_COMMENT" then
      first = tokens[i]
    end
  end
  if not first then
    return "same"
  end
  local word = first.text:upper()
  local where
  if by_first_word[word] then
    where = by_first_word[word](bare, text, tokens)
  elseif first.token_name == "TK_SQL_SELECT" then
    where = "slave"
  else
    where = "master"
    if LEAVE_STATEMENT[word] then
      pending.dirty = word
    end
  end

  for i = 1, #tokens do
    local token = tokens[i]
    local name, upper = token["token_name"], token.text:upper()
    if is_user_variable(token) or LEAVES[upper] then
      pending.dirty = upper
      return "master"
    elseif name == "TK_SEMICOLON" and i < #tokens then
      pending.dirty = "several statements"
      return "master"
    elseif where == "slave" and NO_READ[name] then
      where = "master"
    elseif name == "TK_COMMENT" and upper:find("^%s*MASTER%s*$") then
      where = "master"
    elseif where == "slave" and SAME_SERVER[upper] and name ~= "TK_STRING" then
      where = "same"
    end
  end
  return where
end

local STAYS = {
  [proxy.COM_PING] = true, [proxy.COM_INIT_DB] = true, [proxy.COM_FIELD_LIST] = true, [proxy.COM_STATISTICS] = true,
  [COM_RESET_CONNECTION] = true, [proxy.COM_PROCESS_INFO] = true,
}

-- "master", "slave", or "same": the one where we are
local function classify(cmd)
  if cmd.type == proxy.COM_QUERY then
    return classify_query(cmd.query)
  elseif cmd.type == proxy.COM_SET_OPTION then
    pending.dirty = "COM_SET_OPTION"
    return "master"
  elseif STAYS[cmd.type] then
    return "same"
  end
  return "master"
end

-- may others get the connection?
local function is_clean()
  return not (is_in_transaction or not is_autocommit or is_locked or is_dirty
    or next(temporary_tables) or next(statements))
end

--- ------------------------------------------------------------------------------------------------------------------
-- commands
--

local function show_status()
  local keys, rows = {}, {}
  for key in pairs(status) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do
    rows[i] = { key, status[key] }
  end
  for i = 1, #proxy.global.backends do
    local s = proxy.global.backends[i]
    rows[#rows + 1] = { ("idle on %d"):format(i), s.idling_connections }
    rows[#rows + 1] = { ("clients on %d"):format(i), s.connected_clients }
  end
  rows[#rows + 1] = { "this client is on", proxy.connection.backend_ndx }
  rows[#rows + 1] = { "and stays because of", is_dirty or is_in_transaction and "its transaction"
    or next(temporary_tables) or next(statements) and "its statements" or nil }
  proxy.response = {
    type = proxy.MYSQLD_PACKET_OK,
    resultset = {
      fields = {
        { name = "Variable_name", type = proxy.MYSQL_TYPE_STRING },
        { name = "Value", type = proxy.MYSQL_TYPE_STRING },
      },
      rows = rows,
    },
  }
  return proxy.PROXY_SEND_RESULT
end

local function send_error(errmsg)
  proxy.response.type   = proxy.MYSQLD_PACKET_ERR
  proxy.response.errmsg = errmsg
  return proxy.PROXY_SEND_RESULT
end

-- the server connection has to have the client's schema and character set
local function bring_in_line()
  local c, s = proxy.connection.client, proxy.connection.server
  if c.default_db ~= "" and c.default_db ~= s.default_db then
    debug_print("server default db: %s, client default db: %s", s.default_db, c.default_db)
    proxy.queries:prepend(INIT_DB, string.char(proxy.COM_INIT_DB) .. c.default_db, { resultset_is_needed = true })
    status.init_db = status.init_db + 1
  end
  local wanted = names
  if not wanted and shared.names[server_key()] then
    wanted = "SET NAMES " .. config.default_charset
  end
  if wanted ~= shared.names[server_key()] then
    proxy.queries:prepend(NAMES, string.char(proxy.COM_QUERY) .. wanted, { resultset_is_needed = true })
    status.set_names = status.set_names + 1
  end
end

function read_query(packet)
  local cmd = commands.parse(packet)
  local r = auto_config.handle(cmd)
  if r then
    return r
  end
  if cmd.type == proxy.COM_QUERY and cmd.query:upper():match("^SHOW%s+SPLITTER%s+STATUS%s*;?%s*$") then
    return show_status()
  end
  pending = {}

  if cmd.type == proxy.COM_QUIT then
    if is_clean() and config.is_enabled then
      status.quits = status.quits + 1
      -- don't send it to the backend: the connection goes to the pool
      proxy.response = { type = proxy.MYSQLD_PACKET_OK }
      return proxy.PROXY_SEND_RESULT
    end
    is_dirty = is_dirty or "COM_QUIT"
    return
  end

  local where = classify(cmd)
  local stays = not is_clean() or is_sticky and where == "same"
  if where == "slave" and not stays and not is_sticky and config.is_enabled and is_master(proxy.connection.backend_ndx)
    then
    move_to(balance.idle_ro())
  elseif where == "master" and not is_master(proxy.connection.backend_ndx) then
    if not move_to(master) then
      status.refused = status.refused + 1
      proxy.connection.connection_close = true
      return send_error("the connection to the master was lost")
    end
  end
  is_sticky = false
  if is_master(proxy.connection.backend_ndx) then
    status.to_master = status.to_master + 1
  else
    status.to_slave = status.to_slave + 1
  end
  debug_print("%s -> %d", commands.pretty_print(cmd), proxy.connection.backend_ndx)

  if cmd.type == proxy.COM_STMT_CLOSE then
    statements[cmd.stmt_handler_id or 0] = nil
    return
  elseif cmd.type == proxy.COM_STMT_SEND_LONG_DATA then
    return
  elseif cmd.type == proxy.COM_STMT_PREPARE then
    proxy.queries:append(CLIENT, packet, { resultset_is_needed = true })
  else
    proxy.queries:append(CLIENT, packet, { resultset_is_needed = false })
  end
  bring_in_line()
  return proxy.PROXY_SEND_QUERY
end

local function remember(inj)
  local res, command = inj.resultset, inj.query:byte()
  if res.query_status == nil then
    return -- LOAD DATA LOCAL INFILE
  end
  if pending.dirty then -- whether it has succeeded or not
    is_dirty = pending.dirty
  end
  if res.query_status == proxy.MYSQLD_PACKET_ERR then
    return
  end

  if command == proxy.COM_QUERY or command == proxy.COM_STMT_EXECUTE then
    is_in_transaction = res.flags.in_trans
    is_autocommit     = res.flags.auto_commit
    if res.insert_id and res.insert_id > 0 then
      if config.hold_insert_id then
        is_dirty = is_dirty or "LAST_INSERT_ID"
      end
      is_sticky = true
    end
  elseif command == proxy.COM_STMT_PREPARE then
    statements[proto.from_stmt_prepare_ok_packet(res.raw).stmt_id] = inj.query:sub(2)
  elseif command == proxy.COM_CHANGE_USER or command == COM_RESET_CONNECTION then
    is_in_transaction, is_autocommit, is_locked, is_dirty = false, true, false, nil
    temporary_tables, statements, names = {}, {}, nil
    shared.names[server_key()] = nil
    set_away(not is_master(proxy.connection.backend_ndx) and proxy.connection.client.username or nil)
  end

  if pending.names then
    names = pending.names
    shared.names[server_key()] = names
  end
  if pending.locked ~= nil then
    is_locked = pending.locked
  end
  for _, name in ipairs(pending.created or {}) do
    temporary_tables[name] = true
  end
  for _, name in ipairs(pending.dropped or {}) do
    temporary_tables[name] = nil
  end
end

function read_query_result(inj)
  local is_error = inj.resultset.query_status == proxy.MYSQLD_PACKET_ERR
  if inj.id == INIT_DB then
    if is_error then
      proxy.queries:reset()
      proxy.response = {
        type   = proxy.MYSQLD_PACKET_ERR,
        errmsg = ("can't change DB to %s on %s"):format(proxy.connection.client.default_db,
          proxy.connection.server.dst.name),
      }
      return proxy.PROXY_SEND_RESULT
    end
    return proxy.PROXY_IGNORE_RESULT
  elseif inj.id == NAMES then
    if not is_error then
      shared.names[server_key()] = inj.query:sub(2)
    end
    return proxy.PROXY_IGNORE_RESULT
  end
  remember(inj)
end

function disconnect_client()
  local server = proxy.connection.server
  set_away(nil)
  if not server or not master then
    return
  end
  local ndx = proxy.connection.backend_ndx
  local key = server_key()
  if is_clean() and config.is_enabled and idle(ndx, server.username) < config.max_idle then
    status.pooled = status.pooled + 1
    proxy.connection.backend_ndx = 0
  else
    shared.names[key] = nil
  end
end
