-- The program as a user meets it: what it prints, its exit status, its files, its signals. No MySQL server is needed.

local uv = require("luv")

local LIMIT = 60 -- seconds after which a program that hangs is killed

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return (text:gsub("\n$", ""))
end

local BUILD = package.cpath:match("([^;]+)/lib/mysql%-proxy/%?%.so")
assert(BUILD, "LUA_CPATH must name the build tree's modules: BUILD/lib/mysql-proxy/?.so")
BUILD = output_of("readlink -f " .. BUILD)

local function read_all(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close()
end

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  uv.run("nowait")
  return port
end

local function can_connect(port)
  local socket, outcome = uv.new_tcp(), nil
  socket:connect("127.0.0.1", port, function(err)
    outcome = err or true
  end)
  while outcome == nil do
    uv.run("once") -- on the loopback this is decided at once
  end
  socket:close()
  uv.run("nowait")
  return outcome == true
end

-- Calls condition() until it is true.
local function eventually(what, condition)
  local deadline = os.time() + LIMIT
  while not condition() do
    assert(os.time() < deadline, what .. " did not happen")
    os.execute("sleep 0.02")
  end
end

describe("mysql-proxy", function()
  local folder, started
  local program = BUILD .. "/mysql-proxy"

  before_each(function()
    folder = output_of("mktemp -d")
    started = {}
  end)

  after_each(function()
    for _, pid in ipairs(started) do
      os.execute(("kill -9 %d 2>/dev/null"):format(pid))
    end
    os.execute("rm -r " .. folder)
  end)

  local function command(arguments, prefix)
    local words = {}
    for i, word in ipairs(arguments) do
      words[i] = quote(word)
    end
    return ("cd %s && %s timeout --foreground -k 1 %d %s %s"):format(folder, prefix or "", LIMIT, program,
      table.concat(words, " "))
  end

  -- Runs the program to its end. -> exit status, standard output, standard error
  local function run(arguments, prefix)
    local status = output_of(("(%s) >%s/out 2>%s/err </dev/null; echo $?")
      :format(command(arguments, prefix), folder, folder))
    return tonumber(status), read_all(folder .. "/out"), read_all(folder .. "/err")
  end

  -- Adds what keeps a run from others that use the default ports.
  local function listening(port, ...)
    return { "--proxy-address=127.0.0.1:" .. port, "--proxy-read-only-address=127.0.0.1:0", ... }
  end

  -- Starts the program, with a pid file, and waits until it has started.
  -- -> { pid, ended = function() -> status, output }
  local function start(arguments)
    local pipe = assert(io.popen(("sh -c %s 2>&1; echo status=$?"):format(
      quote("echo $$; exec " .. command(arguments):gsub("^cd (%S+) && ", "env -C %1 ")))))
    local pid = tonumber(pipe:read("*l")) -- of `timeout`, which passes signals on
    started[#started + 1] = pid
    local pid_file, line = folder .. "/proxy.pid", nil
    if not table.concat(arguments, " "):find("--log-file", 1, true) then
      line = pipe:read("*l")
      assert(line:find("started", 1, true), line)
    end
    eventually("the start", function()
      return exists(pid_file) and #read_all(pid_file) > 0
    end)
    local own_pid = tonumber(read_all(pid_file))
    started[#started + 1] = own_pid
    return {
      pid = own_pid,
      ended = function()
        local rest = pipe:read("*a")
        pipe:close()
        return tonumber(rest:match("status=(%d+)\n$")), (line or "") .. "\n" .. rest
      end,
    }
  end

  -- A refused start: status 1, one line that contains `text`, nothing left.
  local function assert_refused(text, arguments, prefix)
    local status, out, err = run(arguments, prefix)
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches(text, err, 1, true)
    assert.matches("^mysql%-proxy: [^\n]+\n$", err)
  end

  describe("prints", function()
    it("its version and those of its parts", function()
      for _, option in ipairs({ "--version", "-V" }) do
        local status, out, err = run({ "--bogus", "--log-level=foo", "--defaults-file=/nowhere", option })
        assert.equal(0, status)
        assert.equal("", err)
        assert.matches("^mysql%-proxy 0%.9%.0\n", out)
        for _, part in ipairs({ "luv", "libuv", "LPeg", "OpenSSL" }) do
          assert.matches("\n  " .. part .. ": %d+%.%d+%.%d+\n", out)
        end
        assert.matches("\n  LUA: Lua[%w.%- ]+\n    package.path: /[^\n]+\n    package.cpath: /[^\n]+\n", out)
        assert.matches("\n-- modules\n  proxy: 0%.9%.0\n  admin: 0%.9%.0\n$", out)
      end
    end)

    it("help, whatever else is on the command line", function()
      for option, text in pairs({
        ["-h"] = "--log-file=FILE",
        ["--help"] = "--log-file=FILE",
        ["--help-all"] = "--proxy-backend-addresses=ADDR",
        ["--help-proxy"] = "--proxy-backend-addresses=ADDR",
        ["--help-admin"] = "admin",
      }) do
        local status, out, err = run({ "--bogus", option })
        assert.equal(0, status)
        assert.equal("", err)
        assert.matches("^Usage:\n", out)
        assert.matches(text, out, 1, true)
      end
    end)
  end)

  describe("refuses with one line and status 1", function()
    it("an unknown option and a stray argument", function()
      assert_refused("Unknown option --bogus (use --help to show all options)", { "--bogus" })
      assert_refused("unknown option: extra", { "extra" })
    end)

    it("a wrong value", function()
      assert_refused("--log-level=... failed, level 'foo' is unknown ", { "--log-level=foo" })
      assert_refused("Cannot parse integer value “abc” for --max-open-files", { "--max-open-files=abc" })
      assert_refused("illegal value 99999 for port, only 1 ... 65535 allowed", { "--proxy-address=:99999" })
    end)

    it("the same backend twice, even under two names", function()
      assert_refused("backend 127.0.0.1 is already known!", { "-b", "127.0.0.1:3306", "-b", "127.0.0.1" })
      assert_refused("backend localhost is already known!", { "-b", "127.0.0.1:3306", "-r", "localhost" })
    end)

    it("a port that is in use, as a daemon too, and leaves no pid file", function()
      local holder = uv.new_tcp()
      assert(holder:bind("127.0.0.1", 0))
      assert(holder:listen(1, function() end))
      local port = holder:getsockname().port
      local pid_file = "--pid-file=" .. folder .. "/proxy.pid"
      local text = ("bind(127.0.0.1:%d) failed: Address already in use"):format(port)
      assert_refused(text, listening(port, pid_file))
      assert_refused(text, listening(port, pid_file, "--daemon"))
      assert_refused(text, { "--proxy-address=127.0.0.1:0", ("--proxy-read-only-address=127.0.0.1:%d"):format(port) })
      assert.is_false(exists(folder .. "/proxy.pid"))
      holder:close()
      uv.run("nowait")
    end)

    it("a log file or pid file that cannot be written, as a daemon too", function()
      local port = free_port()
      local missing = folder .. "/missing/file"
      assert_refused(("can't open log-file '%s': "):format(missing), listening(port, "--log-file=" .. missing))
      assert_refused(("open(%s) failed: No such file"):format(missing), listening(port, "--pid-file=" .. missing))
      assert_refused(("open(%s) failed: "):format(missing), listening(port, "--pid-file=" .. missing, "--daemon"))
      assert.is_false(can_connect(port))
    end)

    it("a unix socket in a folder that is not there", function()
      local socket = folder .. "/missing/socket"
      assert_refused(("bind(%s) failed: ENOENT: no such file or directory"):format(socket),
        { "--proxy-address=" .. socket, "--proxy-read-only-address=127.0.0.1:0" })
    end)

    it("a host name that does not exist", function()
      assert_refused("no-such-host.invalid", { "--proxy-address=no-such-host.invalid:4040" })
    end)

    it("a limit of files that the system refuses", function()
      assert_refused("setting fdlimit = 2147483647 failed: ", listening(0, "--max-open-files=2147483647"))
    end)

    it("another user who does not exist, or cannot be become", function()
      if output_of("id -u") == "0" then
        assert_refused("unknown user: no-such-user", listening(0, "--user=no-such-user"))
      else
        assert_refused("can only use the --user switch if running as root", listening(0, "--user=nobody"))
      end
    end)
  end)

  it("tells a start error in the log file too", function()
    local log_file = folder .. "/proxy.log"
    assert_refused("open(/no/such/file) failed: ",
      listening(0, "--log-file=" .. log_file, "--pid-file=/no/such/file", "--daemon"))
    assert.matches("%(critical%) open%(/no/such/file%) failed: ", read_all(log_file))
  end)

  describe("runs", function()
    it("until SIGTERM or SIGINT, which end it with status 0 and remove its files", function()
      for signal, more in pairs({ TERM = { "--log-level=message" }, INT = { "--verbose-shutdown" } }) do
        local port = free_port()
        local socket = folder .. "/proxy.sock"
        local proxy = start(listening(port, "--proxy-address=" .. socket, "--pid-file=proxy.pid",
          "--log-file=proxy.log", unpack(more)))
        assert.is_true(can_connect(port))
        assert.equal("socket", output_of("stat -c %F " .. socket))
        os.execute(("kill -%s %d"):format(signal, proxy.pid))
        assert.equal(0, (proxy.ended()))
        assert.is_false(can_connect(port))
        assert.is_false(exists(folder .. "/proxy.pid"))
        assert.equal("", output_of("ls " .. folder .. " | grep sock"))
        local log_text = read_all(folder .. "/proxy.log")
        for _, plugin in ipairs({ "plugin proxy", "plugin admin", "mysql-proxy" }) do
          assert.matches(("(critical) %s 0.9.0 started\n"):format(plugin), log_text, 1, true)
        end
        local at_default = signal == "INT" -- which shows critical lines only
        assert.equal(not at_default, log_text:find("(message) Initiating shutdown, requested from signal handler\n", 1,
          true) ~= nil)
        assert.matches(("%%(%s%%) shutting down normally, exit code is: 0\n$"):format(
          at_default and "critical" or "message"), log_text)
        assert.equal(at_default, log_text:gsub("%(critical%)", ""):find("%(%a+%)") == nil)
        os.remove(folder .. "/proxy.log")
      end
    end)

    it("with its process id in the pid file, which is for its owner only", function()
      local proxy = start(listening(0, "--pid-file=proxy.pid"))
      assert.equal(tostring(proxy.pid), read_all(folder .. "/proxy.pid"))
      assert.equal("600", output_of(("stat -c %%a %s/proxy.pid"):format(folder)))
      assert.matches("mysql-proxy", read_all(("/proc/%d/cmdline"):format(proxy.pid)), 1, true)
    end)

    it("with the limit of open files that was asked for, or what max-connections needs", function()
      local function soft_limit(...)
        local log_file = folder .. "/proxy.log"
        local proxy = start(listening(0, "--pid-file=proxy.pid", "--log-file=proxy.log", "--log-level=debug", ...))
        local limit = read_all(("/proc/%d/limits"):format(proxy.pid)):match("Max open files%s+(%d+)")
        eventually("the start", function()
          return read_all(log_file):find(("(debug) max open file-descriptors = %s\n"):format(limit), 1, true)
        end)
        os.execute("kill " .. proxy.pid)
        proxy.ended()
        os.remove(log_file)
        return tonumber(limit)
      end
      assert.equal(333, soft_limit("--max-open-files=333"))
      local hard = tonumber(output_of("ulimit -Hn")) or math.huge
      local soft = tonumber(output_of("ulimit -Sn")) or math.huge
      assert.equal(math.max(soft, math.min(hard, 3064)), soft_limit("--max-connections=1500"))
    end)

    it("and reopens its log on SIGHUP", function()
      local proxy = start(listening(0, "--pid-file=proxy.pid", "--log-level=message", "--log-file=proxy.log"))
      local log_file = folder .. "/proxy.log"
      assert(os.rename(log_file, log_file .. ".1"))
      os.execute("kill -HUP " .. proxy.pid)
      eventually("a new log file", function()
        return exists(log_file) and read_all(log_file):find("(message) re-opened log file after SIGHUP\n", 1, true)
      end)
      assert.matches("%(message%) received a SIGHUP, closing log file\n$", read_all(log_file .. ".1"))
    end)

    it("as a daemon: it accepts when the command returns, and holds no terminal", function()
      local port = free_port()
      local status, out, err = run(listening(port, "--daemon", "--pid-file=proxy.pid", "--log-file=proxy.log"))
      local pid = tonumber(read_all(folder .. "/proxy.pid"))
      started[#started + 1] = pid
      assert.equal(0, status)
      assert.equal("", out .. err)
      assert.is_true(can_connect(port))
      assert.equal(pid, tonumber(output_of("ps -o sid= -p " .. pid)))
      assert.equal("/", output_of(("readlink /proc/%d/cwd"):format(pid)))
      assert.equal("/dev/null\n/dev/null\n/dev/null", output_of(("cd /proc/%d/fd; readlink 0 1 2"):format(pid)))
      assert.matches("started", read_all(folder .. "/proxy.log"))
      os.execute("kill " .. pid)
      eventually("the end", function()
        return not exists(("/proc/%d/cmdline"):format(pid)) or read_all(("/proc/%d/cmdline"):format(pid)) == ""
      end)
      assert.is_false(exists(folder .. "/proxy.pid"))
    end)

    it("as a daemon without a log file, whose log stays on standard error", function()
      local status, _, err = run(listening(0, "--daemon", "--pid-file=proxy.pid"))
      local pid = tonumber(read_all(folder .. "/proxy.pid"))
      started[#started + 1] = pid
      assert.equal(0, status)
      assert.matches("%(critical%) mysql%-proxy 0%.9%.0 started\n$", err)
      assert.equal(folder .. "/err", output_of(("readlink /proc/%d/fd/2"):format(pid)))
    end)

    it("as another user, who can reopen the log and remove files", function()
      if output_of("id -u") ~= "0" then
        return pending("only root can become somebody else")
      end
      os.execute("chmod 777 " .. folder)
      local socket, log_file = folder .. "/proxy.sock", folder .. "/proxy.log"
      local proxy = start(listening(0, "--proxy-address=" .. socket, "--user=nobody", "--pid-file=proxy.pid",
        "--log-file=proxy.log", "--log-level=message"))
      local files = ("%s %s/proxy.pid %s"):format(log_file, folder, socket)
      eventually("the change of user", function()
        return output_of("stat -c %U " .. files .. " /proc/" .. proxy.pid) == "nobody\nnobody\nnobody\nnobody"
      end)
      assert(os.rename(log_file, log_file .. ".1"))
      os.execute("kill -HUP " .. proxy.pid)
      eventually("a new log file", function()
        return exists(log_file) and read_all(log_file):find("re-opened", 1, true)
      end)
      os.execute("kill " .. proxy.pid)
      assert.equal(0, (proxy.ended()))
      assert.equal("", output_of(("ls %s | grep -e pid -e sock"):format(folder)))
    end)
  end)

  -- The host with modules that this spec makes.
  describe("as a host", function()
    local layouts = {
      ["build tree"] = { binary = "", lua = "lib/mysql-proxy/lua", c = "lib/mysql-proxy" },
      ["installation"] = { binary = "bin/", lua = "lib/mysql-proxy/lua", c = "lib/mysql-proxy" },
      ["rock"] = { binary = "bin/", lua = "share/lua/5.1", c = "lib/lua/5.1" },
    }

    local function install(layout, main)
      os.execute(("cd %s && mkdir -p bin %s/mysql-proxy %s && cp %s/mysql-proxy ./%s"):format(folder, layout.lua,
        layout.c, BUILD, layout.binary))
      local file = assert(io.open(("%s/%s/mysql-proxy/main.lua"):format(folder, layout.lua), "w"))
      file:write(main)
      file:close()
      program = folder .. "/" .. layout.binary .. "mysql-proxy"
    end

    after_each(function()
      program = BUILD .. "/mysql-proxy"
    end)

    for name, layout in pairs(layouts) do
      it("finds its modules in the layout of a " .. name, function()
        install(layout, [[return { run = function() print(package.path) print(package.cpath) return 0 end }]])
        local status, out, err = run({}, "LUA_PATH=/elsewhere/?.lua LUA_CPATH=/elsewhere/?.so")
        assert.equal("", err)
        assert.equal(0, status)
        local lines = {}
        for line in out:gmatch("[^\n]+") do
          lines[#lines + 1] = line:gsub("bin/%.%./", "")
        end
        local lua, c = folder .. "/" .. layout.lua, folder .. "/" .. layout.c
        assert.equal(("%s/?.lua;%s/?/init.lua;/elsewhere/?.lua"):format(lua, lua), lines[1])
        local own = c .. "/?.so;/elsewhere/?.so;" -- and Lua's folders, where what the program needs is
        assert.equal(own, lines[2]:sub(1, #own))
        assert.matches("/lua/5.1/?.so", lines[2], #own, true)
      end)
    end

    it("hands over the command line and returns the status", function()
      install(layouts["build tree"], [[return { run = function(argv)
        print(arg == argv, argv[0]:match("[^/]+$"), #argv, argv[1], argv[2])
        return 7
      end }]])
      local status, out = run({ "one", "two words" })
      assert.equal(7, status)
      assert.equal("true\tmysql-proxy\t2\tone\ttwo words\n", out)
    end)

    it("ends with status 1 and a traceback if the Lua code fails", function()
      install(layouts["build tree"], [[return { run = function() error("it broke") end }]])
      local status, _, err = run({})
      assert.equal(1, status)
      assert.matches("^mysql%-proxy: [^\n]+main%.lua:1: it broke\nstack traceback:\n", err)
      install(layouts["build tree"], [[return { run = function() error({}) end }]])
      status, _, err = run({})
      assert.equal(1, status)
      assert.equal("mysql-proxy: an error that is no text\n", err)
    end)

    it("says where it looked if there are no modules", function()
      install(layouts["build tree"], "")
      os.execute(("rm -r %s/lib"):format(folder))
      local status, _, err = run({}, "LUA_PATH=/elsewhere/?.lua")
      assert.equal(1, status)
      assert.matches("module 'mysql-proxy.main' not found", err, 1, true)
      assert.matches("/elsewhere/mysql-proxy/main.lua", err, 1, true)
    end)

    it("does not die when a reader goes away", function()
      install(layouts["build tree"], [[return { run = function()
        local pipe = io.popen("true", "w")
        for _ = 1, 100 do pipe:write(("x"):rep(1000)) pipe:flush() end
        return 0
      end }]])
      assert.equal(0, (run({})))
    end)

    describe("of a proxy that is told to stop", function()
      -- The real program around a proxy that takes forever to stop, and whose callbacks fail.
      local function start_stubborn(arguments)
        install(layouts["build tree"], "")
        os.execute(("cd %s/lib/mysql-proxy && ln -s %s/lib/mysql-proxy/mysql-proxy . && cd lua/mysql-proxy"
          .. " && for f in address defaults_file help log main option_checks"
          .. " option_values options paths service; do ln -sf %s/lib/mysql-proxy/lua/mysql-proxy/$f.lua .; done")
          :format(folder, BUILD, BUILD))
        local file = assert(io.open(folder .. "/lib/mysql-proxy/lua/mysql-proxy/init.lua", "w"))
        file:write([[
          local function listen(self, callback) callback(true) end
          local function shutdown(self, seconds)
            io.stderr:write("shutdown within ", seconds, " seconds\n")
            error("shutdown\nfailed")
          end
          local function close() io.stderr:write("closed\n") end
          return { new = function() return { listen = listen, shutdown = shutdown, close = close } end }
        ]])
        file:close()
        return start(arguments)
      end

      it("ends at once on a second signal", function()
        local proxy = start_stubborn({ "--pid-file=proxy.pid", "--shutdown-timeout=12.5", "--log-level=message" })
        os.execute("kill -TERM " .. proxy.pid)
        os.execute("kill -INT " .. proxy.pid)
        local status, output = proxy.ended()
        assert.equal(0, status)
        assert.matches("shutdown within 12.5 seconds\n", output, 1, true)
        assert.matches("closed\n", output, 1, true)
        assert.matches("(message) Shutting down at once, requested from signal handler\n", output, 1, true)
        assert.is_false(exists(folder .. "/proxy.pid"))
      end)

      it("logs an error in a callback with its traceback, and lives on", function()
        local proxy = start_stubborn({ "--pid-file=proxy.pid" })
        os.execute("kill -TERM " .. proxy.pid)
        os.execute("kill -INT " .. proxy.pid)
        local status, output = proxy.ended()
        assert.equal(0, status)
        assert.matches("%(critical%) [^\n]+init%.lua:%d+: shutdown\\nfailed\n\tstack traceback:\n", output)
      end)
    end)
  end)
end)
