-- scripting/types.lua, which only editors read, says what there is.

local check_script = require "mysql-proxy.check_script"
local constants = require "mysql-proxy.scripting.constants"

local process = require "spec.support.process"

describe("the type file for scripts", function()
  local classes, values = {}, {} -- class -> names; constant -> value

  local class
  for line in process.read_file("lua/mysql-proxy/scripting/types.lua"):gmatch("[^\n]+") do
    local name = line:match("^%-%-%-@class (%w+)")
    local field, rest = line:match("^%-%-%-@field ([%w_]+) (.*)")
    if name then
      class = {}
      classes[name] = class
    elseif field then
      class[field] = true
      values[field] = tonumber(rest)
    end
  end

  local function names_of(known)
    local names = {}
    for name in pairs(known) do
      names[name] = true
    end
    return names
  end

  it("has every constant, with its value", function()
    for name, value in pairs(constants) do
      assert.is_true(classes.ProxyTable[name], name)
      assert.is_true(name == "PROXY_VERSION" or values[name] == value, name)
    end
  end)

  it("has three names for what a hook may return, and none for no decision", function()
    local names = {}
    for name, value in pairs(constants) do
      if name:find("^PROXY_") and name ~= "PROXY_VERSION" then
        names[value] = name
      end
    end
    assert.same({ "PROXY_SEND_QUERY", "PROXY_SEND_RESULT", [4] = "PROXY_IGNORE_RESULT" }, names)
  end)

  it("names what --check-script knows, and nothing else", function()
    local proxy, inj = check_script.NAMES.proxy, check_script.NAMES.inj
    for class_name, known in pairs {
      ProxyConnection = proxy.connection, ProxySide = proxy.connection.client,
      ProxyAddress = proxy.connection.client.src, ProxyQueries = proxy.queries,
      ProxyResponse = proxy.response, ProxyAsync = proxy.async, Injection = inj, InjectionResultset = inj.resultset,
    } do
      assert.same(names_of(known), classes[class_name], class_name)
    end
    for name in pairs(classes.ProxyTable) do
      assert.truthy(proxy[name], name)
    end
  end)
end)
