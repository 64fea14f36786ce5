-- Whom the pool of idle connections gives what: nobody may get on as somebody else.

local uv = require "luv"

local packet = require "mysql.packet"
local password = require "mysql.password"
local process = require "spec.support.process"
local proto = require "mysql.proto"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- `pool` shows how many are idle; `take` takes one. Who quits leaves his connection open.
local COMMANDS = [[
  local function say(text)
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = text }
    return proxy.PROXY_SEND_RESULT
  end
  function read_query(packet)
    if packet:byte() == proxy.COM_QUIT then
      return say("bye")
    elseif packet == "\3pool" then
      return say(proxy.backends[1].idling_connections .. " idle, " .. proxy.backends[1].connected_clients .. " clients")
    elseif packet == "\3give" then
      proxy.connection.backend_ndx = 0
      return say("given")
    elseif packet == "\3take" then
      proxy.connection.backend_ndx = 1
      return say(proxy.connection.server and proxy.connection.server.username or "nothing")
    end
  end
]]

-- Each client who leaves puts his connection aside, and each who comes takes an idle one.
local KEEPING = [[
  function connect_server()
    proxy.connection.backend_ndx = 1
    return proxy.PROXY_IGNORE_RESULT
  end
  function disconnect_client()
    proxy.connection.backend_ndx = 0
    print("left")
  end
]]
for _, server in ipairs(servers.all()) do
  describe("the pool in front of " .. server.name, function()
    local proxy, clients

    before_each(function()
      clients = {}
    end)

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      assert.equal(0, proxy:stop())
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    end)

    local function start(text)
      proxy = scripted.start(server, COMMANDS .. (text or ""))
    end

    local function login(user)
      local client = scripted.client(proxy, user)
      clients[#clients + 1] = client
      return client
    end

    local function left()
      return select(2, proxy.process:stdout():gsub("left\n", ""))
    end

    -- Does something that ends with a client's leaving, and waits until the pool has his connection.
    local function visit(fn)
      local before = left()
      local result = fn()
      assert.truthy(process.wait_until(function()
        return left() > before
      end, 5))
      return result
    end

    -- The server's own command line client: what it says of its connection and itself, or its error.
    local function cli(user, secret, ...)
      local program, args = server:client()
      for _, list in ipairs { { "-N", "-B" }, server.clear_text, server:login(proxy.port, user, secret), { ... },
        { "-e", "SELECT CONNECTION_ID(), CURRENT_USER(), 1; SELECT @@collation_connection" } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      return visit(function()
        local _, output, errors = process.run(program, args)
        local id, account, collation = output:match("^(%d+)\t(%S+)\t1\n(%S+)\n$")
        return { id = id, account = account, collation = collation, error = errors:match("ERROR %d+") }
      end)
    end

    -- A client made by hand, for as long as it takes to ask for the connection's id.
    local function by_hand(attributes)
      return visit(function()
        local client = raw.connect(proxy.port)
        client.attributes = attributes
        client:login("nopass", attributes and proto.capabilities.CLIENT_CONNECT_ATTRS)
        clients[#clients + 1] = client
        assert.is_nil(client.refused)
        local id = client:ask("SELECT CONNECTION_ID()").rows[1][1]
        client:send("\1")
        client:close()
        return id
      end)
    end

    it("is logged in over by the server's own client, with and without a password", function()
      proxy = scripted.start(server, COMMANDS .. KEEPING)
      local user, secret = server.account.user, server.account.password
      local first = cli(user, secret)
      assert.equal(user .. "@%", first.account)
      assert.same(first, cli(user, secret))
      assert.same({ id = first.id, account = "nopass@%", collation = first.collation }, cli("nopass", ""))
      assert.same({ id = first.id, account = "root@%", collation = first.collation }, cli())
      server:sql("FLUSH PRIVILEGES") -- what caching_sha2_password has cached, too
      assert.same(first, cli(user, secret))
      assert.same(first, cli(user, secret))
      local other = server.flavour == "mariadb" and "ed" or "sha256"
      for _ = 1, 2 do
        assert.same({ id = first.id, account = other .. "@%", collation = first.collation }, cli(other, "secret"))
        assert.same(first, cli(user, secret))
      end
      local latin1 = cli(user, secret, "--default-character-set=latin1")
      assert.same({ first.id, "latin1_swedish_ci" }, { latin1.id, latin1.collation })
      assert.same(first, cli(user, secret))
      assert.same({ error = "ERROR 1045" }, cli(user, "wrong"))
      local next_one = cli(user, secret)
      assert.is_true(tonumber(next_one.id) > tonumber(first.id)) -- the server has closed the other
      assert.same(next_one, cli(user, secret))
    end)

    it("is logged in over by clients with connection attributes and without", function()
      proxy = scripted.start(server, COMMANDS .. KEEPING)
      local first = by_hand({ _client_name = "hand" })
      for _ = 1, 3 do
        assert.equal(first, by_hand())
      end
      assert.equal(first, by_hand({ _client_name = "hand" }))
    end)

    it("gives a client who wants to speak otherwise another connection", function()
      proxy = scripted.start(server, COMMANDS .. KEEPING)
      local user, secret = server.account.user, server.account.password
      local plain = by_hand()
      local first = cli(user, secret)
      assert.equal(user .. "@%", first.account)
      assert.is_true(tonumber(first.id) > tonumber(plain))
      for _ = 1, 2 do -- both are idle, and neither client knows of that
        assert.same(first, cli(user, secret))
        assert.equal(plain, by_hand())
        assert.same({ id = first.id, account = "nopass@%", collation = first.collation }, cli("nopass", ""))
        assert.equal(plain, by_hand())
      end
      assert.same({ error = "ERROR 1045" }, cli(user, "wrong"))
      assert.equal(plain, by_hand())
      assert.same({ error = "ERROR 1045" }, cli("nobody", "wrong"))
      assert.equal(plain, by_hand())
      assert.equal("1 idle, 1 clients", visit(function()
        local watcher, client = login(), login()
        client:send("\1")
        client:close()
        return process.wait_until(function()
          local said = watcher:ask("pool").errmsg
          return said == "1 idle, 1 clients" and said
        end, 5)
      end))
    end)

    it("tells a client who cannot be asked again for his password", function()
      proxy = scripted.start(server, COMMANDS .. KEEPING)
      by_hand()
      local old = raw.connect(proxy.port)
      clients[#clients + 1] = old
      local challenge = proto.from_challenge_packet(old:packet())
      assert.equal(1251, visit(function()
        old:send(proto.to_response_packet {
          capabilities = proto.capabilities.CLIENT_PROTOCOL_41 + proto.capabilities.CLIENT_SECURE_CONNECTION,
          server_capabilities = challenge.capabilities, charset = 45, username = "nopass",
        }, 1)
        local payload, sequence = old:packet()
        assert.equal(2, sequence)
        assert.truthy(old:wait_for_end())
        return proto.from_err_packet(payload).errcode
      end))
      assert.truthy(by_hand())
    end)

    it("tells a client for whom no other connection can be made", function()
      local listener, ends = uv.new_tcp(), {}
      listener:bind("127.0.0.1", 0)
      listener:listen(8, function() -- lets one connection through to the server, and closes
        local client, upstream = uv.new_tcp(), uv.new_tcp()
        ends = { client, upstream }
        listener:accept(client)
        listener:close()
        upstream:connect("127.0.0.1", server.port, function()
          for from, to in pairs { [client] = upstream, [upstream] = client } do
            from:read_start(function(_, data)
              if data and not to:is_closing() then
                to:write(data)
              end
            end)
          end
        end)
      end)
      proxy = scripted.start({ "127.0.0.1:" .. listener:getsockname().port }, COMMANDS .. KEEPING)
      local first = by_hand()
      assert.same({ error = "ERROR 1105" }, cli(server.account.user, server.account.password))
      assert.matches("%(critical%) connect%([^\n]* failed", proxy:log())
      for _, stream in ipairs(ends) do
        stream:close()
      end
      assert.truthy(first)
    end)

    it("takes no response for a password that the server has not checked", function()
      proxy = scripted.start(server, COMMANDS .. KEEPING, { "--proxy-pool-no-change-user" })
      local user, secret = server.account.user, server.account.password
      local function say_nothing_first(answer)
        local client = raw.connect(proxy.port)
        clients[#clients + 1] = client
        local challenge = proto.from_challenge_packet(client:packet())
        local flags = proto.capabilities
        client:send(proto.to_response_packet {
          capabilities = flags.CLIENT_PROTOCOL_41 + flags.CLIENT_SECURE_CONNECTION + flags.CLIENT_PLUGIN_AUTH,
          server_capabilities = challenge.capabilities, charset = 45, username = user,
          auth_plugin_name = "no_such_plugin",
        }, 1)
        local payload, sequence = client:packet()
        if payload:byte() == 0xfe then
          local plugin, salt = payload:match("^\254(%Z+)%z(.*)")
          client:send(answer and answer(plugin, salt:sub(1, 20)) or "", sequence + 1)
          repeat
            payload = client:packet()
          until payload:byte() ~= 1
        end
        return client, payload:byte()
      end
      cli(user, secret) -- caching_sha2_password has cached it
      proxy:stop()
      proxy = scripted.start(server, COMMANDS .. KEEPING, { "--proxy-pool-no-change-user" })
      local client, kind = say_nothing_first(function(plugin, salt)
        return plugin == "mysql_native_password" and password.scramble(salt, password.hash(secret))
          or password.sha256_scramble(salt, password.sha256(secret))
      end)
      assert.equal(0, kind)
      visit(function()
        client:send("\1")
        client:close()
      end)
      client, kind = say_nothing_first()
      assert.equal(0xff, kind)
      assert.truthy(client:wait_for_end())
      local first = cli(user, secret)
      assert.equal(user .. "@%", first.account)
    end)

    it("lends a client who has logged in no connection of another character set", function()
      start()
      local function with(charset)
        local client = raw.connect(proxy.port)
        clients[#clients + 1] = client
        client.charset = charset
        return client:login("nopass")
      end
      local function collation(client)
        return client:ask("SELECT @@collation_connection").rows[1][1]
      end
      local utf8, latin1 = with(45), with(8)
      local of_utf8, of_latin1 = collation(utf8), collation(latin1)
      assert.same({ "utf8mb4_general_ci", "latin1_swedish_ci" }, { of_utf8, of_latin1 })
      latin1:ask("give")
      utf8:ask("give")
      assert.equal("nopass", utf8:ask("take").errmsg) -- the second, as it happens
      assert.equal(of_utf8, collation(utf8))
      assert.equal("nopass", latin1:ask("take").errmsg)
      assert.equal(of_latin1, collation(latin1))
      local id = latin1:ask("SELECT CONNECTION_ID()").rows[1][1]
      latin1:ask("give")
      utf8:ask("give")
      server:sql("KILL " .. id)
      assert.truthy(process.wait_until(function()
        return utf8:ask("pool").errmsg == "1 idle, 0 clients"
      end, 5))
      assert.equal("nothing", latin1:ask("take").errmsg)
      assert.equal("nopass", utf8:ask("take").errmsg)
    end)

    it("lends a client who has logged in no connection of another user", function()
      server:sql("CREATE USER IF NOT EXISTS other@'%'")
      start()
      local owner, other = login(), login("other")
      local id = other:ask("SELECT CONNECTION_ID()").rows[1][1]
      assert.equal("given", owner:ask("give").errmsg)
      assert.equal("given", other:ask("give").errmsg)
      assert.equal("other", other:ask("take").errmsg)
      assert.matches("^other@", other:ask("SELECT USER()").rows[1][1])
      other:ask("give")
      server:sql("KILL " .. id)
      assert.truthy(process.wait_until(function()
        return owner:ask("pool").errmsg == "1 idle, 0 clients"
      end, 5))
      assert.equal("nothing", other:ask("take").errmsg)
      assert.equal("nopass", owner:ask("take").errmsg)
      assert.matches("^nopass@", owner:ask("SELECT USER()").rows[1][1])
    end)

    if server.flavour == "mariadb" then -- the other does not let such a client in
      it("gets no connection on which the server may say what belongs to no command", function()
        server:sql("DROP USER IF EXISTS expired@'%'; CREATE USER expired@'%'; GRANT SELECT ON *.* TO expired@'%';"
          .. "ALTER USER expired@'%' PASSWORD EXPIRE")
        start()
        local client = login("expired")
        client:write(packet.frame("\24\1\0\0\0\0\0x", 0) .. packet.frame("\3SET PASSWORD = ''", 0))
        assert.equal(1820, client:answer(client:packet()).errcode) -- about the first, to which nobody wants an answer
        assert.equal(0, client:packet():byte())
        client:ask("give")
        assert.equal("0 idle, 0 clients", client:ask("pool").errmsg)
        server:sql("DROP USER expired@'%'")
      end)
    end

    it("has no say between the greeting and the login", function()
      for _, hook in ipairs { "read_handshake", "read_auth" } do
        for _, index in ipairs { 0, 1 } do
          start(("function %s() proxy.connection.backend_ndx = %d end"):format(hook, index))
          local client = login()
          assert.same({ { "1" } }, client:ask("SELECT 1").rows)
          assert.equal("given", client:ask("give").errmsg)
          assert.equal(1045, login("nobody").refused.errcode)
          assert.same({ { "2" } }, login():ask("SELECT 2").rows)
          assert.is_nil(proxy:log():match("%(critical%) %([^\n]*"))
          assert.equal(0, proxy:stop())
        end
      end
    end)

    it("gets back a connection whose client leaves before he logs in", function()
      start [[
        function connect_server()
          proxy.connection.backend_ndx = 1
          return proxy.PROXY_IGNORE_RESULT
        end
        function disconnect_client() proxy.connection.backend_ndx = 0 end]]
      local watcher, first = login(), login()
      first:close()
      assert.truthy(process.wait_until(function()
        return watcher:ask("pool").errmsg == "1 idle, 1 clients"
      end, 5), watcher:ask("pool").errmsg)
      local silent = raw.connect(proxy.port)
      assert.truthy(silent:packet()) -- the greeting
      assert.equal("0 idle, 2 clients", watcher:ask("pool").errmsg)
      silent:close()
      assert.truthy(process.wait_until(function()
        return watcher:ask("pool").errmsg == "1 idle, 1 clients"
      end, 5), watcher:ask("pool").errmsg)
      assert.same({ { "1" } }, login():ask("SELECT 1").rows)
      assert.equal("0 idle, 2 clients", watcher:ask("pool").errmsg)
    end)

    it("gets back a connection that connect_server has looked at and not used", function()
      start [[
        function connect_server()
          proxy.connection.backend_ndx = 1
          print(tostring(proxy.connection.server ~= nil))
        end]]
      local first = login()
      first:ask("give")
      local second = login()
      assert.same({ { "1" } }, second:ask("SELECT 1").rows)
      assert.equal("1 idle, 1 clients", second:ask("pool").errmsg)
      assert.equal("nopass", first:ask("take").errmsg)
      assert.same({ { "2" } }, first:ask("SELECT 2").rows)
      assert.equal("false\ntrue\n", proxy.process:stdout())
    end)

    it("does not keep the connection of a login that failed", function()
      start [[
        function disconnect_client()
          proxy.connection.backend_ndx = 0
          print(proxy.connection.client.username .. " left, " .. proxy.backends[1].idling_connections .. " idle")
        end]]
      assert.equal(1045, login("nobody").refused.errcode)
      login():close()
      assert.truthy(process.wait_until(function()
        return proxy.process:stdout():find("nopass", 1, true)
      end, 5))
      assert.equal("nobody left, 0 idle\nnopass left, 1 idle\n", proxy.process:stdout())
    end)

    it("does not keep a connection in the middle of its login", function()
      start [[
        function read_auth_result(auth)
          if proxy.connection.client.username ~= "nopass" then
            proxy.connection.backend_ndx = 0
            print(proxy.backends[1].idling_connections .. " idle")
          end
        end]]
      local user = server.flavour == "mariadb" and "ed" or "sha256"
      local client = login()
      assert.matches("read%-auth%-old%-password failed as backend_ndx got reset", login(user).refused.errmsg)
      assert.equal("0 idle\n", proxy.process:stdout())
      assert.equal("0 idle, 1 clients", client:ask("pool").errmsg)
    end)
  end)
end
