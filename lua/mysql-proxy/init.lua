-- The public API:
--
--   local mysql_proxy = require "mysql-proxy"
--   local proxy = assert(mysql_proxy.new { proxy_address = { "127.0.0.1:4040" },
--                                          proxy_backend_addresses = { "127.0.0.1:3306" } })
--   proxy:listen(function(ok, message) ... end)
--   require("luv").run()
--
-- It runs on luv's loop, beside whatever else a program does there. The host binary uses nothing else.

local proto = require "mysql.proto"
local stream = require "mysql.stream"
local uv = require "luv"

local address = require "mysql-proxy.address"
local alone = require "mysql-proxy.alone"
local backends = require "mysql-proxy.backends"
local logs = require "mysql-proxy.log"
local recent_errors = require "mysql-proxy.recent_errors"
local read_only_port = require "mysql-proxy.read_only_port"
local session = require "mysql-proxy.session"
local slow_log = require "mysql-proxy.slow_log"
local statistics = require "mysql-proxy.statistics"

local BACKLOG = 1024
local TOO_MANY = { errcode = 1040, errmsg = "Too many connections", protocol_41 = false }

---@class ProxyOptions
---@field proxy_address? (string|integer)[] where clients connect; default 127.0.0.1:4040. An integer is a descriptor of
---  a socket that listens already; so it is with the other two
---@field proxy_backend_addresses? string[] the servers; default 127.0.0.1:3306
---@field proxy_read_only_address? string[] where clients connect who may only read; default none
---@field proxy_read_only_address_given? boolean false: if that address is in use the proxy does without
---@field proxy_read_only_backend_addresses? string[] the servers of those clients; default the others
---@field metrics_address? string[] where Prometheus and health checks ask, host:port; default none
---@field proxy_connect_timeout? number seconds until a server counts as down; default 2
---@field proxy_read_timeout? number seconds that a session may be idle; default 28800
---@field proxy_write_timeout? number seconds that a side may take no byte; default 28800
---@field proxy_lua_script? string a script's file: its hooks are called for every client
---@field proxy_lua_config_folder? string of the files that clients may save and load options of scripts in
---@field basedir? string the log names files of scripts as they are seen from there
---@field proxy_hook_timeout? number seconds that a hook may wait; default 60
---@field proxy_fix_bug_25371? boolean a client's COM_CHANGE_USER goes to servers of 5.1.14 to 5.1.17 too
---@field proxy_pool_no_change_user? boolean a client on a pooled connection is not logged in anew
---@field proxy_skip_profiling? boolean no statistics of statements
---@field slow_query_log? string a file for statements that take long; not with proxy_skip_profiling
---@field slow_query_time? number how many seconds that is; default 10
---@field statistics_digests? integer statements that statistics are kept of; default 10000
---@field login_timeout? number seconds between two packets of a login; default 10
---@field login_packet_limit? integer bytes that a packet of a login may have; default 262144
---@field proxy_command_limit? integer bytes that a command may have which is looked at in Lua; default 64 MiB, as
---  much as MySQL's max_allowed_packet
---@field proxy_answer_limit? integer bytes that an answer may have which a script wants to see; default 64 MiB
---@field max_connections? integer clients at once, 0 for any number; default 10000
---@field admin_address? string[] where operators connect; default none
---@field admin_address_given? boolean false: if that address is in use the proxy does without
---@field admin_username? string who may; without it anybody, but on loopback or a unix socket only
---@field admin_password? string
---@field admin_lua_script? string a script whose read_query answers operators, instead of the built-in tables
---@field plugins? table<string, boolean> without "admin" there is no admin interface, whatever its address
---@field inherited_sockets? table<string, integer[]> listening sockets that this process was started with: their
---  descriptors by the address as it stands in the options. They are taken out of the table
---@field idle_ports? boolean the ports of clients accept nobody: they are for other processes, which inherit them
---@field log? table as mysql-proxy.log makes it; default critical lines on standard error

---@class Proxy
---@field backends Backends
---@field session_count integer
---@field profiling boolean whether new sessions are counted in
---@field statistics Statistics
---@field slow_log SlowLog|nil
---@field slow_query_time number|nil seconds from which on a command of a new session is written there; nil without one
---@field processes Processes all that it consists of
---@field worker integer|nil its number, if it is one of several (--workers)
---@field request_shutdown fun()? what SHUTDOWN does, in a program that ends otherwise than with shutdown()
---@field request_restart fun(done: fun(ok: true?, message: string?))? what RESTART does
---@field read_options (fun(): table?, string[]|string)? what RELOAD reads, as mysql-proxy.reread has it
---@field leaves_socket_files boolean? unix sockets stay when it closes: another process listens there
local Proxy = {}
Proxy.__index = Proxy

-- The hooks that a stream's events lead to, in the command phase; the login's note themselves in their session.
local CALLED_IN = {
  on_connection = "connect_server", on_command = "read_query", on_answer = "read_query_result",
  on_local_infile = "read_query_result", on_relay_end = "disconnect_client",
}

local Port = {} -- a listening port; owner of its listening stream
Port.__index = Port

function Port:__tostring()
  return ("%s port %s"):format(self.kind, self.address)
end

local M = {}

-- What has happened since the start. What is in the relays of open sessions comes on top.
local function new_totals()
  return {
    commands = 0, from_clients = 0, from_servers = 0, -- of sessions that have ended
    connections = 0, most_sessions = 0,
    refused = {}, -- clients, by the option that limits them
    login_failures = 0, read_only_refusals = 0,
    script_load_failures = 0, hook_errors = {}, -- by hook
  }
end

local function default(value, otherwise)
  if value == nil then
    return otherwise
  end
  return value
end

--- A proxy that does not listen yet.
---@param options ProxyOptions
---@return Proxy|nil, string|nil message
function M.new(options)
  local self = setmetatable({
    log = options.log or logs.new({}),
    connect_timeout = default(options.proxy_connect_timeout, 2),
    login_timeout = default(options.login_timeout, 10),
    login_packet_limit = default(options.login_packet_limit, 256 * 1024),
    max_connections = default(options.max_connections, 10000),
    relay_options = {
      read_timeout = default(options.proxy_read_timeout, 28800),
      write_timeout = default(options.proxy_write_timeout, 28800),
      command_limit = default(options.proxy_command_limit, 64 * 1024 * 1024),
      answer_limit = default(options.proxy_answer_limit, 64 * 1024 * 1024),
    },
    base_directory = options.basedir,
    options = options,
    recent_errors = recent_errors.new(),
    started_at = os.time(),
    totals = new_totals(),
    lua_config_folder = options.proxy_lua_config_folder,
    hook_timeout = default(options.proxy_hook_timeout, 60),
    fix_bug_25371 = options.proxy_fix_bug_25371,
    pool_no_change_user = options.proxy_pool_no_change_user,
    statistics = statistics.new(options.statistics_digests),
    slow_query_time = options.slow_query_log and default(options.slow_query_time, 10),
    inherited_sockets = options.inherited_sockets or {},
    idle_ports = options.idle_ports,
    sessions = {},
    session_count = 0,
    listeners = {},
    ports = {},
  }, Proxy)
  self.processes = alone.new(self)
  self:use_script(options.proxy_lua_script)
  self:set_profiling(not options.proxy_skip_profiling)
  stream.on_error(function(trace)
    self.log:critical("error in a callback", trace)
  end)
  stream.on_slow(function(owner, seconds, method)
    self.log:critical(("%s: slow hook: %s held up all sessions for %.2f seconds"):format(
      tostring(owner), CALLED_IN[method] or owner.hook or method, seconds))
  end)

  self.backends = backends.new(self.log)
  for _, text in ipairs(options.proxy_backend_addresses or { "127.0.0.1:3306" }) do
    local ok, message = self.backends:add(text, backends.READ_WRITE)
    if not ok then
      return nil, message
    end
  end
  for _, text in ipairs(options.proxy_read_only_backend_addresses or {}) do
    local ok, message = self.backends:add(text, backends.READ_ONLY)
    if not ok then
      return nil, message
    end
  end

  local ok, message = self:add_ports(options.proxy_address or { "127.0.0.1:4040" }, {
    kind = "proxy", option = "proxy_address", required = true, backend_type = backends.READ_WRITE,
  })
  if ok then
    ok, message = self:add_ports(options.proxy_read_only_address or {}, {
      kind = "read-only proxy",
      option = "proxy_read_only_address",
      required = options.proxy_read_only_address_given ~= false,
      backend_type = backends.READ_ONLY,
      hooks = read_only_port,
    })
  end
  if ok and #(options.metrics_address or {}) > 0 then
    ok, message = self:add_ports(options.metrics_address, {
      kind = "metrics", required = true, default_port = false, open = require("mysql-proxy.metrics").open,
    })
  end
  local with_admin = not options.plugins or options.plugins.admin
  if ok and with_admin and #(options.admin_address or {}) > 0 then
    self.admin, message = require("mysql-proxy.admin").new(self, options)
    ok = self.admin
  end
  if not ok then
    return nil, message
  end
  return self
end

--- Whether sessions that begin are counted in the statistics from now on.
---@param profiling boolean
function Proxy:set_profiling(profiling)
  self.profiling = profiling
  stream.time_calls(profiling)
end

--- From now on new sessions have this script.
---@param path string|nil nil: none
function Proxy:use_script(path)
  self.lua_script = path
  self.scripting = self.scripting or path and require("mysql-proxy.scripting")
end

function Proxy:add_ports(texts, template)
  for _, text in ipairs(texts) do
    local parsed, message
    if type(text) == "string" then
      parsed, message = address.parse(text, template.default_port, template.passive or true)
      if not parsed then
        return nil, message
      end
    end
    self.ports[#self.ports + 1] = setmetatable({
      proxy = self,
      address = parsed and text or "descriptor " .. text,
      parsed = parsed,
      descriptor = not parsed and text or nil,
      kind = template.kind,
      option = template.option,
      required = template.required,
      backend_type = template.backend_type,
      hooks = template.hooks,
      accept = template.accept,
      check = template.check,
      open = template.open, -- instead of the method
    }, Port)
  end
  return true
end

-- -> true | nil, message
function Proxy:open_slow_log()
  local options = self.options
  if not options.slow_query_log then
    return true
  end
  local message
  self.slow_log, message = slow_log.new(options.slow_query_log, self.log)
  if not self.slow_log then
    return nil, message
  elseif self.idle_ports then
    self.slow_log:close() -- it is there, as whoever may make it wants it; others write it
  end
  return true
end

--- Opens all ports, or none, and the slow log.
---@param callback fun(ok: true|nil, message: string|nil)
function Proxy:listen(callback)
  local index = 0
  local opened, problem = self:open_slow_log()
  if not opened then
    return callback(nil, problem)
  end
  local function next_port()
    index = index + 1
    local port = self.ports[index]
    if not port then
      return callback(true)
    end
    port:listen(function(ok, message)
      if not ok and port.required then
        self:close()
        return callback(nil, message)
      elseif not ok then
        self.log:critical(message .. "; going on without the " .. port.kind .. " port") -- seen at the default level
      end
      next_port()
    end)
  end
  next_port()
end

-- Whether the port may be there. -> true | nil, message
function Port:may_listen(place)
  if not self.check then
    return true
  end
  local ok, message = self.check(self.address, place)
  self.required = self.required or not ok -- not to be overlooked
  return ok, message
end

-- path: of a socket whose file is the proxy's
function Port:opened(listener, path)
  self.listening = true
  table.insert(self.proxy.listeners, { stream = listener, port = self, path = path })
  self.proxy.log:message(("%s listening on port %s"):format(self.kind, (listener:address("local"))))
end

-- On sockets that were made by somebody else.
function Port:take_over(descriptors, callback)
  for _, descriptor in ipairs(descriptors) do
    local listener, message = self:open({ descriptor = descriptor })
    if not listener then
      return callback(nil, ("listening on %s failed: %s"):format(self.address, message))
    end
    local place = address.parse(listener:address("local") or "/", nil, true) or {}
    local ok, problem = self:may_listen({ path = place.path, ip = place.host })
    if not ok then
      listener:close()
      return callback(nil, problem)
    end
    self:opened(listener, self.parsed and self.parsed.path)
  end
  callback(true)
end

-- Others are for operators, and of one process alone.
function Port:is_for_clients()
  return self.backend_type ~= nil
end

-- place: of address.resolve, or { descriptor = a socket that was made by somebody else }
function Port:open(place)
  local idle = self.proxy.idle_ports and self:is_for_clients()
  if place.descriptor then
    return stream.listen_on(self, place.descriptor, BACKLOG, idle)
  end
  return stream.listen(self, place.path or place.ip, place.port, BACKLOG, idle)
end

function Port:listen(callback)
  local descriptors = self.descriptor and { self.descriptor } or self.proxy.inherited_sockets[self.address]
  if descriptors then
    self.proxy.inherited_sockets[self.address] = nil
    return self:take_over(descriptors, callback)
  end
  address.resolve(self.parsed, function(failure, places)
    if failure then
      return callback(nil, ("cannot resolve %s: %s"):format(self.address, failure))
    end
    for _, place in ipairs(places) do
      local allowed, problem = self:may_listen(place)
      if not allowed then
        return callback(nil, problem)
      end
    end
    for _, place in ipairs(places) do
      local listener, message, code = self:open(place)
      if not listener then
        local reason = code == "EADDRINUSE" and "Address already in use (98)" or message
        return callback(nil, ("bind(%s) failed: %s"):format(self.address, reason))
      end
      self:opened(listener, place.path)
    end
    callback(true)
  end)
end

local function refuse(proxy, client, reason)
  local refused = proxy.totals.refused
  refused[reason] = (refused[reason] or 0) + 1
  client:send(proto.to_err_packet(TOO_MANY), 0)
end

function Port:on_connection(_, client, last)
  local proxy = self.proxy
  if last then
    proxy.log:critical("refused a client: no file descriptor is left (--max-open-files)")
    refuse(proxy, client, "max-open-files")
    return client:close()
  elseif self.accept then
    return self.accept(client)
  end
  if proxy.max_connections > 0 and proxy.session_count >= proxy.max_connections then
    proxy.log:warning(("refused a client: max-connections is %d"):format(proxy.max_connections))
    proxy.recent_errors:add({ client_name = client:address("peer") }, TOO_MANY)
    refuse(proxy, client, "max-connections")
    return client:finish()
  end
  local totals = proxy.totals
  proxy.session_count = proxy.session_count + 1
  totals.connections = totals.connections + 1
  totals.most_sessions = math.max(totals.most_sessions, proxy.session_count)
  local new = session.new(proxy, self, client)
  if new.state ~= "close" then
    proxy.sessions[new] = true
  end
end

function Proxy:session_ended(ended)
  self.sessions[ended] = nil
  self.session_count = self.session_count - 1
  local totals = self.totals
  if ended.relay then
    local commands, from_client, from_server = ended.relay:counters()
    totals.commands = totals.commands + commands
    totals.from_clients, totals.from_servers = totals.from_clients + from_client, totals.from_servers + from_server
  elseif ended.login then
    totals.login_failures = totals.login_failures + 1
  end
  if self.session_count == 0 and self.on_idle then
    self.on_idle()
  end
end

--- The listening sockets, for processes that are to inherit them.
---@param for_clients? boolean only those
---@return { descriptor: integer, address: string|nil, option: string|nil }[] address: as it stands in the options;
---  option: which one a descriptor stood in
function Proxy:sockets(for_clients)
  local sockets = {}
  for _, listener in ipairs(self.listeners) do
    local port = listener.port
    if port:is_for_clients() or not for_clients then
      sockets[#sockets + 1] = {
        descriptor = assert(listener.stream:descriptor()),
        address = not port.descriptor and port.address or nil,
        option = port.descriptor and port.option,
      }
    end
  end
  return sockets
end

function Proxy:stop_listening()
  for _, listener in ipairs(self.listeners) do
    if listener.path and not self.leaves_socket_files then
      os.remove(listener.path)
    end
    listener.stream:close()
  end
  self.listeners = {}
end

--- Stops listening: another process goes on at the same sockets. Clients that are here may stay as long as they like.
---@param callback fun() when the last has left
function Proxy:hand_over(callback)
  self.leaves_socket_files = true
  self:stop_listening()
  self.on_idle = function()
    self.on_idle = nil
    callback()
  end
  if self.session_count == 0 then
    self.on_idle()
  end
end

--- Stops listening, lets running commands end, then closes all.
---@param seconds number how long they may take
---@param callback fun() when no session is left
function Proxy:shutdown(seconds, callback)
  self:stop_listening()
  self.shutting_down = true
  local timer = uv.new_timer()
  self.on_idle = function()
    self.on_idle = nil
    timer:close()
    callback()
  end
  timer:start(math.floor(seconds * 1000), 0, self.log:guard(function()
    self:close()
  end))
  for open in pairs(self.sessions) do
    open:close_when_idle()
  end
  if self.admin then
    self.admin:close()
  end
  if self.session_count == 0 and self.on_idle then
    self.on_idle()
  end
end

--- Closes all ports and sessions at once.
function Proxy:close()
  self:stop_listening()
  for open in pairs(self.sessions) do
    open:close("the proxy closes")
  end
  if self.admin then
    self.admin:close()
  end
  if self.slow_log then
    self.slow_log:close()
  end
end

return M
