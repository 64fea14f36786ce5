-- Scripts in the style of 2007 to 2010, a few hundred lines each, and what clients see of them.
-- They are in scripts/.

local uv = require "luv"

local process = require "spec.support.process"
local proto = require "mysql.proto"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local function script(name)
  return ("--proxy-lua-script=%s/spec/integration/scripts/%s.lua"):format(uv.cwd(), name)
end

local function append(list, ...)
  for _, more in ipairs { ... } do
    for _, item in ipairs(more) do
      list[#list + 1] = item
    end
  end
  return list
end

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name, function()
    local proxy, clients

    before_each(function()
      clients = {}
    end)

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      if proxy then
        local log = proxy:log()
        assert.equal(0, proxy:stop())
        proxy = nil
        assert.is_nil(log:match("%(critical%) [^\n]*session[^\n]*") or log:match("%(critical%) %([^\n]*"))
      end
    end)

    local function start(name, options, backends)
      proxy = proxies.start(backends or { server }, append({ script(name) }, options or {}))
    end

    local function login(user)
      local client = raw.connect(proxy.port):login(user or "nopass")
      clients[#clients + 1] = client
      return client
    end

    -- The rows that the server's own client prints, or its error.
    local function cli(sql, user, ...)
      local program, args = server:client()
      append(args, { "-N", "-B", "--delimiter=//" }, server.clear_text, server:login(proxy.port, user), { ... },
        { "-e", sql })
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    -- What a program for PyMySQL prints: `c` is a connection, `run` returns all rows of a statement.
    local function pymysql(program, user)
      local code, output, errors = process.run("/usr/bin/python3", { "-c", ([[
import pymysql
from pymysql.constants import CLIENT
def connect(**more):
    return pymysql.connect(**{"host": "127.0.0.1", "port": %d, "user": "%s", "password": "", "database": "test",
                              "autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS, **more})
c = connect()
def run(sql, arguments=None, c=c):
    with c.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())
]]):format(proxy.port, user or "nopass") .. program })
      assert.equal(0, code, errors)
      return output
    end

    -- COM_STMT_PREPARE of a statement without parameters: its id, or the error.
    local function prepare(client, sql)
      client:send("\22" .. sql)
      local first = client:packet()
      if first:byte() ~= 0 then
        return nil, proto.from_err_packet(first)
      end
      local ok = proto.from_stmt_prepare_ok_packet(first)
      for _ = 1, ok.num_columns > 0 and ok.num_columns + 1 or 0 do
        client:packet()
      end
      return ok.stmt_id
    end

    -- COM_STMT_EXECUTE: the payloads of its rows, or the OK or ERR.
    local function execute(client, id)
      client:send("\23" .. string.char(id, 0, 0, 0, 0, 1, 0, 0, 0))
      local payload, eofs, rows = client:packet(), 0, {}
      if payload:byte() == 0xff then
        return proto.from_err_packet(payload)
      elseif payload:byte() == 0 then
        return proto.from_ok_packet(payload)
      end
      repeat
        payload = client:packet()
        if payload:byte() == 0xfe and #payload < 9 then
          eofs = eofs + 1
        elseif eofs == 1 then
          rows[#rows + 1] = payload
        end
      until eofs == 2
      return rows
    end

    local function close_statement(client, id)
      client:send("\25" .. string.char(id, 0, 0, 0))
    end

    describe("statistics.lua", function()
      setup(function()
        server:sql("DROP TABLE IF EXISTS test.old; CREATE TABLE test.old (id INT PRIMARY KEY, name VARCHAR(20))")
      end)

      teardown(function()
        server:sql("DROP TABLE test.old")
      end)

      it("counts statements by their normalised form, and tables", function()
        start "statistics"
        local client = login()
        client:ask("INSERT INTO test.old VALUES (1, 'one'), (2, 'two')")
        client:ask("SELECT * FROM test.old WHERE id = 1")
        client:ask("select  *  from test.old where id = 2 /* again */")
        client:ask("SELECT * FROM test.old WHERE id = 3")
        client:ask("UPDATE test.old SET name = 'x'")
        assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
        local columns = "query, count, rows, bytes, affected_rows, errors, last_error"
        assert.same({
          { "INSERT INTO `test` . `old` VALUES ( ? , ? ) , ( ? , ? ) ", "1", "0", "0", "2", "0" },
          { "SELECT * FROM `test` . `nowhere` ", "1", "0", "0", "0", "1",
            client:ask("SELECT last_error FROM stats.queries WHERE errors > 0").rows[1][1] },
          { "SELECT * FROM `test` . `old` WHERE `id` = ? ", "3", "2", "20", "0", "0" },
          { "UPDATE `test` . `old` SET `name` = ? ", "1", "0", "0", "2", "0" },
        }, client:ask("SELECT " .. columns .. " FROM stats.queries ORDER BY query").rows)
        assert.matches("^1146 %(42S02%): .*nowhere", client:ask("SELECT last_error FROM stats.queries "
          .. "WHERE query LIKE '%nowhere%'").rows[1][1])
        assert.same({ { "test.old", "3", "2" } }, client:ask("SELECT * FROM `stats`.`tables`;").rows)
        assert.same({ { "COM_QUERY", "6", "1" } }, client:ask("SELECT * FROM stats.commands").rows)
      end)

      it("answers the command line client, PyMySQL, and a client that prepares", function()
        start "statistics"
        assert.equal("1\n", cli "SELECT 1")
        cli "SELECT 2"
        assert.equal("SELECT ? \t2\t2\n",
          cli "SELECT query, count, rows FROM stats.queries WHERE query = 'SELECT ? '")
        assert.equal("1\n", cli "SELECT COUNT(*) FROM stats.queries WHERE query LIKE 'select _ '")
        local client = login()
        local id = prepare(client, "SELECT 7, 'seven'")
        assert.equal(1, #execute(client, id))
        assert.equal(1, #execute(client, id))
        assert.equal("1\n", cli "SELECT statements FROM stats.clients WHERE user = 'nopass'")
        close_statement(client, id)
        assert.equal(1054, client:ask("SELECT nothing").errcode)
        assert.equal("0\tidle\n", cli "SELECT statements, state FROM stats.clients WHERE user = 'nopass'")
        assert.equal(("COM_STMT_CLOSE\t1\nCOM_STMT_EXECUTE\t2\nCOM_STMT_PREPARE\t1\n"),
          cli "SELECT command, count FROM stats.commands WHERE command LIKE 'com_stmt%' ORDER BY command")
        assert.equal("True [('SELECT ? , ? ', 2, True)] 4\n", pymysql [[
totals = dict(run("SELECT * FROM stats.totals"))
sql = "SELECT query, count, avg_time FROM stats.queries WHERE query = %s"
rows = [(query, count, time > 0) for query, count, time in run(sql, "SELECT ? , ? ")]
print(totals["queries"] > 3, rows, len(run("SELECT * FROM stats.totals LIMIT 1, 4")))
]])
      end)

      it("forgets, and says what it does not know", function()
        start "statistics"
        local client = login()
        client:ask("SELECT 1")
        client:ask("SELECT 1 + 1")
        assert.equal(2, client:ask("delete from stats.queries").affected_rows)
        assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM stats.queries").rows)
        assert.equal(0, client:ask("TRUNCATE TABLE stats.tables").affected_rows)
        for sql, errcode in pairs {
          ["SELECT * FROM stats.nothing"] = 1146, ["SELECT nothing FROM stats.queries"] = 1054,
          ["SELECT * FROM stats.queries GROUP BY 1"] = 1064, ["DELETE FROM stats.totals"] = 1288,
          ["SELECT * FROM stats.queries WHERE count IN (1)"] = 1064,
        } do
          assert.equal(errcode, client:ask(sql).errcode, sql)
        end
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      end)

      it("is switched by its options", function()
        start "statistics"
        local client, other = login(), login()
        assert.equal(1, client:ask("PROXY SET GLOBAL statistics.is_enabled = false").affected_rows)
        client:ask("SELECT 1")
        assert.truthy(client:ask("SELECT COUNT(*) FROM stats.queries").errcode) -- asks the server
        client:ask("PROXY SET GLOBAL statistics.is_enabled = true")
        assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM stats.queries").rows)
        client:ask("SET GLOBAL statistics.max_queries = 1")
        client:ask("SET GLOBAL statistics.slow_query_time = 0")
        client:ask("SET GLOBAL statistics.max_slow = 2")
        client:ask("PROXY SET GLOBAL statistics.collect_errors = false")
        client:ask("PROXY SET GLOBAL statistics.collect_warnings = true")
        other:ask("SELECT 1")
        other:ask("SELECT 'two', 2")
        assert.equal(1146, other:ask("SELECT * FROM test.nowhere").errcode)
        assert.same({ { "(others)", "2", "1" }, { "SELECT ? ", "1", "0" } },
          client:ask("SELECT query, count, errors FROM stats.queries ORDER BY query").rows)
        assert.same({ { "SELECT 'two', 2", "nopass" }, { "SELECT * FROM test.nowhere", "nopass" } },
          client:ask("SELECT query, user FROM stats.slow").rows)
        assert.equal(2, #client:ask("SELECT * FROM stats.clients").rows)
        other:ask("SELECT CAST('x' AS SIGNED)")
        assert.truthy(process.wait_until(function()
          return proxy.process:stdout():find("[statistics] Warning 1292: Truncated incorrect", 1, true)
        end, 5), proxy.process:stdout())
        local shown = cli "PROXY SHOW CONFIG"
        assert.truthy(shown:find("statistics\tmax_queries\t1\tnumber\n", 1, true), shown)
        other:send("\1")
        other:wait_for_end()
        assert.equal(1, #client:ask("SELECT * FROM stats.clients").rows)
      end)

      it("does not lose files and long answers", function()
        start "statistics"
        local client = login()
        server:sql("TRUNCATE TABLE test.old")
        assert.equal(0xfb, client:query("LOAD DATA LOCAL INFILE 'x' INTO TABLE test.old"):byte())
        client:send("1\tone\n2\ttwo\n", 2)
        client:send("", 3)
        assert.equal(2, client:answer(client:packet()).affected_rows)
        assert.equal(300000, #client:ask("SELECT REPEAT('x', 300000)").rows[1][1])
        assert.same({ { "SELECT REPEAT( ? , ? ) ", "1" } },
          client:ask("SELECT query, rows FROM stats.queries WHERE bytes > 300000").rows)
      end)
    end)
  end)
end
