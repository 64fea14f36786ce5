-- What the port for readers asks of a session: every statement is looked at before it goes to a server, and the server
-- is told too. It is told on a read-only replica as well: there a privileged user could write otherwise.

local packet = require "mysql.packet"
local proto = require "mysql.proto"

local COM_QUERY, COM_CHANGE_USER, COM_STMT_PREPARE, COM_RESET_CONNECTION = 3, 17, 22, 31
local BARRED = { errcode = 1290, sqlstate = "HY000" }

local M = { watched = {} }

local read_only -- from the first client on

-- What can never write and is frequent passes without a look.
local UNWATCHED = { [1] = true, [14] = true, [23] = true, [24] = true, [25] = true, [26] = true, [28] = true }
for command = 0, 255 do
  if not UNWATCHED[command] then
    table.insert(M.watched, command)
  end
end

local function tell_server(session)
  session.server.told_read_only = true
  session.relay:inject(string.char(COM_QUERY) .. "SET SESSION TRANSACTION READ ONLY")
end

local function refusal(reason)
  BARRED.errmsg = "The MySQL Proxy is running with the read-only port so it cannot execute this statement: " .. reason
  return (packet.frame(proto.to_err_packet(BARRED), 1))
end

function M.begin_queries(session)
  if session.server then -- a script may have none, or have put it aside
    tell_server(session)
  end
end

--- Why a command may not go to the server, as packets for the client; nil if it may.
---@param session Session whose command it is
---@param payload string
---@return string|nil
function M.refusal(session, payload)
  local command = payload:byte()
  local ok, reason = true, nil
  read_only = read_only or require "mysql-proxy.read_only"
  if command == COM_QUERY or command == COM_STMT_PREPARE then
    ok, reason = read_only.check(payload:sub(2))
  elseif command ~= COM_CHANGE_USER and command ~= COM_RESET_CONNECTION and not UNWATCHED[command] then
    ok, reason = read_only.command_allowed(command), ("command %d"):format(command)
  end
  if ok then
    return nil
  end
  local totals = session.proxy.totals
  totals.read_only_refusals = totals.read_only_refusals + 1
  return refusal(reason)
end

--- COM_CHANGE_USER and COM_RESET_CONNECTION make the session one that may write again: it is told anew.
function M.read_query(session, relay, payload)
  local refused = M.refusal(session, payload)
  if refused then
    session.proxy.recent_errors:add(session, BARRED)
    return relay:reply(refused)
  end
  local command = payload:byte()
  return relay:forward(command == COM_CHANGE_USER or command == COM_RESET_CONNECTION)
end

function M.read_query_result(session, _, error, answer)
  if not answer then
    tell_server(session) -- after an error too: MariaDB has forgotten it even if the change of the user was refused
  elseif error ~= 0 then
    session:protocol_error("server", ("refused SET SESSION TRANSACTION READ ONLY with error %d"):format(error))
  end
end

return M
