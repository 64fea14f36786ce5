--- The command line: what the options are, how their values are read, what --help says.

local address = require("mysql-proxy.address")
local log = require("mysql-proxy.log")

local options = {}

local MOST = 2147483647 -- of integers and seconds
local HELP_COLUMN = 28 -- where the texts of --help begin

-- In the order of --help.
local GROUPS = {
  { name = "help", title = "Help Options" },
  { name = "application", title = "Application Options" },
  { name = "proxy", title = "Options for the proxy (--help-proxy)" },
  { name = "admin", title = "Options for the admin interface (--help-admin)" },
}

-- kind says how the value is read (see `readers`), value what --help calls it. A default is a value as it is read;
-- default_help tells of it where the value itself does not.
local OPTIONS = {
  { group = "help", name = "help", short = "h", kind = "flag", help = "show this help" },
  { group = "help", name = "help-all", kind = "flag", help = "show all options" },
  { group = "help", name = "help-proxy", kind = "flag", help = "show the options for the proxy" },
  { group = "help", name = "help-admin", kind = "flag", help = "show the options for the admin interface" },

  { group = "application", name = "version", short = "V", kind = "flag", help = "show the version" },
  { group = "application", name = "check-script", kind = "text", value = "FILE",
    help = "look at a script, and end" },
  { group = "application", name = "lua-path", kind = "text", value = "PATH", help = "where scripts find modules" },
  { group = "application", name = "lua-cpath", kind = "text", value = "PATH", help = "where they find C modules" },
  { group = "application", name = "daemon", kind = "flag", help = "run in the background" },
  { group = "application", name = "pid-file", kind = "text", value = "FILE", help = "write the process id to FILE" },
  { group = "application", name = "user", kind = "text", value = "NAME",
    help = "become this user when the ports are bound" },
  { group = "application", name = "log-file", kind = "text", value = "FILE", help = "append the log to FILE",
    default_help = "standard error" },
  { group = "application", name = "log-level", kind = "level", value = "LEVEL", default = "critical",
    help = "error critical warning message info debug" },
  { group = "application", name = "shutdown-timeout", kind = "seconds", value = "SEC", default = 5, least = 0,
    help = "seconds for running queries when told to stop" },
  { group = "application", name = "max-connections", kind = "integer", value = "N", default = 10000, least = 0,
    help = "clients at a time, 0 = any number" },
  { group = "application", name = "max-open-files", kind = "integer", value = "N", least = 1,
    help = "limit of open files", default_help = "what the clients need" },

  { group = "proxy", name = "proxy-address", short = "P", kind = "addresses", value = "ADDR", passive = true,
    default = { "127.0.0.1:4040" }, help = "listen here" },
  { group = "proxy", name = "proxy-read-only-address", kind = "addresses", value = "ADDR", passive = true,
    default = { "127.0.0.1:4042" }, help = "listen here for reading only" },
  { group = "proxy", name = "proxy-backend-addresses", short = "b", kind = "addresses", value = "ADDR",
    default = { "127.0.0.1:3306" }, help = "MySQL servers" },
  { group = "proxy", name = "proxy-read-only-backend-addresses", short = "r", kind = "addresses", value = "ADDR",
    default = {}, default_help = "those of -b", help = "servers for reading only" },
  { group = "proxy", name = "proxy-lua-script", short = "s", kind = "text", value = "FILE",
    help = "call the hooks of this script" },
  { group = "proxy", name = "proxy-lua-config-folder", kind = "text", value = "DIR",
    help = "where clients may save scripts' options", default_help = "nowhere" },
  { group = "proxy", name = "proxy-pool-no-change-user", kind = "flag",
    help = "don't log in anew on a pooled connection" },
  { group = "proxy", name = "proxy-hook-timeout", kind = "seconds", value = "SEC", default = 60,
    help = "seconds that a hook may wait" },
  { group = "proxy", name = "proxy-answer-limit", kind = "integer", value = "BYTES", default = 67108864, least = 1,
    help = "longest answer that a script may ask for" },
  { group = "proxy", name = "proxy-connect-timeout", kind = "seconds", value = "SEC", default = 2,
    help = "seconds for a server to accept a connection" },
  { group = "proxy", name = "proxy-read-timeout", kind = "seconds", value = "SEC", default = 28800,
    help = "seconds that a connection may be silent" },
  { group = "proxy", name = "proxy-write-timeout", kind = "seconds", value = "SEC", default = 28800,
    help = "seconds that a peer may take no data" },
}

local BY_LONG_NAME, BY_SHORT_NAME = {}, {}
for _, option in ipairs(OPTIONS) do
  option.key = option.name:gsub("-", "_")
  BY_LONG_NAME[option.name] = option
  if option.short then
    BY_SHORT_NAME[option.short] = option
  end
end

-- kind -> function(option, text, what the option has so far) -> value | nil, message
local readers = {}

function readers.text(option, text)
  if text == "" then
    return nil, ("--%s must not be empty"):format(option.name)
  end
  return text
end

function readers.level(_, text)
  for _, level in ipairs(log.LEVELS) do
    if level == text then
      return text
    end
  end
  return nil, ("--log-level=... failed, level '%s' is unknown (one of %s expected)")
    :format(text, table.concat(log.LEVELS, ", "))
end

local function in_range(option, text, number)
  if number < option.least or number > MOST then
    return nil, ("value %s for --%s is out of range: %d ... %d"):format(text, option.name, option.least, MOST)
  end
  return number
end

function readers.integer(option, text)
  if not text:find("^-?%d+$") then
    return nil, ("Cannot parse integer value “%s” for --%s"):format(text, option.name)
  end
  return in_range(option, text, tonumber(text))
end

function readers.seconds(option, text)
  if not (text:find("^-?%d+%.?%d*$") or text:find("^-?%.%d+$")) then
    return nil, ("Cannot parse value “%s” for --%s: a number of seconds expected"):format(text, option.name)
  end
  local seconds = tonumber(text)
  if not option.least and seconds <= 0 then
    return nil, ("value %s for --%s must be positive"):format(text, option.name)
  end
  return in_range({ name = option.name, least = option.least or 0 }, text, seconds)
end

-- A comma separated list, which adds to what the option got before.
function readers.addresses(option, text, addresses)
  addresses = addresses or {}
  for part in (text .. ","):gmatch("([^,]*),") do
    part = part:match("^%s*(.-)%s*$")
    local parsed, err = address.parse(part, nil, option.passive)
    if not parsed then
      return nil, ("%s (--%s)"):format(err, option.name)
    end
    addresses[#addresses + 1] = part
  end
  return addresses
end

-- Finds out which option an argument names, and the value that is in the same argument.
local function identify(argument)
  local name, equals, value = argument:match("^%-%-([^=]+)(=?)(.*)$")
  if name then
    return BY_LONG_NAME[name], equals == "=" and value or nil
  end
  local short, attached = argument:match("^%-(%w)(.*)$")
  return BY_SHORT_NAME[short], attached ~= "" and attached or nil
end

-- Takes the option that begins at argv[index] into `given`. -> index of the next argument | nil, message
local function take(argv, index, given)
  local argument = argv[index]
  if argument:sub(1, 1) ~= "-" or argument == "-" then
    return nil, ("unknown option: %s"):format(argument)
  end
  local option, value = identify(argument)
  if not option or (option.kind == "flag" and value) then
    return nil, ("Unknown option %s (use --help to show all options)"):format(argument)
  end
  if option.kind == "flag" then
    given[option.key] = true
    return index + 1
  end
  if not value then
    index = index + 1
    value = argv[index]
    if not value then
      return nil, ("Missing argument for --%s"):format(option.name)
    end
  end
  local err
  given[option.key], err = readers[option.kind](option, value, given[option.key])
  if err then
    return nil, err
  end
  return index + 1
end

-- The same server twice is a mistake. (Other names are not looked up for this.)
local function check_backends(given)
  local known = {}
  for _, key in ipairs({ "proxy_backend_addresses", "proxy_read_only_backend_addresses" }) do
    for _, text in ipairs(given[key] or {}) do
      local parsed = address.parse(text)
      local host = parsed.host and parsed.host:lower()
      local identity = parsed.path or ("%s:%d"):format(host == "localhost" and "127.0.0.1" or host, parsed.port)
      if known[identity] then
        return nil, ("backend %s is already known!"):format(text)
      end
      known[identity] = true
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

--- Reads a command line.
---@param argv string[] without the program's name
---@return table? values by option name, with underscores for hyphens: flags are true or nil, times are seconds,
---        addresses are lists of texts that mysql-proxy.address can parse; proxy_read_only_address_given tells whether
---        that one is the user's or the default
---@return string? message the first mistake. If help or the version was asked for, there is none.
function options.parse(argv)
  local given, mistake = {}, nil
  local index = 1
  while argv[index] do
    local next_index, err = take(argv, index, given)
    mistake = mistake or err
    index = next_index or index + 1
  end
  if given.help or given.help_all or given.help_proxy or given.help_admin or given.version then
    return given
  end
  if not mistake then
    local _
    _, mistake = check_backends(given)
  end
  if mistake then
    return nil, mistake
  end

  given.proxy_read_only_address_given = given.proxy_read_only_address ~= nil
  for _, option in ipairs(OPTIONS) do
    if given[option.key] == nil then
      given[option.key] = copy(option.default)
    end
  end
  return given
end

local function describe(option)
  local left = ("  %s --%s"):format(option.short and "-" .. option.short .. "," or "   ", option.name)
  if option.value then
    left = left .. "=" .. option.value
  end
  local default = option.default_help
  if not default and option.default ~= nil then
    default = type(option.default) == "table" and table.concat(option.default, ",") or tostring(option.default)
  end
  local right = option.help .. (default and (" [%s]"):format(default) or "")
  if #left > HELP_COLUMN - 2 then
    return ("%s\n%s%s"):format(left, (" "):rep(HELP_COLUMN), right)
  end
  return left .. (" "):rep(HELP_COLUMN - #left) .. right
end

--- What --help and its variants print.
---@param group "help"|"all"|"proxy"|"admin" which of them
---@return string
function options.help(group)
  local wanted = {
    help = { help = true, application = true },
    all = { help = true, application = true, proxy = true, admin = true },
    proxy = { proxy = true },
    admin = { admin = true },
  }
  local lines = { "Usage:", "  mysql-proxy [OPTION...]" }
  for _, shown in ipairs(GROUPS) do
    if wanted[group][shown.name] then
      lines[#lines + 1] = ""
      lines[#lines + 1] = shown.title .. ":"
      local count = #lines
      for _, option in ipairs(OPTIONS) do
        if option.group == shown.name then
          lines[#lines + 1] = describe(option)
        end
      end
      if #lines == count then
        lines[#lines + 1] = "  There are none yet."
      end
      if shown.name == "proxy" then
        lines[#lines + 1] = "  ADDR is host:port, host (port 3306), :port, [IPv6]:port or /path/of/a/socket."
        lines[#lines + 1] = "  For several, repeat the option or separate them by commas."
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

return options
