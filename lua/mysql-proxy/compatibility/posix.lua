--- posix, as scripts know it: a few calls of the operating system.

local uv = require "luv"

local process = require "mysql-proxy.process"

local M = {
  getpid = uv.os_getpid,
  getuid = uv.getuid,
  getpwuid = process.account,
}

--- Sends a signal; 0 only asks whether the process is there.
---@param pid integer
---@param signal integer
---@return integer 0, or -1 if it cannot be sent
function M.kill(pid, signal)
  for position, argument in ipairs { pid or false, signal or false } do
    if not tonumber(argument) then
      error(("bad argument #%d to 'kill' (number expected, got %s)"):format(
        position, argument and type(argument) or "no value"), 2)
    end
  end
  return uv.kill(tonumber(pid), tonumber(signal)) and 0 or -1
end

rawset(_G, "posix", M)

return M
