-- A command of its own: SHELL shows what a program on the proxy's machine prints, as a result set.
--
--   mysql-proxy --proxy-backend-addresses=127.0.0.1:3306 --proxy-lua-script=examples/shell_commands.lua
--
-- Through port 4040, `SHELL uptime` shows how long the machine is up, `SHELL` alone lists the programs that there are.
-- No text of a client ever reaches a shell or a program: it is looked up in COMMANDS. A program that takes long holds
-- up its own client only.

local COMMANDS = { -- name, program and its arguments
  uptime = { "uptime" },
  disks = { "df", "-h" },
  memory = { "cat", "/proc/meminfo" },
  machine = { "uname", "-n", "-m" },
}
local USERS = { root = true } -- who may

local function err(text)
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errcode = 1064, sqlstate = "42000", errmsg = text }
  return proxy.PROXY_SEND_RESULT
end

local function rows(name, list)
  local fields = { { name = name, type = proxy.MYSQL_TYPE_VAR_STRING } }
  proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = list, charset = 45 } }
  return proxy.PROXY_SEND_RESULT
end

local function list_commands()
  local list = {}
  for name in pairs(COMMANDS) do
    list[#list + 1] = { name }
  end
  table.sort(list, function(a, b)
    return a[1] < b[1]
  end)
  return rows("command", list)
end

function read_query(packet)
  local name = packet:byte() == proxy.COM_QUERY and packet:match("^.SHELL%f[%W]%s*(.-)%s*;?$")
  if not name then
    return
  elseif not USERS[proxy.connection.client.username] then
    return err("SHELL is not for you")
  elseif name == "" then
    return list_commands()
  elseif not COMMANDS[name] then
    return err("there is no command " .. name)
  end
  local program = COMMANDS[name]
  local ended, message = proxy.async.spawn(program[1], { unpack(program, 2) })
  if not ended then
    return err(message)
  elseif ended.code ~= 0 then
    return err(("%s ended with status %d: %s"):format(name, ended.code, ended.stderr))
  end
  local lines = {}
  for line in ended.stdout:gmatch("[^\n]+") do
    lines[#lines + 1] = { line }
  end
  return rows(name, lines)
end
