-- `proxy.processes`: all processes that a proxy consists of, for whoever asks about it or changes it. This is that of
-- a proxy with one process; mysql-proxy.workers.fleet is the other.

local orders = require "mysql-proxy.orders"
local reports = require "mysql-proxy.reports"

---@class Processes
local Alone = {}
Alone.__index = Alone

local M = {}

---@param proxy Proxy
---@return Processes
function M.new(proxy)
  return setmetatable({ proxy = proxy }, Alone)
end

--- What they tell, as one list, which is not to be changed.
---@param task table with pause() and wait(), within which this is called
---@param name string of mysql-proxy.reports
---@return table[]
function Alone:records(task, name)
  return reports[name].list(self.proxy, task)
end

--- The same, one record after the other, for those that are many.
---@param take fun(record: table)
function Alone:each(task, name, take)
  return reports[name].each(self.proxy, task, take)
end

--- Brings the list of servers that scripts see up to date.
---@param done fun()
function Alone.look_at_backends(_, done)
  return done()
end

--- Has them all carry out an order, or raises an error.
---@param task table
---@param name string of mysql-proxy.orders
---@return any ... what the order has returned
function Alone:order(_, name, ...)
  return orders[name](self.proxy, ...)
end

--- Has the one carry out an order which has a session.
---@param id integer of the session
function Alone:order_at(task, id, name, ...)
  return self:order(task, name, id, ...)
end

return M
