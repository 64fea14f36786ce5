-- Properties: the check never fails; it says why it refuses; and a statement that is refused is refused still behind
-- another one, behind a comment, and with more behind it that closes nothing.
-- Input: the text of a COM_QUERY.

local read_only = require "mysql-proxy.read_only"

local function refused(sql)
  local ok, reason = read_only.check(sql)
  assert(ok == true or (not ok and type(reason) == "string"), "neither passed nor refused for a reason")
  return not ok
end

return function(sql)
  if refused(sql) then
    assert(refused("SELECT 1;" .. sql))
    assert(refused("/* */ " .. sql))
    assert(refused("DO 1; \n" .. sql))
  end
  refused("PREPARE s FROM '" .. sql .. "'")
  refused("SET STATEMENT a = 1 FOR " .. sql)
  refused("EXPLAIN " .. sql)
end
