local coroutines = require "mysql.hook"

describe("mysql.hook", function()
  local resume = coroutines.resume
  local thread

  before_each(function()
    thread = coroutines.new()
  end)

  it("has one coroutine call many functions", function()
    for i = 1, 100 do
      assert.same({ "done", i + 1 }, { resume(thread, function(a, b)
        return a + b, "and more"
      end, i, 1) })
      assert.is_true(coroutines.is_free(thread))
    end
    assert.same({ "done", nil }, { resume(thread, function() end) })
    assert.same({ "done", "7" }, { resume(thread, tostring, 7) })
  end)

  it("lets them wait", function()
    for _ = 1, 3 do
      assert.same({ "waits", "a question" }, { resume(thread, function()
        return coroutine.yield("a question", 1) .. coroutine.yield()
      end) })
      assert.is_false(coroutines.is_free(thread))
      assert.same({ "waits", nil }, { resume(thread, "an answer", 2) })
      assert.same({ "done", "an answer to it" }, { resume(thread, " to it") })
    end
  end)

  it("leaves the stack of one that has failed for a traceback", function()
    local function fails()
      error("no " .. tostring(nil), 0)
    end
    assert.same({ "failed", "no nil" }, { resume(thread, fails) })
    assert.matches("in function 'error'.*in function <.*hook_spec.lua", debug.traceback(thread))
    assert.is_false(coroutines.is_free(thread))
    assert.has_error(function()
      resume(thread, fails)
    end, "bad argument #1 to 'resume' (a coroutine that waits, or a free one and a function expected)")
  end)

  it("has errors that are no text, and calls what can be called", function()
    local mistake = {}
    assert.same({ "failed", mistake }, { resume(thread, error, mistake) })
    local status, message = resume(coroutines.new(), 42)
    assert.same({ "failed", "attempt to call a number value" }, { status, message })
    assert.same({ "done", "x" }, { resume(coroutines.new(), setmetatable({}, {
      __call = function(_, argument)
        return argument
      end,
    }), "x") })
  end)

  it("does not run one that runs already", function()
    local status, message = resume(thread, function()
      assert.is_false(coroutines.is_free(thread))
      return resume(thread, print)
    end)
    assert.equal("failed", status)
    assert.matches("another coroutine expected", message)
    status, message = resume(coroutines.new(), function()
      return "fine"
    end)
    assert.same({ "done", "fine" }, { status, message })
  end)

  it("refuses what is no coroutine", function()
    for _, wrong in ipairs { 1, "x", print, {} } do
      assert.error_matches(function()
        resume(wrong, print)
      end, "another coroutine expected", nil, true)
    end
    assert.error_matches(function()
      resume(thread)
    end, "a free one and a function expected", nil, true)
  end)
end)
