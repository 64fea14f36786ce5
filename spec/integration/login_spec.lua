-- Every way to log in, and to become somebody else later, ends through the proxy as it does without it.

local proto = require "mysql.proto"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"

local OK, EOF, ERR = 0x00, 0xfe, 0xff

local raw = require "spec.support.raw"

for _, server in ipairs(servers.all()) do
  describe("a login through the proxy to " .. server.name, function()
    local proxy

    setup(function()
      proxy = proxies.start { server }
    end)

    teardown(function()
      assert.equal(0, proxy:stop())
    end)

    -- What the command line client prints, with its exit status.
    local function attempt(port, user, password, options)
      local program, args = server:client()
      for _, list in ipairs { options or server.clear_text, server:login(port, user, password),
        { "-N", "-B", "-e", "SELECT CURRENT_USER(), DATABASE()" } } do
        for _, argument in ipairs(list) do
          args[#args + 1] = argument
        end
      end
      local code, output, errors = process.run(program, args)
      return code .. ": " .. output .. errors:gsub("^mysql: %[Warning%][^\n]*\n", "")
    end

    local function same_both_ways(...)
      local direct = attempt(server.port, ...)
      assert.equal(direct, attempt(proxy.port, ...))
      return direct
    end

    local function with(option)
      local list = { option }
      for _, argument in ipairs(server.clear_text) do
        list[#list + 1] = argument
      end
      return list
    end

    it("with a wrong password is refused", function()
      assert.matches("^1: .*ERROR 1045 %(28000%): Access denied for user",
        same_both_ways(server.account.user, "wrong"))
    end)

    it("of an unknown user is refused", function()
      assert.matches("^1: .*ERROR 1045 %(28000%): Access denied for user 'nobody'", same_both_ways("nobody", "secret"))
    end)

    it("to an unknown database is refused", function()
      assert.matches("^1: .*ERROR 1049 %(42000%): Unknown database 'nowhere'",
        same_both_ways(server.account.user, server.account.password, with "--database=nowhere"))
    end)

    it("to a database arrives there", function()
      assert.equal(("0: %s@%%\ttest\n"):format(server.account.user),
        same_both_ways(server.account.user, server.account.password, with "--database=test"))
    end)

    it("without a password works where the account has none", function()
      assert.equal("0: nopass@%\tNULL\n", same_both_ways("nopass", ""))
      assert.matches("^1: .*ERROR 1045 %(28000%)", same_both_ways("nopass", "secret"))
    end)

    it("of a client that would like compression goes on without", function()
      local answer = attempt(proxy.port, server.account.user, server.account.password, with "--compress")
      assert.matches("^0: " .. server.account.user .. "@%%\tNULL\n", answer)
    end)

    it("of a client that asks for compression or TLS though it was not offered goes on without", function()
      for _, flag in ipairs { "CLIENT_COMPRESS", "CLIENT_SSL", "CLIENT_ZSTD_COMPRESSION_ALGORITHM" } do
        local client = raw.connect(proxy.port):login("nopass", proto.capabilities[flag])
        assert.is_nil(client.refused, flag)
        assert.same({ { "1" } }, client:ask("SELECT 1").rows, flag)
        client:close()
      end
    end)

    if server.flavour == "mariadb" then
      it("by mysql_native_password and by ed25519", function()
        assert.equal("0: native@%\tNULL\n", same_both_ways("native", "secret"))
        assert.equal("0: ed@%\tNULL\n", same_both_ways("ed", "secret"))
        assert.matches("^1: .*ERROR 1045", same_both_ways("ed", "wrong"))
      end)
    else
      -- A password that is not in the server's cache has to come whole, encrypted with the server's RSA key; a client
      -- that may not ask for the key gets in only when the cache has it. FLUSH PRIVILEGES empties the cache.
      local no_key = { "--ssl-mode=DISABLED" }

      it("by caching_sha2_password, full and then fast", function()
        for _, port in ipairs { server.port, proxy.port } do
          server:sql("FLUSH PRIVILEGES")
          assert.matches("^1: .*ERROR 2061 %(HY000%): .*requires secure connection",
            attempt(port, "sha2", "secret", no_key))
          assert.equal("0: sha2@%\tNULL\n", attempt(port, "sha2", "secret")) -- full
          assert.equal("0: sha2@%\tNULL\n", attempt(port, "sha2", "secret", no_key)) -- fast
          assert.matches("^1: .*ERROR 1045", attempt(port, "sha2", "wrong"))
        end
      end)

      it("by sha256_password", function()
        assert.equal("0: sha256@%\tNULL\n", same_both_ways("sha256", "secret"))
        assert.matches("^1: .*ERROR 1045", same_both_ways("sha256", "wrong"))
      end)
    end

    -- COM_CHANGE_USER, said by hand: a client without passwords answers each switch with nothing.
    local function change_user(client, user, plugin)
      client:send(("\17%s\0\0\0\45\0%s\0"):format(user, plugin))
      local said = {}
      for _ = 1, 5 do
        local payload, sequence = client:packet()
        local kind = payload:byte()
        said[#said + 1] = kind == EOF and "switch to " .. payload:match("^\254(%Z+)") or kind
        if kind == OK or kind == ERR then
          break
        end
        client:send("", sequence + 1)
      end
      return said
    end

    it("becomes another user, also when the server wants another plugin", function()
      local function conversation(port)
        local client = raw.connect(port):login("nopass")
        local said = { change_user(client, "nopass", "no_such_plugin") }
        client:send("\3SELECT CURRENT_USER()")
        for i = 1, 5 do
          local payload = client:packet()
          said[#said + 1] = i == 4 and payload or nil
        end
        client:send("\31") -- COM_RESET_CONNECTION
        said[#said + 1] = client:packet():byte()
        said[#said + 1] = change_user(client, "nobody", "no_such_plugin")
        client:close()
        return said
      end
      local said = conversation(server.port)
      assert.same(said, conversation(proxy.port))
      local plugin = server.flavour == "mariadb" and "mysql_native_password" or "caching_sha2_password"
      assert.same({ { "switch to " .. plugin, OK }, "\8nopass@%", OK }, { said[1], said[2], said[3] })
      assert.equal(ERR, said[4][#said[4]])
    end)

    it("that is abandoned at any step does not disturb others", function()
      local waiting = raw.connect(proxy.port)
      waiting:packet()
      local silent = raw.connect(proxy.port)
      silent:packet()
      silent:write("\5\0\0") -- not even a header
      silent:close()
      assert.equal(("0: %s@%%\tNULL\n"):format(server.account.user),
        attempt(proxy.port, server.account.user, server.account.password))
      waiting:close()
    end)
  end)
end
