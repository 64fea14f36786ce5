-- A worker's end of the channel to its supervisor: it reports, and does what it is told. What the supervisor says:
--
--   order, number, name, arguments    of mysql-proxy.orders
--   report, number, name              of mysql-proxy.reports
--   begin, after                      take clients; ids of sessions come after this (session_ids)
--
-- and the worker:
--
--   piece, number, values             of a report, as often as it takes
--   answer, number, true, results     an order has been carried out, a report is over
--   answer, number, false, message    it has failed
--   ids, after                        where ids of a worker in its place would begin

local channels = require "mysql-proxy.workers.channel"
local ids = require "mysql-proxy.session_ids"
local orders = require "mysql-proxy.orders"
local reports = require "mysql-proxy.reports"
local tasks = require "mysql-proxy.task"

local M = {}

local PIECE = 32 -- records

---@class Worker
---@field proxy Proxy
---@field channel WorkerChannel
---@field reports table[] that are to be made, the first of them at present
local Worker = {}
Worker.__index = Worker

function Worker:send(...)
  return self.channel:send({ ... }, select("#", ...))
end

-- Within a task: not faster than the supervisor reads.
function Worker:send_piece(task, values, count)
  self.channel:send(values, count)
  if not self.channel:drained() then
    task:wait(function(resume)
      self.channel.on_drain = resume
    end)
  end
  task:pause()
end

function Worker:send_records(task, number, report)
  local fields = report.fields
  local values, count = { "piece", number }, 2
  for index, record in ipairs(report.list(self.proxy, task)) do
    for _, field in ipairs(fields) do
      count = count + 1
      values[count] = record[field]
    end
    if index % PIECE == 0 then
      self:send_piece(task, values, count)
      values, count = { "piece", number }, 2
    end
  end
  return self:send_piece(task, values, count)
end

function Worker:send_dump(task, number, report)
  local place = 0
  while place do
    local dump, rest = report.dump(self.proxy, place)
    self:send_piece(task, { "piece", number, dump }, 3)
    place = rest
  end
end

function Worker:report(number, name)
  local report = reports[name]
  self.task = tasks.new(self.proxy.log, function(task)
    if report.dump then
      return self:send_dump(task, number, report)
    end
    return self:send_records(task, number, report)
  end, function(failure)
    self:send("answer", number, not failure, failure and tostring(failure) or nil)
    table.remove(self.reports, 1)
    self:report_next()
  end)
  return self.task:start()
end

function Worker:report_next()
  local next = self.reports[1]
  if next then
    return self:report(unpack(next))
  end
end

local function answer_of(ok, ...)
  if not ok then
    local failure = ...
    return false, type(failure) == "table" and failure.errmsg or tostring(failure)
  end
  return true, ...
end

local handlers = {}

function handlers.order(self, number, name, ...)
  return self:send("answer", number, answer_of(pcall(orders[name], self.proxy, ...)))
end

function handlers.report(self, number, name)
  table.insert(self.reports, { number, name })
  if #self.reports == 1 then
    return self:report_next()
  end
end

function handlers.begin(self, after)
  ids.share(self.processes, self.number, after, function(next_after)
    self:send("ids", next_after)
  end)
  return self.begin()
end

--- Takes over the channel. The supervisor's first messages bring the proxy up to date.
---@param proxy Proxy
---@param inherited mysql_proxy.inheritance
---@param workers integer how many there are
---@param events { begin: fun(), gone: fun(reason: string) } begin: it may take clients; gone: the supervisor has
---@return Worker
function M.new(proxy, inherited, workers, events)
  proxy.worker = inherited.worker
  local self = setmetatable({
    proxy = proxy, number = inherited.worker, processes = workers + 1, begin = events.begin, reports = {},
  }, Worker)
  self.channel = assert(channels.open(inherited.channel, function(values, count)
    return handlers[values[1]](self, unpack(values, 2, count))
  end, function(reason)
    self:close()
    return events.gone(reason)
  end))
  return self
end

function Worker:close()
  if self.task then
    self.task:cancel()
  end
  self.channel:close()
end

return M
