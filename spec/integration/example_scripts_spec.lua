-- The scripts in examples/ do what their first lines say: those that look at statements and results.

local uv = require "luv"

local examples = require "spec.support.example"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

describe("examples/README.md", function()
  it("names every example, and every example says how it is started", function()
    local readme, count = process.read_file("examples/README.md"), 0
    local scan = assert(uv.fs_scandir("examples"))
    for file in uv.fs_scandir_next, scan do
      local name = file:match("^(.*)%.lua$")
      if name then
        count = count + 1
        assert.truthy(readme:find(("[%s](%s)"):format(file, file), 1, true), file .. " is not in README.md")
        assert.truthy(examples.text_of(name):find("^%-%- .-\n%-%-[^\n]*examples/" .. name .. "%.lua"), file)
      end
    end
    assert.is_true(count > 14)
  end)
end)

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name .. " the example", function()
    local example = examples.new(server)
    local start, login, prints, mysql = example.start, example.login, example.prints, example.mysql
    local prepare, execute = example.prepare, example.execute

    after_each(example.stop)

    it("log_queries prints every statement with its time", function()
      start("log_queries")
      local client = login()
      client:ask("SELECT 1\nUNION SELECT 2")
      prints("nopass@127%.0%.0%.1:%d+ %d+%.%d%d ms, 2 rows: SELECT 1 UNION SELECT 2\n")
      client:ask("DO SLEEP(0.1)")
      prints(" 1%d%d%.%d%d ms, 0 affected: DO SLEEP%(0.1%)\n")
      client:ask("SELECT nonsense")
      prints(" ms, an error: SELECT nonsense\n")
      local id = prepare(client, "SELECT 42")
      assert.is_nil(execute(client, id))
      prints(" ms, 1 rows: SELECT 42\n")
      assert.is_nil(prepare(client, "SELECT FROM"))
      client:send("\25" .. raw.statement_id(id))
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)

    it("rewrite rewrites", function()
      start("rewrite")
      server:sql("CREATE TABLE IF NOT EXISTS test.customers (id INT)")
      local client = login()
      assert.same({ { "1" } }, client:ask("SLECT 1").rows)
      assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM test.customer").rows)
      assert.is_nil(execute(client, assert(prepare(client, "SELECT COUNT(*) FROM test.customer"))))
      local databases = {}
      for _, row in ipairs(client:ask("databases").rows) do
        databases[row[1]] = true
      end
      assert.is_true(databases.test)
      assert.equal(1146, client:ask("SELECT * FROM test.customer_names").errcode) -- a word of its own
      prints("SLECT 1 %-> SELECT 1\n")
    end)

    it("firewall refuses what looks dangerous, and nothing else", function()
      start("firewall")
      server:sql("CREATE TABLE IF NOT EXISTS test.orders (id INT); INSERT INTO test.orders VALUES (1)")
      local client = login()
      for sql, reason in pairs {
        ["DELETE FROM test.orders"] = "DELETE without WHERE",
        ["/* hello */ delete from test.orders -- where"] = "DELETE without WHERE",
        ["SELECT 1; UPDATE test.orders SET id = 2"] = "UPDATE without WHERE",
        ["/*!50000 DROP TABLE test.orders */"] = "DROP",
        ["/*M! DROP TABLE test.orders */"] = "DROP",
        ["DROP TABLE test.orders"] = "DROP",
        ["truncate test.orders"] = "TRUNCATE",
        ["SELECT * FROM test.orders WHERE id = 7 OR 'x'='x'"] = "a condition that is always true",
        ["SELECT sleep(100)"] = "SLEEP()",
        ["SELECT 1 INTO OUTFILE '/tmp/x'"] = "INTO OUTFILE",
        ["DELETE FROM test.orders # WHERE"] = "a comment that not every server reads alike",
        ["PREPARE s FROM 'DROP TABLE test.orders'"] = "PREPARE",
      } do
        local answer = client:ask(sql)
        assert.same({ 1148, "42000", "The firewall does not allow " .. reason },
          { answer.errcode, answer.sqlstate, answer.errmsg }, sql)
      end
      local _, refused = prepare(client, "DELETE FROM test.orders")
      assert.equal(1148, refused.errcode)
      for command, name in pairs { ["\6test"] = "DROP", ["\18"] = "COM_BINLOG_DUMP", ["\32"] = "COM_CLONE" } do
        client:send(command)
        assert.equal("The firewall does not allow " .. name, client:answer(client:packet()).errmsg)
      end
      prints("refused nopass: SLEEP%(%): SELECT sleep%(100%)")
      for _, sql in ipairs {
        "SELECT 'DROP TABLE test.orders; DELETE FROM x'", "SELECT id FROM test.orders WHERE id = 1 OR id - 1 = 1",
        "SELECT sleep FROM (SELECT 1 AS sleep) AS t", "SHOW TABLES FROM test",
      } do
        assert.truthy(client:ask(sql).rows, sql)
      end
      assert.equal(0, client:ask("DELETE FROM test.orders WHERE id = 2").affected_rows)
    end)

    it("mock_server answers without a server", function()
      start("mock_server", nil, nil, { "127.0.0.1:" .. process.free_port() })
      local answer = login("anybody"):ask("SELECT * FROM fruits")
      assert.same({ "id", "name", "price" }, answer.names)
      assert.same({ { "1", "apple", "0.5" }, { "2", "banana" } }, answer.rows)
      local client = login("anybody")
      local ok = client:ask("INSERT INTO fruits (name) VALUES ('plum')")
      assert.same({ 1, 3 }, { ok.affected_rows, ok.insert_id })
      local _, refused = nil, client:ask("SELECT 2")
      assert.same({ 1064, "no answer for: SELECT 2" }, { refused.errcode, refused.errmsg })
      _, refused = prepare(client, "SELECT 1")
      assert.equal(1047, refused.errcode)
      for _, password in ipairs { "", "secret" } do
        assert.equal("1\tapple\t0.5\n2\tbanana\tNULL\n", mysql("SELECT * FROM fruits", "anybody", nil, password))
      end
    end)

    it("show_warnings prints the warnings of each statement", function()
      start("show_warnings")
      local client = login()
      assert.same({ { nil } }, client:ask("SELECT 1/0").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      client:ask("DROP TABLE IF EXISTS test.nowhere")
      prints("^SELECT 1/0\n  Warning 1365: Division by 0\nDROP TABLE IF EXISTS test.nowhere\n"
        .. "  Note 1051: Unknown table 'test.nowhere'\n$")
      assert.same({ { "1" } }, client:ask("SELECT @@warning_count").rows)
    end)

    it("explain prints the plan of each SELECT", function()
      start("explain")
      server:sql("CREATE TABLE IF NOT EXISTS test.notes (id INT, note TEXT)")
      local client = login()
      assert.same({}, client:ask("SELECT * FROM test.notes WHERE note = 'x'").rows)
      prints("^SELECT %* FROM test%.notes WHERE note = 'x'\n  id=1 select_type=SIMPLE table=notes .-type=ALL .-"
        .. "Extra=Using where\n$")
      client:ask("SELECT SQL_CALC_FOUND_ROWS 1 FROM (SELECT 1 UNION SELECT 2) AS t LIMIT 1")
      assert.same({ { "2" } }, client:ask("SELECT FOUND_ROWS()").rows)
      assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
      client:query("SELECT id FROM test.notes; INSERT INTO test.notes VALUES (1, 'once')")
      repeat
        local kind = client:packet():byte()
      until kind == 0 -- the OK of the INSERT
      assert.same({ { "1" } }, client:ask("SELECT COUNT(*) FROM test.notes").rows)
      client:ask("DELETE FROM test.notes")
    end)

    it("histogram counts kinds of statements", function()
      start("histogram")
      local client, other = login(), login()
      for i = 1, 3 do
        client:ask("SELECT " .. i)
        other:ask("select  '" .. i .. "' /* the same */")
      end
      other:ask("DO SLEEP(0.02)")
      other:ask("SELECT nonsense")
      local answer = login():ask("select * from histogram.queries")
      assert.same({ "query", "count", "avg_ms", "max_ms", "<1ms", "<10ms", "<100ms", "<1s", "longer" }, answer.names)
      assert.same({ "SELECT ? ", "6" }, { answer.rows[1][1], answer.rows[1][2] })
      local sleep
      for _, row in ipairs(answer.rows) do
        local sum = 0
        for bucket = 5, 9 do
          sum = sum + row[bucket]
        end
        assert.equal(tonumber(row[2]), sum)
        assert.is_true(tonumber(row[3]) <= tonumber(row[4]))
        sleep = row[1]:find("SLEEP") and row or sleep
      end
      assert.same({ "`DO` SLEEP( ? ) ", "1", "0", "0" }, { sleep[1], sleep[2], sleep[5], sleep[6] })
      assert.is_true(tonumber(sleep[4]) >= 20)
      assert.equal(3, client:ask("DELETE FROM histogram.queries").affected_rows)
      assert.same({}, client:ask("SELECT * FROM histogram.queries").rows)
      client:ask("SELECT 4")
      assert.matches("SELECT %? \t1\t", mysql("SELECT * FROM histogram.queries", "root"))
    end)

    it("mask_columns hides the values of some columns", function()
      start("mask_columns")
      server:sql("DROP TABLE IF EXISTS test.people; CREATE TABLE test.people (id INT, name TEXT, email TEXT);"
        .. "INSERT INTO test.people VALUES (1, 'Zoë', 'zoe@x.org'), (2, 'Bob', NULL)")
      local client = login()
      client:ask("SET NAMES utf8mb4")
      local answer = client:ask("SELECT email AS e, p.* FROM test.people AS p ORDER BY id")
      assert.same({ "e", "id", "name", "email" }, answer.names)
      assert.same({ { "***", "1", "Zoë", "***" }, { nil, "2", "Bob", nil } }, answer.rows)
      assert.same({ { "***" } }, client:ask("SELECT UPPER(Email) FROM test.people WHERE id = 1").rows)
      assert.same({ { "Zoë" }, { "Bob" } }, client:ask("SELECT name FROM test.people ORDER BY id").rows)
      assert.equal(1143, client:ask("SELECT 1; SELECT * FROM test.people").errcode)
      assert.equal(1143, execute(client, assert(prepare(client, "SELECT id, email FROM test.people"))).errcode)
      assert.is_nil(execute(client, assert(prepare(client, "SELECT name FROM test.people"))))
      local sql, account = "SELECT email FROM test.people WHERE id = 1", server.account
      assert.equal("***\n", mysql(sql, account.user, nil, account.password))
      assert.equal("zoe@x.org\n", mysql(sql, "root")) -- who is trusted
    end)

    it("shell_commands runs programs of a fixed list", function()
      start("shell_commands", { { "USERS = { root = true }", "USERS = { nopass = true }" } })
      local client = login()
      local _, machine = process.run("uname", { "-n", "-m" })
      local answer = client:ask("SHELL machine")
      assert.same({ { "machine" }, { { machine:match("[^\n]+") } } }, { answer.names, answer.rows })
      assert.same({ { "disks" }, { "machine" }, { "memory" }, { "uptime" } }, client:ask("SHELL").rows)
      assert.equal("there is no command machine; ls", client:ask("SHELL machine; ls").errmsg)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal(1064, client:ask("SHELLS").errcode) -- the server's
      server:sql("CREATE USER IF NOT EXISTS other@'%'")
      assert.equal("SHELL is not for you", login("other"):ask("SHELL machine").errmsg)
    end)

    describe("ask_http", function()
      local function http_server(port, answers)
        local listener, asked, open = uv.new_tcp(), {}, {}
        assert(listener:bind("127.0.0.1", port))
        listener:listen(8, function()
          local socket, text = uv.new_tcp(), ""
          open[#open + 1] = socket
          listener:accept(socket)
          socket:read_start(function(_, chunk)
            text = text .. (chunk or "")
            local path = text:match("^GET (%S+) HTTP.-\r\n\r\n$")
            if path then
              text, asked[#asked + 1] = "", path
              local answer = answers(path)
              if answer then
                socket:write("HTTP/1.0 " .. answer)
                socket:shutdown()
              end
            end
          end)
        end)
        return asked, function()
          listener:close()
          for _, socket in ipairs(open) do
            socket:close()
          end
          uv.run("nowait")
        end
      end

      it("asks before a statement may run", function()
        local port = process.free_port()
        start("ask_http", { { "8080", tostring(port) }, { "TIMEOUT_MS = 2000", "TIMEOUT_MS = 300" } })
        local client, other = login(), login()
        assert.matches("^Not allowed: cannot be asked: ECONNREFUSED", client:ask("SELECT 1").errmsg)
        local asked, close = http_server(port, function(path)
          if path:find("SLEEP", 1, true) then
            return nil
          end
          return path:find("DELETE") and "403 Forbidden\r\n\r\nno deletes today\n" or "200 OK\r\n\r\n"
        end)
        finally(close)
        assert.same({ { "it's" } }, client:ask("SELECT 'it''s'").rows)
        local refused = client:ask("DELETE FROM test.t WHERE id = 5")
        assert.same({ 1227, "Not allowed: no deletes today" }, { refused.errcode, refused.errmsg })
        assert.same({
          "/allowed?user=nopass&query=SELECT%20%3F%20",
          "/allowed?user=nopass&query=DELETE%20FROM%20%60test%60%20.%20%60t%60%20WHERE%20%60id%60%20%3D%20%3F%20",
        }, asked)
        client:send("\3SELECT SLEEP(0)") -- about this the service says nothing
        assert.same({ { "2" } }, other:ask("SELECT 2").rows)
        assert.equal("", client:rest())
        assert.equal("Not allowed: cannot be asked: no answer in time", client:answer(client:packet()).errmsg)
        client:send("\3SELECT SLEEP(1)")
        assert.truthy(process.wait_until(function()
          return #asked == 5
        end))
        client:close() -- while it waits
        assert.same({ { "3" } }, other:ask("SELECT 3").rows)
      end)
    end)
  end)
end
