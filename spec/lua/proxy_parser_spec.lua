-- The global `proxy` is a mock here: what counts is what the functions read of it.

local parser = require "proxy.parser"
local tokenizer = require "proxy.tokenizer"

describe("proxy.parser", function()
  local before, printed

  before_each(function()
    printed = {}
    stub(_G, "print", function(line)
      printed[#printed + 1] = line
    end)
    before = rawget(_G, "proxy")
    rawset(_G, "proxy", { connection = { client = { default_db = "d" } } })
  end)

  after_each(function()
    _G.print:revert()
    rawset(_G, "proxy", before)
  end)

  describe("tablename_expand", function()
    it("prepends the client's default database", function()
      assert.equal("d.t", parser.tablename_expand("t"))
      _G.proxy.connection.client.default_db = ""
      assert.equal(".t", parser.tablename_expand("t"))
      _G.proxy.connection.client.default_db = nil
      assert.equal("t", parser.tablename_expand("t"))
    end)

    it("prepends the database it is given", function()
      assert.equal("x.t", parser.tablename_expand("t", "x"))
      assert.equal(".t", parser.tablename_expand("t", ""))
    end)
  end)

  local function tables_of(sql)
    return parser.get_tables(tokenizer.tokenize(sql))
  end

  -- "r:NAME w:NAME" for what is expected.
  local function expect(sql, expected)
    local tables = {}
    for kind, name in expected:gmatch("(%a):(%S+)") do
      tables[name] = kind == "r" and "read" or "write"
    end
    assert.same(tables, tables_of(sql), sql)
  end

  describe("get_tables", function()
    for sql, expected in pairs {
      ["select 1 from a x, b AS y"] = "r:d.a r:d.b",
      ["select * from db.t"] = "r:db.t",
      ["delete from t where 1"] = "w:d.t",
      ["create table t (id int)"] = "w:d.t",
      ["show tables"] = "",
      ["replace into t values (1)"] = "",
      ["SELECT 1"] = "",
      [""] = "",
      ["/* only */"] = "",
      -- lists and joins
      ["select 1 from a, b AS x, db.c"] = "r:d.a r:d.b r:db.c",
      ["select * from a join b"] = "r:d.a r:d.b",
      ["select * from a left outer join x.b on a.id=b.id, c"] = "r:d.a r:x.b r:d.c",
      ["select * from a inner join b using (id) natural join c"] = "r:d.a r:d.b r:d.c",
      ["select * from a join b using(id) join c on(a.x = b.y)"] = "r:d.a r:d.b r:d.c",
      ["select * from a straight_join b on a.id = b.id and a.x = if(b.y, 1, 2) cross join c"] = "r:d.a r:d.b r:d.c",
      ["select * from (a, b) join (c as x join e on x.i = e.i)"] = "r:d.a r:d.b r:d.c r:d.e",
      ["select * from a use index (i, j), b force index for join (k), c ignore key for order by (l)"]
        = "r:d.a r:d.b r:d.c",
      ["select * from `select`.`from` as `x`"] = "r:select.from",
      ["select a.b, c.d from t"] = "r:d.t",
      -- ends
      ["select 1 from a where b, c"] = "r:d.a",
      ["select 1 from a group by b, c"] = "r:d.a",
      ["select 1 from a order by b, c"] = "r:d.a",
      ["select 1 from a limit 1, 2"] = "r:d.a",
      ["select 1 from a having b, c"] = "r:d.a",
      ["select 1 from a into @b, @c"] = "r:d.a",
      ["select 1 into @b from a"] = "r:d.a",
      ["select 1 from a for update"] = "r:d.a",
      ["select 1 from a for share of a, x"] = "r:d.a",
      ["select 1 from a lock in share mode"] = "r:d.a",
      -- sub-queries are ignored
      ["select (select 1 from x), extract(year from y) from a"] = "r:d.a",
      ["select * from (select * from x) as s, b"] = "r:d.b",
      ["select * from a where id in (select id from x)"] = "r:d.a",
      ["select * from a join (select 1 from x where (1)) s on a.i = s.i join b"] = "r:d.a r:d.b",
      ["select * from json_table('[]', '$') j, a"] = "r:d.a",
      -- UNION
      ["select 1, 2 from a union select 3, 4 from b"] = "r:d.a r:d.b",
      ["select 1 from a where x union all select x, y from b"] = "r:d.a r:d.b",
      ["(select 1 from a) union (select 2 from b) limit 1"] = "r:d.a r:d.b",
      ["(select 1 from a where 1) union all ((select 2 from b))"] = "r:d.a r:d.b",
      -- writing
      ["delete from x.t"] = "w:x.t",
      ["delete a from a join b on a.i = b.i where b.x"] = "w:d.a w:d.b",
      ["delete quick from a using a, x.b where a.i = b.i"] = "w:d.a w:x.b",
      ["insert into t values (1), (2)"] = "w:d.t",
      ["insert into x.t values (1)"] = "w:x.t",
      ["insert into t(a, b) values(1, 2)"] = "w:d.t",
      ["insert into x.t(a) values (1) on duplicate key update b = 1, c = 2"] = "w:x.t",
      ["insert low_priority ignore t set a = 1, b = 2"] = "w:d.t",
      ["insert into t (a, b) select a, b from s, x.u where 1"] = "w:d.t r:d.s r:x.u",
      ["insert into t select * from t"] = "w:d.t",
      ["update x.t set a = 1, b = 2 where c"] = "w:x.t",
      ["update t set a = 1"] = "w:d.t",
      ["update low_priority a, x.b as y set a.i = y.i"] = "w:d.a w:x.b",
      ["update a join b on a.i = b.i set a.i = 1"] = "w:d.a w:d.b",
      -- DDL
      ["create table x.t (id int, key (id))"] = "w:x.t",
      ["create temporary table if not exists t(id int, a int)"] = "w:d.t",
      ["create or replace table t (id int)"] = "w:d.t",
      ["create table t as select * from x.s"] = "w:d.t r:x.s",
      ["drop table if exists a, x.b cascade"] = "w:d.a w:x.b",
      ["alter table t add column a int, add b int, rename to u"] = "w:d.t",
      ["rename table a to x.b, c to e"] = "w:d.a w:x.b w:d.c w:d.e",
      ["create database x"] = "",
      ["create index i on t (a)"] = "",
      ["drop view v"] = "",
      ["alter user u"] = "",
      -- broken off
      ["select 1 from"] = "",
      ["select 1 from a."] = "r:d.a",
      ["select 1 from (a"] = "r:d.a",
      ["select 1 from (select 2 from x"] = "",
      ["select 1 from a as"] = "r:d.a",
      ["insert into"] = "",
      ["insert"] = "",
      ["drop table"] = "",
      ["("] = "",
      [")"] = "",
      -- several statements, comments
      ["select 1 from a; delete from b; select 2 from (c)"] = "r:d.a w:d.b r:d.c",
      ["/* x */ select /*! straight_join */ 1 -- from x\n from /* y */ a"] = "r:d.a",
    } do
      it(("knows that %s has %s"):format(sql, expected == "" and "none" or expected), function()
        expect(sql, expected)
      end)
    end

    it("takes each DDL statement for itself", function()
      for _ = 1, 2 do
        expect("drop table a", "w:d.a")
        expect("create table b (i int)", "w:d.b")
        expect("select 1 from c", "r:d.c")
      end
    end)

    it("prints what it has no use for in a list of tables", function()
      tables_of("select a, b from a x inner join b as y on a.i = 1 where z union all select 3 from c")
      assert.same({
        "(parser) unknown, found token: TK_LITERAL -> x",
        "(parser) unknown, found token: TK_SQL_INNER -> inner",
        "(parser) unknown, found token: TK_SQL_ON -> on",
        "(parser) unknown, found token: TK_LITERAL -> a",
        "(parser) unknown, found token: TK_DOT -> .",
        "(parser) unknown, found token: TK_LITERAL -> i",
        "(parser) unknown, found token: TK_EQ -> =",
        "(parser) unknown, found token: TK_INTEGER -> 1",
      }, printed)
      printed = {}
      tables_of("select 1 from a union select 2 from b")
      assert.same({ "(parser) unknown, found token: TK_SQL_UNION -> union" }, printed)
      printed = {}
      tables_of("select 1 from a, b AS x, db.c, (select 1 from x = 5) as y where a = 1")
      assert.same({}, printed)
    end)

    it("takes an array of tokens, and one that has been thinned out", function()
      local tokens = tokenizer.tokenize("select 1 from nowhere a")
      tokens[4] = nil
      assert.same({ ["d.a"] = "read" }, parser.get_tables(tokens))
      assert.same({ ["d.t"] = "write" }, parser.get_tables {
        { token_name = "TK_SQL_DELETE", text = "delete" }, { token_name = "TK_SQL_FROM", text = "from" },
        { token_name = "TK_LITERAL", text = "t" },
      })
    end)

    it("comes to an end whatever the tokens are", function()
      local words = {
        "select", "from", "a", ".", ",", "(", ")", "join", "as", "union", "insert", "into", "for", "update", "create",
        "table", ";", "using", "t(", "delete",
      }
      math.randomseed(1)
      for _ = 1, 3000 do
        local sql = {}
        for i = 1, math.random(12) do
          sql[i] = words[math.random(#words)]
        end
        tables_of(table.concat(sql, " "))
      end
    end)
  end)
end)
