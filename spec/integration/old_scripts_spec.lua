-- Scripts of some hundred lines, written as people wrote them from 2007 to 2010: what their clients see. The scripts
-- are in scripts/; old_scripts_soak_spec.lua puts them under load.

local uv = require "luv"

local process = require "spec.support.process"
local proto = require "mysql.proto"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local function script(name)
  return ("--proxy-lua-script=%s/spec/integration/scripts/%s.lua"):format(uv.cwd(), name)
end

local function append(list, ...)
  for _, more in ipairs { ... } do
    for _, item in ipairs(more) do
      list[#list + 1] = item
    end
  end
  return list
end

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name, function()
    local proxy, clients

    before_each(function()
      clients = {}
    end)

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      if proxy then
        local log = proxy:log()
        assert.equal(0, proxy:stop())
        proxy = nil
        assert.is_nil(log:match("%(critical%) [^\n]*session[^\n]*") or log:match("%(critical%) %([^\n]*"))
      end
    end)

    local function start(name, options, backends)
      proxy = proxies.start(backends or { server }, append({ script(name) }, options or {}))
    end

    local function login(user)
      local client = raw.connect(proxy.port):login(user or "nopass")
      clients[#clients + 1] = client
      return client
    end

    -- The rows that the server's own client prints, or its error.
    local function cli(sql, user, ...)
      local program, args = server:client()
      append(args, { "-N", "-B", "--delimiter=//" }, server.clear_text,
        server:login(proxy.port, user, user and user ~= "root" and "" or nil), { ... },
        { "-e", sql })
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    -- What a program for PyMySQL prints: `c` is a connection, `run` returns all rows of a statement.
    local function pymysql(program, user)
      local code, output, errors = process.run("/usr/bin/python3", { "-c", ([[
import pymysql
from pymysql.constants import CLIENT
def connect(**more):
    return pymysql.connect(**{"host": "127.0.0.1", "port": %d, "user": "%s", "password": "", "database": "test",
                              "autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS, **more})
c = connect()
def run(sql, arguments=None, c=c):
    with c.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())
]]):format(proxy.port, user or "nopass") .. program })
      assert.equal(0, code, errors)
      return output
    end

    -- COM_STMT_PREPARE of a statement without parameters: its id, or the error.
    local function prepare(client, sql)
      client:send("\22" .. sql)
      local first = client:packet()
      if first:byte() ~= 0 then
        return nil, proto.from_err_packet(first)
      end
      local ok = proto.from_stmt_prepare_ok_packet(first)
      for _ = 1, ok.num_columns > 0 and ok.num_columns + 1 or 0 do
        client:packet()
      end
      return ok.stmt_id
    end

    -- COM_STMT_EXECUTE: the payloads of its rows, or the OK or ERR.
    local function execute(client, id)
      client:send("\23" .. string.char(id, 0, 0, 0, 0, 1, 0, 0, 0))
      local payload, eofs, rows = client:packet(), 0, {}
      if payload:byte() == 0xff then
        return proto.from_err_packet(payload)
      elseif payload:byte() == 0 then
        return proto.from_ok_packet(payload)
      end
      repeat
        payload = client:packet()
        if payload:byte() == 0xfe and #payload < 9 then
          eofs = eofs + 1
        elseif eofs == 1 then
          rows[#rows + 1] = payload
        end
      until eofs == 2
      return rows
    end

    local function close_statement(client, id)
      client:send("\25" .. string.char(id, 0, 0, 0))
    end

    describe("statistics.lua", function()
      setup(function()
        server:sql("DROP TABLE IF EXISTS test.old; CREATE TABLE test.old (id INT PRIMARY KEY, name VARCHAR(20))")
      end)

      teardown(function()
        server:sql("DROP TABLE IF EXISTS test.old")
      end)

      it("counts statements by their normalised form, and tables", function()
        start "statistics"
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
        start "statistics"
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
        start "statistics"
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
        start "statistics"
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
          return proxy.process:stdout():find("[statistics] Warning 1292: Truncated incorrect", 1, true)
        end, 5), proxy.process:stdout())
        local shown = cli "PROXY SHOW CONFIG"
        assert.truthy(shown:find("statistics\tmax_queries\t1\tnumber\n", 1, true), shown)
        other:send("\1")
        other:wait_for_end()
        assert.equal(1, #client:ask("SELECT * FROM stats.clients").rows)
      end)

      it("does not lose files and long answers", function()
        start "statistics"
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

    describe("macros.lua", function()
      local function fresh_table()
        server:sql [[
          DROP TABLE IF EXISTS test.old;
          CREATE TABLE test.old (id INT PRIMARY KEY, shop VARCHAR(20), kind VARCHAR(20), price DECIMAL(9,2));
          INSERT INTO test.old VALUES (1, 'north', 'pen', 1.5), (2, 'north', 'ink', 7), (3, 'south', 'pen', 2),
            (4, 'south', 'pen', 2.5), (5, 'it''s', 'back\\slash', 3), (6, 'south', NULL, 4)]]
      end

      before_each(fresh_table)

      teardown(function()
        server:sql("DROP TABLE IF EXISTS test.old")
      end)

      it("PIVOT makes a cross table", function()
        start "macros"
        local client = login()
        local answer = client:ask("PIVOT test.old ROWS shop COLUMNS kind VALUES SUM(price) TOTALS")
        assert.same({ "shop", "(null)", "back\\slash", "ink", "pen", "sum" }, answer.names)
        assert.same({
          { "it's", nil, "3.00", nil, nil, "3.00" },
          { "north", nil, nil, "7.00", "1.50", "8.50" },
          { "south", "4.00", nil, nil, "4.50", "8.50" },
          { "(total)", "4", "3", "7", "6", "20" },
        }, answer.rows)
        answer = client:ask("pivot test.old rows shop columns kind values count(*) where kind = 'pen' or shop = 'x';")
        assert.same({ "shop", "pen", "count" }, answer.names)
        assert.same({ { "north", "1", "1" }, { "south", "2", "2" } }, answer.rows)
        assert.equal(1064, client:ask("PIVOT test.old ROWS shop VALUES SUM(price)").errcode)
        assert.equal(1146, client:ask("PIVOT test.nowhere ROWS a COLUMNS b VALUES SUM(c)").errcode)
        assert.equal(1054, client:ask("PIVOT test.old ROWS shop COLUMNS nothing VALUES SUM(price)").errcode)
        client:ask("SET GLOBAL macros.max_columns = 3")
        assert.equal("PIVOT: 4 columns are too many",
          client:ask("PIVOT test.old ROWS shop COLUMNS kind VALUES MAX(id)").errmsg)
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      end)

      it("FOREACH runs statements for each row", function()
        start "macros"
        local client = login()
        assert.same({
          { "1", "ink", "1", "0" }, { "2", "pen", "3", "0" },
        }, client:ask("FOREACH (SELECT DISTINCT kind FROM test.old WHERE kind IN ('pen', 'ink') ORDER BY kind) "
          .. "DO UPDATE test.old SET price = price + 1 WHERE kind = $kind").rows)
        assert.same({ { "20.50" } }, client:ask("SELECT SUM(price) - 3.5 FROM test.old").rows)
        local duplicate = client:ask("INSERT INTO test.old (id) VALUES (1)").errmsg:gsub("'1'", "'7'")
        assert.same({
          { "1", "7", "1", "1" }, { "2", "7", "0", "0", duplicate }, { "3", "8", "1", "1" },
        }, client:ask("FOREACH 7, 7, 8 DO INSERT INTO test.old (id) VALUES ($1); SELECT $value").rows)
        client:ask("PROXY SET GLOBAL macros.atomic = true")
        assert.equal(1062, client:ask("FOREACH (9, 1) DO INSERT INTO test.old (id) VALUES ($1)").errcode)
        assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM test.old WHERE id = 9").rows)
        assert.equal(2, #client:ask("FOREACH (9, 10) DO INSERT INTO test.old (id) VALUES ($1)").rows)
        client:ask("ROLLBACK")
        assert.same({ { "2" } }, client:ask("SELECT COUNT(*) FROM test.old WHERE id IN (9, 10)").rows)
        assert.same({}, client:ask("FOREACH (SELECT 1 FROM test.old WHERE id = 0) DO SELEC").rows)
        assert.equal(1146, client:ask("FOREACH (SELECT 1 FROM test.nowhere) DO SELECT 1").errcode)
      end)

      it("LOOP repeats, MERGE and AGAIN too", function()
        start "macros"
        local client = login()
        local row = client:ask("LOOP 10, 30, 10 INSERT INTO test.old (id) VALUES ($i)").rows[1]
        assert.same({ "3", "0", "3" }, { unpack(row, 1, 3) })
        assert.is_true(tonumber(row[4]) <= tonumber(row[5]))
        assert.same({ { "10" }, { "20" }, { "30" } }, client:ask("SELECT id FROM test.old WHERE id >= 10").rows)
        assert.equal(1062, client:ask("LOOP 20 INSERT INTO test.old (id) VALUES ($i + 9 - $i)").errcode)
        assert.same({ { "1" } }, client:ask("SELECT COUNT(*) FROM test.old WHERE id = 9").rows)
        assert.equal("200", client:ask("LOOP 200 SELECT 1").rows[1][2])
        assert.equal("LOOP: too often", client:ask("LOOP 1001 SELECT 1").errmsg)
        assert.equal(0, client:ask("LOOP 0 SELECT 1").affected_rows)
        local merged = client:ask("MERGE SELECT 1, 'a;b' AS b ; DO 1 ; SELECT 2, NULL ; SELECT 3, 'c'")
        assert.same({ { "1", "a;b" }, { "2" }, { "3", "c" } }, merged.rows)
        assert.equal("b", merged.names[2])
        assert.equal(1222, client:ask("MERGE SELECT 1; SELECT 1, 2").errcode)
        assert.equal(0, client:ask("MERGE DO 1; DO 2").affected_rows)
        client:ask("SELECT 42")
        client:ask("MERGE SELECT 1")
        assert.same({ { "42" } }, client:ask("AGAIN").rows)
        assert.same({ { "42" } }, client:ask("AGAIN").rows)
        assert.equal("AGAIN: there was no statement before", login():ask("AGAIN").errmsg)
      end)

      it("macros are run by all clients", function()
        start "macros"
        local client, other = login(), login()
        assert.equal(2, client:ask("MACRO DEFINE Sell(what, n) AS "
          .. "UPDATE test.old SET price = price * $n WHERE kind = $what ; SELECT SUM(price) FROM test.old "
          .. "WHERE kind = $what").affected_rows)
        client:ask("MACRO DEFINE fails AS SELECT 1; SELECT * FROM test.nowhere; SELECT 2")
        assert.same({ { "12.00" } }, other:ask("MACRO RUN sell('pen', 2)").rows)
        assert.equal(1146, other:ask("MACRO RUN fails").errcode)
        assert.same({ { "1", "UPDATE test.old SET price = price * 3 WHERE kind = 'ink'", "0", "1" },
          { "2", "SELECT SUM(price) FROM test.old WHERE kind = 'ink'", "1" } },
          other:ask("macro trace sell('ink', 3)").rows)
        local traced = other:ask("MACRO TRACE fails()").rows
        assert.same({ 2, "1" }, { #traced, traced[1][3] })
        assert.matches("nowhere", traced[2][5])
        assert.equal(1318, other:ask("MACRO RUN sell(1)").errcode)
        assert.equal(1305, other:ask("MACRO RUN nothing").errcode)
        assert.equal("fails\t\t3\nsell\twhat, n\t2\n", cli "MACRO LIST")
        assert.equal("1\tSELECT 1\n2\tSELECT * FROM test.nowhere\n3\tSELECT 2\n", cli "MACRO SHOW fails")
        assert.equal(1, client:ask("MACRO DROP fails").affected_rows)
        assert.equal(1305, other:ask("MACRO RUN fails").errcode)
        assert.equal(6, #client:ask("MACRO HELP").rows)
      end)

      it("give PyMySQL the types of the columns", function()
        start "macros"
        assert.equal([[
[('north', Decimal('7.00'), Decimal('1.50'), Decimal('8.50'))]
[(datetime.date(2008, 2, 29), None, 1.5), (None, datetime.timedelta(seconds=3723), 0.25)]
[(1, 5, 1, 1, None), (2, 6, 1, 1, None)]
1 2
]], pymysql [[
print(run("PIVOT old ROWS shop COLUMNS kind VALUES SUM(price) WHERE shop = %s", "north"))
print(run("MERGE SELECT CAST('2008-02-29' AS DATE), CAST(NULL AS TIME), 1.5e0; SELECT NULL, TIME('01:02:03'), 0.25e0"))
print(run("FOREACH (SELECT id FROM old WHERE id IN (5, 6)) DO UPDATE old SET price = 0 WHERE id = $id; SELECT 1"))
with c.cursor() as cursor:
    cursor.execute("SELECT 1; SELECT 2")
    first = cursor.fetchone()[0]
    cursor.nextset()
    print(first, cursor.fetchone()[0])
]])
      end)

      it("a history is kept of all clients, once it is wanted", function()
        start "macros"
        local client = login()
        client:ask("SELECT 'before'")
        client:ask("SET GLOBAL macros.history = 2")
        client:ask("SELECT 1")
        client:ask("SELECT 2 UNION SELECT 3")
        client:ask("SELECT * FROM test.old")
        local id = prepare(client, "SELECT 5")
        assert.equal(1, #execute(client, id))
        close_statement(client, id)
        local rows = login():ask("MACRO HISTORY").rows
        assert.same({ "SELECT 2 UNION SELECT 3", "2", "SELECT * FROM test.old", "6" },
          { rows[1][1], rows[1][3], rows[2][1], rows[2][3] })
      end)
    end)

    describe("splitter.lua", function()
      local slave

      setup(function()
        slave = servers.start(server.flavour)
        for name, where in pairs { master = server, slave = slave } do
          where:sql(([[
            DROP DATABASE IF EXISTS other; CREATE DATABASE other; DROP DATABASE IF EXISTS split; CREATE DATABASE split;
            CREATE TABLE split.marker (name VARCHAR(20)); CREATE TABLE other.marker (name VARCHAR(20));
            INSERT INTO split.marker VALUES ('%s'); INSERT INTO other.marker VALUES ('other %s');
            CREATE TABLE split.items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20));
            DROP USER IF EXISTS reader@'%%'; CREATE USER reader@'%%'; GRANT ALL ON *.* TO reader@'%%']]):format(
            name, name))
        end
        server:sql "DROP DATABASE IF EXISTS only_here; CREATE DATABASE only_here"
      end)

      teardown(function()
        slave:stop()
        server:sql "DROP DATABASE other; DROP DATABASE split; DROP DATABASE only_here; DROP USER reader@'%'"
      end)

      local function sessions_ended()
        local _, clients_left = proxy:log():gsub("read_query%): client[^\n]*\n", "")
        local _, servers_left = proxy:log():gsub("read_query%): server[^\n]*\n", "")
        return clients_left + servers_left
      end

      -- Leaves as clients do: the connection to the server goes to the pool.
      local function quit(client)
        local before = sessions_ended()
        client:send("\1")
        client:close()
        assert.truthy(process.wait_until(function()
          return sessions_ended() > before
        end, 5))
      end

      -- Starts the proxy, and has a client log in whose reads find an idle connection to the slave.
      local function start_splitter(options)
        start("splitter", append({ ("--proxy-read-only-backend-addresses=%s:%d"):format(slave.host, slave.port) },
          options or {}))
        local first = login()
        assert.same({ { "master" } }, first:ask("SELECT name FROM split.marker").rows)
        quit(first)
        return login()
      end

      local function where(client)
        local answer = client:ask("SELECT name FROM split.marker")
        return answer.rows and answer.rows[1][1] or answer.errmsg
      end

      local function status(client)
        local found = {}
        for _, row in ipairs(client:ask("SHOW SPLITTER STATUS").rows) do
          found[row[1]] = tonumber(row[2]) or row[2]
        end
        return found
      end

      local function count(on, sql)
        return tonumber((on:sql("SELECT COUNT(*) FROM " .. sql)))
      end

      it("sends reads to the slave and writes to the master", function()
        local client = start_splitter()
        assert.equal("slave", where(client))
        client:ask("INSERT INTO other.marker VALUES ('new')")
        assert.equal("slave", where(client))
        assert.same({ 2, 1 }, { count(server, "other.marker"), count(slave, "other.marker") })
        client:ask("DELETE FROM other.marker WHERE name = 'new'")
        for _, sql in ipairs {
          "SELECT name FROM split.marker FOR UPDATE", "SELECT name FROM split.marker LOCK IN SHARE MODE",
          "/* master */ SELECT name FROM split.marker",
        } do
          assert.same({ { "master" } }, client:ask(sql).rows, sql)
        end
        for _, sql in ipairs { "SELECT name FROM split.marker;", "/* x */ (SELECT name FROM split.marker)",
          "SELECT name, 'FOR UPDATE' FROM split.marker" } do
          assert.equal("slave", client:ask(sql).rows[1][1], sql)
        end
      end)

      it("keeps transactions on the master", function()
        local client = start_splitter()
        client:ask("BEGIN")
        assert.equal("master", where(client))
        assert.equal(1054, client:ask("SELECT nothing FROM split.marker").errcode)
        assert.equal("master", where(client))
        client:ask("INSERT INTO other.marker VALUES ('in a transaction')")
        client:ask("ROLLBACK")
        assert.equal("slave", where(client))
        assert.equal(1, count(server, "other.marker"))
        client:ask("SET autocommit = 0")
        assert.equal("master", where(client))
        client:ask("COMMIT")
        assert.equal("master", where(client))
        client:ask("SET autocommit=1")
        assert.equal("slave", where(client))
        client:ask("START TRANSACTION")
        client:close() -- in the middle: nobody gets that connection
        local other = login()
        other:ask("UPDATE split.marker SET name = name")
        assert.equal("master", other:ask("SELECT name FROM split.marker FOR UPDATE").rows[1][1])
      end)

      it("keeps what is about the statement before where that was", function()
        local client = start_splitter()
        slave:sql("CREATE OR REPLACE VIEW split.more AS SELECT 1 AS n UNION SELECT 2 UNION SELECT 3")
        client:ask("SELECT SQL_CALC_FOUND_ROWS n FROM split.more LIMIT 1")
        assert.same({ { "3" } }, client:ask("SELECT FOUND_ROWS()").rows)
        client:ask("SELECT CAST('x' AS SIGNED)")
        assert.equal("1292", client:ask("SHOW WARNINGS").rows[1][2])
        assert.same({ { "1" } }, client:ask("SHOW COUNT(*) WARNINGS").rows)
        assert.equal(1, status(client)["clients on 2"])
        client:ask("DELETE FROM split.items")
        client:ask("INSERT INTO split.items VALUES (2, 'a'), (3, 'b')") -- an id that was not generated
        quit(client)

        client = login()
        client:ask("SET GLOBAL splitter.hold_insert_id = 0")
        client:ask("INSERT INTO split.items (name) VALUES ('c'), ('d')")
        assert.same({ { "2" } }, client:ask("SELECT ROW_COUNT()").rows)
        local id = client:ask("INSERT INTO split.items (name) VALUES ('e')").insert_id
        assert.same({ { tostring(id) } }, client:ask("SELECT LAST_INSERT_ID()").rows)
        assert.equal("slave", where(client))
        client:ask("PROXY SET GLOBAL splitter.hold_insert_id = true")
        id = client:ask("INSERT INTO split.items (name) VALUES ('f')").insert_id
        assert.equal("master", where(client))
        assert.same({ { tostring(id) } }, client:ask("SELECT last_insert_id()").rows)
        client:ask("DELETE FROM split.items")
        assert.same({ { "0", "f" } }, { client:ask("SELECT COUNT(*), 'f' FROM split.items").rows[1] })
      end)

      it("keeps temporary tables, variables, locks and prepared statements on the master", function()
        local client = start_splitter()
        client:ask("USE split")
        client:ask("CREATE TEMPORARY TABLE mine (id INT)")
        client:ask("CREATE TEMPORARY TABLE IF NOT EXISTS other.yours (id INT)")
        client:ask("INSERT INTO mine VALUES (1), (2)")
        assert.same({ { "2" } }, client:ask("SELECT COUNT(*) FROM mine").rows)
        assert.equal("master", where(client))
        client:ask("DROP TABLE mine")
        assert.equal("master", where(client))
        client:ask("DROP TEMPORARY TABLE other.yours")
        assert.equal("slave", where(client))
        client:ask("LOCK TABLES split.marker READ")
        assert.equal("master", where(client))
        client:ask("UNLOCK TABLES")

        assert.equal("slave", where(client))
        local first = prepare(client, "SELECT name FROM split.marker")
        local second = prepare(client, "SELECT 1")
        assert.same({ "\0\0\6master" }, execute(client, first))
        assert.equal("master", where(client))
        close_statement(client, second)
        assert.same({ "\0\0\6master" }, execute(client, first))
        close_statement(client, first)
        assert.equal("slave", where(client))
        local _, failure = prepare(client, "SELECT nothing FROM split.marker")
        assert.equal(1054, failure.errcode)
        assert.equal("slave", where(client))
        client:send("\31") -- COM_RESET_CONNECTION
        assert.equal(0, client:packet():byte())
        assert.equal("slave", where(client))

        client:ask("SET @mine = 5")
        assert.same({ { "5", "master" } }, client:ask("SELECT @mine, name FROM split.marker").rows)
        assert.equal("master", where(client))
        client:send("\31")
        assert.equal(0, client:packet():byte())
        assert.equal("slave", where(client))
        assert.same({ { "1" } }, client:ask("SELECT GET_LOCK('old', 1)").rows)
        assert.equal("master", where(client))
        quit(client)
        assert.same({ { "1" } }, login():ask("SELECT IS_FREE_LOCK('old')").rows)
      end)

      it("brings the schema and the character set along", function()
        local client = start_splitter()
        client:send("\2split")
        assert.equal(0, client:packet():byte())
        assert.same({ { "slave" } }, client:ask("SELECT name FROM marker").rows)
        assert.same({ { "master" } }, client:ask("SELECT name FROM marker FOR UPDATE").rows)
        client:ask("use other")
        assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
        assert.same({ { "other master" } }, client:ask("SELECT name FROM marker FOR UPDATE").rows)
        assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
        client:ask("SET NAMES latin1")
        for _, suffix in ipairs { "", " FOR UPDATE" } do
          assert.same({ { "latin1" } }, client:ask("SELECT @@character_set_client FROM marker" .. suffix).rows)
        end
        assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
        quit(client)

        client = login()
        assert.is_nil(client:ask("SELECT DATABASE()").errcode)
        client:ask("USE split")
        assert.same({ { "slave", "utf8mb4" } }, client:ask("SELECT name, @@character_set_client FROM marker").rows)
        assert.same({ { "master", "utf8mb4" } },
          client:ask("SELECT name, @@character_set_client FROM marker FOR UPDATE").rows)
        client:ask("USE only_here")
        local before = status(client)
        assert.matches("^can't change DB to only_here on 127%.0%.0%.1:" .. slave.port,
          client:ask("SELECT name FROM split.marker").errmsg)
        assert.is_true(status(client).init_db > before.init_db)
        assert.equal(1, client:ask("CREATE TABLE only_here.t SELECT 1").affected_rows)
        client:ask("USE split")
        assert.equal("slave", where(client))
      end)

      it("gives connections to the next client of the same user, clean", function()
        local client = start_splitter()
        local function ids()
          return client:ask("SELECT CONNECTION_ID() FROM split.marker FOR UPDATE").rows[1][1]
            .. " " .. client:ask("SELECT MAX(CONNECTION_ID()) FROM split.marker").rows[1][1]
        end
        local first = ids()
        quit(client)
        for _ = 1, 3 do
          client = login()
          assert.equal(first, ids())
          quit(client)
        end
        client = login()
        client:ask("SET @mine = 1")
        client:ask("CREATE TEMPORARY TABLE split.mine SELECT 1")
        quit(client)
        client = login()
        assert.same({ {} }, client:ask("SELECT @mine").rows)
        assert.equal(1146, client:ask("SELECT * FROM split.mine").errcode)
        quit(client)

        local nopass, reader = login(), login("reader")
        assert.same({ { "nopass@%" } }, nopass:ask("SELECT CURRENT_USER() FROM split.marker").rows)
        assert.same({ { "reader@%", "master" } }, reader:ask("SELECT CURRENT_USER(), name FROM split.marker").rows)
        assert.same({ { "reader@%" } }, reader:ask("SELECT CURRENT_USER() FROM split.marker FOR UPDATE").rows)
        quit(reader)
        reader = login("reader")
        assert.same({ { "reader@%", "slave" } }, reader:ask("SELECT CURRENT_USER(), name FROM split.marker").rows)
        for _, suffix in ipairs { " FOR UPDATE", "" } do
          assert.same({ { "nopass@%" } }, nopass:ask("SELECT CURRENT_USER() FROM split.marker" .. suffix).rows)
          assert.same({ { "reader@%" } }, reader:ask("SELECT CURRENT_USER() FROM split.marker" .. suffix).rows)
        end
      end)

      it("serves the command line client and PyMySQL", function()
        start_splitter()
        local expected = "other %s\nother master\n1\n"
        local sql = "SELECT name FROM marker// SELECT name FROM marker FOR UPDATE// BEGIN// "
          .. "INSERT INTO marker VALUES ('x')// ROLLBACK// SELECT COUNT(*) FROM marker"
        for _, name in ipairs { "master", "slave", "slave" } do
          local before = sessions_ended()
          assert.equal(expected:format(name), cli(sql, "root", "other"))
          assert.truthy(process.wait_until(function()
            return sessions_ended() > before
          end, 5))
        end
        assert.matches("ERROR 1146 %(42S02%)", (cli("SELECT * FROM nowhere", "root", "other")))
        local program = [[
def where(c):
    return run("SELECT name FROM marker", c=c)[0][0]
c.close()
c = connect(database="split", user="reader")
print(where(c))
c.close()
a = connect(database="split", user="reader")
b = connect(database="other", user="reader")
print(where(a), where(b), where(a))
b.begin()
print(where(a), where(b))
b.rollback()
with a.cursor() as cursor:
    cursor.execute("INSERT INTO items (name) VALUES ('python')")
    print(cursor.lastrowid == run("SELECT LAST_INSERT_ID()", c=a)[0][0])
    cursor.execute("DELETE FROM items WHERE name = %s", "python")
    print(cursor.rowcount, where(a))
a.select_db("other")
print(where(a))
a.close()
print(where(b))
b.ping()
print(run("SELECT FOUND_ROWS()", c=b), run("SELECT 1", c=b))
c = connect(database="split", user="reader")
print(where(c), where(b))
]]
        assert.equal([[
master
slave other master slave
slave other master
True
1 master
other master
other slave
((1,),) ((1,),)
master other slave
]], (pymysql(program):gsub("%[", "("):gsub("%]", ",)"):gsub(",,", ",")))
      end)

      it("lets clients of different capabilities share a user", function()
        start_splitter({}) -- the raw client has logged in; these have others
        for _ = 1, 3 do
          for _ = 1, 2 do
            assert.matches("^[ms][al][sa][tv]er?\n$", (cli("SELECT name FROM split.marker", "nopass")))
          end
          assert.equal("1\n", pymysql [[print(run("SELECT 1 FROM split.marker")[0][0])]])
          local client = login()
          assert.is_nil(client.refused)
          assert.matches("^[ms]", where(client))
          assert.same({ { "master" } }, client:ask("SELECT name FROM split.marker FOR UPDATE").rows)
          quit(client)
        end
      end)

      it("survives the end of the slave", function()
        local client = start_splitter()
        assert.equal("slave", where(client))
        client:ask("DO 0") -- to the master: the connection to the slave is idle
        slave:stop("sigkill")
        finally(function()
          slave:start()
        end)
        assert.truthy(process.wait_until(function()
          return status(client)["idle on 2"] == 0
        end, 5))
        assert.equal("master", where(client))
        quit(client)
        client = login()
        assert.is_nil(client.refused)
        assert.equal("master", where(client))
      end)
    end)
  end)
end
