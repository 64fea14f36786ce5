-- Chooses the server by the hour of the day, as the manual's example of connect_server does by the minute: office hours
-- on the first server, the nights on the second.
--
--   mysql-proxy --proxy-backend-addresses=day:3306 --proxy-backend-addresses=night:3306 \
--     --proxy-lua-script=examples/backend_by_hour.lua
--
-- SELECT @@hostname through port 4040 shows where one is; the proxy prints what it chooses. A client that is connected
-- stays where it is. If the chosen server is down, another one is taken.

local DAY, NIGHT = 1, 2            -- in the order of --proxy-backend-addresses
local DAY_BEGINS, DAY_ENDS = 8, 20 -- local time; the environment variable TZ says which

function connect_server()
  local hour = tonumber(os.date("%H"))
  local choice = hour >= DAY_BEGINS and hour < DAY_ENDS and DAY or NIGHT
  if not proxy.global.backends[choice] then
    return -- there is only one
  end
  proxy.connection.backend_ndx = choice
  print(("%s goes to %s"):format(proxy.connection.client.address, proxy.global.backends[choice].address))
end
