-- The admin interface: who gets in, and with which clients.

local connectors = require "spec.support.connectors"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local here = "spec/integration/clients/"
local USER, PASSWORD = "operator", "a secret"
local NOWHERE = "127.0.0.1:1" -- of a backend that nobody asks for anything

local programs = {
  ["PyMySQL"] = function()
    return "/usr/bin/python3", { here .. "admin_client.py" }
  end,
  ["npm's mysql2"] = function()
    return "node", { here .. "admin_mysql2.js" }, connectors.node
  end,
  ["npm's mariadb"] = function()
    return "node", { here .. "admin_mariadb.js" }, connectors.node
  end,
  ["Go's driver"] = function()
    return connectors.go("go-admin", here .. "go_admin"), {}
  end,
  ["MariaDB Connector/J"] = function()
    return "java", connectors.java("AdminClient", here .. "AdminClient.java")
  end,
}

local function append(list, more)
  for _, each in ipairs(more) do
    list[#list + 1] = each
  end
  return list
end

local flavours = { "mariadb", servers.has_mysql() and "mysql" or nil }

-- A flavour's command line client.
local function client(flavour, port, user, password, more)
  local program, args = servers.flavours[flavour].client()
  append(args, { "-h127.0.0.1", "-P" .. port, "-u" .. user, "--password=" .. password })
  append(append(args, servers.flavours[flavour].clear_text), more)
  return program, args
end

local function start_fails(...)
  local process_ = process.start(proxies.build .. "/mysql-proxy", {
    "--proxy-address=127.0.0.1:0", "--proxy-read-only-address=127.0.0.1:0", ...,
  })
  assert.equal(1, (process_:wait(20)))
  return process_:stderr()
end

describe("the admin interface with a login", function()
  local proxy

  setup(function()
    proxy = proxies.start({ NOWHERE }, { "--admin-username=" .. USER, "--admin-password=" .. PASSWORD })
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
  end)

  for name, program_of in pairs(programs) do
    it("serves " .. name, function()
      local program, args, more = program_of()
      append(args, { "127.0.0.1", tostring(proxy.admin_port), USER, PASSWORD })
      local code, output, errors = process.run(program, args, { seconds = 60, env = more and
        connectors.environment(more) })
      assert.equal(0, code, output .. errors)
      assert.equal("1 1 ü\nunknown\n1146\n1045\n", output, errors)
    end)
  end

  for _, flavour in ipairs(flavours) do
    it(("serves the %s command line"):format(flavour), function()
      local program, args = client(flavour, proxy.admin_port, USER, PASSWORD, {
        "-B", "-e", "USE proxy; SELECT COUNT(*) AS n FROM backends; SHOW WARNINGS; SELECT USER()",
      })
      local code, output, errors = process.run(program, args)
      assert.equal(0, code, errors)
      assert.equal("n\n1\nUSER()\noperator@127.0.0.1\n", output)
      program, args = client(flavour, proxy.admin_port, USER, "wrong", { "-e", "SELECT 1" })
      code, _, errors = process.run(program, args)
      assert.equal(1, code)
      local refusal = "ERROR 1045 (28000): Access denied for user 'operator'@'127.0.0.1' (using password: YES)"
      assert.truthy(errors:find(refusal, 1, true), errors)
    end)

    it(("serves the %s command line on a terminal, which asks for all columns"):format(flavour), function()
      local input = process.write_file(process.path("typed"), table.concat({
        "SELECT * FROM proxy_connections;", "USE proxy", "SELEC;", "\\s", "quit", "",
      }, "\n"))
      local program, args = client(flavour, proxy.admin_port, USER, PASSWORD, { "proxy" })
      local quoted = { "TERM=dumb", program }
      for _, argument in ipairs(args) do
        quoted[#quoted + 1] = "'" .. argument .. "'"
      end
      local code, output, errors = process.run("script", { "-qec", table.concat(quoted, " "), "/dev/null" }, {
        input = input, seconds = 60,
      })
      assert.equal(0, code, output .. errors)
      assert.truthy(output:find("Reading table information for completion", 1, true), output)
      assert.truthy(output:find("| proxy  | 0 ", 1, true), output)
      assert.truthy(output:find("near 'SELEC' at line 1", 1, true), output)
      assert.truthy(output:find("mysql-proxy", 1, true), output)
      assert.is_nil(output:find("Didn't find any fields", 1, true))
    end)
  end

  it("refuses others with one text, and says so in the log", function()
    local texts = {}
    for index, login in ipairs { { USER, "wrong" }, { "nobody", PASSWORD }, { USER, "" } } do
      local program, args = client("mariadb", proxy.admin_port, login[1], login[2], { "-e", "SELECT 1" })
      local code, _, errors = process.run(program, args)
      assert.equal(1, code)
      texts[index] = errors:match("ERROR %d+ %(28000%): (.-)%s*$"):gsub(login[1], "NAME")
    end
    assert.equal("Access denied for user 'NAME'@'127.0.0.1' (using password: YES)", texts[1])
    assert.equal(texts[1], texts[2])
    assert.equal("Access denied for user 'NAME'@'127.0.0.1' (using password: NO)", texts[3])
    assert.truthy(proxy:log():find("login as 'nobody' failed", 1, true))
    assert.is_nil(proxy:log():find(PASSWORD, 1, true))
  end)

  it("asks anew with COM_CHANGE_USER", function()
    local code, output, errors = process.run("/usr/bin/python3", { "-c", [[
import sys, pymysql
c = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user=sys.argv[2], password=sys.argv[3])
c._execute_command(17, b"nobody\0\0proxy\0\x2d\0mysql_native_password\0")
try:
    c._read_packet()
except pymysql.MySQLError as error:
    print(error.args[0])
]], tostring(proxy.admin_port), USER, PASSWORD })
    assert.equal(0, code, errors)
    assert.equal("1045\n", output)
  end)
end)

describe("the admin interface without a login", function()
  local proxy

  setup(function()
    proxy = proxies.start { NOWHERE }
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
  end)

  for _, flavour in ipairs(flavours) do
    for _, login in ipairs { { "root", "" }, { "anybody", "anything" } } do
      it(("lets in anybody with the %s command line: %s"):format(flavour, login[1]), function()
        local program, args = client(flavour, proxy.admin_port, login[1], login[2], { "-BN", "-e", "SELECT USER()" })
        local code, output, errors = process.run(program, args)
        assert.equal(0, code, errors)
        assert.equal(login[1] .. "@127.0.0.1\n", output)
      end)
    end
  end

  it("has no more than 200 clients, and goes on", function()
    local crowd = {}
    for index = 1, 200 do
      crowd[index] = raw.connect(proxy.admin_port)
    end
    assert.equal(10, crowd[200]:packet():byte())
    assert.equal(1040, raw.connect(proxy.admin_port):login("root").refused.errcode)
    for _, each in ipairs(crowd) do
      each:close()
    end
    assert(process.wait_until(function()
      local one = raw.connect(proxy.admin_port):login("root")
      one:close()
      return not one.refused
    end, 10))
  end)

  it("gives a client that does not log in ten seconds", function()
    local silent = raw.connect(proxy.admin_port)
    silent:packet()
    assert(silent:wait_for_end())
    silent:close()
  end)
end)

describe("the admin interface", function()
  it("is refused on other addresses without a login", function()
    for _, address in ipairs { "0.0.0.0:0", "[::]:0" } do
      assert.equal(("mysql-proxy: --admin-address=%s: without --admin-username and --admin-password the admin "
        .. "interface is only offered on loopback, such as 127.0.0.1:4041, or on a unix socket\n"):format(address),
        start_fails("--admin-address=" .. address))
    end
  end)

  it("is on loopback alone where its address names no host, unless there is a login", function()
    local login = { "--admin-username=a", "--admin-password=b" }
    for listens, options in pairs { ["127.0.0.1"] = {}, ["0.0.0.0"] = login } do
      local port = process.free_port()
      local proxy = proxies.start({ NOWHERE }, { "--admin-address=:" .. port, unpack(options) })
      assert.truthy(proxy:log():find(("admin-server listening on port %s:%d\n"):format(listens, port), 1, true))
      assert.equal(0, proxy:stop())
    end
  end)

  it("needs both a name and a password", function()
    local address = "--admin-address=127.0.0.1:0"
    assert.equal("mysql-proxy: --admin-password needs to be set\n", start_fails(address, "--admin-username=a"))
    assert.equal("mysql-proxy: --admin-username needs to be set\n", start_fails(address, "--admin-password=a"))
    assert.equal("mysql-proxy: --admin-password cannot be empty\n",
      start_fails(address, "--admin-username=a", "--admin-password="))
  end)

  it("is on any address with one, and on unix sockets without", function()
    local socket = process.path("admin.sock")
    local proxy = proxies.start({ NOWHERE }, { "--admin-address=" .. socket })
    local code, output, errors = process.run("mariadb", { "--no-defaults", "-S" .. socket, "-BN", "-e",
      "SELECT USER(), COUNT(*) FROM proxy_connections" })
    assert.equal(0, code, errors)
    assert.truthy(output:find("@localhost\t4", 1, true), output) -- two listeners of its own
    assert.equal(0, proxy:stop())
    proxy = proxies.start({ NOWHERE }, { "--admin-address=0.0.0.0:0", "--admin-username=a", "--admin-password=b" })
    assert.equal(0, proxy:stop())
  end)

  it("is not there with --plugins=proxy, and alone with --plugins=admin", function()
    local proxy = proxies.start({ NOWHERE }, { "--plugins=proxy" })
    assert.is_false(process.accepts(proxy.admin_port))
    assert.equal(0, proxy:stop())
    proxy = proxies.start({ NOWHERE }, { "--plugins=admin" })
    assert.is_false(process.accepts(proxy.port))
    local admin = raw.connect(proxy.admin_port):login("root")
    assert.equal("1", admin:ask("SELECT 1").rows[1][1])
    admin:close()
    assert.equal(0, proxy:stop())
  end)
end)
