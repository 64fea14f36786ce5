-- The admin interface: a MySQL server of its own, whose tables are what the proxy knows of itself.

local password = require "mysql.password"
local process = require "mysql-proxy.process"
local proto = require "mysql.proto"

local M = {}

local MOST_CLIENTS = 200

--- What clients are told that they have connected to: they choose by it what they ask.
M.VERSION = "8.0.11-mysql-proxy-" .. process.version

---@class Admin
---@field proxy Proxy
---@field username string|nil nobody has to say a password without it
---@field native string|nil what a server keeps of the password, for mysql_native_password
---@field sha2 string|nil and for caching_sha2_password
---@field password string|nil for KILL QUERY
---@field script table|nil it answers instead of the tables
---@field sessions table<table, boolean>
---@field count integer
local Admin = {}
Admin.__index = Admin

local function is_loopback(place)
  return place.path or place.ip:find("^127%.") or place.ip == "::1"
end

-- Whether the options make a login, or none.
local function check_credentials(options)
  local username, secret = options.admin_username, options.admin_password
  if options.admin_lua_script or username or secret then
    if not username then
      return nil, "--admin-username needs to be set"
    elseif not secret then
      return nil, "--admin-password needs to be set"
    elseif secret == "" then
      return nil, "--admin-password cannot be empty"
    end
  end
  return true
end

--- Adds the ports of the admin interface to a proxy.
---@param proxy Proxy
---@param options ProxyOptions
---@return Admin|nil
---@return string|nil message
function M.new(proxy, options)
  local ok, message = check_credentials(options)
  if not ok then
    return nil, message
  end
  local username, secret = options.admin_username, options.admin_password
  local self = setmetatable({
    proxy = proxy, version = M.VERSION, username = username, password = secret, sessions = {}, count = 0,
    script = options.admin_lua_script and require("mysql-proxy.admin.script").new(proxy, options.admin_lua_script),
    native = username and password.hash(password.hash(secret)),
    sha2 = username and password.sha256(password.sha256(secret)),
  }, Admin)
  ok, message = proxy:add_ports(options.admin_address, {
    kind = "admin-server",
    option = "admin_address",
    required = options.admin_address_given ~= false,
    passive = not username and "loopback",
    accept = function(client)
      self:accept(client)
    end,
    check = function(address, place)
      if not self.username and not is_loopback(place) then
        return nil, ("--admin-address=%s: without --admin-username and --admin-password the admin interface is only "
          .. "offered on loopback, such as 127.0.0.1:4041, or on a unix socket"):format(address)
      end
      return true
    end,
  })
  if not ok then
    return nil, message
  end
  return self
end

function Admin:accept(client)
  if self.count >= MOST_CLIENTS then
    self.proxy.log:warning(("refused a client of the admin interface: there are %d"):format(self.count))
    client:send(proto.to_err_packet { errcode = 1040, errmsg = "Too many connections", protocol_41 = false }, 0)
    return client:finish()
  end
  self.count = self.count + 1
  require("mysql-proxy.admin.session").new(self, client) -- and all that it needs: see mysql-proxy.late
end

function Admin:session_ended(ended)
  self.sessions[ended] = nil
  self.count = self.count - 1
end

--- Ends all sessions, each after what it is doing.
function Admin:close()
  for open in pairs(self.sessions) do
    open:close_when_idle()
  end
end

return M
