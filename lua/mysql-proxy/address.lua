--- Addresses of listeners and backends: from the text that a user wrote to something that can be bound or connected.
-- Parsing needs no luv, so that the command line can be checked before luv makes its loop.

local address = {}

local DEFAULT_PORT = 3306
local LONGEST_UNIX_PATH = 107 -- bytes; sun_path of Linux holds 108 with the final NUL

---@class mysql_proxy.address
---@field family "inet"|"unix"
---@field name string the text as it was given
---@field host string? host name, IPv4 or (without brackets) IPv6 address; "inet" only
---@field port integer? "inet" only
---@field path string? "unix" only

local function parse_unix(text)
  if #text > LONGEST_UNIX_PATH then
    return nil, ("unix-path is too long: %s (%d bytes, at most %d)"):format(text, #text, LONGEST_UNIX_PATH)
  end
  if text:find("%z") then
    return nil, "unix-path contains a NUL byte"
  end
  return { family = "unix", path = text, name = text }
end

local function malformed(text, problem)
  return nil, ("IP-address has to be in the form [<ip>][:<port>], is '%s'. %s"):format(text, problem)
end

-- The port written after the colon.
local function parse_port(text, digits, passive)
  if digits == "" then
    return malformed(text, "No port number")
  end
  local rest = digits:match("^%d*(.*)$")
  if rest ~= "" then
    return malformed(text, ("Failed to parse the port at '%s'"):format(rest))
  end
  local port = tonumber(digits)
  if port > 65535 or (port == 0 and not passive) then
    return nil, ("illegal value %s for port, only 1 ... 65535 allowed"):format(digits)
  end
  return port
end

--- Reads an address: `host:port`, `host`, `:port`, `ip:port`, `[v6]:port`, `[v6]`, or the absolute path of a unix
--- socket.
---@param text string
---@param default_port integer|false|nil of an address without one; 3306 if not given; false: it has to have one, and
---       is no path
---@param passive boolean|"loopback"|nil the address is for listening: `:port` is all interfaces instead of 127.0.0.1,
---       unless it is "loopback"; and port 0 (any free port) is allowed
---@return mysql_proxy.address?
---@return string? message what is wrong with the text
function address.parse(text, default_port, passive)
  if text:sub(1, 1) == "/" and default_port ~= false then
    return parse_unix(text)
  end

  local host, colon, digits = text:match("^%[([%x:.]*:[%x:.]*%%?[%w._-]*)%](:?)(.*)$")
  if not host then
    host, colon, digits = text:match("^([^:]*)(:?)(.*)$")
    if digits:find(":", 1, true) then
      return malformed(text, ("Failed to parse the port at '%s' (an IPv6 address is written as [::1]:3306)")
        :format(digits:match("^%d*(.*)$")))
    end
    if host:find("[^%w._-]") then
      return malformed(text, ("'%s' is no host name or IP address"):format(host))
    end
  elseif colon == "" and digits ~= "" then
    return malformed(text, ("Failed to parse the port at '%s'"):format(digits))
  end

  local port = default_port == nil and DEFAULT_PORT or default_port
  if colon == ":" or host == "" or not port then
    local err
    port, err = parse_port(text, digits, passive)
    if not port then
      return nil, err
    end
  end
  if host == "" then
    host = passive == true and "0.0.0.0" or "127.0.0.1"
  end
  return { family = "inet", host = host, port = port, name = text }
end

---@class mysql_proxy.endpoint what a socket can be bound or connected to
---@field family "inet"|"inet6"|"unix"
---@field ip string? "inet" and "inet6"
---@field port integer? "inet" and "inet6"
---@field path string? "unix"

local function to_endpoints(addr, results)
  local endpoints, seen = {}, {}
  local zone = addr.host:match("%%.*$") or "" -- getaddrinfo's text form of a link-local address lacks it
  for _, result in ipairs(results) do
    local ip = result.addr .. zone
    if not seen[ip] then
      seen[ip] = true
      endpoints[#endpoints + 1] = { family = result.family, ip = ip, port = addr.port }
    end
  end
  return endpoints
end

--- Finds the IP addresses of a host name, without holding up the loop. For IP addresses and unix paths the callback is
--- called before this function returns.
---@param addr mysql_proxy.address
---@param callback fun(err: string?, endpoints: mysql_proxy.endpoint[]?) at least one, in the resolver's order
function address.resolve(addr, callback)
  if addr.family == "unix" then
    return callback(nil, { { family = "unix", path = addr.path } })
  end
  local uv = require("luv")
  -- A host name makes this fail without a look-up, an IP address without a trip to the thread pool.
  local results = uv.getaddrinfo(addr.host, nil, { socktype = "stream", numerichost = true })
  if results then
    return callback(nil, to_endpoints(addr, results))
  end
  local function failed(code)
    callback(("no address found for host name '%s' (%s)"):format(addr.host, code))
  end
  local request, _, code = uv.getaddrinfo(addr.host, nil, { socktype = "stream" }, function(err, found)
    if err or #found == 0 then
      return failed(err or "EAI_NODATA")
    end
    callback(nil, to_endpoints(addr, found))
  end)
  if not request then
    failed(code)
  end
end

return address
