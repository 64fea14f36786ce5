-- The hooks of a script from the connection to the login: what they can do.

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

    it("may wait at each step of the login, also when the server sends two packets at once", function()
      start [[
        function read_handshake() proxy.async.sleep(10) end
        function read_auth() proxy.async.sleep(10) end
        function read_auth_result(auth) -- caching_sha2_password says 01 03 before its OK
          proxy.async.sleep(10)
          print(auth.packet:byte())
        end]]
      local program, args = server:client()
      for _, list in ipairs { { "-N", "-B" }, server.clear_text,
        server:login(proxy.port, server.account.user, server.account.password), { "-e", "SELECT 1" } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      for _ = 1, 2 do -- the first time it may send the whole password
        local code, output, errors = process.run(program, args)
        assert.equal("0: 1\n", code .. ": " .. output, errors)
      end
      assert.matches(server.flavour == "mariadb" and "0\n$" or "1\n0\n$", proxy.process:stdout())
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
    end)
  end)
end
