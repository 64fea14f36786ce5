-- How the proxy was started and what has been changed since.

local backends = require "mysql-proxy.backends"
local logs = require "mysql-proxy.log"
local options = require "mysql-proxy.admin.options"
local variables = require "mysql-proxy.admin.variables"

local function when(time)
  return time and os.date("%Y-%m-%d %H:%M:%S", time)
end

local function proxy_config(admin)
  local proxy, rows = admin.proxy, {}
  local function add(option, value)
    rows[#rows + 1] = { option, value, option = option }
  end
  add("admin.address", table.concat(proxy.options.admin_address, ","))
  add("proxy.address", table.concat(proxy.options.proxy_address or { "127.0.0.1:4040" }, ","))
  local script_name = proxy.lua_script
  if script_name and script_name == proxy.options.proxy_lua_script then
    script_name = proxy.options.proxy_lua_script_name or script_name
  end
  add("proxy.lua_script", script_name)
  local function add_backends(name, type)
    local count = 0
    for _, backend in ipairs(proxy.backends:present()) do
      if backend.type == type then
        add(("%s[%d]"):format(name, count), backend.address)
        count = count + 1
      end
    end
  end
  add_backends("proxy.backend_addresses", backends.READ_WRITE)
  add_backends("proxy.read_only_backend_addresses", backends.READ_ONLY)
  add("proxy.fix_bug_25371", proxy.options.proxy_fix_bug_25371 and "1" or "0")
  add("proxy.profiling", proxy.profiling and "1" or "0")
  return rows
end

local function loaded_script(admin, session)
  local rows = {}
  for number, each in ipairs(admin.proxy.processes:records(session, "script")) do
    rows[number] = { each.path, each.version, when(each.loaded_at), each.failure, when(each.failed_at) }
  end
  return rows
end

return {
  {
    name = "proxy_config", comment = "options, as the manual of MySQL Proxy 0.5 has them",
    columns = { { "option", "STRING", "name" }, { "value", "STRING", "as given" } },
    rows = proxy_config,
    update = {
      value = { write = function(admin, session, row, value)
        options.set(admin.proxy, session, (row.option:gsub("%.", "_")), value)
      end },
    },
  },
  {
    name = "variables", comment = "all options, and what clients expect of a server",
    columns = { { "Variable_name", "STRING", "as for SET and @@" }, { "Value", "STRING", "at present" } },
    rows = function(admin, session)
      return variables.rows(admin, session)
    end,
  },
  {
    name = "script", comment = "the script of --proxy-lua-script",
    columns = {
      { "file", "STRING", "its path" },
      { "version", "LONG", "how often it has been compiled" },
      { "loaded_at", "STRING", "when that was the last time" },
      { "last_error", "STRING", "why it could not be loaded the last time" },
      { "last_error_at", "STRING", "when that was" },
    },
    rows = loaded_script,
  },
  {
    name = "log_levels", comment = "what is written to the log: SET log_level changes it",
    columns = { { "level", "STRING", "the most important first" }, { "written", "LONG", "1 if it is" } },
    rows = function(admin)
      local rows = {}
      for index, level in ipairs(logs.LEVELS) do
        rows[index] = { level, admin.proxy.log:enabled(level) and 1 or 0 }
      end
      return rows
    end,
  },
}
