-- inj.resultset and what is reached from it: in read_query_result, while that waits, and when it is over.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local answers = require "spec.support.answers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local does, says = scripted.does, scripted.says

local OVER = "an answer can be looked at as long as its read_query_result runs, and that is over"
local KEYS = {
  "fields", "rows", "raw", "row_count", "bytes", "flags", "affected_rows", "insert_id", "warning_count", "query_status",
}

-- `hook`, which EVAL sets, is what a session does with its answers; `first` a statement that it asks before another;
-- `needed` whether it keeps its answers.
local SCRIPT = scripted.EVAL .. [[
  local eval = read_query
  needed = true
  function read_query(packet)
    local verdict = eval(packet)
    if verdict or packet:byte() ~= proxy.COM_QUERY then return verdict end
    if first then proxy.queries:append(2, "\3" .. first, { resultset_is_needed = true }) end
    proxy.queries:append(1, packet, { resultset_is_needed = needed })
    return proxy.PROXY_SEND_QUERY
  end
  function read_query_result(inj)
    if hook then return hook(inj) end
  end
  function disconnect_client()
    proxy.global.left = true
  end
  function error_of(look, ...)
    local ok, message = pcall(look, ...)
    return ok and "no error" or message:gsub("^%[string .-%]:%d+: ", "")
  end
  function key_of(object, key) return object[key] end
  function cells(rows)
    local all = {}
    for row in rows do all[#all + 1] = table.concat(row, ",") end
    return table.concat(all, " ")
  end
]]

local THREE = "SELECT 1 AS a, 'one' AS b UNION SELECT 2, 'two' UNION SELECT 3, 'three'"
local ALL = "1,one 2,two 3,three"

describe("an answer in read_query_result", function()
  local proxy, client

  setup(function()
    proxy = scripted.start(servers.all()[1], SCRIPT)
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
    assert.is_nil(proxy:log():match("error in a callback[^\n]*\n[^\n]*"))
  end)

  before_each(function()
    client = scripted.client(proxy)
  end)

  after_each(function()
    client:close()
  end)

  -- What the session does with its answers from here on: the body of a function of `inj`.
  local function with(body)
    assert.equal("true", does(client, ("hook = function(inj) %s end return true"):format(body)))
  end

  local function text(sql)
    return raw.text_of(client:ask(sql or THREE))
  end

  -- Others whose answers come where this one's has been.
  local function others()
    local other = scripted.client(proxy)
    for i = 1, 20 do
      assert.same({ { tostring(i), ("y"):rep(300) } }, other:ask(("SELECT %d, REPEAT('y', 300)"):format(i)).rows)
    end
    other:close()
  end

  describe("that a script keeps", function()
    it("raises an error when it is looked at later", function()
      with "kept = inj.resultset"
      assert.equal(ALL, text())
      for _ = 1, 2 do
        for _, key in ipairs(KEYS) do
          assert.equal(OVER, says(client, ("error_of(key_of, kept, %q)"):format(key)), key)
        end
        assert.equal("mysql.resultset (of a hook that is over) userdata", says(client, "tostring(kept), type(kept)"))
        assert.equal("true", does(client, "collectgarbage() collectgarbage() return true"))
        others()
      end
      assert.equal(OVER, says(client, "error_of(require('mysql.resultset').packets, kept)"))
    end)

    it("does so in the next hook too, which has an answer of its own", function()
      with [[
        if kept then print("then", error_of(key_of, kept, "rows"), kept == inj.resultset, cells(inj.resultset.rows)) end
        kept = inj.resultset]]
      assert.equal(ALL, text())
      assert.equal("4", text "SELECT 4")
      assert(process.wait_until(function()
        return proxy.process:stdout():find(("then\t%s\tfalse\t4\n"):format(OVER), 1, true)
      end), proxy.process:stdout())
    end)

    it("leaves its fields to it", function()
      with [[
        fields = inj.resultset.fields
        looked_at = fields[1]
        other_object = inj.resultset.fields == fields]]
      assert.equal(ALL, text())
      for _ = 1, 2 do
        assert.equal("true", does(client, "collectgarbage() collectgarbage() return true"))
        others()
        assert.equal("2 a b true nil 253 mysql.resultset.fields (2) mysql.resultset.field (b)", says(client, [[
          #fields, looked_at.name, fields[2].name, other_object, fields[3], fields[2].type, tostring(fields),
          tostring(fields[2])]]))
      end
      assert.equal("b", does(client, "second, fields = fields[2] collectgarbage() collectgarbage() return second.name"))
    end)

    it("raises the error from its rows", function()
      with [[
        rows, begun = inj.resultset.rows, inj.resultset.rows
        row = begun()]]
      assert.equal(ALL, text())
      for _ = 1, 2 do
        assert.equal(OVER, says(client, "error_of(rows)"))
        assert.equal(OVER, says(client, "error_of(begun)"))
        assert.equal("1,one", says(client, "table.concat(row, ',')"))
        assert.equal("true", does(client, "collectgarbage() return true"))
        others()
      end
    end)

    it("does so however long it is, and whatever the hook decides", function()
      for _, case in ipairs {
        { sql = THREE, decides = "return proxy.PROXY_SEND_RESULT" },
        { sql = THREE, decides = "error('after the rows')" },
        { sql = THREE, decides = "proxy.async.sleep(1)" },
        { sql = "SELECT 1 AS a, REPEAT('x', 5000) AS b" }, { sql = "SELECT 1 AS a, REPEAT('x', 300000) AS b" },
      } do
        with(([[
          kept, rows, fields = inj.resultset, inj.resultset.rows, inj.resultset.fields
          first_cell = inj.resultset.rows()[1]
          proxy.response = { type = proxy.MYSQLD_PACKET_OK }
          %s]]):format(case.decides or ""))
        client:ask(case.sql)
        assert.equal("true", does(client, "collectgarbage() collectgarbage() return true"))
        others()
        assert.equal(OVER, says(client, "error_of(key_of, kept, 'row_count')"))
        assert.equal(OVER, says(client, "error_of(rows)"))
        assert.equal("1 2 b", says(client, "first_cell, #fields, fields[2].name"))
      end
    end)
  end)

  describe("is there while the hook runs", function()
    it("though the garbage is collected, and nothing else refers to it", function()
      with [[
        local rows, second = inj.resultset.rows
        inj.resultset = nil
        second = rows() and rows()
        collectgarbage() collectgarbage()
        seen = second[2] .. " " .. rows()[2] .. " " .. tostring((rows()))]]
      assert.equal(ALL, text())
      assert.equal("two three nil", says(client, "seen"))
    end)

    it("when it has waited in the middle of the rows", function()
      with [[
        local rows, seen_rows, fields = inj.resultset.rows, {}, inj.resultset.fields
        for row in rows do
          seen_rows[#seen_rows + 1] = row[2]
          proxy.global.waits = true
          repeat proxy.async.sleep(1) until proxy.global.goes_on
          collectgarbage() collectgarbage()
        end
        seen = table.concat(seen_rows, " ") .. " " .. inj.resultset.row_count .. " " .. fields[2].name
          .. " " .. cells(inj.resultset.rows)]]
      client:send("\3" .. THREE)
      local other = scripted.client(proxy)
      assert(process.wait_until(function()
        return says(other, "proxy.global.waits") == "true"
      end))
      others()
      assert.equal("true", does(other, "proxy.global.goes_on = true return true"))
      other:close()
      assert.equal(ALL, raw.text_of(client:answer(client:packet())))
      assert.equal("one two three 3 b " .. ALL, says(client, "seen"))
    end)

    it("while it runs the loop, and others get theirs", function()
      with [[
        local rows, uv = inj.resultset.rows, require("luv")
        local before = rows()[2]
        print("runs the loop")
        repeat uv.run("once") until proxy.global.loop_ends
        collectgarbage()
        seen = before .. " " .. cells(rows) .. " " .. inj.resultset.fields[1].name]]
      client:send("\3" .. THREE)
      assert(process.wait_until(function()
        return proxy.process:stdout():find("runs the loop\n", 1, true)
      end))
      others()
      local other = scripted.client(proxy)
      assert.equal("true", does(other, "proxy.global.loop_ends = true return true"))
      other:close()
      assert.equal(ALL, raw.text_of(client:answer(client:packet())))
      assert.equal("one 2,two 3,three a", says(client, "seen"))
    end)

    it("while it runs the loop in which its client leaves, and is a long one", function()
      local other = scripted.client(proxy)
      assert.equal("true", does(other, "proxy.global.left = nil return true"))
      with [[
        local rows, uv = inj.resultset.rows, require("luv")
        print("runs the loop until the client of a long one leaves")
        repeat uv.run("once") until proxy.global.left
        for _ = 1, 20 do uv.run("nowait") end
        collectgarbage()
        collectgarbage()
        print("left with so many", #rows()[1])]]
      client:send("\3SELECT REPEAT('x', 60000)")
      assert(process.wait_until(function()
        return proxy.process:stdout():find("of a long one leaves\n", 1, true)
      end))
      client:close()
      assert(process.wait_until(function()
        return proxy.process:stdout():find("left with so many\t60000\n", 1, true)
      end), proxy.process:stdout())
      assert.same({ { "1" } }, other:ask("SELECT 1").rows)
      other:close()
    end)

    it("while it runs the loop in which its client leaves", function()
      local other = scripted.client(proxy)
      assert.equal("true", does(other, "proxy.global.left = nil return true"))
      with [[
        local rows, uv = inj.resultset.rows, require("luv")
        rows()
        print("runs the loop until its client leaves")
        repeat uv.run("once") until proxy.global.left
        collectgarbage()
        print("left with", cells(rows), inj.resultset.fields[2].name)]]
      client:send("\3" .. THREE)
      assert(process.wait_until(function()
        return proxy.process:stdout():find("until its client leaves\n", 1, true)
      end))
      client:close()
      assert(process.wait_until(function()
        return proxy.process:stdout():find("left with\t2,two 3,three\tb\n", 1, true)
      end), proxy.process:stdout())
      assert.same({ { "1" } }, other:ask("SELECT 1").rows)
      other:close()
    end)
  end)

  it("of any length is seen, and reaches the client, as it was", function()
    with [[
      local row = inj.resultset.rows()
      seen = #row[1] .. " " .. tostring(row[1]:find("[^x]")) .. " " .. inj.resultset.row_count]]
    local lengths = { 1, 250, 251, 16000, 65535, 65536, 300000 }
    for length = 4096 - 80, 4096 + 16, 2 do -- with the packets around it, this passes 4096
      table.insert(lengths, length)
    end
    for _, length in ipairs(lengths) do
      local rows = client:ask(("SELECT REPEAT('x', %d) AS a"):format(length)).rows
      assert.is_true(rows[1][1] == ("x"):rep(length), length)
      assert.equal(length .. " nil 1", says(client, "seen"))
    end
  end)

  describe("whose rows have been read", function()
    local READ = "seen = cells(inj.resultset.rows) local rows = inj.resultset.rows rows() "

    after_each(function()
      assert.equal(ALL, says(client, "seen"))
      assert.same({ { "5" } }, client:ask("SELECT 5").rows) -- nothing is left over
    end)

    it("reaches the client as it was", function()
      with(READ)
      assert.equal(ALL, text())
      with "seen = seen"
    end)

    it("is dropped if the hook says so, and the next one follows", function()
      assert.equal("true", does(client, ("first = %q return true"):format(THREE)))
      with("if inj.id == 2 then " .. READ .. " return proxy.PROXY_IGNORE_RESULT end")
      assert.equal("4", text "SELECT 4")
    end)

    it("is dropped if the hook makes one of them", function()
      with([[
        if not seen then
          ]] .. READ .. [[
          proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
            fields = { { name = inj.resultset.fields[2].name } }, rows = { { rows()[2] }, { rows()[2] } } } }
          return proxy.PROXY_SEND_RESULT
        end]])
      local made = client:ask(THREE)
      assert.same({ "b" }, made.names)
      assert.same({ { "two" }, { "three" } }, made.rows)
    end)

    it("reaches the client as it was if the hook fails then", function()
      with("if not seen then " .. READ .. [[
          collectgarbage()
          error("after the rows")
        end]])
      assert.equal(ALL, text())
      assert.truthy(proxy:wait_for_log("%(critical%) %(read_query_result%) [^\n]*after the rows"))
    end)

    it("is dropped if the hook has another statement asked then", function()
      with("if not seen then " .. READ .. [[
          proxy.queries:append(3, "\3SELECT 6", { resultset_is_needed = true })
          return proxy.PROXY_IGNORE_RESULT
        end]])
      assert.equal("6", text())
    end)
  end)
end)

-- A server that sends what it is told: between two of its pieces the proxy serves somebody else, which shows that it
-- has read the first, and makes use of the memory where that was.
describe("an answer that comes in several reads", function()
  local FLAGS = proto.capabilities
  local GREETING = packet.frame(proto.to_challenge_packet {
    server_version = 80000, thread_id = 1, challenge = ("a"):rep(20), charset = 45, server_status = 2,
    capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH,
    auth_plugin_name = "mysql_native_password",
  }, 0)
  local ANSWER = answers.answer("\2", answers.column "a", answers.column "b", answers.eof(),
    answers.row(2, "1", "one"), answers.row(2, "2", nil), answers.eof())
  local OTHER = answers.answer("\1", answers.column "c", answers.eof(), answers.row(1, ("y"):rep(300)), answers.eof())

  local listener, connections, proxy, client, other

  -- Lets everybody in, and answers OTHER; but what follows the login of the client is for the spec to answer.
  local function play(connection)
    local number, buffer, login = #connections, "", true
    connection:read_start(function(_, bytes)
      buffer = buffer .. (bytes or "")
      local payload, sequence, after = packet.parse(buffer, 1)
      while payload do
        buffer = buffer:sub(after)
        if login then
          connection:write((packet.frame(proto.to_ok_packet { server_status = 2 }, sequence + 1)))
        elseif number == 1 then
          connections.asked = payload
        else
          connection:write(OTHER)
        end
        login = false
        payload, sequence, after = packet.parse(buffer, 1)
      end
    end)
    connection:write(GREETING)
  end

  setup(function()
    listener, connections = uv.new_tcp(), {}
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function()
      local connection = uv.new_tcp()
      connections[#connections + 1] = connection
      listener:accept(connection)
      connection:nodelay(true)
      play(connection)
    end))
    proxy = scripted.start({ "127.0.0.1:" .. listener:getsockname().port }, SCRIPT)
    client = scripted.client(proxy)
    other = scripted.client(proxy)
    assert.equal("true", does(client, [[hook = function(inj)
      seen = ""
      for row in inj.resultset.rows do
        seen = seen .. row[1] .. tostring(row[2]) .. " "
      end
      seen = seen .. inj.resultset.fields[1].name .. inj.resultset.row_count
      last, fields = inj.resultset, inj.resultset.fields
    end return true]]))
  end)

  teardown(function()
    client:close()
    other:close()
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

  local function asks()
    connections.asked = nil
    client:send("\3SELECT 1")
    assert(process.wait_until(function()
      return connections.asked
    end))
    assert.equal("\3SELECT 1", connections.asked)
  end

  -- Sends an answer to the client in these pieces; what the client gets must be the same bytes.
  local function sends(...)
    asks()
    for _, piece in ipairs { ... } do
      connections[1]:write(piece)
      assert.equal(("y"):rep(300), other:ask("SELECT 2").rows[1][1])
    end
    local answer = client:answer(client:packet())
    assert.same({ "a", "b" }, answer.names)
    assert.same({ { "1", "one" }, { "2" } }, answer.rows)
    assert.equal("1one 2nil a2", says(client, "seen"))
    assert.equal("b", says(client, "fields[2].name"))
    local found = says(client, "error_of(key_of, last, 'row_count')")
    assert(found == "no error" or found == OVER, found)
  end

  it("is whole in the hook, wherever it was split", function()
    sends(ANSWER)
    for at = 1, #ANSWER - 1 do
      sends(ANSWER:sub(1, at), ANSWER:sub(at + 1))
    end
  end)

  it("is so when each byte comes alone", function()
    local pieces = {}
    for at = 1, #ANSWER do
      pieces[at] = ANSWER:sub(at, at)
    end
    sends(unpack(pieces))
  end)

  it("reaches the client while it comes if it is not to be kept, and the hook runs at its end", function()
    does(client, "needed = false hook = function(inj) proxy.global.counted = inj.resultset.row_count end")
    asks()
    local step = 64 * 1024
    local answer = answers.answer("\1", answers.column "a", answers.eof(), answers.row(1, ("x"):rep(16 * step)),
      answers.row(1, "y"), answers.eof())
    for at = 1, #answer, step do
      assert.equal("nil", says(other, "proxy.global.counted"))
      connections[1]:write(answer:sub(at, at + step - 1))
      assert.truthy(process.wait_until(function()
        return #client:rest() >= at
      end, 10), ("the client has %d of %d bytes"):format(#client:rest(), at + step - 1))
    end
    assert.same({ { ("x"):rep(16 * step) }, { "y" } }, client:answer(client:packet()).rows)
    assert.equal("2", says(other, "proxy.global.counted"))
  end)
end)
