-- The grammar of admin SQL: a statement becomes a table whose `kind` says what it is. Expressions are in
-- mysql-proxy.admin.expression_grammar.

local lpeg = require "lpeg"

local expression_grammar = require "mysql-proxy.admin.expression_grammar"
local lexer = require "mysql-proxy.admin.lexer"

local P, V, Cc, Cg, Cp, Ct = lpeg.P, lpeg.V, lpeg.Cc, lpeg.Cg, lpeg.Cp, lpeg.Ct
local word, sign, name = lexer.word, lexer.sign, lexer.name

local M = {}

local LONGEST = 16384 -- bytes of a statement
local NEAR = 80 -- bytes of it in an error

-- Pieces -----------------------------------------------------------------------------------------------------------

local function field(key, pattern)
  return Cg(pattern, key)
end

local function flag(key, pattern)
  return Cg(pattern * Cc(true), key)
end

local function statement(kind, pattern)
  return Ct(field("kind", Cc(kind)) * pattern)
end

local function list(pattern)
  return Ct(pattern * (sign "," * pattern) ^ 0)
end

local expression = V "expression"

local function table_name(more)
  local qualified = field("schema", name) * sign "." * field("name", lexer.any_name)
  return Ct((qualified + field("name", name)) * (more or P(true)))
end

local alias = field("alias", word "AS" * (lexer.any_name + lexer.string) + name + lexer.string)

local where = field("where", word "WHERE" * expression)
local order = word "ORDER BY" * field("order", list(Ct(field("expression", expression)
  * (word "ASC" + flag("descending", word "DESC")) ^ -1)))
local number = lexer.integer + lexer.parameter
local limit = word "LIMIT" * (field("offset", number) * sign "," * field("limit", number)
  + field("limit", number) * (word "OFFSET" * field("offset", number)) ^ -1)

-- SELECT -----------------------------------------------------------------------------------------------------------

-- What is written there is the heading of a column that has no other name.
local item = Ct(flag("star", sign "*")
  + field("table", name) * sign "." * flag("star", sign "*")
  + field("from", Cp()) * field("expression", expression) * field("to", Cp()) * alias ^ -1)

local hint = word "ALL" + word "SQL_NO_CACHE" + word "SQL_CACHE" + word "SQL_CALC_FOUND_ROWS" + word "STRAIGHT_JOIN"

local select_statement = statement("select",
  word "SELECT" * hint ^ 0 * flag("distinct", word "DISTINCT") ^ -1 * hint ^ 0 * field("items", list(item))
  * (word "FROM" * (word "DUAL" + field("from", table_name(alias ^ -1)))) ^ -1
  * where ^ -1
  * (word "GROUP BY" * field("group", list(expression))) ^ -1
  * (word "HAVING" * field("having", expression)) ^ -1
  * order ^ -1 * limit ^ -1 * (word "FOR UPDATE" + word "LOCK IN SHARE MODE") ^ -1)

-- SHOW -------------------------------------------------------------------------------------------------------------

local like = field("like", word "LIKE" * lexer.string) + where
local in_schema = (word "FROM" + word "IN") * field("schema", name)
local of_table = (word "FROM" + word "IN") * field("table", table_name()) * in_schema ^ -1
local scope = word "GLOBAL" + word "SESSION" + word "LOCAL"
local columns_word = word "COLUMNS" + word "FIELDS"

local function shows(what, pattern)
  return field("what", Cc(what)) * pattern
end

-- What a server has and this has not: no rows.
local absent = word "ENGINES" + word "STORAGE ENGINES" + word "PLUGINS" + word "COLLATION"
  + word "CHARACTER SET" + word "CHARSET" + word "TRIGGERS" + word "EVENTS" + word "PROCEDURE STATUS"
  + word "FUNCTION STATUS" + word "PRIVILEGES"

local show_statement = statement("show", word "SHOW" * (
  flag("full", word "FULL") ^ -1 * (
    shows("tables", word "TABLES" * in_schema ^ -1 * like ^ -1)
    + shows("columns", columns_word * of_table * like ^ -1)
    + shows("processlist", word "PROCESSLIST"))
  + shows("databases", (word "DATABASES" + word "SCHEMAS") * like ^ -1)
  + shows("table_status", word "TABLE STATUS" * in_schema ^ -1 * like ^ -1)
  + shows("create_table", word "CREATE TABLE" * field("table", table_name()))
  + scope ^ -1 * (shows("status", word "STATUS" * like ^ -1) + shows("variables", word "VARIABLES" * like ^ -1))
  + shows("warnings", (word "WARNINGS" + word "ERRORS") * limit ^ -1)
  + shows("index", (word "INDEX" + word "INDEXES" + word "KEYS") * of_table * where ^ -1)
  + shows("grants", word "GRANTS" * (word "FOR" * expression / 0) ^ -1)
  + shows("absent", absent * in_schema ^ -1 * like ^ -1)))

local describe_statement = statement("show", (word "DESCRIBE" + word "DESC" + word "EXPLAIN")
  * shows("columns", field("table", table_name()) * field("like", lexer.any_name + lexer.string) ^ -1))

-- SET --------------------------------------------------------------------------------------------------------------

local option_name = lexer.any_name * (sign "." * lexer.any_name) ^ 0 / function(...)
  return table.concat({ ... }, "_"):lower() -- proxy.profiling is proxy_profiling
end
local value = Ct(field("word", word "DEFAULT" * Cc "default" + word "ON" * Cc "on")) + expression

local ignored_text = lexer.any_name / 0 + lexer.string / 0

local variable = lexer.variable / function(kind, name_)
  return kind == "user" and "@" .. name_ or name_
end

local assignment = Ct(
  (word "NAMES" + word "CHARACTER SET" + word "CHARSET") * field("name", Cc "names") * ignored_text
    * (word "COLLATE" * ignored_text) ^ -1
  + scope ^ -1 * word "TRANSACTION" * field("name", Cc "transaction") * (lexer.any_name / 0 + sign ",") ^ 1
  + (field("name", variable) + scope ^ -1 * field("name", option_name)) * (sign "=" + sign ":=")
    * field("value", value))

local set_statement = statement("set", word "SET" * field("assignments", list(assignment)))

-- Changes ----------------------------------------------------------------------------------------------------------

local column_value = Ct(field("column", (name * sign ".") ^ -1 / 0 * lexer.any_name) * sign "="
  * field("value", expression))
local update_statement = statement("update", word "UPDATE" * field("table", table_name()) * word "SET"
  * field("assignments", list(column_value)) * where ^ -1 * order ^ -1 * limit ^ -1)

local insert_statement = statement("insert", word "INSERT" * word "INTO" ^ -1 * field("table", table_name())
  * (sign "(" * field("columns", list(lexer.any_name)) * sign ")") ^ -1
  * (word "VALUES" + word "VALUE") * field("rows", list(sign "(" * list(expression) * sign ")")))

local delete_statement = statement("delete", word "DELETE" * word "FROM" * field("table", table_name())
  * where ^ -1 * order ^ -1 * limit ^ -1)

local truncate_statement = statement("truncate", word "TRUNCATE" * word "TABLE" ^ -1 * field("table", table_name()))

-- The others -------------------------------------------------------------------------------------------------------

local kill_statement = statement("kill", word "KILL" * (flag("query", word "QUERY") + word "CONNECTION") ^ -1
  * field("id", number))

local reload_statement = statement("reload", word "RELOAD" * field("what",
  word "SCRIPT" * Cc "script" + word "DEFAULTS" * word "FILE" ^ -1 * Cc "defaults file"
  + word "CERTIFICATES" * Cc "certificates") ^ -1)

-- What clients send about transactions, of which there are none.
local transaction = statement("nothing", word "BEGIN" * word "WORK" ^ -1
  + word "START TRANSACTION" * (word "READ ONLY" + word "READ WRITE" + word "WITH CONSISTENT SNAPSHOT") ^ -1
  + (word "COMMIT" + word "ROLLBACK") * word "WORK" ^ -1)

local any_statement = select_statement + show_statement + describe_statement + set_statement + update_statement
  + insert_statement + delete_statement + truncate_statement + kill_statement + reload_statement + transaction
  + statement("shutdown", word "SHUTDOWN") + statement("restart", word "RESTART")
  + statement("help", word "HELP" * (lexer.any_name + lexer.string) ^ -1 / 0)
  + statement("use", word "USE" * field("schema", lexer.any_name))

local rules = { V "skip" * V "statement" * sign ";" ^ 0 * -P(1), statement = any_statement }
for _, more in ipairs({ lexer.rules, expression_grammar }) do
  for rule, pattern in pairs(more) do
    rules[rule] = pattern
  end
end
local grammar = P(rules)

local nothing = P { V "skip" * sign ";" ^ 0 * -P(1), skip = lexer.rules.skip }

-- The places of the parameters in the text, wherever they stand in a part of a statement.
local function add_parameters(part, places)
  if part[1] == "parameter" then
    places[#places + 1] = part[2]
  end
  for _, each in pairs(part) do
    if type(each) == "table" then
      add_parameters(each, places)
    end
  end
  return places
end

local function syntax_error(text, position)
  local _, lines = text:sub(1, position - 1):gsub("\n", "")
  return ("You have an error in your SQL syntax; SELECT * FROM help lists what the admin interface of mysql-proxy "
    .. "understands; check it near '%s' at line %d"):format(text:sub(position, position + NEAR - 1), lines + 1)
end

--- The error for a part of a statement that may not be where it is.
---@param text string
---@param position integer
function M.misplaced(text, position)
  return { errcode = 1064, sqlstate = "42000", errmsg = syntax_error(text, position) }
end

--- Reads a statement.
---@param text string
---@return table|nil statement with its text, and the places of its parameters if it has a question mark
---@return { errcode: integer, sqlstate: string, errmsg: string }|nil
function M.parse(text)
  if #text > LONGEST then
    return nil, {
      errcode = 1105, sqlstate = "HY000",
      errmsg = ("A statement for the admin interface may have %d bytes, this one has %d"):format(LONGEST, #text),
    }
  end
  text = lexer.without_version_comments(text)
  if nothing:match(text) then
    return nil, { errcode = 1065, sqlstate = "42000", errmsg = "Query was empty" }
  end
  lexer.reset()
  local ok, result = pcall(grammar.match, grammar, text)
  if ok and result then
    result.text = text
    if text:find("?", 1, true) then
      result.parameters = add_parameters(result, {})
      table.sort(result.parameters)
    end
    return result
  elseif ok then
    return nil, M.misplaced(text, lexer.farthest())
  end
  -- LPeg gives up when parentheses are nested in some dozens of levels.
  return nil, { errcode = 1064, sqlstate = "42000", errmsg = "The statement has too many parts or levels: " .. result }
end

return M
