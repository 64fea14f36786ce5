-- Scripts: what a session asks of them. A session with a script has
--   environment   the script's globals, where its hooks are
--   view          what it sees as `proxy`
--   queue         proxy.queries (mysql.queue)
--   injection     what its read_query_result gets

local proto = require "mysql.proto"
local queue = require "mysql.queue"
local stream = require "mysql.stream"

local connection = require "mysql-proxy.scripting.connection"
local constants = require "mysql-proxy.scripting.constants"
local globals = require "mysql-proxy.scripting.globals"
local hooks = require "mysql-proxy.hooks"
local injection = require "mysql-proxy.scripting.injection"
local responses = require "mysql-proxy.scripting.response"
local script = require "mysql-proxy.script"

local M = {
  SEND_QUERY = constants.PROXY_SEND_QUERY,
  SEND_RESULT = constants.PROXY_SEND_RESULT,
  IGNORE_RESULT = constants.PROXY_IGNORE_RESULT,
}

local HEADER_SIZE = 4

local function refuse(session, text)
  return session:refuse(0, { errcode = 1105, sqlstate = "07000", errmsg = text })
end

--- Runs the script for a new session, which goes on with next(session); without it the session ends.
function M.begin(session, next)
  local proxy = session.proxy
  local chunk, message = script.load(proxy.lua_script, proxy.log)
  if not chunk then
    proxy.totals.script_load_failures = proxy.totals.script_load_failures + 1
    proxy.log:critical(message)
    return refuse(session, script.LOAD_FAILED)
  end
  local environment = script.environment()
  session.environment = environment
  -- Never nil: Lua would make room for such a field anew each time.
  session.call, session.command, session.queued = false, false, false
  session.kept, session.forwarded, session.uploading, session.queued_follows = false, false, false, false
  session.uploaded, session.telling, session.refused = false, false, false
  session.view = globals.view(proxy)
  session.queue = queue.new()
  session.view.queries = session.queue
  session.view.connection = connection.new(session)
  session.injection = injection.new(session)
  for name, fn in pairs(hooks.protected) do
    environment[name] = fn
  end
  environment.proxy = session.view
  local function ran(_, _, failed)
    session.environment = getfenv(chunk) -- it may have another by now: module(), setfenv(1, ...)
    script.release(chunk)
    if failed then
      return refuse(session, script.EXECUTE_FAILED)
    end
    return next(session)
  end
  if hooks.run(session, hooks.TOP_LEVEL, setfenv(chunk, environment), nil, ran) then
    return ran()
  end
end

local function call(session, hook, argument, done)
  local proxy = session.proxy
  if proxy.profiling and hooks.find(session, hook) ~= nil then
    return proxy.statistics:time_hook(hook, hooks.call, session, hook, argument, done)
  end
  return hooks.call(session, hook, argument, done)
end

--- Calls a hook; next(session, verdict) goes on with it, now or when it has waited.
---@param argument any
---@param next fun(session: Session, verdict: integer|nil, failed: boolean|nil)
function M.ask(session, hook, argument, next)
  local function asked(_, result, failed)
    if session.state ~= "close" then
      local verdict = hooks.verdict(result)
      hooks.note_unknown(session, hook, verdict)
      return next(session, verdict, failed)
    end
  end
  session.hook = hook
  local finished, result = call(session, hook, argument, asked)
  if finished then
    return asked(session, result)
  end
end

--- The argument of read_handshake.
function M.handshake(session)
  local challenge = session.server.challenge
  return {
    mysqld_version = challenge.server_version,
    thread_id = challenge.thread_id,
    scramble = challenge.challenge,
    server_addr = session.backend.address,
    client_addr = session.client_name,
  }
end

--- The argument of read_auth.
function M.auth(session)
  local login = session.login
  return { username = login.username or "", password = login.response or "", default_db = login.database or "" }
end

--- proxy.response as packets, the first one's payload, and the number of what follows them.
function M.response(session, sequence)
  local capabilities = session.greeted and session.login and stream.negotiated(session.greeted, session.login) or 0
  local packets, next = responses.packets(responses.of(session.view), sequence, capabilities, session.proxy.log,
    session.proxy.lua_script)
  return packets, packets:sub(1 + HEADER_SIZE), next
end

--- The login that the script has queued instead of the client's; nil if there is none. Who logs in is the script's to
--- say, the protocol's features are agreed upon with the client.
---@return string|nil packet
---@return table|nil login decoded, if the packet is one
function M.login_packet(session)
  local packet = queue.take(session.queue)
  session.queue:reset()
  if not packet then
    return nil
  end
  local ok, login = pcall(proto.from_response_packet, packet)
  if not ok or not login.protocol_41 or login.ssl_request then
    return packet -- whatever it is, the server will say
  end
  local client = session.login
  login.capabilities, login.extended_capabilities = client.capabilities, client.extended_capabilities
  login.server_capabilities = session.greeted.capabilities
  if not login.auth_plugin_name then -- scripts of old know no other, and without a password it does not matter
    login.auth_plugin_name = login.response and "mysql_native_password" or client.auth_plugin_name
  end
  local encoded, own = pcall(proto.to_response_packet, login)
  return encoded and own or packet, login -- one that is too long for the client's features stays as it is
end

--- The session ends: whatever waits does so no more, and disconnect_client is told.
function M.ended(session)
  hooks.cancel(session)
  return call(session, "disconnect_client", nil, function() end)
end

M.commands = require "mysql-proxy.scripting.commands"
return M
