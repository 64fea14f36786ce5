--- What is wrong with options that are right each by itself.

local address = require("mysql-proxy.address")

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

local function check_basedir(given)
  if given.basedir and given.basedir:sub(1, 1) ~= "/" then
    return nil, ("--basedir option must be an absolute path, but was %s"):format(given.basedir)
  end
  return true
end

local function check_log(given)
  if given.log_file and given.log_use_syslog then
    return nil, "log-file and log-use-syslog were given, but only one is allowed"
  end
  return true
end

local function check_slow_log(given)
  if (given.slow_query_time ~= nil) ~= (given.slow_query_log ~= nil) then
    return nil, "--slow-query-time and --slow-query-log need each other: which statements, and where to"
  elseif given.slow_query_time and given.proxy_skip_profiling then
    return nil, "--slow-query-time needs what --proxy-skip-profiling leaves out"
  end
  return true
end

local function check_plugins(given)
  local built_in, admin = { proxy = true, admin = true }, not given.plugins
  for _, name in ipairs(given.plugins or {}) do
    admin = admin or name == "admin"
    if not built_in[name] then
      return nil, ("loading module '%s' failed: only proxy and admin are built in; %s"):format(name,
        "setting --plugin-dir=<dir> might help")
    end
  end
  if given.no_proxy and not admin then
    return nil, "nothing is left to run: --no-proxy, and --plugins does not name admin"
  end
  return true
end

--- Looks at all options together.
---@param given table values by key, without defaults
---@return true?
---@return string? message the first mistake
return function(given)
  for _, check in ipairs({ check_basedir, check_log, check_slow_log, check_plugins, check_backends }) do
    local ok, message = check(given)
    if not ok then
      return nil, message
    end
  end
  return true
end
