-- System variables: the proxy's options, and those of a server that clients ask for or set when they connect.

local errors = require "mysql-proxy.admin.errors"
local options = require "mysql-proxy.admin.options"
local uv = require "luv"
local values = require "mysql-proxy.admin.values"

local M = {}

-- What clients are told of a server that is as plain as can be.
local SERVERS = {
  auto_increment_increment = 1, autocommit = 1, character_set_client = "utf8mb4",
  character_set_connection = "utf8mb4", character_set_database = "utf8mb4", character_set_results = "utf8mb4",
  character_set_server = "utf8mb4", character_set_system = "utf8mb4", collation_connection = "utf8mb4_general_ci",
  collation_database = "utf8mb4_general_ci", collation_server = "utf8mb4_general_ci", have_openssl = "DISABLED",
  have_ssl = "DISABLED", init_connect = "", interactive_timeout = 28800, license = "MIT",
  lower_case_file_system = "OFF", lower_case_table_names = 2, max_allowed_packet = 16777216,
  net_buffer_length = 16384, net_read_timeout = 30, net_write_timeout = 60, performance_schema = "OFF",
  protocol_version = 10, query_cache_size = 0, query_cache_type = "OFF", session_track_schema = 0,
  session_track_system_variables = "", sql_mode = "STRICT_TRANS_TABLES", sql_auto_is_null = 0,
  sql_select_limit = "18446744073709551615", system_time_zone = "UTC", time_zone = "SYSTEM",
  transaction_isolation = "REPEATABLE-READ", transaction_read_only = 0, tx_isolation = "REPEATABLE-READ",
  tx_read_only = 0, version_comment = "mysql-proxy admin", version_compile_machine = uv.os_uname().machine,
  version_compile_os = uv.os_uname().sysname, wait_timeout = 28800,
}

-- What clients set, and nothing comes of it.
local SETTABLE = {
  names = true, transaction = true, foreign_key_checks = true, unique_checks = true, sql_safe_updates = true,
  sql_quote_show_create = true, sql_notes = true, sql_warnings = true, sql_log_bin = true, sql_big_selects = true,
  group_concat_max_len = true, lc_messages = true, lc_time_names = true, max_execution_time = true,
  max_statement_time = true, max_join_size = true, net_read_timeout = true, net_write_timeout = true,
  optimizer_switch = true, profiling = true, session_track_gtids = true, session_track_state_change = true,
  session_track_transaction_info = true, innodb_lock_wait_timeout = true, lock_wait_timeout = true,
  default_storage_engine = true, resultset_metadata = true, information_schema_stats_expiry = true,
}
for _, name in ipairs {
  "autocommit", "character_set_client", "character_set_connection", "character_set_results", "collation_connection",
  "interactive_timeout", "session_track_schema", "session_track_system_variables", "sql_auto_is_null", "sql_mode",
  "sql_select_limit", "time_zone", "transaction_isolation", "transaction_read_only", "tx_isolation", "tx_read_only",
  "wait_timeout", "character_set_server", "collation_server",
} do
  SETTABLE[name] = true
end

local function all(session)
  local list = options.all(session.admin.proxy)
  for name, value in pairs(SERVERS) do
    list[name] = value
  end
  list.version = session.admin.version
  list.hostname = uv.os_gethostname()
  list.pid = uv.os_getpid()
  return list
end

--- A variable, or error 1193.
---@return string|number|nil
function M.get(session, name)
  local value = all(session)[name]
  if value == nil then
    errors.raise(1193, "HY000", "Unknown system variable '%s'", name)
  end
  return value
end

--- Rows of SHOW VARIABLES.
function M.rows(_, session)
  local rows = {}
  for name, value in pairs(all(session)) do
    rows[#rows + 1] = { name, type(value) == "number" and values.text(value) or value }
  end
  table.sort(rows, function(a, b)
    return a[1] < b[1]
  end)
  return rows
end

--- SET of one variable.
---@param value string|number|nil
function M.set(session, name, value)
  local proxy = session.admin.proxy
  if name:sub(1, 1) == "@" or SETTABLE[name] then
    return
  elseif options.has(proxy, name) then
    return options.set(proxy, session, name, value)
  elseif SERVERS[name] ~= nil or name == "version" or name == "hostname" then
    errors.raise(1238, "HY000", "Variable '%s' is a read only variable", name)
  end
  errors.raise(1193, "HY000", "Unknown system variable '%s'", name)
end

return M
