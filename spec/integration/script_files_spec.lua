-- A script's file: when it is read, what it finds around it, and what is said of its mistakes.

local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local LOAD_FAILED = "MySQL Proxy Lua script failed to load. Check the error log."
local EXECUTE_FAILED = "MySQL Proxy Lua script failed to execute. Check the error log."

local EVAL, says = scripted.EVAL, scripted.says

for _, server in ipairs(servers.all()) do
  describe("the file of a script in front of " .. server.name, function()
    local series

    local function start(text, options)
      series = scripted.series(server, options)
      series:run(text or "")
      return series
    end

    after_each(function()
      if series then
        series:leave()
        series:stop()
        assert.is_nil(series.proxy:log():match("error in a callback[^\n]*"))
        series = nil
      end
    end)

    local function refused_with(text)
      local client = raw.connect(series.proxy.port)
      local payload, sequence = client:packet()
      assert.equal("\255\81\4#07000" .. text, payload)
      assert.equal(0, sequence)
      assert.truthy(client:wait_for_end())
      client:close()
    end

    it("is not read at the start, but for each connection; the last one that was compiled stays with whom it has",
      function()
        local path = process.path("later.lua")
        local proxy = proxies.start({ server }, { "--proxy-lua-script=" .. path })
        series = setmetatable({ proxy = proxy, clients = {}, printed = 0, logged = 0 }, getmetatable(start()))
        local function is(text)
          local client = series:login()
          assert.equal(text, says(client, "version"))
        end
        series.proxy = proxy
        refused_with(LOAD_FAILED)
        series:logs(("(critical) lua_load_file(%s) failed: stat(%s) failed: No such file or directory (2)"):format(path,
          path), true)
        process.write_file(path, "version = 1" .. EVAL)
        is("1")
        -- Another file of the same size and time.
        local other = process.write_file(process.path("other.lua"), "version = 2" .. EVAL)
        local time = uv.fs_stat(path).mtime.sec
        assert(uv.fs_utime(path, time, time))
        is("1")
        assert(uv.fs_utime(other, time, time))
        assert(uv.fs_rename(other, path))
        is("2")
        process.write_file(path, "\n\nversion = = 3")
        refused_with(LOAD_FAILED)
        local name = ('[string "%s"]'):format(path)
        series:logs(("(critical) lua_load_file(%s) failed: %s:3: unexpected symbol near '='"):format(path, name), true)
        series:logs(("(warning) reloading '%s' failed"):format(path), true)
        process.write_file(path, "#!/usr/bin/mysql-proxy\nlocal x\nx.y = 1")
        refused_with(EXECUTE_FAILED)
        series:logs(("(critical) (lua-error) [%s]\n\t%s:3: attempt to index local 'x' (a nil value)\n\t"):format(
          path, name), true)
        process.write_file(path, "error({})")
        refused_with(EXECUTE_FAILED)
        series:logs(("(critical) (lua-error) [%s]\n\t(null)\n\t[C]: in function 'error'\n"
          .. "\t%s:1: in main chunk\n"):format(path, name), true)
        process.write_file(path, string.dump(assert(loadstring("version = 5" .. EVAL))))
        refused_with(LOAD_FAILED)
        series:logs(("lua_load_file(%s) failed: %s is compiled Lua, a script has to be Lua's source text"):format(path,
          path), true)
        local code, output, errors = process.run(proxies.build .. "/mysql-proxy", { "--check-script=" .. path })
        assert.same({ 1, "" }, { code, output })
        assert.matches("is compiled Lua, a script has to be Lua's source text\n$", errors)
        assert(os.remove(path))
        for kind, make in pairs { fifo = "mkfifo %s", directory = "mkdir %s", char = "ln -s /dev/zero %s" } do
          assert.equal(0, (process.run("sh", { "-c", make:format(path) })))
          refused_with(LOAD_FAILED)
          local text = ("%s is no regular file (%s)"):format(path, kind)
          series:logs(("lua_load_file(%s) failed: %s"):format(path, text), true)
          code, output, errors = process.run(proxies.build .. "/mysql-proxy", { "--check-script=" .. path })
          assert.same({ 1, "" }, { code, output })
          assert.matches(text .. "\n", errors, 1, true)
          assert(os.remove(path))
        end
        process.write_file(path, "version = 4" .. EVAL)
        is("4")
        assert.equal("1", says(series.clients[1], "version"))
      end)

    it("is named in errors with its whole path, and the line", function()
      local folder = process.path("a folder whose name is longer than Lua's room for the name of a chunk 100%")
      assert(uv.fs_mkdir(folder, tonumber("700", 8)))
      local path = folder .. "/rules.lua"
      series = start()
      series:stop()
      series.proxy = proxies.start({ server }, { "--proxy-lua-script=" .. path })
      process.write_file(path, [[
        local function inner()
          error("oops")
        end
        function read_query()
          inner()
        end]])
      assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
      local name = ('[string "%s"]'):format(path)
      series.logged = 0
      series:logs(("(critical) (read_query) %s:2: oops\n"):format(name), true)
      series:logs(("\n\t%s:2: in function 'inner'\n\t%s:5: in function"):format(name, name), true)
      process.write_file(path, "function read_query( end")
      refused_with(LOAD_FAILED)
      series:logs(("failed: %s:1: "):format(name), true)
      process.write_file(path, "local function inner() error('oops') end\n\ninner()")
      refused_with(EXECUTE_FAILED)
      series:logs(("(lua-error) [%s]\n\t%s:1: oops\n"):format(path, name), true)
      series:logs(("\n\t%s:3: in "):format(name), true)
    end)

    it("is run for each connection, and what it has made is garbage when that ends", function()
      start [[
        local mark = newproxy(true)
        getmetatable(mark).__gc = function() print("collected") end
        print("top level", proxy.connection.client.src.port)
        function connect_server() print("connect_server", mark ~= nil) end
        function disconnect_client() print("disconnect_client") end]]
      local clients = {} -- several: LuaJIT may have compiled what the first did, and keeps that
      for i = 1, 8 do
        clients[i] = series:login()
        series:prints(("top level\t%d\nconnect_server\ttrue\n"):format(clients[i].socket:getsockname().port), true)
      end
      assert.is_nil(series:stdout():find("collected", 1, true))
      for _, client in ipairs(clients) do
        client:close()
      end
      series:run("collectgarbage() collectgarbage()")
      assert.truthy(process.wait_until(function()
        series:login():close() -- its stream may have been closing still
        local output = series.proxy.process:stdout()
        return select(2, output:gsub("collected\n", "")) >= #clients / 2 and output:find("disconnect_client\n", 1, true)
      end, 10), series:stdout())
    end)

    it("may wait at its top level while others run theirs", function()
      start([[
        local mine = proxy.connection.client.src.port
        proxy.global.waiting = (proxy.global.waiting or 0) + 1
        if proxy.global.waiting == 1 then
          proxy.async.await(function(resume) proxy.global.resume = resume end)
        else
          proxy.global.resume()
        end
        port = mine
        proxy.port = mine
      ]] .. EVAL)
      local first = raw.connect(series.proxy.port)
      local second = series:login()
      first:login("nopass")
      table.insert(series.clients, first)
      for _, client in ipairs { first, second } do
        local port = client.socket:getsockname().port
        assert.equal(("%d %d"):format(port, port), says(client, "port, proxy.port"))
      end
    end)

    it("has globals of its own, above those of all", function()
      start("local count = 0 own = (own or 0) + 1 _G.shared = (_G.shared or 0) + 1 proxy.foo = (proxy.foo or 0) + 1\n"
        .. "function counted() count = count + 1 return count end\n" .. EVAL)
      local first, second = series:login(), series:login()
      assert.equal("1 2 1 1", says(first, "own, shared, proxy.foo, counted()"))
      assert.equal("2", says(first, "counted()"))
      assert.equal("1 2 1 1", says(second, "own, shared, proxy.foo, counted()"))
      assert.equal("true true false", says(first, "getmetatable(here).__index == _G, _G == getfenv(0), here == _G"))
      assert.equal("table nil", says(first, "type(proxy.global.config), next(proxy.global.config)"))
      says(first, "rawset(proxy.global, 'list', { 1 })")
      says(second, "table.insert(proxy.global.list, 2)")
      says(second, "rawset(proxy.global.config, 'mine', { x = 1 })")
      assert.equal("2 1", says(first, "#proxy.global.list, proxy.global.config.mine.x"))
      series:run(EVAL)
      assert.equal("nil 2 2", says(series:login(), "own, shared, #proxy.global.list"))
    end)

    it("sees by `proxy` the connection that runs, wherever the code comes from", function()
      local folder = process.path("modules")
      assert(uv.fs_mkdir(folder, tonumber("700", 8)))
      process.write_file(folder .. "/of-hooks.lua", [[
        local clients = 0
        function connect_server() clients = clients + 1 end
        function read_query(packet)
          local text = packet:match("^\3WHO(.*)")
          if not text then return end
          if text ~= "" then proxy.async.sleep(tonumber(text)) end
          proxy.response.type = proxy.MYSQLD_PACKET_ERR
          proxy.response.errmsg = clients .. " " .. proxy.connection.client.src.port .. " "
            .. loadstring("return proxy.connection.client.src.port")() .. " "
            .. tostring(proxy == _G.proxy) .. " " .. tostring(getfenv(1) == _G)
          return proxy.PROXY_SEND_RESULT
        end]])
      start('require("of-hooks")', { "--lua-path=" .. folder .. "/?.lua" })
      local one, two = series:login(), series:login()
      local function expected(client)
        local port = client.socket:getsockname().port
        return ("2 %d %d true true"):format(port, port)
      end
      one:send("\3WHO 100")
      assert.equal(expected(two), two:ask("WHO").errmsg)
      assert.equal(expected(one), one:answer(one:packet()).errmsg)
      assert.equal(expected(two), two:ask("WHO").errmsg)
    end)

    it("may put its hooks elsewhere, with module() or setfenv: each connection has its own", function()
      local counting = " local calls, port = 0, proxy.connection.client.src.port " .. [[
        function read_query(packet)
          local answers = packet:byte() == proxy.COM_QUERY
          calls, mine = calls + 1, (mine or 0) + 1
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR,
            errmsg = ("%d %d %d %s"):format(port, calls, mine, tostring(early)) }
          return answers and proxy.PROXY_SEND_RESULT or nil
        end]]
      start ""
      for begin, early in pairs {
        ["early = 1 module('a.module', package.seeall)"] = "1", ["module('one', package.seeall)"] = "nil",
        ["early = 2 module('one', package.seeall) module('two', package.seeall)"] = "2",
        ["setfenv(1, setmetatable({}, { __index = _G }))"] = "nil",
        ["early = 3 setfenv(1, setmetatable({}, { __index = getfenv(1) }))"] = "3",
      } do
        series:run(begin .. counting)
        local clients = { series:login(), series:login() }
        for turn = 1, 2 do
          for _, client in ipairs(clients) do
            assert.equal(("%d %d %d %s"):format(client.socket:getsockname().port, turn, turn, early),
              client:ask("SELECT 1").errmsg, begin)
          end
        end
      end
      series:run [[
        local string, proxy, tostring, pcall = string, proxy, tostring, pcall
        local ok, message = pcall(module, "string.format")
        module "bare"
        function read_query()
          proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = tostring(print) .. " " .. message }
          return proxy.PROXY_SEND_RESULT
        end]]
      for _ = 1, 2 do
        assert.equal("nil name conflict for module 'string.format'", series:login():ask("SELECT 1").errmsg)
      end
      assert.same({}, series:leave())
    end)

    it("loses the hooks that its new version does not have", function()
      start("function read_query() proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = 'old' } return 2 end")
      assert.equal("old", series:login():ask("SELECT 1").errmsg)
      series:run("function connect_server() end")
      assert.same({ { "1" } }, series:login():ask("SELECT 1").rows)
      assert.equal("old", series.clients[1]:ask("SELECT 1").errmsg)
    end)

    it("is written in Lua 5.1", function()
      start(EVAL)
      local client = series:login()
      for expressions, expected in pairs {
        ["_VERSION"] = "Lua 5.1",
        ["type(package.loaded), type(string.format), type(table.concat), type(math.floor)"]
          = "table function function function",
        ["type(io.open), type(os.time), type(debug.traceback), type(coroutine.create)"]
          = "function function function function",
        ["module, setfenv, getfenv, loadstring, unpack, table.getn and #package.loaders"] = "",
        ["3, 2^40, 1.5, 2^53, 0.1, 10/2"] = "3 1099511627776 1.5 9.007199254741e+15 0.1 5",
        ["string.format('%d|%q|%s', '12', 'a\"b', 4)"] = '12|"a\\"b"|4',
        ["'10' + 5, 10 .. 5, '3' * '4'"] = "15 105 12",
        ["table.getn({ 1, 2, 3 }), unpack({ 4, 5 })"] = "3 4 5",
        ["(function() math.rolling_avg = function() return 7 end return math.rolling_avg() end)()"] = "7",
        ["(function() module('a.module', package.seeall) function f() return type(print) end "
          .. "return package.loaded['a.module'].f(), _G.a.module.f() end)()"] = "function function",
        ["#setmetatable({ 1 }, { __len = function() return 9 end }), #proxy.global.backends"] = "1 1",
      } do
        if expected == "" then
          local said = says(client, expressions)
          assert.matches("^function:? [^ ]+ function", said)
          assert.matches(" %d$", said)
        else
          assert.equal(expected, says(client, expressions))
        end
      end
    end)

    it("prints to standard output, at once, also what ends no line; with chassis print goes to the log", function()
      start [[
        print("printed", 1)
        io.write("written ", 2)
        io.stdout:write(" and more")
        local ok, message = pcall(io.write, {})
        function read_query()
          print(pcall(function() io.stdout:write("a", nil) end))
        end]]
      series:login():ask("SELECT 1")
      series:prints('printed\t1\nwritten 2 and morefalse\t[string "' .. series.proxy.script:sub(1, 30), true)
      series:prints("bad argument #2 to 'write' (string expected, got nil)\n", true)
      series:run [[
        require("chassis")
        print("to the log", 1)
        os.print("to the terminal", 2)]]
      series:login()
      series:logs("%(message%) [^\n]*:2%) to the log\\t1\n")
      assert.equal("to the terminal\t2\n", series:stdout())
    end)

    it("has hooks that never run in parallel unless they ask for it", function()
      start [[
        local glib2 = require("glib2")
        function read_query(packet)
          local name = packet:match("^\3SELECT '(.*)'")
          print("begin " .. name)
          glib2.usleep(20000)
          print("end " .. name)
        end]]
      local one, two = series:login(), series:login()
      one:send("\3SELECT 'one'")
      two:send("\3SELECT 'two'")
      assert.same({ { "one" } }, one:answer(one:packet()).rows)
      assert.same({ { "two" } }, two:answer(two:packet()).rows)
      local first, second = series:stdout():match("^begin (%a+)\nend %1\nbegin (%a+)\nend %2\n$")
      assert.truthy(first ~= second, series:stdout())
    end)

    it("marks no server as down and changes no distribution, whatever its mistakes", function()
      if not server.socket then
        return pending("needs a server of its own")
      end
      series = scripted.series({ server, server.socket })
      for _, hook in ipairs { "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query",
        "disconnect_client" } do
        series:run(("function %s() error('oops') end"):format(hook))
        series:login():ask("SELECT 1")
        series:login():ask("SELECT 1")
        series:leave()
        series:logs("(critical) (" .. hook .. ") ", true)
      end
      series:run(EVAL)
      series:login()
      assert.equal("1 1 1 0", says(series:login(), "proxy.backends[1].state, proxy.backends[2].state, "
        .. "proxy.backends[1].connected_clients + proxy.backends[2].connected_clients - 1, "
        .. "proxy.backends[1].connected_clients - proxy.backends[2].connected_clients"))
      local function lands()
        series:run(EVAL .. "function disconnect_client() print('left') end")
        local client = series:login()
        local index = tonumber(says(client, "proxy.connection.backend_ndx"))
        client:close()
        series:prints("left\n", true)
        return index
      end
      local last = lands()
      for _, text in ipairs { "no Lua", "error('oops')" } do -- takes nobody's turn
        series:run(text)
        assert.equal(1105, series:login().refused.errcode)
        local now = lands()
        assert.equal(3 - last, now)
        last = now
      end
    end)
  end)
end
