-- Says from where each user may log in, and whom the proxy does not know at all. The server never sees a refused login.
--
--   mysql-proxy --proxy-address=:4040 --proxy-backend-addresses=127.0.0.1:3306 \
--     --proxy-lua-script=examples/refuse_logins.lua
--
-- `mysql -uroot` works on the proxy's own machine and gets error 1045 from any other; so does a login without a user
-- name from anywhere. COM_CHANGE_USER, which logs a client in anew, is looked at too.

local ANYWHERE, NOWHERE = "", "^$"

local FROM = { -- user, pattern of Lua for the client's IP address
  root = "^127%.0%.0%.1$",
  [""] = NOWHERE,
}

local function refused(username)
  local client = proxy.connection.client
  local ip = client.src.address
  if ip:find(FROM[username] or ANYWHERE) then
    return nil
  end
  print(("refused %s from %s"):format(username, client.address))
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1045, sqlstate = "28000",
    errmsg = ("Access denied for user '%s'@'%s' (at the proxy)"):format(username, ip) }
  return proxy.PROXY_SEND_RESULT
end

function read_auth(auth)
  return refused(auth.username)
end

function read_query(packet)
  if packet:byte() == proxy.COM_CHANGE_USER then
    local verdict = refused(packet:match("^.(%Z*)"))
    proxy.connection.connection_close = verdict ~= nil -- as a server does
    return verdict
  end
end
