local packet = require "mysql.packet"
local proto = require "mysql.proto"

local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local function bytes(hex)
  return (hex:gsub("%X", ""):gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

local function malformed(name, ...)
  local ok, message = pcall(proto[name], ...)
  assert.is_false(ok)
  assert.matches("packet is malformed", message, 1, true)
end

-- Raises for each beginning that is shorter than the packet.
local function is_needed_whole(name, payload, ...)
  assert.is_truthy(proto[name](payload, ...))
  for length = 0, #payload - 1 do
    malformed(name, payload:sub(1, length), ...)
  end
end

local function takes_strings_only(name, ...)
  for _, argument in ipairs { {}, true } do
    local ok, message = pcall(proto[name], argument, ...)
    assert.is_false(ok)
    assert.matches("string expected", message, 1, true)
  end
end

local HEADER = bytes "17 01000000 00 01000000" -- COM_STMT_EXECUTE of statement 1

-- A packet with one parameter, in the binary protocol's encoding.
local function one(type, value)
  return HEADER .. "\0\1" .. type .. value
end

local function value_of(type, value)
  local decoded = proto.from_stmt_execute_packet(one(bytes(type), bytes(value)), 1)
  return decoded.params[1].value, decoded.params[1].type
end

describe("mysql.proto", function()
  describe("COM_STMT_PREPARE", function()
    it("is decoded", function()
      assert.same({ stmt_text = "SELECT ?" }, proto.from_stmt_prepare_packet("\22SELECT ?"))
      assert.same({ stmt_text = "a\0b" }, proto.from_stmt_prepare_packet("\22a\0b"))
    end)

    it("has no key for an empty text", function()
      assert.same({}, proto.from_stmt_prepare_packet("\22"))
    end)

    it("is refused if it is another command, or nothing", function()
      malformed("from_stmt_prepare_packet", "")
      malformed("from_stmt_prepare_packet", "\3SELECT 1")
      takes_strings_only "from_stmt_prepare_packet"
    end)
  end)

  describe("COM_STMT_PREPARE_OK", function()
    local documented = bytes "00 01 00 00 00 01 00 02 00 00 00 00"

    it("is decoded", function()
      assert.same({ stmt_id = 1, num_columns = 1, num_params = 2, warnings = 0 },
        proto.from_stmt_prepare_ok_packet(documented))
      assert.same({ stmt_id = 2 ^ 32 - 1, num_columns = 65535, num_params = 65534, warnings = 258 },
        proto.from_stmt_prepare_ok_packet(bytes "00 ffffffff ffff feff 00 0201" .. "\1")) -- and a metadata flag
    end)

    it("of a server before 5.0 ends without warnings", function()
      assert.same({ stmt_id = 1, num_columns = 1, num_params = 2, warnings = 0 },
        proto.from_stmt_prepare_ok_packet(documented:sub(1, 9)))
    end)

    it("is refused if it is cut, or none", function()
      for length = 0, #documented - 1 do
        if length ~= 9 then
          malformed("from_stmt_prepare_ok_packet", documented:sub(1, length))
        end
      end
      malformed("from_stmt_prepare_ok_packet", proto.to_err_packet { errmsg = "No such table" })
      takes_strings_only "from_stmt_prepare_ok_packet"
    end)
  end)

  describe("COM_STMT_CLOSE", function()
    it("is decoded", function()
      assert.same({ stmt_id = 0x04030201 }, proto.from_stmt_close_packet(bytes "19 01020304"))
    end)

    it("is refused if it is cut, or another command", function()
      is_needed_whole("from_stmt_close_packet", bytes "19 01020304")
      malformed("from_stmt_close_packet", bytes "1a 01020304")
      takes_strings_only "from_stmt_close_packet"
    end)
  end)

  describe("COM_STMT_EXECUTE", function()
    -- The documentation's example.
    local documented = bytes "17 01 00 00 00 00 01 00 00 00 00 01 0f 00 03 66 6f 6f"

    it("is decoded", function()
      assert.same({
        stmt_id = 1, flags = 0, iteration_count = 1, new_params_bound = true,
        params = { { type = 15, value = "foo" } },
      }, proto.from_stmt_execute_packet(documented, 1))
    end)

    it("of a statement without parameters has none", function()
      assert.same({ stmt_id = 0x01020304, flags = 1, iteration_count = 1, new_params_bound = false },
        proto.from_stmt_execute_packet(bytes "17 04030201 01 01000000", 0))
    end)

    it("has no params unless their types are in it", function()
      assert.same({ stmt_id = 1, flags = 0, iteration_count = 1, new_params_bound = false },
        proto.from_stmt_execute_packet(HEADER .. "\0\0" .. "\3foo", 1))
    end)

    it("tells its statement", function()
      assert.equal(1, proto.stmt_id_from_stmt_execute_packet(documented))
      assert.equal(2 ^ 32 - 1, proto.stmt_id_from_stmt_execute_packet(bytes "17 ffffffff"))
      is_needed_whole("stmt_id_from_stmt_execute_packet", bytes "17 ffffffff")
      malformed("stmt_id_from_stmt_execute_packet", bytes "16 ffffffff")
      takes_strings_only "stmt_id_from_stmt_execute_packet"
    end)

    describe("has values:", function()
      it("NULL, which is an entry without a value", function()
        assert.same({ { type = 3 } }, proto.from_stmt_execute_packet(HEADER .. bytes "01 01 0300", 1).params)
        -- The tenth of ten, whose bit is in the second byte; its type may be any.
        local params = proto.from_stmt_execute_packet(
          HEADER .. "\0\2\1" .. ("\1\0"):rep(9) .. "\6\0" .. "\1\2\3\4\5\6\7\8\9", 10).params
        assert.same({ type = 1, value = 9 }, params[9])
        assert.same({ type = 6 }, params[10])
      end)

      it("integers, signed", function()
        assert.equal(-1, value_of("01 00", "ff"))
        assert.equal(127, value_of("01 00", "7f"))
        assert.equal(-2, value_of("02 00", "feff"))
        assert.equal(-2 ^ 31, value_of("03 00", "00000080"))
        assert.equal(2 ^ 31 - 1, value_of("03 00", "ffffff7f"))
        assert.equal(-1, value_of("08 00", "ffffffffffffffff"))
        assert.equal(-2 ^ 63, value_of("08 00", "0000000000000080"))
        assert.equal(2 ^ 40, value_of("08 00", "0000000000010000"))
      end)

      it("integers, unsigned", function()
        assert.equal(255, value_of("01 80", "ff"))
        assert.equal(65534, value_of("02 80", "feff"))
        assert.equal(2 ^ 31, value_of("03 80", "00000080"))
        assert.equal(2 ^ 64, value_of("08 80", "ffffffffffffffff")) -- rounded
      end)

      it("a MEDIUMINT in four bytes and a YEAR in two", function()
        assert.equal(-8388608, value_of("09 00", "000080ff"))
        assert.equal(2010, value_of("0d 00", "da07"))
        assert.equal(2155, value_of("0d 80", "6b08"))
      end)

      it("FLOAT and DOUBLE", function()
        assert.equal(10.25, value_of("04 00", "00002441"))
        assert.equal(10.2, value_of("05 00", "6666666666662440"))
        assert.equal(-math.huge, value_of("05 00", "000000000000f0ff"))
      end)

      it("strings, blobs and what is sent as one", function()
        for _, type in ipairs { 15, 246, 247, 248, 249, 250, 251, 252, 253, 254 } do
          local value, decoded_type = value_of(("%02x00"):format(type), "03 610062")
          assert.equal("a\0b", value)
          assert.equal(type, decoded_type)
        end
        local long = ("x"):rep(70000)
        local params = proto.from_stmt_execute_packet(one("\252\0", packet.to_lenenc_string(long)), 1).params
        assert.equal(long, params[1].value)
      end)

      it("an empty string, which is not NULL", function()
        assert.equal("", (value_of("fd 00", "00")))
      end)

      it("a type without the flag for unsigned", function()
        assert.equal(3, select(2, value_of("03 80", "00000080")))
      end)

      it("DATE", function()
        assert.equal("2010-10-17", value_of("0a 00", "04 da07 0a 11"))
        assert.equal("2010-10-17", value_of("0a 00", "07 da07 0a 11 13 1b 1e"))
        assert.equal("0000-00-00", value_of("0a 00", "00"))
      end)

      it("DATETIME and TIMESTAMP", function()
        for _, type in ipairs { "0c 00", "07 00" } do
          assert.equal("2010-10-17 19:27:30.000000001", value_of(type, "0b da07 0a 11 13 1b 1e 01000000"))
          assert.equal("2010-10-17 19:27:30.000000000", value_of(type, "07 da07 0a 11 13 1b 1e"))
          assert.equal("2010-10-17 00:00:00.000000000", value_of(type, "04 da07 0a 11"))
          assert.equal("0000-00-00 00:00:00.000000000", value_of(type, "00"))
        end
      end)

      it("TIME", function()
        assert.equal("-120 19:27:30.000000001", value_of("0b 00", "0c 01 78000000 13 1b 1e 01000000"))
        assert.equal("120 19:27:30.000000000", value_of("0b 00", "08 00 78000000 13 1b 1e"))
        assert.equal("0 00:00:00.000000000", value_of("0b 00", "00"))
      end)

      it("no others", function()
        for _, type in ipairs { 0, 6, 14, 16, 17, 245, 255 } do
          assert.error_matches(function()
            value_of(("%02x00"):format(type), "00")
          end, ("can't decode type %d yet"):format(type), nil, true)
        end
      end)
    end)

    it("with query attributes has those in an array of their own", function()
      -- Two values, of which the statement has one parameter; PARAMETER_COUNT_AVAILABLE is set.
      local payload = bytes "17 01000000 08 01000000 02 00 01" .. "\3\0\0" .. "\253\0\4name" .. "\5\0\0\0" .. "\5value"
      assert.same({
        stmt_id = 1, flags = 8, iteration_count = 1, new_params_bound = true,
        params = { { type = 3, value = 5 } },
        query_attributes = { { type = 253, name = "name", value = "value" } },
      }, proto.from_stmt_execute_packet(payload, 1))
      is_needed_whole("from_stmt_execute_packet", payload, 1)
      -- Attributes of a statement without parameters; none at all.
      local decoded = proto.from_stmt_execute_packet(
        bytes "17 01000000 08 01000000 01 00 01" .. "\253\0\4name" .. "\5value", 0)
      assert.same({ { type = 253, name = "name", value = "value" } }, decoded.query_attributes)
      assert.same({}, decoded.params)
      assert.is_false(proto.from_stmt_execute_packet(bytes "17 01000000 08 01000000 00", 0).new_params_bound)
    end)

    it("without types has those that it had the last time", function()
      local first = HEADER .. "\0\1" .. bytes "fe00 0100" .. "\1x\5"
      local _, types = proto.from_stmt_execute_packet(first, 2)
      assert.equal(bytes "fe00 0100", types)
      local again = HEADER .. "\0\0\1y\6"
      assert.is_nil(proto.from_stmt_execute_packet(again, 2).params)
      assert.same({ { type = 254, value = "y" }, { type = 1, value = 6 } },
        proto.from_stmt_execute_packet(again, 2, types).params)
      malformed("from_stmt_execute_packet", again:sub(1, -2), 2, types)
      assert.is_nil(proto.from_stmt_execute_packet(again, 2, "\1").params)
    end)

    it("can be answered for: numbers of statements, and COM_STMT_PREPARE's OK", function()
      assert.equal(1, proto.stmt_id_from_stmt_packet(HEADER))
      is_needed_whole("stmt_id_from_stmt_packet", "\26\1\2\3\4")
      local ok = { stmt_id = 70000, num_columns = 3, num_params = 2, warnings = 0 }
      assert.same(ok, proto.from_stmt_prepare_ok_packet(proto.to_stmt_prepare_ok_packet(ok)))
    end)

    it("is refused if it is cut", function()
      is_needed_whole("from_stmt_execute_packet", documented, 1)
      for _, packet_of_one in ipairs {
        one("\1\0", "\1"), one("\8\0", "12345678"), one("\5\0", "12345678"), one("\4\0", "1234"),
        one("\12\0", "\11" .. ("\1"):rep(11)), one("\11\0", "\12" .. ("\1"):rep(12)), one("\10\0", "\4\1\1\1\1"),
      } do
        is_needed_whole("from_stmt_execute_packet", packet_of_one, 1)
      end
      malformed("from_stmt_execute_packet", documented, 2)
    end)

    it("is refused if a length in it is wrong", function()
      for _, value in ipairs { "\4foo", "\252\255\255", "\254" .. ("\255"):rep(8), "\251", "\255" } do
        malformed("from_stmt_execute_packet", one("\15\0", value), 1)
      end
      for _, length in ipairs { 1, 5, 8, 12, 255 } do
        malformed("from_stmt_execute_packet", one("\12\0", string.char(length) .. ("\1"):rep(255)), 1)
      end
      for _, length in ipairs { 1, 7, 11, 13 } do
        malformed("from_stmt_execute_packet", one("\11\0", string.char(length) .. ("\1"):rep(255)), 1)
      end
      local endless = bytes "17 01000000 08 01000000 fe ffffffffffffffff" .. ("\0"):rep(100)
      malformed("from_stmt_execute_packet", endless, 0)
    end)

    it("is decoded for a number of parameters that a statement can have", function()
      for _, count in ipairs { -1, 65536 } do
        assert.error_matches(function()
          proto.from_stmt_execute_packet(documented, count)
        end, "a statement has from 0 to 65535 parameters", nil, true)
      end
      assert.error_matches(function()
        proto.from_stmt_execute_packet(documented)
      end, "number expected", nil, true)
      takes_strings_only("from_stmt_execute_packet", 1)
      malformed("from_stmt_execute_packet", "\25" .. documented:sub(2), 1)
    end)

    it("survives any change of a byte", function()
      local full = HEADER .. "\0\1" .. bytes "0300 0f00 0c00 0b00" .. "\1\0\0\0" .. "\3foo"
        .. bytes "0b da07 0a 11 13 1b 1e 01000000" .. bytes "0c 01 78000000 13 1b 1e 01000000"
      assert.equal(4, #proto.from_stmt_execute_packet(full, 4).params)
      for at = 1, #full do
        for byte = 0, 255 do
          local changed = full:sub(1, at - 1) .. string.char(byte) .. full:sub(at + 1)
          local ok, result = pcall(proto.from_stmt_execute_packet, changed, 4)
          assert(ok or result:find("malformed", 1, true) or result:find("can't decode type", 1, true), result)
        end
      end
    end)
  end)

  -- What the decoders say about a server's packets, and a server about what they read.
  for _, server in ipairs(servers.all()) do
    it("reads what a server and its client say (" .. server.flavour .. ")", function()
      local client = raw.connect(server.port):login("nopass")
      client:send("\22SELECT CONCAT(?), ?, ?")
      local prepared = proto.from_stmt_prepare_ok_packet((client:packet()))
      assert.equal(3, prepared.num_params)
      assert.equal(3, prepared.num_columns)
      assert.equal(0, prepared.warnings)
      for _ = 1, 8 do
        client:packet() -- definitions of 3 parameters and 3 columns, with an EOF each
      end
      local id = string.char(prepared.stmt_id % 256, math.floor(prepared.stmt_id / 256), 0, 0)
      local execute = "\23" .. id .. bytes "00 01000000 02 01 0b00 0300 fd00"
        .. bytes "0c 01 02000000 13 1b 1e e8030000" .. "\3foo"
      client:send(execute)
      local decoded = proto.from_stmt_execute_packet(execute, prepared.num_params)
      assert.equal(prepared.stmt_id, proto.stmt_id_from_stmt_execute_packet(execute))
      assert.same({ { type = 11, value = "-2 19:27:30.000001000" }, { type = 3 }, { type = 253, value = "foo" } },
        decoded.params)
      for _ = 1, 5 do
        client:packet() -- the number of columns, their definitions, EOF
      end
      assert.matches("-67:27:30.001", client:packet(), 1, true) -- the server takes the last field for microseconds
      client:close()
    end)
  end
end)
