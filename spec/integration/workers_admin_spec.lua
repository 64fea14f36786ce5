-- --workers: one admin interface, one port for metrics, whichever process has a client.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local WORKERS = 3

describe("the admin interface of several workers #long", function()
  local server, here, proxy, admin, workers, clients, metrics_port

  local function rows(sql)
    return raw.text_of(admin:ask(sql))
  end

  local function number(sql)
    return assert(tonumber(rows(sql)), rows(sql))
  end

  local function change(sql)
    local answer = admin:ask(sql)
    assert(answer.affected_rows, answer.errmsg)
    return answer.affected_rows
  end

  local function failure(sql)
    local answer = admin:ask(sql)
    return { answer.errcode, answer.errmsg }
  end

  local function wait_for(expected, sql)
    assert(process.wait_until(function()
      return rows(sql) == expected
    end, 10), rows(sql))
  end

  -- The worker that is the only one to move, meanwhile.
  local function alone(index, fn)
    for other, pid in ipairs(workers) do
      if other ~= index then
        uv.kill(pid, "sigstop")
      end
    end
    local ok, result = pcall(fn)
    for other, pid in ipairs(workers) do
      if other ~= index then
        uv.kill(pid, "sigcont")
      end
    end
    return assert(ok and result, result)
  end

  -- A client of this worker, which may be refused.
  local function client_of(index, user)
    local client = alone(index, function()
      return raw.connect(proxy.port):login(user or "nopass")
    end)
    clients[#clients + 1] = client
    return client
  end

  local function one_of_each(user)
    local list = {}
    for index = 1, WORKERS do
      list[index] = client_of(index, user)
    end
    return list
  end

  local function works(client)
    return client:ask("SELECT 42").rows[1][1] == "42"
  end

  local function id_of(client)
    return number(("SELECT id FROM sessions WHERE client = '127.0.0.1:%d'"):format(client.socket:getsockname().port))
  end

  local function metrics(path)
    local connection = raw.connect(metrics_port)
    connection:write(("GET %s HTTP/1.1\r\nHost: proxy\r\n\r\n"):format(path or "/metrics"))
    assert(connection:wait_for_end())
    connection:close()
    return connection:rest()
  end

  local function metric(text, sample)
    return tonumber(text:match("\n" .. sample:gsub("%p", "%%%0") .. " (%S+)"))
  end

  -- A text is given out for a while.
  local function wait_for_metric(value, sample)
    local text
    assert(process.wait_until(function()
      text = metrics()
      return metric(text, sample) == value
    end, 10), text)
  end

  -- Waits until there is another process in the place of each that was killed.
  local function wait_for_others(count)
    local known = {}
    for _, pid in ipairs(workers) do
      known[pid] = true
    end
    assert(process.wait_until(function()
      local new = 0
      for _, pid in ipairs(process.children(proxy.pid)) do
        if not known[pid] and proxy:log():find(("worker %%d %%(PID=%d%%) started"):format(pid)) then
          new = new + 1
        end
      end
      return new == count
    end, 20), proxy:log())
    workers = process.children(proxy.pid)
    for _, pid in ipairs(workers) do
      process.adopt(pid)
    end
  end

  local function start(...)
    metrics_port = process.free_port()
    proxy = proxies.start({ server }, { "--workers=" .. WORKERS, "--metrics-address=127.0.0.1:" .. metrics_port, ... })
    workers = process.children(proxy.pid)
    for _, pid in ipairs(workers) do
      process.adopt(pid)
    end
    admin = raw.connect(proxy.admin_port):login("nopass")
  end

  local function stop()
    admin:close()
    assert.equal(0, proxy:stop())
    for _, pid in ipairs(workers) do
      process.dismiss(pid)
    end
  end

  -- A client of the admin interface that this script answers; each worker has a client.
  local function client_of_a_proxy_with(script)
    start("--admin-lua-script=" .. script, "--admin-username=root", "--admin-password=secret")
    one_of_each()
    return function(sql)
      local program, args = server:client()
      for _, argument in ipairs {
        "--host=127.0.0.1", "--port=" .. proxy.admin_port, "--user=root", "--password=secret", "-BN", "-e", sql,
      } do
        args[#args + 1] = argument
      end
      local code, out, errors = process.run(program, args)
      assert.equal(0, code, errors)
      return out
    end
  end

  setup(function()
    server = servers.all()[1]
    here = "127.0.0.1:" .. server.port
  end)

  before_each(function()
    clients = {}
  end)

  after_each(function()
    for _, client in ipairs(clients) do
      client:close()
    end
  end)

  describe("while all is well", function()
    setup(function()
      start()
    end)

    teardown(function()
      stop()
    end)

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      wait_for("0", "SELECT COUNT(*) FROM sessions WHERE port <> 'admin'")
    end)

    it("has all sessions in one table, each under a number of its own", function()
      one_of_each()
      local list = one_of_each()
      local ids = {}
      for _, client in ipairs(list) do
        ids[#ids + 1] = id_of(client)
      end
      assert.equal("6,6", rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM sessions WHERE port = 'proxy' "
        .. "AND user = 'nopass' AND backend = '" .. here .. "' AND state = 'read_query'"))
      local listed = {}
      for _, row in ipairs(admin:ask("SHOW PROCESSLIST").rows) do
        listed[tonumber(row[1])] = row[2]
      end
      for _, id in ipairs(ids) do
        assert.equal("nopass", listed[id])
      end
      assert.equal("6", rows("SELECT COUNT(*) FROM proxy_connections WHERE type = 'proxy' AND state = '10'"))
      assert.equal("admin,nopass", rows("SELECT port, user FROM sessions WHERE id = CONNECTION_ID()"))
      wait_for("7", "SELECT COUNT(*) FROM sessions")
      assert.equal("6", rows("SELECT connected_clients FROM backends"))
      assert.equal("Threads_connected,6", rows("SHOW STATUS LIKE 'Threads_connected'"))
    end)

    it("adds up statistics, and takes percentiles of them all", function()
      local list = one_of_each()
      assert.is_true(works(list[1]))
      local before = number("SELECT SUM(count) FROM commands WHERE command = 'COM_QUERY'")
      local errors = number("SELECT errors FROM commands WHERE command = 'COM_QUERY'")
      for index, client in ipairs(list) do
        for _ = 1, index do
          client:ask("SELECT SLEEP(0) AS of_all")
        end
      end
      list[3]:ask("SELECT SLEEP(2) AS of_all")
      list[2]:ask("SELECT nothing AS of_all")
      assert.equal("SELECT SLEEP( ? ) AS `of_all`,nopass,7,0,7", rows("SELECT text, user, count, errors, rows "
        .. "FROM query_digests WHERE text LIKE '%SLEEP%of_all%'"))
      assert.equal("1", rows("SELECT min_time <= p50_time AND p50_time < sum_time / 4 AND p99_time <= max_time "
        .. "AND max_time >= 2 AND first_seen <= last_seen FROM query_digests WHERE text LIKE '%SLEEP%of_all%'"))
      assert.equal(before + 8, number("SELECT count FROM commands WHERE command = 'COM_QUERY'"))
      assert.equal(errors + 1, number("SELECT errors FROM commands WHERE command = 'COM_QUERY'"))
      assert.equal(before + 8, number("SELECT SUM(count) FROM command_latency WHERE command = 'COM_QUERY'"))
      assert.equal(before + 8, number("SELECT MAX(total) FROM command_latency WHERE command = 'COM_QUERY'"))
      assert.equal(number("SELECT SUM(count) FROM commands"), number("SELECT queries FROM backends"))
    end)

    it("has the errors of all", function()
      local before = number("SELECT COUNT(*) FROM errors")
      for _, client in ipairs(one_of_each("nobody_of_this_name")) do
        assert.equal(1045, client.refused.errcode)
      end
      assert.equal(before + 3, number("SELECT COUNT(*) FROM errors"))
      assert.equal("3", rows("SELECT COUNT(DISTINCT session) FROM errors WHERE user = 'nobody_of_this_name'"))
      local names = {}
      for round = 1, 3 do -- in the order in which they came, whoever had them
        for index = WORKERS, 1, -1 do
          names[#names + 1] = ("nobody_%d_%d"):format(round, index)
          client_of(index, names[#names])
          wait_for("1", ("SELECT COUNT(*) FROM errors WHERE user = '%s'"):format(names[#names]))
        end
      end
      assert.equal(table.concat(names, " "), rows("SELECT user FROM errors WHERE user LIKE 'nobody\\_%\\_%' "
        .. "AND user <> 'nobody_of_this_name'"))
    end)

    it("answers many at once, of whom some leave before", function()
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      local text, many = "SELECT text, count FROM query_digests ORDER BY 1, 2", {}
      local expected = rows(text)
      for index = 1, 30 do
        many[index] = raw.connect(proxy.admin_port):login("nopass")
      end
      for _, each in ipairs(many) do
        each:send("\3" .. text)
      end
      for index, each in ipairs(many) do
        if index % 3 ~= 0 then
          assert.equal(expected, raw.text_of(each:answer(each:packet())))
        end
        each:close()
      end
      wait_for("1", "SELECT COUNT(*) FROM sessions WHERE port = 'admin'")
    end)

    it("forgets what is counted everywhere", function()
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      assert.is_true(number("SELECT COUNT(*) FROM query_digests") > 0)
      for _, name in ipairs { "query_digests", "commands", "errors" } do
        change("TRUNCATE TABLE " .. name)
        assert.equal("0", rows("SELECT COUNT(*) FROM " .. name))
      end
    end)

    it("and the metrics have the same sums", function()
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      wait_for_metric(3, 'mysql_proxy_sessions{state="read_query"}')
      local text = metrics()
      assert.equal(3, metric(text, "mysql_proxy_workers"))
      assert.equal(3, metric(text, ('mysql_proxy_backend_connected_clients{backend="%s"}'):format(here)))
      assert.equal(number("SELECT count FROM commands WHERE command = 'COM_QUERY'"),
        metric(text, 'mysql_proxy_command_duration_seconds_count{command="COM_QUERY"}'))
      assert.equal(number("SELECT queries FROM backends"), -- which is not forgotten
        metric(text, ('mysql_proxy_backend_commands_total{backend="%s"}'):format(here)))
      assert.equal(number("SELECT value FROM status WHERE variable_name = 'Questions'"),
        metric(text, "mysql_proxy_commands_total"))
      assert.equal(number("SELECT value FROM status WHERE variable_name = 'Connections'"),
        metric(text, "mysql_proxy_sessions_accepted_total"))
      assert.matches("^HTTP/1.1 200", metrics("/healthz"))
    end)

    it("kills any session", function()
      local list = one_of_each()
      for index, client in ipairs(list) do
        local id = id_of(client)
        change("KILL " .. id)
        assert.truthy(client:wait_for_end())
        for other = index + 1, WORKERS do
          assert.is_true(works(list[other]))
        end
        assert.same({ 1094, "Unknown thread id: " .. id }, failure("KILL " .. id))
        assert.is_string(proxy:wait_for_log("%(critical%) admin interface: nopass@127%.0%.0%.1:%d+ has killed session "
          .. id .. " %(nopass@"))
      end
      assert.same({ 1094, "Unknown thread id: 4000000" }, failure("KILL 4000000")) -- the supervisor's own
    end)

    it("stops the statement of any session", function()
      for _, client in ipairs(one_of_each()) do
        local id = id_of(client)
        client:send("\3SELECT SLEEP(1000)")
        wait_for("Query", "SELECT command FROM sessions WHERE id = " .. id)
        change("KILL QUERY " .. id)
        local answer = client:answer(client:packet())
        assert.is_true(answer.errcode == 1317 or answer.rows[1][1] == "1")
        assert.is_true(works(client))
      end
    end)

    it("has options set everywhere, or nowhere", function()
      one_of_each()
      assert.equal(1231, failure("SET max_connections = 'many'")[1])
      change("SET max_connections = 1")
      assert.equal("1", rows("SELECT @@max_connections"))
      for _, client in ipairs(one_of_each()) do
        assert.equal(1040, client.refused.errcode)
      end
      change("SET max_connections = 10000")
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      wait_for_metric(3, 'mysql_proxy_sessions_refused_total{reason="max-connections"}')
    end)

    it("has servers drain everywhere", function()
      local old = one_of_each()
      assert.equal(1, change("UPDATE backends SET state = 'draining'"))
      for _, client in ipairs(one_of_each()) do
        assert.equal(1105, client.refused.errcode)
      end
      assert.matches("^HTTP/1.1 503", metrics("/readyz"))
      assert.equal("draining,3", rows("SELECT state, connected_clients FROM backends"))
      for _, client in ipairs(old) do
        assert.is_true(works(client))
      end
      assert.equal(1, change("UPDATE backends SET state = 'down'"))
      for _, client in ipairs(old) do
        assert.truthy(client:wait_for_end())
      end
      assert.equal(1, change("UPDATE backends SET state = 'up'"))
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      assert.matches("^HTTP/1.1 200", metrics("/readyz"))
      assert.equal("up", rows("SELECT state FROM backends"))
    end)

    it("adds and removes servers everywhere, each under the same index", function()
      local old = client_of(2)
      assert.equal(1062, failure(("INSERT INTO backends (address) VALUES ('%s')"):format(here))[1])
      assert.equal(1062, failure(("INSERT INTO backends (address) VALUES ('127.0.0.1:1'), ('%s')"):format(here))[1])
      assert.equal("1," .. here, rows("SELECT backend_ndx, address FROM backends"))
      assert.equal(1, change(("INSERT INTO backends (address) VALUES ('localhost:%d')"):format(server.port + 1)))
      assert.equal(1, change("DELETE FROM backends WHERE backend_ndx = 2"))
      assert.equal(1, change("DELETE FROM backends WHERE backend_ndx = 1"))
      assert.equal("draining,1", rows("SELECT state, connected_clients FROM backends")) -- in one worker alone
      assert.equal(1, change("INSERT INTO backends (address) VALUES ('" .. server.socket .. "')"))
      assert.equal("1 2", rows("SELECT backend_ndx FROM backends ORDER BY 1"))
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      assert.equal("0,1 3,2", rows("SELECT IF(address = '" .. here .. "', 0, 3), backend_ndx FROM backends"))
      assert.is_true(works(old))
      old:close()
      wait_for("2", "SELECT backend_ndx FROM backends")
      assert.equal(1, change("INSERT INTO backends (address) VALUES ('" .. here .. "')"))
      assert.equal("1," .. here, rows("SELECT backend_ndx, address FROM backends WHERE backend_ndx = 1"))
      assert.equal(1, change("DELETE FROM backends WHERE backend_ndx = 2"))
    end)

    it("gives all a new script, unless there is a mistake in it", function()
      local good, bad = process.path("good.lua"), process.path("bad.lua")
      process.write_file(good, "function read_query() end\n")
      process.write_file(bad, "function read_query(\n")
      change("SET proxy_lua_script = '" .. good .. "'")
      assert.equal(1105, failure("SET proxy_lua_script = '" .. bad .. "'")[1])
      assert.equal(good, rows("SELECT file FROM script"))
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      assert.equal("3", rows("SELECT calls FROM hooks WHERE hook = 'read_query'"))
      wait_for_metric(3, 'mysql_proxy_hook_calls_total{hook="read_query"}')
      change("RELOAD")
      change("SET proxy_lua_script = NULL")
    end)

    it("names the worker in lines of the log", function()
      local client = client_of(1)
      local id = id_of(client)
      client:close()
      assert.is_string(proxy:wait_for_log(("%%(debug%%) worker %d: session %d %%(nopass@"):format(id % (WORKERS + 1),
        id)))
    end)
  end)

  it("and its script see all of them", function()
    local script = process.path("admin.lua")
    process.write_file(script, [[
      function read_query(packet)
        local backend = proxy.global.backends[1]
        if packet:sub(2) == "down" then
          backend.state = proxy.BACKEND_STATE_DOWN
        end
        proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
          fields = { { name = "state" }, { name = "clients" } },
          rows = { { tostring(backend.state), tostring(backend.connected_clients) } },
        } }
        return proxy.PROXY_SEND_RESULT
      end]])
    local client = client_of_a_proxy_with(script)
    assert.equal("1\t3\n", client("SELECT 1"))
    assert.equal("2\t3\n", client("down"))
    assert.equal("2\t3\n", client("SELECT 1")) -- as the workers have it
    stop()
  end)

  describe("when a worker", function()
    before_each(function()
      start("--log-format=json")
    end)

    after_each(function()
      stop()
    end)

    it("dies, goes on, and its successor knows what has been changed", function()
      local list = one_of_each()
      local ids = {}
      for index, client in ipairs(list) do
        assert.is_true(works(client))
        ids[index] = id_of(client)
      end
      change("SET max_connections = 2")
      change("INSERT INTO backends (address, type) VALUES ('127.0.0.1:1', 'ro')")
      change("UPDATE backends SET state = 'draining' WHERE backend_ndx = 1")
      wait_for_metric(3, 'mysql_proxy_sessions{state="read_query"}')
      local before = metrics()
      uv.kill(workers[2], "sigkill")
      assert.truthy(list[2]:wait_for_end())
      wait_for("2", "SELECT COUNT(*) FROM sessions WHERE port = 'proxy'")
      wait_for_others(1)
      for index = 1, WORKERS do
        assert.equal(1105, client_of(index).refused.errcode)
      end
      assert.equal("1,draining,rw 2,unknown,ro", rows("SELECT backend_ndx, state, type FROM backends"))
      change("UPDATE backends SET state = 'up' WHERE backend_ndx = 1")
      local new = one_of_each()
      for _, client in ipairs(new) do
        assert.is_true(works(client))
        for _, id in ipairs(ids) do
          assert.are_not.equal(id, id_of(client))
        end
      end
      assert.equal("5", rows("SELECT COUNT(*) FROM sessions WHERE port = 'proxy'"))
      local seen, refused = 0, 0
      for _ = 1, WORKERS do -- one has room for a second client
        for index = 1, WORKERS do
          local client = client_of(index)
          seen, refused = seen + 1, refused + (client.refused and 1 or 0)
        end
      end
      assert.equal(8, refused)
      wait_for_metric(6, 'mysql_proxy_sessions{state="read_query"}')
      local after = metrics()
      for _, sample in ipairs {
        "mysql_proxy_commands_total", "mysql_proxy_sessions_accepted_total",
        'mysql_proxy_command_duration_seconds_count{command="COM_QUERY"}',
        ('mysql_proxy_backend_commands_total{backend="%s"}'):format(here),
      } do
        assert.is_true(metric(after, sample) >= metric(before, sample) + 3, sample)
      end
      assert.is_string(proxy:wait_for_log('"level":"debug","worker":%d,"session":%d+,'))
    end)

    it("and all others have successors, goes on", function()
      stop()
      local pid_file = process.path("proxy.pid")
      start("--pid-file=" .. pid_file)
      local client = client_of(1)
      change("RESTART")
      local successor = process.wait_until(function()
        local pid = tonumber(process.read_file(pid_file))
        return pid ~= proxy.pid and select(2, proxy:log():gsub("mysql%-proxy %S+ started", "")) == 2 and pid
      end, 20)
      process.adopt(assert(successor, proxy:log()))
      local others = process.children(successor)
      for _, pid in ipairs(others) do
        process.adopt(pid)
      end
      assert.is_true(works(client))
      assert.equal("1", rows("SELECT COUNT(*) FROM sessions WHERE port = 'proxy'")) -- as the old one still knows
      local new = raw.connect(proxy.admin_port):login("nopass")
      assert.equal("0", raw.text_of(new:ask("SELECT COUNT(*) FROM sessions WHERE port = 'proxy'")))
      new:close()
      assert.matches("^HTTP/1.1 200", metrics("/healthz"))
      client:close()
      assert.equal(0, proxy.process:wait())
      assert.truthy(admin:wait_for_end())
      assert.is_true(process.dismiss(successor))
      for _, pid in ipairs(others) do
        process.dismiss(pid)
      end
    end)

    it("stands still, answers without it, and with it when it goes on", function()
      one_of_each()
      assert.equal("3", rows("SELECT COUNT(*) FROM sessions WHERE port = 'proxy'"))
      wait_for_metric(3, "mysql_proxy_sessions_accepted_total")
      uv.kill(workers[1], "sigstop")
      assert.equal("2", rows("SELECT COUNT(*) FROM sessions WHERE port = 'proxy'"))
      assert.is_string(proxy:wait_for_log('"warning","message":"worker 1 does not answer, going on without it"'))
      assert.equal("2", rows("SELECT connected_clients FROM backends"))
      wait_for_metric(2, "mysql_proxy_workers")
      assert.equal(3, metric(metrics(), "mysql_proxy_sessions_accepted_total"))
      assert.equal(1, change("UPDATE backends SET state = 'draining'"))
      uv.kill(workers[1], "sigcont")
      assert.is_string(proxy:wait_for_log('"worker 1 answers again"'))
      wait_for("3", "SELECT COUNT(*) FROM sessions WHERE port = 'proxy'")
      assert.equal(1105, client_of(1).refused.errcode)
    end)

    it("and all others die, keeps the operator's connection", function()
      for _, pid in ipairs(workers) do
        uv.kill(pid, "sigkill")
      end
      wait_for("0", "SELECT COUNT(*) FROM sessions WHERE port = 'proxy'")
      wait_for_others(WORKERS)
      assert.equal("unknown", rows("SELECT state FROM backends"))
      for _, client in ipairs(one_of_each()) do
        assert.is_true(works(client))
      end
      change("SHUTDOWN")
      assert.equal(0, proxy.process:wait())
    end)
  end)
end)
