-- A proxy with a script of spec/integration/scripts, and its clients.

local uv = require "luv"

local process = require "spec.support.process"
local proto = require "mysql.proto"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"

local M = {}

local folder = uv.cwd() .. "/spec/integration/scripts/"

--- The options with which the proxy runs a script.
function M.options(name)
  return { "--proxy-lua-script=" .. folder .. name .. ".lua", "--lua-path=" .. folder .. "?.lua" }
end

local function append(list, ...)
  for _, more in ipairs { ... } do
    for _, item in ipairs(more) do
      list[#list + 1] = item
    end
  end
  return list
end

--- COM_STMT_PREPARE of a statement without parameters: its id, or the error.
function M.prepare(client, sql)
  client:send("\22" .. sql)
  local first = client:packet()
  if first:byte() ~= 0 then
    return nil, proto.from_err_packet(first)
  end
  local ok = proto.from_stmt_prepare_ok_packet(first)
  for _ = 1, ok.num_columns > 0 and ok.num_columns + 1 or 0 do
    client:packet()
  end
  return ok.stmt_id
end

--- COM_STMT_EXECUTE: the payloads of its rows, or the OK or ERR.
function M.execute(client, id)
  client:send("\23" .. raw.statement_id(id) .. "\0\1\0\0\0")
  local payload, eofs, rows = client:packet(), 0, {}
  if payload:byte() == 0xff then
    return proto.from_err_packet(payload)
  elseif payload:byte() == 0 then
    return proto.from_ok_packet(payload)
  end
  repeat
    payload = client:packet()
    if payload:byte() == 0xfe and #payload < 9 then
      eofs = eofs + 1
    elseif eofs == 1 then
      rows[#rows + 1] = payload
    end
  until eofs == 2
  return rows
end

function M.close_statement(client, id)
  client:send("\25" .. raw.statement_id(id))
end

--- Functions of a spec for one script: start, login, cli, pymysql, and finish for after_each, which ends all and looks
--- for errors in the log. `proxy` is the one that runs.
---@param server table
---@param name string
function M.new(server, name)
  local script, clients = {}, {}

  function script.start(options)
    script.proxy = proxies.start({ server }, append(M.options(name), options or {}))
  end

  function script.finish()
    for _, client in ipairs(clients) do
      client:close()
    end
    clients = {}
    local proxy = script.proxy
    if proxy then
      script.proxy = nil
      local log = proxy:log()
      assert(proxy:stop() == 0, "the proxy did not end well")
      local line = log:match("%(critical%) [^\n]*session[^\n]*") or log:match("%(critical%) %([^\n]*")
      assert(not line, line)
    end
  end

  function script.login(user)
    local client = raw.connect(script.proxy.port):login(user or "nopass")
    clients[#clients + 1] = client
    return client
  end

  -- The rows that the server's own client prints, or its error.
  function script.cli(sql, user, ...)
    local program, args = server:client()
    append(args, { "-N", "-B", "--delimiter=//" }, server.clear_text,
      server:login(script.proxy.port, user, user and user ~= "root" and "" or nil), { ... },
      { "-e", sql })
    local code, output, errors = process.run(program, args)
    return code == 0 and output or errors
  end

  -- What a program for PyMySQL prints: `c` is a connection, `run` returns all rows of a statement.
  function script.pymysql(program, user)
    local code, output, errors = process.run("/usr/bin/python3", { "-c", ([[
import pymysql
from pymysql.constants import CLIENT
def connect(**more):
  return pymysql.connect(**{"host": "127.0.0.1", "port": %d, "user": "%s", "password": "", "database": "test",
                            "autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS, **more})
c = connect()
def run(sql, arguments=None, c=c):
  with c.cursor() as cursor:
      cursor.execute(sql, arguments)
      return list(cursor.fetchall())
]]):format(script.proxy.port, user or "nopass") .. program })
    assert(code == 0, errors)
    return output
  end
  return script
end

return M
