-- The numbers of sessions, of proxy and admin clients alike: KILL names them.
--
-- Where several processes are one proxy, each has every so-manieth number: whose a session is can be seen from its
-- number. One that takes the place of another goes on behind that one's numbers.

local M = {}

local NOTICE = 1000 -- numbers

local count, place, last, notify = 1, 0, 0, nil

function M.next()
  last = last + 1
  if notify and last % NOTICE == 0 then
    notify(M.after(last))
  end
  return last * count + place
end

--- From now on this process has the numbers whose remainder is its place.
---@param processes integer
---@param own integer its place, from 0 on
---@param after? integer the quotient that its numbers come after
---@param on_progress? fun(after: integer) what another one in its place would come after; called now and then
function M.share(processes, own, after, on_progress)
  count, place, last, notify = processes, own, after or 0, on_progress
end

--- What a process in the place of another would come after, before that has said more.
---@param after integer what the other one comes after
---@return integer
function M.after(after)
  return after + 2 * NOTICE
end

--- Whose a number is.
---@param id integer
---@return integer place
function M.place_of(id)
  return id % count
end

return M
