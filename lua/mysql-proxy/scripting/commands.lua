-- The command phase of a session with a script: read_query, the queue, read_query_result. To a session it is what a
-- port's hooks are (lua/README.md).
--
-- The relay does by itself what most hooks decide (csrc/relay_script.h), and tells of the rest, which is done here.
--
-- One command of the client has one answer: the first that passes; what comes later is dropped. While the queue runs,
-- session.queued is the command of it whose answer is due.

local proto = require "mysql.proto"
local queue = require "mysql.queue"
local resultset = require "mysql.resultset"
local stream = require "mysql.stream"
local tokenizer = require "mysql.tokenizer"

local constants = require "mysql-proxy.scripting.constants"
local hooks = require "mysql-proxy.hooks"
local responses = require "mysql-proxy.scripting.response"

local M = { watched = {} }
for command = 0, 255 do
  M.watched[command + 1] = command
end

local byte, find, plan, take = string.byte, string.find, queue.plan, queue.take
local run, find_hook = hooks.run, hooks.find
local SEND_QUERY, SEND_RESULT = constants.PROXY_SEND_QUERY, constants.PROXY_SEND_RESULT
local IGNORE_RESULT = constants.PROXY_IGNORE_RESULT
local COM_RESET_CONNECTION, COM_QUERY = 31, constants.COM_QUERY
local COM_QUIT, COM_INIT_DB, COM_CHANGE_USER = constants.COM_QUIT, constants.COM_INIT_DB, constants.COM_CHANGE_USER

local UNANSWERED = { [COM_QUIT] = true, [constants.COM_STMT_SEND_LONG_DATA] = true, [constants.COM_STMT_CLOSE] = true }

-- Of these the client would take an answer, whoever gives one, for that to its next command.
local MAY_NOT_BE_ANSWERED = { [constants.COM_STMT_SEND_LONG_DATA] = true, [constants.COM_STMT_CLOSE] = true }

-- COM_CLONE and COM_SUBSCRIBE_GROUP_REPLICATION_STREAM: their answer has no end that a hook could wait for.
-- COM_BINLOG_DUMP and COM_BINLOG_DUMP_GTID: a client gets the answer if he has sent one of these; for any other it is
-- kept, but no more of it than how it ends.
local ENDLESS, BINARY_LOG = { [32] = true, [33] = true }, { [18] = true, [30] = true }

local ADDED_LIMIT = 1000 -- commands that read_query_result may add behind COM_QUIT

local function err(errcode, text)
  return (resultset.frame({ proto.to_err_packet { errcode = errcode, sqlstate = "07000", errmsg = text } }, 1))
end

local function critical(session, text, ...)
  session.proxy.log:about(session, "critical", text:format(...))
end

local function made_by_script(session)
  return (responses.packets(responses.of(session.view), 1, session.capabilities, session.proxy.log,
    session.proxy.lua_script, session.command_kind))
end

function M.begin_queries(session)
  session.capabilities = stream.negotiated(session.greeted, session.login)
  session.guard = session.port.hooks or false
  if session.guard then
    session.guard.begin_queries(session)
  else
    hooks.give_to_relay(session)
  end
end

-- The client's command has had its answers; packets: the last of them.
local function done(session, packets)
  session.command, session.queued = false, false
  session.relay:reply(packets)
end

-- read_query ------------------------------------------------------------------------------------------------------

local FOLLOWED = { [COM_INIT_DB] = true, [COM_CHANGE_USER] = true }

-- The command whose answer changes what scripts see: for `USE x`, which some clients send as a statement, COM_INIT_DB.
local function followed(packet, kind)
  if kind ~= COM_QUERY then
    return FOLLOWED[kind] and packet or false
  elseif find(packet, "^[uU][sS][eE][%s`]", 2) then
    local tokens = tokenizer.tokenize(packet:sub(2))
    return tokens[2] and string.char(COM_INIT_DB) .. tokens[2].text
  end
  return false
end

local forward

-- On a port with a guard: whether the server has to be told first what the port's sessions may do, as it was put aside
-- by a login that had not come so far. Then go_on(session) is called later.
local function tell_first(session, go_on)
  local server = session.server
  if not server or server.told_read_only then
    return false
  end
  session.queued, session.telling = false, go_on
  session.guard.begin_queries(session)
  return true
end

-- The command goes on as it came. Of what changes the session the answer is looked at too.
function forward(session)
  local packet, guard = session.command, session.guard
  local refused = guard and guard.refusal(session, packet)
  if refused then
    return done(session, refused)
  elseif not session.server then
    critical(session, "I have no server backend, closing connection")
    return session:close("no server")
  elseif guard and tell_first(session, forward) then
    return
  end
  local kind = session.command_kind
  local follows = followed(packet, kind)
  session.command, session.forwarded = false, follows
  session.relay:forward(follows or guard and kind == COM_RESET_CONNECTION)
end

local run_queue

local function decided(session, result, failed)
  local waiting = #session.queue
  if result == nil and waiting == 0 then
    return forward(session)
  end
  local verdict = hooks.verdict(result)
  if verdict == SEND_QUERY and waiting > 0 then
    session.answers = 0
    plan(session.queue)
    return run_queue(session)
  end
  session.queue:reset()
  if verdict == SEND_RESULT then
    return done(session, not MAY_NOT_BE_ANSWERED[session.command_kind] and made_by_script(session) or nil)
  elseif verdict == SEND_QUERY then
    critical(session, "'return proxy.PROXY_SEND_QUERY' used without proxy.queue:append() or :prepend(). "
      .. "Assuming 'nil' was returned")
  elseif waiting > 0 and not failed then
    critical(session, "proxy.queue:append() or :prepend() used without 'return proxy.PROXY_SEND_QUERY'. "
      .. "Discarding %d elements from the queue.", waiting)
  end
  hooks.note_unknown(session, "read_query", verdict)
  return forward(session)
end

function M.read_query(session, _, packet, kind, call, status, result, coroutine)
  session.command, session.command_kind = packet, kind
  if status == "done" then
    return decided(session, result)
  elseif status then
    return hooks.settle(call, "read_query", status, result, coroutine, decided)
  end
  session.queue:reset()
  responses.forget(session.view)
  local finished = true
  local hook = find_hook(session, "read_query")
  if hook ~= nil then
    finished, result = run(session, "read_query", hook, packet, decided)
  end
  if finished then
    return decided(session, result)
  end
end

-- The queue -------------------------------------------------------------------------------------------------------

-- Counts an answer that passes: only the first of them reaches the client, and none if he expects none.
local function may_answer(session)
  local answers = session.answers + 1
  session.answers = answers
  if UNANSWERED[session.command_kind] then
    return false
  elseif answers > 1 then
    critical(session, "got asked to send a resultset, but ignoring it as we already have sent %d resultset(s). "
      .. "injection-id: %d", answers - 1, session.injection.id)
    return false
  end
  return true
end

local function end_queue(session, packets)
  if session.answers == 0 and not UNANSWERED[session.command_kind] then
    if not session.relay:client_has_left() then
      critical(session, "the script has ignored every result: the client gets an error instead")
    end
    return done(session, err(1105, "(lua) the script has left no result for this command"))
  end
  return done(session, packets)
end

local call_hook, take_decision, result_decided

-- The command of the queue at hand has an answer without a server: the port's refusal. False if the hook that sees it
-- waits; what it leads to is done later then.
---@return boolean finished
---@return string|nil packets that the client gets
local function answer_refused(session, refused, streamed)
  local answer = resultset.new(refused, byte(session.queued), session.capabilities)
  if streamed then
    session.relay:answer(refused)
  end
  local at_once, failed = true, false
  local finished, result = call_hook(session, answer, not streamed and answer, function(_, later)
    if not at_once then
      return result_decided(session, later)
    end
    failed = true
  end)
  at_once = false
  if not finished and not failed then
    return false, nil
  end
  local packets = take_decision(session, result)
  resultset.take_back(answer)
  return true, packets == answer and refused or packets
end

-- Whether what read_query_result has added is for nobody, as the client has left: it could add for ever. Behind
-- COM_QUIT, with which every client leaves, a script may clean up like that, but not for ever either.
local function is_for_nobody(session)
  if session.command_kind ~= COM_QUIT then
    return session.relay:client_has_left()
  end
  session.added = (session.added or 0) + 1
  if session.added == ADDED_LIMIT + 1 then
    critical(session, "read_query_result() in %s has added %d commands behind COM_QUIT. No more of them are sent.",
      session.proxy.lua_script, ADDED_LIMIT)
  end
  return session.added > ADDED_LIMIT
end

-- Whether the client gets the answer while it comes; asked: the script wants it so. Where no hook looks at answers, the
-- first is his, however long it is.
local function is_streamed(session, kind, asked)
  if BINARY_LOG[kind] then
    return BINARY_LOG[session.command_kind]
  end
  return asked or ENDLESS[kind] or session.answers == 0 and find_hook(session, "read_query_result") == nil
end

-- Goes on with the queue; packets: what the client gets before that, if anything.
function run_queue(session, packets)
  local relay, guard, command_kind, inj = session.relay, session.guard, session.command_kind, session.injection
  while #session.queue > 0 do
    if packets then
      relay:answer(packets)
      packets = nil
    end
    if guard and tell_first(session, run_queue) then
      return
    end
    local packet, id, streamed, planned = take(session.queue)
    local kind, own = byte(packet), packet == session.command
    inj.id, inj.query, session.queued = id, packet, packet
    session.queued_follows = followed(packet, kind)
    streamed = is_streamed(session, kind, streamed)
    local passed_over = not planned and is_for_nobody(session)
    local refused = guard and not passed_over and guard.refusal(session, packet)
    session.refused = refused
    if passed_over then
      session.queued_follows = false
    elseif not refused and not session.server then
      critical(session, "I have no server backend, closing connection")
      return session:close("no server")
    elseif streamed and session.answers > 0 then
      critical(session, "proxy.queries:append() in %s can only have one injected query without "
        .. "{ resultset_is_needed = true } set. We close the client connection now.", session.proxy.lua_script)
      session:close_after_answer(true)
      return done(session)
    else
      streamed = streamed and not UNANSWERED[command_kind] and kind ~= COM_CHANGE_USER
      local answered = UNANSWERED[kind]
      if refused then
        session.queued_follows = false
        answered, packets = answer_refused(session, refused, streamed)
      else
        local _, problem = relay:inject(not own and packet or nil, streamed)
        if problem then
          critical(session, "proxy.queries: %s. It is not sent.", problem)
        end
      end
      if not answered then
        return -- read_query_result goes on
      end
    end
  end
  return end_queue(session, packets)
end

-- read_query_result -----------------------------------------------------------------------------------------------

-- What a command has changed that scripts can see.
local function follow(session, packet)
  if not packet or not session.server then
    return
  end
  local kind = byte(packet)
  local clients = not session.queued or session.queued == session.command
    or kind == COM_INIT_DB and session.command_kind == COM_INIT_DB -- the client's, rewritten
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

-- What the client gets of an answer that was kept, if anything.
local function kept_answer(session, verdict, kept)
  if verdict == IGNORE_RESULT or not may_answer(session) then
    return nil
  elseif verdict == SEND_RESULT then
    return made_by_script(session)
  elseif verdict and verdict ~= 0 then
    session.proxy.log:about(session, "message", "return-code for read_query_result() was neither "
      .. "PROXY_SEND_RESULT or PROXY_IGNORE_RESULT, will ignore the result")
  end
  return kept
end

-- What the client gets, if anything, after the hook has returned.
function take_decision(session, result)
  local kept, verdict = session.kept, hooks.verdict(result)
  session.injection.resultset, session.kept = nil, false
  if kept then
    return kept_answer(session, verdict, kept)
  end
  streamed_answer(session, verdict)
  return nil
end

function result_decided(session, result)
  local kept = session.kept
  run_queue(session, take_decision(session, result))
  if kept then
    resultset.take_back(kept) -- as of one that the relay deals with by itself
  end
end

-- The hook sees the answer; kept: the same, unless the client has got it. done_later: as of hooks.run.
function call_hook(session, answer, kept, done_later)
  local inj, hook = session.injection, find_hook(session, "read_query_result")
  inj.resultset, session.kept = answer, kept or false
  if hook ~= nil then
    return run(session, "read_query_result", hook, inj, done_later)
  end
  return true, nil
end

local TOO_LONG = "(proxy) the answer is longer than the %d bytes that a script may ask for (--proxy-answer-limit)"

-- After these the server has to be told again what the port's sessions may do, before anything else.
local FORGETTING = { [COM_CHANGE_USER] = true, [COM_RESET_CONNECTION] = true }

-- Of a port with a guard: the answer to go on with, now or once the server has been told.
local function told_again(session, relay, error, kept)
  local forgotten, guard = session.forgotten, session.guard
  if forgotten then
    session.forgotten = nil
    guard.read_query_result(session, relay, error, kept)
    if session.state ~= "close" then
      return forgotten.error, forgotten.kept
    end
  elseif FORGETTING[byte(session.queued)] then
    session.forgotten = { error = error, kept = kept }
    guard.begin_queries(session)
  else
    return error, kept
  end
end

-- A command that went on as it came has been answered, or what a server is told before a command.
local function forwarded(session, relay, error, kept)
  local follows, guard, go_on = session.forwarded, session.guard, session.telling
  session.forwarded, session.telling = false, false
  if follows and error == 0 then
    follow(session, follows)
  end
  if guard then
    guard.read_query_result(session, relay, error, kept)
  end
  if go_on and session.state ~= "close" then
    return go_on(session)
  end
end

-- The client's file has been answered; read_query_result has been called when the server asked for it.
local function end_upload(session)
  session.uploading = false
  session.answers = session.answers + 1
  return run_queue(session)
end

-- What an answer has to do before its hook is called. False if that is not to be called, or not yet.
local function prepare_answer(session, relay, error, kept)
  if session.guard then
    error, kept = told_again(session, relay, error, kept)
    if not error then
      return false
    end
  end
  local follows = session.queued_follows
  session.queued_follows = false
  if follows and error == 0 then
    follow(session, follows)
  end
  if session.uploading then
    session.uploaded = true
    if not session.call then -- else its hook waits still
      end_upload(session)
    end
    return false
  elseif kept == false then
    local limit = session.proxy.relay_options.answer_limit
    critical(session, TOO_LONG, limit)
    run_queue(session, may_answer(session) and err(1105, TOO_LONG:format(limit)) or nil)
    return false
  end
  return true, kept
end

-- Of a command that the relay has sent by itself.
local function take_over(session, command)
  session.command, session.command_kind = command, byte(command)
  session.queued, session.answers = session.injection.query, 0
end

function M.read_query_result(session, relay, error, kept, command, call, status, result, coroutine)
  if command then
    take_over(session, command)
  elseif not session.queued then
    return forwarded(session, relay, error, kept)
  end
  if status then
    session.injection.resultset, session.kept = kept, kept or false
    if status == "done" then
      return result_decided(session, result)
    end
    return hooks.settle(call, "read_query_result", status, result, coroutine, result_decided)
  end
  local goes_on, finished
  goes_on, kept = prepare_answer(session, relay, error, kept)
  if not goes_on then
    return
  end
  finished, result = call_hook(session, kept, kept, result_decided)
  if finished then
    return result_decided(session, result)
  end
end

local function local_infile_decided(session, result)
  session.injection.resultset = nil
  if hooks.verdict(result) then
    critical(session, "read_query_result() cannot replace a request for LOCAL INFILE: it is passed on")
  end
  if session.uploaded then -- meanwhile
    return end_upload(session)
  end
end

--- The server asks for a file: only the client can answer that.
function M.local_infile(session, _, request, command)
  if command then
    take_over(session, command)
  end
  local finished, result = true, nil
  local hook, inj = find_hook(session, "read_query_result"), session.injection
  session.uploading, session.uploaded, inj.resultset = true, false, request
  if hook ~= nil then
    finished, result = run(session, "read_query_result", hook, inj, local_infile_decided)
  end
  if finished then
    return local_infile_decided(session, result)
  end
end

return M
