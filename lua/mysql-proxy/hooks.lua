-- Calls a script's functions for a session: each in a coroutine, so that it may wait without holding up others.
--
-- While a function runs, the global `proxy` is the session's view (mysql-proxy.scripting.view).

local uv = require "luv"

local script = require "mysql-proxy.script"

local M = {
  TOP_LEVEL = "top level", -- what is called in the script's file itself
}

local SLOW_NS = 1e9 -- a call that holds up everybody for longer than this is logged

local G, hrtime, resume, yield = _G, uv.hrtime, coroutine.resume, coroutine.yield

-- What a session's coroutine yields; anything else that comes out of it is a script's mistake.
local WAITING = {} -- its function waits
local DONE = {}    -- its function has returned, this
local running      -- the call whose function runs now

---@class Call a function of a script that has been called for a session, which uses it again for the next
---@field session table
---@field name string of the hook
---@field done fun(session: table, result: any, failed: boolean|nil)
---@field coroutine thread|nil
---@field timer userdata|nil while it waits: limits that
---@field cancel fun()|nil ends what it waits for
local Call = {}
Call.__index = Call

-- The coroutine of a session serves one call after the other.
local function serve(fn, argument)
  return serve(yield(DONE, (fn(argument))))
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
  local session = self.session
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  session.call = nil
  return self.done(session, result, failed)
end

-- What it waits for, or began to wait for where it may not, is not waited for any more: the call cannot be used again.
function Call:abandon()
  local session, cancel = self.session, self.cancel
  self.cancelled, self.cancel = true, nil
  if session.own_call == self then
    session.own_call = nil
  end
  if cancel then
    session.proxy.log:guard(cancel)()
  end
end

function Call:fail(message, trace)
  if message == "not enough memory" then
    collectgarbage() -- what it has left behind may be what the others need
  end
  local proxy = self.session.proxy
  local path = proxy.lua_script
  message, trace = script.with_whole_path(message, path), trace and script.with_whole_path(trace, path)
  if self.name == M.TOP_LEVEL then
    proxy.log:critical(("(lua-error) [%s]"):format(path), message .. "\n" .. (trace or ""))
  else
    proxy.log:critical(("(%s) %s"):format(self.name, message), trace)
  end
  self:abandon()
  return self:finish(nil, true)
end

-- What has come of running its coroutine.
function Call:settle(ok, waiting, result)
  if not ok then
    return self:fail(traceback(self.coroutine, waiting))
  elseif waiting == WAITING then
    return
  elseif waiting ~= DONE then
    return self:fail("a hook may not yield")
  end
  return self:finish(result)
end

local function run(call, ...)
  local session, outer = call.session, running
  running, G.proxy = call, session.view
  local began = hrtime()
  local ok, waiting, result = resume(call.coroutine, ...)
  local took = hrtime() - began
  running, G.proxy = outer, outer and outer.session.view
  if took > SLOW_NS then
    session.proxy.log:critical(("%s: slow hook: %s held up all sessions for %.2f seconds"):format(
      tostring(session), call.name, took / 1e9))
  end
  return ok, waiting, result
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

local MEANINGS = { [0] = true, [1] = true, [2] = true, [4] = true } -- nothing decided, and the PROXY_* constants

--- Says in the log that a hook has returned a number without a meaning, which counts as nothing.
---@param verdict integer|nil
function M.note_unknown(session, hook, verdict)
  if verdict and not MEANINGS[verdict] then
    session.proxy.log:message(("%s: %s returned %.14g, which means nothing: it counts as nil"):format(
      tostring(session), hook, verdict))
  end
end

--- The session whose function runs now.
function M.session()
  return running and running.session
end

--- Runs any function as a script's.
---@param name string for the log
---@param fn function
---@param done fun(session, result, failed)
function M.run(session, name, fn, argument, done)
  local call = session.own_call
  if not call or session.call then
    call = setmetatable({ session = session }, Call)
    session.own_call = call
  end
  call.name, call.done = name, done
  call.coroutine = call.coroutine or coroutine.create(serve)
  session.call = call
  local ok, waiting, result = run(call, fn, argument)
  if ok and waiting == DONE then -- it has not waited: the common case
    session.call = nil
    return done(session, result)
  end
  return call:settle(ok, waiting, result)
end

-- What the log says of a hook's name that is something else's.
local function no_function(session, name, value)
  local kind = type(value)
  if name == "read_query_result" then
    kind = "(network_mysqld_con_handle_proxy_resultset) got wrong type: " .. kind
  end
  session.proxy.log:message(("%s: %s is no function: %s"):format(tostring(session), name, kind))
end

--- Calls a function of the session's script, if it has one of that name.
---@param session table with view and environment
---@param name string
---@param argument any
---@param done fun(session, result, failed) now or later, unless the session ends before
function M.call(session, name, argument, done)
  local fn = session.environment[name]
  if fn == nil then
    return done(session, nil)
  elseif type(fn) ~= "function" then
    no_function(session, name, fn)
    return done(session, nil)
  end
  return M.run(session, name, fn, argument, done)
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
  call:abandon()
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
  local results, yielded, called
  local go_on = proxy.log:guard(function(...)
    if call.cancelled or called then
      return
    end
    called = true
    if not yielded then
      results = { n = select("#", ...), ... }
      return
    end
    call.cancel = nil
    call.timer:stop()
    call:settle(run(call, ...))
  end)
  call.cancel = start(go_on)
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
  return yield(WAITING)
end

--- What scripts have instead of Lua's own. PUC Lua: pcall and xpcall, as a wait inside of them has to say why it cannot
--- be. LuaJIT: debug.sethook, as its hooks would be called for the whole process.
M.protected = {}

if rawget(_G, "jit") then
  M.protected.debug = setmetatable({
    sethook = function()
      error("a script cannot set a debug hook under LuaJIT, which has one for all sessions", 2)
    end,
  }, { __index = debug })
else
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
