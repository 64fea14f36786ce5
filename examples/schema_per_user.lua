-- Gives each user a schema of its own, so that programs which know nothing of each other share a server.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/schema_per_user.lua
--
-- Through port 4040, user alice works in schema app_alice without asking for it (it has to exist). USE of any other, by
-- name or by the client's command, gets error 1044. Tables that a statement names with their schema are for the
-- server's privileges to keep apart.

local tokenizer = require "proxy.tokenizer"

local PREFIX = "app_"
local FREE = { root = true } -- users who may go anywhere

local SWITCH, STATEMENT = 1, 2

local function denied(username, schema)
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1044, sqlstate = "42000",
    errmsg = ("Access denied for user '%s' to database '%s' (at the proxy)"):format(username, schema) }
  return proxy.PROXY_SEND_RESULT
end

-- The schema that a command wants to go to, if it does.
local function wanted(packet)
  local command = packet:byte()
  if command == proxy.COM_INIT_DB then
    return packet:sub(2)
  elseif command == proxy.COM_QUERY then
    local words = tokenizer.bare_tokens(tokenizer.tokenize(packet:sub(2)))
    return words[1] and words[1]:upper() == "USE" and words[2] or nil
  end
end

function read_auth(auth)
  if not FREE[auth.username] and auth.default_db ~= "" and auth.default_db ~= PREFIX .. auth.username then
    return denied(auth.username, auth.default_db)
  end
end

function read_query(packet)
  local username = proxy.connection.client.username
  local schema = PREFIX .. username
  if FREE[username] then
    return
  end
  local other = wanted(packet)
  if other and other ~= schema then
    return denied(username, other)
  elseif proxy.connection.server.default_db ~= schema and packet:byte() ~= proxy.COM_QUIT then
    proxy.queries:append(SWITCH, string.char(proxy.COM_INIT_DB) .. schema)
    proxy.queries:append(STATEMENT, packet, { resultset_is_needed = false })
    return proxy.PROXY_SEND_QUERY
  end
end

function read_query_result(inj)
  if inj.id == SWITCH then
    if inj.resultset.query_status == proxy.MYSQLD_PACKET_ERR then
      proxy.queries:reset() -- no such schema: that is the client's answer
      return
    end
    return proxy.PROXY_IGNORE_RESULT
  end
end
