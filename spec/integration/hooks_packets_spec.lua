-- What is unusual in packets while a script is loaded: files that the server asks for, packets of 16 MiB and more,
-- numbers that begin again after 255, and answers that make the connection something else.

local packet = require "mysql.packet"

local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local LONG = 16777233
local FETCHES = 'proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { "\\251a file" } } '
  .. "return proxy.PROXY_SEND_RESULT"

-- Sends what the server has asked for, and reads the answer.
local function upload(client)
  client:send("1\n2\n", 2)
  client:send("", 3)
  local payload, sequence = client:packet()
  assert.equal(4, sequence)
  return client:answer(payload)
end

for _, server in ipairs(servers.all()) do
  describe("a script in front of " .. server.name, function()
    local series

    setup(function()
      server:sql [[
        DROP TABLE IF EXISTS test.refusing;
        CREATE TABLE test.refusing (a INT);
        CREATE TRIGGER test.refuses BEFORE INSERT ON test.refusing
          FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one';
        DROP TABLE IF EXISTS test.numbers;
        CREATE TABLE test.numbers (a INT);
      ]]
      series = scripted.series(server)
    end)

    after_each(function()
      assert.same({}, series:leave())
    end)

    teardown(function()
      series:stop()
      server:sql("DROP TABLE test.refusing; DROP TABLE test.numbers")
    end)

    it("is asked about a file once, cannot take the question away, and its session survives the server's refusal",
      function()
        for _, returns in ipairs { "PROXY_IGNORE_RESULT", "PROXY_SEND_RESULT" } do
          series:run([[
            function read_query(packet)
              if packet:find("LOAD") then
                proxy.queries:append(3, packet, { resultset_is_needed = true })
                return proxy.PROXY_SEND_QUERY
              end
            end
            function read_query_result(inj)
              print(inj.id, inj.resultset.query_status, inj.resultset.raw:byte())
              proxy.response = { type = proxy.MYSQLD_PACKET_OK }
              return proxy.]] .. returns .. " end")
          local client = series:login()
          assert.equal("\251x", client:query("LOAD DATA LOCAL INFILE 'x' INTO TABLE test.refusing"))
          local answer = upload(client)
          assert.same({ 1644, "45000", "not this one" }, { answer.errcode, answer.sqlstate, answer.errmsg })
          series:prints("3\tnil\t251\n", true)
          assert.equal("\251x", client:query("LOAD DATA LOCAL INFILE 'x' INTO TABLE test.numbers"))
          assert.equal(2, upload(client).affected_rows)
          assert.same({ { "1" } }, client:ask("SELECT 1").rows)
          assert.equal(("3\tnil\t251\n"):rep(2), series:stdout())
          series:logs("read_query_result() cannot replace a request for LOCAL INFILE: it is passed on", true)
          for _, line in ipairs(series:leave()) do
            assert.matches("cannot replace a request for LOCAL INFILE", line)
          end
        end
        series:run ""
      end)

    it("asks for a file by itself", function()
      series:run("function read_query(packet) if packet:find('LOAD') then " .. FETCHES .. " end end")
      local client = series:login()
      for _ = 1, 2 do
        assert.equal("\251a file", client:query("LOAD"))
        assert.equal(0, upload(client).affected_rows)
      end
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)

    it("sees, makes and replaces commands and answers of more than 16 MiB", function()
      series:run(([[
        local LONG = %d
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          local word = packet:match("^\3(%%u+) ?")
          local command = word == "SHRINK" and "\3SELECT " .. #packet - #"\3SHRINK "
            or word == "GROW" and "\3SELECT LENGTH('" .. ("x"):rep(LONG) .. "')"
            or word == "HIDE" and "\3SELECT REPEAT('y', " .. LONG .. "), 'short'" or packet
          proxy.queries:append(word == "HIDE" and 2 or 1, command, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          if inj.id == 2 then
            local row = inj.resultset.rows()
            assert(inj.resultset.row_count == 1 and row[2] == "short")
            proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = { { name = "length",
              type = proxy.MYSQL_TYPE_LONG } }, rows = { { #row[1] } } } }
            return proxy.PROXY_SEND_RESULT
          end
        end]]):format(LONG))
      local client = series:login()
      local long = ("x"):rep(LONG)
      local function is(expected, sql)
        local first, sequence = client:query(sql)
        assert.equal(#sql >= LONG and 2 or 1, sequence) -- it follows the command's last packet
        assert.is_true(client:answer(first).rows[1][1] == expected)
        assert.same({ { "PASSED" } }, client:ask("SELECT 'PASSED'").rows)
      end
      is(tostring(LONG), "SELECT LENGTH('" .. long .. "')")
      is(tostring(LONG), "SHRINK " .. long)
      is(tostring(LONG), "GROW")
      is(tostring(LONG), "HIDE")
      is(long, ("SELECT REPEAT('x', %d), 'short'"):format(LONG))
    end)

    it("leaves packets their numbers, which begin again after 255", function()
      for _, text in ipairs {
        "function read_query() end",
        [[function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          proxy.queries:append(2, "\3SELECT 1")
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          assert(inj.id == 2 or inj.resultset.row_count == 600)
          return inj.id == 2 and proxy.PROXY_IGNORE_RESULT or nil
        end]],
        [[function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.queries:append(1, packet, { resultset_is_needed = false })
          return proxy.PROXY_SEND_QUERY
        end]],
        [[function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          local fields, rows, row = {}, {}, {}
          for i = 1, 300 do fields[i], row[i] = { name = "c" .. i, type = proxy.MYSQL_TYPE_LONG }, i end
          for i = 1, 600 do rows[i] = row end
          proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = rows } }
          return proxy.PROXY_SEND_RESULT
        end]],
      } do
        series:run(text)
        local client = series:login()
        local columns = {}
        for i = 1, 300 do columns[i] = i .. " AS c" .. i end
        local rows = ("SELECT 1 %s"):format(("UNION ALL SELECT 1 "):rep(599))
        client:send("\3SELECT " .. table.concat(columns, ", ") .. (" FROM (%s) AS r"):format(rows))
        local last
        for number = 1, 1 + 300 + 1 + 600 + 1 do
          local payload, sequence = client:packet()
          assert.equal(number % 256, sequence)
          last = payload
        end
        assert.equal(254, last:byte())
        client:send("\14")
        local payload, sequence = client:packet()
        assert.same({ 0, 1 }, { payload:byte(), sequence })
      end
    end)

    it("sees what comes behind a command that would begin a conversation of its own, and is refused", function()
      server:sql("CREATE TABLE IF NOT EXISTS test.refused (id INT)")
      series:run [[function read_query(packet)
        if packet:byte() == proxy.COM_QUERY and packet:find("DROP") then
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "not here" }
          return proxy.PROXY_SEND_RESULT
        end
      end]]
      for _, command in ipairs { "\18", "\30", "\32", "\33" } do
        for _, at_once in ipairs { false, true } do
          local client = series:login()
          local drop = packet.frame("\3DROP TABLE test.refused", 0)
          client:write(packet.frame(command, 0) .. (at_once and drop or ""))
          assert.equal(255, client:packet():byte())
          if not at_once then
            client:write(drop)
          end
          local answer = client:packet()
          if answer or command == "\32" then -- servers close behind some of them
            assert.equal("not here", client:answer(answer).errmsg)
          end
        end
      end
      assert.equal("0\n", server:sql("SELECT COUNT(*) FROM test.refused"))
    end)

    it("queues commands whose answers may go on for ever: what the server says to them passes", function()
      series:run [[
        function read_query(packet)
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj) print(inj.query:byte(), inj.resultset.query_status) end]]
      for _, command in ipairs { "\18", "\30", "\32", "\33" } do
        local client = series:login()
        client:send(command)
        assert.equal(255, client:packet():byte())
      end
      series:prints("18\t255\n30\t255\n32\t255\n33\t255\n", true)
      local client = series:login()
      client:send("\19") -- COM_TABLE_DUMP
      assert.equal(1047, client:answer(client:packet()).errcode)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    end)
  end)
end

describe("a script without a server", function()
  it("asks for a file, and thanks for it", function()
    local series = scripted.series({ "127.0.0.1:1" })
    series:run([[
      function connect_server()
        proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { require("mysql.proto").to_challenge_packet {
          server_version = 50045, capabilities = 0x8a208, auth_plugin_name = "mysql_native_password",
          challenge = ("c"):rep(20) } } }
        return proxy.PROXY_SEND_RESULT
      end
      function read_query(packet) ]] .. FETCHES .. " end")
    local client = series:login()
    for _ = 1, 2 do
      assert.equal("\251a file", client:query("LOAD"))
      assert.equal(0, upload(client).affected_rows)
    end
    assert.same({}, series:leave())
    series:stop()
  end)
end)
