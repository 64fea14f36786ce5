-- Counters, and what went wrong.

local statistics = require "mysql-proxy.admin.statistics"

local function errors(admin, session)
  local rows = {}
  for index, each in ipairs(admin.proxy.processes:records(session, "errors")) do
    rows[index] = {
      os.date("%Y-%m-%d %H:%M:%S", math.floor(each.time)), each.session, each.client, each.user, each.backend,
      each.code, each.sqlstate, each.text,
    }
  end
  return rows
end

return {
  {
    name = "status", comment = "counters of the proxy as a whole",
    columns = { { "Variable_name", "STRING", "as in a server" }, { "Value", "STRING", "since the start" } },
    rows = statistics.rows,
  },
  {
    name = "errors", comment = "the last errors that clients got from the proxy, and from servers at their login",
    columns = {
      { "time", "STRING", "when" },
      { "session", "LONGLONG", "its id" },
      { "client", "STRING", "its address" },
      { "user", "STRING", "as it logged in" },
      { "backend", "STRING", "its server" },
      { "code", "LONG", "number of the error" },
      { "sqlstate", "STRING", "its SQL state" },
      { "text", "STRING", "what the client was told" },
    },
    rows = errors,
    empty = function(admin, session)
      admin.proxy.processes:order(session, "forget", "errors")
    end,
  },
}
