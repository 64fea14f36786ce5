-- The scripts in examples/ do what their first lines say: those that are about clients and servers.

local uv = require "luv"

local examples = require "spec.support.example"
local process = require "spec.support.process"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name .. " the example", function()
    local example = examples.new(server)
    local start, login, prints, mysql = example.start, example.login, example.prints, example.mysql

    after_each(example.stop)

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
          return select(2, example.proxy:log():gsub("%(debug%) session %d+ [^\n]*%): [cs]", ""))
        end
        local before = ended()
        client:send("\1")
        client:close()
        assert.truthy(process.wait_until(function()
          return ended() > before
        end, 5), example.proxy:log())
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
        local id = assert(example.prepare(client, "SELECT @@port"))
        assert.equal("primary", where(client))
        assert.is_nil(example.execute(client, id))
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
        example.stop()
      end
    end)

    it("refuse_addresses lets clients of some addresses in", function()
      start("refuse_addresses")
      assert.same({ { "1" } }, login():ask("SELECT 1").rows)
      assert.equal("only local connects are allowed", login("nopass", example.port_from("127.0.0.2")).refused.errmsg)
      prints("refused a client from 127%.0%.0%.2:%d+\n")
    end)

    it("refuse_logins lets users in from where they may", function()
      start("refuse_logins")
      local port = example.port_from("127.0.0.2")
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
