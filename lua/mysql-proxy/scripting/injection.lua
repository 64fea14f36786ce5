-- What read_query_result gets: a command of the queue, and its answer. It is the queue's own item; what is costly is
-- found when a script asks for it.

local resultset = require "mysql.resultset"

local M = {}

local SESSION = {} -- a key that scripts cannot name

local function times(self)
  local query_time, response_time = self[SESSION].relay:times()
  rawset(self, "query_time", query_time)
  rawset(self, "response_time", response_time)
end

local readers = {}

function readers.type(self)
  return self.id
end

function readers.query_time(self)
  times(self)
  return self.query_time
end

function readers.response_time(self)
  times(self)
  return self.response_time
end

function readers.resultset(self)
  local session = self[SESSION]
  local kept = session.kept
  local made = resultset.new(kept, self.query:byte(), session.capabilities, not kept and session.relay:summary() or nil)
  rawset(self, "resultset", made)
  return made
end

local meta = {}

function meta.__index(self, key)
  local read = readers[key]
  if read then
    return read(self)
  elseif type(key) ~= "table" then
    self[SESSION].proxy.log:message(("inj[%s] ... not found"):format(tostring(key)))
  end
  return nil
end

--- Makes an item of the queue, which has been answered, what a script gets: session.kept is the answer, nil if the
--- client has it already.
---@param item { id: integer, query: string }
---@param session Session
function M.new(item, session)
  item[SESSION] = session
  return setmetatable(item, meta)
end

return M
