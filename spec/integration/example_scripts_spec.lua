-- The scripts in examples/ do what their first lines say.

local uv = require "luv"

local process = require "spec.support.process"
local proto = require "mysql.proto"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local function text_of(name)
  return process.read_file(("examples/%s.lua"):format(name))
end

describe("examples/README.md", function()
  it("names every example, and every example says how it is started", function()
    local readme, count = process.read_file("examples/README.md"), 0
    local scan = assert(uv.fs_scandir("examples"))
    for file in uv.fs_scandir_next, scan do
      local name = file:match("^(.*)%.lua$")
      if name then
        count = count + 1
        assert.truthy(readme:find(("[%s](%s)"):format(file, file), 1, true), file .. " is not in README.md")
        assert.truthy(text_of(name):find("^%-%- .-\n%-%-[^\n]*examples/" .. name .. "%.lua"), file)
      end
    end
    assert.is_true(count > 14)
  end)
end)

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name .. " the example", function()
    local proxy, clients

    before_each(function()
      clients = {}
    end)

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      if proxy then
        assert.equal(0, proxy:stop())
        for _, pattern in ipairs { "error in a callback[^\n]*", "%(lua%-error[^\n]*", "%([a-z_]+%) %[string[^\n]*" } do
          assert.is_nil(proxy:log():match(pattern))
        end
        proxy = nil
      end
    end)

    -- Starts a proxy with an example. `changes` are those that a user would make to its locals: { from, to } ...
    local function start(name, changes, options, backends)
      if not changes then
        proxy = proxies.start(backends or { server }, {
          ("--proxy-lua-script=%s/examples/%s.lua"):format(uv.cwd(), name), unpack(options or {})
        })
        return
      end
      local text = text_of(name)
      for _, change in ipairs(changes) do
        local first, last = text:find(change[1], 1, true)
        assert(first and not text:find(change[1], last, true), change[1])
        text = text:sub(1, first - 1) .. change[2] .. text:sub(last + 1)
      end
      proxy = scripted.start(backends or server, text, options)
    end

    local function login(user, port)
      local client = raw.connect(port or proxy.port):login(user or "nopass")
      clients[#clients + 1] = client
      return client
    end

    local function prints(pattern)
      assert.truthy(process.wait_until(function()
        return proxy.process:stdout():find(pattern)
      end, 10), pattern .. " in: " .. proxy.process:stdout())
    end

    -- A port through which clients reach the proxy from another address of this machine.
    local function port_from(address)
      local listener, port = uv.new_tcp(), process.free_port()
      assert(listener:bind("127.0.0.1", port))
      listener:listen(8, function()
        local client, there = uv.new_tcp(), uv.new_tcp()
        listener:accept(client)
        assert(there:bind(address, 0))
        there:connect("127.0.0.1", proxy.port, function()
          for from, to in pairs { [client] = there, [there] = client } do
            from:read_start(function(_, chunk)
              if chunk then
                to:write(chunk)
              elseif not to:is_closing() then
                from:close()
                to:close()
              end
            end)
          end
        end)
      end)
      clients[#clients + 1] = listener
      return port
    end

    -- Runs statements with the server's own client.
    local function mysql(sql, user, port, password)
      local program, args = server:client()
      for _, list in ipairs { { "-N", "-B" }, server.clear_text, server:login(port or proxy.port, user, password),
        { "-e", sql } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    -- COM_STMT_PREPARE: the id of the statement.
    local function prepare(client, sql)
      client:send("\22" .. sql)
      local first = client:packet()
      if first:byte() == 0xff then
        return nil, proto.from_err_packet(first)
      end
      local ok = proto.from_stmt_prepare_ok_packet(first)
      for _, count in ipairs { ok.num_params, ok.num_columns } do
        for _ = 1, count > 0 and count + 1 or 0 do
          client:packet()
        end
      end
      return ok.stmt_id
    end

    -- COM_STMT_EXECUTE without parameters: the error, or nil and how many rows there were.
    local function execute(client, id)
      client:send("\23" .. string.char(id, 0, 0, 0, 0, 1, 0, 0, 0))
      local payload, eofs, rows = client:packet(), 0, 0
      if payload:byte() == 0xff then
        return proto.from_err_packet(payload)
      end
      while eofs < 2 do
        payload = client:packet()
        if payload:byte() == 0xfe and #payload < 9 then
          eofs = eofs + 1
        elseif eofs == 1 then
          rows = rows + 1
        end
      end
      return nil, rows
    end

    it("log_queries prints every statement with its time", function()
      start("log_queries")
      local client = login()
      client:ask("SELECT 1\nUNION SELECT 2")
      prints("nopass@127%.0%.0%.1:%d+ %d+%.%d%d ms, 2 rows: SELECT 1 UNION SELECT 2\n")
      client:ask("DO SLEEP(0.1)")
      prints(" 1%d%d%.%d%d ms, 0 affected: DO SLEEP%(0.1%)\n")
      client:ask("SELECT nonsense")
      prints(" ms, an error: SELECT nonsense\n")
      local id = prepare(client, "SELECT 42")
      assert.is_nil(execute(client, id))
      prints(" ms, 1 rows: SELECT 42\n")
      assert.is_nil(prepare(client, "SELECT FROM"))
      client:send("\25" .. string.char(id, 0, 0, 0))
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)

    it("rewrite rewrites", function()
      start("rewrite")
      server:sql("CREATE TABLE IF NOT EXISTS test.customers (id INT)")
      local client = login()
      assert.same({ { "1" } }, client:ask("SLECT 1").rows)
      assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM test.customer").rows)
      assert.is_nil(execute(client, assert(prepare(client, "SELECT COUNT(*) FROM test.customer"))))
      local databases = {}
      for _, row in ipairs(client:ask("databases").rows) do
        databases[row[1]] = true
      end
      assert.is_true(databases.test)
      assert.equal(1146, client:ask("SELECT * FROM test.customer_names").errcode) -- a word of its own
      prints("SLECT 1 %-> SELECT 1\n")
    end)

    it("firewall refuses what looks dangerous, and nothing else", function()
      start("firewall")
      server:sql("CREATE TABLE IF NOT EXISTS test.orders (id INT); INSERT INTO test.orders VALUES (1)")
      local client = login()
      for sql, reason in pairs {
        ["DELETE FROM test.orders"] = "DELETE without WHERE",
        ["/* hello */ delete from test.orders -- where"] = "DELETE without WHERE",
        ["SELECT 1; UPDATE test.orders SET id = 2"] = "UPDATE without WHERE",
        ["/*!50000 DROP TABLE test.orders */"] = "DROP",
        ["/*M! DROP TABLE test.orders */"] = "DROP",
        ["DROP TABLE test.orders"] = "DROP",
        ["truncate test.orders"] = "TRUNCATE",
        ["SELECT * FROM test.orders WHERE id = 7 OR 'x'='x'"] = "a condition that is always true",
        ["SELECT sleep(100)"] = "SLEEP()",
        ["SELECT 1 INTO OUTFILE '/tmp/x'"] = "INTO OUTFILE",
        ["DELETE FROM test.orders # WHERE"] = "a comment that not every server reads alike",
        ["PREPARE s FROM 'DROP TABLE test.orders'"] = "PREPARE",
      } do
        local answer = client:ask(sql)
        assert.same({ 1148, "42000", "The firewall does not allow " .. reason },
          { answer.errcode, answer.sqlstate, answer.errmsg }, sql)
      end
      local _, refused = prepare(client, "DELETE FROM test.orders")
      assert.equal(1148, refused.errcode)
      client:send("\6test") -- COM_DROP_DB
      assert.equal(1148, client:answer(client:packet()).errcode)
      prints("refused nopass: SLEEP%(%): SELECT sleep%(100%)")
      for _, sql in ipairs {
        "SELECT 'DROP TABLE test.orders; DELETE FROM x'", "SELECT id FROM test.orders WHERE id = 1 OR id - 1 = 1",
        "SELECT sleep FROM (SELECT 1 AS sleep) AS t", "SHOW TABLES FROM test",
      } do
        assert.truthy(client:ask(sql).rows, sql)
      end
      assert.equal(0, client:ask("DELETE FROM test.orders WHERE id = 2").affected_rows)
    end)

    it("mock_server answers without a server", function()
      start("mock_server", nil, nil, { "127.0.0.1:" .. process.free_port() })
      local answer = login("anybody"):ask("SELECT * FROM fruits")
      assert.same({ "id", "name", "price" }, answer.names)
      assert.same({ { "1", "apple", "0.5" }, { "2", "banana" } }, answer.rows)
      local client = login("anybody")
      local ok = client:ask("INSERT INTO fruits (name) VALUES ('plum')")
      assert.same({ 1, 3 }, { ok.affected_rows, ok.insert_id })
      local _, refused = nil, client:ask("SELECT 2")
      assert.same({ 1064, "no answer for: SELECT 2" }, { refused.errcode, refused.errmsg })
      _, refused = prepare(client, "SELECT 1")
      assert.equal(1047, refused.errcode)
      for _, password in ipairs { "", "secret" } do
        assert.equal("1\tapple\t0.5\n2\tbanana\tNULL\n", mysql("SELECT * FROM fruits", "anybody", nil, password))
      end
    end)

    it("show_warnings prints the warnings of each statement", function()
      start("show_warnings")
      local client = login()
      assert.same({ { nil } }, client:ask("SELECT 1/0").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      client:ask("DROP TABLE IF EXISTS test.nowhere")
      prints("^SELECT 1/0\n  Warning 1365: Division by 0\nDROP TABLE IF EXISTS test.nowhere\n"
        .. "  Note 1051: Unknown table 'test.nowhere'\n$")
      assert.same({ { "1" } }, client:ask("SELECT @@warning_count").rows)
    end)

    it("explain prints the plan of each SELECT", function()
      start("explain")
      server:sql("CREATE TABLE IF NOT EXISTS test.notes (id INT, note TEXT)")
      local client = login()
      assert.same({}, client:ask("SELECT * FROM test.notes WHERE note = 'x'").rows)
      prints("^SELECT %* FROM test%.notes WHERE note = 'x'\n  id=1 select_type=SIMPLE table=notes .-type=ALL .-"
        .. "Extra=Using where\n$")
      client:ask("SELECT SQL_CALC_FOUND_ROWS 1 FROM (SELECT 1 UNION SELECT 2) AS t LIMIT 1")
      assert.same({ { "2" } }, client:ask("SELECT FOUND_ROWS()").rows)
      assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
      client:query("SELECT id FROM test.notes; INSERT INTO test.notes VALUES (1, 'once')")
      repeat
        local kind = client:packet():byte()
      until kind == 0 -- the OK of the INSERT
      assert.same({ { "1" } }, client:ask("SELECT COUNT(*) FROM test.notes").rows)
      client:ask("DELETE FROM test.notes")
    end)

    it("histogram counts kinds of statements", function()
      start("histogram")
      local client, other = login(), login()
      for i = 1, 3 do
        client:ask("SELECT " .. i)
        other:ask("select  '" .. i .. "' /* the same */")
      end
      other:ask("DO SLEEP(0.02)")
      other:ask("SELECT nonsense")
      local answer = login():ask("select * from histogram.queries")
      assert.same({ "query", "count", "avg_ms", "max_ms", "<1ms", "<10ms", "<100ms", "<1s", "longer" }, answer.names)
      assert.same({ "SELECT ? ", "6" }, { answer.rows[1][1], answer.rows[1][2] })
      local sleep
      for _, row in ipairs(answer.rows) do
        local sum = 0
        for bucket = 5, 9 do
          sum = sum + row[bucket]
        end
        assert.equal(tonumber(row[2]), sum)
        assert.is_true(tonumber(row[3]) <= tonumber(row[4]))
        sleep = row[1]:find("SLEEP") and row or sleep
      end
      assert.same({ "`DO` SLEEP( ? ) ", "1", "0", "0" }, { sleep[1], sleep[2], sleep[5], sleep[6] })
      assert.is_true(tonumber(sleep[4]) >= 20)
      assert.equal(3, client:ask("DELETE FROM histogram.queries").affected_rows)
      assert.same({}, client:ask("SELECT * FROM histogram.queries").rows)
    end)

    it("mask_columns hides the values of some columns", function()
      start("mask_columns")
      server:sql("DROP TABLE IF EXISTS test.people; CREATE TABLE test.people (id INT, name TEXT, email TEXT);"
        .. "INSERT INTO test.people VALUES (1, 'Zoë', 'zoe@x.org'), (2, 'Bob', NULL)")
      local client = login()
      client:ask("SET NAMES utf8mb4")
      local answer = client:ask("SELECT email AS e, p.* FROM test.people AS p ORDER BY id")
      assert.same({ "e", "id", "name", "email" }, answer.names)
      assert.same({ { "***", "1", "Zoë", "***" }, { nil, "2", "Bob", nil } }, answer.rows)
      assert.same({ { "***" } }, client:ask("SELECT UPPER(Email) FROM test.people WHERE id = 1").rows)
      assert.same({ { "Zoë" }, { "Bob" } }, client:ask("SELECT name FROM test.people ORDER BY id").rows)
      assert.equal(1143, client:ask("SELECT 1; SELECT * FROM test.people").errcode)
      assert.equal(1143, execute(client, assert(prepare(client, "SELECT id, email FROM test.people"))).errcode)
      assert.is_nil(execute(client, assert(prepare(client, "SELECT name FROM test.people"))))
      assert.equal("zoe@x.org\n", mysql("SELECT email FROM test.people WHERE id = 1", "root"))
    end)

    describe("rw_splitting", function()
      local replica

      setup(function()
        replica = servers.start(server.flavour)
      end)

      teardown(function()
        replica:stop()
      end)

      local function where(client)
        local answer = client:ask("SELECT @@port")
        local port = tonumber(assert(answer.rows, answer.errmsg)[1][1])
        return port == server.port and "primary" or port == replica.port and "replica"
      end

      local function leave(client)
        local function ended()
          return select(2, proxy:log():gsub("%(debug%) session %d+ [^\n]*%): [cs]", ""))
        end
        local before = ended()
        client:send("\1")
        client:close()
        assert.truthy(process.wait_until(function()
          return ended() > before
        end, 5), proxy:log())
      end

      local function connections()
        return server:sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'nopass'")
      end

      -- The first login stays on the primary, and its connection is kept for the next.
      local function begin()
        start("rw_splitting", nil, { "--proxy-read-only-backend-addresses=127.0.0.1:" .. replica.port })
        server:sql("DROP TABLE IF EXISTS test.split;"
          .. "CREATE TABLE test.split (id INT AUTO_INCREMENT PRIMARY KEY, n INT); INSERT INTO test.split VALUES (7, 0)")
        local first = login()
        assert.equal("primary", where(first))
        leave(first)
        assert.equal("1\n", connections())
        return login()
      end

      it("sends reads to the replica, writes and transactions to the primary", function()
        local client = begin()
        assert.equal("replica", where(client))
        assert.equal(1, client:ask("UPDATE test.split SET n = n + 1").affected_rows)
        assert.same({ { "1", tostring(server.port) } }, client:ask("SELECT ROW_COUNT(), @@port").rows)
        assert.equal("replica", where(client))
        client:ask("BEGIN")
        assert.equal("primary", where(client))
        client:ask("UPDATE test.split SET n = 10")
        assert.same({ { "10" } }, client:ask("SELECT n FROM test.split").rows)
        client:ask("COMMIT")
        assert.equal("replica", where(client))
        assert.same({ { tostring(server.port) } }, client:ask("SELECT @@port FROM test.split FOR UPDATE").rows)
      end)

      it("asks for found rows where they were found, and follows the schema", function()
        local client = begin()
        client:ask("SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2 LIMIT 1")
        assert.same({ { "2", tostring(replica.port) } }, client:ask("SELECT FOUND_ROWS(), @@port").rows)
        client:send("\2test")
        assert.equal(0, client:packet():byte())
        assert.equal(1, client:ask("UPDATE split SET n = 5").affected_rows)
        assert.same({ { "test", tostring(replica.port) } }, client:ask("SELECT DATABASE(), @@port").rows)
      end)

      it("keeps clients who left something on their connection at the primary", function()
        local client = begin()
        assert.equal(8, client:ask("INSERT INTO test.split (n) VALUES (1)").insert_id)
        assert.equal("primary", where(client))
        assert.same({ { "8" } }, client:ask("SELECT LAST_INSERT_ID()").rows)
        client:send("\31") -- COM_RESET_CONNECTION
        assert.equal(0, client:packet():byte())
        assert.equal("replica", where(client))
        for _, sql in ipairs {
          "CREATE TEMPORARY TABLE test.tmp (id INT)", "SET @a = 1", "SELECT 1 INTO @b", "SELECT GET_LOCK('x', 0)",
          "LOCK TABLES test.split READ", "USE test", "PREPARE s FROM 'SELECT 1'",
        } do
          assert.is_nil(client:ask(sql).errmsg, sql)
          assert.equal("primary", where(client), sql)
          client:send("\31")
          assert.equal(0, client:packet():byte())
          assert.equal("replica", where(client), sql)
        end
        local id = assert(prepare(client, "SELECT @@port"))
        assert.equal("primary", where(client))
        assert.is_nil(execute(client, id))
        assert.equal("1\n", connections())
        leave(client)
        assert.truthy(process.wait_until(function()
          return connections() == "0\n" -- it was not kept for others
        end, 10))
      end)

      it("lends a user's connections to nobody else", function()
        assert.equal("replica", where(begin()))
        assert.equal("primary", where(login())) -- the only idle connection there has a client, who reads
        leave(login())
        assert.matches("no connection to the read/write server is idle", mysql("SELECT 1", "root"))
        assert.equal("root@%\t" .. server.port .. "\n", mysql("SELECT CURRENT_USER(), @@port", "root"))
      end)

      it("keeps the connections that clients share in use", function()
        local all = { begin() }
        for i = 2, 6 do
          all[i] = login()
        end
        for round = 1, 3 do
          for i, client in ipairs(all) do
            where(client)
            assert.equal(0, client:ask("BEGIN").affected_rows)
            assert.equal(1, client:ask("UPDATE test.split SET n = " .. round * 10 + i).affected_rows)
            client:ask("COMMIT")
          end
        end
      end)
    end)

    it("backend_by_hour chooses the server by the hour", function()
      local other = servers.start(server.flavour)
      finally(function()
        other:stop()
        uv.os_unsetenv("TZ")
      end)
      for hour, expected in pairs { [2] = other.port, [12] = server.port, [22] = other.port } do
        uv.os_setenv("TZ", ("XXX%+d"):format(os.date("!*t").hour - hour)) -- where it is that hour now
        start("backend_by_hour", nil, nil, { server, other })
        assert.same({ { tostring(expected) } }, login():ask("SELECT @@port").rows)
        assert.same({ { tostring(expected) } }, login():ask("SELECT @@port").rows)
        prints(" goes to 127%.0%.0%.1:" .. expected .. "\n")
        proxy:stop()
      end
    end)

    it("refuse_addresses lets clients of some addresses in", function()
      start("refuse_addresses")
      assert.same({ { "1" } }, login():ask("SELECT 1").rows)
      assert.equal("only local connects are allowed", login("nopass", port_from("127.0.0.2")).refused.errmsg)
      prints("refused a client from 127%.0%.0%.2:%d+\n")
    end)

    it("refuse_logins lets users in from where they may", function()
      start("refuse_logins")
      local port = port_from("127.0.0.2")
      assert.equal("1\n", mysql("SELECT 1", "root"))
      assert.matches("ERROR 1045 %(28000%).*Access denied for user 'root'@'127%.0%.0%.2' %(at the proxy%)",
        mysql("SELECT 1", "root", port))
      assert.same({ { "1" } }, login("nopass", port):ask("SELECT 1").rows)
      prints("refused root from 127%.0%.0%.2:%d+\n")
      assert.equal(1045, login("").refused.errcode)
      local client = login()
      client:send("\17\0\0\0\45\0") -- COM_CHANGE_USER to nobody
      assert.equal(1045, client:answer(client:packet()).errcode)
      assert.truthy(client:wait_for_end())
    end)

    it("shell_commands runs programs of a fixed list", function()
      start("shell_commands", { { "USERS = { root = true }", "USERS = { nopass = true }" } })
      local client = login()
      local _, machine = process.run("uname", { "-n", "-m" })
      local answer = client:ask("SHELL machine")
      assert.same({ { "machine" }, { { machine:match("[^\n]+") } } }, { answer.names, answer.rows })
      assert.same({ { "disks" }, { "machine" }, { "memory" }, { "uptime" } }, client:ask("SHELL").rows)
      assert.equal("there is no command machine; ls", client:ask("SHELL machine; ls").errmsg)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal(1064, client:ask("SHELLS").errcode) -- the server's
      server:sql("CREATE USER IF NOT EXISTS other@'%'")
      assert.equal("SHELL is not for you", login("other"):ask("SHELL machine").errmsg)
    end)

    it("rate_limit makes who is too fast wait, and nobody else", function()
      server:sql("CREATE USER IF NOT EXISTS other@'%'")
      start("rate_limit", { { "RATE, BURST = 100, 200", "RATE, BURST = 1, 2" }, { "SECONDS = 5", "SECONDS = 1.5" } })
      local first, second, third, other = login(), login(), login(), login("other")
      assert.same({ { "1" } }, first:ask("SELECT 1").rows)
      assert.same({ { "2" } }, first:ask("SELECT 2").rows)
      local began = uv.hrtime()
      second:send("\3SELECT 3")
      first:send("\14") -- a ping costs nothing
      assert.equal(0, first:packet():byte())
      assert.equal(1226, third:ask("SELECT 5").errcode)
      assert.same({ { "6" } }, other:ask("SELECT 6").rows)
      assert.equal("", second:rest())
      assert.same({ { "3" } }, second:answer(second:packet()).rows)
      assert.is_true(uv.hrtime() - began > 0.7e9)
    end)

    describe("ask_http", function()
      local function http_server(port, answers)
        local listener, asked, open = uv.new_tcp(), {}, {}
        assert(listener:bind("127.0.0.1", port))
        listener:listen(8, function()
          local socket, text = uv.new_tcp(), ""
          open[#open + 1] = socket
          listener:accept(socket)
          socket:read_start(function(_, chunk)
            text = text .. (chunk or "")
            local path = text:match("^GET (%S+) HTTP.-\r\n\r\n$")
            if path then
              text, asked[#asked + 1] = "", path
              local answer = answers(path)
              if answer then
                socket:write("HTTP/1.0 " .. answer)
                socket:shutdown()
              end
            end
          end)
        end)
        return asked, function()
          listener:close()
          for _, socket in ipairs(open) do
            socket:close()
          end
          uv.run("nowait")
        end
      end

      it("asks before a statement may run", function()
        local port = process.free_port()
        start("ask_http", { { "8080", tostring(port) }, { "TIMEOUT_MS = 2000", "TIMEOUT_MS = 300" } })
        local client, other = login(), login()
        assert.matches("^Not allowed: cannot be asked: ECONNREFUSED", client:ask("SELECT 1").errmsg)
        local asked, close = http_server(port, function(path)
          if path:find("SLEEP", 1, true) then
            return nil
          end
          return path:find("DELETE") and "403 Forbidden\r\n\r\nno deletes today\n" or "200 OK\r\n\r\n"
        end)
        finally(close)
        assert.same({ { "it's" } }, client:ask("SELECT 'it''s'").rows)
        local refused = client:ask("DELETE FROM test.t WHERE id = 5")
        assert.same({ 1227, "Not allowed: no deletes today" }, { refused.errcode, refused.errmsg })
        assert.same({
          "/allowed?user=nopass&query=SELECT%20%3F%20",
          "/allowed?user=nopass&query=DELETE%20FROM%20%60test%60%20.%20%60t%60%20WHERE%20%60id%60%20%3D%20%3F%20",
        }, asked)
        client:send("\3SELECT SLEEP(0)") -- about this the service says nothing
        assert.same({ { "2" } }, other:ask("SELECT 2").rows)
        assert.equal("", client:rest())
        assert.equal("Not allowed: cannot be asked: no answer in time", client:answer(client:packet()).errmsg)
        client:send("\3SELECT SLEEP(1)")
        assert.truthy(process.wait_until(function()
          return #asked == 5
        end))
        client:close() -- while it waits
        assert.same({ { "3" } }, other:ask("SELECT 3").rows)
      end)
    end)

    it("schema_per_user gives each user a schema of his own", function()
      server:sql("CREATE DATABASE IF NOT EXISTS app_nopass; CREATE USER IF NOT EXISTS other@'%';"
        .. "CREATE OR REPLACE VIEW app_nopass.mine AS SELECT 'mine' AS whose")
      start("schema_per_user")
      local client = login()
      assert.same({ { "mine" } }, client:ask("SELECT whose FROM mine").rows)
      assert.same({ { "app_nopass" } }, client:ask("SELECT DATABASE()").rows)
      for _, sql in ipairs { "USE test", "/* x */ use `test`" } do
        local refused = client:ask(sql)
        assert.same({ 1044, "Access denied for user 'nopass' to database 'test' (at the proxy)" },
          { refused.errcode, refused.errmsg })
      end
      client:send("\2test")
      assert.equal(1044, client:answer(client:packet()).errcode)
      client:send("\2app_nopass")
      assert.equal(0, client:packet():byte())
      local other = login("other")
      assert.same({ 1044, 1044 }, { other:ask("SELECT 1").errcode, other:ask("USE app_nopass").errcode })
      assert.equal("test\n", mysql("USE test; SELECT DATABASE()", "root"))
    end)
  end)
end
