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

-- text: of the session, as the log has it; the others: where its statements run
local function kill_query(session, id, text, backend, thread_id, path, ip, port)
  local admin = session.admin
  if not backend then
    return log(session, "killed the statement of %s, which has none", text)
  end
  local user = admin.username or session.login.username or ""
  local result, message = session:wait(function(resume)
    client.query({ path = path, ip = ip, port = port }, ("KILL QUERY %.0f"):format(thread_id),
      { user = user, password = admin.password }, { timeout = admin.proxy.connect_timeout, limit = ANSWER_LIMIT },
      resume)
  end)
  if not result then
    log(session, "not killed the statement of %s: %s", text, message)
    errors.raise(1105, "HY000", "To stop a statement the proxy logs in at %s as '%s', which has failed: %s "
      .. "(KILL %d ends the session without a login)", backend, user, message, id)
  end
  return log(session, "killed the statement of %s", text)
end

-- Of the admin interface.
local function kill_other(session, other, query)
  if not query then
    log(session, "killed %s", tostring(other))
    other:close_when_idle()
  end
  return {}
end

--- Runs KILL.
---@param id integer
---@param query boolean|nil KILL QUERY
function M.run(session, id, query)
  local admin = session.admin
  local other = find(admin.sessions, id)
  if other then
    return kill_other(session, other, query)
  end
  local processes = admin.proxy.processes
  local found = { processes:order_at(session, id, query and "find_statement" or "kill") }
  if not found[1] then
    errors.raise(1094, "HY000", "Unknown thread id: %.0f", id)
  elseif query then
    kill_query(session, id, unpack(found, 1, 6))
  else
    log(session, "killed %s", found[1])
  end
  return {}
end

return M
