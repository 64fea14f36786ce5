-- The words of admin SQL, as LPeg patterns: blanks and comments, keywords, names, literals. Each takes the blanks
-- behind it, and notes how far the text has been understood, which is the place that an error names. They are for
-- grammars with the rules in M.rules: LPeg copies any other pattern into all that it is a part of.

local lpeg = require "lpeg"

local P, R, S, C, Cc, Cmt = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Cmt

local M = {
  VERSION = 80011, -- of the server that this looks like (admin/init.lua), as version comments have it
  rules = {},
}

local farthest = 1

--- Begins to note anew.
function M.reset()
  farthest = 1
end

--- Where the text stops making sense: the end of the last word that was understood.
function M.farthest()
  return farthest
end

local reached = Cmt(true, function(_, position)
  farthest = math.max(farthest, position)
  return true
end)

local blank = S " \t\r\n\f\v"
local line_end = P "\n" + -1
local line_comment = (P "#" + P "--" * #(blank + -1)) * (1 - P "\n") ^ 0 * line_end
local comment = P "/*" * -S "!" * (1 - P "*/") ^ 0 * "*/"

-- What is no code, to its end or that of the text, so that the text is looked at once.
local function to(close, escape)
  return (escape * 1 + (1 - P(close))) ^ 0 * (P(close) + -1)
end
local no_code = P "'" * to("'", P "\\") + P '"' * to('"', P "\\") + P "`" * to("`", P(false)) + line_comment
  + P "/*" * -S "!" * to("*/", P(false))

local function blanks(text)
  return (text:gsub("[^\n]", " "))
end

local inside = (no_code + (1 - P "*/")) ^ 0
local version_comment = C(P "/*!" * C(R "09" ^ -6)) * C(inside) * (C "*/" + -1)
  / function(open, version, code, close)
    if not close then
      return -- as it is
    elseif version ~= "" and tonumber(version) > M.VERSION then
      return blanks(open .. code .. close)
    end
    return blanks(open) .. code .. "  "
  end
local all_code = lpeg.Cs((version_comment + no_code + 1) ^ 0)

--- A text whose version comments, /*!40101 so */, are code if they are for this version, and else blanks. All else
--- stays where it is.
---@param text string
---@return string
function M.without_version_comments(text)
  return text:find("/*!", 1, true) and all_code:match(text) or text
end

M.rules.skip = (blank ^ 1 + comment + line_comment - -P(1)) ^ 0 * reached

local letter = R("az", "AZ", "09", "\128\255") + S "_$"

local function token(pattern)
  return pattern * lpeg.V "skip"
end

M.token = token

local function rule(name, pattern)
  M.rules[name] = pattern
  return lpeg.V(name)
end

--- Keywords in a row, in any case: word "GROUP BY".
function M.word(text)
  local all = P(true)
  for each in text:gmatch("%S+") do
    local one = P(true)
    for char in each:gmatch(".") do
      one = one * S(char:lower() .. char:upper())
    end
    all = all * token(one * -letter)
  end
  return all
end

--- Punctuation.
function M.sign(text)
  return token(P(text))
end

--- What a pattern matches, in capitals, without the blanks behind it.
function M.upper(pattern)
  return C(pattern) / function(text)
    return text:upper():match("^[%w_]+")
  end
end

-- Names that would make a statement ambiguous.
local RESERVED = {}
for name in ([[AND AS ASC BETWEEN BY CROSS DELETE DESC DESCRIBE DISTINCT DIV EXISTS FALSE FOR FROM GROUP HAVING IN
  INNER INSERT INTO IS JOIN KILL LEFT LIKE LIMIT LOCK MOD NATURAL NOT NULL ON OR ORDER REPLACE RIGHT SELECT SET SHOW
  TRUE UNION UPDATE USE USING VALUES WHERE]]):gmatch("%S+") do
  RESERVED[name] = true
end

local plain_name = C(Cmt(letter ^ 1, function(_, position, name)
  return not RESERVED[name:upper()] and not name:find("^%d+$") and position
end))
local quoted_name = P "`" * C((P "``" + (1 - P "`")) ^ 1) * "`" / function(name)
  return (name:gsub("``", "`"))
end

M.name = rule("name", token(quoted_name + plain_name))
--- A name in front of a parenthesis, keyword or not.
M.called = token(R("az", "AZ") * letter ^ 0 * #(blank ^ 0 * "("))
--- A name where no keyword can stand.
M.any_name = rule("any_name", token(quoted_name + C(letter ^ 1)))

-- "String Literals" of the MySQL reference manual: \% and \_ keep their backslash, for LIKE.
local ESCAPES = { ["0"] = "\0", b = "\b", n = "\n", r = "\r", t = "\t", Z = "\26", ["%"] = "\\%", _ = "\\_" }

local function quoted(quote)
  local body = (P(quote .. quote) + P "\\" * 1 + (1 - S(quote .. "\\"))) ^ 0
  return P(quote) * C(body) * quote / function(text)
    return (text:gsub(quote .. quote, quote):gsub("\\(.)", function(char)
      return ESCAPES[char] or char
    end))
  end
end

-- 'a' 'b' is 'ab'; a character set in front says nothing here.
local introducer = (P "_" * R("az", "AZ", "09") ^ 1 + S "nN") * #S "'\"" + P(true)
local one_string = token(quoted "'" + quoted '"')
M.string = rule("string", introducer * lpeg.Cf(one_string * one_string ^ 0, function(first, second)
  return first .. second
end))

local digits = R "09" ^ 1
local exponent = S "eE" * S "+-" ^ -1 * digits
local hexadecimal = P "0x" * R("09", "af", "AF") ^ 1
M.number = token((hexadecimal + (digits * (P "." * R "09" ^ 0) ^ -1 + P "." * digits) * exponent ^ -1) / tonumber
  * -letter)
M.integer = token(digits / tonumber * -letter)

--- The ? of a prepared statement, with its place in the text.
M.parameter = lpeg.Ct(Cc "parameter" * lpeg.Cp() * M.sign "?")

--- @name, @@name, @@global.name: the scope, "user" for @name, and the name in lower case.
local variable_name = (quoted_name + C((letter + ".") ^ 1)) / string.lower
M.variable = token(P "@@" * ((M.word "GLOBAL" + M.word "SESSION" + M.word "LOCAL") * ".") ^ -1 * Cc "system"
  * variable_name + P "@" * -P "@" * Cc "user" * ((quoted "'" + quoted '"') / string.lower + variable_name))

return M
