--- Unit tests of scripts, outside of a proxy:
--
--   local tests = require "proxy.test"
--   TestScript = tests.ProxyBaseTest:new()
--   function TestScript:setUp() self:setDefaultScope() end
--   function TestScript:testSomething() assertEquals(1 + 1, 2) end
--   local suite = tests.Suite:new { result = tests.Result:new() }
--   suite:run()
--   suite.result:print()
--   os.exit(suite:exit_code())

local M = {}

local function fail(message, text)
  error((message and message .. ": " or "") .. text, 3)
end

--- Raises unless both are equal; tables are equal only to themselves.
function M.assertEquals(is, expected, message)
  if type(is) ~= type(expected) then
    fail(message, ("got type '%s' for <%s>, expected type '%s' for <%s>"):format(
      type(is), tostring(is), type(expected), tostring(expected)))
  elseif is ~= expected then
    fail(message, ("got '%s' <%s>, expected '%s' <%s>"):format(
      tostring(is), type(is), tostring(expected), type(expected)))
  end
end

--- Raises if both are equal.
function M.assertNotEquals(is, expected, message)
  if is == expected then
    fail(message, ("got '%s' <%s>, expected something else"):format(tostring(is), type(is)))
  end
end

local Class = {}

-- An object, or a class that inherits: both are tables that fall back on this one.
function Class:new(object)
  return setmetatable(object or {}, { __index = self })
end

M.BaseTest = Class:new()

function M.BaseTest.setUp() end

function M.BaseTest.tearDown() end

M.ProxyBaseTest = M.BaseTest:new()

local function unknown(_, key)
  error(("proxy.[%s] is unknown, please adjust the mock here"):format(tostring(key)), 2)
end

--- Installs a mock for the global `proxy`, which raises for what is not in it.
function M.ProxyBaseTest.setDefaultScope()
  _G.proxy = setmetatable({
    global = { config = {} },
    queries = {},
    response = {},
    PROXY_SEND_RESULT = 1, -- not the proxy's own values
    PROXY_SEND_QUERY = 2,
  }, { __index = unknown })
end

M.Result = Class:new()

function M.Result:new(object)
  object = Class.new(self, object)
  object.passed, object.failed, object.failed_tests = 0, 0, {}
  return object
end

--- Prints the failed tests, and how many there were of either.
function M.Result:print()
  local names = {}
  for name in pairs(self.failed_tests) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    print(("%s failed: %s"):format(name, self.failed_tests[name]))
  end
  print(("%d passed, %d failed"):format(self.passed, self.failed))
end

M.Suite = Class:new()

local function sorted_names(from, prefix)
  local names = {}
  for name in pairs(from) do
    if type(name) == "string" and name:sub(1, #prefix) == prefix then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- setUp, the test, and tearDown, whatever happened before.
local function run_test(object, method)
  local ok, message = pcall(function()
    if object.setUp then
      object:setUp()
    end
    object[method](object)
  end)
  local cleaned, cleaning = pcall(object.tearDown or function() end, object)
  return ok and cleaned, ok and cleaning or message
end

function M.Suite:_run_class(name, object)
  for _, method in ipairs(sorted_names(object, "test")) do
    if type(object[method]) == "function" then
      local ok, message = run_test(object, method)
      if ok then
        self.result.passed = self.result.passed + 1
      else
        self.result.failed = self.result.failed + 1
        self.result.failed_tests[name .. "." .. method] = tostring(message)
      end
    end
  end
end

--- Runs the methods test... of classes.
---@param classes? table classes by name, or an array of classes or of names of global ones; default: all global tables
---       whose names begin with Test
function M.Suite:run(classes)
  for _, name in ipairs(sorted_names(classes or _G, "Test")) do
    local object = (classes or _G)[name]
    if type(object) == "table" then
      self:_run_class(name, object)
    end
  end
  for i, object in ipairs(classes or {}) do
    if type(object) == "table" then
      self:_run_class(tostring(i), object)
    else
      self:_run_class(object, _G[object])
    end
  end
end

--- What a program would end with.
---@return integer 0 if no test has failed, else 1
function M.Suite:exit_code()
  return self.result.failed == 0 and 0 or 1
end

_G.assertEquals, _G.assertNotEquals = M.assertEquals, M.assertNotEquals

return M
