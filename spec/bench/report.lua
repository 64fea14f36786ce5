-- Figures of several rounds, and the tables that show them.

local uv = require "luv"

local process = require "spec.support.process"

local M = {}

function M.median(values)
  local sorted = { unpack(values) }
  table.sort(sorted)
  local middle = #sorted / 2
  return (sorted[math.ceil(middle)] + sorted[math.floor(middle) + 1]) / 2
end

--- Four digits that matter at most: 12345.6 -> "12346", 0.1234 -> "0.12".
function M.number(value)
  return (value >= 1000 and "%.0f" or value >= 10 and "%.1f" or "%.2f"):format(value)
end

--- "1.02 (0.97 to 1.08)".
function M.spread(values)
  return ("%.2f (%.2f to %.2f)"):format(M.median(values), math.min(unpack(values)), math.max(unpack(values)))
end

--- A Markdown table.
---@param rows string[][] the first is the head
function M.table(rows)
  local lines = {}
  for index, row in ipairs(rows) do
    lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |"
    if index == 1 then
      lines[#lines + 1] = "|---" .. ("|---:"):rep(#row - 1) .. "|"
    end
  end
  return table.concat(lines, "\n")
end

local function version(program, argument, pattern)
  local _, output = process.run(program, { argument })
  return output:match(pattern) or "?"
end

--- Where and with what it ran, in a line.
---@param server table of spec.support.server
---@param build string the build folder
function M.setting(server, build)
  local proxy, cpus = build .. "/mysql-proxy", uv.cpu_info()
  return ("%s, %d x %s, Linux %s; %s, HAProxy %s, mysql-proxy %s (%s), sysbench %s."):format(
    os.date("!%Y-%m-%d"), #cpus, cpus[1].model, uv.os_uname().release, server.name,
    version("haproxy", "-v", "version (%S+)"),
    version(proxy, "--version", "mysql%-proxy (%S+)"), version(proxy, "--version", "LUA: ([^\n]+)"),
    version("sysbench", "--version", "sysbench (%S+)"))
end

return M
