-- The commands of the MySQL protocol, as an admin client sends them ("Command Phase" of its documentation).

local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local grammar = require "mysql-proxy.admin.grammar"
local login = require "mysql-proxy.admin.login"
local results = require "mysql-proxy.admin.results"
local statements = require "mysql-proxy.admin.statements"
local tables = require "mysql-proxy.admin.tables"
local values = require "mysql-proxy.admin.values"

local M = {}

local STATUS_AUTOCOMMIT = 2
local MOST_PREPARED = 100
local TYPE_STRING = 254

local function ok_packet(result)
  return proto.to_ok_packet {
    affected_rows = result and result.affected_rows, warnings = result and result.warnings and #result.warnings,
    server_status = STATUS_AUTOCOMMIT,
  }
end

local function refuse(session, errcode, sqlstate, text, ...)
  return session:answer(proto.to_err_packet { errcode = errcode, sqlstate = sqlstate, errmsg = text:format(...) })
end

local function write(session, result, binary)
  if not result.fields then
    return session.client:send(ok_packet(result), session.sequence)
  end
  local packets = results.packets(session, result, binary)
  return session.client:write(packets)
end

local function run(session, statement, parameters, binary)
  return session:run(function()
    return write(session, statements.run(session, statement, parameters), binary)
  end)
end

-- SQL -------------------------------------------------------------------------------------------------------------

local function query(session, text)
  local statement, err = grammar.parse(text)
  if statement and statement.parameters and #statement.parameters > 0 then
    err = grammar.misplaced(text, statement.parameters[1])
  end
  if err then
    return session:answer(proto.to_err_packet(err))
  end
  return run(session, statement, {})
end

-- A command that says the same as a statement.
local function like_statement(text)
  return function(session)
    return query(session, text)
  end
end

local handlers = {}

handlers[3] = function(session, payload) -- COM_QUERY
  return query(session, payload:sub(2))
end

handlers[10] = like_statement("SHOW PROCESSLIST") -- COM_PROCESS_INFO
handlers[8] = like_statement("SHUTDOWN") -- COM_SHUTDOWN

handlers[12] = function(session, payload) -- COM_PROCESS_KILL
  local one, two, three, four = payload:byte(2, 5)
  if not four then
    return refuse(session, 1835, "HY000", "Malformed communication packet.")
  end
  return query(session, ("KILL %.0f"):format(one + two * 256 + three * 65536 + four * 16777216))
end

-- Prepared statements ---------------------------------------------------------------------------------------------

local last_statement = 0

handlers[22] = function(session, payload) -- COM_STMT_PREPARE
  local statement, err = grammar.parse(payload:sub(2))
  if not statement then
    return session:answer(proto.to_err_packet(err))
  elseif (session.prepared or 0) >= MOST_PREPARED then
    return refuse(session, 1461, "42000",
      "Can't create more than max_prepared_stmt_count statements (current value: %d)", MOST_PREPARED)
  end
  session.prepared = (session.prepared or 0) + 1
  last_statement = last_statement % (2 ^ 32 - 1) + 1
  local parameters = #(statement.parameters or {})
  session.statements[last_statement] = { statement = statement, count = parameters }
  -- What columns there are is said with the rows, as servers do for SHOW.
  session.client:send(proto.to_stmt_prepare_ok_packet {
    stmt_id = last_statement, num_columns = 0, num_params = parameters,
  }, session.sequence)
  if parameters > 0 then
    local fields = {}
    for index = 1, parameters do
      fields[index] = { name = "?", type = TYPE_STRING }
    end
    session.client:write((resultset.to_definitions({ fields = fields, charset = session.CHARSET }, session.capabilities,
      (session.sequence + 1) % 256)))
  end
  return session:done()
end

local function prepared(session, payload)
  local ok, id = pcall(proto.stmt_id_from_stmt_packet, payload)
  return ok and session.statements[id], ok and id or 0
end

local function unknown_statement(session, id)
  return refuse(session, 1243, "HY000", "Unknown prepared statement handler (%.0f) given to EXECUTE", id)
end

handlers[23] = function(session, payload) -- COM_STMT_EXECUTE
  local known, id = prepared(session, payload)
  if not known then
    return unknown_statement(session, id)
  elseif known.long_data then
    return refuse(session, 1235, "42000", "The admin interface does not take parameters by COM_STMT_SEND_LONG_DATA")
  end
  local ok, decoded, types = pcall(proto.from_stmt_execute_packet, payload, known.count, known.types)
  if not ok then
    return refuse(session, 1835, "HY000", "Malformed communication packet: %s", tostring(decoded))
  end
  local parameters = {}
  known.types = types or known.types
  for index, place in ipairs(known.statement.parameters or {}) do
    parameters[place] = decoded.params and decoded.params[index].value
  end
  return run(session, known.statement, parameters, true)
end

handlers[24] = function(session, payload) -- COM_STMT_SEND_LONG_DATA, which has no answer
  local known = prepared(session, payload)
  if known then
    known.long_data = true
  end
  return session:done()
end

handlers[25] = function(session, payload) -- COM_STMT_CLOSE, which has none either
  local known, id = prepared(session, payload)
  if known then
    session.statements[id] = nil
    session.prepared = session.prepared - 1
  end
  return session:done()
end

handlers[26] = function(session, payload) -- COM_STMT_RESET
  local known, id = prepared(session, payload)
  if not known then
    return unknown_statement(session, id)
  end
  known.long_data = nil
  return session:answer(ok_packet())
end

-- The rest --------------------------------------------------------------------------------------------------------

handlers[1] = function(session) -- COM_QUIT
  return session:close()
end

handlers[2] = function(session, payload) -- COM_INIT_DB
  session.database = payload:sub(2)
  return session:answer(ok_packet())
end

handlers[4] = function(session, payload) -- COM_FIELD_LIST: a table, and a pattern of columns
  local name, pattern = payload:match("^.(%Z*)%z?(.*)$")
  local found = tables.find(nil, name)
  if not found then
    return refuse(session, 1146, "42S02", "Table '%s.%s' doesn't exist", tables.SCHEMA, name)
  end
  local fields = {}
  for _, column in ipairs(found.columns) do
    if pattern == "" or values.like(column[1], pattern) then
      fields[#fields + 1] = { name = column[1], type = results.TYPES[column[2]] }
    end
  end
  session.client:write((resultset.to_definitions({ fields = fields, charset = session.CHARSET, defaults = true },
    session.capabilities, session.sequence)))
  return session:done()
end

handlers[9] = function(session) -- COM_STATISTICS
  return session:run(function()
    return session.client:send(statements.statistics(session), session.sequence)
  end)
end

handlers[14] = function(session) -- COM_PING
  return session:answer(ok_packet())
end

handlers[17] = function(session, payload) -- COM_CHANGE_USER
  local ok, decoded = pcall(proto.from_change_user_packet, payload)
  if not ok then
    return refuse(session, 1047, "08S01", "Unknown command")
  end
  session.statements, session.prepared = {}, 0
  return login.begin(session, decoded, session.sequence - 1)
end

handlers[27] = function(session) -- COM_SET_OPTION: several statements at once, of which there are none here
  return session:answer(ok_packet())
end

handlers[31] = function(session) -- COM_RESET_CONNECTION
  session.statements, session.prepared = {}, 0
  return session:answer(ok_packet())
end

--- A command of the client's.
---@param session table
---@param payload string
function M.take(session, payload)
  local handler = handlers[payload:byte()]
  if #payload == 0 then
    return refuse(session, 1835, "HY000", "Malformed communication packet.")
  elseif session.admin.script then
    return session.admin.script:take(session, payload)
  elseif not handler then
    return refuse(session, 1047, "08S01", "Unknown command")
  end
  return handler(session, payload)
end

return M
