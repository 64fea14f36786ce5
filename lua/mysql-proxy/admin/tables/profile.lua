-- What is counted of statements and hooks, unless --proxy-skip-profiling is given.

local statistics = require "mysql-proxy.statistics"

local function when(time)
  return time and os.date("%Y-%m-%d %H:%M:%S", math.floor(time))
end

local function query_digests(admin, session)
  local rows = {}
  admin.proxy.processes:each(session, "digests", function(each)
    rows[#rows + 1] = {
      each.digest, each.text, each.schema, each.user, each.count, each.errors, each.rows, each.bytes_from_client,
      each.bytes_from_server, each.seconds, each.min, each.max, each.p50, each.p95, each.p99, when(each.first_seen),
      when(each.last_seen),
    }
  end)
  return rows
end

local function commands(admin, session)
  local rows = {}
  for index, each in ipairs(admin.proxy.processes:records(session, "commands")) do
    rows[index] = {
      each.command, each.count, each.errors, each.rows, each.bytes_from_client, each.bytes_from_server, each.seconds,
      each.min, each.max, each.p50, each.p95, each.p99,
    }
  end
  return rows
end

-- Their latency is counted with them.
local function empty_commands(admin, session)
  admin.proxy.processes:order(session, "forget", "commands")
end

-- Only buckets in which something is.
local function command_latency(admin, session)
  local rows = {}
  for _, each in ipairs(admin.proxy.processes:records(session, "commands")) do
    local total = 0
    for index, count in ipairs(each.histogram) do
      total = total + count
      if count > 0 then
        rows[#rows + 1] = { each.command, statistics.BOUNDS[index], count, total }
      end
    end
  end
  return rows
end

local function hooks(admin, session)
  local rows = {}
  for index, each in ipairs(admin.proxy.processes:records(session, "hooks")) do
    local seconds = tonumber(("%.9f"):format(each.seconds))
    rows[index] = { each.name, each.calls, seconds, each.last_error, when(each.last_error_at) }
  end
  return rows
end

local COUNTED = {
  { "count", "LONGLONG", "how many a server has got" },
  { "errors", "LONGLONG", "how many it has answered with an error, or not at all" },
  { "rows", "LONGLONG", "of results" },
  { "bytes_from_client", "LONGLONG", "of commands" },
  { "bytes_from_server", "LONGLONG", "of answers" },
  { "sum_time", "DOUBLE", "seconds, from the sending to the end of the answer" },
  { "min_time", "DOUBLE", "seconds" },
  { "max_time", "DOUBLE", "seconds" },
  { "p50_time", "DOUBLE", "seconds that half of them did not take longer than" },
  { "p95_time", "DOUBLE", "seconds" },
  { "p99_time", "DOUBLE", "seconds" },
}

-- The columns of what is counted between others.
local function around(before, after)
  local columns = {}
  for _, list in ipairs { before, COUNTED, after } do
    for _, column in ipairs(list) do
      columns[#columns + 1] = column
    end
  end
  return columns
end

return {
  {
    name = "query_digests", comment = "statements, without their values, for each user and schema",
    columns = around({
      { "digest", "STRING", "of the text; other: all that found no room" },
      { "text", "STRING", "normalised, at most 1024 bytes" },
      { "schema", "STRING", "of the session" },
      { "user", "STRING", "of the session" },
    }, {
      { "first_seen", "STRING", "when" },
      { "last_seen", "STRING", "when" },
    }),
    rows = query_digests,
    empty = function(admin, session)
      admin.proxy.processes:order(session, "forget", "digests")
    end,
  },
  {
    name = "commands", comment = "types of commands",
    columns = around({ { "command", "STRING", "COM_QUERY and so on" } }, {}),
    rows = commands,
    empty = empty_commands,
  },
  {
    name = "command_latency", comment = "how long types of commands took: a histogram",
    columns = {
      { "command", "STRING", "COM_QUERY and so on" },
      { "up_to", "DOUBLE", "seconds, NULL for all that took longer" },
      { "count", "LONGLONG", "how many took so long, and longer than the bucket before" },
      { "total", "LONGLONG", "how many did not take longer" },
    },
    rows = command_latency,
    empty = empty_commands,
  },
  {
    name = "hooks", comment = "functions of the script",
    columns = {
      { "hook", "STRING", "its name" },
      { "calls", "LONGLONG", "how often" },
      { "sum_time", "DOUBLE", "seconds, until it returned or waited" },
      { "last_error", "STRING", "what it failed with the last time" },
      { "last_error_at", "STRING", "when that was" },
    },
    rows = hooks,
    empty = function(admin, session)
      admin.proxy.processes:order(session, "forget", "hooks")
    end,
  },
}
