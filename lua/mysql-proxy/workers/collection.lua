-- Reports of all workers, made one. Who asks for a report while one of the same name is being collected gets the next,
-- together with all others who wait for that.

local reports = require "mysql-proxy.reports"
local tasks = require "mysql-proxy.task"

local M = {}

local PAUSE_RECORDS = 64

-- Records -----------------------------------------------------------------------------------------------------------

-- The records that a piece of a report has: values from the third one on.
local function read_records(report, values, count, list)
  for at = 3, count, #report.fields do
    local record = {}
    for index, field in ipairs(report.fields) do
      record[field] = values[at + index - 1]
    end
    list[#list + 1] = record
  end
end

local function copy(record)
  local new = {}
  for field, value in pairs(record) do
    new[field] = value
  end
  return new
end

-- A list that records of other lists are added to.
local Merged = {}
Merged.__index = Merged

local function new_merged(report)
  return setmetatable({ report = report, list = {}, by_key = {} }, Merged)
end

function Merged:add(list, only_known, pause)
  local report = self.report
  for index, record in ipairs(list) do
    if pause and index % PAUSE_RECORDS == 0 then
      pause()
    end
    local key = report.key and report.key(record)
    local known = key and self.by_key[key]
    if known then
      report.add(known, record)
    elseif not only_known then
      local new = key and copy(record) or record
      self.list[#self.list + 1] = new
      if key then
        self.by_key[key] = new
      end
    end
  end
end

-- Sorted, equal ones as they came; the last of them, if they are many.
function Merged:finish()
  local before, most = self.report.before, self.report.most
  local list = self.list
  if before then
    local place = {}
    for index, record in ipairs(list) do
      place[record] = index
    end
    table.sort(list, function(a, b)
      if before(a, b) or before(b, a) then
        return before(a, b)
      end
      return place[a] < place[b]
    end)
  end
  return most and #list > most and { unpack(list, #list - most + 1) } or list
end

local function past_of(report, list)
  local kept = {}
  for _, record in ipairs(list) do
    kept[#kept + 1] = report.past(record)
  end
  return kept
end

-- Within a task.
local function collect_records(fleet, task, name)
  local report, lists, merged = reports[name], {}, new_merged(reports[name])
  local function pause()
    return task:pause()
  end
  local answers = task:wait(function(resume)
    return fleet:ask(fleet:present(), resume, function(member, values, count)
      lists[member] = lists[member] or {}
      return read_records(report, values, count, lists[member])
    end, "report", name)
  end)
  merged:add(report.list(fleet.proxy, task), false, pause)
  for member, list in pairs(lists) do
    local answer = answers[member]
    if answer and answer.ok then
      merged:add(list, false, pause)
      member.last[name] = report.past and past_of(report, list)
    end
  end
  if report.past then
    for _, member in pairs(fleet.members) do
      if not (answers[member] and answers[member].ok) then
        merged:add(member.last[name] or {}, report.only_known)
      end
    end
    merged:add(fleet.past[name] or {}, report.only_known)
  end
  local records = merged:finish()
  records.complete = true
  for _, member in pairs(fleet.members) do
    records.complete = records.complete and answers[member] ~= nil and answers[member].ok
  end
  return records
end

-- Statistics ----------------------------------------------------------------------------------------------------------

-- Within a task. The counters are used again and again, as Lua does not know how much memory they have.
local function collect_statistics(fleet, task, name)
  local report = reports[name]
  fleet.counters = fleet.counters or {}
  local counters = fleet.counters[name] or report.counters(fleet.proxy.options.statistics_digests)
  fleet.counters[name] = counters
  report.reset(counters)
  local dumps = {}
  local answers = task:wait(function(resume)
    return fleet:ask(fleet:present(), resume, function(member, values)
      dumps[member] = dumps[member] or {}
      table.insert(dumps[member], values[3])
    end, "report", name)
  end)
  local function add(list)
    for _, dump in ipairs(list or {}) do
      assert(counters:add(dump))
      task:pause()
    end
  end
  for member, list in pairs(dumps) do
    local answer = answers[member]
    if answer and answer.ok then
      add(list)
      member.last[name] = report.keeps and list
    end
  end
  if report.keeps then
    for _, member in pairs(fleet.members) do
      if not (answers[member] and answers[member].ok) then
        add(member.last[name])
      end
    end
    add(fleet.past[name])
  end
  return report.list_of(counters, task)
end

-- Collections -------------------------------------------------------------------------------------------------------

local function collect(fleet, name)
  local collection = fleet.collections[name]
  local those, records = collection.waiting, nil
  collection.waiting = {}
  tasks.new(fleet.log, function(task)
    records = (reports[name].dump and collect_statistics or collect_records)(fleet, task, name)
  end, function(failure)
    if failure then
      fleet.log:critical(("collecting %s from the workers failed: %s"):format(name, tostring(failure)))
    end
    if #collection.waiting > 0 then
      collect(fleet, name)
    else
      fleet.collections[name] = nil
    end
    for _, callback in ipairs(those) do
      callback(records or {})
    end
  end):start()
end

--- What all workers tell, within a task.
---@param fleet Fleet
---@param task table
---@param name string of mysql-proxy.reports
---@return table[] records not to be changed: others may have got them too; complete: all workers have answered
function M.records(fleet, task, name)
  return task:wait(function(resume)
    local collection = fleet.collections[name]
    if collection then
      return table.insert(collection.waiting, resume)
    end
    fleet.collections[name] = { waiting = { resume } }
    return collect(fleet, name)
  end)
end

--- A worker has gone: what it has told stays in the sums, as far as it says how much there has been.
---@param fleet Fleet
---@param member Member
function M.keep_past(fleet, member)
  for name, last in pairs(member.last) do
    local report = reports[name]
    if report.dump then
      local counters = report.counters(1)
      for _, list in ipairs { fleet.past[name] or {}, last } do
        for _, dump in ipairs(list) do
          assert(counters:add(dump))
        end
      end
      fleet.past[name] = { (counters:dump(0, 1)) }
    else
      local merged = new_merged(report)
      merged:add(fleet.past[name] or {})
      merged:add(last)
      fleet.past[name] = merged.list
    end
  end
end

return M
