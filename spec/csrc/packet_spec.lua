local packet = require "mysql.packet"

local LONGEST = 2 ^ 24 - 1 -- payload of one packet; its continuation is the next one

describe("mysql.packet", function()
  describe("frame", function()
    it("puts length and sequence number in front", function()
      assert.equal("\1\0\0\0\1", (packet.frame("\1", 0))) -- the documentation's COM_QUIT
      assert.equal("\5\0\0\5\254\0\0\2\0", (packet.frame("\254\0\0\2\0", 5))) -- and its EOF_Packet
      assert.equal("\44\1\0\2" .. ("x"):rep(300), (packet.frame(("x"):rep(300), 2)))
    end)

    it("frames an empty payload", function()
      assert.equal("\0\0\0\3", (packet.frame("", 3)))
    end)

    it("gives the sequence number that follows, which begins again after 255", function()
      assert.equal(8, select(2, packet.frame("x", 7)))
      local bytes, following = packet.frame("x", 255)
      assert.equal("\1\0\0\255x", bytes)
      assert.equal(0, following)
    end)

    it("keeps a payload of 16 MiB - 2 bytes in one packet", function()
      local bytes, following = packet.frame(("x"):rep(LONGEST - 1), 0)
      assert.equal(4 + LONGEST - 1, #bytes)
      assert.equal("\254\255\255\0x", bytes:sub(1, 5))
      assert.equal(1, following)
    end)

    it("ends a payload of 16 MiB - 1 bytes with an empty packet", function()
      local bytes, following = packet.frame(("x"):rep(LONGEST), 255)
      assert.equal(4 + LONGEST + 4, #bytes)
      assert.equal("\255\255\255\255x", bytes:sub(1, 5))
      assert.equal("x\0\0\0\0", bytes:sub(-5))
      assert.equal(1, following)
    end)

    it("splits a longer payload", function()
      local bytes, following = packet.frame(("x"):rep(LONGEST) .. ("y"):rep(LONGEST) .. "z", 0)
      assert.equal("\255\255\255\0x", bytes:sub(1, 5))
      assert.equal("x\255\255\255\1y", bytes:sub(LONGEST + 4, LONGEST + 9))
      assert.equal("y\1\0\0\2z", bytes:sub(-6))
      assert.equal(3, following)
    end)
  end)

  describe("parse", function()
    it("gives payload, sequence number and the offset behind", function()
      assert.same({ "\254\0\0\2\0", 5, 10 }, { packet.parse("\5\0\0\5\254\0\0\2\0") })
      assert.same({ "", 3, 5 }, { packet.parse("\0\0\0\3") })
    end)

    it("walks through packets by the offset", function()
      local bytes = packet.frame("one", 0) .. packet.frame("", 1) .. packet.frame("three", 2)
      local found, at = {}, 1
      repeat
        local payload, sequence, after = packet.parse(bytes, at)
        found[#found + 1], found[#found + 2] = payload, sequence
        at = after
      until not at
      assert.same({ "one", 0, "", 1, "three", 2 }, found)
    end)

    it("gives nothing before the packet is complete", function()
      local bytes = packet.frame("payload", 0)
      for length = 0, #bytes - 1 do
        assert.equal(0, select("#", packet.parse(bytes:sub(1, length))))
      end
      assert.equal(0, select("#", packet.parse(bytes, #bytes + 1)))
    end)

    it("gives nothing before a payload's last packet is complete", function()
      local payload = ("x"):rep(LONGEST) .. "y"
      local bytes = packet.frame(payload, 7)
      for _, missing in ipairs { 1, 2, 5, 6, LONGEST } do
        assert.equal(0, select("#", packet.parse(bytes:sub(1, -1 - missing))))
      end
      local found, sequence, after = packet.parse(bytes .. "more")
      assert.is_true(found == payload)
      assert.equal(8, sequence) -- of its last packet: an answer goes on from there
      assert.equal(#bytes + 1, after)
    end)

    it("puts payloads around multiples of 16 MiB - 1 together again", function()
      for _, length in ipairs { LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST } do
        local payload = ("x"):rep(length - 1) .. "y"
        assert.is_true(packet.parse((packet.frame(payload, 0))) == payload)
      end
    end)

    it("refuses an offset outside of the bytes", function()
      for _, offset in ipairs { 0, -1, 7, 2 ^ 40 } do
        assert.error_matches(function()
          packet.parse("\1\0\0\0\1", offset)
        end, "offset from 1 to the end of the bytes", nil, true)
      end
    end)
  end)

  describe("a length-encoded integer", function()
    -- "Protocol::LengthEncodedInteger": the values around each change of form.
    local known = {
      { 0, "\0" },
      { 250, "\250" },
      { 251, "\252\251\0" },
      { 2 ^ 16 - 1, "\252\255\255" },
      { 2 ^ 16, "\253\0\0\1" },
      { 2 ^ 24 - 1, "\253\255\255\255" },
      { 2 ^ 24, "\254\0\0\0\1\0\0\0\0" },
      { 2 ^ 53, "\254\0\0\0\0\0\0\32\0" },
    }

    it("has 1, 3, 4 or 9 bytes", function()
      for _, case in ipairs(known) do
        assert.equal(case[2], packet.to_lenenc_int(case[1]))
        assert.same({ case[1], #case[2] + 1 }, { packet.from_lenenc_int(case[2]) })
        assert.same({ case[1], #case[2] + 3 }, { packet.from_lenenc_int("\251\255" .. case[2] .. "\9", 3) })
      end
    end)

    it("may be longer than it has to be", function()
      assert.same({ 1, 4 }, { packet.from_lenenc_int("\252\1\0") })
      assert.same({ 1, 10 }, { packet.from_lenenc_int("\254\1\0\0\0\0\0\0\0") })
    end)

    it("is nothing if bytes are missing", function()
      for _, case in ipairs(known) do
        for length = 0, #case[2] - 1 do
          assert.equal(0, select("#", packet.from_lenenc_int(case[2]:sub(1, length))))
        end
      end
    end)

    it("is not NULL and not an error", function()
      assert.equal(0, select("#", packet.from_lenenc_int("\251\0\0\0\0\0\0\0\0")))
      assert.equal(0, select("#", packet.from_lenenc_int("\255\0\0\0\0\0\0\0\0")))
    end)

    it("is rounded where Lua has no such number", function()
      local largest = "\254" .. ("\255"):rep(8)
      assert.equal(2 ^ 64, (packet.from_lenenc_int(largest)))
      assert.equal(largest, packet.to_lenenc_int(2 ^ 64))
    end)

    it("is made of no number that it cannot hold", function()
      for _, value in ipairs { -1, 2 ^ 64 + 2 ^ 12, math.huge, 0 / 0 } do
        assert.error_matches(function()
          packet.to_lenenc_int(value)
        end, "a number from 0 to 2^64 - 1 expected", nil, true)
      end
    end)
  end)

  describe("a length-encoded string", function()
    it("has its length in front", function()
      assert.equal("\0", packet.to_lenenc_string(""))
      assert.equal("\5a\0\255bc", packet.to_lenenc_string("a\0\255bc"))
      assert.equal("\252\251\0" .. ("x"):rep(251), packet.to_lenenc_string(("x"):rep(251)))
      assert.is_true(packet.to_lenenc_string(("x"):rep(2 ^ 24)) == "\254\0\0\0\1\0\0\0\0" .. ("x"):rep(2 ^ 24))
    end)

    it("is read with the offset behind it", function()
      assert.same({ "", 2 }, { packet.from_lenenc_string("\0") })
      assert.same({ "a\0\255", 5 }, { packet.from_lenenc_string("\3a\0\255more") })
      assert.same({ "two", 9 }, { packet.from_lenenc_string("\3one\3two", 5) })
      for _, length in ipairs { 251, 2 ^ 16 - 1, 2 ^ 16, 2 ^ 24 } do
        local text = ("x"):rep(length)
        assert.is_true(packet.from_lenenc_string(packet.to_lenenc_string(text)) == text)
      end
    end)

    it("is nothing if bytes are missing", function()
      for _, bytes in ipairs { "\3tw", "\3", "", "\252\3", "\252\3\0tw", "\253\0\0\1x", "\254\0\0\0\1\0\0\0\0x" } do
        assert.equal(0, select("#", packet.from_lenenc_string(bytes)))
      end
    end)

    it("is nothing if its length is beyond all memory", function()
      assert.equal(0, select("#", packet.from_lenenc_string("\254" .. ("\255"):rep(8) .. "x")))
      assert.equal(0, select("#", packet.from_lenenc_string("\254" .. ("\0"):rep(7) .. "\128x")))
    end)

    it("is not NULL", function()
      assert.equal(0, select("#", packet.from_lenenc_string("\251")))
    end)
  end)
end)
