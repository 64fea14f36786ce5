-- All workers, as the supervisor sees them: `proxy.processes` (mysql-proxy.alone) of its own proxy, which has the ports
-- of operators, and no session. That proxy's list of servers and its options are as an operator has changed them, for
-- workers that start later.
--
-- A worker that does not answer for 2 seconds is left out, and not asked again before it has answered. Counters of
-- workers that are gone or left out stay in the sums, as they were when they were asked for the last time.

local channels = require "mysql-proxy.workers.channel"
local collection = require "mysql-proxy.workers.collection"
local errors = require "mysql-proxy.admin.errors"
local ids = require "mysql-proxy.session_ids"
local orders = require "mysql-proxy.orders"
local tasks = require "mysql-proxy.task"
local uv = require "luv"

local M = {}

local PATIENCE = 2000 -- ms

---@class Member a worker
---@field number integer
---@field channel WorkerChannel
---@field ready boolean it takes clients
---@field silent boolean|nil it has not answered, and is not waited for
---@field last table<string, table[]> name of a report -> what of its last one stays when the worker has gone

---@class Fleet: Processes
---@field members table<integer, Member> by number
---@field after table<integer, integer> by number of a worker: where the ids of sessions of the next one begin
---@field asking table<integer, table> questions that are open, by number
---@field options table<string, { value: any }> what has been changed
local Fleet = {}
Fleet.__index = Fleet

--- Has a supervisor's proxy ask its workers.
---@param proxy Proxy
---@param workers integer how many
---@return Fleet
function M.new(proxy, workers)
  local self = setmetatable({
    proxy = proxy, log = proxy.log, size = workers, members = {}, after = {}, asking = {}, last = 0, options = {},
    collections = {}, past = {},
  }, Fleet)
  ids.share(workers + 1, 0)
  function proxy.backends.on_state(backend)
    self:tell_all(self.members, "set_backend_state", backend.index, backend.address, backend.state)
  end
  proxy.processes = self
  return self
end

-- Members ---------------------------------------------------------------------------------------------------------

local function send(member, ...)
  return member.channel:send({ ... }, select("#", ...))
end

-- Without waiting for an answer.
function Fleet.tell_all(_, members, name, ...)
  for _, member in pairs(members) do
    send(member, "order", 0, name, ...)
  end
end

-- What it does not know from its command line, or from a defaults file that may have changed.
function Fleet:bring_up_to_date(member)
  local values, count = { "order", 0, "restore_backends" }, 3
  for _, backend in ipairs(self.proxy.backends:present()) do
    if not backend.deleted then
      values[count + 1], values[count + 2] = backend.index, backend.address
      values[count + 3], values[count + 4] = backend.type, backend.order
      count = count + 4
    end
  end
  member.channel:send(values, count)
  for name, changed in pairs(self.options) do
    send(member, "order", 0, "set_option", name, changed.value)
  end
end

--- A worker has been started.
---@param number integer
---@param descriptor integer the supervisor's end of its channel
---@return true|nil
---@return string|nil message
function Fleet:add(number, descriptor)
  local member = { number = number, last = {} }
  local message
  member.channel, message = channels.open(descriptor, function(values, count)
    return self:receive(member, values, count)
  end, function(reason)
    self.log:debug(("worker %d: its channel %s"):format(number, reason))
    return self:remove(member)
  end)
  if not member.channel then
    return nil, message
  end
  self.members[number] = member
  self:bring_up_to_date(member)
  local after = self.after[number] or 0
  self.after[number] = ids.after(after)
  send(member, "begin", after)
  return true
end

--- It takes clients.
function Fleet:is_ready(number)
  if self.members[number] then
    self.members[number].ready = true
  end
end

function Fleet:remove(member)
  if self.members[member.number] ~= member then
    return
  end
  member.channel:close()
  self.members[member.number] = nil
  collection.keep_past(self, member)
  for _, question in pairs(self.asking) do
    self:answered(question, member, false, "it has ended")
  end
end

--- Its process has ended, or is to be forgotten.
---@param number integer
function Fleet:lose(number)
  if self.members[number] then
    self:remove(self.members[number])
  end
end

-- Those that may be waited for.
function Fleet:present()
  local list = {}
  for _, member in pairs(self.members) do
    if member.ready and not member.silent then
      list[#list + 1] = member
    end
  end
  return list
end

-- Asking ----------------------------------------------------------------------------------------------------------

local handlers = {}

function handlers.ids(self, member, values)
  self.after[member.number] = values[2]
end

function handlers.piece(self, member, values, count)
  local question = self.asking[values[2]]
  if question and question.waits_for[member] then
    question.timer:again()
    question.take(member, values, count)
  end
end

function handlers.answer(self, member, values, count)
  local question = self.asking[values[2]]
  if question then
    question.timer:again()
    return self:answered(question, member, values[3], unpack(values, 4, count))
  elseif not values[3] then
    self.log:warning(("worker %d could not do what it was told: %s"):format(member.number, tostring(values[4])))
  end
end

function Fleet:receive(member, values, count)
  if member.silent then
    member.silent = nil
    self.log:message(("worker %d answers again"):format(member.number))
  end
  return handlers[values[1]](self, member, values, count)
end

function Fleet:answered(question, member, ok, ...)
  if not question.waits_for[member] then
    return
  end
  question.waits_for[member] = nil
  question.answers[member] = { ok = ok, ... }
  if not ok then
    self.log:warning(("worker %d: no answer: %s"):format(member.number, tostring((...))))
  end
  if not next(question.waits_for) then
    return self:close_question(question)
  end
end

function Fleet:close_question(question)
  question.timer:close()
  self.asking[question.number] = nil
  return question.done(question.answers)
end

function Fleet:give_up(question)
  for member in pairs(question.waits_for) do
    self.log:warning(("worker %d does not answer, going on without it"):format(member.number))
    member.silent = true
  end
  question.waits_for = {}
  return self:close_question(question)
end

--- Asks some of them.
---@param members Member[]
---@param done fun(answers: table<Member, table>) those who have answered: ok, and what else
---@param take? fun(member: Member, values: table, count: integer) for pieces of an answer, from the third value on
---@param kind string
---@param ... any of the question
function Fleet:ask(members, done, take, kind, ...)
  if #members == 0 then
    return done({})
  end
  self.last = self.last + 1
  local question = {
    number = self.last, waits_for = {}, answers = {}, done = done, take = take, timer = uv.new_timer(),
  }
  self.asking[question.number] = question
  question.timer:start(PATIENCE, PATIENCE, self.log:guard(function()
    return self:give_up(question)
  end))
  for _, member in ipairs(members) do
    question.waits_for[member] = true
  end
  for _, member in ipairs(members) do
    send(member, kind, question.number, ...)
  end
end

-- Processes ---------------------------------------------------------------------------------------------------------

-- The servers of the supervisor's proxy have no clients of their own: they stay as long as those of any worker.
function Fleet:count_clients(records)
  for _, record in ipairs(records) do
    local backend = self.proxy.backends[record.index]
    if backend and not backend.gone and backend.address == record.address then
      backend.connected_clients = record.connected_clients
      self.proxy.backends:forget_deleted(backend)
    end
  end
end

function Fleet:look_at_backends(done)
  return tasks.new(self.log, function(task)
    for _, record in ipairs(self:records(task, "backends")) do
      local backend = self.proxy.backends[record.index]
      if backend and backend.address == record.address then
        backend.state, backend.uuid, backend.connected_clients = record.state, record.uuid, record.connected_clients
      end
    end
  end, function(failure)
    if failure then
      self.log:critical(("looking at the backends failed: %s"):format(tostring(failure)))
    end
    return done()
  end):start()
end

function Fleet:records(task, name)
  local records = collection.records(self, task, name)
  if name == "backends" and records.complete then
    self:count_clients(records)
  end
  return records
end

function Fleet:each(task, name, take)
  for _, record in ipairs(self:records(task, name)) do
    task:pause()
    take(record)
  end
end

-- What has been changed, for workers that start later; the servers are in the supervisor's list.
local KEPT = {
  forget = function(self, report)
    self.past[report] = nil
    for _, member in pairs(self.members) do
      member.last[report] = nil
    end
  end,
  set_option = function(self, name, value)
    self.options[name] = { value = value }
  end,
}
function Fleet:order(task, name, ...)
  local results = { orders[name](self.proxy, ...) } -- first here: if that is an error, it has been none there
  local count = #results
  if results[1] == nil and results[2] ~= nil then
    return nil, results[2]
  end
  if KEPT[name] then
    KEPT[name](self, ...)
  end
  local arguments, more, others = { ... }, select("#", ...), {}
  for _, member in pairs(self.members) do
    if not member.ready or member.silent then
      others[#others + 1] = member
    end
  end
  self:tell_all(others, name, ...) -- they will
  task:wait(function(resume)
    return self:ask(self:present(), resume, nil, "order", name, unpack(arguments, 1, more))
  end)
  return unpack(results, 1, count)
end

function Fleet:order_at(task, id, name, ...)
  local member, arguments, count = self.members[ids.place_of(id)], { ... }, select("#", ...)
  if not member then
    return nil
  elseif not member.ready or member.silent then
    errors.raise(1105, "HY000", "Worker %d, which has the session, does not answer", member.number)
  end
  local answers = task:wait(function(resume)
    return self:ask({ member }, resume, nil, "order", name, id, unpack(arguments, 1, count))
  end)
  local answer = answers[member]
  if not answer or not answer.ok then
    errors.raise(1105, "HY000", "Worker %d, which has the session, does not answer", member.number)
  end
  return unpack(answer, 1, 8)
end

return M
