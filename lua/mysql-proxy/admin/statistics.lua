-- The counters of SHOW STATUS.

local M = {}

--- Counters of the proxy as a whole, by name.
---@param task table for Processes:records
---@return table<string, integer>
function M.counters(admin, task)
  local proxy, counted = admin.proxy, {}
  for _, each in ipairs(proxy.processes:records(task, "counters")) do
    counted[each.name] = each.value
  end
  return {
    Bytes_received = counted.bytes_from_clients, Bytes_sent = counted.bytes_from_servers,
    Connections = counted.connections, Max_used_connections = counted.most_sessions, Questions = counted.commands,
    Threads_connected = counted.sessions, Threads_running = counted.running, Uptime = os.time() - proxy.started_at,
  }
end

--- Rows of name and value, in the order of the names.
function M.rows(admin, task)
  local rows = {}
  for name, value in pairs(M.counters(admin, task)) do
    rows[#rows + 1] = { name, ("%.0f"):format(value) }
  end
  table.sort(rows, function(a, b)
    return a[1] < b[1]
  end)
  return rows
end

--- What COM_STATISTICS answers.
function M.line(admin, task)
  local counters = M.counters(admin, task)
  return ("Uptime: %.0f  Threads: %.0f  Questions: %.0f  Slow queries: 0  Opens: 0  Flush tables: 0  Open tables: 0  "
    .. "Queries per second avg: %.3f"):format(counters.Uptime, counters.Threads_connected, counters.Questions,
    counters.Questions / math.max(counters.Uptime, 1))
end

return M
