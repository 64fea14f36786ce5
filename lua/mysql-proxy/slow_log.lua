--- The slow log: statements that took long, in the format that mysqldumpslow and pt-query-digest read.

local process = require "mysql-proxy.process"
local tokenizer = require "mysql.tokenizer"
local uv = require "luv"

local M = {
  MODE = "0640", -- of the file, less the umask: it shows what is in the tables
}

local CUT = ("\n/* cut: this is from the first %d bytes */"):format(64 * 1024)

-- As MySQL's own log calls them.
local COMMANDS = {
  [2] = "Init DB", [3] = "Query", [4] = "Field List", [9] = "Statistics", [10] = "Processlist", [12] = "Kill",
  [13] = "Debug", [14] = "Ping", [17] = "Change user", [18] = "Binlog Dump", [22] = "Prepare", [23] = "Execute",
  [26] = "Reset stmt", [27] = "Set option", [28] = "Fetch", [30] = "Binlog Dump GTID", [31] = "Reset Connection",
  [250] = "Bulk Execute",
}

-- A statement that says one of these may name a password.
local SECRETS = { "password", "identified", "connection" }

---@class SlowCommand what a relay tells of a command (csrc/relay_slow.c)
---@field command integer its byte
---@field seconds number
---@field statement string|nil
---@field cut boolean|nil the statement was longer
---@field user string
---@field schema string
---@field rows integer
---@field affected_rows integer
---@field bytes integer of the answer
---@field error integer code of an ERR packet, or 0
---@field answered boolean

---@class SlowLog
---@field path string
local SlowLog = {}
SlowLog.__index = SlowLog

function SlowLog:__tostring()
  return ("mysql-proxy.slow_log (%s)"):format(self.path)
end

local function open(path)
  local ok, message = process.create_file(path, M.MODE)
  local descriptor
  if ok then
    descriptor, message = uv.fs_open(path, "a", tonumber(M.MODE, 8))
  end
  if not descriptor then
    return nil, ("can't open slow-query-log '%s': %s"):format(path, message)
  end
  return descriptor
end

-- Names must not begin a line or a field of their own.
local function name(text)
  return (text:gsub("[%c%s]", "?"))
end

local function schema_name(text)
  if text:find "^[%w_$]+$" then
    return text
  end
  return "`" .. text:gsub("`", "``"):gsub("[%c;]", "?") .. "`"
end

--- A statement as it may be written: its values hidden if one of them may be a password.
---@param statement string
---@return string
function M.without_secrets(statement)
  local lower, secret = statement:lower(), false
  for _, word in ipairs(SECRETS) do
    secret = secret or lower:find(word, 1, true)
  end
  if not secret then
    return statement
  end
  local tokens = tokenizer.tokenize(statement)
  for i = 1, #tokens do
    if tokens[i].token_name == "TK_COMMENT_MYSQL" then
      tokens[i] = nil -- it would be kept as it is
    end
  end
  return (tokenizer.normalize(tokens):gsub("`0[xX]%x*`", "?"))
end

local function body(slow)
  local statement = M.without_secrets(slow.statement or ""):gsub("[%s;]+$", "")
  if statement == "" then
    return ("# administrator command: %s;\n"):format(COMMANDS[slow.command] or "command " .. slow.command)
  end
  statement = statement:gsub("\n#", "\n #") -- where readers see the next entry begin
  return ("%s%s;\n"):format(statement, slow.cut and CUT or "")
end

--- What is written of a command.
---@param session Session
---@param slow SlowCommand
---@param now integer seconds since 1970, its end
---@return string
function M.entry(session, slow, now)
  local user, server = name(slow.user), session.server
  local host = session.client_name:match "^%[?(.-)%]?:%d+$"
  local lines = {
    "# Time: " .. os.date("%y%m%d %H:%M:%S", now),
    ("# User@Host: %s[%s] @ %s [%s]  Id: %d"):format(user, user, host and "" or "localhost", host or "", session.id),
  }
  if slow.schema ~= "" then
    lines[#lines + 1] = ("# Thread_id: %d  Schema: %s  QC_hit: No"):format(session.id, name(slow.schema))
  end
  lines[#lines + 1] = ("# Query_time: %.6f  Lock_time: 0.000000  Rows_sent: %d  Rows_examined: 0"):format(slow.seconds,
    slow.rows)
  lines[#lines + 1] = ("# Rows_affected: %d  Bytes_sent: %d  Last_errno: %d  Killed: %d%s"):format(slow.affected_rows,
    slow.bytes, slow.error, slow.answered and 0 or 1,
    server and server.backend and "  Backend: " .. server.backend.address or "")
  if slow.schema ~= "" then
    lines[#lines + 1] = ("use %s;"):format(schema_name(slow.schema))
  end
  lines[#lines + 1] = ("SET timestamp=%d;"):format(now - slow.seconds)
  lines[#lines + 1] = body(slow)
  return table.concat(lines, "\n")
end

--- Makes the function that a session's relay tells of slow commands.
---@param session Session
---@return fun(slow: SlowCommand)
function SlowLog:teller(session)
  return function(slow)
    self:write(M.entry(session, slow, os.time()))
  end
end

--- Appends an entry in one write, so that those of several processes stay whole. A failure is logged, once until a
--- write succeeds again.
---@param entry string
function SlowLog:write(entry)
  if not self.descriptor then
    return -- the proxy has closed
  end
  local written, message = uv.fs_write(self.descriptor, entry, -1)
  if written == #entry then
    self.failing = false
    return
  end
  if not self.failing then
    self.log:critical(("--slow-query-log: writing %s failed, slow statements are lost: %s"):format(self.path,
      message or ("only %d of %d bytes were written"):format(written, #entry)))
  end
  self.failing = true
end

--- Goes on in a new file of the same name, after the old one has been renamed.
---@return true|nil
---@return string|nil message why not; the old file is still in use then
function SlowLog:reopen()
  local descriptor, message = open(self.path)
  if not descriptor then
    return nil, message
  end
  uv.fs_close(self.descriptor)
  self.descriptor = descriptor
  return true
end

function SlowLog:close()
  if self.descriptor then
    uv.fs_close(self.descriptor)
    self.descriptor = nil
  end
end

---@param path string
---@param log mysql_proxy.log for failures
---@return SlowLog|nil
---@return string|nil message
function M.new(path, log)
  local descriptor, message = open(path)
  if not descriptor then
    return nil, message
  end
  return setmetatable({ path = path, log = log, descriptor = descriptor }, SlowLog)
end

return M
