-- What a second worker adds.

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

--- The rows of the table.
---@param options table rounds, seconds, build
function M.measure(server, options, progress)
  local one = contenders.proxy(server, options.build)
  local two = contenders.proxy(server, options.build, "--workers=2")
  local rates, cpu, ratios = { [one] = {}, [two] = {} }, { [one] = {}, [two] = {} }, {}
  for _ = 1, options.rounds do
    for _, proxy in ipairs { one, two } do
      local before = cpu_of(proxy)
      local result = sysbench.report(sysbench.run {
        script = "oltp_point_select", command = "run", port = proxy.port, connections = CONNECTIONS,
        seconds = options.seconds, more = { "--table-size=10000", "--db-ps-mode=disable" },
      })
      table.insert(rates[proxy], result.queries / result.seconds)
      table.insert(cpu[proxy], (cpu_of(proxy) - before) / result.queries * 1e6)
    end
    ratios[#ratios + 1] = rates[two][#ratios + 1] / rates[one][#ratios + 1]
  end
  one.stop()
  two.stop()
  local row = {
    ("point select, %d cores for all"):format(#uv.cpu_info()), tostring(CONNECTIONS),
    report.number(report.median(rates[one])), report.number(report.median(rates[two])), report.spread(ratios),
    ("%.1f"):format(GAIN), report.number(report.median(cpu[one])), report.number(report.median(cpu[two])),
  }
  progress("workers: %s /s with one, %s /s with two", row[3], row[4])
  return {
    { "", "connections", "one worker /s", "two /s", "two / one", "at least", "one worker CPU µs", "two CPU µs" },
    row,
  }
end

return M
