-- The servers, and what an operator changes of them.

local address = require "mysql-proxy.address"
local backends = require "mysql-proxy.backends"
local errors = require "mysql-proxy.admin.errors"

local TYPES = { [backends.READ_WRITE] = "rw", [backends.READ_ONLY] = "ro" }
local TYPE_NUMBERS = { rw = backends.READ_WRITE, ro = backends.READ_ONLY }
local ORDERS = { up = true, down = true, draining = true }

local function when(time)
  return time and os.date("%Y-%m-%d %H:%M:%S", time)
end

local function rounded(seconds)
  return tonumber(("%.6f"):format(seconds))
end

local function rows(admin, session)
  local list = {}
  for number, each in ipairs(admin.proxy.processes:records(session, "backends")) do
    list[number] = {
      each.index, each.address, each.order or backends.STATES[each.state] or "unknown", TYPES[each.type] or "unknown",
      each.uuid, each.connected_clients, each.idle_connections, when(each.down_since), each.last_error,
      when(each.last_error_at), each.count, each.errors, each.bytes_from_client, each.bytes_from_server,
      each.count > 0 and rounded(each.seconds / each.count) or nil, index = each.index, address = each.address,
    }
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

local function write_state(admin, session, row, state)
  log(admin, session, "set the state of backend %s to %s", row.address, state)
  admin.proxy.processes:order(session, "order_backend", row.index, row.address, state)
end

local function write_type(admin, session, row, type)
  admin.proxy.processes:order(session, "set_backend_type", row.index, row.address, type)
  log(admin, session, "set the type of backend %s to %s", row.address, TYPES[type])
end

local function read_address(value)
  local parsed, message
  if type(value) == "string" and value ~= "" then
    parsed, message = address.parse(value)
  end
  return parsed and value
    or errors.raise(1366, "HY000", "Incorrect value for column 'address': %s", message or "host:port expected")
end

-- That of one that has left, or the next; one that drains in any process has its own still.
local function free_index(admin, session)
  local free = 1
  for _, each in ipairs(admin.proxy.processes:records(session, "backends")) do -- in their order
    free = each.index == free and free + 1 or free
  end
  return free
end

local function insert(admin, session, values)
  if not values.address then
    return nil, errors.new(1364, "HY000", "Field 'address' doesn't have a default value")
  end
  local processes = admin.proxy.processes
  local index, message = processes:order(session, "add_backend", free_index(admin, session), values.address,
    values.type or backends.READ_WRITE)
  if not index then
    return nil, errors.new(1062, "23000", "%s", message)
  end
  log(admin, session, "added the backend %s", values.address)
  return function()
    processes:order(session, "remove_backend", index, values.address)
    log(admin, session, "taken back the backend %s", values.address)
  end
end

local function delete(admin, session, row)
  log(admin, session, "deleted the backend %s", row.address)
  admin.proxy.processes:order(session, "remove_backend", row.index, row.address)
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
