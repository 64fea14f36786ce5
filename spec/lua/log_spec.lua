local log = require("mysql-proxy.log")

describe("mysql-proxy.log", function()
  local folder, path, opened, now
  local real_time = os.time

  before_each(function()
    folder = io.popen("mktemp -d"):read("*l")
    path = folder .. "/proxy.log"
    opened = {}
    now = real_time({ year = 2026, month = 3, day = 4, hour = 5, min = 6, sec = 7 })
    os.time = function() -- luacheck: ignore 122
      return now
    end
  end)

  after_each(function()
    os.time = real_time -- luacheck: ignore 122
    for _, one in ipairs(opened) do
      one:close()
    end
    os.execute("rm -r " .. folder)
  end)

  local function open(level)
    local one = assert(log.new({ level = level, file = path }))
    opened[#opened + 1] = one
    return one
  end

  local function contents(of)
    local file = assert(io.open(of or path))
    local text = file:read("*a")
    file:close()
    return text
  end

  -- The lines without time.
  local function lines(of)
    local found = {}
    for line in contents(of):gmatch("([^\n]*)\n") do
      found[#found + 1] = line:gsub("^2026%-03%-04 %d%d:%d%d:%d%d: ", "")
    end
    return found
  end

  it("writes lines of local time, level and text, each at once", function()
    local one = open("debug")
    one:error("first")
    assert.equal("2026-03-04 05:06:07: (error) first\n", contents())
    now = now + 61
    one:debug("second")
    assert.equal("2026-03-04 05:06:07: (error) first\n2026-03-04 05:07:08: (debug) second\n", contents())
  end)

  it("has the six levels and writes those from its own upwards", function()
    for rank, level in ipairs(log.LEVELS) do
      os.remove(path)
      local one = open(level)
      local expected = {}
      for other_rank, other in ipairs({ "error", "critical", "warning", "message", "info", "debug" }) do
        one[other](one, "text")
        assert.equal(other_rank <= rank, one:enabled(other))
        if other_rank <= rank then
          expected[#expected + 1] = ("(%s) text"):format(other)
        end
      end
      assert.same(expected, lines())
    end
  end)

  it("writes critical lines and errors if no level is set", function()
    local one = open()
    one:warning("no")
    one:critical("yes")
    assert.same({ "(critical) yes" }, lines())
  end)

  it("refuses a level that there is not", function()
    assert.error_matches(function()
      log.new({ level = "loud" })
    end, "bad log level 'loud'", nil, true)
  end)

  it("appends to a file that exists, and makes a new one that others cannot read", function()
    open():critical("one")
    open():critical("two")
    assert.same({ "(critical) one", "(critical) two" }, lines())
    local allowed = io.popen("printf '%o\\n' $((0660 & ~$(umask)))"):read("*l")
    assert.equal(allowed, io.popen("stat -c %a " .. path):read("*l"))
  end)

  it("says which file it cannot open and why", function()
    local one, message = log.new({ file = folder .. "/missing/proxy.log" })
    assert.is_nil(one)
    assert.matches(("can't open log-file '%s/missing/proxy.log': "):format(folder), message, 1, true)
    assert.matches("No such file or directory", message, 1, true)
  end)

  it("writes to standard error without a file", function()
    local code = [[require("mysql-proxy.log").new({}):critical("to stderr")]]
    local interpreter = require("spec.support.interpreter")
    local pipe = io.popen(("%s -e '%s' 2>&1 >/dev/null"):format(interpreter, code))
    assert.matches("^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d: %(critical%) to stderr\n$", pipe:read("*a"))
    pipe:close()
  end)

  it("keeps hostile text on its line", function()
    open():critical("user 'x\n2026-03-04 05:06:07: (error) forged\r\27[31m\0\127\t'")
    assert.same({ "(critical) user 'x\\n2026-03-04 05:06:07: (error) forged\\r\\x1b[31m\\x00\\x7f\\t'" }, lines())
  end)

  it("says below a traceback in which session it was, on one line", function()
    local session = setmetatable({}, { __tostring = function() return "session 1 (x\n@y)" end })
    open():critical("it broke", "where", session)
    open():critical("it broke", nil, session)
    open():about(session, "critical", "it broke", "where")
    assert.same({
      "(critical) it broke", "\twhere", "\tin session 1 (x\\n@y)", "(critical) it broke",
      "(critical) session 1 (x\\n@y): it broke", "\twhere",
    }, lines())
  end)

  it("indents the lines of a traceback", function()
    open():critical("it broke", "stack traceback:\n\tfile.lua:1: in \27x\n2026-03-04 05:06:07: (error) forged")
    assert.same({
      "(critical) it broke",
      "\tstack traceback:",
      "\tfile.lua:1: in \\x1bx",
      "\t2026-03-04 05:06:07: (error) forged",
    }, lines())
  end)

  it("leaves text in other languages as it is", function()
    open():critical("Zugriff für »jürgen« verweigert")
    assert.same({ "(critical) Zugriff für »jürgen« verweigert" }, lines())
  end)

  describe("counts equal lines in succession", function()
    it("and tells their number before another line", function()
      local one = open()
      for _ = 1, 4 do
        one:critical("again")
      end
      assert.same({ "(critical) again" }, lines())
      one:critical("other")
      assert.same({ "(critical) again", "(critical) last message repeated 3 times", "(critical) other" }, lines())
    end)

    it("but not where only the level differs", function()
      local one = open()
      one:critical("same")
      one:error("same")
      assert.same({ "(critical) same", "(error) same" }, lines())
    end)

    it("and tells their number after more than 100", function()
      local one = open()
      for _ = 1, 101 do
        one:critical("again")
      end
      assert.same({ "(critical) again" }, lines())
      one:critical("again")
      assert.same({ "(critical) again", "(critical) last message repeated 101 times" }, lines())
      one:critical("other")
      assert.equal("(critical) other", lines()[3])
    end)

    it("and tells their number after more than 30 seconds", function()
      local one = open()
      one:critical("again")
      now = now + 30
      one:critical("again")
      assert.equal(1, #lines())
      now = now + 1
      one:critical("again")
      assert.same({ "(critical) again", "(critical) last message repeated 2 times" }, lines())
      now = now + 1
      one:critical("again")
      assert.equal(2, #lines())
    end)

    it("and tells their number when it is closed", function()
      local one = open()
      one:critical("again")
      one:critical("again")
      one:close()
      assert.same({ "(critical) again", "(critical) last message repeated 1 times" }, lines())
    end)
  end)

  describe("reopen", function()
    it("goes on in a new file after the old one was renamed", function()
      local one = open()
      one:critical("text")
      one:critical("text")
      assert(os.rename(path, path .. ".1"))
      assert.is_true(one:reopen())
      one:critical("text")
      assert.same({ "(critical) text", "(critical) last message repeated 1 times" }, lines(path .. ".1"))
      assert.same({ "(critical) text" }, lines())
    end)

    it("keeps the old file if the new one cannot be opened", function()
      local one = open()
      assert(os.rename(path, path .. ".1"))
      os.execute("mkdir " .. path)
      local ok, message = one:reopen()
      assert.is_nil(ok)
      assert.matches("can't open log-file '", message, 1, true)
      one:critical("still here")
      assert.same({ "(critical) still here" }, lines(path .. ".1"))
    end)
  end)

  describe("as JSON", function()
    local cjson = require("cjson")

    it("has one object in a line, with time, level and message", function()
      local one = assert(log.new({ level = "debug", file = path, format = "json" }))
      one:warning('a "quote", a\nline and »more«', "stack traceback:\n\tx")
      one:close()
      local text = contents()
      assert.matches("^[^\n]+\n$", text)
      local object = cjson.decode(text)
      assert.matches("^2026%-03%-0[345]T%d%d:06:07Z$", object.time)
      object.time = nil
      assert.same({ level = "warning", message = 'a "quote", a\nline and »more«', traceback = "stack traceback:\n\tx" },
        object)
    end)

    it("names session, client, user and backend, as far as they are known", function()
      local one = assert(log.new({ file = path, format = "json" }))
      local session = { id = 3, client_name = "127.0.0.1:5" }
      one:about(session, "critical", "begun")
      session.login, session.backend = { username = "ed" }, { address = "db:3306" }
      one:critical("going on", nil, session)
      one:close()
      local first, second = contents():match("^(.-)\n(.-)\n$")
      local object = cjson.decode(first)
      assert.same({ "begun", 3, "127.0.0.1:5" }, { object.message, object.session, object.client, object.user })
      assert.is_nil(object.backend)
      object = cjson.decode(second)
      assert.same({ "going on", 3, "127.0.0.1:5", "ed", "db:3306" },
        { object.message, object.session, object.client, object.user, object.backend })
    end)

    it("is UTF-8, whatever a client has sent", function()
      local one = assert(log.new({ file = path, format = "json" }))
      one:critical("ü\255\192\128\237\160\128\240\159\152\128\0\27")
      one:close()
      assert.equal("ü\\xff\\xc0\\x80\\xed\\xa0\\x80\240\159\152\128\0\27", cjson.decode(contents()).message)
      assert.is_nil(contents():find("[%z\27]"))
    end)

    it("counts equal lines in succession", function()
      local one = assert(log.new({ file = path, format = "json" }))
      one:critical("again")
      now = now + 1
      one:critical("again")
      one:close()
      assert.matches('"message":"last message repeated 1 times"}\n$', contents())
    end)
  end)

  it("begins a line with the session that it is about", function()
    local session = setmetatable({ id = 3 }, { __tostring = function() return "session 3" end })
    local one = open()
    one:about(session, "critical", "ended", "trace")
    one:about(session, "debug", "unseen")
    assert.same({ "(critical) session 3: ended", "\ttrace" }, lines())
  end)

  it("changes its level", function()
    local one = open()
    one:set_level("info")
    one:info("seen")
    one:debug("unseen")
    assert.is_true(one:enabled("info"))
    one:set_level("critical")
    one:info("unseen")
    assert.same({ "(info) seen" }, lines())
  end)

  it("writes nothing after it was closed", function()
    local one = open()
    one:close()
    one:close()
    one:critical("late")
    assert.same({}, lines())
  end)

  it("does not hand its file to child processes", function()
    open()
    local pipe = io.popen("ls -l /proc/self/fd")
    local descriptors = pipe:read("*a")
    pipe:close()
    assert.is_nil(descriptors:find(path, 1, true))
  end)
end)
