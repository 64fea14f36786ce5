-- The tables of the admin interface. To add one, add an entry to a file of tables/:
--
--   name, comment
--   columns                        { { name, type, comment }, ... }; type: LONG, LONGLONG, DOUBLE or STRING
--   rows(admin, session)           an array of rows, which are arrays of values in the order of the columns; where it
--                                  may become long, session:pause() lets others get on
--   update                         columns that may be changed -> { read(value), write(admin, session, row, value) };
--                                  read says what is to be written, or raises an error before anything is changed
--   insert                         { columns, write(admin, session, values) }: columns -> read(value); write returns
--                                  what takes it back; or nil and an error of errors.new
--   delete(admin, session, row)
--   empty(admin, session)          TRUNCATE TABLE, and DELETE without a condition, for what is counted
--
-- A row may have more than its values, by name, for those that change it.

local errors = require "mysql-proxy.admin.errors"

local M = {
  SCHEMA = "proxy", -- what the tables are in
  list = {},
}

local by_name = {}

for _, file in ipairs { "connections", "backends", "configuration", "statistics", "profile", "help" } do
  for _, entry in ipairs(require("mysql-proxy.admin.tables." .. file)) do
    table.insert(M.list, entry)
    by_name[entry.name:lower()] = entry
  end
end
table.sort(M.list, function(a, b)
  return a.name < b.name
end)

--- A table by its name, in any case.
---@param schema string|nil
---@param name string
---@return table|nil
function M.find(schema, name)
  schema = schema and schema:lower() or M.SCHEMA
  if schema == "information_schema" then
    return require("mysql-proxy.admin.tables.information_schema").by_name[name:lower()]
  end
  return schema == M.SCHEMA and by_name[name:lower()] or nil
end

--- The same, or error 1146.
---@return table
function M.get(schema, name)
  return M.find(schema, name) or errors.raise(1146, "42S02", "Table '%s.%s' doesn't exist", schema or M.SCHEMA, name)
end

--- What SELECT and others work with.
function M.source(entry, session)
  return { name = entry.name, columns = entry.columns, rows = entry.rows(session.admin, session) }
end

return M
