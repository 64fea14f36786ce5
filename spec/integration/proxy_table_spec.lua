-- What a script finds in `proxy`: the constants, the backends, its connection, the queue.

local packet = require "mysql.packet"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local EVAL, says, does = scripted.EVAL, scripted.says, scripted.does

local CONSTANTS = {
  PROXY_SEND_QUERY = 1, PROXY_SEND_RESULT = 2, PROXY_IGNORE_RESULT = 4, MYSQLD_PACKET_OK = 0, MYSQLD_PACKET_RAW = 250,
  MYSQLD_PACKET_NULL = 251, MYSQLD_PACKET_EOF = 254, MYSQLD_PACKET_ERR = 255, BACKEND_STATE_UNKNOWN = 0,
  BACKEND_STATE_UP = 1, BACKEND_STATE_DOWN = 2, BACKEND_TYPE_UNKNOWN = 0, BACKEND_TYPE_RW = 1, BACKEND_TYPE_RO = 2,
  COM_SLEEP = 0, COM_QUIT = 1, COM_INIT_DB = 2, COM_QUERY = 3, COM_FIELD_LIST = 4, COM_CREATE_DB = 5, COM_DROP_DB = 6,
  COM_REFRESH = 7, COM_SHUTDOWN = 8, COM_STATISTICS = 9, COM_PROCESS_INFO = 10, COM_CONNECT = 11,
  COM_PROCESS_KILL = 12, COM_DEBUG = 13, COM_PING = 14, COM_TIME = 15, COM_DELAYED_INSERT = 16, COM_CHANGE_USER = 17,
  COM_BINLOG_DUMP = 18, COM_TABLE_DUMP = 19, COM_CONNECT_OUT = 20, COM_REGISTER_SLAVE = 21, COM_STMT_PREPARE = 22,
  COM_STMT_EXECUTE = 23, COM_STMT_SEND_LONG_DATA = 24, COM_STMT_CLOSE = 25, COM_STMT_RESET = 26, COM_SET_OPTION = 27,
  COM_STMT_FETCH = 28, COM_DAEMON = 29, MYSQL_TYPE_DECIMAL = 0, MYSQL_TYPE_TINY = 1, MYSQL_TYPE_SHORT = 2,
  MYSQL_TYPE_LONG = 3, MYSQL_TYPE_FLOAT = 4, MYSQL_TYPE_DOUBLE = 5, MYSQL_TYPE_NULL = 6, MYSQL_TYPE_TIMESTAMP = 7,
  MYSQL_TYPE_LONGLONG = 8, MYSQL_TYPE_INT24 = 9, MYSQL_TYPE_DATE = 10, MYSQL_TYPE_TIME = 11, MYSQL_TYPE_DATETIME = 12,
  MYSQL_TYPE_YEAR = 13, MYSQL_TYPE_NEWDATE = 14, MYSQL_TYPE_VARCHAR = 15, MYSQL_TYPE_BIT = 16,
  MYSQL_TYPE_NEWDECIMAL = 246, MYSQL_TYPE_ENUM = 247, MYSQL_TYPE_SET = 248, MYSQL_TYPE_TINY_BLOB = 249,
  MYSQL_TYPE_MEDIUM_BLOB = 250, MYSQL_TYPE_LONG_BLOB = 251, MYSQL_TYPE_BLOB = 252, MYSQL_TYPE_VAR_STRING = 253,
  MYSQL_TYPE_STRING = 254, MYSQL_TYPE_GEOMETRY = 255,
}

for _, server in ipairs(servers.all()) do
  local SCRIPT = EVAL .. [[
    function disconnect_client()
      local c = proxy.connection
      print("left", c.client.src.name, c.client.dst.name, c.server.src.name, c.server.dst.name)
    end]]

  describe("`proxy` in front of " .. server.name, function()
    local series, client, address, socket, v6

    setup(function()
      socket, v6 = process.path("sock"), process.free_port()
      series = scripted.series({ server, "127.0.0.1:1" }, {
        "--proxy-read-only-backend-addresses=127.0.0.1:2", "--proxy-address=" .. socket,
        "--proxy-address=[::1]:" .. v6,
      })
      address = server.host .. ":" .. server.port
    end)

    teardown(function()
      series:stop()
    end)

    before_each(function()
      series:run(SCRIPT)
      client = series:login()
      assert.equal("1", says(client, "proxy.connection.backend_ndx"))
    end)

    after_each(function()
      series:leave()
    end)

    -- The server's own client: what EVAL says to it.
    local function cli_says(expressions, user, secret, ...)
      local program, args = server:client()
      for _, list in ipairs { { "-N", "-B" }, server.clear_text, { "-u" .. user, "--password=" .. secret }, { ... },
        { "-e", "EVAL " .. expressions } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output:gsub("\n$", "") or errors
    end

    it("has every constant", function()
      local names = {}
      for name in pairs(CONSTANTS) do
        names[#names + 1] = name
      end
      local index = 0
      for value in says(client, "proxy." .. table.concat(names, ", proxy.")):gmatch("%S+") do
        index = index + 1
        assert.equal(tostring(CONSTANTS[names[index]]), value, names[index])
      end
      assert.equal(#names, index)
      assert.equal("1 2 4", says(client, "PROXY_SEND_QUERY, PROXY_SEND_RESULT, PROXY_IGNORE_RESULT"))
      assert.equal("number true true true", says(client, "type(proxy.PROXY_VERSION), proxy.PROXY_VERSION >= 0x00805, "
        .. "proxy.PROXY_VERSION >= 0x00501, PROXY_VERSION == proxy.PROXY_VERSION"))
      local major, minor, patch = series.proxy:log():match("mysql%-proxy (%d+)%.(%d+)%.(%d+)")
      assert.equal(tostring(major * 65536 + minor * 256 + patch), says(client, "proxy.PROXY_VERSION"))
      assert.equal("nil", says(client, "proxy.nothing"))
    end)

    it("tokenizes", function()
      assert.equal("3 TK_SQL_SELECT SELECT TK_INTEGER", says(client, "#proxy.tokenize('SELECT 1 FROM'), "
        .. "proxy.tokenize('SELECT 1')[1].token_name, proxy.tokenize('SELECT 1')[1].text, "
        .. "proxy.tokenize('SELECT 1')[2].token_name"))
    end)

    describe("the backends:", function()
      it("one object by three names, which counts from 1, read-only ones last", function()
        assert.equal("3 true true userdata", says(client, "#proxy.backends, proxy.backends == proxy.servers, "
          .. "proxy.backends == proxy.global.backends, type(proxy.backends)"))
        assert.equal(address .. " 127.0.0.1:1 127.0.0.1:2 1 1 2", says(client, "proxy.backends[1].address, "
          .. "proxy.backends[2].address, proxy.backends[3].address, proxy.backends[1].type, proxy.backends[2].type, "
          .. "proxy.backends[3].type"))
        assert.equal("nil nil nil 127.0.0.1:1",
          says(client, "proxy.backends[0], proxy.backends[4], proxy.backends[-1], proxy.backends['2'].address"))
        local log = series.proxy:log()
        for _, text in ipairs {
          "added read/write backend: " .. address, "added read/write backend: 127.0.0.1:1",
          "added read-only backend: 127.0.0.1:2", "proxy listening on port 127.0.0.1:" .. series.proxy.port,
        } do
          assert.truthy(log:find("(message) " .. text .. "\n", 1, true), text)
        end
        assert.matches("bad argument .*%(number expected, got string%)", does(client, "return proxy.backends.first"))
        assert.equal("proxy.global.backends is not writable", does(client, "proxy.backends[1] = {}"))
      end)

      it("what is known of each", function()
        assert.equal(("1 1 0 nil 2 %s 127.0.0.1 %d nil"):format(address, server.port), says(client,
          "proxy.backends[1].state, proxy.backends[1].connected_clients, proxy.backends[1].idling_connections, "
          .. "proxy.backends[1].uuid, proxy.backends[1].dst.type, proxy.backends[1].dst.name, "
          .. "proxy.backends[1].dst.address, proxy.backends[1].dst.port, proxy.backends[1].nothing"))
        assert.equal("0 0 0 0", says(client, "proxy.backends[3].state, proxy.backends[3].connected_clients, "
          .. "proxy.backends[3].pool.max_idle_connections, proxy.backends[3].pool.min_idle_connections"))
        assert.equal("0 0 0 nil", says(client, "proxy.backends[1].pool.users.me.cur_idle_connections, "
          .. "proxy.backends[1].pool.users[''].cur_idle_connections, "
          .. "proxy.backends[1].pool.users[1].cur_idle_connections, proxy.backends[1].pool.nothing"))
      end)

      it("what can be written", function()
        for _, key in ipairs { "address", "dst", "connected_clients", "type", "idling_connections", "pool", "mine" } do
          assert.equal(("proxy.global.backends[...].%s is not writable"):format(key),
            does(client, ("proxy.backends[1].%s = 1"):format(key)))
        end
        assert.equal("my id nil", does(client, "local b = proxy.backends[3] b.uuid = 'my id' local id = b.uuid "
          .. "b.uuid = nil return id, b.uuid"))
        assert.equal("proxy.global.backends[...].uuid has to be a string", does(client, "proxy.backends[1].uuid = 7"))
        assert.equal("2 0", does(client, "local b = proxy.backends[3] b.state = proxy.BACKEND_STATE_DOWN "
          .. "local state = b.state b.state = proxy.BACKEND_STATE_UNKNOWN return state, b.state"))
        assert.equal("2 0", does(client, "local b = proxy.backends[3] b.state = '2' local state = b.state "
          .. "b.state = '0' return state, b.state"))
        assert.matches("number expected, got table", does(client, "proxy.backends[1].state = {}"))
        assert.equal("7 8", does(client, "local p = proxy.backends[3].pool p.max_idle_connections, "
          .. "p.min_idle_connections = 7, '8' return p.max_idle_connections, p.min_idle_connections"))
        assert.equal("proxy.backend[...].users is not writable", does(client, "proxy.backends[1].pool.users = {}"))
        assert.matches("number expected, got string", does(client, "proxy.backends[1].pool.max_idle_connections = 'x'"))
      end)
    end)

    describe("the connection:", function()
      it("its flat keys, and what cannot be written", function()
        local id = client:ask("SELECT CONNECTION_ID()").rows[1][1]
        local version = says(client, "proxy.connection.server.mysqld_version")
        assert.equal(("1 1 %s %s %s %s nil"):format(id, "", version, version), says(client,
          "proxy.connection.backend_ndx, proxy.connection['backend_ndx'], proxy.connection.thread_id, "
          .. "proxy.connection.default_db, proxy.connection.mysqld_version, proxy.connection.server_version, "
          .. "proxy.connection.nothing"))
        for _, key in ipairs { "client", "server", "thread_id", "default_db", "mysqld_version", "mine" } do
          assert.equal(("proxy.connection.%s is not writable"):format(key),
            does(client, ("proxy.connection.%s = 1"):format(key)))
        end
        assert.matches("boolean expected, got number", does(client, "proxy.connection.connection_close = 1"))
        assert.matches("number expected, got table", does(client, "proxy.connection.backend_ndx = {}"))
        assert.matches("number expected, got string", does(client, "proxy.connection.backend_ndx = 'x'"))
      end)

      it("both sides", function()
        local id = client:ask("SELECT CONNECTION_ID()").rows[1][1]
        local port = client.socket:getsockname().port
        local major, minor, patch = server.version:match("^(%d+)%.(%d+)%.(%d+)")
        if server.flavour == "mariadb" and tonumber(major) == 10 then
          major, minor, patch = 5, 5, 5 -- it greets with 5.5.5-10...
        end
        local version = ("%d"):format(major * 10000 + minor * 100 + patch)
        for _, side in ipairs { "client", "server" } do
          assert.equal(("nopass  true %s %s nil nil"):format(version, id), says(client, (("c.default_db == '' and "
            .. "c.username, c.scrambled_password, c.scramble_buffer == (%q), c.mysqld_version, c.thread_id, "
            .. "c.challenge, c.nothing"):gsub("c%.", "proxy.connection." .. side .. ".")
            :format(client.challenge.challenge):gsub("\\\n", "\\n"))))
        end
        assert.equal(client.challenge.auth_plugin_name, says(client, "proxy.connection.client.auth_plugin_name"))
        assert.equal(client.challenge.auth_plugin_name, says(client, "proxy.connection.server.auth_plugin_name"))
        assert.equal(("2 127.0.0.1:%d 127.0.0.1 %d nil"):format(port, port), says(client,
          "proxy.connection.client.src.type, proxy.connection.client.src.name, "
          .. "proxy.connection.client.src.address, proxy.connection.client.src.port, "
          .. "proxy.connection.client.src.nothing"))
        assert.equal(("2 127.0.0.1:%d 127.0.0.1 %d"):format(series.proxy.port, series.proxy.port), says(client,
          "proxy.connection.client.dst.type, proxy.connection.client.dst.name, "
          .. "proxy.connection.client.dst.address, proxy.connection.client.dst.port"))
        assert.equal(("2 %s 127.0.0.1 %d"):format(address, server.port), says(client,
          "proxy.connection.server.dst.type, proxy.connection.server.dst.name, "
          .. "proxy.connection.server.dst.address, proxy.connection.server.dst.port"))
        assert.equal("2 true 127.0.0.1 true", says(client,
          "proxy.connection.server.src.type, proxy.connection.server.src.name == '127.0.0.1:' .. "
          .. "proxy.connection.server.src.port, proxy.connection.server.src.address, "
          .. "proxy.connection.server.src.port > 1024"))
        local port_there
        for _, row in ipairs(client:ask("SHOW PROCESSLIST").rows) do
          port_there = row[1] == id and row[3]:match(":(%d+)$") or port_there
        end
        assert.equal(port_there, says(client, "proxy.connection.server.src.port"))
        assert.equal(("127.0.0.1:%d %s"):format(port, address),
          says(client, "proxy.connection.client.address, proxy.connection.server.address"))
        assert.is_nil(series:log():find("challenge: ", 1, true))
      end)

      it("who has logged in, and where", function()
        local account, size = server.account, server.flavour == "mariadb" and 20 or 32
        local plugin = server.flavour == "mariadb" and "mysql_native_password" or "caching_sha2_password"
        local expressions = {}
        for _, key in ipairs { "username", "default_db", "auth_plugin_name" } do
          table.insert(expressions, "proxy.connection.client." .. key)
          table.insert(expressions, "proxy.connection.server." .. key)
        end
        table.insert(expressions, "proxy.connection.client.scrambled_password:len()")
        table.insert(expressions, "proxy.connection.server.scrambled_password:len()")
        local list = table.concat(expressions, ", ")
        local login = { account.user, account.password, "-h127.0.0.1", "-P" .. series.proxy.port, "-Dtest" }
        local said = cli_says(list, unpack(login))
        local user = account.user
        assert.equal(("%s %s test test %s %s %d %d"):format(user, user, plugin, plugin, size, size), said)
      end)

      it("addresses of the other kinds", function()
        local account = server.account
        local source = "proxy.connection.client.src.type, proxy.connection.client.src.name, "
          .. "proxy.connection.client.src.address, proxy.connection.client.src.port"
        local target = source:gsub("src", "dst")
        assert.equal("1   nil", cli_says(source, account.user, account.password, "-S" .. socket))
        assert.equal(("1 %s %s nil"):format(socket, socket),
          cli_says(target, account.user, account.password, "-S" .. socket))
        assert.equal("10 true ::1 true", cli_says(source:gsub("src.name", "src.name == '[::1]:' .. "
          .. "proxy.connection.client.src.port"):gsub("src.port$", "src.port > 1024"),
          account.user, account.password, "-h::1", "-P" .. v6))
        assert.equal(("10 [::1]:%d ::1 %d"):format(v6, v6),
          cli_says(target, account.user, account.password, "-h::1", "-P" .. v6))
      end)

      it("is known to the end", function()
        local port = client.socket:getsockname().port
        local source = says(client, "proxy.connection.server.src.name")
        client:close()
        series:prints(("left\t127.0.0.1:%d\t127.0.0.1:%d\t%s\t%s\n"):format(port, series.proxy.port, source, address),
          true)
      end)

      it("another server, and none", function()
        local id = client:ask("SELECT CONNECTION_ID()").rows[1][1]
        local function is(expected)
          assert.equal(expected, says(client, "proxy.connection.backend_ndx, proxy.connection.server ~= nil, "
            .. "proxy.backends[1].connected_clients, proxy.backends[1].idling_connections, "
            .. "proxy.backends[1].pool.users.nopass.cur_idle_connections, proxy.connection.thread_id, "
            .. "proxy.connection.client.default_db == ''"))
        end
        local here = ("1 true 1 0 0 %s true"):format(id)
        is(here)
        for _, index in ipairs { "2", "3", "99", "-1", "'2'" } do -- none of them has an idle connection
          does(client, "proxy.connection.backend_ndx = " .. index)
          is(here)
        end
        assert.equal("0 nil nil nil nil", does(client, "proxy.connection.backend_ndx = 0 "
          .. "return proxy.connection.backend_ndx, proxy.connection.server, proxy.connection.thread_id, "
          .. "proxy.connection.mysqld_version, proxy.connection.server_version"))
        is("0 false 0 1 1 nil true")
        assert.equal("1 " .. id, does(client, "proxy.connection.backend_ndx = '1' "
          .. "return proxy.connection.backend_ndx, proxy.connection.server.thread_id"))
        is(here)
        assert.equal(id, client:ask("SELECT CONNECTION_ID()").rows[1][1])
        does(client, "proxy.connection.backend_ndx = 0")
        assert.is_true(client:ask("SELECT 1").closed)
        series:logs("I have no server backend, closing connection\n", true)
        end)
    end)

    it("the schema of each side follows COM_INIT_DB, whose ever it is", function()
      series:run(EVAL .. [[
        local eval = read_query
        function read_query(packet)
          local schema = packet:match("^\3SWITCH (.*)") or packet:match("^\2queued_(.*)")
          if not schema and packet ~= "\2test" then return eval(packet) end
          proxy.queries:append(1, schema and string.char(proxy.COM_INIT_DB) .. schema or packet)
          return proxy.PROXY_SEND_QUERY
        end]])
      local other = series:login()
      local function are(expected)
        assert.equal(expected, says(other, "proxy.connection.client.default_db .. '/' .. "
          .. "proxy.connection.server.default_db .. '/' .. proxy.connection.default_db"))
      end
      are("//")
      other:ask("SWITCH test")
      are("/test/")
      assert.equal(1049, other:ask("SWITCH nowhere").errcode)
      are("/test/")
      for _, each in ipairs { -- the client's command, as it is or queued, by itself or another one
        { "\2mysql", 0, "mysql/mysql/mysql" }, { "\2nowhere", 0xff, "mysql/mysql/mysql" },
        { "\3SWITCH test", 0, "mysql/test/mysql" }, { "\2test", 0, "test/test/test" },
        { "\2queued_mysql", 0, "mysql/mysql/mysql" }, { "\2queued_nowhere", 0xff, "mysql/mysql/mysql" },
      } do
        local command, answer, expected = unpack(each)
        other:send(command)
        assert.equal(answer, other:packet():byte())
        are(expected)
      end
    end)

    describe("connection_close", function()
      -- More commands than the one at hand, which the client sends without waiting for its answer.
      local LATE = packet.frame("\3INSERT INTO late VALUES (1)", 0):rep(3)

      before_each(function()
        server:sql("CREATE TABLE test.late (number INT)")
      end)

      after_each(function()
        server:sql("DROP TABLE test.late")
      end)

      it("closes after the answer, whoever made it, and the rest is not carried out", function()
        series:run [[
          function read_query(packet)
            local way = packet:match("^\3SELECT '(%a+)'")
            proxy.connection.connection_close = way ~= nil
            if way == "made" then
              proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
                fields = { { name = "x", type = proxy.MYSQL_TYPE_STRING } }, rows = { { "made" } } } }
              return proxy.PROXY_SEND_RESULT
            elseif way == "queued" or way == "streamed" or way == "later" then
              proxy.connection.connection_close = way ~= "later"
              proxy.queries:append(1, packet, { resultset_is_needed = way ~= "streamed" })
              return proxy.PROXY_SEND_QUERY
            elseif way == "cancelled" then
              proxy.connection.connection_close = false
            end
          end
          function read_query_result(inj)
            proxy.connection.connection_close = true
          end]]
        for _, way in ipairs { "made", "queued", "streamed", "later", "forwarded", "cancelled" } do
          local other = series:login()
          local first = "\3SELECT '" .. way .. "'"
          if way == "cancelled" then
            assert.same({ { way } }, other:ask(first:sub(2)).rows)
            assert.same({ { "1" } }, other:ask("SELECT 1").rows)
          else
            other:ask("USE test")
            other:write(packet.frame(first, 0) .. LATE)
            assert.same({ { way } }, other:answer(other:packet()).rows)
            assert.truthy(other:wait_for_end(), way)
            assert.equal("", other:rest())
          end
        end
        assert.equal("0\n", server:sql("SELECT COUNT(*) FROM test.late"))
      end)

      for _, hook in ipairs { "connect_server", "read_auth", "read_auth_result" } do
        it("closes after the login too, in " .. hook, function()
          series:run(("function %s() proxy.connection.connection_close = true end"):format(hook))
          local other = raw.connect(series.proxy.port)
          function other:send(payload, sequence)
            self:write(packet.frame(payload, sequence) .. packet.frame("\2test", 0) .. LATE)
          end
          other:login("nopass")
          assert.is_nil(other.refused)
          assert.truthy(other:wait_for_end())
          assert.equal("", other:rest())
          assert.equal("0\n", server:sql("SELECT COUNT(*) FROM test.late"))
          other:close()
        end)
      end
    end)

    describe("the queue", function()
      it("counts, and says what is wrong", function()
        assert.equal("0 0", says(client, "#proxy.queries, proxy.queries:len()"))
        assert.equal("0 0 0 3 3 0 0", does(client, "local q = proxy.queries "
          .. "local a, p = select('#', q:append(1, '\\3a')), select('#', q:prepend(2, '\\3b')) q:append(3, '\\3c', {}) "
          .. "local n, l = #q, q:len() return a, p, select('#', q:reset()), n, l, #q, q:len()"))
        for _, name in ipairs { "append", "prepend" } do
          for arguments, message in pairs {
            ["1"] = "bad argument #2 to '%s' (string expected, got no value)",
            ["1, {}"] = "bad argument #2 to '%s' (string expected, got table)",
            ["'x', '\\3a'"] = "bad argument #1 to '%s' (number expected, got string)",
            ["1, '\\3a', 5"] = "bad argument #3 to '%s' (table expected, got number)",
          } do
            assert.equal(message:format(name), does(client, ("proxy.queries:%s(%s)"):format(name, arguments)))
          end
          local said = does(client, ("proxy.queries:%s(1, '\\3a', { resultset_is_needed = 1 })"):format(name))
          assert.truthy(said:find(("bad argument #3 to '%s'"):format(name), 1, true), said)
          assert.truthy(said:find((":%s(..., { resultset_is_needed = boolean } ), is number"):format(name), 1, true),
            said)
        end
      end)

      it("takes any number for an id, and sends from the front", function()
        series:run [[
          function read_query(packet)
            local q = proxy.queries
            q:append(1.7, "\3SELECT 1")
            q:append(1, "\3SELECT 2", { resultset_is_needed = true })
            q:append(-3, "\3SELECT 3")
            q:append("12", "\3SELECT 4")
            q:append(-2.5, packet)
            q:prepend(2^40, "\3SELECT 5")
            return proxy.PROXY_SEND_QUERY
          end
          function read_query_result(inj)
            print(inj.id, inj.query:sub(2))
            if inj.id ~= -2 then return proxy.PROXY_IGNORE_RESULT end
          end]]
        assert.same({ { "6" } }, series:login():ask("SELECT 6").rows)
        series:prints("1099511627776\tSELECT 5\n1\tSELECT 1\n1\tSELECT 2\n-3\tSELECT 3\n12\tSELECT 4\n-2\tSELECT 6\n",
          true)
      end)
    end)
  end)
end

describe("a backend that a script", function()
  local server, series = servers.all()[1], nil

  after_each(function()
    series:leave()
    series:stop()
  end)

  it("has marked down gets no clients, for some seconds", function()
    series = scripted.series(server, { "--proxy-read-only-backend-addresses=127.0.0.1:2" })
    series:run(EVAL)
    local client = series:login()
    does(client, "for i = 1, 2 do proxy.backends[i].state = proxy.BACKEND_STATE_DOWN end")
    assert.equal("(proxy) all backends are down", series:login().refused.errmsg)
    assert.equal("2 2", says(client, "proxy.backends[1].state, proxy.backends[2].state"))
    assert.truthy(process.wait_until(function()
      local one = series:login()
      one:close() -- seconds of logins: the files of all of them would be too many
      return not one.refused
    end, 20))
    assert.equal("1 0", says(client, "proxy.backends[1].state, proxy.backends[2].state")) -- the other is unknown again
    for _, address in ipairs { server.host .. ":" .. server.port, "127.0.0.1:2" } do
      series:logs(("(debug) backend %s was down for more than 4 sec, waking it up\n"):format(address), true)
    end
  end)

  it("has marked down is unknown again when its connect_server looks for itself", function()
    series = scripted.series(server)
    series:run [[
      function connect_server()
        if proxy.backends[1].state == proxy.BACKEND_STATE_DOWN then
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "seen down" }
          return proxy.PROXY_SEND_RESULT
        end
      end
      function read_query()
        proxy.backends[1].state = proxy.BACKEND_STATE_DOWN
      end]]
    series:login():ask("SELECT 1")
    assert.equal("seen down", series:login().refused.errmsg)
    assert.truthy(process.wait_until(function()
      local one = series:login()
      one:close()
      return not one.refused
    end, 20))
  end)

  it("goes over to has an idle connection; that of the other one becomes idle", function()
    if not server.socket then
      series = scripted.series(server)
      return pending("needs a server of its own")
    end
    series = scripted.series({ server, server.socket })
    series:run(EVAL .. [[
      local eval = read_query
      function read_query(packet)
        if packet ~= "\3HOP" then return eval(packet) end
        proxy.queries:append(1, "\3DO 0")
        proxy.queries:append(2, "\3SELECT CONNECTION_ID()")
        return proxy.PROXY_SEND_QUERY
      end
      function read_query_result(inj)
        if inj.id == 2 then return end
        proxy.connection.backend_ndx = 3 - proxy.connection.backend_ndx
        return proxy.PROXY_IGNORE_RESULT
      end]])
    local one, two = series:login(), series:login()
    local function id(client)
      return client:ask("SELECT CONNECTION_ID()").rows[1][1]
    end
    local first, second = id(one), id(two)
    local counts = "proxy.backends[1].connected_clients, proxy.backends[1].idling_connections, "
      .. "proxy.backends[2].connected_clients, proxy.backends[2].idling_connections"
    assert.equal("2 1 0 1 0", says(two, "proxy.connection.backend_ndx, " .. counts))
    assert.equal(("1 %s %s nil"):format(server.socket, server.socket), says(two, "proxy.connection.server.dst.type, "
      .. "proxy.connection.server.dst.name, proxy.connection.server.dst.address, proxy.connection.server.dst.port"))
    assert.equal(("1 %s %s nil"):format(server.socket, server.socket), says(two, "proxy.backends[2].dst.type, "
      .. "proxy.backends[2].dst.name, proxy.backends[2].dst.address, proxy.backends[2].dst.port"))
    does(two, "proxy.connection.backend_ndx = 0")
    assert.equal("2 " .. second, does(one, "proxy.connection.backend_ndx = 2 "
      .. "return proxy.connection.backend_ndx, proxy.connection.server.thread_id"))
    assert.equal("0 1 1 0", says(one, counts))
    assert.equal(second, id(one))
    does(two, "proxy.connection.backend_ndx = 1")
    assert.equal(first, id(two))
    assert.equal("1 0 1 0", says(one, counts))
    does(two, "proxy.connection.backend_ndx = 0")
    assert.same({ { first } }, one:ask("HOP").rows)
    assert.equal("1 0 0 1", says(one, counts))
    series:run(EVAL .. "function read_auth_result(auth) if auth.packet:byte() == 0 then "
      .. "proxy.connection.backend_ndx = 2 end end")
    local three = series:login()
    assert.equal(second, id(three)) -- his own connection is idle
    assert.equal("1 0 1 1", says(three, counts))
    series:run("function connect_server() proxy.connection.backend_ndx = 1 end "
      .. "function disconnect_client() proxy.connection.backend_ndx = 2 end")
    local four = series:login()
    assert.equal("2 0 1 1", says(one, counts))
    four:close() -- his goes to the first backend's, and the second's ends in its place
    assert.is_true(process.wait_until(function()
      return says(one, counts) == "1 1 1 0"
    end, 10), says(one, counts))
  end)

  it("has the fewest clients of is chosen, and in turns if that is no difference", function()
    if not server.socket then
      series = scripted.series(server)
      return pending("needs a server of its own")
    end
    series = scripted.series({ server, server.socket })
    series:run(EVAL)
    local function lands()
      local client = series:login()
      return says(client, "proxy.connection.backend_ndx"), client
    end
    local chosen, clients = {}, {}
    for turn = 1, 4 do
      chosen[turn], clients[turn] = lands()
    end
    assert.same({ "1", "2", "1", "2" }, chosen)
    clients[2]:close()
    assert.truthy(process.wait_until(function()
      return says(clients[1], "proxy.backends[2].connected_clients") == "1"
    end, 5))
    assert.equal("2", (lands())) -- whose turn it is not
    assert.equal("1", (lands()))
  end)

  it("knows by its name has an address", function()
    series = scripted.series({ "localhost:" .. server.port, "[::1]:1" })
    series:run(EVAL .. "function read_handshake(auth) configured = auth.server_addr end")
    local client = series:login()
    assert.equal(("localhost:%d true 127.0.0.1:%d localhost:%d localhost:%d"):format(server.port, server.port,
      server.port, server.port), says(client, "proxy.backends[1].address, "
        .. "proxy.backends[1].dst.name:find('localhost') == nil, proxy.connection.server.dst.name, "
        .. "proxy.backends['1'].address, configured"))
    local other = "proxy.backends[2].address, proxy.backends[2].dst.type, proxy.backends[2].dst.name, "
      .. "proxy.backends[2].dst.address, proxy.backends[2].dst.port"
    assert.equal("[::1]:1 10 [::1]:1 ::1 1", says(client, other))
    series:login() -- tries that one, whose address has been resolved then
    assert.equal("2 [::1]:1 10 [::1]:1 ::1 1", says(client, "proxy.backends[2].state, " .. other))
  end)
end)
