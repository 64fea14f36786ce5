--- --check-config: looks at all that a start would need, and more, without starting anything.

local uv = require("luv")

local address = require("mysql-proxy.address")
local check_script = require("mysql-proxy.check_script")
local log = require("mysql-proxy.log")
local mysql_proxy = require("mysql-proxy")
local process = require("mysql-proxy.process")

local SCRIPTS = { "proxy_lua_script", "admin_lua_script" }
local WRITTEN = { "log_file", "pid_file", "slow_query_log" }
local LISTENING = { "proxy_address", "proxy_read_only_address", "admin_address" }
local BACKENDS = { "proxy_backend_addresses", "proxy_read_only_backend_addresses" }

local function option_name(key)
  return "--" .. key:gsub("_", "-")
end

local function check_scripts(settings, add, report)
  for _, key in ipairs(SCRIPTS) do
    if settings[key] then
      local text, message = check_script.check(settings[key])
      if text then
        report(text)
      else
        add(("%s: %s"):format(option_name(key), message))
      end
    end
  end
end

local function check_folder(path)
  local stat = uv.fs_stat(path)
  if not stat or stat.type ~= "directory" then
    return nil, ("there is no folder %s"):format(path)
  end
  return uv.fs_access(path, "WX"), ("no permission to write in the folder %s"):format(path)
end

-- A file that would be made must have a folder in which it can be.
local function check_writable(path)
  local stat = uv.fs_stat(path)
  if not stat then
    return check_folder(path:match("^(.*)/[^/]*$") .. "/")
  elseif stat.type == "directory" then
    return nil, "it is a folder"
  end
  return uv.fs_access(path, "W"), "no permission to write"
end

local function check_files(settings, add)
  for _, key in ipairs(WRITTEN) do
    if settings[key] then
      local ok, message = check_writable(settings[key])
      if not ok then
        add(("%s: %s cannot be written: %s"):format(option_name(key), settings[key], message))
      end
    end
  end
  for _, key in ipairs(LISTENING) do
    for _, text in ipairs(settings[key]) do
      local folder = text:match("^(/.*/)[^/]*$") or text:match("^/")
      local ok, message = true, nil
      if folder then
        ok, message = check_folder(folder)
      end
      if not ok then
        add(("%s: the socket %s cannot be made: %s"):format(option_name(key), text, message))
      end
    end
  end
  if settings.proxy_lua_config_folder then
    local ok, message = check_folder(settings.proxy_lua_config_folder)
    if not ok then
      add("--proxy-lua-config-folder: " .. message)
    end
  end
end

local function check_backends(settings, add)
  for _, key in ipairs(BACKENDS) do
    for _, text in ipairs(settings[key]) do
      address.resolve(assert(address.parse(text)), function(failure)
        if failure then
          add(("%s: cannot resolve %s: %s"):format(option_name(key), text, failure))
        end
      end)
    end
  end
end

-- The proxy as it would be started, up to the opening of its ports.
local function check_proxy(settings, add)
  local proxy, message = mysql_proxy.new(settings)
  if not proxy then
    return add(message)
  end
  for _, port in ipairs(proxy.ports) do
    address.resolve(port.parsed, function(failure, places)
      if failure then
        return add(("%s: cannot resolve %s: %s"):format(port.kind, port.address, failure))
      end
      for _, place in ipairs(places) do
        local ok, problem = port:may_listen(place)
        if not ok then
          return add(problem)
        end
      end
    end)
  end
end

local function check_process(settings, add)
  local format, reason = log.format({ format = settings.log_format })
  if not format then
    add(reason)
  end
  if settings.user then
    local ok, message = process.check_user(settings.user)
    if not ok then
      add(message)
    end
  end
  local _, hard = process.max_open_files()
  if settings.max_open_files and settings.max_open_files > hard then
    local ok, message = process.set_max_open_files(settings.max_open_files)
    if not ok then
      add(message)
    end
  end
end

--- Looks at settings that are right as far as they go without the system.
---@param settings table as options.parse returns them, with absolute file names
---@return string report about the scripts, and keys of the defaults file that are no options
---@return string[] mistakes
return function(settings)
  local mistakes, report = {}, {}
  local function add(mistake)
    mistakes[#mistakes + 1] = mistake
  end
  for _, warning in ipairs(settings.warnings) do
    report[#report + 1] = ("warning: %s\n"):format(warning)
  end
  check_process(settings, add)
  check_files(settings, add)
  check_backends(settings, add)
  check_proxy(settings, add)
  uv.run()
  check_scripts(settings, add, function(text)
    report[#report + 1] = text
  end)
  return table.concat(report), mistakes
end
