local tokenizer = require "mysql.tokenizer"

local function raises(message, f, ...)
  local ok, found = pcall(f, ...)
  assert.is_false(ok)
  assert.matches(message, found, 1, true)
end

describe("mysql.tokenizer.normalize", function()
  local examples = {
    { "select 1", "SELECT ? " },
    { "select count(*) from mysql.user", "SELECT COUNT( * ) FROM `mysql` . `user` " },
    { "select now ()", "SELECT `now` ( ) " },
    { "create table t1 (id int) engine = myisam", "CREATE TABLE `t1` ( `id` INT ) `engine` = `myisam` " },
    { "/* comment */select /*! 1 */", "SELECT /*! 1 */ " },
    { "select /*!50000 1 + */ 1", "SELECT /*!50000 1 + */ ? " },
    { "SELECT @i := 1", "SELECT @i := ? " },
    { "COMMIT", "COMMIT " },
    { "start transaction", "START TRANSACTION " },
    { "START SLAVE", "START `SLAVE` " },
    { "begin work", "BEGIN `work` " },
    { "CREATE TABLE commit ( id int )", "CREATE TABLE `commit` ( `id` INT ) " },
    { "select -5, NULL, TRUE", "SELECT - ? , NULL , TRUE " },
    { "INSERT INTO t VALUES ('a',1),('b',2)", "INSERT INTO `t` VALUES ( ? , ? ) , ( ? , ? ) " },
    { "select 1 from t where a in(1) or b in (2)", "SELECT ? FROM `t` WHERE `a` IN( ? ) OR `b` IN ( ? ) " },
    { "SET GLOBAL x.y = 1", "SET `GLOBAL` `x` . `y` = ? " },
    { "call foo.bar(1)", "CALL `foo` . BAR( ? ) " },
    { "", "" },
    { "/* a */ -- b", "" },
    { "SELECT * FROM histogram.queries", "SELECT * FROM `histogram` . `queries` " },
    -- each kind of token
    { "a", "`a` " },
    { "Ab", "`Ab` " },
    { "`a``b`", "`a`b` " },
    { "``", "`` " },
    { "@x", "@x " },
    { "@@global.y", "@@global . `y` " },
    { "user@host", "`user@host` " },
    { "`@x`", "@x " },
    { "1 1.5 'a' \"b\" 5e-3", "? ? ? ? ? " },
    { "f (f(1))", "`f` ( F( ? ) ) " },
    { "a<=b", "`a` <= `b` " },
    { "a % \195", "`a` % \195 " },
    { "/*!50000 a", "/*!50000 a*/ " },
    { "rollback to a", "ROLLBACK TO `a` " },
    { "x.Select", "`x` . SELECT " },
    -- the words of transactions
    { "Rollback", "ROLLBACK " },
    { "/* a */ commit", "COMMIT " },
    { "`commit`", "COMMIT " },
    { "/*! a */ commit", "/*! a */ `commit` " },
    { "commit transaction", "COMMIT `transaction` " },
    { "start /* a */ transaction", "START TRANSACTION " },
    { "start a transaction", "START `a` `transaction` " },
    { "start; start transaction", "START ; `start` `transaction` " },
    { "transaction", "`transaction` " },
    { "start transaction transaction", "START TRANSACTION `transaction` " },
    { "commi", "`commi` " },
    { "commits", "`commits` " },
    { "`commit\0`", "`commit\0` " },
    { "`commit `", "`commit ` " },
    { "`c``ommit`", "`c`ommit` " },
    { "begin", "BEGIN " },
    { "begin(", "BEGIN( " },
  }

  it("gives the examples of the reference", function()
    for _, example in ipairs(examples) do
      assert.equal(example[2], tokenizer.normalize(tokenizer.tokenize(example[1])))
    end
  end)

  it("gives the same of the text itself, and of an array of tokens", function()
    for _, example in ipairs(examples) do
      local tokens, array, made = tokenizer.tokenize(example[1]), {}, {}
      for i = 1, #tokens do
        array[i] = tokens[i]
        made[i] = { token_name = tokens[i].token_name, text = tokens[i].text }
      end
      assert.equal(example[2], tokenizer.normalize(example[1]))
      assert.equal(example[2], tokenizer.normalize(array))
      assert.equal(example[2], tokenizer.normalize(made))
    end
  end)

  it("passes over what was set to nil", function()
    local tokens = tokenizer.tokenize("start fast transaction")
    tokens[2] = nil
    assert.equal("START TRANSACTION ", tokenizer.normalize(tokens))
    tokens[1] = nil
    assert.equal("`transaction` ", tokenizer.normalize(tokens))
    tokens[3] = nil
    assert.equal("", tokenizer.normalize(tokens))
    tokens = tokenizer.tokenize("select 1 from t")
    local array = { tokens[1], tokens[2], tokens[3], tokens[4] }
    array[2] = nil
    assert.equal("SELECT FROM `t` ", tokenizer.normalize(array))
  end)

  it("gives a form of any length", function()
    for _, length in ipairs { 1364, 1365, 1366, 2047, 2048, 4090, 4095, 4096, 4097, 10000, 100000 } do
      assert.equal(("`a` "):rep(length), tokenizer.normalize(("a "):rep(length)))
      assert.equal(("A"):rep(length) .. "( ", tokenizer.normalize(("a"):rep(length) .. "("))
      assert.equal("/*!" .. ("a"):rep(length) .. "*/ ", tokenizer.normalize("/*!" .. ("a"):rep(length)))
      assert.equal("`" .. ("a`"):rep(length) .. "` ", tokenizer.normalize("`" .. ("a``"):rep(length) .. "`"))
      assert.equal("? ", tokenizer.normalize("'" .. ("a"):rep(length) .. "'"))
    end
  end)

  it("takes nothing else", function()
    for _, value in ipairs { 1, true, print, io.stdout } do
      raises("tokens or string expected", tokenizer.normalize, value)
    end
    raises("tokens or string expected", tokenizer.normalize)
    for _, array in ipairs {
      { io.stdout }, { "select" }, { 1 }, { {} }, { { text = "a" } }, { { token_name = "TK_LITERAL" } },
    } do
      raises("bad argument #1", tokenizer.normalize, array)
    end
  end)
end)
