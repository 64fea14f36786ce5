-- Whom the pool of idle connections gives what: nobody may get on as somebody else.

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- `pool` shows how many are idle; `take` takes one.
local COMMANDS = [[
  local function say(text)
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = text }
    return proxy.PROXY_SEND_RESULT
  end
  function read_query(packet)
    if packet == "\3pool" then
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
