local defaults_file = require("mysql-proxy.defaults_file")
local options = require("mysql-proxy.options")

describe("mysql-proxy.defaults_file", function()
  it("has the keys of the group [mysql-proxy], without blanks around names and values", function()
    assert.same({ daemon = "true", ["log-file"] = "a b=c # d", empty = "" }, defaults_file.parse(table.concat({
      "# a comment", "", "[other]", "daemon = false", "[mysql-proxy]", "  daemon=true  ", "\t# more",
      "log-file\t=  a b=c # d\t", "empty =", "[another]", "log-file = x",
    }, "\n")))
  end)

  it("takes the last of equal keys, in one group or in two", function()
    assert.same({ a = "3", b = "4" },
      defaults_file.parse("[mysql-proxy]\na=1\na=2\nb=4\n[x]\na=9\n[mysql-proxy]\na=3\n"))
  end)

  it("may be empty, without the group, without a last line end, and from Windows", function()
    assert.same({}, defaults_file.parse(""))
    assert.same({}, defaults_file.parse("\n \n#"))
    assert.same({}, defaults_file.parse("[mysqld]\nport=3306"))
    assert.same({ a = "1", b = "2" }, defaults_file.parse("[mysql-proxy]\r\na=1\r\nb=2\r"))
  end)

  it("refuses a line that is nothing", function()
    for line, text in pairs({
      ["some garbage "] = "some garbage", ["=1"] = "=1", ["[mysql-proxy"] = "[mysql-proxy",
      ["[mysql-proxy] a=1"] = "[mysql-proxy] a=1", ["[]"] = "[]", ["\0"] = "\0",
    }) do
      local values, message = defaults_file.parse("# first\n\n[mysql-proxy]\n\ta=1\n " .. line .. "\nb=1")
      assert.is_nil(values)
      assert.equal(("line 5: Key file contains line “%s” which is not a key-value pair, group, or comment")
        :format(text), message)
    end
    assert.equal("line 2: Key file does not start with a group",
      select(2, defaults_file.parse("\na=1\n[mysql-proxy]")))
  end)
end)

describe("--defaults-file", function()
  local path

  before_each(function()
    path = os.tmpname()
    os.execute("chmod 600 " .. path)
  end)

  after_each(function()
    os.remove(path)
  end)

  local function write(...)
    local file = assert(io.open(path, "w"))
    file:write("[mysql-proxy]\n", table.concat({ ... }, "\n"))
    file:close()
  end

  local function parse(...)
    return options.parse({ "--defaults-file=" .. path, ... })
  end

  it("has options of every kind", function()
    write("proxy-backend-addresses = 10.0.0.1:3306 , 10.0.0.2", "daemon = true", "verbose-shutdown=1",
      "max-open-files = 100", "proxy-connect-timeout = 0.25", "log-level=debug", "plugins = admin, proxy",
      "admin-password = a b", "proxy-lua-script= x.lua")
    local parsed = assert(parse())
    assert.same({ "10.0.0.1:3306", "10.0.0.2" }, parsed.proxy_backend_addresses)
    assert.is_true(parsed.daemon)
    assert.is_true(parsed.verbose_shutdown)
    assert.equal(100, parsed.max_open_files)
    assert.equal(0.25, parsed.proxy_connect_timeout)
    assert.equal("debug", parsed.log_level)
    assert.same({ admin = true, proxy = true }, parsed.plugins)
    assert.equal("a b", parsed.admin_password)
    assert.equal("x.lua", parsed.proxy_lua_script)
  end)

  it("has flags that are off", function()
    write("daemon = false", "no-proxy = 0")
    local parsed = assert(parse())
    assert.is_nil(parsed.daemon)
    assert.is_nil(parsed.no_proxy)
  end)

  it("counts less than the command line, whatever the kind", function()
    write("proxy-backend-addresses = a, b", "max-open-files = 100", "proxy-connect-timeout = 9", "daemon = false",
      "log-level = debug")
    local parsed = assert(parse("-b", "c", "--max-open-files=7", "--proxy-connect-timeout=1.5", "--daemon",
      "--log-level=info"))
    assert.same({ "c" }, parsed.proxy_backend_addresses)
    assert.equal(7, parsed.max_open_files)
    assert.equal(1.5, parsed.proxy_connect_timeout)
    assert.is_true(parsed.daemon)
    assert.equal("info", parsed.log_level)
  end)

  it("may not ask for help, the version or another file, and what it does not know is told", function()
    write("help = true", "version = yes", "defaults-file = /no/such/file", "color = red")
    local parsed = assert(parse())
    assert.is_nil(parsed.help or parsed.version)
    assert.same({ path .. ": there is no option color" }, parsed.warnings)
  end)

  it("is held to the same rules", function()
    for line, text in pairs({
      ["daemon = yes"] = "Key file contains key “daemon” which has a value that cannot be interpreted.",
      ["max-open-files = x"] = "Key file contains key “max-open-files” which has a value that cannot be interpreted.",
      ["event-threads = 0"] = "--event-threads has to be >= 1, is 0",
      ["log-level = loud"] = "--log-level=... failed, level 'loud' is unknown",
      ["proxy-address = :99999"] = "illegal value 99999 for port, only 1 ... 65535 allowed",
      ["garbage"] = "Key file contains line “garbage” which is not a key-value pair, group, or comment",
    }) do
      write("", line)
      local parsed, message = parse()
      assert.is_nil(parsed)
      assert.matches(("loading config from '%s' failed: line 3: %s"):format(path, text), message, 1, true)
    end
    write("proxy-backend-addresses = db, db:3306")
    assert.equal("backend db:3306 is already known!", select(2, parse()))
  end)

  it("must be a file that others cannot read", function()
    os.execute("chmod 604 " .. path)
    assert.equal(("loading config from '%s' failed: permissions of %s aren't secure (0660 or stricter required)")
      :format(path, path), select(2, parse()))
    os.execute("chmod 660 " .. path)
    assert.is_table(parse())
    local _, message = options.parse({ "--defaults-file=/no/such/file" })
    assert.equal("loading config from '/no/such/file' failed: cannot stat(/no/such/file): No such file or directory",
      message)
    _, message = options.parse({ "--defaults-file=/tmp" })
    assert.equal("loading config from '/tmp' failed: /tmp isn't a regular file", message)
  end)

  it("does not get in the way of help", function()
    assert.is_true(options.parse({ "--defaults-file=/no/such/file", "--help" }).help)
  end)
end)
