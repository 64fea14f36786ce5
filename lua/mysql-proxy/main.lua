--- The program mysql-proxy: from the command line to a running proxy, and to its end.

local lfs = require("lfs")

local inheritance = require("mysql-proxy.inheritance")
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
---@field state "starting"|"running"|"draining"|"stopping"|"ended" draining: a successor has the new clients
---@field inherited mysql_proxy.inheritance? what another process of this program has started it with
---@field successor mysql_proxy.successor? that is being started
---@field read_options fun() of mysql-proxy.reread
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

function Program:stop_loop_if(state)
  return self:guard(function()
    if self.state == state then
      self:stop_loop()
    end
  end)
end

-- The first signal lets running queries finish, the second does not.
function Program:terminate()
  if self.successor then
    self.successor:kill("sigterm") -- both or none
  end
  if self.state == "starting" then
    self:fail("stopped by a signal before it was ready")
  elseif self.state == "running" or self.state == "draining" then
    self.state = "stopping"
    self.log:message("Initiating shutdown, requested from signal handler")
    self.settings.service:tell("STOPPING=1", self.log)
    self.proxy:shutdown(self.settings.shutdown_timeout, self:stop_loop_if("stopping"))
  elseif self.state == "stopping" then
    self.log:message("Shutting down at once, requested from signal handler")
    self.proxy:close()
    if not self:supervises() then -- else its workers have to end first
      self:stop_loop()
    end
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

-- Another process has the new clients. This one ends when its last client has left.
function Program:hand_over()
  self.state = "draining"
  self.log:message("new clients go to the new program, this one ends with its last client")
  self.proxy:hand_over(self:stop_loop_if("draining"))
end

-- Starts the program anew, as it is on disk by now, on the same sockets.
-- done(true|nil, message): another hands over next, or this one goes on
function Program:restart(done)
  if self.state ~= "running" or self.successor then
    done(nil, "the program is starting, restarting or ending")
  else
    require("mysql-proxy.restart")(self, done)
  end
end

function Program:obey_sigusr2()
  if self.state ~= "running" or self.successor then
    self.log:message("SIGUSR2 is of no use now: the program is starting, restarting or ending")
  elseif self.inherited and self.inherited.worker then
    self:hand_over() -- its supervisor has a successor
  else
    self.log:message("received a SIGUSR2, starting the new program")
    self:restart(function() end)
  end
end

function Program:supervises()
  return self.settings.workers > 1
end

function Program:reopen_log()
  if self:supervises() then
    self.proxy:signal("sighup")
  end
  local slow_log = self.proxy.slow_log
  if slow_log then
    local ok, err = slow_log:reopen()
    if not ok then
      self.log:critical(err)
    end
  end
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
  on("sigusr2", self.obey_sigusr2)
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
  local path = self.settings.pid_file
  local file = self.has_pid_file and io.open(path)
  if not file then
    return
  end
  local is_own = file:read("*a") == tostring(process.id()) -- not a successor's
  file:close()
  if is_own then
    local ok, err = os.remove(path)
    if not ok then
      self.log:warning(("removing the pid file failed: %s"):format(err))
    end
  end
end

-- Becomes --user, and gives that user the files that have to be reopened or removed later.
function Program:drop_privileges()
  local settings = self.settings
  if not settings.user or self.inherited and process.is_user(settings.user) then
    return true
  end
  local uid, gid = process.check_user(settings.user)
  if not uid then
    return nil, gid
  end
  local files = {}
  files[#files + 1] = self.log.path
  files[#files + 1] = settings.pid_file
  files[#files + 1] = settings.slow_query_log
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
  if not ok then
    self:fail(err)
  elseif self:supervises() then
    self.proxy:start(self:guard(function(started, message)
      if self.state ~= "starting" then
        return -- ended meanwhile
      elseif not started then
        return self:fail(message)
      end
      self:announce()
    end))
  else
    self:announce()
  end
end

-- It is ready: the log, the shell and the process that started it are told.
function Program:announce()
  local settings, inherited = self.settings, self.inherited
  local ok, err = true, nil
  if settings.keepalive then
    process.worker_ready() -- before anybody is told, who may be in a hurry to kill
  end
  if not settings.is_worker then
    for _, plugin in ipairs({ "proxy", "admin" }) do
      if settings.plugins[plugin] then
        self.log:critical(("plugin %s %s started"):format(plugin, process.version)) -- seen at the default level
      end
    end
    self.log:critical(("mysql-proxy %s started"):format(process.version))
    self.log:debug(("max open file-descriptors = %d"):format((process.max_open_files())))
  end
  if inherited then
    inherited:restore_stderr()
  end
  if settings.daemon then
    ok, err = process.ready(self.log.to_stderr)
  elseif settings.is_worker == "daemon" then
    ok, err = process.detach(self.log.to_stderr)
  end
  if not ok then
    return self:fail(err)
  end
  self.state = "running"
  settings.service:tell("READY=1", self.log)
  table.insert(self.handles, settings.service:watch(self.log))
  if inherited then
    self.proxy.leaves_socket_files = inherited.worker ~= nil
    inherited:ready()
  end
end

-- A worker waits until its supervisor has told it what it has to know, and ends with it.
function Program:obey_supervisor(begin)
  local worker = require("mysql-proxy.workers.worker")
  table.insert(self.handles, worker.new(self.proxy, self.inherited, self.settings.fleet, {
    begin = begin,
    gone = function()
      self.log:critical("the supervisor has gone")
      self:terminate()
    end,
  }))
end

function Program:new_proxy()
  if self:supervises() then
    return require("mysql-proxy.workers").new(self.settings)
  end
  return require("mysql-proxy").new(self.settings)
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

function Program:listen()
  self.proxy:listen(self:guard(function(ok, message)
    if self.state ~= "starting" then
      return -- ended while a host name was looked up
    end
    if ok then
      self:finish_start()
    else
      self:fail(message)
    end
  end))
end

-- Runs the proxy until a signal ends it. -> nothing | message of why it could not be started
function Program:run()
  self.uv = require("luv")
  service.forget_environment()
  self.uv.os_unsetenv(inheritance.VARIABLE) -- nobody else's business
  local err
  self.proxy, err = self:new_proxy()
  if not self.proxy then
    return err
  end
  self.proxy.leaves_socket_files = self.inherited ~= nil -- they are the other process's if the start fails
  require("mysql.stream").guard_callbacks() -- scripts have some
  -- The garbage collector's steps find nothing of theirs in the processor's caches: fewer and longer ones cost less.
  -- One takes 0.4 ms at most, but for a table that is large itself. It begins anew when there is half as much garbage
  -- as there is of use, so that more of both is in the caches: more work of its own, but less waiting for memory.
  collectgarbage("setstepmul", 5000)
  collectgarbage("setpause", 150)
  self.proxy.request_shutdown = self:guard(function()
    self:terminate()
  end)
  self.proxy.request_restart = function(done)
    self:restart(done)
  end
  self.proxy.read_options = self.read_options
  self:handle_signals()
  self:tell_crashes()
  if self.inherited and self.inherited.worker then
    self:obey_supervisor(function()
      self:listen()
    end)
  else
    self:listen()
  end
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
  if settings.user and not (settings.inherited and process.is_user(settings.user)) then
    ok, err = process.check_user(settings.user)
  end
  if ok then
    settings.log, err = log.new({
      level = settings.log_level, file = settings.log_file, syslog = settings.log_use_syslog,
      format = settings.log_format, worker = settings.inherited and settings.inherited.worker,
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
  elseif ok and settings.is_worker == "daemon" then
    ok, err = lfs.chdir("/")
  end
  return ok, err
end

-- What a supervisor's worker leaves to its supervisor.
local function become_worker(settings)
  settings.is_worker = settings.daemon and "daemon" or "worker"
  settings.fleet, settings.workers = settings.workers, 1
  settings.daemon, settings.keepalive, settings.pid_file, settings.user = nil, nil, nil, nil
  settings.plugins.admin = nil
  settings.admin_address, settings.metrics_address = {}, {}
end

-- What this process was started with, and what another one of its kind would be.
-- -> true | nil, message
local function prepare_restart(settings, argv)
  local err
  settings.inherited, err = inheritance.take()
  if err then
    return nil, err
  end
  if settings.inherited then
    settings.inherited:give_sockets(settings)
  end
  settings.command = {
    program = argv[0] or process.program(), -- as a shell would find it; the file may be another by then
    args = { unpack(argv) },
    folder = settings.daemon and process.current_folder() or nil, -- others stay there
  }
  if settings.inherited and settings.inherited.worker then
    become_worker(settings)
  end
  return true
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
local function serve(settings, read_options)
  for _, warning in ipairs(settings.warnings) do
    settings.log:warning(warning)
  end
  local program = setmetatable({
    settings = settings, log = settings.log, state = "starting", handles = {}, inherited = settings.inherited,
    read_options = read_options,
  }, Program)
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
  require("mysql-proxy.late").read_program()
  local read_options = require("mysql-proxy.reread").new(argv, settings)
  local ok
  ok, err = prepare_restart(settings, argv)
  if ok then
    ok, err = prepare(settings)
  end
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
  return status or serve(settings, read_options)
end

return main
