-- Options of the proxy, as variables: what they are now, and which can be changed while it runs.

local errors = require "mysql-proxy.admin.errors"
local logs = require "mysql-proxy.log"
local script = require "mysql-proxy.script"
local values = require "mysql-proxy.admin.values"

local M = {}

local MOST = 2147483647

local function bad(name, value)
  errors.raise(1231, "42000", "Variable '%s' can't be set to the value of '%s'", name,
    value == nil and "NULL" or values.text(value))
end

-- What a value has to be -> function(name, value), the value as it is kept.
local readers = {}

function readers.level(name, value)
  local level = type(value) == "string" and value:lower()
  return level and logs.is_level(level) and level or bad(name, value)
end

local FLAGS = { ["0"] = false, ["1"] = true, off = false, on = true, ["false"] = false, ["true"] = true }

function readers.flag(name, value)
  local flag = FLAGS[value ~= nil and values.text(value):lower()]
  if flag == nil then
    bad(name, value)
  end
  return flag
end

local function number_from(least, whole)
  return function(name, value)
    local number = tonumber(value)
    if not number or number < least or number > MOST or whole and number % 1 ~= 0 then
      bad(name, value)
    end
    return number
  end
end

readers.seconds = number_from(0.001)
readers.seconds_or_none = number_from(0)
readers.count = number_from(0, true)
readers.bytes = number_from(1, true)

function readers.script(name, value)
  if value == nil or value == "" then
    return nil
  elseif type(value) ~= "string" or value:sub(1, 1) ~= "/" then
    errors.raise(1231, "42000", "Variable '%s' has to be an absolute path, or NULL for no script", name)
  end
  return value
end

-- name -> what it has to be, get(proxy), set(proxy, value)
local changeable = {}

local function field(name, reader, key)
  changeable[name] = { read = readers[reader], get = function(proxy)
    return proxy[key]
  end, set = function(proxy, value)
    proxy[key] = value
  end }
end

local function relay_field(name, reader, key)
  changeable[name] = { read = readers[reader], get = function(proxy)
    return proxy.relay_options[key]
  end, set = function(proxy, value)
    proxy.relay_options[key] = value
  end }
end

field("proxy_connect_timeout", "seconds", "connect_timeout")
field("proxy_hook_timeout", "seconds", "hook_timeout")
field("max_connections", "count", "max_connections")
relay_field("proxy_read_timeout", "seconds", "read_timeout")
relay_field("proxy_write_timeout", "seconds", "write_timeout")
relay_field("proxy_command_limit", "bytes", "command_limit")
relay_field("proxy_answer_limit", "bytes", "answer_limit")

changeable.slow_query_time = { read = readers.seconds_or_none, get = function(proxy)
  return proxy.slow_query_time
end, set = function(proxy, seconds)
  if not proxy.slow_query_time then
    errors.raise(1105, "HY000", "There is no slow log: --slow-query-log was not given at the start")
  end
  proxy.slow_query_time = seconds
end }

changeable.proxy_profiling = { read = readers.flag, get = function(proxy)
  return proxy.profiling
end, set = function(proxy, profiling)
  if proxy.slow_query_time and not profiling then
    errors.raise(1105, "HY000", "The slow log needs what proxy_profiling = OFF leaves out")
  end
  proxy:set_profiling(profiling)
end }

changeable.log_level = { read = readers.level, get = function(proxy)
  return proxy.log.level
end, set = function(proxy, level)
  proxy.log:set_level(level)
end }

changeable.proxy_lua_script = { read = readers.script, get = function(proxy)
  return proxy.lua_script
end, set = function(proxy, path)
  local ok, message = true, nil
  if path then
    ok, message = script.check(path, proxy.log)
  end
  if not ok then
    errors.raise(1105, "HY000", "%s", message)
  end
  proxy:use_script(path)
end }

local function shown(value)
  if type(value) == "boolean" then
    return value and "ON" or "OFF"
  elseif type(value) == "table" then
    return type(value[1]) == "string" and table.concat(value, ",") or nil
  end
  return value
end

local function quoted(value)
  return value == nil and "NULL" or ("'%s'"):format(values.text(shown(value)))
end

-- Passwords are nobody's business, and some keys are only for the program.
local function is_secret(name)
  return name:find("password", 1, true) or name:find("_given$") or name == "proxy_lua_script_name"
    or name == "idle_ports"
end

--- All options by name, as they are now. nil is left out.
---@param proxy Proxy
---@return table<string, string|number>
function M.all(proxy)
  local all = {}
  for name, value in pairs(proxy.options) do
    if not is_secret(name) then
      all[name] = shown(value)
    end
  end
  for name, option in pairs(changeable) do
    all[name] = shown(option.get(proxy)) or ""
  end
  return all
end

--- Whether an option can be changed while the proxy runs.
---@param name string with underscores
function M.is_changeable(name)
  return changeable[name] ~= nil or name == "proxy_skip_profiling"
end

--- Whether there is an option of this name.
function M.has(proxy, name)
  return changeable[name] ~= nil or M.all(proxy)[name] ~= nil
end

--- Changes an option of this process, or raises an error.
---@param proxy Proxy
---@param name string
---@param value any as its reader has made it
function M.write(proxy, name, value)
  changeable[name].set(proxy, value)
end

-- Of all processes.
local function write_all(proxy, session, name, value)
  local option = changeable[name]
  local before = option.get(proxy)
  proxy.processes:order(session, "set_option", name, value)
  proxy.log:critical(("admin interface: %s has set %s from %s to %s"):format(session:who(), name, quoted(before),
    quoted(option.get(proxy))))
end

--- All that can be changed become what they would be after a start with these settings.
---@param proxy Proxy
---@param session table who does it
---@param settings table of mysql-proxy.options; its script has been looked at
function M.take(proxy, session, settings)
  for name, option in pairs(changeable) do
    local value = settings[name]
    if name == "proxy_profiling" then
      value = proxy.slow_query_time ~= nil or not settings.proxy_skip_profiling
    elseif name == "slow_query_time" and not (value and proxy.slow_query_time) then
      value = proxy.slow_query_time -- the log itself comes and goes with a start
    end
    if value ~= option.get(proxy) then
      write_all(proxy, session, name, value)
    end
  end
end

--- Changes an option, or raises an error.
---@param proxy Proxy
---@param session table who does it
---@param name string with underscores
---@param value string|number|nil
function M.set(proxy, session, name, value)
  local option = changeable[name]
  if not option then
    errors.raise(1238, "HY000", "Variable '%s' is a read only variable", name)
  end
  return write_all(proxy, session, name, option.read(name, value))
end

return M
