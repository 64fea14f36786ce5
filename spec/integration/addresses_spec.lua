local address = require "mysql-proxy.address"
local logs = require "mysql-proxy.log"
local mysql_proxy = require "mysql-proxy"
local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

for _, shared in ipairs(servers.all()) do
  describe("addresses, " .. shared.name, function()
    local server, proxy, own_port

    -- What the server's client gets that connects as these options say.
    local function ask(sql, ...)
      local program, args = server:client()
      local user, password = server.account.user, server.account.password
      local account = { "--user=" .. user, "--password=" .. password, "-N", "-B", "-e", sql }
      for _, list in ipairs { server.clear_text, account, { ... } } do
        for _, arg in ipairs(list) do
          args[#args + 1] = arg
        end
      end
      local code, output, errors = process.run(program, args)
      return code == 0 and output or errors
    end

    local function ask_at(port, sql)
      return ask(sql or "SELECT @@port", "--host=127.0.0.1", "--port=" .. port)
    end

    setup(function()
      server = servers.start(shared.flavour, { "--bind-address=127.0.0.1,::1" })
      own_port = server.port .. "\n"
      -- From now on MySQL knows the password, and takes its hash without asking how secure the connection is.
      assert.equal(own_port, ask_at(server.port))
    end)

    teardown(function()
      server:stop()
    end)

    after_each(function()
      if proxy then
        proxy:stop()
        proxy = nil
      end
    end)

    describe("where clients connect", function()
      it("may be many: IPv4, IPv6 and unix sockets", function()
        local socket, other_socket, port = process.path("proxy"), process.path("proxy"), process.free_port()
        proxy = proxies.start({ server }, {
          ("--proxy-address=[::1]:%d,%s"):format(port, socket), "--proxy-read-only-address=" .. other_socket,
        })
        assert.equal(own_port, ask_at(proxy.port))
        assert.equal(own_port, ask("SELECT @@port", "--host=::1", "--port=" .. port))
        assert.equal(own_port, ask("SELECT @@port", "--protocol=socket", "--socket=" .. socket))
        assert.equal(own_port, ask("SELECT @@port", "--protocol=socket", "--socket=" .. other_socket))
        assert.equal(own_port, ask_at(proxy.read_only_port))
        assert.truthy(ask("DO 0; CREATE DATABASE never", "--protocol=socket", "--socket=" .. other_socket)
          :find("ERROR 1290", 1, true))
        local log = proxy:log()
        for _, place in ipairs { "127.0.0.1:" .. proxy.port, "[::1]:" .. port, socket } do
          assert.truthy(log:find("proxy listening on port " .. place, 1, true), place)
        end
        assert.equal(0, proxy:stop())
        assert.is_nil(uv.fs_stat(socket), "the socket is left behind")
      end)

      it("may be a unix socket that a dead proxy left behind, but not one in use", function()
        local socket = process.path("proxy")
        local first = proxies.start({ server }, { "--proxy-address=" .. socket })
        first.process:stop("sigkill")
        assert.truthy(uv.fs_stat(socket))
        proxy = proxies.start({ server }, { "--proxy-address=" .. socket })
        assert.equal(own_port, ask("SELECT @@port", "--protocol=socket", "--socket=" .. socket))
        local code, _, errors = process.run(proxies.build .. "/mysql-proxy", { "--proxy-address=" .. socket })
        assert.equal(1, code)
        assert.truthy(errors:find("Address already in use", 1, true), errors)
        assert.equal(own_port, ask("SELECT @@port", "--protocol=socket", "--socket=" .. socket))
      end)

      it("may be a unix socket for many rows, in both directions", function()
        local socket = process.path("proxy")
        proxy = proxies.start({ server }, { "--proxy-address=" .. socket })
        local statement = ("SELECT SHA2('%s', 256), LENGTH(REPEAT('x', 33000000)), REPEAT('y', 20000000)")
          :format(("z"):rep(90000))
        local through = ask(statement, "--protocol=socket", "--socket=" .. socket, "--max-allowed-packet=1G")
        assert.is_true(#through > 20000000)
        assert.is_true(through == ask(statement, "--host=::1", "--port=" .. server.port, "--max-allowed-packet=1G"))
      end)
    end)

    describe("of backends", function()
      local function serves(backend)
        proxy = proxies.start { backend }
        assert.equal(own_port, ask_at(proxy.port))
        assert.equal(own_port, ask_at(proxy.read_only_port))
        local bytes = ask_at(proxy.port, "SELECT REPEAT('x', 10000000)")
        assert.equal(10000001, #bytes)
        return ask_at(proxy.port, "SELECT USER()")
      end

      it("may be IPv6", function()
        assert.equal(server.account.user .. "@::1\n", serves("[::1]:" .. server.port))
      end)

      it("may be a host name", function()
        assert.truthy(serves("localhost:" .. server.port):find("@"))
      end)

      it("may be a unix socket", function()
        assert.equal(server.account.user .. "@localhost\n", serves(server.socket))
      end)
    end)

    describe("that lead nowhere: clients go to another backend, and the log says why, when it is", function()
      local function goes_on(backend, reason)
        proxy = proxies.start { backend, server }
        for _ = 1, 3 do
          assert.equal(own_port, ask_at(proxy.port))
        end
        local log = proxy:log()
        assert.truthy(log:find(("(critical) connect(%s) failed: %s"):format(backend, reason), 1, true), log)
        assert.truthy(log:find(("connecting to backend (%s) failed, marking it as down"):format(backend), 1, true))
        assert.equal(1, (select(2, log:gsub("connect%(%S+%) failed", ""))))
      end

      it("a host name that cannot be resolved", function()
        goes_on("nothing.invalid:3306", "no address found for host name 'nothing.invalid'")
      end)

      it("a unix socket that is not there", function()
        goes_on(process.path("no-socket"), "No such file or directory")
      end)

      it("an IPv6 address where nobody listens", function()
        goes_on("[::1]:" .. process.free_port(), "Connection refused")
      end)
    end)

    -- Here the proxy runs in this process, and the resolver is ours.
    describe("of a host name", function()
      local resolve = address.resolve
      local in_process, port, log_file

      local function start(...)
        port, log_file = process.free_port(), process.path("log")
        in_process = assert(mysql_proxy.new {
          proxy_address = { "127.0.0.1:" .. port }, proxy_backend_addresses = { ... }, proxy_connect_timeout = 0.3,
          log = assert(logs.new { file = log_file }),
        })
        in_process:listen(assert)
      end

      after_each(function()
        address.resolve = resolve
        in_process:close()
        in_process.log:close()
      end)

      it("that the resolver gives no answer for: clients go to another backend after the connect timeout", function()
        local asked = 0
        function address.resolve(addr, callback)
          if addr.host ~= "silence" then
            return resolve(addr, callback)
          end
          asked = asked + 1
        end
        start("silence:3306", "127.0.0.1:" .. server.port)
        local clients = {}
        for i = 1, 5 do
          clients[i] = raw.connect(port)
        end
        for _, client in ipairs(clients) do
          assert.equal("\1", (client:login("nopass"):query("SELECT 1")))
          client:close()
        end
        assert.equal(1, asked)
        local reason = "connect(silence:3306) failed: the host name was not resolved in time."
        assert.truthy(process.read_file(log_file):find(reason, 1, true))
      end)

      it("that stands for two machines: one that does not answer does not keep clients from the other", function()
        -- a listener that accepts nobody, and whose queue is full
        local silent, queue, waiting = uv.new_tcp(), {}, true
        silent:bind("127.0.0.2", server.port)
        silent:listen(0, function() end)
        while waiting do
          local socket, connected = uv.new_tcp(), false
          queue[#queue + 1] = socket
          socket:connect("127.0.0.2", server.port, function(failure)
            connected = not failure
          end)
          waiting = process.wait_until(function()
            return connected
          end, 0.2)
        end
        function address.resolve(addr, callback)
          if addr.host ~= "two" then
            return resolve(addr, callback)
          end
          local machines = {}
          for i, ip in ipairs { "127.0.0.2", "127.0.0.1" } do
            machines[i] = { family = "inet", ip = ip, port = addr.port }
          end
          callback(nil, machines)
        end
        start("two:" .. server.port)
        local client = raw.connect(port):login("nopass")
        assert.equal("\1", (client:query("SELECT 1")))
        client:close()
        silent:close()
        for _, socket in ipairs(queue) do
          socket:close()
        end
      end)
    end)

    -- The kernel's table of connections: of those that match, how many there are and how many have a keepalive timer.
    local function kept_alive(pattern)
      local all, kept = 0, 0
      for timer in process.read_file("/proc/net/tcp"):gmatch(pattern .. " 01 %x+:%x+ (%x%x):") do
        all, kept = all + 1, kept + (timer == "02" and 1 or 0)
      end
      return all, kept
    end

    local function keeps_alive(...)
      proxy = proxies.start({ server }, { ... })
      local client = raw.connect(proxy.port):login("nopass")
      assert.equal("\1", (client:query("SELECT 1")))
      local any = "%x+:%x%x%x%x"
      assert.truthy(process.wait_until(function() -- until all is acknowledged another timer may run
        local of_clients, clients_kept = kept_alive((" %%x+:%04X %s"):format(proxy.port, any))
        local to_server, server_kept = kept_alive((" %s %%x+:%04X"):format(any, server.port))
        return of_clients == 1 and clients_kept == 1 and to_server == 1 and server_kept == 1
      end, 10))
      client:close()
    end

    it("whose machine vanishes are noticed: idle connections of both sides are kept alive", function()
      keeps_alive()
    end)

    it("whose machine vanishes are noticed by workers too, who share a socket that another process has made", function()
      keeps_alive("--workers=2")
    end)
  end)
end
