-- --keepalive: a worker that a signal has killed is replaced.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"

local PROGRAM = proxies.build .. "/mysql-proxy"

describe("--keepalive", function()
  local port, pid_file, log_file, angel

  before_each(function()
    port, pid_file, log_file = process.free_port(), process.path("proxy.pid"), process.path("proxy.log")
  end)

  local function arguments(...)
    return {
      "--keepalive", "--plugins=proxy", "--proxy-address=127.0.0.1:" .. port,
      "--proxy-read-only-address=127.0.0.1:0", "--pid-file=" .. pid_file, "--log-file=" .. log_file,
      "--log-level=message", ...,
    }
  end

  local function logged(pattern, path)
    return process.wait_until(function()
      return process.read_file(path or log_file):match(pattern)
    end, 20)
  end

  local function worker()
    return tonumber(process.read_file(pid_file))
  end

  -- Starts it in the foreground, and waits until it serves. -> the worker's process id
  local function start()
    angel = process.start(PROGRAM, arguments())
    assert(logged("mysql%-proxy %S+ started"), angel:stderr())
    return worker()
  end

  after_each(function()
    if angel then
      angel:stop()
      angel = nil
    end
    local left = worker()
    if left then
      uv.kill(left, "sigkill")
    end
  end)

  -- Waits until another worker serves.
  local function successor(of)
    assert(process.wait_until(function()
      return worker() and worker() ~= of and process.accepts(port)
    end, 30), process.read_file(log_file))
    return worker()
  end

  it("starts a new worker when a signal has killed one, and ends with it when told to", function()
    local first = start()
    assert.not_equal(angel.pid, first)
    assert.is_string(logged(("%%[angel%%] we try to keep PID=%d alive\n"):format(first)))
    uv.kill(first, "sigkill")
    local second = successor(first)
    assert.is_string(logged(("%%[angel%%] PID=%d died on signal=9 %%(it used %%d+ kBytes max%%) %%.%%.%%. waiting 3min"
      .. " before restart\n"):format(first)))
    assert.is_string(logged(("%%[angel%%] we try to keep PID=%d alive\n"):format(second)))
    angel:kill("sigusr1") -- passed on to the worker, to whom it means nothing but an end
    local third = successor(second)
    assert.is_string(logged(("PID=%d died on signal=10 "):format(second)))
    angel:kill("sigterm")
    assert.equal(0, (angel:wait()))
    assert.is_string(logged(("%%[angel%%] PID=%d exited normally with exit%%-code = 0 %%(it used %%d+ kBytes max%%)\n$")
      :format(third)))
    assert.is_false(process.accepts(port))
    assert.equal("", process.read_file(pid_file))
  end)

  it("ends when the worker ends by itself", function()
    uv.kill(start(), "sigint")
    assert.equal(0, (angel:wait()))
    assert.is_string(logged("exited normally with exit%-code = 0"))
  end)

  it("ends without another worker when it is told to between two, and when the last was killed while ending", function()
    local first = start()
    uv.kill(first, "sigkill")
    assert.is_string(logged("died on signal=9"))
    angel:kill("sigterm")
    assert.equal(0, (angel:wait()))
    assert.equal("", process.read_file(pid_file))

    os.remove(log_file)
    first = start()
    uv.kill(first, "sigstop")
    assert(process.wait_until(function()
      return process.read_file(("/proc/%d/status"):format(first)):find("State:%s*T")
    end))
    angel:kill("sigterm")
    assert(process.wait_until(function() -- it is passed on to a worker that cannot act
      local pending = process.read_file(("/proc/%d/status"):format(first)):match("ShdPnd:%s*(%x+)")
      return pending and math.floor(tonumber(pending, 16) / 2 ^ 14) % 2 == 1
    end))
    uv.kill(first, "sigkill")
    assert.equal(1, (angel:wait()))
    assert.equal("", process.read_file(pid_file))
  end)

  it("passes SIGHUP on, and goes on in the new log file itself", function()
    local first = start()
    assert(os.rename(log_file, log_file .. ".1"))
    angel:kill("sighup")
    assert.is_string(logged("%(message%) re%-opened log file after SIGHUP\n"))
    uv.kill(first, "sigkill")
    assert.is_string(logged("died on signal=9"))
    assert.is_nil(process.read_file(log_file .. ".1"):find("died", 1, true))
  end)

  it("tells errors of the start, and has their status, as a daemon too", function()
    local holder = uv.new_tcp()
    assert(holder:bind("127.0.0.1", port))
    assert(holder:listen(1, function() end))
    for _, option in ipairs { "--verbose-shutdown", "--daemon" } do
      local code, out, err = process.run(PROGRAM, arguments(option))
      assert.equal(1, code)
      assert.equal("", out)
      assert.equal(("mysql-proxy: bind(127.0.0.1:%d) failed: Address already in use (98)\n"):format(port), err)
    end
    holder:close()
    uv.run("nowait")
  end)

  it("gives up if the first worker is killed before it was ready", function()
    for _, option in ipairs { "--verbose-shutdown", "--daemon" } do
      os.remove(log_file)
      os.remove(pid_file)
      assert.equal(0, (process.run("mkfifo", { pid_file }))) -- nobody reads it: there the worker waits
      local starting = process.start(PROGRAM, arguments(option))
      finally(function()
        os.remove(pid_file)
      end)
      local pid = tonumber(logged("keep PID=(%d+) alive"))
      assert(process.wait_until(function()
        return process.accepts(port)
      end))
      uv.kill(pid, "sigkill")
      assert.equal(1, (starting:wait()))
      assert.equal("mysql-proxy: the worker died on signal 9 before it was ready\n", starting:stderr())
      os.remove(pid_file)
    end
  end)

  it("has workers of another user, each of whom can bind the ports and write what is written", function()
    if uv.os_get_passwd().uid ~= 0 then
      return pending("only root can become somebody else")
    end
    local folder = process.path("open")
    assert(uv.fs_mkdir(folder, 0))
    assert(uv.fs_chmod(folder, tonumber("777", 8)))
    assert(uv.fs_chmod(process.folder(), tonumber("711", 8)))
    pid_file, log_file = folder .. "/proxy.pid", folder .. "/proxy.log"
    local socket = folder .. "/proxy.sock"
    angel = process.start(PROGRAM, arguments("--user=nobody", "--proxy-address=" .. socket))
    assert(logged("mysql%-proxy %S+ started"), angel:stderr())
    local first = worker()
    assert(os.rename(log_file, log_file .. ".1"))
    angel:kill("sighup")
    assert.is_string(logged("re%-opened log file"))
    uv.kill(first, "sigkill")
    local second = successor(first)
    assert.is_string(logged("mysql%-proxy %S+ started"))
    local nobody = uv.fs_stat(("/proc/%d"):format(second)).uid
    assert.is_true(nobody > 0)
    for _, path in ipairs { log_file, pid_file, socket } do
      assert.equal(nobody, uv.fs_stat(path).uid)
    end
    assert.equal(0, uv.fs_stat(("/proc/%d"):format(angel.pid)).uid)
    angel:kill("sigterm")
    assert.equal(0, (angel:wait()))
    assert.is_nil(uv.fs_stat(pid_file))
    assert.is_nil(uv.fs_stat(socket))
  end)

  it("works in the background: serves when the command returns, again after a crash, without a terminal", function()
    local code, out, err = process.run(PROGRAM, arguments("--daemon"))
    assert.equal("", out .. err)
    assert.equal(0, code)
    local first = worker()
    assert.is_true(process.accepts(port))
    local parent = tonumber(process.read_file(("/proc/%d/status"):format(first)):match("PPid:%s*(%d+)"))
    for _, pid in ipairs { first, parent } do
      for descriptor = 0, 2 do
        assert.equal("/dev/null", uv.fs_readlink(("/proc/%d/fd/%d"):format(pid, descriptor)))
      end
    end
    uv.kill(first, "sigkill")
    local second = successor(first)
    assert.equal(parent, tonumber(process.read_file(("/proc/%d/status"):format(second)):match("PPid:%s*(%d+)")))
    assert.equal("/dev/null", uv.fs_readlink(("/proc/%d/fd/2"):format(second)))
    uv.kill(parent, "sigint") -- passed on
    assert.is_string(logged("exited normally with exit%-code = 0"))
    assert(process.wait_until(function()
      return not uv.fs_stat(("/proc/%d/exe"):format(parent))
    end))
  end)
end)
