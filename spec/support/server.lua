-- Real servers for specs: MariaDB of this Debian, and MySQL 9 from Debian's unstable suite, unpacked beside it. Each
-- runs on a free port of 127.0.0.1 in a folder of its own.
--
-- MYSQL_HOST, MYSQL_PORT, MYSQL_USER and MYSQL_PASSWORD name a server that already runs; then it is the only one.

local uv = require "luv"

local process = require "spec.support.process"

local M = {}

local cache = (os.getenv("XDG_CACHE_HOME") or os.getenv("HOME") .. "/.cache") .. "/mysql-proxy"
local sid = cache .. "/sid"

local Server = {}
Server.__index = Server

-- The programs of the unstable suite run with its own libraries: no chroot, so they see the same files as all others.
local loaders = { x86_64 = "ld-linux-x86-64.so.2", aarch64 = "ld-linux-aarch64.so.1" }
local function sid_program(path)
  local machine = uv.os_uname().machine
  local libraries = ("%s/usr/lib/%s-linux-gnu"):format(sid, machine)
  return ("%s/%s"):format(libraries, assert(loaders[machine], "no MySQL 9 for " .. machine)), {
    "--library-path", libraries .. ":" .. sid .. "/usr/lib/mysql/private", sid .. path,
  }
end

local function append(list, more)
  for _, item in ipairs(more or {}) do
    list[#list + 1] = item
  end
  return list
end

local root = [[
DROP USER IF EXISTS root@'127.0.0.1';
CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY 'root';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
]]

local users = {
  mariadb = [[
CREATE DATABASE IF NOT EXISTS test;
CREATE USER IF NOT EXISTS native@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('secret');
GRANT ALL ON *.* TO native@'%';
CREATE USER IF NOT EXISTS nopass@'%';
GRANT ALL ON *.* TO nopass@'%';
CREATE USER IF NOT EXISTS ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret');
GRANT ALL ON *.* TO ed@'%';
]],
  mysql = [[
CREATE DATABASE IF NOT EXISTS test;
CREATE USER IF NOT EXISTS sha2@'%' IDENTIFIED WITH caching_sha2_password BY 'secret';
GRANT ALL ON *.* TO sha2@'%';
CREATE USER IF NOT EXISTS nopass@'%' IDENTIFIED WITH caching_sha2_password BY '';
GRANT ALL ON *.* TO nopass@'%';
CREATE USER IF NOT EXISTS sha256@'%' IDENTIFIED WITH sha256_password BY 'secret';
GRANT ALL ON *.* TO sha256@'%';
]],
}

local account = "--user=" .. uv.os_get_passwd().username
local common = {
  account, "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-allowed-packet=1G", "--local-infile=1",
  "--max-connections=3000", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M",
  "--performance-schema=off", "--secure-file-priv=",
}

-- What differs between the two.
local flavours = {
  mariadb = {
    program = function()
      return "mariadbd", { "--no-defaults" }
    end,
    options = { "--plugin-load-add=auth_ed25519", "--innodb-log-file-size=64M" },
    install = function(folder, tmpdir)
      return process.run("mariadb-install-db", {
        "--no-defaults", "--datadir=" .. folder, tmpdir, account, "--skip-test-db",
        "--auth-root-authentication-method=normal",
      })
    end,
    client = function(name)
      return name or "mariadb", { "--no-defaults" }
    end,
    account = { user = "native", password = "secret" },
    clear_text = { "--skip-ssl" },
  },
  mysql = {
    program = function()
      local loader, args = sid_program("/usr/sbin/mysqld")
      local share = sid .. "/usr/share/mysql"
      return loader, append(args, {
        "--no-defaults", "--basedir=" .. sid .. "/usr", "--lc-messages-dir=" .. share,
        "--character-sets-dir=" .. share .. "/charsets", "--plugin-dir=" .. sid .. "/usr/lib/mysql/plugin",
      })
    end,
    options = { "--mysqlx=off", "--skip-log-bin" },
    install = function(folder, tmpdir)
      local program, args = M.flavours.mysql.program()
      return process.run(program, append(args, { "--initialize-insecure", account, "--datadir=" .. folder, tmpdir }))
    end,
    client = function(name)
      local loader, args = sid_program("/usr/bin/" .. (name or "mysql"))
      return loader, append(args, { "--no-defaults", "--character-sets-dir=" .. sid .. "/usr/share/mysql/charsets" })
    end,
    account = { user = "sha2", password = "secret" },
    clear_text = { "--get-server-public-key", "--ssl-mode=DISABLED" },
  },
}
M.flavours = flavours

--- Whether MySQL 9 has been unpacked (spec/support/install-mysql does it).
function M.has_mysql()
  return uv.fs_stat(sid .. "/.complete") ~= nil
end

-- Each server has a folder for temporary files of its own: MariaDB removes what it finds there when it starts, also
-- what another one is using.
local function temporary_folder()
  local folder = process.path("tmp")
  assert(uv.fs_mkdir(folder, tonumber("700", 8)))
  return "--tmpdir=" .. folder
end

-- A data folder is made once for each version, and copied.
local function template(flavour)
  local program, args = flavours[flavour].program()
  local _, version = process.run(program, append(args, { "--version" }))
  local folder = ("%s/%s-%s"):format(cache, flavour, (version:match("Ver%s+(%S+)") or "unknown"):gsub("[^%w.]", "_"))
  if not uv.fs_stat(folder) then
    process.run("mkdir", { "-p", cache })
    local fresh = ("%s.%d"):format(folder, uv.os_getpid())
    local code, output, errors = flavours[flavour].install(fresh, temporary_folder())
    assert(code == 0, ("installing a %s data folder failed: %s%s"):format(flavour, output, errors))
    uv.fs_rename(fresh, folder)
    process.run("rm", { "-rf", fresh }) -- if another run was faster
  end
  return folder
end

-- account: a user with all rights; clear_text: options of its client for a login without TLS.
function Server:of_flavour(flavour)
  self.flavour = flavour
  self.account, self.clear_text = flavours[flavour].account, flavours[flavour].clear_text
end

--- Starts a server of its own for the caller.
---@param flavour "mariadb"|"mysql"
---@param options? string[] more options of the server
function M.start(flavour, options)
  local self = setmetatable({ host = "127.0.0.1", user = "root", password = "root" }, Server)
  self:of_flavour(flavour)
  self.port = process.free_port()
  self.datadir = process.path("data")
  self.tmpdir = temporary_folder()
  self.socket = process.path("sock")
  local code, _, errors = process.run("cp", { "-r", template(flavour), self.datadir })
  assert(code == 0, errors)
  os.remove(self.datadir .. "/auto.cnf") -- MySQL's server UUID: servers that replicate must not share one
  self.init_file = process.write_file(process.path("init.sql"), root .. users[flavour])
  self.options = options or {}
  self:start()
  self.version = self:sql("SELECT VERSION()"):match("%S+")
  self.name = flavour .. " " .. self.version
  return self
end

function Server:start()
  local program, args = flavours[self.flavour].program()
  append(append(append(args, common), flavours[self.flavour].options), {
    "--datadir=" .. self.datadir, "--port=" .. self.port, "--socket=" .. self.socket, "--init-file=" .. self.init_file,
    "--pid-file=" .. self.datadir .. "/pid", self.tmpdir,
  })
  self.process = process.start(program, append(args, self.options))
  self.pid = self.process.pid
  local ok = process.wait_until(function()
    return not self.process:running() or process.accepts(self.port)
  end, 60)
  assert(ok and self.process:running(), "the server did not start: " .. self.process:stderr())
  return self
end

function Server:stop(signal)
  if self.process then
    self.process:stop(signal or "sigkill") -- nothing in it is kept
  end
end

function Server:kill(signal)
  self.process:kill(signal)
end

--- The flavour's own command line client, or another program of its clients: program, arguments.
---@param name? string
function Server:client(name)
  return flavours[self.flavour].client(name)
end

--- Arguments of a client that log in at `port`, default the server's own.
function Server:login(port, user, password)
  return { "-h127.0.0.1", "-P" .. (port or self.port), "-u" .. (user or self.user),
    "--password=" .. (password or self.password) }
end

--- Runs statements with the flavour's client, as root, in batch mode without column names.
---@param port? integer where, default directly
---@return string output
function Server:sql(text, port)
  local program, args = self:client()
  append(append(append(args, { "-N", "-B" }), self.clear_text), self:login(port))
  local code, output, errors = process.run(program, append(args, { "-e", text }))
  assert(code == 0, errors)
  return output
end

local shared

--- The servers that integration specs run against, started once in a run.
function M.all()
  if shared then
    return shared
  end
  shared = {}
  if os.getenv("MYSQL_HOST") or os.getenv("MYSQL_PORT") then
    local self = setmetatable({
      host = os.getenv("MYSQL_HOST") or "127.0.0.1",
      port = tonumber(os.getenv("MYSQL_PORT") or 3306),
      user = os.getenv("MYSQL_USER") or "root",
      password = os.getenv("MYSQL_PASSWORD") or "",
    }, Server)
    self:of_flavour("mariadb") -- whose client can ask any server
    self.version = self:sql("SELECT VERSION()"):match("%S+")
    self:of_flavour(self.version:find("MariaDB") and "mariadb" or "mysql")
    self.name = self.flavour .. " " .. self.version
    self:sql(users[self.flavour])
    shared[1] = self
    return shared
  end
  shared[1] = M.start("mariadb")
  if M.has_mysql() then
    shared[2] = M.start("mysql")
  end
  return shared
end

return M
