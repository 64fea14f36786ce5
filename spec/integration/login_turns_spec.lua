-- Whose turn it is in a login, and what the client is told when it goes wrong: with a server played by hand, as no real
-- one can be made to leave or to stay silent at each step.

local logs = require "mysql-proxy.log"
local mysql_proxy = require "mysql-proxy"
local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"

local FLAGS = proto.capabilities
local PLUGIN = "mysql_native_password"

local greeting = packet.frame(proto.to_challenge_packet {
  server_version = 80000, thread_id = 1, challenge = ("a"):rep(20), charset = 45, server_status = 2,
  capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH,
  auth_plugin_name = PLUGIN,
}, 0)
local handshake_response = proto.to_response_packet {
  capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH,
  server_capabilities = FLAGS.CLIENT_PROTOCOL_41, max_packet_size = 2 ^ 24, charset = 45, username = "somebody",
  auth_plugin_name = PLUGIN,
}
local switch = "\254" .. PLUGIN .. "\0" .. ("b"):rep(20) .. "\0"

describe("in a login", function()
  local listener, connections, proxy, client

  -- A server that calls step(connection, number) for what it reads, number 0 when it has been connected to.
  local function serve(step, options)
    listener, connections = uv.new_tcp(), {}
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection, count = uv.new_tcp(), 0
      connections[#connections + 1] = connection
      listener:accept(connection)
      connection:read_start(function(_, bytes)
        if not bytes then
          connections.ended = true
          return
        end
        count = count + 1
        step(connection, count, bytes)
      end)
      step(connection, 0)
    end))
    local port = process.free_port()
    options.log = logs.new { level = "error" }
    options.proxy_address = { "127.0.0.1:" .. port }
    options.proxy_backend_addresses[#options.proxy_backend_addresses + 1] =
      "127.0.0.1:" .. listener:getsockname().port
    proxy = assert(mysql_proxy.new(options))
    proxy:listen(function(ok, message)
      assert(ok, message)
    end)
    client = raw.connect(port)
  end

  after_each(function()
    client:close()
    proxy:close()
    listener:close()
    for _, connection in ipairs(connections) do
      if not connection:is_closing() then
        connection:close()
      end
    end
    process.wait_until(function()
      return proxy.session_count == 0
    end)
  end)

  local function next_error()
    local payload, sequence = client:packet()
    return proto.from_err_packet(assert(payload)).errcode, sequence
  end

  it("a server that leaves before the client has answered its greeting is reported in the packet after that answer",
    function()
      serve(function(connection)
        connection:write(greeting, function()
          connection:close()
        end)
      end, { proxy_backend_addresses = {} })
      client:packet()
      assert.same({ 2013, 2 }, { next_error() })
    end)

  it("a server that leaves later is reported in the packet after the client's last", function()
    serve(function(connection, number)
      if number == 0 then
        connection:write(greeting)
      elseif number == 1 then
        connection:write((packet.frame(switch, 2)))
      else
        connection:close()
      end
    end, { proxy_backend_addresses = {} })
    client:packet()
    client:send(handshake_response, 1)
    assert.equal(2, select(2, client:packet()))
    client:send(("c"):rep(20), 3)
    assert.same({ 2013, 4 }, { next_error() })
  end)

  it("a server that stays silent is reported", function()
    serve(function(connection, number)
      if number == 0 then
        connection:write(greeting)
      end
    end, { proxy_backend_addresses = {}, login_timeout = 0.1 })
    client:packet()
    client:send(handshake_response, 1)
    local payload, sequence = client:packet()
    local err = proto.from_err_packet(payload)
    assert.same({ 1105, "backend timed out", 2 }, { err.errcode, err.errmsg, sequence })
  end)

  it("a client that stays silent is closed, and no server blamed", function()
    serve(function(connection, number)
      if number == 0 then
        connection:write(greeting)
      end
    end, { proxy_backend_addresses = {}, login_timeout = 0.1 })
    client:packet()
    assert.is_nil((client:packet()))
    assert.truthy(client.ended)
  end)

  -- A byte now and then, until nobody takes them any more.
  local function trickle(socket)
    local timer = uv.new_timer()
    timer:start(50, 50, function()
      socket:try_write("x")
    end)
    return timer
  end

  it("a client that sends byte by byte gets no more time than others", function()
    serve(function(connection, number)
      if number == 0 then
        connection:write(greeting)
      end
    end, { proxy_backend_addresses = {}, login_timeout = 0.3 })
    client:packet()
    client:write("\200\0\0\1")
    local timer = trickle(client.socket)
    assert.truthy(client:wait_for_end())
    timer:close()
  end)

  it("a server that sends its greeting byte by byte gets no more time than others", function()
    local timer
    serve(function(connection, number)
      if number == 0 then
        connection:write("\200\0\0\0")
        timer = trickle(connection)
      end
    end, { proxy_backend_addresses = {}, proxy_connect_timeout = 0.3 })
    assert.same({ 1105, 0 }, { next_error() })
    timer:close()
  end)

  it("a command cannot pass as an answer to the authentication plugin", function()
    local received = ""
    serve(function(connection, number, bytes)
      received = received .. (bytes or "")
      if number == 0 then
        connection:write(greeting)
      elseif number == 1 then
        connection:write((packet.frame("\1\3", 2))) -- caching_sha2_password: the OK comes next
      end
    end, { proxy_backend_addresses = {} })
    client:packet()
    client:write(packet.frame(handshake_response, 1) .. packet.frame("\3DROP TABLE t", 0))
    assert.truthy(client:wait_for_end())
    assert.is_nil(received:find("DROP", 1, true))
  end)

  it("what a client sends before its turn waits in bounded memory", function()
    serve(function(connection, number)
      if number == 0 then
        connection:write(greeting)
      end
    end, { proxy_backend_addresses = {}, login_packet_limit = 1000 })
    client:packet()
    client:write((packet.frame(handshake_response, 1)))
    local taken
    client.socket:write(("x"):rep(64 * 1024 * 1024), function()
      taken = true
    end)
    assert.is_nil(process.wait_until(function()
      return taken
    end, 1))
    assert.is_nil(client.ended)
  end)

  -- 255.255.255.255 fails at once, within the call that begins to connect.
  it("a client that leaves while the second server is tried leaves nothing behind", function()
    serve(function() end, { proxy_backend_addresses = { "255.255.255.255:3306" }, proxy_connect_timeout = 60 })
    assert.truthy(process.wait_until(function()
      return connections[1]
    end))
    client:close()
    assert.truthy(process.wait_until(function()
      return connections.ended
    end, 10))
    assert.equal(0, proxy.session_count)
    assert.equal(0, proxy.backends[1].connected_clients + proxy.backends[2].connected_clients)
  end)
end)
