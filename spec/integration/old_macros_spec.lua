-- What clients see of scripts/macros.lua, written as people wrote them from 2007 to 2010.
-- old_scripts_soak_spec.lua puts it under load.

local old_script = require "spec.support.old_script"
local servers = require "spec.support.server"

local prepare, execute, close_statement = old_script.prepare, old_script.execute, old_script.close_statement

for _, server in ipairs(servers.all()) do
  describe("macros.lua in front of " .. server.name, function()
    local script = old_script.new(server, "macros")
    local start, login, cli, pymysql = script.start, script.login, script.cli, script.pymysql

    after_each(script.finish)

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
      start()
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
      start()
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
      client:ask("FOREACH (SELECT '007' AS n, 5 AS id) DO UPDATE test.old SET shop = $n WHERE id = $id")
      assert.same({ { "007" } }, client:ask("SELECT shop FROM test.old WHERE id = 5").rows)
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
      start()
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
      assert.same({ { "\\\\" }, { "it's; b" } }, client:ask([[MERGE SELECT '\\\\'; SELECT 'it''s; b']]).rows)
      assert.equal(1222, client:ask("MERGE SELECT 1; SELECT 1, 2").errcode)
      assert.equal(0, client:ask("MERGE DO 1; DO 2").affected_rows)
      client:ask("SELECT 42")
      client:ask("MERGE SELECT 1")
      assert.same({ { "42" } }, client:ask("AGAIN").rows)
      assert.same({ { "42" } }, client:ask("AGAIN").rows)
      assert.equal("AGAIN: there was no statement before", login():ask("AGAIN").errmsg)
    end)

    it("macros are run by all clients", function()
      start()
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
      start()
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
      start()
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
end
