-- What the statements of admin SQL do.

local changes = require "mysql-proxy.admin.changes"
local errors = require "mysql-proxy.admin.errors"
local expressions = require "mysql-proxy.admin.expressions"
local kill = require "mysql-proxy.admin.kill"
local reload = require "mysql-proxy.admin.reload"
local select_ = require "mysql-proxy.admin.select"
local show = require "mysql-proxy.admin.show"
local statistics = require "mysql-proxy.admin.statistics"
local tables = require "mysql-proxy.admin.tables"
local variables = require "mysql-proxy.admin.variables"

local M = {}

local SHUTDOWN_SECONDS = 5 -- for running statements, in a program that does not say itself how it ends

-- kind -> function(session, statement, context), a result { fields, rows } or { affected_rows }
local kinds = {}

function kinds.select(session, statement, context)
  local from = statement.from
  return select_.run(statement, from and tables.source(tables.get(from.schema, from.name), session), context)
end

kinds.show = show.run
kinds.update, kinds.insert, kinds.delete = changes.update, changes.insert, changes.delete
kinds.truncate = changes.truncate

function kinds.kill(session, statement, context)
  return kill.run(session, select_.count(statement.id, context), statement.query)
end

local function log(session, text)
  session.admin.proxy.log:critical(("admin interface: %s has %s"):format(session:who(), text))
end

kinds.reload = reload.run

function kinds.restart(session)
  local proxy = session.admin.proxy
  if not proxy.request_restart then
    errors.raise(1235, "42000", "RESTART is only possible in the program mysql-proxy")
  end
  log(session, "restarted the program")
  local ok, message = session:wait(proxy.request_restart)
  if not ok then
    errors.raise(1105, "HY000", "The restart failed, the proxy goes on as before: %s", message)
  end
  return {}
end

function kinds.shutdown(session)
  local proxy = session.admin.proxy
  log(session, "shut the proxy down")
  session.after_answer = proxy.request_shutdown or function()
    proxy:shutdown(SHUTDOWN_SECONDS, function() end)
  end
  return {}
end

function kinds.help(session, _, context)
  return select_.run({ items = { { star = true } } }, tables.source(tables.get(nil, "help"), session), context)
end

function kinds.use(session, statement)
  session.database = statement.schema
  return {}
end

function kinds.nothing()
  return {}
end

-- SET x = word: a name that is no expression is text.
local function assigned(value, context)
  if value.word then
    return value.word
  elseif value[1] == "column" then
    return value[2]
  end
  return expressions.value(value, context)
end

function kinds.set(session, statement, context)
  for _, each in ipairs(statement.assignments) do
    variables.set(session, each.name, each.value and assigned(each.value, context))
  end
  return {}
end

local function context_of(session, parameters)
  return {
    user = ("%s@%s"):format(session.login.username or "", session.host), version = session.admin.version,
    database = session.database, connection_id = session.id, parameters = parameters,
    variable = function(name)
      return variables.get(session, name)
    end,
    pause = function()
      return session:pause()
    end,
  }
end

--- Runs a statement, within session:run().
---@param session table
---@param statement table
---@param parameters table<integer, any> by their place in the text
---@return { fields: table[]|nil, rows: table[]|nil, affected_rows: integer|nil, warnings: table[]|nil } warnings: rows
---  of SHOW WARNINGS
function M.run(session, statement, parameters)
  if statement.what ~= "warnings" then
    session.warnings = {}
  end
  local result = kinds[statement.kind](session, statement, context_of(session, parameters))
  if result.warnings then
    session.warnings = result.warnings
  end
  return result
end

--- What COM_STATISTICS answers.
function M.statistics(session)
  return statistics.line(session.admin, session)
end

return M
