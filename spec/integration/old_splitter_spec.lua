-- What clients see of scripts/splitter.lua, written as people wrote them from 2007 to 2010.
-- old_scripts_soak_spec.lua puts it under load.

local old_script = require "spec.support.old_script"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local prepare, execute, close_statement = old_script.prepare, old_script.execute, old_script.close_statement

for _, server in ipairs(servers.all()) do
  describe("splitter.lua in front of " .. server.name, function()
    local script = old_script.new(server, "splitter")
    local start, login, cli, pymysql = script.start, script.login, script.cli, script.pymysql

    after_each(script.finish)

    local slave

    setup(function()
      slave = servers.start(server.flavour)
      for name, where in pairs { master = server, slave = slave } do
        where:sql(([[
          DROP DATABASE IF EXISTS other; CREATE DATABASE other; DROP DATABASE IF EXISTS split; CREATE DATABASE split;
          CREATE TABLE split.marker (name VARCHAR(20)); CREATE TABLE other.marker (name VARCHAR(20));
          INSERT INTO split.marker VALUES ('%s'); INSERT INTO other.marker VALUES ('other %s');
          CREATE TABLE split.items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20));
          DROP USER IF EXISTS reader@'%%'; CREATE USER reader@'%%'; GRANT ALL ON *.* TO reader@'%%']]):format(
          name, name))
      end
      server:sql "DROP DATABASE IF EXISTS only_here; CREATE DATABASE only_here"
    end)

    teardown(function()
      slave:stop()
      server:sql "DROP DATABASE other; DROP DATABASE split; DROP DATABASE only_here; DROP USER reader@'%'"
    end)

    local function sessions_ended()
      local _, clients_left = script.proxy:log():gsub("read_query%): client[^\n]*\n", "")
      local _, servers_left = script.proxy:log():gsub("read_query%): server[^\n]*\n", "")
      return clients_left + servers_left
    end

    -- Leaves as clients do: the connection to the server goes to the pool.
    local function quit(client)
      local before = sessions_ended()
      client:send("\1")
      client:close()
      assert.truthy(process.wait_until(function()
        return sessions_ended() > before
      end, 5))
    end

    -- Starts the proxy, and has a client log in whose reads find an idle connection to the slave.
    local function start_splitter()
      start { ("--proxy-read-only-backend-addresses=%s:%d"):format(slave.host, slave.port) }
      local first = login()
      assert.same({ { "master" } }, first:ask("SELECT name FROM split.marker").rows)
      quit(first)
      return login()
    end

    local function where(client)
      local answer = client:ask("SELECT name FROM split.marker")
      return answer.rows and answer.rows[1][1] or answer.errmsg
    end

    local function status(client)
      local found = {}
      for _, row in ipairs(client:ask("SHOW SPLITTER STATUS").rows) do
        found[row[1]] = tonumber(row[2]) or row[2]
      end
      return found
    end

    local function count(on, sql)
      return tonumber((on:sql("SELECT COUNT(*) FROM " .. sql)))
    end

    it("sends reads to the slave and writes to the master", function()
      local client = start_splitter()
      assert.equal("slave", where(client))
      client:ask("INSERT INTO other.marker VALUES ('new')")
      assert.equal("slave", where(client))
      assert.same({ 2, 1 }, { count(server, "other.marker"), count(slave, "other.marker") })
      client:ask("DELETE FROM other.marker WHERE name = 'new'")
      for _, sql in ipairs {
        "SELECT name FROM split.marker FOR UPDATE", "SELECT name FROM split.marker LOCK IN SHARE MODE",
        "/* master */ SELECT name FROM split.marker",
      } do
        assert.same({ { "master" } }, client:ask(sql).rows, sql)
      end
      for _, sql in ipairs { "SELECT name FROM split.marker;", "/* x */ (SELECT name FROM split.marker)",
        "SELECT name, 'FOR UPDATE' FROM split.marker" } do
        assert.equal("slave", client:ask(sql).rows[1][1], sql)
      end
    end)

    it("keeps transactions on the master", function()
      local client = start_splitter()
      client:ask("BEGIN")
      assert.equal("master", where(client))
      assert.equal(1054, client:ask("SELECT nothing FROM split.marker").errcode)
      assert.equal("master", where(client))
      client:ask("INSERT INTO other.marker VALUES ('in a transaction')")
      client:ask("ROLLBACK")
      assert.equal("slave", where(client))
      assert.equal(1, count(server, "other.marker"))
      client:ask("SET autocommit = 0")
      assert.equal("master", where(client))
      client:ask("COMMIT")
      assert.equal("master", where(client))
      client:ask("SET autocommit=1")
      assert.equal("slave", where(client))
      client:ask("START TRANSACTION")
      client:close() -- in the middle: nobody gets that connection
      local other = login()
      other:ask("UPDATE split.marker SET name = name")
      assert.equal("master", other:ask("SELECT name FROM split.marker FOR UPDATE").rows[1][1])
    end)

    it("keeps what is about the statement before where that was", function()
      local client = start_splitter()
      slave:sql("CREATE OR REPLACE VIEW split.more AS SELECT 1 AS n UNION SELECT 2 UNION SELECT 3")
      client:ask("SELECT SQL_CALC_FOUND_ROWS n FROM split.more LIMIT 1")
      assert.same({ { "3" } }, client:ask("SELECT FOUND_ROWS()").rows)
      client:ask("SELECT CAST('x' AS SIGNED)")
      assert.equal("1292", client:ask("SHOW WARNINGS").rows[1][2])
      assert.same({ { "1" } }, client:ask("SHOW COUNT(*) WARNINGS").rows)
      assert.equal(1, status(client)["clients on 2"])
      client:ask("DELETE FROM split.items")
      client:ask("INSERT INTO split.items VALUES (2, 'a'), (3, 'b')") -- an id that was not generated
      quit(client)

      client = login()
      client:ask("SET GLOBAL splitter.hold_insert_id = 0")
      client:ask("INSERT INTO split.items (name) VALUES ('c'), ('d')")
      assert.same({ { "2" } }, client:ask("SELECT ROW_COUNT()").rows)
      local id = client:ask("INSERT INTO split.items (name) VALUES ('e')").insert_id
      assert.same({ { tostring(id) } }, client:ask("SELECT LAST_INSERT_ID()").rows)
      assert.equal("slave", where(client))
      client:ask("PROXY SET GLOBAL splitter.hold_insert_id = true")
      id = client:ask("INSERT INTO split.items (name) VALUES ('f')").insert_id
      assert.equal("master", where(client))
      assert.same({ { tostring(id) } }, client:ask("SELECT last_insert_id()").rows)
      client:ask("DELETE FROM split.items")
      assert.same({ { "0", "f" } }, { client:ask("SELECT COUNT(*), 'f' FROM split.items").rows[1] })
    end)

    it("keeps temporary tables, variables, locks and prepared statements on the master", function()
      local client = start_splitter()
      client:ask("USE split")
      client:ask("CREATE TEMPORARY TABLE mine (id INT)")
      client:ask("CREATE TEMPORARY TABLE IF NOT EXISTS other.yours (id INT)")
      client:ask("INSERT INTO mine VALUES (1), (2)")
      assert.same({ { "2" } }, client:ask("SELECT COUNT(*) FROM mine").rows)
      assert.equal("master", where(client))
      client:ask("DROP TABLE mine")
      assert.equal("master", where(client))
      client:ask("DROP TEMPORARY TABLE other.yours")
      assert.equal("slave", where(client))
      client:ask("LOCK TABLES split.marker READ")
      assert.equal("master", where(client))
      client:ask("UNLOCK TABLES")

      assert.equal("slave", where(client))
      local first = prepare(client, "SELECT name FROM split.marker")
      local second = prepare(client, "SELECT 1")
      assert.same({ "\0\0\6master" }, execute(client, first))
      assert.equal("master", where(client))
      close_statement(client, second)
      assert.same({ "\0\0\6master" }, execute(client, first))
      close_statement(client, first)
      assert.equal("slave", where(client))
      local _, failure = prepare(client, "SELECT nothing FROM split.marker")
      assert.equal(1054, failure.errcode)
      assert.equal("slave", where(client))
      client:send("\31") -- COM_RESET_CONNECTION
      assert.equal(0, client:packet():byte())
      assert.equal("slave", where(client))

      client:ask("SET @mine = 5")
      assert.same({ { "5", "master" } }, client:ask("SELECT @mine, name FROM split.marker").rows)
      assert.equal("master", where(client))
      client:send("\31")
      assert.equal(0, client:packet():byte())
      assert.equal("slave", where(client))
      assert.same({ { "1" } }, client:ask("SELECT GET_LOCK('old', 1)").rows)
      assert.equal("master", where(client))
      quit(client)
      client = login()
      assert.truthy(process.wait_until(function() -- the server ends the connection that had it when it comes to that
        return client:ask("SELECT IS_FREE_LOCK('old')").rows[1][1] == "1"
      end, 10))
      quit(client)

      client = login()
      assert.equal("slave", where(client))
      client:ask("UPDATE split.marker SET name = name; CREATE TEMPORARY TABLE split.two (id INT)")
      assert.equal(0, client:packet():byte()) -- the second answer
      assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM split.two").rows)
    end)

    it("brings the schema and the character set along", function()
      local client = start_splitter()
      client:send("\2split")
      assert.equal(0, client:packet():byte())
      assert.same({ { "slave" } }, client:ask("SELECT name FROM marker").rows)
      assert.same({ { "master" } }, client:ask("SELECT name FROM marker FOR UPDATE").rows)
      client:ask("use other")
      assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
      assert.same({ { "other master" } }, client:ask("SELECT name FROM marker FOR UPDATE").rows)
      assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
      client:ask("SET NAMES latin1")
      for _, suffix in ipairs { "", " FOR UPDATE" } do
        assert.same({ { "latin1" } }, client:ask("SELECT @@character_set_client FROM marker" .. suffix).rows)
      end
      assert.same({ { "other slave" } }, client:ask("SELECT name FROM marker").rows)
      quit(client)

      client = login()
      assert.is_nil(client:ask("SELECT DATABASE()").errcode)
      client:ask("USE split")
      assert.same({ { "slave", "utf8mb4" } }, client:ask("SELECT name, @@character_set_client FROM marker").rows)
      assert.same({ { "master", "utf8mb4" } },
        client:ask("SELECT name, @@character_set_client FROM marker FOR UPDATE").rows)
      client:ask("USE only_here")
      local before = status(client)
      assert.matches("^can't change DB to only_here on 127%.0%.0%.1:" .. slave.port,
        client:ask("SELECT name FROM split.marker").errmsg)
      assert.is_true(status(client).init_db > before.init_db)
      assert.equal(1, client:ask("CREATE TABLE only_here.t SELECT 1").affected_rows)
      client:ask("USE split")
      assert.equal("slave", where(client))
    end)

    it("gives connections to the next client of the same user, clean", function()
      local client = start_splitter()
      local function ids()
        return client:ask("SELECT CONNECTION_ID() FROM split.marker FOR UPDATE").rows[1][1]
          .. " " .. client:ask("SELECT MAX(CONNECTION_ID()) FROM split.marker").rows[1][1]
      end
      local first = ids()
      quit(client)
      for _ = 1, 3 do
        client = login()
        assert.equal(first, ids())
        quit(client)
      end
      client = login()
      client:ask("SET @mine = 1")
      client:ask("CREATE TEMPORARY TABLE split.mine SELECT 1")
      quit(client)
      client = login()
      assert.same({ {} }, client:ask("SELECT @mine").rows)
      assert.equal(1146, client:ask("SELECT * FROM split.mine").errcode)
      quit(client)

      local nopass, reader = login(), login("reader")
      assert.same({ { "nopass@%" } }, nopass:ask("SELECT CURRENT_USER() FROM split.marker").rows)
      assert.same({ { "reader@%", "master" } }, reader:ask("SELECT CURRENT_USER(), name FROM split.marker").rows)
      assert.same({ { "reader@%" } }, reader:ask("SELECT CURRENT_USER() FROM split.marker FOR UPDATE").rows)
      quit(reader)
      reader = login("reader")
      assert.same({ { "reader@%", "slave" } }, reader:ask("SELECT CURRENT_USER(), name FROM split.marker").rows)
      for _, suffix in ipairs { " FOR UPDATE", "" } do
        assert.same({ { "nopass@%" } }, nopass:ask("SELECT CURRENT_USER() FROM split.marker" .. suffix).rows)
        assert.same({ { "reader@%" } }, reader:ask("SELECT CURRENT_USER() FROM split.marker" .. suffix).rows)
      end
    end)

    it("promises an idle connection to the master to one client only", function()
      local first = start_splitter()
      quit(first) -- an idle one on each server; the slave's is taken
      local reader = login()
      assert.equal("slave", where(reader))
      local writer = login()
      writer:ask("UPDATE split.marker SET name = name")
      quit(writer)
      local before = status(reader)
      assert.same({ 2, 0, 1 }, { before["idle on 1"], before["idle on 2"], before["clients on 2"] })
      local both = { raw.connect(script.proxy.port), raw.connect(script.proxy.port) }
      for i = 2, 1, -1 do
        both[i]:login("nopass")
        assert.is_nil(both[i].refused)
        assert.same({ { "master" } }, both[i]:ask("SELECT name FROM split.marker FOR UPDATE").rows)
      end
      assert.same({ { "master" } }, reader:ask("SELECT name FROM split.marker FOR UPDATE").rows)
      assert.equal("slave", where(both[1]))
      assert.equal("slave", where(reader))
      assert.equal(before.slave_logins + 1, status(reader).slave_logins)
      quit(both[1])
      quit(both[2])
    end)

    it("serves the command line client and PyMySQL", function()
      start_splitter()
      local expected = "other %s\nother master\n1\n"
      local sql = "SELECT name FROM marker// SELECT name FROM marker FOR UPDATE// BEGIN// "
        .. "INSERT INTO marker VALUES ('x')// ROLLBACK// SELECT COUNT(*) FROM marker"
      for _, name in ipairs { "master", "slave", "slave" } do
        local before = sessions_ended()
        assert.equal(expected:format(name), cli(sql, "root", "other"))
        assert.truthy(process.wait_until(function()
          return sessions_ended() > before
        end, 5))
      end
      assert.matches("ERROR 1146 %(42S02%)", (cli("SELECT * FROM nowhere", "root", "other")))
      local program = [[
def where(c):
  return run("SELECT name FROM marker", c=c)[0][0]
c.close()
c = connect(database="split", user="reader")
print(where(c))
c.close()
a = connect(database="split", user="reader")
b = connect(database="other", user="reader")
print(where(a), where(b), where(a))
b.begin()
print(where(a), where(b))
b.rollback()
with a.cursor() as cursor:
  cursor.execute("INSERT INTO items (name) VALUES ('python')")
  print(cursor.lastrowid == run("SELECT LAST_INSERT_ID()", c=a)[0][0])
  cursor.execute("DELETE FROM items WHERE name = %s", "python")
  print(cursor.rowcount, where(a))
a.select_db("other")
print(where(a))
a.close()
print(where(b))
b.ping()
print(run("SELECT FOUND_ROWS()", c=b), run("SELECT 1", c=b))
c = connect(database="split", user="reader")
print(where(c), where(b))
]]
      assert.equal([[
master
slave other master slave
slave other master
True
1 master
other master
other slave
((1,),) ((1,),)
master other slave
]], (pymysql(program):gsub("%[", "("):gsub("%]", ",)"):gsub(",,", ",")))
    end)

    it("lets clients of different capabilities share a user", function()
      start_splitter() -- the raw client has logged in; these have others
      for _ = 1, 3 do
        for _ = 1, 2 do
          assert.matches("^[ms][al][sa][tv]er?\n$", (cli("SELECT name FROM split.marker", "nopass")))
        end
        assert.equal("1\n", pymysql [[print(run("SELECT 1 FROM split.marker")[0][0])]])
        local client = login()
        assert.is_nil(client.refused)
        assert.matches("^[ms]", where(client))
        assert.same({ { "master" } }, client:ask("SELECT name FROM split.marker FOR UPDATE").rows)
        quit(client)
      end
    end)

    it("survives the end of the slave", function()
      local client = start_splitter()
      assert.equal("slave", where(client))
      client:ask("DO 0") -- to the master: the connection to the slave is idle
      slave:stop("sigkill")
      finally(function()
        slave:start()
      end)
      assert.truthy(process.wait_until(function()
        return status(client)["idle on 2"] == 0
      end, 5))
      assert.equal("master", where(client))
      quit(client)
      client = login()
      assert.is_nil(client.refused)
      assert.equal("master", where(client))
    end)
  end)
end
