-- The hooks of a script, one by one: when they are called, with what, and what they can do.

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("a script in front of " .. server.name, function()
    local proxy

    after_each(function()
      if proxy then
        assert.equal(0, proxy:stop())
        assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
        proxy = nil
      end
    end)

    local function start(text, options)
      proxy = scripted.start(server, text, options)
      return proxy
    end

    local function login(user)
      return scripted.client(proxy, user)
    end

    local function asks(sql)
      local client = login()
      local answer = client:ask(sql)
      client:close()
      return answer
    end

    describe("is loaded", function()
      it("for each connection, and again when it has changed; open connections keep theirs", function()
        start [[function read_query() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "first" }
          return proxy.PROXY_SEND_RESULT end]]
        local old = login()
        assert.equal("first", old:ask("SELECT 1").errmsg)
        process.write_file(proxy.script, [[function read_query() proxy.response = { type = proxy.MYSQLD_PACKET_ERR,
          errmsg = "second version" } return proxy.PROXY_SEND_RESULT end]])
        assert.equal("second version", asks("SELECT 1").errmsg)
        assert.equal("first", old:ask("SELECT 1").errmsg)
        process.write_file(proxy.script, "function read_query( end")
        local refused = login().refused
        assert.same({ 1105, "MySQL Proxy Lua script failed to load. Check the error log." },
          { refused.errcode, refused.errmsg })
        assert.equal("first", old:ask("SELECT 1").errmsg)
        local path = proxy.script:gsub("%p", "%%%0")
        assert.truthy(proxy:wait_for_log("lua_load_file%(" .. path .. "%) failed: %[string"))
        assert.truthy(proxy:log():find("reloading '" .. proxy.script .. "' failed", 1, true))
        process.write_file(proxy.script, "-- repaired")
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        old:close()
      end)

      it("or the client is told that it is missing", function()
        start("")
        os.remove(proxy.script)
        local refused = login().refused
        assert.equal("MySQL Proxy Lua script failed to load. Check the error log.", refused.errmsg)
        assert.truthy(proxy:wait_for_log("lua_load_file%(.-%) failed: .*stat%(.-%) failed: No such file or directory"))
      end)

      it("or the client is told that its top level failed", function()
        start "local x = nil\nx.y = 1"
        assert.same({ 1105, "MySQL Proxy Lua script failed to execute. Check the error log." },
          { login().refused.errcode, login().refused.errmsg })
        assert.truthy(proxy:wait_for_log("%(lua%-error%) %[" .. proxy.script:gsub("%p", "%%%0") .. "%]"))
        assert.truthy(proxy:log():find("%[string .-%]:2: attempt to index local"), proxy:log())
      end)

      it("into an environment of each connection, with proxy.global and _G for all", function()
        start [[
          count = (count or 0) + 1
          proxy.global.count = (proxy.global.count or 0) + 1
          _G.shared = (_G.shared or 0) + 1
          function read_query()
            proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
              fields = { { name = "own", type = proxy.MYSQL_TYPE_LONG }, { name = "global" }, { name = "G" } },
              rows = { { count, proxy.global.count, shared } },
            } }
            return proxy.PROXY_SEND_RESULT
          end
        ]]
        login():close()
        assert.same({ { "1", "2", "2" } }, asks("SELECT 1").rows)
      end)
    end)

    describe("connect_server", function()
      it("may refuse", function()
        start [[function connect_server() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "not today",
          errcode = 1040, sqlstate = "08004" } return proxy.PROXY_SEND_RESULT end]]
        local client = login()
        assert.same({ "not today", 1040 }, { client.refused.errmsg, client.refused.errcode })
        assert.truthy(client:wait_for_end())
      end)

      it("may be a server of its own", function()
        start [[
          local proto = require("mysql.proto")
          function connect_server()
            assert(proxy.connection.backend_ndx == 0 and proxy.connection.server == nil)
            proxy.response = { type = proxy.MYSQLD_PACKET_RAW,
              packets = { proto.to_challenge_packet({ server_version = 50045, thread_id = 9 }) } }
            return proxy.PROXY_SEND_RESULT
          end
          function read_query(packet)
            proxy.response = { type = proxy.MYSQLD_PACKET_OK }
            if packet:byte() == proxy.COM_QUERY then
              proxy.response.resultset = { fields = { { name = "echo", type = proxy.MYSQL_TYPE_STRING } },
                                           rows   = { { packet:sub(2) }, { nil } } }
            end
            return proxy.PROXY_SEND_RESULT
          end]]
        local client = login("anybody")
        assert.equal(9, client.challenge.thread_id)
        assert.same({ { "SELECT 1" }, {} }, client:ask("SELECT 1").rows)
        client:send("\14")
        assert.equal(0, client:packet():byte())
        client:close()
      end)

      it("chooses a backend", function()
        local other = servers.start(server.flavour)
        proxy = scripted.start({ server, other }, [[
          function connect_server() proxy.connection.backend_ndx = 2
            assert(proxy.backends[proxy.connection.backend_ndx].address == proxy.servers[2].address) end]])
        for _ = 1, 3 do
          assert.same({ { tostring(other.port) } }, asks("SELECT @@port").rows)
        end
        other:stop()
        assert.same({ { tostring(server.port) } }, asks("SELECT @@port").rows)
      end)

      it("that fails changes nothing", function()
        start [[function connect_server() error("oops") end]]
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        assert.truthy(proxy:wait_for_log("%(connect_server%) %[string.-%]:1: oops"))
      end)
    end)

    describe("the login", function()
      it("is shown with its facts", function()
        start [[
          local seen = {}
          function read_handshake(auth)
            assert(proxy.connection.server.thread_id == auth.thread_id and proxy.connection.client.username == nil)
            seen = { auth.mysqld_version > 50000, auth.thread_id > 0, #auth.scramble }
            seen[4], seen[5] = auth.server_addr, auth.client_addr
          end
          function read_auth(auth)
            seen[#seen + 1] = auth.username .. "/" .. auth.password .. "/" .. auth.default_db
            seen[#seen + 1] = proxy.connection.client.username
            assert(proxy.connection.server.username == nil)
          end
          function read_auth_result(auth)
            if auth.packet:byte() == proxy.MYSQLD_PACKET_OK then
              seen[#seen + 1] = proxy.connection.server.username
            end
          end
          function read_query()
            for i, value in ipairs(seen) do seen[i] = tostring(value) end
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(seen, " ") }
            return proxy.PROXY_SEND_RESULT
          end]]
        local said = asks("SELECT 1").errmsg
        assert.matches("^true true 2[01] 127%.0%.0%.1:" .. server.port .. " 127%.0%.0%.1:%d+ nopass// nopass nopass$",
          said)
      end)

      it("may be refused at the handshake, and both sides are closed", function()
        start [[function read_handshake(auth)
          if not auth.client_addr:match("^10%.") then
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = "only local connects are allowed"
            return proxy.PROXY_SEND_RESULT
          end end]]
        local client = login()
        assert.equal("only local connects are allowed", client.refused.errmsg)
        assert.truthy(client:wait_for_end())
      end)

      it("may be refused before the server sees it, or after", function()
        start [[
          function read_auth(auth)
            if auth.username == "early" then
              proxy.response.type = proxy.MYSQLD_PACKET_ERR
              proxy.response.errmsg = "Logins are not allowed"
              return proxy.PROXY_SEND_RESULT
            end
          end
          function read_auth_result(auth)
            if auth.packet:byte() == proxy.MYSQLD_PACKET_OK then
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no, after all" }
              return proxy.PROXY_SEND_RESULT
            end
          end]]
        local early, late = login("early"), login()
        assert.equal("Logins are not allowed", early.refused.errmsg)
        assert.equal("no, after all", late.refused.errmsg)
        assert.truthy(early:wait_for_end())
        assert.truthy(late:wait_for_end())
      end)

      it("goes on when its hooks fail", function()
        start [[
          function read_handshake() error("one") end
          function read_auth() error("two") end
          function read_auth_result() error({}) end]]
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        for _, pattern in ipairs {
          "%(read_handshake%) .-: one", "%(read_auth%) .-: two", "%(read_auth_result%) %(null%)",
        } do
          assert.truthy(proxy:wait_for_log(pattern), pattern)
        end
      end)
    end)

    describe("read_query", function()
      it("sees every command, and what it does not touch goes on", function()
        start [[
          kinds = {}
          function read_query(packet)
            if packet == "\3REPORT" then
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(kinds, " ") }
              return proxy.PROXY_SEND_RESULT
            end
            kinds[#kinds + 1] = packet:byte() .. ":" .. packet:sub(2)
          end]]
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        client:send("\14")
        assert.equal(0, client:packet():byte())
        client:send("\2test")
        assert.equal(0, client:packet():byte())
        assert.equal("3:SELECT 1 14: 2:test", client:ask("REPORT").errmsg)
        client:close()
      end)

      it("answers by itself: OK, ERR, rows, raw packets", function()
        start [[
          local answers = {
            ok = { type = proxy.MYSQLD_PACKET_OK, affected_rows = 2, insert_id = "10" },
            err = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "I'm a error" },
            coded = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "x", errcode = "3306", sqlstate = "xyz12" },
            nothing = { type = proxy.MYSQLD_PACKET_ERR },
            unknown = { type = 17 },
            rows = { type = proxy.MYSQLD_PACKET_OK, resultset = {
              fields = { { name = "a" }, { name = "b" }, { name = "c" } },
              rows = { { "1", nil, 1.5 }, { 3, true, ("x"):rep(300) } },
            } },
            broken = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = { { name = "a" }, "b" }, rows = {} } },
            raw = { type = proxy.MYSQLD_PACKET_RAW, packets = { "\255\16\39#99999raw" } },
          }
          function read_query(packet)
            proxy.response = answers[packet:sub(2)]
            return proxy.response and "2"
          end]]
        local client = login()
        local function ask(name, ...)
          local answer, said = client:ask(name), {}
          for _, key in ipairs { ... } do
            said[#said + 1] = answer[key]
          end
          return said
        end
        assert.same({ 2, 10 }, ask("ok", "affected_rows", "insert_id"))
        assert.same({ 1105, "07000", "I'm a error" }, ask("err", "errcode", "sqlstate", "errmsg"))
        assert.same({ 3306, "xyz12", "x" }, ask("coded", "errcode", "sqlstate", "errmsg"))
        assert.same({ 1105, "07000", "(lua) proxy.response.errmsg is nil" },
          ask("nothing", "errcode", "sqlstate", "errmsg"))
        assert.same({ "(lua) handling proxy.response failed, check error-log" }, ask("unknown", "errmsg"))
        assert.same({ "(lua) handling proxy.response failed, check error-log" }, ask("broken", "errmsg"))
        assert.same({ { { "1", [3] = "1.5" }, { "3", [3] = ("x"):rep(300) } } }, ask("rows", "rows"))
        assert.same({ 10000, "99999", "raw" }, ask("raw", "errcode", "sqlstate", "errmsg"))
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        client:close()
      end)

      it("rewrites", function()
        start [[function read_query(packet)
          proxy.queries:append(1, (packet:gsub("eins", "1")))
          return proxy.PROXY_SEND_QUERY end]]
        assert.same({ { "1" } }, asks("SELECT eins").rows)
      end)

      it("that is confused about its queue is told so, and the command goes on", function()
        start [[function read_query(packet)
          if packet:find("append") then proxy.queries:append(1, "\3SELECT 99") return end
          if packet:find("forget") then return proxy.PROXY_SEND_QUERY end
          if packet:find("fail") then proxy.queries:append(1, "\3SELECT 99") error("oops") end
          return 99 end]]
        for _, word in ipairs { "append", "forget", "fail", "99" } do
          assert.same({ { word } }, asks("SELECT '" .. word .. "'").rows)
        end
        assert.truthy(proxy:wait_for_log("proxy%.queue:append%(%) or :prepend%(%) used without "
          .. "'return proxy%.PROXY_SEND_QUERY'%. Discarding 1 elements from the queue%."))
        assert.truthy(proxy:log():find("'return proxy.PROXY_SEND_QUERY' used without proxy.queue:append() or "
          .. ":prepend(). Assuming 'nil' was returned", 1, true))
        assert.truthy(proxy:log():find("%(read_query%) %[string.-%]:4: oops"))
      end)

      it("passes commands and answers of more than 16 MiB", function()
        start [[function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY end]]
        local client = login()
        client:ask("SET SESSION max_allowed_packet = 1073741824")
        local answer = client:ask("SELECT LENGTH('" .. ("x"):rep(17000000) .. "')")
        assert.same({ { "17000000" } }, answer.rows)
        assert.equal(17000000, #client:ask("SELECT REPEAT('y', 17000000)").rows[1][1])
        client:close()
      end)
    end)

    describe("read_query_result", function()
      local PROBE = [[
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          proxy.queries:append(7, "\3SELECT 42")
          return proxy.PROXY_SEND_QUERY
        end
      ]]

      it("hides what the client did not ask for", function()
        start(PROBE .. [[
          function read_query_result(inj)
            if inj.id == 7 then
              for row in inj.resultset.rows do assert(row[1] == "42" and inj.query == "\3SELECT 42") end
              assert(inj.query_time >= 0 and inj.response_time >= inj.query_time)
              return proxy.PROXY_IGNORE_RESULT
            end
          end]])
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.equal(1146, client:ask("SELECT * FROM test.nowhere").errcode)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        assert.is_nil(proxy:log():match("%(read_query_result%)[^\n]*"))
        client:close()
      end)

      it("replaces", function()
        start(PROBE .. [[
          function read_query_result(inj)
            proxy.response = { type = proxy.MYSQLD_PACKET_OK }
            proxy.response.resultset = { fields = { { name = "id" } }, rows = { { inj.id } } }
            return inj.id == 1 and proxy.PROXY_IGNORE_RESULT or proxy.PROXY_SEND_RESULT
          end]])
        assert.same({ { "7" } }, asks("SELECT 1").rows)
      end)

      it("that lets two pass gets one through", function()
        start(PROBE)
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        assert.truthy(proxy:wait_for_log("got asked to send a resultset, but ignoring it as we already have sent 1 "
          .. "resultset%(s%)%. injection%-id: 7"))
        client:close()
      end)

      it("that lets none pass leaves the client an error", function()
        start(PROBE .. "function read_query_result() return proxy.PROXY_IGNORE_RESULT end")
        local client = login()
        assert.same({ 1105, "07000" }, { client:ask("SELECT 1").errcode, client:ask("SELECT 1").sqlstate })
        client:close()
      end)

      it("that fails lets the answer pass", function()
        start(PROBE .. "function read_query_result(inj) if inj.id == 1 then error('oops') end "
          .. "return proxy.PROXY_IGNORE_RESULT end")
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        assert.truthy(proxy:wait_for_log("%(read_query_result%) %[string.-%]:%d+: oops"))
      end)

      it("may add to the queue, in front and behind, and empty it", function()
        start [[
          local order = {}
          function read_query(packet)
            proxy.queries:append(1, "\3SELECT 1")
            proxy.queries:append(2, "\3SELECT 2")
            assert(#proxy.queries == 2 and proxy.queries:len() == 2)
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            order[#order + 1] = inj.id
            if inj.id == 1 then
              proxy.queries:prepend(3, "\3SELECT 3", { resultset_is_needed = true })
              proxy.queries:append(4, "\3SELECT 4")
              assert(#proxy.queries == 3)
            elseif inj.id == 4 then
              proxy.queries:append(5, "\3SELECT 5")
            elseif inj.id == 5 then
              proxy.queries:append(6, "\3SELECT 6")
              proxy.queries:reset()
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(order, " ") }
              return proxy.PROXY_SEND_RESULT
            end
            return proxy.PROXY_IGNORE_RESULT
          end]]
        assert.equal("1 3 2 4 5", asks("x").errmsg)
      end)

      it("of an answer that was not kept can count it, and not change it", function()
        start [[
          function read_query(packet)
            if packet:byte() ~= proxy.COM_QUERY then return end
            proxy.queries:append(1, packet, { resultset_is_needed = false })
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            local r = inj.resultset
            print("counted", r.row_count, r.bytes, r.affected_rows, r.query_status)
            print(pcall(function() return r.fields end))
            return proxy.PROXY_IGNORE_RESULT
          end]]
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        assert.truthy(proxy:wait_for_log("tries to modify the resultset, but hasn't asked to buffer it"))
        local printed = proxy.process:stdout()
        assert.truthy(printed:find("counted\t1\t6\tnil\t0", 1, true), printed)
        assert.truthy(printed:find(".resultset.fields isn't available if 'resultset_is_needed ~= true'", 1, true),
          printed)
      end)
    end)

    it("a second answer that is not to be kept ends the connection, after the first", function()
      start [[function read_query(packet)
        if packet:byte() ~= proxy.COM_QUERY then return end
        proxy.queries:append(1, packet)
        proxy.queries:append(2, packet, { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY end]]
      local client = login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.truthy(client:wait_for_end())
      assert.truthy(proxy:wait_for_log("can only have one injected query without { resultset_is_needed = true } set"))
    end)

    describe("disconnect_client", function()
      it("is called once, however the client leaves", function()
        start [[
          function disconnect_client() print("left " .. tostring(proxy.connection.client.username)) end]]
        login():close()
        login("nobody"):close()
        local client = login()
        client:send("\1")
        client:wait_for_end()
        client:close()
        assert.truthy(process.wait_until(function()
          local _, count = proxy.process:stdout():gsub("left nopass", "")
          return count == 2
        end, 5), proxy.process:stdout())
      end)
    end)

    describe("a session", function()
      it("follows schema and user", function()
        start [[
          function read_query(packet)
            if packet == "\3REPORT" then
              local c = proxy.connection
              proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat({
                c.client.default_db, c.server.default_db, c.client.username, c.server.username }, " ") }
              return proxy.PROXY_SEND_RESULT
            end
          end]]
        local client = login()
        local function reports(expected)
          assert.equal(expected, client:ask("REPORT").errmsg)
        end
        reports("  nopass nopass")
        client:send("\2test")
        client:packet()
        reports("test test nopass nopass")
        client:send("\2nowhere_at_all")
        client:packet()
        reports("test test nopass nopass")
        client:ask("use `mysql`")
        reports("mysql mysql nopass nopass")
        client:send("\17nopass\0\0test\0\45\0no_such_plugin\0")
        repeat
          local payload, sequence = client:packet()
          if payload:byte() == 0xfe then
            client:send("", sequence + 1)
          end
        until payload:byte() == 0
        reports("test test nopass nopass")
        client:close()
      end)

      it("may be closed after an answer", function()
        start [[function read_query(packet)
          if packet:find("bye") then proxy.connection.connection_close = true end end]]
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.same({ { "bye" } }, client:ask("SELECT 'bye'").rows)
        assert.truthy(client:wait_for_end())
      end)

      it("goes on after a file that a script has asked the client for", function()
        start [[function read_query(packet)
          if packet == "\3GIVE" then
            proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { "\251/etc/hostname" } }
            return proxy.PROXY_SEND_RESULT
          end end]]
        local client = login()
        assert.equal("\251/etc/hostname", client:query("GIVE"))
        client:send("some lines", 2)
        client:send("", 3)
        local payload, sequence = client:packet()
        assert.same({ 0, 4 }, { payload:byte(), sequence })
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        client:close()
      end)

      it("uploads a file for a statement from the queue", function()
        start [[
          function read_query(packet)
            if packet:byte() ~= proxy.COM_QUERY then return end
            proxy.queries:append(1, packet)
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            if inj.resultset.raw:byte() == 251 then assert(inj.resultset.query_status == nil) end
          end]]
        server:sql("DROP TABLE IF EXISTS test.lines; CREATE TABLE test.lines (a VARCHAR(20))")
        local client = login()
        for _ = 1, 2 do
          assert.equal(0xfb, client:query("LOAD DATA LOCAL INFILE 'x' INTO TABLE test.lines"):byte())
          client:send("one\ntwo\n", 2)
          client:send("", 3)
          assert.equal(2, client:answer(client:packet()).affected_rows)
        end
        assert.same({ { "4" } }, client:ask("SELECT COUNT(*) FROM test.lines").rows)
        client:close()
        server:sql("DROP TABLE test.lines")
      end)

      it("keeps a result that is too long for a script from the proxy's memory, and says so", function()
        start([[
          function read_query(packet)
            if packet:byte() ~= proxy.COM_QUERY then return end
            proxy.queries:append(1, packet, { resultset_is_needed = true })
            return proxy.PROXY_SEND_QUERY
          end]], { "--proxy-answer-limit=100000" })
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        local answer = client:ask("SELECT REPEAT('x', 200000)")
        assert.equal(1105, answer.errcode)
        assert.matches("answer is longer than", answer.errmsg)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        client:close()
      end)
    end)

    describe("the pool", function()
      local POOLING = [[
        function connect_server()
          for i = 1, #proxy.global.backends do
            if proxy.global.backends[i].pool.users[""].cur_idle_connections > 0 then
              proxy.connection.backend_ndx = i
              return proxy.PROXY_IGNORE_RESULT
            end
          end
        end
        function read_auth_result(auth)
          if auth.packet:byte() == proxy.MYSQLD_PACKET_OK then proxy.connection.backend_ndx = 0 end
        end
        function read_query(packet)
          if packet:byte() == proxy.COM_QUIT then
            proxy.response = { type = proxy.MYSQLD_PACKET_OK }
            return proxy.PROXY_SEND_RESULT
          end
          if proxy.connection.backend_ndx == 0 then proxy.connection.backend_ndx = 1 end
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          if not inj.resultset.flags.in_trans then proxy.connection.backend_ndx = 0 end
        end
        function disconnect_client() proxy.connection.backend_ndx = 0 end
      ]]

      it("gives an idle connection to the next client", function()
        start(POOLING)
        local seen = {}
        for _ = 1, 4 do
          local client = login()
          assert.is_nil(client.refused)
          seen[#seen + 1] = client:ask("SELECT CONNECTION_ID()").rows[1][1]
          client:send("\1")
          client:close()
        end
        assert.same({ seen[1], seen[1], seen[1], seen[1] }, seen)
        assert.is_nil(proxy:log():match("%(critical%) %([^\n]*"))
      end)

      it("serves clients that are there at once from fewer connections, and keeps transactions apart", function()
        start(POOLING)
        local one, two = login(), login()
        assert.same(one:ask("SELECT CONNECTION_ID()").rows, two:ask("SELECT CONNECTION_ID()").rows)
        one:ask("BEGIN")
        assert.are_not.same(one:ask("SELECT CONNECTION_ID()").rows, two:ask("SELECT CONNECTION_ID()").rows)
        one:ask("COMMIT")
        one:close()
        two:close()
      end)
    end)

    describe("a hook that waits", function()
      local SLEEPS = [[
        function read_query(packet)
          local ms = tonumber(packet:match("sleep (%d+)"))
          if ms then
            proxy.async.sleep(ms)
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "awake" }
            return proxy.PROXY_SEND_RESULT
          end
        end]]

      it("holds up nobody else", function()
        start(SLEEPS)
        local sleeper, other = login(), login()
        sleeper:send("\3sleep 300")
        for _ = 1, 20 do
          assert.same({ { "1" } }, other:ask("SELECT 1").rows)
        end
        assert.equal("", sleeper:rest())
        assert.equal("awake", sleeper:answer(sleeper:packet()).errmsg)
        assert.same({ { "1" } }, sleeper:ask("SELECT 1").rows)
        sleeper:close()
        other:close()
      end)

      it("ends with its client", function()
        start(SLEEPS .. " function disconnect_client() print('left') end")
        local client = login()
        client:send("\3sleep 60000")
        assert.same({ { "1" } }, asks("SELECT 1").rows)
        client:close()
        assert.truthy(process.wait_until(function()
          local _, count = proxy.process:stdout():gsub("left", "")
          return count == 2
        end, 5))
      end)

      it("for too long is ended, and the command goes on", function()
        start(SLEEPS, { "--proxy-hook-timeout=0.2" })
        assert.equal(1064, asks("sleep 60000").errcode)
        assert.truthy(proxy:wait_for_log("%(read_query%) has waited for more than 0.2 seconds"))
      end)

      it("may ask another server, resolve a name, and run a program", function()
        start(([[
          local user = { user = %q, password = %q }
          function read_query(packet)
            local one = assert(proxy.async.query(1, "SELECT 40 + 2 AS n, CURRENT_USER()", user))
            local two, wrong = proxy.async.query("127.0.0.1:%d", "SELECT nothing", user)
            local three, refused = proxy.async.query(1, "SELECT 1", { user = "nobody", password = "x" })
            local four, closed = proxy.async.query("127.0.0.1:1", "SELECT 1", user)
            local addresses = assert(proxy.async.resolve("localhost"))
            local program = assert(proxy.async.spawn("cat", {}, "from a program"))
            local rows = {}
            for row in one.rows do rows[#rows + 1] = row[1] .. " " .. row[2] end
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat({ rows[1], one.fields[1].name,
              wrong, refused, closed, #addresses > 0 and "resolved" or "", program.stdout .. program.code }, "|") }
            return proxy.PROXY_SEND_RESULT
          end]]):format(server.account.user, server.account.password, server.port))
        local program, args = server:client() -- MySQL has to know the password, which it does not get in the clear
        for _, list in ipairs { server.clear_text, server:login(nil, server.account.user, server.account.password),
          { "-e", "SELECT 1" } } do
          for _, argument in ipairs(list) do
            args[#args + 1] = argument
          end
        end
        assert.equal(0, (process.run(program, args)))
        local said = asks("x").errmsg
        local parts = {}
        for part in (said .. "|"):gmatch("([^|]*)|") do
          parts[#parts + 1] = part
        end
        assert.equal("42 " .. server.account.user .. "@%", parts[1])
        assert.equal("n", parts[2])
        assert.matches("nothing", parts[3])
        assert.is_true(#parts[4] > 0) -- MySQL behaves as if the user existed, with any plugin
        assert.matches("ECONNREFUSED", parts[5])
        assert.same({ "resolved", "from a program0" }, { parts[6], parts[7] })
      end)

      it("may do so in each hook", function()
        start [[
          local waits = 0
          local function wait() waits = waits + 1 proxy.async.sleep(5) end
          wait()
          connect_server, read_handshake, read_auth, read_auth_result = wait, wait, wait, wait
          function read_query(packet) wait() proxy.queries:append(1, packet) return proxy.PROXY_SEND_QUERY end
          function read_query_result(inj)
            wait()
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = waits .. " waits" }
            return proxy.PROXY_SEND_RESULT
          end]]
        assert.matches("^[78] waits$", asks("SELECT 1").errmsg)
      end)
    end)
  end)
end
