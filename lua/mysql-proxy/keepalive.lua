--- --keepalive: the process that was started, the "angel", has a worker do the work, and starts another if a signal has
--- killed it. Knows no luv, whose loop does not survive a fork.

local lfs = require("lfs")

local process = require("mysql-proxy.process")

local keepalive = {}

local RESTART_PAUSE = 2 -- seconds
local PAUSING = " ... waiting 3min before restart" -- known by these words; it is RESTART_PAUSE
local ENDING = { TERM = true, INT = true }

---@class mysql_proxy.angel
---@field settings table
---@field log mysql_proxy.log
---@field worker integer? process id
---@field ending boolean? it was told to end
local Angel = {}
Angel.__index = Angel

function Angel:take_signal(name)
  self.ending = self.ending or ENDING[name]
  if self.worker then
    process.send_signal(self.worker, name)
  end
end

-- Waits for the worker's end. -> "exited" or "killed", status or signal, kB
function Angel:watch()
  while true do
    local name = process.next_signal()
    if name == "CHLD" then
      local how, number, size = process.reap(self.worker)
      if how then
        return how, number, size
      end
    elseif name then
      self:take_signal(name)
    end
  end
end

function Angel:pause()
  local seconds_end = os.time() + RESTART_PAUSE
  repeat
    local left = seconds_end - os.time()
    local name = process.next_signal(math.max(left, 0))
    if name and name ~= "CHLD" then
      self:take_signal(name)
    end
  until self.ending or left <= 0
end

-- A worker that was killed could not do that.
function Angel:remove_pid_file(worker)
  local path = self.settings.pid_file
  local file = path and lfs.attributes(path, "mode") == "file" and io.open(path)
  if file then
    local pid = file:read("*a")
    file:close()
    if pid == tostring(worker) then
      os.remove(path)
    end
  end
end

function Angel:write(text, ...)
  self.log:reopen() -- the worker does that on SIGHUP, and is the one to make the file: it may be another user
  self.log:critical(("[angel] PID=%d " .. text):format(...))
end

-- The worker has ended: -> exit status of the angel | nil if there is to be another worker
function Angel:judge(worker, how, number, size)
  if how == "exited" then
    self:write("exited normally with exit-code = %d (it used %d kBytes max)", worker, number, size)
    return number
  end
  local restart = process.worker_was_ready() and not self.ending -- else it would do so again
  self:write("died on signal=%d (it used %d kBytes max)" .. (restart and PAUSING or ""), worker, number, size)
  if restart then
    self:pause()
    if not self.ending then
      return nil
    end
  elseif not self.ending then
    local message = ("mysql-proxy: the worker died on signal %d before it was ready"):format(number)
    if self.settings.daemon then
      process.failed(message)
    else
      io.stderr:write(message, "\n")
    end
  end
  self:remove_pid_file(worker)
  return restart and 0 or 1
end

--- Forks. In the worker it returns nothing: the caller goes on to do the work. In the angel it returns when all is
--- over.
---@param settings table of options.parse, with the log
---@return integer? status the exit status of the angel
---@return string? message why no worker could be started
function keepalive.run(settings)
  local angel = setmetatable({ settings = settings, log = settings.log }, Angel)
  while true do
    local worker, message = process.fork_worker()
    if worker == 0 then
      return nil
    elseif not worker then
      return 1, message
    end
    angel.worker = worker
    if settings.inherited then
      settings.inherited:leave()
      settings.inherited, settings.inherited_sockets = nil, nil
    end
    settings.log:critical(("[angel] we try to keep PID=%d alive"):format(worker))
    if settings.daemon then
      process.detach(settings.log.to_stderr)
    end
    local how, number, size = angel:watch()
    angel.worker = nil
    local status = angel:judge(worker, how, number, size)
    if status then
      return status
    end
    settings.daemon = nil -- the shell that started it has had its answer
  end
end

return keepalive
