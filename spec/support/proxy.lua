-- The real program, started in front of a server. MYSQL_PROXY_BUILD names the build folder.

local uv = require "luv"

local process = require "spec.support.process"

local M = {}

local Proxy = {}
Proxy.__index = Proxy

M.build = os.getenv("MYSQL_PROXY_BUILD") or "build"

--- Whether the build has AddressSanitizer: then its memory figures say nothing.
function M.sanitized()
  return process.read_file(M.build .. "/CMakeCache.txt"):find("SANITIZE:BOOL=ON", 1, true) ~= nil
end

--- Starts it and waits until it accepts clients.
---@param backends (table|string)[] servers of spec.support.server, or addresses
---@param options? string[] more options
---@param folder? string where the program is, default the build folder
function M.start(backends, options, folder)
  local self = setmetatable({}, Proxy)
  self.port, self.read_only_port, self.admin_port = process.free_port(), process.free_port(), process.free_port()
  self.log_file = process.path("proxy.log")
  local args = {
    "--proxy-address=127.0.0.1:" .. self.port,
    "--proxy-read-only-address=127.0.0.1:" .. self.read_only_port,
    "--admin-address=127.0.0.1:" .. self.admin_port,
    "--log-level=debug",
    "--log-file=" .. self.log_file,
  }
  for _, backend in ipairs(backends) do
    local address = type(backend) == "string" and backend or backend.host .. ":" .. backend.port
    args[#args + 1] = "--proxy-backend-addresses=" .. address
  end
  for _, option in ipairs(options or {}) do
    args[#args + 1] = option
  end
  self.process = process.start((folder or M.build) .. "/mysql-proxy", args)
  self.pid = self.process.pid
  local ok = process.wait_until(function()
    return not self.process:running() or self:log():find("mysql%-proxy %S+ started")
  end, 20)
  assert(ok and self.process:running(), "the proxy did not start: " .. self.process:stderr())
  return self
end

function Proxy:log()
  return process.read_file(self.log_file)
end

--- Waits for a line of the log.
function Proxy:wait_for_log(pattern, seconds)
  return process.wait_until(function()
    return self:log():match(pattern)
  end, seconds or 10)
end

--- Resident memory in kB.
function Proxy:rss_kb()
  return tonumber(process.read_file(("/proc/%d/status"):format(self.pid)):match("VmRSS:%s*(%d+)"))
end

--- Open descriptors.
function Proxy:descriptors()
  local count, scan = 0, assert(uv.fs_scandir(("/proc/%d/fd"):format(self.pid)))
  while uv.fs_scandir_next(scan) do
    count = count + 1
  end
  return count
end

--- Ends it as an operator does. Raises an error if it then crashes or does not end, or a sanitizer has found something.
---@return integer exit status
function Proxy:stop()
  local program = self.process
  local ran = program:running()
  program:stop("sigterm", 20)
  if ran and program.signal ~= 0 or program.code == process.SANITIZER_STATUS then
    error(("the proxy ended with status %d, signal %d: %s"):format(program.code, program.signal, program:stderr()), 2)
  end
  return program.code
end

return M
