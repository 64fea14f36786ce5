--[[

  macros.lua: one statement of the client becomes several, and one result is made of theirs

    PIVOT table ROWS column COLUMNS column VALUES FUNCTION(column) [WHERE ...] [TOTALS]
        cross table: a row for each value of the one column, a column for each value of the other

    FOREACH (SELECT ...) DO statement [; statement ...]
    FOREACH value, value ... DO statement [; ...]
        runs the statements for each row; $1 $2 ... are its cells as SQL values, $name the one of that name

    LOOP n statement            LOOP first, last [, step] statement
        runs the statement again and again; $i is the counter. Says how long it took

    MERGE statement ; statement [; ...]
        the rows of all as one result

    AGAIN                       repeats the last statement of this connection

    MACRO DEFINE name(a, b) AS statement [; ...]     $a and $b are replaced by what it is run with
    MACRO RUN name(1, 'x')      the result is that of its last statement, or of the first that fails
    MACRO TRACE name(1, 'x')    what came of each statement
    MACRO SHOW name,  MACRO DROP name,  MACRO LIST,  MACRO HISTORY,  MACRO HELP

--]]

local tokenizer = require("proxy.tokenizer")
local commands  = require("proxy.commands")
local proto     = require("mysql.proto")
local sqltext   = require("sqltext") -- beside this file: --lua-path
require("proxy.auto-config")

assert(proxy.PROXY_VERSION >= 0x00501, "macros.lua needs at least mysql-proxy 0.5.1")

proxy.global.config.macros = proxy.global.config.macros or {
  is_debug    = false,
  max_loop    = 1000,
  max_columns = 200,
  atomic      = false,  -- FOREACH in a transaction of its own
  history     = 0,      -- so many statements of all clients are remembered
}
proxy.global.macros        = proxy.global.macros or {}
proxy.global.macro_history = proxy.global.macro_history or {}

local config  = proxy.global.config.macros
local macros  = proxy.global.macros
local history = proxy.global.macro_history

-- ids in the queue; those of a loop count on from LOOP
local STEP, RUN, RUN_LAST, TRACED, WATCHED, LOOP = 1, 2, 3, 4, 5, 1000

local last_statement  -- for AGAIN
local job             -- a coroutine that wants statements to be run
local loop, trace     -- what is counted meanwhile

local STRING, NUMBER, DOUBLE = proxy.MYSQL_TYPE_STRING, proxy.MYSQL_TYPE_LONGLONG, proxy.MYSQL_TYPE_DOUBLE

function debug_print(...)
  if config.is_debug then
    print("[macros]", ...)
  end
end

--- ------------------------------------------------------------------------------------------------------------------
-- answers
--

local function error_response(errmsg, errcode, sqlstate)
  return { type = proxy.MYSQLD_PACKET_ERR, errmsg = errmsg, errcode = errcode or 1064, sqlstate = sqlstate or "42000" }
end

local function rows_response(fields, rows)
  for i, field in ipairs(fields) do
    if type(field) == "string" then
      fields[i] = { name = field, type = STRING }
    end
  end
  return { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = rows } }
end

local function ok_response(affected_rows)
  return { type = proxy.MYSQLD_PACKET_OK, affected_rows = affected_rows }
end

local function send(response)
  proxy.response = response
  return proxy.PROXY_SEND_RESULT
end

local function packet_of(sql)
  return string.char(proxy.COM_QUERY) .. sql
end

local split, quote, quote_name = sqltext.split, sqltext.quote, sqltext.quote_name
local replace_variables = sqltext.replace_variables

-- an answer as a table of our own: inj is gone after the hook
local function copy_result(inj)
  local res = inj.resultset
  local copy = { time = inj.response_time, query = inj.query:sub(2), fields = {}, rows = {} }
  if res.query_status == proxy.MYSQLD_PACKET_ERR then
    local err = proto.from_err_packet(res.raw)
    copy.error = error_response(err.errmsg, err.errcode, err.sqlstate)
    return copy
  end
  copy.affected_rows, copy.insert_id = res.affected_rows, res.insert_id
  local fields = res.fields
  for i = 1, #fields do
    copy.fields[i] = { name = fields[i].name, type = fields[i].type }
  end
  if #fields > 0 then
    for row in res.rows do
      local cells = {}
      for i = 1, #fields do
        cells[i] = row[i]
      end
      copy.rows[#copy.rows + 1] = cells
    end
  end
  return copy
end

--- ------------------------------------------------------------------------------------------------------------------
-- jobs: functions that run one statement after the other, as if they had all the time of the world
--

local function advance(result)
  local ok, said = coroutine.resume(job, result)
  if not ok then
    job = nil
    return send(error_response("macros.lua: " .. tostring(said), 1105, "HY000"))
  elseif coroutine.status(job) == "dead" then
    job = nil
    return send(said)
  end
  debug_print(said)
  proxy.queries:append(STEP, packet_of(said), { resultset_is_needed = true })
  return nil
end

local function start_job(fn, ...)
  local arguments = { ... }
  job = coroutine.create(function()
    return fn(unpack(arguments))
  end)
  return advance() or proxy.PROXY_SEND_QUERY
end

local function query(sql)
  return coroutine.yield(sql)
end

--- PIVOT

local function parse_pivot(tokens)
  local said, at, last = { table = {} }, 2, #tokens
  local function text(ahead)
    return tokens[at + (ahead or 0)] and tokens[at + (ahead or 0)].text or ""
  end
  local function word(wanted)
    if text():upper() ~= wanted then
      error({ ("PIVOT: expected %s near '%s'"):format(wanted, text()) })
    end
    at = at + 1
  end
  while at <= last and text():upper() ~= "ROWS" do
    said.table[#said.table + 1] = tokens[at].token_name == "TK_LITERAL" and quote_name(text()) or text()
    at = at + 1
  end
  for _, part in ipairs({ "ROWS", "COLUMNS" }) do
    word(part)
    said[part:lower()] = text()
    at = at + 1
  end
  word("VALUES")
  if not tokens[at + 3] or tokens[at].token_name ~= "TK_FUNCTION" then
    error({ "PIVOT: expected FUNCTION(column) behind VALUES" })
  end
  said.func, said.value = text():upper(), text(2)
  at = at + 4
  if last >= at and tokens[last].text:upper() == "TOTALS" then
    said.totals, last = true, last - 1
  end
  said.where = ""
  if at <= last then
    word("WHERE")
    said.where = " WHERE " .. tokenizer.tokens_to_query(tokens, at, last)
  end
  said.table = table.concat(said.table)
  return said
end

local function add_totals(rows, columns)
  local totals = { "(total)" }
  for c = 2, columns do
    totals[c] = 0
    for _, row in ipairs(rows) do
      totals[c] = totals[c] + (tonumber(row[c]) or 0)
    end
  end
  rows[#rows + 1] = totals
end

local function pivot(said)
  local from = (" FROM %s%s"):format(said.table, said.where)
  local columns = query(("SELECT DISTINCT %s%s ORDER BY 1"):format(quote_name(said.columns), from))
  if columns.error then
    return columns.error
  elseif #columns.rows > config.max_columns then
    return error_response(("PIVOT: %d columns are too many"):format(#columns.rows), 1117, "HY000")
  end
  local value, parts = said.value == "*" and "1" or quote_name(said.value), { quote_name(said.rows) }
  for _, row in ipairs(columns.rows) do
    parts[#parts + 1] = ("%s(CASE WHEN %s <=> %s THEN %s END) AS %s"):format(said.func, quote_name(said.columns),
      quote(row[1], columns.fields[1].type), value, quote_name(row[1] or "(null)"))
  end
  parts[#parts + 1] = ("%s(%s) AS %s"):format(said.func, value, quote_name(said.func:lower()))
  local result = query(("SELECT %s%s GROUP BY 1 ORDER BY 1"):format(table.concat(parts, ", "), from))
  if result.error then
    return result.error
  end
  if said.totals then
    add_totals(result.rows, #result.fields)
  end
  return rows_response(result.fields, result.rows)
end

--- FOREACH

local function foreach_source(source)
  local inner = source:match("^%((.*)%)$")
  if inner and inner:upper():match("^%s*SELECT") then
    return query(inner)
  end
  local rows = {}
  for _, value in ipairs(split(inner or source, ",")) do
    rows[#rows + 1] = { value }
  end
  return { fields = { { name = "value", type = STRING } }, rows = rows, is_list = true }
end

local function foreach(source, body)
  local values = foreach_source(source)
  if values.error then
    return values.error
  elseif #values.rows > config.max_loop then
    return error_response(("FOREACH: %d rows are too many"):format(#values.rows), 1105, "HY000")
  end
  local atomic = config.atomic -- might be changed meanwhile
  if atomic then
    query("START TRANSACTION")
  end
  local report, failed = {}, nil
  for number, row in ipairs(values.rows) do
    local variables = {}
    for c = 1, #values.fields do
      variables[c] = values.is_list and row[c] or quote(row[c], values.fields[c].type)
      variables[values.fields[c].name] = variables[c]
    end
    local line = { number, row[1], 0, 0, nil }
    for _, statement in ipairs(body) do
      local result = query(replace_variables(statement, variables))
      line[3] = line[3] + (result.affected_rows or 0)
      line[4] = line[4] + #result.rows
      if result.error then
        line[5] = result.error.errmsg
        failed = failed or result.error
        break
      end
    end
    report[number] = line
    if failed and atomic then
      break
    end
  end
  if atomic then
    query(failed and "ROLLBACK" or "COMMIT")
    if failed then
      return failed
    end
  end
  return rows_response({
    { name = "number", type = NUMBER }, { name = values.fields[1].name, type = values.fields[1].type },
    { name = "affected_rows", type = NUMBER }, { name = "rows", type = NUMBER }, { name = "error", type = STRING },
  }, report)
end

--- MERGE

local function merge(list)
  local fields, rows
  for _, statement in ipairs(list) do
    local result = query(statement)
    if result.error then
      return result.error
    elseif #result.fields > 0 then
      fields, rows = fields or result.fields, rows or {}
      if #fields ~= #result.fields then
        return error_response("The used SELECT statements have a different number of columns", 1222, "21000")
      end
      for _, row in ipairs(result.rows) do
        rows[#rows + 1] = row
      end
    end
  end
  if not fields then
    return ok_response(0)
  end
  return rows_response(fields, rows)
end

--- ------------------------------------------------------------------------------------------------------------------
-- LOOP: everything is in the queue at once
--

local function start_loop(first, last, step, statement)
  if step == 0 or (last - first) / step >= config.max_loop then
    return send(error_response("LOOP: too often", 1105, "HY000"))
  end
  loop = { runs = 0, min = math.huge, max = 0, total = 0, rows = 0, affected = 0, last = 0 }
  for i = first, last, step do
    loop.last = loop.last + 1
    proxy.queries:append(LOOP + loop.last, packet_of(replace_variables(statement, { i = tostring(i) })),
      { resultset_is_needed = true })
  end
  if #proxy.queries == 0 then
    return send(ok_response(0))
  end
  return proxy.PROXY_SEND_QUERY
end

local function loop_result(inj)
  local res = inj.resultset
  if res.query_status == proxy.MYSQLD_PACKET_ERR then
    proxy.queries:reset()
    return nil -- the client gets it
  end
  loop.runs  = loop.runs + 1
  loop.min   = math.min(loop.min, inj.query_time)
  loop.max   = math.max(loop.max, inj.query_time)
  loop.total = loop.total + inj.query_time
  loop.rows  = loop.rows + res.row_count
  loop.affected = loop.affected + (res.affected_rows or 0)
  if inj.id < LOOP + loop.last then
    return proxy.PROXY_IGNORE_RESULT
  end
  local fields, row = {}, { loop.runs, loop.rows, loop.affected, loop.min, loop.max, loop.total / loop.runs }
  for i, name in ipairs({ "runs", "rows", "affected_rows", "min_time", "max_time", "avg_time" }) do
    fields[i] = { name = name, type = name == "avg_time" and DOUBLE or NUMBER }
  end
  return send(rows_response(fields, { row }))
end

--- ------------------------------------------------------------------------------------------------------------------
-- macros
--

local function expand(call)
  local name, arguments = call:match("^([%w_]+)%s*%(?(.-)%)?$")
  local macro = name and macros[name:lower()]
  if not macro then
    return nil, error_response(("MACRO %s does not exist"):format(tostring(name)), 1305, "42000")
  end
  local values = split(arguments, ",")
  if #values ~= #macro.parameters then
    return nil, error_response(("Incorrect number of arguments for MACRO %s; expected %d, got %d"):format(
      name, #macro.parameters, #values), 1318, "42000")
  end
  local variables = {}
  for i, parameter in ipairs(macro.parameters) do
    variables[parameter] = values[i]
  end
  local list = {}
  for i, statement in ipairs(macro.statements) do
    list[i] = replace_variables(statement, variables)
  end
  return list
end

local macro_commands = {}

function macro_commands.DEFINE(rest)
  local name, parameters, body = rest:match("^([%w_]+)%s*(%b())%s+[aA][sS]%s+(.*)$")
  if not name then
    name, body = rest:match("^([%w_]+)%s+[aA][sS]%s+(.*)$")
  end
  local list = split(body or "", ";")
  if not name or #list == 0 then
    return send(error_response("MACRO DEFINE name(parameter, ...) AS statement; ..."))
  end
  macros[name:lower()] = { parameters = split((parameters or "()"):sub(2, -2), ","), statements = list }
  return send(ok_response(#list))
end

function macro_commands.DROP(rest)
  if not macros[rest:lower()] then
    return send(error_response(("MACRO %s does not exist"):format(rest), 1305, "42000"))
  end
  macros[rest:lower()] = nil
  return send(ok_response(1))
end

function macro_commands.LIST()
  local rows = {}
  for name, macro in pairs(macros) do
    rows[#rows + 1] = { name, table.concat(macro.parameters, ", "), #macro.statements }
  end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  return send(rows_response({ "name", "parameters", { name = "statements", type = NUMBER } }, rows))
end

function macro_commands.SHOW(rest)
  local macro = macros[rest:lower()]
  if not macro then
    return send(error_response(("MACRO %s does not exist"):format(rest), 1305, "42000"))
  end
  local rows = {}
  table.foreachi(macro.statements, function(i, statement)
    rows[i] = { i, statement }
  end)
  return send(rows_response({ { name = "step", type = NUMBER }, "statement" }, rows))
end

function macro_commands.RUN(rest)
  local list, refused = expand(rest)
  if not list then
    return send(refused)
  end
  for i, statement in ipairs(list) do
    if i < #list then
      proxy.queries:append(RUN, packet_of(statement), { resultset_is_needed = true })
    else
      proxy.queries:append(RUN_LAST, packet_of(statement), { resultset_is_needed = false })
    end
  end
  return proxy.PROXY_SEND_QUERY
end

function macro_commands.TRACE(rest)
  local list, refused = expand(rest)
  if not list then
    return send(refused)
  end
  trace = {}
  for i = #list, 1, -1 do
    proxy.queries:prepend(TRACED, packet_of(list[i])) -- no options: the old way
  end
  return proxy.PROXY_SEND_QUERY
end

function macro_commands.HISTORY()
  local rows = {}
  for i, line in ipairs(history) do
    rows[i] = { line.query, line.time, line.rows }
  end
  return send(rows_response({ "query", { name = "time", type = NUMBER }, { name = "rows", type = NUMBER } }, rows))
end

function macro_commands.HELP()
  local rows = {}
  for _, name in ipairs({ "PIVOT", "FOREACH", "LOOP", "MERGE", "AGAIN", "MACRO" }) do
    rows[#rows + 1] = { name }
  end
  return send(rows_response({ "command" }, rows))
end

local function trace_result(inj)
  local result = copy_result(inj)
  trace[#trace + 1] = { #trace + 1, result.query, #result.rows, result.affected_rows,
    result.error and result.error.errmsg or nil }
  if #proxy.queries > 0 and not result.error then
    return proxy.PROXY_IGNORE_RESULT
  end
  proxy.queries:reset()
  local rows = trace
  trace = nil
  return send(rows_response({
    { name = "step", type = NUMBER }, "statement", { name = "rows", type = NUMBER },
    { name = "affected_rows", type = NUMBER }, "error",
  }, rows))
end

--- ------------------------------------------------------------------------------------------------------------------
-- the hooks
--

local statements = {}

function statements.PIVOT(sql)
  local ok, said = pcall(parse_pivot, tokenizer.tokenize(sql))
  if not ok then
    return send(error_response(type(said) == "table" and said[1] or said))
  end
  return start_job(pivot, said)
end

function statements.FOREACH(sql)
  local source, rest = sql:match("^%a+%s*(%b())%s*[dD][oO]%s+(.*)$")
  if not source then
    source, rest = sql:match("^%a+%s+(.-)%s+[dD][oO]%s+(.*)$")
  end
  if not source then
    return send(error_response("FOREACH (SELECT ...) DO statement"))
  end
  return start_job(foreach, source, split(rest, ";"))
end

function statements.LOOP(sql)
  local first, last, step, statement = sql:match("^%a+%s+(%-?%d+)%s*,%s*(%-?%d+)%s*,%s*(%-?%d+)%s+(.*)$")
  if not first then
    first, last, statement = sql:match("^%a+%s+(%-?%d+)%s*,%s*(%-?%d+)%s+(.*)$")
  end
  if not first then
    last, statement = sql:match("^%a+%s+(%d+)%s+(.*)$")
  end
  if not last then
    return send(error_response("LOOP n statement"))
  end
  return start_loop(tonumber(first or 1), tonumber(last), tonumber(step or 1), statement)
end

function statements.MERGE(sql)
  return start_job(merge, split(sql:match("^%a+%s+(.*)$") or "", ";"))
end

function statements.MACRO(sql)
  local what, rest = sql:match("^%a+%s+(%a+)%s*(.*)$")
  local handler = what and macro_commands[what:upper()]
  if not handler then
    return send(error_response("MACRO: try MACRO HELP"))
  end
  return handler(rest)
end

function statements.AGAIN()
  if not last_statement then
    return send(error_response("AGAIN: there was no statement before", 1105, "HY000"))
  end
  proxy.queries:append(WATCHED, last_statement)
  return proxy.PROXY_SEND_QUERY
end

function read_query(packet)
  job, loop, trace = nil, nil, nil
  if packet:byte() ~= proxy.COM_QUERY then
    return
  end

  local cmd = commands.parse(packet)
  local r = proxy.global.config:handle(cmd)
  if r then
    return r
  end

  local sql = sqltext.trim(cmd.query)
  local handler = statements[(sql:match("^%a+") or ""):upper()]
  if handler then
    return handler(sql)
  end
  last_statement = packet
  if config.history > 0 then
    proxy.queries:append(WATCHED, packet)
    return proxy.PROXY_SEND_QUERY
  end
end

local results = {}

results[STEP] = function(inj)
  return advance(copy_result(inj)) or proxy.PROXY_IGNORE_RESULT
end

results[RUN] = function(inj)
  if inj.resultset.query_status == proxy.MYSQLD_PACKET_ERR then
    proxy.queries:reset()
    return nil
  end
  return proxy.PROXY_IGNORE_RESULT
end

results[TRACED] = trace_result

results[WATCHED] = function(inj)
  if config.history > 0 then
    table.insert(history, { query = inj.query:sub(2), time = inj.response_time, rows = inj.resultset.row_count })
    while #history > config.history do
      table.remove(history, 1)
    end
  end
end

function read_query_result(inj)
  debug_print(inj.id, inj.query:sub(2), inj.response_time)
  if inj.id > LOOP then
    return loop_result(inj)
  end
  return results[inj.id] and results[inj.id](inj)
end
