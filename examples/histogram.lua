-- Counts statements by their normalised text, with times; any client asks for the figures with SQL.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/histogram.lua
--
-- Through port 4040, `SELECT * FROM histogram.queries` shows for each kind of statement how often it ran, its average
-- and longest time, and how many took up to 1 ms, 10 ms, 100 ms, 1 s, and longer. `DELETE FROM histogram.queries`
-- begins anew. The figures are those of all clients. After MOST_KINDS kinds further ones are not counted.

local tokenizer = require "proxy.tokenizer"

local LIMITS_MS = { 1, 10, 100, 1000 }
local NAMES = { "query", "count", "avg_ms", "max_ms", "<1ms", "<10ms", "<100ms", "<1s", "longer" }
local MOST_KINDS, LONGEST = 1000, 1024 -- how many, and how many bytes of their texts are kept
local SHOW, RESET = "SELECT * FROM `histogram` . `queries` ", "DELETE FROM `histogram` . `queries` "

local histogram = proxy.global.histogram or { kinds = 0, entries = {} }
proxy.global.histogram = histogram

local kind -- of the statement that runs

local function begin_anew()
  local deleted = histogram.kinds
  histogram.kinds, histogram.entries = 0, {}
  return { type = proxy.MYSQLD_PACKET_OK, affected_rows = deleted }
end

local function show()
  local fields, rows = {}, {}
  for i, name in ipairs(NAMES) do
    fields[i] = { name = name, type = i == 1 and proxy.MYSQL_TYPE_VAR_STRING or proxy.MYSQL_TYPE_DOUBLE }
  end
  for text, entry in pairs(histogram.entries) do
    local average = ("%.3f"):format(entry.total / entry.count)
    rows[#rows + 1] = { text, entry.count, average, ("%.3f"):format(entry.max), unpack(entry.buckets) }
  end
  table.sort(rows, function(a, b)
    return a[2] > b[2]
  end)
  return { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = rows, charset = 45 } } -- 45: utf8mb4
end

function read_query(packet)
  if packet:byte() ~= proxy.COM_QUERY then
    return
  end
  kind = tokenizer.normalize(tokenizer.tokenize(packet:sub(2))):sub(1, LONGEST)
  if kind == SHOW or kind == RESET then
    proxy.response = kind == SHOW and show() or begin_anew()
    return proxy.PROXY_SEND_RESULT
  end
  proxy.queries:append(1, packet, { resultset_is_needed = false })
  return proxy.PROXY_SEND_QUERY
end

function read_query_result(inj)
  local entry, ms = histogram.entries[kind], inj.response_time / 1000
  if not entry and histogram.kinds < MOST_KINDS then
    entry = { count = 0, total = 0, max = 0, buckets = { 0, 0, 0, 0, 0 } }
    histogram.entries[kind], histogram.kinds = entry, histogram.kinds + 1
  end
  if entry then
    entry.count, entry.total, entry.max = entry.count + 1, entry.total + ms, math.max(entry.max, ms)
    local bucket = 1
    while LIMITS_MS[bucket] and ms >= LIMITS_MS[bucket] do
      bucket = bucket + 1
    end
    entry.buckets[bucket] = entry.buckets[bucket] + 1
  end
end
