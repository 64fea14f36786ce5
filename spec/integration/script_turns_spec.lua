-- What happens while a script's hook runs or waits: with a server played by hand, as no real one can be made to leave
-- or to answer at each step.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"

local FLAGS = proto.capabilities

local GREETING = packet.frame(proto.to_challenge_packet {
  server_version = 80000, thread_id = 1, challenge = ("a"):rep(20), charset = 45, server_status = 2,
  capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
    + FLAGS.CLIENT_LOCAL_FILES,
  auth_plugin_name = "mysql_native_password",
}, 0)
local OK = proto.to_ok_packet { server_status = 2 }

describe("while a hook of a script runs", function()
  local listener, connections, commands, answers, proxy, client

  -- A server that lets everybody in, lists the commands it gets, and answers with answers[command] or OK.
  local function play(connection)
    local login, buffer = true, ""
    connection:read_start(function(_, bytes)
      buffer = buffer .. (bytes or "")
      local payload, sequence, after = packet.parse(buffer, 1)
      while payload do
        buffer = buffer:sub(after)
        local answer = OK
        if login then
          login, answer = false, answers.login or OK
        elseif sequence == 0 then
          commands[#commands + 1] = payload:sub(2)
          answer = answers[payload:sub(2)] or OK
        elseif #payload > 0 then
          answer = nil -- a part of a file
        end
        if answer then
          connection:write((packet.frame(answer, sequence + 1)))
        end
        for _ = 1, answer == "\1" and 100 or 0 do -- column definitions and rows without an end
          connection:write((packet.frame(("x"):rep(100), 0)))
        end
        if answer and answer:byte() == 0xff then
          connection:close()
        end
        payload, sequence, after = packet.parse(buffer, 1)
      end
    end)
    connection:write(GREETING, function()
      if answers.leaves then
        connection:close()
      end
    end)
  end

  local function start(text, options)
    listener, connections, commands, answers = uv.new_tcp(), {}, {}, {}
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection = uv.new_tcp()
      connections[#connections + 1] = connection
      listener:accept(connection)
      play(connection)
    end))
    local address = "127.0.0.1:" .. listener:getsockname().port
    proxy = scripted.start({ options and options.read_only and "127.0.0.1:1" or address }, text, {
      "--proxy-read-only-backend-addresses=" .. (options and options.read_only and address or "127.0.0.1:1"),
      "--proxy-hook-timeout=" .. (options and options.timeout or 60), "--proxy-answer-limit=3000",
      "--proxy-connect-timeout=" .. (options and options.connect_timeout or 2),
    })
  end

  local function login(port)
    client = raw.connect(port or proxy.port):login("nopass")
    return client
  end

  after_each(function()
    client:close()
    assert.equal(0, proxy:stop())
    listener:close()
    for _, connection in ipairs(connections) do
      if not connection:is_closing() then
        connection:close()
      end
    end
    uv.run("nowait")
    assert.is_nil(proxy:log():match("error in a callback[^\n]*\n[^\n]*"))
  end)

  local function upload()
    assert.equal("\251file", (client:query("LOAD")))
    client:send("a line\n", 2)
    client:send("", 3)
  end

  it("that puts the server aside at a request for a file, the upload goes on", function()
    start [[
      function read_query(packet)
        proxy.queries:append(1, packet, { resultset_is_needed = true })
        return proxy.PROXY_SEND_QUERY
      end
      function read_query_result(inj)
        if inj.query:find("LOAD") then proxy.connection.backend_ndx = 0 end
      end]]
    answers.LOAD = "\251file"
    login()
    upload()
    assert.same({ OK, 4 }, { client:packet() })
    assert.equal(OK, (client:query("SELECT 1")))
  end)

  it("and waits at a request for a file, the next command waits for it", function()
    start([[
      function read_query(packet)
        if packet:find("SLOW") then proxy.async.sleep(1100) end
        proxy.queries:append(1, packet, { resultset_is_needed = true })
        return proxy.PROXY_SEND_QUERY
      end
      function read_query_result(inj)
        if inj.query:find("LOAD") then proxy.async.sleep(60000) end
      end]], { timeout = 1.5 })
    answers.LOAD = "\251file"
    login()
    upload()
    client:send("\3SLOW")
    assert.same({ OK, 4 }, { client:packet() })
    assert.same({ OK, 1 }, { client:packet() })
    assert.truthy(proxy:log():find("(read_query_result) has waited for more than 1.5 seconds", 1, true))
  end)

  it("and runs the loop in which its client leaves, it ends as any other", function()
    start [[
      local uv = require "luv"
      local gone
      function read_query(packet)
        proxy.queries:append(1, packet, { resultset_is_needed = true })
        return proxy.PROXY_SEND_QUERY
      end
      function read_query_result(inj)
        if inj.query:find("STAY") then
          print("runs the loop")
          repeat uv.run("once") until gone
          error("too late")
        end
      end
      function disconnect_client() gone = true end]]
    login():send "\3STAY"
    assert.truthy(process.wait_until(function()
      return proxy.process:stdout():find("runs the loop", 1, true)
    end, 10))
    client:close()
    assert.truthy(process.wait_until(function()
      return proxy:log():find("(read_query_result) ", 1, true) and proxy:log():find("too late", 1, true)
    end, 10), proxy:log())
    assert.equal(OK, (login():query("SELECT 1")))
  end)

  it("and runs the loop in which its client leaves, it cannot wait any longer", function()
    start [[
      local uv = require "luv"
      local gone
      function read_query(packet)
        if packet:find("STAY") then
          print("runs the loop")
          repeat uv.run("once") until gone
          print("waits")
          proxy.async.sleep(1)
        end
      end
      function disconnect_client()
        gone = true
        proxy.async.sleep(1)
        print("has gone")
      end]]
    login():send "\3STAY"
    local function said(text)
      return process.wait_until(function()
        return proxy.process:stdout():find(text, 1, true)
      end, 10)
    end
    assert.truthy(said("runs the loop\n"))
    client:close()
    assert.truthy(said("waits\n"))
    assert.truthy(said("has gone\n"))
    assert.equal(OK, (login():query("SELECT 1")))
  end)

  it("and runs the loop in which its client leaves, what it waits for is given up, also after a wait", function()
    start [[
      local uv = require "luv"
      local gone
      function read_query(packet)
        if packet:find("WAIT") then
          proxy.async.sleep(1)
        end
        if packet:find("STAY") then
          print("runs the loop")
          repeat uv.run("once") until gone
          proxy.async.await(function()
            return function() print("gives up") end
          end)
        end
      end
      function disconnect_client() gone = true end]]
    local function said(text)
      return process.wait_until(function()
        return proxy.process:stdout():find(text)
      end, 10)
    end
    for index, text in ipairs { "STAY", "WAIT and STAY", "STAY" } do
      login()
      if index == 3 then
        assert.equal(OK, (client:query("WAIT")))
      end
      client:send("\3" .. text)
      assert.truthy(said(("runs the loop\n.*"):rep(index)))
      client:close()
      assert.truthy(said(("gives up\n.*"):rep(index)), index)
    end
    assert.equal(OK, (login():query("SELECT 1")))
  end)

  it("and runs the loop in which others say much, its command is still its own", function()
    start [[
      local uv = require "luv"
      function read_query(packet)
        if packet:find("^.LONG") then
          print("runs the loop")
          repeat uv.run("once") until proxy.global.said == 5
        elseif packet:find("^.OTHER") then
          proxy.global.said = (proxy.global.said or 0) + 1
        end
      end]]
    local long = "LONG " .. ("x"):rep(6000)
    login():send("\3" .. long)
    assert.truthy(process.wait_until(function()
      return proxy.process:stdout():find("runs the loop", 1, true)
    end, 10))
    local other = raw.connect(proxy.port):login("nopass")
    for i = 1, 5 do -- no two reads of these are alike
      assert.equal(OK, (other:query("OTHER " .. ("y"):rep(i * 1000))))
    end
    other:close()
    assert.same({ OK, 1 }, { client:packet() })
    assert.equal(long, commands[#commands])
  end)

  it("and runs the loop in which others wait and fail, it can wait itself then", function()
    start [[
      local uv = require "luv"
      function read_query(packet)
        local count = proxy.global.count or 0
        if packet:find("^.LONG") then
          print("runs the loop")
          repeat uv.run("once") until proxy.global.count == 3
          print("waits")
          proxy.async.sleep(1)
        elseif packet:find("^.OTHER") then
          proxy.async.sleep(1)
          proxy.global.count = count + 1
        elseif packet:find("^.FAIL") then
          proxy.global.count = count + 1
          error("oops")
        end
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = packet:sub(2) }
        return proxy.PROXY_SEND_RESULT
      end]]
    login():send "\3LONG"
    assert.truthy(process.wait_until(function()
      return proxy.process:stdout():find("runs the loop\n", 1, true)
    end, 10))
    local other = raw.connect(proxy.port):login("nopass")
    for _, text in ipairs { "OTHER 1", "FAIL", "OTHER 2" } do
      local answer = other:query(text)
      assert.equal(text, text == "FAIL" and answer == OK and text or proto.from_err_packet(answer).errmsg)
    end
    other:close()
    assert.equal("LONG", proto.from_err_packet((client:packet())).errmsg)
    assert.truthy(proxy:log():find("(read_query) ", 1, true))
    assert.equal("AGAIN", proto.from_err_packet((client:query("AGAIN"))).errmsg)
  end)

  it("and holds up the loop for longer than a server may take, no server is marked down", function()
    start([[
      local now = require("luv").hrtime
      local function compute()
        local began = now()
        repeat until now() - began > 1.2e9
        return now()
      end
      function connect_server()
        proxy.global.count = (proxy.global.count or 0) + 1
        if proxy.global.count > 1 then compute() end
      end
      function read_query()
        local began = compute()
        proxy.async.sleep(200)
        proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = now() - began > 1.9e8 and 1 or 2 }
        return proxy.PROXY_SEND_RESULT
      end]], { connect_timeout = 1 })
    local first, second = raw.connect(proxy.port), raw.connect(proxy.port)
    for _, each in ipairs { first, second } do
      client = each:login("nopass")
      assert.is_nil(client.refused)
    end
    assert.is_nil(proxy:log():find("marking it as down", 1, true))
    assert.equal(1, proto.from_ok_packet((client:query("SELECT 1"))).affected_rows)
    first:close()
  end)

  it("read_handshake, a server that leaves is reported", function()
    start [[
      function read_handshake() proxy.async.sleep(500) end]]
    answers.leaves = true
    client = raw.connect(proxy.port)
    local payload, sequence = client:packet()
    assert.same({ 0xff, 0 }, { payload:byte(), sequence })
    assert.equal(2013, proto.from_err_packet(payload).errcode)
    assert.truthy(client:wait_for_end())
  end)

  it("read_auth_result, the server's refusal is not lost with its connection", function()
    start [[
      function read_auth_result() proxy.async.sleep(300) end]]
    answers.login = proto.to_err_packet { errcode = 1045, sqlstate = "28000", errmsg = "Access denied" }
    login()
    assert.same({ 1045, "Access denied" }, { client.refused.errcode, client.refused.errmsg })
  end)

  it("disconnect_client, no idle connection is taken", function()
    start [[
      function read_query(packet)
        if packet:find("ASIDE") then
          proxy.connection.backend_ndx = 0
          proxy.response = { type = proxy.MYSQLD_PACKET_OK }
          return proxy.PROXY_SEND_RESULT
        end
      end
      function disconnect_client() proxy.connection.backend_ndx = 1 end]]
    login():query("ASIDE")
    local other = raw.connect(proxy.port):login("nopass")
    assert.equal(OK, (other:query("SELECT 1")))
    other:close()
    assert.truthy(proxy:wait_for_log("client closed"))
    local ended = 0
    for _, connection in ipairs(connections) do
      connection:read_stop()
      connection:read_start(function(_, bytes) ended = ended + (bytes and 0 or 1) end)
    end
    assert.is_true(process.wait_until(function() return ended == 1 end))
  end)

  it("read_auth_result, and puts a new connection of the read-only port aside, the next client's server is told",
    function()
      start([[
        function read_auth_result() proxy.connection.backend_ndx = 0 end
        function read_query() proxy.connection.backend_ndx = 2 end]], { read_only = true })
      login(proxy.read_only_port)
      assert.equal(OK, (client:query("SELECT 1")))
      assert.same({ "SET SESSION TRANSACTION READ ONLY", "SELECT 1" }, commands)
      assert.equal(OK, (client:query("SELECT 2")))
      assert.equal("SELECT 2", commands[3])
    end)

  it("what proxy.async.query collects has a limit", function()
    start [[
      function read_query(packet)
        local address = proxy.backends[1].address
        local ok, message = proxy.async.query(address, "MANY", { user = "nopass" })
        proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = message or "an answer" }
        return proxy.PROXY_SEND_RESULT
      end]]
    answers.MANY = "\1"
    login()
    assert.equal("the answer is longer than the 3000 bytes that a script may ask for (--proxy-answer-limit)",
      client:ask("SELECT 1").errmsg)
  end)
end)
