-- Properties: the tokens are those of the rules below, and the normalised form is the same made of the text, of its
-- stream and of an array of tokens, and is that of the function below.
-- Input: an SQL text.

local lpeg = require "lpeg"

local proxy_tokenizer = require "proxy.tokenizer"
local tokenizer = require "mysql.tokenizer"

local P, R, S, C = lpeg.P, lpeg.R, lpeg.S, lpeg.C

-- The rules -------------------------------------------------------------------------------------------------------
-- Each is tried at each place, and the longest match makes the tokens; of two as long, the first. Keywords are
-- literals here.

local space = S " \t\r\n\v\f"
local digit = R "09"
local letter = R("az", "AZ") + S "_@"
local word = digit ^ 0 * letter * (letter + digit) ^ 0
local name = word * ("." * word) ^ -2
local exponent = S "eE" * S "+-" ^ -1 * digit ^ 1
local fraction = digit ^ 0 * "." * digit ^ 1

local function as(token_name)
  return function(text)
    return { { token_name, text } }
  end
end

local function parts(last)
  return function(text)
    local tokens = {}
    for part, dot in text:gmatch "([^.]+)(%.?)" do
      tokens[#tokens + 1] = { "TK_LITERAL", part }
      if dot ~= "" then
        tokens[#tokens + 1] = { "TK_DOT", dot }
      end
    end
    tokens[#tokens][1] = last
    return tokens
  end
end

-- The text between delimiters that are there twice where they mean one.
local function quoted(quote, backslash)
  local item = C(1 - P(quote)) + P(quote) * C(quote)
  if backslash then
    item = C(P "\\" * P(1)) + item
  end
  return lpeg.Ct(P(quote) * item ^ 0 * (P(quote) + -1)) / table.concat
end

local function block(open)
  return P(open) * C((1 - P "*" ^ 1 * "/") ^ 0) * (P "*" ^ 1 * "/" + -1)
end

-- { pattern, what makes tokens of its capture, how many of its characters are only looked at }
local rules = {
  { C(name * "("), function(text)
    return parts "TK_FUNCTION"(text:sub(1, -2))
  end, 1 },
  { C(fraction * exponent ^ -1 + digit ^ 1 * exponent), as "TK_FLOAT" },
  { C(name), parts "TK_LITERAL" },
  { C(digit ^ 1), as "TK_INTEGER" },
  { block "/*!", as "TK_COMMENT_MYSQL" },
  { block "/*" - P "/*!", as "TK_COMMENT" },
  { P "--" * S " \t" * C((1 - P "\n") ^ 0), as "TK_COMMENT" },
  { P "--" * P "\r" ^ -1 * #P "\n" * C "", as "TK_COMMENT" },
  { quoted("'", true), as "TK_STRING" },
  { quoted('"', true), as "TK_STRING" },
  { quoted("`", false), as "TK_LITERAL" },
}

for text, word_of in pairs {
  ["<="] = "LE", [">="] = "GE", ["<"] = "LT", [">"] = "GT", ["="] = "EQ", ["<>"] = "NE", ["!="] = "NE",
  [":="] = "ASSIGN",
  ["&&"] = "LOGICAL_AND", ["||"] = "LOGICAL_OR", ["&"] = "BITWISE_AND", ["|"] = "BITWISE_OR", ["^"] = "BITWISE_XOR",
  ["("] = "OBRACE", [")"] = "CBRACE", [";"] = "SEMICOLON", [","] = "COMMA", ["."] = "DOT", ["*"] = "STAR",
  ["+"] = "PLUS", ["-"] = "MINUS", ["/"] = "DIV",
} do
  rules[#rules + 1] = { C(text), as("TK_" .. word_of) }
end
rules[#rules + 1] = { C(1), as "TK_UNKNOWN" }

for _, rule in ipairs(rules) do
  rule[1] = rule[1] * lpeg.Cp()
end

local spaces = space ^ 0 * lpeg.Cp()

local function scan(sql)
  local tokens, at = {}, spaces:match(sql)
  while at <= #sql do
    local longest, text, rule = 0, nil, nil
    for _, tried in ipairs(rules) do
      local found, after = tried[1]:match(sql, at)
      if found and after > longest then
        longest, text, rule = after, found, tried
      end
    end
    for _, token in ipairs(rule[2](text)) do
      tokens[#tokens + 1] = token
    end
    at = spaces:match(sql, longest - (rule[3] or 0))
  end
  return tokens
end

-- The normalised form ---------------------------------------------------------------------------------------------

local TRANSACTION_WORDS = { COMMIT = true, ROLLBACK = true, BEGIN = true, START = true }

local writers = {
  TK_COMMENT = function() end,
  TK_COMMENT_MYSQL = function(text)
    return "/*!" .. text .. "*/ "
  end,
  TK_FUNCTION = string.upper,
  TK_LITERAL = function(text, written)
    local upper = text:upper()
    if text:sub(1, 1) == "@" then
      return text .. " "
    elseif #written == 0 and TRANSACTION_WORDS[upper] then
      return upper .. " "
    elseif #written == 1 and written[1] == "START " and upper == "TRANSACTION" then
      return upper .. " "
    end
    return "`" .. text .. "` "
  end,
}
for _, value in ipairs { "TK_STRING", "TK_INTEGER", "TK_FLOAT" } do
  writers[value] = function()
    return "? "
  end
end

local function normalize(tokens)
  local written = {}
  for i = 1, #tokens do
    local write = writers[tokens[i].token_name]
    if write then
      written[#written + 1] = write(tokens[i].text, written)
    else
      written[#written + 1] = tokens[i].text:upper() .. " "
    end
  end
  return table.concat(written)
end

-- The properties --------------------------------------------------------------------------------------------------

local function same(expected, found, what, sql)
  if expected ~= found then
    error(("%s: %q instead of %q of %q"):format(what, tostring(found), tostring(expected), sql), 2)
  end
end

return function(sql)
  local tokens, array = tokenizer.tokenize(sql), {}
  local expected = scan(sql)
  for i = 1, math.max(#expected, #tokens) do
    local token, wanted = tokens[i], expected[i] or {}
    local found = token and token.token_name:gsub("^TK_SQL_%w.*", "TK_LITERAL")
    same(wanted[1], found, "name of token " .. i, sql)
    same(wanted[2], token.text, "text of token " .. i, sql)
    array[i] = token
  end
  local form = normalize(tokens)
  same(form, tokenizer.normalize(sql), "normalised text", sql)
  same(form, tokenizer.normalize(tokens), "normalised stream", sql)
  same(form, tokenizer.normalize(array), "normalised array", sql)
  same(#proxy_tokenizer.bare_tokens(tokens), #proxy_tokenizer.bare_tokens(array), "bare tokens", sql)
  proxy_tokenizer.tokens_to_query(tokens)
end
