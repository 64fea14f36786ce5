--[[

  virtual_tables.lua: a little SELECT over tables of a script

    SELECT columns | * | COUNT(*) FROM database.table
      [WHERE column <operator> value] [ORDER BY column [DESC] ] [LIMIT [offset,] n]

--]]

module("virtual_tables", package.seeall)

local function compare(a, b)
  if type(a) == "number" and tonumber(b) then
    b = tonumber(b)
  else
    a, b = tostring(a), tostring(b)
  end
  if a == b then return 0 end
  return a < b and -1 or 1
end

-- LIKE, with % and _
local function like(text, pattern)
  local wanted = string.gsub(pattern, ".", function(c)
    if c == "%" then
      return ".*"
    elseif c == "_" then
      return "."
    elseif c:find("%W") then
      return "%" .. c
    end
  end)
  return tostring(text):lower():match("^" .. wanted:lower() .. "$") ~= nil
end

local operators = {
  TK_EQ = function(a, b) return compare(a, b) == 0 end,
  TK_NE = function(a, b) return compare(a, b) ~= 0 end,
  TK_LT = function(a, b) return compare(a, b) < 0 end,
  TK_GT = function(a, b) return compare(a, b) > 0 end,
  TK_LE = function(a, b) return compare(a, b) <= 0 end,
  TK_GE = function(a, b) return compare(a, b) >= 0 end,
  TK_SQL_LIKE = function(a, b) return a ~= nil and like(a, b) end,
}

-- reads tokens one after the other
local function reader(tokens)
  local list, at = {}, 1
  for i = 1, #tokens do
    local name = tokens[i]["token_name"]
    if name ~= "TK_COMMENT" and name ~= "TK_SEMICOLON" then
      list[#list + 1] = { name = name, text = tokens[i].text }
    end
  end
  local self = {}
  function self.peek()
    return list[at] and list[at].name, list[at] and list[at].text
  end
  function self.next()
    at = at + 1
    return list[at - 1] and list[at - 1].text, list[at - 1] and list[at - 1].name
  end
  function self.accept(...)
    for _, name in ipairs({ ... }) do
      if list[at] and (list[at].name == name or list[at].text:upper() == name) then
        at = at + 1
        return list[at - 1].text
      end
    end
  end
  function self.expect(name)
    return self.accept(name) or error({ "You have an error in your SQL syntax near '"
      .. (list[at] and list[at].text or "") .. "'" })
  end
  function self.at_end()
    return at > #list
  end
  return self
end

local function column_of(fields, text)
  for _, field in ipairs(fields) do
    if field.name == text:lower() then
      return field
    end
  end
  error({ ("Unknown column '%s' in 'field list'"):format(text), 1054, "42S22" })
end

local function parse_columns(r)
  local columns = {}
  repeat
    if r.peek() == "TK_FUNCTION" and r.accept("COUNT") then
      r.expect("TK_OBRACE")
      r.expect("TK_STAR")
      r.expect("TK_CBRACE")
      columns.count = true
    else
      columns[#columns + 1] = r.next()
    end
  until not r.accept("TK_COMMA")
  return columns
end

local function parse_select(r, database, schema)
  r.expect("TK_SQL_SELECT")
  local said = { columns = parse_columns(r) }
  r.expect("TK_SQL_FROM")
  r.expect(database:upper())
  r.expect("TK_DOT")
  said.table = (r.next() or ""):lower()
  if not schema[said.table] then
    error({ ("Table '%s.%s' doesn't exist"):format(database, said.table), 1146, "42S02" })
  end
  said.fields = schema[said.table]
  if r.accept("TK_SQL_WHERE") then
    said.where = column_of(said.fields, r.next() or "").name
    local _, operator = r.next()
    said.operator = operators[operator] or error({ "this operator is not known" })
    said.value = r.next() or ""
  end
  if r.accept("TK_SQL_ORDER") then
    r.expect("TK_SQL_BY")
    said.order = column_of(said.fields, r.next() or "").name
    said.descending = r.accept("TK_SQL_DESC") ~= nil
    r.accept("TK_SQL_ASC")
  end
  if r.accept("TK_SQL_LIMIT") then
    said.offset, said.limit = 0, tonumber((r.expect("TK_INTEGER")))
    if r.accept("TK_COMMA") then
      said.offset, said.limit = said.limit, tonumber((r.expect("TK_INTEGER")))
    end
  end
  if not r.at_end() then
    r.expect("the end")
  end
  return said
end

local function evaluate(said, contents)
  local found = {}
  for _, row in ipairs(contents[said.table]()) do
    if not said.where or said.operator(row[said.where], said.value) then
      found[#found + 1] = row
    end
  end
  if said.columns.count then
    return { { name = "COUNT(*)", type = proxy.MYSQL_TYPE_LONGLONG } }, { { #found } }
  end
  if said.order then
    table.sort(found, function(a, b)
      local difference = compare(a[said.order] or "", b[said.order] or "")
      if said.descending then
        return difference > 0
      end
      return difference < 0
    end)
  end
  local fields = {}
  for _, name in ipairs(said.columns) do
    if name == "*" then
      for _, field in ipairs(said.fields) do
        fields[#fields + 1] = field
      end
    else
      fields[#fields + 1] = column_of(said.fields, name)
    end
  end
  local rows = {}
  for i = 1 + (said.offset or 0), math.min(#found, (said.offset or 0) + (said.limit or #found)) do
    local cells = {}
    for c = 1, #fields do
      cells[c] = found[i][fields[c].name]
    end
    rows[#rows + 1] = cells
  end
  return fields, rows
end

-- Runs a statement.
--
-- tokens:   of the statement
-- schema:   name of a table -> its fields, as in proxy.response.resultset
-- contents: name of a table -> function that returns an array of { column = value }
--
-- returns fields and rows, or nil and the error: { errmsg, errcode, sqlstate }
function query(tokens, database, schema, contents)
  local ok, fields, rows = pcall(function()
    return evaluate(parse_select(reader(tokens), database, schema), contents)
  end)
  if ok then
    return fields, rows
  elseif type(fields) ~= "table" then
    error(fields)
  end
  return nil, { fields[1], fields[2] or 1064, fields[3] or "42000" }
end
