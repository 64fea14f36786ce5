-- The loop's clock is set by hand: what counts is when a client comes.

local uv = require "luv"

local backends = require "mysql-proxy.backends"

describe("a backend that is down", function()
  local list, said, at

  before_each(function()
    stub(uv, "now", function() return at end)
    said = {}
    list = backends.new {
      message = function() end,
      debug = function(_, text) said[#said + 1] = ("%d: %s"):format(at, text) end,
    }
  end)

  after_each(function()
    uv.now:revert()
  end)

  -- A client connects so many milliseconds after the loop has begun: which backend is his?
  local function client(when)
    at = when
    list:wake_up()
    local backend = list:choose(backends.READ_WRITE)
    return backend and backend.index
  end

  it("is tried again by who comes more than four seconds later, which is looked at once a second", function()
    local first = list:add("127.0.0.1:1", backends.READ_WRITE)
    local second = list:add("127.0.0.1:2", backends.READ_WRITE)
    assert.equal(1, client(0))
    first:mark_down("refused")
    assert.equal(2, client(500))
    second:mark_down("refused")
    assert.is_nil(client(1000))
    assert.is_nil(client(3900))
    assert.is_nil(client(4899)) -- the first has been down for long enough since, but that was a moment ago
    assert.equal(1, client(4900))
    assert.equal(backends.UNKNOWN, first.state)
    assert.equal(backends.UNKNOWN, second.state)
    assert.same({
      "4900: backend 127.0.0.1:1 was down for more than 4 sec, waking it up",
      "4900: backend 127.0.0.1:2 was down for more than 4 sec, waking it up",
    }, said)
  end)

  it("stays so for four seconds to the last", function()
    local only = list:add("127.0.0.1:1", backends.READ_WRITE)
    at = 2000
    only:mark_down("refused")
    assert.is_nil(client(6000))
    assert.is_nil(client(6999))
    assert.equal(1, client(7000))
  end)
end)
