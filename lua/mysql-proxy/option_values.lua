--- How the values of options are read, on the command line and in the defaults file.

local address = require("mysql-proxy.address")
local log = require("mysql-proxy.log")

local MOST = 2147483647 -- of integers and seconds

-- kind -> function(option, text, what the option has so far) -> value | nil, message
local readers = {}

function readers.text(option, text)
  if text == "" then
    return nil, ("--%s must not be empty"):format(option.name)
  end
  return text
end

-- One that may be empty.
function readers.password(_, text)
  return text
end

function readers.level(_, text)
  if not log.is_level(text) then
    return nil, ("--log-level=... failed, level '%s' is unknown (one of %s expected)")
      :format(text, table.concat(log.LEVELS, ", "))
  end
  return text
end

function readers.choice(option, text)
  for _, choice in ipairs(option.choices) do
    if choice == text then
      return text
    end
  end
  return nil, ("value %s for --%s is unknown (one of %s expected)")
    :format(text, option.name, table.concat(option.choices, ", "))
end

local function in_range(option, text, number)
  local most = option.most or MOST
  if number < option.least or number > most then
    if option.too_small then
      return nil, option.too_small:format(text)
    end
    return nil, ("value %s for --%s is out of range: %d ... %d"):format(text, option.name, option.least, most)
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
  if option.may_be_empty and text == "" then
    return addresses
  end
  for part in (text .. ","):gmatch("([^,]*),") do
    part = part:match("^%s*(.-)%s*$")
    local parsed, err = address.parse(part, option.default_port, option.passive)
    if not parsed then
      return nil, ("%s (--%s)"):format(err, option.name)
    end
    addresses[#addresses + 1] = part
  end
  return addresses
end

function readers.names(_, text, names)
  names = names or {}
  for name in text:gmatch("[^%s,]+") do
    names[#names + 1] = name
  end
  return names
end

return readers
