-- What clients see of scripts/statistics.lua, written as people wrote them from 2007 to 2010.
-- old_scripts_soak_spec.lua puts it under load.

local old_script = require "spec.support.old_script"
local process = require "spec.support.process"
local servers = require "spec.support.server"

local prepare, execute, close_statement = old_script.prepare, old_script.execute, old_script.close_statement

for _, server in ipairs(servers.all()) do
  describe("statistics.lua in front of " .. server.name, function()
    local script = old_script.new(server, "statistics")
    local start, login, cli, pymysql = script.start, script.login, script.cli, script.pymysql

    after_each(script.finish)

    setup(function()
      server:sql("DROP TABLE IF EXISTS test.old; CREATE TABLE test.old (id INT PRIMARY KEY, name VARCHAR(20))")
    end)

    teardown(function()
      server:sql("DROP TABLE IF EXISTS test.old")
    end)

    it("counts statements by their normalised form, and tables", function()
      start()
      local client = login()
      client:ask("INSERT INTO test.old VALUES (1, 'one'), (2, 'two')")
      client:ask("SELECT * FROM test.old WHERE id = 1")
      client:ask("select  *  from test.old where id = 2 /* again */")
      client:ask("SELECT * FROM test.old WHERE id = 3")
      client:ask("UPDATE test.old SET name = 'x'")
      assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
      local columns = "query, count, rows, bytes, affected_rows, errors, last_error"
      assert.same({
        { "INSERT INTO `test` . `old` VALUES ( ? , ? ) , ( ? , ? ) ", "1", "0", "0", "2", "0" },
        { "SELECT * FROM `test` . `nowhere` ", "1", "0", "0", "0", "1",
          client:ask("SELECT last_error FROM stats.queries WHERE errors > 0").rows[1][1] },
        { "SELECT * FROM `test` . `old` WHERE `id` = ? ", "3", "2", "20", "0", "0" },
        { "UPDATE `test` . `old` SET `name` = ? ", "1", "0", "0", "2", "0" },
      }, client:ask("SELECT " .. columns .. " FROM stats.queries ORDER BY query").rows)
      assert.matches("^1146 %(42S02%): .*nowhere", client:ask("SELECT last_error FROM stats.queries "
        .. "WHERE query LIKE '%nowhere%'").rows[1][1])
      assert.same({ { "test.old", "3", "2" } }, client:ask("SELECT * FROM `stats`.`tables`;").rows)
      assert.same({ { "COM_QUERY", "6", "1" } }, client:ask("SELECT * FROM stats.commands").rows)
    end)

    it("answers the command line client, PyMySQL, and a client that prepares", function()
      start()
      assert.equal("1\n", cli "SELECT 1")
      cli "SELECT 2"
      assert.equal("SELECT ? \t2\t2\n",
        cli "SELECT query, count, rows FROM stats.queries WHERE query = 'SELECT ? '")
      assert.equal("1\n", cli "SELECT COUNT(*) FROM stats.queries WHERE query LIKE 'select _ '")
      local client = login()
      local id = prepare(client, "SELECT 7, 'seven'")
      assert.equal(1, #execute(client, id))
      assert.equal(1, #execute(client, id))
      assert.equal("1\n", cli "SELECT statements FROM stats.clients WHERE user = 'nopass'")
      close_statement(client, id)
      assert.equal(1054, client:ask("SELECT nothing").errcode)
      assert.equal("0\tidle\n", cli "SELECT statements, state FROM stats.clients WHERE user = 'nopass'")
      assert.equal(("COM_STMT_CLOSE\t1\nCOM_STMT_EXECUTE\t2\nCOM_STMT_PREPARE\t1\n"),
        cli "SELECT command, count FROM stats.commands WHERE command LIKE 'com_stmt%' ORDER BY command")
      assert.equal("True [('SELECT ? , ? ', 2, True)] 4\n", pymysql [[
totals = dict(run("SELECT * FROM stats.totals"))
sql = "SELECT query, count, avg_time FROM stats.queries WHERE query = %s"
rows = [(query, count, time > 0) for query, count, time in run(sql, "SELECT ? , ? ")]
print(totals["queries"] > 3, rows, len(run("SELECT * FROM stats.totals LIMIT 1, 4")))
]])
    end)

    it("forgets, and says what it does not know", function()
      start()
      local client = login()
      client:ask("SELECT 1")
      client:ask("SELECT 1 + 1")
      assert.equal(2, client:ask("delete from stats.queries").affected_rows)
      assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM stats.queries").rows)
      assert.equal(0, client:ask("TRUNCATE TABLE stats.tables").affected_rows)
      for sql, errcode in pairs {
        ["SELECT * FROM stats.nothing"] = 1146, ["SELECT nothing FROM stats.queries"] = 1054,
        ["SELECT * FROM stats.queries GROUP BY 1"] = 1064, ["DELETE FROM stats.totals"] = 1288,
        ["SELECT * FROM stats.queries WHERE count IN (1)"] = 1064,
      } do
        assert.equal(errcode, client:ask(sql).errcode, sql)
      end
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)

    it("is switched by its options", function()
      start()
      local client, other = login(), login()
      assert.equal(1, client:ask("PROXY SET GLOBAL statistics.is_enabled = false").affected_rows)
      client:ask("SELECT 1")
      assert.truthy(client:ask("SELECT COUNT(*) FROM stats.queries").errcode) -- asks the server
      client:ask("PROXY SET GLOBAL statistics.is_enabled = true")
      assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM stats.queries").rows)
      client:ask("SET GLOBAL statistics.max_queries = 1")
      client:ask("SET GLOBAL statistics.slow_query_time = 0")
      client:ask("SET GLOBAL statistics.max_slow = 2")
      client:ask("PROXY SET GLOBAL statistics.collect_errors = false")
      client:ask("PROXY SET GLOBAL statistics.collect_warnings = true")
      other:ask("SELECT 1")
      other:ask("SELECT 'two', 2")
      assert.equal(1146, other:ask("SELECT * FROM test.nowhere").errcode)
      assert.same({ { "(others)", "2", "1" }, { "SELECT ? ", "1", "0" } },
        client:ask("SELECT query, count, errors FROM stats.queries ORDER BY query").rows)
      assert.same({ { "SELECT 'two', 2", "nopass" }, { "SELECT * FROM test.nowhere", "nopass" } },
        client:ask("SELECT query, user FROM stats.slow").rows)
      assert.equal(2, #client:ask("SELECT * FROM stats.clients").rows)
      other:ask("SELECT CAST('x' AS SIGNED)")
      assert.truthy(process.wait_until(function()
        return script.proxy.process:stdout():find("[statistics] Warning 1292: Truncated incorrect", 1, true)
      end, 5), script.proxy.process:stdout())
      local shown = cli "PROXY SHOW CONFIG"
      assert.truthy(shown:find("statistics\tmax_queries\t1\tnumber\n", 1, true), shown)
      other:send("\1")
      other:wait_for_end()
      assert.equal(1, #client:ask("SELECT * FROM stats.clients").rows)
    end)

    it("does not lose files and long answers", function()
      start()
      local client = login()
      server:sql("TRUNCATE TABLE test.old")
      assert.equal(0xfb, client:query("LOAD DATA LOCAL INFILE 'x' INTO TABLE test.old"):byte())
      client:send("1\tone\n2\ttwo\n", 2)
      client:send("", 3)
      assert.equal(2, client:answer(client:packet()).affected_rows)
      assert.equal(300000, #client:ask("SELECT REPEAT('x', 300000)").rows[1][1])
      assert.same({ { "SELECT REPEAT( ? , ? ) ", "1" } },
        client:ask("SELECT query, rows FROM stats.queries WHERE bytes > 300000").rows)
    end)
  end)
end
