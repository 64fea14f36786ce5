-- Expressions of admin SQL (mysql-proxy.admin.expression_grammar) become functions of a row: function(row, group).
--
-- What they mean is up to a scope:
--   scope:column(name, table)   -> function(row, group)
--   scope:aggregate(node)       -> function(row, group), for COUNT, SUM, MIN, MAX, AVG
--   scope.context               what functions and variables look at: user, version, database, connection_id,
--                               variable(name), parameters; pause(), which lets others get on if it is time

local errors = require "mysql-proxy.admin.errors"
local functions = require "mysql-proxy.admin.functions"
local values = require "mysql-proxy.admin.values"

local number, text, truth, boolean, compare = values.number, values.text, values.truth, values.boolean, values.compare

local M = {}

M.AGGREGATES = { COUNT = true, SUM = true, MIN = true, MAX = true, AVG = true }

local compile

local function compile_all(nodes, scope)
  local compiled = {}
  for index, node in ipairs(nodes) do
    compiled[index] = compile(node, scope)
  end
  return compiled
end

local function constant(value)
  return function()
    return value
  end
end

-- Three-valued: the result is `decisive` if one operand is, else NULL if one is, else the opposite.
local function junction(operands, decisive)
  return function(row, group)
    local unknown = false
    for index = 1, #operands do
      local one = truth(operands[index](row, group))
      if one == decisive then
        return boolean(decisive)
      end
      unknown = unknown or one == nil
    end
    if not unknown then
      return boolean(not decisive)
    end
  end
end

local function negate(truth_value, negated)
  if negated and truth_value ~= nil then
    return not truth_value
  end
  return truth_value
end

local comparisons = {
  ["="] = function(order) return order == 0 end,
  ["<>"] = function(order) return order ~= 0 end,
  ["<"] = function(order) return order < 0 end,
  ["<="] = function(order) return order <= 0 end,
  [">"] = function(order) return order > 0 end,
  [">="] = function(order) return order >= 0 end,
}
comparisons["!="] = comparisons["<>"]

local function nonzero(fn)
  return function(a, b)
    return b ~= 0 and fn(a, b) or nil
  end
end

local function whole(value)
  return value < 0 and math.ceil(value) or math.floor(value)
end

local arithmetic = {
  ["+"] = function(a, b) return a + b end,
  ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end,
  ["/"] = nonzero(function(a, b) return a / b end),
  ["DIV"] = nonzero(function(a, b) return whole(a / b) end),
  ["%"] = nonzero(math.fmod),
}
arithmetic.MOD = arithmetic["%"]

-- What a chain does to its operand's value: function(value, row, group).
local suffixes = {}

function suffixes.arithmetic(scope, operator, operand)
  local calculate, other = arithmetic[operator], compile(operand, scope)
  return function(value, row, group)
    local a, b = number(value), number(other(row, group))
    return a and b and calculate(a, b)
  end
end

function suffixes.compare(scope, operator, operand)
  local other, decide = compile(operand, scope), comparisons[operator]
  if operator == "<=>" then
    return function(value, row, group)
      local against = other(row, group)
      return boolean(value == nil and against == nil or compare(value, against) == 0)
    end
  end
  return function(value, row, group)
    local order = compare(value, other(row, group))
    return order and boolean(decide(order))
  end
end

suffixes["is"] = function(_, negated, what)
  return function(value)
    local holds
    if what == "NULL" then
      holds = value == nil
    else
      holds = truth(value) == (what == "TRUE")
    end
    return boolean(negate(holds, negated))
  end
end

suffixes["in"] = function(scope, negated, list)
  local others = compile_all(list, scope)
  return function(value, row, group)
    local found, unknown = false, value == nil
    for index = 1, #others do
      local order = compare(value, others[index](row, group))
      unknown = unknown or order == nil
      if order == 0 then
        found = true
        break
      end
    end
    if found or not unknown then
      return boolean(negate(found, negated))
    end
  end
end

function suffixes.between(scope, negated, low, high)
  low, high = compile(low, scope), compile(high, scope)
  return function(value, row, group)
    local above, below = compare(value, low(row, group)), compare(value, high(row, group))
    if above and above < 0 or below and below > 0 then
      return boolean(negate(false, negated))
    elseif above and below then
      return boolean(negate(true, negated))
    end
  end
end

function suffixes.like(scope, negated, pattern, escape)
  pattern = compile(pattern, scope)
  local last, list -- mostly it is always the same
  return function(value, row, group)
    local wanted = text(pattern(row, group))
    if value ~= nil and wanted then
      if wanted ~= last then
        last, list = wanted, values.pattern(wanted, escape)
      end
      return boolean(negate(values.matches(text(value), list, scope.context.pause), negated))
    end
  end
end

local nodes = {}

function nodes.literal(node)
  return constant(node[2])
end

function nodes.column(node, scope)
  return scope:column(node[2], node[3])
end

function nodes.parameter(node, scope)
  return constant(scope.context.parameters[node[2]])
end

function nodes.variable(node, scope)
  return constant(node[2] == "system" and scope.context.variable(node[3]) or nil)
end

function nodes.call(node, scope)
  local name, arguments = node[2], node[3]
  if M.AGGREGATES[name] then
    return scope:aggregate(node)
  end
  local known = functions[name]
  if not known then
    errors.raise(1305, "42000", "FUNCTION %s does not exist", name)
  elseif arguments.star or arguments.distinct or #arguments < known[1] or #arguments > known[2] then
    errors.raise(1582, "42000", "Incorrect parameter count in the call to native function '%s'", name)
  end
  local operands, count, call, context = compile_all(arguments, scope), #arguments, known[3], scope.context
  if count == 0 then
    return function()
      return call(context)
    end
  end
  return function(row, group)
    local given = {}
    for index = 1, count do
      given[index] = operands[index](row, group)
    end
    return call(context, unpack(given, 1, count))
  end
end

nodes["and"] = function(node, scope)
  return junction(compile_all(node[2], scope), false)
end

nodes["or"] = function(node, scope)
  return junction(compile_all(node[2], scope), true)
end

nodes["not"] = function(node, scope)
  local operand = compile(node[2], scope)
  return function(row, group)
    return boolean(negate(truth(operand(row, group)), true))
  end
end

function nodes.unary(node, scope)
  local operand, signs = compile(node[2], scope), node[3]
  return function(row, group)
    local value = operand(row, group)
    for index = #signs, 1, -1 do
      local sign = signs:sub(index, index)
      if sign == "!" then
        value = boolean(negate(truth(value), true))
      elseif sign == "-" and value ~= nil then
        value = -number(value)
      end
    end
    return value
  end
end

function nodes.chain(node, scope)
  local operand, steps = compile(node[2], scope), {}
  for index, suffix in ipairs(node[3]) do
    steps[index] = suffixes[suffix[1]](scope, unpack(suffix, 2, 4))
  end
  if #steps == 1 then
    local step = steps[1]
    return function(row, group)
      return step(operand(row, group), row, group)
    end
  end
  return function(row, group)
    local value = operand(row, group)
    for index = 1, #steps do
      value = steps[index](value, row, group)
    end
    return value
  end
end

function compile(node, scope)
  return nodes[node[1]](node, scope)
end

--- An expression as a function of a row.
---@param node table
---@param scope table
---@return fun(row: table, group: table|nil): number|string|nil
M.compile = compile

local nowhere = {}
nowhere.__index = nowhere

function nowhere.column(_, name)
  errors.raise(1054, "42S22", "Unknown column '%s' in 'field list'", name)
end

function nowhere.aggregate()
  errors.raise(1111, "HY000", "Invalid use of group function")
end

--- The value of an expression where there is no row: in SET, in VALUES.
function M.value(node, context)
  return compile(node, setmetatable({ context = context }, nowhere))()
end

return M
