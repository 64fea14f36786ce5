-- The scripts of the old_*_spec.lua under mixed load, all three at once, in front of a server that replicates to
-- another: the answers stay right, nobody meets an error, and the proxies do not grow. MYSQL_PROXY_LOAD_SECONDS says
-- for how long, MYSQL_PROXY_LOAD_RATE how many events a second each script gets (not set: as many as it can take).

local uv = require "luv"

local old_script = require "spec.support.old_script"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local sysbench = require "spec.bench.sysbench"
local usage = require "spec.bench.usage"

local SECONDS = tonumber(os.getenv("MYSQL_PROXY_LOAD_SECONDS")) or (proxies.sanitized() and 5 or 10)
local RATE = tonumber(os.getenv("MYSQL_PROXY_LOAD_RATE"))
local WARM_UP, SLACK_KB = 2, 256
local CHECK_EVERY = 1e8 -- nanoseconds
local MOST_ROUNDS = SECONDS < 60 and 6 or 0 -- more of the warm-up

-- share: of the rate. Who writes is alone in a table of its own, as two would meet deadlocks.
local TEXT = "--db-ps-mode=disable"
local LOADS = {
  { script = "oltp_point_select", connections = 4, share = 0.5 },
  { script = "oltp_read_write", share = 0.05 },
  { script = "oltp_read_write", more = { TEXT }, share = 0.05 },
  { script = "oltp_read_write", more = { TEXT, "--skip-trx=on" }, share = 0.1 },
  { script = "oltp_write_only", more = { TEXT }, share = 0.1 },
  { script = "spec/bench/connect.lua", connections = 2, share = 0.2 },
}

local SOURCE = {
  mariadb = [[CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='root', MASTER_PASSWORD='root';
    START SLAVE]],
  mysql = [[CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%d, SOURCE_USER='root',
    SOURCE_PASSWORD='root', GET_SOURCE_PUBLIC_KEY=1; START REPLICA]],
}

-- What a client sees meanwhile of what each script adds.
local checks = {}

function checks.statistics(client)
  assert.same({ { "0" } }, client:ask("SELECT COUNT(*) FROM stats.queries WHERE errors > 0").rows)
  assert.is_true(#client:ask("SELECT * FROM stats.clients WHERE user = 'sysbench' ORDER BY thread_id").rows >= 1)
  local count = tonumber(client:ask("SELECT value FROM stats.totals WHERE name = 'queries'").rows[1][1])
  client:ask("SELECT 1")
  assert.is_true(tonumber(client:ask("SELECT value FROM stats.totals WHERE name = 'queries'").rows[1][1]) > count)
end

function checks.macros(client)
  assert.equal(2, client:ask("MACRO DEFINE total(what) AS DO 1; SELECT SUM(price) FROM soak.old WHERE kind = $what")
    .affected_rows)
  assert.same({ { "5.00" } }, client:ask("MACRO RUN total('pen')").rows)
  assert.same({ { "north", "7.00", "1.50", "7.00" }, { "south", nil, "3.50", "3.50" } },
    client:ask("PIVOT soak.old ROWS shop COLUMNS kind VALUES MAX(price)").rows)
  assert.equal("20", client:ask("LOOP 20 SELECT $i").rows[1][1])
  assert.same({ { "1", "ink", "1", "0" }, { "2", "pen", "2", "0" } }, client:ask("FOREACH (SELECT DISTINCT kind "
    .. "FROM soak.old ORDER BY 1) DO UPDATE soak.old SET sold = sold + 1 WHERE kind = $kind").rows)
end

-- What an answer is that is no ERR, and not the end of the connection.
local function done(client, sql)
  local answer = client:ask(sql)
  assert(not answer.errmsg and not answer.closed, ("%s: %s"):format(sql, answer.errmsg or "the connection was closed"))
  return answer
end

function checks.splitter(client)
  done(client, "BEGIN")
  assert.same({ { "1" } }, done(client, "SELECT @@server_id FROM soak.old LIMIT 1").rows)
  done(client, "COMMIT")
  assert.same({ { "1" } }, done(client, "SELECT @@server_id FROM soak.old LIMIT 1 FOR UPDATE").rows)
  done(client, "CREATE TEMPORARY TABLE soak.mine (id INT)")
  done(client, "INSERT INTO soak.mine VALUES (1), (2)")
  assert.same({ { "2", "1" } }, done(client, "SELECT COUNT(*), @@server_id FROM soak.mine").rows)
  done(client, "DROP TABLE soak.mine")
  done(client, "SELECT SQL_CALC_FOUND_ROWS id FROM soak.old LIMIT 1")
  assert.same({ { "3" } }, done(client, "SELECT FOUND_ROWS()").rows)
  local id = done(client, "INSERT INTO soak.items (kind) VALUES ('new')").insert_id
  assert.same({ { tostring(id) } }, done(client, "SELECT LAST_INSERT_ID()").rows)
  done(client, "DELETE FROM soak.items")
end

for _, shared in ipairs(servers.all()) do
  describe("old scripts under load, " .. shared.name .. " #long", function()
    local primary, replica
    local scripts = {} -- name -> proxy, client

    local function start_server(id)
      return servers.start(shared.flavour, { "--log-bin=binlog", "--sync-binlog=0", "--binlog-format=ROW",
        "--server-id=" .. id, "--max-binlog-size=64M" })
    end

    -- A database for each load, with a table of sysbench's.
    local function make_tables()
      sysbench.make_user(primary)
      sysbench.run { script = "oltp_common", command = "prepare", port = primary.port, more = { "--table-size=1000" } }
      local sql = { ([[
        GRANT ALL ON *.* TO %s@'%%'; CREATE DATABASE soak;
        CREATE TABLE soak.items (id INT AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(20));
        CREATE TABLE soak.old (id INT PRIMARY KEY, shop VARCHAR(20), kind VARCHAR(20), price DECIMAL(9,2), sold INT);
        INSERT INTO soak.old VALUES (1, 'north', 'pen', 1.5, 0), (2, 'north', 'ink', 7, 0), (3, 'south', 'pen', 3.5, 0);
      ]]):format(sysbench.user) }
      for name in pairs(checks) do
        for i = 1, #LOADS do
          sql[#sql + 1] = ([[CREATE DATABASE %s; CREATE TABLE %s.sbtest1 LIKE test.sbtest1;
            INSERT INTO %s.sbtest1 SELECT * FROM test.sbtest1;]]):gsub("%%s", name .. i)
        end
      end
      primary:sql(table.concat(sql))
      assert(process.wait_until(function()
        return replica:sql("SHOW DATABASES LIKE 'splitter%'"):find("splitter" .. #LOADS, 1, true)
          and replica:sql("SELECT COUNT(*) FROM splitter" .. #LOADS .. ".sbtest1") == "1000\n"
      end), "the replica does not follow")
    end

    setup(function()
      primary, replica = start_server(1), start_server(2)
      replica:sql(SOURCE[shared.flavour]:format(primary.port))
      make_tables()
      for name in pairs(checks) do
        local options = old_script.options(name)
        options[#options + 1] = "--log-level=debug" -- says how each session ended
        options[#options + 1] = "--proxy-connect-timeout=60" -- how long a busy server takes is not asked for here
        options[#options + 1] = "--proxy-read-only-backend-addresses=127.0.0.1:" .. replica.port
        local proxy = proxies.start({ primary }, options)
        scripts[name] = { proxy = proxy, client = raw.connect(proxy.port):login(sysbench.user) }
      end
      scripts.splitter.client:ask("PROXY SET GLOBAL splitter.hold_insert_id = false") -- sysbench's are its own
    end)

    teardown(function()
      for _, script in pairs(scripts) do
        script.client:close()
        assert.equal(0, script.proxy:stop())
      end
      replica:stop()
      primary:stop()
    end)

    local function start_load(name, i, seconds)
      local load, more = LOADS[i], { "--table-size=1000" }
      for _, option in ipairs(load.more or {}) do
        more[#more + 1] = option
      end
      if RATE then
        more[#more + 1] = ("--rate=%d"):format(math.max(1, RATE * load.share))
      end
      return process.start("sysbench", sysbench.arguments {
        script = load.script, command = "run", port = scripts[name].proxy.port, database = name .. i,
        connections = load.connections, seconds = seconds, more = more,
      })
    end

    -- What a client said, and when the proxy gave up what.
    local function story(name, client)
      local lines = { name, client:stdout(), client:stderr() }
      for line in scripts[name].proxy:log():gmatch("[^\n]*timed out[^\n]*") do
        lines[#lines + 1] = line
      end
      return table.concat(lines, "\n")
    end

    local function finished(name, i, client)
      local said = story(name, client)
      assert.equal(0, client.code, said)
      local report = sysbench.report(client:stdout())
      assert.same({ 0, 0 }, { report.errors, report.reconnects }, said)
      assert.is_true(report.queries > 0, ("%s, %s: no queries"):format(name, LOADS[i].script))
    end

    -- All loads on all scripts. Returns how often each check has been made, and the highest resident memory of each
    -- proxy in the first half and in the second.
    local function run(seconds)
      local running, rounds = {}, 0
      for name, script in pairs(scripts) do
        script.before, script.peaks = script.peaks, {}
        usage.forget_peak(script.proxy.pid)
        for i = 1, #LOADS do
          running[#running + 1] = { name, i, start_load(name, i, seconds) }
        end
      end
      local function peak(half)
        for _, script in pairs(scripts) do
          script.peaks[half] = usage.peak_kb(script.proxy.pid)
          usage.forget_peak(script.proxy.pid)
        end
      end
      local begun, checked = uv.hrtime(), 0
      process.wait_until(function()
        local now = uv.hrtime()
        if now - checked > CHECK_EVERY then
          for name, check in pairs(checks) do
            local ok, failure = pcall(check, scripts[name].client)
            assert(ok, ("%s: %s\n%s"):format(name, tostring(failure), scripts[name].proxy:log()))
          end
          checked, rounds = now, rounds + 1
        end
        if not scripts.splitter.peaks[1] and (now - begun) / 1e9 >= seconds / 2 then
          peak(1)
        end
        for _, each in ipairs(running) do
          if each[3]:running() then
            return false
          end
        end
        return true
      end, seconds + 120)
      peak(2)
      for _, each in ipairs(running) do
        finished(unpack(each))
      end
      return rounds
    end

    -- Who needed more memory in the second half of a run than in the first.
    local function grown_within()
      for name, script in pairs(scripts) do
        if script.peaks[2] > script.peaks[1] + SLACK_KB then
          return ("%s: %d kB, then %d kB"):format(name, unpack(script.peaks))
        end
      end
    end

    -- Who needed more memory in a run than in the one before.
    local function grown_since()
      for name, script in pairs(scripts) do
        local before, now = math.max(unpack(script.before)), math.max(unpack(script.peaks))
        if now > before + SLACK_KB then
          return ("%s: %d kB, then %d kB"):format(name, before, now)
        end
      end
    end

    it("answer right, without an error, and do not grow", function()
      run(WARM_UP)
      assert.is_true(run(SECONDS) > 1)
      for _, script in pairs(scripts) do
        local log = script.proxy:log():gsub("%(critical%) [%a -]+ %S+ started", "")
        log = log:gsub("%(critical%) [^\n]*: slow hook: ", "") -- a busy machine's, which sets processes aside
        assert.is_nil(log:match("%(critical%)[^\n]*"))
      end
      local counted = scripts.statistics.client:ask("SELECT query FROM stats.queries WHERE query LIKE '%sbtest1%'").rows
      assert.is_true(#counted >= 5, #counted .. " statements")
      local status = {}
      for _, row in ipairs(scripts.splitter.client:ask("SHOW SPLITTER STATUS").rows) do
        status[row[1]] = tonumber(row[2])
      end
      assert.equal(0, status.refused)
      for _, key in ipairs { "to_slave", "moves", "reused_logins" } do
        assert.is_true(status[key] > 100, ("%s: %d"):format(key, status[key]))
      end
      -- The collector and the allocator take their time until they have what the load needs; a leak goes on.
      local round, growth = 0, not proxies.sanitized() and grown_within()
      while growth and round < MOST_ROUNDS do
        round = round + 1
        run(WARM_UP)
        growth = grown_since()
      end
      assert(not growth, growth)
    end)
  end)
end
