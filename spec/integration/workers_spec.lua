-- --workers: several processes share the ports, and look like one.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local sysbench = require "spec.bench.sysbench"

local PROGRAM = proxies.build .. "/mysql-proxy"

local children = process.children

for _, server in ipairs(servers.all()) do
  describe("--workers, " .. server.name .. " #long", function()
    local proxy, socket, pid_file, clients

    local function start(count, ...)
      socket, pid_file, clients = process.path("socket"), process.path("proxy.pid"), {}
      proxy = proxies.start({ server }, {
        "--workers=" .. count, "--plugins=proxy", "--proxy-address=" .. socket, "--pid-file=" .. pid_file, ...,
      })
      for _, pid in ipairs(children(proxy.pid)) do
        process.adopt(pid)
      end
      return children(proxy.pid)
    end

    local function login()
      local client = raw.connect(proxy.port):login("nopass")
      clients[#clients + 1] = client
      return client
    end

    -- A client of one worker. Who takes the next is chance: the others stand still meanwhile.
    local function login_at(workers, index)
      local function others(signal)
        for other, pid in ipairs(workers) do
          if other ~= index then
            uv.kill(pid, signal)
          end
        end
      end
      others("sigstop")
      local client = login()
      others("sigcont")
      return client
    end

    local function one(client)
      return client:ask("SELECT 1").rows[1][1]
    end

    local function stops(pid)
      assert(process.wait_until(function()
        return not process.runs(pid)
      end, 20), "it does not end: " .. proxy:log())
    end

    -- Sockets to the server that each worker has open.
    local function spread(workers)
      local counts = {}
      for index, pid in ipairs(workers) do
        local own, scan = {}, uv.fs_scandir(("/proc/%d/fd"):format(pid))
        for name in function() return uv.fs_scandir_next(scan) end do
          own[(uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, name)) or ""):match("socket:%[(%d+)%]") or ""] = true
        end
        counts[index] = 0
        for remote, inode in process.read_file(("/proc/%d/net/tcp"):format(pid)):gmatch(
            "%d+: %x+:%x+ %x+:(%x+) 01 %S+ %S+ %S+%s+%d+%s+%d+ (%d+)") do
          if tonumber(remote, 16) == server.port and own[inode] then
            counts[index] = counts[index] + 1
          end
        end
      end
      return counts
    end

    after_each(function()
      for _, client in ipairs(clients) do
        client:close()
      end
      local left = children(proxy.pid)
      proxy:stop()
      for _, pid in ipairs(left) do
        assert.is_false(process.runs(pid))
        process.dismiss(pid)
      end
    end)

    it("all take clients, on TCP and on a unix socket, and end with the one that is in the pid file", function()
      local workers = start(3)
      assert.equal(3, #workers)
      assert.equal(tostring(proxy.pid), process.read_file(pid_file))
      for index = 1, 3 do
        login_at(workers, index)
      end
      assert.same({ 1, 1, 1 }, spread(workers))
      for _, client in ipairs(clients) do
        assert.equal("1", one(client))
      end
      assert.equal("1\n", server:sql("SELECT 1", proxy.port))
      local program, args = server:client()
      for _, argument in ipairs {
        "--user=nopass", "--protocol=socket", "--socket=" .. socket, "-BN", "-e", "SELECT 2",
      } do
        args[#args + 1] = argument
      end
      assert.same({ 0, "2\n", "" }, { process.run(program, args) })
      assert.equal(0, proxy:stop())
      for _, pid in ipairs(workers) do
        assert.is_false(process.runs(pid))
      end
      assert.is_nil(uv.fs_stat(socket))
      assert.equal("", process.read_file(pid_file))
      assert.is_false(process.accepts(proxy.port))
    end)

    it("that die are replaced, and nobody else notices", function()
      local workers = start(2)
      local mine = {}
      for index = 1, 2 do
        mine[index] = login_at(workers, index)
      end
      uv.kill(workers[1], "sigkill")
      assert.truthy(mine[1]:wait_for_end())
      assert.is_string(proxy:wait_for_log("%(critical%) worker %d %(PID=" .. workers[1]
        .. "%) died on signal 9; another is started in 0%.1 seconds\n"))
      assert.equal("1", one(mine[2]))
      assert(process.wait_until(function()
        return #children(proxy.pid) == 2 and children(proxy.pid)[2] ~= workers[2]
      end))
      local new = children(proxy.pid)[2]
      process.adopt(new)
      assert.is_string(proxy:wait_for_log("worker %d %(PID=" .. new .. "%) started"))
      uv.kill(workers[2], "sigkill")
      assert.equal("1", one(login()))
      assert.truthy(uv.fs_stat(socket))
    end)

    it("let running statements end at SIGTERM, and end at once at a second one", function()
      start(2, "--shutdown-timeout=1000")
      local holder, client = raw.connect(server.port):login("nopass"), login()
      holder:ask("SELECT GET_LOCK('held', 0)")
      client:send("\3SELECT GET_LOCK('held', 1000)")
      assert(process.wait_until(function()
        return server:sql("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'User%lock'")
          :find("1", 1, true)
      end))
      proxy.process:kill("sigterm")
      assert.is_string(proxy:wait_for_log("Initiating shutdown"))
      holder:ask("SELECT RELEASE_LOCK('held')")
      assert.equal("\1", (client:packet())) -- one column
      client:close()
      holder:close()
      assert.equal(0, proxy.process:wait())

      local workers = start(2, "--shutdown-timeout=1000")
      login():send("\3SELECT SLEEP(1000)")
      proxy.process:kill("sigterm")
      assert.is_string(proxy:wait_for_log("Initiating shutdown"))
      proxy.process:kill("sigint")
      assert.equal(0, proxy.process:wait())
      stops(workers[1])
      stops(workers[2])
    end)

    it("end when one of them has ended by itself, as it does for a script", function()
      local workers = start(2)
      uv.kill(workers[2], "sigterm")
      assert.equal(0, proxy.process:wait())
      assert.is_false(process.runs(workers[1]))
    end)

    it("end when the one that started them is gone", function()
      local workers = start(2)
      login()
      proxy.process:kill("sigkill")
      stops(workers[1])
      stops(workers[2])
    end)

    it("reopen the log on SIGHUP, each of them", function()
      start(2)
      os.rename(proxy.log_file, proxy.log_file .. ".1")
      proxy.process:kill("sighup")
      assert(process.wait_until(function()
        return select(2, proxy:log():gsub("re%-opened log file after SIGHUP", "")) == 3
      end))
    end)

    it("restart together under load, without an error", function()
      start(2)
      sysbench.make_user(server)
      sysbench.run { script = "oltp_point_select", command = "prepare", port = server.port }
      local loads = {}
      for index, script in ipairs { "oltp_point_select", "spec/bench/connect.lua" } do
        loads[index] = process.start("sysbench", sysbench.arguments {
          script = script, command = "run", port = proxy.port, connections = 4, seconds = 4,
        })
      end
      proxy.process:kill("sigusr2")
      local successor = process.wait_until(function()
        local pid = tonumber(process.read_file(pid_file))
        return pid ~= proxy.pid and select(2, proxy:log():gsub("mysql%-proxy %S+ started", "")) == 2 and pid
      end)
      process.adopt(successor)
      local workers = children(successor)
      assert.equal(2, #workers)
      for _, load in ipairs(loads) do
        local code = load:wait(60)
        assert(code == 0, load:stdout() .. load:stderr())
        local report = sysbench.report(load:stdout())
        assert.same({ 0, 0 }, { report.errors, report.reconnects })
      end
      assert.equal(0, proxy.process:wait())
      assert.is_true(process.accepts(proxy.port))
      assert.is_true(process.dismiss(successor))
      stops(workers[1])
      stops(workers[2])
      sysbench.drop_user(server)
    end)
  end)
end

describe("--workers #long", function()
  local port, pid_file, log_file

  before_each(function()
    port, pid_file, log_file = process.free_port(), process.path("proxy.pid"), process.path("proxy.log")
  end)

  local function arguments(...)
    return {
      "--workers=2", "--proxy-address=127.0.0.1:" .. port, "--proxy-read-only-address=127.0.0.1:0",
      "--pid-file=" .. pid_file, "--log-file=" .. log_file, ...,
    }
  end

  it("has to be a number of processes", function()
    for _, value in ipairs { "0", "-1", "x", "1.5" } do
      local code, _, errors = process.run(PROGRAM, { "--workers=" .. value })
      assert.equal(1, code)
      assert.matches("--workers", errors, 1, true)
    end
  end)

  it("tells errors of the start, as a daemon too, and leaves nothing", function()
    local holder = uv.new_tcp()
    assert(holder:bind("127.0.0.1", port))
    assert(holder:listen(1, function() end))
    for _, option in ipairs { "--verbose-shutdown", "--daemon" } do
      local code, out, errors = process.run(PROGRAM, arguments("--plugins=proxy", option))
      assert.equal(1, code)
      assert.equal("", out)
      assert.equal(("mysql-proxy: bind(127.0.0.1:%d) failed: Address already in use (98)\n"):format(port), errors)
      assert.equal("", process.read_file(pid_file))
    end
    holder:close()
    uv.run("nowait")
  end)

  it("in the background serve when the command returns, and hold no terminal", function()
    local code, out, errors = process.run(PROGRAM, arguments("--plugins=proxy", "--daemon"))
    assert.equal("", out .. errors)
    assert.equal(0, code)
    local supervisor = tonumber(process.read_file(pid_file))
    process.adopt(supervisor)
    local workers = children(supervisor)
    assert.equal(2, #workers)
    assert.is_true(process.accepts(port))
    for _, pid in ipairs { supervisor, workers[1], workers[2] } do
      assert.equal("/", uv.fs_readlink(("/proc/%d/cwd"):format(pid)))
      for descriptor = 0, 2 do
        assert.equal("/dev/null", uv.fs_readlink(("/proc/%d/fd/%d"):format(pid, descriptor)))
      end
    end
    assert.is_true(process.dismiss(supervisor))
    assert.is_false(process.runs(workers[1]))
    assert.is_false(process.runs(workers[2]))
  end)

  it("belong to the user who is asked for", function()
    if uv.getuid() ~= 0 then
      return pending("only root can become somebody else")
    end
    uv.fs_chmod(process.folder(), tonumber("755", 8))
    local supervisor = process.start(PROGRAM, arguments("--plugins=proxy", "--user=nobody"))
    assert(process.wait_until(function()
      return process.read_file(log_file):find("mysql%-proxy %S+ started")
    end, 20), supervisor:stderr())
    for _, pid in ipairs { supervisor.pid, unpack(children(supervisor.pid)) } do
      process.adopt(pid)
      assert.equal(65534, uv.fs_stat(("/proc/%d"):format(pid)).uid)
    end
    supervisor:stop()
  end)

  it("that die after an upgrade are of the program as it is on disk by then", function()
    local folder = process.path("installed")
    local program = folder .. "/mysql-proxy"
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
    assert.equal(0, (process.run("cp", { uv.fs_realpath(PROGRAM), program })))
    assert.equal(0, (process.run("ln", { "-s", uv.fs_realpath(proxies.build .. "/lib"), folder .. "/lib" })))
    local supervisor = process.start(program, arguments("--plugins=proxy"))
    assert(process.wait_until(function()
      return process.read_file(log_file):find("mysql%-proxy %S+ started")
    end, 20), supervisor:stderr())
    assert.equal(0, (process.run("cp", { program, program .. ".new" })))
    assert(os.rename(program .. ".new", program))
    uv.kill(children(supervisor.pid)[1], "sigkill")
    assert(process.wait_until(function()
      local pids = children(supervisor.pid)
      return #pids == 2 and uv.fs_readlink(("/proc/%d/exe"):format(pids[2])) == uv.fs_realpath(program)
    end, 20), process.read_file(log_file))
    for _, pid in ipairs(children(supervisor.pid)) do
      process.adopt(pid)
    end
    assert.is_true(process.accepts(port))
    supervisor:stop()
  end)

  it("with --keepalive go on when the one that keeps them is killed", function()
    local angel = process.start(PROGRAM, arguments("--plugins=proxy", "--keepalive"))
    local function supervisor()
      return tonumber(process.read_file(pid_file))
    end
    assert(process.wait_until(function()
      return process.read_file(log_file):find("mysql%-proxy %S+ started")
    end, 20), angel:stderr())
    local first = supervisor()
    uv.kill(first, "sigkill")
    assert(process.wait_until(function()
      return select(2, process.read_file(log_file):gsub("mysql%-proxy %S+ started", "")) == 2
    end, 30), process.read_file(log_file))
    assert.is_true(process.accepts(port))
    assert.equal(2, #children(supervisor()))
    angel:stop()
    assert.equal(0, angel.code)
    assert.is_false(process.accepts(port))
  end)
end)
