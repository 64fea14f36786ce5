-- The global `proxy` is a mock here: what counts is what the functions read of it.

local balance = require "proxy.balance"

local UNKNOWN, UP, DOWN = 0, 1, 2
local RW, RO = 1, 2

describe("proxy.balance", function()
  local before, backends

  local function backend(type, idle, clients, state)
    backends[#backends + 1] = {
      type = type, state = state or UP, connected_clients = clients or 0,
      pool = { users = { user = { cur_idle_connections = idle }, other = { cur_idle_connections = 9 } } },
    }
  end

  before_each(function()
    before, backends = rawget(_G, "proxy"), {}
    rawset(_G, "proxy", {
      BACKEND_STATE_UNKNOWN = UNKNOWN, BACKEND_STATE_UP = UP, BACKEND_STATE_DOWN = DOWN,
      BACKEND_TYPE_UNKNOWN = 0, BACKEND_TYPE_RW = RW, BACKEND_TYPE_RO = RO,
      connection = { client = { username = "user" } }, global = { backends = backends },
    })
  end)

  after_each(function()
    rawset(_G, "proxy", before)
  end)

  it("finds nothing where there is nothing", function()
    assert.equal(0, balance.idle_failsafe_rw())
    assert.equal(0, balance.idle_ro())
  end)

  it("finds the first RW backend with an idle connection", function()
    backend(RO, 5)
    backend(RW, 0)
    backend(RW, 1, 100)
    backend(RW, 5)
    assert.equal(3, balance.idle_failsafe_rw())
  end)

  it("finds the RO backend with an idle connection and the fewest clients, the first of several", function()
    backend(RW, 5)
    backend(RO, 0, 0)
    backend(RO, 1, 3)
    backend(RO, 1, 2)
    backend(RO, 7, 2)
    assert.equal(4, balance.idle_ro())
  end)

  it("passes over backends that are down, but not over those whose state is unknown", function()
    backend(RW, 1, 0, DOWN)
    backend(RO, 1, 0, DOWN)
    assert.equal(0, balance.idle_failsafe_rw())
    assert.equal(0, balance.idle_ro())
    backend(RW, 1, 0, UNKNOWN)
    backend(RO, 1, 5, UNKNOWN)
    assert.equal(3, balance.idle_failsafe_rw())
    assert.equal(4, balance.idle_ro())
  end)

  it("looks at the pool of the client's user", function()
    backend(RW, 0)
    backend(RO, 0)
    assert.equal(0, balance.idle_failsafe_rw())
    _G.proxy.connection.client.username = "other"
    assert.equal(1, balance.idle_failsafe_rw())
    assert.equal(2, balance.idle_ro())
    _G.proxy.connection.client.username = "nobody" -- who has no pool
    assert.equal(0, balance.idle_failsafe_rw())
    assert.equal(0, balance.idle_ro())
  end)

  it("looks at the connection that is running when it is called", function()
    backend(RW, 1)
    assert.equal(1, balance.idle_failsafe_rw())
    local copy = {}
    for key, value in pairs(_G.proxy) do
      copy[key] = value
    end
    copy.global = { backends = {} }
    rawset(_G, "proxy", copy)
    assert.equal(0, balance.idle_failsafe_rw())
  end)
end)
