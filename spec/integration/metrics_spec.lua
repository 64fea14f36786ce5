-- --metrics-address, as Prometheus, a health check, curl, and somebody who means no good see it.

local uv = require "luv"

local mysql_proxy = require "mysql-proxy"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- Everything that comes until the connection ends.
local function answer_of(connection)
  assert(connection:wait_for_end(), "the connection does not end: " .. connection:rest())
  connection:close()
  return connection:rest()
end

local function ask(port, bytes)
  local connection = raw.connect(port)
  connection:write(bytes)
  return answer_of(connection)
end

local function get(port, path)
  local head, body = ask(port, ("GET %s HTTP/1.1\r\nHost: proxy\r\n\r\n"):format(path)):match("^(.-\r\n\r\n)(.*)$")
  return tonumber(head:match("^HTTP/1%.1 (%d+)")), body, head
end

local PLAIN = "%f[%w%p]" -- matches in front of a name

local function value_of(text, sample)
  return tonumber(text:match("\n" .. PLAIN .. sample:gsub("%p", "%%%0") .. " (%S+)"))
end

-- Waits until samples have these values.
local function wait_for(port, expected)
  local text, missing
  process.wait_until(function()
    text, missing = select(2, get(port, "/metrics")), {}
    for sample, value in pairs(expected) do
      if value_of(text, sample) ~= value then
        missing[#missing + 1] = sample
      end
    end
    return #missing == 0
  end, 10)
  assert.equal("", table.concat(missing, ", "), text)
end

local function start(backends, options)
  local port = process.free_port()
  local proxy = proxies.start(backends, { "--metrics-address=127.0.0.1:" .. port, unpack(options or {}) })
  proxy.metrics_port = port
  return proxy
end

describe("the HTTP port for metrics", function()
  local proxy, port

  setup(function()
    proxy = start { servers.all()[1] }
    port = proxy.metrics_port
  end)

  teardown(function()
    proxy:stop()
  end)

  it("answers GET with HTTP/1.1 and 1.0, and closes", function()
    local status, body, head = get(port, "/healthz")
    assert.equal(200, status)
    assert.equal("ok\n", body)
    assert.matches("\r\nContent-Length: 3\r\n", head, 1, true)
    assert.matches("\r\nConnection: close\r\n", head, 1, true)
    assert.matches("\r\nDate: %a+, %d%d %a+ %d+ %d%d:%d%d:%d%d GMT\r\n", head)
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nready\n$", ask(port, "GET /readyz HTTP/1.0\r\n\r\n"))
    local text = ask(port, "GET http://proxy/metrics?x=1 HTTP/1.1\r\nHost: proxy\r\n\r\n")
    assert.matches("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n", text, 1, true)
    assert.matches("\nmysql_proxy_build_info{version=\"[%d.]+\",lua=\"Lua[^\"]+\"} 1\n", text)
  end)

  it("answers HEAD without a body", function()
    local whole = ask(port, "HEAD /metrics HTTP/1.0\r\n\r\n")
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\n$", whole)
    assert.is_true(tonumber(whole:match("Content%-Length: (%d+)")) > 1000)
    assert.matches("^HTTP/1.1 404 Not Found\r\n.*\r\n\r\n$", ask(port, "HEAD /x HTTP/1.0\r\n\r\n"))
  end)

  it("answers curl, also over a slow start", function()
    local code, output = process.run("curl", { "-sS", "-i", ("http://127.0.0.1:%d/healthz"):format(port) })
    assert.equal(0, code)
    assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nok\n$", output)
    local connection = raw.connect(port)
    for char in ("GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n"):gmatch(".") do
      connection:write(char)
      uv.run("nowait")
    end
    assert.matches("\r\n\r\nok\n$", answer_of(connection))
  end)

  local long = ("x"):rep(8192)
  for name, case in pairs {
    ["another path"] = { "GET / HTTP/1.0\r\n\r\n", "404 Not Found" },
    ["a path below one of its own"] = { "GET /metrics/ HTTP/1.0\r\n\r\n", "404 Not Found" },
    ["another method"] = { "DELETE /metrics HTTP/1.0\r\n\r\n", "405 Method Not Allowed" },
    ["another method, with a body"] = {
      "POST /metrics HTTP/1.0\r\nContent-Length: 60000\r\n\r\n" .. ("x"):rep(60000), "405 Method Not Allowed",
    },
    ["CONNECT"] = { "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405 Method Not Allowed" },
    ["no HTTP"] = { "\22\3\1\2\0\1\0\1\252\3\3", "400 Bad Request" },
    ["another version"] = { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request" },
    ["no version"] = { "GET /metrics\r\n\r\n", "400 Bad Request" },
    ["no host"] = { "GET /metrics HTTP/1.1\r\n\r\n", "400 Bad Request" },
    ["a header that is none"] = { "GET /metrics HTTP/1.0\r\nHost\r\n\r\n", "400 Bad Request" },
    ["a long path"] = { "GET /" .. long .. " HTTP/1.0\r\n\r\n", "431 Request Header Fields Too Large" },
    ["a long head"] = { "GET / HTTP/1.0\r\n" .. ("a: b\r\n"):rep(2000) .. "\r\n",
      "431 Request Header Fields Too Large" },
    ["a head without an end"] = { "GET / HTTP/1.0\r\na: " .. long, "431 Request Header Fields Too Large" },
  } do
    it(("says what is wrong with %s"):format(name), function()
      local whole = ask(port, case[1])
      assert.equal("HTTP/1.1 " .. case[2], whole:match("^[^\r]+"))
      assert.matches("\r\n\r\n" .. case[2]:match("%d+ (.*)") .. "\n$", whole)
      assert.equal(case[2]:find("405", 1, true) and "GET, HEAD" or nil, whole:match("\r\nAllow: ([^\r]+)"))
    end)
  end

  it("takes a head of 8192 bytes", function()
    local request = "GET /healthz HTTP/1.0\r\na: %s\r\n\r\n"
    assert.matches("^HTTP/1.1 200 ", ask(port, request:format(("x"):rep(8192 - #request + 2))))
    assert.matches("^HTTP/1.1 431 ", ask(port, request:format(("x"):rep(8192 - #request + 3))))
  end)

  it("answers the first of pipelined requests alone", function()
    local _, answers = ask(port, ("GET /healthz HTTP/1.1\r\nHost: proxy\r\n\r\n"):rep(100)):gsub("HTTP/1.1 200 OK", "")
    assert.equal(1, answers)
  end)

  it("closes on who sends without an end behind his request", function()
    local connection = raw.connect(port)
    connection:write("POST /metrics HTTP/1.0\r\n\r\n" .. ("x"):rep(10000000))
    assert.truthy(connection:wait_for_end())
    connection:close()
  end)

  it("does not mind clients who leave", function()
    for _, bytes in ipairs { "", "GET", "GET /metrics HTTP/1.0\r\n\r\n" } do
      local connection = raw.connect(port)
      connection:write(bytes)
      connection:close()
    end
    assert.equal(200, (get(port, "/healthz")))
    assert.is_nil(proxy:log():find("error", 1, true))
  end)

  it("answers others, and MySQL's clients, whatever hundreds of silent connections do, and ends those", function()
    local silent, before = {}, proxy:descriptors()
    for index = 1, 300 do
      silent[index] = raw.connect(port)
      silent[index]:write(index % 2 == 0 and "GET /metrics HTTP/1.0\r\nX-Slow: " or "G")
    end
    assert.equal(200, (get(port, "/metrics")))
    local handles = proxy:descriptors() - before
    assert.is_true(handles <= 33, handles .. " more descriptors are open")
    local client = raw.connect(proxy.port):login("nopass")
    assert.is_nil(client.refused)
    client:close()
    local timed_out = 0
    for _, connection in ipairs(silent) do
      if answer_of(connection):find("^HTTP/1.1 408 Request Timeout\r\n") then
        timed_out = timed_out + 1
      end
    end
    assert.is_true(timed_out >= 31, timed_out .. " got an answer") -- the others were pushed out
    assert.truthy(process.wait_until(function()
      return proxy:descriptors() <= before
    end, 20))
  end)
end)

describe("metrics: the start", function()
  local function refused(message, ...)
    local options = { "--plugins=proxy", "--proxy-address=127.0.0.1:0", "--proxy-read-only-address=127.0.0.1:0" }
    for _, option in ipairs { ... } do
      options[#options + 1] = option
    end
    local code, _, errors = process.run(proxies.build .. "/mysql-proxy", options)
    assert.equal(1, code)
    assert.equal("mysql-proxy: " .. message .. "\n", errors:match("(mysql%-proxy: .*)"))
  end

  it("fails if the address is in use", function()
    local socket, port = uv.new_tcp(), process.free_port()
    assert(socket:bind("127.0.0.1", port))
    assert(socket:listen(1, function() end))
    local address = "127.0.0.1:" .. port
    refused(("bind(%s) failed: Address already in use (98)"):format(address), "--metrics-address=" .. address)
    socket:close()
  end)

  it("fails if the address is no host and port", function()
    local form = "IP-address has to be in the form [<ip>][:<port>], is '%s'. %s (--metrics-address)"
    refused(form:format("localhost", "No port number"), "--metrics-address=localhost")
    refused(form:format("[::1]", "No port number"), "--metrics-address=[::1]")
    refused(form:format("/tmp/x", "'/tmp/x' is no host name or IP address"), "--metrics-address=/tmp/x")
  end)

  it("may be a program's own, with several addresses", function()
    local port = process.free_port()
    local proxy = assert(mysql_proxy.new {
      proxy_address = {}, metrics_address = { "127.0.0.1:" .. port, "[::1]:" .. port },
    })
    local listening
    proxy:listen(function(ok, message)
      listening = assert(ok, message)
    end)
    assert.truthy(process.wait_until(function() return listening end))
    local urls = { ("http://127.0.0.1:%d/healthz"):format(port), ("http://[::1]:%d/healthz"):format(port) }
    local code, output = process.run("curl", { "-sS", "-g", unpack(urls) })
    assert.equal(0, code)
    assert.equal("ok\nok\n", output)
    proxy:close()
    assert.is_false(process.accepts(port))
    local _, message = mysql_proxy.new { proxy_address = {}, metrics_address = { "localhost" } }
    assert.matches("No port number", message)
  end)
end)

describe("readiness", function()
  local proxy

  after_each(function()
    proxy:stop()
  end)

  it("ends when all backends are known to be down, and comes back without a client", function()
    local dead = "127.0.0.1:" .. process.free_port()
    proxy = start { dead }
    assert.equal(200, (get(proxy.metrics_port, "/readyz")))
    assert.truthy(raw.connect(proxy.port):login("nopass").refused)
    local status, body = get(proxy.metrics_port, "/readyz")
    assert.equal(503, status)
    assert.equal("all backends are down\n", body)
    assert.equal(200, (get(proxy.metrics_port, "/healthz")))
    wait_for(proxy.metrics_port, {
      [('mysql_proxy_backend_state{backend="%s",state="down"}'):format(dead)] = 1,
      [('mysql_proxy_backend_state{backend="%s",state="unknown"}'):format(dead)] = 0,
      [('mysql_proxy_backend_connect_failures_total{backend="%s"}'):format(dead)] = 1,
      [('mysql_proxy_backend_marked_down_total{backend="%s"}'):format(dead)] = 1,
      ["mysql_proxy_login_failures_total"] = 0,
    })
    assert.truthy(process.wait_until(function()
      return get(proxy.metrics_port, "/readyz") == 200 -- a client would be let try
    end, 20))
  end)
end)

local SCRIPT = [[
  function read_query(packet)
    if packet:find("FAIL", 1, true) then error("as asked") end
    if packet:find("WAIT", 1, true) then proxy.async.sleep(60000) end
    if packet:find("IDLE", 1, true) then
      proxy.connection.backend_ndx = 0
      proxy.response = { type = proxy.MYSQLD_PACKET_OK }
      return proxy.PROXY_SEND_RESULT
    end
  end
]]

for _, server in ipairs(servers.all()) do
  describe("metrics, " .. server.name, function()
    local proxy, port, backend

    setup(function()
      local free = process.free_port()
      proxy = scripted.start(server, SCRIPT, { "--metrics-address=127.0.0.1:" .. free, "--max-connections=3" })
      port, backend = free, ('backend="%s:%d"'):format(server.host, server.port)
    end)

    teardown(function()
      proxy:stop()
    end)

    it("count sessions, logins, commands and bytes, and say what backends and scripts do", function()
      local first = scripted.client(proxy)
      assert.equal("1", first:ask("SELECT 1").rows[1][1])
      assert.truthy(scripted.client(proxy, "nobody at all").refused)
      wait_for(port, {
        ['mysql_proxy_sessions{state="read_query"}'] = 1,
        ["mysql_proxy_sessions_accepted_total"] = 2,
        ["mysql_proxy_login_failures_total"] = 1,
        ["mysql_proxy_commands_total"] = 1,
        ['mysql_proxy_bytes_total{from="client"}'] = 13,
        [("mysql_proxy_backend_state{%s,state=\"up\"}"):format(backend)] = 1,
        [("mysql_proxy_backend_connected_clients{%s}"):format(backend)] = 1,
        [("mysql_proxy_backend_connect_failures_total{%s}"):format(backend)] = 0,
        ["mysql_proxy_script_loads_total"] = 1,
        ["mysql_proxy_hooks_waiting"] = 0,
        ['mysql_proxy_hook_calls_total{hook="read_query"}'] = 1,
        ['mysql_proxy_command_duration_seconds_count{command="COM_QUERY"}'] = 1,
        ['mysql_proxy_command_duration_seconds_bucket{command="COM_QUERY",le="+Inf"}'] = 1,
        ['mysql_proxy_command_errors_total{command="COM_QUERY"}'] = 0,
      })
      assert.is_true(value_of(select(2, get(port, "/metrics")), 'mysql_proxy_bytes_total{from="server"}') > 30)

      assert.equal(1, #first:ask("SELECT 'FAIL'").rows)
      local waiting = scripted.client(proxy)
      waiting:send("\3SELECT 'WAIT'")
      local third = scripted.client(proxy)
      assert.equal(1040, scripted.client(proxy).refused.errcode)
      assert.is_nil(third:ask("IDLE").errcode)
      wait_for(port, {
        ['mysql_proxy_sessions_refused_total{reason="max-connections"}'] = 1,
        ['mysql_proxy_sessions_refused_total{reason="max-open-files"}'] = 0,
        ['mysql_proxy_hook_errors_total{hook="read_query"}'] = 1,
        ['mysql_proxy_hook_errors_total{hook="read_query_result"}'] = 0,
        ["mysql_proxy_hooks_waiting"] = 1,
        [("mysql_proxy_backend_idle_connections{%s}"):format(backend)] = 1,
        [("mysql_proxy_backend_connected_clients{%s}"):format(backend)] = 2,
      })
      local commands = value_of(select(2, get(port, "/metrics")), "mysql_proxy_commands_total")
      for _, client in ipairs { first, waiting, third } do
        client:close()
      end
      wait_for(port, { ['mysql_proxy_sessions{state="read_query"}'] = 0, mysql_proxy_commands_total = commands })

      local reader = raw.connect(proxy.read_only_port):login("nopass")
      assert.equal(1290, reader:ask("DELETE FROM x").errcode)
      wait_for(port, { mysql_proxy_read_only_refusals_total = 1 })
      reader:close()
    end)

    it("please promtool", function()
      local _, text = get(port, "/metrics")
      local code, output, errors = process.run("promtool", { "check", "metrics" }, {
        input = process.write_file(process.path("metrics"), text),
      })
      assert.equal("", output .. errors)
      assert.equal(0, code)
    end)

    it("are scraped by Prometheus, which answers a query with them", function()
      local web = process.free_port()
      local configuration = process.write_file(process.path("prometheus.yml"), ([[
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: mysql-proxy
    static_configs: [ { targets: [ "127.0.0.1:%d" ] } ]
]]):format(port))
      local prometheus = process.start("prometheus", {
        "--config.file=" .. configuration, "--storage.tsdb.path=" .. process.path("prometheus"),
        ("--web.listen-address=127.0.0.1:%d"):format(web),
      })
      local function query(expression)
        local code, output = process.run("curl", {
          "-s", "--get", "--data-urlencode", "query=" .. expression, ("http://127.0.0.1:%d/api/v1/query"):format(web),
        })
        return code == 0 and output:match('"value":%[[%d.]+,"([^"]*)"%]')
      end
      assert.truthy(process.wait_until(function()
        return query(("mysql_proxy_backend_state{%s,state=\"up\"}"):format(backend)) == "1"
      end, 60), prometheus:stderr())
      assert.equal("1", query('up{job="mysql-proxy"}'))
      local accepted = value_of(select(2, get(port, "/metrics")), "mysql_proxy_sessions_accepted_total")
      assert.equal(("%d"):format(accepted), query("mysql_proxy_sessions_accepted_total"))
      prometheus:stop("sigterm", 30)
    end)
  end)
end
