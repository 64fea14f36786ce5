-- What passes through the proxy leaves nothing in it, and does not pile up on the way.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw_client = require "spec.support.raw_client"
local servers = require "spec.support.server"

local usage = require "spec.bench.usage"

local USER = "memory"
local ROWS, ROW_LENGTH = 1000, 1073742 -- 1 GB; a recursive query may have 1,000 rows by default
local GIGABYTE = ([[
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d)
SELECT REPEAT('x', %d) FROM numbers]]):format(ROWS, ROW_LENGTH)
local GIGABYTE_LIMIT_KB = 4096

local CLIENTS, WARM_UP, AT_ONCE = 10000, 3000, 50
local LEFT_LIMIT_KB = 512 -- 50 bytes for each client; when the collector runs makes half of this

-- Ways to live and to leave: what a client does at each event.

local function login(client)
  client:login(USER)
end

local function query(sql)
  return function(client)
    client:query(sql)
  end
end

local function leave(how)
  return function(client)
    client:close(how)
  end
end

local function send_and_leave(bytes, how)
  return function(client)
    client:send(bytes)
    client:close(how)
  end
end

local function quit(client)
  client:quit()
end

local LOGIN, QUERY = raw_client.login_packet(USER), raw_client.query_packet("SELECT 1")
local LARGE = "SELECT REPEAT('x', 1000000)"

local ways = {
  { greeting = login, ready = query "SELECT 1", answer = quit },
  { connected = leave() },
  { connected = leave "reset" },
  { greeting = leave() },
  { greeting = send_and_leave(LOGIN:sub(1, 20)) },
  { greeting = send_and_leave(LOGIN) },
  { greeting = send_and_leave(LOGIN, "reset") },
  { greeting = login, ready = leave() },
  { greeting = login, ready = leave "reset" },
  { greeting = login, ready = send_and_leave(QUERY:sub(1, 7)) },
  { greeting = login, ready = send_and_leave(QUERY) },
  { greeting = login, ready = send_and_leave(QUERY, "reset") },
  { greeting = login, ready = query(LARGE), data = leave() },
  { greeting = login, ready = query(LARGE), data = leave "reset" },
  { greeting = login, ready = query "SELECT 1", answer = leave() },
}

-- Lets `count` clients come and go, AT_ONCE at a time; returns what failed that should not have.
local function come_and_go(port, count)
  local begun, gone, failures = 0, 0, {}
  local function begin()
    begun = begun + 1
    local way, left = ways[begun % #ways + 1], false
    raw_client.open(port, function(client, event, detail)
      if event == "failed" then
        failures[#failures + 1] = detail
      elseif way[event] then
        way[event](client)
      end
      if client.closed and not left then
        left = true
        gone = gone + 1
        if begun < count then
          begin()
        end
      end
    end)
  end
  for _ = 1, AT_ONCE do
    begin()
  end
  process.wait_until(function()
    return gone == count
  end, 120)
  assert.equal(count, gone)
  return failures
end

for _, server in ipairs(servers.all()) do
  describe("the proxy's memory, " .. server.name .. " #long", function()
    local proxy

    setup(function()
      server:sql(("CREATE USER %s@'%%'"):format(USER))
    end)

    teardown(function()
      server:sql(("DROP USER %s@'%%'"):format(USER))
    end)

    before_each(function()
      proxy = proxies.start { server }
    end)

    after_each(function()
      assert.equal(0, proxy:stop())
    end)

    -- Until it does nothing any more, as it cannot: its buffers and the kernel's are full.
    local function wait_for_standstill()
      local last, same = nil, 0
      local still = process.wait_until(function()
        local now = usage.cpu_seconds(proxy.pid)
        same = now == last and same + 1 or 0
        last = now
        return same == 200
      end, 30)
      assert.is_true(still, "the proxy does not come to rest")
    end

    it("stays as it is while a slow reader takes a result of 1 GB", function()
      local happened = {}
      local client = raw_client.open(proxy.port, function(_, event, detail)
        happened[event] = detail or true
      end)
      local function wait_for(event, seconds)
        process.wait_until(function()
          return happened[event] or happened.failed
        end, seconds)
        assert.is_nil(happened.failed)
        assert.is_true(happened[event])
        happened[event] = nil
      end
      wait_for("greeting")
      client:login(USER)
      wait_for("ready")
      client:query("SELECT 1")
      wait_for("answer")
      local idle = usage.rss_kb(proxy.pid)
      usage.forget_peak(proxy.pid)

      client:query(GIGABYTE)
      for _, share in ipairs { 0, 0.3, 0.6 } do
        process.wait_until(function()
          return client.bytes > share * ROWS * ROW_LENGTH or happened.failed
        end, 60)
        client:pause()
        wait_for_standstill()
        assert.is_true(client.bytes < (share + 0.3) * ROWS * ROW_LENGTH, "nothing has held up the server")
        client:resume()
      end
      wait_for("answer", 120)
      assert.equal(ROWS + 4, client.packets) -- column count, definition, EOF, rows, EOF
      assert.is_true(client.bytes > ROWS * ROW_LENGTH)
      if not proxies.sanitized() then
        local grown = usage.peak_kb(proxy.pid) - idle
        assert.is_true(grown <= GIGABYTE_LIMIT_KB, ("the proxy has grown by %d kB"):format(grown))
      end

      client:query("SELECT 1")
      wait_for("answer")
      client:quit()
    end)

    it("and its descriptors are what they were after 10,000 clients, however they left", function()
      local descriptors = usage.descriptors(proxy.pid)
      local function back()
        return usage.descriptors(proxy.pid) == descriptors
      end
      assert.same({}, come_and_go(proxy.port, WARM_UP))
      assert.is_true(process.wait_until(back), "descriptors are left of the first clients")
      local resident = usage.rss_kb(proxy.pid)

      assert.same({}, come_and_go(proxy.port, CLIENTS))
      assert.is_true(process.wait_until(back), "descriptors are left")
      if not proxies.sanitized() then
        local grown = usage.rss_kb(proxy.pid) - resident
        assert.is_true(grown <= LEFT_LIMIT_KB, ("the proxy has grown by %d kB"):format(grown))
      end

      local count = ("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '%s'"):format(USER)
      local nobody = process.wait_until(function()
        return tonumber(server:sql(count)) == 0
      end)
      assert.is_true(nobody, "the server still has connections of clients that have left")
      assert.is_nil(proxy:log():match("error in a callback[^\n]*"))
    end)
  end)
end
