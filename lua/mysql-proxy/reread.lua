--- The options of a running program, read anew: its command line as it was, its defaults file as it is by now.

local options = require("mysql-proxy.options")
local paths = require("mysql-proxy.paths")
local process = require("mysql-proxy.process")

local reread = {}

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local copied = {}
  for key, each in pairs(value) do
    copied[key] = copy(each)
  end
  return copied
end

local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, value in pairs(a) do
    if not is_same(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

-- The names of the options that are not what they were.
local function differences(before, now)
  local names = {}
  for _, name in ipairs(options.names()) do
    local key = name:gsub("-", "_")
    if not is_same(before[key], now[key]) then
      names[#names + 1] = name
    end
  end
  return names
end

--- What reads them.
---@param argv string[] the command line
---@param settings table what they are now, behind paths.resolve
---@return fun(): table|nil, string[]|string settings and the names of those that have changed since the start; or nil
---  and the first mistake
function reread.new(argv, settings)
  local folder, before = assert(process.current_folder()), copy(settings)
  local args = { unpack(argv) }
  args[#args + 1] = settings.defaults_file and "--defaults-file=" .. settings.defaults_file -- a daemon changes to /
  return function()
    local now, message = options.parse(args)
    if not now then
      return nil, message
    end
    paths.resolve(now, folder)
    return now, differences(before, now)
  end
end

return reread
