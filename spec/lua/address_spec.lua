local uv = require("luv")
local address = require("mysql-proxy.address")

describe("mysql-proxy.address", function()
  describe("parse", function()
    local function inet(text, ...)
      local parsed = assert(address.parse(text, ...))
      assert.equal("inet", parsed.family)
      assert.equal(text, parsed.name)
      return parsed.host .. " " .. parsed.port
    end

    local function refusal(text, ...)
      local parsed, message = address.parse(text, ...)
      assert.is_nil(parsed)
      return message
    end

    it("reads host:port, ip:port and [v6]:port", function()
      assert.equal("db-1.example.org 3307", inet("db-1.example.org:3307"))
      assert.equal("10.0.0.1 65535", inet("10.0.0.1:65535"))
      assert.equal("::1 4040", inet("[::1]:4040"))
      assert.equal("::ffff:10.0.0.1 1", inet("[::ffff:10.0.0.1]:1"))
      assert.equal("fe80::1%eth0 3306", inet("[fe80::1%eth0]:3306"))
    end)

    it("takes port 3306, or the caller's, where none is written", function()
      assert.equal("db 3306", inet("db"))
      assert.equal("::1 3306", inet("[::1]"))
      assert.equal("db 4040", inet("db", 4040))
      assert.equal("db 3306", inet("db:3306", 4040))
    end)

    it("takes :port for all interfaces when listening and for this host when connecting", function()
      assert.equal("127.0.0.1 4040", inet(":4040"))
      assert.equal("0.0.0.0 4040", inet(":4040", nil, true))
    end)

    it("takes an absolute path for a unix socket", function()
      assert.same({ family = "unix", path = "/run/mysqld/mysqld.sock", name = "/run/mysqld/mysqld.sock" },
        address.parse("/run/mysqld/mysqld.sock"))
    end)

    it("refuses a path that does not fit into a socket address", function()
      local longest = "/" .. ("x"):rep(106)
      assert.equal(longest, address.parse(longest).path)
      assert.matches("^unix%-path is too long: /xxx", refusal(longest .. "x"))
      assert.equal("unix-path contains a NUL byte", refusal("/run/\0x"))
    end)

    it("refuses ports that do not exist", function()
      assert.equal("illegal value 99999 for port, only 1 ... 65535 allowed", refusal("db:99999"))
      assert.equal("illegal value 65536 for port, only 1 ... 65535 allowed", refusal("db:65536", nil, true))
      assert.equal("illegal value 0 for port, only 1 ... 65535 allowed", refusal("db:0"))
      assert.equal("illegal value " .. ("9"):rep(400) .. " for port, only 1 ... 65535 allowed",
        refusal("db:" .. ("9"):rep(400)))
    end)

    it("takes port 0 for any free port when listening", function()
      assert.equal("127.0.0.1 0", inet("127.0.0.1:0", nil, true))
    end)

    it("says where it could not read the port", function()
      local form = "IP-address has to be in the form [<ip>][:<port>], is '%s'. %s"
      assert.equal(form:format("db:abc", "Failed to parse the port at 'abc'"), refusal("db:abc"))
      assert.equal(form:format("db:33x6", "Failed to parse the port at 'x6'"), refusal("db:33x6"))
      assert.equal(form:format("db:-1", "Failed to parse the port at '-1'"), refusal("db:-1"))
      assert.equal(form:format("[::1]4040", "Failed to parse the port at '4040'"), refusal("[::1]4040"))
      assert.equal(form:format("db:", "No port number"), refusal("db:"))
      assert.equal(form:format("[::1]:", "No port number"), refusal("[::1]:"))
      assert.equal(form:format(":", "No port number"), refusal(":"))
      assert.equal(form:format("", "No port number"), refusal(""))
    end)

    it("refuses an IPv6 address without brackets and shows the right form", function()
      for _, text in ipairs({ "::1", "fe80::1", "::1:3306" }) do
        assert.matches("an IPv6 address is written as [::1]:3306", refusal(text), 1, true)
      end
    end)

    it("refuses what can be no host name", function()
      for _, text in ipairs({ "a b:3306", "user@db", "db\n", "a/b", "[db]", "[]", "db;x", "bücher" }) do
        assert.matches("is no host name or IP address", refusal(text), 1, true)
      end
    end)
  end)

  describe("resolve", function()
    -- -> err, endpoints, whether the callback came before resolve() returned
    local function resolve(text)
      local outcome
      address.resolve(assert(address.parse(text)), function(...)
        outcome = { ... }
      end)
      local at_once = outcome ~= nil
      local deadline = uv.new_timer()
      deadline:start(20000, 0, function()
        deadline:stop()
      end)
      while not outcome and deadline:is_active() do
        uv.run("once")
      end
      deadline:close()
      uv.run("nowait")
      assert(outcome, "the callback was not called within 20 s")
      return outcome[1], outcome[2], at_once
    end

    it("gives IP addresses and paths back at once", function()
      local cases = {
        ["127.0.0.1:3307"] = { family = "inet", ip = "127.0.0.1", port = 3307 },
        [":3307"] = { family = "inet", ip = "127.0.0.1", port = 3307 },
        ["[::1]:3307"] = { family = "inet6", ip = "::1", port = 3307 },
        ["[fe80::1%lo]:3307"] = { family = "inet6", ip = "fe80::1%lo", port = 3307 },
        ["/tmp/x.sock"] = { family = "unix", path = "/tmp/x.sock" },
      }
      for text, endpoint in pairs(cases) do
        local err, endpoints, at_once = resolve(text)
        assert.is_nil(err)
        assert.same({ endpoint }, endpoints)
        assert.is_true(at_once)
      end
    end)

    it("looks host names up without holding up its caller, and gives each address once", function()
      local err, endpoints, at_once = resolve("localhost:3307")
      assert.is_nil(err)
      assert.is_false(at_once)
      local count = 0
      for _, endpoint in ipairs(endpoints) do
        assert.equal(3307, endpoint.port)
        if endpoint.ip == "127.0.0.1" then
          assert.equal("inet", endpoint.family)
          count = count + 1
        end
      end
      assert.equal(1, count)
    end)

    it("says which host name it could not find", function()
      local err, endpoints = resolve("no-such-host.invalid:3307")
      assert.matches("^no address found for host name 'no%-such%-host%.invalid' %(EAI_%u+%)$", err)
      assert.is_nil(endpoints)
    end)

    it("takes brackets around what is no IPv6 address for an unknown host", function()
      local err = resolve("[1:2]:3307")
      assert.matches("^no address found for host name '1:2'", err)
    end)
  end)
end)
