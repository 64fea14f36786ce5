local packet = require "mysql.packet"
local proto = require "mysql.proto"

local interpreter = require "spec.support.interpreter"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("the read-only port, " .. server.name, function()
    local proxy, client

    setup(function()
      proxy = proxies.start { server }
      server:sql [[
        CREATE TABLE IF NOT EXISTS test.ro (a INT);
        DROP PROCEDURE IF EXISTS test.writes;
        CREATE PROCEDURE test.writes() INSERT INTO test.ro VALUES (1);
        DROP FUNCTION IF EXISTS test.sneak;
      ]]
      server:sql [[
        SET GLOBAL log_bin_trust_function_creators = 1;
      ]]
      server:sql "delimiter //\n\
        CREATE FUNCTION test.sneak() RETURNS INT BEGIN INSERT INTO test.ro VALUES (1); RETURN 1; END//"
    end)

    teardown(function()
      proxy:stop()
    end)

    before_each(function()
      server:sql "TRUNCATE test.ro"
      client = raw.connect(proxy.read_only_port):login("nopass")
    end)

    after_each(function()
      client:close()
      assert.equal("0", (server:sql("SELECT COUNT(*) FROM test.ro"):match("%d+")))
    end)

    local function read_rows()
      local rows, eofs = 0, 0
      while eofs < 2 do
        local payload = assert(client:packet())
        if payload:byte() == 0xfe and #payload < 9 then
          eofs = eofs + 1
        elseif eofs == 1 then
          rows = rows + 1
        end
      end
      return rows
    end

    local function refused(payload)
      local err = proto.from_err_packet(payload)
      assert.equal(1290, err.errcode)
      assert.equal("HY000", err.sqlstate)
    end

    local function still_reads()
      assert.equal("\1", client:query("SELECT 1"))
      assert.equal(1, read_rows())
    end

    it("lets a client read", function()
      still_reads()
      assert.equal("\1", client:query("SELECT a FROM test.ro"))
      assert.equal(0, read_rows())
    end)

    for _, statement in ipairs {
      "INSERT INTO test.ro VALUES (1)",
      "/* hidden */ INSERT INTO test.ro VALUES (1)",
      "/*!50000 INSERT */ INTO test.ro VALUES (1)",
      "# hidden\nINSERT INTO test.ro VALUES (1)",
      "WITH x AS (SELECT 1 AS a) UPDATE test.ro SET a = 2",
      "SELECT * FROM test.ro FOR UPDATE",
      "SELECT 1 INTO OUTFILE '/tmp/mysql-proxy-must-not-exist'",
      "CALL test.writes()",
      "SELECT 1; INSERT INTO test.ro VALUES (1)",
      "SET SESSION TRANSACTION READ WRITE",
      "SET @@session.tx_read_only = 0",
      "SET transaction_read_only = OFF",
      "START TRANSACTION READ WRITE",
      "PREPARE s FROM 'INSERT INTO test.ro VALUES (1)'",
    } do
      it("refuses with error 1290, and the session lives on: " .. statement:gsub("\n", "\\n"), function()
        refused((client:query(statement)))
        still_reads()
      end)
    end

    it("refuses to prepare a statement that writes", function()
      client:send("\22INSERT INTO test.ro VALUES (?)")
      refused((client:packet()))
      still_reads()
    end)

    it("refuses commands that write", function()
      client:send("\5ro_database") -- COM_CREATE_DB
      refused((client:packet()))
      still_reads()
    end)

    it("has the server refuse what cannot be seen in the text", function()
      local payload = client:query("SELECT test.sneak()")
      if payload:byte() ~= 0xff then -- MariaDB notices at the first row
        repeat
          payload = client:packet()
        until payload:byte() == 0xff
      end
      assert.equal(1792, proto.from_err_packet(payload).errcode)
      still_reads()
    end)

    it("tells the server again after COM_RESET_CONNECTION", function()
      client:send("\31")
      assert.equal(0, client:packet():byte())
      local payload = client:query("SELECT test.sneak()")
      while payload:byte() ~= 0xff do
        payload = client:packet()
      end
      assert.equal(1792, proto.from_err_packet(payload).errcode)
    end)

    it("tells the server again after COM_CHANGE_USER", function()
      client:send("\17nopass\0\0test\0\45\0" .. client.challenge.auth_plugin_name .. "\0")
      local payload, sequence
      repeat
        payload, sequence = client:packet()
        if payload:byte() == 0xfe then
          client:send("", sequence + 1)
        end
      until payload:byte() == 0
      payload = client:query("SELECT test.sneak()")
      while payload:byte() ~= 0xff do
        payload = client:packet()
      end
      assert.equal(1792, proto.from_err_packet(payload).errcode)
    end)

    it("tells the server again after a COM_CHANGE_USER that was refused", function()
      client:send("\17nobody\0\0test\0\45\0" .. client.challenge.auth_plugin_name .. "\0")
      local payload, sequence = client:packet()
      if payload:byte() == 0xfe then
        client:send("", sequence + 1)
        payload = client:packet()
      end
      assert.equal(0xff, payload:byte())
      if server.flavour == "mysql" then
        return assert.truthy(client:wait_for_end())
      end
      payload = client:query("SELECT test.sneak()")
      while payload:byte() ~= 0xff do
        payload = client:packet()
      end
      assert.equal(1792, proto.from_err_packet(payload).errcode)
    end)

    -- Each of these texts is another one to a server that skips the comment, or in that character set.
    local write = "SET SESSION TRANSACTION READ WRITE; INSERT INTO test.ro VALUES (1); -- "
    for name, texts in pairs {
      ["a quote in a comment that is skipped"] = { "SELECT 1 /*!99999 ' */; " .. write .. "'*/" },
      ["a space of latin1"] = { "SET NAMES latin1", "SET SESSION\160TRANSACTION\160READ\160WRITE" },
      ["half a character of gbk"] = { "SET NAMES gbk", "SELECT 1 AS \129`; " .. write .. "`" },
    } do
      it("is not deceived by " .. name, function()
        if texts[2] then
          assert.equal(0, client:query(texts[1]):byte())
        end
        refused((client:query(texts[#texts])))
        still_reads()
      end)
    end

    it("looks at what is pipelined behind COM_BINLOG_DUMP", function()
      client:write(packet.frame("\18\4\0\0\0\1\0\1\0\0\0x.1", 0)
        .. packet.frame("\3SET SESSION TRANSACTION READ WRITE", 0))
      refused((client:packet()))
      refused((client:packet()))
      still_reads()
    end)

    it("looks at what is pipelined behind the handshake response", function()
      local hasty = raw.connect(proxy.read_only_port)
      function hasty:send(payload, sequence)
        self.send = nil
        self:write(packet.frame(payload, sequence) .. packet.frame("\3INSERT INTO test.ro VALUES (1)", 0))
      end
      hasty:login("nopass")
      assert.is_nil(hasty.refused)
      refused((hasty:packet()))
      assert.equal("\1", (hasty:query("SELECT 1")))
      hasty:close()
    end)

    it("answers pipelined commands in their order", function()
      client:send("\14")
      client:send("\3INSERT INTO test.ro VALUES (1)")
      client:send("\3SELECT 1")
      client:send("\14")
      assert.equal(0, client:packet():byte())
      refused((client:packet()))
      assert.equal("\1", (client:packet()))
      assert.equal(1, read_rows())
      assert.equal(0, client:packet():byte())
    end)

    it("looks behind query attributes", function()
      if server.flavour ~= "mysql" then
        return
      end
      local attributed = raw.connect(proxy.read_only_port)
        :login("nopass", proto.capabilities.CLIENT_QUERY_ATTRIBUTES)
      attributed:send("\3\1\1\0\1\254\0\4name\5valueINSERT INTO test.ro VALUES (1)")
      refused((attributed:packet()))
      -- As MySQL reads them, whatever its documentation says: INT24, YEAR and NULL are strings too.
      for type, hidden in pairs { [9] = "xxx", [13] = "x", [6] = "" } do
        local value = hidden .. "SELECT '"
        attributed:send("\3\1\1\0\1" .. string.char(type) .. "\0\0\32" .. value .. (" "):rep(32 - #value)
          .. "INSERT INTO test.ro VALUES (1) -- '")
        refused((attributed:packet()))
      end
      attributed:send("\3\0\1SELECT 1")
      assert.equal("\1", (attributed:packet()))
      attributed:close()
    end)

    it("lets Ctrl-C end a statement", function()
      local sleeper = raw.connect(proxy.read_only_port):login("nopass")
      local id = sleeper:ask("SELECT CONNECTION_ID()").rows[1][1]
      sleeper:send("\3SELECT SLEEP(60) AS interrupted")
      assert.truthy(process.wait_until(function()
        return server:sql("SHOW PROCESSLIST"):find("SLEEP(60)", 1, true)
      end, 10))
      assert.equal(0, client:ask("KILL QUERY " .. id).affected_rows)
      local answer = sleeper:answer(sleeper:packet())
      assert.is_true(answer.errcode == 1317 or answer.rows[1][1] == "1")
      sleeper:close()
    end)

    it("uses the read-only backends if there are any", function()
      local other = proxies.start({ "127.0.0.1:" .. process.free_port() },
        { "--proxy-read-only-backend-addresses=127.0.0.1:" .. server.port })
      local reader = raw.connect(other.read_only_port):login("nopass")
      assert.equal("\1", (reader:query("SELECT 1")))
      reader:close()
      other:stop()
    end)

    -- What has to be looked at has to be held.
    it("refuses a statement without end, of which it holds no more than proxy_command_limit", function()
      local port, program = process.free_port(), process.path("limited.lua")
      process.write_file(program, ([[
        local proxy = assert(require("mysql-proxy").new {
          proxy_address = { "127.0.0.1:0" }, proxy_read_only_address = { "127.0.0.1:%d" },
          proxy_backend_addresses = { "%s:%d" }, proxy_command_limit = 100000,
        })
        proxy:listen(function(ok, message) assert(ok, message) end)
        require("luv").run()
      ]]):format(port, server.host, server.port))
      local limited = process.start("sh", { "-c", ("exec %s '%s'"):format(interpreter, program) })
      assert.truthy(process.wait_until(function()
        return process.accepts(port)
      end), limited:stderr())
      local talker = raw.connect(port):login("nopass")
      talker:send("\3SELECT LENGTH('" .. ("x"):rep(90000) .. "')")
      for _ = 1, 5 do -- column count, definition, EOF, row, EOF
        assert.are_not.equal(0xff, talker:packet():byte())
      end
      talker:write("\0\0\16\0\3SELECT '" .. ("x"):rep(200000))
      local err = proto.from_err_packet((talker:packet()))
      assert.same({ 1153, "08S01" }, { err.errcode, err.sqlstate })
      assert.truthy(talker:wait_for_end())
      talker:close()
      limited:stop("sigkill")
    end)
  end)
end
