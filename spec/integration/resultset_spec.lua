-- mysql.resultset over what real servers say, in every form that a client can agree on with them.

local packet = require "mysql.packet"
local proto = require "mysql.proto"
local resultset = require "mysql.resultset"

local raw = require "spec.support.raw"
local servers = require "spec.support.server"

local FLAGS, EXTENDED = proto.capabilities, proto.extended_capabilities

local QUIT, INIT_DB, QUERY, FIELD_LIST, STATISTICS, PROCESS_INFO = "\1", "\2", "\3", "\4", "\9", "\10"
local PING, PREPARE, EXECUTE, SET_OPTION, FETCH = "\14", "\22", "\23", "\27", "\28"
local READ_ONLY_CURSOR = 1

local forms = {
  { name = "EOF packets", flags = {} },
  { name = "OK as EOF", flags = { "CLIENT_DEPRECATE_EOF" } },
  { name = "OK as EOF, session tracking", flags = { "CLIENT_DEPRECATE_EOF", "CLIENT_SESSION_TRACK" } },
  { name = "optional metadata", flags = { "CLIENT_OPTIONAL_RESULTSET_METADATA" }, flavour = "mysql" },
  { name = "optional metadata and OK as EOF", flavour = "mysql",
    flags = { "CLIENT_OPTIONAL_RESULTSET_METADATA", "CLIENT_DEPRECATE_EOF" } },
  { name = "extended metadata", flags = {}, extended = { "MARIADB_CLIENT_EXTENDED_METADATA" }, flavour = "mariadb" },
  { name = "all that MariaDB has", flags = { "CLIENT_DEPRECATE_EOF" }, flavour = "mariadb",
    extended = { "MARIADB_CLIENT_EXTENDED_METADATA", "MARIADB_CLIENT_CACHE_METADATA", "MARIADB_CLIENT_PROGRESS" } },
}

-- The sum of named flags that the other side has too.
local function agreed(names, values, offered)
  local sum = 0
  for _, name in ipairs(names or {}) do
    assert(math.floor((offered or 0) / values[name]) % 2 == 1, name .. " is not what this server can do")
    sum = sum + values[name]
  end
  return sum
end

local function connect(server, form)
  local client = raw.connect(server.port)
  local wanted = 0
  for _, name in ipairs(form.flags) do
    wanted = wanted + FLAGS[name]
  end
  for _, name in ipairs(form.extended or {}) do
    client.extended_capabilities = (client.extended_capabilities or 0) + EXTENDED[name]
  end
  client:login("nopass", wanted)
  client.agreed = agreed(form.flags, FLAGS, client.challenge.capabilities)
    + agreed(form.extended, EXTENDED, client.challenge.extended_capabilities) * 2 ^ 32
  return client
end

-- Runs a statement that is answered with OK.
local function run(client, sql)
  local payload = client:query(sql)
  assert.equal(0, payload:byte(), payload)
end

-- The answer to the client's last command.
local function answer(client, command)
  client:send(command)
  client:send(QUIT) -- once all is said, the server closes
  client:wait_for_end()
  client:close()
  return client:rest()
end

local function read(client, command)
  return resultset.new(answer(client, command), command:byte(), client.agreed)
end

-- Prepares a statement; returns its id as it is on the wire.
local function prepare(client, form, sql)
  client:send(PREPARE .. sql)
  local ok = client:packet()
  assert.equal(0, ok:byte(), ok)
  local columns, params = ok:byte(6) + ok:byte(7) * 256, ok:byte(8) + ok:byte(9) * 256
  local packets = columns + params
  if form.flags[#form.flags] ~= "CLIENT_DEPRECATE_EOF" and form.flags[1] ~= "CLIENT_DEPRECATE_EOF" then
    packets = packets + (columns > 0 and 1 or 0) + (params > 0 and 1 or 0)
  end
  for _ = 1, packets do
    client:packet()
  end
  return ok:sub(2, 5)
end

local function rows_of(result, cells)
  local rows = {}
  for cell in result.rows do
    local row = {}
    for i = 1, cells do
      row[i] = cell[i] or "NULL"
    end
    rows[#rows + 1] = row
  end
  return rows
end

local function fields_of(result)
  local fields = {}
  for i = 1, #result.fields do
    local field = result.fields[i]
    fields[i] = { field.name, field.org_name, field.table, field.org_table, field.db, field.type }
  end
  return fields
end

for _, server in ipairs(servers.all()) do
  describe("mysql.resultset, " .. server.name, function()
    local JSON = server.flavour == "mysql" and 245 or 252

    setup(function()
      server:sql [[
        DROP TABLE IF EXISTS test.answers, test.many, test.log;
        CREATE TABLE test.log (n INT);
        CREATE TABLE test.answers (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), price DECIMAL(9,2), at DATETIME,
          b BLOB, j JSON, p POINT);
        INSERT INTO test.answers VALUES
          (1, 'one', 1.5, '2020-02-29 12:00:00', x'00ff', '{"a": 1}', ST_GeomFromText('POINT(1 2)')),
          (2, NULL, NULL, NULL, NULL, NULL, NULL), (3, '', 0, '0001-01-01', '', '[]', NULL);
        CREATE TABLE test.many (n INT PRIMARY KEY);
        INSERT INTO test.many WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 1000)
          SELECT n FROM s;
        DROP PROCEDURE IF EXISTS test.answer;
      ]]
      server:sql "delimiter //\n\
        CREATE PROCEDURE test.answer(n INT) BEGIN\
          SELECT n; SELECT n + 1, 'two' UNION SELECT 3, 'four'; INSERT INTO test.log VALUES (n), (n);\
        END//"
    end)

    teardown(function()
      server:sql "DROP TABLE test.answers, test.many, test.log; DROP PROCEDURE test.answer"
    end)

    for _, form in ipairs(forms) do
      if not form.flavour or form.flavour == server.flavour then
        describe("with " .. form.name, function()
          local client

          before_each(function()
            client = connect(server, form)
          end)

          it("shows fields and rows", function()
            local result = read(client, QUERY .. [[
              SELECT id, name AS other, price, at, b, j, p IS NULL, NULL AS nothing
              FROM test.answers AS t ORDER BY id]])
            local fields = fields_of(result)
            assert.same({
              { "id", "id", "t", "answers", "test", 3 },
              { "other", "name", "t", "answers", "test", 253 },
              { "price", "price", "t", "answers", "test", 246 },
              { "at", "at", "t", "answers", "test", 12 },
              { "b", "b", "t", "answers", "test", 252 },
              { "j", "j", "t", "answers", "test", JSON },
            }, { unpack(fields, 1, 6) })
            assert.same({ 8, "p IS NULL", "", "nothing", 6 },
              { #fields, fields[7][1], fields[7][3], fields[8][1], fields[8][6] })
            assert.same({
              { "1", "one", "1.50", "2020-02-29 12:00:00", "\0\255", '{"a": 1}', "0", "NULL" },
              { "2", "NULL", "NULL", "NULL", "NULL", "NULL", "1", "NULL" },
              { "3", "", "0.00", "0001-01-01 00:00:00", "", "[]", "1", "NULL" },
            }, rows_of(result, 8))
            assert.same({ 3, 0, 0 }, { result.row_count, result.query_status, result.warning_count })
            assert.is_nil(result.affected_rows)
          end)

          it("shows a geometry, which has extended metadata", function()
            local result = read(client, QUERY .. "SELECT p, j, id FROM test.answers WHERE id = 1")
            assert.same({
              { "p", "p", "answers", "answers", "test", 255 },
              { "j", "j", "answers", "answers", "test", JSON },
              { "id", "id", "answers", "answers", "test", 3 },
            }, fields_of(result))
            local cells = result.rows()
            assert.same({ 25, '{"a": 1}', "1" }, { #cells[1], cells[2], cells[3] })
          end)

          it("counts the bytes of the rows", function()
            local bytes = answer(client, QUERY .. "SELECT n, REPEAT('x', n) FROM test.many")
            local result = resultset.new(bytes, QUERY:byte(), client.agreed)
            local expected, count = 0, 0
            for cells in result.rows do
              count = count + 1
              assert.same({ tostring(count), ("x"):rep(count) }, { cells[1], cells[2] })
              expected = expected + 4 + 1 + #cells[1] + (#cells[2] < 251 and 1 or 3) + #cells[2]
            end
            assert.same({ 1000, 1000, expected }, { count, result.row_count, result.bytes })
          end)

          it("shows an empty result set", function()
            local result = read(client, QUERY .. "SELECT id FROM test.answers WHERE id > 100")
            assert.same({ 0, 0, 0, 1, "id" },
              { result.row_count, result.bytes, result.query_status, #result.fields, result.fields[1].name })
            assert.is_nil(result.rows())
          end)

          it("shows what a change has done", function()
            local result = read(client, QUERY .. "INSERT INTO test.answers (name) VALUES ('a'), ('b')")
            local id = result.insert_id
            assert.same({ 2, 0, 0, 0, 0 }, { result.affected_rows, result.query_status, result.row_count, result.bytes,
              #result.fields })
            assert.truthy(id >= 4)
            assert.is_nil(result.rows)
            result = read(connect(server, form), QUERY .. "DELETE FROM test.answers WHERE id >= " .. id)
            assert.same({ 2, 0 }, { result.affected_rows, result.insert_id })
            result = read(connect(server, form), QUERY .. "SET @a = 1")
            assert.same({ 0, 0 }, { result.affected_rows, result.row_count })
          end)

          it("shows an error", function()
            local result = read(client, QUERY .. "SELECT nothing_of_that_name")
            assert.same({ 255, 0, 0, 0 }, { result.query_status, result.row_count, result.bytes, #result.fields })
            assert.is_nil(result.rows)
            assert.is_nil(result.affected_rows)
            local message = result.raw
            assert.same({ 255, 1054, "#42S22", true }, { message:byte(), message:byte(2) + message:byte(3) * 256,
              message:sub(4, 9), message:find("nothing_of_that_name", 1, true) ~= nil })
          end)

          it("shows warnings and the state of the session", function()
            run(client, "BEGIN")
            local result = read(client, QUERY .. "SELECT CAST('x' AS SIGNED), CAST('y' AS SIGNED)")
            assert.equal(2, result.warning_count)
            assert.is_true(result.flags.in_trans)
            assert.is_true(result.flags.auto_commit)
            client = connect(server, form)
            run(client, "SET autocommit = 0")
            result = read(client, QUERY .. "SELECT * FROM test.answers WHERE name = 'one'")
            assert.same({ in_trans = true, auto_commit = false, no_good_index_used = false, no_index_used = true },
              result.flags)
          end)

          it("shows the first of several results, and counts all", function()
            local result = read(client, QUERY .. "SELECT 1 AS a; SELECT 2, 3 UNION SELECT 4, 5; DO 0; SELECT 6")
            assert.same({ "a" }, { result.fields[1].name, result.fields[2] })
            assert.same({ { "1" } }, rows_of(result, 1))
            assert.same({ 4, 6 + 8 + 8 + 6, 0 }, { result.row_count, result.bytes, result.query_status })
            assert.is_nil(result.affected_rows)
            result = read(connect(server, form), QUERY .. "SELECT 1; SELECT nothing_of_that_name; SELECT 3")
            assert.same({ 255, 1 }, { result.query_status, result.row_count })
            assert.same({ { "1" } }, rows_of(result, 1))
          end)

          it("shows what a procedure says", function()
            local result = read(client, QUERY .. "CALL test.answer(7)")
            assert.equal("n", result.fields[1].name)
            assert.same({ { "7" } }, rows_of(result, 1))
            assert.same({ 3, 0 }, { result.row_count, result.query_status })
            assert.equal(2, result.affected_rows) -- of the OK at its end
          end)

          it("shows the rows before an error", function()
            local result = read(client, QUERY .. [[
              SELECT n, REPEAT('x', 1000), (SELECT 1 FROM test.many AS m WHERE m.n = o.n OR o.n = 900)
              FROM test.many AS o ORDER BY n]])
            local count = 0
            for cells in result.rows do
              count = count + 1
              assert.equal(tostring(count), cells[1])
            end
            assert.same({ 899, 899, 255 }, { count, result.row_count, result.query_status })
            assert.equal(3, #result.fields)
          end)

          it("takes a row of 16 MiB", function()
            local result = read(client, QUERY .. "SELECT REPEAT('x', 16777216), 'short' UNION ALL SELECT 1, 2")
            local next_row = result.rows
            local cells = next_row()
            assert.is_true(cells[1] == ("x"):rep(2 ^ 24))
            assert.equal("short", cells[2])
            assert.same({ "1", "2" }, next_row())
            assert.is_nil(next_row())
            assert.same({ 2, 2 ^ 24 + 9 + 6 + 2 * 4 + 4 + 4 }, { result.row_count, result.bytes })
          end)

          it("knows a request for a file, and how that ended", function()
            client:send(QUERY .. "LOAD DATA LOCAL INFILE '/a/file' INTO TABLE test.many")
            local payload, sequence = client:packet()
            local bytes = packet.frame(payload, sequence)
            local result = resultset.new(bytes, QUERY:byte(), client.agreed)
            assert.is_nil(result.query_status)
            assert.is_nil(result.rows)
            assert.equal("\251/a/file", result.raw)
            client:send("", sequence + 1)
            repeat -- MariaDB tells of its progress first
              payload, sequence = client:packet()
              bytes = bytes .. packet.frame(payload, sequence)
            until payload:byte() == 0
            result = resultset.new(bytes, QUERY:byte(), client.agreed)
            assert.same({ 0, 0 }, { result.query_status, result.affected_rows })
            client:close()
          end)

          it("counts the rows of a prepared statement", function()
            local id = prepare(client, form, "SELECT id, name FROM test.answers WHERE id <= 3")
            local result = read(client, EXECUTE .. id .. "\0\1\0\0\0")
            assert.same({ 3, 0 }, { result.row_count, result.query_status })
            assert.truthy(result.bytes >= 3 * (4 + 1 + 1 + 4))
            if form.name ~= "all that MariaDB has" then -- that leaves out what COM_STMT_PREPARE has said
              assert.equal("name", result.fields[2].name)
            else
              assert.equal(0, #result.fields)
            end
            assert.error_matches(function()
              return result.rows
            end, ".resultset.rows isn't available for prepared statements", nil, true)
          end)

          it("knows a cursor, and what comes out of it", function()
            local id = prepare(client, form, "SELECT id FROM test.answers WHERE id <= 3")
            client:send(EXECUTE .. id .. string.char(READ_ONLY_CURSOR) .. "\1\0\0\0")
            local payloads = {}
            repeat
              local payload, sequence = client:packet()
              payloads[#payloads + 1] = packet.frame(payload, sequence)
            until payload:byte() == 0xfe and #payloads > 1
            local opened = resultset.new(table.concat(payloads), EXECUTE:byte(), client.agreed)
            assert.same({ 0, 0 }, { opened.row_count, opened.query_status })
            local result = read(client, FETCH .. id .. "\2\0\0\0")
            assert.same({ 2, 2 * (4 + 1 + 1 + 4), 0 }, { result.row_count, result.bytes, result.query_status })
          end)

          it("knows answers to other commands", function()
            assert.equal(0, read(client, INIT_DB .. "test").query_status)
            local refused = read(connect(server, form), INIT_DB .. "nothing_of_that_name")
            assert.equal(255, refused.query_status)
            assert.equal(1049, refused.raw:byte(2) + refused.raw:byte(3) * 256)
            assert.equal(0, read(connect(server, form), PING).query_status)
            assert.truthy(read(connect(server, form), STATISTICS).raw:find "^Uptime: %d+")
            assert.equal(0, read(connect(server, form), SET_OPTION .. "\0\0").query_status)
            local prepared = read(connect(server, form), PREPARE .. "SELECT ?, 1")
            assert.same({ 0, 0, 0 }, { prepared.query_status, prepared.row_count, #prepared.fields })
            assert.equal(255, read(connect(server, form), PREPARE .. "SELEC").query_status)
          end)

          it("is written in the form that the server has", function()
            local function shape(bytes)
              local found, at = {}, 1
              while at <= #bytes do
                local payload, sequence, after = packet.parse(bytes, at)
                found[#found + 1], at = ("%d: %02x"):format(sequence, payload:byte()), after
              end
              return found, (packet.parse(bytes))
            end
            local made = resultset.to_packets({
              fields = { { name = "a", type = 8 }, { name = "b", type = 253 } }, rows = { { 1, "two" }, { 3, nil } },
            }, client.agreed, 1)
            local said = answer(client, QUERY .. "SELECT 1 AS a, 'two' AS b UNION ALL SELECT 3, NULL")
            local expected, first = shape(said)
            local found, found_first = shape(made)
            assert.same(expected, found)
            assert.equal(first, found_first)
            for _, bytes in ipairs { said, made } do
              local result = resultset.new(bytes, QUERY:byte(), client.agreed)
              assert.same({ { "1", "two" }, { "3", "NULL" } }, rows_of(result, 2))
              assert.same({ 2, "a", "b" }, { #result.fields, result.fields[1].name, result.fields[2].name })
            end
          end)
        end)
      end
    end

    if server.flavour == "mysql" then
      it("shows rows without metadata", function()
        for _, flags in ipairs { {}, { "CLIENT_DEPRECATE_EOF" } } do
          flags[#flags + 1] = "CLIENT_OPTIONAL_RESULTSET_METADATA"
          local client = connect(server, { flags = flags })
          run(client, "SET resultset_metadata = NONE")
          local result = read(client, QUERY .. "SELECT 1, NULL, 'three' UNION ALL SELECT 4, 5, 6")
          assert.equal(0, #result.fields)
          assert.same({ { "1", "NULL", "three" }, { "4", "5", "6" } }, rows_of(result, 3))
          assert.same({ 2, 0, "\3\0" }, { result.row_count, result.query_status, result.raw })
        end
      end)
    else
      it("knows COM_FIELD_LIST and COM_PROCESS_INFO, which MySQL 9 has no more", function()
        for _, form in ipairs { forms[1], forms[2] } do
          local client = connect(server, form)
          run(client, "USE test")
          local result = read(client, FIELD_LIST .. "answers\0%")
          assert.same({ 0, 0, 0 }, { result.query_status, result.row_count, #result.fields })
          assert.equal("\3def\4test\7answers", result.raw:sub(1, 17))
          result = read(connect(server, form), PROCESS_INFO)
          assert.equal("Id", result.fields[1].name)
          assert.truthy(tonumber(result.rows()[1]))
        end
      end)
    end
  end)
end
