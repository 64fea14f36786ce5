-- The modules that scripts require, in a script, with the servers' own clients.

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("the modules of a script in front of " .. server.name, function()
    local proxy

    after_each(function()
      if proxy then
        assert.equal(0, proxy:stop())
        assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
        proxy = nil
      end
    end)

    local function start(text, options)
      proxy = scripted.start(server, text, options)
    end

    -- What the client prints, or its error.
    local function client(sql, database)
      local program, args = server:client()
      for _, list in ipairs { server.clear_text, server:login(proxy.port), { "-N", "-B", "-e", sql, database } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    it("show its options, change them, save them and load them", function()
      start([[
        local auto_config = require("proxy.auto-config")
        local commands = require("proxy.commands")
        proxy.global.config.rules_1 = proxy.global.config.rules_1 or { is_debug = false, limit = 4, name = "x" }

        function read_query(packet)
          local cmd = commands.parse(packet)
          local verdict = proxy.global.config:handle(cmd)
          if verdict then
            return verdict
          end
          assert(auto_config.handle(cmd) == nil)
        end
      ]], { "--proxy-lua-config-folder=" .. process.folder() })
      local shown = "rules_1\tis_debug\tfalse\tboolean\nrules_1\tlimit\t4\tnumber\nrules_1\tname\tx\tstring\n"
      assert.equal(shown, client "PROXY SHOW CONFIG")
      local path = process.path("config")
      assert.equal("", client(('PROXY SAVE CONFIG INTO "%s"'):format(path)))
      assert.equal("", client "PROXY SET GLOBAL rules_1.is_debug = true")
      assert.equal("", client 'PROXY SET GLOBAL rules_1.name = "a b"')
      assert.equal("", client "SET GLOBAL rules_1.limit = 5")
      assert.equal("rules_1\tis_debug\ttrue\tboolean\nrules_1\tlimit\t5\tnumber\nrules_1\tname\ta b\tstring\n",
        client "PROXY SHOW CONFIG")
      assert.equal("", client(('PROXY LOAD CONFIG FROM "%s"'):format(path)))
      assert.equal(shown, client "PROXY SHOW CONFIG")
      assert.matches("ERROR 1105 %(07000%).*: option not know", (client "PROXY SET GLOBAL rules_1.more = 5"))
      assert.matches("ERROR 1105 %(07000%).*/none: No such file", (client 'PROXY LOAD CONFIG FROM "none"'))
      for _, statement in ipairs { 'PROXY LOAD CONFIG FROM "/etc/passwd"', 'PROXY SAVE CONFIG INTO "../x"' } do
        assert.matches("ERROR 1105 %(07000%).*is no plain name of a file", (client(statement)))
      end
      assert.equal("1\n", client "SELECT 1")
    end)

    it("find the tables of a statement, by the client's database", function()
      start [[
        local parser, tokenizer = require("proxy.parser"), require("proxy.tokenizer")
        function read_query(packet)
          if packet:find("TABLES OF", 1, true) then
            local names = {}
            for name, kind in pairs(parser.get_tables(proxy.tokenizer.tokenize(packet:sub(12)))) do
              names[#names + 1] = name .. " " .. kind
            end
            table.sort(names)
            proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
              fields = { { name = "tables", type = proxy.MYSQL_TYPE_STRING } },
              rows = { { table.concat(names, ", ") } },
            } }
            return proxy.PROXY_SEND_RESULT
          end
        end
      ]]
      assert.equal("mysql.user read, test.a read, test.b read\n",
        client("TABLES OF SELECT 1 FROM a JOIN b ON a.i = b.i, mysql.user", "test"))
      assert.equal("mysql.t write\n", client("TABLES OF INSERT INTO t VALUES (1)", "mysql"))
      assert.equal(".t read\n", client "TABLES OF SELECT 1 FROM t")
    end)

    it("decode prepared statements", function()
      start [[
        local commands, proto = require("proxy.commands"), require("mysql.proto")
        local params = {}
        function read_query(packet)
          local cmd = commands.parse(packet)
          if cmd.type == proxy.COM_STMT_PREPARE then
            assert(proto.from_stmt_prepare_packet(packet).stmt_text == cmd.query)
            proxy.queries:append(1, packet, { resultset_is_needed = true })
            return proxy.PROXY_SEND_QUERY
          elseif cmd.type == proxy.COM_STMT_EXECUTE then
            local id = proto.stmt_id_from_stmt_execute_packet(packet)
            assert(id == cmd.stmt_handler_id)
            local execute = proto.from_stmt_execute_packet(packet, params[id])
            for i = 1, params[id] do
              local param = execute.params[i]
              print(("%d: %s (type = %d)"):format(i, tostring(param.value), param.type))
            end
          elseif cmd.type == proxy.COM_STMT_CLOSE then
            assert(params[proto.from_stmt_close_packet(packet).stmt_id])
            print(commands.pretty_print(cmd))
          end
        end
        function read_query_result(inj)
          local ok = proto.from_stmt_prepare_ok_packet(assert(inj.resultset.raw))
          params[ok.stmt_id] = ok.num_params
          print(("columns = %d, params = %d"):format(ok.num_columns, ok.num_params))
        end
      ]]
      local code, output, errors = process.run("php", { "-r", ([[
        $c = new mysqli("127.0.0.1", "nopass", "", "test", %d);
        $s = $c->prepare("SELECT ?, ?, ?, ?");
        $i = -5; $d = 1.5; $t = "text"; $n = null;
        $s->bind_param("idss", $i, $d, $t, $n);
        $s->execute();
        foreach ($s->get_result()->fetch_row() as $value) { echo $value, ","; }
        $s->close();
      ]]):format(proxy.port) })
      assert.equal("", errors)
      assert.equal("-5,1.5,text,,", output)
      assert.equal(0, code)
      local printed = process.wait_until(function()
        local text = proxy.process:stdout()
        return text:find("CLOSE", 1, true) and text
      end, 10)
      for _, line in ipairs {
        "columns = 4, params = 4\n1: -5 (type = 8)\n2: 1.5 (type = 5)\n3: text (type = 253)\n4: nil (type = ",
        "[COM_STMT_CLOSE] ... no idea\n",
      } do
        assert.matches(line, printed, 1, true)
      end
    end)

    it("check a password in the server's stead", function()
      start [[
        local proto, password = require("mysql.proto"), require("mysql.password")
        local challenge = "abcdefghij0123456789"
        local stored = password.hash(password.hash("secret"))
        function connect_server()
          proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { proto.to_challenge_packet {
            challenge = challenge, auth_plugin_name = "mysql_native_password", server_status = 2,
            capabilities = 0x8a208, -- CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH
          } } }
          return proxy.PROXY_SEND_RESULT
        end
        function read_auth(auth)
          if not password.check(challenge, auth.password, stored) then
            proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "no, " .. auth.username }
            return proxy.PROXY_SEND_RESULT
          end
        end
        function read_query()
          proxy.response = { type = proxy.MYSQLD_PACKET_OK,
            resultset = { fields = { { name = "word" } }, rows = { { "welcome" } } } }
          return proxy.PROXY_SEND_RESULT
        end
      ]]
      for text, expected in pairs { secret = "welcome", Secret = "no, me", [""] = "no, me" } do
        local code, output, errors = process.run("mariadb", { "--no-defaults", "--skip-ssl", "-h127.0.0.1",
          "-P" .. proxy.port, "-ume", "--password=" .. text, "-N", "-B", "-e", "SELECT 1" })
        assert.matches(expected, output .. errors, 1, true)
        assert.equal(text == "secret" and 0 or 1, code)
      end
    end)

    it("are there by the names of their day", function()
      start [[
        require("glib2") require("posix") require("lfs") require("lpeg")
        local stats = require("chassis").get_stats()
        local parts = { glib2.md5("abc"), posix.getpid(), posix.getpwuid(0).name, type(lfs.currentdir()),
          tostring(lpeg.match(lpeg.P "a", "a")), stats.proxy.connected_clients, stats.proxy.backends,
          tostring(stats.chassis.lua_mem_bytes > 1000), tostring(chassis.get_stats("proxy").idle_connections),
          tostring(chassis.get_stats("admin")) }
        function read_query(packet)
          if packet:find("WHO") then
            proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = {
              fields = { { name = "x", type = proxy.MYSQL_TYPE_STRING } }, rows = { { table.concat(parts, " ") } },
            } }
            return proxy.PROXY_SEND_RESULT
          end
        end
      ]]
      assert.equal(("900150983cd24fb0d6963f7d28e17f72 %d root string 2 1 1 true 0 nil\n"):format(proxy.pid),
        client "WHO")
    end)
  end)
end
