local mysql_tokenizer = require "mysql.tokenizer"
local tokenizer = require "proxy.tokenizer"

-- An array of the tokens, as scripts make them.
local function array_of(sql)
  local tokens, array = tokenizer.tokenize(sql), {}
  for i = 1, #tokens do
    array[i] = tokens[i]
  end
  return array
end

-- Runs f with the tokens as a stream and as an array.
local function with_both(sql, f)
  f(tokenizer.tokenize(sql))
  f(array_of(sql))
end

describe("proxy.tokenizer", function()
  it("is a table, and leaves globals as they are", function()
    local before = {}
    for name, value in pairs(_G) do
      before[name] = value
    end
    local proxy = rawget(_G, "proxy")
    package.loaded["proxy.tokenizer"] = nil
    local loaded = require "proxy.tokenizer"
    assert.is_table(loaded)
    assert.is_function(loaded.tokenize)
    assert.equal(proxy, rawget(_G, "proxy"))
    for name, value in pairs(_G) do
      assert.equal(before[name], value, name)
    end
  end)

  it("keeps the table proxy of a script", function()
    local proxy = { queries = {} }
    rawset(_G, "proxy", proxy)
    package.loaded["proxy.tokenizer"] = nil
    local ok, loaded = pcall(require, "proxy.tokenizer")
    local after = rawget(_G, "proxy")
    rawset(_G, "proxy", nil)
    assert.is_true(ok)
    assert.equal(proxy, after)
    assert.same({ queries = {} }, proxy)
    assert.equal("SELECT ? ", loaded.normalize(loaded.tokenize "select 1"))
  end)

  describe("tokenize, normalize", function()
    it("are those of mysql.tokenizer", function()
      local tokens = tokenizer.tokenize("select 1")
      assert.equal("TK_SQL_SELECT", tokens[1].token_name)
      assert.equal(tostring(mysql_tokenizer.tokenize "select 1"), tostring(tokens))
      assert.equal("SELECT ? ", tokenizer.normalize(tokens))
      assert.equal("SELECT ? ", tokenizer.normalize(array_of "select 1"))
    end)
  end)

  describe("first_stmt_token", function()
    it("gives the first token that is no comment", function()
      with_both("/* a */ -- b\nselect 1", function(tokens)
        local token = tokenizer.first_stmt_token(tokens)
        assert.equal("TK_SQL_SELECT", token.token_name)
        assert.equal("select", token.text)
      end)
    end)

    it("gives one of MySQL's comments", function()
      with_both("/* a */ /*! b */ select 1", function(tokens)
        local token = tokenizer.first_stmt_token(tokens)
        assert.equal("TK_COMMENT_MYSQL", token.token_name)
        assert.equal(" b ", token.text)
      end)
    end)

    it("gives nil without one", function()
      for _, sql in ipairs { "", "  ", "/* a */", "/* a */ -- b" } do
        with_both(sql, function(tokens)
          assert.is_nil(tokenizer.first_stmt_token(tokens))
        end)
      end
    end)

    it("passes over what was set to nil", function()
      local tokens = tokenizer.tokenize("select 1")
      tokens[1] = nil
      assert.equal("1", tokenizer.first_stmt_token(tokens).text)
      tokens[2] = nil
      assert.is_nil(tokenizer.first_stmt_token(tokens))
    end)
  end)

  describe("bare_tokens", function()
    it("gives the texts without the comments", function()
      with_both("/* a */ select 'b', `c` /*! d */ from e -- f", function(tokens)
        assert.same({ "select", "b", ",", "c", " d ", "from", "e" }, tokenizer.bare_tokens(tokens))
        assert.same({ "select", "b", ",", "c", " d ", "from", "e" }, tokenizer.bare_tokens(tokens, false))
      end)
    end)

    it("quotes strings if asked to", function()
      with_both([[set a = 'b"c\'', @b = `d`, c = "e" ]], function(tokens)
        assert.same({ "set", "a", "=", [["b\"c\\'"]], ",", "@b", "=", "d", ",", "c", "=", '"e"' },
          tokenizer.bare_tokens(tokens, true))
      end)
    end)

    it("passes over what was set to nil", function()
      local tokens = tokenizer.tokenize("select 1 from t")
      tokens[2] = nil
      assert.same({ "select", "from", "t" }, tokenizer.bare_tokens(tokens))
    end)

    it("gives nothing of nothing", function()
      with_both("", function(tokens)
        assert.same({}, tokenizer.bare_tokens(tokens))
      end)
    end)

    it("gives nothing of the texts of tokens_without_comments", function()
      local tokens = tokenizer.tokenize("select 'a' /* b */ from t")
      local texts = tokenizer.tokens_without_comments(tokens)
      assert.same({}, tokenizer.bare_tokens(texts))
      assert.same({}, tokenizer.bare_tokens(texts, true))
    end)
  end)

  describe("tokens_without_comments", function()
    it("gives texts", function()
      with_both("/* a */ select 'b', `c` /*! d */ from e -- f", function(tokens)
        assert.same({ "select", "b", ",", "c", " d ", "from", "e" }, tokenizer.tokens_without_comments(tokens))
      end)
    end)
  end)

  describe("tokens_to_query", function()
    it("makes the statement of the historical test", function()
      with_both("select count(*) from information_schema.tables where table_schema='mysql'", function(tokens)
        assert.equal('select count( * ) from information_schema . tables where table_schema = "mysql" ',
          tokenizer.tokens_to_query(tokens))
      end)
    end)

    it("leaves comments out, and takes the delimiters from MySQL's", function()
      with_both("/* a */ select /*!50000 b */ c -- d", function(tokens)
        assert.equal("select 50000 b  c ", tokenizer.tokens_to_query(tokens))
      end)
    end)

    it("puts strings in double quotes, and names in none", function()
      with_both([[select 'a"b', 'c\'d', `e f`, 1.5]], function(tokens)
        assert.equal([[select "a\"b" , "c\\'d" , e f , 1.5 ]], tokenizer.tokens_to_query(tokens))
      end)
    end)

    it("keeps to its bounds", function()
      with_both("select f(1) from t", function(tokens)
        assert.equal("f( 1 ) from t ", tokenizer.tokens_to_query(tokens, 2))
        assert.equal("f( 1 ) ", tokenizer.tokens_to_query(tokens, 2, 5))
        assert.equal("select f", tokenizer.tokens_to_query(tokens, nil, 2))
        assert.equal("t ", tokenizer.tokens_to_query(tokens, 7, 7))
        assert.equal("t ", tokenizer.tokens_to_query(tokens, 7, 1e15))
        assert.equal("select ", tokenizer.tokens_to_query(tokens, -1, 1))
        assert.equal("", tokenizer.tokens_to_query(tokens, 3, 2))
        assert.equal("f( ", tokenizer.tokens_to_query(tokens, "2", "3"))
      end)
    end)

    it("passes over what was set to nil", function()
      local tokens = tokenizer.tokenize("select a, b")
      tokens[2], tokens[3] = nil, nil
      assert.equal("select b ", tokenizer.tokens_to_query(tokens))
    end)
  end)
end)
