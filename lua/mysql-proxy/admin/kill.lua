-- KILL and KILL QUERY.
--
-- A session is the proxy's own, and is closed. A statement runs in the server, which stops it only for somebody who is
-- logged in: the proxy does so on a connection of its own, as the operator is known here.

local client = require "mysql-proxy.scripting.client"
local errors = require "mysql-proxy.admin.errors"

local M = {}

local ANSWER_LIMIT = 65536

local function find(set, id)
  for each in pairs(set) do
    if each.id == id then
      return each
    end
  end
end

local function log(session, text, ...)
  session.admin.proxy.log:critical(("admin interface: %s has %s"):format(session:who(), text:format(...)))
end

local function kill_query(session, victim)
  local admin, server = session.admin, victim.server
  if not server or not server.challenge or not victim.relay then
    return -- it has no statement
  end
  local path, ip, port = server.stream:address("peer")
  local place = ip and { ip = ip, port = port } or { path = path }
  local user = admin.username or session.login.username or ""
  local result, message = session:wait(function(resume)
    client.query(place, ("KILL QUERY %.0f"):format(server.challenge.thread_id),
      { user = user, password = admin.password }, { timeout = admin.proxy.connect_timeout, limit = ANSWER_LIMIT },
      resume)
  end)
  if not result then
    errors.raise(1105, "HY000", "To stop a statement the proxy logs in at %s as '%s', which has failed: %s "
      .. "(KILL %d ends the session without a login)", server.backend.address, user, message, victim.id)
  end
end

--- Runs KILL.
---@param id integer
---@param query boolean|nil KILL QUERY
function M.run(session, id, query)
  local admin = session.admin
  local victim, other = find(admin.proxy.sessions, id), find(admin.sessions, id)
  if not victim and not other then
    errors.raise(1094, "HY000", "Unknown thread id: %.0f", id)
  elseif query and victim then
    log(session, "killed the statement of %s", tostring(victim))
    kill_query(session, victim)
  elseif victim then
    log(session, "killed %s", tostring(victim))
    victim:close("killed")
  elseif not query then
    log(session, "killed %s", tostring(other))
    other:close_when_idle()
  end
  return {}
end

return M
