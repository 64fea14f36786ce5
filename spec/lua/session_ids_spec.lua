describe("the numbers of sessions", function()
  local ids

  before_each(function()
    package.loaded["mysql-proxy.session_ids"] = nil
    ids = require "mysql-proxy.session_ids"
  end)

  teardown(function()
    package.loaded["mysql-proxy.session_ids"] = nil
  end)

  it("of one process are 1, 2, 3", function()
    assert.same({ 1, 2, 3 }, { ids.next(), ids.next(), ids.next() })
  end)

  it("of several say whose they are", function()
    ids.share(4, 2)
    assert.same({ 6, 10, 14 }, { ids.next(), ids.next(), ids.next() })
    assert.equal(2, ids.place_of(14))
    assert.equal(0, ids.place_of(8))
  end)

  it("of one in another's place come after all that the other one can have had", function()
    local after, last = ids.after(7), nil
    ids.share(4, 2, 7, function(next_after)
      after = next_after
    end)
    for _ = 1, 5000 do
      last = ids.next()
      assert.is_true(last <= after * 4 + 2)
    end
    assert.equal(5007 * 4 + 2, last)
  end)
end)
