-- The text of a file with options of scripts: return { module = { option = value } }, in Lua's words. It is read as
-- data, never run, as it is a client who names the file.

local lpeg = require "lpeg"

local P, R, S = lpeg.P, lpeg.R, lpeg.S
local C, Cc, Cmt, Cs, Ct = lpeg.C, lpeg.Cc, lpeg.Cmt, lpeg.Cs, lpeg.Ct

local M = {}

-- Writing -------------------------------------------------------------------------------------------------------------

-- A number as Lua reads it: in full, and those that are no digits too.
local function number_text(n)
  if n ~= n then
    return "0/0"
  elseif n == math.huge or n == -math.huge then
    return n > 0 and "1/0" or "-1/0"
  end
  return ("%.17g"):format(n)
end

local WRITERS = {
  boolean = tostring,
  number = number_text,
  string = function(text)
    return (("%q"):format(text):gsub("\r", "\\r"))
  end,
}

--- The text for a list of options; what is no string, number or boolean is left out.
---@param options { module: any, key: any, value: any }[] those of a module together
---@return string
function M.write(options)
  local lines, current = { "return {" }, nil
  for _, option in ipairs(options) do
    local module, key, value = option.module, option.key, option.value
    local write_module, write_key, write = WRITERS[type(module)], WRITERS[type(key)], WRITERS[type(value)]
    if write_module and write_key and write then
      if module ~= current then
        lines[#lines + 1] = (current ~= nil and "  },\n" or "") .. ("  [%s] = {"):format(write_module(module))
        current = module
      end
      lines[#lines + 1] = ("    [%s] = %s,"):format(write_key(key), write(value))
    end
  end
  lines[#lines + 1] = (current ~= nil and "  },\n" or "") .. "}\n"
  return table.concat(lines, "\n")
end

-- Reading -------------------------------------------------------------------------------------------------------------

local farthest -- where the text could not be read on

local comment = P "--" * (1 - P "\n") ^ 0
local space = (S " \t\r\n\v\f" + comment) ^ 0 * Cmt(P(true), function(_, at)
  farthest = math.max(farthest, at)
  return true
end)

local function symbol(text)
  return P(text) * space
end

local letter = R("az", "AZ", "__")
local word = letter * (letter + R "09") ^ 0

local function keyword(text)
  return P(text) * -(letter + R "09") * space
end

local ESCAPES = {
  a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v", ["\n"] = "\n", ["\\"] = "\\", ['"'] = '"',
  ["'"] = "'",
}

local code = R "09" * R "09" ^ -2
local escape = P "\\" / "" * (Cmt(C(code), function(_, _, digits)
  local byte = tonumber(digits)
  return byte < 256, byte < 256 and string.char(byte) or nil
end) + S "abfnrtv\n\\\"'" / ESCAPES)

local function quoted(quote)
  return quote * Cs((escape + (1 - S("\\\n" .. quote))) ^ 0) * quote * space
end

local text = quoted '"' + quoted "'"
local digits = R "09" ^ 1
local decimal = (digits * (P "." * R "09" ^ 0) ^ -1 + P "." * digits) * (S "eE" * S "+-" ^ -1 * digits) ^ -1
local hexadecimal = P "0" * S "xX" * R("09", "af", "AF") ^ 1
local endless = (P "-" ^ -1 * S "01" * "/0") / { ["1/0"] = math.huge, ["-1/0"] = -math.huge, ["0/0"] = 0 / 0 }
local number = (endless + P "-" ^ -1 * (hexadecimal + decimal) / tonumber) * -(letter + R "09" + ".") * space
local value = text + number + keyword "true" * Cc(true) + keyword "false" * Cc(false)

local function to_table(pairs_of_entries)
  local all = {}
  for _, entry in ipairs(pairs_of_entries) do
    if entry[1] == entry[1] then -- Lua has no table with NaN for a key
      all[entry[1]] = entry[2]
    end
  end
  return all
end

-- A table whose entries all have keys.
local function entries(of)
  local key = symbol "[" * value * symbol "]" + C(word) * space
  local entry, separator = Ct(key * symbol "=" * of), symbol "," + symbol ";"
  return symbol "{" * (Ct((entry * (separator * entry) ^ 0 * separator ^ -1) ^ -1) / to_table) * symbol "}"
end

local file = space * keyword "return" * entries(entries(value) + value) * symbol ";" ^ -1 * -1

--- Reads such a text.
---@param source string
---@param name string of the file, for the message
---@return table<any, table<any, string|number|boolean>>|nil
---@return string|nil message says at which line it is something else
function M.read(source, name)
  farthest = 1
  local options = file:match(source)
  if not options then
    local _, newlines = source:sub(1, farthest - 1):gsub("\n", "")
    local near = source:sub(farthest, farthest + 19):match("^%C+")
    return nil, ("%s:%d: expected return { module = { option = value } }, a value being a string, number or boolean, "
      .. "near %s"):format(name, newlines + 1, near and ("'%s'"):format(near) or "the end")
  end
  for module, of_module in pairs(options) do
    if type(of_module) ~= "table" then
      return nil, ("%s: %s: expected a table, got %s"):format(name, tostring(module), type(of_module))
    end
  end
  return options
end

return M
