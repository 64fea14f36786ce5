--- The defaults file: the group [mysql-proxy] of an INI file has the options of the command line.
--
--   [mysql-proxy]
--   proxy-backend-addresses = 10.0.0.1:3306, 10.0.0.2:3306
--   daemon = true

local lfs = require("lfs")
local lpeg = require("lpeg")

local P, S, C, Cc, Cp, Ct = lpeg.P, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Cp, lpeg.Ct

local GROUP = "mysql-proxy"

local blanks = S(" \t") ^ 0
local line_end = blanks * P("\r") ^ -1 * "\n"
local text = C((1 - line_end) ^ 0)
local name = C((1 - (blanks * S("=[]#\r\n"))) ^ 1)
local comment = P("#") * (1 - line_end) ^ 0
local group = Ct(Cp() * Cc("group") * "[" * C((1 - S("[]\r\n")) ^ 1) * "]")
local pair = Ct(Cp() * Cc("pair") * name * blanks * "=" * blanks * text)
local garbage = Ct(Cp() * Cc("garbage") * text)
local line = blanks * ((comment + group + pair) * line_end + line_end + garbage * line_end)
local lines = Ct(line ^ 0)

local defaults_file = {}

--- Reads the text of a defaults file.
---@param contents string
---@return table<string, string>? values by key, as they stand there; of equal keys the last
---@return table<string, integer>|string numbers of their lines; or the first mistake
function defaults_file.parse(contents)
  local values, numbers, current = {}, {}, nil
  local number, counted = 1, 1 -- of the line, and how far its beginning has been looked for
  for _, entry in ipairs(lines:match(contents .. "\n")) do
    local place, kind, first, second = unpack(entry)
    number = number + select(2, contents:sub(counted, place - 1):gsub("\n", ""))
    counted = place
    if kind == "garbage" then
      return nil, ("line %d: Key file contains line “%s” which is not a key-value pair, group, or comment")
        :format(number, first)
    elseif kind == "group" then
      current = first
    elseif not current then
      return nil, ("line %d: Key file does not start with a group"):format(number)
    elseif current == GROUP then
      values[first], numbers[first] = second, number
    end
  end
  return values, numbers
end

--- Reads a defaults file, which nobody may read who is neither its owner nor of its group: it may hold a password.
---@param path string
---@return table<string, string>? values by key
---@return table<string, integer>|string numbers of their lines; or the first mistake
function defaults_file.read(path)
  local attributes, message = lfs.attributes(path)
  if not attributes then
    return nil, ("cannot stat(%s): %s"):format(path, message:match("[^:]*$"):match("^%s*(.*)$"))
  elseif attributes.mode ~= "file" then
    return nil, ("%s isn't a regular file"):format(path)
  elseif attributes.permissions:sub(-3) ~= "---" then
    return nil, ("permissions of %s aren't secure (0660 or stricter required)"):format(path)
  end
  local file
  file, message = io.open(path, "rb")
  if not file then
    return nil, message
  end
  local contents = file:read("*a")
  file:close()
  if not contents then
    return nil, path .. " cannot be read"
  end
  return defaults_file.parse(contents)
end

return defaults_file
