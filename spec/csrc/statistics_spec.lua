-- What a relay counts, seen through mysql.statistics.

local proto = require "mysql.proto"
local statistics = require "mysql.statistics"
local tokenizer = require "mysql.tokenizer"

local conversation = require "spec.support.conversation"

local COM_QUIT, COM_INIT_DB, COM_QUERY, COM_PREPARE, COM_EXECUTE, COM_CLOSE = 1, 2, 3, 22, 23, 25
local QUERY_ATTRIBUTES = 2 ^ 27
local OK = proto.to_ok_packet { server_status = 2 }
local ERR = proto.to_err_packet { errcode = 1064, sqlstate = "42000", errmsg = "a message" }
local EOF = proto.to_eof_packet { server_status = 2 }
local RESULT = { "\1", "a definition", EOF, "\1a", "\1b", EOF }
local RESULT_BYTES = #conversation.packets(1, unpack(RESULT))

local packets = conversation.packets

local function prepared(id)
  return "\0" .. string.char(id, 0, 0, 0) .. "\0\0\0\0\0\0\0"
end

describe("mysql.statistics", function()
  local c, counted, backend

  local function open(options, limit)
    counted, backend = assert(statistics.new(limit or 100)), statistics.new_backend()
    c = conversation.connect()
    c:join(options)
    c.relay:count(counted, backend, "alice", "shop")
    return c
  end

  after_each(function()
    if c then
      c:close()
    end
    c = nil
  end)

  -- A command and its answer.
  local function ask(payload, ...)
    c:command(payload)
    c:answer(1, ...)
  end

  local function command(byte)
    for _, each in ipairs(counted:commands()) do
      if each.command == byte then
        return each
      end
    end
  end

  local function digest(text)
    for _, each in ipairs(counted:digests()) do
      if each.text == text then
        return each
      end
    end
  end

  -- text -> count, "other" for what has no text
  local function counts()
    local found = {}
    for _, each in ipairs(counted:digests()) do
      local name = each.text or each.digest
      found[name] = (found[name] or 0) + each.count
    end
    return found
  end

  it("counts commands of each type, with errors, rows, bytes and times", function()
    open()
    ask("\3SELECT 1", unpack(RESULT))
    ask("\3SELECT nothing", ERR)
    ask("\14", OK)
    local queries = command(COM_QUERY)
    assert.equal(2, queries.count)
    assert.equal(1, queries.errors)
    assert.equal(2, queries.rows)
    assert.equal(#packets(0, "\3SELECT 1") + #packets(0, "\3SELECT nothing"), queries.bytes_from_client)
    assert.equal(RESULT_BYTES + #packets(1, ERR), queries.bytes_from_server)
    assert.is_true(queries.min > 0 and queries.min <= queries.p50 and queries.p50 <= queries.p95)
    assert.is_true(queries.p95 <= queries.p99 and queries.p99 <= queries.max and queries.max < queries.seconds)
    assert.equal(1, command(14).count)
    assert.same({
      count = 3, errors = 1, rows = 2, bytes_from_client = queries.bytes_from_client + 5,
      bytes_from_server = queries.bytes_from_server + #packets(1, OK), seconds = backend:counters().seconds,
    }, backend:counters())
  end)

  it("has every answer in one bucket of the histogram", function()
    open()
    for _ = 1, 5 do
      ask("\14", OK)
    end
    local total = 0
    for _, count in ipairs(command(14).histogram) do
      total = total + count
    end
    assert.equal(5, total)
    assert.equal(#statistics.bounds + 1, #command(14).histogram)
    assert.equal(0.00001, statistics.bounds[1])
    assert.equal(100, statistics.bounds[#statistics.bounds])
  end)

  it("counts statements by their normalised text, user and schema", function()
    open()
    ask("\3SELECT a FROM t WHERE id = 1", unpack(RESULT))
    ask("\3select  a /* again */ from t where id='x'", unpack(RESULT))
    ask("\3SELECT b FROM t", ERR)
    local found = digest("SELECT `a` FROM `t` WHERE `id` = ?")
    assert.equal(found.text .. " ", tokenizer.normalize("SELECT a FROM t WHERE id = 1"))
    assert.same({ 2, 0, 4, "alice", "shop", 2 * RESULT_BYTES },
      { found.count, found.errors, found.rows, found.user, found.schema, found.bytes_from_server })
    assert.equal(1, digest("SELECT `b` FROM `t`").errors)
    assert.truthy(found.digest:find("^%x+$"))
    assert.equal(16, #found.digest)
    assert.is_true(math.abs(os.time() - found.first_seen) < 60)
    assert.is_true(found.first_seen <= found.last_seen)
  end)

  it("tells apart what has another normalised text, and nothing else, when it comes again too", function()
    local statements = {
      "SELECT a FROM t", "select a from t", "SELECT  'a' /* a */ FROM\tt", "SELECT 15 FROM t", "SELECT 1.5 FROM t",
      "SELECT `a` FROM t", "SELECT A FROM t", "SELECT a () FROM t", "SELECT a() FROM t", "SELECT `select` FROM t",
      "SELECT select FROM t", "SELECT /*! a */ FROM t", "SELECT /*! b */ FROM t", "SELECT a.b FROM t",
      "SELECT a . b FROM t", "SELECT .1 FROM t", "SELECT a <> b", "SELECT a != b", "SELECT a % b", "SELECT a $ b",
      "SELECT `a``b`", "SELECT `a`b`", "COMMIT", "commit", "`commit`", "start transaction", "START TRANSACTION a",
      "SELECT a, b, c", "SELECT a b c", "SELECT aaaaaaaabbbbbbbbcc", "SELECT aaaaaaaabbbbbbbbcd",
      "SELECT aaaaaaaabbbbbbbbccc", "SELECT aaaaaaaa", "SELECT aaaaaaab", "SELECT aaaa, aaaa", "SELECT aaaaaaaa, a",
      "SELECT ab, c", "SELECT a, bc", "SELECT ``", "", " ", "-- a", "SELECT \0", "SELECT '", "SELECT `", "SELECT a\\b",
      "SELECT 'a''b\\'c', 'd'", "SELECT 'a\\\\', 'd'", "SELECT '" .. ("\\'"):rep(100) .. "', 1",
      "SELECT " .. ("(1, 2), "):rep(600) .. "1", "SELECT " .. ("(1, 2), "):rep(600) .. "a",
    }
    local expected, times = {}, 3
    for _, statement in ipairs(statements) do
      local text = tokenizer.normalize(statement):gsub(" $", "")
      text = #text > 1024 and "cut" or text
      expected[text] = (expected[text] or 0) + times
    end
    open()
    for _ = 1, times do
      for _, statement in ipairs(statements) do
        ask("\3" .. statement, OK)
      end
    end
    local found = counts()
    for text, count in pairs(found) do
      if #text > 1000 then
        found[text], found.cut = nil, count
      end
    end
    assert.same(expected, found)
  end)

  it("follows each of a session's USE", function()
    open()
    for _ = 1, 3 do
      ask("\3USE a", OK)
      ask("\3SELECT 1", OK)
      ask("\3USE b", OK)
      ask("\3SELECT 1", OK)
    end
    local found = {}
    for _, each in ipairs(counted:digests()) do
      if each.text == "SELECT ?" then
        found[each.schema] = each.count
      end
    end
    assert.same({ a = 3, b = 3 }, found)
  end)

  it("counts what comes in pieces as if it came whole", function()
    open()
    local bytes = packets(0, "\3SELECT a FROM t")
    for byte in bytes:gmatch(".") do
      c.client:write(byte)
      c.server:receives(byte)
    end
    c:answer(1, OK)
    ask("\3SELECT a FROM t", OK)
    assert.same({ ["SELECT `a` FROM `t`"] = 2 }, counts())
    assert.equal(2 * #bytes, command(COM_QUERY).bytes_from_client)
  end)

  it("gives each of several pipelined commands its own answer", function()
    open()
    local sent = packets(0, "\3SELECT a") .. packets(0, "\3SELECT b") .. packets(0, "\14")
    c.client:write(sent)
    c.server:receives(sent)
    local answers = packets(1, unpack(RESULT)) .. packets(1, ERR) .. packets(1, OK)
    c.server:write(answers)
    c.client:receives(answers)
    assert.same({ 0, 2 }, { digest("SELECT `a`").errors, digest("SELECT `a`").rows })
    assert.same({ 1, 0 }, { digest("SELECT `b`").errors, digest("SELECT `b`").rows })
    assert.equal(#packets(1, ERR), digest("SELECT `b`").bytes_from_server)
  end)

  it("leaves query attributes out", function()
    open { capabilities = QUERY_ATTRIBUTES }
    ask("\3\0\1SELECT a", OK)
    ask("\3\1\1\0\1\254\0\4name\5valueSELECT a", OK)
    ask("\3\1\1\0\1\254\0\200name", ERR) -- malformed: the server says so
    assert.same({ ["SELECT `a`"] = 2, other = 1 }, counts())
  end)

  it("keeps no more digests than it may, and counts the others as one", function()
    open(nil, 2)
    for _, name in ipairs { "a", "b", "c", "d", "a" } do
      ask("\3SELECT " .. name, OK)
    end
    assert.same({ ["SELECT `a`"] = 2, ["SELECT `b`"] = 1, other = 2 }, counts())
    assert.equal("other", counted:digests()[1].digest)
  end)

  it("cuts long texts", function()
    open()
    local long = "\3SELECT " .. ("a, "):rep(5000)
    ask(long .. "1", OK)
    ask(long .. "b", OK)
    ask("\3SELECT '" .. ("x"):rep(100000) .. "', a", OK)
    ask("\3" .. ("x"):rep(3000), OK)
    ask("\3/*!" .. ("x"):rep(3000), OK)
    for text, count in pairs(counts()) do
      assert.equal(text:find("^SELECT `a`") and 2 or 1, count)
      assert.is_true(#text <= 1024 and #text > 5)
    end
    assert.equal(4, #counted:digests())
  end)

  it("counts a prepared statement's executions under its text", function()
    open()
    ask("\22SELECT ? + a", prepared(1))
    ask("\22SELECT broken", ERR)
    for id = 2, 40 do
      ask("\22SELECT x" .. id, prepared(id))
    end
    ask("\23\1\0\0\0\0\1\0\0\0", unpack(RESULT))
    ask("\23\40\0\0\0\0\1\0\0\0", unpack(RESULT))
    ask("\23\99\0\0\0\0\1\0\0\0", ERR) -- never prepared
    assert.same({ ["SELECT ? + `a`"] = 1, ["SELECT `x40`"] = 1 }, counts())
    assert.same({ 3, 1, 4 }, { command(COM_EXECUTE).count, command(COM_EXECUTE).errors, command(COM_EXECUTE).rows })
    assert.same({ 41, 1 }, { command(COM_PREPARE).count, command(COM_PREPARE).errors })
    c:command("\25\40\0\0\0")
    ask("\23\40\0\0\0\0\1\0\0\0", ERR)
    assert.equal(1, counts()["SELECT `x40`"])
    assert.same({ 1, 0 }, { command(COM_CLOSE).count, command(COM_CLOSE).p99 })
  end)

  it("remembers the last 1,024 prepared statements of a session", function()
    open()
    for id = 1, 1025 do
      c:command("\22SELECT x" .. id % 2)
      c:answer(1, "\0" .. string.char(id % 256, math.floor(id / 256), 0, 0) .. "\0\0\0\0\0\0\0")
    end
    ask("\23\1\0\0\0\0\1\0\0\0", OK)
    assert.same({}, counts())
    ask("\23\2\0\0\0\0\1\0\0\0", OK)
    ask("\23\1\4\0\0\0\1\0\0\0", OK)
    assert.same({ ["SELECT `x0`"] = 1, ["SELECT `x1`"] = 1 }, counts())
    assert.equal(3, command(COM_EXECUTE).count)
  end)

  it("knows the statement of a client that executes before it has seen the id", function()
    open()
    local sent = packets(0, "\22SELECT a") .. packets(0, "\23\255\255\255\255\0\1\0\0\0")
    c.client:write(sent)
    c.server:receives(sent)
    local answers = packets(1, prepared(7)) .. packets(1, OK)
    c.server:write(answers)
    c.client:receives(answers)
    assert.same({ ["SELECT `a`"] = 1 }, counts())
  end)

  it("follows the session to other schemas and users, once the server has agreed", function()
    open()
    local function where()
      ask("\3SELECT a", OK)
      local list = counted:digests()
      return list[#list].user .. "@" .. list[#list].schema
    end
    assert.equal("alice@shop", where())
    ask("\2store", OK)
    assert.equal("alice@store", where())
    ask("\3USE `a b`", OK)
    assert.equal("alice@a b", where())
    ask("\2nowhere", ERR)
    ask("\3use nowhere", ERR)
    ask("\17bob\0\0nowhere\0", ERR)
    ask("\17bob\0\2xxprivate\0", OK)
    assert.equal("bob@private", where())
    ask("\3use c; SELECT 1", OK)
    assert.equal("bob@c", where())
    assert.equal(1, command(COM_INIT_DB).errors)
  end)

  it("begins at 0 again when it is told to, and still knows prepared statements", function()
    open(nil, 3)
    ask("\22SELECT a", prepared(1))
    ask("\3SELECT b", OK)
    counted:reset_digests()
    assert.same({}, counted:digests())
    assert.equal(1, command(COM_QUERY).count)
    counted:reset_commands()
    assert.same({}, counted:commands())
    ask("\23\1\0\0\0\0\1\0\0\0", OK)
    for _, name in ipairs { "c", "d", "e" } do -- takes the room of what is not used any more
      ask("\3SELECT " .. name, OK)
    end
    assert.same({ ["SELECT `a`"] = 1, ["SELECT `c`"] = 1, ["SELECT `d`"] = 1, other = 1 }, counts())
  end)

  it("gives digests in pieces", function()
    open(nil, 1000)
    for number = 1, 25 do
      ask("\3SELECT x" .. number, OK)
    end
    local place, seen, pieces = 0, 0, 0
    while place do
      local list, following = counted:digests(place, 10)
      assert.is_true(#list <= 10)
      seen, place, pieces = seen + #list, following, pieces + 1
    end
    assert.same({ 25, 3 }, { seen, pieces })
    assert.same({}, (counted:digests(1000)))
  end)

  it("counts what a server leaves unanswered as an error", function()
    open()
    c:command("\3SELECT a")
    c.server:close()
    c.client:receives(packets(1, proto.to_err_packet {
      errcode = 2013, sqlstate = "HY000", errmsg = "Lost connection to MySQL server during query",
    }))
    assert.same({ 1, 1, 0 }, { digest("SELECT `a`").count, digest("SELECT `a`").errors, digest("SELECT `a`").max })
  end)

  it("tells of commands that took long, answered or not", function()
    counted, backend = assert(statistics.new(100)), statistics.new_backend()
    c = conversation.connect()
    c:join()
    local told = {}
    local function tell(slow)
      told[#told + 1] = slow
    end
    c.relay:count(counted, backend, "alice", "shop", 1000, tell)
    ask("\3SELECT 1", unpack(RESULT))
    assert.same({}, told)
    c.relay:count(counted, backend, "alice", "shop", 0, tell)
    ask("\3SELECT 2", unpack(RESULT))
    ask("\3SELECT nothing", ERR)
    ask("\3DELETE", proto.to_ok_packet { server_status = 2, affected_rows = 7 })
    c:command "\3SELECT 3"
    c:command "\14"
    c.server:close()
    c.client:receives(packets(1, proto.to_err_packet {
      errcode = 2013, sqlstate = "HY000", errmsg = "Lost connection to MySQL server during query",
    }))
    assert.equal(5, #told)
    local expected = {
      { statement = "SELECT 2", rows = 2, bytes = RESULT_BYTES },
      { statement = "SELECT nothing", error = 1064, bytes = #packets(1, ERR) },
      { statement = "DELETE", affected_rows = 7, bytes = 11 },
      { statement = "SELECT 3", answered = false },
      { command = 14, answered = false },
    }
    for i, each in ipairs(expected) do
      local found = told[i]
      local defaults = { command = 3, rows = 0, affected_rows = 0, error = 0, bytes = 0, answered = true }
      for key, value in pairs(defaults) do
        each[key] = each[key] == nil and value or each[key]
      end
      each.user, each.schema, each.cut = "alice", "shop", each.statement and false
      assert.is_true(found.seconds > 0 and found.seconds < 1000)
      found.seconds = nil
      assert.same(each, found)
    end
    assert.has_error(function()
      c.relay:count(counted, backend, "alice", "shop", 1)
    end)
  end)

  it("counts what a script has sent, and not what it has answered itself", function()
    counted = assert(statistics.new(100))
    c = conversation.watch(function(relay, payload)
      if payload == "\3SELECT own" then
        return relay:reply(packets(0, OK))
      elseif payload == "\3SELECT other" then
        return relay:inject("\3SELECT injected")
      end
      relay:forward()
    end, { watched = { COM_QUERY } })
    c.relay:count(counted, nil, "", "")
    function c.on_answer(_, relay)
      relay:reply(packets(0, OK))
    end
    ask("\3SELECT a", OK)
    c.client:send(0, "\3SELECT own")
    c.client:receives(packets(1, OK))
    c.client:send(0, "\3SELECT other")
    c.server:receives(packets(0, "\3SELECT injected"))
    c.server:send(1, ERR)
    c.client:receives(packets(1, OK))
    assert.same({ ["SELECT `a`"] = 1, ["SELECT `injected`"] = 1 }, counts())
    assert.equal(1, digest("SELECT `injected`").errors)
    assert.equal(#packets(0, "\3SELECT injected"), digest("SELECT `injected`").bytes_from_client)
  end)

  it("counts a command that has no answer", function()
    open()
    c:command("\1")
    assert.equal(1, command(COM_QUIT).count)
  end)

  it("says what it is, and what it cannot be", function()
    assert.equal("mysql.statistics (0 digests of at most 5)", tostring(statistics.new(5)))
    assert.equal("mysql.statistics.backend (0 commands)", tostring(statistics.new_backend()))
    assert.error_matches(function() statistics.new(0) end, "1 to 1000000 digests expected")
    assert.error_matches(function() statistics.new(1000001) end, "1 to 1000000 digests expected")
  end)
end)
