local proto = require "mysql.proto"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

for _, server in ipairs(servers.all()) do
  describe("backends, " .. server.name, function()
    local proxy

    after_each(function()
      if proxy then
        proxy:stop()
      end
    end)

    local function client(statement)
      local program, args = server:client()
      for _, arg in ipairs(server:login(proxy.port)) do
        args[#args + 1] = arg
      end
      for _, arg in ipairs { "-N", "-B", "-e", statement or "SELECT 1" } do
        args[#args + 1] = arg
      end
      -- the MariaDB client does not believe an error that comes before TLS
      table.insert(args, server.flavour == "mysql" and "--get-server-public-key" or "--skip-ssl")
      return process.run(program, args)
    end

    it("get clients in turn", function()
      local other = servers.start(server.flavour, { "--server-id=2" })
      proxy = proxies.start { server, other }
      local seen = {}
      for i = 1, 4 do
        local _, output = client("SELECT @@port")
        seen[i] = tonumber(output)
      end
      assert.same({ server.port, other.port, server.port, other.port }, seen)
      other:stop()
    end)

    it("that refuse are marked down with a warning, and clients go to one that is up", function()
      local closed = process.free_port()
      proxy = proxies.start { "127.0.0.1:" .. closed, server }
      for _ = 1, 3 do
        local code, output = client("SELECT @@port")
        assert.equal(0, code)
        assert.equal(server.port, tonumber(output))
      end
      local log = proxy:log()
      assert.truthy(log:find(("(critical) connect(127.0.0.1:%d) failed: Connection refused. "
        .. "Retrying with different backend.\n"):format(closed), 1, true))
      assert.truthy(log:find(
        ("(critical) connecting to backend (127.0.0.1:%d) failed, marking it as down for ..."):format(closed), 1, true))
      local _, failures = log:gsub("connect%(%S+%) failed", "")
      assert.equal(1, failures)
    end)

    it("that hang are marked down after the connect timeout", function()
      local stopped = servers.start(server.flavour)
      proxy = proxies.start({ stopped, server }, { "--proxy-connect-timeout=0.3" })
      stopped:kill("sigstop")
      local code, output = client("SELECT @@port")
      stopped:kill("sigcont")
      stopped:stop()
      assert.equal(0, code)
      assert.equal(server.port, tonumber(output))
      assert.truthy(proxy:log():find(("(debug) connecting to 127.0.0.1:%d timed out after 0.30 seconds. "
        .. "Trying another backend.\n"):format(stopped.port), 1, true))
    end)

    it("that come back are used again", function()
      local other = servers.start(server.flavour)
      proxy = proxies.start { other }
      other:stop()
      local code = client()
      assert.equal(1, code)
      other:start()
      local again = process.wait_until(function()
        return client() == 0
      end, 15)
      assert.is_true(again)
      other:stop()
    end)

    it("that are all down give the client an error", function()
      proxy = proxies.start { "127.0.0.1:" .. process.free_port() }
      local code, _, errors = client()
      assert.equal(1, code)
      assert.truthy(errors:find("ERROR 1105 (HY000)", 1, true), errors)
      assert.truthy(errors:find("(proxy) all backends are down", 1, true), errors)
      assert.truthy(proxy:log():find("(critical) Cannot connect, all backends are down.", 1, true))
    end)

    it("are not marked down because the proxy has no more descriptors, of which every client is told", function()
      for limit = 40, 41 do -- with one of them it would be the connection to the server for which there is none
        local limited = proxies.start({ server }, { "--max-open-files=" .. limit })
        local clients, refused = {}, 0
        repeat
          local one = raw.connect(limited.port)
          clients[#clients + 1] = one
          local payload = assert(one:packet(), "closed without a word")
          if payload:byte() == 0xff then
            assert.equal(1040, proto.from_err_packet(payload).errcode)
            refused = refused + 1
          end
        until refused == 20
        assert.is_true(#clients > 25)
        for _, one in ipairs(clients) do
          one:close()
        end
        assert.truthy(limited:wait_for_log("refused a client: no file descriptor is left"))
        assert.is_nil(limited:log():find("marking it as down", 1, true))
        assert.truthy(process.wait_until(function()
          local again = raw.connect(limited.port)
          local payload = again:packet()
          again:close()
          return payload:byte() ~= 0xff
        end, 10))
        limited:stop()
      end
    end)

    it("refuse clients over --max-connections", function()
      proxy = proxies.start({ server }, { "--max-connections=1" })
      local uv = require "luv"
      local idle, greeted = uv.new_tcp(), false
      idle:connect("127.0.0.1", proxy.port, function()
        idle:read_start(function()
          greeted = true
        end)
      end)
      process.wait_until(function()
        return greeted
      end)
      local code, _, errors = client()
      assert.equal(1, code)
      assert.truthy(errors:find("ERROR 1040", 1, true), errors)
      assert.truthy(errors:find("Too many connections", 1, true), errors)
      idle:close()
      assert.is_true(process.wait_until(function()
        return client() == 0
      end, 5))
    end)
  end)
end
