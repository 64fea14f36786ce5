-- Calls a script's functions for a session: each in a coroutine, so that it may wait without holding up others.
--
-- While a function runs, the global `proxy` is the session's view (mysql-proxy.scripting.view).

local uv = require "luv"

local M = {}

local SLOW_NS = 1e9 -- a call that holds up everybody for longer than this is logged

local WAITING = {} -- yielded by a function that waits; anything else that it yields is its own mistake
local running      -- the call whose function runs now

---@class Call a function of a script that has been called for a session
---@field session table
---@field name string of the hook
---@field done fun(session: table, result: any, failed: boolean|nil)
---@field coroutine thread
---@field timer userdata|nil while it waits: limits that
---@field cancel fun()|nil ends what it waits for
local Call = {}
Call.__index = Call

-- The last coroutine of a session serves its next call too: it runs one function after the other.
local function serve(fn, ...)
  local result = fn(...)
  return serve(coroutine.yield(nil, result))
end

local function traceback(thread, message)
  if type(message) ~= "string" then
    return "(null)"
  elseif message:find("attempt to yield across metamethod/C-call boundary", 1, true) then
    message = message .. ": a hook cannot wait inside of a metamethod, or a function that C calls (table.sort, gsub)"
  end
  return message, (debug.traceback(thread):gsub("^stack traceback:", ""))
end

function Call:finish(result, failed)
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  self.session.call = nil
  return self.done(self.session, result, failed)
end

function Call:fail(message, trace)
  local session = self.session
  session.proxy.log:critical(("(%s) %s"):format(self.name, message), trace)
  session.thread = nil
  return self:finish(nil, true)
end

function Call:resume(...)
  local session, thread = self.session, self.coroutine
  local outer, outer_view = running, rawget(_G, "proxy")
  running = self
  rawset(_G, "proxy", session.view)
  local began = uv.hrtime()
  local ok, waiting, result = coroutine.resume(thread, ...)
  local took = uv.hrtime() - began
  running = outer
  rawset(_G, "proxy", outer_view)
  if took > SLOW_NS then
    session.proxy.log:critical(("%s: slow hook: %s held up all sessions for %.2f seconds"):format(
      tostring(session), self.name, took / 1e9))
  end
  if not ok then
    return self:fail(traceback(thread, waiting))
  elseif waiting == WAITING then
    return
  elseif coroutine.status(thread) == "dead" or waiting ~= nil then
    return self:fail("a hook may not yield")
  end
  session.thread = thread
  return self:finish(result)
end

-- What a hook returns counts if it is a number, or a string that is one.
---@return integer|nil
function M.verdict(result)
  if type(result) == "number" or type(result) == "string" then
    result = tonumber(result)
    return result and (result >= 0 and math.floor(result) or math.ceil(result))
  end
  return nil
end

--- The session whose function runs now.
function M.session()
  return running and running.session
end

--- Calls a function of the session's script, if it has one of that name.
---@param session table with view and environment
---@param name string
---@param argument any
---@param done fun(session, result, failed) now or later, unless the session ends before
function M.call(session, name, argument, done)
  local fn = session.environment[name]
  if type(fn) ~= "function" then
    if fn ~= nil then
      session.proxy.log:message(("%s: %s is a %s instead of a function"):format(tostring(session), name, type(fn)))
    end
    return done(session, nil)
  end
  return M.run(session, name, done, fn, argument)
end

--- Runs any function as a script's.
function M.run(session, name, done, fn, ...)
  local thread = session.thread or coroutine.create(serve)
  session.thread = nil
  local call = setmetatable({ session = session, name = name, done = done, coroutine = thread }, Call)
  session.call = call
  return call:resume(fn, ...)
end

--- The session's function, if it waits, never goes on.
function M.cancel(session)
  local call = session.call
  if not call then
    return
  end
  session.call = nil
  if call.timer then
    call.timer:close()
    call.timer = nil
  end
  call.cancelled = true
  if call.cancel then
    call.cancel()
  end
end

--- For functions that a script calls: waits until `resume(...)` is called, and returns its arguments.
---@param start fun(resume: fun(...)): fun()|nil begins what is waited for; may return what ends it
---@return any ...
function M.wait(start)
  local call = running
  if not call or coroutine.running() ~= call.coroutine then
    error("only a hook of a script can wait, and only in its own coroutine", 2)
  elseif call.protected then
    error("a hook cannot wait inside of pcall under PUC Lua 5.1; under LuaJIT it can", 2)
  end
  local proxy = call.session.proxy
  local results, yielded, resumed
  local resume = proxy.log:guard(function(...)
    if call.cancelled or resumed then
      return
    end
    resumed = true
    if not yielded then
      results = { n = select("#", ...), ... }
      return
    end
    call.cancel = nil
    call.timer:stop()
    call:resume(...)
  end)
  call.cancel = start(resume)
  if results then
    call.cancel = nil
    return unpack(results, 1, results.n)
  end
  yielded = true
  call.timer = call.timer or uv.new_timer()
  call.timer:start(math.floor(proxy.hook_timeout * 1000), 0, proxy.log:guard(function()
    M.cancel(call.session)
    proxy.log:critical(("(%s) has waited for more than %g seconds"):format(call.name, proxy.hook_timeout))
    call.done(call.session, nil, true)
  end))
  return coroutine.yield(WAITING)
end

--- pcall and xpcall for scripts: a wait inside of them says why it cannot be. LuaJIT needs no such thing.
M.protected = {}

if not rawget(_G, "jit") then
  local function leave(call, before, ...)
    if call then
      call.protected = before
    end
    return ...
  end

  function M.protected.pcall(...)
    local call = running
    local before = call and call.protected
    if call then
      call.protected = true
    end
    return leave(call, before, pcall(...))
  end

  function M.protected.xpcall(...)
    local call = running
    local before = call and call.protected
    if call then
      call.protected = true
    end
    return leave(call, before, xpcall(...))
  end
end

return M
