--- glib2, as scripts know it: a clock, a pause, MD5.

local uv = require "luv"

local password = require "mysql.password"

local M = {}

--- Pauses the whole proxy: all sessions wait. A script of today uses proxy.async.sleep().
---@param microseconds number rounded up to milliseconds
function M.usleep(microseconds)
  local count = tonumber(microseconds)
    or error(("bad argument #1 to 'usleep' (number expected, got %s)"):format(type(microseconds)), 2)
  uv.sleep(math.max(0, math.ceil(count / 1000)))
end

--- The MD5 digest.
---@param text string
---@return string 32 hexadecimal digits
function M.md5(text)
  return (password.md5(text):gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

--- The time of day.
---@return { tv_sec: integer, tv_usec: integer }
function M.get_current_time()
  local seconds, microseconds = uv.gettimeofday()
  return { tv_sec = seconds, tv_usec = microseconds }
end

rawset(_G, "glib2", M)

return M
