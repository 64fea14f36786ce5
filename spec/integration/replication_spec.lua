local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- What the two call the same things.
local words = {
  mariadb = {
    options = { "--gtid-strict-mode=1" },
    source = "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='root', MASTER_PASSWORD='root', "
      .. "MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=no",
    by_gtid = "CHANGE MASTER TO MASTER_USE_GTID=slave_pos", to_port = "CHANGE MASTER TO MASTER_PORT=%d",
    start = "START SLAVE", stop = "STOP SLAVE", status = "SHOW SLAVE STATUS",
    position = "SHOW MASTER STATUS",
    wait = "SELECT MASTER_POS_WAIT('%s', %s, 60)",
    gtids = "SELECT @@gtid_binlog_pos", wait_for_gtids = "SELECT MASTER_GTID_WAIT('%s', 60)",
    dump_command = "Binlog Dump",
    semi_sync_primary = "SET GLOBAL rpl_semi_sync_master_enabled = 1",
    semi_sync_replica = "SET GLOBAL rpl_semi_sync_slave_enabled = 1",
    semi_sync_commits = "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'",
  },
  mysql = {
    options = { "--gtid-mode=ON", "--enforce-gtid-consistency=ON" },
    source = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%d, SOURCE_USER='root', "
      .. "SOURCE_PASSWORD='root', SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=100, SOURCE_SSL=0, "
      .. "GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=0",
    by_gtid = "CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1",
    to_port = "CHANGE REPLICATION SOURCE TO SOURCE_PORT=%d",
    start = "START REPLICA", stop = "STOP REPLICA", status = "SHOW REPLICA STATUS",
    position = "SHOW BINARY LOG STATUS",
    wait = "SELECT SOURCE_POS_WAIT('%s', %s, 60)",
    gtids = "SELECT @@GLOBAL.gtid_executed", wait_for_gtids = "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 60)",
    dump_command = "Binlog Dump GTID",
    semi_sync_primary = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';"
      .. "SET GLOBAL rpl_semi_sync_source_enabled = 1",
    semi_sync_replica = "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so';"
      .. "SET GLOBAL rpl_semi_sync_replica_enabled = 1",
    semi_sync_commits = "SHOW STATUS LIKE 'Rpl_semi_sync_source_yes_tx'",
  },
}

-- Flavours instead of servers.all(): these servers need a binary log, and one is killed.
for _, shared in ipairs(servers.all()) do
  local flavour, word = shared.flavour, words[shared.flavour]
  describe("replication through the proxy, " .. shared.name, function()
    local primary, replica, proxy, idle_descriptors

    local function start(id)
      local options = { "--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1",
        "--innodb-flush-log-at-trx-commit=1", "--server-id=" .. id }
      for _, option in ipairs(word.options) do
        options[#options + 1] = option
      end
      return servers.start(flavour, options)
    end

    setup(function()
      primary, replica = start(1), start(2)
      proxy = proxies.start { primary }
      idle_descriptors = proxy:descriptors()
      primary:sql [[
        CREATE TABLE test.rows_changed (id INT AUTO_INCREMENT PRIMARY KEY, a INT, t VARCHAR(100), b LONGBLOB);
      ]]
      replica:sql(word.source:format(proxy.port))
      replica:sql(word.start)
    end)

    teardown(function()
      proxy:stop()
      replica:stop()
      primary:stop()
    end)

    -- 10,000 of them, in many transactions and in few; and an event that is larger than a packet.
    local function change_rows()
      local text = { "USE test;" }
      for i = 1, 500 do
        text[#text + 1] = ("INSERT INTO rows_changed (a, t) VALUES (%d, 'single');"):format(i)
      end
      for _ = 1, 4 do
        text[#text + 1] = "INSERT INTO rows_changed (a, t) SELECT a + 1, CONCAT(t, a) FROM rows_changed LIMIT 500;"
      end
      text[#text + 1] = "INSERT INTO rows_changed (a, t) SELECT a, REVERSE(t) FROM rows_changed LIMIT 2500;"
      text[#text + 1] = "UPDATE rows_changed SET a = a + 1, t = UPPER(t) ORDER BY id LIMIT 4000;"
      text[#text + 1] = "DELETE FROM rows_changed ORDER BY id DESC LIMIT 999;"
      text[#text + 1] = "INSERT INTO rows_changed (a, b) VALUES (0, REPEAT('0123456789abcdefghijklm', 1000000));"
      primary:sql(table.concat(text, "\n"))
    end

    -- The fourth and the eleventh column: where it is connected, and whether it is. Then all of them.
    local function status()
      local text = replica:sql(word.status)
      local port, running = text:match(("[^\t]*\t"):rep(3) .. "([^\t]*)\t" .. ("[^\t]*\t"):rep(6) .. "([^\t]*)\t")
      return port, running, text
    end

    local function io_running()
      return (select(2, status()))
    end

    local function same_rows()
      local checksum = "CHECKSUM TABLE test.rows_changed"
      assert.equal(primary:sql(checksum), replica:sql(checksum))
    end

    local function catch_up()
      local file, position = primary:sql(word.position):match("(%S+)%s+(%d+)")
      local waited = replica:sql(word.wait:format(file, position)):match("%S+")
      assert.truthy(tonumber(waited) and tonumber(waited) >= 0, (select(3, status())))
    end

    local function catch_up_by_gtid()
      local waited = replica:sql(word.wait_for_gtids:format(primary:sql(word.gtids):gsub("%s", ""))):match("%S+")
      assert.equal("0", waited, (select(3, status())))
    end

    it("by file and position catches up", function()
      change_rows()
      catch_up()
      same_rows()
      assert.equal(tostring(proxy.port), (status()))
      assert.truthy(primary:sql("SHOW PROCESSLIST"):find("\tBinlog Dump\t", 1, true))
    end)

    it("by GTID catches up", function()
      replica:sql(word.stop)
      replica:sql(word.by_gtid)
      change_rows()
      replica:sql(word.start)
      catch_up_by_gtid()
      same_rows()
      assert.truthy(primary:sql("SHOW PROCESSLIST"):find("\t" .. word.dump_command .. "\t", 1, true))
    end)

    it("whose replica acknowledges what it has got goes on", function()
      primary:sql(word.semi_sync_primary)
      replica:sql(word.semi_sync_replica)
      replica:sql(word.stop)
      replica:sql(word.start)
      assert.truthy(process.wait_until(function()
        return primary:sql("SHOW STATUS LIKE 'Rpl_semi_sync_%_clients'"):match("%d+") == "1"
      end))
      for i = 1, 20 do
        primary:sql(("INSERT INTO test.rows_changed (a) VALUES (%d)"):format(i))
      end
      assert.equal("20", (primary:sql(word.semi_sync_commits):match("%d+")))
      catch_up_by_gtid()
      same_rows()
    end)

    it("through a script that wants to see every answer goes on: a binary log has no end to wait for", function()
      local looking = scripted.start({ primary }, [[
        function read_query(packet)
          print("command " .. packet:byte())
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          print("answered " .. inj.query:byte() .. " " .. tostring(inj.resultset.query_status))
        end
      ]])
      replica:sql(word.stop)
      replica:sql(word.to_port:format(looking.port))
      change_rows()
      replica:sql(word.start)
      catch_up_by_gtid()
      same_rows()
      primary:sql("INSERT INTO test.rows_changed (a) VALUES (1)")
      catch_up_by_gtid()
      assert.matches("command " .. (flavour == "mysql" and 30 or 18) .. "\n$", looking.process:stdout())
      replica:sql(word.stop)
      replica:sql(word.to_port:format(proxy.port))
      replica:sql(word.start)
      assert.equal(0, looking:stop())
      assert.is_nil(looking:log():match("%(critical%) [^\n]*session[^\n]*"))
    end)

    it("through a script that splits reads from writes goes on, and its connection is not kept for others", function()
      local splitting = scripted.start({ primary }, 'require("splitting")', {
        ("--lua-path=%s/spec/integration/scripts/?.lua"):format(uv.cwd()),
      })
      replica:sql(word.stop)
      replica:sql(word.to_port:format(splitting.port))
      replica:sql(word.start)
      primary:sql("INSERT INTO test.rows_changed (a) VALUES (1)")
      catch_up_by_gtid()
      same_rows()
      assert.equal(tostring(splitting.port), (status()))
      replica:sql(word.stop)
      replica:sql(word.to_port:format(proxy.port))
      replica:sql(word.start)
      assert.truthy(process.wait_until(function()
        primary:sql "INSERT INTO test.rows_changed (a) VALUES (1)" -- a primary notices when it writes
        return select(2, primary:sql("SHOW PROCESSLIST"):gsub("\tBinlog Dump", "")) == 1
      end, 10), primary:sql("SHOW PROCESSLIST"))
      catch_up_by_gtid()
      assert.equal(0, splitting:stop())
      assert.is_nil(scripted.complaints(splitting:log()))
    end)

    it("is told at once when the primary dies, and goes on when it is back", function()
      assert.equal("Yes", io_running())
      primary:stop()
      local before = uv.hrtime()
      assert.truthy(process.wait_until(function()
        return io_running() ~= "Yes"
      end, 5), "the replica believes that its primary lives")
      assert.is_true(uv.hrtime() - before < 3e9)
      primary:start()
      change_rows()
      catch_up_by_gtid()
      same_rows()
      assert.equal("Yes", io_running())
    end)

    it("that stops leaves nothing behind", function()
      replica:sql(word.stop)
      assert.truthy(process.wait_until(function()
        return proxy:descriptors() == idle_descriptors
      end, 5))
      assert.truthy(process.wait_until(function()
        primary:sql "INSERT INTO test.rows_changed (a) VALUES (1)" -- a primary notices when it writes
        return not primary:sql("SHOW PROCESSLIST"):find("Binlog Dump", 1, true)
      end, 10))
    end)
  end)
end
