-- Values of admin SQL are Lua's: numbers, strings, and nil for NULL. How they compare and change into each other is
-- MySQL's: "Type Conversion in Expression Evaluation" of its reference manual, with a collation that ignores case.

local M = {}

local floor = math.floor

local PAUSE_STEPS = 4096

--- A value as a number; of a string what it begins with, else 0.
---@return number|nil
function M.number(value)
  if type(value) ~= "string" then
    return value
  end
  local digits = value:match("^%s*([+-]?%d+%.?%d*)") or value:match("^%s*([+-]?%.%d+)")
  local exponent = digits and value:match("^%s*[+-]?[%d.]+([eE][+-]?%d+)")
  return digits and tonumber(digits .. (exponent or "")) or 0
end

--- A value as text.
---@return string|nil
function M.text(value)
  if type(value) ~= "number" then
    return value
  elseif value == floor(value) and value > -1e15 and value < 1e15 then
    return ("%.0f"):format(value)
  end
  local short = ("%.15g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

--- Whether a condition holds.
---@return boolean|nil nil if it is NULL
function M.truth(value)
  if value == nil then
    return nil
  end
  return M.number(value) ~= 0
end

--- 1, 0 or NULL.
function M.boolean(truth)
  if truth == nil then
    return nil
  end
  return truth and 1 or 0
end

--- Below 0, 0 or above 0, as `a` is before, equal to or after `b`; nil if one is NULL.
---@return number|nil
function M.compare(a, b)
  if a == nil or b == nil then
    return nil
  elseif type(a) == "string" and type(b) == "string" then
    a, b = a:lower(), b:lower()
  else
    a, b = M.number(a), M.number(b)
  end
  return a < b and -1 or a > b and 1 or 0
end

--- The order of ORDER BY, MIN and MAX: NULL comes first.
function M.order(a, b)
  if a == nil or b == nil then
    return a ~= nil and 1 or b ~= nil and -1 or 0
  end
  return M.compare(a, b)
end

--- What is the same for all values that are equal, for GROUP BY and DISTINCT.
function M.key(value)
  local text = value ~= nil and M.text(value):lower()
  return text and #text .. ":" .. text or "NULL"
end

--- A pattern of LIKE, for M.matches: a list that has "any" for %, "one" for _, else the character.
---@param pattern string
---@param escape string|nil default backslash
---@return string[]
function M.pattern(pattern, escape)
  local list, at = {}, 1
  pattern, escape = pattern:lower(), (escape or "\\"):lower()
  while at <= #pattern do
    local char = pattern:sub(at, at)
    if char == escape and at < #pattern then
      at = at + 1
      list[#list + 1] = pattern:sub(at, at)
    else
      list[#list + 1] = char == "%" and "any" or char == "_" and "one" or char
    end
    at = at + 1
  end
  return list
end

--- Whether a text is LIKE a pattern, ignoring case. Of several % only the last one that was passed is tried again,
--- which suffices.
---@param text string
---@param list string[] of M.pattern
---@param pause? fun() called now and then: both may be long
---@return boolean
function M.matches(text, list, pause)
  text = text:lower()
  local at, piece, star, star_at, steps = 1, 1, nil, nil, 0
  while at <= #text do
    steps = steps + 1
    if pause and steps % PAUSE_STEPS == 0 then
      pause()
    end
    local wanted = list[piece]
    if wanted == "any" then
      star, star_at = piece, at
      piece = piece + 1
    elseif wanted and (wanted == "one" or wanted == text:sub(at, at)) then
      at, piece = at + 1, piece + 1
    elseif star then
      star_at = star_at + 1
      at, piece = star_at, star + 1
    else
      return false
    end
  end
  while list[piece] == "any" do
    piece = piece + 1
  end
  return piece > #list
end

--- text LIKE pattern.
---@param text string
---@param pattern string
---@return boolean
function M.like(text, pattern)
  return M.matches(text, M.pattern(pattern))
end

return M
