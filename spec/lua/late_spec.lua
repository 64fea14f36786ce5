local late = require "mysql-proxy.late"

local process = require "spec.support.process"

local lfs = require "lfs"
local uv = require "luv"

describe("mysql-proxy.late", function()
  local folder, path

  before_each(function()
    folder, path = process.path("modules"), package.path
    assert(uv.fs_mkdir(folder, tonumber("700", 8)))
    assert(uv.fs_mkdir(folder .. "/late_example", tonumber("700", 8)))
    package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(folder, folder, path)
  end)

  after_each(function()
    package.path = path
    for _, list in ipairs { package.loaded, package.preload } do
      for name in pairs(list) do
        if name:find("^late_example") then
          list[name] = nil
        end
      end
    end
    rawset(_G, "late_example_runs", nil)
  end)

  local function write(name, text)
    return process.write_file(folder .. "/late_example/" .. name, text)
  end

  it("reads a module at once, and runs it when it is first required", function()
    local file = write("one.lua", [[
      rawset(_G, "late_example_runs", (rawget(_G, "late_example_runs") or 0) + 1)
      return { name = ..., version = "old" }
    ]])
    late.read { "late_example.one" }
    process.write_file(file, 'return { version = "new" }')
    assert.is_nil(rawget(_G, "late_example_runs"))
    assert.same({ name = "late_example.one", version = "old" }, require "late_example.one")
    assert.equal(require "late_example.one", require "late_example.one")
    assert.equal(1, rawget(_G, "late_example_runs"))
  end)

  it("finds a module in a folder's init.lua", function()
    local file = write("init.lua", "return { ... }")
    late.read { "late_example" }
    os.remove(file)
    assert.same({ "late_example" }, require "late_example")
  end)

  it("says in an error's message where it was", function()
    local file = write("fails.lua", "\n\nerror 'no luck'") -- Lua shortens the path
    late.read { "late_example.fails" }
    os.remove(file)
    local ok, message = pcall(require, "late_example.fails")
    assert.is_false(ok)
    assert.truthy(message:find("/late_example/fails.lua:3: no luck", 1, true), message)
  end)

  it("says where a module is wrong when that is required", function()
    local file = write("wrong.lua", "\nreturn return")
    late.read { "late_example.wrong" }
    os.remove(file)
    local ok, message = pcall(require, "late_example.wrong")
    assert.is_false(ok)
    assert.truthy(message:find("/late_example/wrong.lua:2: ", 1, true), message)
  end)

  it("knows all of the admin interface, but for what belongs to its beginning", function()
    local known = {}
    late.read_program()
    for name in pairs(package.preload) do
      known[name] = true
    end
    for _, place in ipairs { "admin", "admin/tables" } do
      for file in lfs.dir("lua/mysql-proxy/" .. place) do
        local name = "mysql-proxy." .. place:gsub("/", ".") .. "." .. (file:match("^([%w_]+)%.lua$") or "")
        assert(not file:find("%.lua$") or known[name] or package.loaded[name] or name:find("%.init$")
          or name == "mysql-proxy.admin.script", name)
      end
    end
  end)

  it("leaves what it does not find to require", function()
    late.read { "late_example.nowhere" }
    assert.is_nil(package.preload["late_example.nowhere"])
    assert.error_matches(function()
      require "late_example.nowhere"
    end, "module 'late_example.nowhere' not found", nil, true)
  end)

  it("leaves alone what has been loaded, or can be had otherwise", function()
    write("loaded.lua", "return 'from the file'")
    write("other.lua", "return 'from the file'")
    package.loaded["late_example.loaded"] = "there already"
    package.preload["late_example.other"] = function()
      return "from elsewhere"
    end
    late.read { "late_example.loaded", "late_example.other" }
    assert.is_nil(package.preload["late_example.loaded"])
    assert.equal("there already", require "late_example.loaded")
    assert.equal("from elsewhere", require "late_example.other")
  end)
end)
