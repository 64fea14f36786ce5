--- Whether a statement only reads: what the read-only port lets through.
--
-- A statement is looked at as the server's lexer reads it, and must be one of those known to read; everything else is
-- refused. Where servers or sessions read a text differently, every reading must pass:
-- * `/*!12345 ... */` and MariaDB's `/*M! ... */` are executed by some servers and skipped by others;
-- * NO_BACKSLASH_ESCAPES and ANSI_QUOTES change where a string ends;
-- * in some character sets a byte above 127 is a space, or makes one character with a backquote behind it.
-- What cannot be seen here, a stored function that writes, is left to the server's own SET SESSION TRANSACTION READ
-- ONLY. Statements that take locks others would wait for (FOR UPDATE, FOR SHARE, LOCK TABLES) are refused too.

local lpeg = require "lpeg"

local P, R, S, C, Cc, Cp = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Cp

local M = {}

-- Tokens ----------------------------------------------------------------------------------------------------------
-- A token is { kind, text }: "word" (upper case), "name" (in backquotes), "string", "sign".

local MAX_VERSION_COMMENTS = 4 -- each doubles the number of readings
-- Nobody else is served while one statement is looked at: in all its readings it may have
local MAX_TOKENS = 100000
local MAX_BYTES = 256 * 1024 * 1024 -- or be longer, but then have one reading only

local ascii_space = S " \t\n\v\f\r"
local digit = R "09"
local high = R "\128\255"
local ascii = R "\0\127" ^ 0 * -1
local line_end = P "\n" + -1
local line = (1 - line_end) ^ 0 * line_end
local comment = P "#" * line
  + P "--" * #(R("\0\32") + P "\127" + -1) * line
  + (P "/*" - (P "/*!" + "/*M!")) * (1 - P "*/") ^ 0 * (P "*/" + -1)
local version_begin = (P "/*!" + "/*M!") * (digit * digit * digit * digit * digit * digit ^ -1) ^ -1
local skipped = C((1 - P "*/") ^ 0) * (P "*/" + -1) * Cp()

-- A number ends where it cannot go on: in 1.5FOR and 1e5FOR the next token is FOR. (5FOR is a name.)
local exponent = S "eE" * S "+-" ^ -1 * digit ^ 1
local real = digit ^ 1 * "." * digit ^ 0 * exponent ^ -1 + P "." * digit ^ 1 * exponent ^ -1 + digit ^ 1 * exponent

-- `special`: what begins with one of these characters is read by that pattern.
local function quoted(quote, characters, special)
  local inside = P(quote) * quote
  local others = 1 - P(quote)
  if special then
    inside, others = inside + special, others - characters
  end
  return P(quote) * C((others ^ 1 + inside) ^ 0) * (P(quote) + -1)
end

local function token(kind, pattern)
  return Cc(kind) * pattern
end

---@param single boolean backslashes escape in single quotes
---@param double boolean backslashes escape in double quotes
---@param high_space string|nil a byte above 127 that is a space
---@param lead userdata|nil bytes above 127 that make one character with the byte behind them
local function lexer(single, double, high_space, lead)
  local space, letter = ascii_space, R("az", "AZ", "09") + S "_$" + high
  if high_space then
    space, letter = space + high_space, letter - P(high_space)
  elseif lead then
    letter = lead * R("@~", "\128\254") + letter
  end
  local escape = P "\\" * P(1) ^ -1
  local text = quoted("'", P "\\", single and escape)
  -- Numbers and strings in a row say nothing, and there may be very many of them.
  local literal = (P "-" ^ -1 * digit ^ 1 + P "'" * (1 - S "'\\") ^ 0 * "'") * -(letter + S "'.")
  local literals = literal * (ascii_space ^ 0 * "," * ascii_space ^ 0 * literal) ^ 1
  local item = token("sign", literals * Cc "...")
    + token("sign", C(real))
    + token("word", C(letter ^ 1) / string.upper)
    + token("string", text + quoted('"', P "\\", double and escape))
    + token("name", quoted("`", lead, lead and lead * P(1) ^ -1))
    + token("open", C(version_begin))
    + token("close", C "*/")
    + token("unclear", C("--" * high)) -- which may be a space, or a control character: then this is a comment
    + token("sign", C(P "@@" + P ":=" + 1))
  return (space + comment) ^ 0 * ((item * Cp()) + -1)
end

-- One lexer for each way to read strings.
local function lexers(high_space, lead)
  return {
    lexer(true, true, high_space, lead), lexer(false, false, high_space, lead), lexer(true, false, high_space, lead),
  }
end

local plain = lexers()
local others = { -- in character sets of their own, where a text has what is special there; made when one has
  { pattern = "\160", high_space = "\160" }, -- latin1 and more
  { pattern = "\255", high_space = "\255" }, -- cp852, cp866, keybcs2
  { pattern = "[\129-\254]`", lead = R "\129\254" }, -- gbk, gb18030
  { pattern = "[\161-\249]`", lead = R "\161\249" }, -- big5
  { pattern = "[\129-\159\224-\252]`", lead = R("\129\159", "\224\252") }, -- sjis, cp932
}

-- The tokens in the reading that skips those version comments, by their order in it, that `skips` says.
---@return table[]|nil tokens
---@return integer|string comments how many version comments it met, or why it cannot be read
local function tokenize(sql, item, skips, limit)
  local tokens, at, inside, comments = {}, 1, false, 0
  while true do
    local kind, text, after = item:match(sql, at)
    if type(kind) ~= "string" then
      return tokens, comments
    elseif kind == "unclear" then
      return nil, "-- that may begin a comment or not"
    elseif kind == "open" then
      if inside then
        return nil, "version comments inside of each other"
      end
      comments = comments + 1
      if skips[comments] then
        text, after = skipped:match(sql, after)
        if text:find("/*", 1, true) then
          return nil, "a comment inside of a version comment"
        end
      else
        inside = true
      end
    elseif kind == "close" and inside then
      inside = false
    elseif #tokens == limit then
      return nil, "a statement with more parts than can be checked"
    else
      tokens[#tokens + 1] = { kind = kind, text = text }
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

local SET_REFUSED = { PASSWORD = true, DEFAULT = true, RESOURCE = true }

-- SET a = 1, @b = 2 from `first` to `last`.
local function check_assignments(tokens, first, last)
  local depth, begin = 0, first
  for i = first, last do
    local t = tokens[i]
    if i == begin and t.kind == "word" and SET_REFUSED[t.text] then
      return nil, "SET " .. t.text
    elseif is_sign(t, "(") then
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

local check_statement, check_text

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
      elseif two_words(after, 1, "SET", "STATEMENT") then
        break -- each would look at all that follows it
      end
      return check_statement(after)
    end
  end
  return nil, "SET STATEMENT"
end

local function check_set(tokens)
  local what = tokens[2]
  if is_word(what, "STATEMENT") then
    return check_set_statement(tokens)
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

-- What is left of the limits; `preparing`: in the text of a PREPARE.
local budget

local function check_prepare(tokens)
  if budget.preparing then
    return nil, "PREPARE" -- which no server prepares; and each would multiply the number of readings
  end
  local text = #tokens == 4 and is_word(tokens[3], "FROM") and tokens[4]
  if text and text.kind == "string" and not text.text:find("\\", 1, true) then
    budget.preparing = true
    local ok, reason = check_text((text.text:gsub("''", "'"):gsub('""', '"')))
    budget.preparing = false
    return ok, reason
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

-- `KILL QUERY 7` is what clients send for Ctrl-C.
local function check_kill(tokens)
  return #tokens == 3 and is_word(tokens[2], "QUERY") or nil, "KILL"
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
  UNLOCK = check_unlock, CHECKSUM = check_checksum, GET = pass, KILL = check_kill,
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

-- All statements of a text.
local function check_statements(tokens)
  local statement = {}
  for i = 1, #tokens + 1 do
    local t = tokens[i]
    if not t or is_sign(t, ";") then
      local ok, reason = check_statement(statement)
      if not ok then
        return nil, reason
      end
      statement = {}
    else
      statement[#statement + 1] = t
    end
  end
  return true
end

-- All readings of a text by one lexer: those that begin with these version comments executed (false) or skipped (true).
local function check_readings(sql, item, skips)
  if budget.bytes < 0 then
    return nil, "a statement too long for all its readings"
  end
  budget.bytes = budget.bytes - #sql
  local tokens, comments = tokenize(sql, item, skips, budget.tokens)
  if not tokens then
    return nil, comments
  elseif comments > MAX_VERSION_COMMENTS then
    return nil, "more version comments than can be checked"
  end
  budget.tokens = budget.tokens - #tokens
  local ok, reason = check_statements(tokens)
  for index = #skips + 1, comments do -- this reading has executed them
    if not ok then
      break
    end
    local other = { unpack(skips) }
    for executed = #skips + 1, index - 1 do
      other[executed] = false
    end
    other[index] = true
    ok, reason = check_readings(sql, item, other)
  end
  return ok, reason
end

function check_text(sql)
  local escapes = sql:find("\\", 1, true)
  if escapes and sql:find("[\128-\255]\\+['\"]") then
    -- In some character sets a backslash may be half a character: no reading would be safe.
    return nil, "a backslash between a multi-byte character and a quote"
  end
  local function check_with(items)
    local ok, reason
    for i = 1, escapes and #items or 1 do
      ok, reason = check_readings(sql, items[i], {})
      if not ok then
        break
      end
    end
    return ok, reason
  end
  local ok, reason = check_with(plain)
  for _, other in ipairs(ascii:match(sql) and {} or others) do
    if ok and sql:find(other.pattern) then
      other.lexers = other.lexers or lexers(other.high_space, other.lead)
      ok, reason = check_with(other.lexers)
    end
  end
  return ok, reason
end

--- Whether all statements of a text only read.
---@param sql string without query attributes
---@return boolean|nil ok
---@return string|nil reason what is not allowed
function M.check(sql)
  budget = { tokens = MAX_TOKENS, bytes = MAX_BYTES, preparing = false }
  return check_text(sql)
end

-- What may pass besides COM_QUERY and COM_STMT_PREPARE, whose text is checked: COM_QUIT, COM_INIT_DB, COM_FIELD_LIST,
-- COM_STATISTICS, COM_PROCESS_INFO, COM_PING, COM_CHANGE_USER, COM_STMT_EXECUTE, _SEND_LONG_DATA, _CLOSE, _RESET,
-- COM_SET_OPTION, COM_STMT_FETCH, COM_RESET_CONNECTION, and MariaDB's COM_STMT_BULK_EXECUTE. Not COM_BINLOG_DUMP: what
-- a client sends while it lasts is not looked at, and a refused dump ends at once.
local commands = {}
for _, command in ipairs { 1, 2, 3, 4, 9, 10, 14, 17, 22, 23, 24, 25, 26, 27, 28, 31, 250 } do
  commands[command] = true
end

--- Whether a command other than a statement's text may pass.
---@param command integer its first byte
---@return boolean
function M.command_allowed(command)
  return commands[command] or false
end

return M
