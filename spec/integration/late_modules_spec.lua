-- A package that is upgraded while the program runs: until its restart, the program is the old one in all its parts.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local SCRIPT = [[
  function read_query(packet)
    proxy.queries:append(1, packet, { resultset_is_needed = true })
    return proxy.PROXY_SEND_QUERY
  end
  function read_query_result(inj)
    return inj.resultset.fields[1] and nil
  end
]]

-- Copies the build's program and modules to a folder.
local function install(folder)
  local code, _, errors = process.run("sh", { "-c", ('mkdir -p "$1/lib" && cp "$0/mysql-proxy" "$1" && '
    .. 'cp -rL "$0/lib/mysql-proxy" "$1/lib"'), proxies.build, folder })
  assert(code == 0, errors)
end

-- Puts another file in the place of each module, as a package manager does it.
local function upgrade(folder)
  local code, output, errors = process.run("sh", { "-c", ([[
    find "$0/lib" -type f | while read -r file; do
      echo 'error("a newer version")' >"$file.new" && mv "$file.new" "$file" && echo "$file"
    done]]), folder })
  assert(code == 0, errors)
  assert.truthy(output:find("/mysql-proxy/admin/session.lua\n", 1, true), output)
  assert.truthy(output:find("/mysql-proxy/read_only.lua\n", 1, true), output)
end

-- What an operator gets who gives a statement to the client that he has: output and errors.
local function ask_operator(proxy, sql)
  local code, output, errors = process.run("mariadb", {
    "--no-defaults", "--host=127.0.0.1", "--port=" .. proxy.admin_port, "--user=native", "--password=secret",
    "--batch", "--skip-column-names", "-e", sql,
  })
  return code == 0, output, errors
end

describe("a program whose files have been replaced by a newer version's", function()
  local server, proxy, folder, script, defaults

  setup(function()
    server = servers.all()[1]
    folder = process.path("installed")
    install(folder)
    script = process.write_file(process.path("script.lua"), SCRIPT)
    defaults = process.write_file(process.path("proxy.cnf"), "[mysql-proxy]\nproxy-connect-timeout = 5\n")
    assert(require("luv").fs_chmod(defaults, tonumber("600", 8)))
    proxy = proxies.start({ server }, {
      "--defaults-file=" .. defaults, "--proxy-lua-script=" .. script, "--admin-username=native",
      "--admin-password=secret", -- a user of the server too, as KILL QUERY needs it
    }, folder)
    upgrade(folder)
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
    assert.is_nil(proxy:log():match("[^\n]*a newer version[^\n]*"))
    assert.is_nil(proxy:log():match("error in a callback[^\n]*\n[^\n]*"))
  end)

  local function ask(sql)
    local ok, output, errors = ask_operator(proxy, sql)
    assert(ok, sql .. ": " .. errors)
    return output
  end

  it("still shows an operator all its tables", function()
    local statements = {}
    for name in ask("SHOW TABLES"):gmatch("[^\n]+") do
      table.insert(statements, ("SELECT * FROM %s; SHOW FULL COLUMNS FROM %s"):format(name, name))
    end
    assert.is_true(#statements >= 10, #statements)
    local all = ask(table.concat(statements, ";"))
    assert.truthy(all:find("SHOW TABLES\tlists the tables", 1, true), all)
    assert.equal(("127.0.0.1:%d\t0\n"):format(server.port),
      ask("SELECT address, connected_clients * 2 FROM backends WHERE type LIKE 'R%' ORDER BY UPPER(address) LIMIT 5"))
    assert.equal("1\n", ask("SELECT COUNT(*) FROM backends GROUP BY type"))
    assert.equal("help\n", ask("SELECT table_name FROM information_schema.tables WHERE table_name = 'help'"))
  end)

  it("still does what an operator says", function()
    assert.truthy(ask("SHOW STATUS"):find("\nUptime\t", 1, true))
    assert.truthy(ask("SHOW PROCESSLIST"):find("native", 1, true))
    ask("SET log_level = 'message'")
    assert.equal("log_level\tmessage\n", ask("SHOW VARIABLES LIKE 'log_level'"))
    assert.truthy(ask("SHOW VARIABLES"):find("\nproxy_connect_timeout\t5\n", 1, true))
    ask("INSERT INTO backends (address, type) VALUES ('127.0.0.1:1', 'rw')")
    ask("UPDATE backends SET state = 'draining' WHERE address = '127.0.0.1:1'")
    ask("DELETE FROM backends WHERE address = '127.0.0.1:1'")
    ask("TRUNCATE TABLE query_digests")
    ask("RELOAD SCRIPT")
    process.write_file(defaults, "[mysql-proxy]\nproxy-connect-timeout = 7\n")
    ask("RELOAD DEFAULTS FILE; SHOW WARNINGS")
    ask("RELOAD")
    assert.equal("proxy_connect_timeout\t7\n", ask("SHOW VARIABLES LIKE 'proxy_connect_timeout'"))
    local admin = raw.connect(proxy.admin_port)
    assert.equal(1045, admin:login("operator").refused.errcode)
    admin:close()
  end)

  it("still ends sessions and statements", function()
    local busy = raw.connect(proxy.port):login("nopass")
    local address = busy.socket:getsockname()
    local id = ask(("SELECT id FROM sessions WHERE client = '127.0.0.1:%d'"):format(address.port)):match("%d+")
    busy:send("\3SELECT SLEEP(100)")
    assert(process.wait_until(function()
      return ask("SELECT state FROM sessions WHERE id = " .. id) == "read_query_result\n"
    end))
    ask("KILL QUERY " .. id)
    assert.truthy(busy:packet())
    ask("KILL " .. id)
    assert.truthy(busy:wait_for_end())
    busy:close()
  end)

  it("still lets nobody write through the port for readers", function()
    local reader = raw.connect(proxy.read_only_port):login("nopass")
    assert.same({ { "42" } }, reader:ask("SELECT 42").rows)
    local refused = reader:ask("INSERT INTO test.nowhere VALUES (1)")
    assert.equal(1290, refused.errcode)
    assert.truthy(refused.errmsg:find("INSERT", 1, true))
    assert.same({ { "43" } }, reader:ask("SELECT 43").rows)
    reader:close()
  end)

  it("still calls the script", function()
    local client = raw.connect(proxy.port):login("nopass")
    assert.same({ { "42" } }, client:ask("SELECT 42").rows)
    client:close()
    assert.is_nil(proxy:log():match("%(critical%) %(read_query[^\n]*"))
  end)
end)

describe("a program of several processes, without a script, whose files have been replaced", function()
  local proxy, folder

  setup(function()
    folder = process.path("installed")
    install(folder)
    proxy = proxies.start({ servers.all()[1] }, {
      "--workers=2", "--admin-username=native", "--admin-password=secret",
    }, folder)
    upgrade(folder)
  end)

  teardown(function()
    assert.equal(0, proxy:stop())
  end)

  it("still gets a script, and goes on if the newer version does not start", function()
    local script = process.write_file(process.path("script.lua"), SCRIPT)
    local ok, _, errors = ask_operator(proxy, ("SET proxy_lua_script = '%s'"):format(script))
    assert(ok, errors)
    ok, _, errors = ask_operator(proxy, "RESTART")
    assert.is_false(ok)
    assert.truthy(errors:find("a newer version", 1, true), errors)
    local client = raw.connect(proxy.port):login("nopass")
    assert.same({ { "42" } }, client:ask("SELECT 42").rows)
    client:close()
    assert.is_nil(proxy:log():match("error in a callback[^\n]*\n[^\n]*"))
    assert.is_nil(proxy:log():match("no answer[^\n]*"))
  end)
end)
