-- What an operator sees of statements, commands, servers and hooks.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local SCRIPT = [[
  function connect_server() end
  function read_query(packet)
    if packet:find("broken", 1, true) then
      error("it is broken")
    elseif packet:find("queued", 1, true) then
      proxy.queries:append(1, packet, { resultset_is_needed = true })
      return proxy.PROXY_SEND_QUERY
    end
  end
  function read_query_result(inj) end
]]

for _, server in ipairs(servers.all()) do
  describe("statistics, " .. server.flavour, function()
    local proxy, admin

    local function start(options)
      proxy = proxies.start({ server }, options)
      admin = raw.connect(proxy.admin_port):login("operator")
    end

    local function rows(sql)
      return raw.text_of(admin:ask(sql))
    end

    local function texts()
      return rows("SELECT text, count FROM query_digests WHERE text IS NOT NULL ORDER BY text")
    end

    setup(function()
      server:sql [[
        CREATE DATABASE counted; CREATE TABLE counted.t (id INT PRIMARY KEY, c CHAR(9));
        INSERT INTO counted.t VALUES (1, 'a'), (2, 'b'), (3, 'c');
        CREATE USER reader@'%'; GRANT SELECT ON counted.* TO reader@'%';
      ]]
    end)

    teardown(function()
      server:sql "DROP DATABASE counted; DROP USER reader@'%'"
    end)

    after_each(function()
      admin:close()
      assert.equal(0, proxy:stop())
    end)

    it("are kept of statements for each user and schema, of commands, and of servers", function()
      start()
      local client, reader = raw.connect(proxy.port):login("nopass"), raw.connect(proxy.port):login("reader")
      client:ask("USE counted")
      for id = 1, 3 do
        client:ask(("SELECT c FROM t WHERE id <= %d"):format(id))
      end
      reader:ask("select c from counted.t where id = 1")
      reader:ask("SELECT nothing FROM counted.t")
      reader:send("\2counted")
      reader:packet()
      reader:ask("SELECT c FROM t WHERE id <= 2")
      reader:ask("USE mysql")
      reader:ask("SELECT c FROM t WHERE id <= 2")
      client:ask("/* why */ UPDATE t SET c = 'x' WHERE id = 1")
      assert.equal(table.concat({
        "SELECT `c` FROM `counted` . `t` WHERE `id` = ?||reader|1|0|1",
        "SELECT `c` FROM `t` WHERE `id` <= ?|counted|nopass|3|0|6",
        "SELECT `c` FROM `t` WHERE `id` <= ?|counted|reader|2|0|4",
        "SELECT `nothing` FROM `counted` . `t`||reader|1|1|0",
        "UPDATE `t` SET `c` = ? WHERE `id` = ?|counted|nopass|1|0|0",
        "USE `counted`||nopass|1|0|0",
        "USE `mysql`|counted|reader|1|1|0",
      }, "\n"), (rows([[SELECT text, schema, user, count, errors, rows FROM query_digests
        ORDER BY text, schema, user]]):gsub(",", "|"):gsub("(%d) ([SU])", "%1\n%2")))
      assert.equal("1", rows [[SELECT COUNT(*) FROM query_digests WHERE count = 3 AND bytes_from_client > 90
        AND bytes_from_server > 90 AND min_time > 0 AND min_time <= p50_time AND p50_time <= p95_time
        AND p95_time <= p99_time AND p99_time <= max_time AND max_time < sum_time AND first_seen <= last_seen
        AND last_seen > '2020' AND LENGTH(digest) = 16]])

      assert.equal("COM_INIT_DB,1,0,0 COM_QUERY,10,2,11", rows("SELECT command, count, errors, rows FROM commands"))
      assert.equal("10", rows("SELECT SUM(count) FROM command_latency WHERE command = 'COM_QUERY'"))
      assert.equal("10", rows("SELECT MAX(total) FROM command_latency WHERE command = 'COM_QUERY'"))
      assert.equal("11,2,1,1,1", rows [[SELECT queries, errors, bytes_to_server > 200, bytes_from_server > 500,
        latency > 0 FROM backends]])
      assert.equal("", rows("SELECT * FROM hooks"))
      client:close()
      reader:close()
    end)

    it("are kept of a script's hooks and of what it sends, in as many digests as --statistics-digests says", function()
      start { "--statistics-digests=2", "--proxy-lua-script=" .. process.write_file(process.path("hooks.lua"), SCRIPT) }
      local client = raw.connect(proxy.port):login("nopass")
      client:ask("SELECT 1 AS queued")
      for _, name in ipairs { "broken", "c", "d" } do
        client:ask(("SELECT 1 AS %s"):format(name))
      end
      assert.equal("SELECT ? AS `broken`,1 SELECT ? AS `queued`,1", texts())
      assert.equal("other,2,2,NULL,NULL", rows [[SELECT digest, count, rows, text, user FROM query_digests
        WHERE text IS NULL]])
      assert.equal("connect_server,1,NULL read_query,4,1 read_query_result,1,NULL",
        rows("SELECT hook, calls, last_error LIKE '%it is broken%' FROM hooks"))
      assert.equal("3", rows("SELECT COUNT(*) FROM hooks WHERE sum_time > 0"))
      client:ask("SELECT 1 AS queued")
      assert.equal("SELECT ? AS `broken`,1 SELECT ? AS `queued`,2", texts())

      -- They begin anew for who says so, each by itself.
      assert.equal(1288, admin:ask("DELETE FROM query_digests WHERE count > 1").errcode)
      assert.equal(1142, admin:ask("TRUNCATE TABLE backends").errcode)
      assert.equal(1146, admin:ask("TRUNCATE TABLE nowhere").errcode)
      assert.equal(3, admin:ask("DELETE FROM query_digests").affected_rows)
      assert.equal("0", rows("SELECT COUNT(*) FROM query_digests"))
      assert.equal("COM_QUERY,5", rows("SELECT command, count FROM commands"))
      assert.equal(0, admin:ask("TRUNCATE commands").affected_rows)
      assert.equal("", rows("SELECT command, count FROM commands"))
      assert.equal("", rows("SELECT command, count FROM command_latency"))
      admin:ask("TRUNCATE TABLE proxy.hooks")
      assert.equal("", rows("SELECT * FROM hooks"))
      raw.connect(proxy.port):login("nobody_of_this_name"):close()
      assert.equal("1", rows("SELECT COUNT(*) FROM errors WHERE user = 'nobody_of_this_name'"))
      admin:ask("truncate table errors")
      assert.equal("0", rows("SELECT COUNT(*) FROM errors"))
      client:ask("SELECT 1 AS queued")
      assert.equal("SELECT ? AS `queued`,1", texts())
      assert.equal("COM_QUERY,1", rows("SELECT command, count FROM commands"))
      assert.equal("1", rows("SELECT SUM(count) FROM command_latency"))
      assert.equal("read_query,1,NULL read_query_result,1,NULL",
        rows("SELECT hook, calls, last_error FROM hooks WHERE hook LIKE 'read_query%'"))
      assert.matches("operator@127.0.0.1:%d+ has emptied query_digests", proxy:log())
      client:close()
    end)

    it("are kept of prepared statements under their text", function()
      start()
      local client = raw.connect(proxy.port):login("nopass")
      client:send("\22SELECT c FROM counted.t WHERE id > 1")
      local id = client:packet():sub(2, 5)
      client:packet()
      client:packet()
      for _ = 1, 2 do
        client:send("\23" .. id .. "\0\1\0\0\0")
        client:answer(client:packet())
      end
      assert.equal("SELECT `c` FROM `counted` . `t` WHERE `id` > ?,2,4",
        rows("SELECT text, count, rows FROM query_digests"))
      assert.equal("COM_STMT_EXECUTE,2,4 COM_STMT_PREPARE,1,0",
        rows("SELECT command, count, rows FROM commands ORDER BY command"))
      client:close()
    end)

    it("are not kept with --proxy-skip-profiling, until an operator wants them", function()
      start { "--proxy-skip-profiling" }
      local client = raw.connect(proxy.port):login("nopass")
      client:ask("SELECT 1")
      assert.equal("0", rows("SELECT COUNT(*) FROM query_digests"))
      assert.equal("", rows("SELECT * FROM commands"))
      assert.equal("0", rows("SELECT queries FROM backends"))
      admin:ask("SET proxy_profiling = 1")
      local later = raw.connect(proxy.port):login("nopass")
      later:ask("SELECT 'x'")
      client:ask("SELECT 1, 2") -- its session has begun before
      assert.equal("SELECT ?,1", texts())
      client:close()
      later:close()
    end)
  end)
end
