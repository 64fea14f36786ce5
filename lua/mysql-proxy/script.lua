-- A script's file: compiled once for each version of it, run anew for each connection in an environment of its own.

local uv = require "luv"

local M = {}

-- What a client is told, and the text for the log.
M.LOAD_FAILED = "MySQL Proxy Lua script failed to load. Check the error log."
M.EXECUTE_FAILED = "MySQL Proxy Lua script failed to execute. Check the error log."

local compiled = {} -- path -> { version, chunk }

local function version_of(stat)
  return ("%d.%d %d %d"):format(stat.mtime.sec, stat.mtime.nsec, stat.size, stat.ino)
end

local function compile(path)
  local file, message = io.open(path, "rb")
  if not file then
    return nil, message
  end
  local text = file:read("*a")
  file:close()
  if not text then
    return nil, path .. " cannot be read"
  end
  return loadstring(text:gsub("^#[^\n]*", ""), path)
end

--- The compiled file, as it is now.
---@param path string
---@param log table gets a line when a changed file does not compile
---@return function|nil chunk
---@return string|nil message
function M.load(path, log)
  local stat, message = uv.fs_stat(path)
  if not stat then
    local reason = message:find("^ENOENT") and "No such file or directory (2)" or message
    return nil, ("lua_load_file(%s) failed: stat(%s) failed: %s"):format(path, path, reason)
  end
  local version, known = version_of(stat), compiled[path]
  if known and known.version == version then
    return known.chunk
  end
  local chunk
  chunk, message = compile(path)
  if not chunk then
    if known then
      log:warning(("reloading '%s' failed"):format(path))
    end
    return nil, ("lua_load_file(%s) failed: %s"):format(path, message)
  end
  compiled[path] = { version = version, chunk = chunk }
  return chunk
end

local environments = { __index = _G }

--- A new environment for a connection: what is global in the script is the connection's own.
function M.environment()
  return setmetatable({}, environments)
end

return M
