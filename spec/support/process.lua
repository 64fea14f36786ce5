-- Programs that a spec runs. All live in one temporary folder of the run, and a watcher process ends them and removes
-- the folder when the run has ended, however it ended.

local uv = require "luv"

local M = {}

--- The exit status of a program in which a sanitizer has found something; what, is on its standard error.
M.SANITIZER_STATUS = 99

local run = { processes = {} } -- of this run: folder, watcher, and what still runs

local function start_watcher()
  if run.folder then
    return
  end
  run.folder = assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/mysql-proxy-spec.XXXXXX"))
  assert(uv.fs_mkdir(run.folder .. "/pids", tonumber("700", 8)))
  run.pipe = uv.new_pipe(false)
  local script = [[
    cat >/dev/null
    for pid in $(ls "$0/pids"); do kill -9 "$pid"; done 2>/dev/null
    while sleep 0.05; do
      alive=
      for pid in $(ls "$0/pids"); do kill -0 "$pid" 2>/dev/null && alive=1; done
      [ "$alive" ] || break
    done
    rm -rf "$0"
  ]]
  run.watcher = assert(uv.spawn("sh", { args = { "-c", script, run.folder }, stdio = { run.pipe }, detached = true },
    function()
      run.watcher_ended = true
    end))
  run.watcher:unref()
  run.pipe:unref()
end

--- The run's temporary folder.
function M.folder()
  start_watcher()
  return run.folder
end

local counter = 0

--- A name below the run's folder that nothing has yet.
---@param name string
function M.path(name)
  counter = counter + 1
  return ("%s/%d-%s"):format(M.folder(), counter, name)
end

--- Runs the loop until `done()` is true.
---@param done fun(): any
---@param seconds? number deadline, default 30
---@return any what done() returned, nil if the deadline passed
function M.wait_until(done, seconds)
  local deadline = uv.hrtime() + (seconds or 30) * 1e9
  local tick = uv.new_timer()
  tick:start(5, 5, function() end) -- `done` may look at what is no event of the loop
  local result = done()
  while not result and uv.hrtime() < deadline do
    uv.run("once")
    result = done()
  end
  tick:close()
  return result
end

function M.read_file(path)
  local file = io.open(path, "rb")
  if not file then
    return ""
  end
  local text = file:read("*a")
  file:close()
  return text
end

function M.write_file(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- Ends the run, and waits until the watcher has cleaned up. luv 1.44 must not have a handle that is closing when Lua
--- ends.
function M.finish()
  if run.folder then
    for process in pairs(run.processes) do
      process:kill("sigkill")
    end
    M.wait_until(function()
      return not next(run.processes)
    end, 10)
    run.pipe:close()
    M.wait_until(function()
      return run.watcher_ended
    end, 30)
    run.watcher:close()
  end
  for _ = 1, 100 do
    uv.run("nowait")
  end
end

local Process = {}
Process.__index = Process

--- Starts a program whose output goes to files.
---@param program string
---@param args string[]
---@param options? { env: string[], cwd: string, input: string } input: a file's path
function M.start(program, args, options)
  options = options or {}
  start_watcher()
  local self = setmetatable({ output = M.path("output"), errors = M.path("errors") }, Process)
  local mode = tonumber("600", 8)
  local out = assert(uv.fs_open(self.output, "w", mode))
  local err = assert(uv.fs_open(self.errors, "w", mode))
  local input = options.input and assert(uv.fs_open(options.input, "r", mode))
  local handle, pid = uv.spawn(program, {
    args = args, env = options.env, cwd = options.cwd, stdio = { input, out, err },
  }, function(code, signal)
    self.code, self.signal = code, signal
    run.processes[self] = nil
    self.handle:close()
    os.remove(("%s/pids/%d"):format(run.folder, self.pid))
  end)
  uv.fs_close(out)
  uv.fs_close(err)
  if input then
    uv.fs_close(input)
  end
  assert(handle, ("cannot start %s: %s"):format(program, tostring(pid)))
  self.handle, self.pid = handle, pid
  run.processes[self] = true
  M.write_file(("%s/pids/%d"):format(run.folder, pid), "")
  return self
end

function Process:running()
  return self.code == nil
end

function Process:stdout()
  return M.read_file(self.output)
end

function Process:stderr()
  return M.read_file(self.errors)
end

function Process:kill(signal)
  if self:running() then
    uv.process_kill(self.handle, signal or "sigterm")
  end
end

--- Waits for its end.
---@return integer|nil code nil if it still runs
---@return integer|nil signal
function Process:wait(seconds)
  M.wait_until(function()
    return self.code
  end, seconds)
  return self.code, self.signal
end

function Process:stop(signal, seconds)
  self:kill(signal)
  if not self:wait(seconds or 30) then
    self:kill("sigkill")
    self:wait(10)
  end
end

--- Runs a program to its end.
---@return integer code, string stdout, string stderr
function M.run(program, args, options)
  local process = M.start(program, args, options)
  local code = process:wait(options and options.seconds or 120)
  if not code then
    process:stop("sigkill")
    error(("%s did not end in time: %s"):format(program, process:stderr()))
  end
  local output, errors = process:stdout(), process:stderr()
  os.remove(process.output)
  os.remove(process.errors)
  return code, output, errors
end

--- Whether a process that this one did not start runs.
function M.runs(pid)
  return uv.fs_stat(("/proc/%d/exe"):format(pid)) ~= nil
end

--- The processes that a process has started.
---@return integer[]
function M.children(pid)
  local found = {}
  for child in M.read_file(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    found[#found + 1] = tonumber(child)
  end
  return found
end

--- A process that one of those here has started is ended with the run, too.
function M.adopt(pid)
  M.write_file(("%s/pids/%d"):format(M.folder(), pid), "")
end

--- Ends an adopted process, and waits until it has.
---@param signal? string default sigterm
---@return boolean ended
function M.dismiss(pid, signal)
  uv.kill(pid, signal or "sigterm")
  local ended = M.wait_until(function()
    return not M.runs(pid)
  end, 20)
  if not ended then
    uv.kill(pid, "sigkill")
  end
  os.remove(("%s/pids/%d"):format(M.folder(), pid))
  return ended
end

math.randomseed((uv.hrtime() + uv.os_getpid() * 7919) % 2 ^ 31)

local LATELY = 1000
local given, count = {}, 0 -- port -> it was the count-th: who got one may not listen there yet

--- A TCP port of 127.0.0.1 that nobody listens on. Not one of those that the kernel gives to clients, of whom some
--- specs have thousands.
function M.free_port()
  local port, free
  repeat
    port = math.random(12000, 31999)
    local socket = uv.new_tcp()
    free = socket:bind("127.0.0.1", port) == 0 and socket:listen(1, function() end) == 0
    socket:close()
    uv.run("nowait")
  until free and not (given[port] and count - given[port] < LATELY)
  count = count + 1
  given[port] = count
  return port
end

--- Whether somebody listens there.
function M.accepts(port)
  local socket, result = uv.new_tcp(), nil
  assert(socket:connect("127.0.0.1", port, function(err)
    result = err or "accepted"
  end))
  M.wait_until(function()
    return result
  end, 2)
  socket:close()
  uv.run("nowait")
  return result == "accepted"
end

return M
