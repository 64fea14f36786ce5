--- chassis, as scripts know it: the proxy's log, its figures and its end.

local LEVELS = {
  error = "critical", -- which ended the process once
  critical = "critical", warning = "warning", message = "message", info = "info", debug = "debug",
}

local M = {}

local attached = {}

--- What the proxy hands over before a script can run.
---@param to { log: mysql_proxy.log, shutdown: fun(), stats: (fun(): table)?, base_directory: string? }
---       stats: returns figures by plugin, and those of "chassis"; base_directory: of the files that the log names
function M.attach(to)
  attached = to
end

local function relative(file)
  local base = attached.base_directory
  if base and file:sub(1, #base + 1) == base .. "/" then
    return file:sub(#base + 2)
  end
  return file
end

-- FILE:LINE of the Lua code that called the function at `level`.
local function place(level)
  local info
  repeat
    level = level + 1
    info = debug.getinfo(level, "Sl")
  until not info or info.currentline > 0
  return info and ("%s:%d"):format(relative(info.source:gsub("^[@=]", "")), info.currentline) or "?"
end

local function write(level, text, depth)
  local line = ("(%s) %s"):format(place(depth + 1), text)
  local log = attached.log
  if log then
    log[level](log, line)
  else -- outside of a proxy
    io.stderr:write(("(%s) %s\n"):format(level, line))
  end
end

--- Writes a line to the log, with the place where this is called.
---@param level "error"|"critical"|"warning"|"message"|"info"|"debug"
---@param text any
function M.log(level, text)
  if type(level) ~= "string" then
    error(("bad argument #1 to 'log' (string expected, got %s)"):format(type(level)), 2)
  elseif not LEVELS[level] then
    error(("bad argument #1 to 'log' (invalid option '%s')"):format(level), 2)
  end
  write(LEVELS[level], tostring(text), 2)
end

for level, name in pairs(LEVELS) do
  if level ~= "error" then
    M[level] = function(text)
      write(name, tostring(text), 2)
    end
  end
end

--- Asks the process to come to its end.
function M.set_shutdown()
  if attached.shutdown then
    attached.shutdown()
  end
end

--- Figures: of all plugins by name, or of one.
---@param name? string
---@return table|nil
function M.get_stats(name, ...)
  if select("#", ...) > 0 then
    error("bad argument #2 to 'get_stats' (currently only zero or one arguments are allowed)", 2)
  end
  local stats = attached.stats and attached.stats() or { chassis = {} }
  if name == nil then
    return stats
  end
  return stats[name]
end

function M.mem_profile() end

--- What a script that requires chassis counts on: from now on print() writes to the log, and the old one is os.print().
-- The loader of scripts calls it when chassis is required for the first time.
function M.take_over_print()
  if rawget(os, "print") then
    return
  end
  rawset(os, "print", print)
  rawset(_G, "print", function(...)
    local texts = { ... }
    for i = 1, select("#", ...) do
      texts[i] = tostring(texts[i])
    end
    write("message", table.concat(texts, "\t"), 2)
  end)
end

rawset(_G, "chassis", M)

return M
