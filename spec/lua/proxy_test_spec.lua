local tests = require "proxy.test"

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

describe("proxy.test", function()
  describe("assertEquals", function()
    it("is content with what is equal", function()
      local table = {}
      for _, value in ipairs { 1, "text", true, table } do
        tests.assertEquals(value, value)
      end
      tests.assertEquals(nil, nil)
    end)

    it("says what differs", function()
      assert.matches("got '1' <number>, expected '2' <number>$", message_of(tests.assertEquals, 1, 2))
      assert.matches("got 'a' <string>, expected 'b' <string>$", message_of(tests.assertEquals, "a", "b"))
      assert.matches("got type 'string' for <1>, expected type 'number' for <1>$",
        message_of(tests.assertEquals, "1", 1))
      assert.matches("got type 'nil' for <nil>, expected type 'boolean' for <false>$",
        message_of(tests.assertEquals, nil, false))
      assert.matches("got 'table: .*' <table>, expected 'table: .*' <table>$",
        message_of(tests.assertEquals, {}, {}))
    end)

    it("says where, and what was meant", function()
      local message = message_of(function()
        tests.assertEquals(1, 2, "the sum")
      end)
      assert.matches("proxy_test_spec.lua:%d+: the sum: got '1'", message)
    end)
  end)

  it("assertNotEquals raises for what is equal", function()
    tests.assertNotEquals(1, 2)
    tests.assertNotEquals(1, "1")
    tests.assertNotEquals(nil, false)
    assert.matches("the sum: got '1' <number>", message_of(tests.assertNotEquals, 1, 1, "the sum"))
  end)

  it("exports both", function()
    assert.equal(tests.assertEquals, rawget(_G, "assertEquals"))
    assert.equal(tests.assertNotEquals, rawget(_G, "assertNotEquals"))
  end)

  describe("ProxyBaseTest", function()
    local before

    before_each(function()
      before = rawget(_G, "proxy")
    end)

    after_each(function()
      rawset(_G, "proxy", before)
    end)

    it("has a mock of `proxy`", function()
      local test = tests.ProxyBaseTest:new()
      test:setDefaultScope()
      assert.equal(1, _G.proxy.PROXY_SEND_RESULT)
      assert.equal(2, _G.proxy.PROXY_SEND_QUERY)
      assert.matches("proxy.[connection] is unknown, please adjust the mock here", message_of(function()
        return _G.proxy.connection
      end), 1, true)
      _G.proxy.connection = { client = {} }
      assert.same({ client = {} }, _G.proxy.connection)
      assert.is_table(_G.proxy.global.config)
    end)

    it("has a fresh one each time", function()
      local test = tests.ProxyBaseTest:new()
      test:setDefaultScope()
      _G.proxy.global.config.x, _G.proxy.connection = 1, {}
      test:setDefaultScope()
      assert.is_nil(_G.proxy.global.config.x)
      assert.is_false(pcall(function()
        return _G.proxy.connection
      end))
    end)
  end)

  describe("Suite", function()
    local suite, result, calls

    before_each(function()
      calls = {}
      result = tests.Result:new()
      suite = tests.Suite:new { result = result }
    end)

    local function record(call)
      return function()
        calls[#calls + 1] = call
      end
    end

    local function failing()
      error "wrong"
    end

    it("runs setUp, the test and tearDown of each test", function()
      local sample = tests.BaseTest:new { setUp = record "up", tearDown = record "down" }
      sample.testOne, sample.testTwo, sample.helper = record "one", record "two", record "helper"
      suite:run { TestSample = sample }
      assert.same({ "up", "one", "down", "up", "two", "down" }, calls)
      assert.equal(2, result.passed)
      assert.equal(0, result.failed)
      assert.equal(0, suite:exit_code())
    end)

    it("needs no setUp", function()
      local sample = tests.BaseTest:new()
      function sample:testItself()
        assert.equal(sample, self)
        calls[#calls + 1] = "itself"
      end
      suite:run { TestSample = sample, TestPlain = { testPlain = record "plain" } }
      assert.equal(2, result.passed)
      assert.equal(2, #calls)
    end)

    it("goes on after a test that fails, and cleans up behind it", function()
      suite:run { TestSample = tests.BaseTest:new {
        tearDown = record "down", testA = failing, testB = record "b",
      } }
      assert.same({ "down", "b", "down" }, calls)
      assert.equal(1, result.passed)
      assert.equal(1, result.failed)
      assert.matches("wrong", result.failed_tests["TestSample.testA"], 1, true)
      assert.equal(1, suite:exit_code())
    end)

    it("counts a test as failed if setUp or tearDown fails", function()
      suite:run {
        TestSetUp = tests.BaseTest:new { setUp = failing, testA = record "a" },
        TestTearDown = tests.BaseTest:new { tearDown = failing, testB = record "b" },
      }
      assert.same({ "b" }, calls)
      assert.equal(0, result.passed)
      assert.equal(2, result.failed)
    end)

    it("runs the global tables that are called Test...", function()
      rawset(_G, "TestOfThisSpec", tests.BaseTest:new { testIt = record "global" })
      rawset(_G, "TestNoTable", true)
      rawset(_G, "NoTestOfThisSpec", tests.BaseTest:new { testIt = record "no test" })
      finally(function()
        for _, name in ipairs { "TestOfThisSpec", "TestNoTable", "NoTestOfThisSpec" } do
          rawset(_G, name, nil)
        end
      end)
      suite:run()
      assert.same({ "global" }, calls)
      suite:run { "TestOfThisSpec" }
      suite:run { tests.BaseTest:new { testIt = record "array" } }
      assert.same({ "global", "global", "array" }, calls)
    end)

    it("prints the result", function()
      local lines = {}
      local printing = stub(_G, "print", function(line)
        lines[#lines + 1] = line
      end)
      suite:run { TestSample = tests.BaseTest:new { testA = failing, testB = record "b" } }
      result:print()
      printing:revert()
      assert.matches("^TestSample.testA failed: .*wrong$", lines[1])
      assert.equal("1 passed, 1 failed", lines[2])
      assert.equal(2, #lines)
    end)

    it("has a result of its own for each Result:new", function()
      suite:run { TestSample = { testA = failing } }
      assert.same({ 0, 0, {} }, { tests.Result:new().passed, tests.Result:new().failed,
        tests.Result:new().failed_tests })
    end)
  end)
end)
