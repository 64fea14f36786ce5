-- What a process of a proxy tells of itself, and how what several tell becomes one.
--
-- A report has
--
--   list(proxy, task)   its records; task:pause() lets others get on
--   fields              those of a record, in the order in which they are sent to another process
--   key(record)         records with the same key are one: add(to, record) adds to the first; without it all are kept
--   before(a, b)        the order of the records
--   past(record)        what is left of a record when the process is gone: counters, which never become less
--   only_known          this counts only for records that others still have
--
-- Those of statistics, which are added up in C, have counters(limit), to which dump(proxy, place) of all is added: a
-- string and the next place; list_of(counters, task) are the records then, reset(counters) begins again. keeps: this
-- stays when the process is gone. each(proxy, task, take) is a list that is long.

local backends = require "mysql-proxy.backends"
local hooks = require "mysql-proxy.hooks"
local recent_errors = require "mysql-proxy.recent_errors"
local script = require "mysql-proxy.script"
local session = require "mysql-proxy.session"
local statistics = require "mysql-proxy.statistics"

local M = {}

local PAUSE_RECORDS = 64

local function sum(to, record, ...)
  for _, field in ipairs { ... } do
    to[field] = to[field] + record[field]
  end
end

-- Takes those fields over which belong together, if the record's are the later.
local function latest(to, record, time, ...)
  if record[time] and (not to[time] or record[time] > to[time]) then
    for _, field in ipairs { time, ... } do
      to[field] = record[field]
    end
  end
end

-- Sessions ----------------------------------------------------------------------------------------------------------

-- As the manual of 0.5 numbers states.
local STATE_NUMBERS = {
  connect_server = 1, read_handshake = 2, read_auth = 4, connect_again = 1, read_auth_result = 6, read_query = 10,
}
local READ_QUERY_RESULT = 12

local function record_of(each)
  local relay = each.relay
  local busy = relay and relay:due() > 0
  local commands, from_client, from_server = 0, 0, 0
  local flags = relay and relay:summary().flags
  if relay then
    commands, from_client, from_server = relay:counters()
  end
  local digest, text
  if busy then
    digest, text = relay:statement()
  end
  local state = each.state == "read_query" and busy and "read_query_result" or each.state
  return {
    id = each.id, client = each.client_name, user = each.login and (each.login.username or ""),
    db = each.client_db or each.login and each.login.database or "", backend = each.backend and each.backend.address,
    state = state, state_number = state == "read_query_result" and READ_QUERY_RESULT or STATE_NUMBERS[state],
    command = not relay and "Connect" or busy and "Query" or "Sleep", time = math.floor(each.client:idle()),
    commands = commands, bytes_from_client = from_client, bytes_from_server = from_server,
    in_transaction = flags and flags.in_trans and 1 or 0, port = each.port.kind,
    digest = digest, text = text,
  }
end

M.sessions = {
  fields = {
    "id", "client", "user", "db", "backend", "state", "command", "time", "commands", "bytes_from_client",
    "bytes_from_server", "in_transaction", "port", "state_number", "digest", "text",
  },
  before = function(a, b)
    return a.id < b.id
  end,
  list = function(proxy, task)
    local ids, open, list = {}, {}, {}
    for each in pairs(proxy.sessions) do
      ids[#ids + 1], open[each.id] = each.id, each
    end
    table.sort(ids)
    for index, id in ipairs(ids) do
      local each = open[id]
      if index % PAUSE_RECORDS == 0 then
        task:pause()
      end
      if each.state ~= "close" then -- it has closed meanwhile
        list[#list + 1] = record_of(each)
      end
    end
    return list
  end,
}

-- Servers -----------------------------------------------------------------------------------------------------------

-- One that any process has as up is up, one that none does and any has as down is down.
local STATE_RANK = { [backends.UP] = 2, [backends.DOWN] = 1, [backends.UNKNOWN] = 0 }

local function add_backend(to, record)
  sum(to, record, "connected_clients", "idle_connections", "connect_failures", "times_down", "count", "errors",
    "bytes_from_client", "bytes_from_server", "seconds")
  if STATE_RANK[record.state] > STATE_RANK[to.state] then
    to.state = record.state
  end
  latest(to, record, "last_error_at", "last_error")
  latest(to, record, "down_since")
  to.uuid = to.uuid or record.uuid
  if record.refuses ~= nil then
    to.refuses = record.refuses and to.refuses ~= false
  end
end

M.backends = {
  fields = {
    "index", "address", "type", "order", "state", "uuid", "connected_clients", "idle_connections", "down_since",
    "last_error", "last_error_at", "connect_failures", "times_down", "count", "errors", "bytes_from_client",
    "bytes_from_server", "seconds", "refuses",
  },
  key = function(record)
    return record.index .. " " .. record.address
  end,
  add = add_backend,
  before = function(a, b)
    return a.index < b.index
  end,
  only_known = true,
  past = function(record)
    return {
      index = record.index, address = record.address, state = backends.UNKNOWN, connected_clients = 0,
      idle_connections = 0, connect_failures = record.connect_failures, times_down = record.times_down,
      count = record.count, errors = record.errors, bytes_from_client = record.bytes_from_client,
      bytes_from_server = record.bytes_from_server, seconds = record.seconds,
    }
  end,
  list = function(proxy)
    local list = {}
    for number, each in ipairs(proxy.backends:present()) do
      local counted, refuses = statistics.of_backend(each), nil
      if not proxy.idle_ports then -- it is asked by clients
        refuses = each.order ~= nil or each:known_down()
      end
      list[number] = {
        index = each.index, address = each.address, type = each.type, order = each.order,
        state = proxy.idle_ports and backends.UNKNOWN or each.state,
        uuid = each.uuid, connected_clients = proxy.idle_ports and 0 or each.connected_clients,
        idle_connections = each.pool:count() + each.read_only_pool:count(),
        down_since = each.down_since and each.down_at,
        last_error = each.last_error, last_error_at = each.last_error_at, connect_failures = each.connect_failures,
        times_down = each.times_down, count = counted.count, errors = counted.errors,
        bytes_from_client = counted.bytes_from_client, bytes_from_server = counted.bytes_from_server,
        seconds = counted.seconds, refuses = refuses,
      }
    end
    return list
  end,
}

-- What went wrong ---------------------------------------------------------------------------------------------------

M.errors = {
  fields = { "time", "session", "client", "user", "backend", "code", "sqlstate", "text" },
  before = function(a, b)
    return a.time < b.time
  end,
  most = recent_errors.MOST,
  list = function(proxy)
    return proxy.recent_errors:list()
  end,
}

-- The script --------------------------------------------------------------------------------------------------------

local function by_name(record)
  return record.name
end

M.hooks = {
  fields = { "name", "calls", "seconds", "last_error", "last_error_at" },
  key = by_name,
  add = function(to, record)
    sum(to, record, "calls", "seconds")
    latest(to, record, "last_error_at", "last_error")
  end,
  before = function(a, b)
    return a.name < b.name
  end,
  past = function(record)
    return record
  end,
  list = function(proxy)
    local list = {}
    for index, each in ipairs(proxy.statistics:hooks()) do
      list[index] = {
        name = each.name, calls = each.calls, seconds = each.seconds, last_error = each.last_error,
        last_error_at = each.last_error_at,
      }
    end
    return list
  end,
}

M.script = {
  fields = { "path", "version", "loaded_at", "failure", "failed_at" },
  key = function(record)
    return record.path
  end,
  add = function(to, record)
    to.version = math.max(to.version, record.version)
    latest(to, record, "loaded_at")
    latest(to, record, "failed_at", "failure")
  end,
  list = function(proxy)
    local known = proxy.lua_script and script.status(proxy.lua_script)
    return known and { {
      path = proxy.lua_script, version = known.version, loaded_at = known.loaded_at, failure = known.failure,
      failed_at = known.failed_at,
    } } or {}
  end,
}

-- Counters of a whole process ---------------------------------------------------------------------------------------

-- What is so only now.
local GAUGES = { running = true, waiting = true, sessions = true, lua_memory = true, workers = true }

M.counters = {
  fields = { "name", "value" },
  key = by_name,
  add = function(to, record)
    to.value = to.value + record.value
  end,
  past = function(record)
    return not GAUGES[record.name:match("^%S+")] and record or nil
  end,
  list = function(proxy, task)
    local totals, states = proxy.totals, {}
    local commands, from_clients, from_servers = totals.commands, totals.from_clients, totals.from_servers
    local waiting, running, open = 0, 0, {}
    for each in pairs(proxy.sessions) do
      open[#open + 1] = each
    end
    for index, each in ipairs(open) do
      if index % PAUSE_RECORDS == 0 then
        task:pause()
      end
      states[each.state] = (states[each.state] or 0) + 1
      waiting = each.call and waiting + 1 or waiting
      if each.relay then -- also if it has ended since: the totals above do not have it yet
        local more, received, sent = each.relay:counters()
        commands, from_clients, from_servers = commands + more, from_clients + received, from_servers + sent
        running = each.relay:due() > 0 and running + 1 or running
      end
    end
    local list = {}
    local function add(name, value)
      list[#list + 1] = { name = name, value = value }
    end
    add("commands", commands)
    add("bytes_from_clients", from_clients)
    add("bytes_from_servers", from_servers)
    add("connections", totals.connections)
    add("most_sessions", totals.most_sessions)
    add("login_failures", totals.login_failures)
    add("read_only_refusals", totals.read_only_refusals)
    add("script_load_failures", totals.script_load_failures)
    for reason, count in pairs(totals.refused) do
      add("refused " .. reason, count)
    end
    for _, hook in ipairs(hooks.NAMES) do
      add("hook_errors " .. hook, totals.hook_errors[hook] or 0)
    end
    add("running", running)
    add("waiting", waiting)
    add("sessions", proxy.session_count)
    for _, state in ipairs(session.STATES) do
      add("sessions " .. state, states[state] or 0)
    end
    add("lua_memory", collectgarbage("count") * 1024)
    if proxy.worker then
      add("workers", 1)
    end
    return list
  end,
}

-- Statistics --------------------------------------------------------------------------------------------------------

M.commands = {
  keeps = true,
  counters = function()
    return statistics.new(1)
  end,
  reset = function(counted)
    return counted:reset_commands()
  end,
  dump = function(proxy)
    return (proxy.statistics:dump(0, 1)) -- without digests
  end,
  list = function(proxy)
    return proxy.statistics:commands()
  end,
  list_of = function(counted)
    return counted:commands()
  end,
}

local PIECE = 100 -- digests, of some hundred bytes each

local function each_digest(counted, task, take)
  return counted:each_digest(take, function()
    task:pause()
  end)
end

M.digests = {
  counters = function(limit)
    return statistics.new(limit)
  end,
  reset = function(counted)
    return counted:reset_digests()
  end,
  dump = function(proxy, place)
    return proxy.statistics:dump(place, PIECE)
  end,
  each = function(proxy, task, take)
    return each_digest(proxy.statistics, task, take)
  end,
  list_of = function(counted, task)
    local list = {}
    each_digest(counted, task, function(each)
      list[#list + 1] = each
    end)
    return list
  end,
}

return M
