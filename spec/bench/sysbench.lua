-- Runs sysbench against 127.0.0.1 and reads its report.

local process = require "spec.support.process"

local M = {}

--- The user that it logs in as: make_user makes it.
M.user = "sysbench"

--- Makes the user (without a password, so that every server's default plugin will do) and the database.
---@param server table of spec.support.server
function M.make_user(server)
  server:sql(("CREATE DATABASE IF NOT EXISTS test; CREATE USER IF NOT EXISTS %s@'%%'; GRANT ALL ON test.* TO %s@'%%'")
    :format(M.user, M.user))
end

function M.drop_user(server)
  server:sql(("DROP TABLE IF EXISTS test.sbtest1, test.large_result; DROP USER %s@'%%'"):format(M.user))
end

--- The program's arguments.
---@param options { script: string, command: "prepare"|"run", port: integer, database?: string, connections?: integer,
---  seconds?: integer, more?: string[] }
function M.arguments(options)
  local args = {
    options.script, "--db-driver=mysql", "--mysql-host=127.0.0.1", "--mysql-port=" .. options.port,
    "--mysql-user=" .. M.user, "--mysql-db=" .. (options.database or "test"),
    "--threads=" .. (options.connections or 1), "--time=" .. (options.seconds or 0),
  }
  for _, option in ipairs(options.more or {}) do
    args[#args + 1] = option
  end
  args[#args + 1] = options.command
  return args
end

--- Runs it to its end; an error of the server's or the connection's is one here.
function M.run(options)
  local code, output, errors = process.run("sysbench", M.arguments(options), { seconds = (options.seconds or 0) + 60 })
  assert(code == 0, ("sysbench %s failed: %s%s"):format(options.script, output, errors))
  return output
end

---@class SysbenchReport
---@field queries integer
---@field events integer a transaction, or what the script's event() does once
---@field seconds number
---@field latency number ms, 95th percentile, of an event
---@field longest number ms, the latency of the slowest event
---@field errors integer that sysbench ignored and went on after
---@field reconnects integer

---@return SysbenchReport
function M.report(output)
  local function number(pattern)
    local text = assert(output:match(pattern), "sysbench's report lacks " .. pattern)
    return tonumber(text)
  end
  return {
    queries = number("queries performed:.-total:%s+(%d+)"),
    events = number("total number of events:%s+(%d+)"),
    seconds = number("total time:%s+([%d.]+)s"),
    latency = number("95th percentile:%s+([%d.]+)"),
    longest = number("max:%s+([%d.]+)"),
    errors = number("ignored errors:%s+(%d+)"),
    reconnects = number("reconnects:%s+(%d+)"),
  }
end

return M
