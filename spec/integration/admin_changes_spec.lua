-- The admin interface: what an operator changes while the proxy runs.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

describe("an operator", function()
  local server, proxy, admin, here

  local function rows(sql)
    return raw.text_of(admin:ask(sql))
  end

  -- Runs a change. Returns how many rows it has changed.
  local function change(sql)
    local answer = admin:ask(sql)
    assert(answer.affected_rows, answer.errmsg)
    return answer.affected_rows
  end

  local function failure(sql)
    local answer = admin:ask(sql)
    return { answer.errcode, answer.sqlstate, answer.errmsg }
  end

  local function client()
    return raw.connect(proxy.port):login("nopass")
  end

  local function works(one)
    return one:ask("SELECT 42").rows[1][1] == "42"
  end

  local function logged(text)
    assert.truthy(proxy:log():find("%(critical%) admin interface: operator@127%.0%.0%.1:%d+ has "
      .. text:gsub("[%p]", "%%%0")), text)
  end

  setup(function()
    server = servers.all()[1]
    here = "127.0.0.1:" .. server.port
  end)

  before_each(function()
    proxy = proxies.start { server }
    admin = raw.connect(proxy.admin_port):login("operator")
  end)

  after_each(function()
    admin:close()
    assert.equal(0, proxy:stop())
  end)

  describe("who changes the state of a backend", function()
    it("drains it: its sessions go on, and there are no new ones", function()
      local old = client()
      assert.equal(1, change("UPDATE backends SET state = 'draining' WHERE address = '" .. here .. "'"))
      logged("set the state of backend " .. here .. " to draining")
      assert.equal("draining,1", rows("SELECT state, connected_clients FROM backends"))
      assert.is_true(works(old))
      assert.equal("(proxy) all backends are down", client().refused.errmsg)
      assert.equal(1, change("UPDATE backends SET state = 'up'"))
      assert.equal("up", rows("SELECT state FROM backends"))
      assert.is_true(works(client()))
      assert.is_true(works(old))
    end)

    it("takes it down: its sessions end, and it stays down", function()
      local old = client()
      assert.equal(1, change("UPDATE backends SET state = 'down'"))
      assert(old:wait_for_end())
      assert.equal("down,0", rows("SELECT state, connected_clients FROM backends"))
      assert.equal(1105, client().refused.errcode)
      change("UPDATE backends SET state = 'UP'")
      assert.is_true(works(client()))
    end)

    it("is told what a state is, and which rows there were", function()
      assert.same({ 1366, "HY000", "Incorrect value for column 'state': 'up', 'down' or 'draining' expected" },
        failure("UPDATE backends SET state = 'sideways'"))
      assert.same({ 1348, "HY000", "Column 'address' is not updatable" },
        failure("UPDATE backends SET state = 'down', address = 'x'"))
      assert.same({ 1054, "42S22", "Unknown column 'nothing' in 'field list'" },
        failure("UPDATE backends SET nothing = 1"))
      assert.same({ 1054, "42S22", "Unknown column 'nothing' in 'where clause'" },
        failure("UPDATE backends SET state = 'down' WHERE nothing = 1"))
      assert.same({ 1288, "HY000", "The target table sessions of the UPDATE is not updatable" },
        failure("UPDATE sessions SET user = 'x'"))
      assert.same({ 1146, "42S02", "Table 'proxy.nowhere' doesn't exist" }, failure("UPDATE nowhere SET a = 1"))
      assert.equal(0, change("UPDATE backends SET state = 'down' WHERE backend_ndx = 7"))
      assert.is_true(works(client()))
    end)
  end)

  describe("who adds and deletes backends", function()
    local second -- the same server, by another way

    before_each(function()
      second = server.socket or "localhost.:" .. server.port
    end)

    it("gets clients to the new one, and the old one leaves with its last session", function()
      local old = client()
      assert.equal(1, change(("INSERT INTO backends (address, type) VALUES ('%s', 'rw')"):format(second)))
      logged("added the backend " .. second)
      assert.equal(("1,%s,rw 2,%s,rw"):format(here, second), rows("SELECT backend_ndx, address, type FROM backends"))
      assert.equal(1, change("DELETE FROM backends WHERE backend_ndx = 1"))
      logged("deleted the backend " .. here)
      assert.equal("1,draining,1", rows("SELECT backend_ndx, state, connected_clients FROM backends WHERE address = '"
        .. here .. "'"))
      local new = client()
      assert.is_true(works(new))
      assert.is_true(works(old))
      assert.equal(second, rows("SELECT backend FROM sessions WHERE port = 'proxy' ORDER BY id DESC LIMIT 1"))
      old:close()
      assert(process.wait_until(function()
        return rows("SELECT backend_ndx, address FROM backends") == "2," .. second
      end, 10))
      assert.is_true(works(new))
      assert.equal("proxy.backend_addresses[0]," .. second,
        rows("SELECT * FROM proxy_config WHERE option LIKE 'proxy.backend%'"))
      change(("INSERT INTO backends (address) VALUES ('%s')"):format(here)) -- gets the index that is free
      assert.equal("1 2", rows("SELECT backend_ndx FROM backends"))
      new:close()
    end)

    it("may take a deletion back while it drains", function()
      local old = client()
      change("DELETE FROM backends")
      change("UPDATE backends SET state = 'up'")
      old:close()
      assert.is_true(works(client()))
      assert.equal("1", rows("SELECT COUNT(*) FROM backends"))
    end)

    it("gets readers to the first one for them", function()
      change(("INSERT INTO backends (type, address) VALUES ('ro', '%s')"):format(second))
      local reader = raw.connect(proxy.read_only_port):login("nopass")
      assert.is_true(works(reader))
      assert.equal(second, rows("SELECT backend FROM sessions WHERE port = 'read-only proxy'"))
      change("UPDATE backends SET type = 'rw' WHERE type = 'ro'")
      local other = raw.connect(proxy.read_only_port):login("nopass")
      assert.equal("2", rows("SELECT COUNT(*) FROM sessions WHERE port = 'read-only proxy'"))
      reader:close()
      other:close()
    end)

    it("is told what is wrong, and then none is added", function()
      for statement, wanted in pairs {
        ["INSERT INTO backends (address) VALUES ('%s')"] = {
          1062, "23000", ("backend %s is already known!"):format(here),
        },
        ["INSERT INTO backends (address) VALUES ('127.0.0.1:2'), ('%s')"] = {
          1062, "23000", ("backend %s is already known!"):format(here),
        },
        ["INSERT INTO backends (address, type) VALUES ('%s', 'wo')"] = {
          1366, "HY000", "Incorrect value for column 'type': 'rw' or 'ro' expected",
        },
        ["INSERT INTO backends (address) VALUES ('a:99999')"] = {
          1366, "HY000", "Incorrect value for column 'address': illegal value 99999 for port, only 1 ... 65535 allowed",
        },
        ["INSERT INTO backends (type) VALUES ('rw')"] = {
          1364, "HY000", "Field 'address' doesn't have a default value",
        },
        ["INSERT INTO backends (address, type) VALUES ('a:1')"] = {
          1136, "21S01", "Column count doesn't match value count at row 1",
        },
        ["INSERT INTO backends (state) VALUES ('up')"] = { 1348, "HY000", "Column 'state' is not updatable" },
        ["INSERT INTO sessions (id) VALUES (1)"] = {
          1471, "HY000", "The target table sessions of the INSERT is not insertable-into",
        },
        ["DELETE FROM sessions"] = { 1288, "HY000", "The target table sessions of the DELETE is not updatable" },
      } do
        assert.same(wanted, failure(statement:format(here)), statement)
      end
      assert.equal(here, rows("SELECT address FROM backends"))
    end)

    it("disturbs nobody under load", function()
      local clients = {}
      for index = 1, 20 do
        clients[index] = client()
      end
      for _ = 1, 5 do
        change(("INSERT INTO backends (address) VALUES ('%s')"):format(second))
        local new = client()
        change("UPDATE backends SET state = 'draining' WHERE address = '" .. second .. "'")
        for _, each in ipairs(clients) do
          each:send("\3SELECT 42")
        end
        change("DELETE FROM backends WHERE address = '" .. second .. "'")
        for _, each in ipairs(clients) do
          assert.equal("42", each:answer(each:packet()).rows[1][1])
        end
        assert.is_true(works(new))
        new:close()
        assert(process.wait_until(function()
          return rows("SELECT COUNT(*) FROM backends") == "1"
        end, 10))
      end
    end)
  end)

  describe("who kills", function()
    it("ends a session and no other", function()
      local victim, other = client(), client()
      local id = rows("SELECT MIN(id) FROM sessions WHERE port = 'proxy'")
      assert.equal(0, change("KILL " .. id))
      logged("killed session " .. id)
      assert(victim:wait_for_end())
      assert.is_true(works(other))
      victim = client()
      change("KILL CONNECTION " .. rows("SELECT MAX(id) FROM sessions"))
      assert(victim:wait_for_end())
      assert.same({ 1094, "HY000", "Unknown thread id: 999999" }, failure("KILL 999999"))
      other:close()
    end)

    it("ends another operator's session, or his own", function()
      local other = raw.connect(proxy.admin_port):login("other")
      change("KILL " .. rows("SELECT id FROM sessions WHERE user = 'other'"))
      assert(other:wait_for_end())
      change("KILL " .. rows("SELECT CONNECTION_ID()"))
      assert(admin:wait_for_end())
    end)

    it("stops a statement, with an account of the server", function()
      admin:close()
      admin = raw.connect(proxy.admin_port):login("nopass")
      local victim = client()
      victim:send("\3SELECT SLEEP(1000)")
      assert(process.wait_until(function()
        return rows("SELECT COUNT(*) FROM sessions WHERE command = 'Query' AND port = 'proxy'") == "1"
      end, 10))
      change("KILL QUERY " .. rows("SELECT id FROM sessions WHERE port = 'proxy'"))
      local answer = victim:answer(victim:packet())
      assert.truthy(answer.errcode or answer.rows[1][1] == "1")
      assert.is_true(works(victim))
      victim:close()
    end)

    it("is told why a statement cannot be stopped", function()
      local victim = client()
      local id = rows("SELECT id FROM sessions WHERE port = 'proxy'")
      local err = failure("KILL QUERY " .. id)
      assert.equal(1105, err[1])
      assert.truthy(err[3]:find(("To stop a statement the proxy logs in at %s as 'operator', which has failed: Access")
        :format(here), 1, true), err[3])
      logged("not killed the statement of session " .. id)
      assert.is_nil(proxy:log():find("has killed", 1, true))
      assert.is_true(works(victim))
      assert.same({ 1094, "HY000", "Unknown thread id: 999999" }, failure("KILL QUERY 999999"))
      victim:close()
    end)
  end)

  describe("who sets an option", function()
    it("changes the log's level at once", function()
      assert.equal(0, change("SET log_level = 'warning'"))
      logged("set log_level from 'debug' to 'warning'")
      assert.equal("warning", rows("SELECT @@log_level"))
      assert.equal("3", rows("SELECT SUM(written) FROM log_levels"))
      local before = proxy:log()
      client():close()
      assert.equal(before, proxy:log())
      change("SET GLOBAL log_level = debug")
      client():close()
      assert(proxy:wait_for_log("set log_level from 'warning' to 'debug'.*%(debug%) session"))
    end)

    it("gives new clients another script, or none", function()
      local old = client()
      local path = process.write_file(process.path("script.lua"), [[
        function read_query(packet)
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "from the script" }
          return proxy.PROXY_SEND_RESULT
        end]])
      change(("SET proxy_lua_script = '%s'"):format(path))
      logged("set proxy_lua_script from NULL to '" .. path .. "'")
      local new = client()
      assert.equal("from the script", new:ask("SELECT 1").errmsg)
      assert.is_true(works(old))
      assert.equal(path .. ",1,1,NULL", rows("SELECT file, version, loaded_at <= NOW(), last_error FROM script"))
      assert.equal("proxy.lua_script," .. path, rows("SELECT * FROM proxy_config WHERE option = 'proxy.lua_script'"))
      assert.equal(0, change("RELOAD"))
      logged("reloaded " .. path)
      process.write_file(path, "function read_query(")
      assert.truthy(failure("RELOAD SCRIPT")[3]:find("'<name>' or '...' expected near '<eof>'", 1, true)
        or failure("RELOAD SCRIPT")[3]:find("<eof>", 1, true))
      assert.equal("1", rows("SELECT last_error LIKE '%<eof>%' FROM script"))
      assert.equal(1105, failure(("SET proxy_lua_script = '%s'"):format(path))[1])
      change("SET proxy_lua_script = NULL")
      assert.is_true(works(client()))
      assert.equal("from the script", new:ask("SELECT 1").errmsg)
      assert.equal("", rows("SELECT * FROM script"))
    end)

    it("changes limits for new clients", function()
      change("SET max_connections = 1, proxy_read_timeout = 100.5, proxy.hook_timeout = 5, proxy_command_limit = 9")
      assert.equal("1,100.5,5,9",
        rows("SELECT @@max_connections, @@proxy_read_timeout, @@proxy_hook_timeout, @@proxy_command_limit"))
      local one = client()
      assert.equal(1040, client().refused.errcode)
      one:close()
    end)

    it("can say it as an UPDATE of proxy_config", function()
      assert.equal(1, change("UPDATE proxy_config SET value = 0 WHERE option = 'proxy.profiling'"))
      assert.equal("OFF", rows("SELECT @@proxy_profiling"))
      assert.equal(1, change("UPDATE proxy_config SET value = '1' WHERE option = \"proxy.profiling\""))
      assert.equal("proxy.profiling,1", rows("SELECT * FROM proxy_config WHERE option = 'proxy.profiling'"))
      assert.same({ 1238, "HY000", "Variable 'proxy_address' is a read only variable" },
        failure("UPDATE proxy_config SET value = 'x' WHERE option = 'proxy.address'"))
    end)

    it("is told what is wrong", function()
      for statement, wanted in pairs {
        ["SET log_level = 'loud'"] = { 1231, "42000", "Variable 'log_level' can't be set to the value of 'loud'" },
        ["SET log_level = NULL"] = { 1231, "42000", "Variable 'log_level' can't be set to the value of 'NULL'" },
        ["SET proxy_profiling = 2"] = { 1231, "42000", "Variable 'proxy_profiling' can't be set to the value of '2'" },
        ["SET max_connections = -1"] = {
          1231, "42000", "Variable 'max_connections' can't be set to the value of '-1'",
        },
        ["SET proxy_connect_timeout = 0"] = {
          1231, "42000", "Variable 'proxy_connect_timeout' can't be set to the value of '0'",
        },
        ["SET proxy_lua_script = 'x.lua'"] = {
          1231, "42000", "Variable 'proxy_lua_script' has to be an absolute path, or NULL for no script",
        },
        ["SET slow_query_time = 1"] = {
          1105, "HY000", "There is no slow log: --slow-query-log was not given at the start",
        },
        ["SET proxy_address = 'x'"] = { 1238, "HY000", "Variable 'proxy_address' is a read only variable" },
      } do
        assert.same(wanted, failure(statement), statement)
      end
    end)
  end)

  it("shuts the proxy down", function()
    local old = client()
    assert.equal(0, change("SHUTDOWN"))
    assert.equal(0, proxy.process:wait(20))
    logged("shut the proxy down")
    assert(old:wait_for_end())
    assert(admin:wait_for_end())
  end)
end)
