-- SIGUSR2: the program is replaced by another, as it is on disk by then, and no client notices.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local sysbench = require "spec.bench.sysbench"

local PROGRAM = proxies.build .. "/mysql-proxy"

for _, server in ipairs(servers.all()) do
  describe("a restart, " .. server.name .. " #long", function()
    local port, socket, pid_file, log_file, adopted, clients

    before_each(function()
      port, socket = process.free_port(), process.path("socket")
      pid_file, log_file = process.path("proxy.pid"), process.path("proxy.log")
      adopted, clients = {}, {}
    end)

    local function arguments(...)
      return {
        ("--proxy-address=127.0.0.1:%d,%s"):format(port, socket), "--proxy-read-only-address=127.0.0.1:0",
        "--proxy-backend-addresses=127.0.0.1:" .. server.port, "--plugins=proxy", "--pid-file=" .. pid_file,
        "--log-file=" .. log_file, "--log-level=message", ...,
      }
    end

    local function log()
      return process.read_file(log_file)
    end

    local function logged(pattern, times)
      assert(process.wait_until(function()
        return select(2, log():gsub(pattern, "")) >= (times or 1)
      end, 20), log())
    end

    local function current()
      return tonumber(process.read_file(pid_file))
    end

    local function adopt(pid)
      adopted[#adopted + 1] = pid
      process.adopt(pid)
      return pid
    end

    local function start(...)
      local first = process.start(PROGRAM, arguments(...))
      logged("mysql%-proxy %S+ started")
      return first
    end

    -- Waits until another program has written its process id and has all new clients.
    local function upgrade()
      local old, ready = current(), select(2, log():gsub("new clients go to the new program", ""))
      uv.kill(old, "sigusr2")
      logged("new clients go to the new program", ready + 1)
      assert.not_equal(old, current())
      return adopt(current())
    end

    local function login()
      local client = raw.connect(port):login("nopass")
      clients[#clients + 1] = client
      return client
    end

    local function one(client)
      return client:ask("SELECT 1").rows[1][1]
    end

    local function stops(pid)
      assert(process.wait_until(function()
        return not process.runs(pid)
      end, 20), "it does not end: " .. log())
    end

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      for _, pid in ipairs(adopted) do
        process.dismiss(pid)
      end
    end)

    it("under load fails no connection and no statement, on TCP and on a unix socket, again and again", function()
      sysbench.make_user(server)
      sysbench.run { script = "oltp_point_select", command = "prepare", port = server.port }
      local first = start()
      local loads, at_socket = {}, "--mysql-socket=" .. socket
      for _, load in ipairs {
        { script = "oltp_point_select", more = {} }, { script = "spec/bench/connect.lua", more = {} },
        { script = "spec/bench/connect.lua", more = { at_socket } },
        { script = "oltp_read_write", more = { at_socket }, connections = 1 }, -- two would meet deadlocks
      } do
        load.more[#load.more + 1] = "--table-size=10000"
        loads[#loads + 1] = process.start("sysbench", sysbench.arguments {
          script = load.script, command = "run", port = port, connections = load.connections or 2, seconds = 6,
          more = load.more,
        })
      end
      local generations, busy = { first.pid }, true
      while busy and #generations < 6 do
        generations[#generations + 1] = upgrade()
        busy = loads[1]:running()
      end
      assert.is_true(#generations > 2, "the load had ended before the second restart")
      for _, load in ipairs(loads) do
        local code = load:wait(60)
        assert(code == 0, load:stdout() .. load:stderr())
        local report = sysbench.report(load:stdout())
        assert.equal(0, report.errors)
        assert.equal(0, report.reconnects)
        assert.is_true(report.events > 0)
      end
      for i = 1, #generations - 1 do
        stops(generations[i])
      end
      assert.equal(0, first:wait())
      assert.equal("1", one(login()))
      sysbench.drop_user(server)
    end)

    it("leaves sessions to the old program, for as long as they last, and new ones to the new", function()
      local first = start("--shutdown-timeout=0")
      local old = login()
      old:query("BEGIN")
      upgrade()
      local new = login()
      assert.equal("1", one(old))
      assert.equal("1", one(new))
      process.dismiss(current()) -- the new one is gone; the old one's client is still there
      assert.truthy(new:wait_for_end())
      assert.is_false(process.accepts(port))
      assert.is_nil(uv.fs_stat(socket))
      assert.equal("", process.read_file(pid_file))
      assert.equal("1", one(old))
      assert.is_true(first:running())
      old:close()
      assert.equal(0, first:wait())
      assert.matches("shutting down normally", log(), 1, true)
    end)

    it("in the middle of a login goes unnoticed", function()
      start()
      local client = raw.connect(port)
      local greeting = client:packet()
      assert.equal(10, greeting:byte())
      upgrade()
      client.socket:write(require("spec.support.raw_client").login_packet("nopass"))
      local answer
      repeat
        local payload, sequence = client:packet()
        answer = payload:byte()
        if answer == 0xfe or answer == 1 then -- another method, or its last word but one
          if answer == 0xfe then
            client:send("", sequence + 1)
          end
        end
      until answer == 0 or answer == 0xff
      assert.equal(0, answer)
      client:close()
    end)

    it("is ended by SIGTERM like any end, while its clients are there", function()
      local first = start()
      local client = login()
      local second = upgrade()
      first:kill("sigterm")
      assert.truthy(client:wait_for_end())
      assert.equal(0, first:wait())
      assert.equal("1", one(login()))
      assert.equal(second, current())
      assert.truthy(uv.fs_stat(socket))
    end)
  end)
end

describe("a restart #long", function()
  local folder, program, port, metrics_port, socket, pid_file, log_file, started

  before_each(function()
    folder = process.path("installed")
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
    program, port, socket = folder .. "/mysql-proxy", process.free_port(), folder .. "/socket"
    metrics_port = process.free_port()
    pid_file, log_file, started = folder .. "/proxy.pid", folder .. "/proxy.log", {}
    assert.equal(0, (process.run("cp", { uv.fs_realpath(PROGRAM), program })))
    assert.equal(0, (process.run("ln", { "-s", uv.fs_realpath(proxies.build .. "/lib"), folder .. "/lib" })))
  end)

  local function arguments(...)
    return {
      ("--proxy-address=127.0.0.1:%d,%s"):format(port, socket), "--proxy-read-only-address=127.0.0.1:0",
      "--plugins=proxy", "--pid-file=proxy.pid", "--log-level=message",
      "--metrics-address=127.0.0.1:" .. metrics_port, ...,
    }
  end

  local function current()
    return tonumber(process.read_file(pid_file))
  end

  local function says(text, where)
    assert(process.wait_until(function()
      return where():find(text, 1, true)
    end, 20), where())
  end

  local function log()
    return process.read_file(log_file)
  end

  local function successor(of)
    assert(process.wait_until(function()
      return current() and current() ~= of and not process.runs(of)
    end, 20), log())
    process.adopt(current())
    started[#started + 1] = current()
    return current()
  end

  after_each(function()
    for _, pid in ipairs(started) do
      process.dismiss(pid)
    end
  end)

  -- In place of the program, as a package manager would do it.
  local function install(text)
    process.write_file(program .. ".new", text)
    assert(uv.fs_chmod(program .. ".new", tonumber("755", 8)))
    assert(os.rename(program .. ".new", program))
  end

  it("uses the program that is installed by then; one that cannot start changes nothing, says the log", function()
    local first = process.start(program, arguments("--log-file=proxy.log"), { cwd = folder })
    says("mysql-proxy 0.9.0 started", log)
    for text, reason in pairs {
      ["#!/bin/sh\necho it is broken >&2; exit 3"] = "ended with status 3 before it was ready\n\tit is broken\n",
      ["#!/bin/sh\nkill -SEGV $$"] = "died on signal 11 before it was ready\n",
      ["#!/no/such/interpreter"] = "ENOENT",
      ["#!/bin/sh\nexec '" .. uv.fs_realpath(PROGRAM) .. "' \"$@\" --bogus"] = "\tmysql-proxy: Unknown option --bogus",
      ["#!/bin/sh\nexec '" .. uv.fs_realpath(PROGRAM) .. "' \"$@\" --proxy-address=no-such-host.invalid:1"]
        = "no-such-host.invalid",
    } do
      os.remove(log_file)
      uv.kill(first.pid, "sighup")
      says("re-opened", log)
      install(text)
      first:kill("sigusr2")
      says("the restart failed, going on as before: ", log)
      says(reason, log)
      assert.equal(first.pid, current())
      assert.is_true(first:running())
      assert.is_true(process.accepts(port))
      assert.truthy(uv.fs_stat(socket))
    end
    install("#!/bin/sh\nexec env MARK=new '" .. uv.fs_realpath(PROGRAM) .. "' \"$@\"")
    first:kill("sigusr2")
    local second = successor(first.pid)
    assert.equal(0, first:wait())
    assert.is_true(process.accepts(metrics_port))
    assert.matches("MARK=new", process.read_file(("/proc/%d/environ"):format(second)), 1, true)
    assert.is_true(process.accepts(port))
    assert.truthy(uv.fs_stat(socket))
  end)

  it("keeps standard error as its log, and says nothing twice", function()
    local first = process.start(program, arguments(), { cwd = folder })
    local function errors()
      return process.read_file(first.errors)
    end
    says("mysql-proxy 0.9.0 started", errors)
    first:kill("sigusr2")
    local second = successor(first.pid)
    assert.equal(2, select(2, errors():gsub("mysql%-proxy 0%.9%.0 started\n", "")))
    uv.kill(second, "sigterm")
    says("Initiating shutdown", errors)
  end)

  it("of a daemon is one, without a terminal, in the folder /, with relative names where they were", function()
    local code, _, errors = process.run(program, arguments("--daemon", "--log-file=proxy.log"), { cwd = folder })
    assert.equal("", errors)
    assert.equal(0, code)
    local first = current()
    process.adopt(first)
    started[#started + 1] = first
    uv.kill(first, "sigusr2")
    local second = successor(first)
    assert.equal("/", uv.fs_readlink(("/proc/%d/cwd"):format(second)))
    for descriptor = 0, 2 do
      assert.equal("/dev/null", uv.fs_readlink(("/proc/%d/fd/%d"):format(second, descriptor)))
    end
    assert.is_true(process.accepts(port))
    uv.kill(second, "sigusr2")
    successor(second)
    assert.is_true(process.accepts(port))
  end)

  it("with --keepalive has another parent, which keeps the new one alive", function()
    local angel = process.start(program, arguments("--keepalive", "--log-file=proxy.log"), { cwd = folder })
    says("mysql-proxy 0.9.0 started", log)
    local first = current()
    angel:kill("sigusr2") -- passed on
    local second = successor(first)
    assert.equal(0, angel:wait())
    uv.kill(second, "sigkill")
    assert(process.wait_until(function()
      return current() and current() ~= second and process.accepts(port)
    end, 20), log())
    local third = current()
    local parent = tonumber(process.read_file(("/proc/%d/status"):format(third)):match("PPid:%s*(%d+)"))
    for _, pid in ipairs { third, parent } do
      process.adopt(pid)
      started[#started + 1] = pid
    end
    uv.kill(third, "sigusr2")
    successor(third)
    assert(process.wait_until(function()
      return not process.runs(parent)
    end, 20))
    assert.is_true(process.accepts(port))
  end)

  it("in progress ends with the program", function()
    local first = process.start(program, arguments("--log-file=proxy.log"), { cwd = folder })
    says("mysql-proxy 0.9.0 started", log)
    install("#!/bin/sh\necho $$ >starting.tmp; mv starting.tmp starting; exec sleep 1000")
    first:kill("sigusr2")
    local pid = process.wait_until(function()
      return tonumber(process.read_file(folder .. "/starting"))
    end)
    first:kill("sigusr2") -- does not start a third
    says("SIGUSR2 is of no use now", log)
    first:kill("sigterm")
    assert.equal(0, first:wait())
    assert(process.wait_until(function()
      return not process.runs(pid)
    end))
  end)

  it("as another user goes on as that user", function()
    if uv.getuid() ~= 0 then
      return pending("only root can become somebody else")
    end
    local home = folder
    repeat
      uv.fs_chmod(home, tonumber("755", 8))
      home = home:match("^(/tmp/.+)/[^/]+$")
    until not home
    assert(uv.fs_chmod(folder, tonumber("777", 8)))
    local first = process.start(program, arguments("--user=nobody", "--log-file=proxy.log"), { cwd = folder })
    says("mysql-proxy 0.9.0 started", log)
    first:kill("sigusr2")
    local second = successor(first.pid)
    assert.equal(65534, uv.fs_stat(("/proc/%d"):format(second)).uid)
    assert.is_true(process.accepts(port))
    process.dismiss(second)
    assert.equal("", process.read_file(pid_file))
    assert.is_nil(uv.fs_stat(socket))
  end)
end)
