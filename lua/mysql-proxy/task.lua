-- Work that takes long or has to wait, in a coroutine: it pauses after 2 ms, so that others get on.

local uv = require "luv"

local M = {}

local SLICE_NS = 2e6

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

-- The coroutine yields a function that is to call another one when it may go on.
function Task:go_on(...)
  if self.over then
    return
  end
  self.began = uv.hrtime()
  local ok, result = coroutine.resume(self.coroutine, ...)
  if self.over then
    return -- cancelled by what it did
  elseif ok and coroutine.status(self.coroutine) == "suspended" then
    return result(self.log:guard(function(...)
      return self:go_on(...)
    end))
  end
  self:cancel()
  return self.ended(not ok and (result or "nil") or nil)
end

--- Begins.
function Task:start()
  return self:go_on(self)
end

--- It does not go on when what it waits for has come, and ended() is not called.
function Task:cancel()
  self.over = true
  if self.idle then
    self.idle:close()
    self.idle = nil
  end
end

--- Within the work: waits until `start(resume)` has called resume(...), and returns its arguments.
function Task.wait(_, start)
  return coroutine.yield(start)
end

--- Within the work: lets others get on, if it is time.
function Task:pause()
  if uv.hrtime() - self.began < SLICE_NS then
    return
  end
  -- No timer of 0 ms: libuv runs one that is started by its own callback at once, before anything else.
  coroutine.yield(function(resume)
    local idle = self.idle or uv.new_idle()
    self.idle = idle
    idle:start(function()
      idle:stop()
      resume()
    end)
  end)
end

return M
