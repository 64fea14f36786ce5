local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"

-- Runs an installed binary with no help from the environment, and asks it something.
local function answers(binary)
  local server = servers.all()[1]
  local port = process.free_port()
  local proxy = process.start(binary, {
    "--proxy-address=127.0.0.1:" .. port,
    "--proxy-read-only-address=127.0.0.1:" .. process.free_port(),
    "--proxy-backend-addresses=127.0.0.1:" .. server.port,
  }, { env = { "PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_leaks=0" }, cwd = "/" })
  assert(process.wait_until(function()
    return not proxy:running() or process.accepts(port)
  end, 10) and proxy:running(), proxy:stderr())
  local client = raw.connect(port):login("nopass")
  local first = client:query("SELECT 1")
  client:close()
  proxy:stop()
  return first == "\1"
end

local function succeeds(program, args, options)
  local code, output, errors = process.run(program, args, options)
  assert(code == 0, output .. errors)
end

describe("an installation #long", function()
  it("by cmake --install into any prefix serves a query", function()
    local prefix = process.path("prefix")
    succeeds("cmake", { "--install", proxies.build, "--prefix", prefix })
    assert.is_true(answers(prefix .. "/bin/mysql-proxy"))
    local installed = prefix .. "/share/mysql-proxy/examples/firewall.lua"
    assert.equal(process.read_file("examples/firewall.lua"), process.read_file(installed))
  end)

  it("may be moved", function()
    local prefix = process.path("prefix")
    succeeds("cmake", { "--install", proxies.build, "--prefix", prefix })
    os.rename(prefix, prefix .. "-moved")
    assert.is_true(answers(prefix .. "-moved/bin/mysql-proxy"))
  end)

  it("by luarocks serves a query, and its modules are found", function()
    local tree, source = process.path("tree"), process.path("source")
    succeeds("sh", { "-c", ("mkdir %s && tar -c CMakeLists.txt bin csrc lua rockspec | tar -xC %s"):format(
      source, source) })
    succeeds("luarocks", { "--lua-version=5.1", "make", "--deps-mode=none", "rockspec/mysql-proxy-scm-1.rockspec",
      "--tree", tree }, { cwd = source, seconds = 300 })
    assert.is_true(answers(tree .. "/bin/mysql-proxy"))
    local code, output, errors = process.run("lua5.1", { "-e", 'print(type(require("mysql-proxy").new))' }, {
      env = {
        "PATH=/usr/bin:/bin",
        ("LUA_PATH=%s/share/lua/5.1/?.lua;%s/share/lua/5.1/?/init.lua;;"):format(tree, tree),
        ("LUA_CPATH=%s/lib/lua/5.1/?.so;;"):format(tree),
      },
    })
    assert.equal(0, code, errors)
    assert.equal("function\n", output)
  end)
end)
