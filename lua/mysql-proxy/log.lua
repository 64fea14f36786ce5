--- The log: lines of the form `YYYY-MM-DD HH:MM:SS: (level) text`, or JSON objects, on standard error, appended to a
-- file, or to the system's log.
-- Needs no luv: it is opened before the daemon forks.

local process = require("mysql-proxy.process")

local LEVELS = { "error", "critical", "warning", "message", "info", "debug" } -- most important first
local FILE_MODE = "0660" -- less the umask
local MOST_REPEATS = 100
local LONGEST_SILENCE = 30 -- seconds that repeats may go unreported

local RANK = {}
for rank, level in ipairs(LEVELS) do
  RANK[level] = rank
end

local log = { LEVELS = LEVELS }

---@class mysql_proxy.log
---@field path string? of the file, if it is one
---@field to_stderr boolean? it is standard error
---@field error fun(self, text: string, traceback: string?, session: table?)
---@field critical fun(self, text: string, traceback: string?, session: table?)
---@field warning fun(self, text: string, traceback: string?, session: table?)
---@field message fun(self, text: string, traceback: string?, session: table?)
---@field info fun(self, text: string, traceback: string?, session: table?)
---@field debug fun(self, text: string, traceback: string?, session: table?)
local Log = {}
Log.__index = Log

function Log:__tostring()
  return ("mysql-proxy.log (%s to %s)"):format(self.level, self.path or self.to_stderr and "standard error" or "syslog")
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char)
  return ESCAPES[char] or ("\\x%02x"):format(char:byte())
end

-- What came from the network may not start a line of its own or talk to a terminal.
local function to_line(text, traceback)
  local line = text:gsub("%c", escape)
  if traceback then
    for part in traceback:gmatch("[^\n]+") do
      line = line .. "\n\t" .. part:gsub("^\t", ""):gsub("%c", escape)
    end
  end
  return line
end

-- Formats: what a line says, which may be compared with the one before; and the line as it is written.
local text_format = {}

-- A script's error begins as it always has; the session stands below the traceback.
function text_format.render(level, text, traceback, session, worker)
  return ("(%s) %s%s%s"):format(level, worker and ("worker %d: "):format(worker) or "", to_line(text, traceback),
    traceback and session and "\n\tin " .. to_line(tostring(session)) or "")
end

local stamped_at, stamp

function text_format.stamp(now, rendered)
  if now ~= stamped_at then
    stamped_at, stamp = now, os.date("%Y-%m-%d %H:%M:%S", now)
  end
  return ("%s: %s"):format(stamp, rendered)
end

-- The system's log has times of its own.
local syslog_format = {
  render = text_format.render,
  stamp = function(_, rendered)
    return rendered
  end,
}

function Log:_write(level, rendered)
  local line = self.format.stamp(os.time(), rendered)
  if not self.file then
    for part in line:gmatch("[^\n]+") do
      process.syslog(level, part)
    end
    return
  end
  -- In one write, and at once. If it cannot be written there is nobody to tell.
  self.file:write(line, "\n")
  self.file:flush()
end

function Log:_report_repeats()
  if self.repeats > 0 then
    local text = ("last message repeated %d times"):format(self.repeats)
    self:_write(self.last_level, self.format.render(self.last_level, text, nil, nil, self.worker))
    self.repeats = 0
  end
end

function Log:_log(level, text, traceback, session)
  if self.closed then
    return
  end
  local line = self.format.render(level, text, traceback, session, self.worker)
  if line == self.last_line then
    self.repeats = self.repeats + 1
    if self.repeats > MOST_REPEATS or os.time() - self.written_at > LONGEST_SILENCE then
      self:_report_repeats()
      self.written_at = os.time()
    end
    return
  end
  self:_report_repeats()
  self:_write(level, line)
  self.last_line, self.last_level, self.written_at = line, level, os.time()
end

local writers = {}
for _, level in ipairs(LEVELS) do
  writers[level] = function(self, text, traceback, session)
    self:_log(level, text, traceback, session)
  end
end

local function ignore() end

--- Whether lines of this level are written: to ask before composing a text that is costly to make.
---@param level string
---@return boolean
function Log:enabled(level)
  return RANK[level] <= RANK[self.level]
end

--- A line that begins with the session that it is about; JSON has that in fields.
---@param session table with a tostring()
---@param level string
---@param text string
---@param traceback string?
function Log:about(session, level, text, traceback)
  if self:enabled(level) then
    if self.format.has_sessions then
      self[level](self, text, traceback, session)
    else
      self[level](self, ("%s: %s"):format(tostring(session), text), traceback)
    end
  end
end

local function open_file(path)
  local ok, err = process.create_file(path, FILE_MODE)
  local file
  if ok then
    file, err = io.open(path, "ae") -- e: not for child processes
  end
  if not file then
    return nil, ("can't open log-file '%s': %s"):format(path, err)
  end
  file:setvbuf("full") -- flushed after each line, so that a line is one write
  return file
end

--- Goes on in a new file of the same name, after the old one has been renamed. What is no file stays as it is.
---@return true?
---@return string? message why not; the old file is still in use then
function Log:reopen()
  if not self.path then
    return true
  end
  local file, err = open_file(self.path)
  if not file then
    return nil, err
  end
  self:_report_repeats()
  self.last_line = nil
  self.file:close()
  self.file = file
  return true
end

--- Changes the least important level that is written.
---@param level string one of log.LEVELS
function Log:set_level(level)
  self.level = level
  for _, name in ipairs(LEVELS) do
    self[name] = self:enabled(name) and writers[name] or ignore
  end
end

--- Whether a level of this name exists.
function log.is_level(name)
  return RANK[name] ~= nil
end

--- Makes a callback for luv, which would end the process if an error left it: the error is logged instead.
---@param callback fun(...)
---@param failed? fun(message: string) called after an error
---@return fun(...)
function Log:guard(callback, failed)
  return function(...)
    local count, arguments = select("#", ...), { ... }
    local ok, message = xpcall(function()
      callback(unpack(arguments, 1, count))
    end, function(err)
      self:critical(tostring(err), debug.traceback("", 2))
      return tostring(err)
    end)
    if not ok and failed then
      failed(message)
    end
  end
end

--- Writes what is outstanding. Nothing is logged afterwards.
function Log:close()
  if self.closed then
    return
  end
  self:_report_repeats()
  self.closed = true
  if self.path then
    self.file:close()
  end
end

--- Finds out how lines are to look.
---@param settings table of log.new
---@return table? format
---@return string? message why it cannot be had
function log.format(settings)
  if settings.format ~= "json" then
    return settings.syslog and syslog_format or text_format
  end
  local found, json = pcall(require, "mysql-proxy.log_json")
  if not found then
    return nil, "--log-format=json needs the Lua module cjson (Debian's package lua-cjson)"
  end
  return json
end

--- Opens a log.
--- Each level has a method of its name, `log:warning(text [, traceback [, session]])`: control characters of the text
--- are escaped, so that it stays one line; the lines of a traceback follow, indented by a tab, and below them the
--- session; JSON has that in fields, without a traceback too. Equal lines in succession are counted instead of written
--- (`last message repeated N times`).
---@param settings { level: string?, file: string?, syslog: boolean?, format: "text"|"json"|nil,
---       worker: integer? } level: the least
---       important that is written (default critical); file: path; syslog: to the system's log (default: standard
---       error); worker: its number, if several processes write lines
---@return mysql_proxy.log?
---@return string? message why the file cannot be opened, or the format not be had
function log.new(settings)
  local level = settings.level or "critical"
  if not RANK[level] then
    error(("bad log level '%s' (one of %s expected)"):format(tostring(level), table.concat(LEVELS, ", ")), 2)
  end
  local self = setmetatable({ path = settings.file, worker = settings.worker, repeats = 0 }, Log)
  self:set_level(level)
  local err
  self.format, err = log.format(settings)
  if err then
    return nil, err
  elseif settings.syslog then
    process.open_syslog()
  elseif settings.file then
    self.file, err = open_file(settings.file)
  else
    self.file, self.to_stderr = io.stderr, true
  end
  if err then
    return nil, err
  end
  return self
end

return log
