-- Commands that a script queues, and what it is told of their answers. The client sends the Lua code that the script
-- runs, so that one session of one proxy shows many facts.

local proto = require "mysql.proto"

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local SCRIPT = [[
  local ids = {}

  -- Answers with a row.
  function say(...)
    local fields, row = {}, { ... }
    for i = 1, select("#", ...) do
      fields[i], row[i] = { name = "c" .. i }, tostring(row[i])
    end
    proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = { row } } }
    return proxy.PROXY_SEND_RESULT
  end

  -- Queues statements, with their places in the list as ids.
  function queue(...)
    for id, sql in ipairs { ... } do
      proxy.queries:append(id, string.char(proxy.COM_QUERY) .. sql, { resultset_is_needed = true })
    end
    return proxy.PROXY_SEND_QUERY
  end

  function message(...)
    return (tostring(select(2, pcall(...))):gsub("^%[string.-%]:%d+: ", ""))
  end

  function read_query(packet)
    local code = packet:match("^\3lua (.*)")
    if code then
      on_result, calls = nil, 0
      return setfenv(assert(loadstring(code)), getfenv(1))()
    end
  end

  function read_query_result(inj)
    calls = calls + 1
    return on_result and on_result(inj, inj.resultset)
  end
]]

for _, server in ipairs(servers.all()) do
  describe("what a script queues, in front of " .. server.name, function()
    local proxy, client

    setup(function()
      proxy = scripted.start(server, SCRIPT)
      server:sql [[
        DROP TABLE IF EXISTS test.pairs;
        CREATE TABLE test.pairs (a INT PRIMARY KEY, b VARCHAR(10));
        INSERT INTO test.pairs VALUES (1, NULL), (2, 'two');
        DROP TABLE IF EXISTS test.written;
        CREATE TABLE test.written LIKE test.pairs;
        DROP PROCEDURE IF EXISTS test.twice;
      ]]
      server:sql "delimiter //\nCREATE PROCEDURE test.twice() BEGIN SELECT 1; SELECT 2 UNION SELECT 3; END//"
    end)

    before_each(function()
      client = scripted.client(proxy)
    end)

    after_each(function()
      assert.same({ { "still here" } }, client:ask("SELECT 'still here'").rows)
      client:close()
    end)

    teardown(function()
      server:sql "DROP TABLE test.pairs, test.written; DROP PROCEDURE test.twice;"
      assert.equal(0, proxy:stop())
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    end)

    local function run(code)
      return client:ask("lua " .. code)
    end

    -- The cells of the row that it has said.
    local function says(code)
      local answer = run(code)
      return answer.rows and answer.rows[1] or answer
    end

    -- What a script finds in the answer to a statement: the values of Lua expressions over `inj` and `r`.
    local function finds(sql, expressions)
      return says(("on_result = function(inj, r) return say(%s) end return queue(%q)"):format(
        table.concat(expressions, ", "), sql))
    end

    it("comes back with its id, its text and its times", function()
      assert.same({ "7", "7", "\3SELECT 1", "true", "true", "nil" }, says [[
        proxy.queries:append("7", "\3SELECT 1")
        on_result = function(inj)
          return say(inj.id, inj.type, inj.query, inj.query_time == math.floor(inj.query_time),
            inj.response_time >= inj.query_time and inj.response_time == math.floor(inj.response_time), inj.unheard_of)
        end
        return proxy.PROXY_SEND_QUERY]])
      assert.truthy(proxy:wait_for_log("%(message%) inj%[unheard_of%] %.%.%. not found\n"))
      -- The clock starts when a command goes to the server, not when it is queued.
      assert.same({ "true" }, says [[
        on_result = function(inj)
          if inj.id == 1 then slept = inj.response_time return proxy.PROXY_IGNORE_RESULT end
          return say(inj.response_time < slept and slept >= 500000)
        end
        return queue("SELECT SLEEP(0.5)", "DO 0")]])
    end)

    it("has a result set with fields", function()
      local expressions = {
        "#r.fields", "r.fields[0]", "r.fields[3]", "type(r.fields)", "type(r.fields[1])", "r.fields[1].name",
        "r.fields[1].org_name", "r.fields[1].table", "r.fields[1].org_table", "r.fields[1].type",
        "r.fields[1].length", "r.fields[1].flags", "pcall(function() return r.fields.name end)", "r.unheard_of",
      }
      assert.same({
        "2", "nil", "nil", "userdata", "userdata", "x", "a", "p", "pairs", "3", "nil", "nil", "false", "nil",
      }, finds("SELECT a AS x, b FROM test.pairs AS p", expressions))
      assert.same({ "1", "", "", "" }, finds("SELECT 1", {
        "r.fields[1].name", "r.fields[1].org_name", "r.fields[1].table", "r.fields[1].org_table" }))
    end)

    it("has rows, which can be walked again, at once, and after garbage collection", function()
      assert.same({ "1:nil 2:two 1:nil 2:two 1:nil 1:nil 2:two 2:two" }, says [[
        on_result = function(inj, r)
          local seen, fields = {}, r.fields
          local function see(row) seen[#seen + 1] = tostring(row[1]) .. ":" .. tostring(row[2]) end
          for _ = 1, 2 do
            collectgarbage()
            for row in r.rows do collectgarbage() see(row) end
          end
          local one, other = inj.resultset.rows, inj.resultset.rows
          collectgarbage()
          see(one()) see(other()) see(one()) see(other())
          assert(r.rows()[0] == nil and r.rows()[3] == nil)
          assert(one() == nil and fields[1].name == "a" and #fields == 2 and r.fields[2].name == "b")
          return say(table.concat(seen, " "))
        end
        return queue("SELECT a, b FROM test.pairs ORDER BY a")]])
    end)

    it("has counters", function()
      local counters = { "r.row_count", "r.bytes", "r.affected_rows", "r.insert_id", "r.query_status" }
      assert.same({ "2", "16", "nil", "nil", "0" }, finds("SELECT '1', '2' UNION ALL SELECT '1', '2'", counters))
      assert.same({ "1", "6", "nil", "nil", "0" }, finds("SELECT '1'", counters))
      assert.same({ "1", "5", "nil", "nil", "0" }, finds("SELECT NULL", counters))
      assert.same({ "0", "0", "0", "0", "0" }, finds("SET @a = 1", counters))
      assert.same({ "1", "5", "nil", "nil", "0" }, finds("SELECT NULL", counters)) -- not those of the last statement
      assert.same({ "0", "0", "nil", "nil", "255", "255", "1146", "42S02", "Table 'test.nowhere' doesn't exist" },
        finds("SELECT * FROM test.nowhere", { counters[1], counters[2], counters[3], counters[4], counters[5],
          "r.raw:byte()", "r.raw:byte(2) + r.raw:byte(3) * 256", "r.raw:sub(5, 9)", "r.raw:sub(10)" }))
      assert.same({ "1" }, finds("SELECT 1 / 0", { "r.warning_count" }))
      assert.same({ "true", "9007199254740992" }, finds( -- numbers are doubles
        "UPDATE test.pairs SET a = a WHERE a = 1 AND LAST_INSERT_ID(9007199254740993) > 0",
        { "r.insert_id == 2 ^ 53", "('%d'):format(r.insert_id)" }))
    end)

    it("has the server's state", function()
      local flags = { "r.flags.in_trans", "r.flags.auto_commit", "r.flags.no_index_used", "r.flags.no_good_index_used" }
      assert.same({ "false", "true", "false", "false" }, finds("DO 0", flags))
      assert.same({ "true", "true", "false", "false" }, finds("BEGIN", flags))
      assert.same({ "true", "true", "true", "false" }, finds("SELECT * FROM test.pairs WHERE b = 'two'", flags))
      client:ask("COMMIT")
      assert.same({ "false", "false", "false", "false" }, finds("SET autocommit = 0", flags))
    end)

    it("has an object for fields and no rows when there is no result set", function()
      for _, sql in ipairs { "SET @a = 1", "SELECT nowhere" } do
        assert.same({ "0", "nil", "nil", "nil", "true" }, finds(sql, {
          "#r.fields", "r.fields[0]", "r.fields[1]", "r.rows", "r ~= nil" }))
      end
      local answer = run [[
        on_result = function(inj, r) for row in r.rows do print(row) end end
        return queue("SET @a = 1")]]
      assert.equal(0, answer.affected_rows) -- passed on
      assert.truthy(proxy:wait_for_log("%(read_query_result%) .-attempt to call a nil value"))
    end)

    it("is one for a command with several results", function()
      assert.same({ "1", "1", "3", "0" }, finds("CALL test.twice()", {
        "calls", "#r.fields", "r.row_count", "r.query_status" }))
      assert.same({ "1 ignored" }, says [[
        on_result = function(inj)
          if inj.id == 2 then return say(calls - 1 .. " ignored") end
          return proxy.PROXY_IGNORE_RESULT
        end
        return queue("CALL test.twice()", "DO 0")]])
    end)

    it("may end in an error after some rows, which is passed on", function()
      local answer = run [[
        on_result = function(inj, r)
          walked = 0
          for row in r.rows do walked = walked + 1 end
          walked = walked .. " and no error"
        end
        return queue("SELECT a, IF(a = 1, 1, (SELECT 1 UNION SELECT 2)) FROM test.pairs ORDER BY a")]]
      assert.equal(1242, answer.errcode)
      assert.matches("^[01] and no error$", says("return say(walked)")[1])
    end)

    it("may be any command", function()
      local function of(packet, expressions)
        return says(("on_result = function(inj, r) return say(%s) end proxy.queries:append(1, %q) "
          .. "return proxy.PROXY_SEND_QUERY"):format(table.concat(expressions, ", "), packet))
      end
      assert.same({ "0", "0", "true" }, of("\14", { "r.query_status", "r.raw:byte()", "r.flags.auto_commit" }))
      assert.same({ "255", "255", "1049" }, of("\2no_such_schema", { "r.query_status", "r.raw:byte()",
        "r.raw:byte(2) + r.raw:byte(3) * 256" }))
      assert.same({ "0", "0" }, of("\2test", { "r.query_status", "r.raw:byte()" }))
      assert.same({ "0", "Uptime:" }, of("\9", { "r.query_status", "r.raw:match('^%a+:')" }))
      assert.same({ "0", "0", "2" }, of("\22SELECT ?, ?", { "r.query_status", "r.raw:byte()", "r.raw:byte(8)" }))
      assert.same({ "255" }, of("\22SELEC", { "r.query_status" }))
      for _, refresh in ipairs { "\7", "\7\1" } do -- COM_REFRESH, which MySQL 9 has no more
        assert.same({ server.flavour == "mariadb" and "0" or "255" }, of(refresh, { "r.query_status" }))
      end
    end)

    it("may be a prepared statement, whose rows are binary", function()
      assert.same({ "true", "2", "b", "1", "0", ".resultset.rows isn't available for prepared statements" }, says [[
        on_result = function(inj, r)
          if inj.id == 1 then
            proxy.queries:append(2, "\23" .. r.raw:sub(2, 5) .. "\0\1\0\0\0")
            return proxy.PROXY_IGNORE_RESULT
          end
          return say(#r.raw == 1, #r.fields, r.fields[2].name, r.row_count, r.query_status,
            message(function() return r.rows end))
        end
        proxy.queries:append(1, "\22SELECT a, b FROM test.pairs WHERE a = 2")
        return proxy.PROXY_SEND_QUERY]])
      assert.same({ "1", "0", "0" }, says [[
        on_result = function(inj, r)
          if inj.id == 1 then
            proxy.queries:append(2, "\23" .. r.raw:sub(2, 5) .. "\0\1\0\0\0")
            return proxy.PROXY_IGNORE_RESULT
          end
          return say(r.affected_rows, #r.fields, r.raw:byte())
        end
        proxy.queries:append(1, "\22REPLACE INTO test.written VALUES (9, 'nine')")
        return proxy.PROXY_SEND_QUERY]])
    end)

    it("may have no answer, and then the next goes on", function()
      assert.same({ "3" }, says [[
        on_result = function(inj) return say(inj.id) end
        proxy.queries:append(1, "\25\255\255\0\0") -- COM_STMT_CLOSE
        proxy.queries:append(2, "\24\255\255\0\0\0\0x") -- COM_STMT_SEND_LONG_DATA
        proxy.queries:append(3, "\3DO 0")
        return proxy.PROXY_SEND_QUERY]])
    end)

    it("is streamed if its result is not needed: then it can be counted only", function()
      assert.same({ { "two" } }, run([[
        on_result = function(inj, r)
          found = { inj.id, inj.query, r.row_count, r.bytes, r.query_status, r.warning_count,
            tostring(r.affected_rows), tostring(r.flags.auto_commit) }
          for _, key in ipairs { "fields", "rows", "raw" } do
            found[#found + 1] = message(function() return r[key] end)
          end
        end
        proxy.queries:append(1, "\3SELECT b FROM test.pairs WHERE a = 2", { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY]]).rows)
      assert.same({
        "1", "\3SELECT b FROM test.pairs WHERE a = 2", "1", "8", "0", "0", "nil", "true",
        ".resultset.fields isn't available if 'resultset_is_needed ~= true'",
        ".resultset.rows isn't available if 'resultset_is_needed ~= true'",
        ".resultset.raw isn't available if 'resultset_is_needed ~= true'",
      }, says("return say(unpack(found))"))
      assert.equal(4, run([[
        on_result = function(inj, r)
          local times = inj.query_time == math.floor(inj.query_time) and inj.response_time >= inj.query_time
          found = { r.affected_rows, r.insert_id, r.query_status, r.flags.in_trans, times }
        end
        proxy.queries:append(1, "\3REPLACE INTO test.written VALUES (9, 'x'), (8, 'y'), (7, 'z')",
          { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY]]).affected_rows)
      assert.same({ "4", "0", "0", "false", "true" }, says("return say(unpack(found))"))
      assert.same({ { "0" } }, run([[
        on_result = function(inj, r)
          slept = inj.response_time
          for row in r.rows do print(row) end
        end
        proxy.queries:append(1, "\3SELECT SLEEP(0.1)", { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY]]).rows)
      assert.same({ "true" }, says("return say(slept >= 100000)"))
      assert.truthy(proxy:wait_for_log("%(critical%) %(read_query_result%) [^\n]*%.resultset%.rows isn't available if "
        .. "'resultset_is_needed ~= true'\n"))
      local answer = run [[
        on_result = function(inj, r) found = { r.query_status } end
        proxy.queries:append(1, "\3SELECT nowhere", { resultset_is_needed = false })
        return proxy.PROXY_SEND_QUERY]]
      assert.equal(1054, answer.errcode)
      assert.same({ "255" }, says("return say(unpack(found))"))
    end)

    it("without PROXY_SEND_QUERY, or with PROXY_SEND_RESULT, is thrown away", function()
      client:send("\3SELECT nowhere")
      assert.equal(1054, client:answer(client:packet()).errcode)
      local answer = run "queue('SET @sent = 1')" -- the command itself goes on, which the server does not understand
      assert.equal(1064, answer.errcode)
      assert.same({ "made" }, says "queue('SET @sent = 1') return say('made')")
      assert.same({ {} }, client:ask("SELECT @sent").rows)
      assert.same({ "0" }, says("return say(calls)"))
    end)

    it("gives the client one answer: the first that passes or is replaced", function()
      assert.same({ { "1" } }, run("on_result = function(inj) return inj.id == 1 and proxy.PROXY_IGNORE_RESULT or nil "
        .. "end return queue('SELECT 0', 'SELECT 1')").rows)
      assert.same({ "2" }, says("on_result = function(inj) return inj.id == 1 and proxy.PROXY_IGNORE_RESULT "
        .. "or say(inj.id) end return queue('SELECT 0', 'SELECT 1')"))
      assert.same({ { "0" } }, run("on_result = function(inj) return inj.id == 2 and say('late') or nil end "
        .. "return queue('SELECT 0', 'SELECT 1', 'SELECT 2')").rows)
      for id = 2, 3 do
        assert.truthy(proxy:wait_for_log("%(critical%) [^\n]*got asked to send a resultset, but ignoring it as we "
          .. "already have sent " .. id - 1 .. " resultset%(s%)%. injection%-id: " .. id .. "\n"))
      end
      assert.same({ { "0" } }, run([[
        proxy.queries:append(70, "\3SELECT 0")
        proxy.queries:append(71, "\3SELECT 1")
        on_result = function(inj) if inj.id == 71 then error("too late") end end
        return proxy.PROXY_SEND_QUERY]]).rows)
      assert.truthy(proxy:wait_for_log("%(read_query_result%) [^\n]*too late"))
      assert.truthy(proxy:wait_for_log("already have sent 1 resultset%(s%)%. injection%-id: 71\n"))
      local answer = run("on_result = function() return proxy.PROXY_IGNORE_RESULT end return queue('DO 0', 'DO 0')")
      assert.same({ 1105, "07000", "(lua) the script has left no result for this command" },
        { answer.errcode, answer.sqlstate, answer.errmsg })
      assert.truthy(proxy:wait_for_log("the script has ignored every result: the client gets an error instead"))
    end)

    it("is numbered from 1 on, whatever came before", function()
      for _, code in ipairs {
        "return queue('SELECT 5')", "return queue('SELECT 5', 'SELECT 6')",
        "on_result = function(inj) return inj.id == 1 and proxy.PROXY_IGNORE_RESULT or nil end "
          .. "return queue('SELECT 4', 'SELECT 5')",
        "on_result = function(inj) return say(5) end return queue('DO 0')",
        "return say(5)",
      } do
        client:send("\3lua " .. code)
        for expected = 1, 5 do
          local payload, sequence = client:packet()
          assert.equal(expected, sequence, code)
          assert.is_true(expected ~= 4 or payload == "\0015", code)
        end
      end
    end)

    it("goes on after an error, unless the script empties the queue", function()
      assert.same({ "2 after 255" }, says [[
        on_result = function(inj, r)
          if inj.id == 1 then failed = r.query_status return proxy.PROXY_IGNORE_RESULT end
          return say(inj.id .. " after " .. failed)
        end
        return queue("SELECT nowhere", "DO 0")]])
      assert.equal(1054, run([[
        on_result = function(inj, r)
          if r.query_status == proxy.MYSQLD_PACKET_ERR then proxy.queries:reset() end
        end
        return queue("SELECT nowhere", "SET @went_on = 1")]]).errcode)
      assert.same({ {} }, client:ask("SELECT @went_on").rows)
    end)

    it("runs one after the other, before the client's next command", function()
      client:send("\3lua on_result = function(inj) if inj.id < 4 then proxy.queries:append(inj.id + 1, "
        .. "'\\3SET @n = CONCAT(@n, ' .. inj.id .. ')') end end proxy.queries:append(1, '\\3SET @n = 0') "
        .. "return proxy.PROXY_SEND_QUERY")
      client:send("\3SELECT @n")
      assert.equal(0, client:packet():byte())
      assert.same({ { "0123" } }, client:answer(client:packet()).rows)
    end)

    it("is counted without the one that is being handled", function()
      assert.same({ "2 1 0" }, says [[
        local counts = {}
        on_result = function(inj)
          counts[inj.id] = #proxy.queries
          return inj.id == 3 and say(table.concat(counts, " ")) or proxy.PROXY_IGNORE_RESULT
        end
        return queue("DO 1", "DO 2", "DO 3")]])
    end)

    it("keeps its options when it is put in front", function()
      assert.same({ "2" }, says [[
        on_result = function(inj) return inj.id == 1 and say(2) or proxy.PROXY_IGNORE_RESULT end
        queue("DO 0", "DO 0")
        proxy.queries:prepend(1, "\3SELECT 1", { resultset_is_needed = true })
        return proxy.PROXY_SEND_QUERY]])
    end)

    it("cannot log in as somebody else who has to say his password", function()
      local other = scripted.client(proxy)
      local plugin = "\0\0\0\45\0no_such_plugin\0"
      local answer = other:ask(("lua proxy.queries:append(1, %q) return proxy.PROXY_SEND_QUERY"):format(
        "\17" .. "nopass" .. plugin))
      assert.same({ 1105, "the server asks for authentication data that an injected COM_CHANGE_USER cannot give." },
        { answer.errcode, answer.errmsg })
      assert.truthy(other:wait_for_end())
      other:close()
    end)
  end)

  describe("a script without read_query_result in front of " .. server.name, function()
    it("passes the first answer, also through a second proxy with a script that rewrites", function()
      local inner = scripted.start(server, [[
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet .. ", 'ADDITION'", { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end]])
      local outer = scripted.start({ "127.0.0.1:" .. inner.port }, [[
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet .. ", 'SECOND ADDITION'")
          proxy.queries:append(2, packet)
          return proxy.PROXY_SEND_QUERY
        end]])
      local client = scripted.client(outer)
      local answer = client:ask("SELECT 1")
      client:close()
      assert.same({ "1", "SECOND ADDITION", "ADDITION" }, answer.names)
      assert.same({ { "1", "SECOND ADDITION", "ADDITION" } }, answer.rows)
      assert.equal(0, outer:stop())
      assert.equal(0, inner:stop())
    end)

    -- The script has no read_query_result, but what its globals say when they are asked for one.
    local function asked(answers)
      return scripted.start(server, ([[
        local inherited = _G
        setmetatable(getfenv(1), { __index = function(_, name)
          if name == "read_query_result" then %s end
          return inherited[name]
        end })
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet)
          return proxy.PROXY_SEND_QUERY
        end]]):format(answers), { "--proxy-answer-limit=1000" })
    end

    it("is one, too, if its globals report that none is declared", function()
      local proxy = asked 'error("undeclared")'
      local client = scripted.client(proxy)
      assert.equal(100000, #client:ask("SELECT REPEAT('x', 100000)").rows[1][1])
      client:close()
      assert.equal(0, proxy:stop())
    end)

    it("may have its globals do anything when they are asked for one", function()
      for answers, expected in pairs {
        ["proxy.queries:reset()"] = { "1", "2", "3" },
        ["if not asked then asked = true for _ = 1, 100 do proxy.queries:append(2, '\\3DO 1') end end "
          .. "return function() end"] = { "1", "2", "3" },
        ["proxy.connection.backend_ndx = 0"] = {},
      } do
        local proxy = asked(answers)
        local client, got = scripted.client(proxy), {}
        for number = 1, 3 do
          local answer = client:ask("SELECT " .. number)
          if answer.closed then
            break
          end
          got[number] = answer.rows[1][1]
        end
        assert.same(expected, got, answers)
        client:close()
        assert.equal(0, proxy:stop())
      end
    end)

    it("may be asked for one while its client leaves", function()
      local proxy = asked [[
        if #proxy.queries > 0 then
          local uv, left = require("luv"), false
          print("asked")
          uv.new_timer():start(500, 0, function() left = true end)
          while not left do uv.run("once") end
        end]]
      local client = scripted.client(proxy)
      client:send("\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return proxy.process:stdout():find("asked", 1, true)
      end, 10))
      client:close()
      local other = scripted.client(proxy)
      assert.same({ { "2" } }, other:ask("SELECT 2").rows)
      other:close()
      assert.equal(0, proxy:stop())
    end)

    it("passes the first answer however long it is, as nobody looks at it", function()
      local proxy = scripted.start(server, [[
        function read_query(packet)
          local rewritten = packet:match("^\3one (.*)") or packet:match("^\3two (.*)")
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, rewritten and "\3" .. rewritten or packet)
          if packet:find("^\3two") then
            proxy.queries:append(2, "\3SELECT 'dropped'")
          end
          return proxy.PROXY_SEND_QUERY
        end]], { "--proxy-answer-limit=1000" })
      local clients = { 0, server.flavour == "mysql" and proto.capabilities.CLIENT_QUERY_ATTRIBUTES or nil }
      for _, more in ipairs(clients) do
        local client = raw.connect(proxy.port):login("nopass", more)
        local before = more == 0 and "" or "\0\1"
        for index, statement in ipairs { "", "one ", "two ", "one " .. (" "):rep(2 ^ 24) } do
          client:send("\3" .. before .. statement .. "SELECT REPEAT('x', 100000)")
          assert.equal(100000, #client:answer(client:packet()).rows[1][1], index)
          client:send("\3" .. before .. "SELECT 2")
          assert.same({ { "2" } }, client:answer(client:packet()).rows)
        end
        client:close()
      end
      assert.equal(0, proxy:stop())
      assert.equal(#clients, select(2, proxy:log():gsub("got asked to send a resultset, but ignoring it", "")))
    end)
  end)
end
