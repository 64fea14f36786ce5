--- Starts another process of this program that inherits sockets: after SIGUSR2, and as a worker.

local uv = require("luv")

local inheritance = require("mysql-proxy.inheritance")

local successor = {}

local MOST_KEPT = 16 * 1024 -- bytes of what it says while it starts

---@class mysql_proxy.successor
---@field pid integer
---@field ready boolean? it has said so
local Successor = {}
Successor.__index = Successor

-- This process's environment, and what the new one inherits.
local function environment(text, more)
  local values, variables = uv.os_environ(), {}
  for name, value in pairs(more or {}) do
    values[name] = value
  end
  values[inheritance.VARIABLE] = text
  for name, value in pairs(values) do
    variables[#variables + 1] = name .. "=" .. value
  end
  return variables
end

-- -> list of descriptors for the new process, which has them as 0, 1, 2, ...; and what it is told of them
local function layout(start, report)
  local stdio = { 0, 1, report, 2, report }
  local numbers, sockets = { stderr = 3, report = 4, worker = start.worker }, {}
  if start.channel then
    stdio[#stdio + 1] = start.channel
    numbers.channel = #stdio - 1
  end
  for index, socket in ipairs(start.sockets) do
    stdio[#stdio + 1] = socket.descriptor
    sockets[index] = { address = socket.address, option = socket.option, descriptor = #stdio - 1 }
  end
  return stdio, inheritance.describe(numbers, sockets)
end

function Successor:hear(text)
  self.said = (self.said .. text):sub(-MOST_KEPT)
  local before = self.said:match("^(.*)" .. "%z")
  if before then
    self.ready = true
    io.stderr:write(before) -- lines of its log, while that had to come here
    self:stop_hearing()
    self.events.ready()
  end
end

function Successor:stop_hearing()
  if not self.pipe:is_closing() then
    self.pipe:close()
  end
end

-- It is known how it ended, and nothing more can come from it.
function Successor:judge()
  if self.ready or not self.outcome or not self.pipe:is_closing() then
    return
  end
  self.events.failed(("%s before it was ready"):format(self.outcome), self.said:match("^(.-)%s*$"))
end

function Successor:end_of(code, signal)
  self.outcome = signal ~= 0 and ("died on signal %d"):format(signal) or ("ended with status %d"):format(code)
  self.handle:close()
  if self.ready then
    self.events.ended(self.outcome)
  end
  self:judge()
end

---@param signal string such as "sigterm"
function Successor:kill(signal)
  if not self.outcome then
    self.handle:kill(signal)
  end
end

--- Starts it.
---@param start table program, args: as uv.spawn has them; folder: which it is to start in, if it may; environment: more
---       variables; sockets: as Proxy:sockets() returns them; worker: its number, if it is to be one: it gets a process
---       group of its own; channel: a worker's end of a socket; guard: what callbacks are wrapped in
---@param events table ready(); failed(message, said): it ended before it was ready, and what it said on standard error;
---       ended(message): afterwards
---@return mysql_proxy.successor?
---@return string? message why it could not be started
function successor.start(start, events)
  local ends, message = uv.pipe({ nonblock = true })
  if not ends then
    return nil, message
  end
  local self = setmetatable({ events = events, said = "", pipe = uv.new_pipe(false) }, Successor)
  self.pipe:open(ends.read)
  local stdio, text = layout(start, ends.write)
  self.handle, self.pid = uv.spawn(start.program, {
    args = start.args,
    cwd = start.folder and uv.fs_access(start.folder, "X") and start.folder or nil,
    env = environment(text, start.environment),
    stdio = stdio,
    detached = start.worker ~= nil, -- a terminal's Ctrl-C is for the supervisor
  }, start.guard(function(code, signal)
    self:end_of(code, signal)
  end))
  uv.fs_close(ends.write)
  if not self.handle then
    self.pipe:close()
    return nil, ("starting %s failed: %s"):format(start.program, self.pid)
  end
  self.pipe:read_start(start.guard(function(_, data)
    if data then
      return self:hear(data)
    end
    self:stop_hearing()
    self:judge()
  end))
  return self
end

return successor
