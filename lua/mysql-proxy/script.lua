-- A script's file: compiled once for each version of it, run anew for each connection in an environment of its own.

local uv = require "luv"

local M = {}

-- What a client is told, and the text for the log.
M.LOAD_FAILED = "MySQL Proxy Lua script failed to load. Check the error log."
M.EXECUTE_FAILED = "MySQL Proxy Lua script failed to execute. Check the error log."

-- path -> { version, code, chunk }. A chunk has one environment: while one runs, which may wait, others get their own.
local compiled = {}
local handed_out = setmetatable({}, { __mode = "k" }) -- chunk -> what it is of
local statuses = {} -- path -> what the admin interface shows of it

local function version_of(stat)
  return ("%d.%d %d %d"):format(stat.mtime.sec, stat.mtime.nsec, stat.size, stat.ino)
end

local ESCAPE = 27 -- what compiled Lua begins with

--- A script's text, without a first line for the shell. Compiled Lua is refused: the interpreter believes whatever it
--- says, and it is of one interpreter only. So is what is no regular file, as to open or to read it may take for ever.
---@param path string
---@return string|nil text
---@return string|nil message
function M.read(path)
  local stat = uv.fs_stat(path)
  if stat and stat.type ~= "file" then
    return nil, ("%s is no regular file (%s)"):format(path, stat.type)
  end
  local file, message = io.open(path, "rb")
  if not file then
    return nil, message
  end
  local text = file:read("*a")
  file:close()
  if not text then
    return nil, path .. " cannot be read"
  elseif text:byte() == ESCAPE then
    return nil, path .. " is compiled Lua, a script has to be Lua's source text"
  end
  return (text:gsub("^#[^\n]*", ""))
end

local function compile(path)
  local text, message = M.read(path)
  if not text then
    return nil, message
  end
  return loadstring(text, path)
end

--- A message of Lua's about a script, with its whole path, of which Lua keeps some 50 characters: `[string "PATH..."]`.
---@param text string
---@param path string
---@return string
function M.with_whole_path(text, path)
  return (text:gsub('%[string "([^\n"]+)%.%.%."%]', function(start)
    return path:sub(1, #start) == start and ('[string "%s"]'):format(path) or nil
  end))
end

local function hand_out(known, path)
  local chunk = known.chunk or loadstring(known.code, path)
  known.chunk, handed_out[chunk] = nil, known
  return chunk
end

--- The chunk has run to its end, and may be run for others.
---@param chunk function from M.load
function M.release(chunk)
  local known = handed_out[chunk]
  known.chunk, handed_out[chunk] = setfenv(chunk, _G), nil -- the environment is of no more use
end

--- What has become of a file so far.
---@param path string
---@return { version: integer, loaded_at: integer|nil, failure: string|nil, failed_at: integer|nil } version: how often
---  it has been compiled; times are those of os.time
function M.status(path)
  statuses[path] = statuses[path] or { version = 0 }
  return statuses[path]
end

local function load(path, log)
  local stat, message = uv.fs_stat(path)
  if not stat then
    local reason = message:find("^ENOENT") and "No such file or directory (2)" or message
    return nil, ("lua_load_file(%s) failed: stat(%s) failed: %s"):format(path, path, reason)
  end
  local version, known = version_of(stat), compiled[path]
  if known and known.version == version then
    return hand_out(known, path)
  end
  local chunk
  chunk, message = compile(path)
  if not chunk then
    if known then
      log:warning(("reloading '%s' failed"):format(path))
    end
    return nil, ("lua_load_file(%s) failed: %s"):format(path, M.with_whole_path(message, path))
  end
  compiled[path] = { version = version, code = string.dump(chunk), chunk = chunk }
  local status = M.status(path)
  status.version, status.loaded_at = status.version + 1, os.time()
  return hand_out(compiled[path], path)
end

--- The compiled file, as it is now.
---@param path string
---@param log table gets a line when a changed file does not compile
---@return function|nil chunk
---@return string|nil message
function M.load(path, log)
  local chunk, message = load(path, log)
  if not chunk then
    local status = M.status(path)
    status.failure, status.failed_at = message, os.time()
  end
  return chunk, message
end

--- Compiles the file, if it has changed, without running it.
---@param path string
---@param log table
---@return boolean ok
---@return string|nil message
function M.check(path, log)
  local chunk, message = M.load(path, log)
  if chunk then
    M.release(chunk)
  end
  return chunk ~= nil, message
end

local environments = { __index = _G }

--- A new environment for a connection: what is global in the script is the connection's own.
function M.environment()
  return setmetatable({}, environments)
end

return M
