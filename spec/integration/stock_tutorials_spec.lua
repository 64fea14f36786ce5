-- What the tutorials did that came with the proxy of 2007 to 2014, in scripts of our own that use the interface in the
-- same ways, and what a user sees of them.

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("in front of " .. server.name .. " a script as the tutorial", function()
    local series

    setup(function()
      series = scripted.series(server)
    end)

    teardown(function()
      series:stop()
    end)

    local expected_errors

    before_each(function()
      expected_errors = {}
    end)

    after_each(function()
      assert.same(expected_errors, series:leave())
    end)

    -- The server's own client: what it prints.
    local function mysql(sql, user, given, options)
      local program, args = server:client()
      for _, list in ipairs {
        server.clear_text, server:login(series.proxy.port, user, given), options or { "-N", "-B" }, { "-e", sql },
      } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local _, output, errors = process.run(program, args)
      return (output .. errors):gsub("mysql: %[Warning%][^\n]*\n", ""):gsub("%-%-%-%-+\n[^\n]*\n%-%-%-%-+\n\n", "")
    end

    it("basic prints each statement", function()
      series:run [[
        function read_query( packet )
          if string.byte(packet) == proxy.COM_QUERY then
            print("we got a normal query: " .. string.sub(packet, 2))
          end
        end
      ]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      client:send("\14")
      assert.equal(0, client:packet():byte())
      series:prints("we got a normal query: SELECT 1\n", true)
      assert.equal("we got a normal query: SELECT 1\n", series:stdout())
    end)

    it("constants prints what it runs in", function()
      series:run [[
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY then
            print("get got a Query: " .. packet:sub(2))
            print(("we are: %05x"):format(proxy.PROXY_VERSION))
            print("lua is: " .. _VERSION)
          end
        end
      ]]
      series:login():ask("SELECT 1")
      series:prints("lua is: Lua 5%.1\n")
      assert.matches("^get got a Query: SELECT 1\nwe are: 00[89]%d%d\nlua is: Lua 5%.1\n$", series:stdout())
    end)

    it("query-time prints times of answers that it does not keep", function()
      series:run [[
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY then
            proxy.queries:append(1, packet, { resultset_is_needed = false })
            return proxy.PROXY_SEND_QUERY
          end
        end
        function read_query_result(inj)
          print("query-time: " .. (inj.query_time / 1000) .. "ms")
          print("response-time: " .. (inj.response_time / 1000) .. "ms")
        end
      ]]
      assert.same({ { "0" } }, series:login():ask("SELECT SLEEP(0.02)").rows)
      series:prints("response%-time: [^\n]*ms\n")
      local query_time, response_time = series:stdout():match("^query%-time: ([%d.]+)ms\nresponse%-time: ([%d.]+)ms\n$")
      assert.is_true(tonumber(query_time) > 0)
      assert.is_true(tonumber(response_time) >= 20 and tonumber(response_time) >= tonumber(query_time))
    end)

    it("inject asks more than the client did", function()
      series:run [[
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY then
            proxy.queries:append(1, packet)
            proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SELECT NOW()", { resultset_is_needed = true })
            return proxy.PROXY_SEND_QUERY
          end
        end
        function read_query_result(inj)
          print("injected result-set: id = " .. inj.type)
          if inj.type == 2 then
            for row in inj.resultset.rows do
              print("injected query returned: " .. row[1])
            end
            return proxy.PROXY_IGNORE_RESULT
          end
        end
      ]]
      local client = series:login()
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.equal(1054, client:ask("SELECT nothing").errcode)
      series:prints("^" .. ("injected result%-set: id = 1\ninjected result%-set: id = 2\n"
        .. "injected query returned: %d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d\n"):rep(2) .. "$")
    end)

    it("rewrite knows words of a shell", function()
      series:run [[
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          local first, rest = packet:sub(2):match("^(%S+)%s*(.*)$")
          if first == "ls" then
            local from = rest ~= "" and " FROM " .. rest or ""
            proxy.queries:append(1, string.char(proxy.COM_QUERY) .. "SHOW TABLES" .. from)
          elseif first == "who" then
            proxy.queries:append(1, string.char(proxy.COM_QUERY) .. "SHOW PROCESSLIST")
          elseif first == "cd" then
            proxy.queries:append(1, string.char(proxy.COM_INIT_DB) .. rest)
          end
          return #proxy.queries > 0 and proxy.PROXY_SEND_QUERY or nil
        end
      ]]
      server:sql("CREATE TABLE IF NOT EXISTS test.shell (id INT)")
      assert.matches("\nuser\n", (mysql "ls mysql"))
      assert.matches("\tnopass\t.*SHOW PROCESSLIST", (mysql("who", "nopass", "")))
      assert.matches("test\n.*shell\n", (mysql("cd test; SELECT DATABASE(); ls")))
      assert.matches("ERROR 1064", (mysql "WHO"))
    end)

    it("resultset counts statements, and has an error of its own", function()
      series:run [[
        proxy.global.query_counter = proxy.global.query_counter or 0
        local query_counter = 0
        function read_query(packet)
          if packet:byte() ~= proxy.COM_QUERY then return end
          proxy.global.query_counter = proxy.global.query_counter + 1
          query_counter = query_counter + 1
          local words = {}
          for word in packet:sub(2):gmatch("%S+") do
            words[#words + 1] = word
          end
          local first, second = string.lower(words[1]), string.lower(words[2])
          if first == "show" and second == "querycounter" then
            proxy.response = {
              type = proxy.MYSQLD_PACKET_OK,
              resultset = {
                fields = {
                  { type = proxy.MYSQL_TYPE_LONG, name = "global_query_counter", },
                  { type = proxy.MYSQL_TYPE_LONG, name = "query_counter", },
                },
                rows = { { proxy.global.query_counter, query_counter } }
              }
            }
            return proxy.PROXY_SEND_RESULT
          elseif first == "show" and second == "myerror" then
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = "my first error"
            return proxy.PROXY_SEND_RESULT
          end
        end
      ]]
      local first, second = series:login(), series:login()
      local answer = first:ask("SHOW QUERYCOUNTER")
      assert.same({ "global_query_counter", "query_counter" }, answer.names)
      assert.same({ { "1", "1" } }, answer.rows)
      assert.same({ { "2", "1" } }, second:ask("show QueryCounter").rows)
      assert.same({ { "3", "2" } }, second:ask("SHOW querycounter").rows)
      assert.same({ errcode = 1105, sqlstate = "07000", errmsg = "my first error" }, first:ask("SHOW MYERROR"))
      assert.matches("^ERROR 1105 %(07000%) at line 1: my first error\n$", (mysql "SHOW MYERROR"))
      assert.equal(1064, first:ask("SHOW x").errcode) -- the server's answer
      assert.equal(0, first:ask("COMMIT").affected_rows) -- string.lower(nil) in a hook is nobody's business
      expected_errors = { ('(read_query) [string "%s"]:11: bad argument #1 to \'lower\' (string expected, got nil)')
        :format(series.proxy.script) }
    end)

    it("packets dumps an answer, whose fields it counts from 0", function()
      series:run [[
        function read_query(packet)
          proxy.queries:append(1, packet, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          local res = inj.resultset
          print(("query: %q"):format(inj.query))
          if res.query_status == proxy.MYSQLD_PACKET_ERR then
            print("err: " .. res.raw:sub(10))
            return
          end
          for _, flag in ipairs { "in_trans", "auto_commit", "no_good_index_used", "no_index_used" } do
            print(flag .. " = " .. tostring(res.flags[flag]))
          end
          print("warnings = " .. res.warning_count .. ", affected = " .. tostring(res.affected_rows))
          local field_count = 0
          local fields = res.fields
          while fields[field_count] do
            print("field: " .. fields[field_count].name)
            field_count = field_count + 1
          end
          print("fields: " .. field_count)
          if res.rows then
            for row in res.rows do
              print("row: " .. tostring(row[0]) .. " " .. tostring(row[1]))
            end
          end
          print(("raw: %02x"):format(res.raw:byte()))
        end
      ]]
      local client = series:login()
      assert.same({ { "a" }, {} }, client:ask("SELECT 'a' UNION ALL SELECT NULL").rows)
      assert.equal(0, client:ask("DO 1").affected_rows)
      assert.equal(1064, client:ask("nonsense").errcode)
      series:prints("err: You have")
      assert.matches([[
query: "\?[%c3]SELECT 'a' UNION ALL SELECT NULL"
in_trans = false
auto_commit = true
no_good_index_used = false
no_index_used = %a+
warnings = 0, affected = nil
fields: 0
row: nil a
row: nil nil
raw: 01
query: "\?[%c3]DO 1"
in_trans = false
auto_commit = true
no_good_index_used = false
no_index_used = false
warnings = 0, affected = 0
fields: 0
raw: 00
query: "\?[%c3]nonsense"
err: You have]], series:stdout())
    end)

    it("prep-stmts takes prepared statements apart", function()
      series:run [[
        local proto = require("mysql.proto")
        local prep_stmts = {}
        function read_query(packet)
          local cmd_type = packet:byte()
          if cmd_type == proxy.COM_STMT_PREPARE then
            print("> PREPARE: " .. assert(proto.from_stmt_prepare_packet(packet)).stmt_text)
          elseif cmd_type == proxy.COM_STMT_EXECUTE then
            local stmt_id = assert(proto.stmt_id_from_stmt_execute_packet(packet))
            local args = assert(proto.from_stmt_execute_packet(packet, prep_stmts[stmt_id].num_params))
            print(("> EXECUTE: stmt-id = %d"):format(args.stmt_id))
            if args.new_params_bound then
              for i, param in ipairs(args.params) do
                print((" [%d] %s (type = %d)"):format(i, tostring(param.value), param.type))
              end
            end
          elseif cmd_type == proxy.COM_STMT_CLOSE then
            local args = assert(proto.from_stmt_close_packet(packet))
            print(("> CLOSE: stmt-id = %d"):format(args.stmt_id))
            prep_stmts[args.stmt_id] = nil
          else
            return
          end
          proxy.queries:append(cmd_type, packet, { resultset_is_needed = true })
          return proxy.PROXY_SEND_QUERY
        end
        function read_query_result(inj)
          if inj.id == proxy.COM_STMT_PREPARE then
            local res = inj.resultset
            if res.raw:byte() == 0 then
              local prep_stmt = assert(proto.from_stmt_prepare_ok_packet(res.raw))
              print(("< PREPARE: stmt-id = %d (resultset-cols = %d, params = %d)"):format(
                prep_stmt.stmt_id, prep_stmt.num_columns, prep_stmt.num_params))
              prep_stmts[prep_stmt.stmt_id] = { num_columns = prep_stmt.num_columns, num_params = prep_stmt.num_params }
            end
          end
          print("< " .. inj.id)
        end
      ]]
      local _, output, errors = process.run("php", { "-r", ([[
        $c = new mysqli("127.0.0.1", "nopass", "", "test", %d);
        $s = $c->prepare("SELECT ?");
        foreach ([13, 14] as $i) { $s->bind_param("i", $i); $s->execute(); echo $s->get_result()->fetch_row()[0], ","; }
        $s->close();
        echo $c->query("SELECT 1")->fetch_row()[0];
      ]]):format(series.proxy.port) })
      assert.equal("13,14,1", output .. errors)
      local id = series:stdout():match("stmt%-id = (%d+)")
      assert.equal(("> PREPARE: SELECT ?\n< PREPARE: stmt-id = 1 (resultset-cols = 1, params = 1)\n< 22\n"
        .. "> EXECUTE: stmt-id = 1\n [1] 13 (type = 8)\n< 23\n> EXECUTE: stmt-id = 1\n [1] 14 (type = 8)\n< 23\n"
        .. "> CLOSE: stmt-id = 1\n"):gsub("id = 1", "id = " .. id), series:stdout()) -- there is no answer to CLOSE
    end)

    it("warnings asks for warnings where there are some", function()
      series:run [[
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY then
            proxy.queries:append(1, packet, { resultset_is_needed = true })
            return proxy.PROXY_SEND_QUERY
          end
        end
        function read_query_result(inj)
          if inj.id == 1 then
            if inj.resultset.warning_count > 0 then
              print("Query had warnings: " .. inj.query:sub(2))
              proxy.queries:append(2, string.char(proxy.COM_QUERY) .. "SHOW WARNINGS", { resultset_is_needed = true })
            end
          elseif inj.id == 2 then
            for row in inj.resultset.rows do
              print(("warning: [%d] %s"):format(row[2], row[1]))
            end
            return proxy.PROXY_IGNORE_RESULT
          end
        end
      ]]
      local client = series:login()
      assert.same({ { nil } }, client:ask("SELECT 1/0").rows)
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      assert.equal("Query had warnings: SELECT 1/0\nwarning: [1365] Warning\n", series:stdout())
    end)

    it("states prints each step, and lets not everybody in", function()
      series:run [[
        function connect_server() print("--> a client really wants to talk to a server") end
        function read_handshake()
          local con = proxy.connection
          print("<-- let's send him some information about us")
          print("    server-addr   : " .. con.server.dst.name)
          print("    client-addr   : " .. con.client.src.name)
          print("    server-version: " .. con.server.mysqld_version)
          print("    thread-id     : " .. con.server.thread_id)
          print("    scramble-buf  : " .. #con.server.scramble_buffer)
          if not con.client.src.name:match("^127.0.0.1:") then
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = "only local connects are allowed"
            return proxy.PROXY_SEND_RESULT
          end
        end
        function read_auth()
          local con = proxy.connection
          print("--> there, look, the client is responding to the server auth packet")
          print("    username: " .. con.client.username .. ", password: " .. #con.client.scrambled_password
            .. ", default_db: " .. con.client.default_db)
          if con.client.username == "evil" then
            proxy.response.type = proxy.MYSQLD_PACKET_ERR
            proxy.response.errmsg = "evil logins are not allowed"
            return proxy.PROXY_SEND_RESULT
          end
        end
        function read_auth_result(auth)
          local state = auth.packet:byte()
          print("<-- " .. (state == proxy.MYSQLD_PACKET_OK and "auth ok" or state == proxy.MYSQLD_PACKET_ERR
            and "auth failed" or "auth state " .. state))
        end
        function read_query(packet)
          print("--> someone sent us a query: " .. packet:sub(2))
          proxy.queries:append(1, string.char(proxy.COM_QUERY) .. "SELECT 1", { resultset_is_needed = true })
        end
        function read_query_result() print("<-- never") end
        function disconnect_client() print("bye") end
      ]]
      local client = series:login()
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      series:logs("proxy.queue:append() or :prepend() used without 'return proxy.PROXY_SEND_QUERY'. "
        .. "Discarding 1 elements from the queue.", true)
      client:send("\1")
      series:prints("bye\n", true)
      local text = series:stdout()
      for _, line in ipairs {
        "--> a client really", ("server-addr   : 127.0.0.1:%d\n"):format(server.port), "client-addr   : 127.0.0.1:",
        "username: nopass, password: 0, default_db: \n", "<-- auth ok\n", "--> someone sent us a query: SELECT 2\n",
        "--> someone sent us a query: \nbye\n",
      } do
        local _, last = text:find(line, 1, true)
        assert.truthy(last, line .. " in: " .. series:stdout())
        text = text:sub(last + 1)
      end
      assert.is_nil(series:stdout():find("never", 1, true))
      local refused = series:login("evil").refused
      assert.same({ 1105, "evil logins are not allowed" }, { refused.errcode, refused.errmsg })
      for index, error in ipairs(series:leave()) do
        assert.matches("Discarding 1 elements", error)
        assert.is_true(index < 3) -- of the query and COM_QUIT
      end
      series:run ""
    end)

    it("routing prints addresses, and refuses everybody", function()
      series:run [[
        function read_handshake()
          local c = proxy.connection
          print(("client: %s (%s, %d, type %d)"):format(c.client.src.name, c.client.src.address, c.client.src.port,
            c.client.src.type))
          print("came to: " .. c.client.dst.name)
          print("server: " .. c.server.src.name .. " to " .. c.server.dst.name)
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "done" }
          return proxy.PROXY_SEND_RESULT
        end
      ]]
      assert.matches("^ERROR %d+ %(%w+%): #?0?7?0?0?0?done\n$", (mysql("SELECT 1")))
      series:prints(("client: 127%%.0%%.0%%.1:%%d+ %%(127%%.0%%.0%%.1, %%d+, type 2%%)\n"
        .. "came to: 127%%.0%%.0%%.1:%d\nserver: 127%%.0%%.0%%.1:%%d+ to 127%%.0%%.0%%.1:%d\n$"):format(
        series.proxy.port, server.port))
    end)

    it("scramble lets its own users in, as others of the server", function()
      local native = server.flavour == "mariadb" -- the other has no account whose password SHA1 can show
      series:run(([[
        local proto, password = require("mysql.proto"), require("mysql.password")
        local users = { replace = { password = "me", user = %q, real = %q } }
        function read_auth()
          local c, s = proxy.connection.client, proxy.connection.server
          print(("for challenge %%q the client sent %%q"):format(s.scramble_buffer, c.scrambled_password))
          local known = users[c.username]
          if not known then return end
          if known.real ~= "" and not password.check(s.scramble_buffer, c.scrambled_password,
            password.hash(password.hash(known.password))) then
            return
          end
          proxy.queries:append(1, proto.to_response_packet({
            username = known.user, database = c.default_db, max_packet_size = 1 * 1024 * 1024, charset = 8,
            response = known.real ~= "" and password.scramble(s.scramble_buffer, password.hash(known.real)) or "",
          }))
          return proxy.PROXY_SEND_QUERY
        end
      ]]):format(native and "native" or "nopass", native and "secret" or ""))
      local user = native and "native" or "nopass"
      assert.matches("^test\t" .. user .. "@", (mysql("USE test; SELECT DATABASE(), USER(), 1", "replace", "me")))
      local sql = "SELECT USER(), DATABASE(), 'x'; SELECT 2"
      assert.matches("^" .. user .. "@[^\n]*\ttest\tx\n2\n", (mysql(sql, "replace", "me", { "-N", "-B", "test" })))
      if native then
        assert.matches("ERROR 1045", (mysql("SELECT 1", "replace", "you")))
      end
      assert.matches("nopass", (mysql("SELECT USER()", "nopass", "")))
    end)

    it("tokenize prints tokens and the normalised query", function()
      series:run [[
        local tokenizer = require("proxy.tokenizer")
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY then
            local tokens = tokenizer.tokenize(packet:sub(2))
            for i = 1, #tokens do
              local token = tokens[i]
              print(i .. ": { " .. token["token_name"] .. ", " .. token["text"] .. " }")
            end
            print("normalized query: " .. tokenizer.normalize(tokens))
            assert(proxy.tokenize("a")[1].token_id == 9) -- as scripts of 0.6 say it
            print("")
          end
        end
      ]]
      series:login():ask("SELECT name, 1 /* c */ FROM test.t WHERE id = 'x'")
      series:prints("\n\n$")
      assert.equal("1: { TK_SQL_SELECT, SELECT }\n2: { TK_LITERAL, name }\n3: { TK_COMMA, , }\n4: { TK_INTEGER, 1 }\n"
        .. "5: { TK_COMMENT,  c  }\n6: { TK_SQL_FROM, FROM }\n7: { TK_LITERAL, test }\n8: { TK_DOT, . }\n"
        .. "9: { TK_LITERAL, t }\n10: { TK_SQL_WHERE, WHERE }\n11: { TK_LITERAL, id }\n12: { TK_EQ, = }\n"
        .. "13: { TK_STRING, x }\nnormalized query: SELECT `name` , ? FROM `test` . `t` WHERE `id` = ? \n\n",
        series:stdout())
    end)

    it("union doubles every row", function()
      series:run [[
        local proxied = {}
        function read_query(packet)
          if packet:byte() == proxy.COM_QUERY and packet:sub(2):upper():match("^%s*SELECT") then
            proxied = { fields = {}, rows = {} }
            proxy.queries:append(1, packet, { resultset_is_needed = true })
            proxy.queries:append(2, packet, { resultset_is_needed = true })
            return proxy.PROXY_SEND_QUERY
          end
        end
        function read_query_result(inj)
          if inj.id == 1 then
            for n = 1, #inj.resultset.fields do
              table.insert(proxied.fields, { type = inj.resultset.fields[n].type, name = inj.resultset.fields[n].name })
            end
          end
          for row in inj.resultset.rows do
            table.insert(proxied.rows, row)
          end
          if inj.id ~= 2 then
            return proxy.PROXY_IGNORE_RESULT
          end
          proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = proxied }
          return proxy.PROXY_SEND_RESULT
        end
      ]]
      local answer = series:login():ask("SELECT 1 AS one, NULL AS none UNION ALL SELECT 2, 'b'")
      assert.same({ "one", "none" }, answer.names)
      assert.same({ { "1" }, { "2", "b" }, { "1" }, { "2", "b" } }, answer.rows)
    end)

    it("monitor forgets to return, and takes no argument", function()
      series:run [[
        function read_query( )
          proxy.queries:append(1, string.char(proxy.COM_QUERY) .. "SELECT 1")
        end
      ]]
      local client = series:login()
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      expected_errors = { series:log():match("%(critical%) ([^\n]*Discarding 1 elements from the queue%.)") }
      assert.equal(1, #expected_errors)
    end)
  end)
end
