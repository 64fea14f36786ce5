-- The functions of admin SQL: name -> { least, most arguments, function(context, ...) }.

local values = require "mysql-proxy.admin.values"

local number, text, compare = values.number, values.text, values.compare

local M = {}

local ANY = 64 -- arguments

-- A function of text: NULL if an argument is.
local function of_text(least, most, fn)
  return { least, most, function(_, first, ...)
    if first ~= nil then
      return fn(text(first), ...)
    end
  end }
end

local function of_number(least, most, fn)
  return { least, most, function(_, first, ...)
    if first ~= nil then
      return fn(number(first), ...)
    end
  end }
end

local function said(key)
  return { 0, 0, function(context)
    return context[key]
  end }
end

M.NOW = { 0, 1, function()
  return os.date("%Y-%m-%d %H:%M:%S")
end }
M.CURRENT_TIMESTAMP, M.SYSDATE = M.NOW, M.NOW
M.CURDATE = { 0, 0, function()
  return os.date("%Y-%m-%d")
end }
M.UNIX_TIMESTAMP = { 0, 0, function()
  return os.time()
end }
M.USER = said "user"
M.CURRENT_USER, M.SESSION_USER, M.SYSTEM_USER = M.USER, M.USER, M.USER
M.VERSION = said "version"
M.DATABASE = said "database"
M.SCHEMA = M.DATABASE
M.CONNECTION_ID = said "connection_id"

M.IF = { 3, 3, function(_, condition, yes, no)
  if values.truth(condition) then
    return yes
  end
  return no
end }
M.IFNULL = { 2, 2, function(_, value, otherwise)
  if value == nil then
    return otherwise
  end
  return value
end }
M.NULLIF = { 2, 2, function(_, a, b)
  if compare(a, b) ~= 0 then
    return a
  end
end }
M.ISNULL = { 1, 1, function(_, value)
  return value == nil and 1 or 0
end }
M.COALESCE = { 1, ANY, function(_, ...)
  for index = 1, select("#", ...) do
    local value = (select(index, ...))
    if value ~= nil then
      return value
    end
  end
end }

local function extreme(sign)
  return { 2, ANY, function(_, ...)
    local best = (...)
    for index = 2, select("#", ...) do
      local value = (select(index, ...))
      local order = compare(value, best)
      if not order then
        return nil
      elseif order * sign > 0 then
        best = value
      end
    end
    return best
  end }
end
M.GREATEST, M.LEAST = extreme(1), extreme(-1)

M.CONCAT = { 1, ANY, function(_, ...)
  local parts = {}
  for index = 1, select("#", ...) do
    parts[index] = text((select(index, ...)))
    if not parts[index] then
      return nil
    end
  end
  return table.concat(parts)
end }

M.LOWER = of_text(1, 1, string.lower)
M.UPPER = of_text(1, 1, string.upper)
M.LCASE, M.UCASE = M.LOWER, M.UPPER
M.LENGTH = of_text(1, 1, string.len)
M.CHAR_LENGTH = of_text(1, 1, function(value)
  return select(2, value:gsub("[^\128-\191]", ""))
end)
M.TRIM = of_text(1, 1, function(value)
  return value:match("^ *(.-) *$")
end)
M.LEFT = of_text(2, 2, function(value, count)
  return count and value:sub(1, math.max(number(count), 0))
end)
M.RIGHT = of_text(2, 2, function(value, count)
  return count and value:sub(#value + 1 - math.min(math.max(number(count), 0), #value))
end)
M.SUBSTRING = of_text(2, 3, function(value, from, count)
  from, count = number(from), number(count)
  if not from or from == 0 then
    return from and ""
  end
  local rest = value:sub(from)
  return count and rest:sub(1, math.max(count, 0)) or rest
end)
M.SUBSTR = M.SUBSTRING

M.ABS = of_number(1, 1, math.abs)
M.FLOOR = of_number(1, 1, math.floor)
M.CEIL = of_number(1, 1, math.ceil)
M.CEILING = M.CEIL
M.ROUND = of_number(1, 2, function(value, digits)
  local scale = 10 ^ (digits and number(digits) or 0)
  local rounded = math.floor(math.abs(value) * scale + 0.5) / scale
  return value < 0 and -rounded or rounded
end)

return M
