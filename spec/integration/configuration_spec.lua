-- Where the program finds its options and files, and what --check-config says of them.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"

local PROGRAM = proxies.build .. "/mysql-proxy"
if PROGRAM:sub(1, 1) ~= "/" then
  PROGRAM = uv.cwd() .. "/" .. PROGRAM
end

-- Says what was loaded, to the client that has connected.
local SCRIPT = [[
  local where = %q .. (module_text or "")
  function connect_server()
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = where }
    return proxy.PROXY_SEND_RESULT
  end
]]

describe("mysql-proxy", function()
  local folder, running

  before_each(function()
    folder = process.path("configuration")
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
  end)

  after_each(function()
    if running then
      running:stop()
      running = nil
    end
  end)

  local function write(name, text)
    local path = folder .. "/" .. name
    local parent = path:match("^(.*)/")
    os.execute("mkdir -p " .. parent)
    process.write_file(path, text)
    uv.fs_chmod(path, tonumber("600", 8))
    return path
  end

  local function environment(more)
    local env = { "PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_leaks=0" }
    for _, each in ipairs(more or {}) do
      env[#env + 1] = each
    end
    return env
  end

  local function run(...)
    return process.run(PROGRAM, { ... }, { cwd = folder, env = environment() })
  end

  local function refused(text, ...)
    local code, out, err = run(...)
    assert.equal(1, code)
    assert.equal("", out)
    assert.matches("^mysql%-proxy: [^\n]+\n$", err)
    assert.matches(text, err, 1, true)
  end

  -- Starts the program; -> what its script tells a client.
  local function answer(arguments, env, program)
    local port = process.free_port()
    local all = { "--proxy-address=127.0.0.1:" .. port, "--proxy-read-only-address=127.0.0.1:0", "--plugins=proxy",
      unpack(arguments) }
    running = process.start(program or PROGRAM, all, { cwd = folder, env = environment(env) })
    assert(process.wait_until(function()
      return not running:running() or running:stderr():find("mysql%-proxy %S+ started")
    end, 20) and running:running(), running:stderr())
    local client = raw.connect(port)
    local packet = client:packet()
    client:close()
    return (packet:sub(4):gsub("^#.....", ""))
  end

  describe("takes its options from a defaults file", function()
    it("that the command line names", function()
      write("s.lua", SCRIPT:format("the script"))
      local file = write("proxy.cnf", "[mysql-proxy]\nproxy-lua-script = s.lua\npid-file = proxy.pid\n")
      assert.equal("the script", answer { "--defaults-file=" .. file })
      assert.equal(tostring(running.pid), process.read_file(folder .. "/proxy.pid"))
    end)

    it("and says what is wrong with it, in one line", function()
      local file = write("proxy.cnf", "[mysql-proxy]\ndaemon = perhaps\n")
      refused(("loading config from '%s' failed: line 2: Key file contains key “daemon” which has a value that cannot "
        .. "be interpreted."):format(file), "--defaults-file=" .. file)
      uv.fs_chmod(file, tonumber("644", 8))
      refused(("permissions of %s aren't secure (0660 or stricter required)"):format(file), "--defaults-file", file)
      refused("cannot stat(nothing): No such file or directory", "--defaults-file=nothing")
    end)

    it("and warns of keys that it does not know", function()
      local file = write("proxy.cnf", "[mysql-proxy]\ncolor = red\nlog-level = warning\n")
      write("s.lua", SCRIPT:format(""))
      answer { "--defaults-file=" .. file, "-s", "s.lua" }
      assert.matches(("(warning) %s: there is no option color\n"):format(file), running:stderr(), 1, true)
    end)
  end)

  describe("looks for relative names", function()
    it("in the current folder", function()
      write("s.lua", SCRIPT:format("current"))
      assert.equal("current", answer { "--proxy-lua-script=s.lua" })
    end)

    it("below --basedir if that is given, even where the current folder has them", function()
      write("s.lua", SCRIPT:format("current"))
      write("base/s.lua", SCRIPT:format("base"))
      assert.equal("base", answer { "--proxy-lua-script=s.lua", "--basedir=" .. folder .. "/base",
        "--pid-file=proxy.pid" })
      assert.equal(tostring(running.pid), process.read_file(folder .. "/base/proxy.pid"))
    end)

    it("there too for logs, folders and the admin interface's script", function()
      local base = folder .. "/base"
      local code, _, err = run("--check-config", "--basedir=" .. base, "--log-file=missing/p.log",
        "--slow-query-log=missing/slow.log", "--slow-query-time=1", "--proxy-lua-config-folder=missing",
        "--admin-lua-script=missing.lua", "--admin-username=a", "--admin-password=b")
      assert.equal(1, code)
      for _, option in ipairs { "log-file", "slow-query-log", "proxy-lua-config-folder", "admin-lua-script" } do
        local line = err:match("mysql%-proxy: %-%-" .. option:gsub("%-", "%%-") .. ": [^\n]*") or err
        assert.matches(base .. "/missing", line, 1, true)
      end
    end)

    it("above the program's folder, scripts that the current folder does not have", function()
      write("tree/share/s.lua", SCRIPT:format("tree"))
      os.execute(("cd %s/tree && mkdir bin lib && cp %s bin/ && ln -s %s/lib/mysql-proxy lib/"):format(folder, PROGRAM,
        PROGRAM:match("^(.*)/")))
      local program = folder .. "/tree/bin/mysql-proxy"
      assert.equal("tree", answer({ "--proxy-lua-script=share/s.lua" }, nil, program))
      running:stop()
      write("share/s.lua", SCRIPT:format("current"))
      assert.equal("current", answer({ "--proxy-lua-script=share/s.lua" }, nil, program))
    end)

    it("and refuses a base directory that is relative itself", function()
      refused("--basedir option must be an absolute path, but was base", "--basedir=base")
    end)
  end)

  describe("finds modules of scripts, C modules and the proxy's own too,", function()
    -- The name of a C module counts from its hyphen on.
    local SCRIPT_OF_MODULE = [[
      module_text = require("text")
      assert(require("c-lfs").currentdir())
      for _, name in ipairs { "mysql.proto", "mysql.tokenizer", "proxy.commands", "proxy.test", "chassis", "posix" } do
        assert(type(require(name)) == "table")
      end
    ]] .. SCRIPT:format("")

    local function lfs_file()
      for template in package.cpath:gmatch("[^;]+") do
        local path = template:gsub("%?", "lfs")
        if uv.fs_stat(path) then
          return process.read_file(path)
        end
      end
    end

    -- Each place has both modules, but the C module can be loaded from this one only.
    local function loads_from(place)
      write("s.lua", SCRIPT_OF_MODULE)
      write("base/s.lua", SCRIPT_OF_MODULE)
      for name, where in pairs { option = "option", environment = "environment", base = "base/lib/mysql-proxy/lua" } do
        write(where .. "/text.lua", ("return 'by the %s'"):format(name))
        write(where .. "/c-lfs.so", name == place and assert(lfs_file()) or "of another place")
      end
    end

    local function from_environment()
      return { "LUA_PATH=" .. folder .. "/environment/?.lua", "LUA_CPATH=" .. folder .. "/environment/?.so" }
    end

    it("by --lua-path and --lua-cpath", function()
      loads_from("option")
      assert.equal("by the option", answer({ "-s", "s.lua", "--lua-path", folder .. "/option/?.lua",
        "--lua-cpath=" .. folder .. "/option/?.so", "--basedir=" .. folder .. "/base" }, from_environment()))
    end)

    it("else by the environment", function()
      loads_from("environment")
      assert.equal("by the environment", answer({ "-s", "s.lua", "--basedir=" .. folder .. "/base" },
        from_environment()))
    end)

    it("else below the base directory", function()
      loads_from("base")
      assert.equal("by the base", answer { "-s", "s.lua", "--basedir=" .. folder .. "/base" })
    end)
  end)

  it("does not show the admin interface's password in a process list", function()
    write("s.lua", SCRIPT:format(""))
    for _, arguments in ipairs {
      { "--admin-password=hidden-word" }, { "--admin-password", "hidden-word", "--admin-username=someone" },
    } do
      table.insert(arguments, "--proxy-lua-script=s.lua")
      answer(arguments)
      local shown = process.read_file(("/proc/%d/cmdline"):format(running.pid))
      assert.matches("--admin-password", shown, 1, true)
      assert.is_nil(shown:find("hidden", 1, true))
      running:stop()
    end
  end)

  it("runs without the proxy's ports with --no-proxy, and with --plugins=admin", function()
    for _, option in ipairs { "--no-proxy", "--plugins=admin" } do
      local port = process.free_port()
      running = process.start(PROGRAM, { option, "--proxy-address=127.0.0.1:" .. port, "--admin-address=127.0.0.1:0",
        "--proxy-read-only-address=127.0.0.1:" .. port })
      assert(process.wait_until(function()
        return running:stderr():find("mysql%-proxy %S+ started")
      end, 20), running:stderr())
      assert.is_false(process.accepts(port))
      assert.is_nil(running:stderr():find("plugin proxy", 1, true))
      running:stop()
    end
  end)

  it("may do without the read-only and the admin port where their default addresses are in use", function()
    local function start(port)
      local program = process.start(PROGRAM, { "--proxy-address=127.0.0.1:" .. port })
      assert(process.wait_until(function()
        return not program:running() or program:stderr():find("mysql%-proxy %S+ started")
      end, 20) and program:running(), program:stderr())
      return program
    end
    local first_port, second_port = process.free_port(), process.free_port()
    running = start(first_port)
    for _, port in ipairs { first_port, 4042, 4041 } do
      assert.is_true(process.accepts(port))
    end
    local second = start(second_port)
    for kind, port in pairs { ["read-only proxy"] = 4042, ["admin-server"] = 4041 } do
      assert.matches(("(critical) bind(127.0.0.1:%d) failed: Address already in use (98); going on without the %s "
        .. "port\n"):format(port, kind), second:stderr(), 1, true)
    end
    assert.is_true(process.accepts(second_port))
    second:stop()
  end)

  it("looks at a script with --check-script, and warns of its mistakes", function()
    write("s.lua", SCRIPT:format("") .. "function helper() return proxy.nowhere end")
    for _, arguments in ipairs { { "--check-script=s.lua" }, { "--check-script", "s.lua" } } do
      local code, out, err = run(unpack(arguments))
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal("s.lua: hooks connect_server\ns.lua:6: warning: assigns to the global 'helper'\n"
        .. "s.lua:6: warning: proxy.nowhere does not exist\n", out)
    end
    write("s.lua", "function read_query(\n")
    refused("s.lua:", "--check-script=s.lua")
  end)

  describe("--check-config", function()
    it("says that all is right, names the script's hooks, and starts nothing", function()
      local script = write("s.lua", SCRIPT:format(""))
      local file = write("proxy.cnf", "[mysql-proxy]\nproxy-backend-addresses = 127.0.0.1\nproxy-lua-script = s.lua\n")
      local code, out, err = run("--check-config", "--defaults-file=" .. file, "--pid-file=proxy.pid",
        "--log-file=p.log", "--daemon", "--slow-query-log=slow.log", "--slow-query-time=0.5")
      assert.equal("", err)
      assert.equal(0, code)
      assert.equal(script .. ": hooks connect_server\nthe configuration is right\n", out)
      assert.equal("", process.read_file(folder .. "/proxy.pid"))
      assert.is_nil(uv.fs_stat(folder .. "/p.log"))
      assert.is_nil(uv.fs_stat(folder .. "/slow.log"))
    end)

    it("names all that is wrong with files, folders, addresses and scripts, with status 1", function()
      write("bad.lua", "function read_query(\n")
      write("file", "")
      local code, out, err = run("--check-config", "--log-file=missing/p.log", "--pid-file=.", "-s", "bad.lua",
        "--admin-lua-script=none.lua", "--admin-username=a", "--admin-password=b", "-b", "no-such-host.invalid:1",
        "-P", "nor-this.invalid:4040," .. folder .. "/missing/socket", "--proxy-lua-config-folder=file",
        "--slow-query-log=missing/slow.log", "--slow-query-time=1")
      assert.equal(1, code)
      assert.equal("", out)
      local lines = {}
      for line in err:gsub(folder:gsub("%p", "%%%0"), "F"):gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      table.sort(lines)
      for index, text in ipairs {
        "mysql-proxy: --admin-lua-script: ", -- its place depends on where the program is
        "mysql-proxy: --log-file: F/missing/p.log cannot be written: there is no folder F/missing/",
        "mysql-proxy: --pid-file: F/. cannot be written: it is a folder",
        "mysql-proxy: --proxy-address: the socket F/missing/socket cannot be made: there is no folder F/missing/",
        "mysql-proxy: --proxy-backend-addresses: cannot resolve no-such-host.invalid:1: no address found for host name",
        "mysql-proxy: --proxy-lua-config-folder: there is no folder F/file",
        "mysql-proxy: --proxy-lua-script: F/bad.lua:",
        "mysql-proxy: --slow-query-log: F/missing/slow.log cannot be written: there is no folder F/missing/",
        "mysql-proxy: proxy: cannot resolve nor-this.invalid:4040: no address found for host name 'nor-this.",
      } do
        assert.matches(text, lines[index] or "", 1, true)
      end
      assert.equal(9, #lines)
    end)

    it("names a mistake in the options, an unknown user, and keys that are no options", function()
      local file = write("proxy.cnf", "[mysql-proxy]\ncolor = red\n")
      local code, out, err = run("--check-config", "--defaults-file=" .. file)
      assert.equal(0, code)
      assert.equal("", err)
      assert.matches(("warning: %s: there is no option color\n"):format(file), out, 1, true)
      refused("unknown option: extra", "--check-config", "extra")
      refused("--admin-username needs to be set", "--check-config", "--admin-password=x")
      refused("only offered on loopback", "--check-config", "--admin-address=0.0.0.0:4041")
      code, out, err = run("--check-config", "--user=no-such-user")
      assert.equal(1, code)
      assert.equal("", out)
      assert.is_true(err:find("unknown user: no-such-user", 1, true) ~= nil
        or err:find("can only use the --user switch if running as root", 1, true) ~= nil, err)
    end)
  end)
end)
