-- Modules that are read when the program starts, so that they fit it whatever has been installed meanwhile, and
-- compiled when they are first required. So what nobody uses is no work for the garbage collector, which looks at all
-- functions and tables again and again while a script's garbage comes and goes.

local M = {}

-- What a program may need when it has run for a while, below mysql-proxy.
local PROGRAM = {
  "admin.aggregates", "admin.changes", "admin.commands", "admin.errors", "admin.expression_grammar",
  "admin.expressions", "admin.functions", "admin.grammar", "admin.kill", "admin.lexer", "admin.login", "admin.options",
  "admin.reload", "admin.results", "admin.select", "admin.session", "admin.show", "admin.sort", "admin.statements",
  "admin.statistics", "admin.tables", "admin.tables.backends", "admin.tables.configuration",
  "admin.tables.connections", "admin.tables.help", "admin.tables.information_schema", "admin.tables.profile",
  "admin.tables.statistics", "admin.values", "admin.variables", "compatibility.chassis", "compatibility.glib2",
  "compatibility.posix", "read_only", "restart", "scripting", "scripting.async", "scripting.backends",
  "scripting.client", "scripting.commands", "scripting.config_file", "scripting.connection", "scripting.constants",
  "scripting.globals", "scripting.injection", "scripting.response", "successor", "task",
}

local function read(name)
  for template in package.path:gmatch("[^;]+") do
    local path = template:gsub("%?", (name:gsub("%.", "/")))
    local file = io.open(path, "rb")
    if file then
      local text = file:read("*a")
      file:close()
      return text, path
    end
  end
end

--- Reads modules; what is not found in package.path is left to `require`.
---@param names string[]
function M.read(names)
  for _, name in ipairs(names) do
    local text, path = read(name)
    if text and not package.loaded[name] and not package.preload[name] then
      package.preload[name] = function(...)
        package.preload[name] = nil
        return assert(loadstring(text, "@" .. path))(...)
      end
    end
  end
end

--- Reads those of the program.
function M.read_program()
  local names = {}
  for index, name in ipairs(PROGRAM) do
    names[index] = "mysql-proxy." .. name
  end
  M.read(names)
end

return M
