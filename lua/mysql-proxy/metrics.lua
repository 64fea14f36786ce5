-- What --metrics-address serves over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever starts proxies and
-- balances between them.

local uv = require "luv"

local backends = require "mysql-proxy.backends"
local hooks = require "mysql-proxy.hooks"
local http = require "mysql-proxy.metrics.http"
local process = require "mysql-proxy.process"
local session = require "mysql-proxy.session"
local statistics = require "mysql-proxy.statistics"
local tasks = require "mysql-proxy.task"
local texts = require "mysql-proxy.metrics.text"

local M = {}

local FRESH = 200 -- ms for which a text is given out again, so that nobody keeps the proxy busy with making them

local PREFIX = "mysql_proxy_"

-- Adds a metric that has one sample.
local function single(text, name, kind, help, value)
  text:metric(PREFIX .. name, kind, help)
  text:sample(value)
end

-- Adds a metric that has a sample for each value of a label.
local function by_label(text, name, kind, help, label, names, values)
  text:metric(PREFIX .. name, kind, help)
  for _, each in ipairs(names) do
    text:sample(values[each] or 0, label, each)
  end
end

local function add_process(text, proxy, counted)
  text:metric(PREFIX .. "build_info", "gauge", "The program, whose version is in the labels. Always 1.")
  text:sample(1, "version", process.version, "lua", (rawget(_G, "jit") or {}).version or process.lua_release)
  single(text, "start_time_seconds", "gauge", "When it was started, in seconds since 1970.", proxy.started_at)
  if counted.workers then
    single(text, "workers", "gauge", "Worker processes that are counted in here.", counted.workers)
  end
  single(text, "lua_memory_bytes", "gauge", "Memory of Lua: sessions and scripts, without the buffers of sockets.",
    counted.lua_memory)
end

-- Those counters whose names begin so, by the rest of the name.
local function part_of(counted, kind)
  local found = {}
  for name, value in pairs(counted) do
    local first, rest = name:match("^(%S+) (.+)$")
    if first == kind then
      found[rest] = value
    end
  end
  return found
end

local function add_sessions(text, counted)
  by_label(text, "sessions", "gauge", "Clients that are connected, by what their session does.", "state",
    session.STATES, part_of(counted, "sessions"))
  single(text, "sessions_accepted_total", "counter", "Clients that got a session.", counted.connections)
  by_label(text, "sessions_refused_total", "counter", "Clients that got none, by the option that limits them.",
    "reason", { "max-connections", "max-open-files" }, part_of(counted, "refused"))
  single(text, "login_failures_total", "counter", "Sessions that ended between the client's login and its success.",
    counted.login_failures)
  single(text, "commands_total", "counter", "Commands that went to a server, or that a script has answered.",
    counted.commands)
  by_label(text, "bytes_total", "counter", "Bytes after the login, by who has sent them.", "from",
    { "client", "server" }, { client = counted.bytes_from_clients, server = counted.bytes_from_servers })
  single(text, "read_only_refusals_total", "counter", "Statements that the read-only port has refused.",
    counted.read_only_refusals)
end

-- For each server a sample of a field.
local function by_backend(text, servers, name, kind, help, field)
  text:metric(PREFIX .. "backend_" .. name, kind, help)
  for _, each in ipairs(servers) do
    text:sample(each[field], "backend", each.address)
  end
end

local function add_backends(text, servers)
  text:metric(PREFIX .. "backend_state", "gauge", "1 for the state that a backend is in, 0 for the others.")
  for _, each in ipairs(servers) do
    local now = each.order or backends.STATES[each.state]
    for _, state in ipairs { "unknown", "up", "down", "draining" } do
      text:sample(now == state and 1 or 0, "backend", each.address, "state", state)
    end
  end
  by_backend(text, servers, "connected_clients", "gauge", "Sessions that are at a backend.", "connected_clients")
  by_backend(text, servers, "idle_connections", "gauge", "Connections that wait for a client.", "idle_connections")
  by_backend(text, servers, "connect_failures_total", "counter", "Connections that failed before the greeting.",
    "connect_failures")
  by_backend(text, servers, "marked_down_total", "counter", "How often a backend was marked down.", "times_down")
end

-- What is counted in C, unless --proxy-skip-profiling says otherwise.
local function add_statistics(text, commands, servers)
  text:metric(PREFIX .. "command_duration_seconds", "histogram", "Until the last byte of a server's answer.")
  for _, each in ipairs(commands) do
    text:histogram(statistics.BOUNDS, each.histogram, each.seconds, "command", each.command)
  end
  text:metric(PREFIX .. "command_errors_total", "counter", "Commands that a server has answered with an error.")
  for _, each in ipairs(commands) do
    text:sample(each.errors, "command", each.command)
  end
  by_backend(text, servers, "commands_total", "counter", "Commands that a backend got.", "count")
  by_backend(text, servers, "errors_total", "counter", "Commands that a backend answered with an error.", "errors")
  text:metric(PREFIX .. "backend_bytes_total", "counter", "Bytes of commands and their answers, by who has sent them.")
  for _, each in ipairs(servers) do
    text:sample(each.bytes_from_client, "backend", each.address, "from", "client")
    text:sample(each.bytes_from_server, "backend", each.address, "from", "server")
  end
end

local function add_script(text, counted, known, called)
  single(text, "script_loads_total", "counter", "Versions of the script that were compiled.", known and known.version)
  single(text, "script_load_failures_total", "counter", "Sessions that ended as the script could not be loaded.",
    counted.script_load_failures)
  by_label(text, "hook_errors_total", "counter", "Calls of the script that failed, or waited for too long.", "hook",
    hooks.NAMES, part_of(counted, "hook_errors"))
  local calls, seconds = {}, {}
  for _, hook in ipairs(called) do
    calls[hook.name], seconds[hook.name] = hook.calls, hook.seconds
  end
  by_label(text, "hook_calls_total", "counter", "Calls of hooks.", "hook", hooks.NAMES, calls)
  by_label(text, "hook_seconds_total", "counter", "Time of these calls until they returned or waited.", "hook",
    hooks.NAMES, seconds)
  single(text, "hooks_waiting", "gauge", "Sessions in which a hook waits.", counted.waiting)
end

local function render(proxy, task)
  local function records(name)
    return proxy.processes:records(task, name)
  end
  local text, counted, servers = texts.new(), {}, records "backends"
  for _, each in ipairs(records "counters") do
    counted[each.name] = each.value
  end
  add_process(text, proxy, counted)
  add_sessions(text, counted)
  add_backends(text, servers)
  add_statistics(text, records "commands", servers)
  if proxy.lua_script then
    add_script(text, counted, records("script")[1], records "hooks")
  end
  return tostring(text)
end

-- Whether a new client would be served, as far as is known. They are not asked whether they are up: a client finds out.
local function is_ready(proxy, task)
  for _, each in ipairs(proxy.processes:records(task, "backends")) do
    if each.refuses == false then
      return true
    end
  end
  return false
end

-- A route that make(task) answers, for all who ask before it has: it returns what respond() gets.
local function answered_by(log, make)
  local waiting
  return function(respond)
    if waiting then
      waiting[#waiting + 1] = respond
      return
    end
    waiting = { respond }
    local answer = { 500, "failed, see the log\n" }
    tasks.new(log, function(task)
      answer = { make(task) }
    end, function(failure)
      if failure then
        log:critical(("metrics: %s"):format(tostring(failure)))
      end
      local these = waiting
      waiting = nil
      for _, each in ipairs(these) do
        each(unpack(answer))
      end
    end):start()
  end
end

local function routes_of(proxy)
  local made_at, text
  return {
    ["/metrics"] = answered_by(proxy.log, function(task)
      if not text or uv.now() - made_at >= FRESH then
        text = render(proxy, task)
        made_at = uv.now()
      end
      return 200, text, texts.CONTENT_TYPE
    end),
    ["/healthz"] = function(respond)
      return respond(200, "ok\n")
    end,
    ["/readyz"] = answered_by(proxy.log, function(task)
      if is_ready(proxy, task) then
        return 200, "ready\n"
      end
      return 503, "all backends are down\n"
    end),
  }
end

--- Opens the listening port of a proxy.
---@param port table
---@param place mysql_proxy.endpoint|{ descriptor: integer }
---@return HttpListener|nil
---@return string|nil message
---@return string|nil code
function M.open(port, place)
  return http.listen(place, routes_of(port.proxy), port.proxy.log)
end

return M
