local packet = require "mysql.packet"
local proto = require "mysql.proto"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local raw = require "spec.support.raw"
local servers = require "spec.support.server"
local transcripts = require "spec.support.transcript"

local QUERY, PING, FETCH, STMT_CLOSE, STMT_RESET, LONG_DATA = "\3", "\14", "\28", "\25", "\26", "\24"
local FULL = 2 ^ 24 - 1 -- the payload of the largest packet: what is not shorter has more behind it

local forms = {
  { name = "EOF packets", flags = 0 },
  { name = "OK as EOF", flags = proto.capabilities.CLIENT_DEPRECATE_EOF },
}

local MILLION = [[
  WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 1000000) SELECT n, n * 7 FROM s]]

local function execute(statement, flags, more)
  return "\23" .. statement .. string.char(flags) .. "\1\0\0\0" .. (more or "")
end

local function fetch(statement, rows)
  return FETCH .. statement .. string.char(rows % 256, math.floor(rows / 256)) .. "\0\0"
end

local function long_data(statement, parameter, bytes)
  return LONG_DATA .. statement .. string.char(parameter) .. "\0" .. bytes
end

-- A text whose parts differ, so that no one can be taken for another.
local function text(length)
  return ("0123456789abcdefghijklmnopqrstuvwxyz-"):rep(math.ceil(length / 37)):sub(1, length)
end

-- A statement with this payload length.
local function statement_of(length)
  local before, after = QUERY .. "SELECT SHA2('", "', 256)"
  return before .. text(length - #before - #after) .. after
end

local function select_columns(count)
  return "SELECT 1" .. (", 1"):rep(count - 1)
end

local function select_derived_columns(count)
  local columns = {}
  for i = 1, count do
    columns[i] = "1 AS c" .. i
  end
  return ("SELECT * FROM (SELECT %s) AS d"):format(table.concat(columns, ", "))
end

for _, server in ipairs(servers.all()) do
  describe("results, " .. server.name, function()
    local proxy

    setup(function()
      proxy = proxies.start { server }
      server:sql [[
        DROP TABLE IF EXISTS test.numbers, test.twins;
        CREATE TABLE test.numbers (n INT PRIMARY KEY);
        INSERT INTO test.numbers WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 1000)
          SELECT n FROM s;
        INSERT INTO test.numbers SELECT n + 1000 FROM test.numbers;
        CREATE TABLE test.twins (n INT, KEY (n));
        INSERT INTO test.twins SELECT n FROM test.numbers;
        INSERT INTO test.twins VALUES (1000);
        DROP PROCEDURE IF EXISTS test.several;
      ]]
      server:sql "delimiter //\n\
        CREATE PROCEDURE test.several(rows_wanted INT) BEGIN\
          SELECT n FROM test.numbers WHERE n <= rows_wanted ORDER BY n;\
          SELECT 'none' FROM test.numbers WHERE n < 0;\
          INSERT INTO test.twins VALUES (-1); DELETE FROM test.twins WHERE n = -1;\
          SELECT 'last', rows_wanted;\
        END//"
    end)

    teardown(function()
      proxy:stop()
      server:sql "DROP TABLE test.numbers, test.twins; DROP PROCEDURE test.several;"
    end)

    -- What is answered to the commands, sent without a pause between them.
    local function record(port, form, commands, prepared, last)
      local transcript = transcripts.open(port, { flags = form.flags, prepare = prepared })
      for _, command in ipairs(prepared and commands(transcript.statement) or commands) do
        transcript:send(command)
      end
      if last then
        transcript:send(last)
      end
      return transcript:finish()
    end

    -- The proxy refuses this itself, once it has seen the end of all answers before: so it must find that end, and
    -- neither early nor late.
    local refused = QUERY .. "INSERT INTO test.twins VALUES (0)"

    local function ends_with_refusal(path, size)
      local tail = transcripts.tail(path, size)
      local payload, sequence, after = packet.parse(tail)
      assert.truthy(payload, "no whole packet behind the answers")
      assert.equal(1290, proto.from_err_packet(payload).errcode)
      assert.same({ 1, #tail + 1 }, { sequence, after })
    end

    -- Compares what the server says directly with what comes through both ports. Returns its last transcript.
    -- `tries`: how often what comes through is recorded until it is the same, where a server does not always say the
    -- same itself.
    local function compare(commands, options)
      options = options or {}
      local direct, size
      for _, form in ipairs(forms) do
        -- The same twice: what the server said, and what it said through a port.
        local function twins(port, last)
          local through, through_size
          for _ = 1, options.tries or 1 do
            direct, size = record(server.port, form, commands, options.prepare)
            through, through_size = record(port, form, commands, options.prepare, last)
            if transcripts.digest(direct) == transcripts.digest(through, size) then
              break
            end
          end
          assert.equal(transcripts.digest(direct), transcripts.digest(through, size), form.name)
          return through, through_size
        end
        local through, through_size = twins(proxy.port)
        assert.equal(size, through_size)
        os.remove(through)
        if not options.writes then
          through = twins(proxy.read_only_port, refused)
          ends_with_refusal(through, size)
          os.remove(through)
        end
        if form ~= forms[#forms] then
          os.remove(direct)
        end
      end
      return direct, size
    end

    -- The same for one statement, whose answer must be of so many packets.
    local function compare_query(sql, packets)
      local path = compare { QUERY .. sql }
      local lengths = transcripts.packet_lengths(path)
      if packets then
        assert.equal(packets, #lengths)
      end
      return lengths, path
    end

    describe("pass unchanged:", function()
      it("no row, and one", function()
        compare_query("SELECT n FROM test.numbers WHERE n < 0", 3) -- column count, definition, end
        compare_query("SELECT n FROM test.numbers WHERE n = 1", 4)
        compare_query("DO 0", 1)
      end)

      it("a million rows", function()
        local setting = server.flavour == "mysql" and "cte_max_recursion_depth" or "max_recursive_iterations"
        local path = compare { QUERY .. ("SET SESSION %s = 1000000"):format(setting), QUERY .. MILLION }
        assert.equal(1 + 1 + 2 + 1000000 + 1, #transcripts.packet_lengths(path))
      end)

      it("a value of 64 MiB", function()
        local length = 64 * 2 ^ 20
        local lengths = compare_query(("SELECT LEFT(REPEAT('%s', 2000000), %d)"):format(text(37), length))
        assert.same(transcripts.chain(length + 9), { unpack(lengths, 3, 7) })
      end)

      for _, size in ipairs {
        { "one byte less than the largest packet", FULL - 1 },
        { "the largest packet", FULL },
        { "one byte more than the largest packet", FULL + 1 },
        { "two largest packets", 2 * FULL },
      } do
        local name, length = unpack(size)
        it("a row of " .. name, function()
          local prefix = length > FULL + 4 and 9 or 4 -- the value's own length
          local sql = ("SELECT LEFT(REPEAT('%s', 1000000), %d)"):format(text(37), length - prefix)
          local lengths = compare_query(sql .. " UNION ALL SELECT 'behind'")
          local chain = transcripts.chain(length)
          assert.same(chain, { unpack(lengths, 3, 2 + #chain) })
          assert.equal(1 + #"behind", lengths[3 + #chain])
        end)

        it("a statement of " .. name, function()
          compare { statement_of(length), QUERY .. "SELECT 'behind'" }
        end)
      end

      it("a statement of 17 MB", function()
        compare { statement_of(17e6), QUERY .. "SELECT 'behind'" }
      end)

      it("the columns of the widest table, and more than any table has", function()
        compare_query(select_derived_columns(4096), 1 + 4096 + 1 + 1)
        compare_query(select_columns(4096), 1 + 4096 + 1 + 1)
        compare_query(select_columns(70000), 1 + 70000 + 1 + 1)
      end)

      it("the results of several statements, up to one that fails", function()
        compare_query "SELECT 1; SELECT n FROM test.numbers; DO 0; SELECT n FROM test.numbers WHERE n < 0; SELECT 2"
        compare_query "SELECT 1; SELECT n FROM test.numbers; SELECT * FROM nowhere.nothing; SELECT 2"
      end)

      it("the results of a procedure", function()
        compare({ QUERY .. "CALL test.several(300)", QUERY .. "CALL test.several(0); CALL test.several(1)" },
          { writes = true })
        compare(function(statement)
          return { execute(statement, 0), STMT_CLOSE .. statement, PING }
        end, { prepare = "CALL test.several(300)", writes = true })
      end)

      it("an error in the place of a row", function()
        local failing = "SELECT s.n, (SELECT t.n FROM test.twins t WHERE t.n = s.n) FROM test.numbers s ORDER BY s.n"
        local lengths, path = compare_query(failing)
        assert.equal(1 + 2 + 999 + 1, #lengths)
        assert.truthy(transcripts.tail(path, -lengths[#lengths]):find("Subquery returns more than 1 row", 1, true))
        compare(function(statement)
          return { execute(statement, 0), execute(statement, 0), PING }
        end, { prepare = failing })
      end)

      it("the rows of a cursor, its end and its errors", function()
        local path = compare(function(statement)
          local cursor = execute(statement, 1)
          return {
            cursor, fetch(statement, 999), fetch(statement, 1000), fetch(statement, 1000), fetch(statement, 1),
            cursor, fetch(statement, 1), cursor, fetch(statement, 2000), STMT_RESET .. statement, fetch(statement, 1),
            cursor, fetch(statement, 1), QUERY .. "SELECT 'meanwhile'", fetch(statement, 1),
            STMT_CLOSE .. statement, fetch(statement, 1), PING,
          }
        end, { prepare = "SELECT n, REPEAT('x', n) FROM test.numbers ORDER BY n", tries = 50 }) -- MariaDB's errors vary
        local _, errors = transcripts.tail(path, 0):gsub("#HY000", "")
        assert.equal(3, errors) -- after the last row, after the reset, after the close
      end)

      it("parameters sent as long data, in pieces of any size", function()
        local types = "\0\1\252\0\252\0" -- none is NULL; two blobs
        local path = compare(function(statement)
          return {
            long_data(statement, 0, text(20 * 2 ^ 20)), long_data(statement, 1, "abc"),
            long_data(statement, 0, "behind"), long_data(statement, 1, ""), execute(statement, 0, types),
            long_data(statement, 0, text(FULL - 7)), long_data(statement, 1, text(FULL - 8)),
            execute(statement, 0, types), STMT_CLOSE .. statement, PING,
          }
        end, { prepare = "SELECT LENGTH(?), SHA2(?, 256)" })
        local bytes = transcripts.tail(path, 0)
        assert.truthy(bytes:find("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1, true))
      end)
    end)

    describe("through an ordinary client are the same:", function()
      local function same_through_both_ports(result)
        local direct = result(server.port)
        assert.equal(direct, result(proxy.port), "default port")
        assert.equal(direct, result(proxy.read_only_port), "read-only port")
        return direct
      end

      it("a million rows and a value of 64 MiB", function()
        local setting = server.flavour == "mysql" and "cte_max_recursion_depth" or "max_recursive_iterations"
        same_through_both_ports(function(port)
          local program, args = server:client()
          local sql = ("SET SESSION %s = 1000000; %s; SELECT REPEAT('%s', 2000000)"):format(setting, MILLION, text(37))
          local options = { "--quick", "--max-allowed-packet=1G", "--execute=" .. sql }
          for _, list in ipairs { server.clear_text, server:login(port), options } do
            for _, arg in ipairs(list) do
              args[#args + 1] = arg
            end
          end
          local client = process.start(program, args)
          assert.equal(0, client:wait(120), client:stderr())
          local result = transcripts.digest(client.output)
          os.remove(client.output)
          return result
        end)
      end)

      it("cursors and long data of PHP's mysqli", function()
        local script = [[
          ini_set('memory_limit', '1G');
          $db = new mysqli('127.0.0.1', 'nopass', '', 'test', (int)$argv[1]);
          $cursor = $db->prepare('SELECT n, SHA2(n, 256) FROM numbers ORDER BY n');
          $cursor->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
          for ($i = 0; $i < 2; $i++) {
            $cursor->execute();
            $cursor->bind_result($n, $sum);
            while ($cursor->fetch()) echo "$n $sum\n";
            $cursor->free_result();
          }
          $cursor->close();
          $long = $db->prepare('SELECT LENGTH(?), SHA2(?, 256)');
          $long->bind_param('bb', $none, $none);
          for ($i = 0; $i < 21; $i++) {
            $long->send_long_data(0, str_repeat(chr(65 + $i), 1000003));
            $long->send_long_data(1, str_repeat(chr(65 + $i), 4099));
          }
          $long->execute();
          print_r($long->get_result()->fetch_all());
          echo $db->query("SELECT 'still here'")->fetch_row()[0];
        ]]
        local direct = same_through_both_ports(function(port)
          local code, out, errors = process.run("php", { "-r", script, "--", tostring(port) })
          assert.equal(0, code, out .. errors)
          return out
        end)
        assert.truthy(direct:find("21000063", 1, true))
        assert.equal("still here", direct:sub(-10))
      end)
    end)

    it("broken off by KILL QUERY end with its error, and the session goes on", function()
      local function ending(port)
        local transcript = transcripts.open(port)
        transcript:send(QUERY .. "SELECT REPEAT('x', 5000) FROM test.numbers a, test.numbers b, test.numbers c")
        assert.truthy(process.wait_until(function()
          return transcript.size > 1e6
        end))
        transcript:pause() -- the server waits for room
        server:sql("KILL QUERY " .. transcript.client.challenge.thread_id)
        transcript:resume()
        transcript:send(QUERY .. "DO 0")
        local path, size = transcript:finish()
        local bytes = transcripts.tail(path, math.max(0, size - 200))
        os.remove(path)
        return bytes:match("xx.%z%z.(\255%%\5#70100.*)$") -- its sequence number depends on the rows before it
      end
      local direct = ending(server.port)
      assert.truthy(direct:find("Query execution was interrupted", 1, true))
      assert.equal(direct, ending(proxy.port))
      assert.equal(direct, ending(proxy.read_only_port))
    end)

    it("of a statement of several packets count on from there, also when the proxy itself answers", function()
      local function answer(port, sql)
        local client = raw.connect(port):login("nopass")
        client:send(QUERY .. sql .. (" "):rep(17e6) .. "x")
        local payload, sequence = client:packet()
        client:close()
        return proto.from_err_packet(payload).errcode, sequence
      end
      local errcode, sequence = answer(server.port, "INSERT INTO nowhere.nothing VALUES (1) ")
      assert.equal(1064, errcode)
      assert.same({ 1290, sequence }, { answer(proxy.read_only_port, "INSERT INTO nowhere.nothing VALUES (1) ") })
    end)
  end)
end
