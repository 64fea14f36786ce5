-- What the hooks of a script decide about the commands of a session, in front of real servers.

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local EVAL, says, does = scripted.EVAL, scripted.says, scripted.does

for _, server in ipairs(servers.all()) do
  describe("the hooks of a script in front of " .. server.name .. ":", function()
    local series

    setup(function()
      series = scripted.series({ server, "127.0.0.1:1" }, {
        server.socket and "--proxy-read-only-backend-addresses=" .. server.socket or nil,
      })
    end)

    teardown(function()
      series:stop()
      assert.is_nil(series.proxy:log():match("error in a callback[^\n]*"))
    end)

    after_each(function()
      series:leave()
    end)

    it("what counts as a decision", function()
      series:run [[
        function read_query(packet)
          local code = packet:match("^\3SELECT 1 /%* (.-) %*/")
          if not code then return end
          proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = 7 }
          return assert(loadstring("return " .. code))()
        end]]
      local client = series:login()
      for _, code in ipairs { "2", '"2"', '" 2 "', "2.9", '"2.5"', "2, 1", "proxy.PROXY_SEND_RESULT",
        "PROXY_SEND_RESULT" } do
        assert.equal(7, client:ask(("SELECT 1 /* %s */"):format(code)).affected_rows, code)
      end
      for _, code in ipairs { "", "nil", "nil, 2", "true", "{}", "print", '"x"', '"PROXY_SEND_RESULT"', "0", "0.9", "4",
        "proxy.PROXY_IGNORE_RESULT", "proxy.queries" } do
        assert.same({ { "1" } }, client:ask(("SELECT 1 /* %s */"):format(code)).rows, code)
      end
      assert.equal("", (series:log():match("%((message)%) session") or ""))
      for code, number in pairs { ["99"] = "99", ["-1"] = "-1", ["3"] = "3", ["'5.5'"] = "5", ["1e300"] = "1e+300" } do
        assert.same({ { "1" } }, client:ask(("SELECT 1 /* %s */"):format(code)).rows, code)
        series:logs(("(message) %s"):format("session"), true)
        series:logs((": read_query returned %s, which means nothing"):format(number), true)
      end
      assert.is_nil(series:log():find("(critical) (", 1, true))
    end)

    it("what counts as none passes everything on", function()
      for _, value in ipairs { "nil", "true", "'x'", "{}", "0", "4", "99", "1" } do
        series:run(([[
          local value = %s
          function connect_server() return value end
          function read_handshake() if value ~= 1 then return value end end
          function read_auth() return value end
          function read_auth_result() return value end
          function disconnect_client() return value end]]):format(value))
        assert.same({ { "1" } }, series:login():ask("SELECT 1").rows, value)
        for _, hook in ipairs { "connect_server", "read_handshake", "read_auth", "read_auth_result" } do
          assert.equal(value == "99", series:log():find(hook .. " returned 99", 1, true) ~= nil)
        end
      end
    end)

    it("are called in order, and say nothing by themselves", function()
      series:run [[
        for _, hook in ipairs {
          "connect_server", "read_handshake", "read_auth", "read_auth_result", "disconnect_client",
        } do
          getfenv(1)[hook] = function(argument, more) print(hook .. ": " .. type(argument), more) end
        end
        function read_query(packet, more)
          print("read_query " .. packet:sub(2), more)
          if packet:find("2", 1, true) then
            proxy.queries:append(1, packet)
            return proxy.PROXY_SEND_QUERY
          end
        end
        function read_query_result(inj) print("read_query_result " .. inj.id .. " " .. inj.query:sub(2)) end]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      client:close()
      series:prints("disconnect_client: nil\tnil\n", true)
      local printed = series:stdout():gsub("\tnil\n", "\n")
        :gsub("read_auth_result: table\n(read_auth_result: table\n)", "%1") -- some plugins ask twice
      assert.equal("connect_server: nil\nread_handshake: table\nread_auth: table\nread_auth_result: table\n"
        .. "read_query SELECT 1\nread_query SELECT 2\nread_query_result 1 SELECT 2\ndisconnect_client: nil\n", printed)
      series:run ""
      assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
      series:leave()
      series:logs("(debug) session", true)
      for level in series:log():gmatch(": %((%a+)%) ") do
        assert.equal("debug", level)
      end
    end)

    it("an error before the login has its SQL state in the text, for clients that do not expect one yet", function()
      local before = server.flavour == "mysql" and "(HY000): #07000" or "(07000): "
      for script, text in pairs {
        ["function connect_server() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = 'no' } return 2 end"]
          = before .. "no\n",
        ["function read_handshake() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = 'no' } return 2 end"]
          = before .. "no\n",
        ["function read_auth() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = 'no' } return 2 end"]
          = "(07000): no\n",
        ["syntax error"] = before .. "MySQL Proxy Lua script failed to load. Check the error log.\n",
      } do
        series:run(script)
        local program, args = server:client()
        for _, list in ipairs { server.clear_text, server:login(series.proxy.port), { "-e", "SELECT 1" } } do
          for _, argument in ipairs(list) do
            args[#args + 1] = argument
          end
        end
        local _, _, errors = process.run(program, args)
        assert.truthy(errors:find("ERROR 1105 " .. text, 1, true), errors)
      end
    end)

    it("a name that is no function's is logged, and otherwise as if it were not there", function()
      series:run [[
        connect_server, read_handshake, read_auth, read_auth_result, disconnect_client = "x", {}, 1, true, io.stdout
        read_query_result = setmetatable({}, { __call = function() error("it is no function") end })
        function read_query(packet)
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY
        end]]
      assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
      series:leave()
      for _, text in ipairs {
        "connect_server is no function: string", "read_handshake is no function: table",
        "read_auth is no function: number", "read_auth_result is no function: boolean",
        "(network_mysqld_con_handle_proxy_resultset) got wrong type: table",
        "disconnect_client is no function: userdata",
      } do
        series:logs(": " .. text .. "\n", true)
      end
      local messages = select(2, series:log():gsub("%(message%) session", ""))
      assert.equal(6, messages)
      series:run "read_query = 'x'"
      assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
      series:logs(": read_query is no function: string\n", true)
      assert.is_nil(series:log():find("(critical) ", 1, true))
    end)

    it("proxy.response is the script's until the next read_query", function()
      series:run [[
        print("begins", type(proxy.response), next(proxy.response))
        function connect_server() proxy.response.mark = "connect" end
        function read_auth_result() print("login", proxy.response.mark) end
        function read_query(packet)
          print("query", proxy.response.mark)
          proxy.response.mark = packet:sub(2)
          proxy.queries:append(1, packet)
          proxy.queries:append(2, packet)
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          print(inj.id, proxy.response.mark)
          if inj.id == 2 then return proxy.PROXY_IGNORE_RESULT end
          proxy.response = { mark = "new" }
        end]]
      local client = series:login()
      client:ask("SELECT 1")
      client:ask("SELECT 2")
      series:prints("begins\ttable\tnil\nlogin\tconnect\nquery\tnil\n1\tSELECT 1\n2\tnew\n"
        .. "query\tnil\n1\tSELECT 2\n2\tnew\n", true)
    end)

    it("proxy.response has no metatable of the command before, even if it was left empty", function()
      series:run [[
        function read_query(packet)
          if packet:find("ANSWER") then return proxy.PROXY_SEND_RESULT end
          setmetatable(proxy.response, { __index = { type = proxy.MYSQLD_PACKET_OK } })
        end]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal("(lua) handling proxy.response failed, check error-log", client:ask("ANSWER").errmsg)
    end)

    it("are looked up for each command, if need be by the script itself, which may do more then", function()
      series:run [[
        local globals, ends = _G, false
        function read_query_result() print("answered") end
        local function read_query(packet)
          print("asked", packet:sub(2))
          ends = true
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY
        end
        setmetatable(getfenv(), { __index = function(_, name)
          if name ~= "read_query" then return globals[name] end
          if ends then proxy.connection.connection_close = true end
          return read_query
        end })]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      assert.truthy(client:wait_for_end())
      series:prints("asked\tSELECT 1\nanswered\nasked\tSELECT 2\nanswered\n", true)
    end)

    it("are those that are there, in a script that has the use of undeclared names reported", function()
      series:run [[
        local globals = _G
        function read_query(packet)
          if packet:find("MISTAKE") then return undeclared end
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY
        end
        setmetatable(getfenv(), { __index = function(_, name)
          if globals[name] == nil then error("variable '" .. name .. "' is not declared", 2) end
          return globals[name]
        end })]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2 /* MISTAKE */").rows)
      assert.same({ { "3" } }, client:ask("SELECT 3").rows)
      client:close()
      series:logs("client closed")
      local errors = series:leave()
      assert.equal(1, #errors, table.concat(errors, "\n"))
      assert.matches("^%(read_query%) .*variable 'undeclared' is not declared", errors[1])
    end)

    it("connect_server chooses a server", function()
      local function lands(index, verdict)
        series:run(EVAL .. "function connect_server() print('asked') proxy.connection.backend_ndx = " .. index
          .. " print(proxy.connection.backend_ndx) return " .. (verdict or "nil") .. " end")
        local client = series:login()
        assert.is_nil(client.refused)
        local ndx = says(client, "proxy.connection.backend_ndx")
        client:close()
        return ndx
      end
      assert.equal("1", lands("1"))
      assert.equal("1", lands("'1'"))
      assert.equal("1", lands("1.9"))
      assert.equal("1", lands("0"))
      assert.equal("1", lands("-1"))
      does(series:login(), "proxy.backends[2].state = proxy.BACKEND_STATE_UNKNOWN")
      assert.equal("1", lands("2")) -- it does not answer: another one
      series:prints("^asked\n2\nasked\n2\n$")
      assert.equal("1", lands("2")) -- now it is down
      series:prints("^asked\n2\n$")
      if server.socket then
        assert.equal("3", lands("3")) -- of the read-only ones, by choice only
        for _, verdict in ipairs { "proxy.PROXY_SEND_QUERY", "proxy.PROXY_IGNORE_RESULT", "99", "true" } do
          assert.equal("3", lands("3", verdict))
        end
        assert.equal("1", lands("3", "error('oops')")) -- what has failed chooses nothing
      end
      series:run "function connect_server() proxy.connection.backend_ndx = 4 end"
      assert.equal("(proxy) all backends are down", series:login().refused.errmsg)
      series:run(EVAL .. "function connect_server() return proxy.PROXY_IGNORE_RESULT end") -- none has been taken
      assert.equal("1", says(series:login(), "proxy.connection.backend_ndx"))
    end)

    it("read_handshake is not called for a connection that was idle, read_auth and read_auth_result are", function()
      series:run [[
        function connect_server() proxy.connection.backend_ndx = 1
          print("connect", proxy.connection.server ~= nil) return proxy.PROXY_IGNORE_RESULT end
        function read_handshake() print("handshake") end
        function read_auth() print("auth") end
        function read_auth_result(auth) print("result", auth.packet:byte()) end
        function disconnect_client() proxy.connection.backend_ndx = 0 print("left") end]]
      series:login():close()
      series:prints("left\n", true)
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      series:prints("^connect\tfalse\nhandshake\nauth\n.*result\t0\nleft\nconnect\ttrue\nauth\nresult\t%d+\n")
      client:close()
      series:run(EVAL)
      assert.equal("0", says(series:login(), "proxy.backends[1].idling_connections - 1"))
      series:run "function connect_server() proxy.connection.backend_ndx = 1 return proxy.PROXY_IGNORE_RESULT end"
      series:login()
    end)

    it("read_query sees every command", function()
      series:run [[function read_query(packet) print(packet:byte(), #packet) end]]
      local client, expected = series:login(), {}
      for _, command in ipairs {
        "\14", "\2test", "\9", "\22SELECT 1", "\23\1\0\0\0\0\1\0\0\0", "\24\1\0\0\0\0\0x", "\26\1\0\0\0",
        "\28\1\0\0\0\1\0\0\0", "\25\1\0\0\0", "\27\1\0", "\10",
        "\12\255\255\255\255", "\5x", "\6x", "\7\1", "\13", "\15", "\0", "\200",
        "\4none\0%", "\3" .. ("x"):rep(2 ^ 24 + 7), "\14", "\1",
      } do
        client:send(command)
        table.insert(expected, ("%d\t%d\n"):format(command:byte(), #command))
      end
      assert.truthy(client:wait_for_end())
      client = series:login()
      client:send("\18\4\0\0\0\0\0\1\0\0\0") -- after COM_BINLOG_DUMP nothing else may come
      series:prints(table.concat(expected) .. "18\t11\n", true)
    end)

    it("read_query answers, and its queue is not sent", function()
      series:run [[function read_query(packet)
        if packet:find("made") then
          proxy.queries:append(1, "\3SET @leak = 1")
          proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = 5 }
          return proxy.PROXY_SEND_RESULT
        elseif packet:byte() == proxy.COM_QUIT then
          proxy.response = { type = proxy.MYSQLD_PACKET_OK }
          return proxy.PROXY_SEND_RESULT
        end
        assert(#proxy.queries == 0)
      end
      function read_query_result() print("called") end
      function disconnect_client() print("left") end]]
      local client = series:login()
      assert.equal(5, client:ask("made").affected_rows)
      assert.same({ { "1", nil } }, client:ask("SELECT 1, @leak").rows)
      client:send("\1")
      assert.equal(0, client:packet():byte())
      assert.equal("", series:stdout())
      client:close()
      series:prints("^left\n$")
    end)

    it("read_query answers every command, and nobody is told who would not listen", function()
      series:run [[function read_query(packet)
        print(packet:byte())
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no " .. packet:byte() }
        return proxy.PROXY_SEND_RESULT
      end]]
      local client = series:login()
      for _, command in ipairs { "\22SELECT ?", "\24\1\0\0\0\0\0x", "\23\1\0\0\0", "\25\1\0\0\0", "\14", "\1" } do
        client:send(command)
      end
      for _, number in ipairs { 22, 23, 14, 1 } do
        assert.equal("no " .. number, client:answer(client:packet()).errmsg)
      end
      assert.equal("", client:rest())
      series:prints("22\n24\n23\n25\n14\n1\n", true)
    end)

    it("read_query_result says something that means nothing", function()
      series:run [[
        function read_query(packet)
          proxy.queries:append(1, packet)
          proxy.queries:append(2, "\3SELECT 2")
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          print(inj.id)
          proxy.queries:reset()
          return tonumber(inj.query:match("/%* (.-) %*/"))
        end]]
      local client = series:login()
      for _, number in ipairs { "99", "1", "-7" } do
        assert.same({ { "1" } }, client:ask(("SELECT 1 /* %s */"):format(number)).rows)
        series:logs("%(message%) session [^\n]*: return%-code for read_query_result%(%) was neither "
          .. "PROXY_SEND_RESULT or PROXY_IGNORE_RESULT, will ignore the result\n")
      end
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal(("1\n"):rep(4), series:stdout()) -- and the rest of the queue is gone
    end)

    it("read_query_result cannot take back what has gone to the client", function()
      for _, verdict in ipairs { "PROXY_IGNORE_RESULT", "PROXY_SEND_RESULT" } do
        series:run(([[
          function read_query(packet)
            proxy.queries:append(1, packet, { resultset_is_needed = false })
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result()
            proxy.response = { type = proxy.MYSQLD_PACKET_OK }
            return proxy.%s
          end]]):format(verdict))
        assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
        series:logs("%(critical%) session [^\n]*: read_query_result%(%) in ")
        series:logs(("read_query_result() in %s tries to modify the resultset, but hasn't asked to buffer it in "
          .. "proxy.query:append(..., { resultset_is_needed = true }). We ignore the change to the result-set."):format(
          series.proxy.script), true)
      end
    end)

    it("read_query_result may keep what it was shown", function()
      series:run [[
        local kept = {}
        function read_query(packet)
          collectgarbage()
          if packet == "\3KEPT" then
            local texts = { kept.fields[1].name, kept.row[1], kept.inj.id, kept.inj.query:sub(2) }
            local ok, row = pcall(kept.rows)
            texts[#texts + 1] = ok and row and row[1] or "gone"
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(texts, " ") }
            return proxy.PROXY_SEND_RESULT
          end
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          if kept.inj then return end
          kept.inj, kept.fields, kept.rows = inj, inj.resultset.fields, inj.resultset.rows
          kept.row = kept.rows()
        end]]
      local client = series:login()
      client:ask("SELECT 'one' AS name UNION SELECT 'two'")
      client:ask("SELECT 'other' AS title")
      local said = client:ask("KEPT").errmsg
      assert.matches("^name one ", said)
      assert.truthy(said:find(" two$") or said:find(" gone$"), said)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)

    it("disconnect_client is called once, whatever the reason", function()
      series:run [[
        function read_query(packet)
          if packet == "\3POOL" then
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = proxy.backends[1].idling_connections .. " idle"
            return proxy.PROXY_SEND_RESULT
          end
        end
        function disconnect_client()
          print("left " .. proxy.connection.client.src.port)
          if proxy.connection.client.username == "nopass" then proxy.connection.backend_ndx = 0 end
          return proxy.PROXY_IGNORE_RESULT
        end]]
      local function leaves(client, how)
        local line = ("left %d\n"):format(client.socket:getsockname().port)
        how(client)
        series:prints(line, true)
        return line
      end
      local watcher = series:login()
      local before = watcher:ask("POOL").errmsg
      local lines = {
        leaves(series:login("nobody"), function() end), -- the server has refused him
        leaves(series:login(), function(client) -- the server goes away: that connection is of no use to others
          server:sql("KILL " .. client:ask("SELECT CONNECTION_ID()").rows[1][1])
        end),
        leaves(raw.connect(series.proxy.port), function(client) client:close() end), -- before the login
      }
      assert.equal(before, watcher:ask("POOL").errmsg)
      table.insert(lines, leaves(series:login(), function(client) client:send("\14", 5) end)) -- that is no command
      table.insert(lines, leaves(series:login(), function(client) client:send("\1") end))
      table.insert(lines, leaves(series:login(), function(client) client:close() end))
      for _, line in ipairs(lines) do
        assert.equal(1, select(2, series:stdout():gsub(line, "")), line)
      end
    end)

    it("disconnect_client is called when a session has been idle for too long", function()
      local other = scripted.series(server, { "--proxy-read-timeout=0.2" })
      finally(function()
        other:leave()
        other:stop()
      end)
      other:run "function disconnect_client() print('left') end"
      assert.truthy(other:login():wait_for_end())
      other:prints("^left\n$")
    end)

    it("disconnect_client's decision keeps no connection", function()
      series:run(EVAL .. "function disconnect_client() print('left') return proxy.PROXY_IGNORE_RESULT end")
      local watcher, leaving = series:login(), series:login()
      local before = does(watcher, "return proxy.backends[1].idling_connections")
      local id = leaving:ask("SELECT CONNECTION_ID()").rows[1][1]
      local function there()
        for _, row in ipairs(watcher:ask("SHOW PROCESSLIST").rows) do
          if row[1] == id then
            return true
          end
        end
        return false
      end
      assert.is_true(there())
      leaving:close()
      series:prints("left\n", true)
      assert.equal(before, does(watcher, "return proxy.backends[1].idling_connections"))
      assert.truthy(process.wait_until(function() return not there() end, 10))
    end)
  end)
end
