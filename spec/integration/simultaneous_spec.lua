-- What many clients do at once, which the proxy finds in one round of its loop: it is stopped while they do it.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local CLIENTS = 150 -- more than a round has room for

local SCRIPT = [[
  local function answer(text)
    proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
      fields = { { name = "said", type = proxy.MYSQL_TYPE_STRING } }, rows = { { text } } } }
    return proxy.PROXY_SEND_RESULT
  end

  function read_query(packet)
    local what, number, more = packet:match("^\3(%l+) (%d+)(.*)")
    if what == "say" then
      return answer(number)
    elseif what == "rewrite" then
      proxy.queries:append(1, "\3SELECT " .. number .. more)
      return proxy.PROXY_SEND_QUERY
    elseif what == "ask" then
      proxy.queries:append(2, "\3SELECT " .. number, { resultset_is_needed = true })
      return proxy.PROXY_SEND_QUERY
    end
  end

  function read_query_result(inj)
    if inj.id == 2 then
      return answer("asked " .. inj.resultset.rows()[1])
    end
  end
]]

for _, server in ipairs(servers.all()) do
  describe("what many clients do at the same time, in front of " .. server.name, function()
    local proxy

    setup(function()
      proxy = scripted.start(server, SCRIPT)
    end)

    teardown(function()
      assert.equal(0, proxy:stop())
    end)

    local function signal(name)
      assert(uv.kill(proxy.process.pid, name))
    end

    local function status(name)
      return tonumber(server:sql(("SHOW STATUS LIKE '%s'"):format(name)):match("%d+"))
    end

    -- Each kind of client: what he does while the proxy stands still, and what he gets.
    local long = ("x"):rep(5000)
    local kinds = {
      { sends = "SELECT %d", gets = "%d" },
      { sends = "say %d", gets = "%d" },
      { sends = "rewrite %d", gets = "%d" },
      { sends = "rewrite %d /* " .. long .. " */", gets = "%d" },
      { sends = "ask %d", gets = "asked %d" },
      { sends = "SELECT %d /* " .. long .. " */", gets = "%d" },
      { sends = "SELECT CONCAT(%d, REPEAT('x', 5000))", gets = "%d" .. long },
      { sends = "SELECT %d", gets = "%d", quits = true },
      { sends = "SELECT %d", leaves = "close" },
      { sends = "rewrite %d", leaves = "close_reset" },
      { leaves = "close_reset" },
      { sends = "ask %d", gets = "asked %d", more = "SELECT %d", half_closes = true },
      { sends = "say %d", gets = "%d", more = "rewrite %d" },
    }

    local function play(client)
      local kind = client.kind
      for _, statement in ipairs { kind.sends, kind.more } do
        client:send("\3" .. statement:format(client.number))
      end
      if kind.quits then
        client:send "\1"
      elseif kind.half_closes then
        client.socket:shutdown()
      end
      uv.run "nowait"
      if kind.leaves then
        client.socket[kind.leaves](client.socket)
      end
    end

    -- Returns whether he stays.
    local function look(client)
      local kind = client.kind
      if kind.leaves then
        return false
      end
      local rows = client:answer(client:packet()).rows
      assert.same({ { kind.gets:format(client.number) } }, rows, kind.sends)
      if kind.more then
        assert.same({ { tostring(client.number) } }, client:answer(client:packet()).rows, kind.more)
      end
      if kind.quits or kind.half_closes then
        assert.truthy(client:wait_for_end())
        client:close()
        return false
      end
      return true
    end

    it("is done for each as if he were alone", function()
      local threads, clients = status "Threads_connected", {}
      for i = 1, CLIENTS do
        clients[i] = scripted.client(proxy)
        clients[i].number, clients[i].kind = i, kinds[i % #kinds + 1]
      end
      for _ = 1, 3 do
        signal "sigstop"
        for _, client in ipairs(clients) do
          play(client)
        end
        signal "sigcont"
        local staying = {}
        for _, client in ipairs(clients) do
          staying[#staying + 1] = look(client) and client or nil
        end
        clients = staying
      end
      for _, client in ipairs(clients) do
        client:close()
      end
      assert.truthy(process.wait_until(function()
        return status "Threads_connected" <= threads
      end, 10), "sessions are left on the server")
      assert.is_nil(scripted.complaints(proxy:log()))
    end)

    -- Clients whose statement waits on the server, and what they wait for comes while the proxy stands still.
    local function while_waiting(count, act)
      local holder, clients, ids = raw.connect(server.port):login("nopass"), {}, {}
      holder:ask("CREATE TABLE IF NOT EXISTS test.awaited (a INT)")
      assert.is_nil(holder:ask("LOCK TABLES test.awaited WRITE").errcode)
      for i = 1, count do
        clients[i] = scripted.client(proxy)
        ids[i] = clients[i]:ask("SELECT CONNECTION_ID()").rows[1][1]
        clients[i]:send(("\3SELECT %d, COUNT(*) FROM test.awaited"):format(i))
      end
      local function becomes(expected, condition)
        assert.truthy(process.wait_until(function()
          return tonumber((server:sql(("SELECT COUNT(*) FROM information_schema.processlist WHERE id IN (%s) AND %s")
            :format(table.concat(ids, ","), condition)))) == expected
        end, 10))
      end
      becomes(count, "state LIKE 'Waiting%'")
      signal "sigstop"
      holder:ask("UNLOCK TABLES")
      becomes(0, "info IS NOT NULL")
      act(clients)
      uv.run "nowait"
      signal "sigcont"
      holder:close()
      return clients
    end

    it("keeps the order of each one's answers", function()
      local clients = while_waiting(20, function(clients)
        for i, client in ipairs(clients) do
          client:send("\3say " .. i)
        end
      end)
      for i, client in ipairs(clients) do
        assert.same({ { tostring(i), "0" } }, client:answer(client:packet()).rows)
        assert.same({ { tostring(i) } }, client:answer(client:packet()).rows)
        client:close()
      end
    end)

    it("may be to leave while the answer comes", function()
      for _, leaves in ipairs { "close", "close_reset" } do
        while_waiting(20, function(clients)
          for _, client in ipairs(clients) do
            client.socket[leaves](client.socket)
          end
        end)
        assert.same({ { "1" } }, scripted.client(proxy):ask("SELECT 1").rows)
      end
      assert.is_nil(scripted.complaints(proxy:log()))
    end)
  end)
end

-- On a unix socket the end comes together with what was sent before it. A server played by hand, as real ones close
-- without a word.
describe("a server that says something and closes", function()
  local FLAGS = proto.capabilities
  local GREETING = packet.frame(proto.to_challenge_packet {
    server_version = 80000, thread_id = 1, challenge = ("a"):rep(20), charset = 45, server_status = 2,
    capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH,
    auth_plugin_name = "mysql_native_password",
  }, 0)
  local OK = packet.frame(proto.to_ok_packet { server_status = 2 }, 2)
  local ERR = packet.frame(proto.to_err_packet { errcode = 4031, sqlstate = "HY000", errmsg = "goodbye" }, 1)

  it("is heard to the end", function()
    local listener, connection, asked = uv.new_pipe(), uv.new_pipe(), false
    local path = process.path("mysql.sock")
    assert(listener:bind(path))
    assert(listener:listen(8, function()
      listener:accept(connection)
      connection:write(GREETING)
      connection:read_start(function(_, bytes)
        if bytes and bytes:find("SELECT", 1, true) then
          asked = true
        elseif bytes then
          connection:write(OK)
        end
      end)
    end))
    local proxy = proxies.start({}, { "--proxy-backend-addresses=" .. path })
    local client = raw.connect(proxy.port):login("nopass")
    client:send "\3SELECT 1"
    assert.truthy(process.wait_until(function()
      return asked
    end, 10))
    assert(uv.kill(proxy.process.pid, "sigstop"))
    connection:write(ERR)
    connection:close()
    uv.run "nowait"
    assert(uv.kill(proxy.process.pid, "sigcont"))
    assert.equal("goodbye", client:answer(client:packet()).errmsg)
    assert.truthy(client:wait_for_end())
    client:close()
    listener:close()
    assert.equal(0, proxy:stop())
  end)
end)
