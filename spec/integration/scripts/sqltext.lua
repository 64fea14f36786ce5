--[[

  sqltext.lua: SQL as text: taken apart, quoted, filled in

--]]

module("sqltext", package.seeall)

local is_number = {}
for _, name in ipairs({ "DECIMAL", "NEWDECIMAL", "TINY", "SHORT", "INT24", "LONG", "LONGLONG", "FLOAT", "DOUBLE" }) do
  is_number[proxy["MYSQL_TYPE_" .. name]] = true
end

function trim(text)
  return (text:gsub("^%s+", ""):gsub("[%s;]+$", ""))
end

-- splits at a separator that is not in quotes, braces or comments
function split(text, separator)
  local parts, from, at, depth = {}, 1, 1, 0
  while at <= #text do
    local c = text:sub(at, at)
    if c == "'" or c == '"' or c == "`" then
      local char
      repeat
        at = at + 1
        char = text:sub(at, at)
        if char == "\\" and c ~= "`" then
          at = at + 1
        end
      until at > #text or char == c
    elseif text:sub(at, at + 1) == "/*" then
      at = (text:find("*/", at, true) or #text) + 1
    elseif c == "(" then
      depth = depth + 1
    elseif c == ")" then
      depth = depth - 1
    elseif c == separator and depth == 0 then
      parts[#parts + 1] = trim(text:sub(from, at - 1))
      from = at + 1
    end
    at = at + 1
  end
  local rest = trim(text:sub(from))
  if rest ~= "" then
    parts[#parts + 1] = rest
  end
  return parts
end

-- a value of a result as SQL: only what is a number in the result is written without quotes, as '007' is none
function quote(value, type)
  if value == nil then
    return "NULL"
  elseif is_number[type] then
    return value
  end
  return "'" .. value:gsub("[\\']", "%0%0"):gsub("%z", "\\0") .. "'"
end

function quote_name(name)
  return "`" .. name:gsub("`", "``") .. "`"
end

-- replaces $name and $1
function replace_variables(sql, values)
  return (sql:gsub("%$([%w_]+)", function(name)
    return values[name] or values[tonumber(name) or name]
  end))
end
