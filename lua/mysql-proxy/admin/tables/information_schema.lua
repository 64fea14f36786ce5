-- The little of information_schema that tools look at before they show a table.

local tables = require "mysql-proxy.admin.tables"

local SQL_TYPES = { LONG = "int", LONGLONG = "bigint", DOUBLE = "double", STRING = "varchar" }

local M = { by_name = {}, SQL_TYPES = SQL_TYPES }

local function strings(...)
  local columns = {}
  for index, name in ipairs { ... } do
    columns[index] = { name, "STRING", "" }
  end
  return columns
end

local CATALOG = "def"

local entries = {
  {
    name = "SCHEMATA",
    columns = strings("CATALOG_NAME", "SCHEMA_NAME", "DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME",
      "SQL_PATH"),
    rows = function()
      return {
        { CATALOG, "information_schema", "utf8mb4", "utf8mb4_general_ci" },
        { CATALOG, tables.SCHEMA, "utf8mb4", "utf8mb4_general_ci" },
      }
    end,
  },
  {
    name = "TABLES",
    columns = strings("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE", "ENGINE", "TABLE_COLLATION",
      "CREATE_TIME", "TABLE_ROWS", "TABLE_COMMENT"),
    rows = function()
      local rows = {}
      for index, each in ipairs(tables.list) do
        rows[index] = {
          CATALOG, tables.SCHEMA, each.name, "BASE TABLE", "MEMORY", "utf8mb4_general_ci", nil, nil, each.comment,
        }
      end
      return rows
    end,
  },
  {
    name = "COLUMNS",
    columns = {
      { "TABLE_CATALOG", "STRING" }, { "TABLE_SCHEMA", "STRING" }, { "TABLE_NAME", "STRING" },
      { "COLUMN_NAME", "STRING" }, { "ORDINAL_POSITION", "LONG" }, { "COLUMN_DEFAULT", "STRING" },
      { "IS_NULLABLE", "STRING" }, { "DATA_TYPE", "STRING" }, { "CHARACTER_MAXIMUM_LENGTH", "LONGLONG" },
      { "NUMERIC_PRECISION", "LONG" }, { "NUMERIC_SCALE", "LONG" }, { "COLUMN_TYPE", "STRING" },
      { "COLUMN_KEY", "STRING" }, { "EXTRA", "STRING" }, { "PRIVILEGES", "STRING" }, { "COLUMN_COMMENT", "STRING" },
    },
    rows = function()
      local rows = {}
      for _, each in ipairs(tables.list) do
        for position, column in ipairs(each.columns) do
          local type = SQL_TYPES[column[2]]
          rows[#rows + 1] = {
            CATALOG, tables.SCHEMA, each.name, column[1], position, nil, "YES", type, type == "varchar" and 255 or nil,
            nil, nil, M.column_type(column), "", "", "select", column[3],
          }
        end
      end
      return rows
    end,
  },
}

--- A column's type as SHOW COLUMNS says it.
function M.column_type(column)
  local type = SQL_TYPES[column[2]]
  return type == "varchar" and "varchar(255)" or type
end

for _, entry in ipairs(entries) do
  M.by_name[entry.name:lower()] = entry
end

return M
