--- The program mysql-proxy: from the command line to a running proxy, and to its end.

local log = require("mysql-proxy.log")
local options = require("mysql-proxy.options")
local paths = require("mysql-proxy.paths")
local process = require("mysql-proxy.process")
local service = require("mysql-proxy.service")
-- luv makes its loop when it is first required, and a loop does not survive a fork: nothing that needs luv may be
-- required up here.

local main = {}

local PID_FILE_MODE = "0600"
local SPARE_FILES = 64 -- beside two sockets for each client: listeners, log, idle connections

local function complain(message)
  io.stderr:write("mysql-proxy: ", message, "\n")
end

local function information(settings)
  if settings.version then
    return require("mysql-proxy.version")()
  end
  for _, group in ipairs({ "all", "proxy", "admin" }) do
    if settings["help_" .. group] then
      return options.help(group)
    end
  end
  return settings.help and options.help("help")
end

-- Without --max-open-files, the limit is raised as far as it may be to what --max-connections needs.
local function raise_open_files(settings)
  local wanted = settings.max_open_files
  if wanted then
    return process.set_max_open_files(wanted)
  end
  local soft, hard = process.max_open_files()
  wanted = settings.max_connections == 0 and hard or math.min(2 * settings.max_connections + SPARE_FILES, hard)
  if wanted > soft then
    return process.set_max_open_files(wanted)
  end
  return true
end

---@class mysql_proxy.program a proxy with what a process has around it
---@field settings table
---@field log mysql_proxy.log
---@field state "starting"|"running"|"stopping"|"ended"
---@field failure string? why it could not be started
---@field has_pid_file boolean? there is one to remove
local Program = {}
Program.__index = Program

-- A callback for luv: what fails while the proxy starts ends it.
function Program:guard(callback)
  return self.log:guard(callback, function(message)
    if self.state == "starting" then
      self:fail(message)
    end
  end)
end

function Program:stop_loop()
  self.state = "ended"
  for _, handle in ipairs(self.handles) do
    handle:close()
  end
  self.handles = {}
  self.uv.stop() -- whatever else is open, a script's timer for example, does not hold up the end
end

function Program:fail(message)
  self.failure = message
  self.proxy:close()
  self:stop_loop()
end

-- The first signal lets running queries finish, the second does not.
function Program:terminate()
  if self.state == "starting" then
    self:fail("stopped by a signal before it was ready")
  elseif self.state == "running" then
    self.state = "stopping"
    self.log:message("Initiating shutdown, requested from signal handler")
    self.settings.service:tell("STOPPING=1", self.log)
    self.proxy:shutdown(self.settings.shutdown_timeout, self:guard(function()
      if self.state == "stopping" then
        self:stop_loop()
      end
    end))
  elseif self.state == "stopping" then
    self.log:message("Shutting down at once, requested from signal handler")
    self.proxy:close()
    self:stop_loop()
  end
end

-- A crash writes a backtrace to the log, if that is asked for.
function Program:tell_crashes()
  if self.settings.log_backtrace_on_crash then
    local ok, err = process.backtrace_on_crash(self.log.path)
    if not ok then
      self.log:warning(err)
    end
  end
end

function Program:reopen_log()
  if not self.log.path then
    return
  end
  self.log:message("received a SIGHUP, closing log file")
  local ok, err = self.log:reopen()
  if ok then
    self.log:message("re-opened log file after SIGHUP")
    self:tell_crashes()
  else
    self.log:critical(err)
  end
end

function Program:handle_signals()
  local function on(name, method)
    local handle = self.uv.new_signal()
    handle:start(name, self:guard(function()
      method(self)
    end))
    self.handles[#self.handles + 1] = handle
  end
  on("sigterm", self.terminate)
  on("sigint", self.terminate)
  on("sighup", self.reopen_log)
end

function Program:write_pid_file()
  local path = self.settings.pid_file
  if not path then
    return true
  end
  local ok, err = process.create_file(path, PID_FILE_MODE, tostring(process.id()))
  self.has_pid_file = ok
  return ok, err
end

function Program:remove_pid_file()
  if self.has_pid_file then
    local ok, err = os.remove(self.settings.pid_file)
    if not ok then
      self.log:warning(("removing the pid file failed: %s"):format(err))
    end
  end
end

-- Becomes --user, and gives that user the files that have to be reopened or removed later.
function Program:drop_privileges()
  local settings = self.settings
  if not settings.user then
    return true
  end
  local uid, gid = process.check_user(settings.user)
  if not uid then
    return nil, gid
  end
  local files = {}
  files[#files + 1] = self.log.path
  files[#files + 1] = settings.pid_file
  for _, list in ipairs({ settings.proxy_address, settings.proxy_read_only_address, settings.admin_address }) do
    for _, listener in ipairs(list) do
      if type(listener) == "string" and listener:sub(1, 1) == "/" then
        files[#files + 1] = listener
      end
    end
  end
  for _, path in ipairs(files) do
    -- Not through a symbolic link: it may be another user who made it.
    local ok, err = self.uv.fs_lchown(path, uid, gid)
    if not ok then
      return nil, ("giving the file to --user failed: %s"):format(err)
    end
  end
  return process.set_user(settings.user)
end

-- The ports are bound: the rest of the start.
function Program:finish_start()
  local ok, err = self:write_pid_file()
  if ok then
    ok, err = self:drop_privileges()
  end
  if ok then
    if self.settings.keepalive then
      process.worker_ready() -- before anybody is told, who may be in a hurry to kill
    end
    for _, plugin in ipairs({ "proxy", "admin" }) do
      if self.settings.plugins[plugin] then
        self.log:critical(("plugin %s %s started"):format(plugin, process.version)) -- seen at the default level
      end
    end
    self.log:critical(("mysql-proxy %s started"):format(process.version))
    self.log:debug(("max open file-descriptors = %d"):format((process.max_open_files())))
    if self.settings.daemon then
      ok, err = process.ready(self.log.to_stderr)
    end
  end
  if not ok then
    return self:fail(err)
  end
  self.state = "running"
  self.settings.service:tell("READY=1", self.log)
  table.insert(self.handles, self.settings.service:watch(self.log))
end

-- luv 1.44 reads freed memory if the Lua state is closed while a handle is still closing. What closes is closed after
-- one iteration of the loop, unless closing it has closed something else.
function Program:finish_closing()
  for _ = 1, 10 do
    if not self.uv.run("nowait") then
      break
    end
  end
end

-- Runs the proxy until a signal ends it. -> nothing | message of why it could not be started
function Program:run()
  self.uv = require("luv")
  service.forget_environment()
  local err
  self.proxy, err = require("mysql-proxy").new(self.settings)
  if not self.proxy then
    return err
  end
  require("mysql.stream").guard_callbacks() -- scripts have some
  self.proxy.request_shutdown = self:guard(function()
    self:terminate()
  end)
  self:handle_signals()
  self:tell_crashes()
  self.proxy:listen(self:guard(function(ok, listen_err)
    if self.state ~= "starting" then
      return -- ended while a host name was looked up
    end
    if ok then
      self:finish_start()
    else
      self:fail(listen_err)
    end
  end))
  if self.state ~= "ended" then
    self.uv.run()
  end
  self:finish_closing()
  self:remove_pid_file()
  return self.failure
end

local function start_failed(settings, message)
  if not settings.log.to_stderr then
    settings.log:critical(message)
  end
  if settings.daemon then
    process.failed("mysql-proxy: " .. message)
  else
    complain(message)
  end
end

-- All of the start that comes before luv, the fork included. -> true | nil, message
local function prepare(settings)
  local ok, err = true, nil
  if settings.user then
    ok, err = process.check_user(settings.user)
  end
  if ok then
    settings.log, err = log.new({
      level = settings.log_level, file = settings.log_file, syslog = settings.log_use_syslog,
      format = settings.log_format,
    })
    ok = settings.log
  end
  if ok then
    settings.service = service.new()
    ok, err = service.take_sockets(settings)
  end
  if ok then
    ok, err = raise_open_files(settings)
  end
  if ok and settings.daemon then
    ok, err = process.daemonize()
  end
  return ok, err
end

local function check_script(path)
  local report, message = require("mysql-proxy.check_script").check(path)
  if not report then
    complain(message)
    return 1
  end
  io.stdout:write(report)
  return 0
end

local function check_config(settings)
  local report, mistakes = require("mysql-proxy.check_config")(settings)
  io.stdout:write(report)
  for _, mistake in ipairs(mistakes) do
    complain(mistake)
  end
  if #mistakes > 0 then
    return 1
  end
  io.stdout:write("the configuration is right\n")
  return 0
end

-- From prepared settings to the end of the proxy. -> exit status
local function serve(settings)
  for _, warning in ipairs(settings.warnings) do
    settings.log:warning(warning)
  end
  local program = setmetatable({ settings = settings, log = settings.log, state = "starting", handles = {} }, Program)
  local failure = program:run()
  if failure then
    start_failed(settings, failure)
  else
    local level = settings.verbose_shutdown and "critical" or "message"
    settings.log[level](settings.log, "shutting down normally, exit code is: 0")
  end
  settings.log:close()
  return failure and 1 or 0
end

--- Does what the command line says.
---@param argv string[]
---@return integer status the exit status of the process: 0, or 1 if it could not be started
function main.run(argv)
  local settings, err = options.parse(argv, process.hide_argument)
  if not settings then
    complain(err)
    return 1
  end
  paths.set_module_paths(settings)
  if settings.check_script then
    return check_script(settings.check_script)
  end
  local text = information(settings)
  if text then
    io.stdout:write(text)
    return 0
  end
  settings.proxy_lua_script_name = settings.proxy_lua_script -- as the admin interface shows it
  paths.resolve(settings)
  if settings.check_config then
    return check_config(settings)
  end
  local ok
  ok, err = prepare(settings)
  if not ok then
    complain(err)
    return 1
  end
  local status
  if settings.keepalive then
    status, err = require("mysql-proxy.keepalive").run(settings)
  end
  if err then
    start_failed(settings, err)
  end
  return status or serve(settings)
end

return main
