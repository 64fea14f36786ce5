local config_file = require "mysql-proxy.scripting.config_file"

local function read(text)
  return config_file.read(text, "options")
end

describe("mysql-proxy.scripting.config_file", function()
  it("writes a line for each option", function()
    local text = config_file.write {
      { module = "a", key = "b", value = 1 }, { module = "a", key = "c", value = true },
      { module = "a", key = "d", value = {} }, { module = "e", key = "f", value = "x" },
      { module = {}, key = "g", value = "x" }, { module = "e", key = print, value = "x" },
    }
    assert.equal([[
return {
  ["a"] = {
    ["b"] = 1,
    ["c"] = true,
  },
  ["e"] = {
    ["f"] = "x",
  },
}
]], text)
    assert.equal("return {\n}\n", config_file.write {})
  end)

  it("reads what it writes", function()
    local options, expected = {}, { m = {} }
    for index, value in ipairs {
      0.1, -2 ^ -40, 2 ^ 60, 1e300, math.huge, -math.huge, true, false, "", "a\nb\r\n\0c\\\"'\255\t", ("x"):rep(100000),
    } do
      options[index] = { module = "m", key = index, value = value }
      expected.m[index] = value
    end
    assert.same(expected, read(config_file.write(options)))
    local nan = read("return { m = { x = 0/0 } }").m.x
    assert.is_true(nan ~= nan)
  end)

  it("reads tables of literals, as Lua does", function()
    local source = [[
      -- options
      return { one = { a = 1, ['b'] = -1.5; ["c"] = 'x\065\'\"\
\\\z', d = .5e+3, e = 0x1F, [5] = 0., [true] = true, }, -- more
        two = {}, ["return"] = { x = false; } };
    ]]
    source = source:gsub("\\z", "\\n")
    assert.same(assert(loadstring(source))(), read(source))
    for _, other in ipairs { "return{}", "return {a={}}", " return { } -- end", "return{a={x=1}};" } do
      assert.same(assert(loadstring(other))(), read(other))
    end
  end)

  it("reads nothing else", function()
    for _, text in ipairs {
      "", "return", "return 5", "return {", "return {}}", "return {} return {}", "returns {}", "x = 1", "return { 1 }",
      "return { a = { 1 } }", "return { a = { b = {} } }", "return { a = { b = nil } }", "return { a = b }",
      "return { a = { b = c } }", "return { a = { b = f() } }", "return { a = { b = 1 + 1 } }",
      "return { a = { b = 'x' .. 'y' } }", "return { a = { b = function() end } }", "return { a = { b = 1x } }",
      "return { a = { b = 1.2.3 } }", "return { a = { b = 'x } }", "return { a = { b = 'x\ny' } }",
      "return { a = { b = '\\300' } }", "return { a = { b = '\\q' } }", "return { a = {},, }", "return { a. = {} }",
      "return { [a] = {} }", "local x return {}", "return { a = { true = true } } x", "\27Lua",
    } do
      local found, message = read(text)
      assert.is_nil(found, text)
      assert.matches("^options:%d: expected return {", message)
    end
    assert.is_nil((read("return { a = " .. ("{ x = "):rep(100000))))
    assert.same({ a = { [5] = 1 } }, read "return { a = { [5] = 1, [0/0] = 2 } }")
  end)

  it("says where it is something else", function()
    for text, expected in pairs {
      ["return {\n  a = {\n    b = os.exit(1),\n  },\n}"] = ":3: .* near 'os%.exit%(1%),'$",
      ["return {\n  a = {"] = ":2: .* near the end$",
      ["-- nothing\n"] = ":2: .* near the end$",
      ["\27Lua\0"] = ":1: .* near the end$",
    } do
      assert.matches(expected, select(2, read(text)))
    end
  end)

  it("refuses a module that is no table", function()
    assert.same({ nil, "options: b: expected a table, got number" }, { read "return { a = {}, b = 5 }" })
  end)
end)
