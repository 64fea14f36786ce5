-- MySQL 5.1.14 to 5.1.17 answer a COM_CHANGE_USER that they refuse with two ERR packets (bug 25371 of MySQL). They get
-- none from clients unless --proxy-fix-bug-25371 asks for it: then the second packet is left out.

local frame = require("mysql.packet").frame
local proto = require "mysql.proto"

local M = {}

local COM_CHANGE_USER = 17

-- The answer in the server's stead.
local REFUSAL = frame(proto.to_err_packet {
  errcode = 1105, sqlstate = "07000",
  errmsg = "COM_CHANGE_USER is broken on 5.1.14-.17, please upgrade the MySQL Server",
}, 1)

--- Whether a server is one of these.
---@param server Server|nil
function M.has(server)
  local version = server and server.challenge.server_version
  return version and version >= 50114 and version <= 50117
end

--- Looks at each COM_CHANGE_USER of a session, before whoever looks at its commands anyway.
---@param session Session
function M.guard(session)
  local read_query = session.on_command
  session.relay:watch(COM_CHANGE_USER)
  session.relay:expect_second_error()
  function session.on_command(_, relay, command, kind, ...)
    if kind == COM_CHANGE_USER and M.has(session.server) and not session.proxy.fix_bug_25371 then
      return relay:reply(REFUSAL)
    elseif not read_query then
      return relay:forward(true)
    end
    return read_query(session, relay, command, kind, ...)
  end
end

return M
