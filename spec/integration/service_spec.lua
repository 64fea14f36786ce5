-- What systemd says and is told: the specs play systemd.

local uv = require "luv"

local datagrams = require "spec.support.datagrams"
local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local PROGRAM = proxies.build .. "/mysql-proxy"

-- Opens listening sockets, and becomes the program with them: python3 -c LAUNCHER OUTPUT LISTEN_PID NAMES PROGRAM ...
-- A name of - is a file, not a socket; one that begins with / a unix socket.
local LAUNCHER = [[
import fcntl, os, socket, sys
output, pid, names = sys.argv[1], sys.argv[2], sys.argv[3].split(":")
sockets = []
places = []
clients = []
for name in names:
    if name == "-":
        sockets.append(open("/dev/null"))
        continue
    s = socket.socket(socket.AF_UNIX if name.startswith("/") else socket.AF_INET)
    s.bind(name if name.startswith("/") else ("127.0.0.1", 0))
    s.listen()
    sockets.append(s)
    places.append(str(s.getsockname()[1]))
    if name == "early": # a client is there before the program
        client = socket.create_connection(s.getsockname())
        os.set_inheritable(client.fileno(), True)
        clients.append(client)
high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in sockets]
for index, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + index, inheritable=True)
with open(output, "w") as file:
    file.write(" ".join(places) + "\n")
os.environ["LISTEN_PID"] = pid or str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(names))
os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.execv(sys.argv[4], sys.argv[4:])
]]

local function environment(...)
  local env = { "PATH=" .. os.getenv("PATH"), "ASAN_OPTIONS=detect_leaks=0", ... }
  return env
end

describe("a proxy under systemd", function()
  local running

  after_each(function()
    for _, each in ipairs(running) do
      each:stop()
    end
  end)

  before_each(function()
    running = {}
  end)

  local function keep(one)
    table.insert(running, one)
    return one
  end

  local function has(one, stream, pattern)
    return process.wait_until(function()
      return one[stream](one):match(pattern) or not one:running()
    end, 20) and one[stream](one):match(pattern)
  end

  local ARGUMENTS = { "--plugins=proxy", "--proxy-address=127.0.0.1:0", "--proxy-read-only-address=127.0.0.1:0" }

  it("tells that it is ready, that it lives, and that it stops", function()
    for _, socket in ipairs { process.path("notify"), "@mysql-proxy-spec-" .. uv.os_getpid() } do
      local systemd = keep(datagrams.receive(socket))
      local proxy = keep(process.start(PROGRAM, ARGUMENTS, {
        env = environment("NOTIFY_SOCKET=" .. socket, "WATCHDOG_USEC=20000"),
      }))
      assert.is_string(has(systemd, "stdout", "^READY=1\nWATCHDOG=1\nWATCHDOG=1\n"), proxy:stderr())
      assert.matches("mysql%-proxy %S+ started", proxy:stderr())
      proxy:stop()
      assert.equal(0, proxy.code)
      assert.is_string(has(systemd, "stdout", "\nSTOPPING=1\n"))
      assert.is_nil(systemd:stdout():match("STOPPING=1\n.*READY"))
    end
  end)

  it("is not ready if it could not start", function()
    local systemd = keep(datagrams.receive(process.path("notify")))
    local holder = uv.new_tcp()
    assert(holder:bind("127.0.0.1", 0))
    assert(holder:listen(1, function() end))
    local code, _, err = process.run(PROGRAM, {
      "--proxy-address=127.0.0.1:" .. holder:getsockname().port,
    }, { env = environment("NOTIFY_SOCKET=" .. systemd.path) })
    holder:close()
    uv.run("nowait")
    assert.equal(1, code)
    assert.matches("Address already in use", err)
    assert.equal("", systemd:stdout())
  end)

  it("gives no signs of life that are wanted of another process, and lives on if nobody listens", function()
    local systemd = keep(datagrams.receive(process.path("notify")))
    local env = environment("NOTIFY_SOCKET=" .. systemd.path, "WATCHDOG_USEC=20000", "WATCHDOG_PID=1")
    local first = keep(process.start(PROGRAM, ARGUMENTS, { env = env }))
    assert.is_string(has(systemd, "stdout", "READY=1\n"))
    first:stop()
    assert.equal("READY=1\nSTOPPING=1\n", has(systemd, "stdout", "^.*STOPPING=1\n$"))

    local proxy = keep(process.start(PROGRAM, { "--log-level=warning", unpack(ARGUMENTS) }, {
      env = environment("NOTIFY_SOCKET=/no/such/socket"),
    }))
    assert.is_string(has(proxy, "stderr", "%(warning%) telling the service manager %(/no/such/socket%) failed: "
      .. "No such file or directory"))
    proxy:stop()
    assert.equal(0, proxy.code)
  end)

  -- Starts the program with sockets of these names. -> process, ports of those that have some
  local function activate(names, pid, ...)
    local output = process.path("ports")
    local proxy = keep(process.start("python3", { "-c", LAUNCHER, output, pid, names, PROGRAM, "--log-level=message",
      "--plugins=proxy", ... }, { env = environment() }))
    local line = process.wait_until(function()
      return process.read_file(output):match("^(.*)\n") or not proxy:running()
    end, 20)
    local ports = {}
    for port in tostring(line):gmatch("%S+") do
      ports[#ports + 1] = tonumber(port)
    end
    return proxy, ports
  end

  it("serves on the sockets that it gets, by their names, instead of the addresses", function()
    local server = servers.all()[1]
    local unused = process.free_port()
    local proxy, ports = activate("mysql-proxy.socket:read-only:proxy", "", "-P127.0.0.1:" .. unused,
      "-b127.0.0.1:" .. server.port)
    assert.is_string(has(proxy, "stderr", "mysql%-proxy %S+ started"), proxy:stderr())
    assert.is_false(process.accepts(unused))
    for index, answer in ipairs { "OK", "ERR", "OK" } do
      local client = raw.connect(ports[index]):login("nopass")
      local first = client:query("SET @x = 1"):byte() == 0 and client:query("CREATE TEMPORARY TABLE test.t (a INT)")
      assert.equal(answer, first:byte() == 0 and "OK" or "ERR")
      client:close()
    end
    proxy:stop()
    assert.equal(0, proxy.code)
  end)

  it("has a client who was there before it kept alive, too", function()
    local server = servers.all()[1]
    local proxy, ports = activate("early", "", "--proxy-read-only-address=127.0.0.1:0",
      "-b127.0.0.1:" .. server.port)
    assert.is_string(has(proxy, "stderr", "mysql%-proxy %S+ started"), proxy:stderr())
    local connection = (" %%x+:%04X %%x+:%%x+ 01 %%x+:%%x+ 02:"):format(ports[1]) -- 02: the timer of keepalive
    assert.truthy(process.wait_until(function()
      return process.read_file("/proc/net/tcp"):find(connection)
    end, 8))
    proxy:stop()
  end)

  it("serves on a unix socket that it gets, and leaves it where it is", function()
    local path = process.path("socket")
    local proxy = activate(path, "", "--proxy-read-only-address=127.0.0.1:0")
    assert.is_string(has(proxy, "stderr", "mysql%-proxy %S+ started"), proxy:stderr())
    assert.matches("proxy listening on port " .. path, proxy:stderr(), 1, true)
    proxy:stop()
    assert.equal(0, proxy.code)
    assert.is_table(uv.fs_stat(path))
  end)

  it("does not take sockets that are for another process", function()
    local port = process.free_port()
    local proxy, ports = activate("proxy", "1", "-P127.0.0.1:" .. port, "--proxy-read-only-address=127.0.0.1:0")
    assert.is_string(has(proxy, "stderr", "mysql%-proxy %S+ started"), proxy:stderr())
    assert.is_true(process.accepts(port))
    assert.is_nil(proxy:stderr():find("listening on port 127.0.0.1:" .. ports[1], 1, true))
  end)

  it("refuses what is no listening socket", function()
    local proxy = activate("proxy:-", "")
    assert.equal(1, (proxy:wait()))
    assert.matches("mysql-proxy: descriptor 4 of LISTEN_FDS is no socket: ", proxy:stderr(), 1, true)
  end)

  it("has unit files that systemd accepts", function()
    if process.run("sh", { "-c", "command -v systemd-analyze" }) ~= 0 then
      return pending("systemd-analyze is not installed")
    end
    local folder = process.path("units")
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
    for _, name in ipairs { "mysql-proxy.service", "mysql-proxy.socket" } do
      local text = process.read_file("examples/" .. name):gsub("/usr/local/bin/mysql%-proxy", uv.fs_realpath(PROGRAM))
      process.write_file(folder .. "/" .. name, text)
    end
    local code, out, err = process.run("systemd-analyze", {
      "verify", folder .. "/mysql-proxy.service", folder .. "/mysql-proxy.socket",
    })
    assert.equal("", out .. err)
    assert.equal(0, code)
  end)
end)
