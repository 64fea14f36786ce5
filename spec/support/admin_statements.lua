-- Statements for the admin interface that nobody would write: whole ones made by the rules of its grammar, whole ones
-- that were damaged, words in any order, and bytes. A seed gives the same ones again.

local M = {}

-- Park and Miller's minimal standard generator: math.random is others' too.
local Generator = {}
Generator.__index = Generator

---@param seed integer
function M.new(seed)
  local self = setmetatable({ state = seed % 2147483646 + 1 }, Generator)
  for _ = 1, 3 do
    self:number(1)
  end
  return self
end

--- 1 .. most
function Generator:number(most)
  self.state = self.state * 16807 % 2147483647
  return math.floor(self.state / 2147483647 * most) + 1
end

function Generator:one(list)
  return list[self:number(#list)]
end

function Generator:bytes(most)
  local list = {}
  for index = 1, self:number(most) do
    list[index] = string.char(self:number(256) - 1)
  end
  return table.concat(list)
end

local VALID = {
  "SELECT * FROM backends",
  "SELECT DISTINCT state, COUNT(*) AS n FROM sessions GROUP BY state HAVING n > 0 ORDER BY n DESC",
  "SELECT `option`, value FROM proxy_config WHERE `option` LIKE 'proxy.%' ESCAPE '|' LIMIT 3 OFFSET 1",
  "SELECT address, latency * 1000 FROM backends WHERE type IN ('rw', 'ro') AND NOT address IS NULL",
  "SELECT text, p95_time FROM query_digests WHERE count BETWEEN 1 AND 10 ORDER BY sum_time DESC, 1 LIMIT 1, 2",
  "SELECT @@version_comment, @@global.max_allowed_packet, @x, CONNECTION_ID(), USER(), NOW()",
  "SELECT IF(1, 'a', 'b'), COALESCE(NULL, -1.5e3), 7 DIV 2, 7 MOD -2, 1/0, 0x1F, 'it''s' 'so', \"q\", _utf8'x'",
  "SELECT SUBSTRING('hello', -3, 2), LEFT('x', 5), ROUND(2.5, -1), GREATEST(1, 2, 3), TRIM(' x '), CONCAT('a', 1)",
  "SELECT SUM(DISTINCT id), AVG(time), MIN(user), MAX(user) FROM sessions WHERE user <=> NULL OR 1 <> 2",
  "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
  "SHOW FULL TABLES FROM proxy LIKE '%e%'", "SHOW FULL COLUMNS FROM backends", "SHOW VARIABLES LIKE 'log%'",
  "SHOW GLOBAL STATUS WHERE Variable_name = 'Uptime'", "SHOW FULL PROCESSLIST", "SHOW CREATE TABLE errors",
  "SHOW INDEX FROM status", "SHOW WARNINGS LIMIT 5", "SHOW GRANTS FOR CURRENT_USER()", "SHOW ENGINES",
  "DESCRIBE hooks", "EXPLAIN commands count", "HELP 'x'", "USE proxy", "BEGIN", "COMMIT WORK",
  "RELOAD", "RELOAD SCRIPT", "TRUNCATE TABLE query_digests", "DELETE FROM commands",
  "SET NAMES utf8mb4 COLLATE utf8mb4_bin, autocommit = 1", "SET GLOBAL max_connections = 100, @a := 'b'",
  "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", "SET proxy.read_timeout = 5.5",
  "UPDATE backends SET state = 'draining', type = 'ro' WHERE address LIKE '%' ORDER BY 1 LIMIT 1",
  "INSERT INTO backends (address, type) VALUES ('127.0.0.1:2', 'rw'), ('127.0.0.1:3', 'ro')",
  "DELETE FROM backends WHERE backend_ndx > 1 LIMIT 1", "KILL 4000000000", "KILL QUERY 4000000001",
  "/*!40101 SET NAMES utf8 */", "-- nothing\nSELECT 1 # more\n;",
}

local WORDS = {
  "SELECT", "FROM", "WHERE", "GROUP BY", "HAVING", "ORDER BY", "LIMIT", "OFFSET", "DISTINCT", "AS", "AND", "OR", "NOT",
  "IN", "LIKE", "ESCAPE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "DIV", "MOD", "DESC", "UPDATE", "SET",
  "INSERT INTO",
  "VALUES", "DELETE FROM", "SHOW", "FULL", "COLUMNS", "TABLES", "VARIABLES", "STATUS", "KILL", "QUERY", "USE", "HELP",
  "RELOAD", "TRUNCATE", "TABLE", "backends", "sessions", "query_digests", "commands", "errors", "hooks", "variables",
  "address", "state", "user", "count", "text", "time", "id", "(", ")", ",", ".", "*", "+", "-", "/", "%", "=", "<", ">",
  "<=>", "<>", "!=", "||", "&&", "!", ";", "@", "@@", "?", "`", "'", '"', "--", "#", "/*", "*/", "/*!99999",
  "\\", "\0",
  "0", "1", "-1", "1e308", "1e999", "0x", "0xffffffffffffffffff", ".5", "18446744073709551616", "'%_%'", "''", "'x'",
  "\255\254", "'\240\159'", "COUNT(", "CONCAT(", "SUBSTRING(", "ROUND(", "IF(",
}

local COLUMNS = {
  backends = { "backend_ndx", "address", "state", "type", "down_since", "queries", "latency" },
  sessions = { "id", "client", "user", "db", "state", "time", "bytes_from_client" },
  query_digests = { "digest", "text", "count", "sum_time", "p99_time", "first_seen" },
  commands = { "command", "count", "min_time" },
  errors = { "time", "code", "text" },
  status = { "Variable_name", "Value" },
  variables = { "Variable_name", "Value" },
}
local TABLES = { "backends", "sessions", "query_digests", "commands", "errors", "status", "variables" }

local LITERALS = {
  "0", "1", "-1", "2.5", "1e308", "-1e308", "1e-320", "1e400", "9007199254740993", "0x7fffffffffffffff", "NULL", "TRUE",
  "''", "'a'", "'%'", "'_'", "'\\\\'", "'1x'", "' -7e2z'", "'\255'", "'\\0'", "@x", "@@version", "@@pid",
}
local OPERATORS = {
  "+", "-", "*", "/", "%", " DIV ", " MOD ", " = ", " <=> ", " < ", " >= ", " <> ", " AND ", " OR ", " LIKE ",
  " NOT LIKE ", " || ",
}
local FUNCTIONS = {
  { "IF", 3 }, { "IFNULL", 2 }, { "NULLIF", 2 }, { "ISNULL", 1 }, { "COALESCE", 3 }, { "GREATEST", 3 }, { "LEAST", 2 },
  { "CONCAT", 3 }, { "LOWER", 1 }, { "LENGTH", 1 }, { "CHAR_LENGTH", 1 }, { "TRIM", 1 }, { "LEFT", 2 }, { "RIGHT", 2 },
  { "SUBSTRING", 3 }, { "SUBSTR", 2 }, { "ABS", 1 }, { "FLOOR", 1 }, { "CEIL", 1 }, { "ROUND", 2 }, { "ROUND", 1 },
  { "NOW", 0 }, { "DATABASE", 0 }, { "UNIX_TIMESTAMP", 0 },
}
local AGGREGATES = { "COUNT(", "SUM(", "MIN(", "MAX(", "AVG(", "COUNT(DISTINCT ", "SUM(DISTINCT " }

-- aggregates: whether one may stand there
function Generator:expression(depth, columns, aggregates)
  local kind = depth > 0 and self:number(aggregates and 8 or 7) or self:number(2)
  local function operand()
    return self:expression(depth - 1, columns, aggregates)
  end
  if kind == 1 then
    return self:one(LITERALS)
  elseif kind == 2 then
    return columns and self:one(columns) or self:one(LITERALS)
  elseif kind == 3 then
    return operand() .. self:one(OPERATORS) .. operand()
  elseif kind == 4 then
    return "(" .. operand() .. ")" .. self:one { " IS NULL", " IS NOT TRUE", " IS FALSE" }
  elseif kind == 5 then
    return operand() .. self:one { " IN (", " NOT IN (" } .. operand() .. ", " .. operand() .. ")"
  elseif kind == 6 then
    local fn, arguments = self:one(FUNCTIONS), {}
    for index = 1, fn[2] do
      arguments[index] = operand()
    end
    return fn[1] .. "(" .. table.concat(arguments, ", ") .. ")"
  elseif kind == 7 then
    return ("%s(%s BETWEEN %s AND %s)"):format(self:one { "-", "!", "NOT ", "+" }, operand(), operand(), operand())
  end
  return self:one(AGGREGATES) .. self:expression(depth - 1, columns) .. ")"
end

-- By the rules.
function Generator:select()
  local name = self:one(TABLES)
  local columns, parts = COLUMNS[name], { "SELECT " .. self:one { "", "DISTINCT " } }
  local grouped = self:number(3) == 1
  parts[2] = self:expression(3, columns, grouped)
  for _ = 1, self:number(3) - 1 do
    parts[#parts + 1] = ", " .. self:expression(2, columns, grouped) .. self:one { "", " AS x", " 'y z'" }
  end
  parts[#parts + 1] = " FROM " .. name
  if self:number(2) == 1 then
    parts[#parts + 1] = " WHERE " .. self:expression(3, columns)
  end
  if grouped then
    parts[#parts + 1] = " GROUP BY " .. self:expression(1, columns) .. " HAVING " .. self:expression(2, columns, true)
  end
  if self:number(2) == 1 then
    parts[#parts + 1] = " ORDER BY " .. self:expression(2, columns, grouped) .. self:one { "", " DESC", ", 1", ", 99" }
  end
  if self:number(4) == 1 then
    parts[#parts + 1] = " LIMIT " .. self:one { "0", "1", "7", "99999999999999999999", "2, 3" }
  end
  return table.concat(parts)
end

--- Bytes with a few changes.
function Generator:damaged(text)
  for _ = 1, self:number(4) do
    local from = self:number(#text + 1)
    local to = math.min(#text, from + self:number(8) - 1)
    local way = self:number(6)
    local between
    if way == 1 then
      between = ""
    elseif way == 2 then
      between = text:sub(from, to) .. text:sub(from, to)
    elseif way == 3 then
      between = self:bytes(4)
    elseif way == 4 then
      between = " " .. self:one(WORDS) .. " "
    elseif way == 5 then
      between = text:sub(from, to):rep(self:number(60))
    else
      local other = self:one(VALID)
      between = other:sub(self:number(#other))
    end
    text = text:sub(1, from - 1) .. between .. text:sub(to + 1)
  end
  return text
end

function Generator:soup()
  local list = {}
  for index = 1, self:number(25) do
    list[index] = self:one(WORDS)
  end
  return table.concat(list, self:one { " ", "", "\n" })
end

-- What would end the proxy, or leave its log without the lines that a spec looks for.
local function is_harmful(sql)
  local text = sql:upper()
  return text:find("SHUTDOWN", 1, true) or text:find("RESTART", 1, true) or text:find("LOG_LEVEL", 1, true)
    or text:find("PROGRAM", 1, true)
end

--- The next statement.
function Generator:statement()
  local kind = self:number(10)
  local sql = kind <= 4 and self:select() or kind <= 7 and self:damaged(self:one(VALID)) or kind <= 9 and self:soup()
    or self:bytes(60)
  return is_harmful(sql) and "SELECT 1" or sql
end

-- What grows beyond all measure.
function M.monsters()
  local list = { "1" }
  for index = 2, 7000 do
    list[index] = tostring(index % 10)
  end
  local many = table.concat(list, ",")
  return {
    ("SELECT %s1%s"):format(("("):rep(8000), (")"):rep(8000)),
    "SELECT " .. ("("):rep(10000),
    "SELECT 1 IN (" .. many .. ")",
    "SELECT " .. many,
    "SELECT " .. ("- "):rep(8000) .. "1",
    "SELECT " .. ("NOT "):rep(4000) .. "1",
    "SELECT 1" .. (" + 1"):rep(4000),
    "SELECT 1" .. (" OR 0"):rep(3000),
    "SELECT " .. ("CONCAT("):rep(2000) .. "1" .. (")"):rep(2000),
    ("SELECT '%s' LIKE '%%%s'"):format(("a"):rep(8000), ("a"):rep(8000) .. "b"),
    ("SELECT '%s' LIKE '%s'"):format(("a"):rep(8000), ("%a"):rep(4000) .. "b"),
    ("SELECT Value LIKE '%s' FROM variables"):format(("%_"):rep(8000)),
    "SELECT " .. ("/*"):rep(8000),
    "SELECT '" .. ("''"):rep(8000),
    "SELECT " .. ("`"):rep(16000),
    "SELECT * FROM variables ORDER BY " .. ("Value,"):rep(2500) .. "1",
    "SELECT " .. ("*,"):rep(3000) .. "* FROM backends",
    ("SHOW VARIABLES LIKE '%s'"):format(("%a"):rep(8000)),
    ("/*!"):rep(5000),
    ("x"):rep(16384), ("x"):rep(16385),
    "SELECT '" .. ("x"):rep(2 ^ 24) .. "'",
  }
end

return M
