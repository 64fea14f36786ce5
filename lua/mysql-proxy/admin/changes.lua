-- UPDATE, INSERT and DELETE: all values are looked at before the first thing is changed.

local errors = require "mysql-proxy.admin.errors"
local expressions = require "mysql-proxy.admin.expressions"
local select_ = require "mysql-proxy.admin.select"
local tables = require "mysql-proxy.admin.tables"

local M = {}

local function column_of(entry, name)
  for _, column in ipairs(entry.columns) do
    if column[1]:lower() == name:lower() then
      return column[1]
    end
  end
  errors.raise(1054, "42S22", "Unknown column '%s' in 'field list'", name)
end

local function fixed(name)
  errors.raise(1348, "HY000", "Column '%s' is not updatable", name)
end

function M.update(session, statement, context)
  local entry = tables.get(statement.table.schema, statement.table.name)
  if not entry.update then
    errors.raise(1288, "HY000", "The target table %s of the UPDATE is not updatable", entry.name)
  end
  local changes = {}
  for index, each in ipairs(statement.assignments) do
    local name = column_of(entry, each.column)
    local column = entry.update[name] or fixed(name)
    local value = expressions.value(each.value, context)
    changes[index] = { column = column, value = column.read and column.read(value) or value }
  end
  local rows = select_.rows(statement, tables.source(entry, session), context)
  for _, row in ipairs(rows) do
    for _, change in ipairs(changes) do
      change.column.write(session.admin, session, row, change.value)
    end
  end
  return { affected_rows = #rows }
end

local function values_of(entry, columns, row, number, context)
  if #row ~= #columns then
    errors.raise(1136, "21S01", "Column count doesn't match value count at row %d", number)
  end
  local given = {}
  for index, name in ipairs(columns) do
    local column = column_of(entry, name)
    local read, value = entry.insert.columns[column] or fixed(column), expressions.value(row[index], context)
    given[column] = read(value)
  end
  return given
end

local function all_columns(entry)
  local names = {}
  for index, column in ipairs(entry.columns) do
    names[index] = column[1]
  end
  return names
end

function M.insert(session, statement, context)
  local entry = tables.get(statement.table.schema, statement.table.name)
  if not entry.insert then
    errors.raise(1471, "HY000", "The target table %s of the INSERT is not insertable-into", entry.name)
  end
  local columns, given, undo = statement.columns or all_columns(entry), {}, {}
  for number, row in ipairs(statement.rows) do
    given[number] = values_of(entry, columns, row, number, context)
  end
  for _, values in ipairs(given) do
    local take_back, err = entry.insert.write(session.admin, session, values)
    if not take_back then
      for _, each in ipairs(undo) do
        each()
      end
      error(err, 0)
    end
    undo[#undo + 1] = take_back
  end
  return { affected_rows = #given }
end

local function empty(session, entry)
  session.admin.proxy.log:critical(("admin interface: %s has emptied %s"):format(session:who(), entry.name))
  entry.empty(session.admin, session)
end

function M.truncate(session, statement)
  local entry = tables.get(statement.table.schema, statement.table.name)
  if not entry.empty then
    errors.raise(1142, "42000", "Table '%s' cannot be truncated", entry.name)
  end
  empty(session, entry)
  return {}
end

-- What is counted can only be forgotten as a whole.
local function delete_all(session, entry, statement)
  if statement.where or statement.limit then
    errors.raise(1288, "HY000", "The target table %s of the DELETE is not updatable: it can only be emptied as a "
      .. "whole, without WHERE and LIMIT", entry.name)
  end
  local rows = entry.rows(session.admin, session)
  empty(session, entry)
  return { affected_rows = #rows }
end

function M.delete(session, statement, context)
  local entry = tables.get(statement.table.schema, statement.table.name)
  if entry.empty then
    return delete_all(session, entry, statement)
  elseif not entry.delete then
    errors.raise(1288, "HY000", "The target table %s of the DELETE is not updatable", entry.name)
  end
  local rows = select_.rows(statement, tables.source(entry, session), context)
  for _, row in ipairs(rows) do
    entry.delete(session.admin, session, row)
  end
  return { affected_rows = #rows }
end

return M
