--- What --help and its variants print.

local COLUMN = 31 -- where the texts begin

-- In the order of --help-all.
local GROUPS = {
  { name = "help", title = "Help Options" },
  { name = "application", title = "Application Options" },
  { name = "log", title = "Log Options" },
  { name = "proxy", title = "Options for the proxy (--help-proxy)" },
  { name = "admin", title = "Options for the admin interface (--help-admin)" },
}

local SHOWN = {
  help = { help = true, application = true, log = true },
  all = { help = true, application = true, log = true, proxy = true, admin = true },
  proxy = { proxy = true },
  admin = { admin = true },
}

local ADDRESSES = {
  "  ADDR is host:port, host (port 3306), :port, [IPv6]:port or /path/of/a/socket.",
  "  For several, repeat the option or separate them by commas.",
}

local function describe(option)
  local shorts = ""
  for _, short in ipairs(option.shorts) do
    shorts = shorts .. "-" .. short .. ", "
  end
  local left = ("  %s--%s"):format(shorts ~= "" and shorts or "    ", option.name)
  if option.value then
    left = left .. "=" .. option.value
  end
  local default = option.default_help
  if default == nil and option.default ~= nil then
    default = type(option.default) == "table" and table.concat(option.default, ",") or tostring(option.default)
  end
  local right = option.help .. (default and (" [%s]"):format(default) or "")
  if #left > COLUMN - 1 then
    return ("%s\n%s%s"):format(left, (" "):rep(COLUMN), right)
  end
  return left .. (" "):rep(COLUMN - #left) .. right
end

--- Describes options.
---@param options table[] as options.lua declares them
---@param group "help"|"all"|"proxy"|"admin" which of them
---@return string
return function(options, group)
  local lines = { "Usage:", "  mysql-proxy [OPTION...]" }
  for _, shown in ipairs(GROUPS) do
    if SHOWN[group][shown.name] then
      lines[#lines + 1] = ""
      lines[#lines + 1] = shown.title .. ":"
      for _, option in ipairs(options) do
        if option.group == shown.name then
          lines[#lines + 1] = describe(option)
        end
      end
      if shown.name == "proxy" then
        lines[#lines + 1] = table.concat(ADDRESSES, "\n")
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end
