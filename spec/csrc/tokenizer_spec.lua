local tokenizer = require "mysql.tokenizer"

-- The tokens of a text as "LITERAL<a> DOT<.>".
local function scan(sql)
  local tokens, found = tokenizer.tokenize(sql), {}
  for i = 1, #tokens do
    found[i] = tokens[i].token_name:gsub("^TK_", "") .. "<" .. tokens[i].text .. ">"
  end
  return table.concat(found, " ")
end

local function raises(message, f, ...)
  local ok, found = pcall(f, ...)
  assert.is_false(ok)
  assert.matches(message, found, 1, true)
end

local OTHERS = {
  [0] = "UNKNOWN", "LE", "GE", "LT", "GT", "EQ", "NE", "STRING", "COMMENT", "LITERAL", "FUNCTION", "INTEGER", "FLOAT",
  "DOT", "COMMA", "ASSIGN", "OBRACE", "CBRACE", "SEMICOLON", "STAR", "PLUS", "MINUS", "DIV", "BITWISE_AND",
  "BITWISE_OR", "BITWISE_XOR", "LOGICAL_AND", "LOGICAL_OR", [261] = "COMMENT_MYSQL",
}

local KEYWORDS = [[
    28 ACCESSIBLE, 29 ACTION, 30 ADD, 31 ALL, 32 ALTER, 33 ANALYZE, 34 AND, 35 AS, 36 ASC, 37 ASENSITIVE, 38 BEFORE,
    39 BETWEEN, 40 BIGINT, 41 BINARY, 42 BIT, 43 BLOB, 44 BOTH, 45 BY, 46 CALL, 47 CASCADE, 48 CASE, 49 CHANGE,
    50 CHAR, 51 CHARACTER, 52 CHECK, 53 COLLATE, 54 COLUMN, 55 CONDITION, 56 CONSTRAINT, 57 CONTINUE, 58 CONVERT,
    59 CREATE, 60 CROSS, 61 CURRENT_DATE, 62 CURRENT_TIME, 63 CURRENT_TIMESTAMP, 64 CURRENT_USER, 65 CURSOR,
    66 DATABASE, 67 DATABASES, 68 DATE, 69 DAY_HOUR, 70 DAY_MICROSECOND, 71 DAY_MINUTE, 72 DAY_SECOND, 73 DEC,
    74 DECIMAL, 75 DECLARE, 76 DEFAULT, 77 DELAYED, 78 DELETE, 79 DESC, 80 DESCRIBE, 81 DETERMINISTIC, 82 DISTINCT,
    83 DISTINCTROW, 84 DIV, 85 DOUBLE, 86 DROP, 87 DUAL, 88 EACH, 89 ELSE, 90 ELSEIF, 91 ENCLOSED, 92 ENUM,
    93 ESCAPED, 94 EXISTS, 95 EXIT, 96 EXPLAIN, 97 FALSE, 98 FETCH, 99 FLOAT, 100 FLOAT4, 101 FLOAT8, 102 FOR,
    103 FORCE, 104 FOREIGN, 105 FROM, 106 FULLTEXT, 107 GRANT, 108 GROUP, 109 HAVING, 110 HIGH_PRIORITY,
    111 HOUR_MICROSECOND, 112 HOUR_MINUTE, 113 HOUR_SECOND, 114 IF, 115 IGNORE, 116 IN, 117 INDEX, 118 INFILE,
    119 INNER, 120 INOUT, 121 INSENSITIVE, 122 INSERT, 123 INT, 124 INT1, 125 INT2, 126 INT3, 127 INT4, 128 INT8,
    129 INTEGER, 130 INTERVAL, 131 INTO, 132 IS, 133 ITERATE, 134 JOIN, 135 KEY, 136 KEYS, 137 KILL, 138 LEADING,
    139 LEAVE, 140 LEFT, 141 LIKE, 142 LIMIT, 143 LINEAR, 144 LINES, 145 LOAD, 146 LOCALTIME, 147 LOCALTIMESTAMP,
    148 LOCK, 149 LONG, 150 LONGBLOB, 151 LONGTEXT, 152 LOOP, 153 LOW_PRIORITY, 154 MASTER_SSL_VERIFY_SERVER_CERT,
    155 MATCH, 156 MEDIUMBLOB, 157 MEDIUMINT, 158 MEDIUMTEXT, 159 MIDDLEINT, 160 MINUTE_MICROSECOND,
    161 MINUTE_SECOND, 162 MOD, 163 MODIFIES, 164 NATURAL, 165 NO, 166 NOT, 167 NO_WRITE_TO_BINLOG, 168 NULL,
    169 NUMERIC, 170 ON, 171 OPTIMIZE, 172 OPTION, 173 OPTIONALLY, 174 OR, 175 ORDER, 176 OUT, 177 OUTER,
    178 OUTFILE, 179 PRECISION, 180 PRIMARY, 181 PROCEDURE, 182 PURGE, 183 RANGE, 184 READ, 185 READ_ONLY, 186 READS,
    187 READ_WRITE, 188 REAL, 189 REFERENCES, 190 REGEXP, 191 RELEASE, 192 RENAME, 193 REPEAT, 194 REPLACE,
    195 REQUIRE, 196 RESTRICT, 197 RETURN, 198 REVOKE, 199 RIGHT, 200 RLIKE, 201 SCHEMA, 202 SCHEMAS,
    203 SECOND_MICROSECOND, 204 SELECT, 205 SENSITIVE, 206 SEPARATOR, 207 SET, 208 SHOW, 209 SMALLINT, 210 SPATIAL,
    211 SPECIFIC, 212 SQL, 213 SQL_BIG_RESULT, 214 SQL_CALC_FOUND_ROWS, 215 SQLEXCEPTION, 216 SQL_SMALL_RESULT,
    217 SQLSTATE, 218 SQLWARNING, 219 SSL, 220 STARTING, 221 STRAIGHT_JOIN, 222 TABLE, 223 TERMINATED, 224 TEXT,
    225 THEN, 226 TIME, 227 TIMESTAMP, 228 TINYBLOB, 229 TINYINT, 230 TINYTEXT, 231 TO, 232 TRAILING, 233 TRIGGER,
    234 TRUE, 235 UNDO, 236 UNION, 237 UNIQUE, 238 UNLOCK, 239 UNSIGNED, 240 UPDATE, 241 USAGE, 242 USE, 243 USING,
    244 UTC_DATE, 245 UTC_TIME, 246 UTC_TIMESTAMP, 247 VALUES, 248 VARBINARY, 249 VARCHAR, 250 VARCHARACTER,
    251 VARYING, 252 WHEN, 253 WHERE, 254 WHILE, 255 WITH, 256 WRITE, 257 X509, 258 XOR, 259 YEAR_MONTH,
    260 ZEROFILL
]]

describe("mysql.tokenizer", function()
  describe("a stream", function()
    it("has a length and tokens from 1 on", function()
      local tokens = tokenizer.tokenize("SELECT id FROM t")
      assert.equal(4, #tokens)
      assert.equal("SELECT", tokens[1].text)
      assert.equal("t", tokens[4].text)
      assert.equal(0, #tokenizer.tokenize(""))
      assert.equal(0, #tokenizer.tokenize(" \n"))
    end)

    it("gives nothing out of range", function()
      local tokens = tokenizer.tokenize("SELECT 1")
      for _, index in ipairs { 0, -1, 3, 2 ^ 31, 2 ^ 53, -2 ^ 53, math.huge, -math.huge, 0 / 0 } do
        assert.is_nil(tokens[index])
      end
      assert.is_nil(tokenizer.tokenize("")[1])
    end)

    it("takes what is a number to Lua", function()
      local tokens = tokenizer.tokenize("SELECT 1")
      assert.equal("1", tokens["2"].text)
      assert.equal("SELECT", tokens[1.5].text)
    end)

    it("takes no other key", function()
      local tokens = tokenizer.tokenize("SELECT 1")
      for _, key in ipairs { "text", "n", true, {} } do
        raises("tokens[...] takes a number", function()
          return tokens[key]
        end)
        raises("tokens[...] takes a number", function()
          tokens[key] = nil
        end)
      end
    end)

    it("frees an entry that is set to nil", function()
      local tokens = tokenizer.tokenize("SELECT id FROM t")
      local freed = setmetatable({ tokens[2], tokens[4] }, { __mode = "v" })
      tokens[2] = nil
      tokens[3] = nil
      tokens[3] = nil
      assert.equal(4, #tokens)
      assert.equal("SELECT", tokens[1].text)
      assert.is_nil(tokens[2])
      assert.is_nil(tokens[3])
      assert.equal("t", tokens[4].text)
      collectgarbage()
      assert.is_nil(freed[1])
    end)

    it("has nothing to free out of range", function()
      local tokens = tokenizer.tokenize("SELECT 1")
      tokens[0], tokens[3], tokens[2 ^ 53] = nil, nil, nil
      assert.equal("SELECT", tokens[1].text)
      assert.equal("1", tokens[2].text)
    end)

    it("cannot be assigned anything else", function()
      local tokens = tokenizer.tokenize("SELECT 1")
      for _, index in ipairs { 1, 2, 3 } do
        for _, value in ipairs { "x", 1, false, {}, tokens[1] } do
          raises("tokens[...] can only be set to nil", function()
            tokens[index] = value
          end)
        end
      end
      assert.equal("SELECT", tokens[1].text)
    end)

    it("says what it is", function()
      assert.equal("mysql.tokenizer.tokens (2)", tostring(tokenizer.tokenize("SELECT 1")))
    end)

    it("outlives its text, and its tokens outlive it", function()
      local tokens = tokenizer.tokenize(("SELECT "):rep(3) .. os.time() .. " '" .. ("x''"):rep(100) .. "'")
      collectgarbage()
      for i = 1, 1000 do
        assert.equal(i, #("y"):rep(i)) -- strings that take the place of what was freed
      end
      assert.equal("SELECT", tokens[3].text)
      local string = tokens[5]
      tokens = nil -- luacheck: ignore 311
      collectgarbage()
      assert.equal(("x'"):rep(100), string.text)
      assert.equal(7, string.token_id)
    end)

    it("is freed", function()
      local function kb_of(count)
        for _ = 1, count do
          local tokens = tokenizer.tokenize(("SELECT 1, "):rep(1000))
          assert.equal(3000, #tokens)
          assert.equal("1", tokens[3 * 999 + 2].text)
        end
        collectgarbage()
        collectgarbage()
        return collectgarbage "count"
      end
      local before = kb_of(10)
      assert.is_true(kb_of(200) < before + 100)
    end)

    it("may be long", function()
      local tokens = tokenizer.tokenize(("(a, 'b''c'),"):rep(20000))
      assert.equal(120000, #tokens)
      for i = 1, #tokens, 6 * 1111 do
        assert.equal("a", tokens[i + 1].text)
        assert.equal("b'c", tokens[i + 3].text)
      end
      tokens[119999] = nil
      assert.is_nil(tokens[119999])
      assert.equal(",", tokens[120000].text)
      assert.is_nil(tokens[120001])
    end)

    it("is the only thing its functions take", function()
      local metatable = getmetatable(tokenizer.tokenize "")
      for _, name in ipairs { "__index", "__len", "__tostring", "__newindex" } do
        for _, value in ipairs { {}, "SELECT", 1, io.stdout } do
          raises("mysql.tokenizer.tokens expected", metatable[name], value, 1)
        end
        raises("mysql.tokenizer.tokens expected", metatable[name])
      end
    end)

    it("is made of a string only", function()
      for _, value in ipairs { 1, true, {}, print, tokenizer.tokenize "" } do
        raises("string expected", tokenizer.tokenize, value)
      end
      raises("string expected", tokenizer.tokenize)
      raises("string expected", tokenizer.tokenize, nil)
    end)
  end)

  describe("a token", function()
    it("has a text, an id, a name", function()
      local token = tokenizer.tokenize("select 1")[1]
      assert.equal("select", token.text)
      assert.equal(204, token.token_id)
      assert.equal("TK_SQL_SELECT", token.token_name)
      assert.equal(token.text, token["text"])
    end)

    it("has no other field", function()
      local token = tokenizer.tokenize("select 1")[1]
      for _, key in ipairs { "token", "Text", "token_text", 1 } do
        raises("tokens[...] has no " .. key .. " field", function()
          return token[key]
        end)
      end
      raises("tokens[...] has no boolean field", function()
        return token[true]
      end)
    end)

    it("cannot be changed", function()
      local token = tokenizer.tokenize("select 1")[1]
      assert.is_false(pcall(function()
        token.text = "x"
      end))
      assert.equal("select", token.text)
    end)

    it("is the only thing its function takes", function()
      local tokens = tokenizer.tokenize("select 1")
      local index = getmetatable(tokens[1]).__index
      for _, value in ipairs { {}, "select", 1, io.stdout, tokens } do
        raises("mysql.tokenizer.token expected", index, value, "text")
      end
    end)
  end)

  describe("ids and names", function()
    it("are those of the keywords, in any case", function()
      local id = 27
      for number, word in KEYWORDS:gmatch "(%d+) ([%w_]+)" do
        id = id + 1
        assert.equal(id, tonumber(number))
        for _, text in ipairs { word, word:lower(), word:sub(1, 1) .. word:sub(2):lower() } do
          local tokens = tokenizer.tokenize(text)
          assert.equal(1, #tokens)
          assert.equal(text, tokens[1].text)
          assert.equal(id, tokens[1].token_id)
          assert.equal("TK_SQL_" .. word, tokens[1].token_name)
        end
      end
      assert.equal(260, id)
    end)

    it("are not those of a keyword with a letter more or less", function()
      local known = {}
      for word in KEYWORDS:gmatch "%d ([%w_]+)" do
        known[word] = true
      end
      for word in pairs(known) do
        for _, text in ipairs { word .. "x", "x" .. word, word:sub(1, -2), word:sub(2), word .. "_", word .. "1" } do
          if text:find "^[%a_]" and not known[text:upper()] then
            assert.equal("LITERAL<" .. text .. ">", scan(text))
          end
        end
      end
    end)

    it("are those of the signs and kinds", function()
      local tokens = tokenizer.tokenize "<= >= < > = <> 'a' /* */ a f() 1 1.5 . , := ; * + - / & | ^ && || % /*! */"
      local found = {}
      for i = 1, #tokens do
        found[tokens[i].token_id] = tokens[i].token_name:match "^TK_(.*)"
      end
      assert.same(OTHERS, found)
    end)

    it("are a literal's for words that are no keywords", function()
      for _, word in ipairs {
        "COMMIT", "ROLLBACK", "BEGIN", "START", "TRANSACTION", "SAVEPOINT", "TRUNCATE", "GLOBAL", "SESSION", "TABLES",
        "ENGINE", "COUNT", "NOW", "END", "foo", "_", "a", "zerofill2",
      } do
        assert.equal("LITERAL<" .. word .. ">", scan(word))
      end
    end)
  end)
end)
