-- A thousand clients at once. MYSQL_PROXY_LOAD_SECONDS says for how long.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"

local sysbench = require "spec.bench.sysbench"
local usage = require "spec.bench.usage"

local CONNECTIONS = 1000
local SECONDS = tonumber(os.getenv("MYSQL_PROXY_LOAD_SECONDS")) or (proxies.sanitized() and 5 or 10)
local SLACK_KB = 2048 -- 2 kB for each client; when the collector runs makes half of this

for _, server in ipairs(servers.all()) do
  describe("under load, " .. server.name, function()
    local proxy

    setup(function()
      sysbench.make_user(server)
      sysbench.run { script = "oltp_point_select", command = "prepare", port = server.port }
      proxy = proxies.start { server }
    end)

    teardown(function()
      assert.equal(0, proxy:stop())
      sysbench.drop_user(server)
    end)

    -- Point selects of all clients; returns the report, and the most descriptors that the proxy had open.
    local function load(seconds)
      local client = process.start("sysbench", sysbench.arguments {
        script = "oltp_point_select", command = "run", port = proxy.port, connections = CONNECTIONS, seconds = seconds,
      })
      local most = 0
      process.wait_until(function()
        if most < 2 * CONNECTIONS then
          most = math.max(most, usage.descriptors(proxy.pid))
        end
        return not client:running()
      end, seconds + 120)
      assert.equal(0, client.code, client:stdout() .. client:stderr())
      return sysbench.report(client:stdout()), most
    end

    it("1,000 clients at once meet no error, and nothing is left when they have gone", function()
      local descriptors = usage.descriptors(proxy.pid)
      local function back()
        return usage.descriptors(proxy.pid) == descriptors
      end
      for _ = 1, 2 do -- so that the allocator and the collector have what so many clients need once
        load(1)
        assert.is_true(process.wait_until(back), "descriptors are left of the first clients")
      end
      local resident = usage.rss_kb(proxy.pid)

      local report, most = load(SECONDS)
      assert.equal(0, report.errors)
      assert.equal(0, report.reconnects)
      assert.is_true(report.queries > CONNECTIONS, report.queries .. " queries are too few")
      assert.is_true(most >= 2 * CONNECTIONS, most .. " descriptors: not all clients were there at once")

      assert.is_true(process.wait_until(back), "descriptors are left")
      if not proxies.sanitized() then
        process.wait_until(function()
          return usage.rss_kb(proxy.pid) <= resident + SLACK_KB
        end, 5)
        local grown = usage.rss_kb(proxy.pid) - resident
        assert.is_true(grown <= SLACK_KB, ("the proxy has grown by %d kB"):format(grown))
      end
    end)
  end)
end
