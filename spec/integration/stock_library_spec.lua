-- What the library of scripts did that came with the proxy of 2007 to 2014, in scripts of our own that use the
-- interface in the same ways (scripts/), and what a user sees of them.

local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local function text_of(name)
  return process.read_file(("spec/integration/scripts/%s.lua"):format(name))
end

local function in_order(text, ...)
  local at = 1
  for _, pattern in ipairs { ... } do
    local _, last = text:find(pattern, at)
    assert(last, pattern .. " in: " .. text)
    at = last + 1
  end
end

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name, function()
    local series, expected_errors

    before_each(function()
      expected_errors = {}
    end)

    local function leave()
      local errors = series:leave()
      assert.equal(#expected_errors, #errors, table.concat(errors, "\n"))
      for index, pattern in ipairs(expected_errors) do
        assert.matches(pattern, errors[index])
      end
    end

    describe("a script", function()
      setup(function()
        series = scripted.series(server)
      end)

      teardown(function()
        series:stop()
      end)

      after_each(leave)

      it("prints active queries, and knows when a transaction is open", function()
        series:run(text_of "active_queries")
        local client, other = series:login(), series:login()
        client:ask("BEGIN")
        client:ask("SELECT 1")
        assert.same({ { "0" } }, other:ask("SELECT SLEEP(0.01)").rows)
        client:ask("COMMIT")
        client:send("\14")
        assert.equal(0, client:packet():byte())
        other:send("\1")
        other:wait_for_end()
        series:prints("#connections: 1, [^\n]*\n$")
        in_order(series:stdout(),
          "^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d\n  #connections: 1, #active trx: 1, max%(active trx%): 1\n"
            .. "  %[%d+%] %(nopass@%) %(COM_QUERY%) \"BEGIN\" %(state=started%)\n",
          "%(%) \"\" %(state=in_trans%)\n", "\"SELECT 1\" %(state=started%)\n",
          "#connections: 2, #active trx: 2, max%(active trx%): 2\n",
          "%(COM_QUERY%) \"SELECT SLEEP%(0%.01%)\" %(state=started%)\n", "%(state=in_trans%)\n",
          "\"COMMIT\" %(state=started%)\n", "#connections: 2, #active trx: 0, max%(active trx%): 2\n",
          "%(COM_PING%) \"\" %(state=started%)\n", "%(COM_QUIT%) \"\" %(state=started%)\n",
          "#connections: 1, #active trx: 0, max%(active trx%): 2\n$")
        assert.equal(1, client:ask("PROXY SET GLOBAL active_queries.show_idle_connections = true").affected_rows)
        client:ask("SELECT 2")
        series:prints("%(nopass@%) %(%) \"\" %(state=idle%)\n$")
      end)

      it("prints all transactions when two have met in a deadlock", function()
        series:run(text_of "active_transactions")
        server:sql("CREATE TABLE IF NOT EXISTS test.locks (id INT PRIMARY KEY, v INT) ENGINE=InnoDB;"
          .. "REPLACE INTO test.locks VALUES (1, 0), (2, 0)")
        local clients = { series:login(), series:login() }
        for id, client in ipairs(clients) do
          client:ask("BEGIN")
          assert.equal(1, client:ask(("UPDATE test.locks SET v = v + %d WHERE id = %d"):format(id, id)).affected_rows)
        end
        for id, client in ipairs(clients) do
          client:send(("\3UPDATE test.locks SET v = v + %d WHERE id = %d"):format(id, 3 - id))
        end
        local kinds = {}
        for index, client in ipairs(clients) do
          local answer = client:answer(client:packet())
          kinds[index] = answer.errcode or "OK"
        end
        table.sort(kinds, function(a, b) return tostring(a) < tostring(b) end)
        assert.same({ 1213, "OK" }, kinds)
        series:prints("%[%d+%] received a ERR%(1213, Deadlock[^\n]*%), dumping all active transactions\n")
        for id = 1, 2 do
          in_order(series:stdout(), "%]%.1: BEGIN\n", ("%%]%%.2: UPDATE test.locks SET v = v %%+ %d"):format(id),
            ("%%]%%.3: UPDATE test.locks SET v = v %%+ %d"):format(id))
        end
        for _, client in ipairs(clients) do
          assert.equal(0, client:ask("ROLLBACK").affected_rows)
        end
      end)

      it("prints all transactions when one has waited for another for too long", function()
        series:run(text_of "active_transactions")
        server:sql("CREATE TABLE IF NOT EXISTS test.locks (id INT PRIMARY KEY, v INT) ENGINE=InnoDB;"
          .. "REPLACE INTO test.locks VALUES (1, 0), (2, 0)")
        local holder, waiter = series:login(), series:login()
        holder:ask("BEGIN")
        assert.equal(1, holder:ask("UPDATE test.locks SET v = 1 WHERE id = 1").affected_rows)
        assert.equal(0, waiter:ask("SET SESSION innodb_lock_wait_timeout = 1").affected_rows)
        waiter:ask("BEGIN")
        waiter:send("\3UPDATE test.locks SET v = 2 WHERE id = 1")
        local answer = waiter:answer(waiter:packet())
        assert.same({ 1205, "HY000" }, { answer.errcode, answer.sqlstate })
        series:prints("%[%d+%] received a ERR%(1205, Lock wait timeout exceeded[^\n]*%), "
          .. "dumping all active transactions\n")
        series:prints("%]%.1: BEGIN\n  %[%d+%]%.2: UPDATE test%.locks SET v = 1 WHERE id = 1\n")
        series:prints("%]%.1: BEGIN\n  %[%d+%]%.2: UPDATE test%.locks SET v = 2 WHERE id = 1\n")
        for _, client in ipairs { holder, waiter } do
          assert.equal(0, client:ask("ROLLBACK").affected_rows)
        end
      end)

      it("has words for all commands", function()
        series:run(text_of "admin_words")
        server:sql("CREATE USER IF NOT EXISTS weak@'%'; GRANT SELECT ON test.* TO weak@'%';"
          .. "CREATE TABLE IF NOT EXISTS test.admin_words (id INT)")
        local client, weak = series:login(), series:login("weak")
        for _, each in ipairs { client, weak } do
          each:send("\2test")
          assert.equal(0, each:packet():byte())
          assert.equal(0, each:ask("PING").affected_rows)
          local statistics = each:ask("STATISTICS")
          assert.same({ "statisitics" }, statistics.names)
          assert.matches("^Uptime: %d+  Threads: %d+", statistics.rows[1][1])
          assert.equal(0, each:ask("SETOPT").affected_rows)
          assert.equal(0, each:ask("PREP").affected_rows)
          local reset = each:ask("RESET") -- MariaDB counts the statements of all sessions
          assert.is_true(reset.affected_rows == 0 or reset.errcode == 1243)
          assert.equal(1105, each:ask("DEAL").errcode) -- to which a server says nothing
          assert.same({ { "7" } }, each:ask("SELECT 7").rows)
        end
        series:logs("proxy.response.resultset.fields[1].type is not a integer (is nil), using MYSQL_TYPE_STRING", true)
        for _, command in ipairs { "COMMIT SUICIDE", "DEBUG", "BINLOGDUMP", "BINLOGDUMP1", "REGSLAVE" } do
          assert.is_number(weak:ask(command).errcode, command)
          assert.same({ { "8" } }, weak:ask("SELECT 8").rows, command)
        end
        assert.equal(0, client:ask("DEBUG").affected_rows)
        local processes = client:ask("PROCINFO")
        if processes.errcode ~= 1047 then -- later servers do not know it
          assert.equal("Id", processes.names[1])
        end
        for _, command in ipairs {
          "TIME", "PROCKILL", "EXEC", "FETCH", "FLIST", "FLIST1", "TDUMP", "TDUMP1", "TDUMP2", "PREP1", "EXEC1",
          "RESET1", "FETCH1", "REGSLAVE1",
        } do
          local answer = client:ask(command)
          assert.is_nil(answer.closed, command)
          assert.is_true(answer.errcode ~= nil or answer.affected_rows == 0, command)
          local after = client:ask("SELECT 9")
          assert.same({ { "9" } }, after.rows, command .. " " .. tostring(after.errmsg))
        end
        client:ask("PREP")
        assert.equal(1105, client:ask("DEAL1").errcode) -- which MySQL would answer, for once
        assert.same({ { "9" } }, client:ask("SELECT 9").rows)
        series:logs("proxy.queries: a command 25 has at least 5 bytes, and this one has 4. It is not sent.", true)
        expected_errors = { "the script has ignored every result", "the script has ignored every result",
          "It is not sent", "the script has ignored every result" }
      end)

      it("reports statements that are slower than their like", function()
        series:run(text_of "analyze_query")
        local client, admin = series:login(), series:login()
        for _, option in ipairs {
          "min_queries = 3", "min_query_time = 20000", "auto_explain = true", "auto_processlist = true",
          "log_slower_queries = true",
        } do
          assert.equal(1, admin:ask("PROXY SET GLOBAL analyze_query." .. option).affected_rows)
        end
        for _ = 1, 12 do
          client:ask("select  SLEEP(0)")
        end
        assert.equal("", series:stdout())
        assert.same({ { "0" } }, client:ask("SELECT sleep(0.2)").rows)
        series:prints("# end\n")
        in_order(series:stdout(), "^# slow: SELECT sleep%(0%.2%)\n# normalized: SELECT SLEEP%( %? %)  %(13 of 13%)\n",
          "%-%- processlist:\n", "|nopass|[^\n]*SHOW FULL PROCESSLIST", "\n%-%- explain:\n[^\n]+\n", "# end\n$")
        assert.equal(1, admin:ask("PROXY SET GLOBAL analyze_query.query_cutoff = 10").affected_rows)
        assert.same({ { "0" } }, client:ask("SELECT sleep(0.9)").rows)
        series:prints("# slow: SELECT sl\n# normalized: SELECT SLEEP( ? )  (14 of 14)\n", true)
        local answer = admin:ask("select * from HISTOGRAM.queries")
        assert.is_number(answer.errcode) -- the case of names matters
        answer = admin:ask("select * from `histogram`.queries")
        assert.same({ "query", "COUNT(*)", "AVG(qtime)", "STDDEV(qtime)" }, answer.names)
        local found
        for _, row in ipairs(answer.rows) do
          found = found or row[1] == "SELECT SLEEP( ? ) " and row
        end
        assert.equal("14", found[2])
        assert.is_true(tonumber(found[3]) > 15000 and tonumber(found[4]) > 15000)
        assert.equal(0, admin:ask("DELETE FROM histogram.queries").affected_rows)
        assert.same({}, admin:ask("SELECT * FROM histogram.queries").rows)
      end)

      it("prints who logs in, and what he asks", function()
        series:run [[
          local user = ""
          function read_handshake()
            local con = proxy.connection
            print(("<-- connect from %s to %s"):format(con.client.src.name, con.server.dst.name))
          end
          function read_auth()
            user = proxy.connection.client.username
            print("--> user " .. user)
          end
          function read_auth_result(auth)
            print(auth.packet:byte() == proxy.MYSQLD_PACKET_OK and "<-- auth ok"
              or auth.packet:byte() == proxy.MYSQLD_PACKET_ERR and "<-- auth failed" or "<-- auth")
          end
          function read_query(packet)
            if packet:byte() == proxy.COM_QUERY then
              print(("[%s] %s"):format(user, packet:sub(2)))
            end
          end
        ]]
        series:login():ask("SELECT 1")
        assert.equal(1045, series:login("nobody").refused.errcode)
        series:prints("auth failed\n")
        in_order(series:stdout(), "^<%-%- connect from 127%.0%.0%.1:%d+ to 127%.0%.0%.1:" .. server.port .. "\n",
          "%-%-> user nopass\n", "<%-%- auth ok\n%[nopass%] SELECT 1\n", "<%-%- connect", "%-%-> user nobody\n",
          "<%-%- auth failed\n$")
      end)

      it("makes a COMMIT fail now and then", function()
        series:run [[
          proxy.global.turn = 0
          function read_query(packet)
            if packet:byte() == proxy.COM_QUERY and packet:sub(2):upper() == "COMMIT" then
              proxy.global.turn = proxy.global.turn + 1
              if proxy.global.turn % 2 == 1 then
                proxy.queries:append(1, string.char(proxy.COM_QUERY) .. "ROLLBACK", { resultset_is_needed = true })
                return proxy.PROXY_SEND_QUERY
              end
            end
          end
          function read_query_result()
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = "Lock wait timeout exceeded; try restarting transaction"
            proxy.response.errno = 1205
            proxy.response.sqlstate = "HY000"
            return proxy.PROXY_SEND_RESULT
          end
        ]]
        server:sql("CREATE TABLE IF NOT EXISTS test.commits (id INT) ENGINE=InnoDB; DELETE FROM test.commits")
        local client = series:login()
        for turn = 1, 2 do
          client:ask("BEGIN")
          client:ask("INSERT INTO test.commits VALUES (1)")
          local answer = client:ask("Commit")
          if turn == 1 then
            assert.same({ errcode = 1105, sqlstate = "HY000",
              errmsg = "Lock wait timeout exceeded; try restarting transaction" }, answer)
          else
            assert.equal(0, answer.affected_rows)
          end
          assert.same({ { tostring(turn - 1) } }, client:ask("SELECT COUNT(*) FROM test.commits").rows)
        end
      end)

      it("counts statements and tables", function()
        series:run(text_of "histogram")
        server:sql("CREATE TABLE IF NOT EXISTS test.counted (id INT)")
        local client, other = series:login(), series:login()
        client:ask("SELECT * FROM test.counted WHERE id = 1")
        other:ask("select * from test.counted where id=2")
        client:ask("INSERT INTO test.counted VALUES (1)")
        local answer = other:ask("select *\nfrom  histogram.queries -- all")
        assert.same({ "query", "count", "max_query_time", "avg_query_time" }, answer.names)
        table.sort(answer.rows, function(a, b) return a[1] < b[1] end)
        assert.same({ { "INSERT INTO `test` . `counted` VALUES ( ? ) ", "1" },
          { "SELECT * FROM `test` . `counted` WHERE `id` = ? ", "2" } },
          { { answer.rows[1][1], answer.rows[1][2] }, { answer.rows[2][1], answer.rows[2][2] } })
        assert.is_true(tonumber(answer.rows[2][3]) >= tonumber(answer.rows[2][4]) and tonumber(answer.rows[2][4]) > 0)
        answer = client:ask("SELECT * FROM histogram.tables")
        assert.same({ "table", "reads", "writes" }, answer.names)
        assert.same({ { "test.counted", "2", "1" } }, answer.rows)
        assert.equal(0, client:ask("delete from histogram.tables").affected_rows)
        assert.equal(0, client:ask("DELETE FROM histogram.queries").affected_rows)
        assert.same({}, client:ask("SELECT * FROM histogram.tables").rows)
        client:ask("PROXY SET GLOBAL histogram.collect_tables = false")
        client:ask("SELECT * FROM test.counted")
        assert.same({}, client:ask("SELECT * FROM histogram.tables").rows)
        assert.equal(1, #client:ask("SELECT * FROM histogram.queries").rows)
      end)

      it("makes cross tables", function()
        series:run(text_of "cross_table")
        server:sql("DROP TABLE IF EXISTS test.sales; CREATE TABLE test.sales (dept CHAR(1), yr INT, amount INT);"
          .. "INSERT INTO test.sales VALUES ('a', 2006, 1), ('a', 2007, 2), ('b', 2007, 3), ('a', 2007, 4)")
        local client = series:login()
        client:send("\2test")
        client:packet()
        local answer = client:ask("XTAB sales dept yr SUM amount summary")
        assert.same({ "dept", "2006", "2007", "total" }, answer.names or answer)
        assert.same({ { "a", "1", "6", "7" }, { [1] = "b", [3] = "3", [4] = "3" } }, answer.rows)
        answer = client:ask("SELECT XTAB sales dept yr COUNT amount")
        assert.same({ { "a", "1", "2" }, { "b", "0", "1" } }, answer.rows)
        assert.same({ { "0.1.3" } }, client:ask("xtab version").rows)
        assert.equal(2, #client:ask("XTAB HELP").rows)
        answer = client:ask("XTAB what")
        assert.same({ "XTAB ERROR" }, answer.names)
        assert.same({ { 'unknown command. Enter "XTAB HELP" for help' } }, answer.rows)
        client:ask("XTAB QUERY")
        assert.matches("^SELECT dept, SUM%(IF%(yr = '2006'", client:ask("XTAB sales dept yr SUM amount").rows[1][1])
        client:ask("XTAB NOQUERY")
        assert.equal(1146, client:ask("XTAB nowhere dept yr SUM amount").errcode)
        assert.equal(1065, client:ask("").errcode) -- of no token the name: the script's error, not the client's
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        expected_errors = { "^%(read_query_result%) %[string \".*\"%]:%d+: attempt to call a nil value",
          "^%(read_query%) %[string \".*\"%]:%d+: attempt to index " }
      end)
    end)

    it("a binary log that a script asks for in place of a statement has one answer, which is how it ends", function()
      local primary = servers.start(server.flavour, { "--log-bin=binlog", "--server-id=7" })
      local asking = scripted.start({ primary }, text_of "admin_words")
      local client = raw.connect(asking.port):login("nopass")
      assert.equal(1236, client:ask("BINLOGDUMP").errcode) -- behind an event: the log has checksums
      assert.truthy(client:wait_for_end()) -- as of any client
      client = raw.connect(asking.port):login("nopass")
      client:ask("SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'")
      assert.equal(0, client:ask("BINLOGDUMP").affected_rows)
      assert.equal("", client:rest())
      client:close()
      assert.equal(0, asking:stop())
      assert.is_nil(scripted.complaints(asking:log()))
      primary:stop()
    end)

    if server.flavour == "mariadb" then -- the other knows the command no more
      it("a script's word may end the server", function()
        local own = servers.start(server.flavour)
        series = scripted.series(own)
        series:run(text_of "admin_words")
        local client = series:login()
        assert.equal(0, client:ask("COMMIT SUICIDE").affected_rows)
        assert.truthy(own.process:wait(60))
        assert.is_truthy(client:wait_for_end())
        leave()
        series:stop()
      end)
    end

    describe("a script that loads others", function()
      it("calls their hooks", function()
        uv.os_setenv("PUNLOAD", "FORGET")
        uv.os_setenv("DEBUG", "1")
        series = scripted.series(server)
        uv.os_unsetenv("PUNLOAD")
        uv.os_unsetenv("DEBUG")
        series:run(text_of "load_multi")
        local path = process.path("refuse.lua")
        process.write_file(path, [[
          local count = 0
          function read_auth(auth)
            if auth.username == "evil" then
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "evil logins are not allowed" }
              return proxy.PROXY_SEND_RESULT
            end
          end
          function read_query(packet)
            count = count + 1
            if packet == "\3COUNT" then
              proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = count }
              return proxy.PROXY_SEND_RESULT
            elseif packet == "\3SELECT NOW()" then
              proxy.queries:append(77, "\3SELECT 'never'", { resultset_is_needed = true })
              return proxy.PROXY_SEND_QUERY
            end
          end
          function read_query_result(inj)
            if inj.id ~= 77 then return end
            proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = inj.resultset.row_count + 10 }
            return proxy.PROXY_SEND_RESULT
          end
          function disconnect_client() print("bye") end
        ]])
        local client = series:login()
        local answer = client:ask("PLOAD_HELP")
        assert.same({ "command", "description" }, answer.names)
        assert.same({ "PLOAD name", "FORGET name" }, { answer.rows[1][1], answer.rows[2][1] })
        answer = client:ask("PLOAD /no/where")
        assert.same({ { "ERROR" }, { { 'load of "/no/where" failed (file not found /no/where.lua)' } } },
          { answer.names, answer.rows })
        answer = client:ask("PLOAD " .. path)
        assert.same({ { "info" }, { { ('module "%s" loaded'):format(path) } } }, { answer.names, answer.rows })
        assert.equal("evil logins are not allowed", series:login("evil").refused.errmsg)
        assert.equal(1, client:ask("COUNT").affected_rows)
        assert.equal(2, series:login():ask("COUNT").affected_rows) -- it is one module, for all connections
        assert.equal(11, client:ask("SELECT NOW()").affected_rows)
        assert.equal(1064, client:ask("SLECT 1").errcode)
        assert.truthy(client:ask("PLOAD examples/rewrite").rows) -- from the proxy's folder, behind the other
        assert.same({ { "1" } }, client:ask("SLECT 1").rows or {})
        series:prints("calling read_query of examples/rewrite\n", true)
        answer = client:ask("FORGET " .. path)
        assert.same({ { path }, { { "unloaded" } } }, { answer.names, answer.rows })
        assert.same({ { "NOT FOUND" } }, client:ask("FORGET " .. path).rows)
        assert.equal(1064, client:ask("COUNT").errcode)
        leave()
        series:stop()
      end)
    end)
  end)
end
