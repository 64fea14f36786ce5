-- Who is connected: proxy_connections as the manual has it, and more than that in sessions.

local states = {
  connect_server = 1, read_handshake = 2, read_auth = 4, connect_again = 1, read_auth_result = 6, read_query = 10,
  close = 14,
}
local READ_QUERY_RESULT = 12
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

-- How many commands wait for their answers.
local function answers_due(session)
  return session.relay and tonumber(tostring(session.relay):match("(%d+) answers due")) or 0
end

local function state_number(session)
  return session.state == "read_query" and answers_due(session) > 0 and READ_QUERY_RESULT or states[session.state]
end

local function database(session)
  return session.client_db or session.login and session.login.database or ""
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
  for index, each in ipairs(sorted(admin.proxy.sessions)) do
    if index % 64 == 0 then
      session:pause()
    end
    add("proxy", state_number(each), database(each))
  end
  return rows
end

-- What its server has said with the last answer.
local function in_transaction(relay)
  local flags = relay and relay:summary().flags
  return flags and flags.in_trans and 1 or 0
end

local function session_row(session)
  local relay = session.relay
  local queries, from_client, from_server = 0, 0, 0
  if relay then
    queries, from_client, from_server = relay:counters()
  end
  local due = answers_due(session)
  local command = not relay and "Connect" or due > 0 and "Query" or "Sleep"
  return {
    session.id, session.client_name, session.login and (session.login.username or ""), database(session),
    session.backend and session.backend.address, session.state == "read_query" and due > 0 and "read_query_result"
      or session.state, command, math.floor(session.client:idle()), queries, from_client, from_server,
    in_transaction(relay), session.port.kind,
    session = session,
  }
end

local function admin_row(session)
  local running = session.work ~= nil
  return {
    session.id, session.client_name, session.login and (session.login.username or ""), session.database or "", nil,
    session.state, session.state ~= "commands" and "Connect" or running and "Query" or "Sleep",
    math.floor(session.client:idle()), session.count, nil, nil, 0, "admin", session = session,
  }
end

local function sessions(admin, session)
  local rows = {}
  for _, each in ipairs(sorted(admin.sessions)) do
    rows[#rows + 1] = admin_row(each)
  end
  for index, each in ipairs(sorted(admin.proxy.sessions)) do
    if index % 64 == 0 then
      session:pause()
    end
    if each.state ~= "close" then -- it has closed meanwhile
      rows[#rows + 1] = session_row(each)
    end
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
      { "time", "LONGLONG", "seconds since anything has moved" },
      { "commands", "LONGLONG", "that it has sent" },
      { "bytes_from_client", "LONGLONG", "after its login" },
      { "bytes_from_server", "LONGLONG", "after its login" },
      { "in_transaction", "LONG", "1 if its server has said so with the last answer" },
      { "port", "STRING", "proxy, read-only proxy or admin" },
    },
    rows = sessions,
  },
}
