--- What a client's command packet says.

local proto = require "mysql.proto"

local COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST, COM_CREATE_DB, COM_DROP_DB = 1, 2, 3, 4, 5, 6
local COM_SHUTDOWN, COM_PING, COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID = 8, 14, 18, 30
local COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_CLOSE, COM_SET_OPTION = 22, 23, 25, 27

local NAMES = {
  [0] = "COM_SLEEP", "COM_QUIT", "COM_INIT_DB", "COM_QUERY", "COM_FIELD_LIST", "COM_CREATE_DB", "COM_DROP_DB",
  "COM_REFRESH", "COM_SHUTDOWN", "COM_STATISTICS", "COM_PROCESS_INFO", "COM_CONNECT", "COM_PROCESS_KILL", "COM_DEBUG",
  "COM_PING", "COM_TIME", "COM_DELAYED_INSERT", "COM_CHANGE_USER", "COM_BINLOG_DUMP", "COM_TABLE_DUMP",
  "COM_CONNECT_OUT", "COM_REGISTER_SLAVE", "COM_STMT_PREPARE", "COM_STMT_EXECUTE", "COM_STMT_SEND_LONG_DATA",
  "COM_STMT_CLOSE", "COM_STMT_RESET", "COM_SET_OPTION", "COM_STMT_FETCH", "COM_DAEMON",
  "COM_BINLOG_DUMP", -- scripts know no COM_BINLOG_DUMP_GTID
}

local function nothing() end

local function rest_as(key)
  return function(cmd, packet)
    cmd[key] = packet:sub(2)
  end
end

-- Absent if the packet is cut: that is for the server to refuse.
local function execute(cmd, packet)
  local ok, id = pcall(proto.stmt_id_from_stmt_execute_packet, packet)
  cmd.stmt_handler_id = ok and id or nil
end

local function close(cmd, packet)
  local ok, decoded = pcall(proto.from_stmt_close_packet, packet)
  cmd.stmt_handler_id = ok and decoded.stmt_id or nil
end

local PARSERS = {
  [COM_QUERY] = rest_as "query",
  [COM_STMT_PREPARE] = rest_as "query",
  [COM_STMT_EXECUTE] = execute,
  [COM_STMT_CLOSE] = close,
  [COM_FIELD_LIST] = rest_as "table",
  [COM_INIT_DB] = rest_as "schema",
  [COM_CREATE_DB] = rest_as "schema",
  [COM_DROP_DB] = rest_as "schema",
  [COM_SET_OPTION] = rest_as "option",
  [COM_QUIT] = nothing,
  [COM_PING] = nothing,
  [COM_SHUTDOWN] = nothing,
  [COM_BINLOG_DUMP] = nothing,
  [COM_BINLOG_DUMP_GTID] = nothing,
}

-- What pretty_print() appends to the name: a key, or nothing.
local PRINTED = {
  [COM_QUERY] = "query",
  [COM_STMT_PREPARE] = "query",
  [COM_INIT_DB] = "schema",
  [COM_STMT_EXECUTE] = "stmt_handler_id",
  [COM_QUIT] = false,
  [COM_PING] = false,
  [COM_SHUTDOWN] = false,
  [COM_FIELD_LIST] = false,
}

local M = {}

--- Takes a command apart.
---@param packet string its payload
---@return table cmd type, type_name (nil for an unknown command), and what the command has of: query, stmt_handler_id,
---        table, schema, option
function M.parse(packet)
  local cmd = { type = packet:byte() }
  cmd.type_name = NAMES[cmd.type]
  local parser = PARSERS[cmd.type]
  if parser then
    parser(cmd, packet)
  else
    print(("[debug] (command) unhandled type name:%s byte:%s"):format(tostring(cmd.type_name), tostring(cmd.type)))
  end
  return cmd
end

--- A line about a command.
---@param cmd table of parse()
---@return string
function M.pretty_print(cmd)
  local key = PRINTED[cmd.type]
  if key then
    return ("[%s] %s"):format(cmd.type_name, tostring(cmd[key]))
  elseif key == false then
    return ("[%s]"):format(cmd.type_name)
  end
  return ("[%s] ... no idea"):format(tostring(cmd.type_name))
end

return M
