-- The command phase of a session with a script: read_query, the queue, read_query_result. To a session it is what a
-- port's hooks are (lua/README.md).
--
-- One command of the client has one answer: the first that passes; what comes later is dropped.

local proto = require "mysql.proto"
local resultset = require "mysql.resultset"
local stream = require "mysql.stream"
local tokenizer = require "mysql.tokenizer"

local constants = require "mysql-proxy.scripting.constants"
local hooks = require "mysql-proxy.hooks"
local injection = require "mysql-proxy.scripting.injection"
local queries = require "mysql-proxy.scripting.queries"
local responses = require "mysql-proxy.scripting.response"

local M = { watched = {} }
for command = 0, 255 do
  M.watched[command + 1] = command
end

local byte, find = string.byte, string.find
local STREAMED = queries.STREAMED
local SEND_QUERY, SEND_RESULT = constants.PROXY_SEND_QUERY, constants.PROXY_SEND_RESULT
local IGNORE_RESULT = constants.PROXY_IGNORE_RESULT
local COM_RESET_CONNECTION, COM_QUERY = 31, constants.COM_QUERY
local COM_QUIT, COM_INIT_DB, COM_CHANGE_USER = constants.COM_QUIT, constants.COM_INIT_DB, constants.COM_CHANGE_USER

local UNANSWERED = { [COM_QUIT] = true, [constants.COM_STMT_SEND_LONG_DATA] = true, [constants.COM_STMT_CLOSE] = true }

local function answered(packet)
  return not UNANSWERED[byte(packet)]
end

local function err(errcode, text)
  return (resultset.frame({ proto.to_err_packet { errcode = errcode, sqlstate = "07000", errmsg = text } }, 1))
end

local function critical(session, text, ...)
  session.proxy.log:critical(("%s: %s"):format(tostring(session), text:format(...)))
end

local function made_by_script(session)
  return responses.packets(session.view.response, 1, session.capabilities, session.proxy.log, session.proxy.lua_script)
end

function M.begin_queries(session)
  session.capabilities = stream.negotiated(session.greeted, session.login)
  if session.port.hooks then
    session.port.hooks.begin_queries(session)
  end
end

-- The client's command has had its answers.
local function done(session, packets)
  session.command, session.item = nil, nil
  session.relay:reply(packets)
  if session.closes_after_answer then
    session.relay:close_when_idle()
  end
end

-- read_query ------------------------------------------------------------------------------------------------------

local function refusal(session, packet)
  local guard = session.port.hooks
  return guard and guard.refusal(packet)
end

local FOLLOWED = { [COM_INIT_DB] = true, [COM_CHANGE_USER] = true }

-- The command whose answer changes what scripts see: for `USE x`, which some clients send as a statement, COM_INIT_DB.
local function followed(packet)
  local kind = byte(packet)
  if kind == COM_QUERY and find(packet, "^[uU][sS][eE][%s`]", 2) then
    local tokens = tokenizer.tokenize(packet:sub(2))
    return tokens[2] and string.char(COM_INIT_DB) .. tokens[2].text
  end
  return FOLLOWED[kind] and packet
end

-- The command goes on as it came. Of what changes the session the answer is looked at too.
local function forward(session)
  local packet, guard = session.command, session.port.hooks
  local refused = guard and guard.refusal(packet)
  if refused then
    return done(session, refused)
  elseif not session.server then
    critical(session, "I have no server backend, closing connection")
    return session:close("no server")
  end
  local kind, follows = byte(packet), followed(packet)
  session.command, session.forwarded = nil, follows
  session.relay:forward(follows or guard and kind == COM_RESET_CONNECTION)
  if session.closes_after_answer then
    session.relay:close_when_idle()
  end
end

local run_queue

local function decided(session, result, failed)
  local verdict, waiting = result and hooks.verdict(result), queries.count(session.queue)
  if not verdict and waiting == 0 then
    return forward(session)
  end
  if verdict == SEND_RESULT then
    queries.clear(session.queue)
    return done(session, made_by_script(session))
  elseif verdict == SEND_QUERY and waiting > 0 then
    session.answers = 0
    return run_queue(session)
  end
  if verdict == SEND_QUERY then
    critical(session, "'return proxy.PROXY_SEND_QUERY' used without proxy.queue:append() or :prepend(). "
      .. "Assuming 'nil' was returned")
  elseif waiting > 0 and not failed then
    critical(session, "proxy.queue:append() or :prepend() used without 'return proxy.PROXY_SEND_QUERY'. "
      .. "Discarding %d elements from the queue.", waiting)
  end
  hooks.note_unknown(session, "read_query", verdict)
  queries.clear(session.queue)
  return forward(session)
end

function M.read_query(session, _, packet)
  session.command = packet
  queries.clear(session.queue)
  session.view.response = {}
  return hooks.call(session, "read_query", packet, decided)
end

-- The queue -------------------------------------------------------------------------------------------------------

-- Counts an answer that passes: only the first of them reaches the client, and none if he expects none.
local function may_answer(session, item)
  session.answers = session.answers + 1
  if not answered(session.command) then
    return false
  elseif session.answers > 1 then
    critical(session, "got asked to send a resultset, but ignoring it as we already have sent %d resultset(s). "
      .. "injection-id: %d", session.answers - 1, item.id)
    return false
  end
  return true
end

local function answer(session, packets)
  if may_answer(session, session.item) then
    session.relay:answer(packets)
  end
end

local function end_queue(session)
  if session.answers == 0 and answered(session.command) then
    critical(session, "the script has ignored every result: the client gets an error instead")
    return done(session, err(1105, "(lua) the script has left no result for this command"))
  end
  return done(session)
end

function run_queue(session)
  while true do
    local item = queries.take(session.queue)
    if not item then
      return end_queue(session)
    end
    session.item = item
    local packet, streamed = item.query, item[STREAMED]
    local refused = refusal(session, packet)
    if refused then
      answer(session, refused)
    elseif not session.server then
      critical(session, "I have no server backend, closing connection")
      return session:close("no server")
    elseif streamed and session.answers > 0 then
      critical(session, "proxy.queries:append() in %s can only have one injected query without "
        .. "{ resultset_is_needed = true } set. We close the client connection now.", session.proxy.lua_script)
      session.closes_after_answer = true
      return done(session)
    else
      streamed = streamed and answered(session.command) and byte(packet) ~= COM_CHANGE_USER
      session.relay:inject(packet ~= session.command and packet or nil, streamed)
      if answered(packet) then
        return -- read_query_result goes on
      end
    end
  end
end

-- read_query_result -----------------------------------------------------------------------------------------------

-- What a command has changed that scripts can see.
local function follow(session, packet)
  if not packet or not session.server then
    return
  end
  local kind = byte(packet)
  local clients = not session.item or session.item.query == session.command
  if kind == COM_INIT_DB then
    session.server.default_db = packet:sub(2)
    session.client_db = clients and packet:sub(2) or session.client_db
  elseif kind == COM_CHANGE_USER then
    local ok, login = pcall(proto.from_change_user_packet, packet)
    if ok then
      session:logged_in(login, clients)
    end
  end
end

local function streamed_answer(session, verdict)
  session.answers = session.answers + 1
  if verdict == SEND_RESULT or verdict == IGNORE_RESULT then
    critical(session, "read_query_result() in %s tries to modify the resultset, but hasn't asked to buffer it in "
      .. "proxy.query:append(..., { resultset_is_needed = true }). We ignore the change to the result-set.",
      session.proxy.lua_script)
  end
end

local function kept_answer(session, verdict, packets)
  if verdict == SEND_RESULT then
    return answer(session, made_by_script(session))
  elseif verdict == IGNORE_RESULT then
    return
  elseif verdict and verdict ~= 0 then
    session.proxy.log:message(tostring(session) .. ": return-code for read_query_result() was neither "
      .. "PROXY_SEND_RESULT or PROXY_IGNORE_RESULT, will ignore the result")
  end
  return answer(session, packets)
end

local function result_decided(session, result)
  local verdict, packets = result and hooks.verdict(result), session.kept
  session.kept = nil
  if packets then
    kept_answer(session, verdict, packets)
  else
    streamed_answer(session, verdict)
  end
  return run_queue(session)
end

local TOO_LONG = "(proxy) the answer is longer than the %d bytes that a script may ask for (--proxy-answer-limit)"

-- After these the server has to be told again what the port's sessions may do, before anything else.
local FORGETTING = { [COM_CHANGE_USER] = true, [COM_RESET_CONNECTION] = true }

function M.read_query_result(session, error, packets)
  local item, forgotten, guard = session.item, session.forgotten, session.port.hooks
  if forgotten then
    session.forgotten = nil
    guard.read_query_result(session, error, packets)
    if session.state == "close" then
      return
    end
    error, packets = forgotten.error, forgotten.packets
  elseif item and guard and FORGETTING[byte(item.query)] then
    session.forgotten = { error = error, packets = packets }
    return guard.begin_queries(session)
  end
  if not item then
    if session.forwarded then
      if error == 0 then
        follow(session, session.forwarded)
      end
      session.forwarded = nil
    end
    return session.port.hooks and session.port.hooks.read_query_result(session, error, packets)
  end
  if error == 0 then
    follow(session, followed(item.query))
  end
  if session.uploaded == item then -- its hook has been called when the server asked for the file
    session.answers = session.answers + 1
    return run_queue(session)
  elseif packets == false then
    local limit = session.proxy.relay_options.answer_limit
    critical(session, TOO_LONG, limit)
    answer(session, err(1105, TOO_LONG:format(limit)))
    return run_queue(session)
  end
  session.kept = packets
  return hooks.call(session, "read_query_result", injection.new(item, session), result_decided)
end

--- The server asks for a file: only the client can answer that.
function M.local_infile(session, packets)
  local item = session.item
  session.uploaded, session.kept = item, packets
  return hooks.call(session, "read_query_result", injection.new(item, session), function(_, result)
    session.kept = nil
    if hooks.verdict(result) then
      critical(session, "read_query_result() cannot replace a request for LOCAL INFILE: it is passed on")
    end
  end)
end

return M
