-- What a script may get wrong: whatever it does, its client gets an answer, and another client does not notice.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

-- `proxy.global.wrong` names a function of `ways`, and the hook that it is to be for clients that come next.
local SCRIPT = [[
  local now, ways = require("luv").hrtime, {}
  function ways.error() error("oops") end
  ways["error({})"] = function() error({}) end
  ways["error(nil)"] = function() error(nil) end
  ways["a call of nil"] = function() proxy.connection.nobody.knows() end
  ways["endless recursion"] = function() local function f(n) return 1 + f(n + 1) end return f(1) end
  ways["recursion in C"] = function() local function f(s) return (s:gsub(".", f)) end return f("x") end
  ways["os.exit"] = function() os.exit(3) end
  ways["yielding nothing"] = function() coroutine.yield() return proxy.PROXY_SEND_RESULT end
  ways["yielding something"] = function() coroutine.yield(proxy.PROXY_SEND_RESULT) end
  ways["an error below pcall"] = function() pcall(error) error("oops") end
  ways["backend_ndx = {}"] = function() proxy.connection.backend_ndx = {} end
  ways["backend_ndx = nan"] = function() proxy.connection.backend_ndx = 0 / 0 end
  ways["backend_ndx = -7"] = function() proxy.connection.backend_ndx = -7 end
  ways["proxy = nil"] = function() proxy, _G.proxy = nil, nil end
  ways["proxy.queries = 5"] = function() proxy.queries, proxy.connection, proxy.response = 5, "x", true end
  ways["a debug hook"] = function() debug.sethook(function() error("hooked") end, "", 1) end
  ways["too much memory"] = function() local text = "x" while true do text = text .. text end end
  ways["shorter tables"] = function()
    local list, last = {}, nil
    for index = 1, 128 do list[index] = index end
    for index = 33, 128 do list[index] = nil end
    collectgarbage()
    collectgarbage("stop")
    pcall(function()
      while true do
        last = { last, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
          28, 29, 30, 31, 32 } -- the memory for shorter lists is used up
      end
    end)
    local _, failure = pcall(function() list.is_shorter = true end)
    last = nil
    collectgarbage("restart")
    error("asked for less: " .. (failure or "there it is"))
  end
  ways["a long response"] = function()
    local cell = ("y"):rep(1000)
    local rows = {}
    for index = 1, 40000 do rows[index] = { cell } end
    proxy.response = { type = 0, resultset = { fields = { { name = "a", type = 254 } }, rows = rows } }
    return 2
  end
  ways["a loop"] = function()
    local began = now()
    repeat until now() - began > 1.2e9
  end
  ways["returning true"] = function() return true end
  ways["returning a table"] = function() return {} end
  ways["returning a word"] = function() return "PROXY_SEND_RESULT" end
  ways["returning 99"] = function() return 99 end
  ways["returning -1"] = function() return -1 end
  ways["returning 1e300"] = function() return 1e300 end
  ways["returning nan"] = function() return 0 / 0 end
  ways["returning '2'"] = function() return "2" end

  function read_query(packet)
    local hook, way = packet:match("^\3WRONG (%S+) (.*)")
    if hook then
      proxy.global.wrong = { hook = hook, way = way }
      proxy.response = { type = proxy.MYSQLD_PACKET_OK }
      return proxy.PROXY_SEND_RESULT
    elseif packet:byte() == proxy.COM_QUERY then
      proxy.queries:append(1, packet)
      return proxy.PROXY_SEND_QUERY
    end
  end
  function read_query_result(inj)
    assert(inj.resultset.query_status)
  end

  local wrong = proxy.global.wrong
  if wrong and wrong.hook == "top" then
    ways[wrong.way]()
  elseif wrong then
    getfenv(1)[wrong.hook] = assert(ways[wrong.way], wrong.way)
  end
]]

-- AddressSanitizer needs terabytes of address space; LuaJIT 2.1 itself may crash when it gets no more memory.
local unlimited = proxies.sanitized() or rawget(_G, "jit") ~= nil

local HOOKS = {
  "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query", "read_query_result",
  "disconnect_client",
}

for _, server in ipairs(servers.all()) do
  describe("a script in front of " .. server.name .. " that is wrong by", function()
    local proxy, other

    setup(function()
      proxy = scripted.start(server, SCRIPT)
      other = scripted.client(proxy)
    end)

    teardown(function()
      other:close()
      assert.equal(0, proxy:stop())
    end)

    local function others_go_on()
      assert.same({ { "1" } }, other:ask("SELECT 1").rows)
    end

    -- A client of a script whose hook is wrong in this way: logs in, asks twice, leaves.
    local function client_of(hook, way)
      assert.is_nil(other:ask(("WRONG %s %s"):format(hook, way)).errcode)
      local client, answers = scripted.client(proxy), {}
      others_go_on()
      for index = 1, client.refused and 0 or 2 do
        answers[index] = client:ask("SELECT " .. index)
      end
      client:close()
      others_go_on()
      return client.refused, answers
    end

    local function is_served(hook, way)
      local refused, answers = client_of(hook, way)
      assert.is_nil(refused, hook)
      for index = 1, 2 do
        assert.same({ { tostring(index) } }, answers[index].rows, hook)
      end
    end

    local function is_logged(hook, text)
      assert.truthy(proxy:wait_for_log("%(critical%) %(" .. hook .. "%) " .. text),
        hook .. "\n" .. proxy:log():sub(-1500))
    end

    for way, text in pairs {
      ["error"] = '%[string "[^\n]*"%]:2: oops',
      ["error({})"] = "%(null%)\n\t%[C%]: in function 'error'\n\t%[string [^\n]*:3: in ",
      ["error(nil)"] = "%(null%)\n\t%[C%]: in function 'error'\n\t%[string [^\n]*:4: in ",
      ["a call of nil"] = "[^\n]*attempt to index field 'nobody'",
      ["endless recursion"] = "[^\n]*stack overflow",
      ["recursion in C"] = "[^\n]*stack overflow",
      ["os.exit"] = "[^\n]*a script cannot end the proxy",
      ["yielding nothing"] = "a hook may not yield",
      ["yielding something"] = "a hook may not yield",
      ["an error below pcall"] = "[^\n]*oops",
      ["backend_ndx = {}"] = "[^\n]*bad argument to 'backend_ndx' %(number expected, got table%)",
    } do
      it(way .. ", in each hook: it is logged, and the conversation goes on", function()
        for _, hook in ipairs(HOOKS) do
          is_served(hook, way)
          is_logged(hook, text)
        end
        local refused = client_of("top", way)
        assert.equal(1105, refused.errcode)
        assert.equal("MySQL Proxy Lua script failed to execute. Check the error log.", refused.errmsg)
      end)
    end

    for _, way in ipairs {
      "backend_ndx = nan", "backend_ndx = -7", "proxy = nil", "proxy.queries = 5", "returning true",
      "returning a table", "returning a word", "returning 99", "returning -1", "returning 1e300", "returning nan",
    } do
      it(way .. ", in each hook: the conversation goes on", function()
        for _, hook in ipairs(HOOKS) do
          is_served(hook, way)
        end
      end)
    end

    it("returning '2' without a response: the client is told", function()
      for _, hook in ipairs { "connect_server", "read_handshake", "read_auth", "read_auth_result" } do
        assert.matches("handling proxy.response failed", client_of(hook, "returning '2'").errmsg, 1, true, hook)
      end
      for _, hook in ipairs { "read_query", "read_query_result" } do
        local _, answers = client_of(hook, "returning '2'")
        for index = 1, 2 do
          assert.matches("handling proxy.response failed", answers[index].errmsg, 1, true, hook)
        end
      end
      is_served("disconnect_client", "returning '2'")
    end)

    it("a debug hook that it leaves behind: only its own session meets it", function()
      for _, hook in ipairs(HOOKS) do
        is_served(hook, "a debug hook")
      end
    end)

    it("a response of 40 MB: the client gets it", function()
      other:ask("WRONG read_query a long response")
      local client = scripted.client(proxy)
      client:send("\3SELECT 1")
      others_go_on()
      local rows = client:answer(client:packet()).rows
      assert.same({ 40000, { ("y"):rep(1000) } }, { #rows, rows[40000] })
      client:close()
    end)

    it("a loop: the others wait, and the log says why", function()
      other:ask("WRONG read_query a loop")
      local client = scripted.client(proxy)
      assert.same({ { "1" } }, client:ask("SELECT 1").rows)
      others_go_on()
      client:close()
      assert.truthy(proxy:wait_for_log("slow hook: read_query held up all sessions for 1%.[2-9]%d seconds"))
    end)

    -- Leaves the proxy only so much more memory.
    local function limit_memory(mb)
      local size = process.read_file(("/proc/%d/status"):format(proxy.pid)):match("VmSize:%s*(%d+)")
      local limit = size * 1024 + mb * 2 ^ 20
      assert.equal(0, (process.run("prlimit", { "--pid", tostring(proxy.pid), ("--as=%d:"):format(limit) })))
    end

    it("too much memory: it is logged, and the conversation goes on", function()
      if unlimited then
        return
      end
      limit_memory(200)
      for _, hook in ipairs(HOOKS) do
        is_served(hook, "too much memory")
        is_logged(hook, "[^\n]*not enough memory")
      end
    end)

    it("keeping all memory there is: it gets by with less of what it has", function()
      if unlimited then
        return
      end
      limit_memory(30)
      is_served("read_query", "shorter tables")
      is_logged("read_query", "[^\n]*asked for less: there it is")
    end)

    it("a response that is too much for memory: the client is told", function()
      if unlimited then
        return
      end
      other:ask("WRONG read_query a long response")
      limit_memory(60)
      local client = scripted.client(proxy)
      assert.matches("handling proxy.response failed", client:ask("SELECT 1").errmsg, 1, true)
      client:close()
      others_go_on()
    end)

    it("nothing, where memory does not suffice for a command: only its client is left", function()
      if unlimited then
        return
      end
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
      other:ask("WRONG disconnect_client returning true")
      limit_memory(70)
      local client = scripted.client(proxy)
      client:send("\3SELECT '" .. ("x"):rep(60 * 2 ^ 20) .. "'")
      assert.truthy(client:wait_for_end())
      client:close()
      others_go_on()
      assert.truthy(proxy:wait_for_log("not enough memory"))
    end)
  end)
end
