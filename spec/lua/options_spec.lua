local options = require("mysql-proxy.options")

describe("mysql-proxy.options", function()
  local function parse(...)
    return assert(options.parse({ ... }))
  end

  local function refusal(...)
    local parsed, message = options.parse({ ... })
    assert.is_nil(parsed)
    return message
  end

  it("has a default for everything that is needed", function()
    assert.same({
      admin_address = { "127.0.0.1:4041" },
      admin_address_given = false,
      event_threads = 1,
      log_format = "text",
      log_level = "critical",
      max_connections = 10000,
      metrics_address = {},
      plugins = { proxy = true, admin = true },
      warnings = {},
      shutdown_timeout = 5,
      statistics_digests = 10000,
      proxy_address = { "127.0.0.1:4040" },
      proxy_read_only_address = { "127.0.0.1:4042" },
      proxy_read_only_address_given = false,
      proxy_backend_addresses = { "127.0.0.1:3306" },
      proxy_read_only_backend_addresses = {},
      proxy_connect_timeout = 2,
      proxy_answer_limit = 67108864,
      proxy_command_limit = 67108864,
      proxy_hook_timeout = 60,
      proxy_read_timeout = 28800,
      proxy_write_timeout = 28800,
      workers = 1,
    }, parse())
  end)

  it("does not let a caller change the defaults of the next one", function()
    table.insert(parse().proxy_address, "x")
    assert.same({ "127.0.0.1:4040" }, parse().proxy_address)
  end)

  it("takes a value after = or in the next argument", function()
    assert.equal("/run/x.pid", parse("--pid-file=/run/x.pid").pid_file)
    assert.equal("/run/x.pid", parse("--pid-file", "/run/x.pid").pid_file)
    assert.equal("a=b", parse("--log-file=a=b").log_file)
    assert.equal("--daemon", parse("--log-file", "--daemon").log_file)
  end)

  it("takes short options with the value attached or in the next argument", function()
    local parsed = parse("-P", ":4040", "-b10.0.0.1:3306", "-r", "10.0.0.2:3306")
    assert.same({ ":4040" }, parsed.proxy_address)
    assert.same({ "10.0.0.1:3306" }, parsed.proxy_backend_addresses)
    assert.same({ "10.0.0.2:3306" }, parsed.proxy_read_only_backend_addresses)
    assert.is_true(parse("-h").help)
    assert.is_true(parse("-?").help)
    assert.is_true(parse("-V").version)
  end)

  it("takes flags", function()
    assert.is_nil(parse().daemon)
    assert.is_true(parse("--daemon").daemon)
  end)

  it("takes several addresses, repeated or separated by commas, instead of the default", function()
    local parsed = parse("--proxy-backend-addresses=a:1, b:2", "-b", "c", "--proxy-address=[::1]:4040,/run/proxy.sock",
      "--proxy-read-only-backend-addresses=r1,r2")
    assert.same({ "a:1", "b:2", "c" }, parsed.proxy_backend_addresses)
    assert.same({ "[::1]:4040", "/run/proxy.sock" }, parsed.proxy_address)
    assert.same({ "r1", "r2" }, parsed.proxy_read_only_backend_addresses)
  end)

  it("tells whether addresses with a default are the user's", function()
    local parsed = parse("--proxy-read-only-address=127.0.0.1:4042", "--admin-address=127.0.0.1:4041")
    assert.same({ "127.0.0.1:4042" }, parsed.proxy_read_only_address)
    assert.is_true(parsed.proxy_read_only_address_given)
    assert.is_true(parsed.admin_address_given)
  end)

  it("has no read-only port where its address is empty", function()
    local parsed = parse("--proxy-read-only-address=")
    assert.same({}, parsed.proxy_read_only_address)
    assert.same({}, parse("--proxy-read-only-address", "").proxy_read_only_address)
    assert.same({ "127.0.0.1:4040" }, parsed.proxy_address)
  end)

  it("leaves out the proxy or the admin interface where only the other is named, and with --no-proxy", function()
    assert.same({ admin = true }, parse("--plugins=admin").plugins)
    assert.same({}, parse("--plugins=admin").proxy_address)
    assert.same({}, parse("--plugins=admin").proxy_read_only_address)
    assert.same({ proxy = true }, parse("--plugins=proxy").plugins)
    assert.same({ proxy = true, admin = true }, parse("--plugins=admin", "--plugins", "proxy").plugins)
    assert.same({ admin = true }, parse("--no-proxy").plugins)
    assert.same({}, parse("--no-proxy", "-P:4040").proxy_address)
  end)

  it("takes what the admin interface needs, and tells where in the arguments the password is", function()
    local hidden = {}
    local parsed = options.parse({ "--admin-username=root", "--admin-password=a=b", "--admin-password", "secret" },
      function(index, from)
        hidden[#hidden + 1] = { index, from }
      end)
    assert.equal("root", parsed.admin_username)
    assert.equal("secret", parsed.admin_password)
    assert.same({ { 2, 18 }, { 4, 1 } }, hidden)
    assert.equal("", parse("--admin-password=").admin_password)
  end)

  it("reads times as seconds with a fraction", function()
    local parsed = parse("--proxy-connect-timeout=0.5", "--proxy-read-timeout", "10", "--proxy-write-timeout=.25",
      "--shutdown-timeout=0")
    assert.equal(0.5, parsed.proxy_connect_timeout)
    assert.equal(10, parsed.proxy_read_timeout)
    assert.equal(0.25, parsed.proxy_write_timeout)
    assert.equal(0, parsed.shutdown_timeout)
  end)

  it("reads whole numbers", function()
    local parsed = parse("--max-open-files=4096", "--max-connections=0")
    assert.equal(4096, parsed.max_open_files)
    assert.equal(0, parsed.max_connections)
  end)

  it("knows the log levels", function()
    for _, level in ipairs({ "error", "critical", "warning", "message", "info", "debug" }) do
      assert.equal(level, parse("--log-level=" .. level).log_level)
    end
  end)

  describe("refuses", function()
    local cases = {
      ["an unknown option"] = { { "--bogus" }, "Unknown option --bogus (use --help to show all options)" },
      ["an unknown short option"] = { { "-x" }, "Unknown option -x (use --help to show all options)" },
      ["an abbreviated option"] = { { "--log" }, "Unknown option --log (use --help to show all options)" },
      ["a value for a flag"] = { { "--daemon=1" }, "Unknown option --daemon=1 (use --help to show all options)" },
      ["a stray argument"] = { { "--daemon", "extra" }, "unknown option: extra" },
      ["a lone hyphen"] = { { "-" }, "unknown option: -" },
      ["two lone hyphens"] = { { "--" }, "Unknown option -- (use --help to show all options)" },
      ["an option without its value"] = { { "--pid-file" }, "Missing argument for --pid-file" },
      ["an empty file name"] = { { "--log-file=" }, "--log-file must not be empty" },
      ["an unknown log level"] = { { "--log-level=foo" }, "--log-level=... failed, level 'foo' is unknown " },
      ["a number that is none"] = { { "--max-open-files=abc" },
        "Cannot parse integer value “abc” for --max-open-files" },
      ["a fraction of a file"] = { { "--max-open-files=1.5" },
        "Cannot parse integer value “1.5” for --max-open-files" },
      ["no open files"] = { { "--max-open-files=0" }, "value 0 for --max-open-files is out of range: 1 ... " },
      ["a huge number"] = { { "--max-connections=99999999999999999999" },
        "value 99999999999999999999 for --max-connections is out of range" },
      ["a negative number"] = { { "--max-connections=-1" }, "value -1 for --max-connections is out of range" },
      ["a time that is none"] = { { "--proxy-connect-timeout=soon" },
        "Cannot parse value “soon” for --proxy-connect-timeout: a number of seconds expected" },
      ["infinite time"] = { { "--proxy-read-timeout=inf" }, "Cannot parse value “inf” for --proxy-read-timeout" },
      ["a hexadecimal time"] = { { "--proxy-read-timeout=0x10" }, "Cannot parse value “0x10” for" },
      ["a time of 0"] = { { "--proxy-write-timeout=0" }, "value 0 for --proxy-write-timeout must be positive" },
      ["a negative time"] = { { "--proxy-connect-timeout=-1" },
        "value -1 for --proxy-connect-timeout must be positive" },
      ["a negative shutdown time"] = { { "--shutdown-timeout=-1" },
        "value -1 for --shutdown-timeout is out of range" },
      ["a port out of range"] = { { "--proxy-address=127.0.0.1:99999" },
        "illegal value 99999 for port, only 1 ... 65535 allowed (--proxy-address)" },
      ["port 0 of a backend"] = { { "-b", "db:0" }, "illegal value 0 for port, only 1 ... 65535 allowed" },
      ["a port that is none"] = { { "--proxy-backend-addresses=db:abc" },
        "IP-address has to be in the form [<ip>][:<port>], is 'db:abc'. Failed to parse the port at 'abc'" },
      ["a relative base directory"] = { { "--basedir=base" },
        "--basedir option must be an absolute path, but was base" },
      ["a time of slow statements without a log"] = { { "--slow-query-time=1" },
        "--slow-query-time and --slow-query-log need each other: which statements, and where to" },
      ["a log of slow statements without a time"] = { { "--slow-query-log=x" },
        "--slow-query-time and --slow-query-log need each other: which statements, and where to" },
      ["slow statements that are not looked at"] = {
        { "--slow-query-log=x", "--slow-query-time=1", "--proxy-skip-profiling" },
        "--slow-query-time needs what --proxy-skip-profiling leaves out" },
      ["a negative time of slow statements"] = { { "--slow-query-log=x", "--slow-query-time=-1" },
        "value -1 for --slow-query-time is out of range: 0 ... 2147483647" },
      ["more workers than any machine has use for"] = { { "--workers=1001" },
        "value 1001 for --workers is out of range: 1 ... 1000" },
      ["a log in a file and in syslog"] = { { "--log-file=x", "--log-use-syslog" },
        "log-file and log-use-syslog were given, but only one is allowed" },
      ["a log format that there is not"] = { { "--log-format=xml" },
        "value xml for --log-format is unknown (one of text, json expected)" },
      ["no threads"] = { { "--event-threads=0" }, "--event-threads has to be >= 1, is 0" },
      ["a plugin that there is not"] = { { "--plugins=proxy", "--plugins=debug" },
        "loading module 'debug' failed: only proxy and admin are built in; setting --plugin-dir=<dir> might help" },
      ["neither plugin"] = { { "--no-proxy", "--plugins=proxy" },
        "nothing is left to run: --no-proxy, and --plugins does not name admin" },
      ["an empty element of a list"] = { { "-b", "a:1,,b:2" }, "is ''. No port number" },
      ["the same backend twice"] = { { "-b", "db:3306", "-b", "DB" }, "backend DB is already known!" },
      ["a backend that is read-only too"] = { { "-b", "/run/m.sock", "-r", "/run/m.sock" },
        "backend /run/m.sock is already known!" },
    }
    for what, case in pairs(cases) do
      it(what, function()
        assert.matches(case[2], refusal(unpack(case[1])), 1, true)
      end)
    end
  end)

  it("reports the first of several mistakes", function()
    assert.matches("--one", refusal("--one", "--two", "three"), 1, true)
  end)

  it("lets no mistake prevent help or the version", function()
    assert.is_true(parse("--version", "--bogus").version)
    assert.is_true(parse("--log-level=foo", "stray", "--help-all").help_all)
  end)

  describe("help", function()
    it("fits a screen of 80 columns and 40 lines, a prompt included", function()
      local _, lines = options.help("help"):gsub("\n", "")
      assert.is_true(lines < 40)
      for line in options.help("all"):gmatch("[^\n]+") do
        assert.is_true(#line <= 80, line)
      end
    end)

    it("shows the general options, and those of a group where that is asked for", function()
      assert.matches("%-V, %-%-version", options.help("help"))
      assert.is_nil(options.help("help"):find("--proxy-address", 1, true))
      assert.matches("-P, --proxy-address=ADDR", options.help("proxy"), 1, true)
      assert.is_nil(options.help("proxy"):find("--version", 1, true))
      assert.matches("--admin-address=ADDR", options.help("admin"), 1, true)
    end)

    it("shows every option that is accepted", function()
      local all = options.help("all")
      for _, name in ipairs({
        "help", "help-all", "help-proxy", "help-admin", "version", "daemon", "pid-file", "user", "log-file",
        "log-level", "max-open-files", "max-connections", "shutdown-timeout", "proxy-address", "proxy-connect-timeout",
        "proxy-backend-addresses", "proxy-read-only-address", "proxy-read-only-backend-addresses",
        "proxy-read-timeout", "proxy-write-timeout", "proxy-lua-script", "proxy-lua-config-folder",
        "proxy-hook-timeout",
        "proxy-fix-bug-25371",
        "proxy-pool-no-change-user", "proxy-answer-limit", "proxy-command-limit", "check-script", "lua-path",
        "lua-cpath", "basedir", "plugins", "defaults-file",
        "check-config", "log-format", "log-use-syslog", "log-backtrace-on-crash", "keepalive",
        "metrics-address", "plugin-dir", "event-threads", "verbose-shutdown", "no-proxy", "proxy-skip-profiling",
        "proxy-profiling", "statistics-digests",
        "admin-address", "admin-username", "admin-password", "admin-lua-script",
      }) do
        local _, count = all:gsub("%-%-" .. name:gsub("%-", "%%-") .. "%f[^%w-]", "")
        assert.is_true(count >= 1, name)
      end
    end)
  end)
end)
