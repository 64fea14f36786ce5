--- The defaults file: the group [mysql-proxy] of an INI file has the options of the command line.
--
--   [mysql-proxy]
--   proxy-backend-addresses = 10.0.0.1:3306, 10.0.0.2:3306
--   daemon = true

local lfs = require("lfs")
local lpeg = require("lpeg")

local P, S, C, Cc, Ct = lpeg.P, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Ct

local GROUP = "mysql-proxy"

local blanks = S(" \t") ^ 0
local line_end = blanks * P("\r") ^ -1 * "\n"
local text = C((1 - line_end) ^ 0)
local name = C((1 - (blanks * S("=[]#\r\n"))) ^ 1)
local comment = P("#") * (1 - line_end) ^ 0
local group = Ct(Cc("group") * "[" * C((1 - S("[]\r\n")) ^ 1) * "]")
local pair = Ct(Cc("pair") * name * blanks * "=" * blanks * text)
local garbage = Ct(Cc("garbage") * text)
local line = blanks * ((comment + group + pair) * line_end + line_end + garbage * line_end)
local lines = Ct(line ^ 0)

local defaults_file = {}

--- Reads the text of a defaults file.
---@param contents string
---@return table<string, string>? values by key, as they stand there; of equal keys the last
---@return string? message the first mistake
function defaults_file.parse(contents)
  local values, current = {}, nil
  for _, entry in ipairs(lines:match(contents .. "\n")) do
    local kind, first, second = unpack(entry)
    if kind == "garbage" then
      return nil, ("Key file contains line “%s” which is not a key-value pair, group, or comment"):format(first)
    elseif kind == "group" then
      current = first
    elseif not current then
      return nil, "Key file does not start with a group"
    elseif current == GROUP then
      values[first] = second
    end
  end
  return values
end

--- Reads a defaults file, which nobody may read who is neither its owner nor of its group: it may hold a password.
---@param path string
---@return table<string, string>? values by key
---@return string? message
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
