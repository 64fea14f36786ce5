-- What --metrics-address serves over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever starts proxies and
-- balances between them.

local uv = require "luv"

local backends = require "mysql-proxy.backends"
local hooks = require "mysql-proxy.hooks"
local http = require "mysql-proxy.metrics.http"
local process = require "mysql-proxy.process"
local script = require "mysql-proxy.script"
local session = require "mysql-proxy.session"
local statistics = require "mysql-proxy.statistics"
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

local function add_process(text, proxy)
  text:metric(PREFIX .. "build_info", "gauge", "The program, whose version is in the labels. Always 1.")
  text:sample(1, "version", process.version, "lua", (rawget(_G, "jit") or {}).version or process.lua_release)
  single(text, "start_time_seconds", "gauge", "When it was started, in seconds since 1970.", proxy.started_at)
  single(text, "lua_memory_bytes", "gauge", "Memory of Lua: sessions and scripts, without the buffers of sockets.",
    collectgarbage("count") * 1024)
end

local function add_sessions(text, proxy)
  local totals, states, waiting = proxy.totals, {}, 0
  local commands, from_client, from_server = totals.commands, totals.from_clients, totals.from_servers
  for open in pairs(proxy.sessions) do
    states[open.state] = (states[open.state] or 0) + 1
    waiting = open.call and waiting + 1 or waiting
    if open.relay then
      local more_commands, more_from_client, more_from_server = open.relay:counters()
      commands = commands + more_commands
      from_client, from_server = from_client + more_from_client, from_server + more_from_server
    end
  end
  by_label(text, "sessions", "gauge", "Clients that are connected, by what their session does.", "state",
    session.STATES, states)
  single(text, "sessions_accepted_total", "counter", "Clients that got a session.", totals.connections)
  by_label(text, "sessions_refused_total", "counter", "Clients that got none, by the option that limits them.",
    "reason", { "max-connections", "max-open-files" }, totals.refused)
  single(text, "login_failures_total", "counter", "Sessions that ended between the client's login and its success.",
    totals.login_failures)
  single(text, "commands_total", "counter", "Commands that went to a server, or that a script has answered.", commands)
  by_label(text, "bytes_total", "counter", "Bytes after the login, by who has sent them.", "from",
    { "client", "server" }, { client = from_client, server = from_server })
  single(text, "read_only_refusals_total", "counter", "Statements that the read-only port has refused.",
    totals.read_only_refusals)
  return waiting
end

-- A backend that has left keeps its place in the list for the next.
local function present(proxy)
  local list = {}
  for _, backend in ipairs(proxy.backends) do
    if not backend.gone then
      list[#list + 1] = backend
    end
  end
  return ipairs(list)
end

-- For each backend a sample of value(backend).
local function by_backend(text, proxy, name, kind, help, value)
  text:metric(PREFIX .. "backend_" .. name, kind, help)
  for _, backend in present(proxy) do
    text:sample(value(backend), "backend", backend.address)
  end
end

local function add_backends(text, proxy)
  text:metric(PREFIX .. "backend_state", "gauge", "1 for the state that a backend is in, 0 for the others.")
  for _, backend in present(proxy) do
    local now = backend.order or backends.STATES[backend.state]
    for _, state in ipairs { "unknown", "up", "down", "draining" } do
      text:sample(now == state and 1 or 0, "backend", backend.address, "state", state)
    end
  end
  by_backend(text, proxy, "connected_clients", "gauge", "Sessions that are at a backend.", function(backend)
    return backend.connected_clients
  end)
  by_backend(text, proxy, "idle_connections", "gauge", "Connections that wait for a client.", function(backend)
    return backend.pool:count() + backend.read_only_pool:count()
  end)
  by_backend(text, proxy, "connect_failures_total", "counter", "Connections that failed before the greeting.",
    function(backend)
      return backend.connect_failures
    end)
  by_backend(text, proxy, "marked_down_total", "counter", "How often a backend was marked down.", function(backend)
    return backend.times_down
  end)
end

-- What is counted in C, unless --proxy-skip-profiling says otherwise.
local function add_statistics(text, proxy)
  local commands = proxy.statistics:commands()
  text:metric(PREFIX .. "command_duration_seconds", "histogram", "Until the last byte of a server's answer.")
  for _, each in ipairs(commands) do
    text:histogram(statistics.BOUNDS, each.histogram, each.seconds, "command", each.command)
  end
  text:metric(PREFIX .. "command_errors_total", "counter", "Commands that a server has answered with an error.")
  for _, each in ipairs(commands) do
    text:sample(each.errors, "command", each.command)
  end
  by_backend(text, proxy, "commands_total", "counter", "Commands that a backend got.", function(backend)
    return statistics.of_backend(backend).count
  end)
  by_backend(text, proxy, "errors_total", "counter", "Commands that a backend answered with an error.",
    function(backend)
      return statistics.of_backend(backend).errors
    end)
  text:metric(PREFIX .. "backend_bytes_total", "counter", "Bytes of commands and their answers, by who has sent them.")
  for _, backend in present(proxy) do
    local counters = statistics.of_backend(backend)
    text:sample(counters.bytes_from_client, "backend", backend.address, "from", "client")
    text:sample(counters.bytes_from_server, "backend", backend.address, "from", "server")
  end
end

local function add_script(text, proxy, waiting)
  single(text, "script_loads_total", "counter", "Versions of the script that were compiled.",
    script.status(proxy.lua_script).version)
  single(text, "script_load_failures_total", "counter", "Sessions that ended as the script could not be loaded.",
    proxy.totals.script_load_failures)
  by_label(text, "hook_errors_total", "counter", "Calls of the script that failed, or waited for too long.", "hook",
    hooks.NAMES, proxy.totals.hook_errors)
  local calls, seconds = {}, {}
  for _, hook in ipairs(proxy.statistics:hooks()) do
    calls[hook.name], seconds[hook.name] = hook.calls, hook.seconds
  end
  by_label(text, "hook_calls_total", "counter", "Calls of hooks.", "hook", hooks.NAMES, calls)
  by_label(text, "hook_seconds_total", "counter", "Time of these calls until they returned or waited.", "hook",
    hooks.NAMES, seconds)
  single(text, "hooks_waiting", "gauge", "Sessions in which a hook waits.", waiting)
end

local function render(proxy)
  local text = texts.new()
  add_process(text, proxy)
  local waiting = add_sessions(text, proxy)
  add_backends(text, proxy)
  add_statistics(text, proxy)
  if proxy.lua_script then
    add_script(text, proxy, waiting)
  end
  return tostring(text)
end

local function routes_of(proxy)
  local made_at, text
  return {
    ["/metrics"] = function()
      if not text or uv.now() - made_at >= FRESH then
        text, made_at = render(proxy), uv.now()
      end
      return 200, text, texts.CONTENT_TYPE
    end,
    ["/healthz"] = function()
      return 200, "ok\n"
    end,
    ["/readyz"] = function()
      if proxy.backends:all_down() then
        return 503, "all backends are down\n"
      end
      return 200, "ready\n"
    end,
  }
end

--- Opens the listening port of a proxy.
---@param port table
---@param place mysql_proxy.endpoint|{ descriptor: integer }
---@return HttpListener|nil
---@return string|nil message
---@return string|nil code
function M.open(port, place)
  return http.listen(place, routes_of(port.proxy), port.proxy.log, port.proxy.idle_ports)
end

return M
