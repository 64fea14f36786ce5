#!/usr/bin/env lua5.1
-- What the tokenizer costs: spec/bench/tokenizer.lua [build folder]. Best of ROUNDS rounds, in microseconds of CPU time
-- for each call, garbage collection included.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local modules = (arg[1] or here .. "/../../build") .. "/lib/mysql-proxy"
package.path = modules .. "/lua/?.lua;" .. here .. "/../../?.lua;" .. package.path
package.cpath = modules .. "/?.so;" .. package.cpath

local tokenizer = require "proxy.tokenizer"

local ROUNDS, ROUND_SECONDS = 15, 0.02
local KB = 1024

local JOIN = [[
SELECT o.id, o.customer_id, c.name AS customer, SUM(oi.quantity * oi.price) total FROM shop.orders o INNER JOIN
customers c ON c.id = o.customer_id LEFT JOIN order_items oi ON oi.order_id=o.id WHERE o.created_at BETWEEN '2024-01-01'
AND '2024-12-31 23:59:59' AND o.status IN (1,2,3) AND c.country='DE' GROUP BY o.id ORDER BY total DESC LIMIT 10, 20 ]]

local function insert(size)
  return ("INSERT INTO t (id, name, note) VALUES " .. ("(1000,'it''s a name','a longer text of no interest'),"):rep(
    math.ceil(size / 52))):sub(1, size)
end

local STATEMENTS = {
  { "point select", "SELECT c FROM sbtest1 WHERE id=5015" },
  { "join, 1 kB", JOIN:rep(4):sub(1, KB) },
  { "insert, 1 kB", insert(KB) },
  { "insert, 1 MB", insert(KB * KB) },
}

local function look_at_names(sql)
  local tokens, found = tokenizer.tokenize(sql), 0
  for i = 1, #tokens do
    if tokens[i].token_name == "TK_SQL_SELECT" then
      found = found + 1
    end
  end
  return found
end

local CALLS = {
  { "tokenize(sql)", tokenizer.tokenize },
  { "normalize(sql)", tokenizer.normalize },
  { "tokenize, normalize(tokens)", function(sql)
    return tokenizer.normalize(tokenizer.tokenize(sql))
  end },
  { "tokenize, look at each name", look_at_names },
  { "tokenize, bare_tokens(tokens)", function(sql)
    return tokenizer.bare_tokens(tokenizer.tokenize(sql))
  end },
}

local function seconds(call, sql, times)
  local begin = os.clock()
  for _ = 1, times do
    call(sql)
  end
  return os.clock() - begin
end

local function best(call, sql)
  local times, found = 1, nil
  while seconds(call, sql, times) < ROUND_SECONDS do
    times = times * 2
  end
  for _ = 1, ROUNDS do
    local one = seconds(call, sql, times) / times
    found = math.min(found or one, one)
  end
  return found * 1e6
end

local head, rule = "| microseconds", "|---"
for _, statement in ipairs(STATEMENTS) do
  head = head .. " | " .. statement[1] .. " (" .. #tokenizer.tokenize(statement[2]) .. " tokens)"
  rule = rule .. "|--:"
end
print(head .. " |\n" .. rule .. "|")
for _, call in ipairs(CALLS) do
  local line = "| " .. call[1]
  for _, statement in ipairs(STATEMENTS) do
    local time = best(call[2], statement[2])
    line = line .. (time < 100 and " | %.2f" or " | %.0f"):format(time)
  end
  print(line .. " |")
end
