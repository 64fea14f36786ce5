local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("the end of a session, " .. server.name, function()
    local proxy, idle_descriptors

    before_each(function()
      proxy = proxies.start { server }
      idle_descriptors = proxy:descriptors()
    end)

    after_each(function()
      proxy:stop()
    end)

    local function login(port)
      return raw.connect(port or proxy.port):login("nopass")
    end

    -- What the server knows about its clients, without those that ask.
    local function threads()
      return tonumber((server:sql [[
        SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'nopass'
      ]]:match("%d+")))
    end

    local function becomes(expected, actual, seconds)
      assert(process.wait_until(function()
        return actual() == expected
      end, seconds or 10), ("did not become %s"):format(tostring(expected)))
    end

    local function all_returned()
      becomes(0, threads)
      becomes(idle_descriptors, function()
        return proxy:descriptors()
      end)
    end

    it("by a client that closes while idle ends the server's thread", function()
      local client = login()
      assert.equal(1, threads())
      client:close()
      all_returned()
    end)

    it("by COM_QUIT closes both sides", function()
      local client = login()
      client:send("\1")
      assert.truthy(client:wait_for_end())
      client:close()
      all_returned()
    end)

    it("by a client that holds locks lets them go", function()
      local client = login()
      client:query("SELECT GET_LOCK('proxy', 0)")
      assert.equal("0", server:sql("SELECT IS_FREE_LOCK('proxy')"):match("%d"))
      client:close()
      becomes("1", function()
        return server:sql("SELECT IS_FREE_LOCK('proxy')"):match("%d")
      end)
      all_returned()
    end)

    it("by a client killed in mid-result ends the server's thread", function()
      local client = login()
      client:query("SELECT REPEAT('x', 10000000) UNION ALL SELECT REPEAT('y', 10000000)")
      client:pause()
      client:close()
      all_returned()
    end)

    it("by a half-closed client comes after its answer, as it does directly", function()
      local function answer(port)
        local client, packets = login(port), {}
        client:send("\3SELECT SLEEP(0.2)")
        client.socket:shutdown()
        for i = 1, 5 do -- column count, definition, EOF, row, EOF; a server may or may not add that it closes
          packets[i] = client:packet()
        end
        assert.truthy(client:wait_for_end())
        client:close()
        return packets
      end
      local direct = answer(server.port)
      assert.equal(5, #direct)
      assert.same(direct, answer(proxy.port))
      all_returned()
    end)

    describe("by a client that leaves a script's queue behind", function()
      local queueing, left

      before_each(function()
        left = 0
        server:sql("CREATE TABLE test.queued (number INT)")
        queueing = scripted.start(server, [[
          local NEEDED = { resultset_is_needed = true }
          local LOCKED = "\3INSERT INTO test.queued SELECT GET_LOCK('queued', 1000)"
          local FILE = "\3LOAD DATA LOCAL INFILE 'x' INTO TABLE test.queued"
          local POLL = "\3DO 1"
          local command, plans
          plans = {
            ["\1"] = { LOCKED, LOCKED }, ["\3work"] = { LOCKED, LOCKED, LOCKED }, ["\3poll"] = { POLL },
            ["\3first"] = { LOCKED, LOCKED, LOCKED }, ["\3later"] = { LOCKED },
            ["\3lock, file"] = { LOCKED, FILE }, ["\3file"] = { FILE },
            ["\3file, streamed"] = { FILE },
          }
          function read_query(packet)
            command = packet
            if packet == "\3poll at the end" then plans["\1"] = { POLL } end
            local plan = plans[packet] or {}
            if packet:byte() == proxy.COM_CHANGE_USER then
              plan = { packet:find("test") and LOCKED or packet, packet:find("test") and packet }
            end
            for _, query in ipairs(plan) do
              proxy.queries:append(query == POLL and 2 or 1, query,
                { resultset_is_needed = packet ~= "\3file, streamed" })
            end
            if #plan > 0 then return proxy.PROXY_SEND_QUERY end
          end
          function read_query_result(inj)
            if command == "\3first" then
              proxy.queries:prepend(3, "\3INSERT INTO test.queued VALUES (3)", NEEDED)
            elseif inj.query == LOCKED and command:byte() == proxy.COM_CHANGE_USER then
              return proxy.PROXY_IGNORE_RESULT
            elseif inj.query == LOCKED and #proxy.queries == 0 then
              proxy.queries:append(3, "\3INSERT INTO test.queued VALUES (2)", NEEDED)
              if command == "\3later" then return proxy.PROXY_IGNORE_RESULT end
            elseif inj.id == 2 then
              print("polled")
              proxy.queries:append(2, POLL, NEEDED)
              return proxy.PROXY_IGNORE_RESULT
            end
          end
          function disconnect_client() print("left") end]])
      end)

      after_each(function()
        queueing:stop()
        server:sql("DROP TABLE test.queued")
        all_returned()
      end)

      local function prints(pattern)
        assert(process.wait_until(function()
          return queueing.process:stdout():find(pattern)
        end), queueing.process:stdout())
      end

      local function leaves()
        left = left + 1
        prints(("left\n.*"):rep(left))
      end

      -- A client that leaves in its way while the first statement waits; what has been inserted when its session ends.
      local function inserted(client, command, leave)
        local holder = login()
        holder:ask("SELECT GET_LOCK('queued', 0)")
        client:send(command)
        becomes("1", function()
          return server:sql("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'User%lock'")
            :match("%d+")
        end)
        leave(client)
        holder:close()
        leaves()
        return server:sql("SELECT number FROM test.queued ORDER BY number"):gsub("\n", " ")
      end

      local function close(client)
        client:close()
      end

      local function half_close(client)
        local done
        client.socket:shutdown(function()
          done = true
        end)
        process.wait_until(function()
          return done
        end)
      end

      it("sends what read_query has queued, but nothing that is added later", function()
        assert.equal("1 1 1 ", (inserted(login(queueing.port), "\3work", close)))
        assert.equal("1 1 1 1 1 1 ", (inserted(login(queueing.port), "\3first", close)))
      end)

      it("answers one that has only ended its own sending", function()
        local client = login(queueing.port)
        assert.equal("1 1 1 ", (inserted(client, "\3work", half_close)))
        assert.equal(1, client:answer(client:packet()).affected_rows)
        assert.equal("EOF", client:wait_for_end())
        client:close()
      end)

      it("answers each of its commands, though it does not send what is added for one", function()
        local client = login(queueing.port)
        assert.equal("1 ", (inserted(client, "\3later", function()
          client:send("\3SELECT 7")
          half_close(client)
        end)))
        assert.equal("(lua) the script has left no result for this command", client:answer(client:packet()).errmsg)
        assert.same({ { "7" } }, client:answer(client:packet()).rows)
        assert.equal("EOF", client:wait_for_end())
        client:close()
      end)

      it("sends all of it behind COM_QUIT, which it comes to whatever was added before", function()
        assert.equal("1 1 2 ", (inserted(login(queueing.port), "\1", close)))
        assert.equal("1 1 1 1 1 2 2 ", (inserted(login(queueing.port), "\3later", function(client)
          client:send("\1")
          client:close()
        end)))
      end)

      it("ends one that goes on for ever behind COM_QUIT after a thousand commands", function()
        local client = login(queueing.port)
        client:send("\3poll at the end")
        client:packet()
        client:send("\1")
        client:close()
        prints("polled\nleft\n$")
        assert.equal(1001, select(2, queueing.process:stdout():gsub("polled", "")))
        assert.truthy(queueing:wait_for_log("read_query_result%(%) in %S+ has added 1000 commands behind COM_QUIT%. "
          .. "No more of them are sent%.\n"))
      end)

      it("loads no file that it does not send, or not whole", function()
        assert.equal("1 ", (inserted(login(queueing.port), "\3lock, file", close)))
        local client = login(queueing.port)
        client:send("\3file")
        assert.equal(251, client:packet():byte())
        client:send("7\n", 2)
        client:close()
        leaves()
        becomes(0, threads)
        client = login(queueing.port)
        client:write(packet.frame("\3file, streamed", 0) .. packet.frame("\3SELECT 7", 0))
        client.socket:shutdown()
        assert.equal(251, client:packet():byte())
        assert.equal("EOF", client:wait_for_end())
        leaves()
        client:close()
        assert.equal("1\n", server:sql("SELECT number FROM test.queued"))
      end)

      it("waits for no password of it", function()
        local switch = "\17nopass\0\3abc%s\0\45\0mysql_clear_password\0"
        assert.equal("1 ", (inserted(login(queueing.port), switch:format("test"), close)))
        local client = login(queueing.port)
        client:send(switch:format(""))
        assert.equal(254, client:packet():byte())
        client:close()
        leaves()
        becomes(0, threads)
      end)

      it("ends a queue that would go on for ever", function()
        local client = login(queueing.port)
        client:send("\3poll")
        prints("polled\n")
        client:close()
        prints("polled\nleft\n$")
      end)
    end)

    it("by the read timeout closes both sides without a word", function()
      local impatient = proxies.start({ server }, { "--proxy-read-timeout=0.3" })
      local client = login(impatient.port)
      local line = ("connection between 127.0.0.1:%d and %s:%d timed out. closing it\n"):format(
        client.socket:getsockname().port, server.host, server.port)
      assert.truthy(client:wait_for_end())
      assert.equal("", client:rest())
      client:close()
      becomes(0, threads)
      assert.truthy(impatient:wait_for_log("%(debug%) session[^\n]*: " .. line:gsub("%p", "%%%0")))
      impatient:stop()
    end)

    it("by a killed thread tells the client", function()
      local client = login()
      server:sql(("KILL %d"):format(client.challenge.thread_id))
      assert.truthy(client:wait_for_end())
      client:close()
      all_returned()
    end)

    describe("by the server's death", function()
      local victim, through

      before_each(function()
        victim = servers.start(server.flavour)
        through = proxies.start { victim }
      end)

      after_each(function()
        through:stop()
        victim:stop()
      end)

      it("closes idle clients", function()
        local client = login(through.port)
        victim:stop()
        assert.equal("EOF", client:wait_for_end())
        client:close()
      end)

      it("tells clients in mid-query", function()
        local client = login(through.port)
        client:send("\3SELECT SLEEP(30)")
        assert.truthy(process.wait_until(function()
          return victim:sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(30)'")
            :match("1")
        end))
        victim:stop()
        local payload, sequence = client:packet()
        local err = proto.from_err_packet(payload)
        assert.equal(1, sequence)
        assert.equal(2013, err.errcode)
        assert.equal("HY000", err.sqlstate)
        assert.equal("EOF", client:wait_for_end())
        client:close()
      end)

      it("tells clients in mid-result", function()
        local client = login(through.port)
        client:send("\3SELECT REPEAT('x', 1000000), SLEEP(0.01) FROM information_schema.columns")
        client:packet()
        client:packet()
        victim:stop()
        assert.truthy(client:wait_for_end())
        client:close()
        becomes(0, function()
          return select(2, through:log():gsub("read_query%): server closed", "")) - 1
        end)
      end)
    end)

    it("by a shutdown comes at once for idle clients, after the answer for others", function()
      local idle, busy = login(), login()
      busy:send("\3SELECT SLEEP(0.5)")
      becomes(1, function()
        return tonumber((server:sql(
          "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(0.5)'"):match("%d+")))
      end)
      proxy.process:kill("sigterm")
      assert.truthy(idle:wait_for_end())
      assert.is_nil(busy.ended)
      assert.is_false(process.accepts(proxy.port))
      local count = 0
      for _ in function() return (busy:packet()) end do
        count = count + 1
      end
      assert.equal(5, count)
      assert.equal(0, (proxy.process:wait(10)))
      idle:close()
      busy:close()
    end)

    it("by a shutdown does not wait for longer than --shutdown-timeout", function()
      local hasty = proxies.start({ server }, { "--shutdown-timeout=0.3" })
      local client = login(hasty.port)
      client:send("\3SELECT SLEEP(20)")
      becomes(1, function()
        return tonumber((server:sql(
          "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20)'"):match("%d+")))
      end)
      local begin = uv.hrtime()
      hasty.process:kill("sigterm")
      assert.equal(0, (hasty.process:wait(10)))
      assert.is_true(uv.hrtime() - begin < 10e9)
      server:sql(("KILL %d"):format(client.challenge.thread_id))
      client:close()
    end)

    describe("by a malformed packet", function()
      local function logged(...)
        local line = proxy:wait_for_log("[^\n]*out of sync[^\n]*") or proxy:log()
        for _, text in ipairs { ... } do
          assert.truthy(line:find(text, 1, true), line)
        end
      end

      it("with a wrong packet-id in the command phase is logged with peer, state and reason", function()
        local client = login()
        local peer = ("127.0.0.1:%d"):format(client.socket:getsockname().port)
        client:send("\3SELECT 1", 5)
        local err = proto.from_err_packet((client:packet()))
        assert.equal(1156, err.errcode)
        assert.truthy(client:wait_for_end())
        logged("(critical)", peer, "read_query", "received packet-id 5, but expected 0 ... out of sync")
        client:close()
        all_returned()
      end)

      it("with a wrong packet-id in the login is logged too", function()
        local client = raw.connect(proxy.port)
        client:packet()
        client:send(proto.to_response_packet { capabilities = 0x8a200, charset = 45, username = "nopass" }, 3)
        assert.truthy(client:wait_for_end())
        logged("(critical)", "read_auth", "received packet-id 3, but expected 1 ... out of sync.")
        client:close()
        all_returned()
      end)

      it("that is empty ends that session only", function()
        local client, other = login(), login()
        client:send("")
        assert.truthy(client:wait_for_end())
        assert.truthy(proxy:wait_for_log("empty packet instead of a command"))
        assert.equal("\1", (other:query("SELECT 1")))
        client:close()
        other:close()
        all_returned()
      end)

      it("in the login ends that session only", function()
        for _, garbage in ipairs { "\0", ("x"):rep(31), "\0\2\0\0" .. ("\255"):rep(40), ("\255"):rep(300) } do
          local client = raw.connect(proxy.port)
          client:packet()
          client:send(garbage, 1)
          assert.truthy(client:wait_for_end())
          client:close()
        end
        assert.truthy(proxy:log():find("read_auth", 1, true))
        all_returned()
      end)

      it("that announces more bytes than a login may have ends that session", function()
        local client = raw.connect(proxy.port)
        client:packet()
        client:write("\255\255\255\1" .. ("x"):rep(300000))
        assert.truthy(client:wait_for_end())
        client:close()
        all_returned()
      end)
    end)

    it("for a client of before 4.1 comes with an error", function()
      local client = raw.connect(proxy.port)
      client:packet()
      client:send("\5\0\0\0\0old\0\0", 1)
      local payload = client:packet()
      assert.equal("\255\215\0074.0 protocol is not supported", payload)
      assert.truthy(client:wait_for_end())
      client:close()
    end)

    it("comes after 1000 sessions of any end without a trace", function()
      for i = 1, 1000 do
        local client = raw.connect(proxy.port)
        if i % 3 == 0 then
          client:packet()
        elseif i % 3 == 1 then
          client:login("nopass")
        end
        client:close()
      end
      all_returned()
    end)

    it("leaves pipelined commands answered in their order", function()
      local client = login()
      local bytes = {}
      for i = 1, 300 do
        bytes[i] = packet.frame("\3SELECT " .. i, 0)
      end
      client:write(table.concat(bytes))
      for i = 1, 300 do
        client:packet()
        client:packet()
        client:packet()
        assert.equal(packet.to_lenenc_string(tostring(i)), (client:packet()))
        client:packet()
      end
      client:close()
      all_returned()
    end)
  end)
end
