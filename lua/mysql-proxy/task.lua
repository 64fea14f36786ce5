-- Work that takes long or has to wait, in a coroutine. It pauses after 2 ms, so that others get on. While clients talk
-- to servers all tasks together get a twentieth of the time, once they have used up what is always free.
--
-- What is short comes first: each task gets one slice when it begins, and those that need more are served one after the
-- other, as what a task has half done takes memory.

local uv = require "luv"

local stream = require "mysql.stream"

local M = {}

local SLICE_NS = 2e6
local SHARE, FREE_NS = 0.05, 20e6
local QUIET_NS = 10e6 -- the clients say nothing for so long: all time is free
local MOST_MS = 10    -- until the next look whether they do

-- Functions that wait for their turn: at `first` and behind it.
local beginning, going_on = { first = 1, last = 0 }, { first = 1, last = 0 }
local timer
local credit, seen_at, relayed, busy_at = FREE_NS, 0, 0, 0

local function put_first(list, turn)
  list.first = list.first - 1
  list[list.first] = turn
end

local function put_last(list, turn)
  list.last = list.last + 1
  list[list.last] = turn
end

local function take_first(list)
  local turn = list[list.first]
  if turn then
    list[list.first] = nil
    list.first = list.first + 1
  end
  return turn
end

local function earn()
  local now, count = uv.hrtime(), stream.relayed()
  if count ~= relayed then
    relayed, busy_at = count, now
  end
  credit = now - busy_at > QUIET_NS and FREE_NS or math.min(FREE_NS, credit + (now - seen_at) * SHARE)
  seen_at = now
end

local function nobody_waits()
  return not beginning[beginning.first] and not going_on[going_on.first]
end

local arrange

local function run_next()
  earn()
  local turn = credit >= 0 and (take_first(beginning) or take_first(going_on))
  if turn then
    turn()
  end
  return arrange()
end

-- A timer, and not of 0 ms: libuv runs one that is started by its own callback at once, before anything else.
function arrange()
  timer = timer or uv.new_timer()
  if nobody_waits() then
    timer:close()
    timer = nil
  elseif not timer:is_active() then
    timer:start(math.max(1, math.min(MOST_MS, math.ceil(-credit / SHARE / 1e6))), 0, run_next)
  end
end

---@class Task
local Task = {}
Task.__index = Task

--- A task that has not begun.
---@param log table
---@param work fun(task: Task)
---@param ended fun(failure: any) when work has returned (nil), or raised an error
---@return Task
function M.new(log, work, ended)
  return setmetatable({ log = log, ended = ended, coroutine = coroutine.create(work) }, Task)
end

-- Yielded by what pauses.
local PAUSE = {}

function Task:run(...)
  if self.over then
    return
  end
  self.began = uv.hrtime()
  local ok, result = coroutine.resume(self.coroutine, ...)
  credit = credit - (uv.hrtime() - self.began)
  if self.over then
    return -- cancelled by what it did
  elseif ok and result == PAUSE then
    local put = self.paused and put_first or put_last
    self.paused = true
    put(going_on, self.log:guard(function()
      return self:run()
    end))
    return arrange()
  elseif ok and coroutine.status(self.coroutine) == "suspended" then
    return result(self.log:guard(function(...)
      return self:go_on(...)
    end))
  end
  self:cancel()
  return self.ended(not ok and (result or "nil") or nil)
end

--- Begins, at once if it may.
function Task:start()
  earn()
  if credit >= 0 and nobody_waits() then
    return self:run(self)
  end
  put_last(beginning, self.log:guard(function()
    return self:run(self)
  end))
  return arrange()
end

-- What it has waited for has come.
function Task:go_on(...)
  earn()
  if credit >= 0 and nobody_waits() then
    return self:run(...)
  end
  local count, arguments = select("#", ...), { ... }
  put_first(going_on, self.log:guard(function()
    return self:run(unpack(arguments, 1, count))
  end))
  return arrange()
end

--- It does not go on when what it waits for has come, and ended() is not called.
function Task:cancel()
  self.over = true
end

--- Within the work: waits until `start(resume)` has called resume(...), and returns its arguments.
function Task.wait(_, start)
  return coroutine.yield(start)
end

--- Within the work: lets others get on, if it is time.
function Task:pause()
  if uv.hrtime() - self.began >= SLICE_NS then
    coroutine.yield(PAUSE)
  end
end

return M
