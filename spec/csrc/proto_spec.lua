local proto = require "mysql.proto"

local FLAGS = proto.capabilities

-- Byte strings are given as the protocol documentation prints them.
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

-- Raises for each beginning of a payload that is shorter than `needed`, and for none that is not.
local function needs(needed, name, payload, ...)
  for length = 0, #payload do
    if length < needed then
      malformed(name, payload:sub(1, length), ...)
    else
      assert.is_table(proto[name](payload:sub(1, length), ...))
    end
  end
end

-- Whatever a byte is changed to, the decoder gives a table or says that the packet is malformed.
local function survives_changes(name, payload, ...)
  for at = 1, #payload do
    for _, byte in ipairs { "\0", "\1", "\127", "\250", "\251", "\252", "\253", "\254", "\255" } do
      local ok, result = pcall(proto[name], payload:sub(1, at - 1) .. byte .. payload:sub(at + 1), ...)
      assert(ok and type(result) == "table" or not ok and result:find("packet is malformed", 1, true), result)
    end
  end
end

local function takes_strings_only(name)
  assert.error_matches(function()
    proto[name]()
  end, "string expected", nil, true)
  assert.error_matches(function()
    proto[name] {}
  end, "string expected", nil, true)
end

local function takes_tables_only(name)
  assert.error_matches(function()
    proto[name]("x")
  end, "table expected", nil, true)
end

describe("mysql.proto", function()
  it("numbers the capability flags as the documentation does", function()
    assert.equal(0x1, FLAGS.CLIENT_LONG_PASSWORD)
    assert.equal(0x200, FLAGS.CLIENT_PROTOCOL_41)
    assert.equal(0x80000, FLAGS.CLIENT_PLUGIN_AUTH)
    assert.equal(0x1000000, FLAGS.CLIENT_DEPRECATE_EOF)
    assert.equal(0x8000000, FLAGS.CLIENT_QUERY_ATTRIBUTES)
    assert.equal(0x10, proto.extended_capabilities.MARIADB_CLIENT_CACHE_METADATA)
  end)

  describe("OK_Packet", function()
    local documented = bytes "00 00 00 02 00 00 00" -- AUTOCOMMIT, nothing else

    it("is decoded", function()
      assert.same({ affected_rows = 0, insert_id = 0, server_status = 2, warnings = 0 },
        proto.from_ok_packet(documented))
      assert.same({ affected_rows = 300, insert_id = 2 ^ 32, server_status = 0x4002, warnings = 258 },
        proto.from_ok_packet(bytes "00 fc2c01 fe0000000001000000 0240 0201" .. "info and session state"))
    end)

    it("is decoded where it stands for EOF", function()
      assert.same({ affected_rows = 0, insert_id = 0, server_status = 0x22, warnings = 1 },
        proto.from_ok_packet(bytes "fe 00 00 22 00 01 00"))
    end)

    it("is encoded", function()
      assert.equal(documented, proto.to_ok_packet { server_status = 2 })
      assert.equal(bytes "00 00 00 00 00 00 00", proto.to_ok_packet {})
      assert.equal(bytes "00 fc2c01 fd000001 0240 0201", proto.to_ok_packet {
        affected_rows = 300, insert_id = 2 ^ 16, server_status = 0x4002, warnings = 258, unknown = true,
      })
    end)

    it("comes back as it was", function()
      for _, number in ipairs { 0, 250, 251, 65535, 65536, 2 ^ 24 - 1, 2 ^ 24, 2 ^ 53 } do
        local ok = { affected_rows = number, insert_id = number, server_status = 65535, warnings = 65535 }
        assert.same(ok, proto.from_ok_packet(proto.to_ok_packet(ok)))
      end
    end)

    it("is refused if it is none, or cut, or has NULL for a number", function()
      needs(7, "from_ok_packet", documented)
      needs(15, "from_ok_packet", bytes "00 01 fe0000000001000000 0240 0201")
      malformed("from_ok_packet", bytes "ff 00 00 02 00 00 00")
      malformed("from_ok_packet", bytes "00 fb 00 02 00 00 00")
      malformed("from_ok_packet", bytes "00 00 ff 02 00 00 00")
      takes_strings_only "from_ok_packet"
    end)

    it("is made of numbers that a packet can hold", function()
      for _, value in ipairs { -1, 2 ^ 64 + 2 ^ 12, 0 / 0, math.huge } do
        assert.error_matches(function()
          proto.to_ok_packet { affected_rows = value }
        end, ".affected_rows has to be from 0 to 2^64 - 1", nil, true)
      end
      assert.error_matches(function()
        proto.to_ok_packet { warnings = {} }
      end, ".warnings has to be a number", nil, true)
      takes_tables_only "to_ok_packet"
    end)
  end)

  describe("ERR_Packet", function()
    local documented = bytes "ff 48 04 23 48 59 30 30 30 4e 6f 20 74 61 62 6c 65 73 20 75 73 65 64"

    it("is decoded", function()
      assert.same({ errcode = 1096, sqlstate = "HY000", errmsg = "No tables used" }, proto.from_err_packet(documented))
    end)

    it("is decoded without an SQL state, as it is before the login", function()
      assert.same({ errcode = 1040, errmsg = "Too many connections" },
        proto.from_err_packet(bytes "ff 10 04" .. "Too many connections"))
      assert.same({ errcode = 1, errmsg = "#5678" }, proto.from_err_packet(bytes "ff 01 00" .. "#5678"))
      assert.same({ errcode = 65535 }, proto.from_err_packet(bytes "ff ff ff"))
      assert.same({ errcode = 1, sqlstate = "HY000" }, proto.from_err_packet(bytes "ff 01 00" .. "#HY000"))
    end)

    it("is encoded", function()
      assert.equal(documented, proto.to_err_packet { errcode = 1096, sqlstate = "HY000", errmsg = "No tables used" })
      assert.equal("\255\0\0#07000123", proto.to_err_packet { errmsg = "123" })
      assert.equal("\255\16\4Too many connections", proto.to_err_packet {
        errcode = 1040, errmsg = "Too many connections", protocol_41 = false,
      })
    end)

    it("comes back as it was", function()
      local err = { errcode = 65535, sqlstate = "#####", errmsg = "a\0\255b" .. ("x"):rep(1000) }
      assert.same(err, proto.from_err_packet(proto.to_err_packet(err)))
    end)

    it("is refused if it is none, or cut", function()
      needs(3, "from_err_packet", documented)
      malformed("from_err_packet", bytes "00 48 04 23 48 59 30 30 30")
      takes_strings_only "from_err_packet"
    end)

    it("has an SQL state of five characters, and strings where strings belong", function()
      for _, state in ipairs { "", "1234", "123456" } do
        assert.error_matches(function()
          proto.to_err_packet { sqlstate = state }
        end, ".sqlstate has to be a string of 5 characters", nil, true)
      end
      assert.error_matches(function()
        proto.to_err_packet { errmsg = 5 }
      end, ".errmsg has to be a string", nil, true)
      takes_tables_only "to_err_packet"
    end)
  end)

  describe("EOF_Packet", function()
    local documented = bytes "fe 00 00 02 00"

    it("is decoded and encoded", function()
      assert.same({ server_status = 2, warnings = 0 }, proto.from_eof_packet(documented))
      assert.equal(documented, proto.to_eof_packet { server_status = 2 })
      assert.equal(bytes "fe 02 01 4a 00", proto.to_eof_packet { server_status = 0x4a, warnings = 258 })
      assert.same({ server_status = 0x4a, warnings = 258 }, proto.from_eof_packet(bytes "fe 02 01 4a 00"))
      assert.equal(bytes "fe 00 00 00 00", proto.to_eof_packet {})
    end)

    it("is refused if it is none, or cut", function()
      needs(5, "from_eof_packet", documented)
      malformed("from_eof_packet", bytes "00 00 00 02 00")
      takes_strings_only "from_eof_packet"
      takes_tables_only "to_eof_packet"
    end)
  end)

  describe("the greeting", function()
    -- The documentation's examples, without their packet headers.
    local v5_5_2 = bytes [[ 0a 35 2e 35 2e 32 2d 6d 32 00 0b 00 00 00 64 76 48 40 49 2d 43 4a 00 ff f7 08 02 00
      00 00 00 00 00 00 00 00 00 00 00 00 00 2a 34 64 7c 63 5a 77 6b 34 5e 5d 3a 00 ]]
    local v5_6_4 = bytes [[ 0a 35 2e 36 2e 34 2d 6d 37 2d 6c 6f 67 00 56 0a 00 00 52 42 33 76 7a 26 47 72 00 ff
      ff 08 02 00 0f c0 15 00 00 00 00 00 00 00 00 00 00 2b 79 44 26 2f 5a 5a 33 30 35 5a 47 00 6d 79
      73 71 6c 5f 6e 61 74 69 76 65 5f 70 61 73 73 77 6f 72 64 00 ]]
    -- MariaDB: CLIENT_LONG_PASSWORD is clear, and the reserved bytes end in the extended capabilities.
    local mariadb = "\10" .. "5.5.5-10.11.6-MariaDB\0" .. bytes [[ 07 00 00 00 31 32 33 34 35 36 37 38 00 fe f7 2d 02 00
      ff 81 15 00 00 00 00 00 00 1d 00 00 00 61 62 63 64 65 66 67 68 69 6a 6b 6c 00 ]] .. "mysql_native_password\0"

    it("is decoded", function()
      assert.same({
        protocol_version = 10, server_version = 50502, server_version_text = "5.5.2-m2", thread_id = 11,
        capabilities = 0xf7ff, extended_capabilities = 0, charset = 8, server_status = 2,
        challenge = "dvH@I-CJ*4d|cZwk4^]:",
      }, proto.from_challenge_packet(v5_5_2))
      assert.same({
        protocol_version = 10, server_version = 50604, server_version_text = "5.6.4-m7-log", thread_id = 2646,
        capabilities = 0xc00fffff, extended_capabilities = 0, charset = 8, server_status = 2,
        challenge = "RB3vz&Gr+yD&/ZZ305ZG\0", auth_plugin_name = "mysql_native_password",
      }, proto.from_challenge_packet(v5_6_4))
    end)

    it("is decoded with MariaDB's extended capabilities", function()
      assert.same({
        protocol_version = 10, server_version = 50505, server_version_text = "5.5.5-10.11.6-MariaDB", thread_id = 7,
        capabilities = 0x81fff7fe, extended_capabilities = 0x1d, charset = 45, server_status = 2,
        challenge = "12345678abcdefghijkl\0", auth_plugin_name = "mysql_native_password",
      }, proto.from_challenge_packet(mariadb))
    end)

    it("has a server version that can be compared", function()
      local function number(text)
        return proto.from_challenge_packet(proto.to_challenge_packet { server_version_text = text }).server_version
      end
      assert.equal(50045, number "5.0.45-log")
      assert.equal(101106, number "10.11.6-MariaDB-0+deb12u1")
      assert.equal(90704, number "9.7.4")
      assert.equal(50034, number "5.00.34")
      assert.equal(80000, number "8")
      assert.equal(80100, number "8.1")
      assert.equal(0, number "MariaDB")
      assert.equal(0, number "")
    end)

    it("may lack the final NUL of the plugin's name, as servers 5.5.7 to 5.5.9 send it", function()
      assert.same(proto.from_challenge_packet(v5_6_4), proto.from_challenge_packet(v5_6_4:sub(1, -2)))
    end)

    it("may end behind the capabilities", function()
      local short = v5_5_2:sub(1, 25)
      assert.same({
        protocol_version = 10, server_version = 50502, server_version_text = "5.5.2-m2", thread_id = 11,
        capabilities = 0xf7ff, extended_capabilities = 0, charset = 0, server_status = 0, challenge = "dvH@I-CJ",
      }, proto.from_challenge_packet(short))
      assert.equal(short:sub(1, -2) .. "\247", proto.mask_capabilities(short, 0))
    end)

    it("is made from an empty table, for a mock server", function()
      local greeting = proto.to_challenge_packet {}
      assert.equal(bytes "0a 35 2e 30 2e 39 39 00 00000000" .. "01234567\0" .. bytes "0082 00 0000 0000 00"
        .. ("\0"):rep(10) .. "890123456789\0", greeting)
      assert.equal("01234567890123456789", proto.from_challenge_packet(greeting).challenge)
    end)

    it("is made from a version number, with two digits for its parts", function()
      local greeting = proto.to_challenge_packet { server_version = 50034 }
      assert.equal(53, #greeting)
      local decoded = proto.from_challenge_packet(greeting)
      assert.equal("5.00.34", decoded.server_version_text)
      assert.equal(50034, decoded.server_version)
      for number, text in pairs {
        [0] = "5.0.99", [30000] = "5.0.99", [30001] = "3.00.01", [99999] = "9.99.99", [100000] = "5.0.99",
      } do -- what is not between is no version of its time
        decoded = proto.from_challenge_packet(proto.to_challenge_packet { server_version = number })
        assert.equal(text, decoded.server_version_text)
      end
    end)

    it("comes back as it was", function()
      for _, greeting in ipairs { v5_5_2, v5_6_4, mariadb } do
        local decoded = proto.from_challenge_packet(greeting)
        assert.equal(greeting, proto.to_challenge_packet(decoded))
      end
    end)

    it("needs 8 bytes of challenge", function()
      assert.error_matches(function()
        proto.to_challenge_packet { challenge = "1234567" }
      end, ".challenge has to have 8 bytes or more", nil, true)
      assert.equal("12345678" .. ("\0"):rep(12), proto.from_challenge_packet(
        proto.to_challenge_packet { challenge = "12345678" }).challenge)
      takes_tables_only "to_challenge_packet"
    end)

    it("is refused if it is none, or cut", function()
      for length = 0, #v5_5_2 - 1 do
        -- It may end behind the lower capabilities, and in the challenge's second half.
        if length < 25 or (length > 25 and length < 41) then
          malformed("from_challenge_packet", v5_5_2:sub(1, length))
          malformed("mask_capabilities", v5_5_2:sub(1, length), 0)
        end
      end
      malformed("from_challenge_packet", "\9" .. v5_5_2:sub(2))
      malformed("from_challenge_packet", "\10" .. ("x"):rep(100))
      malformed("from_challenge_packet", proto.to_err_packet { errmsg = "Host is blocked" })
      takes_strings_only "from_challenge_packet"
    end)

    it("survives any change of a byte", function()
      for _, greeting in ipairs { v5_5_2, v5_6_4, mariadb } do
        survives_changes("from_challenge_packet", greeting)
        survives_changes("from_challenge_packet", greeting:sub(1, -10))
      end
    end)

    describe("with masked capabilities", function()
      it("differs in those bits only", function()
        for _, greeting in ipairs { v5_5_2, v5_6_4, mariadb } do
          assert.equal(greeting, proto.mask_capabilities(greeting, 0))
          local expected = proto.from_challenge_packet(greeting)
          local masked = proto.mask_capabilities(greeting, FLAGS.CLIENT_SSL + FLAGS.CLIENT_COMPRESS)
          assert.equal(#greeting, #masked)
          local differing = 0
          for i = 1, #greeting do
            differing = differing + (greeting:byte(i) ~= masked:byte(i) and 1 or 0)
          end
          assert.is_true(differing <= 2)
          local decoded = proto.from_challenge_packet(masked)
          local removed = expected.capabilities - decoded.capabilities
          assert.is_true(removed == 0x20 or removed == 0x820) -- not all of them offer TLS
          decoded.capabilities = expected.capabilities
          assert.same(expected, decoded)
        end
      end)

      it("loses bits of both halves", function()
        local masked = proto.mask_capabilities(v5_6_4, FLAGS.CLIENT_SSL + FLAGS.CLIENT_CONNECT_ATTRS + 2 ^ 31)
        assert.equal(0x400ff7ff, proto.from_challenge_packet(masked).capabilities)
        local none = proto.mask_capabilities(v5_5_2, 2 ^ 32 - 1)
        assert.equal(0, proto.from_challenge_packet(none).capabilities)
      end)
    end)
  end)

  describe("the handshake response", function()
    -- The documentation's examples, without their packet headers.
    local v5_5_8 = bytes [[ 8d a6 0f 00 00 00 00 01 08 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 70 61 6d 00 14 ab 09 ee f6 bc b1 32 3e 61 14 38 65 c0 99 1d 95 7d 75 d4 47 74 65 73
      74 00 6d 79 73 71 6c 5f 6e 61 74 69 76 65 5f 70 61 73 73 77 6f 72 64 00 ]]
    local v5_6_6 = bytes [[ 85 a2 1e 00 00 00 00 40 08 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 72 6f 6f 74 00 14 22 50 79 a2 12 d4 e8 82 e5 b3 f4 1a 97 75 6b c8 be db 9f 80 6d 79
      73 71 6c 5f 6e 61 74 69 76 65 5f 70 61 73 73 77 6f 72 64 00 61 03 5f 6f 73 09 64 65 62 69 61 6e
      36 2e 30 0c 5f 63 6c 69 65 6e 74 5f 6e 61 6d 65 08 6c 69 62 6d 79 73 71 6c 04 5f 70 69 64 05 32
      32 33 34 34 0f 5f 63 6c 69 65 6e 74 5f 76 65 72 73 69 6f 6e 08 35 2e 36 2e 36 2d 6d 39 09 5f 70
      6c 61 74 66 6f 72 6d 06 78 38 36 5f 36 34 03 66 6f 6f 03 62 61 72 ]]
    local ssl_request = bytes "05 ae 03 00 00 00 00 01 08" .. ("\0"):rep(23)
    local ALL = 2 ^ 32 - 1

    it("is decoded", function()
      assert.same({
        capabilities = 0xfa68d, extended_capabilities = 0, server_capabilities = ALL, protocol_41 = true,
        max_packet_size = 2 ^ 24, charset = 8, username = "pam",
        response = bytes "ab 09 ee f6 bc b1 32 3e 61 14 38 65 c0 99 1d 95 7d 75 d4 47",
        database = "test", auth_plugin_name = "mysql_native_password",
      }, proto.from_response_packet(v5_5_8, ALL))
    end)

    it("is decoded with connection attributes", function()
      assert.same({
        capabilities = 0x1ea285, extended_capabilities = 0, server_capabilities = ALL, protocol_41 = true,
        max_packet_size = 2 ^ 30, charset = 8, username = "root",
        response = bytes "22 50 79 a2 12 d4 e8 82 e5 b3 f4 1a 97 75 6b c8 be db 9f 80",
        auth_plugin_name = "mysql_native_password",
        attributes = "\3_os\9debian6.0\12_client_name\8libmysql\4_pid\00522344\15_client_version\0085.6.6-m9"
          .. "\9_platform\6x86_64\3foo\3bar",
      }, proto.from_response_packet(v5_6_6, ALL))
    end)

    it("is an SSL request if it ends before the user", function()
      local request = proto.from_response_packet(ssl_request, ALL)
      assert.is_true(request.ssl_request)
      assert.is_nil(request.username)
      assert.is_nil(proto.from_response_packet(v5_5_8, ALL).ssl_request)
    end)

    it("has the form that both sides have agreed on", function()
      local login = proto.from_response_packet(v5_5_8, ALL - FLAGS.CLIENT_PLUGIN_AUTH)
      assert.is_nil(login.auth_plugin_name)
      assert.equal("test", login.database)
      login = proto.from_response_packet(v5_5_8, ALL - FLAGS.CLIENT_CONNECT_WITH_DB - FLAGS.CLIENT_PLUGIN_AUTH)
      assert.is_nil(login.database)
    end)

    it("has MariaDB's extended capabilities only without CLIENT_LONG_PASSWORD", function()
      local extended = v5_5_8:sub(1, 28) .. bytes "1d 00 00 00" .. v5_5_8:sub(33)
      assert.equal(0, proto.from_response_packet(extended, ALL).extended_capabilities)
      assert.equal(0x1d, proto.from_response_packet("\140" .. extended:sub(2), ALL).extended_capabilities)
    end)

    it("of a client older than 4.1 says that it is one", function()
      assert.same({ capabilities = 0x8485, server_capabilities = ALL, protocol_41 = false },
        proto.from_response_packet(bytes "85 84 00 00 01" .. "user\0password", ALL))
    end)

    it("has an auth response with a length-encoded length, if agreed", function()
      local secret = ("s"):rep(300)
      local payload = bytes "00 82 20 00" .. ("\0"):rep(28) .. "u\0\252\44\1" .. secret
      assert.equal(secret, proto.from_response_packet(payload, ALL).response)
    end)

    it("has an auth response that ends in a NUL without CLIENT_SECURE_CONNECTION", function()
      local payload = bytes "08 02 00 00" .. ("\0"):rep(28) .. "u\0old\0db\0"
      local login = proto.from_response_packet(payload, ALL)
      assert.equal("old", login.response)
      assert.equal("db", login.database)
    end)

    it("is encoded", function()
      assert.equal(bytes "00 82 00 00 00 00 00 00 00" .. ("\0"):rep(23) .. "\0\0", proto.to_response_packet {})
      assert.equal(43, #proto.to_response_packet {
        capabilities = 33288, server_capabilities = 33288, username = "foobar", database = "db",
      })
      assert.equal(v5_5_8, proto.to_response_packet(proto.from_response_packet(v5_5_8, ALL)))
    end)

    it("has a database if the server takes one, as it does unless something else is said", function()
      local function database(login)
        login.username, login.database = "foobar", login.database or "db"
        return proto.from_response_packet(proto.to_response_packet(login), ALL).database
      end
      assert.equal("db", database {})
      assert.equal("db", database { server_capabilities = 33288 })
      assert.is_nil(database { server_capabilities = 33280, capabilities = 33288 })
      assert.is_nil(database { server_capabilities = 33288, capabilities = 33288, database = "" })
    end)

    it("comes back as it was, whatever the flags", function()
      for _, flags in ipairs {
        FLAGS.CLIENT_PROTOCOL_41,
        FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SECURE_CONNECTION,
        FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_PLUGIN_AUTH,
        FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_PLUGIN_AUTH + FLAGS.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA,
      } do
        for _, length in ipairs { 1, 20, 250, 251, 255 } do
          local login = {
            capabilities = flags + FLAGS.CLIENT_CONNECT_WITH_DB, extended_capabilities = 5, server_capabilities = ALL,
            protocol_41 = true, max_packet_size = 2 ^ 32 - 1, charset = 255, username = "user",
            response = ("r"):rep(length), database = "db",
            auth_plugin_name = flags >= FLAGS.CLIENT_PLUGIN_AUTH and "plugin" or nil,
          }
          assert.same(login, proto.from_response_packet(proto.to_response_packet(login), ALL))
          login.capabilities = login.capabilities + FLAGS.CLIENT_CONNECT_ATTRS
          login.attributes = { _os = "Linux", [("n"):rep(length)] = ("v"):rep(300), empty = "" }
          if flags >= FLAGS.CLIENT_PLUGIN_AUTH then
            local packet = proto.to_response_packet(login)
            local decoded = proto.from_response_packet(packet, ALL)
            assert.equal(packet, proto.to_response_packet(decoded))
            for name, value in pairs(login.attributes) do
              assert.truthy(decoded.attributes:find(name, 1, true))
              assert.truthy(decoded.attributes:find(value, 1, true))
            end
            decoded.attributes, login.attributes = nil, nil
            assert.same(login, decoded)
          end
        end
      end
    end)

    it("claims nothing that it does not have", function()
      local bare = proto.to_response_packet { capabilities = ALL, server_capabilities = ALL, username = "user" }
      local login = proto.from_response_packet(bare, ALL)
      assert.equal("user", login.username)
      assert.is_nil(login.database)
      assert.is_nil(login.attributes)
      assert.equal(ALL - FLAGS.CLIENT_CONNECT_WITH_DB - FLAGS.CLIENT_CONNECT_ATTRS, login.capabilities)
    end)

    it("cannot hold a long auth response unless its length is length-encoded", function()
      local login = { response = ("x"):rep(256) }
      assert.error_matches(function()
        proto.to_response_packet(login)
      end, ".response has to be shorter than 256 bytes", nil, true)
      login.capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
      login.server_capabilities = login.capabilities
      assert.equal(login.response, proto.from_response_packet(proto.to_response_packet(login), ALL).response)
      takes_tables_only "to_response_packet"
    end)

    it("is refused if it is cut", function()
      for length = 0, #v5_5_8 - 1 do
        if length ~= #v5_5_8 - #"mysql_native_password\0" then -- some clients leave the plugin out
          malformed("from_response_packet", v5_5_8:sub(1, length), ALL)
        end
      end
      malformed("from_response_packet", v5_6_6:sub(1, -2), ALL) -- in the attributes
      takes_strings_only "from_response_packet"
    end)

    it("is refused if a length in it points behind its end", function()
      malformed("from_response_packet", v5_5_8:sub(1, 36) .. "\255" .. v5_5_8:sub(38), ALL)
      local lenenc = bytes "00 82 20 00" .. ("\0"):rep(28) .. "u\0"
      for _, length in ipairs { "\1", "\252\255\255", "\254" .. ("\255"):rep(8), "\251", "\255" } do
        malformed("from_response_packet", lenenc .. length, ALL)
      end
    end)

    it("keeps the attributes that are whole when one is not", function()
      local login = proto.from_response_packet(
        bytes "00 82 10 00" .. ("\0"):rep(28) .. "u\0\0" .. "\9\1a\1b\1c\254xyz", ALL)
      assert.equal("\1a\1b", login.attributes)
    end)

    it("survives any change of a byte", function()
      for _, payload in ipairs { v5_5_8, v5_6_6, ssl_request } do
        survives_changes("from_response_packet", payload, ALL)
        survives_changes("from_response_packet", payload, 0)
      end
    end)
  end)
end)
