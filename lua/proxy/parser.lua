--- Finds the tables that a statement reads and writes, as far as its tokens tell: scripts count and route by them.

local M = {}

--- The table's name with its database.
---@param table_name string
---@param db? string default: the client's default database, which may be ""
---@return string
function M.tablename_expand(table_name, db)
  db = db or proxy.connection.client.default_db
  if db == nil then
    return table_name
  end
  return db .. "." .. table_name
end

-- A list of tables ends here.
local ENDS = {
  TK_SQL_WHERE = true, TK_SQL_GROUP = true, TK_SQL_ORDER = true, TK_SQL_LIMIT = true, TK_SQL_HAVING = true,
  TK_SQL_SET = true, TK_SQL_INTO = true, TK_SQL_SELECT = true, TK_SEMICOLON = true,
}

-- What may stand between CREATE, DROP, ALTER, RENAME and TABLE.
local BEFORE_TABLE = {
  TEMPORARY = true, OR = true, REPLACE = true, IGNORE = true, ONLINE = true, OFFLINE = true,
}

local Reader = {}
Reader.__index = Reader

function Reader:name(ahead)
  local token = self.tokens[self.at + (ahead or 0)]
  return token and token.token_name
end

function Reader:word(ahead)
  local token = self.tokens[self.at + (ahead or 0)]
  return token and token.text:upper()
end

-- Past a brace and all that it encloses.
function Reader:skip_braces()
  local depth = 0
  repeat
    local name = self:name()
    depth = depth + (name == "TK_OBRACE" and 1 or name == "TK_CBRACE" and -1 or 0)
    self.at = self.at + 1
  until depth == 0 or not name
end

-- Past UNION [ALL | DISTINCT], and braces around the SELECT behind it, which make no sub-query of it.
function Reader:skip_union()
  self.at = self.at + 1
  while self:name() == "TK_OBRACE" or self:word() == "ALL" or self:word() == "DISTINCT" do
    self.at = self.at + 1
  end
end

function Reader:unknown()
  local token = self.tokens[self.at]
  print(("(parser) unknown, found token: %s -> %s"):format(token.token_name, token.text))
  self.at = self.at + 1
end

-- name or db.name; behind a dot any word is a name, and so is one with a brace directly behind it.
function Reader:read_table(kind)
  local first, db = self.tokens[self.at].text, nil
  self.at = self.at + 1
  if self:name() == "TK_DOT" and self:name(1) then
    db, first = first, self.tokens[self.at + 1].text
    self.at = self.at + 2
  end
  local name = M.tablename_expand(first, db)
  if self.found[name] ~= "write" then
    self.found[name] = kind
  end
end

-- Reads tables up to what ends the list.
---@param options { one: boolean?, function_names: boolean?, more: string? } one: a single table; function_names: a word
--       directly before a brace is a table; more: another token that a table follows
function Reader:read_tables(kind, options)
  local expected = true
  while self:name() and not ENDS[self:name()] do
    local name = self:name()
    if expected and (name == "TK_LITERAL" or (name == "TK_FUNCTION" and options.function_names)) then
      self:read_table(kind)
      expected = false
      if options.one then
        return
      end
    elseif name == "TK_OBRACE" then
      if expected and self:name(1) ~= "TK_SQL_SELECT" then
        self.at = self.at + 1 -- braces around tables
      else
        self:skip_braces()
        expected = false
      end
    elseif name == "TK_CBRACE" then
      self.at = self.at + 1
    elseif name == "TK_COMMA" then
      expected = true
      self.at = self.at + 1
    elseif name == "TK_SQL_JOIN" or name == "TK_SQL_STRAIGHT_JOIN"
      or (name == options.more and self:name(1) ~= "TK_OBRACE") then
      expected = true
      self.at = self.at + 1
    elseif name == "TK_SQL_AS" then
      self.at = self.at + 2
    elseif name == "TK_SQL_FOR" then -- FOR UPDATE, FOR SHARE; or an index hint's FOR JOIN, FOR ORDER BY, FOR GROUP BY
      if self:word(1) == "UPDATE" or self:word(1) == "SHARE" then
        return
      end
      self:unknown()
      self.at = self.at + 1
    elseif name == "TK_SQL_UNION" then
      self:unknown()
      self.at = self.at - 1
      return
    else
      expected = expected and name ~= "TK_FUNCTION"
      self:unknown()
    end
  end
end

-- Goes on to the next `name` outside of braces; nil at the end of the statement.
function Reader:find(name)
  while self:name() and self:name() ~= "TK_SEMICOLON" do
    if self:name() == name then
      self.at = self.at + 1
      return true
    elseif self:name() == "TK_OBRACE" then
      self:skip_braces()
    elseif self:name() == "TK_SQL_UNION" then
      self:skip_union()
    else
      self.at = self.at + 1
    end
  end
end

-- Each FROM of a SELECT, or of what is left of a statement that may have one in it.
function Reader:read_selects()
  while self:find "TK_SQL_FROM" do
    self:read_tables("read", {})
  end
end

local readers = { TK_SQL_SELECT = Reader.read_selects }

function readers:TK_SQL_INSERT()
  while self:name() and self:name() ~= "TK_LITERAL" and self:name() ~= "TK_FUNCTION" do
    self.at = self.at + 1 -- LOW_PRIORITY, IGNORE, INTO
  end
  self:read_tables("write", { one = true, function_names = true })
  self:read_selects()
end

function readers:TK_SQL_UPDATE()
  self:read_tables("write", {})
end

function readers:TK_SQL_DELETE()
  if self:find "TK_SQL_FROM" then
    self:read_tables("write", { more = "TK_SQL_USING" })
  end
end

local function read_ddl(options)
  return function(self)
    while BEFORE_TABLE[self:word()] do
      self.at = self.at + 1
    end
    if self:name() == "TK_SQL_TABLE" then
      self.at = self.at + 1
      self:read_tables("write", options)
      self:read_selects() -- CREATE TABLE ... SELECT
    end
  end
end

readers.TK_SQL_CREATE = read_ddl { one = true, function_names = true }
readers.TK_SQL_ALTER = read_ddl { one = true }
readers.TK_SQL_DROP = read_ddl {}
readers.TK_SQL_RENAME = read_ddl { more = "TK_SQL_TO" }

--- The tables of SELECT, INSERT, UPDATE, DELETE and CREATE, DROP, ALTER, RENAME TABLE. Sub-queries in braces are not
-- looked at. Prints a line for each token of a list of tables that it has no use for.
---@param tokens table of proxy.tokenizer.tokenize
---@return table<string, "read"|"write"> by name with database
function M.get_tables(tokens)
  local self = setmetatable({ tokens = {}, at = 1, found = {} }, Reader)
  for i = 1, #tokens do
    local token = tokens[i]
    if token and token.token_name ~= "TK_COMMENT" and token.token_name ~= "TK_COMMENT_MYSQL" then
      self.tokens[#self.tokens + 1] = token
    end
  end
  while self:name() do
    while self:name() == "TK_OBRACE" do
      self.at = self.at + 1
    end
    local read = readers[self:name()]
    self.at = self.at + 1
    if read then
      read(self)
    end
    self:find "TK_SEMICOLON"
    self.at = self.at + 1
  end
  return self.found
end

return M
