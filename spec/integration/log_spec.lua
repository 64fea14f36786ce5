-- The log of the real program: as text, as JSON, to syslog.

local cjson = require "cjson"
local uv = require "luv"

local datagrams = require "spec.support.datagrams"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local SCRIPT = [[
  function read_auth()
    proxy.log("warning", "a \27 line\nof the script")
    for _, level in ipairs { "error", "critical", "warning", "message", "info", "debug" } do
      proxy.log(level, level, nil, 1, true)
    end
    for index, level in ipairs { "loud", "new", 1, {} } do
      proxy.log("info", "refused " .. index .. ": " .. select(2, pcall(proxy.log, level, "x")))
    end
  end
  function read_query() error("broken") end
]]

describe("the log", function()
  local server = servers.all()[1]
  local proxy

  after_each(function()
    if proxy then
      proxy:stop()
      proxy = nil
    end
  end)

  -- The port of a client that has logged in, asked and gone.
  local function session(...)
    proxy = scripted.start(server, SCRIPT, { ... })
    local client = scripted.client(proxy)
    local port = client.socket:getsockname().port
    client:query("SELECT 1")
    client:close()
    return port
  end

  it("says which session a line is about: its number, user, client and backend", function()
    local port = session()
    local backend = "127.0.0.1:" .. server.port
    assert.is_string(proxy:wait_for_log(("%%(warning%%) session 1 %%(nopass@127.0.0.1:%d %%-> %s, read_auth%%): "
      .. "a \\x1b line\\nof the script\n"):format(port, backend:gsub("%.", "%%."))))
    local about = ("session 1 (nopass@127.0.0.1:%d -> %s, read_auth): "):format(port, backend)
    for _, level in ipairs { "error", "critical", "warning", "message", "info", "debug" } do
      assert.matches(("(%s) %s%s\\tnil\\t1\\ttrue\n"):format(level, about, level), proxy:log(), 1, true)
    end
    for index = 1, 4 do
      assert.matches(("refused %d: bad argument #1 to 'log' (one of error, critical, warning, message, info, debug "
        .. "expected)\n"):format(index), proxy:log(), 1, true)
    end
    assert.is_string(proxy:wait_for_log(("%%(debug%%) session 1 %%(nopass@127.0.0.1:%d %%-> %s, read_query%%): "
      .. "client closed\n"):format(port, backend:gsub("%.", "%%."))))
    local error_lines = proxy:log():match("%(critical%) (%(read_query%) [^\n]*:10: broken\n.-)\n%d%d%d%d%-")
    assert.equal(("\tin session 1 (nopass@127.0.0.1:%d -> %s, read_query)"):format(port, backend),
      error_lines:match("[^\n]*$"))
    assert.matches("\n\t%[C%]: in function 'error'\n", error_lines)
  end)

  it("has that in fields as JSON, one object in a line", function()
    local client = "127.0.0.1:" .. session("--log-format=json")
    assert.is_string(proxy:wait_for_log("client closed"))
    local found = {}
    for line in proxy:log():gmatch("([^\n]*)\n") do
      local object = cjson.decode(line)
      assert.matches("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", object.time)
      object.time = nil
      found[object.message:match("%S+ %S+ %S+") or object.message] = object
    end
    local backend = "127.0.0.1:" .. server.port
    local about = { session = 1, client = client, user = "nopass", backend = backend }
    local function check(key, level, message, more)
      local object = found[key] or {}
      assert.equal(level, object.level)
      assert.matches(message, object.message, 1, true)
      for name, value in pairs(more or about) do
        assert.equal(value, object[name])
      end
      return object
    end
    check("mysql-proxy 0.9.0 started", "critical", "started", {})
    check("a \27 line", "warning", "a \27 line\nof the script")
    local failure = ('(read_query) [string "%s"]:10: broken'):format(proxy.script)
    local traceback = check(failure:match("%S+ %S+ %S+"), "critical", failure).traceback
    assert.matches("in function .error.", traceback)
    assert.is_nil(traceback:find("session", 1, true))
    check("client closed", "debug", "client closed")
  end)

  it("has a backtrace of a crash, if that is asked for, in the file that is the log by then", function()
    proxy = proxies.start({ server }, { "--log-backtrace-on-crash" })
    assert(os.rename(proxy.log_file, proxy.log_file .. ".1"))
    uv.kill(proxy.pid, "sighup")
    assert.is_string(proxy:wait_for_log("re%-opened log file after SIGHUP\n"))
    uv.kill(proxy.pid, "sigsegv")
    local _, signal = proxy.process:wait(20)
    assert.equal(11, signal)
    assert.matches("\nmysql%-proxy died on signal 11, backtrace:\n[^\n]+%[0x%x+%]\n[^\n]+%[0x%x+%]\n", proxy:log())
  end)

  it("goes to syslog, without times of its own, and in the background too", function()
    local folder = process.path("dev") -- stands for /dev where the program runs
    assert(uv.fs_mkdir(folder, tonumber("755", 8)))
    process.write_file(folder .. "/null", "")
    local inside = ("mount --bind /dev/null %s/null && mount --bind %s /dev && exec \"$@\""):format(folder, folder)
    local unshare = { "--mount", "--map-root-user", "sh", "-c", inside, "sh" }
    if process.run("unshare", { "--mount", "--map-root-user", "sh", "-c", inside, "sh", "true" }) ~= 0 then
      return pending("no mount namespace can be made here")
    end
    local receiver = datagrams.receive(folder .. "/log")
    finally(function()
      receiver:stop()
    end)
    for _, option in ipairs { "--verbose-shutdown", "--daemon" } do
      local pid_file = process.path("proxy.pid")
      local arguments = { unpack(unshare) }
      for _, argument in ipairs {
        proxies.build .. "/mysql-proxy", "--log-use-syslog", "--log-level=message", "--plugins=proxy", option,
        "--proxy-address=127.0.0.1:0", "--proxy-read-only-address=127.0.0.1:0", "--pid-file=" .. pid_file,
      } do
        arguments[#arguments + 1] = argument
      end
      local seen = #receiver:stdout()
      local started = process.start("unshare", arguments)
      local function received(pattern)
        return process.wait_until(function()
          return receiver:stdout():match(pattern, seen + 1)
        end, 20)
      end
      -- daemon (3) * 8 + err (3) or notice (5)
      local pid = received("<27>%u%l%l [ %d]%d %d%d:%d%d:%d%d mysql%-proxy%[(%d+)%]: "
        .. "%(critical%) mysql%-proxy %S+ started\n")
      assert.is_string(pid, started:stderr())
      assert.is_string(received("<29>[^\n]*: %(message%) proxy listening on port 127.0.0.1:%d+\n"))
      uv.kill(tonumber(pid), "sigterm")
      assert.is_string(received("shutting down normally, exit code is: 0\n"))
      assert.equal(0, (started:wait()))
      assert.equal("", started:stderr())
    end
  end)
end)
