--- What a service manager such as systemd says in the environment, and is told: listening sockets that it has opened
-- (sd_listen_fds(3)), readiness and signs of life (sd_notify(3), sd_watchdog_enabled(3)). The environment is looked at
-- before a fork, as some of it is for the process that was started only.

local process = require("mysql-proxy.process")

local FIRST_DESCRIPTOR = 3
local MOST_DESCRIPTORS = 1000
local VARIABLES = {
  "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
}

-- FileDescriptorName= of a socket unit -> whose address it stands for. Any other name means the proxy.
local ADDRESSES = { ["read-only"] = "proxy_read_only_address", admin = "admin_address" }

---@class mysql_proxy.service
---@field socket string? where it is told
---@field interval number? ms between two signs of life
local Service = {}
Service.__index = Service

local service = {}

local function positive(variable)
  local number = tonumber(os.getenv(variable) or "")
  return number and number > 0 and number or nil
end

local function names_of(text, count)
  local names = {}
  for name in (text .. ":"):gmatch("([^:]*):") do
    names[#names + 1] = name
  end
  names[count + 1] = nil
  return names
end

--- Has the proxy listen on sockets that were passed to it, instead of the addresses of settings.
---@param settings table as options.parse returns them
---@return true?
---@return string? message
function service.take_sockets(settings)
  local count = positive("LISTEN_FDS")
  if not count or positive("LISTEN_PID") ~= process.id() then
    return true
  elseif count > MOST_DESCRIPTORS or count % 1 ~= 0 then
    return nil, ("LISTEN_FDS=%g is no number of descriptors"):format(count)
  end
  local names, taken = names_of(os.getenv("LISTEN_FDNAMES") or "", count), {}
  for index = 1, count do
    local descriptor = FIRST_DESCRIPTOR + index - 1
    local ok, message = process.check_listener(descriptor)
    if not ok then
      return nil, message
    end
    local key = ADDRESSES[names[index]] or "proxy_address"
    if settings.plugins[key == "admin_address" and "admin" or "proxy"] then
      taken[key] = taken[key] or {}
      table.insert(taken[key], descriptor)
    end
  end
  for key, descriptors in pairs(taken) do
    settings[key], settings[key .. "_given"] = descriptors, true
  end
  return true
end

--- What the environment says of a service manager; without one, a service that tells nobody.
---@return mysql_proxy.service
function service.new()
  local for_us = not os.getenv("WATCHDOG_PID") or positive("WATCHDOG_PID") == process.id()
  local microseconds = for_us and positive("WATCHDOG_USEC")
  local socket = os.getenv("NOTIFY_SOCKET")
  return setmetatable({
    socket = socket ~= "" and socket or nil,
    interval = microseconds and math.max(1, math.floor(microseconds / 2000)), -- twice as often as it must be
  }, Service)
end

--- Programs that a script starts are not to speak in the proxy's name.
function service.forget_environment()
  local uv = require("luv")
  for _, variable in ipairs(VARIABLES) do
    uv.os_unsetenv(variable)
  end
end

--- What a successor of this process is to find in its environment.
---@return table<string, string>
function Service:environment()
  return {
    NOTIFY_SOCKET = self.socket,
    WATCHDOG_USEC = self.interval and ("%d"):format(self.interval * 2000),
  }
end

--- Tells a state, such as READY=1.
---@param state string
---@param log mysql_proxy.log
function Service:tell(state, log)
  if self.socket then
    local ok, message = process.notify(self.socket, state)
    if not ok then
      log:warning(message)
    end
  end
end

--- Begins to give signs of life, if they are wanted.
---@param log mysql_proxy.log
---@return userdata? timer to be closed
function Service:watch(log)
  if not self.socket or not self.interval then
    return nil
  end
  local timer = require("luv").new_timer()
  timer:start(self.interval, self.interval, log:guard(function()
    self:tell("WATCHDOG=1", log)
  end))
  return timer
end

return service
