-- Calls a script's functions for a session: in coroutines, so that each may wait without holding up others.
-- read_query and read_query_result are called by the relay, in C (csrc/relay_script.c), and settled here if they do
-- not return at once.

local uv = require "luv"

local script = require "mysql-proxy.script"

local M = {
  TOP_LEVEL = "top level", -- what is called in the script's file itself
}

M.NAMES = {
  M.TOP_LEVEL, "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query", "read_query_result",
  "disconnect_client",
}

-- What a function's coroutine yields if it waits; anything else is a script's mistake.
local WAITING = {}

-- Runs them, those of a relay too. A call is known by its number for as long as it is used.
local functions = require("mysql.hook").new()
local calls, last = setmetatable({}, { __mode = "v" }), 0

local function running_call()
  return calls[functions:running()]
end

---@class Call a function of a script that has been called for a session, which uses it again for the next
---@field number integer
---@field session table
---@field name string|nil of the function, and
---@field done fun(session: table, result: any, failed: boolean|nil)|nil unless it has finished at once
---@field coroutine thread|nil its own, once it waits
---@field timer userdata|nil while it waits: limits that
---@field cancel fun()|nil ends what it waits for
local Call = {}
Call.__index = Call

-- The session has not had a call yet, or needs its own for something else.
local function new_call(session)
  last = last + 1
  local call = setmetatable({ number = last, session = session }, Call)
  session.own_call, calls[last] = call, call
  if session.relay then
    session.relay:serve(call, call.number)
  end
  return call
end

-- The session needs another for its next function.
local function give_away(call)
  local session = call.session
  if session.own_call == call then
    session.own_call = nil
    M.take_from_relay(session)
  end
end

local jit = rawget(_G, "jit") ~= nil

local CANNOT_WAIT = jit and "a hook cannot wait inside of a function that C calls (table.sort, gsub)"
  or "a hook cannot wait inside of a metamethod, the iterator of a `for`, or a function that C calls (table.sort, gsub)"

local function traceback(thread, message)
  if type(message) ~= "string" then
    message = "(null)"
  elseif message:find("attempt to yield across [%a/-]+ boundary") then
    message = ("%s: %s"):format(message, CANNOT_WAIT)
  end
  return message, (debug.traceback(thread):gsub("^stack traceback:", ""))
end

function Call:finish(result, failed)
  local session = self.session
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  session.call = false
  return self.done(session, result, failed)
end

-- What it waits for, or began to wait for where it may not, is not waited for any more: the call cannot be used again.
function Call:abandon()
  local cancel = self.cancel
  self.cancelled, self.cancel = true, nil
  give_away(self)
  if cancel then
    self.session.proxy.log:guard(cancel)()
  end
end

local function count_error(session, hook)
  local errors = session.proxy.totals.hook_errors
  errors[hook] = (errors[hook] or 0) + 1
end

-- What it waits for is not waited for any more.
function Call:stop()
  if self.timer then
    self.timer:close()
    self.timer = nil
  end
  self:abandon()
end

function Call:fail(message, trace)
  if message == "not enough memory" then
    collectgarbage() -- what it has left behind may be what the others need
  end
  count_error(self.session, self.name)
  local proxy = self.session.proxy
  local path = proxy.lua_script
  message, trace = script.with_whole_path(message, path), trace and script.with_whole_path(trace, path)
  proxy.statistics:hook_failed(self.name, message)
  if self.name == M.TOP_LEVEL then
    proxy.log:critical(("(lua-error) [%s]"):format(path), message .. "\n" .. (trace or ""), self.session)
  else
    proxy.log:critical(("(%s) %s"):format(self.name, message), trace, self.session)
  end
  self:abandon()
  return self:finish(nil, true)
end

-- A hook's name is that of something else.
function Call:skip(value)
  local session, kind = self.session, type(value)
  if self.name == "read_query_result" then
    kind = "(network_mysqld_con_handle_proxy_resultset) got wrong type: " .. kind
  end
  session.proxy.log:about(session, "message", ("%s is no function: %s"):format(self.name, kind))
  self:abandon()
  return self:finish(nil)
end

-- What has come of running it, other than that it has returned at once.
function Call:settle(status, value, coroutine)
  if status == "failed" then
    return self:fail(traceback(coroutine, value))
  elseif status == "done" then
    return self:finish(value)
  elseif value ~= WAITING then
    return self:fail("a hook may not yield")
  elseif self.cancelled then -- its session has ended in it: it can run the loop
    return self:stop()
  end
  self.coroutine = coroutine
  give_away(self)
end

local function go_on(call, ...)
  return call:settle(functions:resume(call.number, call.coroutine, ...))
end

local VERDICTS = { [1] = 1, [2] = 2, [4] = 4 } -- PROXY_SEND_QUERY, PROXY_SEND_RESULT, PROXY_IGNORE_RESULT

-- What a hook returns counts if it is a number, or a string that is one.
---@return integer|nil
function M.verdict(result)
  if VERDICTS[result] then
    return result
  elseif type(result) == "number" or type(result) == "string" then
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
    session.proxy.log:about(session, "message",
      ("%s returned %.14g, which means nothing: it counts as nil"):format(hook, verdict))
  end
end

--- The session whose function runs now.
function M.session()
  local call = running_call()
  return call and call.session
end

--- Runs any function as a script's.
---@param name string for the log
---@param fn function
---@param argument any
---@param done fun(session, result, failed) called later if the function waits or has failed, unless the session ends
---@return boolean finished
---@return any result if it has finished at once, which is the common case: done is not called then
function M.run(session, name, fn, argument, done)
  local call = session.own_call
  if not call or functions:runs(call.number) then
    call = new_call(session)
  end
  session.call = call
  if type(fn) ~= "function" then -- also if it could be called
    call.name, call.done = name, done
    call:skip(fn)
    return false
  end
  local status, value, coroutine = functions:call(call.number, fn, argument)
  if status == "done" then
    session.call = false
    return true, value
  end
  call.name, call.done = name, done
  call:settle(status, value, coroutine)
  return false
end

--- Goes on with what the relay has begun. The session may have ended meanwhile: a hook can run the loop.
---@param call Call
---@param status "waits"|"failed"
---@param value any
---@param coroutine thread
---@param done fun(session, result, failed)
function M.settle(call, name, status, value, coroutine, done)
  local session = call.session
  call.name, call.done = name, done
  if session.state ~= "close" then
    session.call = call
    return call:settle(status, value, coroutine)
  end
  call.done = function() end
  if status == "waits" then
    return call:stop()
  end
  return call:settle(status, value, coroutine)
end

--- From here on the session's relay calls read_query and read_query_result.
function M.give_to_relay(session)
  session.relay:script(session.environment, session.view, session.queue, session.injection, functions)
  new_call(session)
end

--- And from here on its owner has to.
function M.take_from_relay(session)
  if session.relay then
    session.relay:serve(nil)
  end
end

local function index(environment, name)
  return environment[name]
end

--- The function of that name of a session's script, or what it has in its place. A name that it has not defined itself
--- may be looked up by a metamethod of the script's. If that fails, as it does where a script has undeclared names
--- reported, there is none.
---@param session table with environment
---@param name string
---@return any
function M.find(session, name)
  local environment = session.environment
  local hook = rawget(environment, name)
  if hook ~= nil then
    return hook
  end
  local ok, found = pcall(index, environment, name)
  if ok then
    return found
  end
  session.proxy.log:about(session, "debug", ("%s cannot be looked up: %s"):format(name,
    type(found) == "string" and found or "(null)"))
  return nil
end

--- Calls a function of the session's script, if it has one of that name; else that is finished with nil.
---@param session table with view and environment
---@param name string
---@param argument any
---@param done fun(session, result, failed)
---@return boolean finished
---@return any result
function M.call(session, name, argument, done)
  local fn = M.find(session, name)
  if fn == nil then
    return true, nil
  end
  return M.run(session, name, fn, argument, done)
end

--- The session's function, if it waits, never goes on.
function M.cancel(session)
  local call = session.call
  if not call then
    return
  end
  session.call = false
  call:stop()
end

-- The level of who has called a function that ends with calling this one: to PUC Lua a tail call is one too.
local CALLER = jit and 2 or 3

--- For functions that a script calls, which end with this: waits until `resume(...)` is called, and returns its
--- arguments.
---@param start fun(resume: fun(...)): fun()|nil begins what is waited for; may return what ends it
---@return any ...
function M.wait(start)
  local call = running_call()
  if not call or not functions:can_wait() then
    error("only a hook of a script can wait, and only in its own coroutine", CALLER)
  elseif call.protected then
    error("a hook cannot wait inside of pcall under PUC Lua 5.1; under LuaJIT it can", CALLER)
  end
  local proxy = call.session.proxy
  local results, yielded, called
  local resumed = proxy.log:guard(function(...)
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
    go_on(call, ...)
  end)
  uv.update_time() -- it may have computed for long, and a time is counted from here on
  call.cancel = start(resumed)
  if results then
    call.cancel = nil
    return unpack(results, 1, results.n)
  end
  yielded = true
  call.timer = call.timer or uv.new_timer()
  call.timer:start(math.floor(proxy.hook_timeout * 1000), 0, proxy.log:guard(function()
    M.cancel(call.session)
    count_error(call.session, call.name)
    proxy.log:about(call.session, "critical",
      ("(%s) has waited for more than %g seconds"):format(call.name, proxy.hook_timeout))
    call.done(call.session, nil, true)
  end))
  return coroutine.yield(WAITING)
end

-- The session, by its number, whose script has made a table with module().
local maker = setmetatable({}, { __mode = "k" })

-- A module that a script of another session has made is not to be found.
local function forget(name)
  local found, parent, key = package.loaded[name], _G, nil
  for part in name:gmatch("[^.]+") do
    if key then
      parent = type(parent) == "table" and rawget(parent, key)
    end
    key = part
  end
  if type(parent) == "table" and rawget(parent, key) == found then
    rawset(parent, key, nil)
  end
  package.loaded[name] = nil
end

local module = module

-- Becomes a function of the module as it calls this: no globals are there.
local function make_module(...)
  module(...)
end

--- What scripts have instead of Lua's own. module: a file is run for each connection, which has its own module then;
--- package.loaded and _G have the newest. PUC Lua: pcall and xpcall, as a wait inside of them has to say why it cannot
--- be. LuaJIT: debug.sethook, as its hooks would be called for the whole process; under PUC Lua one is gone when the
--- function of the script that has set it returns, as is setfenv(0, ...).
M.protected = {}

function M.protected.module(name, ...)
  local session, before = M.session(), package.loaded[name]
  if session and before and maker[before] and maker[before] ~= session.id then
    forget(name)
    before = nil
  end
  local ok, message = pcall(make_module, name, ...)
  if not ok then
    error(type(message) == "string" and message:gsub("^[^\n]-:%d+: ", "") or message, 2)
  end
  local own = package.loaded[name]
  if session and own ~= before then
    maker[own] = session.id
    local meta = getmetatable(own)
    if meta and meta.__index == _G then -- package.seeall: it sees what the script does
      meta.__index = session.environment
    end
  end
  setfenv(2, own)
end

if jit then
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
    local call = running_call()
    local before = call and call.protected
    if call then
      call.protected = true
    end
    return leave(call, before, pcall(...))
  end

  function M.protected.xpcall(...)
    local call = running_call()
    local before = call and call.protected
    if call then
      call.protected = true
    end
    return leave(call, before, xpcall(...))
  end
end

return M
