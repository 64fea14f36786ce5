--- --workers: the process that was started, the supervisor, holds the listening sockets and has worker processes accept
--- at them. It stands in for a proxy (mysql-proxy.init), as far as mysql-proxy.main needs one.
--
-- All workers accept at the same sockets. With a socket for each (SO_REUSEPORT) the kernel would deal clients out by a
-- hash of their address, and those that wait for a worker that dies would be lost.

local uv = require("luv")

local fleet = require("mysql-proxy.workers.fleet")
local mysql_proxy = require("mysql-proxy")
local process = require("mysql-proxy.process")
local successor = require("mysql-proxy.successor")

local FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10 -- seconds before a worker is replaced, doubled each time
local STEADY = 10 -- seconds after which a worker's end is not that of the one before it

local workers = {}

---@class mysql_proxy.workers
---@field request_shutdown fun()? a worker has ended as if all were to end
---@field request_restart fun(done: fun(ok: true?, message: string?))?
---@field read_options fun()? of mysql-proxy.reread
---@field proxy Proxy with the ports of operators; those of clients are there for the workers
---@field fleet Fleet
local Workers = {}
Workers.__index = Workers

--- A supervisor that does not listen yet.
---@param settings table of options.parse, with the log and the command
---@return mysql_proxy.workers?
---@return string? message
function workers.new(settings)
  local options = { idle_ports = true }
  for name, value in pairs(settings) do -- a copy, as operators look at all of them
    options[name] = value
  end
  local proxy, message = mysql_proxy.new(options)
  if not proxy then
    return nil, message
  end
  local self = setmetatable({ settings = settings, log = settings.log, proxy = proxy, slots = {} }, Workers)
  self.fleet = fleet.new(proxy, settings.workers)
  -- By an operator:
  proxy.request_shutdown = function()
    self.request_shutdown()
  end
  proxy.request_restart = function(done)
    self.request_restart(done)
  end
  proxy.read_options = function()
    return self.read_options()
  end
  for number = 1, settings.workers do
    self.slots[number] = { number = number, pause = FIRST_PAUSE }
  end
  return self
end

---@param callback fun(ok: true|nil, message: string|nil)
function Workers:listen(callback)
  self.proxy:listen(callback)
end

function Workers:sockets()
  return self.proxy:sockets()
end

-- A socket between the supervisor and a worker. -> the worker's end | nil, message
function Workers:open_channel(number)
  local ends, message = uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true })
  local ok
  if ends then
    ok, message = self.fleet:add(number, ends[1])
  end
  if ends and not ok then
    uv.fs_close(ends[2])
  end
  return ok and ends[2], message
end

-- Starts the worker of a slot; started(message) is called when it is ready, or not without a message.
function Workers:start_worker(slot, started)
  local command = self.settings.command
  slot.started_at = uv.now()
  local channel, message = self:open_channel(slot.number)
  if not channel then
    return started(message)
  end
  slot.worker, message = successor.start({
    program = process.program(),
    args = command.args,
    folder = command.folder,
    sockets = self.proxy:sockets(true),
    worker = slot.number,
    channel = channel,
    guard = function(callback)
      return self.log:guard(callback)
    end,
  }, {
    ready = function()
      self.log:message(("worker %d (PID=%d) started"):format(slot.number, slot.worker.pid))
      self.fleet:is_ready(slot.number)
      started()
    end,
    failed = function(outcome, said)
      local text = ("worker %d (PID=%d) %s"):format(slot.number, slot.worker.pid, outcome)
      self:lost(slot)
      started(said ~= "" and text .. ": " .. said or text)
    end,
    ended = function(outcome)
      self:ended(slot, outcome)
    end,
  })
  uv.fs_close(channel)
  if not slot.worker then
    self.fleet:lose(slot.number)
    started(message)
  end
end

--- Starts the workers, after listen().
---@param callback fun(ok: true|nil, message: string|nil) when all are ready, or the first has failed
function Workers:start(callback)
  local waiting = #self.slots
  for _, slot in ipairs(self.slots) do
    self:start_worker(slot, function(message)
      waiting = waiting - 1
      if message and waiting >= 0 then
        waiting = -1
        callback(nil, message)
      elseif waiting == 0 then
        callback(true)
      end
    end)
  end
end

function Workers:lost(slot)
  slot.worker = nil
  self.fleet:lose(slot.number)
  if self.ending then
    self:end_if_alone()
  end
end

function Workers:ended(slot, outcome)
  local text = ("worker %d (PID=%d) %s"):format(slot.number, slot.worker.pid, outcome)
  self:lost(slot)
  if self.ending then
    return self.log:message(text)
  elseif outcome == "ended with status 0" then -- a script or an operator told it to
    self.log:critical(text)
    return self.request_shutdown()
  end
  if uv.now() - slot.started_at > STEADY * 1000 then
    slot.pause = FIRST_PAUSE
  end
  self:replace(slot, text)
end

function Workers:replace(slot, text)
  self.log:critical(("%s; another is started in %.1f seconds"):format(text, slot.pause))
  slot.timer = uv.new_timer()
  slot.timer:start(math.floor(slot.pause * 1000), 0, self.log:guard(function()
    slot.timer:close()
    slot.timer = nil
    self:start_worker(slot, function(message)
      if message and not self.ending then
        self:replace(slot, message)
      end
    end)
  end))
  slot.pause = math.min(slot.pause * 2, LONGEST_PAUSE)
end

function Workers:end_if_alone()
  for _, slot in ipairs(self.slots) do
    if slot.worker then
      return
    end
  end
  local callback = self.on_end
  self.on_end = nil
  if callback then
    callback()
  end
end

---@param signal string such as "sighup"
function Workers:signal(signal)
  for _, slot in ipairs(self.slots) do
    if slot.worker then
      slot.worker:kill(signal)
    end
  end
end

-- No worker is replaced any more.
function Workers:stop(signal, callback)
  self.ending = true
  self.on_end = callback or self.on_end
  for _, slot in ipairs(self.slots) do
    if slot.timer then
      slot.timer:close()
      slot.timer = nil
    end
  end
  self:signal(signal)
  self:end_if_alone()
end

--- Each worker lets running commands end, within its --shutdown-timeout.
---@param _ number
---@param callback fun() when all have ended
function Workers:shutdown(_, callback)
  self.proxy:close()
  self:stop("sigterm", callback)
end

--- Workers that are ending end at once; shutdown()'s callback is still to come.
function Workers:close()
  self.proxy:close()
  self:stop("sigint") -- another signal: two of the same may arrive as one
end

--- Stops listening: another supervisor goes on at the same sockets. Each worker ends when its last client has left.
---@param callback fun() when all have ended
function Workers:hand_over(callback)
  self.proxy.leaves_socket_files = true
  self.proxy:stop_listening()
  self:stop("sigusr2", callback)
end

return workers
