--- SIGUSR2: another program takes the place of this one, on the same sockets.

local successor = require("mysql-proxy.successor")

local function failed(program, done, message, said)
  program.successor = nil
  if program.state == "running" then
    local ok, err = program:write_pid_file() -- which the new program may have overwritten
    if not ok then
      program.log:critical(err)
    end
  end
  program.log:critical("the restart failed, going on as before: " .. message, said)
  done(nil, said and said ~= "" and message .. ": " .. said or message)
end

--- Starts the new program. When it is ready, the old one hands over; if it ends before that, the log says why.
---@param program mysql_proxy.program
---@param done fun(ok: true?, message: string?) called before it hands over, or when it has failed
return function(program, done)
  local settings = program.settings
  local new, message
  new, message = successor.start({
    program = settings.command.program,
    args = settings.command.args,
    folder = settings.command.folder,
    environment = settings.service:environment(),
    sockets = program.proxy:sockets(),
    guard = function(callback)
      return program:guard(callback)
    end,
  }, {
    ready = function()
      program.successor = nil
      if program.state == "running" then
        settings.service:tell("MAINPID=" .. new.pid, program.log)
        done(true)
        program:hand_over()
      end
    end,
    failed = function(reason, said)
      failed(program, done, reason, said)
    end,
    ended = function() end, -- it is on its own
  })
  program.successor = new
  if not new then
    failed(program, done, message)
  end
end
