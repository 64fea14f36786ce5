-- What the stock scripts did that kept connections to servers for others, or chose among servers, in scripts of our own
-- that use the interface in the same ways (scripts/), and what a user sees of them.

local uv = require "luv"

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local folder = uv.cwd() .. "/spec/integration/scripts/"

local function text_of(name)
  return process.read_file(folder .. name .. ".lua")
end

local WHERE = "SELECT SUBSTRING_INDEX(USER(), '@', -1)" -- through TCP or the server's socket

for _, server in ipairs(servers.all()) do
  if server.socket then -- one server, through two addresses
    describe("in front of " .. server.name, function()
      local series
      local primary = "127.0.0.1:" .. server.port
      local reader = { "--proxy-read-only-backend-addresses=" .. server.socket }

      after_each(function()
        if series then
          local errors = series:leave()
          series:stop()
          series = nil
          assert.same({}, errors)
        end
      end)

      local function start(backends, options, text)
        series = scripted.series(backends, options)
        series:run(text)
      end

      -- Leaves as a client does whose COM_QUIT is answered by the script.
      local function quit(client)
        client:send("\1")
        assert.equal(0, client:packet():byte())
        client:close()
      end

      local function first(client, sql)
        local answer = client:ask(sql)
        return assert(answer.rows, answer.errmsg)[1][1]
      end

      local function connects()
        return tonumber(server:sql("SHOW STATUS LIKE 'Connections'"):match("%d+"))
      end

      it("a script keeps connections alive", function()
        start({ primary, server.socket }, nil, text_of "keepalive")
        local before, ids = connects(), {}
        for turn = 1, 6 do
          local client = series:login()
          client:send("\14")
          assert.equal(0, client:packet():byte())
          ids[turn] = first(client, "SELECT CONNECTION_ID()")
          assert.equal(ids[turn], first(client, "SELECT CONNECTION_ID()"))
          quit(client)
        end
        assert.equal("[new connection] to 1\n[new connection] to 2\n",
          (series:stdout():gsub("%(read_auth_result%) not yet\n", ""))) -- another plugin than the server's
        assert.same({ ids[1], ids[1], ids[1] }, { ids[2], ids[4], ids[6] })
        assert.equal(3, connects() - before) -- two, and the one that counts

        local client, other = series:login(), series:login()
        client:send("\2test")
        assert.equal(0, client:packet():byte())
        assert.equal("test", first(client, "SELECT DATABASE()"))
        client:ask("BEGIN")
        assert.is_true(first(client, "SELECT CONNECTION_ID()") ~= first(other, "SELECT CONNECTION_ID()"))
        client:ask("ROLLBACK")
        assert.equal(first(client, "SELECT CONNECTION_ID()"), first(other, "SELECT CONNECTION_ID()"))

        for _ = 1, 3 do -- the server's own client
          local program, args = server:client()
          local rest = { "-N", "-B", "-e", "SELECT 7" }
          for _, list in ipairs { server.clear_text, server:login(series.proxy.port, "nopass", ""), rest } do
            for _, argument in ipairs(list) do
              args[#args + 1] = argument
            end
          end
          local code, output, errors = process.run(program, args)
          assert.equal(0, code, errors)
          assert.equal("7\n", output)
        end
      end)

      it("a script chooses readers by their lag", function()
        start({ primary }, reader, text_of "reader_by_lag")
        local client = series:login() -- of the reader, of which nothing is known yet
        assert.same({ errcode = 1105, sqlstate = "08S01", errmsg = "slave-state is noslave" }, client:ask("SELECT 1"))
        assert.is_truthy(client:wait_for_end())
        assert.equal("127.0.0.1", first(series:login(), WHERE))
        assert.equal("backend 2\n" .. server.socket .. ": noslave, ? seconds, no error\nbackend 1\n", series:stdout())

        local function pretends(state, more)
          series:run((text_of "reader_by_lag"
            :gsub("SHOW SLAVE STATUS", ("SELECT '%s' AS Slave_IO_Running, 3 AS Seconds_Behind_Master, "
              .. "NULL AS Last_Error, '' AS Nothing"):format(state))) .. (more or ""))
        end
        pretends("Yes", "\nif not proxy.global.forgotten then proxy.global.lag = {} proxy.global.forgotten = true end")
        client = series:login()
        assert.equal("localhost", first(client, WHERE))
        assert.equal("localhost", first(client, WHERE)) -- it is not asked again so soon
        assert.equal("localhost", first(series:login(), WHERE))
        assert.equal("backend 2\n" .. server.socket .. ": running, 3 seconds, no error\nbackend 2\n", series:stdout())
        assert.equal(1, client:ask("PROXY SET GLOBAL ro_balance.check_timeout = 0").affected_rows)
        assert.equal("localhost", first(client, WHERE))
        assert.equal(2, select(2, series:stdout():gsub("running, 3 seconds", "")))

        pretends("No")
        client = series:login()
        assert.same({ errcode = 1105, sqlstate = "08S01", errmsg = "slave-state is noiothread" },
          client:ask("SELECT 1"))
        assert.is_truthy(client:wait_for_end())
      end)

      it("a script that only requires a splitter splits reads from writes", function()
        start({ primary }, { reader[1], "--lua-path=" .. folder .. "?.lua" }, 'require("splitting")')
        server:sql("DROP TABLE IF EXISTS test.splitting;"
          .. "CREATE TABLE test.splitting (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;"
          .. "DROP DATABASE IF EXISTS splitting_gone; CREATE DATABASE splitting_gone")
        local client = series:login()
        assert.equal(1, client:ask("PROXY SET GLOBAL rwsplit.min_idle_connections = 1").affected_rows)
        assert.equal("127.0.0.1", first(client, WHERE)) -- no reader has an idle connection yet
        for _ = 1, 3 do
          quit(series:login())
        end
        local before = connects()
        client = series:login()
        assert.equal(1, connects() - before) -- of the one that counts: from here on idle ones serve
        for _, sql in ipairs { WHERE, "/* a */ " .. WHERE, "SELECT 1, LAST_INSERT_ID() UNION " .. WHERE .. ", 2" } do
          local rows = client:ask(sql).rows
          assert.equal("localhost", rows[#rows][1], sql)
        end
        for _, sql in ipairs { WHERE .. " AS LAST_INSERT_ID", WHERE .. ", @@INSERT_ID" } do
          assert.equal("127.0.0.1", first(client, sql), sql)
        end
        client:ask("BEGIN")
        assert.equal("127.0.0.1", first(client, WHERE .. " FOR UPDATE"))
        assert.equal("127.0.0.1", first(client, WHERE))
        local other = series:login()
        assert.equal("127.0.0.1", first(other, WHERE)) -- the module's locals are everybody's
        client:ask("COMMIT")
        assert.equal("localhost", first(client, WHERE))

        local function connection(of)
          return of:ask("SHOW VARIABLES LIKE 'pseudo_thread_id'").rows[1][2]
        end
        local where = first(client, "SELECT SQL_CALC_FOUND_ROWS CONNECTION_ID()")
        assert.equal(where, connection(client)) -- which stays until the next SELECT
        assert.equal("localhost", first(client, WHERE))
        assert.is_true(connection(client) ~= where)
        assert.equal(1, client:ask("INSERT INTO test.splitting () VALUES ()").insert_id)
        where = connection(client)
        assert.equal(1, client:ask("INSERT INTO test.splitting () VALUES (7)").affected_rows)
        assert.is_true(connection(other) ~= where) -- which the other cannot get, as the first has an insert id there
        assert.equal(0, client:ask("DO 1").affected_rows)
        client:send("\18\4\0\0\0\0\0\1\0\0\0") -- COM_BINLOG_DUMP
        assert.equal(255, client:packet():byte()) -- it has no binary log

        client:send("\2test")
        assert.equal(0, client:packet():byte())
        assert.equal("test", first(client, "SELECT DATABASE()"))
        series:prints("    server default db: \n    client default db: test\n", true)
        client:send("\2splitting_gone")
        assert.equal(0, client:packet():byte())
        server:sql("DROP DATABASE splitting_gone")
        assert.same({ errcode = 1105, sqlstate = "07000",
          errmsg = "can't change DB splitting_gone to on slave " .. server.socket }, client:ask("SELECT 1"))
        series:logs("got asked to send a resultset, but ignoring it as we already have sent 1 resultset(s). "
          .. "injection-id: 1", true) -- the script has not emptied its queue
        assert.equal(1, #series:leave())
        series:run ""
      end)
    end)
  end
end
