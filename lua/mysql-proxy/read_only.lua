--- Whether a statement only reads: what the read-only port lets through.
--
-- A statement is looked at as the server's lexer reads it, and must be one of those known to read; everything else is
-- refused. Where servers or sessions read a text differently, every reading must pass:
-- * `/*!12345 ... */` and MariaDB's `/*M! ... */` are executed by some servers and skipped by others;
-- * NO_BACKSLASH_ESCAPES and ANSI_QUOTES change where a string ends.
-- What cannot be seen here, a stored function that writes, is left to the server's own SET SESSION TRANSACTION READ
-- ONLY. Statements that take locks others would wait for (FOR UPDATE, FOR SHARE, LOCK TABLES) are refused too.

local lpeg = require "lpeg"

local P, R, S, C, Cc, Cp = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Cp

local M = {}

-- Tokens ----------------------------------------------------------------------------------------------------------
-- A token is { kind, text }: "word" (upper case), "name" (in backquotes), "string", "sign". The tokens of a version
-- comment carry the number of that comment in `group`.

local MAX_VERSION_COMMENTS = 4 -- each doubles the number of readings

local space = S " \t\n\v\f\r"
local line_end = P "\n" + -1
local line = (1 - line_end) ^ 0 * line_end
local comment = P "#" * line
  + P "--" * #(R("\0\32") + P "\127" + -1) * line
  + (P "/*" - (P "/*!" + "/*M!")) * (1 - P "*/") ^ 0 * (P "*/" + -1)
local word = (R("az", "AZ", "09", "\128\255") + S "_$") ^ 1
local digit = R "09"
local version_begin = (P "/*!" + "/*M!") * (digit * digit * digit * digit * digit * digit ^ -1) ^ -1

local function quoted(quote, escapes)
  local inner = 1 - P(quote) + P(quote) * quote
  if escapes then
    inner = P "\\" * P(1) + inner
  end
  return P(quote) * C(inner ^ 0) * (P(quote) + -1)
end

local function token(kind, pattern)
  return Cc(kind) * pattern
end

-- The lexer for one way to read strings.
local function lexer(single_escapes, double_escapes)
  local item = token("word", C(word) / string.upper)
    + token("string", quoted("'", single_escapes) + quoted('"', double_escapes))
    + token("name", quoted("`", false))
    + token("open", C(version_begin))
    + token("close", C "*/")
    + token("sign", C(P "@@" + P ":=" + 1))
  return (space + comment) ^ 0 * ((item * Cp()) + -1)
end

local lexers = { lexer(true, true), lexer(false, false), lexer(true, false) }

---@return table[]|nil tokens, integer|string groups or why it cannot be read
local function tokenize(sql, item)
  local tokens, at, group, groups = {}, 1, nil, 0
  while true do
    local kind, text, after = item:match(sql, at)
    if type(kind) ~= "string" then
      return tokens, groups
    elseif kind == "open" then
      if group then
        return nil, "version comments inside of each other"
      end
      groups = groups + 1
      group = groups
    elseif kind == "close" and group then
      group = nil
    else
      tokens[#tokens + 1] = { kind = kind, text = text, group = group }
    end
    at = after
  end
end

-- Statements ------------------------------------------------------------------------------------------------------

local function is_word(t, text)
  return t and t.kind == "word" and t.text == text
end

local function is_sign(t, text)
  return t and t.kind == "sign" and t.text == text
end

local function two_words(tokens, i, first, second)
  return is_word(tokens[i], first) and is_word(tokens[i + 1], second)
end

local WRITING_FUNCTIONS = { NEXTVAL = true, SETVAL = true }

-- Something in an expression or a query that writes or locks, wherever it stands. The words are reserved, so that they
-- are no names unless quoted or behind a dot.
local function check_reading(tokens, first)
  for i = first or 1, #tokens do
    local t = tokens[i]
    if t.kind == "word" and not is_sign(tokens[i - 1], ".") and not is_sign(tokens[i - 1], "@") then
      local call = is_sign(tokens[i + 1], "(")
      if t.text == "UPDATE" or t.text == "DELETE" or ((t.text == "INSERT" or t.text == "REPLACE") and not call) then
        return nil, t.text
      elseif call and WRITING_FUNCTIONS[t.text] or two_words(tokens, i, "NEXT", "VALUE") then
        return nil, "a sequence's next value"
      elseif t.text == "OUTFILE" or t.text == "DUMPFILE" then
        return nil, "INTO " .. t.text
      elseif two_words(tokens, i, "FOR", "SHARE") or two_words(tokens, i, "IN", "SHARE") then
        return nil, "a locking read"
      end
    end
  end
  return true
end

local READ_ONLY_VARIABLES = {
  transaction_read_only = true, tx_read_only = true, read_only = true, super_read_only = true,
}
local GLOBAL_SCOPES = { GLOBAL = true, PERSIST = true, PERSIST_ONLY = true }

-- The target of one assignment of SET: tokens from `first` up to the = or := at `last` + 1.
local function check_target(tokens, first, last)
  if is_sign(tokens[first], "@") then
    return true
  end
  for i = first, last do
    local t = tokens[i]
    if t.kind == "word" and GLOBAL_SCOPES[t.text] and i < last then
      return nil, "SET " .. t.text
    elseif (t.kind == "word" or t.kind == "name" or t.kind == "string") and READ_ONLY_VARIABLES[t.text:lower()] then
      return nil, "SET " .. t.text:lower()
    end
  end
  return true
end

-- SET a = 1, @b = 2 from `first` to `last`.
local function check_assignments(tokens, first, last)
  local depth, begin = 0, first
  for i = first, last do
    local t = tokens[i]
    if is_sign(t, "(") then
      depth = depth + 1
    elseif is_sign(t, ")") then
      depth = depth - 1
    elseif begin and depth == 0 and (is_sign(t, "=") or is_sign(t, ":=")) then
      local ok, reason = check_target(tokens, begin, i - 1)
      if not ok then
        return nil, reason
      end
      begin = nil
    elseif depth == 0 and is_sign(t, ",") then
      begin = i + 1
    end
  end
  return check_reading(tokens, first)
end

local check_statement

-- MariaDB: SET STATEMENT a = 1, b = 2 FOR SELECT ...
local function check_set_statement(tokens)
  for i = 3, #tokens do
    if is_word(tokens[i], "FOR") then
      local before, after = {}, {}
      for j = 3, #tokens do
        table.insert(j < i and before or after, j ~= i and tokens[j] or nil)
      end
      local ok, reason = check_assignments(before, 1, #before)
      if not ok then
        return nil, reason
      end
      return check_statement(after)
    end
  end
  return nil, "SET STATEMENT"
end

local SET_REFUSED = { PASSWORD = true, DEFAULT = true, RESOURCE = true }

local function check_set(tokens)
  local what = tokens[2]
  if is_word(what, "STATEMENT") then
    return check_set_statement(tokens)
  elseif what and what.kind == "word" and SET_REFUSED[what.text] then
    return nil, "SET " .. what.text
  end
  local scoped = is_word(tokens[3], "TRANSACTION")
  if scoped or is_word(what, "TRANSACTION") then
    if scoped and GLOBAL_SCOPES[what.text] then
      return nil, "SET " .. what.text
    end
    for i = 2, #tokens do
      if two_words(tokens, i, "READ", "WRITE") then
        return nil, "SET TRANSACTION READ WRITE"
      end
    end
  end
  return check_assignments(tokens, 2, #tokens)
end

local SELECTING = { SELECT = true, WITH = true, VALUES = true, TABLE = true }

local function check_selecting(tokens, first)
  while is_sign(tokens[first], "(") do
    first = first + 1
  end
  local t = tokens[first]
  if t and t.kind == "word" and SELECTING[t.text] then
    return check_reading(tokens)
  end
  return nil, t and t.text or "an empty statement"
end

local EXPLAINED = { UPDATE = true, DELETE = true, INSERT = true, REPLACE = true }

-- EXPLAIN does not execute what it explains, EXPLAIN ANALYZE and MariaDB's ANALYZE do.
local function check_explain(tokens)
  for i = 1, #tokens do
    local t = tokens[i]
    if is_word(t, "ANALYZE") then
      local first = i + 1
      if i == 1 and is_word(tokens[first], "TABLE") then
        return nil, "ANALYZE TABLE"
      elseif is_word(tokens[first], "FORMAT") then
        first = first + 3
      end
      return check_selecting(tokens, first)
    elseif t.kind == "word" and (SELECTING[t.text] or EXPLAINED[t.text]) then
      break
    end
  end
  return true
end

local function check_prepare(tokens)
  local text = #tokens == 4 and is_word(tokens[3], "FROM") and tokens[4]
  if text and text.kind == "string" and not text.text:find("\\", 1, true) then
    return M.check((text.text:gsub("''", "'"):gsub('""', '"')))
  end
  return nil, "PREPARE from anything but one plain string"
end

local function check_execute(tokens)
  if is_word(tokens[2], "IMMEDIATE") then
    return nil, "EXECUTE IMMEDIATE"
  end
  return check_reading(tokens)
end

local function check_start(tokens)
  if not is_word(tokens[2], "TRANSACTION") then
    return nil, "START " .. (tokens[2] and tokens[2].text or "")
  end
  for i = 3, #tokens do
    if two_words(tokens, i, "READ", "WRITE") then
      return nil, "START TRANSACTION READ WRITE"
    end
  end
  return true
end

-- BEGIN with more behind it is a compound statement.
local function check_begin(tokens)
  if #tokens == 1 or (#tokens == 2 and is_word(tokens[2], "WORK")) then
    return true
  end
  return nil, "a compound statement"
end

local function check_release(tokens)
  return is_word(tokens[2], "SAVEPOINT") or nil, "RELEASE"
end

local function check_unlock(tokens)
  return is_word(tokens[2], "TABLES") or is_word(tokens[2], "TABLE") or nil, "UNLOCK"
end

local function check_checksum(tokens)
  return is_word(tokens[2], "TABLE") or is_word(tokens[2], "TABLES") or nil, "CHECKSUM"
end

local function pass()
  return true
end

-- By the statement's first word.
local checks = {
  SELECT = check_reading, WITH = check_reading, VALUES = check_reading, TABLE = check_reading, DO = check_reading,
  SHOW = check_reading, DESCRIBE = check_explain, DESC = check_explain, EXPLAIN = check_explain,
  ANALYZE = check_explain, HELP = pass, USE = pass, SET = check_set,
  BEGIN = check_begin, START = check_start, COMMIT = pass, ROLLBACK = pass, SAVEPOINT = pass, RELEASE = check_release,
  PREPARE = check_prepare, EXECUTE = check_execute, DEALLOCATE = pass, HANDLER = check_reading,
  UNLOCK = check_unlock, CHECKSUM = check_checksum, GET = pass,
}

function check_statement(tokens)
  local first = tokens[1]
  if not first then
    return true
  elseif is_sign(first, "(") then
    return check_selecting(tokens, 1)
  elseif first.kind ~= "word" then
    return nil, "a statement that does not begin with a word"
  end
  local check = checks[first.text]
  if not check then
    return nil, first.text
  end
  return check(tokens)
end

-- All statements of a text, in the reading that skips the version comments not in `included` (bits).
local function check_text(tokens, included)
  local statement = {}
  for i = 1, #tokens + 1 do
    local t = tokens[i]
    local skipped = t and t.group and math.floor(included / 2 ^ (t.group - 1)) % 2 == 0
    if not t or (is_sign(t, ";") and not skipped) then
      local ok, reason = check_statement(statement)
      if not ok then
        return nil, reason
      end
      statement = {}
    elseif not skipped then
      statement[#statement + 1] = t
    end
  end
  return true
end

local function check_readings(sql, item)
  local tokens, groups = tokenize(sql, item)
  if not tokens then
    return nil, groups
  elseif groups > MAX_VERSION_COMMENTS then
    return nil, "more version comments than can be checked"
  end
  for included = 2 ^ groups - 1, 0, -1 do
    local ok, reason = check_text(tokens, included)
    if not ok then
      return nil, reason
    end
  end
  return true
end

--- Whether all statements of a text only read.
---@param sql string without query attributes
---@return boolean|nil ok
---@return string|nil reason what is not allowed
function M.check(sql)
  local ok, reason = check_readings(sql, lexers[1])
  if ok and sql:find("\\", 1, true) then
    -- In some character sets a backslash may be half a character: no reading would be safe.
    if sql:find("[\128-\255]\\+['\"]") then
      return nil, "a backslash between a multi-byte character and a quote"
    end
    for i = 2, #lexers do
      ok, reason = check_readings(sql, lexers[i])
      if not ok then
        break
      end
    end
  end
  return ok, reason
end

-- What may pass besides COM_QUERY and COM_STMT_PREPARE, whose text is checked: COM_QUIT, COM_INIT_DB, COM_FIELD_LIST,
-- COM_STATISTICS, COM_PROCESS_INFO, COM_PING, COM_CHANGE_USER, COM_BINLOG_DUMP, COM_REGISTER_SLAVE, COM_STMT_EXECUTE,
-- _SEND_LONG_DATA, _CLOSE, _RESET, COM_SET_OPTION, COM_STMT_FETCH, COM_BINLOG_DUMP_GTID, COM_RESET_CONNECTION, and
-- MariaDB's COM_STMT_BULK_EXECUTE.
local commands = {}
for _, command in ipairs { 1, 2, 3, 4, 9, 10, 14, 17, 18, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 250 } do
  commands[command] = true
end

--- Whether a command other than a statement's text may pass.
---@param command integer its first byte
---@return boolean
function M.command_allowed(command)
  return commands[command] or false
end

return M
