-- proxy.async: each function in each hook, and what becomes of it when its client leaves or its time is over.

local process = require "spec.support.process"
local raw = require "spec.support.raw"
local raw_client = require "spec.support.raw_client"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local HOOKS = {
  "top", "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query", "read_query_result",
  "disconnect_client",
}

-- Each hook does what `proxy.global.does` says for it; clients ask for that with "DO hook Lua", and get the results of
-- all so far with "SEEN".
local SCRIPT = [[
  proxy.global.does, proxy.global.seen = proxy.global.does or {}, proxy.global.seen or {}
  local function does(hook)
    local text = proxy.global.does[hook]
    if text then
      proxy.global.seen[#proxy.global.seen + 1] = hook .. " begins"
      local result = setfenv(assert(loadstring(text)), getfenv(1))()
      proxy.global.seen[#proxy.global.seen + 1] = hook .. " " .. tostring(result)
    end
  end
  for _, hook in ipairs { "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query_result",
    "disconnect_client" } do
    getfenv(1)[hook] = function() does(hook) end
  end
  function read_query(packet)
    local hook, text = packet:match("^\3DO (%S+) (.*)")
    if hook then
      proxy.global.does, proxy.global.seen = { [hook] = text }, {}
    elseif packet == "\3SEEN" then
      local backend = proxy.backends[1]
      proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = ("%d clients; %s"):format(backend.connected_clients,
        table.concat(proxy.global.seen, "; ")) }
      return proxy.PROXY_SEND_RESULT
    elseif packet:byte() == proxy.COM_QUERY then
      if not packet:find("other") then does "read_query" end
      proxy.queries:append(1, packet)
      return proxy.PROXY_SEND_QUERY
    else
      return
    end
    proxy.response = { type = proxy.MYSQLD_PACKET_OK }
    return proxy.PROXY_SEND_RESULT
  end
  local of_result = read_query_result
  function read_query_result(inj)
    if not inj.query:find("other") then of_result() end
  end
  does "top"
]]

for _, server in ipairs(servers.all()) do
  describe("a hook that waits, in front of " .. server.name, function()
    local proxy, other, descriptors

    before_each(function()
      proxy = scripted.start(server, SCRIPT, { "--proxy-hook-timeout=20", "--proxy-answer-limit=100000" })
      other = scripted.client(proxy)
      assert.same({ { "other" } }, other:ask("SELECT 'other'").rows)
      descriptors = proxy:descriptors()
    end)

    after_each(function()
      other:close()
      assert.equal(0, proxy:stop())
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    end)

    local function does(hook, text)
      assert.is_nil(other:ask(("DO %s %s"):format(hook, text)).errcode)
    end

    local function seen()
      return other:ask("SEEN").errmsg
    end

    local function nothing_is_left()
      assert.truthy(process.wait_until(function()
        return seen():find("^1 clients") and proxy:descriptors() <= descriptors
          and process.read_file(("/proc/%d/task/%d/children"):format(proxy.pid, proxy.pid)) == ""
      end, 10), seen() .. ", descriptors " .. descriptors .. " -> " .. proxy:descriptors())
    end

    local ALL = ([[
      local uv, async = require "luv", proxy.async
      async.sleep(1)
      local addresses = assert(async.resolve("127.0.0.1"))
      local program = assert(async.spawn("cat", {}, "cat"))
      local number = async.await(function(resume)
        local timer = uv.new_timer()
        timer:start(1, 0, function() timer:close() resume(7) end)
      end)
      local said = {}
      for _, where in ipairs { 1, "%s:%d" } do
        for row in assert(async.query(where, "SELECT 'row'", { user = "nopass" })).rows do said[#said + 1] = row[1] end
      end
      return table.concat({ addresses[1], program.stdout, number, table.concat(said, "+") }, " ")]]):format(
        server.host, server.port)

    it("may use every function in every hook", function()
      for _, hook in ipairs(HOOKS) do
        does(hook, ALL)
        local client = scripted.client(proxy)
        assert.is_nil(client.refused, hook)
        assert.same({ { "1" } }, client:ask("SELECT 1").rows, hook)
        client:close()
        local expected = hook .. " 127.0.0.1 cat 7 row+row"
        assert.truthy(process.wait_until(function()
          return seen():find(expected, 1, true)
        end, 10), hook .. ": " .. seen() .. proxy:log():sub(-600))
      end
      nothing_is_left()
    end)

    for name, text in pairs {
      sleep = "proxy.async.sleep(60000)",
      await = "proxy.async.await(function() end)",
      spawn = "proxy.async.spawn('sh', { '-c', 'sleep 600; true' })",
      query = "proxy.async.query(1, 'SELECT SLEEP(600)', { user = 'nopass' })",
    } do
      it("for " .. name .. " ends with its client, in every hook", function()
        for _, hook in ipairs(HOOKS) do
          if hook ~= "disconnect_client" then
            does(hook, text)
            local client
            if hook == "read_query" or hook == "read_query_result" then
              client = scripted.client(proxy)
              client:send("\3SELECT 1")
            else
              client = raw.connect(proxy.port)
              if hook:find("^read_auth") then
                assert.truthy(client:packet())
                client:write(raw_client.login_packet("nopass"))
              end
            end
            assert.truthy(process.wait_until(function()
              return seen():find(hook .. " begins", 1, true)
            end, 10), hook)
            assert.is_nil(seen():find(hook .. " nil", 1, true))
            client:close()
            nothing_is_left()
          end
        end
      end)
    end

    it("for what it has started itself is no trouble when the proxy ends", function()
      does("read_query", [[
        local uv = require "luv"
        local ends = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
        proxy.global.socket = uv.new_tcp()
        proxy.global.socket:open(ends[1])
        proxy.async.await(function(resume) proxy.global.socket:write(("x"):rep(16777216), resume) end)]])
      local client = scripted.client(proxy)
      client:send("\3SELECT 1")
      assert.truthy(process.wait_until(function()
        return seen():find("read_query begins", 1, true)
      end, 10))
      client:close()
    end)

    it("may not do so inside of pcall or a metamethod with PUC Lua, which says so; with LuaJIT it may", function()
      does("read_query", "return select(2, pcall(function() proxy.async.sleep(1) return 'slept' end))")
      local client = scripted.client(proxy)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.matches(rawget(_G, "jit") and "slept" or "a hook cannot wait inside of pcall under PUC Lua 5.1", seen())
      does("read_query", "return setmetatable({}, { __index = function() proxy.async.sleep(1) return 'slept' end }).x")
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      if rawget(_G, "jit") then
        assert.matches("read_query slept", seen())
      else
        assert.truthy(proxy:wait_for_log("%(read_query%) attempt to yield across metamethod/C%-call boundary: a hook "
          .. "cannot wait inside of a metamethod, the iterator of a `for`, or a function that C calls"))
      end
      does("read_query", "for x in function() proxy.async.sleep(1) return 'slept' end do return x end")
      assert.same({ { "3" } }, client:ask("SELECT 3").rows)
      assert.matches(rawget(_G, "jit") and "read_query slept" or "read_query begins$", seen())
      does("read_query", "('x'):gsub('x', function() proxy.async.sleep(1) end)")
      assert.same({ { "4" } }, client:ask("SELECT 4").rows)
      assert.truthy(proxy:wait_for_log("%(read_query%) [^\n]*attempt to yield across [^\n]*boundary: a hook cannot "
        .. "wait inside of [^\n]*a function that C calls %(table.sort, gsub%)\n.*'gsub'"))
      client:close()
    end)

    it("is told of its mistakes with its own line, and which limit an answer exceeds", function()
      local client = scripted.client(proxy)
      for call, message in pairs {
        ["sleep('x')"] = "bad argument #1 to 'sleep' (number expected, got string)",
        ["sleep()"] = "bad argument #1 to 'sleep' (number expected, got nil)",
        ["await(5)"] = "bad argument #1 to 'await' (function expected, got number)",
        ["resolve({})"] = "bad argument #1 to 'resolve' (string expected, got table)",
        ["query()"] = "bad argument #1 to 'query' (a backend's index or an address expected, got nil)",
        ["query(1)"] = "bad argument #2 to 'query' (string expected, got nil)",
        ["query(1, 'SELECT 1', 'nopass')"] = "bad argument #3 to 'query' (table expected, got string)",
        ["query(1, 'SELECT 1', { user = {} })"]
          = "bad argument #3 to 'query' (table whose user is a string expected, got table)",
        ["query(7, 'SELECT 1')"] = "there is no backend 7",
        ["spawn()"] = "bad argument #1 to 'spawn' (string expected, got nil)",
        ["spawn('cat', 'x')"] = "bad argument #2 to 'spawn' (table expected, got string)",
        ["spawn('cat', { {} })"] = "bad argument #2 to 'spawn' (table of strings expected, got table)",
        ["spawn('cat', {}, {})"] = "bad argument #3 to 'spawn' (string expected, got table)",
        ["spawn('cat', {}, '', 5)"] = "bad argument #4 to 'spawn' (table expected, got number)",
        ["spawn('cat', {}, '', { limit = '5' })"]
          = "bad argument #4 to 'spawn' ({ limit = number } expected, got string)",
      } do
        does("read_query", "\nreturn select(2, pcall(function()\n local x = proxy.async." .. call .. " return x end))")
        assert.same({ { "1" } }, client:ask("SELECT 1").rows)
        assert.matches('"]:3: ' .. message, seen(), 1, true)
      end
      does("read_query", "proxy.async.sleep('1') proxy.async.sleep(0/0) proxy.async.sleep(-1) return 'slept'")
      assert.same({ { "2" } }, client:ask("SELECT 2").rows)
      assert.matches("read_query slept", seen())
      for _, sql in ipairs {
        "SELECT REPEAT('x', 200000)", "SELECT REPEAT('x', 60000) UNION ALL SELECT REPEAT('y', 60000)",
      } do
        does("read_query", ('return select(2, proxy.async.query(1, "%s", { user = "nopass" }))'):format(sql))
        assert.same({ { "3" } }, client:ask("SELECT 3").rows)
        assert.matches("read_query the answer is longer than the 100000 bytes that a script may ask for "
          .. "(--proxy-answer-limit)", seen(), 1, true)
      end
      does("read_query", "local server = proxy.connection.server\nproxy.connection.backend_ndx = 0\n"
        .. "local id = select(2, pcall(function() return server.thread_id end))\n"
        .. "proxy.connection.backend_ndx = 1 return id")
      assert.same({ { "4" } }, client:ask("SELECT 4").rows)
      assert.matches('"]:3: the session has no server connection any more: proxy.connection.server is nil now', seen(),
        1, true)
      client:close()
    end)

    it("for a program that says too much is told so, and the program is killed", function()
      does("read_query", "return select(2, proxy.async.spawn('yes'))")
      local client = scripted.client(proxy)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.matches("yes has said more than 1048576 bytes", seen())
      does("read_query", "return #assert(proxy.async.spawn('head', { '-c', '3000000', '/dev/zero' }, nil, "
        .. "{ limit = 3000000 })).stdout")
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      assert.matches("read_query 3000000", seen())
      client:close()
      nothing_is_left()
    end)

    it("for too long is given up, with what it has started", function()
      local limited = scripted.start(server, [[
        function read_query(packet)
          local file = packet:match("RUN (.*)")
          if file then
            proxy.async.spawn("sh", { "-c", "trap '' TERM; sleep 600 & echo $! >" .. file .. "; wait" })
          end
        end]], { "--proxy-hook-timeout=0.5" })
      local client, file = scripted.client(limited), process.path("pid")
      assert.equal(1064, client:ask("RUN " .. file).errcode)
      local pid = process.read_file(file):match("%d+")
      assert.truthy(pid)
      assert.truthy(process.wait_until(function()
        return not process.read_file("/proc/" .. pid .. "/status"):find("State:%s+[RS]")
          and process.read_file(("/proc/%d/task/%d/children"):format(limited.pid, limited.pid)) == ""
      end, 10))
      client:close()
      limited:stop()
    end)
  end)
end
