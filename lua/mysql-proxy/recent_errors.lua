-- The last errors that clients got, for the admin interface: as many as there is room for.

local uv = require "luv"

local M = {
  MOST = 1000, -- errors
}

local LONGEST_TEXT = 512 -- bytes, as many as MySQL's own may have

---@class RecentErrors
local RecentErrors = {}
RecentErrors.__index = RecentErrors

---@return RecentErrors
function M.new()
  return setmetatable({ count = 0 }, RecentErrors)
end

--- A client was told of an error.
---@param session table|nil
---@param err { errcode: integer, sqlstate: string|nil, errmsg: string|nil }
function RecentErrors:add(session, err)
  session = session or {}
  local seconds, microseconds = uv.gettimeofday() -- so exactly, as those of several processes are put in order
  self[self.count % M.MOST + 1] = {
    time = seconds + microseconds / 1e6, session = session.id, client = session.client_name,
    user = session.login and session.login.username, backend = session.backend and session.backend.address,
    code = err.errcode, sqlstate = err.sqlstate, text = err.errmsg and err.errmsg:sub(1, LONGEST_TEXT),
  }
  self.count = self.count + 1
end

--- Forgets them all.
function RecentErrors:clear()
  for index = 1, math.min(self.count, M.MOST) do
    self[index] = nil
  end
  self.count = 0
end

--- All that are kept, the oldest first.
function RecentErrors:list()
  local list = {}
  for number = math.max(self.count - M.MOST, 0), self.count - 1 do
    list[#list + 1] = self[number % M.MOST + 1]
  end
  return list
end

return M
