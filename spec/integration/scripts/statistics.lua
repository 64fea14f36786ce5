--[[

  statistics.lua: what runs through the proxy, as tables that a client can ask for

    SELECT * FROM stats.queries;      each normalised query: count, times, rows, bytes, errors
    SELECT * FROM stats.tables;       each table: reads, writes
    SELECT * FROM stats.commands;     each COM_...
    SELECT * FROM stats.clients;      who is connected now
    SELECT * FROM stats.slow;         the last slow queries
    SELECT * FROM stats.totals;

  with a list of columns or COUNT(*), WHERE column <operator> value, ORDER BY column [DESC] and LIMIT [offset,] n.

    DELETE FROM stats.queries;        forgets, so does TRUNCATE TABLE stats.queries

  Options, which auto-config shows and changes:

    PROXY SHOW CONFIG;
    PROXY SET GLOBAL statistics.slow_query_time = 500000;

--]]

local commands  = require("proxy.commands")
local tokenizer = require("proxy.tokenizer")
local parser    = require("proxy.parser")
local proto     = require("mysql.proto")
local virtual_tables = require("virtual_tables") -- beside this file: --lua-path
require("proxy.auto-config")

assert(proxy.PROXY_VERSION >= 0x00600, "statistics.lua needs at least mysql-proxy 0.6.0")

---
-- init the global scope: shared by all connections
--
if not proxy.global.config.statistics then
  proxy.global.config.statistics = {
    is_enabled      = true,
    is_debug        = false,
    collect_queries = true,
    collect_tables  = true,
    collect_errors  = true,     -- texts of errors: needs the result-sets in memory
    collect_warnings = false,   -- asks for the warnings of each statement that has some
    max_queries     = 1000,     -- more different ones are counted as one
    max_slow        = 20,
    slow_query_time = 1000000,  -- microseconds
  }
end

if not proxy.global.stats then
  proxy.global.stats = {
    queries = {}, num_queries = 0,
    tables = {},
    commands = {},
    clients = {},
    slow = {},
    totals = { connections = 0, queries = 0, errors = 0, warnings = 0, bytes = 0 },
  }
end

local config = proxy.global.config.statistics
local stats  = proxy.global.stats

-- ids of what is in the queue
local QUERY, PREPARE, EXECUTE, WARNINGS = 1, 2, 3, 4

local OTHERS = "(others)"

-- of this connection
local statements = {}   -- id of a prepared statement -> its text
local me                -- our line of stats.clients
local last_tokens

function debug_print(...)
  if config.is_debug then
    print(string.format("[statistics] %s", table.concat({ ... }, " ")))
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- the tables
--

local STRING, NUMBER, TIME = proxy.MYSQL_TYPE_STRING, proxy.MYSQL_TYPE_LONGLONG, proxy.MYSQL_TYPE_DOUBLE

local schema = {
  queries = {
    { name = "query", type = STRING }, { name = "count", type = NUMBER }, { name = "total_time", type = NUMBER },
    { name = "min_time", type = NUMBER }, { name = "max_time", type = NUMBER }, { name = "avg_time", type = TIME },
    { name = "rows", type = NUMBER }, { name = "bytes", type = NUMBER }, { name = "affected_rows", type = NUMBER },
    { name = "errors", type = NUMBER }, { name = "no_index", type = NUMBER }, { name = "last_error", type = STRING },
  },
  tables = {
    { name = "table", type = STRING }, { name = "reads", type = NUMBER }, { name = "writes", type = NUMBER },
  },
  commands = {
    { name = "command", type = STRING }, { name = "count", type = NUMBER }, { name = "errors", type = NUMBER },
  },
  clients = {
    { name = "thread_id", type = NUMBER }, { name = "user", type = STRING }, { name = "host", type = STRING },
    { name = "db", type = STRING }, { name = "queries", type = NUMBER }, { name = "statements", type = NUMBER },
    { name = "state", type = STRING },
  },
  slow = {
    { name = "at", type = STRING }, { name = "user", type = STRING }, { name = "time", type = NUMBER },
    { name = "query", type = STRING },
  },
  totals = {
    { name = "name", type = STRING }, { name = "value", type = NUMBER },
  },
}

local function copy(from)
  local to = {}
  for k, v in pairs(from) do
    to[k] = v
  end
  return to
end

-- each returns an array of { column = value }
local contents = {}

function contents.queries()
  local rows = {}
  for text, q in pairs(stats.queries) do
    local row = copy(q)
    row.query    = text
    row.avg_time = q.count > 0 and q.total_time / q.count or nil
    rows[#rows + 1] = row
  end
  return rows
end

function contents.tables()
  local rows = {}
  for name, t in pairs(stats.tables) do
    rows[#rows + 1] = { table = name, reads = t.reads, writes = t.writes }
  end
  return rows
end

function contents.commands()
  local rows = {}
  for name, c in pairs(stats.commands) do
    rows[#rows + 1] = { command = name, count = c.count, errors = c.errors }
  end
  return rows
end

function contents.clients()
  local rows = {}
  for thread_id, c in pairs(stats.clients) do
    local row = copy(c)
    row.thread_id = thread_id
    rows[#rows + 1] = row
  end
  return rows
end

function contents.slow()
  local rows = {}
  for i = 1, table.getn(stats.slow) do
    rows[i] = stats.slow[i]
  end
  return rows
end

function contents.totals()
  local rows = {}
  for name, value in pairs(stats.totals) do
    rows[#rows + 1] = { name = name, value = value }
  end
  return rows
end

local forget = {}

function forget.queries()
  local n = stats.num_queries
  stats.queries, stats.num_queries = {}, 0
  return n
end

function forget.tables()
  local n = 0
  for _ in pairs(stats.tables) do n = n + 1 end
  stats.tables = {}
  return n
end

function forget.commands()
  stats.commands = {}
  return 0
end

function forget.slow()
  local n = #stats.slow
  stats.slow = {}
  return n
end

--- ------------------------------------------------------------------------------------------------------------------
-- what clients ask for them
--

local function send_error(errmsg, errcode, sqlstate)
  proxy.response.type     = proxy.MYSQLD_PACKET_ERR
  proxy.response.errmsg   = errmsg
  proxy.response.errcode  = errcode
  proxy.response.sqlstate = sqlstate
  return proxy.PROXY_SEND_RESULT
end

local function send_rows(fields, rows)
  proxy.response = {
    type = proxy.MYSQLD_PACKET_OK,
    resultset = { fields = fields, rows = rows },
  }
  return proxy.PROXY_SEND_RESULT
end

local function handle_select(tokens)
  local fields, rows = virtual_tables.query(tokens, "stats", schema, contents)
  if not fields then
    return send_error(unpack(rows))
  end
  return send_rows(fields, rows)
end

local function handle_forget(name)
  local how = forget[name:lower()]
  if not how then
    return send_error(("stats.%s can't be deleted from"):format(name), 1288, "HY000")
  end
  proxy.response.type = proxy.MYSQLD_PACKET_OK
  proxy.response.affected_rows = how()
  return proxy.PROXY_SEND_RESULT
end

-- is it about us? the normalised form is the same for all ways to write it
local function handle_stats(tokens, normalized)
  if normalized:find("^SELECT .*FROM `[sS][tT][aA][tT][sS]` %. ") then
    return handle_select(tokens)
  end
  local name = normalized:match("^DELETE FROM `[sS][tT][aA][tT][sS]` %. `(.-)` $")
    or normalized:match("^`[tT][rR][uU][nN][cC][aA][tT][eE]` TABLE `[sS][tT][aA][tT][sS]` %. `(.-)` $")
  if name then
    return handle_forget(name)
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- collecting
--

local function count_command(name, is_error)
  local c = stats.commands[name]
  if not c then
    c = { count = 0, errors = 0 }
    stats.commands[name] = c
  end
  c.count = c.count + 1
  if is_error then
    c.errors = c.errors + 1
  end
end

local function count_tables(tokens)
  for name, kind in pairs(parser.get_tables(tokens)) do
    local t = stats.tables[name]
    if not t then
      t = { reads = 0, writes = 0 }
      stats.tables[name] = t
    end
    if kind == "read" then
      t.reads = t.reads + 1
    else
      t.writes = t.writes + 1
    end
  end
end

local function entry_of(normalized)
  local q = stats.queries[normalized]
  if not q then
    if stats.num_queries >= config.max_queries and normalized ~= OTHERS then
      return entry_of(OTHERS)
    end
    q = { count = 0, total_time = 0, min_time = math.huge, max_time = 0, rows = 0, bytes = 0, affected_rows = 0,
      errors = 0, no_index = 0 }
    stats.queries[normalized] = q
    stats.num_queries = stats.num_queries + 1
  end
  return q
end

local function count_query(text, inj)
  local res = inj.resultset
  local is_error = res.query_status == proxy.MYSQLD_PACKET_ERR
  local q = entry_of(text)
  q.count      = q.count + 1
  q.total_time = q.total_time + inj.response_time
  q.min_time   = math.min(q.min_time, inj.response_time)
  q.max_time   = math.max(q.max_time, inj.response_time)
  q.rows       = q.rows + (res.row_count or 0)
  q.bytes      = q.bytes + (res.bytes or 0)
  q.affected_rows = q.affected_rows + (res.affected_rows or 0)
  if res.flags.no_index_used or res.flags.no_good_index_used then
    q.no_index = q.no_index + 1
  end
  if is_error then
    q.errors = q.errors + 1
    stats.totals.errors = stats.totals.errors + 1
    local ok, raw = pcall(function() return res.raw end)
    if ok and raw then
      q.last_error = ("%d (%s): %s"):format(raw:byte(2) + raw:byte(3) * 256, raw:sub(5, 9), raw:sub(10))
    end
  end
  stats.totals.queries = stats.totals.queries + 1
  stats.totals.bytes   = stats.totals.bytes + (res.bytes or 0)
  return is_error
end

local function count_slow(text, inj)
  if inj.response_time < config.slow_query_time then
    return
  end
  table.insert(stats.slow, {
    at = os.date("%Y-%m-%d %H:%M:%S"), user = proxy.connection.client.username, time = inj.response_time, query = text,
  })
  while table.getn(stats.slow) > config.max_slow do
    table.remove(stats.slow, 1)
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- the hooks
--

function read_auth_result(auth)
  if auth.packet:byte() ~= proxy.MYSQLD_PACKET_OK then
    return
  end
  local con = proxy.connection
  me = { user = con.client.username, host = con.client.address, db = con.client.default_db, queries = 0,
    statements = 0, state = "idle" }
  stats.clients[con.server["thread_id"]] = me
  stats.totals.connections = stats.totals.connections + 1
end

function disconnect_client()
  if proxy.connection.server then
    stats.clients[proxy.connection.server.thread_id] = nil
  end
end

function read_query(packet)
  local cmd = commands.parse(packet)

  local r = proxy.global.config:handle(cmd)
  if r then
    return r
  end

  if not config.is_enabled then
    last_tokens = nil
    return
  end
  if me then
    me.state = "started"
  end

  if cmd.type == proxy.COM_QUERY then
    last_tokens = tokenizer.tokenize(cmd.query)
    local normalized = tokenizer.normalize(last_tokens)
    r = handle_stats(last_tokens, normalized)
    if r then
      if me then
        me.state = "idle"
      end
      return r
    end
    debug_print(commands.pretty_print(cmd))
    -- only the text of an error is read from the result: without that wish it is streamed
    if config.collect_errors then
      proxy.queries:append(QUERY, packet, { resultset_is_needed = true })
    else
      proxy.queries:append(QUERY, packet, { resultset_is_needed = false })
    end
  elseif cmd.type == proxy.COM_STMT_PREPARE then
    proxy.queries:append(PREPARE, packet, { resultset_is_needed = true })
  elseif cmd.type == proxy.COM_STMT_EXECUTE then
    proxy.queries:append(EXECUTE, packet, { resultset_is_needed = false })
  else
    if cmd.type == proxy.COM_STMT_CLOSE then
      statements[cmd.stmt_handler_id] = nil
      if me then
        me.statements = math.max(0, me.statements - 1)
      end
    elseif cmd.type == proxy.COM_CHANGE_USER then
      statements = {}
    end
    count_command(cmd.type_name or ("COM_(0x%02x)"):format(cmd.type), false)
    return -- as it came
  end
  assert(proxy.queries:len() == 1 and #proxy.queries == 1)
  return proxy.PROXY_SEND_QUERY
end

local results = {}

results[QUERY] = function(inj)
  local text = tokenizer.normalize(last_tokens)
  local is_error = count_query(text, inj)
  count_command("COM_QUERY", is_error)
  if config.collect_tables and not is_error then
    count_tables(last_tokens)
  end
  count_slow(inj.query:sub(2), inj)
  if inj.resultset.warning_count and inj.resultset.warning_count > 0 then
    stats.totals.warnings = stats.totals.warnings + inj.resultset.warning_count
    if config.collect_warnings then
      proxy.queries:append(WARNINGS, string.char(proxy.COM_QUERY) .. "SHOW WARNINGS", { resultset_is_needed = true })
    end
  end
end

results[PREPARE] = function(inj)
  local is_error = inj.resultset.query_status == proxy.MYSQLD_PACKET_ERR
  count_command("COM_STMT_PREPARE", is_error)
  if not is_error then
    local ok = proto.from_stmt_prepare_ok_packet(inj.resultset.raw)
    local prepared = proto.from_stmt_prepare_packet(inj.query)
    statements[ok.stmt_id] = prepared.stmt_text
    if me then
      me.statements = me.statements + 1
    end
  end
end

results[EXECUTE] = function(inj)
  local id = proto.stmt_id_from_stmt_execute_packet(inj.query)
  local tokens = tokenizer.tokenize(statements[id] or "(unknown statement)")
  local is_error = count_query(tokenizer.normalize(tokens), inj)
  count_command("COM_STMT_EXECUTE", is_error)
  if config.collect_tables and not is_error then
    count_tables(tokens)
  end
  count_slow(statements[id] or "", inj)
end

results[WARNINGS] = function(inj)
  if inj.resultset.query_status ~= proxy.MYSQLD_PACKET_ERR then
    for row in inj.resultset.rows do
      print(("[statistics] %s %s: %s"):format(row[1], row[2], row[3]))
    end
  end
  return proxy.PROXY_IGNORE_RESULT
end

function read_query_result(inj)
  assert(inj.id == inj.type)
  if inj.resultset.query_status == nil then
    return -- LOAD DATA LOCAL INFILE: what comes of it is not shown to us
  end
  local verdict = results[inj.id] and config.collect_queries and results[inj.id](inj)
  if me then
    me.queries = me.queries + (inj.id == WARNINGS and 0 or 1)
    me.db      = proxy.connection.client.default_db
    me.state   = inj.resultset.flags.in_trans and "in_trans" or "idle"
  end
  return verdict
end
