-- What a second worker adds: where the client, the proxy and the server share the cores, and where the proxy needs most
-- of them.

local uv = require "luv"

local process = require "spec.support.process"

local contenders = require "spec.bench.contenders"
local report = require "spec.bench.report"
local sysbench = require "spec.bench.sysbench"
local usage = require "spec.bench.usage"

local M = {}

local CONNECTIONS = 16
local GAIN = 1.7 -- where there are cores for it

local function cpu_of(proxy)
  local seconds = usage.cpu_seconds(proxy.pid)
  for _, worker in ipairs(process.children(proxy.pid)) do
    seconds = seconds + usage.cpu_seconds(worker)
  end
  return seconds
end

local function compare(server, title, options, more)
  local one = contenders.proxy(server, options.build, more)
  local two = contenders.proxy(server, options.build, more, "--workers=2")
  local rates, cpu, ratios = { [one] = {}, [two] = {} }, { [one] = {}, [two] = {} }, {}
  for round = 1, options.rounds do
    for _, proxy in ipairs { one, two } do
      local before = cpu_of(proxy)
      local result = sysbench.report(sysbench.run {
        script = "oltp_point_select", command = "run", port = proxy.port, connections = CONNECTIONS,
        seconds = options.seconds, more = { "--table-size=10000", "--db-ps-mode=disable" },
      })
      rates[proxy][round] = result.queries / result.seconds
      cpu[proxy][round] = (cpu_of(proxy) - before) / result.queries * 1e6
    end
    ratios[round] = rates[two][round] / rates[one][round]
  end
  one.stop()
  two.stop()
  return {
    title, tostring(CONNECTIONS), report.number(report.median(rates[one])), report.number(report.median(rates[two])),
    report.spread(ratios), ("%.1f"):format(GAIN), report.number(report.median(cpu[one])),
    report.number(report.median(cpu[two])),
  }
end

--- The rows of the table.
---@param options table rounds, seconds, build
function M.measure(server, options, progress)
  local busy = "--proxy-lua-script=" .. uv.fs_realpath(debug.getinfo(1, "S").source:match("^@(.*)/") .. "/busy.lua")
  local rows = { {
    ("%d cores for all"):format(#uv.cpu_info()), "connections", "one worker /s", "two /s", "two / one", "at least",
    "one worker CPU µs", "two CPU µs",
  }, compare(server, "point select", options), compare(server, "through a script that computes", options, busy) }
  for index = 2, #rows do
    progress("workers, %s: %s /s with one, %s /s with two", rows[index][1], rows[index][3], rows[index][4])
  end
  return rows
end

return M
