-- SHOW and DESCRIBE: each makes a small table, which a SELECT then filters.

local errors = require "mysql-proxy.admin.errors"
local information_schema = require "mysql-proxy.admin.tables.information_schema"
local select_ = require "mysql-proxy.admin.select"
local tables = require "mysql-proxy.admin.tables"
local values = require "mysql-proxy.admin.values"

local M = {}

local COLLATION = "utf8mb4_general_ci"

local function strings(...)
  local columns = {}
  for index, name in ipairs { ... } do
    columns[index] = { name, "STRING" }
  end
  return columns
end

local function check_schema(schema)
  local name = (schema or tables.SCHEMA):lower()
  if name ~= tables.SCHEMA and name ~= "information_schema" then
    errors.raise(1049, "42000", "Unknown database '%s'", schema)
  end
  return name == tables.SCHEMA
end

-- The columns, rows, and, if it is not the first, the column that LIKE is about.
local makers = {}

function makers.tables(statement)
  local columns, rows = strings("Tables_in_" .. (statement.schema or tables.SCHEMA)), {}
  if statement.full then
    columns[2] = { "Table_type", "STRING" }
  end
  for _, each in ipairs(check_schema(statement.schema) and tables.list or {}) do
    rows[#rows + 1] = { each.name, "BASE TABLE" }
  end
  return columns, rows
end

function makers.databases()
  return strings("Database"), { { "information_schema" }, { tables.SCHEMA } }
end

function makers.table_status(statement)
  local rows = {}
  for _, each in ipairs(check_schema(statement.schema) and tables.list or {}) do
    rows[#rows + 1] = { each.name, "MEMORY", 10, "Dynamic", [15] = COLLATION, [18] = each.comment }
  end
  return strings("Name", "Engine", "Version", "Row_format", "Rows", "Avg_row_length", "Data_length", "Max_data_length",
    "Index_length", "Data_free", "Auto_increment", "Create_time", "Update_time", "Check_time", "Collation", "Checksum",
    "Create_options", "Comment"), rows
end

local function named_table(statement)
  return tables.get(statement.schema or statement.table.schema, statement.table.name)
end

function makers.columns(statement)
  local rows = {}
  for index, column in ipairs(named_table(statement).columns) do
    local type = information_schema.column_type(column)
    if statement.full then
      rows[index] = {
        column[1], type, column[2] == "STRING" and COLLATION or nil, "YES", "", nil, "", "select", column[3],
      }
    else
      rows[index] = { column[1], type, "YES", "", nil, "" }
    end
  end
  if statement.full then
    return strings("Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"), rows
  end
  return strings("Field", "Type", "Null", "Key", "Default", "Extra"), rows
end

function makers.create_table(statement)
  local entry, lines = named_table(statement), {}
  for index, column in ipairs(entry.columns) do
    lines[index] = ("  `%s` %s COMMENT '%s'"):format(column[1], information_schema.column_type(column),
      ((column[3] or ""):gsub("'", "''")))
  end
  return strings("Table", "Create Table"), { {
    entry.name, ("CREATE TABLE `%s` (\n%s\n)"):format(entry.name, table.concat(lines, ",\n")),
  } }
end

function makers.index(statement)
  named_table(statement)
  return strings("Table", "Non_unique", "Key_name", "Seq_in_index", "Column_name"), {}
end

local function whole_table(name)
  return function(_, session)
    local entry = tables.get(nil, name)
    return entry.columns, entry.rows(session.admin, session)
  end
end

makers.status, makers.variables = whole_table("status"), whole_table("variables")

function makers.processlist(_, session)
  local rows = {}
  for index, row in ipairs(tables.get(nil, "sessions").rows(session.admin, session)) do
    rows[index] = {
      row[1], row[3] or "unauthenticated user", row[2], row[4] ~= "" and row[4] or nil, row[7], row[9], row[6], row[15],
    }
  end
  return {
    { "Id", "LONGLONG" }, { "User", "STRING" }, { "Host", "STRING" }, { "db", "STRING" }, { "Command", "STRING" },
    { "Time", "LONG" }, { "State", "STRING" }, { "Info", "STRING" },
  }, rows
end

function makers.warnings(_, session)
  return { { "Level", "STRING" }, { "Code", "LONG" }, { "Message", "STRING" } }, session.warnings
end

function makers.grants(_, session)
  local user = ("%s@%s"):format(session.login.username or "", session.host)
  return strings("Grants for " .. user), { { ("GRANT ALL PRIVILEGES ON *.* TO '%s'@'%s'"):format(
    session.login.username or "", session.host) } }
end

function makers.absent()
  return strings("Name"), {}
end

--- Runs a SHOW.
---@return { fields: table[], rows: table[] }
function M.run(session, statement, context)
  local columns, rows = makers[statement.what](statement, session)
  if statement.like then
    local kept, pattern = {}, values.pattern(statement.like)
    for _, row in ipairs(rows) do
      if values.matches(row[1], pattern, context.pause) then
        kept[#kept + 1] = row
      end
    end
    rows = kept
  end
  return select_.run({
    items = { { star = true } }, where = statement.where, text = statement.text, limit = statement.limit,
    offset = statement.offset,
  }, { name = statement.what, columns = columns, rows = rows }, context)
end

return M
