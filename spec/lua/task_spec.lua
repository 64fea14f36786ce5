local uv = require "luv"

local process = require "spec.support.process"
local task = require "mysql-proxy.task"

describe("mysql-proxy.task", function()
  local log = {
    guard = function(_, fn)
      return fn
    end,
  }
  local ended, failures

  before_each(function()
    ended, failures = {}, {}
  end)

  local function start(name, work)
    local one = task.new(log, work, function(failure)
      table.insert(ended, name)
      failures[name] = failure
    end)
    one:start()
    return one
  end

  -- Work of so many slices.
  local function long(slices)
    return function(self)
      for _ = 1, slices do
        local begun = self.began
        repeat
          self:pause()
        until self.began ~= begun
      end
    end
  end

  local function all_ended(count)
    assert(process.wait_until(function()
      return #ended == count
    end))
    return ended
  end

  it("does what is short before it goes on with what is long, one after the other", function()
    start("first", long(20))
    start("second", long(5))
    start("short", function() end)
    start("third", long(10))
    assert.same({ "short", "first", "second", "third" }, all_ended(4))
  end)

  it("goes on with what has been waited for", function()
    local answer
    start("waits", function(self)
      answer = { self:wait(function(resume)
        local timer = uv.new_timer()
        timer:start(1, 0, function()
          timer:close()
          resume("an", nil, "answer")
        end)
      end) }
    end)
    start("long", long(10))
    all_ended(2)
    assert.same({ "an", nil, "answer" }, answer)
  end)

  it("lets the loop get on between slices", function()
    local turns = 0
    local check = uv.new_check()
    check:start(function()
      turns = turns + 1
    end)
    start("long", long(10))
    all_ended(1)
    check:close()
    assert.is_true(turns >= 5, turns .. " turns") -- process.wait_until runs timers twice in each
  end)

  it("tells of an error, and nothing of what has been cancelled", function()
    local cancelled = start("cancelled", long(10))
    start("fails", function(self)
      long(3)(self)
      error("no", 0)
    end)
    cancelled:cancel()
    assert.same({ "fails" }, all_ended(1))
    assert.equal("no", failures.fails)
    start("last", long(3))
    assert.same({ "fails", "last" }, all_ended(2))
  end)
end)
