-- The numbers of sessions, of proxy and admin clients alike: KILL names them.

local M = {}

local last = 0

function M.next()
  last = last + 1
  return last
end

return M
