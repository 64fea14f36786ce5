-- What an operator can say here.

local COMMANDS = {
  { "SELECT * FROM help", "shows this help" },
  { "SELECT * FROM backends", "lists the backends and their state" },
  { "SHOW TABLES", "lists the tables; SHOW FULL COLUMNS FROM backends explains one" },
  { "SELECT ... FROM t WHERE ... GROUP BY ... ORDER BY ... LIMIT ...", "looks at one table" },
  { "SHOW PROCESSLIST", "lists the clients" },
  { "SHOW STATUS [LIKE '...']", "shows counters" },
  { "SHOW VARIABLES [LIKE '...']", "shows options" },
  { "SET log_level = 'debug'", "changes an option that can be changed, see the README" },
  { "UPDATE backends SET state = 'draining' WHERE ...", "no new sessions; 'down' ends the old ones too; 'up'" },
  { "INSERT INTO backends (address, type) VALUES ('db3:3306', 'rw')", "adds a server, 'rw' or 'ro'" },
  { "DELETE FROM backends WHERE ...", "drains a server, and takes it out" },
  { "TRUNCATE TABLE query_digests", "counts from 0 again; also commands, command_latency, hooks, errors" },
  { "KILL id", "ends a session" },
  { "KILL QUERY id", "stops what it is doing" },
  { "RELOAD [SCRIPT | DEFAULTS FILE]", "reads them anew; SHOW WARNINGS: which options need a RESTART" },
  { "RESTART", "as SIGUSR2: the program anew, and no client is lost" },
  { "SHUTDOWN", "as SIGTERM" },
}

return {
  {
    name = "help", comment = "statements of the admin interface",
    columns = { { "command", "STRING", "a statement" }, { "description", "STRING", "what it does" } },
    rows = function()
      return COMMANDS
    end,
  },
}
