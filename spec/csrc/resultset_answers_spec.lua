-- mysql.resultset: answers without result sets, answers of a relay, and what is none.

local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local answers = require "spec.support.answers"
local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local lenenc, ok, ok_as_eof, eof, err = answers.lenenc, answers.ok, answers.ok_as_eof, answers.eof, answers.err
local column, row = answers.column, answers.row
local answer, read, raises = answers.answer, answers.read, answers.raises

local WITH_EOF, WITHOUT_EOF = 0, proto.capabilities.CLIENT_DEPRECATE_EOF

local INIT_DB, QUERY, FIELD_LIST, STATISTICS, PING, CHANGE_USER = 2, 3, 4, 9, 14, 17
local PREPARE, EXECUTE, SET_OPTION = 22, 23, 27

local IN_TRANS, AUTOCOMMIT, MORE_RESULTS, CURSOR_EXISTS = 1, 2, 8, 0x40
local LONGEST = 2 ^ 24 - 1 -- payload of one packet

describe("mysql.resultset", function()
  describe("the answer to another command", function()
    it("has its first packet and whether it failed", function()
      for _, command in ipairs { INIT_DB, PING, 7, 5, 12, 26, 29, 99 } do
        local result = read(command, WITH_EOF, ok { server_status = IN_TRANS, affected_rows = 1, warnings = 2 })
        assert.same({ 0, 2, 0, 0, 0, 1 }, { result.query_status, result.warning_count, result.row_count, result.bytes,
          #result.fields, result.affected_rows })
        assert.is_true(result.flags.in_trans)
        assert.is_nil(result.rows)
        assert.equal(ok { server_status = IN_TRANS, affected_rows = 1, warnings = 2 }, result.raw)
        result = read(command, WITH_EOF, err())
        assert.equal(255, result.query_status)
        assert.equal(err(), result.raw)
        assert.is_nil(result.rows)
        assert.is_nil(result.affected_rows)
        assert.equal(0, #result.fields)
      end
    end)

    it("may be EOF", function()
      local result = read(SET_OPTION, WITH_EOF, eof(IN_TRANS, 1))
      assert.same({ 0, 1, "\254" }, { result.query_status, result.warning_count, result.raw:sub(1, 1) })
      assert.is_true(result.flags.in_trans)
      assert.is_nil(result.affected_rows)
      result = read(SET_OPTION, WITHOUT_EOF, ok_as_eof { server_status = IN_TRANS, warnings = 1 })
      assert.same({ 0, 1, true }, { result.query_status, result.warning_count, result.flags.in_trans })
      assert.is_nil(result.affected_rows)
    end)

    it("may be a text", function()
      local result = read(STATISTICS, WITH_EOF, "Uptime: 3  Threads: 1")
      assert.same({ "Uptime: 3  Threads: 1", 0, 0 }, { result.raw, result.query_status, result.row_count })
      assert.is_nil(result.rows)
      assert.is_nil(result.affected_rows)
      assert.equal(255, read(STATISTICS, WITH_EOF, err()).query_status)
    end)

    it("may be nothing", function()
      assert.equal("", read(STATISTICS, WITH_EOF, "").raw)
      assert.equal(0, read(STATISTICS, WITH_EOF, "").query_status)
    end)

    it("may be definitions", function()
      local prepared = "\0\1\0\0\0\1\0\1\0\0\7\0"
      local result = read(PREPARE, WITH_EOF, prepared, column "?", eof(), column "a", eof(IN_TRANS))
      assert.is_true(result.flags.in_trans)
      assert.same({ prepared, 0, 0, 0, 7 },
        { result.raw, result.query_status, #result.fields, result.row_count, result.warning_count })
      assert.is_nil(result.rows)
      assert.is_nil(result.affected_rows)
      assert.equal(255, read(PREPARE, WITH_EOF, err()).query_status)
      result = read(FIELD_LIST, WITH_EOF, column "a" .. "\0", column "b" .. "\0", eof())
      assert.same({ 0, 0, 0, 0 }, { result.query_status, #result.fields, result.row_count, result.bytes })
      assert.equal(column "a" .. "\0", result.raw)
      assert.is_nil(result.rows)
    end)

    it("may be a conversation", function()
      local switch = "\254mysql_native_password\0" .. ("s"):rep(20) .. "\0"
      assert.equal(0, read(CHANGE_USER, WITH_EOF, switch, ok()).query_status)
      assert.equal(switch, read(CHANGE_USER, WITH_EOF, switch, ok()).raw)
      assert.equal(255, read(CHANGE_USER, WITH_EOF, switch, err()).query_status)
    end)

    it("has a first packet of 16 MiB whole", function()
      local text = ("x"):rep(2 * LONGEST) .. "y"
      assert.is_true(read(STATISTICS, WITH_EOF, text).raw == text)
    end)
  end)

  describe("an answer that a relay has passed on", function()
    local function passed_on(command, ...)
      local c, over = conversation.open(), nil
      function c.on_answer()
        over = c.relay:summary()
      end
      c.relay:inject(string.char(command) .. "x", true)
      c.server:write(answer(...))
      assert(process.wait_until(function()
        return over
      end, 10), "no end of the answer")
      c:close()
      return over
    end

    it("has neither fields nor rows nor raw, nor packets", function()
      local result = passed_on(QUERY, "\1", column "a", eof(), row(1, "1"), eof())
      assert.equal("mysql.resultset (not kept)", tostring(result))
      for _, key in ipairs { "fields", "rows", "raw" } do
        raises((".resultset.%s isn't available if 'resultset_is_needed ~= true'"):format(key), result, key)
      end
      assert.error_matches(function()
        resultset.packets(result)
      end, "its packets have not been kept")
      assert.is_nil(result.nothing)
    end)

    it("says the same by a relay's summary as by its bytes", function()
      local more = eof(AUTOCOMMIT + MORE_RESULTS, 1)
      local given = {
        { ok { affected_rows = 2, insert_id = 10, warnings = 3 } },
        { err() }, { err(0) },
        { "\1", column "a", eof(), row(1, "1"), row(1, ("x"):rep(300)), eof(IN_TRANS, 2) },
        { "\1", column "a", eof(), eof() },
        { "\1", column "a", eof(), row(1, "1"), err() },
        { "\1", column "a", eof(), row(1, "1"), more, ok { affected_rows = 4 } },
        { ok { affected_rows = 4, server_status = MORE_RESULTS }, "\1", column "a", eof(), row(1, "1"), eof() },
        { ok { affected_rows = 4, server_status = MORE_RESULTS }, err() },
      }
      for _, command in ipairs { QUERY, EXECUTE } do
        table.insert(given, { "\1", column "a", eof(AUTOCOMMIT + CURSOR_EXISTS), command == QUERY and eof() or nil })
        for _, payloads in ipairs(given) do
          local kept, streamed = read(command, WITH_EOF, unpack(payloads)), passed_on(command, unpack(payloads))
          for _, key in ipairs { "row_count", "bytes", "flags", "affected_rows", "insert_id", "warning_count",
            "query_status" } do
            assert.same(kept[key], streamed[key], key)
          end
        end
        table.remove(given)
      end
    end)
  end)

  it("refuses what is no command, no capabilities, no bytes", function()
    for _, case in ipairs {
      { "", 256, 0 }, { "", -1, 0 }, { "", 3, -1 }, { "", 3, 0 / 0 }, { "", 3, 2 ^ 64 }, { "", "x", 0 }, { "", 3 },
      { nil, 3, 0 }, { {}, 3, 0 },
    } do
      assert.error_matches(function()
        resultset.new(unpack(case, 1, 3))
      end, "bad argument")
    end
  end)

  describe("objects", function()
    it("are userdata", function()
      local result = read(QUERY, WITH_EOF, "\1", column "a", eof(), row(1, "1"), eof())
      assert.equal("userdata", type(result))
      assert.equal("userdata", type(result.fields))
      assert.equal("userdata", type(result.fields[1]))
      assert.equal("mysql.resultset.fields (1)", tostring(result.fields))
      assert.equal("mysql.resultset.field (a)", tostring(result.fields[1]))
      assert.truthy(tostring(result):find "^mysql.resultset %(%d+ bytes%)$")
    end)

    describe("keep what they need alive:", function()
      local function payloads_of(name)
        local payloads = { "\2", column("first"), column(name), eof() }
        for i = 1, 100 do
          payloads[#payloads + 1] = row(2, "row " .. i, ("x"):rep(i))
        end
        payloads[#payloads + 1] = eof()
        return payloads
      end
      local size = #answer(unpack(payloads_of(("n"):rep(100))))

      local function collect()
        collectgarbage()
        collectgarbage()
        local others = {} -- to use what has been given back
        for i = 1, 200 do
          others[i] = ("%08d"):format(i) .. ("\255"):rep(size - 8)
        end
        return others
      end

      it("fields", function()
        local fields = read(QUERY, WITH_EOF, unpack(payloads_of(("n"):rep(100)))).fields
        collect()
        local field = fields[2]
        assert.equal("first", fields[1].name)
        fields = nil -- luacheck: ignore
        collect()
        assert.equal(("n"):rep(100), field.name)
      end)

      it("rows", function()
        local next_row = read(QUERY, WITH_EOF, unpack(payloads_of(("m"):rep(100)))).rows
        for i = 1, 100 do
          local cells = next_row()
          if i % 10 == 1 then
            collect()
          end
          assert.same({ "row " .. i, ("x"):rep(i) }, cells)
        end
        assert.is_nil(next_row())
      end)

      it("the result", function()
        local result = read(QUERY, WITH_EOF, unpack(payloads_of(("o"):rep(100))))
        collect()
        assert.equal(100, result.row_count)
        assert.equal(("o"):rep(100), result.fields[2].name)
      end)
    end)

    it("can be used from several iterations at once, over a collected one", function()
      local result = read(QUERY, WITH_EOF, "\1", column "a", eof(), row(1, "1"), row(1, "2"), eof())
      local seen = {}
      for outer in result.rows do
        for inner in result.rows do
          collectgarbage()
          seen[#seen + 1] = outer[1] .. inner[1]
        end
      end
      assert.same({ "11", "12", "21", "22" }, seen)
    end)

    it("cannot be taken for one another", function()
      local result = read(QUERY, WITH_EOF, "\1", column "a", eof(), eof())
      local index = getmetatable(result).__index
      for _, wrong in ipairs { result.fields, io.stdout, {}, 1 } do
        assert.error_matches(function()
          index(wrong, "rows")
        end, "bad argument #1")
      end
    end)
  end)

  describe("of bytes that are no answer", function()
    local keys = { "fields", "rows", "raw", "row_count", "bytes", "flags", "affected_rows", "query_status" }
    local full = answer("\2", column "a", column "b", eof(), row(2, "1", "2"), row(2, "3", "4"), eof())

    -- Reads all there is to read.
    local function read_all(result)
      for _, key in ipairs(keys) do
        local value = result[key]
        if key == "rows" and value then
          for _ in value do end
        elseif key == "fields" then
          for i = 1, #value do
            assert.truthy(value[i].name)
          end
        end
      end
    end

    it("says that it ends too early, wherever it is cut", function()
      for length = 0, #full - 1 do
        local result = resultset.new(full:sub(1, length), QUERY, WITH_EOF)
        raises("the answer is malformed: it ends too early", result, "row_count")
        raises("the answer is malformed: it ends too early", result, "query_status")
        assert.error_matches(function()
          read_all(result)
        end, "the answer is malformed: it ends too early", nil, true)
      end
      read_all(resultset.new(full, QUERY, WITH_EOF))
    end)

    it("gives the fields, if what is malformed comes behind them, but no rows", function()
      local result = resultset.new(full:sub(1, -15), QUERY, WITH_EOF) -- into the second row
      assert.equal("\2", result.raw)
      assert.equal("b", result.fields[2].name)
      for _ = 1, 2 do
        raises("the answer is malformed: it ends too early", result, "rows")
      end
    end)

    it("says what the recogniser finds wrong", function()
      raises("the answer is malformed: empty packet where a result begins", read(QUERY, WITH_EOF, ""), "row_count")
      raises("the answer is malformed: empty packet where a result begins", read(QUERY, WITH_EOF, ""), "fields")
      raises("the answer is malformed: no column count", read(QUERY, WITH_EOF, "\252\0\0"), "rows")
      raises("the answer is malformed: no EOF after the column definitions",
        read(QUERY, WITH_EOF, "\1", column "a", row(1, "1")), "rows")
      raises("the answer is malformed: neither OK nor ERR", read(PREPARE, WITH_EOF, "\7"), "query_status")
    end)

    it("names the column definition", function()
      local definition = column "b"
      for length = 0, #definition - 6 do -- flags, decimals and filler nobody looks at
        local result = read(QUERY, WITHOUT_EOF, "\2", column "a", definition:sub(1, length), ok_as_eof())
        assert.equal(2, #result.fields)
        assert.equal("a", result.fields[1].name)
        raises("the column definition 2 is malformed: it ends too early, or a length in it is wrong",
          result.fields, 2)
      end
      local far = lenenc "def" .. "\254" .. ("\255"):rep(8) .. "x"
      raises("the column definition 1 is malformed", read(QUERY, WITHOUT_EOF, "\1", far, ok_as_eof()).fields, 1)
    end)

    it("names the row", function()
      for _, wrong in ipairs {
        "", "\1", "\0011", "\0011\2x", "\0011\0012\0013", "\0011\0012\251", "\251", "\0011\252\1", "\0011\255",
        "\0011\254" .. ("\255"):rep(8), "\253\255\255\255",
      } do
        local good = row(2, "1", "2")
        local result = read(QUERY, WITH_EOF, "\2", column "a", column "b", eof(), good, wrong, eof())
        local next_row = result.rows
        assert.same({ "1", "2" }, next_row())
        assert.error_matches(next_row, "the row 2 is malformed: it does not have the cells of its columns", nil, true)
      end
    end)

    it("makes no room for a number of columns that cannot be", function()
      local result = read(QUERY, WITHOUT_EOF, "\254\255\255\255\255\0\0\0\0", column "a", ok_as_eof())
      raises("it ends too early", result, "fields")
      raises("it ends too early", result, "rows")
      local skipped = proto.capabilities.CLIENT_OPTIONAL_RESULTSET_METADATA + WITHOUT_EOF
      result = read(QUERY, skipped, "\254\255\255\255\255\0\0\0\0\0", row(2, "1", "2"), ok_as_eof())
      assert.error_matches(result.rows, "the row 1 is malformed", nil, true)
    end)
  end)
end)
