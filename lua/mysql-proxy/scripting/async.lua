-- proxy.async: functions that wait without holding up other sessions. They work in a hook of a script, and at its top
-- level.

local uv = require "luv"

local address = require "mysql-proxy.address"
local client = require "mysql-proxy.scripting.client"
local hooks = require "mysql-proxy.hooks"

local M = {}

--- Waits until `start`'s argument is called, and returns what it was called with. The way to wait for any call of luv:
---   local err, stat = proxy.async.await(function(resume) uv.fs_stat("/tmp", resume) end)
---@param start fun(resume: fun(...)): fun()|nil may return what ends it early, when the session ends
---@return any ...
function M.await(start)
  return hooks.wait(start)
end

--- Waits for so many milliseconds.
---@param ms number
function M.sleep(ms)
  return hooks.wait(function(resume)
    local timer = uv.new_timer()
    timer:start(math.max(0, math.floor(ms)), 0, function()
      timer:close()
      resume()
    end)
    return function()
      timer:close()
    end
  end)
end

--- The IP addresses of a host name.
---@param host string
---@return string[]|nil addresses
---@return string|nil message
function M.resolve(host)
  return hooks.wait(function(resume)
    local request, message = uv.getaddrinfo(host, nil, { socktype = "stream" }, function(failure, found)
      local addresses = {}
      for _, each in ipairs(found or {}) do
        addresses[#addresses + 1] = each.addr
      end
      if failure then
        return resume(nil, failure)
      end
      resume(addresses)
    end)
    if not request then
      resume(nil, message)
    end
    return function()
      uv.cancel(request)
    end
  end)
end

--- Asks a server something, on a connection of its own.
---@param where integer|string a backend's index, or an address: "host:port", "/path/of/a/socket"
---@param sql string
---@param login { user: string, password: string|nil, database: string|nil }
---@return userdata|nil result with fields, rows, affected_rows ... as inj.resultset has them
---@return string|nil message the server's error, or why it could not be asked
function M.query(where, sql, login)
  local session = hooks.session()
  local proxy = session and session.proxy or error("only a hook of a script can wait", 2)
  local parsed, message
  if type(where) == "number" then
    local backend = proxy.backends[where] or error(("there is no backend %s"):format(where), 2)
    parsed = backend.parsed
  else
    parsed, message = address.parse(where)
    if not parsed then
      return nil, message
    end
  end
  return hooks.wait(function(resume)
    local cancel, cancelled
    address.resolve(parsed, function(failure, places)
      if cancelled then
        return
      elseif failure then
        return resume(nil, failure)
      end
      cancel = client.query(places[1], sql, login or {}, {
        timeout = proxy.login_timeout, limit = proxy.relay_options.answer_limit,
      }, resume)
    end)
    return function()
      cancelled = true
      if cancel then
        cancel()
      end
    end
  end)
end

local function close(handle)
  if not handle:is_closing() then
    handle:close()
  end
end

local OUTPUT_LIMIT = 1024 * 1024

--- Runs a program to its end. What it starts is in a process group of its own, which is killed if the hook cannot wait
--- for it any longer.
---@param program string
---@param args? string[]
---@param input? string for its standard input
---@param options? { limit: integer } bytes that it may say, on standard output and error together; default 1 MiB
---@return { code: integer, signal: integer, stdout: string, stderr: string }|nil
---@return string|nil message why it could not be started, or that it has said more, for which it was killed
function M.spawn(program, args, input, options)
  local limit = options and options.limit or OUTPUT_LIMIT
  if type(limit) ~= "number" then
    error(("bad argument #4 to 'spawn' ({ limit = number } expected, got %s)"):format(type(limit)), 2)
  end
  return hooks.wait(function(resume)
    local pipes, output = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) }, { [2] = {}, [3] = {} }
    local handle, ended, pid, length = nil, nil, nil, 0
    local function finish() -- when it has ended, and all that it said has been read
      if ended and pipes[2]:is_closing() and pipes[3]:is_closing() then
        ended.stdout, ended.stderr = table.concat(output[2]), table.concat(output[3])
        resume(ended)
      end
    end
    local function abandon()
      if handle and not ended then
        uv.kill(-pid, "sigkill")
      end
      for _, pipe in ipairs(pipes) do -- others than the program may have the other ends
        close(pipe)
      end
    end
    handle, pid = uv.spawn(program, { args = args or {}, stdio = pipes, detached = true }, function(code, signal)
      handle:close()
      ended = { code = code, signal = signal }
      finish()
    end)
    if not handle then
      abandon()
      return resume(nil, pid)
    end
    for index, parts in pairs(output) do
      pipes[index]:read_start(function(_, chunk)
        length = length + #(chunk or "")
        if length > limit then
          abandon()
          resume(nil, ("%s has said more than %d bytes"):format(program, limit))
        elseif chunk then
          parts[#parts + 1] = chunk
        else
          close(pipes[index])
          finish()
        end
      end)
    end
    if input then
      pipes[1]:write(input)
    end
    pipes[1]:shutdown(function()
      close(pipes[1])
    end)
    return abandon
  end)
end

return M
