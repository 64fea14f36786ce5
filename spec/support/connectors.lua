-- Programs that use other people's connectors: how they are built and run.

local process = require "spec.support.process"

local uv = require "luv"

local M = {}

local cache = (os.getenv("XDG_CACHE_HOME") or os.getenv("HOME") .. "/.cache") .. "/mysql-proxy"

--- The environment of this process, changed.
---@param more table<string, string>
function M.environment(more)
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    list[#list + 1] = more[name] and nil or name .. "=" .. value
  end
  for name, value in pairs(more) do
    list[#list + 1] = name .. "=" .. value
  end
  return list
end

-- Compiled once for all servers.
local built = {}

local function build(name, program, args, env)
  if not built[name] then
    local folder = process.path(name)
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
    args[#args + 1] = folder
    local code, output, errors = process.run(program, args, { env = env and M.environment(env) })
    assert(code == 0, output .. errors)
    built[name] = folder
  end
  return built[name]
end

--- Compiles a Go program.
---@param name string of the result
---@param source string its folder
---@return string program
function M.go(name, source)
  return build(name, "sh", { "-c", 'go build -o "$0/client" ./' .. source }, {
    GO111MODULE = "off", GOPATH = "/usr/share/gocode", GOFLAGS = "", GOCACHE = cache .. "/go-build",
  }) .. "/client"
end

--- Compiles a Java class.
---@return string[] arguments of java that run it with MariaDB Connector/J
function M.java(class, source)
  local folder = build("java-" .. class, "javac", { source, "-d" })
  return { "-cp", folder .. ":/usr/share/java/mariadb-java-client.jar", class }
end

--- What node needs to find npm's connectors.
M.node = { NODE_PATH = cache .. "/npm/node_modules" }

return M
