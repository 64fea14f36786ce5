-- A script on the read-only port: whatever it and its client do, no statement that writes gets through.

local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- The client's statement goes on as it came, or takes another way that the word in front of it names.
local SCRIPT = [[
  local ways, needed, seen, decision = {}, { resultset_is_needed = true }, {}, nil
  function ways.append(packet) proxy.queries:append(1, packet, { resultset_is_needed = true }) end
  function ways.stream(packet) proxy.queries:append(1, packet, { resultset_is_needed = false }) end
  function ways.prepend(packet) proxy.queries:append(1, "\3SELECT 1") proxy.queries:prepend(2, packet) end
  function ways.second(packet) proxy.queries:append(1, "\3SELECT 1") proxy.queries:append(2, packet) end
  function ways.first(packet) proxy.queries:append(1, packet, needed) proxy.queries:append(2, "\3SELECT 2", needed) end
  function ways.replace(packet) decision = proxy.PROXY_SEND_RESULT ways.first(packet) end
  function ways.ignore(packet) decision = proxy.PROXY_IGNORE_RESULT ways.first(packet) end
  function ways.fail(packet) decision = "fail" ways.first(packet) end
  function ways.wait(packet) decision = "wait" ways.first(packet) end
  function ways.more(packet) decision = "more" ways.append(packet) end
  function ways.streamed(packet) decision = proxy.PROXY_IGNORE_RESULT ways.stream(packet) end
  function ways.many(packet, count)
    for id = 1, count or 3000 do proxy.queries:append(id, packet, needed) end
    proxy.queries:append(9999, "\3SELECT 2", needed)
  end
  function ways.failing(packet) failing = true ways.many(packet, 10000) end
  function ways.count()
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = #seen }
    return proxy.PROXY_SEND_RESULT
  end
  function ways.seen()
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = table.concat(seen, "; ") }
    seen = {}
    return proxy.PROXY_SEND_RESULT
  end
  function ways.later(packet) later = packet proxy.queries:append(1, "\3SELECT 1") end
  function read_query(packet)
    local way, rest = packet:match("^\3(%l+): (.*)")
    if way == "idle" then
      proxy.connection.backend_ndx = 0
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = proxy.backends[1].idling_connections .. " idle" }
      return proxy.PROXY_SEND_RESULT
    elseif way == "take" then
      proxy.connection.backend_ndx = 1
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR,
        errmsg = proxy.connection.server and "taken" or proxy.backends[1].idling_connections .. " idle" }
      return proxy.PROXY_SEND_RESULT
    elseif way then
      return ways[way]((rest:gsub("^COM (%d+)%s?", function(command) return string.char(command) end)
        :gsub("^([^\1-\31])", "\3%1"))) or proxy.PROXY_SEND_QUERY
    end
  end
  function read_query_result(inj)
    local answer, what = inj.resultset, decision
    seen[#seen + 1] = ("%d: %s %d %s"):format(inj.id, inj.query:sub(2, 7), answer.query_status,
      answer.query_status == 255 and inj.query_time + inj.response_time .. " " .. answer.raw:sub(2, 9):gsub("%W", "")
      or answer.row_count)
    decision = nil
    failing = failing and inj.id ~= 9999
    if what == "fail" or failing then
      error("failed on purpose")
    elseif what == "wait" then
      proxy.async.sleep(1)
      return answer.query_status == 255 and proxy.PROXY_IGNORE_RESULT
    elseif what == "more" then
      proxy.queries:append(2, inj.query, needed)
      proxy.queries:append(3, "\3SELECT 2", needed)
      decision = proxy.PROXY_IGNORE_RESULT
      return decision
    elseif what then
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "replaced" }
      return what
    end
    if later then
      proxy.queries:append(3, later)
      later = nil
      return proxy.PROXY_IGNORE_RESULT
    end
  end
]]

for _, server in ipairs(servers.all()) do
  describe("a script on the read-only port in front of " .. server.name, function()
    local proxy, client

    setup(function()
      proxy = scripted.start(server, SCRIPT)
      server:sql [[
        CREATE TABLE IF NOT EXISTS test.ro (a INT);
        DROP FUNCTION IF EXISTS test.sneak;
        SET GLOBAL log_bin_trust_function_creators = 1;
      ]]
      server:sql "delimiter //\n\
        CREATE FUNCTION test.sneak() RETURNS INT BEGIN INSERT INTO test.ro VALUES (1); RETURN 1; END//"
    end)

    teardown(function()
      assert.equal(0, proxy:stop())
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    end)

    before_each(function()
      server:sql "TRUNCATE test.ro"
      client = raw.connect(proxy.read_only_port):login("nopass")
    end)

    after_each(function()
      client:close()
      assert.equal("0", (server:sql("SELECT COUNT(*) FROM test.ro"):match("%d+")))
    end)

    local function still_reads(who)
      assert.same({ { "1" } }, (who or client):ask("SELECT 1").rows)
    end

    local INSERT = "INSERT INTO test.ro VALUES (1)"

    for _, way in ipairs { "", "append: ", "stream: ", "prepend: ", "later: " } do
      it("refuses what writes by the way " .. (way == "" and "of doing nothing" or way), function()
        for _, statement in ipairs {
          INSERT, "SELECT 1; " .. INSERT, "SET SESSION TRANSACTION READ WRITE", "CREATE TABLE test.ro2 (a INT)",
          "LOAD DATA LOCAL INFILE 'x' INTO TABLE test.ro", "COM 22 " .. INSERT, "COM 5 ro_database",
        } do
          if way ~= "" or not statement:find("^COM") then
            local answer = client:ask(way .. statement)
            assert.equal(1290, answer.errcode, statement)
          end
        end
        still_reads()
      end)
    end

    it("sends nothing of it behind another statement", function()
      assert.same({ { "1" } }, client:ask("second: " .. INSERT).rows)
      still_reads()
    end)

    it("has its hook called for what it refuses, which decides as ever", function()
      local REFUSED = "1: INSERT 255 0 HY000"
      for _, case in ipairs {
        { "first: ", 1290, REFUSED .. "; 2: SELECT 0 1" },
        { "replace: ", "replaced", REFUSED .. "; 2: SELECT 0 1" },
        { "ignore: ", { { "2" } }, REFUSED .. "; 2: SELECT 0 1" },
        { "wait: ", { { "2" } }, REFUSED .. "; 2: SELECT 0 1" },
        { "fail: ", 1290, REFUSED .. "; 2: SELECT 0 1" },
        { "more: ", { { "2" } }, REFUSED .. "; 2: INSERT 255 0 HY000; 3: SELECT 0 1" },
        { "second: ", { { "1" } }, "1: SELECT 0 1; 2: INSERT 255 0 HY000" },
        { "streamed: ", 1290, REFUSED },
        { "append: ", 1290, REFUSED },
      } do
        local answer = client:ask(case[1] .. INSERT)
        local expected = case[2]
        assert.same(expected, answer.rows or expected == answer.errmsg and expected or answer.errcode, case[1])
        assert.equal(case[3], client:ask("seen: ").errmsg, case[1])
      end
      assert.matches("failed on purpose", proxy:log())
      still_reads()
    end)

    it("refuses as many statements as a script likes", function()
      client:ask("many: " .. INSERT)
      assert.equal("3001", client:ask("count: ").errmsg)
      still_reads()
    end)

    it("refuses many too if the hook fails for each", function()
      assert.equal(1290, client:ask("failing: " .. INSERT).errcode)
      assert.equal("10001", client:ask("count: ").errmsg)
      still_reads()
    end)

    it("refuses to prepare it, and its execution", function()
      client:send("\22" .. INSERT)
      assert.equal(1290, client:answer(client:packet()).errcode)
      client:send("\23\1\0\0\0\0\1\0\0\0")
      assert.equal(0xff, client:packet():byte())
      still_reads()
    end)

    local function function_is_refused()
      local answer = client:ask("SELECT test.sneak()")
      assert.equal(1792, answer.errcode)
    end

    for _, way in ipairs { "append", "stream", "prepend", "later" } do
      it("tells the server again after a COM_RESET_CONNECTION by the way " .. way, function()
        function_is_refused()
        assert.is_nil(client:ask(way .. ": COM 31").errcode)
        function_is_refused()
        assert.equal(1792, client:ask("append: SELECT test.sneak()").errcode)
        still_reads()
      end)
    end

    it("tells the server again after a COM_CHANGE_USER of the client", function()
      client:send("\17nopass\0\0test\0\45\0" .. client.challenge.auth_plugin_name .. "\0")
      local payload, sequence
      repeat
        payload, sequence = client:packet()
        if payload:byte() == 0xfe then
          client:send("", sequence + 1)
        end
      until payload:byte() == 0
      function_is_refused()
    end)

    it("has idle connections of its own", function()
      local writer, more = scripted.client(proxy), raw.connect(proxy.read_only_port):login("nopass")
      writer:send("\22" .. INSERT)
      assert.equal(0, writer:packet():byte())
      assert.equal("1 idle", writer:ask("idle: ").errmsg)
      assert.equal("1 idle", client:ask("idle: ").errmsg) -- its own
      assert.equal("taken", client:ask("take: ").errmsg)
      function_is_refused()
      client:send("\23\1\0\0\0\0\1\0\0\0")
      assert.equal(0xff, client:packet():byte())
      assert.equal("taken", writer:ask("take: ").errmsg)
      assert.is_nil(writer:ask("SET SESSION TRANSACTION READ WRITE").errcode)
      still_reads(writer)
      writer:close()
      more:close()
    end)
  end)
end
