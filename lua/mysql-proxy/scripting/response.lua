-- proxy.response: the answer that a script has made, as packets for the client.
--
-- A session's view has it once the script has looked at it, or has set it, for the command at hand: most commands need
-- none. The relay forgets it too (csrc/relay_script.c).

local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local M = {}

local OK, ERR, RAW = 0, 255, 250
local STATUS_AUTOCOMMIT = 2

local FAILED = { errcode = 1105, sqlstate = "07000", errmsg = "(lua) handling proxy.response failed, check error-log" }

local function number(value, default)
  return tonumber(value) or default
end

local function error_packet(response)
  local text, state = response.errmsg, response.sqlstate
  if type(text) ~= "string" and type(text) ~= "number" then
    return proto.to_err_packet { errcode = 1105, sqlstate = "07000", errmsg = "(lua) proxy.response.errmsg is nil" }
  end
  state = (type(state) == "string" or type(state) == "number") and tostring(state) or "07000"
  return proto.to_err_packet {
    errmsg = tostring(text):sub(1, 512),
    errcode = number(response.errcode, 1105) % 65536,
    sqlstate = (state .. "     "):sub(1, 5),
  }
end

local writers = {}

writers[ERR] = function(response, sequence)
  return resultset.frame({ error_packet(response) }, sequence)
end

writers[OK] = function(response, sequence, capabilities, log)
  if type(response.resultset) == "table" then
    local packets, next, warnings = resultset.to_packets(response.resultset, capabilities, sequence)
    for _, warning in ipairs(warnings) do
      log:warning(warning)
    end
    return packets, next
  end
  return resultset.frame({ proto.to_ok_packet {
    affected_rows = number(response.affected_rows, 0),
    insert_id = number(response.insert_id, 0),
    server_status = STATUS_AUTOCOMMIT,
  } }, sequence)
end

writers[RAW] = function(response, sequence, capabilities, log, command)
  local packets = response.packets
  if packets == nil then
    error("proxy.response.packets isn't set", 0)
  elseif type(packets) ~= "table" then
    error(("proxy.response.packets has to be a table, is %s"):format(type(packets)), 0)
  elseif #packets == 0 then
    log:warning("proxy.response.packets is empty: the client gets nothing")
  elseif command then
    packets = resultset.from_classic(packets, command, capabilities)
  end
  return resultset.frame(packets, sequence)
end

local function write(response, sequence, capabilities, log, command)
  if response == nil then
    error("proxy.response isn't set", 0)
  elseif type(response) ~= "table" then
    error(("proxy.response has to be a table, is %s"):format(type(response)), 0)
  elseif response.type == nil then
    error("proxy.response.type isn't set", 0)
  elseif not tonumber(response.type) then
    error(("proxy.response.type has to be a number, is %s"):format(type(response.type)), 0)
  end
  local writer = writers[tonumber(response.type)]
  if not writer then
    error(("proxy.response.type is unknown: %s"):format(tostring(response.type)), 0)
  end
  return writer(response, sequence, capabilities, log, command)
end

local IS_THERE = 1 -- its place in a view, which begins with false there

--- The script looks at it for the first time.
---@param view table
---@return table|nil response nil: it has been taken away
function M.make(view)
  if view[IS_THERE] then
    return nil
  end
  view.response = {}
  return view.response
end

--- Sets what a view does not have yet.
---@param view table
function M.set(view, key, value)
  if key == "response" then
    view[IS_THERE] = true
  end
  rawset(view, key, value)
end

--- Another command has come.
---@param view table
function M.forget(view)
  rawset(view, "response", nil)
  view[IS_THERE] = false
end

--- What the script has left in it.
---@param view table
---@return any
function M.of(view)
  local response = rawget(view, "response")
  if response == nil and not view[IS_THERE] then
    return {}
  end
  return response
end

--- The packets of an answer, numbered from `sequence`. One that cannot be understood is logged, and becomes an ERR.
---@param response any what the script has left in proxy.response
---@param sequence integer
---@param capabilities number of the session
---@param log table
---@param script string its path, for the log
---@param command integer|nil the first byte of what is answered; nil: no command
---@return string packets with their headers
---@return integer next the number of what follows them
function M.packets(response, sequence, capabilities, log, script, command)
  sequence = sequence % 256
  local ok, packets, next = pcall(write, response, sequence, capabilities, log, command)
  if ok then
    return packets, next
  end
  log:message(("%s in %s"):format(tostring(packets), script))
  return resultset.frame({ proto.to_err_packet(FAILED) }, sequence)
end

return M
