-- What the proxy's clients notice of 100 operators who look at 10,000 statements again and again.

local process = require "spec.support.process"

local contenders = require "spec.bench.contenders"
local report = require "spec.bench.report"
local sysbench = require "spec.bench.sysbench"

local M = {}

local OPERATORS, DIGESTS = 100, 10000
local LOSS, LONGEST_MS = 0.9, 50
local CONNECTIONS = 8

-- The arguments of sh for a client that sends the statements of a file.
local function client(port, user, statements)
  local file = process.write_file(process.path("statements.sql"), table.concat(statements, "\n"))
  return { "-c", ("exec mariadb --no-defaults --quick --host=127.0.0.1 --port=%d --user=%s <%s >/dev/null"):format(
    port, user, file) }
end

-- Statements that are all different, through the proxy.
local function make_digests(port)
  local statements = {}
  for number = 1, DIGESTS do
    statements[number] = ("SELECT 1 AS a%d;"):format(number)
  end
  local code, _, errors = process.run("sh", client(port, sysbench.user, statements), { seconds = 120 })
  assert(code == 0, errors)
end

local function start_operators(port)
  local statements, running = {}, {}
  for number = 1, 10000 do
    statements[number] = "SELECT * FROM query_digests;"
  end
  local arguments = client(port, "root", statements)
  for number = 1, OPERATORS do
    running[number] = process.start("sh", arguments)
  end
  return running
end

--- The rows of the table.
---@param options table rounds, seconds, build
function M.measure(server, options, progress)
  local admin_port = process.free_port()
  local proxy = contenders.proxy(server, options.build, "--admin-address=127.0.0.1:" .. admin_port)
  make_digests(proxy.port)
  local function once()
    return sysbench.report(sysbench.run {
      script = "oltp_point_select", command = "run", port = proxy.port, connections = CONNECTIONS,
      seconds = options.seconds, more = { "--table-size=10000", "--db-ps-mode=disable" },
    })
  end
  local rates, longest, ratios = { alone = {}, with = {} }, { alone = {}, with = {} }, {}
  local function note(name, result)
    table.insert(rates[name], result.queries / result.seconds)
    table.insert(longest[name], result.longest)
  end
  for _ = 1, options.rounds do
    note("alone", once())
    local operators = start_operators(admin_port)
    note("with", once())
    for _, operator in ipairs(operators) do
      operator:stop("sigterm", 10)
    end
    ratios[#ratios + 1] = rates.with[#rates.with] / rates.alone[#rates.alone]
  end
  proxy.stop()
  local row = {
    "point select, 100 operators", tostring(CONNECTIONS),
    report.number(report.median(rates.alone)), report.number(report.median(rates.with)),
    report.spread(ratios), ("%.2f"):format(LOSS),
    report.spread(longest.alone), report.spread(longest.with), tostring(LONGEST_MS),
  }
  progress("operators: %s /s without, %s /s with them, longest %s ms, %s ms", row[3], row[4], row[7], row[8])
  return {
    { "", "connections", "without /s", "with /s", "with / without", "at least", "longest without ms",
      "longest with ms", "at most" },
    row,
  }
end

return M
