local errors = require "mysql-proxy.admin.errors"
local grammar = require "mysql-proxy.admin.grammar"
local select_ = require "mysql-proxy.admin.select"

local servers = {
  name = "servers",
  columns = {
    { "id", "LONG" }, { "address", "STRING" }, { "state", "STRING" }, { "clients", "LONGLONG" }, { "load", "DOUBLE" },
  },
  rows = {
    { 1, "db1:3306", "up", 10, 0.5 },
    { 2, "db2:3306", "up", 3, 1.25 },
    { 3, "DB3:3306", "down", 0, nil },
    { 4, "db_4", nil, 7, 2 },
  },
}

local context = {
  user = "root@localhost", version = "8.0.11-test", database = "proxy", connection_id = 42, parameters = {},
  pause = function() end,
  variable = function(name)
    if name ~= "version_comment" then
      errors.raise(1193, "HY000", "Unknown system variable '%s'", name)
    end
    return "a comment"
  end,
}

local function run(text, source)
  local statement, err = grammar.parse(text)
  assert(statement, err and err.errmsg)
  return select_.run(statement, source or (statement.from and servers), context)
end

-- The rows as one text: columns by commas, rows by blanks.
local function rows(text, source)
  local lines, result = {}, run(text, source)
  for number, row in ipairs(result.rows) do
    local cells = {}
    for index = 1, #result.fields do
      cells[index] = tostring(row[index])
    end
    lines[number] = table.concat(cells, ",")
  end
  return table.concat(lines, " ")
end

local function value(text)
  return run("SELECT " .. text).rows[1][1]
end

local function ids(condition)
  return rows("SELECT id FROM servers WHERE " .. condition)
end

local function failure(text)
  local ok, err = pcall(run, text)
  assert.is_false(ok)
  assert(errors.of(err), tostring(err))
  return { err.errcode, err.sqlstate, err.errmsg }
end

describe("mysql-proxy.admin.select", function()
  it("gives all columns for *, with their names and types", function()
    local result = run("SELECT * FROM servers LIMIT 1")
    assert.same({
      { name = "id", type = "LONG" }, { name = "address", type = "STRING" }, { name = "state", type = "STRING" },
      { name = "clients", type = "LONGLONG" }, { name = "load", type = "DOUBLE" },
    }, result.fields)
    assert.same({ { 1, "db1:3306", "up", 10, 0.5 } }, result.rows)
  end)

  it("heads a column by its alias, its name, or what was written", function()
    local names = {}
    local result = run("SELECT ID, s.state, clients AS n, clients  + 1 , COUNT(*), 'x', 7 'y' FROM servers s")
    for index, each in ipairs(result.fields) do
      names[index] = each.name
    end
    assert.same({ "ID", "state", "n", "clients  + 1", "COUNT(*)", "x", "y" }, names)
  end)

  it("takes the type of a column without one from its values", function()
    local types = {}
    local result = run("SELECT id + 1, load * 2, CONCAT(id), NULL, COUNT(*), MAX(address), s.id FROM servers s")
    for index, each in ipairs(result.fields) do
      types[index] = each.type
    end
    assert.same({ "LONGLONG", "LONGLONG", "STRING", "STRING", "LONGLONG", "STRING", "LONG" }, types)
    assert.equal("DOUBLE", run("SELECT load / 3 FROM servers").fields[1].type)
    assert.equal("LONGLONG", run("SELECT COUNT(*) FROM servers WHERE 0 HAVING 0").fields[1].type)
  end)

  describe("WHERE", function()
    it("compares, ignoring case, numbers as numbers", function()
      for condition, wanted in pairs {
        ["id = 2"] = "2", ["id <> 2"] = "1 3 4", ["id != 2"] = "1 3 4", ["id < 2"] = "1", ["id <= 2"] = "1 2",
        ["id > 3"] = "4", ["id >= 3"] = "3 4", ["id = '2'"] = "2", ["'2abc' = id"] = "2", ["clients > '9'"] = "1",
        ["address = 'DB1:3306'"] = "1", ["state > 'DOWN'"] = "1 2", ["id"] = "1 2 3 4", ["state"] = "",
        ["load = 1.25"] = "2", ["address > 'db2'"] = "2 3 4",
      } do
        assert.equal(wanted, ids(condition), condition)
      end
    end)

    it("has AND, OR and NOT with three values", function()
      for condition, wanted in pairs {
        ["id > 1 AND id < 4"] = "2 3", ["id = 1 OR id = 4"] = "1 4", ["NOT id = 1"] = "2 3 4",
        ["state = 'up' OR NULL"] = "1 2", ["NOT state = 'up'"] = "3", ["NOT (NULL AND id = 1)"] = "2 3 4",
        ["id = 1 || id = 2 && state IS NULL"] = "1", ["! (id = 1)"] = "2 3 4",
      } do
        assert.equal(wanted, ids(condition), condition)
      end
    end)

    it("has IN, BETWEEN, LIKE and IS", function()
      for condition, wanted in pairs {
        ["id IN (1, '4', 9)"] = "1 4", ["id NOT IN (1, 4)"] = "2 3", ["id NOT IN (1, NULL)"] = "",
        ["state IN ('UP')"] = "1 2", ["id BETWEEN 2 AND 3"] = "2 3", ["id NOT BETWEEN 2 AND 3"] = "1 4",
        ["id BETWEEN NULL AND 1"] = "",
        ["id NOT BETWEEN NULL AND 1"] = "2 3 4",
        ["address LIKE 'db%'"] = "1 2 3 4", ["address LIKE 'db_:3306'"] = "1 2 3", ["address LIKE '%\\_4'"] = "4",
        ["address LIKE '%|_4' ESCAPE '|'"] = "4", ["address NOT LIKE '%3306'"] = "4", ["address LIKE 'db'"] = "",
        ["id LIKE '1%'"] = "1", ["state LIKE '%'"] = "1 2 3",
        ["state IS NULL"] = "4", ["state IS NOT NULL"] = "1 2 3", ["clients IS TRUE"] = "1 2 4",
        ["load IS NOT FALSE"] = "1 2 3 4", ["clients IS FALSE"] = "3", ["state <=> NULL"] = "4", ["state = NULL"] = "",
      } do
        assert.equal(wanted, ids(condition), condition)
      end
    end)
  end)

  it("calculates as MySQL does", function()
    for text, wanted in pairs {
      ["1 + 2 * 3"] = 7, ["(1 + 2) * 3"] = 9, ["7 / 2"] = 3.5, ["7 DIV 2"] = 3, ["-7 DIV 2"] = -3, ["-7 % 3"] = -1,
      ["7 MOD 4"] = 3, ["'3 apples' + 1"] = 4, ["-'2'"] = -2, ["- -2"] = 2, ["1 = 1"] = 1, ["1 > 2"] = 0,
      ["'1e3x' + 0"] = 1000, ["NOT 0"] = 1, ["!1"] = 0, ["2 = 2 = 1"] = 1, ["TRUE + TRUE"] = 2,
    } do
      assert.equal(wanted, value(text), text)
    end
    for _, text in ipairs { "1 / 0", "1 % 0", "NULL + 1", "1 = NULL", "NULL AND 1", "NOT NULL", "-NULL" } do
      assert.is_nil(value(text), text)
    end
  end)

  it("has functions", function()
    for text, wanted in pairs {
      ["USER()"] = "root@localhost", ["CURRENT_USER"] = "root@localhost", ["VERSION()"] = "8.0.11-test",
      ["DATABASE()"] = "proxy", ["schema()"] = "proxy", ["CONNECTION_ID()"] = 42, ["@@version_comment"] = "a comment",
      ["IF(1 > 2, 'a', 'b')"] = "b", ["IFNULL(NULL, 3)"] = 3, ["COALESCE(NULL, NULL, 'c')"] = "c", ["NULLIF(1, 2)"] = 1,
      ["ISNULL(NULL)"] = 1, ["CONCAT('a', 1, 'b')"] = "a1b", ["LOWER('ABC')"] = "abc", ["UPPER('abc')"] = "ABC",
      ["LENGTH('häh')"] = 4, ["CHAR_LENGTH('häh')"] = 3, ["TRIM('  a b ')"] = "a b", ["LEFT('abc', 2)"] = "ab",
      ["RIGHT('abc', 2)"] = "bc", ["RIGHT('abc', 9)"] = "abc", ["SUBSTRING('abcd', 2, 2)"] = "bc",
      ["SUBSTR('abcd', -2)"] = "cd", ["ABS(-3)"] = 3, ["FLOOR(1.7)"] = 1, ["CEILING(1.2)"] = 2, ["ROUND(2.5)"] = 3,
      ["ROUND(-1.255, 1)"] = -1.3, ["GREATEST(1, 3, 2)"] = 3, ["LEAST('b', 'a')"] = "a",
    } do
      assert.equal(wanted, value(text), text)
    end
    for _, text in ipairs { "CONCAT('a', NULL)", "LOWER(NULL)", "GREATEST(1, NULL)", "NULLIF(1, 1)", "@unknown" } do
      assert.is_nil(value(text), text)
    end
    assert.truthy(value("NOW()"):find("^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$"))
    assert.equal(value("CURRENT_TIMESTAMP"):sub(1, 10), value("CURDATE()"))
  end)

  it("has aggregates", function()
    assert.equal("4,3,2,20,5,0,10,db_4", rows [[SELECT COUNT(*), COUNT(state), COUNT(DISTINCT state), SUM(clients),
      AVG(clients), MIN(clients), MAX(clients), MAX(address) FROM servers]])
    assert.equal("0,nil,nil,nil", rows("SELECT COUNT(*), SUM(id), AVG(id), MAX(id) FROM servers WHERE 0"))
    assert.equal("24", rows("SELECT SUM(clients) + COUNT(*) FROM servers"))
    assert.equal("1", rows("SELECT COUNT(*)"))
  end)

  it("groups", function()
    assert.equal("up,2,13 down,1,0 nil,1,7", rows("SELECT state, COUNT(*), SUM(clients) FROM servers GROUP BY state"))
    assert.equal("2,up 1,down 1,nil", rows("SELECT COUNT(*) n, state FROM servers GROUP BY 2"))
    assert.equal("0,2 1,2", rows("SELECT id > 2 AS late, COUNT(*) FROM servers GROUP BY late"))
    assert.equal("up,2", rows("SELECT state, COUNT(*) n FROM servers GROUP BY state HAVING n > 1"))
    assert.equal("up,2", rows("SELECT state, COUNT(*) FROM servers GROUP BY state HAVING COUNT(*) > 1"))
    assert.equal("", rows("SELECT state, COUNT(*) FROM servers WHERE 0 GROUP BY state"))
    assert.equal("up", rows("SELECT state FROM servers GROUP BY state ORDER BY COUNT(*) DESC LIMIT 1"))
  end)

  it("sorts: NULL first, ignoring case, what is equal as it came", function()
    assert.equal("4 3 1 2", rows("SELECT id FROM servers ORDER BY state"))
    assert.equal("1 2 3 4", rows("SELECT id FROM servers ORDER BY state DESC"))
    assert.equal("2 1 3 4", rows("SELECT id FROM servers ORDER BY state DESC, clients ASC"))
    assert.equal("4 3 2 1", rows("SELECT id FROM servers ORDER BY address DESC"))
    assert.equal("3,0 2,3 4,7 1,10", rows("SELECT id, clients AS c FROM servers ORDER BY c"))
    assert.equal("1,10 4,7 2,3 3,0", rows("SELECT id, clients FROM servers ORDER BY 2 DESC"))
    assert.equal("3 2 4 1", rows("SELECT id FROM servers ORDER BY clients + 0"))
  end)

  it("sorts many rows, and pauses meanwhile", function()
    local many, pauses = { name = "many", columns = { { "n", "LONG" } }, rows = {} }, 0
    local n = 1
    for index = 1, 5000 do
      n = n * 7919 % 10007
      many.rows[index] = { n }
    end
    context.pause = function()
      pauses = pauses + 1
    end
    local sorted = run("SELECT n FROM many ORDER BY n", many).rows
    context.pause = function() end
    assert.equal(5000, #sorted)
    for index = 2, #sorted do
      assert.is_true(sorted[index - 1][1] <= sorted[index][1])
    end
    assert.is_true(pauses > 100)
  end)

  it("limits", function()
    assert.equal("1 2", rows("SELECT id FROM servers LIMIT 2"))
    assert.equal("3", rows("SELECT id FROM servers LIMIT 1 OFFSET 2"))
    assert.equal("3", rows("SELECT id FROM servers LIMIT 2, 1"))
    assert.equal("4 3", rows("SELECT id FROM servers ORDER BY id DESC LIMIT 2"))
    assert.equal("", rows("SELECT id FROM servers LIMIT 0"))
    assert.equal("", rows("SELECT id FROM servers LIMIT 9 OFFSET 9"))
  end)

  it("leaves out what is there already with DISTINCT", function()
    assert.equal("up down nil", rows("SELECT DISTINCT state FROM servers"))
    assert.equal("nil down", rows("SELECT DISTINCT state FROM servers ORDER BY state LIMIT 2"))
  end)

  it("fails with a server's errors", function()
    for text, wanted in pairs {
      ["SELECT nothing FROM servers"] = { 1054, "42S22", "Unknown column 'nothing' in 'field list'" },
      ["SELECT x.id FROM servers"] = { 1054, "42S22", "Unknown column 'x.id' in 'field list'" },
      ["SELECT id FROM servers WHERE a = 1"] = { 1054, "42S22", "Unknown column 'a' in 'where clause'" },
      ["SELECT id FROM servers GROUP BY a"] = { 1054, "42S22", "Unknown column 'a' in 'group statement'" },
      ["SELECT id FROM servers HAVING a"] = { 1054, "42S22", "Unknown column 'a' in 'having clause'" },
      ["SELECT id FROM servers ORDER BY a"] = { 1054, "42S22", "Unknown column 'a' in 'order clause'" },
      ["SELECT id FROM servers ORDER BY 2"] = { 1054, "42S22", "Unknown column '2' in 'order clause'" },
      ["SELECT SUM(id) FROM servers GROUP BY 1"] = { 1056, "42000", "Can't group on 'SUM(id)'" },
      ["SELECT id, COUNT(*) AS n FROM servers GROUP BY id, n + 1"] = { 1056, "42000", "Can't group on 'n'" },
      ["SELECT id"] = { 1054, "42S22", "Unknown column 'id' in 'field list'" },
      ["SELECT *"] = { 1096, "HY000", "No tables used" },
      ["SELECT x.* FROM servers"] = { 1051, "42S02", "Unknown table 'x'" },
      ["SELECT id FROM servers WHERE COUNT(*) > 1"] = { 1111, "HY000", "Invalid use of group function" },
      ["SELECT SUM(COUNT(*)) FROM servers"] = { 1111, "HY000", "Invalid use of group function" },
      ["SELECT SLEEP(1)"] = { 1305, "42000", "FUNCTION SLEEP does not exist" },
      ["SELECT LOWER()"] = { 1582, "42000", "Incorrect parameter count in the call to native function 'LOWER'" },
      ["SELECT SUM(*) FROM servers"] = {
        1582, "42000", "Incorrect parameter count in the call to native function 'SUM'",
      },
      ["SELECT @@nothing"] = { 1193, "HY000", "Unknown system variable 'nothing'" },
    } do
      assert.same(wanted, failure(text), text)
    end
  end)

  it("matches LIKE patterns that are made to take long", function()
    assert.equal("0", rows("SELECT '" .. ("a"):rep(3000) .. "' LIKE '" .. ("%a"):rep(1000) .. "b'"))
  end)
end)
