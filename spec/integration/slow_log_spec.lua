-- --slow-query-time and --slow-query-log: what is written, and what those who read it make of it.

local cjson = require "cjson"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local HEAD = "^%d%d%d%d%d%d %d%d:%d%d:%d%d\n# User@Host: (%S+) @  %[127%.0%.0%.1%]  Id: %d+\n(.-)"
  .. "# Query_time: (%d+%.%d+)  Lock_time: 0%.000000  Rows_sent: (%d+)  Rows_examined: 0\n"
  .. "# ([^\n]+)\n(.-)SET timestamp=(%d+);\n(.*)\n$"

for _, server in ipairs(servers.all()) do
  describe("the slow log, " .. server.name, function()
    local proxy, file, client

    local function start(seconds, ...)
      file = process.path "slow.log"
      proxy = proxies.start({ server }, { "--slow-query-time=" .. seconds, "--slow-query-log=" .. file, ... })
      client = raw.connect(proxy.port):login("nopass")
    end

    -- Each is one of the right form, or this fails.
    local function entries()
      local list = {}
      for entry in process.read_file(file):gsub("# Time: ", "\0"):gmatch "[^%z]+" do
        local user, thread, seconds, rows, attributes, use, timestamp, statement = entry:match(HEAD)
        list[#list + 1] = assert(user and {
          user = user, thread = thread, seconds = tonumber(seconds), rows = tonumber(rows), attributes = attributes,
          use = use, timestamp = tonumber(timestamp), statement = statement,
        }, entry)
      end
      return list
    end

    local function statements()
      local list = {}
      for i, entry in ipairs(entries()) do
        list[i] = entry.statement
      end
      return list
    end

    local function report()
      local code, output, errors = process.run("pt-query-digest", {
        "--output", "json", "--limit", "100%", "--no-version-check", file,
      })
      assert(code == 0, errors)
      return cjson.decode(output:match "{.*}")
    end

    after_each(function()
      client:close()
      assert.equal(0, proxy:stop())
    end)

    it("is what pt-query-digest and mysqldumpslow read", function()
      start(0)
      local before = os.time()
      client:ask "SELECT 1"
      client:ask "SELECT 15 ;\n"
      client:ask "SELECT nothing_of_this_name"
      client:send "\14"
      client:packet()
      client:ask "SELECT 'it''s\n# a', '\1\200', 1"
      client:ask("SELECT '" .. ("x"):rep(200000) .. "'")
      client:ask "USE mysql"
      client:ask "SELECT user FROM user LIMIT 1"
      local id
      client:send "\22SELECT UPPER('a')"
      id = client:packet():sub(2, 5)
      client:packet()
      client:packet()
      client:send("\23" .. id .. "\0\1\0\0\0")
      client:answer(client:packet())

      assert.same({
        "SELECT 1;", "SELECT 15;", "SELECT nothing_of_this_name;", "# administrator command: Ping;",
        "SELECT 'it''s\n # a', '\1\200', 1;",
        "SELECT '" .. ("x"):rep(64 * 1024 - 8) .. "\n/* cut: this is from the first 65536 bytes */;", "USE mysql;",
        "SELECT user FROM user LIMIT 1;", "# administrator command: Prepare;", "SELECT UPPER( ? );",
      }, statements())
      local list = entries()
      for _, entry in ipairs(list) do
        assert.equal("nopass[nopass]", entry.user)
        assert.is_true(entry.seconds > 0 and before - 1 <= entry.timestamp and entry.timestamp <= os.time())
      end
      assert.equal(1, list[1].rows)
      assert.equal("", list[1].thread .. list[1].use)
      assert.matches("Last_errno: 0  Killed: 0  Backend: 127.0.0.1:" .. server.port, list[1].attributes, 1, true)
      assert.matches("Last_errno: 1054  Killed: 0", list[3].attributes, 1, true)
      assert.equal("use mysql;\n", list[8].use)
      assert.matches("^# Thread_id: %d+  Schema: mysql  QC_hit: No\n$", list[8].thread)

      local read, counts = report(), {}
      for _, class in ipairs(read.classes) do
        counts[class.fingerprint] = class.query_count
        assert.equal("nopass", class.metrics.user.value)
      end
      assert.equal(10, read.global.query_count)
      assert.equal(2, counts["select ?"])
      assert.equal(1, counts["select nothing_of_this_name"])
      assert.equal(1, counts["administrator command: Ping"])
      assert.equal(1, counts["select user from user limit ?"])
      assert.equal(1, counts["select upper( ? )"])

      local code, output, errors = process.run("mysqldumpslow", { file })
      assert(code == 0, errors)
      assert.matches("Count: 2 [^\n]* Rows_sent=1%.0 %(2%)[^\n]*nopass%[nopass%]@%[127%.0%.0%.1%]\n  SELECT N\n",
        output)
      assert.equal(tonumber("640", 8), uv.fs_stat(file).mode % 512)
    end)

    it("hides values where a password may be", function()
      start(0)
      server:sql "DROP USER IF EXISTS slow_user"
      for _, statement in ipairs {
        "CREATE USER slow_user IDENTIFIED BY 'geheim1'", "ALTER USER slow_user IDENTIFIED BY \"geheim1\"",
        "SET PASSWORD FOR slow_user = 'geheim1'", "/*!50000 SET PASSWORD FOR nobody_of_this_name = 'geheim1' */",
        "SELECT 1 FROM no.thing; CHANGE MASTER TO MASTER_PASSWORD = 'geheim1'",
        "GRANT SELECT ON *.* TO slow_user IDENTIFIED BY 'geheim1'",
        "CREATE TABLE t (a INT) ENGINE=FEDERATED CONNECTION='mysql://a:geheim1@b/c'",
        "SELECT '" .. ("password geheim1 "):rep(5000) .. "'", "SELECT 'nothing secret'",
      } do
        client:ask(statement)
      end
      assert.equal("CREATE `USER` `slow_user` `IDENTIFIED` BY ?;", statements()[1])
      assert.equal("# administrator command: Query;", statements()[4])
      assert.equal("SELECT 'nothing secret';", statements()[9])
      assert.equal(9, report().global.query_count)
      assert.is_nil(process.read_file(file):find("geheim", 1, true))
      server:sql "DROP USER IF EXISTS slow_user"
    end)

    it("has only what takes long, and goes on in a new file after SIGHUP", function()
      start(0.3)
      client:ask "SELECT 1"
      client:ask "SELECT SLEEP(0.4)"
      local found = false
      for _, entry in ipairs(entries()) do
        assert.is_true(entry.seconds >= 0.3)
        found = found or entry.statement == "SELECT SLEEP(0.4);"
      end
      assert.is_true(found)
      local before = process.read_file(file)
      assert(os.rename(file, file .. ".1"))
      uv.kill(proxy.pid, "sighup")
      assert(process.wait_until(function()
        return uv.fs_stat(file)
      end))
      client:ask "SELECT SLEEP(0.5)"
      assert.matches("SELECT SLEEP%(0%.5%);\n$", process.read_file(file))
      assert.equal(before, process.read_file(file .. ".1"))

      local admin = raw.connect(proxy.admin_port):login("operator")
      client:send "\3SELECT SLEEP(100)"
      assert(process.wait_until(function()
        local row = admin:ask("SELECT id, time FROM sessions WHERE command = 'Query' AND port = 'proxy'").rows[1]
        return row and tonumber(row[2]) >= 1 and admin:ask("KILL " .. row[1])
      end, 10))
      -- The server would look for its client only seconds later.
      server:sql("KILL " .. server:sql("SELECT id FROM information_schema.processlist WHERE info LIKE "
        .. "'SELECT SLEEP(100)%'"):match("%d+"))
      assert.matches("Killed: 1  Backend: 127%.0%.0%.1:%d+\nSET timestamp=%d+;\nSELECT SLEEP%(100%);\n$",
        process.read_file(file))
      admin:close()
    end)

    it("follows SET and RELOAD, in all workers and in those that start later", function()
      file = process.path "slow.log"
      local defaults = process.path "proxy.cnf"
      local function write(seconds)
        process.write_file(defaults, "[mysql-proxy]\nslow-query-time = " .. seconds .. "\n")
        assert(uv.fs_chmod(defaults, tonumber("600", 8)))
      end
      write(1000)
      proxy = proxies.start({ server }, {
        "--defaults-file=" .. defaults, "--slow-query-log=" .. file, "--workers=2",
      })
      local workers = process.children(proxy.pid)
      for _, pid in ipairs(workers) do
        process.adopt(pid)
      end
      client = raw.connect(proxy.admin_port):login("operator")
      local function all_write(text)
        local clients = {}
        for i = 1, 4 do
          clients[i] = raw.connect(proxy.port):login("nopass")
        end
        for i = 1, 4 do
          clients[i]:ask(("SELECT '%s'"):format(text))
          clients[i]:close()
        end
      end
      local function count(text)
        return select(2, process.read_file(file):gsub("SELECT '" .. text, ""))
      end

      assert.equal("1000", client:ask("SELECT @@slow_query_time").rows[1][1])
      all_write "none"
      assert.equal(0, client:ask("SET slow_query_time = 0").affected_rows)
      assert.matches("has set slow_query_time from '1000' to '0'", proxy:log())
      all_write "set"
      write(2000)
      assert.equal(0, client:ask("RELOAD").affected_rows)
      assert.equal("2000", client:ask("SELECT @@slow_query_time").rows[1][1])
      all_write "read"
      assert.same({ 0, 4, 0 }, { count "none", count "set", count "read" })
      assert.equal(1231, client:ask("SET slow_query_time = -1").errcode)
      assert.equal("The slow log needs what proxy_profiling = OFF leaves out",
        client:ask("SET proxy_profiling = OFF").errmsg)

      client:ask "SET slow_query_time = 0"
      for _, pid in ipairs(workers) do
        uv.kill(pid, "sigkill")
      end
      assert(process.wait_until(function()
        local _, started = proxy:log():gsub("worker %d %(PID=%d+%) started", "")
        return started == 4
      end, 20))
      for _, pid in ipairs(process.children(proxy.pid)) do
        process.adopt(pid)
      end
      all_write "later"
      assert.equal(4, count "later")
    end)

    it("that cannot be written to is complained of once, and nobody is disturbed", function()
      start(0, "--slow-query-log=/dev/full")
      for _ = 1, 3 do
        assert.equal("1", client:ask("SELECT 1").rows[1][1])
      end
      local _, complaints = proxy:log():gsub("%(critical%) %-%-slow%-query%-log: writing /dev/full failed, "
        .. "slow statements are lost: ENOSPC: no space left on device", "")
      assert.equal(1, complaints)
    end)

    it("has whole entries of several workers", function()
      start(0, "--workers=2", "--plugins=proxy")
      for _, pid in ipairs(process.children(proxy.pid)) do
        process.adopt(pid)
      end
      local clients, text = {}, "SELECT '" .. ("y"):rep(30000) .. "'"
      for i = 1, 8 do
        clients[i] = raw.connect(proxy.port):login("nopass")
      end
      for _ = 1, 10 do
        for i = 1, 8 do
          clients[i]:send("\3" .. text)
        end
        for i = 1, 8 do
          clients[i]:answer(clients[i]:packet())
        end
      end
      for i = 1, 8 do
        clients[i]:close()
      end
      local list = statements()
      assert.equal(80, #list)
      for _, statement in ipairs(list) do
        assert.equal(text .. ";", statement)
      end
    end)
  end)
end
