-- The reader of mysql.resultset, over answers made by hand: see scripting objects, inj.resultset.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local answers = require "spec.support.answers"

local lenenc, ok, ok_as_eof, eof, err = answers.lenenc, answers.ok, answers.ok_as_eof, answers.eof, answers.err
local column, row = answers.column, answers.row
local answer, read, rows_of, raises = answers.answer, answers.read, answers.rows_of, answers.raises
local progress = answers.progress

local FLAGS, EXTENDED = proto.capabilities, proto.extended_capabilities
local WITH_EOF, WITHOUT_EOF = 0, FLAGS.CLIENT_DEPRECATE_EOF
local EXTENDED_METADATA = EXTENDED.MARIADB_CLIENT_EXTENDED_METADATA * 2 ^ 32
local CACHE_METADATA = EXTENDED.MARIADB_CLIENT_CACHE_METADATA * 2 ^ 32
local PROGRESS = EXTENDED.MARIADB_CLIENT_PROGRESS * 2 ^ 32

local QUERY, PROCESS_INFO = 3, 10
local EXECUTE, FETCH, BULK_EXECUTE = 23, 28, 250

local IN_TRANS, AUTOCOMMIT, MORE_RESULTS, NO_GOOD_INDEX, NO_INDEX, CURSOR_EXISTS = 1, 2, 8, 16, 32, 0x40
local LONGEST = 2 ^ 24 - 1 -- payload of one packet

describe("mysql.resultset", function()
  describe("a result set in text form", function()
    local two = { "\2", column("id", 3), column "name" }

    local function both(...)
      local with, without = { unpack(two) }, { unpack(two) }
      with[#with + 1] = eof()
      for _, payload in ipairs { ... } do
        with[#with + 1], without[#without + 1] = payload, payload
      end
      with[#with + 1] = eof(AUTOCOMMIT + NO_INDEX, 3)
      without[#without + 1] = ok_as_eof { server_status = AUTOCOMMIT + NO_INDEX, warnings = 3 }
      return { read(QUERY, WITH_EOF, unpack(with)), read(QUERY, WITHOUT_EOF, unpack(without)) }
    end

    it("shows its fields", function()
      for _, result in ipairs(both(row(2, "1", "one"))) do
        local fields = result.fields
        assert.equal(2, #fields)
        assert.equal("id", fields[1].name)
        assert.equal(3, fields[1].type)
        assert.equal("name", fields[2].name)
        assert.equal(253, fields[2].type)
        assert.equal("org_name", fields[2].org_name)
        assert.equal("t", fields[2].table)
        assert.equal("org_t", fields[2].org_table)
        assert.equal("a_db", fields[2].db)
        assert.equal(fields, result.fields) -- made once
        assert.equal(fields[2], fields[2])
      end
    end)

    it("has no fields outside of 1 to n, and no other keys in them", function()
      for _, result in ipairs(both()) do
        for _, index in ipairs { 0, -1, 3, 2 ^ 40, -2 ^ 40, math.huge, 0 / 0 } do
          assert.is_nil(result.fields[index])
        end
        for _, key in ipairs { "length", "flags", "charset", "catalog", "decimals", 1, true } do
          assert.is_nil(result.fields[1][key])
        end
        assert.error_matches(function()
          return result.fields.name
        end, "bad argument #2 to .* %(number expected, got string%)")
      end
    end)

    it("shows names that are empty as empty strings", function()
      local definition = lenenc "def" .. ("\0"):rep(5) .. "\12\63\0\1\0\0\0\8\129\0\0\0\0"
      local field = read(QUERY, WITHOUT_EOF, "\1", definition, ok_as_eof()).fields[1]
      assert.same({ "", "", "", "", "", 8 },
        { field.name, field.org_name, field.table, field.org_table, field.db, field.type })
    end)

    it("shows rows as strings, and NULL as nil, wherever it is", function()
      for _, result in ipairs(both(row(2, "1", "one"), row(2, nil, "two"), row(2, "", nil), row(2), "\1a\2\0\255")) do
        local rows = {}
        for cells in result.rows do
          rows[#rows + 1] = cells
        end
        assert.same({ { "1", "one" }, { nil, "two" }, { "", nil }, {}, { "a", "\0\255" } }, rows)
        assert.is_nil(rows[1][0])
        assert.is_nil(rows[1][3])
      end
    end)

    it("begins anew each time that rows is read", function()
      for _, result in ipairs(both(row(2, "1", "one"), row(2, "2", "two"))) do
        local first, second = result.rows, result.rows
        assert.equal("function", type(first))
        assert.equal("1", first()[1])
        assert.equal("2", first()[1])
        assert.equal("1", second()[1])
        assert.is_nil(first())
        assert.is_nil(first())
        assert.equal("2", second()[1])
        assert.same({ { "1", "one" }, { "2", "two" } }, rows_of(result, 2))
      end
    end)

    it("says what it was", function()
      for _, result in ipairs(both(row(2, "1", "one"), row(2, "2", nil))) do
        assert.same({ 2, 4 + 6 + 4 + 3, 3, 0 },
          { result.row_count, result.bytes, result.warning_count, result.query_status })
        assert.same({ in_trans = false, auto_commit = true, no_good_index_used = false, no_index_used = true },
          result.flags)
        assert.is_nil(result.affected_rows)
        assert.is_nil(result.insert_id)
        assert.equal("\2", result.raw)
      end
    end)

    it("may be empty", function()
      for _, result in ipairs(both()) do
        assert.same({ 2, 0, 0, 0 }, { #result.fields, result.row_count, result.bytes, result.query_status })
        assert.is_nil(result.rows())
      end
    end)

    it("has counters as the documented examples", function()
      local function counters(...)
        local result = read(QUERY, WITH_EOF, ...)
        return { result.row_count, result.bytes, result.affected_rows }
      end
      assert.same({ 2, 16 }, counters("\2", column "1", column "2", eof(), "\0011\0012", "\0011\0012", eof()))
      assert.same({ 1, 6 }, counters("\1", column "1", "\254", "\0011", "\254")) -- EOF packets of 4.1 servers
      assert.same({ 1, 5 }, counters("\1", column "NULL", eof(), "\251", eof()))
      local nulls = read(QUERY, WITH_EOF, "\3", column "1", column "2", column "3", eof(), row(3, "1", nil, "1"), eof())
      assert.same({ { "1", "NULL", "1" } }, rows_of(nulls, 3))
      assert.equal(1, nulls.row_count)
    end)

    it("comes in answer to COM_PROCESS_INFO too", function()
      local result = read(PROCESS_INFO, WITH_EOF, "\1", column "Id", eof(), row(1, "7"), eof())
      assert.same({ { "7" } }, rows_of(result, 1))
      assert.equal("Id", result.fields[1].name)
    end)

    it("may have 249 to 256 fields, and more", function()
      for _, count in ipairs { 249, 250, 251, 252, 253, 254, 255, 256, 5000 } do
        local payloads = { packet.to_lenenc_int(count) }
        for i = 1, count do
          payloads[#payloads + 1] = column("c" .. i)
        end
        payloads[#payloads + 1] = eof()
        payloads[#payloads + 1] = ("\0017"):rep(count - 1) .. "\251"
        payloads[#payloads + 1] = ("\251"):rep(count)
        payloads[#payloads + 1] = eof()
        local result = read(QUERY, WITH_EOF, unpack(payloads))
        assert.equal(count, #result.fields)
        assert.equal("c" .. count, result.fields[count].name)
        assert.is_nil(result.fields[count + 1])
        local next_row = result.rows
        local cells = next_row()
        assert.same({ "7", "7" }, { cells[1], cells[count - 1] })
        assert.is_nil(cells[count])
        assert.is_nil(next(next_row()))
        assert.is_nil(next_row())
      end
    end)

    it("takes cells of any length", function()
      local lengths = { 0, 1, 250, 251, 255, 256, 300, 2 ^ 16 - 1, 2 ^ 16, 2 ^ 17 }
      local payloads = { "\1", column "text", eof() }
      for i, length in ipairs(lengths) do
        payloads[3 + i] = lenenc(("x"):rep(length))
      end
      payloads[#payloads + 1] = eof()
      local i = 0
      for cells in read(QUERY, WITH_EOF, unpack(payloads)).rows do
        i = i + 1
        assert.equal(lengths[i], #cells[1])
      end
      assert.equal(#lengths, i)
    end)

    it("takes rows of 16 MiB and more", function()
      for _, length in ipairs { LONGEST - 5, LONGEST - 4, LONGEST, 2 ^ 24, 2 ^ 25 } do
        local text = ("x"):rep(length - 1) .. "y" -- from 2^24 on the row begins as an EOF packet does
        local bytes = answer("\2", column "a", column "b", eof(), row(2, text, "short"), row(2, "1", "2"), eof())
        local result = resultset.new(bytes, QUERY, WITH_EOF)
        local next_row = result.rows
        local cells = next_row()
        assert.is_true(cells[1] == text)
        assert.equal("short", cells[2])
        assert.same({ "1", "2" }, next_row())
        assert.is_nil(next_row())
        assert.equal(2, result.row_count)
        local without = answer("\2", column "a", column "b", eof(), eof())
        assert.equal(#bytes - #without, result.bytes)
        assert.equal("a", result.fields[1].name)
      end
    end)

    it("counts the bytes of each such row", function()
      local long = row(1, ("x"):rep(LONGEST))
      local bytes = answer("\1", column "a", eof(), long, long, row(1, "1"), eof())
      local without = answer("\1", column "a", eof(), eof())
      assert.equal(#bytes - #without, resultset.new(bytes, QUERY, WITH_EOF).bytes)
    end)

    it("takes a row that begins with 0xfe for no end without EOF packets either", function()
      local text = ("x"):rep(2 ^ 24)
      local result = read(QUERY, WITHOUT_EOF, "\1", column "a", row(1, text), ok_as_eof())
      assert.is_true(result.rows()[1] == text)
      assert.equal(1, result.row_count)
    end)

    it("takes a column definition of 16 MiB", function()
      local name = ("n"):rep(2 ^ 24)
      local result = read(QUERY, WITH_EOF, "\2", column(name), column "b", eof(), row(2, "1", "2"), eof())
      assert.is_true(result.fields[1].name == name)
      assert.equal("b", result.fields[2].name)
      assert.same({ { "1", "2" } }, rows_of(result, 2))
    end)
  end)

  describe("an answer without rows", function()
    it("is OK, with its counts", function()
      local result = read(QUERY, WITH_EOF,
        ok { affected_rows = 2, insert_id = 10, server_status = IN_TRANS + NO_GOOD_INDEX, warnings = 300 })
      assert.same({ 2, 10, 300, 0, 0, 0 }, { result.affected_rows, result.insert_id, result.warning_count,
        result.query_status, result.row_count, result.bytes })
      assert.same({ in_trans = true, auto_commit = false, no_good_index_used = true, no_index_used = false },
        result.flags)
      assert.equal(0, read(QUERY, WITH_EOF, ok()).affected_rows)
    end)

    it("has no rows, and fields whose number is 0", function()
      for _, payload in ipairs { ok(), err() } do
        local result = read(QUERY, WITH_EOF, payload)
        assert.is_nil(result.rows)
        assert.equal("userdata", type(result.fields))
        assert.equal(0, #result.fields)
        assert.is_nil(result.fields[0])
        assert.is_nil(result.fields[1])
        assert.error_matches(function()
          for _ in result.rows do end
        end, "attempt to call a nil value")
      end
    end)

    it("is an ERR, which raw has", function()
      local result = read(QUERY, WITH_EOF, err())
      assert.same({ 255, 0, 0, 0 },
        { result.query_status, result.row_count, result.bytes, result.warning_count })
      assert.is_nil(result.affected_rows)
      assert.is_nil(result.insert_id)
      local raw = result.raw
      assert.equal(1054, raw:byte(2) + raw:byte(3) * 256)
      assert.equal("42S22", raw:sub(5, 9))
      assert.equal("Unknown column", raw:sub(10))
      assert.same({ in_trans = false, auto_commit = false, no_good_index_used = false, no_index_used = false },
        result.flags)
    end)

    it("is an ERR whatever its number", function()
      assert.equal(255, read(QUERY, WITH_EOF, err(0)).query_status)
      assert.equal(255, read(QUERY, WITH_EOF, err(0xffff)).query_status)
    end)

    it("is a request for a file, of which nobody knows yet how it ends", function()
      local result = read(QUERY, WITH_EOF, "\251/a/file")
      assert.is_nil(result.query_status)
      assert.is_nil(result.rows)
      assert.is_nil(result.affected_rows)
      assert.equal(0, #result.fields)
      assert.equal(0, result.row_count)
      assert.equal("\251/a/file", result.raw)
      assert.is_false(result.flags.in_trans)
      local later = read(QUERY, WITH_EOF, "\1", column "a", eof(), row(1, "1"), eof(MORE_RESULTS), "\251/a/file")
      assert.is_nil(later.query_status)
      assert.same({ { "1" } }, rows_of(later, 1))
    end)

    it("is what follows such a request, if it is there", function()
      assert.equal(0, read(QUERY, WITH_EOF, "\251/a/file", ok { affected_rows = 7 }).query_status)
      assert.equal(7, read(QUERY, WITH_EOF, "\251/a/file", ok { affected_rows = 7 }).affected_rows)
      assert.equal(255, read(QUERY, WITH_EOF, "\251/a/file", err()).query_status)
    end)

    it("has counts above 2^53 as near as a number comes", function()
      local result = read(QUERY, WITH_EOF, "\0\254" .. ("\255"):rep(8) .. "\254" .. ("\255"):rep(8) .. "\2\0\0\0")
      assert.equal(2 ^ 64, result.affected_rows)
      assert.equal(2 ^ 64, result.insert_id)
    end)

    it("has nil for all other keys", function()
      for _, payloads in ipairs { { ok() }, { err() }, { "\1", column "a", eof(), row(1, "1"), eof() } } do
        local result = read(QUERY, WITH_EOF, unpack(payloads))
        for _, key in ipairs { "nothing", "Rows", "error", "row_bytes", "", 1, 0, true, print } do
          assert.is_nil(result[key])
        end
      end
    end)
  end)

  describe("an answer of several results", function()
    local function several(last)
      return read(QUERY, WITH_EOF,
        "\1", column "a", eof(), row(1, "1"), row(1, "2"), eof(AUTOCOMMIT + MORE_RESULTS, 1),
        "\2", column "b", column "c", eof(), row(2, "3", "4"), eof(AUTOCOMMIT + MORE_RESULTS, 2),
        unpack(last))
    end

    it("shows the first one's fields and rows, and counts all", function()
      local result = several { "\1", column "d", eof(), row(1, "5"), eof(IN_TRANS, 4) }
      assert.equal(1, #result.fields)
      assert.equal("a", result.fields[1].name)
      assert.same({ { "1" }, { "2" } }, rows_of(result, 1))
      assert.same({ 4, 6 + 6 + 8 + 6, 4, 0 },
        { result.row_count, result.bytes, result.warning_count, result.query_status })
      assert.is_true(result.flags.in_trans)
      assert.is_false(result.flags.auto_commit)
      assert.is_nil(result.affected_rows)
    end)

    it("has the counts of an OK at its end, as a procedure's", function()
      local result = several { ok { affected_rows = 9, insert_id = 4, warnings = 5 } }
      assert.same({ 9, 4, 5, 3, 0 }, { result.affected_rows, result.insert_id, result.warning_count, result.row_count,
        result.query_status })
      assert.same({ { "1" }, { "2" } }, rows_of(result, 1))
    end)

    it("has rows that end where the first result set does, and stay there", function()
      local result = several { ok() }
      local first, second = result.rows, result.rows
      assert.same({ "1" }, first())
      assert.same({ "1" }, second())
      assert.same({ "2" }, second())
      for _ = 1, 3 do
        assert.is_nil(second())
      end
      assert.same({ "2" }, first())
      assert.is_nil(first())
      for _, capabilities in ipairs { WITH_EOF, WITHOUT_EOF } do
        local middle = capabilities == WITH_EOF and { eof() } or {}
        local last = capabilities == WITH_EOF and eof or function(status)
          return ok_as_eof { server_status = status }
        end
        local payloads = { "\1", column "a" }
        for _, more in ipairs { middle, { last(AUTOCOMMIT + MORE_RESULTS) }, { "\1", column "b" }, middle,
          { row(1, "3"), last() } } do
          for _, payload in ipairs(more) do
            table.insert(payloads, payload)
          end
        end
        local empty = read(QUERY, capabilities, unpack(payloads))
        assert.is_nil(empty.rows())
        assert.same({ 1, "a" }, { empty.row_count, empty.fields[1].name })
      end
    end)

    it("has failed if an ERR ends it", function()
      local result = several { err() }
      assert.equal(255, result.query_status)
      assert.equal(3, result.row_count)
      assert.is_nil(result.affected_rows)
      assert.same({ { "1" }, { "2" } }, rows_of(result, 1))
    end)

    it("has no counts of an OK that rows came behind", function()
      local result = read(QUERY, WITHOUT_EOF, ok { affected_rows = 3, server_status = MORE_RESULTS },
        "\1", column "a", row(1, "1"), ok_as_eof())
      assert.is_nil(result.affected_rows)
      assert.equal("a", result.fields[1].name) -- the first result set, though not the first result
      assert.same({ { "1" } }, rows_of(result, 1))
      assert.equal(0, result.raw:byte())
    end)

    it("has the counts of the last OK", function()
      local result = read(QUERY, WITH_EOF, ok { affected_rows = 3, server_status = MORE_RESULTS },
        ok { affected_rows = 4, insert_id = 5 })
      assert.same({ 4, 5 }, { result.affected_rows, result.insert_id })
      assert.is_nil(result.rows)
    end)
  end)

  describe("an ERR after some rows", function()
    it("ends them without an error", function()
      for _, capabilities in ipairs { WITH_EOF, WITHOUT_EOF } do
        local payloads = { "\1", column "a", row(1, "1"), row(1, "2"), err() }
        if capabilities == WITH_EOF then
          table.insert(payloads, 3, eof())
        end
        local result = read(QUERY, capabilities, unpack(payloads))
        local next_row = result.rows
        assert.same({ "1" }, next_row())
        assert.same({ "2" }, next_row())
        assert.is_nil(next_row())
        assert.is_nil(next_row())
        assert.same({ 255, 2, 12 }, { result.query_status, result.row_count, result.bytes })
        assert.equal("a", result.fields[1].name)
      end
    end)

    it("may come instead of them", function()
      local result = read(QUERY, WITH_EOF, "\1", column "a", eof(), err())
      assert.equal(255, result.query_status)
      assert.is_nil(result.rows())
      result = read(QUERY, WITH_EOF, "\2", column "a", err())
      assert.is_nil(result.rows())
      assert.equal(1, #result.fields)
      assert.equal("a", result.fields[1].name)
    end)
  end)

  describe("metadata", function()
    it("may be missing, where that was agreed on", function()
      for _, optional in ipairs { FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA, CACHE_METADATA } do
        for _, result in ipairs {
          read(QUERY, optional, "\2\0", eof(), row(2, "1", nil), eof()),
          read(QUERY, optional + WITHOUT_EOF, "\2\0", row(2, "1", nil), ok_as_eof()),
        } do
          assert.equal(0, #result.fields)
          assert.is_nil(result.fields[1])
          assert.same({ { "1", "NULL" } }, rows_of(result, 2))
          assert.equal(1, result.row_count)
        end
        for _, result in ipairs {
          read(QUERY, optional, "\1\1", column "a", eof(), row(1, "1"), eof()),
          read(QUERY, optional + WITHOUT_EOF, "\1\1", column "a", row(1, "1"), ok_as_eof()),
        } do
          assert.equal("a", result.fields[1].name)
          assert.same({ { "1" } }, rows_of(result, 1))
        end
      end
    end)

    it("may be MariaDB's extended one", function()
      local result = read(QUERY, EXTENDED_METADATA, "\3", column("place", 255, "\0\5point"), column("plain", 3, ""),
        column("document", 252, "\1\4json" .. "\7\252\44\1" .. ("x"):rep(300)), eof(), eof())
      assert.same({ "place", 255, "plain", 3, "document", 252 }, {
        result.fields[1].name, result.fields[1].type, result.fields[2].name, result.fields[2].type,
        result.fields[3].name, result.fields[3].type,
      })
    end)
  end)

  it("passes over progress reports, if they were agreed on", function()
    for _, capabilities in ipairs { PROGRESS, FLAGS.CLIENT_PROGRESS_OBSOLETE } do
      local result = read(QUERY, capabilities, progress, "\2", progress, column "a", progress, column "b", progress,
        eof(), progress, row(2, "1", "2"), progress, row(2, "3", "4"), progress, eof())
      assert.equal(2, #result.fields)
      assert.equal("b", result.fields[2].name)
      assert.same({ { "1", "2" }, { "3", "4" } }, rows_of(result, 2))
      assert.equal("\2", result.raw)
      assert.same({ 2, 16, 0 }, { result.row_count, result.bytes, result.query_status })
      local altered = read(QUERY, capabilities, progress, progress, ok { affected_rows = 1 })
      assert.same({ 0, 1, "\0" }, { altered.query_status, altered.affected_rows, altered.raw:sub(1, 1) })
    end
    assert.equal(255, read(QUERY, WITH_EOF, progress).query_status)
  end)

  it("passes over progress reports where the rows end, or the first result set", function()
    local result = read(QUERY, PROGRESS, "\1", column "a", eof(), progress, progress, row(1, "1"), progress, progress,
      eof(AUTOCOMMIT + MORE_RESULTS), progress, "\1", column "b", eof(), progress, row(1, "2"), progress, eof())
    assert.same({ { "1" } }, rows_of(result, 1))
    assert.same({ 2, 12, "a" }, { result.row_count, result.bytes, result.fields[1].name })
    local next_row = read(QUERY, PROGRESS, "\1", column "a", eof(), row(1, "1"), progress, err()).rows
    assert.same({ "1" }, next_row())
    assert.is_nil(next_row())
    assert.is_nil(next_row())
    assert.is_nil(read(QUERY, PROGRESS, "\1", column "a", eof(), progress, eof()).rows())
  end)

  describe("the answer to a prepared statement", function()
    it("has everything but readable rows", function()
      for _, command in ipairs { EXECUTE, BULK_EXECUTE } do
        local result = read(command, WITH_EOF, "\1", column("a", 3), eof(), "\0\0\5\0\0\0", "\0\4", eof(IN_TRANS, 1))
        assert.same({ 2, 10 + 6, 1, 0, "\1" },
          { result.row_count, result.bytes, result.warning_count, result.query_status, result.raw })
        assert.equal("a", result.fields[1].name)
        assert.is_true(result.flags.in_trans)
        assert.is_nil(result.affected_rows)
        raises(".resultset.rows isn't available for prepared statements", result, "rows")
      end
    end)

    it("may be OK or ERR", function()
      local result = read(EXECUTE, WITH_EOF, ok { affected_rows = 1, insert_id = 2 })
      assert.same({ 1, 2, 0, 0 }, { result.affected_rows, result.insert_id, result.query_status, #result.fields })
      assert.is_nil(result.rows)
      result = read(EXECUTE, WITH_EOF, err())
      assert.equal(255, result.query_status)
      assert.is_nil(result.rows)
    end)

    it("may leave its rows in a cursor", function()
      local result = read(EXECUTE, WITH_EOF, "\1", column("a", 3), eof(AUTOCOMMIT + CURSOR_EXISTS))
      assert.same({ 0, 0, 0 }, { result.row_count, result.bytes, result.query_status })
      assert.equal("a", result.fields[1].name)
      assert.is_nil(result.affected_rows)
      raises("isn't available for prepared statements", result, "rows")
    end)

    it("may be rows out of a cursor", function()
      local result = read(FETCH, WITH_EOF, "\0\0\5\0\0\0", "\0\0\6\0\0\0", eof(AUTOCOMMIT + CURSOR_EXISTS))
      assert.same({ 2, 20, 0 }, { result.row_count, result.bytes, result.query_status })
      assert.equal("\0\0\5\0\0\0", result.raw)
      assert.equal(0, #result.fields)
      raises("isn't available for prepared statements", result, "rows")
      assert.is_nil(read(FETCH, WITH_EOF, err()).rows)
    end)
  end)
end)
