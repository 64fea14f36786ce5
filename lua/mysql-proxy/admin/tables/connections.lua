-- Who is connected: proxy_connections as the manual has it, and more than that in sessions.

local LISTENING, READ_AUTH, READ_QUERY = 0, 4, 10

local function by_id(a, b)
  return a.id < b.id
end

-- Open sessions, the oldest first.
local function sorted(set)
  local list = {}
  for each in pairs(set) do
    list[#list + 1] = each
  end
  table.sort(list, by_id)
  return list
end

local function proxy_connections(admin, session)
  local rows = {}
  local function add(type, state, db)
    rows[#rows + 1] = { #rows, type, tostring(state), db or "" }
  end
  -- The manual knows these two listeners; the read-only port is none of its own there.
  for _, kind in ipairs { "admin-server", "proxy" } do
    for _, port in ipairs(admin.proxy.ports) do
      if port.kind == kind and port.listening then
        add(kind == "proxy" and "proxy" or "server", LISTENING)
      end
    end
  end
  for _, each in ipairs(sorted(admin.sessions)) do
    add("server", each.state == "commands" and READ_QUERY or READ_AUTH, each.database)
  end
  for _, each in ipairs(admin.proxy.processes:records(session, "sessions")) do
    add("proxy", each.state_number, each.db)
  end
  return rows
end

local function admin_row(session)
  local running = session.work ~= nil
  return {
    session.id, session.client_name, session.login and (session.login.username or ""), session.database or "", nil,
    session.state, session.state ~= "commands" and "Connect" or running and "Query" or "Sleep", nil,
    math.floor(session.client:idle()), session.count, nil, nil, 0, "admin",
  }
end

local function sessions(admin, session)
  local rows = {}
  for _, each in ipairs(sorted(admin.sessions)) do
    rows[#rows + 1] = admin_row(each)
  end
  for _, each in ipairs(admin.proxy.processes:records(session, "sessions")) do
    rows[#rows + 1] = {
      each.id, each.client, each.user, each.db, each.backend, each.state, each.command, each.digest, each.time,
      each.commands, each.bytes_from_client, each.bytes_from_server, each.in_transaction, each.port, each.text,
    }
  end
  return rows
end

return {
  {
    name = "proxy_connections", comment = "listeners and connections, as the manual of MySQL Proxy 0.5 has them",
    columns = {
      { "id", "LONG", "number of the row" },
      { "type", "STRING", "server: of the admin interface, proxy: of the proxy" },
      { "state", "STRING", "number of its state: 0 listens, 10 waits for a statement, 12 for a result" },
      { "db", "STRING", "schema" },
    },
    rows = proxy_connections,
  },
  {
    name = "sessions", comment = "clients that are connected",
    columns = {
      { "id", "LONGLONG", "for KILL" },
      { "client", "STRING", "its address" },
      { "user", "STRING", "who has logged in, NULL before" },
      { "db", "STRING", "schema of its login" },
      { "backend", "STRING", "its server" },
      { "state", "STRING", "as in log lines" },
      { "command", "STRING", "Connect, Sleep or Query" },
      { "digest", "STRING", "of the statement that runs, as in query_digests" },
      { "time", "LONGLONG", "seconds since anything has moved" },
      { "commands", "LONGLONG", "that it has sent" },
      { "bytes_from_client", "LONGLONG", "after its login" },
      { "bytes_from_server", "LONGLONG", "after its login" },
      { "in_transaction", "LONG", "1 if its server has said so with the last answer" },
      { "port", "STRING", "proxy, read-only proxy or admin" },
      { "text", "STRING", "of the statement that runs, without its values" },
    },
    rows = sessions,
  },
}
