-- The recogniser, through the relay that uses it: after each answer the relay knows that no other is due.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local uv = require "luv"

local conversation = require "spec.support.conversation"
local process = require "spec.support.process"

local COM_QUERY, COM_PREPARE = "\3SELECT", "\22SELECT ?"
local COM_EXECUTE, COM_FETCH = "\23\1\0\0\0\0\1\0\0\0", "\28\1\0\0\0\9\0\0\0"
local LONGEST = 2 ^ 24 - 1 -- payload of one packet

local FLAGS, EXTENDED = proto.capabilities, proto.extended_capabilities
local WITH_EOF = { capabilities = FLAGS.CLIENT_PROTOCOL_41 }
local WITHOUT_EOF = { capabilities = FLAGS.CLIENT_PROTOCOL_41 + FLAGS.CLIENT_DEPRECATE_EOF }

local AUTOCOMMIT, MORE_RESULTS, CURSOR_EXISTS, LAST_ROW_SENT = 2, 8, 0x40, 0x80

-- Packets of answers. `status` is added to AUTOCOMMIT.

local function ok(status, info)
  return proto.to_ok_packet { server_status = AUTOCOMMIT + (status or 0) } .. (info or "")
end

local function eof(status)
  return proto.to_eof_packet { server_status = AUTOCOMMIT + (status or 0) }
end

local function ok_as_eof(status, info)
  return "\254" .. ok(status, info):sub(2)
end

local function err(message)
  return proto.to_err_packet { errcode = 1064, sqlstate = "42000", errmsg = message or "a message" }
end

local column = "\3def\0\0\0\1a\0\12\63\0\1\0\0\0\8\129\0\0\0\0"
local row = "\1x\3two"
local binary_row = "\0\0\5\0\0\0"

-- Lists of packets, put one behind the other.
local function list(...)
  local all = {}
  for i = 1, select("#", ...) do
    local part = select(i, ...)
    for _, payload in ipairs(type(part) == "table" and part or { part }) do
      all[#all + 1] = payload
    end
  end
  return all
end

local function result(status, ...)
  return list("\2", column, column, eof(), list(...), eof(status))
end

local function result_without_eof(status, ...)
  return list("\2", column, column, list(...), ok_as_eof(status))
end

describe("the recogniser", function()
  local c

  local function open(options)
    if c then
      c:close()
    end
    c = conversation.open(options)
  end

  after_each(function()
    c:close()
    c = nil
  end)

  -- The relay sees the end of this answer and no other end, however the answer is cut into reads.
  local function recognises(options, command, ...)
    local packets = list(...)
    local bytes = conversation.packets(1, unpack(packets))

    open(options)
    c:command(command)
    for i, payload in ipairs(packets) do
      assert.equal(1, c:due(), ("the answer ended before packet %d"):format(i))
      c:answer(i, payload)
    end
    c:is_idle()

    open(options)
    c:command(command)
    c.server:write(bytes)
    c.client:receives(bytes)
    c:is_idle()

    open(options)
    c:command(command)
    for i = 1, #bytes do
      assert.equal(1, c:due(), ("the answer ended before byte %d"):format(i))
      c.server:write(bytes:sub(i, i))
      c.client:receives(bytes:sub(i, i))
    end
    c:is_idle()
  end

  -- The session ends with a reason, and the client gets nothing of what is no answer.
  local function refuses(options, command, reason, ...)
    open(options)
    c:command(command)
    local packets = { ... }
    for i = 1, #packets - 1 do
      c:answer(i, packets[i])
    end
    c.server:send(#packets, packets[#packets])
    c:ends("server", reason, "EPROTO")
    c.client:closes()
    c.server:closes()
  end

  describe("of COM_QUERY", function()
    it("knows OK and ERR", function()
      recognises(WITH_EOF, COM_QUERY, ok())
      recognises(WITHOUT_EOF, COM_QUERY, ok())
      recognises(WITH_EOF, COM_QUERY, err())
    end)

    it("knows an OK that is longer than what it looks at", function()
      recognises(WITHOUT_EOF, COM_QUERY, ok(0x4000, packet.to_lenenc_string(("i"):rep(300)) .. "\7\1\5\4test"))
      recognises(WITH_EOF, COM_QUERY, proto.to_ok_packet { affected_rows = 2 ^ 50, insert_id = 2 ^ 52 } .. "info")
    end)

    it("knows a result set", function()
      recognises(WITH_EOF, COM_QUERY, result(0, row, row, row))
      recognises(WITH_EOF, COM_QUERY, result(0))
      recognises(WITHOUT_EOF, COM_QUERY, result_without_eof(0, row, row, row))
      recognises(WITHOUT_EOF, COM_QUERY, result_without_eof(0))
    end)

    it("knows an OK that stands for EOF by its first byte, whatever its length", function()
      local long = ok_as_eof(0x4000, "\100" .. ("i"):rep(100) .. "\7\1\5\4test")
      recognises(WITHOUT_EOF, COM_QUERY, "\1", column, row, long)
      recognises(WITHOUT_EOF, COM_QUERY, "\1", column, row, eof()) -- of a server that sends EOF nonetheless
    end)

    it("takes no row for an end: one that begins with NULL, an empty string, or as ERR's header would", function()
      local rows = { "\251\251", "\0\0", "\0", "\251", "\250" .. ("x"):rep(250), "\252\44\1" .. ("x"):rep(300) }
      recognises(WITH_EOF, COM_QUERY, "\1", column, eof(), rows, eof())
      recognises(WITHOUT_EOF, COM_QUERY, "\1", column, rows, ok_as_eof())
    end)

    it("knows several results", function()
      recognises(WITH_EOF, COM_QUERY, result(MORE_RESULTS, row), ok(MORE_RESULTS), result(MORE_RESULTS), result(0, row))
      recognises(WITHOUT_EOF, COM_QUERY, result_without_eof(MORE_RESULTS, row), ok(MORE_RESULTS), ok(MORE_RESULTS),
        result_without_eof(0, row))
      recognises(WITH_EOF, COM_QUERY, result(MORE_RESULTS, row), ok()) -- a procedure
    end)

    it("knows an error at any place", function()
      recognises(WITH_EOF, COM_QUERY, result(MORE_RESULTS, row), err())
      recognises(WITH_EOF, COM_QUERY, "\2", err())
      recognises(WITH_EOF, COM_QUERY, "\1", column, err())
      recognises(WITH_EOF, COM_QUERY, "\1", column, eof(), err())
      recognises(WITH_EOF, COM_QUERY, "\1", column, eof(), row, row, err())
      recognises(WITHOUT_EOF, COM_QUERY, "\1", column, row, row, err())
    end)

    it("knows many columns", function()
      local columns = {}
      for i = 1, 300 do
        columns[i] = column
      end
      open(WITH_EOF)
      c:command(COM_QUERY)
      c:answer(1, "\252\44\1", unpack(columns))
      c:answer(302, eof(), ("\0"):rep(300))
      assert.equal(1, c:due())
      c:answer(304, eof())
      c:is_idle()
    end)

    it("knows a result without metadata, as MySQL and MariaDB send it", function()
      for _, agreed in ipairs {
        { FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA, 0 }, { 0, EXTENDED.MARIADB_CLIENT_CACHE_METADATA },
      } do
        local with_eof = { capabilities = agreed[1], extended_capabilities = agreed[2] }
        local without_eof = {
          capabilities = agreed[1] + FLAGS.CLIENT_DEPRECATE_EOF, extended_capabilities = agreed[2],
        }
        recognises(with_eof, COM_QUERY, "\1\0", eof(), row, eof())
        recognises(with_eof, COM_QUERY, "\1\1", column, eof(), row, eof())
        recognises(with_eof, COM_QUERY, "\1\0", eof(MORE_RESULTS), eof(MORE_RESULTS), ok())
        recognises(without_eof, COM_QUERY, "\1\0", row, ok_as_eof())
        recognises(without_eof, COM_QUERY, "\1\1", column, row, ok_as_eof())
        recognises(without_eof, COM_QUERY, "\252\1\1\0", row, ok_as_eof())
      end
    end)

    it("takes progress reports for no end, if they were agreed on", function()
      local report = "\255\255\255\1\1\2\16\39\0\7Copying"
      for _, options in ipairs {
        { extended_capabilities = EXTENDED.MARIADB_CLIENT_PROGRESS },
        { capabilities = FLAGS.CLIENT_PROGRESS_OBSOLETE },
      } do
        recognises(options, COM_QUERY, report, report, ok())
        recognises(options, COM_QUERY, report, err())
        recognises(options, COM_QUERY, report, "\1", report, column, report, eof(), report, row, report, eof())
      end
      recognises(WITH_EOF, COM_QUERY, report) -- else it is an error
    end)

    it("refuses what is no answer", function()
      refuses(WITH_EOF, COM_QUERY, "empty packet where a result begins", "")
      refuses(WITH_EOF, COM_QUERY, "no column count where a result set begins", "\254" .. ("\255"):rep(20))
      refuses(WITH_EOF, COM_QUERY, "no column count where a result set begins", "\252\0\0")
      refuses(WITH_EOF, COM_QUERY, "no column count where a result set begins", "\253\1")
      refuses(WITH_EOF, COM_QUERY, "no EOF after the column definitions", "\1", column, row)
      refuses(WITH_EOF, COM_QUERY, "empty packet where a result begins", ok(MORE_RESULTS), "")
    end)
  end)

  describe("of LOCAL INFILE", function()
    local function uploads(...)
      local before, after = ...
      open(WITH_EOF)
      c:command(COM_QUERY)
      c:answer(1, unpack(list(before, "\251/a/file")))
      local sequence = #before + 2
      c.relay:close_when_idle()
      c.server:receives(c.client:send(sequence, "1\tone\n", "\3SELECT is no command here", ""))
      assert.is_nil(c.over)
      c.server:send(sequence + 3, unpack(after))
      c.client:receives(conversation.packets(sequence + 3, unpack(after)))
      c:ends("idle")
    end

    it("knows a file in answer to the only statement", function()
      uploads({}, { ok() })
      uploads({}, { err() })
    end)

    it("knows a file in answer to a later statement", function()
      uploads(result(MORE_RESULTS, row), list(ok(MORE_RESULTS), result(0, row)))
      uploads({ ok(MORE_RESULTS), ok(MORE_RESULTS) }, { ok() })
    end)

    it("knows a file that the client does not send", function()
      open(WITH_EOF)
      c:command(COM_QUERY)
      c:answer(1, "\251/a/file")
      c.server:receives(c.client:send(2, ""))
      c:answer(3, err "the file has no lines")
      c:is_idle()
    end)

    it("knows a file in packets of 16 MiB, whose last one is empty", function()
      open(WITH_EOF)
      c:command(COM_QUERY)
      c:answer(1, "\251/a/file")
      c.server:receives(c.client:send(2, ("x"):rep(LONGEST))) -- with the empty packet that ends this one
      c.relay:close_when_idle()
      c.server:receives(c.client:send(4, "y"))
      assert.is_nil(c.over)
      c.server:receives(c.client:send(5, ""))
      c.client:receives(c.server:send(6, ok()))
      c:ends("idle")
    end)
  end)

  describe("of prepared statements", function()
    local function prepared(columns, params, more)
      return "\0\1\0\0\0" .. string.char(columns, 0, params, 0, 0, 0, 0) .. (more or "")
    end

    it("knows what COM_STMT_PREPARE brings", function()
      recognises(WITH_EOF, COM_PREPARE, prepared(0, 0))
      recognises(WITH_EOF, COM_PREPARE, prepared(2, 0), column, column, eof())
      recognises(WITH_EOF, COM_PREPARE, prepared(0, 1), column, eof())
      recognises(WITH_EOF, COM_PREPARE, prepared(1, 2), column, column, eof(), column, eof())
      recognises(WITHOUT_EOF, COM_PREPARE, prepared(0, 0))
      recognises(WITHOUT_EOF, COM_PREPARE, prepared(1, 2), column, column, column)
      recognises(WITH_EOF, COM_PREPARE, err())
      recognises(WITH_EOF, COM_PREPARE, prepared(2, 0), column, err())
    end)

    it("knows that no metadata follows", function()
      local optional = { capabilities = FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA }
      recognises(optional, COM_PREPARE, prepared(1, 1, "\1"), column, eof(), column, eof())
      optional.capabilities = optional.capabilities + FLAGS.CLIENT_DEPRECATE_EOF
      recognises(optional, COM_PREPARE, prepared(1, 2, "\0"))
      recognises(optional, COM_PREPARE, prepared(1, 2, "\1"), column, column, column)
      recognises(WITHOUT_EOF, COM_PREPARE, prepared(1, 2, "\0"), column, column, column) -- of a later version
    end)

    it("refuses another answer to COM_STMT_PREPARE", function()
      local reason = "neither OK nor ERR in answer to COM_STMT_PREPARE"
      refuses(WITH_EOF, COM_PREPARE, reason, "\1")
      refuses(WITH_EOF, COM_PREPARE, reason, "")
      refuses(WITH_EOF, COM_PREPARE, reason, prepared(1, 1):sub(1, 8))
      refuses(WITH_EOF, COM_PREPARE, reason, "\1" .. prepared(0, 0):sub(2))
    end)

    it("knows what COM_STMT_EXECUTE brings", function()
      recognises(WITH_EOF, COM_EXECUTE, ok())
      recognises(WITH_EOF, COM_EXECUTE, err())
      recognises(WITH_EOF, COM_EXECUTE, result(0, binary_row, binary_row))
      recognises(WITHOUT_EOF, COM_EXECUTE, result_without_eof(0, binary_row, binary_row))
      recognises(WITH_EOF, COM_EXECUTE, result(MORE_RESULTS, binary_row), result(MORE_RESULTS + 0x1000, binary_row),
        ok())
      recognises({ extended_capabilities = EXTENDED.MARIADB_CLIENT_CACHE_METADATA }, COM_EXECUTE,
        "\1\0", eof(), binary_row, eof())
      recognises(WITH_EOF, "\250\1\0\0\0", result(0, binary_row)) -- MariaDB's COM_STMT_BULK_EXECUTE
    end)

    it("knows that an opened cursor keeps the rows", function()
      recognises(WITH_EOF, COM_EXECUTE, "\1", column, eof(CURSOR_EXISTS))
      recognises(WITHOUT_EOF, COM_EXECUTE, "\1", column, ok_as_eof(CURSOR_EXISTS))
      recognises({ extended_capabilities = EXTENDED.MARIADB_CLIENT_CACHE_METADATA }, COM_EXECUTE,
        "\1\0", eof(CURSOR_EXISTS))
    end)

    it("knows the results of a procedure that has a cursor of its own", function()
      local status = MORE_RESULTS + CURSOR_EXISTS
      recognises(WITH_EOF, COM_EXECUTE, "\1", column, eof(status), binary_row, eof(status), ok())
    end)

    it("knows that OUT parameters are followed by an OK, though MySQL does not say so behind their row", function()
      recognises(WITH_EOF, COM_EXECUTE, "\1", column, eof(MORE_RESULTS + 0x1000), binary_row, eof(), ok())
    end)

    it("knows of no cursor after other commands", function()
      recognises(WITH_EOF, COM_QUERY, "\1", column, eof(CURSOR_EXISTS), row, eof())
    end)

    it("knows the rows that COM_STMT_FETCH brings", function()
      recognises(WITH_EOF, COM_FETCH, binary_row, binary_row, eof(CURSOR_EXISTS))
      recognises(WITH_EOF, COM_FETCH, eof(CURSOR_EXISTS + LAST_ROW_SENT))
      recognises(WITHOUT_EOF, COM_FETCH, binary_row, ok_as_eof(CURSOR_EXISTS))
      recognises(WITHOUT_EOF, COM_FETCH, ok_as_eof(LAST_ROW_SENT))
      recognises(WITH_EOF, COM_FETCH, binary_row, eof(MORE_RESULTS)) -- not more of this answer
    end)

    it("knows an error in a cursor", function()
      recognises(WITH_EOF, COM_FETCH, err())
      recognises(WITH_EOF, COM_FETCH, binary_row, err())
      recognises(WITHOUT_EOF, COM_FETCH, binary_row, err())
    end)

    it("expects nothing after COM_STMT_CLOSE and COM_STMT_SEND_LONG_DATA", function()
      open()
      c:command("\25\1\0\0\0")
      c:command("\24\1\0\0\0\0\0" .. ("long"):rep(1000))
      c:is_idle()
    end)
  end)

  describe("of other commands", function()
    it("knows the one packet that answers most of them", function()
      for command = 0, 31 do
        local name = string.char(command)
        if not ("\1\3\4\9\10\17\18\19\22\23\24\25\28\30"):find(name, 1, true) then
          recognises(WITH_EOF, name, ok())
          recognises(WITH_EOF, name, eof()) -- COM_SET_OPTION, COM_DEBUG
          recognises(WITHOUT_EOF, name, err())
        end
      end
      recognises(WITH_EOF, "\99", err())
    end)

    it("knows COM_STATISTICS's bare string, whatever it begins with", function()
      recognises(WITH_EOF, "\9", "Uptime: 5  Threads: 1")
      recognises(WITH_EOF, "\9", "\255\255\255 is no error")
      recognises(WITH_EOF, "\9", "")
    end)

    it("knows COM_FIELD_LIST's definitions", function()
      recognises(WITH_EOF, "\4t\0%", column .. "\251", column .. "\251", eof())
      recognises(WITHOUT_EOF, "\4t\0%", column .. "\251", ok_as_eof())
      recognises(WITHOUT_EOF, "\4t\0%", column .. "\251", eof())
      recognises(WITH_EOF, "\4t\0%", err())
      recognises(WITH_EOF, "\4t\0%", eof(MORE_RESULTS)) -- there can be no more
    end)

    it("knows COM_PROCESS_INFO's result", function()
      recognises(WITH_EOF, "\10", result(0, row))
      recognises(WITH_EOF, "\10", err())
    end)

    it("expects nothing after COM_QUIT", function()
      open()
      c:command("\1")
      c:is_idle()
    end)

    it("follows a binary log up to its EOF", function()
      local event = "\0" .. ("e"):rep(40)
      recognises(WITH_EOF, "\18\4\0\0\0\1\0\7\0\0\0", event, "\0", event, eof())
      recognises(WITHOUT_EOF, "\30", event, event, eof())
      recognises(WITH_EOF, "\18", event, err())
      recognises(WITH_EOF, "\19", event, eof())
    end)

    it("lets a replica acknowledge events", function()
      open()
      c:command("\18")
      c:answer(1, "\0\239\1event")
      c.server:receives(c.client:send(0, "\239\4\0\0\0\0\0\0\0binlog.000001"))
      c:answer(2, "\0\239\0event")
      assert.equal(1, c:due())
      c:answer(3, err())
      c:is_idle()
    end)

    it("follows a conversation in a protocol of its own to no end", function()
      open()
      c:command("\32\1")
      c:answer(1, ok())
      for _, bytes in ipairs { "\1\0\0\1\0", "\7\0\0\1\255\255", ("anything"):rep(100) } do
        c.server:write(bytes)
        c.client:receives(bytes)
        c.client:write(bytes)
        c.server:receives(bytes)
        assert.equal(1, c:due())
      end
    end)
  end)

  describe("that may have no end", function()
    for _, command in ipairs { "\18", "\30", "\32", "\33" } do
      it(("is an ERR and no more, of command %d"):format(command:byte()), function()
        recognises(WITH_EOF, command, err())
      end)
    end
  end)

  describe("of COM_CHANGE_USER", function()
    local COM_CHANGE_USER = "\17user\0\0db\0\45\0mysql_native_password\0"

    it("knows OK and ERR", function()
      recognises(WITH_EOF, COM_CHANGE_USER, ok())
      recognises(WITH_EOF, COM_CHANGE_USER, err())
      recognises(WITH_EOF, "\31", ok()) -- COM_RESET_CONNECTION
    end)

    it("knows the conversation that an auth switch begins", function()
      for _, last in ipairs { ok(), err() } do
        open()
        c:command(COM_CHANGE_USER)
        c:answer(1, "\254caching_sha2_password\0" .. ("s"):rep(20) .. "\0")
        c.server:receives(c.client:send(2, ("r"):rep(32)))
        c:answer(3, "\1\4") -- perform_full_authentication
        c.server:receives(c.client:send(4, "\2")) -- request_public_key
        c:answer(5, "\1-----BEGIN PUBLIC KEY-----")
        c.server:receives(c.client:send(6, ("e"):rep(256)))
        assert.equal(1, c:due())
        c:answer(7, last)
        c:is_idle()
      end
    end)

    it("knows it in single bytes", function()
      open()
      c:command(COM_CHANGE_USER)
      for _, said in ipairs {
        { c.server, c.client, 1, "\254plugin\0scramble" }, { c.client, c.server, 2, "" },
        { c.server, c.client, 3, "\1more" }, { c.client, c.server, 4, "\3no command" },
      } do
        for byte in conversation.packets(said[3], said[4]):gmatch(".") do
          said[1]:write(byte)
          said[2]:receives(byte)
        end
      end
      c:answer(5, ok())
      c:is_idle()
    end)

    it("takes an empty packet and an old switch request for steps of the conversation", function()
      open()
      c:command(COM_CHANGE_USER)
      c:answer(1, "\254")
      c.server:receives(c.client:send(2, "oldhash\0"))
      c:answer(3, "")
      c.server:receives(c.client:send(4, "x"))
      assert.equal(1, c:due())
      c:answer(5, ok())
      c:is_idle()
    end)
  end)

  describe("of packets of 16 MiB", function()
    local function answers(options, ...)
      local packets = list(...)
      open(options)
      c:command(COM_QUERY)
      local sequence = 1
      for _, payload in ipairs(packets) do
        assert.equal(1, c:due())
        c.client:receives(c.server:send(sequence, payload))
        sequence = sequence + 1 + math.floor(#payload / LONGEST)
      end
      c:is_idle()
    end

    it("takes a row that begins as EOF for a row", function()
      local long = "\254" .. "\0\0\0\1\0\0\0\0" .. ("x"):rep(2 ^ 24)
      answers(WITH_EOF, "\1", column, eof(), long, row, eof())
      answers(WITHOUT_EOF, "\1", column, long, row, ok_as_eof())
    end)

    it("takes a row's last packet for no packet of its own", function()
      for _, last in ipairs { "", "\254\0\0\2\0", "\255\1\0#HY000", "\0" } do
        local long = "\253\255\255\255" .. ("x"):rep(LONGEST - 4) .. last
        answers(WITH_EOF, "\1", column, eof(), long, eof())
        answers(WITHOUT_EOF, "\1", column, long, long, ok_as_eof())
      end
    end)

    it("knows rows around the limit", function()
      for _, length in ipairs { LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST } do
        answers(WITHOUT_EOF, "\1", column, "\253\0\0\0" .. ("x"):rep(length - 4), ok_as_eof())
      end
    end)
  end)

  -- What real servers said: spec/fuzz/corpus/response. A seed is the command, a byte of flags, the answer.
  describe("of recorded answers", function()
    local flags = { -- as spec/fuzz/fuzz_response.c numbers them
      { "capabilities", FLAGS.CLIENT_DEPRECATE_EOF },
      { "capabilities", FLAGS.CLIENT_OPTIONAL_RESULTSET_METADATA },
      { "capabilities", FLAGS.CLIENT_PROGRESS_OBSOLETE },
      { "extended_capabilities", EXTENDED.MARIADB_CLIENT_PROGRESS },
      { "extended_capabilities", EXTENDED.MARIADB_CLIENT_CACHE_METADATA },
    }

    local function agreed(number)
      local options = { capabilities = 0, extended_capabilities = 0 }
      for _, flag in ipairs(flags) do
        if number % 2 == 1 then
          options[flag[1]] = options[flag[1]] + flag[2]
        end
        number = math.floor(number / 2)
      end
      return options
    end

    it("knows where each ends", function()
      local folder, seeds = "spec/fuzz/corpus/response", 0
      local scan = assert(uv.fs_scandir(folder))
      local name = uv.fs_scandir_next(scan)
      while name do
        local seed = process.read_file(folder .. "/" .. name)
        local answer = seed:sub(3)
        open(agreed(seed:byte(2)))
        c:command(seed:sub(1, 1))
        c.server:write(answer:sub(1, -2))
        c.client:receives(answer:sub(1, -2))
        assert.equal(1, c:due(), name .. " ends too early")
        c.server:write(answer:sub(-1))
        c.client:receives(answer:sub(-1))
        assert.equal(0, c:due(), name .. " does not end")
        seeds = seeds + 1
        name = uv.fs_scandir_next(scan)
      end
      assert.is_true(seeds > 100)
    end)
  end)
end)
