-- Contenders under the same load, which goes to one after the other for a moment each: whatever else the machine does
-- meanwhile meets all alike.

local uv = require "luv"

local process = require "spec.support.process"

local sysbench = require "spec.bench.sysbench"
local usage = require "spec.bench.usage"

local M = {}

local TURN_MS = 40

local function pass(milliseconds)
  local timer, over = uv.new_timer(), false
  timer:start(milliseconds, 0, function()
    over = true
  end)
  process.wait_until(function()
    return over
  end)
  timer:close()
end

local function start_load(contender, case, connections, seconds)
  local load = process.start("sysbench", sysbench.arguments {
    script = case.script, command = "run", port = contender.port, more = case.more, connections = connections,
    seconds = seconds,
  })
  pass(TURN_MS)
  load:kill("sigstop")
  return load
end

local function finish(load)
  load:kill("sigcont")
  assert(load:wait(60) == 0, "sysbench failed: " .. load:stdout() .. load:stderr())
  local result = sysbench.report(load:stdout())
  os.remove(load.output)
  os.remove(load.errors)
  return result
end

--- CPU time in µs that each has used for a unit of the load, in their order.
---@param contenders { pid: integer, port: integer }[]
---@param case { script: string, more?: string[], unit: string }
---@param connections integer
---@param seconds integer of load for each
---@return number[]
function M.cpu(contenders, case, connections, seconds)
  local before, loads, figures = {}, {}, {}
  for index, contender in ipairs(contenders) do
    before[index] = usage.cpu_seconds(contender.pid)
    loads[index] = start_load(contender, case, connections, seconds * #contenders)
  end
  local running = true
  while running do
    for _, load in ipairs(loads) do
      load:kill("sigcont")
      pass(TURN_MS)
      load:kill("sigstop")
      running = running and load:running()
    end
  end
  for index, load in ipairs(loads) do
    figures[index] = finish(load)[case.unit]
  end
  for index, contender in ipairs(contenders) do
    figures[index] = (usage.cpu_seconds(contender.pid) - before[index]) / figures[index] * 1e6
  end
  return figures
end

return M
