-- The constants of the `proxy` table.

local process = require "mysql-proxy.process"

local M = {
  PROXY_SEND_QUERY = 1, PROXY_SEND_RESULT = 2, PROXY_IGNORE_RESULT = 4,
  MYSQLD_PACKET_OK = 0, MYSQLD_PACKET_RAW = 250, MYSQLD_PACKET_NULL = 251, MYSQLD_PACKET_EOF = 254,
  MYSQLD_PACKET_ERR = 255,
  BACKEND_STATE_UNKNOWN = 0, BACKEND_STATE_UP = 1, BACKEND_STATE_DOWN = 2,
  BACKEND_TYPE_UNKNOWN = 0, BACKEND_TYPE_RW = 1, BACKEND_TYPE_RO = 2,
}

local commands = {
  [0] = "SLEEP", "QUIT", "INIT_DB", "QUERY", "FIELD_LIST", "CREATE_DB", "DROP_DB", "REFRESH", "SHUTDOWN", "STATISTICS",
  "PROCESS_INFO", "CONNECT", "PROCESS_KILL", "DEBUG", "PING", "TIME", "DELAYED_INSERT", "CHANGE_USER", "BINLOG_DUMP",
  "TABLE_DUMP", "CONNECT_OUT", "REGISTER_SLAVE", "STMT_PREPARE", "STMT_EXECUTE", "STMT_SEND_LONG_DATA", "STMT_CLOSE",
  "STMT_RESET", "SET_OPTION", "STMT_FETCH", "DAEMON",
}
for value, name in pairs(commands) do
  M["COM_" .. name] = value
end

local types = {
  [0] = "DECIMAL", "TINY", "SHORT", "LONG", "FLOAT", "DOUBLE", "NULL", "TIMESTAMP", "LONGLONG", "INT24", "DATE", "TIME",
  "DATETIME", "YEAR", "NEWDATE", "VARCHAR", "BIT",
  [246] = "NEWDECIMAL", [247] = "ENUM", [248] = "SET", [249] = "TINY_BLOB", [250] = "MEDIUM_BLOB", [251] = "LONG_BLOB",
  [252] = "BLOB", [253] = "VAR_STRING", [254] = "STRING", [255] = "GEOMETRY",
}
for value, name in pairs(types) do
  M["MYSQL_TYPE_" .. name] = value
end

-- A hex digit pair for each part: 0.8.5 is 0x00805.
local major, minor, patch = process.version:match("^(%d+)%.(%d+)%.(%d+)")
M.PROXY_VERSION = major * 65536 + minor * 256 + patch

return M
