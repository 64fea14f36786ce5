-- The login of an admin client: greeting, one or two packets from it, OK or ERR. "Connection Phase" of the MySQL
-- protocol documentation.
--
-- The greeting names mysql_native_password, which the oldest clients know; a client that begins with another plugin, as
-- those of MySQL 8 and later do, is asked again. For caching_sha2_password the password's hash is always at hand, so
-- nobody has to send it whole.

local password = require "mysql.password"
local proto = require "mysql.proto"
local uv = require "luv"

local M = {}

local NATIVE, SHA2 = "mysql_native_password", "caching_sha2_password"
local AUTH_SWITCH, FAST_AUTH_SUCCESS = "\254", "\1\3"
local CHALLENGE_LENGTH = 20
local STATUS_AUTOCOMMIT = 2
local SERVER_VERSION = 80011 -- the number of admin.version

local FLAGS = proto.capabilities
local CAPABILITIES = FLAGS.CLIENT_LONG_PASSWORD + FLAGS.CLIENT_FOUND_ROWS + FLAGS.CLIENT_LONG_FLAG
  + FLAGS.CLIENT_CONNECT_WITH_DB + FLAGS.CLIENT_IGNORE_SPACE + FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_INTERACTIVE
  + FLAGS.CLIENT_TRANSACTIONS + FLAGS.CLIENT_SECURE_CONNECTION + FLAGS.CLIENT_MULTI_RESULTS + FLAGS.CLIENT_PLUGIN_AUTH
  + FLAGS.CLIENT_CONNECT_ATTRS + FLAGS.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA + FLAGS.CLIENT_DEPRECATE_EOF

local OK = proto.to_ok_packet { server_status = STATUS_AUTOCOMMIT }

-- As servers make it: no NUL, and no $, which ends a challenge in some of their files.
local function new_challenge()
  return (uv.random(CHALLENGE_LENGTH):gsub(".", function(byte)
    local code = byte:byte() % 128
    return string.char((code == 0 or code == 36) and code + 1 or code)
  end))
end

--- Greets a client.
function M.greet(session)
  session.challenge = new_challenge()
  session.greeted = {
    capabilities = CAPABILITIES, challenge = session.challenge, thread_id = session.id, server_version = SERVER_VERSION,
  }
  session.client:send(proto.to_challenge_packet {
    server_version_text = session.admin.version, thread_id = session.id % 2 ^ 32, challenge = session.challenge,
    capabilities = CAPABILITIES, charset = session.CHARSET, server_status = STATUS_AUTOCOMMIT,
    auth_plugin_name = NATIVE,
  }, 0)
end

-- As long whether it is the name or the password that is wrong.
local function is_right(session, plugin, response)
  local admin = session.admin
  if not admin.username then
    return true
  end
  local right
  if plugin == SHA2 then
    right = password.sha256_check(session.challenge, response, admin.sha2)
  else
    right = password.check(session.challenge, response, admin.native)
  end
  return (session.login.username or "") == admin.username and right
end

local function decide(session, plugin, response, sequence)
  if not is_right(session, plugin, response) then
    local name = session.login.username or ""
    session.admin.proxy.log:critical(("%s: login as '%s' failed"):format(tostring(session), name))
    return session:refuse(sequence + 1, {
      errcode = 1045, sqlstate = "28000",
      errmsg = ("Access denied for user '%s'@'%s' (using password: %s)"):format(name, session.host,
        response ~= "" and response ~= "\0" and "YES" or "NO"),
    })
  end
  if plugin == SHA2 and #response > 1 then
    sequence = sequence + 1
    session.client:send(FAST_AUTH_SUCCESS, sequence % 256)
  end
  session.client:send(OK, (sequence + 1) % 256)
  return session:logged_in()
end

--- A client says who it is: at first, or again with COM_CHANGE_USER.
---@param login table as mysql.proto decodes it
function M.begin(session, login, sequence)
  session.login = login
  local plugin = login.auth_plugin_name or NATIVE
  if plugin == NATIVE then
    return decide(session, NATIVE, login.response or "", sequence)
  end
  session.plugin = plugin == SHA2 and SHA2 or NATIVE
  session.challenge = new_challenge()
  session.state = "auth_switch"
  session.client:send(AUTH_SWITCH .. session.plugin .. "\0" .. session.challenge .. "\0", (sequence + 1) % 256)
end

--- Its answer to the plugin that it was asked for.
function M.answer(session, response, sequence)
  return decide(session, session.plugin, response, sequence)
end

return M
