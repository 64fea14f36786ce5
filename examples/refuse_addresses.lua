-- Lets only clients of some addresses in. The others get an error before they may log in.
--
--   mysql-proxy --proxy-address=:4040 --proxy-backend-addresses=127.0.0.1:3306 \
--     --proxy-lua-script=examples/refuse_addresses.lua
--
-- A client from elsewhere sees "only local connects are allowed", and the proxy prints its address.

local ALLOWED = { -- patterns of Lua for "ip:port"
  "^127%.0%.0%.1:",
  "^%[::1%]:",
  "^10%.",
  "^192%.168%.",
}

function read_handshake(auth)
  for _, pattern in ipairs(ALLOWED) do
    if auth.client_addr:find(pattern) then
      return
    end
  end
  print("refused a client from " .. auth.client_addr)
  proxy.response.type = proxy.MYSQLD_PACKET_ERR
  proxy.response.errmsg = "only local connects are allowed"
  return proxy.PROXY_SEND_RESULT
end
