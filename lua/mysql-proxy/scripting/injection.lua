-- What read_query_result gets: a command of the queue, and its answer. A session has one such object, which is filled
-- in for each command; what is costly is found when a script asks for it.

local M = {}

---@class Injection
---@field id integer
---@field query string
---@field resultset userdata|nil mysql.resultset, once there is one

local readers = {}

function readers.type(self)
  return self.id
end

function readers.query_time(_, session)
  return session.refused and 0 or (session.relay:times())
end

function readers.response_time(_, session)
  return session.refused and 0 or (select(2, session.relay:times()))
end

-- The client has got the answer: its counters are all that is left of it.
function readers.resultset(self, session)
  local summary = session.relay:summary()
  rawset(self, "resultset", summary)
  return summary
end

--- A session's object.
---@param session Session
---@return Injection
function M.new(session)
  -- With room for all that it may have, so that filling it in makes nothing.
  return setmetatable({ id = 0, query = "", resultset = nil }, {
    __index = function(self, key)
      local read = readers[key]
      if read then
        return read(self, session)
      elseif type(key) ~= "table" then
        session.proxy.log:message(("inj[%s] ... not found"):format(tostring(key)))
      end
      return nil
    end,
  })
end

return M
