-- What each hook of a script is told, what it may decide, and what becomes of that on the wire.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"

local FLAGS = proto.capabilities
local ERR = "\255\81\4#07000" -- 1105

-- What a client's login looks like before it has read anything.
local function login_packet(fields)
  return proto.to_response_packet(setmetatable(fields, { __index = {
    capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
      + FLAGS.CLIENT_CONNECT_WITH_DB,
    server_capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
      + FLAGS.CLIENT_CONNECT_WITH_DB,
    max_packet_size = 2 ^ 24, charset = 45, username = "", response = "", auth_plugin_name = "mysql_native_password",
  } }))
end

-- No server is there: the script is one.
local MOCK = [[
  local proto = require("mysql.proto")
  function connect_server()
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { proto.to_challenge_packet({
      server_version = 50045, thread_id = 9, capabilities = 0x8a208, auth_plugin_name = "mysql_native_password",
      challenge = ("c"):rep(20) }) } }
    return proxy.PROXY_SEND_RESULT
  end
]]

describe("the hooks of a script without a server:", function()
  local series

  setup(function()
    series = scripted.series({ "127.0.0.1:1" })
  end)

  teardown(function()
    series:stop()
  end)

  after_each(function()
    series:leave()
  end)

  local function connect()
    local client = raw.connect(series.proxy.port)
    table.insert(series.clients, client)
    return client
  end

  local function is_last(client, expected, number)
    local payload, sequence = client:packet()
    assert.same({ expected, number }, { payload, sequence })
    assert.truthy(client:wait_for_end())
  end

  it("connect_server knows its client and nothing else; its answer is the first packet, and the last", function()
    series:run [[
      function connect_server()
        local c = proxy.connection
        print(c.backend_ndx, c.server, c.thread_id, c.default_db, c.mysqld_version, c.client.username,
          c.client.scrambled_password, c.client.default_db, c.client.mysqld_version, c.client.thread_id,
          c.client.scramble_buffer, c.client.auth_plugin_name)
        print(c.client.src.name, c.client.dst.name)
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no" }
        return proxy.PROXY_SEND_RESULT
      end]]
    local client = connect()
    is_last(client, ERR .. "no", 0)
    series:prints(("0" .. ("\tnil"):rep(11) .. "\n127.0.0.1:%d\t127.0.0.1:%d\n"):format(
      client.socket:getsockname().port, series.proxy.port), true)
    series:run "function connect_server() proxy.response.type = proxy.MYSQLD_PACKET_OK return 2 end"
    is_last(connect(), "\0\0\0\2\0\0\0", 0)
    assert.is_nil(series.proxy:log():find("connect(127.0.0.1:1)", 1, true))
  end)

  it("connect_server is called again for each server that fails", function()
    series:run [[
      function connect_server() print('asked', proxy.connection.backend_ndx) end
      function disconnect_client() print('left', proxy.connection.server) end]]
    is_last(connect(), "\255\81\4(proxy) all backends are down", 0)
    series:prints("^asked\t0\nasked\t0\nleft\tnil\n$")
    series:run "function connect_server() proxy.connection.backend_ndx = 2 print(proxy.connection.backend_ndx) end"
    is_last(connect(), "\255\81\4(proxy) all backends are down", 0)
    series:prints("2\n", true)
  end)

  it("read_auth is told of the login, and nobody else has to be", function()
    series:run(MOCK .. [[
      function read_auth(auth)
        local keys = {}
        for key, value in pairs(auth) do keys[#keys + 1] = key .. "=" .. value end
        table.sort(keys)
        print(table.concat(keys, " "))
        local c = proxy.connection.client
        assert(c.username == auth.username and c.scrambled_password == auth.password
          and c.default_db == auth.default_db and proxy.connection.server == nil)
        print(c.mysqld_version, c.thread_id, c.scramble_buffer:sub(1, 20), c.auth_plugin_name)
      end]])
    local client = connect()
    client:packet()
    client:send(login_packet { username = "me", response = ("r"):rep(20), database = "shop" }, 1)
    local payload, sequence = client:packet()
    assert.same({ "\0\0\0\2\0\0\0", 2 }, { payload, sequence })
    series:prints("default_db=shop password=" .. ("r"):rep(20) .. " username=me\n50045\t9\t" .. ("c"):rep(20)
      .. "\tmysql_native_password\n", true)
    client:send("\14") -- nobody answers it
    assert.truthy(client:wait_for_end())
    assert.equal("", client:rest())
    series:logs("I have no server backend, closing connection\n", true)
    client = connect()
    client:packet()
    client:send(login_packet { auth_plugin_name = "dialog" }, 1)
    assert.equal(0, client:packet():byte())
    series:prints("default_db= password= username=\n50045\t9\t" .. ("c"):rep(20) .. "\tdialog\n", true)
    assert.is_nil(series:log():find("(read_auth)", 1, true))
  end)

  it("read_auth refuses, and a command that comes behind is not served", function()
    series:run(MOCK .. [[
      function read_auth() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no" } return 2 end
      function read_query() print("served") end]])
    local client = connect()
    client:packet()
    client:write(packet.frame(login_packet {}, 1) .. packet.frame("\14", 0))
    is_last(client, ERR .. "no", 2)
    assert.equal("", series:stdout())
  end)

  it("read_auth cannot send a login to nobody", function()
    series:run(MOCK .. "function read_auth() proxy.queries:append(1, 'x') return proxy.PROXY_SEND_QUERY end")
    local client = connect()
    client:packet()
    client:send(login_packet {}, 1)
    local payload, sequence = client:packet()
    assert.equal(2, sequence)
    assert.matches("there is no server$", payload)
    assert.equal(ERR, payload:sub(1, #ERR))
    assert.truthy(client:wait_for_end())
  end)

  it("disconnect_client is called also if there was no login, and may miss the server", function()
    series:run(MOCK .. "function disconnect_client() print(proxy.connection.server.thread_id) end")
    local client = connect()
    client:packet()
    client:close()
    series:logs('%(critical%) %(disconnect_client%) %[string "' .. series.proxy.script:gsub("%p", "%%%0")
      .. '"%]:8: attempt to index field \'server\' %(a nil value%)')
  end)
end)

-- A server that is played by hand: it says `greeting`, and answers(connection, bytes) for what it reads.
describe("the hooks of a script and a server's words:", function()
  local listener, received, series, greeting, answers

  setup(function()
    listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection = uv.new_tcp()
      listener:accept(connection)
      connection:read_start(function(_, bytes)
        if not bytes then
          connection:close()
          received.ended = true
        else
          received[#received + 1] = bytes
          if answers then
            answers(connection, bytes)
          end
        end
      end)
      connection:write((packet.frame(greeting, 0)))
    end))
    series = scripted.series({ "127.0.0.1:" .. listener:getsockname().port })
  end)

  before_each(function()
    received, answers = {}, nil
    greeting = proto.to_challenge_packet {
      server_version = 50045, thread_id = 7, challenge = ("a"):rep(20), server_status = 2, charset = 33,
      capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
        + FLAGS.CLIENT_CONNECT_WITH_DB + FLAGS.CLIENT_COMPRESS + FLAGS.CLIENT_SSL,
      auth_plugin_name = "mysql_native_password",
    }
  end)

  after_each(function()
    series:leave()
  end)

  teardown(function()
    series:stop()
    listener:close()
    uv.run("nowait")
  end)

  local function connect()
    local client = raw.connect(series.proxy.port)
    table.insert(series.clients, client)
    return client
  end

  local function server_is_left()
    assert.truthy(process.wait_until(function() return received.ended end, 5))
  end

  it("read_handshake gets the facts of the greeting, which the client gets without compression and TLS", function()
    series:run [[function read_handshake(auth)
      local c, keys = proxy.connection, {}
      for key, value in pairs(auth) do keys[#keys + 1] = key .. "=" .. value end
      table.sort(keys)
      print((table.concat(keys, " "):gsub("%z", "")))
      print(c.server.mysqld_version == auth.mysqld_version, c.server.thread_id == auth.thread_id,
        c.server.scramble_buffer == auth.scramble, c.server.dst.name == auth.server_addr,
        proxy.backends[1].address == auth.server_addr, c.client.src.name == auth.client_addr)
      print(c.client.mysqld_version, c.client.thread_id, c.client.scramble_buffer, c.client.username, c.server.username,
        c.client.scrambled_password, c.server.scrambled_password)
      return proxy.PROXY_IGNORE_RESULT
    end]]
    local client = connect()
    local expected = proto.from_challenge_packet(greeting)
    expected.capabilities = expected.capabilities - FLAGS.CLIENT_COMPRESS - FLAGS.CLIENT_SSL
    assert.same(expected, proto.from_challenge_packet(client:packet()))
    series:prints(("client_addr=127.0.0.1:%d mysqld_version=50045 scramble=%s server_addr=127.0.0.1:%d "
      .. "thread_id=7\ntrue\ttrue\ttrue\ttrue\ttrue\ttrue\n%snil\n"):format(
      client.socket:getsockname().port, ("a"):rep(20), listener:getsockname().port, ("nil\t"):rep(6)), true)
  end)

  it("the challenge has 20 bytes, and a NUL if the server has plugins; a login that names none has its", function()
    series:run [[
      function read_handshake(auth)
        local buffer = proxy.connection.server.scramble_buffer
        print(#auth.scramble, #buffer, auth.scramble:byte(21), buffer:byte(21))
      end
      function read_auth()
        print(#proxy.connection.client.scramble_buffer, proxy.connection.client.auth_plugin_name)
      end]]
    local without = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION
    local function logs_in()
      local client = connect()
      client:packet()
      client:send(login_packet { capabilities = without }, 1)
    end
    logs_in()
    series:prints("21\t21\t0\t0\n21\tmysql_native_password\n", true)
    greeting = proto.to_challenge_packet {
      server_version = 50045, thread_id = 7, challenge = ("a"):rep(20), capabilities = without,
    }
    logs_in()
    series:prints("20\t20\tnil\n20\tnil\n", true)
  end)

  it("read_handshake is not called for an error instead of a greeting", function()
    series:run "function read_handshake() print('called') end function disconnect_client() print('left') end"
    greeting = "\255\16\4Too many connections"
    local client = connect()
    local payload, sequence = client:packet()
    assert.same({ greeting, 0 }, { payload, sequence })
    assert.truthy(client:wait_for_end())
    series:prints("left\n", true)
    assert.equal("left\n", series:stdout())
  end)

  it("read_handshake is not called for a greeting of another protocol, or none; the client is told", function()
    series:run "function read_handshake() print('called') end function disconnect_client() print('left') end"
    local whole = greeting
    for count, each in ipairs { "\9" .. whole:sub(2), "\11" .. whole:sub(2), whole:sub(1, 12), "HTTP/1.1 400" } do
      greeting, received = each, {}
      local client = connect()
      local payload, sequence = client:packet()
      assert.same({ "\255\81\4(proxy) the server's greeting is not one of MySQL", 0 }, { payload, sequence })
      assert.truthy(client:wait_for_end())
      server_is_left()
      assert.same({}, { unpack(received) })
      series:prints(("left\n"):rep(count), true)
      series:logs("the server's greeting cannot be decoded: ", true)
    end
    assert.equal(("left\n"):rep(4), series:stdout())
  end)

  it("read_handshake refuses in both ways, and both sides are closed", function()
    for verdict, warned in pairs { PROXY_SEND_RESULT = false, PROXY_SEND_QUERY = true } do
      received = {}
      series:run(([[function read_handshake()
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no" }
        return proxy.%s
      end]]):format(verdict))
      local client = connect()
      local payload, sequence = client:packet()
      assert.same({ ERR .. "no", 0 }, { payload, sequence })
      assert.truthy(client:wait_for_end())
      server_is_left()
      assert.equal(warned, series:log():find("(warning)", 1, true) ~= nil)
      if warned then
        series:logs(": (read_handshake) return proxy.PROXY_SEND_QUERY is deprecated, use PROXY_SEND_RESULT instead\n",
          true)
      end
      assert.same({}, { unpack(received) })
    end
  end)

  it("read_auth answers in the server's stead, who never sees the login", function()
    for _, response in ipairs {
      "{ type = proxy.MYSQLD_PACKET_ERR, errmsg = 'no' }", "{ type = proxy.MYSQLD_PACKET_OK }",
    } do
      received = {}
      series:run(("function read_auth() assert(proxy.connection.server.username == nil) "
        .. "proxy.queries:append(1, 'x') proxy.response = %s return proxy.PROXY_SEND_RESULT end"):format(response))
      local client = connect()
      client:packet()
      client:send(login_packet {}, 1)
      local payload, sequence = client:packet()
      assert.equal(2, sequence)
      assert.equal(response:find("ERR") and ERR .. "no" or "\0\0\0\2\0\0\0", payload)
      assert.truthy(client:wait_for_end()) -- also after an OK: the server would not know whose commands come
      server_is_left()
      assert.same({}, { unpack(received) })
      assert.is_nil(series:log():find("(read_auth)", 1, true))
    end
  end)

  it("read_auth sends the first packet of the queue instead of the login, and drops the rest", function()
    series:run [[function read_auth()
      proxy.queries:append(1, "something else")
      proxy.queries:append(2, "more")
      return proxy.PROXY_SEND_QUERY
    end]]
    answers = function(connection)
      connection:write((packet.frame("\0\0\0\2\0\0\0", 2)))
    end
    local client = connect()
    client:packet()
    client:send(login_packet {}, 1)
    assert.equal(0, client:packet():byte())
    answers = nil
    client:send("\14")
    assert.truthy(process.wait_until(function() return #received > 1 end, 5))
    assert.same({ (packet.frame("something else", 1)), (packet.frame("\14", 0)) }, { unpack(received) })
  end)

  it("read_auth_result sees each step of a login", function()
    series:run [[function read_auth_result(auth)
      assert(next(auth) == "packet" and next(auth, "packet") == nil)
      local server = proxy.connection.server
      print(auth.packet:byte(), #auth.packet, server.username, server.default_db)
    end]]
    local steps = {
      "\254mysql_native_password\0" .. ("b"):rep(20) .. "\0", "\1more", "\254", "\0\0\0\2\0\0\0",
    }
    answers = function(connection)
      connection:write((packet.frame(steps[#received], #received * 2)))
    end
    local client = connect()
    client:packet()
    client:send(login_packet { username = "me", database = "shop" }, 1)
    for index = 1, 3 do
      assert.same({ steps[index], index * 2 }, { client:packet() })
      client:send("data", index * 2 + 1)
    end
    assert.same({ steps[4], 8 }, { client:packet() })
    series:prints(("254\t%d\tme\tshop\n1\t5\tme\tshop\n254\t1\tme\tshop\n0\t7\tme\tshop\n"):format(#steps[1]), true)
    for index = 2, 4 do
      assert.equal(packet.frame("data", index * 2 - 1), received[index])
    end
  end)

  it("read_auth_result answers instead, and what comes next follows from the server's word", function()
    local ok, no, switch = "\0\0\0\2\0\0\0", "\255\21\4#28000no", "\254mysql_native_password\0" .. ("b"):rep(20) .. "\0"
    local mine, refusal = "\0\3\0\2\0\0\0", ERR .. "mine"
    for _, case in ipairs {
      -- the server's answer, proxy.response, what the client gets, does he stay?
      { ok, "{ type = proxy.MYSQLD_PACKET_OK, affected_rows = 3 }", mine, true },
      { ok, "{ type = proxy.MYSQLD_PACKET_ERR, errmsg = 'mine' }", refusal, false },
      { no, "{ type = proxy.MYSQLD_PACKET_OK, affected_rows = 3 }", mine, false },
      { no, "{ type = proxy.MYSQLD_PACKET_ERR, errmsg = 'mine' }", refusal, false },
      { switch, "{ type = proxy.MYSQLD_PACKET_RAW, packets = { '\\1mine' } }", "\1mine", true },
      { switch, "{ type = proxy.MYSQLD_PACKET_RAW, packets = { '\\1mine', '\\1too' } }", "\1mine", true, "\1too" },
    } do
      received = {}
      series:run(("function read_auth_result() proxy.response = %s return proxy.PROXY_SEND_RESULT end"):format(case[2]))
      answers = function(connection)
        if #received == 1 then
          connection:write((packet.frame(case[1], 2)))
        end
      end
      local client = connect()
      client:packet()
      client:send(login_packet {}, 1)
      assert.same({ case[3], 2 }, { client:packet() })
      if case[5] then
        assert.same({ case[5], 3 }, { client:packet() })
      end
      if case[4] then
        client:send("\14next", case[1] ~= switch and 0 or case[5] and 4 or 3)
        assert.truthy(process.wait_until(function() return #received == 2 end, 5))
        assert.equal(packet.frame("\14next", case[1] == switch and 3 or 0), received[2])
      else
        assert.truthy(client:wait_for_end())
        server_is_left()
      end
    end
  end)

  it("read_auth_result sees the answer to a login over an idle connection, which the client counts as his login's",
    function()
      series:run [[
        function connect_server() proxy.connection.backend_ndx = 1 return proxy.PROXY_IGNORE_RESULT end
        function read_handshake() print("handshake") end
        function read_auth_result(auth) print(auth.packet:byte(1, 2)) end
        function disconnect_client() proxy.connection.backend_ndx = 0 print("left") end]]
      answers = function(connection)
        local first = #received == 1
        connection:write((packet.frame(first and "\0\1\0\2\0\0\0" or "\0\7\0\2\0\0\0", first and 2 or 1)))
      end
      local client = connect()
      assert.truthy(client:packet())
      client:send(login_packet { username = "me" }, 1)
      assert.same({ "\0\1\0\2\0\0\0", 2 }, { client:packet() })
      client:close()
      series:prints("left\n", true)
      client = connect()
      assert.equal(7, proto.from_challenge_packet(client:packet()).thread_id)
      client:send(login_packet { username = "me" }, 1)
      assert.same({ "\0\7\0\2\0\0\0", 2 }, { client:packet() })
      local command, number = packet.parse(received[2])
      assert.same({ 17, 0 }, { command:byte(), number }) -- COM_CHANGE_USER
      series:run "function disconnect_client() end"
      client:close()
      series.printed = 0
      series:prints("handshake\n0\t1\nleft\n0\t7\n", true)
    end)

  it("the server gets the client's login as it is, without what the client was not offered", function()
    series:run "function read_auth() end"
    answers = function(connection)
      connection:write((packet.frame("\0\0\0\2\0\0\0", 2)))
    end
    local own = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
      + FLAGS.CLIENT_TRANSACTIONS + FLAGS.CLIENT_FOUND_ROWS
    for _, more in ipairs { 0, FLAGS.CLIENT_COMPRESS, FLAGS.CLIENT_SSL + FLAGS.CLIENT_ZSTD_COMPRESSION_ALGORITHM } do
      received = {}
      local client = connect()
      client:packet()
      client:send(login_packet { capabilities = own + more, username = "me", response = ("r"):rep(20) }, 1)
      assert.same({ "\0\0\0\2\0\0\0", 2 }, { client:packet() })
      assert.equal(packet.frame(login_packet { capabilities = own, username = "me", response = ("r"):rep(20) }, 1),
        received[1])
    end
  end)

  it("disconnect_client is called when a side goes in mid-command, and the connection is of no use any more", function()
    series:run [[
      local before = proxy.backends[1].idling_connections
      function disconnect_client()
        proxy.connection.backend_ndx = 0
        print("left " .. proxy.backends[1].idling_connections - before)
      end]]
    local leaves
    answers = function(connection)
      if #received == 1 then
        connection:write((packet.frame("\0\0\0\2\0\0\0", 2)))
      elseif leaves == "server" then
        connection:shutdown()
      end
    end
    for index, side in ipairs { "server", "client" } do
      received, leaves = {}, side
      local client = connect()
      client:packet()
      client:send(login_packet {}, 1)
      client:packet()
      client:send("\3SELECT 1")
      if side == "server" then
        local payload, sequence = client:packet()
        assert.same({ 2013, 1 }, { proto.from_err_packet(payload).errcode, sequence })
        assert.truthy(client:wait_for_end())
      else
        assert.truthy(process.wait_until(function() return #received == 2 end, 5))
        client.socket:close_reset()
      end
      server_is_left()
      series:prints(("left 0\n"):rep(index), true)
    end
  end)

  it("read_auth_result cannot put a server aside that waits for the client", function()
    series:run "function read_auth_result() proxy.connection.backend_ndx = 0 end"
    answers = function(connection)
      connection:write((packet.frame("\254mysql_native_password\0" .. ("b"):rep(20) .. "\0", 2)))
    end
    local client = connect()
    client:packet()
    client:send(login_packet {}, 1)
    assert.same({ ERR .. "(lua) read-auth-old-password failed as backend_ndx got reset.", 2 }, { client:packet() })
    assert.truthy(client:wait_for_end())
    server_is_left()
  end)

  it("read_auth_result gets no idle connection for a client who has not logged in yet", function()
    series:run [[
      function read_auth_result(auth) proxy.connection.backend_ndx = 1 end
      function disconnect_client() proxy.connection.backend_ndx = 0 print("left") end]]
    local steps, connections = { "\0\0\0\2\0\0\0", "\254mysql_native_password\0" .. ("b"):rep(20) .. "\0" }, {}
    steps[3] = steps[1]
    answers = function(connection)
      connections[#received] = connection
      connection:write((packet.frame(steps[#received], #received == 3 and 4 or 2)))
    end
    local client = connect()
    client:packet()
    client:send(login_packet { username = "me" }, 1)
    assert.same({ steps[1], 2 }, { client:packet() })
    client:close()
    series:prints("left\n", true)
    client = connect()
    client:packet()
    client:send(login_packet { username = "me" }, 1)
    assert.same({ steps[2], 2 }, { client:packet() })
    client:send("data", 3)
    assert.same({ steps[3], 4 }, { client:packet() })
    assert.are_not.equal(connections[1], connections[2])
    assert.equal(connections[2], connections[3]) -- the one that has asked
  end)
end)
