local grammar = require "mysql-proxy.admin.grammar"

local function parse(text)
  local statement, err = grammar.parse(text)
  assert(statement, err and err.errmsg)
  return statement
end

local function refused(text)
  local statement, err = grammar.parse(text)
  assert.is_nil(statement)
  return err
end

local function column(name, table)
  return { "column", name, table }
end

local function literal(value)
  return { "literal", value }
end

-- The expression that a text is.
local function expression(text)
  return parse("SELECT " .. text).items[1].expression
end

describe("mysql-proxy.admin.grammar", function()
  describe("SELECT", function()
    it("has columns, aliases and stars", function()
      local statement = parse("SELECT *, s.*, id, s.id AS number, 'x' text FROM proxy.sessions AS s")
      assert.equal("select", statement.kind)
      assert.same({ schema = "proxy", name = "sessions", alias = "s" }, statement.from)
      local items = statement.items
      assert.is_true(items[1].star)
      assert.equal("s", items[2].table)
      assert.same(column("id"), items[3].expression)
      assert.same(column("id", "s"), items[4].expression)
      assert.equal("number", items[4].alias)
      assert.equal("text", items[5].alias)
    end)

    it("has all clauses, in this order", function()
      local statement = parse([[SELECT DISTINCT user, COUNT(*) n FROM sessions WHERE id > 1 GROUP BY user HAVING n > 2
        ORDER BY n DESC, 1 ASC, user LIMIT 10 OFFSET 20]])
      assert.is_true(statement.distinct)
      assert.same({ "chain", column("id"), { { "compare", ">", literal(1) } } }, statement.where)
      assert.same({ column("user") }, statement.group)
      assert.same({ "chain", column("n"), { { "compare", ">", literal(2) } } }, statement.having)
      assert.same({
        { expression = column("n"), descending = true }, { expression = literal(1) }, { expression = column("user") },
      }, statement.order)
      assert.same({ 10, 20 }, { statement.limit, statement.offset })
      assert.same({ 5, 3 }, { parse("SELECT 1 LIMIT 3, 5").limit, parse("SELECT 1 LIMIT 3, 5").offset })
    end)

    it("has keywords in any case, blanks, comments and a semicolon at the end", function()
      for _, text in ipairs {
        "select * from backends", "SeLeCt\t*\nFROM  backends ;", "/* a */ SELECT/**/*/* b */FROM backends -- end",
        "SELECT * # rest\nFROM backends;;", "-- first\nSELECT * FROM `backends`", "/*!40101 SELECT * FROM backends */;",
        "SELECT /*! * */ FROM /*!50002 backends*/", "SELECT * /*!99999 , 1 */ FROM backends /*!080012 nothing*/",
        "SELECT * FROM /*!40000 backends /* of '*/ */ -- /*!", "/*!SELECT * FROM `backends`*/",
      } do
        local statement = parse(text)
        assert.is_true(statement.items[1].star)
        assert.equal("backends", statement.from.name)
      end
    end)

    it("has version comments where they are code, and not in strings", function()
      assert.same(literal "/*!1*/", parse("SELECT /*!50000 '/*!1*/' */").items[1].expression)
      assert.same(literal "'*/", parse("SELECT /*! '''*/' */").items[1].expression)
      assert.matches("near '/*!50000 1' at line 2", refused("SELECT\n/*!50000 1").errmsg, 1, true)
      assert.matches("near 'b", refused("SELECT 1 /*!99999\n\n*/ a b /*!99999*/").errmsg, 1, true)
      assert.matches("at line 3", refused("SELECT 1 /*!99999\n\n*/ a b /*!99999*/").errmsg, 1, true)
    end)

    it("takes any name in backticks", function()
      local statement = parse("SELECT `a``b`, `select` FROM `from`")
      assert.same(column("a`b"), statement.items[1].expression)
      assert.same(column("select"), statement.items[2].expression)
      assert.equal("from", statement.from.name)
    end)
  end)

  describe("an expression", function()
    it("has strings with MySQL's escapes", function()
      assert.same(literal("it's"), expression("'it''s'"))
      assert.same(literal('a"b'), expression([["a""b"]]))
      assert.same(literal("\n\t\0'\\x\26"), expression([['\n\t\0\'\\\x\Z']]))
      assert.same(literal("\\%\\_"), expression([['\%\_']])) -- for LIKE
      assert.same(literal("one two"), expression("'one ' \"two\""))
      assert.same(literal("x"), expression("_utf8mb4'x'"))
    end)

    it("has numbers and constants", function()
      for text, value in pairs { ["12"] = 12, ["1.5"] = 1.5, [".5"] = 0.5, ["2e3"] = 2000, ["0xff"] = 255 } do
        assert.same(literal(value), expression(text))
      end
      assert.same({ literal(1), literal(0), literal(nil) },
        { expression("TRUE"), expression("false"), expression("NULL") })
    end)

    it("binds OR weaker than AND, AND weaker than NOT, NOT weaker than a comparison", function()
      assert.same({ "or", {
        { "and", { column("a"), { "not", { "chain", column("b"), { { "compare", "=", literal(1) } } } } } },
        column("c"),
      } }, expression("a AND NOT b = 1 OR c"))
    end)

    it("binds * stronger than +, and a sign strongest", function()
      assert.same({ "chain", literal(1), {
        { "arithmetic", "+", { "chain", literal(2), { { "arithmetic", "*", { "unary", literal(3), "-" } } } } },
        { "arithmetic", "-", literal(4) },
      } }, expression("1 + 2 * -3 - 4"))
      assert.same({ "chain", { "chain", literal(1), { { "arithmetic", "+", literal(2) } } },
        { { "arithmetic", "DIV", literal(3) } } }, expression("(1 + 2) DIV 3"))
    end)

    it("has IN, BETWEEN, LIKE and IS, all with NOT", function()
      local function suffix(text)
        return expression("a " .. text)[3][1]
      end
      assert.same({ "in", false, { literal(1), literal("x") } }, suffix "IN (1, 'x')")
      assert.same({ "between", true, literal(1), literal(2) }, suffix "NOT BETWEEN 1 AND 2")
      assert.same({ "like", false, literal("b%"), nil }, suffix "LIKE 'b%'")
      assert.same({ "like", true, literal("b%"), "|" }, suffix "NOT LIKE 'b%' ESCAPE '|'")
      assert.same({ "is", true, "NULL" }, suffix "is not null")
    end)

    it("has calls, variables and parameters", function()
      assert.same({ "call", "COUNT", { star = true } }, expression("count(*)"))
      assert.same({ "call", "COUNT", { column("a"), distinct = true } }, expression("COUNT(DISTINCT a)"))
      assert.same({ "call", "NOW", {} }, expression("NOW()"))
      assert.same({ "call", "CURRENT_USER", {} }, expression("CURRENT_USER"))
      assert.same({ "variable", "system", "version_comment" }, expression("@@version_comment"))
      assert.same({ "variable", "system", "sql_mode" }, expression("@@SESSION.sql_mode"))
      assert.same({ "variable", "user", "x" }, expression("@x"))
      assert.same({ "parameter", 8 }, expression("?"))
      assert.same({ 8, 27 }, parse("SELECT ? FROM t WHERE a = ?").parameters)
    end)
  end)

  it("reads SHOW", function()
    for text, wanted in pairs {
      ["SHOW TABLES"] = { what = "tables" },
      ["SHOW FULL TABLES FROM `proxy` LIKE 'b%'"] = { what = "tables", full = true, schema = "proxy", like = "b%" },
      ["SHOW DATABASES"] = { what = "databases" },
      ["SHOW SCHEMAS LIKE 'p%'"] = { what = "databases", like = "p%" },
      ["SHOW COLUMNS FROM backends"] = { what = "columns", table = { name = "backends" } },
      ["SHOW FULL FIELDS IN backends IN proxy LIKE 's%'"] = {
        what = "columns", full = true, table = { name = "backends" }, schema = "proxy", like = "s%",
      },
      ["SHOW CREATE TABLE proxy.backends"] = {
        what = "create_table", table = { schema = "proxy", name = "backends" },
      },
      ["SHOW TABLE STATUS FROM proxy"] = { what = "table_status", schema = "proxy" },
      ["SHOW INDEX FROM backends"] = { what = "index", table = { name = "backends" } },
      ["SHOW PROCESSLIST"] = { what = "processlist" },
      ["SHOW FULL PROCESSLIST"] = { what = "processlist", full = true },
      ["SHOW GLOBAL STATUS LIKE 'Threads%'"] = { what = "status", like = "Threads%" },
      ["SHOW SESSION VARIABLES"] = { what = "variables" },
      ["SHOW WARNINGS LIMIT 5"] = { what = "warnings", limit = 5 },
      ["SHOW STORAGE ENGINES"] = { what = "absent" },
      ["SHOW GRANTS FOR CURRENT_USER()"] = { what = "grants" },
      ["DESCRIBE backends"] = { what = "columns", table = { name = "backends" } },
      ["desc proxy.backends state"] = {
        what = "columns", table = { schema = "proxy", name = "backends" }, like = "state",
      },
    } do
      wanted.kind, wanted.text = "show", text
      assert.same(wanted, parse(text))
    end
    assert.same(column("variable_name"), parse("SHOW VARIABLES WHERE variable_name = 'x'").where[2])
  end)

  it("reads SET of options, of variables, and what clients set at login", function()
    local function assignments(text)
      local list = parse(text).assignments
      for index, each in ipairs(list) do
        list[index] = { each.name, each.value }
      end
      return list
    end
    assert.same({ { "log_level", literal("debug") } }, assignments "SET log_level = 'debug'")
    assert.same({ { "proxy_profiling", { word = "on" } } }, assignments "SET GLOBAL proxy.profiling = ON")
    assert.same({ { "names" }, { "autocommit", literal(1) }, { "sql_mode", literal("") }, { "@x", literal(3) } },
      assignments "SET NAMES utf8mb4 COLLATE 'utf8mb4_bin', autocommit=1, @@session.sql_mode = '', @x := 3")
    assert.same({ { "transaction" } }, assignments "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY")
  end)

  it("reads changes", function()
    local update = parse("UPDATE backends SET state = 'down', type = 'ro' WHERE address LIKE 'db%' LIMIT 2")
    assert.same({ "update", "backends", 2 }, { update.kind, update.table.name, update.limit })
    assert.same({ { column = "state", value = literal("down") }, { column = "type", value = literal("ro") } },
      update.assignments)
    local insert = parse("INSERT INTO backends (address, type) VALUES ('db1', 'rw'), ('db2', 'ro')")
    assert.same({ "address", "type" }, insert.columns)
    assert.same({ { literal("db1"), literal("rw") }, { literal("db2"), literal("ro") } }, insert.rows)
    assert.equal("delete", parse("DELETE FROM backends WHERE backend_ndx = 2").kind)
  end)

  it("reads KILL, RELOAD, SHUTDOWN, USE, help and transactions", function()
    for text, wanted in pairs {
      ["KILL 7"] = { kind = "kill", id = 7 },
      ["KILL CONNECTION 7"] = { kind = "kill", id = 7 },
      ["KILL QUERY 7"] = { kind = "kill", id = 7, query = true },
      ["RELOAD"] = { kind = "reload" },
      ["RESTART"] = { kind = "restart" },
      ["RELOAD SCRIPT"] = { kind = "reload", what = "script" },
      ["RELOAD DEFAULTS FILE"] = { kind = "reload", what = "defaults file" },
      ["RELOAD CERTIFICATES"] = { kind = "reload", what = "certificates" },
      ["SHUTDOWN"] = { kind = "shutdown" },
      ["USE proxy"] = { kind = "use", schema = "proxy" },
      ["help"] = { kind = "help" },
      ["help 'contents'"] = { kind = "help" },
      ["BEGIN"] = { kind = "nothing" },
      ["START TRANSACTION READ ONLY"] = { kind = "nothing" },
      ["ROLLBACK"] = { kind = "nothing" },
    } do
      wanted.text = text
      assert.same(wanted, parse(text))
    end
  end)

  describe("an error", function()
    it("names the place as a server does", function()
      for text, place in pairs {
        ["selec 1"] = "'selec 1' at line 1",
        ["SELECT FROM backends"] = "'FROM backends' at line 1",
        ["SELECT *\nFROM backends\nWHERE"] = "'' at line 3",
        ["SELECT *\nFROM backends\nWHERE id == 1"] = "'= 1' at line 3",
        ["SELECT * FROM a JOIN b"] = "'JOIN b' at line 1",
        ["SELECT 1; SELECT 2"] = "'SELECT 2' at line 1",
        ["SELECT 'abc"] = "''abc' at line 1",
        ["SELECT 1 /* abc"] = "'/* abc' at line 1",
        ["SELECT (1"] = "'' at line 1",
        ["SELECT " .. ("x"):rep(100) .. " y z"] = "'z' at line 1",
        ["DROP TABLE " .. ("x"):rep(100)] = "'" .. ("DROP TABLE " .. ("x"):rep(100)):sub(1, 80) .. "' at line 1",
        ["KILL"] = "'' at line 1",
        ["KILL x"] = "'x' at line 1",
      } do
        local err = refused(text)
        assert.same({ 1064, "42000" }, { err.errcode, err.sqlstate })
        assert.equal(place, err.errmsg:match("near (.*)$"))
      end
    end)

    it("says so if there is no statement", function()
      for _, text in ipairs { "", "  \n", "-- a comment", ";" } do
        assert.equal(1065, refused(text).errcode)
      end
    end)

    it("is what a statement gets that is made to exhaust something", function()
      for _, piece in ipairs {
        "(", "NOT ", "-", "!", "f(", "1,", "1+", "1 AND ", "a.", "'", "`", "/*", "a IN (", "1=", "1 IS NULL ", "@@",
        "?,", "a LIKE ", "1 BETWEEN 1 AND ", "SELECT ", "'a' ", "/*!", "--", ";", "\0", "\255",
      } do
        for _, length in ipairs { 16000, 2 ^ 20 } do
          for _, last in ipairs { "", "1" } do
            local statement, err = grammar.parse("SELECT " .. piece:rep(math.floor(length / #piece)) .. last)
            assert.truthy(statement or err.errcode)
            assert.truthy(length < 2 ^ 20 or err.errmsg:find("may have 16384 bytes", 1, true))
          end
        end
      end
    end)

    it("is what comes of too many parentheses, but not of twenty", function()
      parse("SELECT " .. ("("):rep(20) .. "1" .. (")"):rep(20))
      parse("SELECT " .. ("LOWER("):rep(20) .. "1" .. (")"):rep(20))
      assert.equal(1064, refused("SELECT " .. ("("):rep(200) .. "1" .. (")"):rep(200)).errcode)
    end)
  end)
end)
