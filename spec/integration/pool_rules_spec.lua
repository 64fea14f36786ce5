-- What is in the pool of idle connections: whose, which comes first, what is thrown away; and logging in over one.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local EVAL, says, does = scripted.EVAL, scripted.says, scripted.does
local FLAGS = proto.capabilities
local CAPABILITIES = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
local OK = "\0\0\0\2\0\0\0"

local TAKES = [[
  function connect_server()
    proxy.connection.backend_ndx = 1
    return proxy.PROXY_IGNORE_RESULT
  end
]]

-- Idle connections that each of these users may have, all idle ones, clients.
local COUNTS = "(function() local b = proxy.backends[1] return b.pool.users.nopass.cur_idle_connections, "
  .. "b.pool.users.other.cur_idle_connections, b.pool.users.nobody.cur_idle_connections, "
  .. "b.pool.users[''].cur_idle_connections, b.idling_connections, b.connected_clients end)()"

local function give(client)
  does(client, "proxy.connection.backend_ndx = 0")
end

-- The id of the connection that it has got, if any.
local function take(client)
  return does(client, "proxy.connection.backend_ndx = 1 "
    .. "return proxy.connection.server and proxy.connection.server.thread_id")
end

for _, server in ipairs(servers.all()) do
  describe("the pool in front of " .. server.name, function()
    local series

    setup(function()
      server:sql("CREATE USER IF NOT EXISTS other@'%'")
      series = scripted.series(server)
    end)

    after_each(function()
      assert.same({}, series:leave())
    end)

    teardown(function()
      series:stop()
    end)

    local function counts(client)
      return says(client, COUNTS)
    end

    local function id_of(client)
      return client:ask("SELECT CONNECTION_ID()").rows[1][1]
    end

    it("counts connections by user, and has the oldest taken first", function()
      series:run(EVAL)
      local watcher, one, two, other = series:login(), series:login(), series:login(), series:login("other")
      local first, second, others = id_of(one), id_of(two), id_of(other)
      assert.equal("0 0 0 0 0 4", counts(watcher))
      give(one)
      assert.equal("1 1 1 1 1 3", counts(watcher)) -- who has none is counted those of the first who has some
      give(two)
      assert.equal("2 2 2 2 2 2", counts(watcher))
      give(other)
      assert.equal("2 1 2 2 3 1", counts(watcher))
      for least, expected in ipairs { "2 1 2 2 3 1", "2 1 0 0 3 1" } do
        does(watcher, "proxy.backends[1].pool.min_idle_connections = " .. least)
        assert.equal(expected, counts(watcher))
      end
      does(watcher, "proxy.backends[1].pool.max_idle_connections = 1")
      assert.equal("2 1 0 0 3 1", counts(watcher))

      series:run(TAKES .. EVAL) -- who comes is served from as many as are not left alone
      local third = series:login()
      assert.equal("2 1 0 0 3 2", counts(watcher))
      assert.is_true(tonumber(id_of(third)) > tonumber(others))
      does(watcher, "proxy.backends[1].pool.min_idle_connections = 1")
      local fourth = series:login("other")
      assert.equal(first, id_of(fourth))
      assert.matches("^other@", fourth:ask("SELECT USER()").rows[1][1])
      assert.equal("1 1 0 0 2 3", counts(watcher))

      assert.equal(second, take(one)) -- his own has been taken
      assert.equal(others, take(other))
      assert.equal("0 0 0 0 0 5", counts(watcher))
      give(one)
      give(watcher)
      assert.equal(second, take(watcher))
      assert.equal("1 0 0 0 1 4", counts(watcher))
      does(watcher, "local pool = proxy.backends[1].pool pool.min_idle_connections, pool.max_idle_connections = 0, 0")
      take(one)
    end)

    it("has no more a connection that the server has closed for being idle, and says nothing", function()
      series:run(EVAL)
      local watcher, client, other = series:login(), series:login(), series:login()
      local good = id_of(other)
      client:ask("SET SESSION wait_timeout = 1")
      give(client)
      give(other)
      assert.equal("2", says(watcher, "proxy.backends[1].idling_connections"))
      assert.truthy(process.wait_until(function()
        return says(watcher, "proxy.backends[1].idling_connections") == "1"
      end, 20))
      assert.equal(good, take(client))
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal("nil", take(other))
      assert.is_nil(series:log():match("%(critical%)[^\n]*"))
    end)

    it("leaves connections as they are: schema, variables, statements; a login clears all that", function()
      series:run(EVAL)
      local STATE = "SELECT DATABASE(), @kept"
      local one, two = series:login(), series:login()
      local second = id_of(two)
      one:ask("USE test")
      one:ask("SET @kept = 7")
      two:ask("USE mysql")
      two:ask("SET @kept = 8")
      two:send("\22SELECT 1")
      local prepared = two:packet()
      two:packet() -- the column, and EOF
      two:packet()
      give(one)
      give(two)
      take(two)
      assert.same({ { "test", "7" } }, two:ask(STATE).rows)
      two:send("\23" .. prepared:sub(2, 5) .. "\0\1\0\0\0") -- which the other connection has prepared
      assert.equal(1243, two:answer(two:packet()).errcode)
      series:run(TAKES .. EVAL)
      local third = series:login()
      assert.equal(second, id_of(third))
      assert.same({ {} }, third:ask(STATE).rows)
    end)

    it("may log the client in as whom the script says, over an idle connection as over a new one", function()
      series:run(TAKES .. EVAL .. [[
        function read_auth()
          proxy.queries:append(1, require("mysql.proto").to_response_packet {
            capabilities = 0x88200, server_capabilities = 0x88200, charset = 45, username = "nopass" })
          return proxy.PROXY_SEND_QUERY
        end
        function disconnect_client() proxy.connection.backend_ndx = 0 print("left") end]])
      local ids = {}
      for turn = 1, 3 do
        local client = series:login("nobody")
        assert.is_nil(client.refused)
        assert.matches("^nopass@", client:ask("SELECT USER()").rows[1][1])
        assert.equal("nobody nobody", says(client,
          "proxy.connection.client.username, proxy.connection.server.username"))
        ids[turn] = id_of(client)
        client:close()
        series:prints(("left\n"):rep(turn), true)
      end
      assert.same({ ids[1], ids[1], ids[1] }, ids)
    end)
  end)
end

describe("the pool in front of a server that", function()
  local listener, connections, received, on_data, series

  local function listen()
    connections, received = {}, {}
    listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection, id = uv.new_tcp(), #connections + 1
      connections[id], received[id] = connection, {}
      listener:accept(connection)
      connection:read_start(function(_, bytes)
        if not bytes then
          received[id].ended = true
          return connection:close()
        end
        table.insert(received[id], bytes)
        on_data(connection, (packet.parse(bytes)))
      end)
      connection:write((packet.frame(proto.to_challenge_packet {
        server_version = 50045, thread_id = id, challenge = ("a"):rep(20), server_status = 2,
        capabilities = CAPABILITIES + FLAGS.CLIENT_DEPRECATE_EOF, auth_plugin_name = "mysql_native_password",
      }, 0)))
    end))
    return "127.0.0.1:" .. listener:getsockname().port
  end

  local function start(options)
    on_data = function(connection, command)
      if command:byte() ~= 1 then -- the login, or COM_CHANGE_USER
        connection:write((packet.frame(OK, command:byte() == 17 and 1 or 2)))
      end
    end
    series = scripted.series({ listen() }, options)
    series:run(TAKES .. EVAL .. "function disconnect_client() proxy.connection.backend_ndx = 0 print('left') end")
  end

  after_each(function()
    assert.same({}, series:leave())
    series:stop()
    listener:close()
    uv.run("nowait")
  end)

  -- A client who sends this response, and what he is told.
  local function login(response, more, user)
    local client = raw.connect(series.proxy.port)
    table.insert(series.clients, client)
    client.greeting = proto.from_challenge_packet((client:packet()))
    client:send(proto.to_response_packet {
      capabilities = CAPABILITIES + (more or 0), server_capabilities = client.greeting.capabilities,
      max_packet_size = 2 ^ 24, charset = 45, username = user or "me", response = response,
      auth_plugin_name = "mysql_native_password",
    }, 1)
    return client, client:packet()
  end

  local function leaves(client)
    local before = select(2, series:stdout():gsub("left", ""))
    client:close()
    series:prints(("left\n"):rep(before + 1), true)
  end

  it("says something to nobody: the connection is closed, and not handed out", function()
    start()
    local watcher, client = login(""), login("", 0, "1")
    give(client)
    assert.equal("1", says(watcher, "proxy.backends[1].idling_connections"))
    does(watcher, "proxy.backends[1].pool.min_idle_connections = 1") -- who counts himself, and nobody else's
    assert.equal("1 1 0", says(watcher, "(function(users) return users[1].cur_idle_connections, "
      .. "users['1'].cur_idle_connections, users[2].cur_idle_connections end)(proxy.backends[1].pool.users)"))
    connections[2]:write((packet.frame("\255\0\0what?", 0)))
    assert.truthy(process.wait_until(function() return received[2].ended end, 5))
    assert.equal("0 1", says(watcher, "proxy.backends[1].idling_connections, proxy.backends[1].connected_clients"))
    assert.equal("nil", take(client))
    assert.is_nil(series:log():find("(critical)", 1, true)) -- it may have been about to close

    client = login("")
    give(client)
    connections[3]:write((packet.frame(OK, 1)))
    assert.truthy(process.wait_until(function() return received[3].ended end, 5))
    assert.equal("nil", take(client))
    series:logs(("(critical) an idle connection to 127.0.0.1:%d said there is something to read, oops: %d\n"):format(
      listener:getsockname().port, #OK), true)
    assert.equal(1, #series:leave())
    series:run ""
  end)

  it("refuses a login over an idle connection: the client sees that, and the connection is closed", function()
    start()
    local client = login(("p"):rep(20))
    leaves(client)
    local denied = "\255\21\4#28000Access denied"
    on_data = function(connection)
      connection:write((packet.frame(denied, 1)))
    end
    local other, payload, sequence = login(("q"):rep(20))
    assert.same({ denied, 2 }, { payload, sequence })
    assert.same(client.greeting, other.greeting)
    assert.equal(1, other.greeting.thread_id)
    local command = packet.parse(received[1][2])
    assert.equal("\17me\0\20" .. ("q"):rep(20) .. "\0\45\0mysql_native_password\0", command)
    assert.truthy(other:wait_for_end())
    assert.truthy(process.wait_until(function() return received[1].ended end, 5))
  end)

  it("is told of a plugin only if client and server know of plugins", function()
    start()
    leaves((login(("p"):rep(20), -FLAGS.CLIENT_PLUGIN_AUTH)))
    local client, payload, sequence = login(("q"):rep(20), -FLAGS.CLIENT_PLUGIN_AUTH)
    assert.same({ OK, 2 }, { payload, sequence })
    assert.equal("\17me\0\20" .. ("q"):rep(20) .. "\0\45\0", (packet.parse(received[1][2])))
    leaves(client)
  end)

  it("is not asked with --proxy-pool-no-change-user: the response has to be that of the first login", function()
    start { "--proxy-pool-no-change-user" }
    local client = login(("p"):rep(20))
    leaves(client)
    local payload, sequence
    client, payload, sequence = login(("p"):rep(20))
    assert.same({ OK, 2 }, { payload, sequence })
    leaves(client)
    client, payload, sequence = login(("q"):rep(20))
    assert.same({ "\255\21\4#28000(proxy-pool) login failed", 2 }, { payload, sequence })
    assert.truthy(client:wait_for_end())
    assert.equal(1, #received[1])
  end)

  it("gets the script's login over an idle connection in the client's stead, if that makes sense", function()
    start()
    leaves((login("")))
    series:run(TAKES .. [[
      local proto = require("mysql.proto")
      function read_auth(auth)
        local long = "\0\130\40\0" .. ("\0"):rep(4) .. "\45" .. ("\0"):rep(23) .. "you\0\252\44\1" .. ("y"):rep(300)
          .. "mysql_native_password\0"
        proxy.queries:append(1, auth.password == "junk" and "junk" or auth.password == "long" and long
          or proto.to_response_packet {
            capabilities = 0x8a208, server_capabilities = 0x8a208, charset = 8, username = "you", database = "yours",
            response = ("y"):rep(20) })
        proxy.queries:append(2, "dropped")
        return proxy.PROXY_SEND_QUERY
      end
      function disconnect_client() proxy.connection.backend_ndx = 0 print('left') end]])
    local client, payload, sequence = login(("p"):rep(20))
    assert.same({ OK, 2 }, { payload, sequence })
    assert.equal("\17you\0\20" .. ("y"):rep(20) .. "yours\0\8\0mysql_native_password\0",
      (packet.parse(received[1][2])))
    leaves(client)
    for _, each in ipairs {
      { "junk", 0, "it cannot be decoded" }, { "long", 0, "its response is longer than 255 bytes" },
      { "", FLAGS.CLIENT_DEPRECATE_EOF, "the client speaks otherwise than that connection" },
    } do
      local response, more, problem = unpack(each)
      client, payload, sequence = login(response, more)
      assert.same({ "\255\81\4#07000(lua) the login that read_auth has queued is of no use on the idle connection: "
        .. problem, 2 }, { payload, sequence })
      assert.truthy(client:wait_for_end())
      series:prints("left\n.*left\n")
    end
    assert.equal(2, #received[1])
    assert.is_nil(received[1].ended) -- it is idle again
  end)
end)
