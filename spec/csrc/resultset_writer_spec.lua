-- The writer of mysql.resultset: packets of what scripts put into proxy.response.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local FLAGS, EXTENDED = proto.capabilities, proto.extended_capabilities
local DEPRECATE_EOF = FLAGS.CLIENT_DEPRECATE_EOF
local EXTENDED_METADATA = EXTENDED.MARIADB_CLIENT_EXTENDED_METADATA * 2 ^ 32
local CACHE_METADATA = EXTENDED.MARIADB_CLIENT_CACHE_METADATA * 2 ^ 32

local QUERY, STRING, LONG = 3, 254, 3
local LONGEST = 2 ^ 24 - 1 -- payload of one packet

local EOF = "\254\0\0\2\0"
local OK_AS_EOF = "\254\0\0\2\0\0\0"

local function definition(name, type, extended, charset)
  return "\3def\0\0\0" .. packet.to_lenenc_string(name) .. "\0" .. (extended or "") .. "\12" .. (charset or "\8\0")
    .. "\32\0\0\0" .. string.char(type or STRING) .. "\2\0\0\0\0"
end

-- Payloads and sequence numbers of packets.
local function parse(bytes)
  local payloads, sequences, at = {}, {}, 1
  while at <= #bytes do
    payloads[#payloads + 1], sequences[#sequences + 1], at = packet.parse(bytes, at)
  end
  return payloads, sequences
end

local function write(t, capabilities, sequence)
  return resultset.to_packets(t, capabilities or 0, sequence or 1)
end

local function payloads_of(t, capabilities)
  return (parse((write(t, capabilities))))
end

-- The payload of the only row, with as many columns as cells.
local function row_of(cells, count)
  local fields = {}
  for i = 1, count or 1 do
    fields[i] = { name = "c", type = STRING }
  end
  return payloads_of({ fields = fields, rows = { cells } })[1 + #fields + 2]
end

-- The error has this text and nothing else.
local function raises(text, call, ...)
  local ok, message = pcall(call, ...)
  assert.is_false(ok)
  assert.equal(text, message)
end

describe("mysql.resultset", function()
  describe("to_packets", function()
    local two = {
      fields = { { name = "id", type = LONG }, { name = "name", type = STRING } },
      rows = { { 1, "one" }, { "2", "two" } },
    }

    it("makes a result set as documented", function()
      local bytes, following, warnings = write(two)
      local payloads, sequences = parse(bytes)
      assert.same({ "\2", definition("id", LONG), definition "name", EOF, "\0011\3one", "\0012\3two", EOF }, payloads)
      assert.same({ 1, 2, 3, 4, 5, 6, 7 }, sequences)
      assert.equal(8, following)
      assert.same({}, warnings)
    end)

    it("ends with OK where that was agreed on", function()
      assert.same({ "\2", definition("id", LONG), definition "name", "\0011\3one", "\0012\3two", OK_AS_EOF },
        payloads_of(two, DEPRECATE_EOF))
    end)

    it("says that metadata follow where they might not", function()
      for _, optional in ipairs { FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA, CACHE_METADATA } do
        assert.equal("\2\1", payloads_of(two, optional)[1])
        assert.equal("\2\1", payloads_of(two, optional + DEPRECATE_EOF)[1])
      end
    end)

    it("has room for MariaDB's extended metadata where they were agreed on", function()
      assert.same({ "\1", definition("a", STRING, "\0"), EOF, EOF },
        payloads_of({ fields = { { name = "a", type = STRING } }, rows = {} }, EXTENDED_METADATA))
    end)

    it("takes no notice of other capabilities", function()
      assert.same(payloads_of(two), payloads_of(two, FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_SESSION_TRACK))
    end)

    it("numbers from any number on", function()
      local bytes, following = write(two, 0, 253)
      assert.same({ 253, 254, 255, 0, 1, 2, 3 }, (select(2, parse(bytes))))
      assert.equal(4, following)
      assert.same({ 0, 1, 2, 3, 4, 5, 6 }, (select(2, parse((write(two, 0, 256))))))
    end)

    it("may have no rows", function()
      assert.same({ "\1", definition "a", EOF, EOF },
        payloads_of { fields = { { name = "a", type = STRING } }, rows = {} })
    end)

    it("makes NULL of nil, wherever it is", function()
      assert.equal("\251", row_of({ nil }))
      assert.equal("\0011\251\0011", row_of({ "1", nil, "1" }, 3))
      assert.equal("\251\251\0011", row_of({ nil, nil, "1" }, 3))
      assert.equal("\0011\251\251", row_of({ "1" }, 3)) -- the number of fields says how many cells there are
    end)

    it("drops cells that have no field", function()
      assert.equal("\0011", row_of({ "1", "2", "3" }))
    end)

    it("writes numbers as tostring does", function()
      for _, number in ipairs { 0, 1, 3, -7, 1.5, 2 ^ 31, 2 ^ 40, 2 ^ 53, 1e100, -0.25, 1 / 3 } do
        assert.equal(packet.to_lenenc_string(tostring(number)), row_of { number })
      end
      assert.equal("\0013", row_of { 3.0 })
    end)

    it("makes NULL of what is neither string nor number", function()
      for _, cell in ipairs { true, false, {}, print, io.stdout, coroutine.create(function() end) } do
        assert.equal("\251\0011", row_of({ cell, "1" }, 2))
      end
      assert.equal("\251\0011", row_of({ false, "1" }, 2))
    end)

    it("is binary safe", function()
      assert.equal("\6a\0b\0\255\251", row_of { "a\0b\0\255\251" })
      assert.equal("\0", row_of { "" })
      local all = {}
      for i = 0, 255 do
        all[i + 1] = string.char(i)
      end
      assert.equal("\252\0\1" .. table.concat(all), row_of { table.concat(all) })
    end)

    it("writes the length in the form that it needs", function()
      for length, prefix in pairs {
        [249] = "\249", [250] = "\250", [251] = "\252\251\0", [252] = "\252\252\0", [255] = "\252\255\0",
        [256] = "\252\0\1", [300] = "\252\44\1", [2 ^ 16 - 1] = "\252\255\255", [2 ^ 16] = "\253\0\0\1",
      } do
        local text = ("x"):rep(length)
        assert.equal(prefix .. text, row_of { text })
        local result = payloads_of { fields = { { name = text, type = STRING } }, rows = {} }
        assert.equal(definition(text), result[2])
      end
    end)

    it("makes any number of fields", function()
      for _, count in ipairs { 249, 250, 251, 252, 253, 254, 255, 256, 5000 } do
        local fields, row = {}, {}
        for i = 1, count do
          fields[i], row[i] = { name = "c" .. i, type = i % 256 }, i
        end
        local result = payloads_of { fields = fields, rows = { row } }
        assert.equal(packet.to_lenenc_int(count), result[1])
        assert.equal(definition("c" .. count, count % 256), result[count + 1])
        assert.equal(packet.to_lenenc_string(tostring(count)), result[count + 3]:sub(-1 - #tostring(count)))
        assert.equal(count + 4, #result)
      end
    end)

    it("splits rows of 16 MiB and more", function()
      for _, length in ipairs { LONGEST - 5, LONGEST - 4, LONGEST - 3, LONGEST, 2 ^ 24, 2 * LONGEST - 9, 2 ^ 25 + 1 } do
        local text = ("x"):rep(length - 1) .. "y"
        local bytes, following = write({ fields = two.fields, rows = { { text, "short" }, { 1, 2 } } }, 0, 254)
        local row = packet.to_lenenc_string(text) .. "\5short"
        local framed, after = packet.frame(row, 2) -- behind count, two definitions and EOF
        local begin = #packet.frame("\2", 0) + #packet.frame(definition "id", 0) + #packet.frame(definition "name", 0)
          + #packet.frame(EOF, 0)
        assert.is_true(bytes:sub(begin + 1, begin + #framed) == framed, "length " .. length)
        assert.equal(packet.frame("\0011\0012", after) .. packet.frame(EOF, after + 1), bytes:sub(begin + #framed + 1))
        assert.equal(after + 2, following)
        local count = 0
        for cells in resultset.new(bytes, QUERY, 0).rows do
          count = count + 1
          assert.is_true(count == 2 or cells[1] == text)
        end
        assert.equal(2, count)
      end
    end)

    it("splits a row in which several cells are long", function()
      local cells = { ("a"):rep(LONGEST), ("b"):rep(LONGEST), ("c"):rep(10), ("d"):rep(LONGEST) }
      local fields = {}
      for i = 1, 4 do
        fields[i] = { name = "c" .. i, type = STRING }
      end
      local read = resultset.new((write { fields = fields, rows = { cells } }), QUERY, 0).rows()
      for i = 1, 4 do
        assert.is_true(read[i] == cells[i])
      end
    end)

    it("makes many rows", function()
      local rows = {}
      for i = 1, 100000 do
        rows[i] = { i, "row " .. i }
      end
      local result = resultset.new((write { fields = two.fields, rows = rows }), QUERY, 0)
      local i = 0
      for cells in result.rows do
        i = i + 1
        assert(cells[1] == tostring(i) and cells[2] == "row " .. i)
      end
      assert.equal(100000, i)
      assert.equal(100000, result.row_count)
    end)

    it("takes the first nil for the end of fields and rows", function()
      assert.equal("\1", payloads_of { fields = { { name = "a" }, nil, { name = "c" } }, rows = {} }[1])
      assert.equal(5, #payloads_of { fields = { { name = "a" } }, rows = { { 1 }, nil, { 3 } } })
    end)

    it("takes no notice of other keys", function()
      assert.same(payloads_of(two), payloads_of {
        fields = {
          { name = "id", type = LONG, length = 7, flags = "x", org_name = 1 }, { "x", name = "name", type = STRING },
        },
        rows = { { 1, "one", n = 2 }, { "2", "two", [0] = "x" } }, something = true,
      })
    end)

    it("reads tables through their metatables", function()
      local count = 0
      local result = payloads_of {
        fields = { setmetatable({ name = "a" }, { __index = { type = LONG } }) },
        rows = setmetatable({}, { __index = function(_, i)
          count = count + 1
          return i <= 3 and setmetatable({}, { __index = function(_, cell)
            return i * 10 + cell
          end }) or nil
        end }),
      }
      assert.same({ "\1", definition("a", LONG), EOF, "\00211", "\00221", "\00231", EOF }, result)
      assert.equal(4, count)
    end)

    it("gives errors of metatables to the script", function()
      for _ = 1, 3 do
        raises("from the script", write, { fields = two.fields, rows = setmetatable({ { 1, 2 } }, { __index = function()
          error("from the script", 0)
        end }) })
        collectgarbage()
      end
    end)

    it("says in which character set the text is", function()
      local fields = { { name = "a", type = STRING } }
      for charset, bytes in pairs { [33] = "\33\0", ["255"] = "\255\0", [308] = "\52\1" } do
        local result = payloads_of { fields = fields, rows = {}, charset = charset }
        assert.equal(definition("a", STRING, nil, bytes), result[2])
      end
      for _, charset in ipairs { "utf8", {}, true, 0, -1, 2 ^ 16, 0 / 0 } do
        raises("proxy.response.resultset.charset should be a number from 1 to 65535, but is a " .. type(charset),
          write, { fields = fields, rows = {}, charset = charset })
      end
    end)

    it("leaves what it was given as it was", function()
      local t = { fields = { { name = 7, type = "3" }, {} }, rows = { { 1, nil, 2.5 } } }
      write(t)
      assert.same({ fields = { { name = 7, type = "3" }, {} }, rows = { { 1, nil, 2.5 } } }, t)
    end)
  end)

  describe("a field that says too little", function()
    local NAME = "proxy.response.type = OK, but proxy.response.resultset.fields[%d].name is not a string (is %s), "
      .. "using default"
    local TYPE = "proxy.response.type = OK, but proxy.response.resultset.fields[%d].type is not a integer (is %s), "
      .. "using MYSQL_TYPE_STRING"

    it("gets a name and a type, with a warning", function()
      local bytes, following, warnings = write {
        fields = { { type = LONG }, { name = "b" }, {}, { name = {}, type = "LONG" } }, rows = { { 1, 2, 3, 4 } },
      }
      assert.same({ "\4", definition("no-field-name", LONG), definition "b", definition "no-field-name",
        definition "no-field-name", EOF, "\0011\0012\0013\0014", EOF }, (parse(bytes)))
      assert.equal(9, following)
      assert.same({
        NAME:format(1, "nil"), TYPE:format(2, "nil"), NAME:format(3, "nil"), TYPE:format(3, "nil"),
        NAME:format(4, "table"), TYPE:format(4, "string"),
      }, warnings)
    end)

    it("may have a number for a name, and a numeric string for a type", function()
      local bytes, _, warnings = write { fields = { { name = 42, type = "3" } }, rows = {} }
      assert.same({ "\1", definition("42", LONG), EOF, EOF }, (parse(bytes)))
      assert.same({}, warnings)
    end)

    it("may have every type of one byte, and no other", function()
      for _, type in ipairs { 0, 1, 15, 16, 245, 246, 255, 3.7 } do
        local bytes, _, warnings = write { fields = { { name = "a", type = type } }, rows = {} }
        assert.equal(definition("a", math.floor(type)), parse(bytes)[2])
        assert.same({}, warnings)
      end
      for _, type in ipairs { 256, -1, 2 ^ 40, 0 / 0, math.huge } do
        local bytes, _, warnings = write { fields = { { name = "a", type = type } }, rows = {} }
        assert.equal(definition "a", parse(bytes)[2])
        assert.same({ TYPE:format(1, "number") }, warnings)
      end
    end)
  end)

  describe("a result set of a wrong shape", function()
    local field = { name = "a", type = STRING }

    local function refuses(text, t)
      raises("proxy.response.resultset" .. text, write, t)
    end

    it("is refused with the place where it is wrong", function()
      refuses(" should be a table, but is a string", "x")
      refuses(" should be a table, but is a nil", nil)
      refuses(".fields should be a table, but is a nil", { rows = {} })
      refuses(".fields should be a table, but is a string", { fields = "x", rows = {} })
      refuses(".fields should be a table of fields, but is empty", { fields = {}, rows = {} })
      refuses(".fields[1] should be a table, but is a number", { fields = { 1 }, rows = {} })
      refuses(".fields[2] should be a table, but is a string", { fields = { field, "x" }, rows = {} })
      refuses(".fields[3] should be a table, but is a boolean", { fields = { field, field, false }, rows = {} })
      refuses(".rows should be a table, but is a nil", { fields = { field } })
      refuses(".rows should be a table, but is a number", { fields = { field }, rows = 3 })
      refuses(".rows[1] should be a table, but is a string", { fields = { field }, rows = { "x" } })
      refuses(".rows[3] should be a table, but is a boolean", { fields = { field }, rows = { {}, {}, false, {} } })
      refuses(".rows[2] should be a table, but is a function", { fields = { field }, rows = { { 1 }, print } })
    end)

    it("is refused too if capabilities or sequence are no numbers", function()
      assert.error_matches(function()
        resultset.to_packets({ fields = { field }, rows = {} }, "x", 1)
      end, "bad argument #2")
      assert.error_matches(function()
        resultset.to_packets({ fields = { field }, rows = {} }, 0)
      end, "bad argument #3")
    end)
  end)

  describe("frame", function()
    it("gives each payload a header", function()
      assert.same({ "\3\0\0\1one\0\0\0\2\1\0\0\3x", 4 }, { resultset.frame({ "one", "", "x" }, 1) })
      assert.same({ "\1\0\0\255a\1\0\0\0b", 1 }, { resultset.frame({ "a", "b" }, 255) })
    end)

    it("gives nothing for nothing", function()
      assert.same({ "", 7 }, { resultset.frame({}, 7) })
      assert.same({ "\1\0\0\0a", 1 }, { resultset.frame({ "a", nil, "c" }, 0) })
    end)

    it("splits a payload of 16 MiB - 1 and more", function()
      for _, length in ipairs { LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST, 2 * LONGEST + 1 } do
        local payload = ("x"):rep(length - 1) .. "y"
        local first, after = packet.frame(payload, 254)
        local bytes, following = resultset.frame({ payload, "z" }, 254)
        assert.is_true(bytes == first .. packet.frame("z", after), "length " .. length)
        assert.equal((after + 1) % 256, following)
      end
    end)

    it("refuses what is no array of strings, and says where", function()
      raises("proxy.response.packets should be a table, but is a nil", resultset.frame, nil, 1)
      raises("proxy.response.packets should be a table, but is a string", resultset.frame, "x", 1)
      raises("proxy.response.packets[2] should be a string, but is a table", resultset.frame, { "x", {} }, 1)
      raises("proxy.response.packets[1] should be a string, but is a number", resultset.frame, { 17 }, 1)
    end)
  end)

  describe("renumber", function()
    local function packets(sequence, ...)
      local bytes = {}
      for i = 1, select("#", ...) do
        bytes[i], sequence = packet.frame((select(i, ...)), sequence)
      end
      return table.concat(bytes), sequence
    end

    it("numbers packets from where it is told", function()
      local bytes = packets(1, "one", "", "three")
      for _, sequence in ipairs { 0, 1, 2, 7, 253, 254, 255 } do
        assert.same({ packets(sequence, "one", "", "three") }, { resultset.renumber(bytes, sequence) })
      end
    end)

    it("mends gaps", function()
      local bytes = packet.frame("one", 1) .. packet.frame("two", 9) .. packet.frame("three", 3)
      assert.same({ packets(1, "one", "two", "three") }, { resultset.renumber(bytes, 1) })
    end)

    it("does not change what it was given", function()
      local bytes = packets(1, "one", "two")
      local copy = bytes:sub(1, 1) .. bytes:sub(2)
      assert.not_equal(bytes, (resultset.renumber(bytes, 5)))
      assert.equal("\1", copy:sub(4, 4))
      assert.equal("\1", bytes:sub(4, 4))
    end)

    it("counts each part of a long payload", function()
      local payload = ("x"):rep(2 * LONGEST) .. "y"
      local bytes, following = resultset.renumber(packets(1, payload, "z"), 254)
      assert.is_true(bytes == packets(254, payload, "z"))
      assert.equal(2, following)
      assert.is_true(resultset.renumber(bytes, 254) == bytes)
    end)

    it("wraps as often as it has to", function()
      local payloads = {}
      for i = 1, 1000 do
        payloads[i] = tostring(i)
      end
      assert.same({ packets(3, unpack(payloads)) }, { resultset.renumber(packets(1, unpack(payloads)), 3) })
    end)

    it("gives nothing for nothing", function()
      assert.same({ "", 9 }, { resultset.renumber("", 9) })
    end)

    it("refuses what does not end with a packet", function()
      local bytes = packets(1, "one", "two")
      for _, sequence in ipairs { 1, 5 } do
        for _, length in ipairs { 1, 3, 4, 6, 8, 10, 11, 12, 13 } do
          assert.error_matches(function()
            resultset.renumber(bytes:sub(1, length), sequence)
          end, "the packets are malformed: the last one ends too early", nil, true)
        end
      end
      assert.is_truthy(resultset.renumber(bytes:sub(1, 7), 5))
    end)
  end)

  it("reads what it has written, whatever the capabilities", function()
    local t = {
      fields = { { name = "a", type = LONG }, { name = ("n"):rep(300), type = 252 }, { name = "\0\255", type = 0 } },
      rows = { { 1, nil, "\0" }, { nil, nil, nil }, { "", ("x"):rep(70000), true }, {} },
    }
    local flags = { DEPRECATE_EOF, FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA, CACHE_METADATA, EXTENDED_METADATA }
    for mask = 0, 15 do
      local capabilities = 0
      for i, flag in ipairs(flags) do
        capabilities = capabilities + (math.floor(mask / 2 ^ (i - 1)) % 2) * flag
      end
      local result = resultset.new((write(t, capabilities)), QUERY, capabilities)
      assert.equal(3, #result.fields)
      for i, field in ipairs(t.fields) do
        assert.same({ field.name, field.type }, { result.fields[i].name, result.fields[i].type })
      end
      local rows = {}
      for cells in result.rows do
        rows[#rows + 1] = cells
      end
      assert.same({ { "1", nil, "\0" }, {}, { "", ("x"):rep(70000) }, {} }, rows)
      assert.same({ 4, 0, 0 }, { result.row_count, result.warning_count, result.query_status })
      assert.same({ in_trans = false, auto_commit = true, no_good_index_used = false, no_index_used = false },
        result.flags)
    end
  end)

  it("writes rows as COM_STMT_EXECUTE has them", function()
    local LONGLONG, DOUBLE = 8, 5
    local fields = {}
    for index, type in ipairs { LONG, LONGLONG, DOUBLE, STRING, STRING, STRING, STRING } do
      fields[index] = { name = "c", type = type }
    end
    local payloads = payloads_of({
      binary = true, fields = fields,
      rows = { { -2, "5000000000", 0.5, "text", "", 7, ("x"):rep(300) }, {}, { nil, 2 ^ 70, nil, "a", nil, nil, "b" } },
    })
    assert.same({
      "\0\0\0\254\255\255\255\0\242\5\42\1\0\0\0\0\0\0\0\0\0\224\63\4text\0\1" .. "7"
        .. "\252\44\1" .. ("x"):rep(300),
      "\0\252\1",
      "\0\212\0" .. ("\0"):rep(8) .. "\1a\1b",
    }, { payloads[10], payloads[11], payloads[12] })
  end)

  it("writes column definitions alone, for COM_STMT_PREPARE and for COM_FIELD_LIST", function()
    local fields = { { name = "a", type = LONG }, { name = "b" } }
    local function definitions(t, capabilities)
      t.fields = fields
      return (parse((resultset.to_definitions(t, capabilities, 1))))
    end
    local one, two = definition("a", LONG), definition("b")
    assert.same({ one, two, EOF }, definitions({}, 0))
    assert.same({ one, two }, definitions({}, DEPRECATE_EOF))
    assert.same({ one .. "\251", two .. "\251", EOF }, definitions({ defaults = true }, 0))
    assert.same({ one .. "\251", two .. "\251", OK_AS_EOF }, definitions({ defaults = true }, DEPRECATE_EOF))
    assert.equal(2, select(2, resultset.to_definitions({ fields = { fields[1] } }, DEPRECATE_EOF, 1)))
  end)
end)
