-- mysql-proxy --check-script: looks at a script without running it. It compiles it, lists its hooks, and warns of names
-- of `proxy` and `inj` that do not exist and of globals that it assigns to.

local lpeg = require "lpeg"

local constants = require "mysql-proxy.scripting.constants"
local script = require "mysql-proxy.script"

local P, R, S, C, Cc, Ct, Cp = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Ct, lpeg.Cp

local M = {}

local HOOKS = {
  "connect_server", "read_handshake", "read_auth", "read_auth_result", "read_query", "read_query_result",
  "disconnect_client",
}

local function set(names, below)
  local found = below or {}
  for each in names:gmatch "%S+" do
    found[each] = true
  end
  return found
end

local ADDRESS = set "type name address port"
local SIDE = set("default_db username scrambled_password auth_plugin_name mysqld_version thread_id scramble_buffer "
  .. "address", { src = ADDRESS, dst = ADDRESS })

--- The names that scripts find, and what is below some of them.
M.NAMES = {
  proxy = set("global backends servers tokenize log tokenizer commands parser balance test", {
    connection = set("backend_ndx connection_close thread_id default_db mysqld_version server_version",
      { client = SIDE, server = SIDE }),
    queries = set "append prepend reset len",
    response = set "type errmsg errcode sqlstate resultset affected_rows insert_id packets",
    async = set "await sleep resolve spawn query",
  }),
  inj = set("id type query query_time response_time", {
    resultset = set("fields rows row_count bytes raw affected_rows insert_id warning_count query_status",
      { flags = set "in_trans auto_commit no_good_index_used no_index_used" }),
  }),
}
for name in pairs(constants) do
  M.NAMES.proxy[name] = true
end

-- Tokens of Lua: { kind, text, position }.
local letter = R("az", "AZ") + "_"
local name = letter * (letter + R "09") ^ 0
local long = P "[" * P(function(text, at)
  local level = text:match("^(=*)%[", at)
  if not level then
    return nil
  end
  local _, last = text:find("]" .. level .. "]", at, true)
  return (last or #text) + 1
end)
local comment = P "--" * (long + (1 - P "\n") ^ 0)
local function quoted(quote)
  return P(quote) * (P "\\" * 1 + (1 - S(quote .. "\n"))) ^ 0 * P(quote) ^ -1
end
local skipped = (S " \t\r\n\v\f" + comment) ^ 0
local token = Ct(Cc "name" * C(name) * Cp())
  + Ct(Cc "text" * C(long + quoted "'" + quoted '"') * Cp())
  + Ct(Cc "number" * C(R "09" * (R("09", "az", "AZ") + ".") ^ 0) * Cp())
  + Ct(Cc "sign" * C(P "==" + "~=" + "<=" + ">=" + "..." + ".." + 1) * Cp())
local tokens_of = Ct((skipped * token) ^ 0 * skipped)

local KEYWORDS = {}
for word in ("and break do else elseif end false for function if in local nil not or repeat return then true until "
  .. "while"):gmatch("%S+") do
  KEYWORDS[word] = true
end

-- Blocks: each a table with the names that are local in it; `outer` is the block around it. A loop's and a function's
-- begin with what stands before the word that it awaits.
local function enter(block, awaits)
  return { names = {}, outer = block, awaits = awaits, braces = 0 }
end

local function is_local(block, name_of)
  while block and not block.names[name_of] do
    block = block.outer
  end
  return block ~= nil
end

-- The names from `index` on, with a comma between each and the next: they are declared there, and not used.
local function declare(block, tokens, index)
  while tokens[index] and tokens[index][1] == "name" and not KEYWORDS[tokens[index][2]] do
    block.names[tokens[index][2]], tokens[index].declared = true, true
    if not tokens[index + 1] or tokens[index + 1][2] ~= "," then
      return
    end
    index = index + 2
  end
end

-- The block behind the token at `index`, that before it being `block`.
local function block_behind(block, tokens, index)
  local value = tokens[index][2]
  if value == "local" then
    declare(block, tokens, tokens[index + 1] and tokens[index + 1][2] == "function" and index + 2 or index + 1)
  elseif value == "for" or value == "while" then
    block = enter(block, "do") -- which begins no other
    declare(block, tokens, value == "for" and index + 1 or 0)
  elseif value == "function" then
    block = enter(block, "(")
  elseif value == block.awaits then
    block.awaits = nil
    if value == "(" then
      block.names.self = tokens[index - 2][2] == ":"
      declare(block, tokens, index + 1)
    end
  elseif value == "do" or value == "then" or value == "repeat" then
    block = enter(block)
  elseif value == "else" then
    block = enter(block.outer)
  elseif value == "end" or value == "until" or value == "elseif" then
    block = block.outer
  elseif value == "{" or value == "}" then
    block.braces = block.braces + (value == "{" and 1 or -1)
  end
  return block
end

local function line_of(text, at)
  local _, count = text:sub(1, at - 1):gsub("\n", "")
  return count + 1
end

-- Whether a name begins at `index` that is none of a table's fields.
local function is_free(tokens, index)
  local before = tokens[index - 1]
  return tokens[index][1] == "name" and not KEYWORDS[tokens[index][2]]
    and not (before and (before[2] == "." or before[2] == ":"))
end

-- The key with which the value at `at` is indexed, and where that ends: `.key`, `:key` or `["key"]`.
local function key_behind(tokens, at)
  local sign, key, close = tokens[at + 1], tokens[at + 2], tokens[at + 3]
  if not key then
    return nil
  elseif sign[2] == "." or sign[2] == ":" then
    return key[2], at + 2, sign[2]
  elseif sign[2] == "[" and key[1] == "text" and close and close[2] == "]" then
    return key[2]:match("^[\"']([%a_][%w_]*)[\"']$"), at + 3, "."
  end
end

-- `proxy` or `inj` is at `index`: is there what it is asked for?
local function check_names(tokens, index, warn)
  local path, known = tokens[index][2], M.NAMES[tokens[index][2]]
  local key, at, sign = key_behind(tokens, index)
  while type(known) == "table" and key do
    path = path .. sign .. key
    known = known[key] or (key:find("^PROXY_VERSION") and true)
    if not known then
      local assigned = path:find("^proxy%.[^.]+$") and tokens[at + 1] and tokens[at + 1][2] == "="
      return not assigned and warn(tokens[index][3], path .. " does not exist")
    end
    key, at, sign = key_behind(tokens, at)
  end
end

-- Whether a name is assigned to: before `=` or in a list of names before one. In braces `name =` is a field.
local function is_assigned(tokens, index, braces)
  if braces > 0 then
    return false
  end
  while tokens[index + 1] and tokens[index + 1][2] == "," and tokens[index + 2] and is_free(tokens, index + 2) do
    index = index + 2
  end
  return tokens[index + 1] ~= nil and tokens[index + 1][2] == "="
end

-- A hook that is a local is called by nobody, unless the script does something with it.
local function warn_of_locals(local_hooks, used, warn)
  for _, hook in ipairs(HOOKS) do
    if local_hooks[hook] and not used[hook] then
      warn(local_hooks[hook], ("%s is local: it is never called"):format(hook))
    end
  end
end

local function look(text, warn)
  local tokens = tokens_of:match(text)
  local hooks, local_hooks, used, is_hook, block = {}, {}, {}, {}, enter(nil)
  for _, hook in ipairs(HOOKS) do
    is_hook[hook] = true
  end
  for index, each in ipairs(tokens) do
    local value, at = each[2], each[3]
    if is_free(tokens, index) then
      local after = tokens[index + 1] and tokens[index + 1][2]
      local before = tokens[index - 1] and tokens[index - 1][2]
      local assigned = is_assigned(tokens, index, block.braces) or (before == "function" and after == "(")
      local own = is_local(block, value)
      if is_hook[value] and assigned and own then
        local_hooks[value] = local_hooks[value] or at
      elseif is_hook[value] and assigned then
        hooks[#hooks + 1], used[value] = value, true
      elseif is_hook[value] and own and not each.declared then
        used[value] = true
      elseif assigned and not own then
        warn(at, ("assigns to the global '%s'"):format(value))
      elseif value == "proxy" and not own or value == "inj" then
        check_names(tokens, index, warn)
      end
    else
      block = block_behind(block, tokens, index) or block
    end
  end
  warn_of_locals(local_hooks, used, warn)
  return hooks
end

--- Looks at a script.
---@param path string
---@return string|nil report what it has, and warnings; nil if it does not compile
---@return string|nil message why not
function M.check(path)
  local text, message = script.read(path)
  if not text then
    return nil, message
  end
  local chunk
  chunk, message = loadstring(text, "@" .. path)
  if not chunk then
    return nil, message
  end
  local lines = {}
  local hooks = look(text, function(at, warning)
    lines[#lines + 1] = ("%s:%d: warning: %s"):format(path, line_of(text, at - 1), warning)
  end)
  table.insert(lines, 1, ("%s: %s"):format(path, #hooks > 0 and "hooks " .. table.concat(hooks, ", ")
    or "no hooks of its own (modules that it requires may have some)"))
  return table.concat(lines, "\n") .. "\n"
end

return M
