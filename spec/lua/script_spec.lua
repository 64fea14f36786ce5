-- The file of a script: compiled once for each version, and each chunk run by one at a time.

local logs = require "mysql-proxy.log"
local process = require "spec.support.process"
local script = require "mysql-proxy.script"
local uv = require "luv"

local log = logs.new { level = "error" }

describe("mysql-proxy.script", function()
  it("hands out a chunk again when it has been released, and others until then", function()
    local path = process.write_file(process.path("script.lua"), "x = (x or 0) + 1 return x, getfenv(1)")
    local one = assert(script.load(path, log))
    local two = assert(script.load(path, log))
    assert.are_not.equal(one, two)
    local environments = { script.environment(), script.environment() }
    setfenv(one, environments[1])
    setfenv(two, environments[2])
    assert.same({ 1, environments[1] }, { one() })
    assert.same({ 1, environments[2] }, { two() })
    script.release(two)
    assert.equal(_G, getfenv(two)) -- nothing is kept that a connection has made
    assert.equal(two, script.load(path, log))
    script.release(two)
    process.write_file(path, "return 'a new version'")
    local new = script.load(path, log)
    assert.equal("a new version", new())
    script.release(one)
    script.release(new)
    assert.equal(new, script.load(path, log))
  end)

  it("compiles a file again when its time, to the nanosecond, its size or the file itself is another", function()
    local path, loads = process.path("script.lua"), 0
    local function is(text, time)
      assert(uv.fs_utime(path, time, time))
      for _ = 1, 2 do
        local chunk = script.load(path, log)
        assert.equal(text, chunk())
        script.release(chunk)
      end
      loads = loads + 1
      assert.equal(loads, script.status(path).version)
    end
    process.write_file(path, "return 'one'")
    is("one", 1000)
    process.write_file(path, "return 'two'")
    is("two", 1001)
    process.write_file(path, "return 'ten'")
    is("ten", 1001.25)
    process.write_file(path, "return 'three'")
    is("three", 1001.25)
    local other = process.write_file(process.path("other.lua"), "return 'seven'")
    assert(uv.fs_rename(other, path))
    is("seven", 1001.25)
  end)

  it("keeps no chunk of an old version", function()
    local path, kept = process.path("script.lua"), setmetatable({}, { __mode = "k" })
    for version = 1, 3 do
      process.write_file(path, ("return 1%s"):format(("0"):rep(version)))
      local chunk = script.load(path, log)
      kept[chunk] = true
      script.release(chunk)
    end
    collectgarbage()
    collectgarbage()
    local count = 0
    for _ in pairs(kept) do
      count = count + 1
    end
    assert.equal(1, count)
  end)

  it("puts the whole path into messages of Lua", function()
    local path = "/a/path/that/is/much/longer/than/the/room/that/Lua/has/100%/rules.lua"
    local _, failure = pcall(assert(loadstring("error('oops')", path)))
    assert.is_nil(failure:find("rules.lua", 1, true))
    assert.equal(('[string "%s"]:1: oops'):format(path), script.with_whole_path(failure, path))
    assert.equal(('[string "%s"]:1: unexpected symbol near \'=\''):format(path),
      script.with_whole_path(select(2, loadstring("=", path)), path))
    for _, text in ipairs { "no chunk's name", '[string "/short.lua"]:1: oops', '[string "return 1 + ..."]:1: oops',
      '[string "..."]:1: oops' } do
      assert.equal(text, script.with_whole_path(text, path))
    end
  end)
end)
