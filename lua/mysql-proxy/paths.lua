--- Where relative file names begin, and where modules are looked for.

local lfs = require("lfs")
local process = require("mysql-proxy.process")

local paths = {}

local SCRIPTS = { "proxy_lua_script", "admin_lua_script" }
local FILES = { "log_file", "pid_file", "slow_query_log", "plugin_dir", "proxy_lua_config_folder" }

-- The parent of the program's folder.
local function default_base()
  local program = process.program() or ""
  return program:match("^(.*)/[^/]+/[^/]+$") or "/"
end

--- Makes the file names of settings absolute, as a daemon changes to the folder /. They begin in --basedir. Without
--- it they begin in the current folder; a script that is not there, in the parent of the program's folder.
---@param settings table as options.parse returns them; gets basedir
---@param current string? the current folder
function paths.resolve(settings, current)
  local base = settings.basedir
  current = current or assert(process.current_folder())
  settings.basedir = base or default_base()
  local function resolve(key, find)
    local path = settings[key]
    if path and path:sub(1, 1) ~= "/" then
      settings[key] = find(path)
    end
  end
  for _, key in ipairs(FILES) do
    resolve(key, function(path)
      return (base or current) .. "/" .. path
    end)
  end
  resolve("defaults_file", function(path)
    return current .. "/" .. path -- --basedir may stand in it
  end)
  for _, key in ipairs(SCRIPTS) do
    resolve(key, function(path)
      if not base and lfs.attributes(current .. "/" .. path, "mode") then
        return current .. "/" .. path
      end
      return settings.basedir .. "/" .. path
    end)
  end
end

local function is_set(variable)
  return (os.getenv(variable) or "") ~= ""
end

--- Lets require() find modules of --lua-path, else of LUA_PATH, else of --basedir; and those that belong to the program
--- in any case. C modules likewise.
---@param settings table before paths.resolve
function paths.set_module_paths(settings)
  local base = settings.basedir
  local path = settings.lua_path or not is_set("LUA_PATH") and base and base .. "/lib/mysql-proxy/lua/?.lua"
  local cpath = settings.lua_cpath or not is_set("LUA_CPATH") and base and base .. "/lib/mysql-proxy/lua/?.so"
  package.path = path and path .. ";" .. package.path or package.path
  package.cpath = cpath and cpath .. ";" .. package.cpath or package.cpath
end

return paths
