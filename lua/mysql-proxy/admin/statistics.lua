-- The counters of SHOW STATUS.

local M = {}

--- Counters of the proxy as a whole, by name.
---@return table<string, integer>
function M.counters(proxy)
  local totals = proxy.totals
  local commands, from_clients, from_servers, running = totals.commands, totals.from_clients, totals.from_servers, 0
  for session in pairs(proxy.sessions) do
    if session.relay then
      local more, received, sent = session.relay:counters()
      commands, from_clients, from_servers = commands + more, from_clients + received, from_servers + sent
      if not tostring(session.relay):find(" 0 answers due", 1, true) then
        running = running + 1
      end
    end
  end
  return {
    Bytes_received = from_clients, Bytes_sent = from_servers, Connections = totals.connections,
    Max_used_connections = totals.most_sessions, Questions = commands, Threads_connected = proxy.session_count,
    Threads_running = running, Uptime = os.time() - proxy.started_at,
  }
end

--- Rows of name and value, in the order of the names.
function M.rows(admin)
  local rows = {}
  for name, value in pairs(M.counters(admin.proxy)) do
    rows[#rows + 1] = { name, ("%.0f"):format(value) }
  end
  table.sort(rows, function(a, b)
    return a[1] < b[1]
  end)
  return rows
end

--- What COM_STATISTICS answers.
function M.line(proxy)
  local counters = M.counters(proxy)
  return ("Uptime: %.0f  Threads: %.0f  Questions: %.0f  Slow queries: 0  Opens: 0  Flush tables: 0  Open tables: 0  "
    .. "Queries per second avg: %.3f"):format(counters.Uptime, counters.Threads_connected, counters.Questions,
    counters.Questions / math.max(counters.Uptime, 1))
end

return M
