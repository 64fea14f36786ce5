-- Limits how many statements a second each user gets. Who is faster waits: the hook does, so nobody else is held up.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/rate_limit.lua
--
-- Through port 4040, a program that asks without a pause gets BURST answers at once, then RATE a second, over all of
-- its connections. Who would have to wait for longer than MOST_SECONDS gets error 1226 at once.

local uv = require "luv"

local RATE, BURST = 100, 200 -- statements a second; how many that were not used before may be caught up on
local MOST_SECONDS = 5

local due = proxy.global.due or {} -- user -> when the next statement may run, in seconds
proxy.global.due = due

local LIMITED = {
  [proxy.COM_QUERY] = true, [proxy.COM_STMT_PREPARE] = true, [proxy.COM_STMT_EXECUTE] = true,
}

function read_query(packet)
  if not LIMITED[packet:byte()] then
    return
  end
  local user, now = proxy.connection.client.username, uv.hrtime() / 1e9
  local turn = math.max(due[user] or 0, now - (BURST - 1) / RATE)
  if turn - now > MOST_SECONDS then
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1226, sqlstate = "42000",
      errmsg = ("%s has more than %d statements a second"):format(user, RATE) }
    return proxy.PROXY_SEND_RESULT
  end
  due[user] = turn + 1 / RATE
  if turn > now then
    proxy.async.sleep(math.ceil((turn - now) * 1000))
  end
end
