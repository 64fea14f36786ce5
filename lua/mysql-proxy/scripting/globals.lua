-- What all scripts of a proxy share: proxy.global, the backends, the constants; and Lua's own globals that the
-- interface adds to.

local backends = require "mysql-proxy.scripting.backends"
local constants = require "mysql-proxy.scripting.constants"
local hooks = require "mysql-proxy.hooks"
local logs = require "mysql-proxy.log"
local responses = require "mysql-proxy.scripting.response"

local M = {}

local began = os.time()

-- Modules that set a global of their last name part when they are required, as C modules did.
local SETS_GLOBAL = {
  ["mysql.proto"] = "proto", ["mysql.password"] = "password", ["mysql.tokenizer"] = "tokenizer",
  chassis = "chassis", glib2 = "glib2", posix = "posix", lfs = "lfs", lpeg = "lpeg",
}

local COMPATIBLE = { "glib2", "posix" }

-- What chassis.get_stats() tells.
local function figures_of(proxy)
  local idle, down = 0, 0
  for _, backend in ipairs(proxy.backends) do
    idle = idle + backend.pool:count() + backend.read_only_pool:count()
    down = down + (backend:state_for_scripts() == constants.BACKEND_STATE_DOWN and 1 or 0)
  end
  return {
    chassis = { lua_mem_bytes = math.floor(collectgarbage("count") * 1024), uptime = os.difftime(os.time(), began) },
    proxy = {
      connected_clients = proxy.session_count, backends = #proxy.backends, backends_down = down,
      idle_connections = idle,
    },
  }
end

-- Lua's own `write` would say that the mistake is here.
local function check_texts(...)
  for index = 1, select("#", ...) do
    local kind = type((select(index, ...)))
    if kind ~= "string" and kind ~= "number" then
      error(("bad argument #%d to 'write' (string expected, got %s)"):format(index, kind), 3)
    end
  end
end

-- What a script prints or writes is to be seen while it runs, also what ends no line.
local function show_output()
  local stdout, methods = io.stdout, getmetatable(io.stdout).__index
  stdout:setvbuf("line")
  local write, write_to = io.write, methods.write
  local function flush(...)
    stdout:flush()
    return ...
  end
  rawset(io, "write", function(...)
    check_texts(...)
    return flush(write(...))
  end)
  function methods.write(file, ...)
    check_texts(...)
    return flush(write_to(file, ...))
  end
end

local installed = false

-- `proxy` outside of a script's own file, in a module that it requires for example: that of the session whose function
-- runs.
local function running_view()
  local session = hooks.session()
  return session and session.view or error("there is a `proxy` only while a script's function runs", 3)
end

local everywhere = setmetatable({}, {
  __index = function(_, key)
    return running_view()[key]
  end,
  __newindex = function(_, key, value)
    running_view()[key] = value
  end,
})

-- Once in a process: `require` for scripts, and the constants that the manual says need no `proxy.` before them.
local function install(proxy)
  if installed then
    return
  end
  installed = true
  rawset(_G, "proxy", everywhere)
  show_output()
  for name, value in pairs(constants) do
    if name:find("^PROXY_") then
      rawset(_G, name, value)
    end
  end
  package.preload.chassis = package.preload.chassis or function()
    local chassis = require("mysql-proxy.compatibility.chassis")
    chassis.attach {
      log = proxy.log,
      shutdown = proxy.request_shutdown,
      base_directory = proxy.base_directory,
      stats = function()
        return figures_of(proxy)
      end,
    }
    return chassis
  end
  for _, name in ipairs(COMPATIBLE) do
    package.preload[name] = package.preload[name] or function()
      return require("mysql-proxy.compatibility." .. name)
    end
  end
  local exit = os.exit
  rawset(os, "exit", function(...)
    if hooks.session() then
      error("a script cannot end the proxy: os.exit", 2)
    end
    return exit(...)
  end)
  local original = require
  rawset(_G, "require", function(name)
    local first = package.loaded[name] == nil
    local module = original(name)
    local global = SETS_GLOBAL[name]
    if global and rawget(_G, global) == nil then
      rawset(_G, global, module)
    end
    if first and name == "chassis" then
      module.take_over_print()
    end
    return module
  end)
end

-- proxy.auto-config, once required, gives its methods to every proxy's configuration.
local function config_of(proxy)
  return setmetatable({}, {
    folder = proxy.lua_config_folder, -- of the files that clients may name
    __index = function(_, key)
      local methods = package.loaded["proxy.auto-config"]
      return type(methods) == "table" and methods[key] or nil
    end,
  })
end

-- proxy.log(level, ...): a line of the log, with the session that it is about.
local function log_line(level, ...)
  local session = hooks.session()
  local log = session and session.proxy.log
  if not log or type(log[level]) ~= "function" or not logs.is_level(level) then
    error(("bad argument #1 to 'log' (one of %s expected)"):format(table.concat(logs.LEVELS, ", ")), 2)
  end
  local parts = { ... }
  for index = 1, select("#", ...) do
    parts[index] = tostring(parts[index])
  end
  log:about(session, level, table.concat(parts, "\t"))
end

-- What is looked up when a script asks for it: modules like proxy.commands once required.
local late = {
  __index = function(_, key)
    if key == "tokenize" then
      return require("mysql.tokenizer").tokenize
    elseif key == "async" then
      return require("mysql-proxy.scripting.async")
    elseif key == "response" then
      local session = hooks.session()
      return session and responses.make(session.view)
    end
    return type(key) == "string" and package.loaded["proxy." .. key] or nil
  end,
}

-- What a `proxy` table does not have of its own: one table, so that it takes one look to find a constant.
local function shared_by(proxy)
  local face = backends.new(proxy.backends)
  local shared = setmetatable({ backends = face, servers = face, log = log_line }, late)
  for name, value in pairs(constants) do
    shared[name] = value
  end
  shared.global = { backends = face, config = config_of(proxy) }
  return { __index = shared, __newindex = responses.set }
end

--- The `proxy` table of a new session.
---@param proxy Proxy
function M.view(proxy)
  install(proxy)
  proxy.shared_by_scripts = proxy.shared_by_scripts or shared_by(proxy)
  return setmetatable({ false }, proxy.shared_by_scripts)
end

return M
