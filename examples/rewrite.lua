-- Rewrites statements by a list of patterns before the server sees them.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/rewrite.lua
--
-- Then, through port 4040, `SLECT 1` selects, `databases` lists them, and a query for the table `customer` asks the
-- table `customers`, its new name. What a statement was rewritten to is printed. Prepared statements are rewritten too.
-- The patterns (Lua's) see the text as it is: a word in quotes counts like any other.

local RULES = { -- pattern, replacement
  { "^%s*SLECT%f[%W]", "SELECT" },
  { "^%s*databases%s*$", "SHOW DATABASES" },
  { "%f[%w_]customer%f[^%w_]", "customers" },
}

function read_query(packet)
  local command = packet:byte()
  if command ~= proxy.COM_QUERY and command ~= proxy.COM_STMT_PREPARE then
    return
  end
  local original = packet:sub(2)
  local sql = original
  for _, rule in ipairs(RULES) do
    sql = sql:gsub(rule[1], rule[2])
  end
  if sql ~= original then
    print(original .. " -> " .. sql)
    proxy.queries:append(1, string.char(command) .. sql, { resultset_is_needed = false })
    return proxy.PROXY_SEND_QUERY
  end
end
