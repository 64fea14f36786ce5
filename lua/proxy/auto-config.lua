--- Options of scripts, which a client can look at and change while the proxy runs. They are in proxy.global.config:
--
--   proxy.global.config.rwsplit = proxy.global.config.rwsplit or { is_debug = false, min_idle_connections = 4 }
--
-- and a client says PROXY SHOW CONFIG, PROXY SET GLOBAL rwsplit.is_debug = true, PROXY SAVE CONFIG INTO "file" or
-- PROXY LOAD CONFIG FROM "file". Whoever may send a statement may say so; the files that he can name are those of one
-- folder, --proxy-lua-config-folder. A script that calls save and load itself names any file.

local lpeg = require "lpeg"

local config_file = require "mysql-proxy.scripting.config_file"

local P, R, S, V = lpeg.P, lpeg.R, lpeg.S, lpeg.V
local C, Cc, Ct, Cg = lpeg.C, lpeg.Cc, lpeg.Ct, lpeg.Cg

local LONGEST = 128 -- a longer statement is not for us

-- The statements ------------------------------------------------------------------------------------------------------

local space = S " \t\r\n\v\f"

-- A word in any case, blanks behind it.
local function word(text)
  local pattern = P(true)
  for letter in text:gmatch(".") do
    pattern = pattern * S(letter .. letter:lower())
  end
  return pattern * -R("az", "AZ", "09", "__")
end

local function words(text)
  local pattern = P(true)
  for each in text:gmatch("%S+") do
    pattern = pattern * word(each) * space ^ 1
  end
  return pattern
end

local function statement(name, pattern)
  return Ct(Cg(Cc(name), "statement") * pattern) * -1
end

local name = C(R("az", "AZ", "09", "__") ^ 1)
local option = Cg(name, "module") * "." * Cg(name, "option") * space ^ 0 * "=" * space ^ 0
local quoted = P '"' * C((1 - P '"') ^ 0) * '"'
local digits = R "09" ^ 1
local integer = P "-" ^ -1 * digits
local number = (integer * (P "." * digits) ^ -1) / tonumber
local value = quoted + number + word "TRUE" * Cc(true) + word "FALSE" * Cc(false)

local grammar = P {
  V "show" + V "set" + V "save" + V "load" + V "set_0_6",
  show = statement("show", words "PROXY SHOW" * word "CONFIG"),
  set = statement("set", words "PROXY SET GLOBAL" * option * Cg(value, "value")),
  save = statement("save", words "PROXY SAVE CONFIG INTO" * Cg(quoted, "filename")),
  load = statement("load", words "PROXY LOAD CONFIG FROM" * Cg(quoted, "filename")),
  set_0_6 = statement("set_0_6", words "SET GLOBAL" * option * Cg(integer / tonumber, "value")),
}

-- What is there -------------------------------------------------------------------------------------------------------

local M = {}

-- A script may have put something else there.
local function options_of()
  local config = proxy.global.config
  return type(config) == "table" and config or {}
end

-- The options of a module, and the value of one: what is in these tables themselves, as metamethods may do anything.
local function find(module, key)
  local options = rawget(options_of(), module)
  if type(options) ~= "table" then
    return nil, nil
  end
  return options, rawget(options, key)
end

-- A script's __tostring may fail.
local function text_of(value_of)
  local ok, text = pcall(tostring, value_of)
  return ok and text or type(value_of)
end

local function sorted_keys(from)
  local keys, texts = {}, {}
  for key in pairs(from) do
    keys[#keys + 1], texts[key] = key, text_of(key)
  end
  table.sort(keys, function(a, b)
    return texts[a] < texts[b]
  end)
  return keys
end

-- Calls visit(module, option, value) for each option, in the order of their names.
local function each_option(visit)
  for _, module in ipairs(sorted_keys(options_of())) do
    local options = options_of()[module]
    for _, key in ipairs(type(options) == "table" and sorted_keys(options) or {}) do
      visit(module, key, options[key])
    end
  end
end

-- A file --------------------------------------------------------------------------------------------------------------

--- Writes the options that are strings, numbers and booleans into a file, one in a line.
---@return true|nil
---@return string|nil message
function M.save(self, filename)
  filename = filename or self
  local options = {}
  each_option(function(module, key, value_of)
    options[#options + 1] = { module = module, key = key, value = value_of }
  end)
  local file, message = io.open(filename, "wb")
  if not file then
    return nil, message
  end
  local ok
  ok, message = file:write(config_file.write(options))
  local closed, close_message = file:close()
  if not ok or not closed then
    return nil, message or close_message
  end
  return true
end

-- The options of a file; nil, a message, and an error number if it cannot be opened.
local function read_options(filename)
  local file, message, code = io.open(filename, "rb")
  if not file then
    return nil, message, code
  end
  local text
  text, message = file:read("*a")
  file:close()
  if not text then
    return nil, message
  end
  return config_file.read(text, filename)
end

--- Takes the options of a file over: those that it does not have stay as they are.
---@return true|nil
---@return string|nil message
function M.load(self, filename)
  filename = filename or self
  local loaded, message = read_options(filename)
  if not loaded then
    return nil, message
  end
  local config = proxy.global.config
  if type(config) ~= "table" then
    return nil, "(auto-config) proxy.global.config is no table"
  end
  for module, options in pairs(loaded) do
    if not find(module) then
      config[module] = {}
    end
    for key, option_value in pairs(options) do
      config[module][key] = option_value
    end
  end
  return true
end

-- The answers ---------------------------------------------------------------------------------------------------------

local function answer_ok(affected_rows)
  proxy.response = { type = proxy.MYSQLD_PACKET_OK, affected_rows = affected_rows }
  return proxy.PROXY_SEND_RESULT
end

local function answer_error(text)
  proxy.response = { type = proxy.MYSQLD_PACKET_ERR, errmsg = text }
  return proxy.PROXY_SEND_RESULT
end

local function answer(ok, message)
  return ok and answer_ok(0) or answer_error(message)
end

local statements = {}

function statements.show()
  local fields, rows = {}, {}
  for i, column in ipairs { "module", "option", "value", "type" } do
    fields[i] = { name = column, type = proxy.MYSQL_TYPE_STRING }
  end
  each_option(function(module, key, option_value)
    rows[#rows + 1] = { text_of(module), text_of(key), text_of(option_value), type(option_value) }
  end)
  proxy.response = { type = proxy.MYSQLD_PACKET_OK, resultset = { fields = fields, rows = rows } }
  return proxy.PROXY_SEND_RESULT
end

local SETTABLE = { boolean = true, number = true, string = true }

function statements.set(said)
  local module, current = find(said.module, said.option)
  if not module then
    return answer_error("module not known")
  elseif current == nil then
    return answer_error("option not know")
  end
  local expected, got = type(current), type(said.value)
  if not SETTABLE[expected] then
    return answer_error(("(auto-config) type: %s isn't handled yet"):format(expected))
  elseif expected ~= got then
    return answer_error(("(auto-config) expected a %s, got %s"):format(expected, got))
  end
  module[said.option] = said.value
  return answer_ok(1)
end

-- The form of 0.6: what it does not know is for the server, whose variables are set in the same words.
function statements.set_0_6(said)
  local module, current = find(said.module, said.option)
  if type(current) == "number" then
    module[said.option] = said.value
  elseif type(current) == "boolean" and (said.value == 0 or said.value == 1) then
    module[said.option] = said.value == 1
  else
    return nil
  end
  return answer_ok()
end

-- Where a file is that a client names: in the folder that the proxy's user has set aside, or nowhere.
local function place_of(filename)
  local meta = getmetatable(options_of())
  local folder = type(meta) == "table" and meta.folder
  if not folder then
    return nil, "(auto-config) files are only read and written in the folder that --proxy-lua-config-folder names"
  end
  local prefix = folder:gsub("/+$", "") .. "/"
  local inside = filename:sub(1, #prefix) == prefix and filename:sub(#prefix + 1) or filename
  if not inside:find("^[%w_-][%w_.-]*$") then
    return nil, ("(auto-config) %s is no plain name of a file in %s (--proxy-lua-config-folder)"):format(
      filename, folder)
  end
  return prefix .. inside
end

local ENOENT = 2

-- A client replaces no file but one of options, and that as a whole or not at all.
local function save_for_client(place)
  local options, message, code = read_options(place)
  if not options and code ~= ENOENT then
    return nil, ("(auto-config) not overwritten, as these are no options: %s"):format(message)
  end
  local fresh = (place:gsub("[^/]+$", ".%0.new"))
  local ok
  ok, message = M.save(fresh)
  if ok then
    ok, message = os.rename(fresh, place)
  end
  if not ok then
    os.remove(fresh)
  end
  return ok, message
end

local function with_file(use)
  return function(said)
    local place, message = place_of(said.filename)
    if not place then
      return answer_error(message)
    end
    return answer(use(place))
  end
end

statements.save, statements.load = with_file(save_for_client), with_file(M.load)

--- Answers a client's statement if it is one about options: proxy.global.config:handle(cmd), or handle(cmd).
---@param cmd table of proxy.commands.parse()
---@return integer|nil verdict for read_query; nil if the command is for somebody else
function M.handle(self, cmd)
  cmd = cmd or self
  if cmd.type ~= proxy.COM_QUERY or #cmd.query > LONGEST then
    return nil
  end
  local said = grammar:match(cmd.query)
  return said and statements[said.statement](said)
end

if proxy and not getmetatable(proxy.global.config) then
  setmetatable(proxy.global.config, { __index = M })
end

return M
