local process = require("mysql-proxy.process")

local INTERPRETER = require("spec.support.interpreter")

local function read_all(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return (text:gsub("\n$", ""))
end

describe("mysql-proxy.process", function()
  local folder

  before_each(function()
    folder = output_of("mktemp -d")
  end)

  after_each(function()
    os.execute("rm -r " .. folder)
  end)

  -- Runs Lua code in a process of its own, which ignores SIGPIPE as the proxy does.
  -- -> exit status, standard output, standard error
  local function run(code)
    local file = assert(io.open(folder .. "/code.lua", "w"))
    file:write("local process = require('mysql-proxy.process')\nlocal folder = ", ("%q"):format(folder), "\n", code)
    file:close()
    local status = output_of(("trap '' PIPE; timeout 20 %s %s/code.lua >%s/out 2>%s/err; echo $?")
      :format(INTERPRETER, folder, folder, folder))
    return tonumber(status), read_all(folder .. "/out"), read_all(folder .. "/err")
  end

  local function is_root()
    return output_of("id -u") == "0"
  end

  it("states the version of CMakeLists.txt", function()
    assert.equal(read_all("CMakeLists.txt"):match("project%(mysql%-proxy VERSION ([%d.]+)"), process.version)
  end)

  describe("daemonize", function()
    -- A daemon tells what it sees through a FIFO: reading it waits until the daemon has written and gone.
    before_each(function()
      os.execute("mkfifo " .. folder .. "/facts")
    end)

    local function run_daemon(code)
      local pipe = assert(io.popen(("timeout 20 cat %s/facts"):format(folder)))
      local status, out, err = run([[
        local started_by = process.id()
        io.stdout:write("buffered once;")
        process.daemonize()
        local facts = assert(io.open(folder .. "/facts", "w"))
        local function look(command)
          local answer = io.popen("unset LD_PRELOAD; " .. command)
          facts:write(answer:read("*a"))
          answer:close()
        end
        ]] .. code)
      local facts = pipe:read("*a")
      pipe:close()
      return status, out, err, facts
    end

    it("goes on in a child with its own session, in /, with files closed to others", function()
      local status, out, err, facts = run_daemon([[
        process.ready()
        facts:write(process.id() ~= started_by and "child\n" or "same\n")
        look("ps -o sid= -p " .. process.id() .. " | grep -qx ' *" .. process.id() .. "' && echo leader")
        look("readlink /proc/" .. process.id() .. "/cwd; umask")
        os.exit(0)
      ]])
      assert.equal(0, status)
      assert.equal("buffered once;", out)
      assert.equal("", err)
      assert.equal("child\nleader\n/\n0027\n", facts)
    end)

    it("has the null device for standard streams once it is ready, or all but standard error", function()
      local code = [[
        process.ready(%s)
        look("cd /proc/" .. process.id() .. "/fd; readlink 0 1 2")
        os.exit(0)
      ]]
      local _, _, _, facts = run_daemon(code:format("false"))
      assert.equal("/dev/null\n/dev/null\n/dev/null\n", facts)
      _, _, _, facts = run_daemon(code:format("true"))
      assert.equal("/dev/null\n/dev/null\n" .. folder .. "/err\n", facts)
    end)

    it("ends with status 1 and the message of a child that failed", function()
      local status, _, err = run_daemon([[
        process.failed("no port is free")
        os.exit(0)
      ]])
      assert.equal(1, status)
      assert.equal("no port is free\n", err)
    end)

    it("ends with status 1 if the child ends or dies before it is ready", function()
      local status, _, err = run_daemon("os.exit(3)")
      assert.equal(1, status)
      assert.equal("the daemon ended with status 3 before it was ready\n", err)
      status, _, err = run_daemon([[os.execute("kill -9 " .. process.id())]])
      assert.equal(1, status)
      assert.equal("the daemon died on signal 9 before it was ready\n", err)
    end)

    it("lets the child know that the start was broken off", function()
      local status, _, _, facts = run_daemon([[
        os.execute("kill -9 " .. started_by)
        -- A dead process has no descriptors, even while it is a zombie.
        os.execute("timeout 10 sh -c 'while readlink /proc/" .. started_by .. "/fd/0; do :; done' >/dev/null")
        local ok, message, code = process.ready()
        facts:write(tostring(ok), " ", message, " ", code)
        os.exit(0)
      ]])
      assert.equal(137, status)
      assert.equal("nil reporting to the process that started the daemon failed: Broken pipe (32) 32", facts)
    end)

    it("reports once", function()
      local _, _, _, facts = run_daemon([[
        process.ready()
        facts:write(tostring(pcall(process.ready)), " ", tostring(process.failed("too late")))
        os.exit(0)
      ]])
      assert.equal("false nil", facts)
    end)

    it("is needed before ready()", function()
      assert.error_matches(function()
        process.ready()
      end, "ready() is for a daemon that has not reported yet", nil, true)
    end)
  end)

  describe("check_user and set_user", function()
    it("refuse a user that there is not", function()
      if is_root() then
        for _, name in ipairs({ "check_user", "set_user" }) do
          local ok, message = process[name]("no-such-user")
          assert.is_nil(ok)
          assert.equal("unknown user: no-such-user", message)
        end
      else
        local ok, message = process.check_user("no-such-user")
        assert.is_nil(ok)
        assert.equal("can only use the --user switch if running as root", message)
      end
    end)

    it("become that user with all its groups, and cannot go back", function()
      if not is_root() then
        return pending("only root can become somebody else")
      end
      local status, out, err = run([[
        local uid, gid = process.check_user("nobody")
        print(uid, gid)
        assert(process.set_user("nobody"))
        for line in io.lines("/proc/self/status") do
          if line:find("^[UG]id:") then print(line) end
        end
        print((select(2, process.set_user("root"))))
      ]])
      assert.equal("", err)
      assert.equal(0, status)
      local uid, gid = output_of("id -u nobody"), output_of("id -g nobody")
      assert.equal(("%s\t%s\nUid:\t%s\t%s\t%s\t%s\nGid:\t%s\t%s\t%s\t%s\n%s\n"):format(uid, gid, uid, uid, uid, uid,
        gid, gid, gid, gid, "can only use the --user switch if running as root"), out)
    end)
  end)

  describe("max_open_files", function()
    it("gives the limits that the process has", function()
      local soft, hard = process.max_open_files()
      local function as_number(text)
        return text == "unlimited" and 2147483647 or tonumber(text)
      end
      assert.equal(as_number(output_of("ulimit -Sn")), soft)
      assert.equal(as_number(output_of("ulimit -Hn")), hard)
    end)

    it("can be lowered and raised again", function()
      local status, out, err = run([[
        local soft, hard = process.max_open_files()
        assert(process.set_max_open_files(100))
        local function show()
          local now, hard_now = process.max_open_files()
          print(now, hard_now == hard)
        end
        show()
        assert(process.set_max_open_files(101))
        show()
      ]])
      assert.equal("", err)
      assert.equal(0, status)
      assert.equal("100\ttrue\n101\ttrue\n", out)
    end)

    it("says why it cannot be raised", function()
      local ok, message, code = process.set_max_open_files(2147483647)
      assert.is_nil(ok)
      assert.equal("setting fdlimit = 2147483647 failed: Operation not permitted (1)", message)
      assert.equal(1, code)
    end)

    it("must be a number that can be", function()
      for _, bad in ipairs({ 0, -1, 2 ^ 31, 0 / 0 }) do
        assert.error_matches(function()
          process.set_max_open_files(bad)
        end, "1 ... 2147483647 expected", nil, true)
      end
    end)
  end)

  describe("create_file", function()
    local function mode_of(path)
      return output_of("stat -c %a " .. path)
    end

    it("makes a file of that mode, and leaves one that exists as it is", function()
      local path = folder .. "/new"
      assert.is_true(process.create_file(path, "0600"))
      assert.equal("600", mode_of(path))
      assert.equal("", read_all(path))

      local file = io.open(path, "w")
      file:write("old")
      file:close()
      assert.is_true(process.create_file(path, "0640"))
      assert.equal("600", mode_of(path))
      assert.equal("old", read_all(path))
    end)

    it("replaces contents and mode of a file if it is given contents", function()
      local path = folder .. "/pid"
      local file = io.open(path, "w")
      file:write("123456")
      file:close()
      os.execute("chmod 666 " .. path)
      assert.is_true(process.create_file(path, "0600", "42"))
      assert.equal("42", read_all(path))
      assert.equal("600", mode_of(path))
    end)

    it("says what it could not do", function()
      local path = folder .. "/missing/file"
      local ok, message, code = process.create_file(path, "0600")
      assert.is_nil(ok)
      assert.equal(("open(%s) failed: No such file or directory (2)"):format(path), message)
      assert.equal(2, code)

      ok, message = process.create_file("/dev/full", "0666", "42")
      assert.is_nil(ok)
      assert.matches("^writing /dev/full failed: ", message) -- no space; or, unless root, not its owner
    end)

    it("takes modes as octal digits only", function()
      for _, bad in ipairs({ "", "0800", "rw", "1777", "-1" }) do
        assert.error_matches(function()
          process.create_file(folder .. "/x", bad)
        end, "a file mode in octal digits expected", nil, true)
      end
    end)
  end)

  it("knows the current folder and its own id", function()
    assert.equal(output_of("pwd -P"), process.current_folder())
    assert.equal(output_of("echo $PPID"), tostring(process.id()))
  end)

  it("does not find the arguments of a program that is not its host", function()
    assert.is_false(process.hide_argument(1, 1))
    assert.error_matches(function()
      process.hide_argument(1, 0)
    end, "a position in the argument expected", nil, true)
  end)

  it("tells a service manager nothing where there cannot be one", function()
    for name, reason in pairs({
      ["/no/such/socket"] = "No such file or directory", ["@nobody-listens-here"] = "Connection refused",
      [""] = "Invalid argument", ["relative"] = "Invalid argument", ["/" .. ("x"):rep(107)] = "Invalid argument",
    }) do
      local ok, message = process.notify(name, "READY=1")
      assert.is_nil(ok)
      assert.matches(("telling the service manager (%s) failed: %s"):format(name, reason), message, 1, true)
    end
  end)

  it("knows what is no listening socket", function()
    local ok, message = process.check_listener(999)
    assert.is_nil(ok)
    assert.matches("descriptor 999 of LISTEN_FDS is no socket: Bad file descriptor", message, 1, true)
  end)

  it("writes to syslog at levels of the log only", function()
    assert.error_matches(function()
      process.syslog("loud", "text")
    end, "invalid option 'loud'", nil, true)
  end)

  describe("a worker", function()
    it("is started, waited for and looked at by its parent", function()
      local status, out = run([[
        local worker = assert(process.fork_worker())
        if worker == 0 then
          process.worker_ready()
          os.exit(7)
        end
        io.write(tostring((process.reap(process.id()))), " ", process.next_signal(), " ")
        local how, number, size = process.reap(worker)
        io.write(how, " ", number, " ", size > 100 and "kB" or "?", " ", tostring(process.worker_was_ready()), " ")
        worker = assert(process.fork_worker())
        if worker == 0 then
          os.execute("sleep 20")
          os.exit(0)
        end
        io.write(tostring((process.next_signal(0))), " ", tostring(process.send_signal(worker, "USR1")), " ")
        io.write(process.next_signal(10), " ", table.concat({ process.reap(worker) }, " ", 1, 2), "\n")
      ]])
      assert.equal("nil CHLD exited 7 kB true nil true CHLD killed 10\n", out)
      assert.equal(0, status)
    end)

    it("is none in a process that nobody has forked, and signals have names", function()
      assert.is_false(process.worker_was_ready())
      assert.error_matches(process.worker_ready, "worker_ready() is for a worker", nil, true)
      for _, wrong in ipairs({ { 0, "TERM" }, { -1, "TERM" }, { 1, "KILL" } }) do
        assert.is_false(pcall(process.send_signal, unpack(wrong)))
      end
    end)
  end)
end)
