-- Counters that are carried from one process to another.

local statistics = require "mysql.statistics"

local conversation = require "spec.support.conversation"
local proto = require "mysql.proto"

local OK = proto.to_ok_packet { server_status = 2 }
local ERR = proto.to_err_packet { errcode = 1064, sqlstate = "42000", errmsg = "a message" }

-- Counters of these statements, each of which is answered; "!" before it: with an error.
local function counted(user, ...)
  local counters, c = assert(statistics.new(100)), conversation.connect()
  c:join()
  c.relay:count(counters, statistics.new_backend(), user, "shop")
  for _, sql in ipairs { ... } do
    c:command("\3" .. sql:gsub("^!", ""))
    c:answer(1, sql:find("^!") and ERR or OK)
  end
  c:close()
  return counters
end

local function by_text(counters)
  local found = {}
  for _, each in ipairs(counters:digests()) do
    found[(each.text or each.digest) .. " " .. (each.user or "")] = each
  end
  return found
end

-- A dump in as many pieces as it takes with one place in each.
local function carry(from, to)
  local place, pieces = 0, 0
  while place do
    local piece
    piece, place = from:dump(place, 1)
    assert(to:add(piece))
    pieces = pieces + 1
  end
  return pieces
end

describe("mysql.statistics, dumped and added", function()
  it("are the same counters", function()
    local one, copy = counted("alice", "SELECT 1", "SELECT 2", "!SELECT a"), assert(statistics.new(100))
    assert.equal(3, carry(one, copy)) -- what found no room, and two digests
    assert.same(one:commands(), copy:commands())
    local function rounded(list) -- times become those of the wall clock at each call
      for _, each in ipairs(list) do
        each.first_seen, each.last_seen = math.floor(each.first_seen * 10), math.floor(each.last_seen * 10)
      end
      return list
    end
    assert.same(rounded(one:digests()), rounded(copy:digests()))
  end)

  it("of two make one: sums, the least and the greatest, the percentiles of all", function()
    local one, other = counted("alice", "SELECT 1", "SELECT 2"), counted("alice", "SELECT 3", "!SELECT a")
    local both = assert(statistics.new(100))
    carry(one, both)
    carry(other, both)
    local a, b, sum = one:commands()[1], other:commands()[1], both:commands()[1]
    assert.equal(4, sum.count)
    assert.equal(1, sum.errors)
    assert.equal(math.min(a.min, b.min), sum.min)
    assert.equal(math.max(a.max, b.max), sum.max)
    assert.near(a.seconds + b.seconds, sum.seconds, 1e-9)
    for index, count in ipairs(sum.histogram) do
      assert.equal(a.histogram[index] + b.histogram[index], count)
    end
    assert.is_true(sum.p50 >= sum.min and sum.p50 <= sum.p99 and sum.p99 <= sum.max)
    local first, second, merged = by_text(one)["SELECT ? alice"], by_text(other)["SELECT ? alice"],
      by_text(both)["SELECT ? alice"]
    assert.equal(3, merged.count)
    assert.equal(first.digest, merged.digest)
    assert.near(first.first_seen, merged.first_seen, 0.01)
    assert.near(second.last_seen, merged.last_seen, 0.01)
    assert.equal(1, by_text(both)["SELECT `a` alice"].errors)
  end)

  it("keep users apart, and count as other what finds no room", function()
    local both = assert(statistics.new(2))
    carry(counted("alice", "SELECT 1", "SELECT a"), both)
    carry(counted("bob", "SELECT 1", "SELECT b", "SELECT 1"), both)
    local found = by_text(both)
    assert.equal(1, found["SELECT ? alice"].count)
    assert.equal(3, found["other "].count)
    both:reset_digests() -- and room is made for others
    carry(counted("bob", "SELECT 1"), both)
    assert.equal(1, by_text(both)["SELECT ? bob"].count)
    assert.is_nil(by_text(both)["other "])
  end)

  it("that are malformed are refused, wherever they end", function()
    local whole = counted("alice", "SELECT 1"):dump(0, 100)
    for length = 1, #whole - 1 do
      local ok, message = assert(statistics.new(10)):add(whole:sub(1, length))
      if not ok then
        assert.matches("^malformed statistics at byte %d+$", message)
      end
    end
    local zeroes = ("\0"):rep(8)
    for _, bytes in ipairs {
      "\0", "\4" .. zeroes, "\1\3\255", "\1\3" .. ("\0"):rep(9) .. "\45", "\1\3" .. ("\0"):rep(9) .. "\1\44\1",
      "\2\253\1\4\0" .. ("x"):rep(1025) .. "\0\0" .. zeroes, "\2\254" .. ("\255"):rep(8),
    } do
      local ok, message = assert(statistics.new(10)):add(bytes)
      assert.is_nil(ok)
      assert.matches("^malformed statistics", message)
    end
    assert.is_true(assert(statistics.new(10)):add(""))
  end)
end)
