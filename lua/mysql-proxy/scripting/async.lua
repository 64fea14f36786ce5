-- proxy.async: functions that wait without holding up other sessions. They work in a hook of a script, and at its top
-- level.

local uv = require "luv"

local address = require "mysql-proxy.address"
local client = require "mysql-proxy.scripting.client"
local hooks = require "mysql-proxy.hooks"

local M = {}

-- A mistake in the line of the script that has called a function of M.
local function expect(ok, index, name, expected, value)
  if not ok then
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(index, name, expected, type(value)), 3)
  end
end

-- As Lua's own functions see it.
local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

local function is_text_or_nil(value)
  return value == nil or is_text(value)
end

--- Waits until `start`'s argument is called, and returns what it was called with. The way to wait for any call of luv:
---   local err, stat = proxy.async.await(function(resume) uv.fs_stat("/tmp", resume) end)
---@param start fun(resume: fun(...)): fun()|nil may return what ends it early, when the session ends
---@return any ...
function M.await(start)
  expect(type(start) == "function", 1, "await", "function", start)
  return hooks.wait(start)
end

local LONGEST_SLEEP = 2 ^ 52

--- Waits for so many milliseconds.
---@param ms number
function M.sleep(ms)
  local number = tonumber(ms)
  expect(number, 1, "sleep", "number", ms)
  local whole = number > 0 and math.floor(math.min(number, LONGEST_SLEEP)) or 0
  return hooks.wait(function(resume)
    local timer = uv.new_timer()
    timer:start(whole, 0, function()
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
  expect(is_text(host), 1, "resolve", "string", host)
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
  local of_login = login == nil and {} or login
  expect(is_text(where), 1, "query", "a backend's index or an address", where)
  expect(is_text(sql), 2, "query", "string", sql)
  expect(type(of_login) == "table", 3, "query", "table", login)
  for _, key in ipairs { "user", "password", "database" } do
    expect(is_text_or_nil(of_login[key]), 3, "query", ("table whose %s is a string"):format(key), of_login[key])
  end
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
      cancel = client.query(places[1], sql, of_login, {
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
  expect(is_text(program), 1, "spawn", "string", program)
  expect(args == nil or type(args) == "table", 2, "spawn", "table", args)
  for _, each in ipairs(args or {}) do
    expect(is_text(each), 2, "spawn", "table of strings", each)
  end
  expect(is_text_or_nil(input), 3, "spawn", "string", input)
  expect(options == nil or type(options) == "table", 4, "spawn", "table", options)
  local limit = options and options.limit or OUTPUT_LIMIT
  expect(type(limit) == "number", 4, "spawn", "{ limit = number }", limit)
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
