-- The servers, and what an operator changes of them.

local address = require "mysql-proxy.address"
local backends = require "mysql-proxy.backends"
local errors = require "mysql-proxy.admin.errors"
local statistics = require "mysql-proxy.statistics"
local uv = require "luv"

local TYPES = { [backends.READ_WRITE] = "rw", [backends.READ_ONLY] = "ro" }
local TYPE_NUMBERS = { rw = backends.READ_WRITE, ro = backends.READ_ONLY }
local ORDERS = { up = true, down = true, draining = true }

local function when(time)
  return time and os.date("%Y-%m-%d %H:%M:%S", time)
end

local function row_of(backend)
  local since = backend.down_since and os.time() - math.floor((uv.now() - backend.down_since) / 1000)
  local counted = statistics.of_backend(backend)
  return {
    backend.index, backend.address, backend.order or backends.STATES[backend.state] or "unknown",
    TYPES[backend.type] or "unknown", backend.uuid, backend.connected_clients,
    backend.pool:count() + backend.read_only_pool:count(), when(since), backend.last_error,
    when(backend.last_error_at), counted.count, counted.errors, counted.bytes_from_client, counted.bytes_from_server,
    counted.count > 0 and counted.seconds / counted.count or nil, backend = backend,
  }
end

local function rows(admin)
  local list = {}
  for index, backend in ipairs(admin.proxy.backends:present()) do
    list[index] = row_of(backend)
  end
  return list
end

local function log(admin, session, text, ...)
  admin.proxy.log:critical(("admin interface: %s has %s"):format(session:who(), text:format(...)))
end

local function read_state(value)
  local state = type(value) == "string" and value:lower()
  return ORDERS[state] and state
    or errors.raise(1366, "HY000", "Incorrect value for column 'state': 'up', 'down' or 'draining' expected")
end

local function read_type(value)
  local name = type(value) == "string" and value:lower()
  return TYPE_NUMBERS[name] or errors.raise(1366, "HY000", "Incorrect value for column 'type': 'rw' or 'ro' expected")
end

-- down is draining, and the sessions end at once.
local function write_state(admin, session, row, state)
  local backend = row.backend
  log(admin, session, "set the state of backend %s to %s", backend.address, state)
  backend:obey(state)
  if state == "down" then
    for each in pairs(admin.proxy.sessions) do
      if each.backend == backend then
        each:close("an operator has taken its server down")
      end
    end
  end
end

local function write_type(admin, session, row, type)
  row.backend.type = type
  log(admin, session, "set the type of backend %s to %s", row.backend.address, TYPES[type])
end

local function read_address(value)
  local parsed, message
  if type(value) == "string" and value ~= "" then
    parsed, message = address.parse(value)
  end
  return parsed and value
    or errors.raise(1366, "HY000", "Incorrect value for column 'address': %s", message or "host:port expected")
end

local function insert(admin, session, values)
  if not values.address then
    errors.raise(1364, "HY000", "Field 'address' doesn't have a default value")
  end
  local backend, message = admin.proxy.backends:add(values.address, values.type or backends.READ_WRITE)
  if not backend then
    errors.raise(1062, "23000", "%s", message)
  end
  log(admin, session, "added the backend %s", backend.address)
  return function()
    admin.proxy.backends:remove(backend)
    log(admin, session, "taken back the backend %s", backend.address)
  end
end

local function delete(admin, session, row)
  log(admin, session, "deleted the backend %s", row.backend.address)
  admin.proxy.backends:remove(row.backend)
end

return {
  {
    name = "backends", comment = "the servers",
    columns = {
      { "backend_ndx", "LONG", "its index in scripts" },
      { "address", "STRING", "as given" },
      { "state", "STRING", "unknown, up, down or draining" },
      { "type", "STRING", "rw or ro" },
      { "uuid", "STRING", "what a script has assigned" },
      { "connected_clients", "LONG", "sessions that have it" },
      { "idle_connections", "LONG", "connections that scripts have put aside" },
      { "down_since", "STRING", "when it was marked as down" },
      { "last_error", "STRING", "why it could not be connected to the last time" },
      { "last_error_at", "STRING", "when that was" },
      { "queries", "LONGLONG", "commands that it has got" },
      { "errors", "LONGLONG", "how many it has answered with an error, or not at all" },
      { "bytes_to_server", "LONGLONG", "of commands" },
      { "bytes_from_server", "LONGLONG", "of answers" },
      { "latency", "DOUBLE", "seconds that an answer took, on average" },
    },
    rows = rows,
    update = {
      state = { read = read_state, write = write_state },
      type = { read = read_type, write = write_type },
    },
    insert = { columns = { address = read_address, type = read_type }, write = insert },
    delete = delete,
  },
}
