-- The admin interface: what its tables and statements tell of a running proxy. (How SQL is read and evaluated is shown
-- in spec/lua/admin_grammar_spec.lua and admin_select_spec.lua.)

local process = require "spec.support.process"
local proto = require "mysql.proto"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

describe("the admin interface", function()
  local server, proxy, admin

  local function rows(sql)
    return raw.text_of(admin:ask(sql))
  end

  setup(function()
    server = servers.all()[1]
    proxy = proxies.start({ server }, { "--max-connections=3" })
    admin = raw.connect(proxy.admin_port):login("operator")
  end)

  teardown(function()
    admin:close()
    assert.equal(0, proxy:stop())
  end)

  describe("proxy_connections", function()
    it("has what the manual shows", function()
      local answer = admin:ask("select * from proxy_connections")
      assert.same({ "id", "type", "state", "db" }, answer.names)
      assert.equal("0,server,0, 1,proxy,0, 2,server,10,", raw.text_of(answer))
      assert.equal("0,server,0, 1,proxy,0, 2,server,10,", rows("SELECT * FROM `proxy_connections` ;"))
    end)

    it("has the proxy's clients, in their states", function()
      local idle, busy = raw.connect(proxy.port):login("nopass"), raw.connect(proxy.port):login("nopass")
      local silent = raw.connect(proxy.port)
      silent:packet()
      busy:send("\3SELECT SLEEP(100)")
      assert(process.wait_until(function()
        return rows("SELECT id, type, state FROM proxy_connections WHERE id > 2") == "3,proxy,10 4,proxy,12 5,proxy,4"
      end, 10), rows("SELECT * FROM proxy_connections"))
      idle:close()
      busy:close()
      silent:close()
      assert(process.wait_until(function()
        return rows("SELECT COUNT(*) FROM proxy_connections") == "3"
      end, 10))
    end)
  end)

  it("has in proxy_config what the manual shows", function()
    local answer = admin:ask("select * from proxy_config")
    assert.same({ "option", "value" }, answer.names)
    assert.same({
      { "admin.address", "127.0.0.1:" .. proxy.admin_port },
      { "proxy.address", "127.0.0.1:" .. proxy.port },
      { "proxy.lua_script" },
      { "proxy.backend_addresses[0]", "127.0.0.1:" .. server.port },
      { "proxy.fix_bug_25371", "0" },
      { "proxy.profiling", "1" },
    }, answer.rows)
  end)

  it("has in backends what admin.lua of 0.8 had, and more", function()
    local client = raw.connect(proxy.port):login("nopass")
    local answer = admin:ask("SELECT * FROM backends")
    assert.same({ "backend_ndx", "address", "state", "type", "uuid", "connected_clients" },
      { unpack(answer.names, 1, 6) })
    assert.same({ "1", "127.0.0.1:" .. server.port, "up", "rw", nil, "1" }, { unpack(answer.rows[1], 1, 6) })
    assert.equal("0,NULL,NULL", rows("SELECT idle_connections, down_since, last_error FROM backends"))
    client:close()
  end)

  it("has in sessions who does what", function()
    local client = raw.connect(proxy.port):login("nopass")
    client:ask("SELECT REPEAT('x', 1000)")
    local address = client.socket:getsockname()
    local where = (" FROM sessions WHERE client = '127.0.0.1:%d'"):format(address.port)
    assert.equal(("nopass,,127.0.0.1:%d,read_query,Sleep,1,0,proxy"):format(server.port),
      rows("SELECT user, db, backend, state, command, commands, in_transaction, port" .. where))
    assert.equal("1", rows("SELECT bytes_from_client BETWEEN 20 AND 50 AND bytes_from_server BETWEEN 1000 AND 2000"
      .. where))
    assert.equal("1", rows("SELECT time < 60" .. where))
    client:ask("BEGIN")
    assert.equal("1,2", rows("SELECT in_transaction, commands" .. where))
    client:ask("COMMIT")
    assert.equal("0", rows("SELECT in_transaction" .. where))
    client:send("\3SELECT SLEEP(100), 'of sessions'")
    assert(process.wait_until(function()
      return rows("SELECT state, command" .. where) == "read_query_result,Query"
    end, 10))
    local id = rows("SELECT id" .. where)
    assert.equal(id .. ",nopass,NULL,Query", (rows("SHOW PROCESSLIST"):match(id .. ",nopass,[^ ]*"):gsub(
      "127.0.0.1:%d+,NULL,Query.*", "NULL,Query")))
    assert.truthy(rows("SHOW FULL PROCESSLIST"):find("read_query_result,SELECT SLEEP( ? ) , ?", 1, true))
    local running = rows("SELECT digest, text" .. where)
    assert.matches("^%x+,SELECT SLEEP%( %? %) , %?$", running)
    admin:ask("KILL " .. id)
    -- The server would look for its client only seconds later.
    server:sql("KILL " .. server:sql("SELECT id FROM information_schema.processlist WHERE info LIKE "
      .. "'SELECT SLEEP(100), %'"):match("%d+"))
    assert.equal(running, rows("SELECT digest, text FROM query_digests WHERE text LIKE '%SLEEP% , ?'"))
    assert.equal("1,0", rows("SELECT count, errors FROM query_digests WHERE text LIKE '%SLEEP% , ?'"))
    client:close()
    assert(process.wait_until(function()
      return rows("SELECT COUNT(*)" .. where) == "0"
    end, 10))
    assert.equal("operator,commands,Query,admin", rows("SELECT user, state, command, port FROM sessions "
      .. "WHERE id = CONNECTION_ID()"))
  end)

  it("has in errors what clients were told", function()
    local refused = raw.connect(proxy.port):login("nobody_of_this_name")
    assert.truthy(refused.refused.errcode)
    local barred = raw.connect(proxy.read_only_port):login("nopass")
    assert.equal(1290, barred:ask("DROP TABLE x").errcode)
    local crowd = {}
    for index = 1, 3 do
      crowd[index] = raw.connect(proxy.port)
    end
    assert(process.wait_until(function()
      return rows("SELECT COUNT(*) FROM errors WHERE code = 1040") == "1"
    end, 10))
    assert.equal(("%d,nobody_of_this_name,127.0.0.1:%d"):format(refused.refused.errcode, server.port),
      rows("SELECT code, user, backend FROM errors WHERE user = 'nobody_of_this_name'"))
    assert.equal("1290,HY000,nopass,1",
      rows("SELECT code, sqlstate, user, text LIKE '%read-only%DROP' FROM errors WHERE user = 'nopass'"))
    assert.equal("1", rows("SELECT time <= NOW() AND client LIKE '127.0.0.1:%' FROM errors WHERE code = 1040"))
    for _, each in ipairs { barred, unpack(crowd) } do
      each:close()
    end
  end)

  it("counts in status", function()
    local before = tonumber(rows("SELECT Value FROM status WHERE Variable_name = 'Questions'"))
    local client = raw.connect(proxy.port):login("nopass")
    client:ask("SELECT 1")
    assert.equal("Threads_connected,1 Threads_running,0", rows("SHOW STATUS LIKE 'threads%'"))
    client:send("\1")
    client:wait_for_end()
    assert(process.wait_until(function()
      return rows("SHOW GLOBAL STATUS LIKE 'threads_connected'") == "Threads_connected,0"
    end, 10))
    assert.is_true(tonumber(rows("SELECT Value FROM status WHERE Variable_name = 'Questions'")) > before)
    for _, name in ipairs { "Bytes_received", "Bytes_sent", "Connections", "Max_used_connections" } do
      assert.equal("1", rows(("SELECT Value > 0 FROM status WHERE Variable_name = '%s'"):format(name)), name)
    end
    admin:send("\9")
    assert.truthy(admin:packet():find("^Uptime: %d+  Threads: 0  Questions: %d+"))
  end)

  it("has options and a server's usual variables in variables", function()
    assert.equal("proxy_address,127.0.0.1:" .. proxy.port, rows("SHOW VARIABLES LIKE 'proxy_address'"))
    assert.equal("max_connections,3", rows("SHOW GLOBAL VARIABLES WHERE Variable_name = 'max_connections'"))
    assert.equal("3,debug", rows("SELECT @@max_connections, @@GLOBAL.log_level"))
    assert.equal("utf8mb4", rows("SELECT @@session.character_set_client"))
    assert.equal("mysql-proxy admin", rows("SELECT @@version_comment LIMIT 1"))
    assert.equal("1", rows("SELECT VERSION() LIKE '8.0.11-mysql-proxy-%' AND VERSION() = @@version"))
    assert.equal("operator@127.0.0.1,NULL", rows("SELECT USER(), DATABASE()"))
    assert.equal("", rows("SHOW VARIABLES LIKE '%password%'"))
  end)

  it("has the levels of the log", function()
    assert.equal("error,1 critical,1 warning,1 message,1 info,1 debug,1", rows("SELECT * FROM log_levels"))
  end)

  it("has nothing in script without one", function()
    assert.equal("", rows("SELECT * FROM script"))
  end)

  it("says what can be said", function()
    local all = rows("SELECT * FROM help")
    assert.equal(1, (all:find("SELECT * FROM help,shows this help SELECT * FROM backends,lists the backends and their "
      .. "state", 1, true)))
    assert.equal(all, rows("help"))
  end)

  it("shows tables and their columns", function()
    assert.equal("backends command_latency commands errors help hooks log_levels proxy_config proxy_connections "
      .. "query_digests script sessions status variables",
      rows("SHOW TABLES"))
    assert.equal("backends,BASE TABLE", rows("SHOW FULL TABLES FROM proxy LIKE 'b%'"))
    assert.equal("information_schema proxy", rows("SHOW DATABASES"))
    assert.equal("proxy", rows("SHOW SCHEMAS LIKE 'prox_'"))
    assert.equal("option,varchar(255),YES,,NULL, value,varchar(255),YES,,NULL,", rows("SHOW COLUMNS FROM proxy_config"))
    assert.equal(rows("SHOW FIELDS FROM proxy_config"), rows("DESCRIBE proxy_config"))
    assert.equal("id,int,YES,,NULL,", rows("DESC proxy_connections id"))
    assert.equal("level,varchar(255),utf8mb4_general_ci,YES,,NULL,,select,the most important first",
      rows("SHOW FULL COLUMNS FROM log_levels LIKE 'lev%'"))
    assert.truthy(rows("SHOW CREATE TABLE proxy.help"):find("^help,CREATE TABLE `help` %("))
    assert.truthy(rows("SHOW TABLE STATUS LIKE 'help'"):find("statements of the admin interface", 1, true))
    assert.equal("backend_ndx,int,its index in scripts", rows([[SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_COMMENT
      FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'proxy' AND TABLE_NAME = 'backends'
      AND ORDINAL_POSITION = 1]]))
    assert.equal("help hooks", rows("SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'h%'"))
    assert.equal("information_schema proxy", rows("SELECT schema_name FROM information_schema.schemata"))
  end)

  it("answers what tools ask of any server", function()
    for _, statement in ipairs {
      "SHOW WARNINGS", "SHOW ENGINES", "SHOW PLUGINS", "SHOW COLLATION", "SHOW CHARACTER SET", "SHOW TRIGGERS",
      "SHOW INDEX FROM backends", "SHOW PROCEDURE STATUS", "SHOW EVENTS FROM proxy",
    } do
      assert.truthy(admin:ask(statement).rows, statement)
    end
    assert.equal("GRANT ALL PRIVILEGES ON *.* TO 'operator'@'127.0.0.1'", rows("SHOW GRANTS"))
    for _, statement in ipairs {
      "SET NAMES utf8mb4", "SET NAMES 'latin1' COLLATE latin1_swedish_ci", "SET autocommit=1, sql_mode='ANSI'",
      "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET character_set_results = NULL", "BEGIN", "COMMIT",
      "ROLLBACK", "START TRANSACTION", "SET @x = 1", "USE proxy", "/*!40101 SET NAMES utf8 */",
      "SET net_write_timeout=600",
    } do
      assert.equal(0, admin:ask(statement).affected_rows, statement)
    end
    assert.equal("proxy", rows("SELECT DATABASE()"))
  end)

  it("serves mysqladmin", function()
    local code, out, errors = process.run("mysqladmin", {
      "--no-defaults", "--host=127.0.0.1", "--port=" .. proxy.admin_port, "--user=operator", "ping", "status",
      "extended-status", "variables", "processlist",
    })
    assert(code == 0, errors)
    assert.matches("mysqld is alive.*Uptime: %d+ .*| Questions +| %d+ +|.*| log_level +| debug +|.*| operator |", out)
  end)

  it("refuses what is wrong with a server's errors, and goes on", function()
    for statement, wanted in pairs {
      ["SELECT * FROM nowhere"] = { 1146, "42S02", "Table 'proxy.nowhere' doesn't exist" },
      ["SELECT * FROM mysql.user"] = { 1146, "42S02", "Table 'mysql.user' doesn't exist" },
      ["DESCRIBE nowhere"] = { 1146, "42S02", "Table 'proxy.nowhere' doesn't exist" },
      ["SHOW TABLES FROM nowhere"] = { 1049, "42000", "Unknown database 'nowhere'" },
      ["SELECT nothing FROM backends"] = { 1054, "42S22", "Unknown column 'nothing' in 'field list'" },
      ["SHOW STATUS WHERE nothing = 1"] = { 1054, "42S22", "Unknown column 'nothing' in 'where clause'" },
      ["SELECT @@nothing"] = { 1193, "HY000", "Unknown system variable 'nothing'" },
      ["SET nothing = 1"] = { 1193, "HY000", "Unknown system variable 'nothing'" },
      ["SET version = 1"] = { 1238, "HY000", "Variable 'version' is a read only variable" },
      ["SELECT ?"] = { 1064, "42000" },
      ["SELECT 1; SELECT 2"] = { 1064, "42000" },
      [""] = { 1065, "42000", "Query was empty" },
    } do
      local answer = admin:ask(statement)
      assert.same({ wanted[1], wanted[2] }, { answer.errcode, answer.sqlstate }, statement)
      assert.equal(wanted[3] or answer.errmsg, answer.errmsg)
    end
    assert.truthy(admin:ask("SELECT *\nFROM backends WHER x").errmsg:find("near 'x' at line 2", 1, true))
    assert.equal("1", rows("SELECT 1"))
  end)

  it("answers commands of all kinds", function()
    local function answer(payload)
      admin:send(payload)
      return admin:answer(admin:packet())
    end
    assert.equal(0, answer("\14").affected_rows) -- COM_PING
    assert.equal(0, answer("\2elsewhere").affected_rows) -- COM_INIT_DB
    assert.equal("elsewhere", rows("SELECT DATABASE()"))
    assert.equal(0, answer("\31").affected_rows) -- COM_RESET_CONNECTION
    assert.equal(0, answer("\27\0\0").affected_rows) -- COM_SET_OPTION
    assert.truthy(raw.text_of(answer("\10")):find("operator", 1, true)) -- COM_PROCESS_INFO
    assert.equal(1094, answer("\12\255\255\0\0").errcode) -- COM_PROCESS_KILL
    for payload, code in pairs {
      [""] = 1835, ["\12\1"] = 1835, ["\28\1\0\0\0"] = 1047, ["\200"] = 1047, ["\0"] = 1047, ["\18"] = 1047,
      ["\23\1\2"] = 1243, ["\23\9\9\9\9\0\1\0\0\0"] = 1243, ["\26\9\9\9\9"] = 1243, ["\4nowhere\0"] = 1146,
    } do
      assert.equal(code, answer(payload).errcode, ("%q"):format(payload))
    end
    admin:send("\4proxy_config\0%") -- COM_FIELD_LIST
    assert.truthy(admin:packet():find("option", 1, true))
    assert.truthy(admin:packet():find("value", 1, true))
    assert.equal(0xfe, admin:packet():byte())
    assert.equal("1", rows("SELECT 1"))
  end)

  it("runs prepared statements", function()
    admin:send("\22SELECT backend_ndx, address, ? FROM backends WHERE backend_ndx = ? LIMIT ?")
    local prepared = proto.from_stmt_prepare_ok_packet(admin:packet())
    assert.same({ 0, 3 }, { prepared.num_columns, prepared.num_params })
    for _ = 1, 4 do -- three parameters and EOF
      admin:packet()
    end
    local id = string.char(prepared.stmt_id, 0, 0, 0)
    local function execute(rest)
      admin:send("\23" .. id .. "\0\1\0\0\0" .. rest)
      local first, payload = admin:packet(), nil
      if first:byte() == 0xff then
        return proto.from_err_packet(first)
      end
      for _ = 1, 3 + 1 + 1 do
        payload = admin:packet()
      end
      assert.equal(0xfe, admin:packet():byte())
      return payload
    end
    local address = ("127.0.0.1:%d"):format(server.port)
    local row = "\0\0\1\0\0\0" .. string.char(#address) .. address
    assert.equal(row .. "\1x", execute("\0\1\254\0\1\0\8\0\1x\1" .. "\1\0\0\0\0\0\0\0"))
    assert.equal(row .. "\1y", execute("\0\0\1y\1" .. "\1\0\0\0\0\0\0\0")) -- of the same types
    assert.equal("\0\16\1\0\0\0" .. string.char(#address) .. address, execute("\1\0\1" .. "\1\0\0\0\0\0\0\0")) -- NULL
    assert.equal(1835, execute("\0\1\254\0").errcode)
    assert.equal(1210, execute("\0\1\254\0\1\0\254\0\1x\1\1x").errcode) -- no number in LIMIT
    admin:send("\24" .. id .. "\0\0text") -- COM_STMT_SEND_LONG_DATA, without an answer
    assert.equal(1235, execute("\0\0").errcode)
    admin:send("\26" .. id)
    assert.equal(0, admin:packet():byte())
    assert.equal(row .. "\1z", execute("\0\1\254\0\1\0\8\0\1z\1" .. "\1\0\0\0\0\0\0\0"))
    admin:send("\25" .. id) -- COM_STMT_CLOSE, without an answer
    assert.equal(1243, execute("\0\0").errcode)
    admin:send("\22SELEC")
    assert.equal(1064, proto.from_err_packet(admin:packet()).errcode)
    for _ = 1, 100 do
      admin:send("\22SELECT 1")
      assert.equal(0, admin:packet():byte())
    end
    admin:send("\22SELECT 1")
    assert.equal(1461, proto.from_err_packet(admin:packet()).errcode)
    admin:send("\31")
    assert.equal(0, admin:packet():byte())
  end)

  it("refuses what is too long, and closes where packets are out of order or no packets", function()
    assert.truthy(admin:ask("SELECT " .. ("("):rep(2 ^ 20)).errmsg:find("may have 16384 bytes, this one has 1048583", 1,
      true))
    assert.equal(1064, admin:ask("SELECT " .. ("("):rep(16000)).errcode)
    assert.truthy(admin:ask("SELECT '" .. ("x"):rep(2 ^ 24) .. "'").errmsg:find("may have 16384 bytes", 1, true))
    assert.equal("1", rows("SELECT 1"))
    local other = raw.connect(proxy.admin_port):login("operator")
    local refusal = other:ask("SELECT '" .. ("x"):rep(20 * 2 ^ 20) .. "'")
    assert.same({ 1153, "08S01", "Got a packet bigger than the admin interface's limit of 17 MiB" },
      { refusal.errcode, refusal.sqlstate, refusal.errmsg })
    assert(other:wait_for_end())
    other:close()
    other = raw.connect(proxy.admin_port):login("operator")
    other:send("\3SELECT 1", 7)
    assert.equal(1156, proto.from_err_packet(other:packet()).errcode)
    assert(other:wait_for_end())
    other:close()
    other = raw.connect(proxy.admin_port)
    other:packet()
    other:write("GET / HTTP/1.1\r\n\r\n")
    assert(other:wait_for_end())
    other:close()
  end)

  it("does not heap up answers that a client does not read", function()
    local lazy = raw.connect(proxy.admin_port):login("operator")
    lazy:pause()
    for _ = 1, 3000 do
      lazy:send("\3SELECT * FROM nowhere")
      lazy:send("\3SELECT Variable_name, Value, '" .. ("x"):rep(1000) .. "' FROM variables")
    end
    for _ = 1, 100 do
      assert.equal("1", rows("SELECT 1"))
    end
    assert.equal("1", rows("SELECT commands BETWEEN 1 AND 1000 FROM sessions WHERE port = 'admin' "
      .. "AND id <> CONNECTION_ID()"))
    lazy:close()
  end)
end)
