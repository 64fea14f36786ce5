-- The admin interface: RELOAD of what the proxy was started with, and RESTART.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local SCRIPT = [[
  function read_query(packet)
    if packet == "\3WHICH" then
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = "%s" }
      return proxy.PROXY_SEND_RESULT
    end
  end]]

describe("an operator", function()
  local server, proxy, admin, file

  local function write(...)
    process.write_file(file, "[mysql-proxy]\n" .. table.concat({ ... }, "\n") .. "\n")
    uv.fs_chmod(file, tonumber("600", 8))
  end

  local function start(...)
    proxy = proxies.start({ server }, { ... })
    admin = raw.connect(proxy.admin_port):login("operator")
  end

  local function value(name)
    return admin:ask("SELECT @@" .. name).rows[1][1]
  end

  -- A statement's error, or its warnings.
  local function outcome(sql)
    local answer = admin:ask(sql)
    if answer.errcode then
      return ("%d %s"):format(answer.errcode, answer.errmsg)
    end
    local list = {}
    for index, row in ipairs(admin:ask("SHOW WARNINGS").rows) do
      list[index] = table.concat(row, " ")
    end
    assert.equal(#list, answer.warnings)
    return table.concat(list, "\n")
  end

  local function which()
    local client = raw.connect(proxy.port):login("nopass")
    local said = client:ask("WHICH").errmsg
    client:close()
    return said
  end

  setup(function()
    server = servers.all()[1]
  end)

  before_each(function()
    file = process.path("proxy.cnf")
  end)

  after_each(function()
    admin:close()
    assert.equal(0, proxy:stop())
  end)

  it("reloads the defaults file, as a start would read it, but for what needs a start", function()
    local one = process.write_file(process.path("one.lua"), SCRIPT:format("one"))
    local two = process.write_file(process.path("two.lua"), SCRIPT:format("two"))
    local first = { "proxy-lua-script = " .. one, "max-connections = 50", "proxy-read-timeout = 100",
      "proxy-hook-timeout = 9", "statistics-digests = 10", "log-level = critical" }
    write(unpack(first))
    start("--defaults-file=" .. file, "--proxy-hook-timeout=7")
    assert.equal("one", which())
    assert.equal("", outcome("RELOAD"))
    assert.matches("operator@127.0.0.1:%d+ has reloaded " .. file:gsub("%p", "%%%0"), proxy:log())

    write("proxy-lua-script = " .. two, "max-connections = 60", "proxy-skip-profiling = true",
      "proxy-connect-timeout = 0.5", "proxy-hook-timeout = 8", "statistics-digests = 20", "admin-password = secret",
      "color = red")
    uv.kill(proxy.pid, "sighup") -- is about the log only
    assert.is_string(proxy:wait_for_log("re%-opened log file after SIGHUP\n"))
    assert.same({ "one", "50" }, { which(), value "max_connections" })
    assert.equal(table.concat({
      "Warning 1193 " .. file .. ": there is no option color",
      "Warning 1238 statistics-digests is looked at when the program starts: it is as before until RESTART",
      "Warning 1238 admin-password is looked at when the program starts: it is as before until RESTART",
    }, "\n"), outcome("RELOAD DEFAULTS FILE"))
    assert.equal("two", which())
    assert.same({ "60", "28800", "0.5", "7", "OFF", "10", "debug" }, {
      value "max_connections", value "proxy_read_timeout", value "proxy_connect_timeout", value "proxy_hook_timeout",
      value "proxy_profiling", value "statistics_digests", value "log_level", -- of the command line
    })
    assert.matches("operator@127.0.0.1:%d+ has set max_connections from '50' to '60'", proxy:log())
    assert.matches("%(warning%) statistics%-digests is looked at when the program starts", proxy:log())
    assert.is_nil(proxy:log():find("secret", 1, true))
    assert.same({}, admin:ask("SHOW WARNINGS LIMIT 0").rows)
    admin:ask("DO nothing")
    assert.same({}, admin:ask("SHOW WARNINGS").rows)

    admin:ask("SET max_connections = 70")
    write(unpack(first))
    assert.equal("", outcome("reload"))
    assert.same({ "one", "50", "100", "ON" },
      { which(), value "max_connections", value "proxy_read_timeout", value "proxy_profiling" })
  end)

  it("changes nothing with a file or a script that is wrong, and is told where it is", function()
    local script = process.write_file(process.path("script.lua"), SCRIPT:format("first"))
    write("max-connections = 50", "proxy-lua-script = " .. script)
    start("--defaults-file=" .. file)
    for line, message in pairs {
      ["max-connections = many"] = "line 3: Key file contains key “max-connections” which has a value that cannot be "
        .. "interpreted.",
      ["some garbage"] = "line 3: Key file contains line “some garbage” which is not a key-value pair, group, or "
        .. "comment",
      ["proxy-connect-timeout = -1"] = "line 3: value -1 for --proxy-connect-timeout must be positive",
    } do
      write("proxy-read-timeout = 5", line)
      assert.equal(("1105 loading config from '%s' failed: %s"):format(file, message), outcome("RELOAD"))
    end
    process.write_file(script .. "2", "function read_query(")
    write("proxy-read-timeout = 5", "proxy-lua-script = " .. script .. "2")
    assert.matches("^1105 lua_load_file%(.-:1: .*<eof>", outcome("RELOAD"))
    os.remove(file)
    assert.equal(("1105 loading config from '%s' failed: cannot stat(%s): No such file or directory"):format(file,
      file), outcome("RELOAD DEFAULTS FILE"))
    assert.matches("%(critical%) admin interface: operator@%S+ has not reloaded " .. file:gsub("%p", "%%%0")
      .. ": loading", proxy:log())
    assert.is_nil(proxy:log():find("has reloaded", 1, true))
    assert.equal("", outcome("RELOAD SCRIPT"))
    assert.same({ "50", "28800", "first" }, { value "max_connections", value "proxy_read_timeout", which() })
  end)

  it("does so with all workers", function()
    local script = process.write_file(process.path("script.lua"), SCRIPT:format("of a worker"))
    write("max-connections = 50")
    start("--defaults-file=" .. file, "--workers=2")
    assert.is_nil(which():find("of a worker", 1, true))
    write("max-connections = 60", "proxy-lua-script = " .. script)
    assert.equal("", outcome("RELOAD"))
    assert.same({ "60", "10000", file }, { value "max_connections", value "statistics_digests", value "defaults_file" })
    for _ = 1, 8 do
      assert.equal("of a worker", which())
    end
    assert.equal(0, admin:ask("RESTART").affected_rows)
    local other = raw.connect(proxy.admin_port):login("operator")
    local new = tonumber(other:ask("SELECT @@pid").rows[1][1])
    process.adopt(new)
    assert.not_equal(proxy.pid, new)
    other:close()
    assert.equal("of a worker", which())
    assert.truthy(process.wait_until(function()
      return not proxy.process:running()
    end, 20), "the old program goes on")
    assert.is_true(process.dismiss(new))
  end)

  it("is told that there is nothing to reload", function()
    start()
    assert.equal("1235 There are no certificates to reload: the proxy does not terminate TLS",
      outcome("RELOAD CERTIFICATES"))
    assert.equal("1105 There is no defaults file to reload: none was given with --defaults-file",
      outcome("RELOAD DEFAULTS FILE"))
    assert.equal("1105 There is no script to reload: none was given with --proxy-lua-script", outcome("RELOAD SCRIPT"))
    assert.equal("1105 There is nothing to reload: neither --proxy-lua-script nor --defaults-file was given",
      outcome("RELOAD"))
  end)

  it("restarts the program with the new file, and nobody is lost; or is told why not", function()
    write("max-connections = 50")
    start("--defaults-file=" .. file)
    local client, old = raw.connect(proxy.port):login("nopass"), value "pid"
    write("max-connections = none")
    assert.matches("^1105 The restart failed, the proxy goes on as before: ended with status 1 before it was ready: "
      .. ".*line 2: Key file contains key “max%-connections”", outcome("RESTART"))
    assert.equal(old, value "pid")

    write("max-connections = 60")
    assert.equal(0, admin:ask("RESTART").affected_rows)
    assert.matches("operator@127.0.0.1:%d+ has restarted the program", proxy:log())
    local other = raw.connect(proxy.admin_port):login("operator")
    local new = tonumber(other:ask("SELECT @@pid").rows[1][1])
    process.adopt(new)
    assert.not_equal(proxy.pid, new)
    assert.equal("60", other:ask("SELECT @@max_connections").rows[1][1])
    assert.same({ { "1" } }, client:ask("SELECT 1").rows)
    assert.same({ { "1" } }, raw.connect(proxy.port):login("nopass"):ask("SELECT 1").rows)
    client:close()
    other:close()
    assert.truthy(process.wait_until(function()
      return not proxy.process:running()
    end, 20), "the old program goes on")
    assert.is_true(process.dismiss(new))
  end)
end)
