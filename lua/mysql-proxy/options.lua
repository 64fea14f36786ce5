--- The command line and the defaults file: what the options are, and what was given.

local check = require("mysql-proxy.option_checks")
local defaults_file = require("mysql-proxy.defaults_file")
local help = require("mysql-proxy.help")
local readers = require("mysql-proxy.option_values")

local options = {}

local PLUGINS = { "proxy", "admin" }
local FLAGS = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false } -- in the defaults file

-- kind says how the value is read (see option_values.lua), value what --help calls it. A default is a value as it is
-- read; default_help tells of it where the value itself does not, false: the help does. One that is immediate is not
-- looked for in the defaults file.
local OPTIONS = {
  { group = "help", name = "help", shorts = { "h", "?" }, kind = "flag", immediate = true, help = "show this help" },
  { group = "help", name = "help-all", kind = "flag", immediate = true, help = "show all options" },
  { group = "help", name = "help-proxy", kind = "flag", immediate = true,
    help = "show the options for the proxy" },
  { group = "help", name = "help-admin", kind = "flag", immediate = true,
    help = "show the options for the admin interface" },

  { group = "application", name = "version", short = "V", kind = "flag", immediate = true, help = "show the version" },
  { group = "application", name = "check-script", kind = "text", immediate = true, value = "FILE",
    help = "look at a script, and end" },
  { group = "application", name = "check-config", kind = "flag", immediate = true,
    help = "look at all that is given, and end" },
  { group = "application", name = "defaults-file", kind = "text", value = "FILE", immediate = true,
    help = "options in a file, [mysql-proxy]" },
  { group = "application", name = "basedir", kind = "text", value = "DIR",
    help = "relative file names begin here" },
  { group = "application", name = "plugins", kind = "names", value = "NAME", default = PLUGINS,
    help = "what runs" },
  { group = "application", name = "plugin-dir", kind = "text", value = "DIR",
    help = "without effect: plugins are built in" },
  { group = "application", name = "lua-path", kind = "text", value = "PATH", help = "where scripts find modules" },
  { group = "application", name = "lua-cpath", kind = "text", value = "PATH", help = "where they find C modules" },
  { group = "application", name = "daemon", kind = "flag", help = "run in the background" },
  { group = "application", name = "keepalive", kind = "flag", help = "start again if a signal killed it" },
  { group = "application", name = "workers", kind = "integer", value = "N", default = 1, least = 1,
    most = 1000, help = "processes that share the ports" },
  { group = "application", name = "pid-file", kind = "text", value = "FILE", help = "write the process id to FILE" },
  { group = "application", name = "user", kind = "text", value = "NAME",
    help = "become this user when the ports are bound" },
  { group = "application", name = "event-threads", kind = "integer", value = "N", default = 1, least = 1,
    too_small = "--event-threads has to be >= 1, is %s", help = "without effect" },
  { group = "application", name = "max-connections", kind = "integer", value = "N", default = 10000, least = 0,
    help = "clients at a time, 0 = any number" },
  { group = "application", name = "max-open-files", kind = "integer", value = "N", least = 1,
    help = "limit of open files", default_help = "what clients need" },
  { group = "application", name = "shutdown-timeout", kind = "seconds", value = "SEC", default = 5, least = 0,
    help = "for running queries at the end" },
  { group = "application", name = "verbose-shutdown", kind = "flag", help = "log the end at the level critical" },

  { group = "application", name = "metrics-address", kind = "addresses", value = "ADDR", passive = true,
    default_port = false, default = {}, default_help = false, help = "serve metrics here over HTTP, for Prometheus" },

  { group = "log", name = "log-file", kind = "text", value = "FILE", help = "append the log to FILE",
    default_help = "standard error" },
  { group = "log", name = "log-level", kind = "level", value = "LEVEL", default = "critical",
    default_help = false, help = "critical, or error warning message info debug" },
  { group = "log", name = "log-format", kind = "choice", value = "NAME", default = "text",
    choices = { "text", "json" }, help = "text or json" },
  { group = "log", name = "log-use-syslog", kind = "flag", help = "log to syslog" },
  { group = "log", name = "log-backtrace-on-crash", kind = "flag", help = "log where in C a crash was" },
  { group = "log", name = "slow-query-time", kind = "seconds", value = "SEC", least = 0,
    help = "log statements that take so long" },
  { group = "log", name = "slow-query-log", kind = "text", value = "FILE", help = "append these to FILE" },

  { group = "proxy", name = "proxy-address", short = "P", kind = "addresses", value = "ADDR", passive = true,
    default = { "127.0.0.1:4040" }, help = "listen here" },
  { group = "proxy", name = "proxy-read-only-address", kind = "addresses", value = "ADDR", passive = true,
    default = { "127.0.0.1:4042" }, may_be_empty = true, help = "listen here for reading only" },
  { group = "proxy", name = "proxy-backend-addresses", short = "b", kind = "addresses", value = "ADDR",
    default = { "127.0.0.1:3306" }, help = "MySQL servers" },
  { group = "proxy", name = "proxy-read-only-backend-addresses", short = "r", kind = "addresses", value = "ADDR",
    default = {}, default_help = "those of -b", help = "servers for reading only" },
  { group = "proxy", name = "proxy-lua-script", short = "s", kind = "text", value = "FILE",
    help = "call the hooks of this script" },
  { group = "proxy", name = "proxy-lua-config-folder", kind = "text", value = "DIR",
    help = "where clients may save scripts' options", default_help = "nowhere" },
  { group = "proxy", name = "no-proxy", kind = "flag", help = "no proxy: the admin interface alone" },
  { group = "proxy", name = "proxy-skip-profiling", kind = "flag", help = "no statistics of statements" },
  { group = "proxy", name = "statistics-digests", kind = "integer", value = "N", default = 10000, least = 1,
    most = 1000000, help = "statements that statistics are kept of" },
  { group = "proxy", name = "proxy-profiling", kind = "flag", help = "the default, without effect" },
  { group = "proxy", name = "proxy-fix-bug-25371", kind = "flag",
    help = "COM_CHANGE_USER with MySQL 5.1.14 to 5.1.17" },
  { group = "proxy", name = "proxy-pool-no-change-user", kind = "flag",
    help = "don't log in anew on a pooled connection" },
  { group = "proxy", name = "proxy-hook-timeout", kind = "seconds", value = "SEC", default = 60,
    help = "seconds that a hook may wait" },
  { group = "proxy", name = "proxy-command-limit", kind = "integer", value = "BYTES", default = 67108864, least = 1,
    help = "longest statement that is looked at" },
  { group = "proxy", name = "proxy-answer-limit", kind = "integer", value = "BYTES", default = 67108864, least = 1,
    help = "longest answer a script may ask for" },
  { group = "proxy", name = "proxy-connect-timeout", kind = "seconds", value = "SEC", default = 2,
    help = "seconds for a server to accept a connection" },
  { group = "proxy", name = "proxy-read-timeout", kind = "seconds", value = "SEC", default = 28800,
    help = "seconds that a connection may be silent" },
  { group = "proxy", name = "proxy-write-timeout", kind = "seconds", value = "SEC", default = 28800,
    help = "seconds that a peer may take no data" },

  { group = "admin", name = "admin-address", kind = "addresses", value = "ADDR", passive = true,
    default = { "127.0.0.1:4041" }, help = "listen here" },
  { group = "admin", name = "admin-username", kind = "text", value = "NAME", help = "who may log in",
    default_help = "anybody" },
  { group = "admin", name = "admin-password", kind = "password", value = "TEXT", secret = true,
    help = "and with which password" },
  { group = "admin", name = "admin-lua-script", kind = "text", value = "FILE",
    help = "a script that answers instead" },
}

local BY_LONG_NAME, BY_SHORT_NAME = {}, {}
for _, option in ipairs(OPTIONS) do
  option.key = option.name:gsub("-", "_")
  BY_LONG_NAME[option.name] = option
  option.shorts = option.shorts or { option.short }
  for _, short in ipairs(option.shorts) do
    BY_SHORT_NAME[short] = option
  end
end

-- Finds out which option an argument names, and where in it the value begins, if it is there.
local function identify(argument)
  local name, after = argument:match("^%-%-([^=]+)()")
  if name then
    return BY_LONG_NAME[name], after <= #argument and after + 1 or nil
  end
  return BY_SHORT_NAME[argument:match("^%-([%w?])")], #argument > 2 and 3 or nil
end

-- Takes the option that begins at argv[index] into `given`. -> index of the next argument | nil, message
local function take(argv, index, given, hide)
  local argument = argv[index]
  if argument:sub(1, 1) ~= "-" or argument == "-" then
    return nil, ("unknown option: %s"):format(argument)
  end
  local option, from = identify(argument)
  if not option or (option.kind == "flag" and from) then
    return nil, ("Unknown option %s (use --help to show all options)"):format(argument)
  end
  if option.kind == "flag" then
    given[option.key] = true
    return index + 1
  end
  if not from then
    index, from = index + 1, 1
    if not argv[index] then
      return nil, ("Missing argument for --%s"):format(option.name)
    end
  end
  if option.secret and hide then
    hide(index, from)
  end
  local err
  given[option.key], err = readers[option.kind](option, argv[index]:sub(from), given[option.key])
  if err then
    return nil, err
  end
  return index + 1
end

local function read_from_file(option, text)
  if option.kind == "flag" then
    return FLAGS[text]
  end
  return readers[option.kind](option, text)
end

-- Adds what the defaults file says to what the command line says.
local function add_file(path, given)
  local texts, lines = defaults_file.read(path)
  if not texts then
    return nil, lines
  end
  local names = {}
  for name in pairs(texts) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local option = BY_LONG_NAME[name]
    if not option then
      table.insert(given.warnings, ("%s: there is no option %s"):format(path, name))
    elseif not option.immediate and given[option.key] == nil then
      local value, err = read_from_file(option, texts[name])
      if value == nil and (option.kind == "flag" or option.kind == "integer" and not tonumber(texts[name])) then
        err = ("Key file contains key “%s” which has a value that cannot be interpreted."):format(name)
      end
      if err then
        return nil, ("line %d: %s"):format(lines[name], err)
      end
      given[option.key] = value or nil
    end
  end
  return true
end

local function copy(default)
  if type(default) ~= "table" then
    return default
  end
  return { unpack(default) }
end

-- What was given becomes what is to be done.
local function complete(given)
  given.proxy_read_only_address_given = given.proxy_read_only_address ~= nil
  given.admin_address_given = given.admin_address ~= nil
  for _, option in ipairs(OPTIONS) do
    if given[option.key] == nil then
      given[option.key] = copy(option.default)
    end
  end
  local plugins = {}
  for _, name in ipairs(given.plugins) do
    plugins[name] = true
  end
  if given.no_proxy then
    plugins.proxy = nil
  end
  if not plugins.proxy then
    given.proxy_address, given.proxy_read_only_address = {}, {}
  end
  given.plugins = plugins
  return given
end

--- Reads a command line, and the defaults file that it names.
---@param argv string[] without the program's name
---@param hide? fun(index: integer, from: integer) called for values that a process list must not show: which argument,
---       and at which byte the value begins
---@return table? values by option name, with underscores for hyphens: flags are true or nil, times are seconds,
---        addresses are lists of texts that mysql-proxy.address can parse; proxy_read_only_address_given and
---        admin_address_given tell whether these are the user's or the default; plugins is a set of names; warnings
---        are texts for the log
---@return string? message the first mistake. If help or the version was asked for, there is none.
function options.parse(argv, hide)
  local given, mistake = {}, nil
  local index = 1
  while argv[index] do
    local next_index, err = take(argv, index, given, hide)
    mistake = mistake or err
    index = next_index or index + 1
  end
  if given.help or given.help_all or given.help_proxy or given.help_admin or given.version then
    return given
  end
  given.warnings = {}
  local ok = not mistake
  if ok and given.defaults_file then
    ok, mistake = add_file(given.defaults_file, given)
    mistake = mistake and ("loading config from '%s' failed: %s"):format(given.defaults_file, mistake)
  end
  if ok then
    ok, mistake = check(given)
  end
  if not ok then
    return nil, mistake
  end
  return complete(given)
end

--- The names of all options, as on the command line.
---@return string[]
function options.names()
  local names = {}
  for index, option in ipairs(OPTIONS) do
    names[index] = option.name
  end
  return names
end

--- What --help and its variants print.
---@param group "help"|"all"|"proxy"|"admin" which of them
---@return string
function options.help(group)
  return help(OPTIONS, group)
end

return options
