-- A MySQL server without a server: every answer is made here. For tests of programs, and for trying out a client.
--
--   mysql-proxy --proxy-lua-script=examples/mock_server.lua
--   mysql -h127.0.0.1 -P4040 -uanybody -e 'SELECT * FROM fruits'
--
-- Any user may log in, with any password. A statement that is not in ANSWERS gets error 1064.

local proto = require "mysql.proto"

local VERSION, THREAD_ID = 50799, 7
local PLUGIN = "caching_sha2_password" -- current clients know this one
local FAST_AUTH_SUCCESS = "\1\3"

local FLAGS = proto.capabilities
local CAPABILITIES = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_PLUGIN_AUTH
  + FLAGS.CLIENT_CONNECT_WITH_DB + FLAGS.CLIENT_TRANSACTIONS

local function ok(affected_rows, insert_id)
  return { type = proxy.MYSQLD_PACKET_OK, affected_rows = affected_rows, insert_id = insert_id }
end

local function rows(names, list)
  local fields = {}
  for i, name in ipairs(names) do
    fields[i] = { name = name, type = proxy.MYSQL_TYPE_VAR_STRING }
  end
  return { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = list } }
end

local ANSWERS = { -- pattern of the statement in lower case, answer
  { "^select @@version_comment", rows({ "@@version_comment" }, { { "a mock server" } }) }, -- clients ask this first
  { "^select %* from fruits$", rows({ "id", "name", "price" }, { { 1, "apple", 0.5 }, { 2, "banana", nil } }) },
  { "^insert into fruits ", ok(1, 3) },
  { "^set ", ok() },
}

local SILENT = { [proxy.COM_STMT_CLOSE] = true, [proxy.COM_STMT_SEND_LONG_DATA] = true } -- commands without an answer

local function answer(sql)
  for _, entry in ipairs(ANSWERS) do
    if sql:lower():find(entry[1]) then
      return entry[2]
    end
  end
  return { type = proxy.MYSQLD_PACKET_ERR, errcode = 1064, sqlstate = "42000", errmsg = "no answer for: " .. sql }
end

function connect_server()
  proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = {
    proto.to_challenge_packet {
      server_version = VERSION, thread_id = THREAD_ID, server_status = 2, auth_plugin_name = PLUGIN,
      capabilities = CAPABILITIES,
    },
  } }
  return proxy.PROXY_SEND_RESULT
end

-- With a password, the plugin wants to hear that it was right.
function read_auth(auth)
  if #auth.password > 1 and proxy.connection.client.auth_plugin_name == PLUGIN then
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = { FAST_AUTH_SUCCESS, proto.to_ok_packet {} } }
    return proxy.PROXY_SEND_RESULT
  end
end

function read_query(packet)
  local command = packet:byte()
  if command == proxy.COM_QUERY then
    proxy.response = answer(packet:sub(2))
  elseif command == proxy.COM_QUIT or command == proxy.COM_PING or command == proxy.COM_INIT_DB then
    proxy.response = ok()
  elseif SILENT[command] then
    proxy.response = { type = proxy.MYSQLD_PACKET_RAW, packets = {} }
  else
    proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1047, sqlstate = "08S01", errmsg = "Unknown command" }
  end
  return proxy.PROXY_SEND_RESULT
end
