local lfs = require "lfs"
local lpeg = require "lpeg"
local uv = require "luv"

local process = require "spec.support.process"

local function required(name)
  return require("mysql-proxy.compatibility." .. name)
end

describe("glib2", function()
  local glib2 = required "glib2"

  it("hashes with MD5", function()
    assert.equal("d41d8cd98f00b204e9800998ecf8427e", glib2.md5(""))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", glib2.md5("abc"))
    assert.equal("93b885adfe0da089cdf634904fd59f71", glib2.md5("\0"))
    assert.is_false(pcall(glib2.md5))
  end)

  it("knows the time", function()
    local before = os.time()
    local now = glib2.get_current_time()
    assert.is_true(now.tv_sec >= before and now.tv_sec <= os.time())
    assert.is_true(now.tv_usec >= 0 and now.tv_usec < 1000000)
    assert.equal(math.floor(now.tv_usec), now.tv_usec)
    local again = glib2.get_current_time()
    assert.is_true(again.tv_sec + again.tv_usec / 1e6 >= now.tv_sec + now.tv_usec / 1e6)
  end)

  it("pauses for so many microseconds", function()
    local before = uv.hrtime()
    glib2.usleep(20000)
    assert.is_true(uv.hrtime() - before >= 20e6)
    before = uv.hrtime()
    glib2.usleep("100")
    assert.is_true(uv.hrtime() - before >= 1e5)
    glib2.usleep(0)
    glib2.usleep(-5)
    assert.error_matches(function()
      glib2.usleep("long")
    end, "bad argument #1 to 'usleep' (number expected, got string)", nil, true)
  end)

  it("holds up everything else meanwhile", function()
    local fired = false
    local timer = uv.new_timer()
    timer:start(1, 0, function()
      fired = true
    end)
    glib2.usleep(10000)
    assert.is_false(fired)
    process.wait_until(function()
      return fired
    end)
    timer:close()
  end)
end)

describe("posix", function()
  local posix = required "posix"

  it("knows its process and its user", function()
    assert.equal(uv.os_getpid(), posix.getpid())
    assert.equal(tonumber((select(2, process.run("id", { "-u" })))), posix.getuid())
  end)

  it("knows users by their ids", function()
    local root = posix.getpwuid(0)
    assert.same({ name = "root", uid = 0, gid = 0, dir = root.dir, shell = root.shell }, root)
    assert.matches("^/", root.dir)
    local line = select(2, process.run("getent", { "passwd", "1" }))
    local name, gid, dir, shell = line:match("^([^:]*):[^:]*:1:(%d+):[^:]*:([^:]*):([^:\n]*)\n")
    assert.same({ name = name, uid = 1, gid = tonumber(gid), dir = dir, shell = shell }, posix.getpwuid(1))
    assert.is_nil(posix.getpwuid(1234567))
    assert.is_false(pcall(posix.getpwuid, "root"))
  end)

  it("sends signals", function()
    local child = process.start("sleep", { "60" })
    assert.equal(0, posix.kill(child.pid, 0))
    assert.equal(0, posix.kill(tostring(child.pid), 15))
    assert.is_truthy(process.wait_until(function()
      return not child:running()
    end, 10))
    assert.equal(-1, posix.kill(2 ^ 30, 0)) -- more than the kernel's largest process id
    for _, arguments in ipairs { { child.pid }, { nil, 0 }, { "x", 0 }, { child.pid, {} } } do
      local ok, message = pcall(posix.kill, arguments[1], arguments[2])
      assert.is_false(ok)
      assert.matches("bad argument #%d to 'kill' %(number expected", message)
    end
  end)
end)

describe("chassis", function()
  local chassis = required "chassis"
  local lines, shutdowns

  local log = setmetatable({}, { __index = function(_, level)
    return function(_, text)
      lines[#lines + 1] = level .. " " .. text
    end
  end })

  local folder = lfs.currentdir()
  local file = debug.getinfo(1, "S").source:sub(2) -- relative or not, as the spec was named to busted
  file = file:sub(1, #folder + 1) == folder .. "/" and file:sub(#folder + 2) or file

  before_each(function()
    lines, shutdowns = {}, 0
    chassis.attach {
      log = log,
      shutdown = function()
        shutdowns = shutdowns + 1
      end,
      stats = function()
        return { proxy = { connections = 5 }, chassis = { uptime = 7 } }
      end,
      base_directory = folder,
    }
  end)

  after_each(function()
    chassis.attach {}
  end)

  local function current_line()
    return debug.getinfo(2, "l").currentline
  end

  it("logs at each level, with the place", function()
    for _, level in ipairs { "critical", "warning", "message", "info", "debug" } do
      chassis.log(level, "text")
      chassis[level]("text"); local line = current_line()
      assert.same({
        ("%s (%s:%d) text"):format(level, file, line - 1), ("%s (%s:%d) text"):format(level, file, line),
      }, lines)
      lines = {}
    end
  end)

  it("writes to the proxy's log", function()
    local path = process.path("log")
    local written = assert(require("mysql-proxy.log").new { level = "message", file = path })
    chassis.attach { log = written }
    for _, level in ipairs { "error", "critical", "warning", "message", "info", "debug" } do
      chassis.log(level, level .. "\ntext")
    end
    written:close()
    local found = {}
    for line in io.lines(path) do
      found[#found + 1] = line:gsub("^.-: ", ""):gsub(" %(.-:%d+%)", "")
    end
    assert.same({
      "(critical) error\\ntext", "(critical) critical\\ntext", "(warning) warning\\ntext", "(message) message\\ntext",
    }, found)
  end)

  it("logs an error as critical, and lives on", function()
    chassis.log("error", "text"); local line = current_line()
    assert.same({ ("critical (%s:%d) text"):format(file, line) }, lines)
  end)

  it("logs what is no text", function()
    chassis.log("info", nil)
    chassis.info()
    chassis.info(5)
    for i, text in ipairs { "nil", "nil", "5" } do
      assert.matches("%) " .. text .. "$", lines[i])
    end
  end)

  it("knows no other levels", function()
    for _, level in ipairs { "notice", "Critical", "" } do
      assert.error_matches(function()
        chassis.log(level, "text")
      end, ("bad argument #1 to 'log' (invalid option '%s')"):format(level), nil, true)
    end
    assert.error_matches(function()
      chassis.log()
    end, "bad argument #1 to 'log' (string expected, got nil)", nil, true)
    assert.same({}, lines)
  end)

  it("names a script's file relative to the base directory", function()
    local function run(path)
      lines = {}
      assert(loadstring("\nlocal chassis = ...\nchassis.message('text') chassis.log('message', 'text')", path))(chassis)
      assert.equal(lines[1], lines[2])
      return lines[1]
    end
    assert.equal("message (scripts/rules.lua:3) text", run(folder .. "/scripts/rules.lua"))
    assert.equal("message (scripts/rules.lua:3) text", run("@" .. folder .. "/scripts/rules.lua"))
    assert.equal("message (/elsewhere/rules.lua:3) text", run("/elsewhere/rules.lua"))
    assert.equal(("message (%sx/rules.lua:3) text"):format(folder), run(folder .. "x/rules.lua"))
    chassis.attach { log = log }
    assert.equal(("message (%s/rules.lua:3) text"):format(folder), run(folder .. "/rules.lua"))
  end)

  it("finds the place through what is no Lua", function()
    pcall(chassis.message, "text"); local line = current_line()
    assert.same({ ("message (%s:%d) text"):format(file, line) }, lines)
    assert.is_true(coroutine.resume(coroutine.create(chassis.message), "text"))
    assert.equal("message (?) text", lines[2])
  end)

  it("asks the process to stop", function()
    chassis.set_shutdown()
    assert.equal(1, shutdowns)
  end)

  it("has figures", function()
    assert.same({ proxy = { connections = 5 }, chassis = { uptime = 7 } }, chassis.get_stats())
    assert.same({ connections = 5 }, chassis.get_stats("proxy"))
    assert.is_nil(chassis.get_stats("admin"))
    assert.error_matches(function()
      chassis.get_stats("proxy", "chassis")
    end, "currently only zero or one arguments are allowed", nil, true)
    chassis.mem_profile()
  end)

  it("takes over print", function()
    local original = print
    finally(function()
      rawset(_G, "print", original)
      rawset(os, "print", nil)
    end)
    chassis.take_over_print()
    chassis.take_over_print()
    assert.equal(original, rawget(os, "print"))
    print("a", nil, 5); local line = current_line()
    print()
    assert.same({
      ("message (%s:%d) a\tnil\t5"):format(file, line), ("message (%s:%d) "):format(file, line + 1),
    }, lines)
  end)

  it("does what it can outside of a proxy", function()
    local code, output, errors = process.run("lua5.1", { "-e", [[
      local chassis = require "mysql-proxy.compatibility.chassis"
      chassis.warning("text")
      chassis.set_shutdown()
      assert(type(chassis.get_stats().chassis) == "table")
    ]] })
    assert.equal("", output)
    assert.matches("^%(warning%) %(.*:2%) text\n$", errors)
    assert.equal(0, code)
  end)
end)

describe("the modules' names", function()
  it("are globals too", function()
    for _, name in ipairs { "chassis", "glib2", "posix" } do
      assert.equal(required(name), rawget(_G, name))
    end
    assert.equal(lfs, rawget(_G, "lfs"))
    assert.equal(lpeg, rawget(_G, "lpeg"))
  end)

  it("stand for the functions that scripts use of lfs and lpeg", function()
    for name in ("attributes chdir currentdir dir lock mkdir rmdir touch unlock"):gmatch("%S+") do
      assert.is_function(lfs[name], name)
    end
    for name in ("match C Cc Cp Cb Carg Cmt Cs Ct P R S V type version"):gmatch("%S+") do
      assert.is_function(lpeg[name], name)
    end
    local P = lpeg.P
    local pattern = (P "a" + P "b") ^ 1 * #P "c" * (P(1) - P "d") / "%0" * -P "x"
    assert.equal("abc", lpeg.match(lpeg.Cs(pattern), "abcd"))
    assert.is_nil(lpeg.match(pattern, "abcx"))
    assert.equal("pattern", lpeg.type(pattern))
  end)
end)
