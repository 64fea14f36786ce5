-- What a script knows of its session, the pool of idle connections, and hooks that wait.

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
        server:sql("CREATE USER IF NOT EXISTS other@'%'; GRANT SELECT ON test.* TO other@'%'")
        for _, user in ipairs { "other", "nopass" } do
          client:send("\17" .. user .. "\0\0test\0\45\0no_such_plugin\0")
          repeat
            local payload, sequence = client:packet()
            if payload:byte() == 0xfe then
              client:send("", sequence + 1)
            end
          until payload:byte() == 0
          reports(("test test %s %s"):format(user, user))
          assert.matches("^" .. user .. "@", client:ask("SELECT USER()").rows[1][1])
        end
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
          end
          function read_query_result() end]], { "--proxy-answer-limit=100000" })
        local client = login()
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        local answer = client:ask("SELECT REPEAT('x', 200000)")
        assert.equal(1105, answer.errcode)
        assert.matches("answer is longer than", answer.errmsg)
        assert.same({ { "2" } }, client:ask("SELECT 2").rows)
        client:close()
      end)
    end)

    describe("a statement's length", function()
      local LOOKS = "function read_query(packet) length = #packet end"

      it("is limited, as a script gets it whole", function()
        start(LOOKS, { "--proxy-command-limit=100000" })
        local client = login()
        assert.same({ { "90000" } }, client:ask(("SELECT LENGTH('%s')"):format(("x"):rep(90000))).rows)
        local answer = client:ask(("SELECT LENGTH('%s')"):format(("x"):rep(100000)))
        assert.same({ 1153, "Got a packet bigger than the proxy's limit (--proxy-command-limit)" },
          { answer.errcode, answer.errmsg })
        assert.equal("EOF", client:wait_for_end())
        client:close()
      end)

      it("may be more than 64 MiB if the option says so", function()
        start(LOOKS, { "--proxy-command-limit=100000000" })
        local client = login()
        assert.same({ { "70000000" } }, client:ask(("SELECT LENGTH('%s')"):format(("x"):rep(70000000))).rows)
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
        assert.truthy(proxy:wait_for_log("%(critical%) session %d+ %(nopass@[^\n]*, read_query%): "
          .. "%(read_query%) has waited for more than 0.2 seconds"))
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
