-- --admin-lua-script: a script answers the admin port, as it did in 0.7 and 0.8. This one is written from the
-- description of their admin.lua.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"

local USER, PASSWORD = "root", "secret"
local SCRIPT = [[
local states = { [0] = "unknown", "up", "down" }
local types = { [0] = "unknown", "rw", "ro" }

function set_error(errmsg)
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = errmsg or "error" }
end

function read_query(packet)
  if packet:byte() ~= proxy.COM_QUERY then
    set_error("[admin] we only handle text-based queries (COM_QUERY)")
    return proxy.PROXY_SEND_RESULT
  end
  local query = packet:sub(2)
  local fields, rows = {}, {}
  if query:lower() == "select * from backends" then
    fields = {
      { name = "backend_ndx", type = proxy.MYSQL_TYPE_LONG }, { name = "address", type = proxy.MYSQL_TYPE_STRING },
      { name = "state", type = proxy.MYSQL_TYPE_STRING }, { name = "type", type = proxy.MYSQL_TYPE_STRING },
      { name = "uuid", type = proxy.MYSQL_TYPE_STRING }, { name = "connected_clients", type = proxy.MYSQL_TYPE_LONG },
    }
    for i = 1, #proxy.global.backends do
      local b = proxy.global.backends[i]
      rows[#rows + 1] = { i, b.dst.name, states[b.state], types[b.type], b.uuid, b.connected_clients }
    end
  elseif query:lower() == "select * from help" then
    fields = {
      { name = "command", type = proxy.MYSQL_TYPE_STRING }, { name = "description", type = proxy.MYSQL_TYPE_STRING },
    }
    rows[#rows + 1] = { "SELECT * FROM help", "shows this help" }
    rows[#rows + 1] = { "SELECT * FROM backends", "lists the backends and their state" }
  elseif query == "who" then
    fields = { { name = "who" } }
    rows = { { proxy.connection.client.username .. " " .. proxy.connection.backend_ndx .. " "
      .. tostring(proxy.connection.server) } }
  elseif query == "packets" then -- as scripts wrote them before there was anything to negotiate
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = {
      "\1", "\3def\0\0\0\1a\1a\12\8\0\32\0\0\0\253\0\0\0\0\0", "\254\0\0\2\0", "\3abc", "\254\0\0\2\0" } }
    return proxy.PROXY_SEND_RESULT
  elseif query == "shared" then
    fields = { { name = "shared" } }
    rows = { { tostring(proxy.global.shared) } }
  elseif query == "wait" then
    proxy.async.sleep(20)
    fields = { { name = "waited" } }
    rows = { { "1" } }
  elseif query == "nothing" then
    return
  elseif query == "something" then
    return proxy.PROXY_SEND_QUERY
  elseif query == "fail" then
    error("on purpose")
  elseif query == "" then
    set_error("an empty one")
    return proxy.PROXY_SEND_RESULT
  else
    set_error("use 'SELECT * FROM help' to see the supported commands")
    return proxy.PROXY_SEND_RESULT
  end
  proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = rows } }
  return proxy.PROXY_SEND_RESULT
end
]]

describe("--admin-lua-script", function()
  local proxy, script, server

  local function ask(sql)
    return process.run("mariadb", {
      "--no-defaults", "-h127.0.0.1", "-P" .. proxy.admin_port, "-u" .. USER, "-p" .. PASSWORD, "-B", "-e", sql,
    }, { seconds = 20 })
  end

  -- The error that a statement gets.
  local function refusal(sql)
    local code, _, errors = ask(sql)
    assert.equal(1, code)
    return errors:match("ERROR ([^\n]+)")
  end

  setup(function()
    server = servers.all()[1]
    script = process.write_file(process.path("admin.lua"), SCRIPT)
    proxy = proxies.start({ server }, {
      "--admin-username=" .. USER, "--admin-password=" .. PASSWORD, "--admin-lua-script=" .. script,
      "--proxy-lua-script=" .. process.write_file(process.path("proxy.lua"), "proxy.global.shared = 'both see this'"),
    })
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
  end)

  it("has the script answer, which sees the backends", function()
    local code, output, errors = ask("SELECT * FROM backends")
    assert.equal(0, code, errors)
    assert.equal(("backend_ndx\taddress\tstate\ttype\tuuid\tconnected_clients\n1\t127.0.0.1:%d\tunknown\trw\tNULL\t0\n")
      :format(server.port), output)
    assert.equal("command\tdescription\nSELECT * FROM help\tshows this help\nSELECT * FROM backends\tlists the "
      .. "backends and their state\n", (select(2, ask("select * from HELP"))))
    assert.equal("1105 (07000) at line 1: use 'SELECT * FROM help' to see the supported commands", refusal("SELECT 1"))
  end)

  it("shows the rows that the script has written as packets", function()
    local code, output, errors = ask("packets")
    assert.same({ 0, "a\nabc\n" }, { code, output }, errors)
  end)

  it("shares proxy.global with the proxy's script", function()
    server:sql("SELECT 1", proxy.port)
    assert.equal("shared\nboth see this\n", (select(2, ask("shared"))))
  end)

  it("lets it know who asks, and wait", function()
    assert.equal("who\nroot 0 nil\n", (select(2, ask("who"))))
    assert.equal("waited\n1\n", (select(2, ask("wait"))))
  end)

  it("gives an error and closes when the script does not answer", function()
    assert.equal("1105 (07000) at line 1: need a resultset + proxy.PROXY_SEND_RESULT", refusal("nothing"))
    assert.equal("1105 (07000) at line 1: need a resultset + proxy.PROXY_SEND_RESULT ... got something else",
      refusal("something"))
    assert.equal("1105 (07000) at line 1: need a resultset + proxy.PROXY_SEND_RESULT", refusal("fail"))
    assert.truthy(proxy:log():find('(read_query) [string "', 1, true))
    assert.truthy(proxy:log():find("on purpose", 1, true))
  end)

  it("still asks for the password", function()
    local code, _, errors = process.run("mariadb", {
      "--no-defaults", "-h127.0.0.1", "-P" .. proxy.admin_port, "-u" .. USER, "-pwrong", "-e", "SELECT * FROM help",
    })
    assert.equal(1, code)
    assert.truthy(errors:find("ERROR 1045 (28000)", 1, true))
  end)

  it("reads the script anew when it has changed, and tells clients when it cannot", function()
    process.write_file(script, "function read_query(")
    local _, _, errors = ask("SELECT 1")
    assert.truthy(errors:find("MySQL Proxy Lua script failed to load. Check the error log.", 1, true), errors)
    process.write_file(script, "error('at its top level')")
    _, _, errors = ask("SELECT 1")
    assert.truthy(errors:find("MySQL Proxy Lua script failed to execute. Check the error log.", 1, true), errors)
    assert.truthy(proxy:log():find("at its top level", 1, true))
    process.write_file(script, SCRIPT)
    assert.equal(0, (ask("SELECT * FROM help")))
  end)

  it("gets commands of other kinds too, the empty statement and COM_QUIT", function()
    local seen = process.path("seen")
    process.write_file(script, ([[
      function read_query(packet)
        local file = io.open("%s", "a")
        file:write(packet:byte(), ",")
        file:close()
        proxy.response = { type = proxy.MYSQLD_PACKET_OK }
        return proxy.PROXY_SEND_RESULT
      end]]):format(seen))
    local code, output, errors = process.run("/usr/bin/python3", { "-c", [[
import sys, pymysql
c = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user=sys.argv[2], password=sys.argv[3], autocommit=None)
c.query("")
c.ping(reconnect=False)
c.close()
]], tostring(proxy.admin_port), USER, PASSWORD })
    assert.equal(0, code, output .. errors)
    assert(process.wait_until(function()
      return process.read_file(seen):find("3,14,1,$")
    end, 10), process.read_file(seen))
    process.write_file(script, SCRIPT)
  end)

  it("needs a name and a password", function()
    for _, options in ipairs { {}, { "--admin-username=a" }, { "--admin-username=a", "--admin-password=" } } do
      local started = process.start(proxies.build .. "/mysql-proxy", {
        "--admin-lua-script=" .. script, "--admin-address=127.0.0.1:0", unpack(options),
      })
      assert.equal(1, (started:wait(20)))
      assert.truthy(started:stderr():find("%-%-admin%-%w+ needs to be set") or
        started:stderr():find("--admin-password cannot be empty", 1, true), started:stderr())
    end
  end)
end)
