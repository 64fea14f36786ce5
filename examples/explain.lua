-- Prints the plan of each SELECT: EXPLAIN is run in front of it, and its answer does not reach the client.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/explain.lua
--
-- Then, through port 4040, SELECT * FROM orders WHERE note = 'x' makes the proxy print
--   SELECT * FROM orders WHERE note = 'x'
--     id=1 select_type=SIMPLE table=orders type=ALL rows=100210 Extra=Using where
--
-- A text with a semicolon is left alone: what stands behind it would be run twice.

local tokenizer = require "proxy.tokenizer"

local EXPLAIN = "EXPLAIN FORMAT=TRADITIONAL " -- MariaDB and MySQL know it
local PLAN, STATEMENT = 1, 2

-- A SELECT without FROM has no plan, and may ask for what EXPLAIN would change, like FOUND_ROWS().
local function has_plan(sql)
  local tokens = tokenizer.tokenize(sql)
  local first, from = tokenizer.first_stmt_token(tokens), false
  for i = 1, #tokens do
    from = from or tokens[i].token_name == "TK_SQL_FROM"
  end
  return from and first.token_name == "TK_SQL_SELECT" and not sql:find(";", 1, true)
end

function read_query(packet)
  if packet:byte() == proxy.COM_QUERY and has_plan(packet:sub(2)) then
    local explain = string.char(proxy.COM_QUERY) .. EXPLAIN .. packet:sub(2)
    proxy.queries:append(PLAN, explain, { resultset_is_needed = true })
    proxy.queries:append(STATEMENT, packet, { resultset_is_needed = false })
    return proxy.PROXY_SEND_QUERY
  end
end

function read_query_result(inj)
  if inj.id == STATEMENT then
    return
  end
  local result = inj.resultset
  if result.query_status == proxy.MYSQLD_PACKET_OK then
    print(inj.query:sub(1 + #EXPLAIN + 1))
    for row in result.rows do
      local facts = {}
      for i = 1, #result.fields do
        if row[i] then
          facts[#facts + 1] = result.fields[i].name .. "=" .. row[i]
        end
      end
      print("  " .. table.concat(facts, " "))
    end
  end
  return proxy.PROXY_IGNORE_RESULT
end
