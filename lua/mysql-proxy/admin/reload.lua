-- RELOAD: the script, and the defaults file.

local errors = require "mysql-proxy.admin.errors"
local options = require "mysql-proxy.admin.options"
local script = require "mysql-proxy.script"

local M = {}

local READ_AT_START = 1238

local function log(session, text, ...)
  session.admin.proxy.log:critical(("admin interface: %s has %s"):format(session:who(), text:format(...)))
end

local function fail(session, path, message)
  log(session, "not reloaded %s: %s", path, message)
  errors.raise(1105, "HY000", "%s", message)
end

-- path: nil for no script
local function check_script(session, path)
  if path then
    local ok, message = script.check(path, session.admin.proxy.log)
    if not ok then
      fail(session, path, message)
    end
  end
end

-- All of it is looked at before the first option is set.
local function reload_file(session)
  local proxy = session.admin.proxy
  local settings, changed = proxy.read_options()
  if not settings then
    fail(session, proxy.options.defaults_file, changed)
  end
  check_script(session, settings.proxy_lua_script)
  log(session, "reloaded %s", proxy.options.defaults_file)
  options.take(proxy, session, settings)
  local warnings = {}
  for _, text in ipairs(settings.warnings) do
    warnings[#warnings + 1] = { "Warning", 1193, text }
  end
  for _, name in ipairs(changed) do
    if not options.is_changeable((name:gsub("-", "_"))) then
      warnings[#warnings + 1] = { "Warning", READ_AT_START,
        ("%s is looked at when the program starts: it is as before until RESTART"):format(name) }
    end
  end
  for _, warning in ipairs(warnings) do
    proxy.log:warning(warning[3])
  end
  return { warnings = warnings }
end

local function reload_script(session)
  local path = session.admin.proxy.lua_script
  check_script(session, path)
  log(session, "reloaded %s", path)
  return {}
end

--- Runs RELOAD.
---@param statement { what: string|nil } "script", "defaults file" or "certificates"; nil: all that there is
function M.run(session, statement)
  local proxy, what = session.admin.proxy, statement.what
  local has_file, has_script = proxy.read_options and proxy.options.defaults_file, proxy.lua_script
  if what == "certificates" then
    errors.raise(1235, "42000", "There are no certificates to reload: the proxy does not terminate TLS")
  elseif what == "defaults file" and not has_file then
    errors.raise(1105, "HY000", "There is no defaults file to reload: none was given with --defaults-file")
  elseif what == "script" and not has_script then
    errors.raise(1105, "HY000", "There is no script to reload: none was given with --proxy-lua-script")
  elseif not has_file and not has_script then
    errors.raise(1105, "HY000", "There is nothing to reload: neither --proxy-lua-script nor --defaults-file was given")
  elseif has_file and what ~= "script" then
    return reload_file(session)
  end
  return reload_script(session)
end

return M
