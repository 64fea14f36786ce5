-- A sysbench script: connect, log in, one query, quit.
-- luacheck: globals thread_init event, read globals sysbench

local driver

function thread_init()
  driver = sysbench.sql.driver()
end

function event()
  local connection = driver:connect()
  connection:query("SELECT 1")
  connection:disconnect()
end
