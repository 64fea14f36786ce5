--- What one process of this program is started with by another: a successor by its predecessor (SIGUSR2), a worker by
--- its supervisor (--workers). Knows no luv: it is read before the process may fork.
--
-- Until it is ready, a process that was started so has a pipe to the other as standard error: whatever goes wrong, and
-- be it that a library is missing, the other is told. A variable of the environment says what else is there, in lines:
--
--   stderr 3                    what standard error is afterwards
--   report 4                    the pipe again: a zero byte says that the process is ready
--   channel 5                   a worker's socket to its supervisor; that it closes says that the supervisor is gone
--   worker 2                    the worker's number
--   socket 6 127.0.0.1:4040     a listening socket and which address of the options it is
--   socket 7 admin_address      one that a service manager had opened (service.lua), and which option it stands for

local process = require("mysql-proxy.process")

local OPTIONS = { "proxy_address", "proxy_read_only_address", "admin_address" }

local inheritance = { VARIABLE = "MYSQL_PROXY_INHERITED", READY = "\0" }

---@class mysql_proxy.inheritance
---@field stderr integer?
---@field report integer?
---@field channel integer?
---@field worker integer?
---@field sockets table<string, integer[]> descriptors by address
local Inheritance = {}
Inheritance.__index = Inheritance

--- Says so in the environment of a process that is about to be started.
---@param numbers table<string, integer> stderr, report, channel, worker
---@param sockets table[] as Proxy:sockets() returns them, with the descriptors of the new process
---@return string
function inheritance.describe(numbers, sockets)
  local lines = {}
  for name, number in pairs(numbers) do
    lines[#lines + 1] = ("%s %d"):format(name, number)
  end
  for _, socket in ipairs(sockets) do
    lines[#lines + 1] = ("socket %d %s"):format(socket.descriptor, socket.address or socket.option)
  end
  return table.concat(lines, "\n")
end

--- What this process was started with.
---@return mysql_proxy.inheritance? inherited nil if it was started by somebody else
---@return string? message the first mistake
function inheritance.take()
  local text = os.getenv(inheritance.VARIABLE) or ""
  if text == "" then
    return nil
  end
  local self = setmetatable({ sockets = {} }, Inheritance)
  for line in text:gmatch("[^\n]+") do
    local name, digits, address = line:match("^(%a+) (%d+) ?(.*)$")
    local number = tonumber(digits)
    if not number or (name == "socket") ~= (address ~= "") then
      return nil, ("%s has a line that cannot be understood: %s"):format(inheritance.VARIABLE, line)
    end
    if name ~= "worker" then
      local ok, message = process.keep_descriptor(number)
      if not ok then
        return nil, ("%s: %s"):format(inheritance.VARIABLE, message)
      end
    end
    if name == "socket" then
      self.sockets[address] = self.sockets[address] or {}
      table.insert(self.sockets[address], number)
    else
      self[name] = number
    end
  end
  return self
end

--- Has the proxy listen on the sockets, as far as settings still name their addresses.
---@param settings table as options.parse returns them; gets inherited_sockets
function Inheritance:give_sockets(settings)
  for _, option in ipairs(OPTIONS) do
    local descriptors = self.sockets[option]
    if descriptors and #settings[option] > 0 then
      settings[option], settings[option .. "_given"] = descriptors, true
      self.sockets[option] = nil
    end
  end
  settings.inherited_sockets = self.sockets
end

--- Standard error is what it is to be from now on.
function Inheritance:restore_stderr()
  if self.stderr then
    process.replace_stderr(self.stderr)
    self.stderr = nil
  end
end

--- The process is ready: the one that started it is told. Sockets that nobody has taken are closed.
function Inheritance:ready()
  self:close_sockets()
  if self.report then
    process.write_descriptor(self.report, inheritance.READY) -- if it is gone there is nobody to tell
    process.close_descriptor(self.report)
    self.report = nil
  end
end

function Inheritance:close_sockets()
  for _, descriptors in pairs(self.sockets) do
    for _, descriptor in ipairs(descriptors) do
      process.close_descriptor(descriptor)
    end
  end
  self.sockets = {}
end

--- A child process has all of it.
function Inheritance:leave()
  self:restore_stderr()
  self:close_sockets()
  if self.report then
    process.close_descriptor(self.report)
    self.report = nil
  end
end

return inheritance
