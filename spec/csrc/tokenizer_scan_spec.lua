local tokenizer = require "mysql.tokenizer"

local follows_rules = require "spec.fuzz.tokenizer"

local MB = 2 ^ 20

-- The tokens of a text as "LITERAL<a> DOT<.>".
local function scan(sql)
  local tokens, found = tokenizer.tokenize(sql), {}
  for i = 1, #tokens do
    found[i] = tokens[i].token_name:gsub("^TK_", "") .. "<" .. tokens[i].text .. ">"
  end
  return table.concat(found, " ")
end

local function each(examples)
  for _, example in ipairs(examples) do
    assert.equal(example[2], scan(example[1]))
  end
end

describe("mysql.tokenizer.tokenize", function()
  it("gives the tokens of the historical tests", function()
    local tokens = tokenizer.tokenize("select count(*) from mysql.user")
    local found = {}
    for i = 1, #tokens do
      found[i] = tokens[i].token_id .. " " .. tokens[i].text
    end
    assert.same({
      "204 select", "10 count", "16 (", "19 *", "17 )", "105 from", "9 mysql", "13 .", "9 user",
    }, found)
  end)

  it("passes over white space", function()
    assert.equal("LITERAL<a> LITERAL<b>", scan(" \t\r\n\v\fa \t\r\n\v\fb \t\r\n\v\f"))
  end)

  it("knows comments to the end of a line", function()
    each {
      { "-- a\nb", "COMMENT<a> LITERAL<b>" },
      { "--\ta\nb", "COMMENT<a> LITERAL<b>" },
      { "--  a \nb", "COMMENT< a > LITERAL<b>" },
      { "-- a\r\nb", "COMMENT<a\r> LITERAL<b>" },
      { "-- a", "COMMENT<a>" },
      { "-- ", "COMMENT<>" },
      { "-- \nb", "COMMENT<> LITERAL<b>" },
      { "--\nb", "COMMENT<> LITERAL<b>" },
      { "--\r\nb", "COMMENT<> LITERAL<b>" },
      { "-- a -- 'b\nc", "COMMENT<a -- 'b> LITERAL<c>" },
      { "-- a\n-- b", "COMMENT<a> COMMENT<b>" },
    }
  end)

  it("knows two dashes that are none", function()
    each {
      { "--x", "MINUS<-> MINUS<-> LITERAL<x>" },
      { "--", "MINUS<-> MINUS<->" },
      { "--\rx", "MINUS<-> MINUS<-> LITERAL<x>" },
      { "--\r", "MINUS<-> MINUS<->" },
      { "--\vx", "MINUS<-> MINUS<-> LITERAL<x>" },
      { "1--1", "INTEGER<1> MINUS<-> MINUS<-> INTEGER<1>" },
      { "--- a", "MINUS<-> COMMENT<a>" },
      { "-", "MINUS<->" },
      { "# a", "UNKNOWN<#> LITERAL<a>" },
    }
  end)

  it("knows comments between delimiters", function()
    each {
      { "/* a */b", "COMMENT< a > LITERAL<b>" },
      { "/**/b", "COMMENT<> LITERAL<b>" },
      { "/*/x*/b", "COMMENT</x> LITERAL<b>" },
      { "/***/b", "COMMENT<> LITERAL<b>" },
      { "/*** a ***/b", "COMMENT<** a > LITERAL<b>" },
      { "/* a * b / c\n-- d*/e", "COMMENT< a * b / c\n-- d> LITERAL<e>" },
      { "/* /* a */ */", "COMMENT< /* a > STAR<*> DIV</>" },
      { "/*+ hint */", "COMMENT<+ hint >" },
      { "/*M!100100 a */", "COMMENT<M!100100 a >" },
      { "/ *", "DIV</> STAR<*>" },
      { "/", "DIV</>" },
    }
  end)

  it("knows MySQL's comments, and does not look into them", function()
    each {
      { "/*!50000 1 */b", "COMMENT_MYSQL<50000 1 > LITERAL<b>" },
      { "/*!*/b", "COMMENT_MYSQL<> LITERAL<b>" },
      { "/*!a**/b", "COMMENT_MYSQL<a> LITERAL<b>" },
      { "/*!/b*/", "COMMENT_MYSQL</b>" },
      { "/*! 'a*/b'", "COMMENT_MYSQL< 'a> LITERAL<b> STRING<>" },
      { "/* ! */", "COMMENT< ! >" },
    }
  end)

  it("closes comments and quotes at the end of the text", function()
    each {
      { "/* a", "COMMENT< a>" },
      { "/*", "COMMENT<>" },
      { "/*/", "COMMENT</>" },
      { "/*!50000 a", "COMMENT_MYSQL<50000 a>" },
      { "/*!", "COMMENT_MYSQL<>" },
      { "'a", "STRING<a>" },
      { "'", "STRING<>" },
      { '"a b', "STRING<a b>" },
      { "'a''", "STRING<a'>" },
      { "'a\\", "STRING<a\\>" },
      { "'a\\'", "STRING<a\\'>" },
      { "'a''\\", "STRING<a'\\>" },
      { "`a", "LITERAL<a>" },
      { "`", "LITERAL<>" },
      { "`a``", "LITERAL<a`>" },
    }
  end)

  it("knows strings", function()
    each {
      { "'a'", "STRING<a>" },
      { '"a"', "STRING<a>" },
      { "''", "STRING<>" },
      { '""', "STRING<>" },
      { "'it''s'", "STRING<it's>" },
      { '"a""b"', 'STRING<a"b>' },
      { "''''", "STRING<'>" },
      { "'''a'''", "STRING<'a'>" },
      { "'a\\'b'", "STRING<a\\'b>" },
      { '"a\\"b"', 'STRING<a\\"b>' },
      { "'a\\\\'b", "STRING<a\\\\> LITERAL<b>" },
      { "'a\\'''", "STRING<a\\''>" },
      { "'a\\'''b", "STRING<a\\''b>" },
      { "'it''s\\\\'", "STRING<it's\\\\>" },
      { "'it''s\\'s'", "STRING<it's\\'s>" },
      { "'a\"b`c'", 'STRING<a"b`c>' },
      { "'/* -- '", "STRING</* -- >" },
      { "'a\nb'", "STRING<a\nb>" },
      { "'a' 'b'", "STRING<a> STRING<b>" },
      { "'a'(", "STRING<a> OBRACE<(>" },
      { "x'1F'", "LITERAL<x> STRING<1F>" },
    }
  end)

  it("keeps strings of two kinds of quotes apart", function()
    each {
      { "\"a\"'b'", "STRING<a> STRING<b>" },
      { "'a'\"b\"", "STRING<a> STRING<b>" },
      { "\"a\"'b'\"c\"", "STRING<a> STRING<b> STRING<c>" },
    }
  end)

  it("keeps a backslash in front of a newline", function()
    each {
      { "'a\\\nb'", "STRING<a\\\nb>" },
      { '"a\\\nb"', "STRING<a\\\nb>" },
      { "'a''\\\nb'", "STRING<a'\\\nb>" },
    }
  end)

  it("knows names in backticks, which are never keywords or functions", function()
    each {
      { "`a b`", "LITERAL<a b>" },
      { "`select`", "LITERAL<select>" },
      { "`f`(", "LITERAL<f> OBRACE<(>" },
      { "`a``b`", "LITERAL<a`b>" },
      { "``", "LITERAL<>" },
      { "````", "LITERAL<`>" },
      { "`a\\`b", "LITERAL<a\\> LITERAL<b>" },
      { "`a``\\`b", "LITERAL<a`\\> LITERAL<b>" },
      { "`a`.`b`", "LITERAL<a> DOT<.> LITERAL<b>" },
      { "`a`.1b", "LITERAL<a> FLOAT<.1> LITERAL<b>" },
    }
  end)

  it("knows words", function()
    each {
      { "a", "LITERAL<a>" },
      { "a_1@b", "LITERAL<a_1@b>" },
      { "_x", "LITERAL<_x>" },
      { "SeLeCt", "SQL_SELECT<SeLeCt>" },
      { "0x1F", "LITERAL<0x1F>" },
      { "1_000", "LITERAL<1_000>" },
      { "5abc", "LITERAL<5abc>" },
      { "1select", "LITERAL<1select>" },
      { "a\195\164", "LITERAL<a> UNKNOWN<\195> UNKNOWN<\164>" },
      { "a$b", "LITERAL<a> UNKNOWN<$> LITERAL<b>" },
    }
  end)

  it("looks up each word of those that dots join", function()
    each {
      { "a.b", "LITERAL<a> DOT<.> LITERAL<b>" },
      { "x.select", "LITERAL<x> DOT<.> SQL_SELECT<select>" },
      { "select.x", "SQL_SELECT<select> DOT<.> LITERAL<x>" },
      { "a.b.c", "LITERAL<a> DOT<.> LITERAL<b> DOT<.> LITERAL<c>" },
      { "a.b.c.d", "LITERAL<a> DOT<.> LITERAL<b> DOT<.> LITERAL<c> DOT<.> LITERAL<d>" },
      { "a.*", "LITERAL<a> DOT<.> STAR<*>" },
      { "a . b", "LITERAL<a> DOT<.> LITERAL<b>" },
      { "a..b", "LITERAL<a> DOT<.> DOT<.> LITERAL<b>" },
      { "a.", "LITERAL<a> DOT<.>" },
    }
  end)

  it("takes digits behind a dot for a word's where they are", function()
    each {
      { "a.1", "LITERAL<a> FLOAT<.1>" },
      { "a.1b", "LITERAL<a> DOT<.> LITERAL<1b>" },
      { "a.1e5", "LITERAL<a> DOT<.> LITERAL<1e5>" },
      { "a.b.1c", "LITERAL<a> DOT<.> LITERAL<b> DOT<.> LITERAL<1c>" },
      { "a.b.c.1d", "LITERAL<a> DOT<.> LITERAL<b> DOT<.> LITERAL<c> FLOAT<.1> LITERAL<d>" },
      { "a .1b", "LITERAL<a> FLOAT<.1> LITERAL<b>" },
      { "a. 1b", "LITERAL<a> DOT<.> LITERAL<1b>" },
      { "1e5.a", "LITERAL<1e5> DOT<.> LITERAL<a>" },
      { "1.a", "INTEGER<1> DOT<.> LITERAL<a>" },
    }
  end)

  it("takes a word directly in front of ( for a function", function()
    each {
      { "f(", "FUNCTION<f> OBRACE<(>" },
      { "a.b(", "LITERAL<a> DOT<.> FUNCTION<b> OBRACE<(>" },
      { "a.b.c(", "LITERAL<a> DOT<.> LITERAL<b> DOT<.> FUNCTION<c> OBRACE<(>" },
      { "in(", "FUNCTION<in> OBRACE<(>" },
      { "if(", "FUNCTION<if> OBRACE<(>" },
      { "values(", "FUNCTION<values> OBRACE<(>" },
      { "REPLACE(", "FUNCTION<REPLACE> OBRACE<(>" },
      { "in (", "SQL_IN<in> OBRACE<(>" },
      { "in\n(", "SQL_IN<in> OBRACE<(>" },
      { "in/**/(", "SQL_IN<in> COMMENT<> OBRACE<(>" },
      { "count (*)", "LITERAL<count> OBRACE<(> STAR<*> CBRACE<)>" },
      { "5abc(", "FUNCTION<5abc> OBRACE<(>" },
      { "1e5(", "FUNCTION<1e5> OBRACE<(>" },
      { "@f(", "FUNCTION<@f> OBRACE<(>" },
      { "a.(", "LITERAL<a> DOT<.> OBRACE<(>" },
      { "1(", "INTEGER<1> OBRACE<(>" },
    }
  end)

  it("knows numbers", function()
    each {
      { "1", "INTEGER<1>" },
      { "007", "INTEGER<007>" },
      { "99999999999999999999999", "INTEGER<99999999999999999999999>" },
      { "1.5", "FLOAT<1.5>" },
      { ".5", "FLOAT<.5>" },
      { "1.", "INTEGER<1> DOT<.>" },
      { "1.5.6", "FLOAT<1.5> FLOAT<.6>" },
      { "1..5", "INTEGER<1> DOT<.> FLOAT<.5>" },
      { "-5", "MINUS<-> INTEGER<5>" },
      { "+.5", "PLUS<+> FLOAT<.5>" },
      { "1.5a", "FLOAT<1.5> LITERAL<a>" },
    }
  end)

  it("knows numbers with an exponent", function()
    each {
      { "1e5", "FLOAT<1e5>" },
      { "1E5", "FLOAT<1E5>" },
      { "1.5e+3", "FLOAT<1.5e+3>" },
      { ".5e3", "FLOAT<.5e3>" },
      { "5e-3", "FLOAT<5e-3>" },
      { "1e", "LITERAL<1e>" },
      { "5e - 3", "LITERAL<5e> MINUS<-> INTEGER<3>" },
      { "5e-", "LITERAL<5e> MINUS<->" },
      { "5e-a", "LITERAL<5e> MINUS<-> LITERAL<a>" },
      { "1.1e", "FLOAT<1.1> LITERAL<e>" },
      { "1.1e-", "FLOAT<1.1> LITERAL<e> MINUS<->" },
      { "1e5x", "LITERAL<1e5x>" },
      { "1e5.6", "FLOAT<1e5> FLOAT<.6>" },
      { "1.5e3x", "FLOAT<1.5e3> LITERAL<x>" },
      { "5e-3x", "FLOAT<5e-3> LITERAL<x>" },
      { "1.e5", "INTEGER<1> DOT<.> LITERAL<e5>" },
      { "1e5e5", "LITERAL<1e5e5>" },
    }
  end)

  it("knows variables and accounts", function()
    each {
      { "@x", "LITERAL<@x>" },
      { "@@global.y", "LITERAL<@@global> DOT<.> LITERAL<y>" },
      { "@@y", "LITERAL<@@y>" },
      { "user@host", "LITERAL<user@host>" },
      { "@`q`", "LITERAL<@> LITERAL<q>" },
      { "@'q'", "LITERAL<@> STRING<q>" },
      { "@", "LITERAL<@>" },
    }
  end)

  it("knows signs", function()
    each {
      { "<=>", "LE<<=> GT<>>" },
      { "<<", "LT<<> LT<<>" },
      { ">>", "GT<>> GT<>>" },
      { "<>", "NE<<>>" },
      { "!=", "NE<!=>" },
      { "a:=1", "LITERAL<a> ASSIGN<:=> INTEGER<1>" },
      { "a=b", "LITERAL<a> EQ<=> LITERAL<b>" },
      { "&&&", "LOGICAL_AND<&&> BITWISE_AND<&>" },
      { "|||", "LOGICAL_OR<||> BITWISE_OR<|>" },
      { "^", "BITWISE_XOR<^>" },
      { "();,", "OBRACE<(> CBRACE<)> SEMICOLON<;> COMMA<,>" },
      { ".*+-/", "DOT<.> STAR<*> PLUS<+> MINUS<-> DIV</>" },
      { "a>=b", "LITERAL<a> GE<>=> LITERAL<b>" },
    }
  end)

  it("gives every other byte alone", function()
    local known = "'\"`"
    for code = 0, 255 do
      local byte = string.char(code)
      if byte:find "[%%?!~$%[%]{}:\\#%z]" or code < 9 or code > 13 and code < 32 or code >= 127 then
        assert.equal("UNKNOWN<" .. byte .. "> UNKNOWN<" .. byte .. ">", scan(byte .. byte))
      elseif not byte:find "%s" and not known:find(byte, 1, true) then
        assert.is_nil(scan(byte):find "UNKNOWN")
      end
    end
  end)

  it("reads on behind a NUL", function()
    each {
      { "a\0b", "LITERAL<a> UNKNOWN<\0> LITERAL<b>" },
      { "'a\0b''c'", "STRING<a\0b'c>" },
      { "'a\\\0'", "STRING<a\\\0>" },
      { "`a\0`", "LITERAL<a\0>" },
      { "/* \0 */a", "COMMENT< \0 > LITERAL<a>" },
      { "-- \0\na", "COMMENT<\0> LITERAL<a>" },
      { "--\0", "MINUS<-> MINUS<-> UNKNOWN<\0>" },
      { "1.\0", "INTEGER<1> DOT<.> UNKNOWN<\0>" },
      { "a.\0b", "LITERAL<a> DOT<.> UNKNOWN<\0> LITERAL<b>" },
      { "<\0", "LT<<> UNKNOWN<\0>" },
      { " \0", "UNKNOWN<\0>" },
    }
  end)

  it("follows the rules with any text", function()
    local pieces = {
      "a", "b1", "1", "12", ".", ".5", "e", "E5", "1e5", "5e-3", "+", "-", "--", "-- ", "--\t", "--\n", "--\r\n", "\n",
      "\r", "/*", "*/", "/*!", "*", "/", "'", "''", '"', '""', "`", "``", "\\", "\\'", "(", ")", "@", "@@g", "<",
      "=", ">", "!", ":", "&", "|", "^", "%", "\0", "\195", "select", "SELECT", "in", "start ", "transaction", "commit",
      "_", "0x1F", ",", ";", "#", " ", " ",
    }
    local seed = 1
    local function random(limit)
      seed = (seed * 16807) % 2147483647
      return seed % limit + 1
    end
    for _ = 1, 10000 do
      local text = {}
      for i = 1, random(10) do
        text[i] = pieces[random(#pieces)]
      end
      follows_rules(table.concat(text))
    end
  end)

  it("takes time in proportion to the text", function()
    for unit, count in pairs {
      ["'"] = 1, ['"'] = 1, ["`"] = 1, ["/* "] = 1, ["/*"] = math.ceil(2 * MB / 3), ["/*!"] = 1, ["*"] = MB,
      ["/*a*/"] = MB, ["-- "] = 1, ["-"] = MB, ["'\""] = math.ceil(2 * MB / 3), ["\\"] = MB, ["'\\"] = 1, ["1"] = 1,
      ["a"] = 1, ["1e"] = 1, ["1."] = MB,
      ["a."] = 2 * MB, ["a.1 "] = 2 * MB, ["5e- "] = 2 * MB, ["@"] = 1, ["("] = MB, ["f("] = 2 * MB, ["\0"] = MB,
      ["\255"] = MB, [" "] = 0, ["\n--"] = MB + 1, [":"] = MB,
    } do
      local sql = unit:rep(MB)
      local begin = os.clock()
      local tokens = tokenizer.tokenize(sql)
      local form = tokenizer.normalize(sql)
      local seconds = os.clock() - begin
      assert.equal(count, #tokens, unit)
      assert.equal(form, tokenizer.normalize(tokens))
      assert.is_true(seconds < 2, ("%g s for 1 MB of %s"):format(seconds, unit))
    end
  end)
end)
