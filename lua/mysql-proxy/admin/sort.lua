-- ORDER BY: a merge sort, as it has to be stable, and to pause on its way, which table.sort cannot.

local values = require "mysql-proxy.admin.values"

local M = {}

local PAUSE_MERGES = 64

local function before_or_equal(a, b, keys)
  for index, key in ipairs(keys) do
    local order = values.order(a.keys[index], b.keys[index])
    if order ~= 0 then
      return (order < 0) ~= (key.descending or false)
    end
  end
  return true
end

-- Merges list[low .. middle - 1] and list[middle .. high - 1] into `merged`.
local function merge(list, merged, low, middle, high, keys)
  local left, right = low, middle
  for index = low, high - 1 do
    if left < middle and (right >= high or before_or_equal(list[left], list[right], keys)) then
      merged[index], left = list[left], left + 1
    else
      merged[index], right = list[right], right + 1
    end
  end
end

--- Sorts entries { row = , group = } by the values that keys give of them.
---@param entries table[]
---@param keys { value: fun(row, group), descending: boolean|nil }[]
---@param pause fun()
---@return table[] sorted
function M.sort(entries, keys, pause)
  if #keys == 0 then
    return entries
  end
  for _, entry in ipairs(entries) do
    pause()
    entry.keys = {}
    for index, key in ipairs(keys) do
      entry.keys[index] = key.value(entry.row, entry.group)
    end
  end
  local list, width, done = entries, 1, 0
  while width < #list do
    local merged = {}
    for low = 1, #list, 2 * width do
      local middle = math.min(low + width, #list + 1)
      merge(list, merged, low, middle, math.min(low + 2 * width, #list + 1), keys)
      done = done + 2 * width
      if done > PAUSE_MERGES then
        pause()
        done = 0
      end
    end
    list, width = merged, 2 * width
  end
  return list
end

return M
