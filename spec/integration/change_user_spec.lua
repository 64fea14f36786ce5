-- COM_CHANGE_USER at servers that answer it as no server of today does, played by hand.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"

local FLAGS = proto.capabilities
local CHANGE_USER = "\17somebody\0\0\0\45\0"
local OK = proto.to_ok_packet { server_status = 2 }
local DENIED = proto.to_err_packet { errcode = 1045, sqlstate = "28000", errmsg = "Access denied" }
local BROKEN = "COM_CHANGE_USER is broken on 5.1.14-.17, please upgrade the MySQL Server"

local scripts = {
  ["no script"] = false,
  ["a script that looks"] = "function read_query(packet) print('saw ' .. packet:byte()) end",
  ["a script that queues"] = [[
    function read_query(packet)
      print('saw ' .. packet:byte())
      proxy.queries:append(1, packet)
      return proxy.PROXY_SEND_QUERY
    end]],
}

describe("COM_CHANGE_USER", function()
  local listener, connections, greeting, answers, proxy, client
  local late -- what the server says before it answers anything else

  local function say_late(connection)
    if late then
      connection:write(late)
      late = nil
    end
  end

  before_each(function()
    listener, connections = uv.new_tcp(), {}
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection, received, at, logged_in = uv.new_tcp(), "", 1, false
      connections[#connections + 1] = connection
      listener:accept(connection)
      connection:read_start(function(_, bytes)
        received = received .. (bytes or "")
        local payload, sequence, after = packet.parse(received, at)
        while payload do
          at = after
          local command = logged_in and payload:byte() or "login"
          logged_in = true
          if command == 17 then
            answers(connection, payload)
          elseif command == 1 then
            connection:shutdown()
          else
            say_late(connection)
            connection:write((packet.frame(OK, sequence + 1)))
          end
          payload, sequence, after = packet.parse(received, at)
        end
      end)
      connection:write((packet.frame(greeting, 0)))
    end))
  end)

  after_each(function()
    client:close()
    assert.equal(0, proxy:stop())
    assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    listener:close()
    for _, connection in ipairs(connections) do
      connection:close()
    end
    uv.run("nowait")
  end)

  local function start(script, version, options)
    greeting = proto.to_challenge_packet {
      server_version = version, thread_id = 1, challenge = ("a"):rep(20), charset = 8, server_status = 2,
      capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION,
    }
    local backends = { "127.0.0.1:" .. listener:getsockname().port }
    proxy = script and scripted.start(backends, script, options) or proxies.start(backends, options)
    client = raw.connect(proxy.port):login("somebody")
    assert.is_nil(client.refused)
  end

  -- The next packet is this one.
  local function gets(payload, sequence)
    assert.same({ payload, sequence }, { client:packet() })
  end

  it("changes who a script sees on both sides, if the server agrees", function()
    start([[
      function read_query(packet)
        if packet ~= "\3REPORT" then return end
        local said = {}
        for _, side in ipairs { "client", "server" } do
          for _, key in ipairs { "username", "scrambled_password", "default_db" } do
            said[#said + 1] = proxy.connection[side][key]
          end
        end
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(said, " ") }
        return proxy.PROXY_SEND_RESULT
      end]], 50500)
    local function reports(expected)
      assert.equal(expected .. " " .. expected, client:ask("REPORT").errmsg)
    end
    reports("somebody  ")
    answers = function(connection, payload)
      connection:write((packet.frame(payload:find("friend", 1, true) and OK or DENIED, 1)))
    end
    client:send("\17enemy\0\20" .. ("e"):rep(20) .. "theirs\0\45\0")
    gets(DENIED, 1)
    reports("somebody  ")
    client:send("\17friend\0\20" .. ("f"):rep(20) .. "ours\0\45\0")
    gets(OK, 1)
    reports("friend " .. ("f"):rep(20) .. " ours")
  end)

  for name, script in pairs(scripts) do
    describe("with " .. name, function()
      for _, version in ipairs { 50114, 50117 } do
        it("is not sent to a server of " .. version, function()
          answers = function() error("the server must not see it") end
          start(script, version)
          client:send(CHANGE_USER)
          local payload, sequence = client:packet()
          local err = proto.from_err_packet(payload)
          assert.same({ 1105, "07000", BROKEN, 1 }, { err.errcode, err.sqlstate, err.errmsg, sequence })
          client:send("\3SELECT 1")
          gets(OK, 1)
          client:send("\1")
          assert.truthy(client:wait_for_end())
          assert.is_nil(proxy.process:stdout():find("saw 17", 1, true))
        end)
      end

      it("is with --proxy-fix-bug-25371, and the second error is left out", function()
        local both_at_once = true
        answers = function(connection, payload)
          if payload:find("friend", 1, true) then
            connection:write((packet.frame(OK, 1)))
          elseif both_at_once then
            connection:write(packet.frame(DENIED, 1) .. packet.frame(DENIED, 2))
          else
            connection:write((packet.frame(DENIED, 1)))
            late = packet.frame(DENIED, 2)
            local timer = uv.new_timer()
            timer:start(20, 0, function()
              timer:close()
              say_late(connection)
            end)
          end
        end
        start(script, 50115, { "--proxy-fix-bug-25371" })
        for _ = 1, 2 do
          client:send(CHANGE_USER)
          gets(DENIED, 1)
          client:send("\3SELECT 1")
          gets(OK, 1)
          both_at_once = false
        end
        client:send("\17friend\0\0\0\45\0")
        gets(OK, 1)
        client:send("\14")
        gets(OK, 1)
      end)

      it("is with other servers", function()
        for _, version in ipairs { 50113, 50118 } do
          answers = function(connection)
            connection:write((packet.frame(DENIED, 1)))
          end
          if proxy and client then
            client:close()
            proxy:stop()
          end
          start(script, version)
          client:send(CHANGE_USER)
          gets(DENIED, 1)
          client:send("\14")
          gets(OK, 1)
          assert.equal(script and "saw 17\nsaw 14\n" or "", proxy.process:stdout())
        end
      end)

      it("may lead to a conversation, of any form", function()
        local steps = { "\254", "\1", "\254plugin\0scramble\0", OK }
        answers = function(connection)
          connection:write((packet.frame(steps[1], 1)))
          local step = 1
          connection:read_stop()
          connection:read_start(function(_, bytes)
            if bytes and steps[step + 1] then
              step = step + 1
              assert(bytes == packet.frame("response", 2 * step - 2))
              connection:write((packet.frame(steps[step], 2 * step - 1)))
            end
          end)
        end
        start(script, 50500)
        client:send(CHANGE_USER)
        for index, step in ipairs(steps) do
          gets(step, 2 * index - 1)
          if step ~= OK then
            client:send("response", 2 * index)
          end
        end
        assert.is_nil(process.read_file(proxy.log_file):match("%(critical%) [s(][^\n]*"))
      end)
    end)
  end
end)
