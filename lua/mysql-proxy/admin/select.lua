-- SELECT over a virtual table: what the grammar read, evaluated.
--
-- A source is { name = , columns = { { name, type, comment }, ... }, rows = { { value, ... }, ... } }. Long work calls
-- context.pause() now and then, so that others get on.

local aggregates = require "mysql-proxy.admin.aggregates"
local errors = require "mysql-proxy.admin.errors"
local expressions = require "mysql-proxy.admin.expressions"
local sort = require "mysql-proxy.admin.sort"
local values = require "mysql-proxy.admin.values"

local M = {}

local MOST_COLUMNS = 4096

-- Names -------------------------------------------------------------------------------------------------------------

local Scope = {}
Scope.__index = Scope

local function same(a, b)
  return a:lower() == b:lower()
end

local function column_index(source, name)
  for index, column in ipairs(source.columns) do
    if same(column[1], name) then
      return index
    end
  end
end

function Scope:column(name, table)
  local source = self.source
  if self.aliases and not table then
    local item = self.aliases[name:lower()]
    if item then
      return self:value_of(item)
    end
  end
  local index = source and (not table or same(table, self.alias)) and column_index(source, name)
  if not index then
    errors.raise(1054, "42S22", "Unknown column '%s' in '%s'", table and table .. "." .. name or name, self.clause)
  end
  return function(row)
    return row[index]
  end
end

-- What another clause gets of an item. The groups are not there yet when it is said what they are.
function Scope:value_of(item)
  if item.is_aggregate and not self.aggregates then
    errors.raise(1056, "42000", "Can't group on '%s'", item.name)
  end
  return item.value
end

function Scope:aggregate(node)
  if not self.aggregates then
    errors.raise(1111, "HY000", "Invalid use of group function")
  end
  return aggregates.add(self.aggregates, node, self:within("field list"))
end

-- The same names in another clause; without aggregates, as none stands within another.
function Scope:within(clause, more)
  local scope = setmetatable({ source = self.source, alias = self.alias, context = self.context, clause = clause },
    Scope)
  for key, value in pairs(more or {}) do
    scope[key] = value
  end
  return scope
end

-- Items ------------------------------------------------------------------------------------------------------------

local function star_items(source, list)
  for index, column in ipairs(source.columns) do
    list[#list + 1] = { name = column[1], type = column[2], value = function(row)
      return row[index]
    end }
  end
end

local function heading(item, text)
  if item.alias then
    return item.alias
  elseif item.expression[1] == "column" then
    return item.expression[2]
  elseif item.expression[1] == "literal" and type(item.expression[2]) == "string" then
    return item.expression[2]
  end
  return (text:sub(item.from, item.to - 1):match("^(.-)%s*$"))
end

local function column_type(item, source)
  local node = item.expression
  local index = node[1] == "column" and source and column_index(source, node[2])
  return index and source.columns[index][2] or nil
end

local function compile_items(statement, scope)
  local list = {}
  for _, item in ipairs(statement.items) do
    if item.star then
      if not scope.source then
        errors.raise(1096, "HY000", "No tables used")
      elseif item.table and not same(item.table, scope.alias) then
        errors.raise(1051, "42S02", "Unknown table '%s'", item.table)
      end
      star_items(scope.source, list)
    else
      local aggregates_before = #scope.aggregates
      list[#list + 1] = {
        name = heading(item, statement.text), type = column_type(item, scope.source), node = item.expression,
        value = expressions.compile(item.expression, scope), alias = item.alias,
        is_aggregate = #scope.aggregates > aggregates_before,
      }
    end
    if #list > MOST_COLUMNS then
      errors.raise(1117, "HY000", "Too many columns")
    end
  end
  return list
end

-- A number in GROUP BY or ORDER BY is the place of an item.
local function compile_place(node, items, scope)
  if node[1] ~= "literal" or type(node[2]) ~= "number" then
    return expressions.compile(node, scope)
  elseif not items[node[2]] then
    errors.raise(1054, "42S22", "Unknown column '%s' in '%s'", values.text(node[2]), scope.clause)
  end
  return scope:value_of(items[node[2]])
end

-- The steps --------------------------------------------------------------------------------------------------------

-- One row may take long, if the statement has much to do for it.
local function each(list, pause, fn)
  for _, item in ipairs(list) do
    pause()
    fn(item)
  end
end

local function filter(list, condition, pause)
  if not condition then
    return list
  end
  local kept = {}
  each(list, pause, function(entry)
    if values.truth(condition(entry.row, entry.group)) then
      kept[#kept + 1] = entry
    end
  end)
  return kept
end

-- Rows become groups: { row = the first of them, group = its aggregates }.
local function group(entries, keys, wanted, pause)
  local groups, by_key = {}, {}
  if #keys == 0 then
    groups[1] = { row = {}, group = aggregates.begin(wanted) }
    by_key[""] = groups[1]
  end
  each(entries, pause, function(entry)
    local parts = {}
    for index, key in ipairs(keys) do
      parts[index] = values.key(key(entry.row))
    end
    local key = table.concat(parts, " ")
    local one = by_key[key]
    if not one then
      one = { row = entry.row, group = aggregates.begin(wanted) }
      by_key[key] = one
      groups[#groups + 1] = one
    elseif #keys == 0 and not next(one.row) then
      one.row = entry.row
    end
    aggregates.take(wanted, one.group, entry.row)
  end)
  each(groups, pause, function(one)
    aggregates.finish(wanted, one.group)
  end)
  return groups
end

local function distinct(entries, count, pause)
  local kept, seen = {}, {}
  each(entries, pause, function(entry)
    local parts = {}
    for index = 1, count do
      parts[index] = values.key(entry.output[index])
    end
    local key = table.concat(parts, " ")
    if not seen[key] then
      seen[key] = true
      kept[#kept + 1] = entry
    end
  end)
  return kept
end

local function limited(entries, limit, offset)
  if not limit and not offset then
    return entries
  end
  local kept = {}
  for index = (offset or 0) + 1, math.min(#entries, (offset or 0) + (limit or #entries)) do
    kept[#kept + 1] = entries[index]
  end
  return kept
end

--- The number of LIMIT and the like, which may be a parameter.
---@return integer|nil
function M.count(given, context)
  if type(given) ~= "table" then
    return given
  end
  local value = expressions.value(given, context)
  if type(value) ~= "number" or value < 0 or value % 1 ~= 0 then
    errors.raise(1210, "HY000", "Incorrect arguments to LIMIT")
  end
  return value
end

-- What an item's type is if it is not a column's: that of its values.
local function type_of(entries, index, node)
  local found
  for _, entry in ipairs(entries) do
    local value = entry.output[index]
    if type(value) == "string" then
      return "STRING"
    elseif value then
      found = (found == "DOUBLE" or value % 1 ~= 0) and "DOUBLE" or "LONGLONG"
    end
  end
  return found or node and node[1] == "call" and node[2] == "COUNT" and "LONGLONG" or "STRING"
end

--- The rows that a condition holds for, in the order and number that a statement wants: for UPDATE and DELETE.
---@return table[] rows
function M.rows(statement, source, context)
  local scope = setmetatable({ source = source, alias = source.name, context = context }, Scope)
  local entries = {}
  for index, row in ipairs(source.rows) do
    entries[index] = { row = row }
  end
  entries = filter(entries, statement.where and expressions.compile(statement.where, scope:within("where clause")),
    context.pause)
  entries = sort.sort(entries, M.sorting(statement.order, {}, scope:within("order clause")), context.pause)
  local rows = {}
  for index, entry in ipairs(limited(entries, M.count(statement.limit, context))) do
    rows[index] = entry.row
  end
  return rows
end

--- The keys of ORDER BY, as mysql-proxy.admin.sort wants them.
function M.sorting(order, items, scope)
  local keys = {}
  for index, key in ipairs(order or {}) do
    keys[index] = { value = compile_place(key.expression, items, scope), descending = key.descending }
  end
  return keys
end

--- Runs a SELECT.
---@param statement table
---@param source table|nil the table that it is about
---@param context table
---@return { fields: { name: string, type: string }[], rows: table[] }
function M.run(statement, source, context)
  local alias = source and (statement.from and statement.from.alias or source.name)
  local wanted = {}
  local base = setmetatable({ source = source, alias = alias, context = context }, Scope)
  local items = compile_items(statement, base:within("field list", { aggregates = wanted }))
  local aliases = {}
  for _, item in ipairs(items) do
    if item.alias then
      aliases[item.alias:lower()] = item
    end
  end
  local condition = statement.where and expressions.compile(statement.where, base:within("where clause"))
  local keys = {}
  for index, node in ipairs(statement.group or {}) do
    keys[index] = compile_place(node, items, base:within("group statement", { aliases = aliases }))
  end
  local more = { aliases = aliases, aggregates = wanted }
  local having = statement.having and expressions.compile(statement.having, base:within("having clause", more))
  local sorting = M.sorting(statement.order, items, base:within("order clause", more))
  local limit, offset = M.count(statement.limit, context), M.count(statement.offset, context)

  local entries, pause = {}, context.pause
  each(source and source.rows or { {} }, pause, function(row)
    entries[#entries + 1] = { row = row }
  end)
  entries = filter(entries, condition, pause)
  if #keys > 0 or #wanted > 0 then
    entries = group(entries, keys, wanted, pause)
  end
  entries = filter(entries, having, pause)
  if not statement.distinct and #sorting == 0 then
    entries = limited(entries, limit, offset)
  end
  each(entries, pause, function(entry)
    entry.output = {}
    for index, item in ipairs(items) do
      entry.output[index] = item.value(entry.row, entry.group)
    end
  end)
  if statement.distinct then
    entries = distinct(entries, #items, pause)
  end
  if statement.distinct or #sorting > 0 then
    entries = limited(sort.sort(entries, sorting, pause), limit, offset)
  end

  local result = { fields = {}, rows = {} }
  for index, item in ipairs(items) do
    result.fields[index] = { name = item.name, type = item.type or type_of(entries, index, item.node) }
  end
  for index, entry in ipairs(entries) do
    result.rows[index] = entry.output
  end
  return result
end

return M
