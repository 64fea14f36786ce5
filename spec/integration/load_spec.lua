-- A thousand clients at once. MYSQL_PROXY_LOAD_SECONDS says for how long.

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"

local sysbench = require "spec.bench.sysbench"
local usage = require "spec.bench.usage"

local CONNECTIONS = 1000
local SECONDS = tonumber(os.getenv("MYSQL_PROXY_LOAD_SECONDS")) or (proxies.sanitized() and 5 or 10)
local MOST_ROUNDS, SLACK_KB = 10, 128

for _, server in ipairs(servers.all()) do
  describe("under load, " .. server.name .. " #clients", function()
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
      local report, most = load(SECONDS)
      assert.equal(0, report.errors)
      assert.equal(0, report.reconnects)
      assert.is_true(report.queries > CONNECTIONS, report.queries .. " queries are too few")
      assert.is_true(most >= 2 * CONNECTIONS, most .. " descriptors: not all clients were there at once")
      assert.is_true(process.wait_until(back), "descriptors are left")
    end)

    -- The allocator and the collector take some rounds until they have all that so many clients need; a leak goes on.
    it("again and again, they need no more memory", function()
      if proxies.sanitized() then
        return
      end
      local grown, resident = {}, nil
      for _ = 1, MOST_ROUNDS do
        assert.equal(0, load(1).errors)
        local now = usage.rss_kb(proxy.pid)
        if resident then
          grown[#grown + 1] = now - resident
          if now - resident <= SLACK_KB then
            return
          end
        end
        resident = now
      end
      error(("the proxy grows with every 1,000 clients: by %s kB"):format(table.concat(grown, ", ")))
    end)
  end)
end
