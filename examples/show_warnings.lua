-- Prints the warnings of each statement. Most programs never ask for them.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/show_warnings.lua
--
-- Then, through port 4040, `SELECT 1/0` shows the client NULL, and the proxy prints
--   SELECT 1/0
--     Warning 1365: Division by 0
-- The SHOW WARNINGS behind a statement that has some is the proxy's own: the client does not see its answer.

local COM_QUERY = string.char(proxy.COM_QUERY)
local STATEMENT, WARNINGS = 1, 2

local statement -- the text of the last one

function read_query(packet)
  if packet:byte() == proxy.COM_QUERY then
    statement = packet:sub(2)
    proxy.queries:append(STATEMENT, packet, { resultset_is_needed = false })
    return proxy.PROXY_SEND_QUERY
  end
end

function read_query_result(inj)
  local result = inj.resultset
  if inj.id == STATEMENT then
    if result.warning_count and result.warning_count > 0 then
      proxy.queries:append(WARNINGS, COM_QUERY .. "SHOW WARNINGS", { resultset_is_needed = true })
    end
    return
  end
  print(statement)
  if result.query_status == proxy.MYSQLD_PACKET_OK then
    for row in result.rows do
      print(("  %s %s: %s"):format(row[1], row[2], row[3])) -- level, code, message
    end
  end
  return proxy.PROXY_IGNORE_RESULT
end
