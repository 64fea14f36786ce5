-- --admin-lua-script: a script's read_query answers the admin port, as it did in 0.7 and 0.8. It sees `proxy` as other
-- scripts do, with the same proxy.global, and no server.

local globals = require "mysql-proxy.scripting.globals"
local hooks = require "mysql-proxy.hooks"
local responses = require "mysql-proxy.scripting.response"
local scripting = require "mysql-proxy.scripting"

local M = {}

local COM_QUIT = 1

local AdminScript = {}
AdminScript.__index = AdminScript

---@param proxy Proxy
---@param path string
function M.new(proxy, path)
  globals.view(proxy) -- what is shared belongs to the proxy
  return setmetatable({ proxy = setmetatable({ lua_script = path }, { __index = proxy }) }, AdminScript)
end

--- Runs the script for a new client; next(session) goes on, unless it cannot be loaded.
function AdminScript:begin(session, next)
  session.proxy = self.proxy
  return scripting.begin(session, next)
end

local FAILED = "need a resultset + proxy.PROXY_SEND_RESULT"

-- The script has answered a command, or not.
local function answered(session, payload, result, failed)
  session.work = nil
  if payload:byte() == COM_QUIT then
    return session:close()
  elseif hooks.verdict(result) == scripting.SEND_RESULT then
    session.client:write((responses.packets(responses.of(session.view), session.sequence, session.capabilities,
      session.proxy.log, session.proxy.lua_script, payload:byte())))
    return session:done()
  end
  local other = result ~= nil and not failed
  return session:refuse(session.sequence, {
    errcode = 1105, sqlstate = "07000", errmsg = FAILED .. (other and " ... got something else" or ""),
  })
end

local function ask(session, payload)
  local at_once, result = hooks.call(session, "read_query", payload, function(_, later, failed)
    return answered(session, payload, later, failed)
  end)
  if at_once then
    return answered(session, payload, result)
  end
end

--- Has the script answer a command.
function AdminScript.take(self, session, payload)
  responses.forget(session.view)
  session.work = "hook"
  session.client:hold_packets()
  return self.proxy.processes:look_at_backends(function()
    if not session.closed then
      return ask(session, payload)
    end
  end)
end

--- The client has gone.
function AdminScript.ended(_, session)
  hooks.cancel(session)
end

return M
