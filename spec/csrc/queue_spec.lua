local queue = require "mysql.queue"

describe("a queue of commands", function()
  local q

  before_each(function()
    q = queue.new()
  end)

  local function all()
    local found = {}
    while #q > 0 do
      found[#found + 1] = { queue.take(q) }
    end
    return found
  end

  it("gives them back in order, the prepended ones first", function()
    q:append(1, "\3one")
    q:append(2, "\3two", { resultset_is_needed = true })
    q:prepend(3, "\3three", { resultset_is_needed = false })
    q:prepend(4, "\14", {})
    assert.equal(4, q:len())
    assert.equal(4, #q)
    assert.equal("proxy.queries (4)", tostring(q))
    assert.same({
      { "\14", 4, false, false }, { "\3three", 3, true, false }, { "\3one", 1, false, false },
      { "\3two", 2, false, false },
    }, all())
    assert.equal(0, #q)
    assert.is_nil(queue.take(q))
  end)

  it("can be emptied, and used again", function()
    for i = 1, 1000 do
      q:append(i, "\3" .. i)
    end
    q:reset()
    assert.equal(0, q:len())
    q:append(7, "\3a\0b")
    assert.same({ { "\3a\0b", 7, false, false } }, all())
  end)

  it("knows which were planned, and which have come later", function()
    for i = 1, 3 do
      q:append(i, "\3old")
    end
    queue.take(q)
    queue.plan(q)
    q:append(4, "\3new")
    q:prepend(5, "\3new")
    q:append(6, "\3new") -- more than it had room for
    local planned = {}
    for index, command in ipairs(all()) do
      planned[index] = { command[2], command[4] }
    end
    assert.same({ { 5, false }, { 2, true }, { 3, true }, { 4, false }, { 6, false } }, planned)
  end)

  it("keeps their order however they come and go", function()
    local expected, number = {}, 0
    for round = 1, 40 do
      for _ = 1, round % 7 do
        number = number + 1
        q:append(number, "\3" .. number)
        table.insert(expected, number)
      end
      collectgarbage() -- nobody else has them
      number = number + 1
      q:prepend(number, "\3" .. number)
      table.insert(expected, 1, number)
      for _ = 1, round % 5 do
        local packet, id = queue.take(q)
        assert.same({ "\3" .. expected[1], table.remove(expected, 1) }, { packet, id })
      end
    end
    assert.is_true(#q > 40)
    for index, command in ipairs(all()) do
      assert.equal(expected[index], command[2])
    end
  end)

  it("cuts off fractions, and takes numbers in strings", function()
    for given, id in pairs { [1.7] = 1, [-1.7] = -1, ["5"] = 5, [2 ^ 40] = 2 ^ 40 } do
      q:append(given, 42)
      assert.same({ { "42", id, false, false } }, all())
    end
  end)

  it("refuses what is no command, in the words of the manual's time", function()
    for message, arguments in pairs {
      ["bad argument #1 to 'append' (number expected, got no value)"] = {},
      ["bad argument #2 to 'append' (string expected, got no value)"] = { 1 },
      ["bad argument #2 to 'append' (a command of at least 1 byte expected)"] = { 1, "" },
      ["bad argument #3 to 'append' (table expected, got number)"] = { 1, "x", 1 },
      ["bad argument #3 to 'append' ((:append(..., { resultset_is_needed = boolean } ), is number))"] =
        { 1, "x", { resultset_is_needed = 1 } },
    } do
      assert.has_error(function()
        q:append(unpack(arguments))
      end, message)
    end
    assert.error_matches(function()
      q:prepend(1)
    end, "bad argument #2 to 'prepend' (string expected, got no value)", nil, true)
    assert.error_matches(function()
      q:prepend(1, "x", { resultset_is_needed = "x" })
    end, "(:prepend(..., { resultset_is_needed = boolean } ), is string)", nil, true)
    for _, wrong in ipairs { {}, "x", io.stdout } do
      assert.error_matches(function()
        q.append(wrong, 1, "x")
      end, "call it with a colon: proxy.queries:append(...)", nil, true)
    end
    assert.equal(0, #q)
  end)

  it("grows by what a collected object adds while it grows", function()
    collectgarbage()
    collectgarbage("stop")
    for i = 1, 4 do
      q:append(i, "x")
    end
    getmetatable(newproxy(true)).__gc = function()
      for i = 101, 160 do
        q:append(i, "y")
      end
    end
    collectgarbage("restart")
    local pause, multiplier = collectgarbage("setpause", 0), collectgarbage("setstepmul", 1000000)
    for i = 5, 300 do
      q:append(i, "x")
    end
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", multiplier)
    collectgarbage()
    local own, added = {}, 0
    for _, each in ipairs(all()) do
      if each[1] == "x" then
        own[#own + 1] = each[2]
      else
        added = added + 1
      end
    end
    assert.equal(60, added)
    assert.equal(300, #own)
    for i = 1, 300 do
      assert.equal(i, own[i])
    end
  end)

  it("cannot be reached by its metatable", function()
    assert.is_nil(getmetatable(q).__index.take)
  end)
end)
