-- COUNT, SUM, MIN, MAX and AVG. A group is a list of states while its rows come, then a list of results.

local errors = require "mysql-proxy.admin.errors"
local expressions = require "mysql-proxy.admin.expressions"
local values = require "mysql-proxy.admin.values"

local M = {}

local function extreme(sign)
  return function(state, value)
    if state.value == nil or values.order(value, state.value) * sign > 0 then
      state.value = value
    end
  end
end

local takers = {
  COUNT = function() end,
  SUM = function(state, value)
    state.value = (state.value or 0) + values.number(value)
  end,
  MIN = extreme(-1),
  MAX = extreme(1),
}
takers.AVG = takers.SUM

--- Adds a call to those that a statement wants.
---@param wanted table[] the list of them
---@param node table the call
---@param scope table for its argument
---@return fun(row, group): any its result in a finished group
function M.add(wanted, node, scope)
  local name, arguments = node[2], node[3]
  if #arguments ~= (arguments.star and 0 or 1) or arguments.star and name ~= "COUNT" then
    errors.raise(1582, "42000", "Incorrect parameter count in the call to native function '%s'", name)
  end
  local index = #wanted + 1
  wanted[index] = {
    name = name, distinct = arguments.distinct,
    argument = not arguments.star and expressions.compile(arguments[1], scope),
  }
  return function(_, group)
    return group[index]
  end
end

function M.begin(wanted)
  local group = {}
  for index, call in ipairs(wanted) do
    group[index] = { count = 0, seen = call.distinct and {} }
  end
  return group
end

--- Another row of the group. NULL does not count, but in COUNT(*).
function M.take(wanted, group, row)
  for index, call in ipairs(wanted) do
    local state, value = group[index], nil
    if call.argument then
      value = call.argument(row)
    end
    local key = call.distinct and value ~= nil and values.key(value)
    if not call.argument then
      state.count = state.count + 1
    elseif value ~= nil and not (key and state.seen[key]) then
      state.count = state.count + 1
      takers[call.name](state, value)
      if key then
        state.seen[key] = true
      end
    end
  end
end

--- All rows have come.
function M.finish(wanted, group)
  for index, call in ipairs(wanted) do
    local state = group[index]
    if call.name == "COUNT" then
      group[index] = state.count
    elseif call.name == "AVG" then
      group[index] = state.count > 0 and state.value / state.count or nil
    else
      group[index] = state.value
    end
  end
end

return M
