-- Resident memory of connections that have logged in, have had a query answered, and stay idle.

local process = require "spec.support.process"
local raw_client = require "spec.support.raw_client"

local usage = require "spec.bench.usage"

local M = {}

local AT_ONCE = 50 -- connections being made at a time

--- Opens idle connections.
---@return table[] clients
function M.open(port, user, count)
  local clients, begun, ready, failure = {}, 0, 0, nil
  local function open_next()
    if begun == count then
      return
    end
    begun = begun + 1
    clients[begun] = raw_client.open(port, function(client, event, detail)
      if event == "greeting" then
        client:login(user)
      elseif event == "ready" then
        client:query("SELECT 1")
      elseif event == "answer" then
        ready = ready + 1
        open_next()
      elseif event == "failed" then
        failure = detail
      end
    end)
  end
  for _ = 1, math.min(AT_ONCE, count) do
    open_next()
  end
  process.wait_until(function()
    return failure or ready == count
  end, 60)
  assert(ready == count, ("%d of %d connections: %s"):format(ready, count, failure or "out of time"))
  return clients
end

--- Waits until a process neither takes nor gives back memory any more.
local function settled_kb(pid)
  local last, same = usage.rss_kb(pid), 0
  process.wait_until(function()
    local now = usage.rss_kb(pid)
    same = now == last and same + 1 or 0
    last = now
    return same == 50
  end, 10)
  return last
end

--- kB for each connection. The first connection, which makes what all share, is not counted.
---@param contender table of spec.bench.contenders, just started
function M.measure(contender, user, count)
  local first = M.open(contender.port, user, 1)
  local before = settled_kb(contender.pid)
  local clients = M.open(contender.port, user, count)
  local after = settled_kb(contender.pid)
  for _, client in ipairs(clients) do
    client:quit()
  end
  first[1]:quit()
  return (after - before) / count
end

return M
