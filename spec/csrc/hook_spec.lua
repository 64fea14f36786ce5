local hook = require "mysql.hook"

describe("mysql.hook", function()
  local hooks

  before_each(function()
    hooks = hook.new()
  end)

  it("has one coroutine call many functions", function()
    local coroutines, count = {}, 0
    for i = 1, 100 do
      assert.same({ "done", i + 1 }, { hooks:call(i, function(a)
        local running = coroutine.running()
        count = coroutines[running] and count or count + 1
        coroutines[running] = true
        return a + 1, "and more"
      end, i) })
    end
    assert.equal(1, count)
    assert.same({ "done", nil }, { hooks:call(1, function() end) })
    assert.same({ "done", "7" }, { hooks:call(1, tostring, 7) })
  end)

  it("lets them wait, each in one of its own from then on", function()
    local waiting = {}
    for i = 1, 3 do
      local status, value, thread = hooks:call(i, function()
        return coroutine.yield("a question", 1) .. coroutine.yield() .. hooks:running()
      end)
      assert.same({ "waits", "a question" }, { status, value })
      waiting[i] = thread
    end
    for i = 3, 1, -1 do
      assert.same({ "waits", nil, waiting[i] }, { hooks:resume(i, waiting[i], "an answer", 2) })
    end
    for i = 1, 3 do
      assert.same({ "done", "an answer to it" .. i }, { hooks:resume(i, waiting[i], " to it") })
    end
    assert.has_error(function()
      hooks:resume(1, waiting[1])
    end, "bad argument #2 to 'resume' (a coroutine that waits expected)")
  end)

  it("leaves the stack of one that has failed for a traceback", function()
    local function fails()
      error("no " .. tostring(nil), 0)
    end
    local status, message, thread = hooks:call(1, fails)
    assert.same({ "failed", "no nil" }, { status, message })
    assert.matches("in function 'error'.*in function <.*hook_spec.lua", debug.traceback(thread))
    assert.same({ "done", 1 }, { hooks:call(1, math.abs, -1) })
    assert.matches("in function 'error'.*in function <.*hook_spec.lua", debug.traceback(thread))
  end)

  it("has errors that are no text, and calls what can be called", function()
    local mistake = {}
    local status, message = hooks:call(1, error, mistake)
    assert.same({ "failed", mistake }, { status, message })
    status, message = hooks:call(1, 42)
    assert.same({ "failed", "attempt to call a number value" }, { status, message })
    assert.same({ "done", "x" }, { hooks:call(1, setmetatable({}, {
      __call = function(_, argument)
        return argument
      end,
    }), "x") })
  end)

  it("knows which function runs, and where it may wait", function()
    assert.equal(0, hooks:running())
    assert.is_false(hooks:can_wait())
    assert.same({ "done", "inner" }, { hooks:call(1, function(argument)
      assert.equal("outer", argument)
      assert.is_true(hooks:can_wait())
      assert.is_false(coroutine.wrap(function() return hooks:can_wait() end)())
      local outer = coroutine.running()
      local status, value = hooks:call(2, function()
        assert.not_equal(outer, coroutine.running())
        assert.is_true(hooks:can_wait())
        assert.same({ 2, true, true, false }, { hooks:running(), hooks:runs(1), hooks:runs(2), hooks:runs(3) })
        return "inner"
      end)
      assert.same({ 1, true, false }, { hooks:running(), hooks:runs(1), hooks:runs(2) })
      assert.equal("done", status)
      return value
    end, "outer") })
    local _, _, thread = hooks:call(3, function() coroutine.yield() end)
    assert.is_false(hooks:runs(3))
    hooks:resume(3, thread)
    hooks:call(4, error)
    assert.equal(0, hooks:running())
  end)

  it("gives the next function nothing that one has done to its coroutine", function()
    local original, hooked = getfenv(0), 0
    local function globals()
      return getfenv(0)
    end
    hooks:call(1, function()
      setfenv(0, {})
    end)
    assert.equal(original, select(2, hooks:call(2, globals)))
    local _, _, thread = hooks:call(4, function()
      coroutine.yield()
      setfenv(0, {})
      for number = 5, 6 do -- within a function that has its own
        assert.same({ "done", original }, { hooks:call(number, globals) })
      end
    end)
    assert.equal("done", (hooks:resume(4, thread)))
    assert.equal(original, select(2, hooks:call(7, globals)))
    if not rawget(_G, "jit") then -- whose debug hooks are those of the whole process
      hooks:call(1, function()
        debug.sethook(function() hooked = hooked + 1 end, "", 1)
      end)
      local before = hooked
      assert.is_true(before > 0)
      hooks:call(2, globals)
      assert.equal(before, hooked)
    end
  end)

  it("refuses what it cannot run", function()
    for _, wrong in ipairs { 1, "x", print, {}, coroutine.create(function() end) } do
      assert.error_matches(function()
        hooks:resume(1, wrong)
      end, "a coroutine that waits expected", nil, true)
    end
    assert.error_matches(function()
      hooks:call(1)
    end, "value expected", nil, true)
  end)
end)
