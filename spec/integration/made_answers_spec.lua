-- Answers that a script makes (proxy.response), as they arrive at the client.

local packet = require "mysql.packet"
local proto = require "mysql.proto"

local process = require "spec.support.process"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- `ANSWER expression` is answered with that response; `RUN statements` with what they have left in `proxy.response`;
-- `COUNT statement` with what the script sees of the server's answer to it; `CLASSIC name`, COM_STMT_EXECUTE and
-- COM_FIELD_LIST with packets as scripts made them in 2007, with LATER in place of the server's answer.
local SCRIPT = [[
  local constants = setmetatable({}, { __index = function(_, name)
    return proxy["MYSQLD_PACKET_" .. name] or proxy["MYSQL_TYPE_" .. name] or _G[name]
  end })
  local A = "\3def\0\0\0\1a\1a\12\8\0\32\0\0\0\253\0\0\0\0\0"
  local EOF, MORE = "\254\0\0\2\0", "\254\0\0\10\0"
  local CLASSIC = {
    ONE = { "\1", A, EOF, "\3abc", "\251", EOF },
    TWO = { "\1", A, MORE, "\3abc", MORE, "\1", A, EOF, "\3def", EOF },
    FAILS = { "\1", A, EOF, "\3abc", "\255\81\4#07000failed" },
    EXECUTED = { "\1", A, EOF, "\0\0\3abc", EOF },
    FIELDS = { A .. "\251", EOF },
  }
  local function classic(name)
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = CLASSIC[name] }
    return proxy.PROXY_SEND_RESULT
  end
  function read_query(packet)
    local command, name = packet:byte(), packet:match("CLASSIC (%u+)")
    if command == proxy.COM_STMT_EXECUTE then
      return classic("EXECUTED")
    elseif command == proxy.COM_FIELD_LIST then
      return classic("FIELDS")
    elseif name and packet:find("LATER") then
      later = name
      proxy.queries:append(1, "\3SELECT 1")
      return proxy.PROXY_SEND_QUERY
    elseif name and command == proxy.COM_QUERY then
      return classic(name)
    end
    local kind, text = packet:match("^\3(%u+) (.*)")
    if kind == "ANSWER" then
      proxy.response = setfenv(assert(loadstring("return " .. text)), constants)()
      return proxy.PROXY_SEND_RESULT
    elseif kind == "RUN" then
      setfenv(assert(loadstring(text)), constants)()
      return proxy.PROXY_SEND_RESULT
    elseif kind == "COUNT" or kind == "NOTHING" then
      proxy.queries:append(1, (packet:gsub("COUNT ", "")))
      return proxy.PROXY_SEND_QUERY
    end
  end
  function read_query_result(inj)
    if later then
      return classic(later)
    elseif inj.query:find("NOTHING") then
      proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = {} }
      return proxy.PROXY_SEND_RESULT
    end
    local fields = inj.resultset.fields
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = #fields .. " fields, " .. fields[#fields].name }
    return proxy.PROXY_SEND_RESULT
  end
]]

local FAILED = "\255\81\4#07000(lua) handling proxy.response failed, check error-log"
local DEPRECATE_EOF = proto.capabilities.CLIENT_DEPRECATE_EOF
local EOF = "\254\0\0\2\0"

local function lenenc(text)
  return packet.to_lenenc_string(text)
end

-- A column definition as documented: catalog, three empty names, the name, an empty one, 12 bytes.
local function column(name, kind)
  return "\3def\0\0\0" .. lenenc(name) .. "\0\12\8\0\32\0\0\0" .. string.char(kind) .. "\2\0\0\0\0"
end

for _, server in ipairs(servers.all()) do
  describe("an answer made by a script, in front of " .. server.name .. ",", function()
    local series, client

    setup(function()
      series = scripted.series(server)
    end)

    teardown(function()
      series:stop()
    end)

    before_each(function()
      series:run(SCRIPT)
      client = series:login()
    end)

    after_each(function()
      assert.same({ { "alive" } }, client:ask("SELECT 'alive'").rows)
      assert.same({}, series:leave())
    end)

    -- The payloads of an answer of so many packets, which have to be numbered from 1.
    local function payloads(count)
      local list = {}
      for index = 1, count do
        local payload, sequence = client:packet()
        assert.equal(index % 256, sequence)
        list[index] = payload
      end
      return unpack(list)
    end

    local function answer(expression, count)
      client:send("\3ANSWER " .. expression)
      return payloads(count or 1)
    end

    local function rows(expression, fields)
      return client:ask(("ANSWER { type = OK, resultset = { fields = { %s }, rows = %s } }"):format(
        ("{ name = 'x', type = STRING }, "):rep(fields or 1), expression)).rows
    end

    it("is an OK packet", function()
      assert.equal("\0\0\0\2\0\0\0", answer "{ type = OK }")
      assert.equal("\0\2\10\2\0\0\0", answer "{ type = OK, affected_rows = 2, insert_id = 10 }")
      assert.equal("\0\252\44\1\10\2\0\0\0", answer "{ type = '0', affected_rows = '300', insert_id = '10' }")
      for _, value in ipairs { "'18446744073709551615'", "18446744073709551615" } do
        assert.equal("\0\0\254" .. ("\255"):rep(8) .. "\2\0\0\0",
          answer(("{ type = OK, insert_id = %s }"):format(value)))
      end
      for _, value in ipairs { "'x'", "7", "true" } do
        assert.equal("\0\0\0\2\0\0\0", answer(("{ type = OK, resultset = %s, errmsg = 'no' }"):format(value)))
      end
      client:send "\3RUN proxy.response.type = OK proxy.response.affected_rows = 3"
      assert.equal("\0\3\0\2\0\0\0", payloads(1))
      client:send "\3RUN proxy.response = { type = OK, affected_rows = 4 }"
      assert.equal("\0\4\0\2\0\0\0", payloads(1))
      client:send "\3RUN seen = proxy.response == proxy.response and proxy.response; proxy.response = nil; \
        taken = proxy.response; proxy.response = { type = OK, affected_rows = next(seen) or taken and 1 or 5 }"
      assert.equal("\0\5\0\2\0\0\0", payloads(1))
    end)

    it("says nothing of the transaction that the server is in", function()
      client:ask("BEGIN")
      local status = client:ask("DO 1").server_status
      assert.equal(1, status % 2)
      assert.equal(2, client:ask("ANSWER { type = OK }").server_status)
      assert.equal(1, client:ask("DO 1").server_status % 2)
      client:ask("ROLLBACK")
    end)

    it("is an ERR packet", function()
      for expression, expected in pairs {
        ["errmsg = \"I'm a error\""] = "\255\81\4#07000I'm a error",
        ["errmsg = 42"] = "\255\81\4#0700042",
        ["errmsg = ''"] = "\255\81\4#07000",
        ["errmsg = 'x', errcode = 3306, sqlstate = 'xyz12'"] = "\255\234\12#xyz12x",
        ["errmsg = 'x', errcode = '3306', sqlstate = 'xyz12'"] = "\255\234\12#xyz12x",
        ["errmsg = 'x', errcode = '2222', sqlstate = '123ab'"] = "\255\174\8#123abx",
        ["errmsg = 'x', sqlstate = 54321"] = "\255\81\4#54321x",
        ["errmsg = '', errcode = '0000'"] = "\255\0\0#07000",
        ["errmsg = 'x', errcode = 65536 + 7"] = "\255\7\0#07000x",
        ["errmsg = 'x', sqlstate = '123'"] = "\255\81\4#123  x",
        ["errmsg = 'x', sqlstate = '1234567'"] = "\255\81\4#12345x",
        ["errmsg = 'x', errno = 1040"] = "\255\81\4#07000x",
        ["errcode = 3306, sqlstate = 'xyz12'"] = "\255\81\4#07000(lua) proxy.response.errmsg is nil",
        ["errmsg = {}, errcode = 3306"] = "\255\81\4#07000(lua) proxy.response.errmsg is nil",
        ["errmsg = ('x'):rep(600)"] = "\255\81\4#07000" .. ("x"):rep(512),
      } do
        assert.equal(expected, answer(("{ type = ERR, %s }"):format(expression)), expression)
      end
    end)

    it("is a result set", function()
      assert.same({
        "\2", column("id", 3), column("name", 254), EOF, "\0017\0036.5", "\251\1x", EOF,
      }, { answer([[{ type = OK, affected_rows = 7, resultset = {
        fields = { { name = "id", type = LONG, mine = 1 }, { name = "name", type = STRING } },
        rows = { { 7, 6.5, "too much" }, { nil, "x" } } } }]], 7) })
      assert.same({ "\1", column("x", 254), EOF, EOF },
        { answer("{ type = OK, resultset = { fields = { { name = 'x', type = STRING } }, rows = {} } }", 4) })
      client:send("\3RUN proxy.response.type = OK proxy.response.resultset = { "
        .. "fields = { { name = 'y', type = DATE } }, rows = { { 1 } } }")
      assert.same({ "\1", column("y", 10), EOF, "\0011", EOF }, { payloads(5) })
    end)

    it("has cells of any kind", function()
      assert.same({ {} }, rows("{ { nil } }"))
      assert.same({ { "1", nil, "1" } }, rows("{ { '1', nil, '1' } }", 3))
      assert.same({ { [3] = "x" }, { "y" }, {} }, rows("{ { nil, nil, 'x' }, { 'y' }, {} }", 3))
      assert.same({ { "1", "1.5", "3", "1099511627776", "-0.25" } }, rows("{ { 1, 1.5, 3.0, 2^40, -0.25 } }", 5))
      assert.same({ {} }, rows("{ { true, false, {}, print } }", 4))
      assert.same({ { "a" }, { "b" } }, rows("{ { 'a' }, { 'b' }, nil, { 'c' } }"))
      assert.same({ { "nul\0nul", "" } }, rows("{ { 'nul\\0nul', '' } }", 2))
      for _, length in ipairs { 249, 250, 251, 252, 253, 254, 255, 256, 300, 65535, 65536, 2 ^ 24 + 5 } do
        assert.same({ { ("x"):rep(length), "after" } }, rows(("{ { ('x'):rep(%d), 'after' } }"):format(length), 2))
      end
    end)

    it("has names of any length, and any number of fields", function()
      for length = 249, 256 do
        local name = ("n"):rep(length)
        assert.same({ "\1", column(name, 254), EOF, EOF }, { answer(("{ type = OK, resultset = { "
          .. "fields = { { name = '%s', type = STRING } }, rows = {} } }"):format(name), 4) })
      end
      for _, count in ipairs { 249, 250, 251, 252, 253, 254, 255, 256 } do
        local made = rows(("{ { %s } }"):format(("'v', "):rep(count)), count)
        assert.equal(count, #made[1])
        local sql = ("COUNT SELECT %s1 AS last"):format(("1, "):rep(count - 1))
        assert.equal(count .. " fields, last", client:ask(sql).errmsg)
      end
      assert.equal("\252\251\0", (answer(("{ type = OK, resultset = { fields = { %s }, rows = {} } }"):format(
        ("{ name = 'x', type = STRING }, "):rep(251)), 254)))
    end)

    it("has defaults for a field that says too little, and the log says so", function()
      assert.same({ "\2", column("no-field-name", 3), column("b", 254), EOF, "\1x\1y", EOF }, { answer([[{ type = OK,
        resultset = { fields = { { type = LONG }, { name = "b" } }, rows = { { "x", "y" } } } }]], 6) })
      local text = "(warning) proxy.response.type = OK, but proxy.response.resultset.fields[%d].%s"
      series:logs(text:format(1, "name is not a string (is nil), using default\n"), true)
      series:logs(text:format(2, "type is not a integer (is nil), using MYSQL_TYPE_STRING\n"), true)
    end)

    it("is whatever packets it is made of", function()
      assert.equal("\255\16\39#99999raw", answer "{ type = RAW, packets = { '\\255\\16\\39#99999raw' } }")
      assert.equal("anything", answer "{ type = RAW, packets = { 'anything' } }")
      local first, status = "\1", "\254\0\0\10\0" -- SERVER_MORE_RESULTS_EXISTS
      assert.same({ first, column("x", 3), status, "\0011", status, "\0\5\0\2\0\0\0" }, { answer(([[{ type = RAW,
        packets = { "\1", %q, %q, "\0011", %q, "\0\5\0\2\0\0\0" } }]]):format(column("x", 3), status, status), 6) })
      client:send "\3ANSWER { type = RAW, packets = { ('x'):rep(2^24 + 3), 'after' } }"
      local long, last = client:packet() -- in two pieces
      assert.same({ 2 ^ 24 + 3, 2 }, { #long, last })
      assert.same({ "after", 3 }, { client:packet() })
    end)

    it("may be nothing, with a warning, whatever it answers", function()
      client:send "\3ANSWER { type = RAW, packets = {} }"
      series:logs("(warning) proxy.response.packets is empty", true)
      client:send "\3NOTHING instead of an answer"
      assert.equal("", client:rest())
    end)

    it("that cannot be understood is an error, and the log says why", function()
      local script = series.proxy.script
      local field = "fields = { { name = 'x', type = STRING } }"
      for expression, text in pairs {
        ["nil"] = "proxy.response isn't set in " .. script,
        ["5"] = "proxy.response has to be a table, is number in " .. script,
        ["{}"] = "proxy.response.type isn't set in " .. script,
        ["{ errmsg = 'x' }"] = "proxy.response.type isn't set in " .. script,
        ["{ type = {} }"] = "proxy.response.type has to be a number, is table in " .. script,
        ["{ type = 'OK' }"] = "proxy.response.type has to be a number, is string in " .. script,
        ["{ type = 17 }"] = "proxy.response.type is unknown: 17",
        ["{ type = EOF }"] = "proxy.response.type is unknown: 254",
        ["{ type = RAW }"] = "proxy.response.packets isn't set in " .. script,
        ["{ type = RAW, packets = 'x' }"] = "proxy.response.packets has to be a table, is string in " .. script,
        ["{ type = RAW, packets = { 'x', {} } }"] = "proxy.response.packets[2] should be a string, but is a table",
        ["{ type = OK, resultset = {} }"] = "proxy.response.resultset.fields should be a table, but is a nil",
        ["{ type = OK, resultset = { fields = 'x', rows = {} } }"]
          = "proxy.response.resultset.fields should be a table, but is a string",
        ["{ type = OK, resultset = { fields = {}, rows = {} } }"]
          = "proxy.response.resultset.fields should be a table of fields, but is empty",
        ["{ type = OK, resultset = { fields = { {}, 'x' }, rows = {} } }"]
          = "proxy.response.resultset.fields[2] should be a table, but is a string",
        ["{ type = OK, resultset = { " .. field .. " } }"]
          = "proxy.response.resultset.rows should be a table, but is a nil",
        ["{ type = OK, resultset = { " .. field .. ", rows = 7 } }"]
          = "proxy.response.resultset.rows should be a table, but is a number",
        ["{ type = OK, resultset = { " .. field .. ", rows = { {}, 'x' } } }"]
          = "proxy.response.resultset.rows[2] should be a table, but is a string",
      } do
        assert.equal(FAILED, answer(expression), expression)
        series:logs("(message) " .. text, true)
      end
    end)

    it("has the form that the client has agreed upon, if the script wrote the classic one", function()
      local modern = series:login("nopass", DEPRECATE_EOF)
      local A, B = "\3def\0\0\0\1a\1a\12\8\0\32\0\0\0\253\0\0\0\0\0", "\3abc"
      local MORE, OK_AS_EOF, OK_WITH_MORE = "\254\0\0\10\0", "\254\0\0\2\0\0\0", "\254\0\0\10\0\0\0"
      for command, answers in pairs {
        ["\3CLASSIC ONE"] = { { "\1", A, EOF, B, "\251", EOF }, { "\1", A, B, "\251", OK_AS_EOF } },
        ["\3LATER CLASSIC ONE"] = { { "\1", A, EOF, B, "\251", EOF }, { "\1", A, B, "\251", OK_AS_EOF } },
        ["\3CLASSIC TWO"] = {
          { "\1", A, MORE, B, MORE, "\1", A, EOF, "\3def", EOF },
          { "\1", A, B, OK_WITH_MORE, "\1", A, "\3def", OK_AS_EOF },
        },
        ["\3CLASSIC FAILS"] = {
          { "\1", A, EOF, B, "\255\81\4#07000failed" }, { "\1", A, B, "\255\81\4#07000failed" },
        },
        ["\23\1\0\0\0\0\1\0\0\0"] = { { "\1", A, EOF, "\0\0" .. B, EOF }, { "\1", A, "\0\0" .. B, OK_AS_EOF } },
        ["\4t\0"] = { { A .. "\251", EOF }, { A .. "\251", OK_AS_EOF } },
      } do
        for i, who in ipairs { client, modern } do
          who:send(command)
          for number, expected in ipairs(answers[i]) do
            assert.same({ expected, number }, { who:packet() }, command)
          end
        end
      end
    end)

    it("is sent byte for byte if a script wrote the form of today, or no answer", function()
      local modern = series:login("nopass", DEPRECATE_EOF)
      local A, OK_AS_EOF = column("a", 253), "\254\0\0\2\0\0\0"
      for _, packets in ipairs {
        { "\1", A, "\3abc", OK_AS_EOF }, { "\1", A, OK_AS_EOF }, { "\1", A, EOF }, { "\1", A, EOF, "\3ab", EOF },
        { "\1\1", A, EOF, EOF }, { "\10greeting" }, { EOF }, { "\0\0\0\2\0\0\0", EOF }, { "x", "y", "" },
      } do
        local list = {}
        for i, text in ipairs(packets) do
          list[i] = ("%q"):format(text):gsub("\\000", "\\0")
        end
        modern:send(("\3ANSWER { type = RAW, packets = { %s } }"):format(table.concat(list, ", ")))
        for number, expected in ipairs(packets) do
          assert.same({ expected, number }, { modern:packet() })
        end
      end
    end)

    local function shows(statement, ...)
      local program, args = server:client()
      for _, list in ipairs { server.clear_text, server:login(series.proxy.port), { ... }, { "-e", statement } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    it("in the classic form is shown by the server's own client, and by others", function()
      assert.equal("a\nabc\nNULL\n", shows("CLASSIC ONE", "-B"))
      assert.equal("a\nabc\nNULL\n", shows("LATER CLASSIC ONE", "-B"))
      assert.equal("a\nabc\na\ndef\n", shows("CLASSIC TWO", "-B"))
      assert.matches("ERROR 1105 %(07000%) at line 1: failed\n", shows("CLASSIC FAILS", "-B"))
      local code, output, errors = process.run("/usr/bin/perl", { "-MDBI", "-e", ([[
        my $db = DBI->connect("DBI:mysql:host=127.0.0.1;port=%d", "nopass", "", { RaiseError => 1 });
        for my $name ("ONE", "TWO") {
          print join(" ", map { $_->[0] // "NULL" } @{ $db->selectall_arrayref("CLASSIC $name") }), "\n";
        }]]):format(series.proxy.port) })
      assert.equal("", errors)
      assert.same({ 0, "abc NULL\nabc\n" }, { code, output })
      code, output, errors = process.run("/usr/bin/python3", { "-c", ([[
import pymysql
c = pymysql.connect(host="127.0.0.1", port=%d, user="nopass", password="")
with c.cursor() as cursor:
    cursor.execute("CLASSIC ONE")
    print(cursor.fetchall())
    cursor.execute("CLASSIC TWO")
    print(cursor.fetchall(), cursor.nextset(), cursor.fetchall(), cursor.nextset())
]]):format(series.proxy.port) })
      assert.equal("", errors)
      assert.same({ 0, "(('abc',), (None,))\n(('abc',),) True (('def',),) None\n" }, { code, output })
    end)

    it("is shown by the server's own client", function()
      assert.equal("a\tb\tc\n1\tNULL\t1.5\n2\tNULL\tx\n", shows([[ANSWER { type = OK, resultset = {
        fields = { { name = "a", type = LONG }, { name = "b", type = STRING }, { name = "c", type = STRING } },
        rows = { { 1, nil, 1.5 }, { "2", true, "x" } } } }]], "-B"))
      assert.matches("Query OK, 2 rows affected", shows("ANSWER { type = OK, affected_rows = 2 }", "-vvv"))
      assert.matches("ERROR 3306 %(xyz12%) at line 1: x\n",
        shows("ANSWER { type = ERR, errmsg = 'x', errcode = '3306', sqlstate = 'xyz12' }"))
      assert.matches("ERROR 1105 %(07000%) at line 1: I'm a error\n",
        shows('ANSWER { type = ERR, errmsg = "I\'m a error" }'))
      assert.matches("ERROR 1105 %(07000%) at line 1: %(lua%) proxy.response.errmsg is nil\n",
        shows("ANSWER { type = ERR }"))
      assert.matches("ERROR 1105 %(07000%) at line 1: %(lua%) handling proxy.response failed, check error%-log\n",
        shows("ANSWER { type = 17 }"))
      assert.equal(("x\n%s\n"):format(("y"):rep(300)), shows("ANSWER { type = OK, resultset = { "
        .. "fields = { { name = 'x', type = STRING } }, rows = { { ('y'):rep(300) } } } }", "-B"))
    end)

    it("reports its insert id to a connector", function()
      local code, output, errors = process.run("/usr/bin/python3", { "-c", ([[
import pymysql
c = pymysql.connect(host="127.0.0.1", port=%d, user="nopass", password="")
with c.cursor() as cursor:
    print(cursor.execute("ANSWER { type = OK, affected_rows = 2, insert_id = 10 }"), cursor.lastrowid)
    cursor.execute("""ANSWER { type = OK, resultset = {
      fields = { { name = 'n', type = LONG } }, rows = { { 1 }, { nil } } } }""")
    print(cursor.fetchall())
]]):format(series.proxy.port) })
      assert.equal("", errors)
      assert.equal("2 10\n((1,), (None,))\n", output)
      assert.equal(0, code)
    end)
  end)
end
