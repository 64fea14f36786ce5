-- Every kind of command, with every form of answer that a client can agree on, while a script is loaded: byte for byte
-- what the server says without a proxy.

local proto = require "mysql.proto"
local raw = require "spec.support.raw"
local scripted = require "spec.support.scripted"
local servers = require "spec.support.server"

local FLAGS = proto.capabilities
local INIT_DB, QUERY, PING, PREPARE, EXECUTE = "\2", "\3", "\14", "\22", "\23"
local LONG_DATA, STMT_CLOSE, STMT_RESET, SET_OPTION, FETCH = "\24", "\25", "\26", "\27", "\28"

local function queue(options)
  return ([[
    function read_query(packet)
      assert(packet:byte() ~= proxy.COM_QUERY or packet:find("^\3%%u"), "no plain SQL")
      proxy.queries:append(1, packet, %s)
      return proxy.PROXY_SEND_QUERY
    end
    function read_query_result(inj)
      assert(inj.resultset.row_count >= 0 and inj.resultset.bytes >= 0)
    end]]):format(options)
end

local scripts = {
  ["looks"] = [[
    function read_query(packet)
      assert(packet:byte() ~= proxy.COM_QUERY or packet:find("^\3%u"), "no plain SQL")
    end]],
  ["keeps answers"] = queue("{ resultset_is_needed = true }"),
  ["streams answers"] = queue("{ resultset_is_needed = false }"),
}

local forms = {
  ["EOF packets"] = 0,
  ["OK as EOF"] = FLAGS.CLIENT_DEPRECATE_EOF,
  ["session tracking"] = FLAGS.CLIENT_SESSION_TRACK,
  ["all of it"] = FLAGS.CLIENT_DEPRECATE_EOF + FLAGS.CLIENT_SESSION_TRACK,
}

-- What MariaDB has besides.
local extended = 0
for _, name in ipairs {
  "MARIADB_CLIENT_PROGRESS", "MARIADB_CLIENT_STMT_BULK_OPERATIONS", "MARIADB_CLIENT_EXTENDED_METADATA",
  "MARIADB_CLIENT_CACHE_METADATA",
} do
  extended = extended + assert(proto.extended_capabilities[name], name)
end

local function execute(statement, flags, more)
  return EXECUTE .. statement .. string.char(flags) .. "\1\0\0\0" .. (more or "")
end

for _, server in ipairs(servers.all()) do
  describe("commands to " .. server.name .. " through a script that", function()
    local proxies = {}

    setup(function()
      for name, text in pairs(scripts) do
        proxies[name] = scripted.start(server, text)
      end
      server:sql [[
        DROP TABLE IF EXISTS test.kinds;
        CREATE TABLE test.kinds (a INT PRIMARY KEY, b VARCHAR(20));
        INSERT INTO test.kinds VALUES (1, NULL), (2, 'two'), (3, 'three');
        DROP PROCEDURE IF EXISTS test.kinds_cursor;
        DROP PROCEDURE IF EXISTS test.kinds_nothing;
        CREATE PROCEDURE test.kinds_nothing() DO 0;
      ]]
      server:sql "delimiter //\nCREATE PROCEDURE test.kinds_cursor(OUT o INT) BEGIN\
        DECLARE c CURSOR FOR SELECT a FROM test.kinds; OPEN c; FETCH c INTO o; CLOSE c; SELECT o; SELECT b FROM\
        test.kinds; END//"
    end)

    teardown(function()
      server:sql "DROP TABLE test.kinds; DROP PROCEDURE test.kinds_cursor; DROP PROCEDURE test.kinds_nothing;"
      for name, proxy in pairs(proxies) do
        assert.equal(0, proxy:stop())
        assert.is_nil(scripted.complaints(proxy:log()), name)
        assert.is_nil(proxy:log():match("error in a callback[^\n]*"), name)
      end
    end)

    local prepared = {
      "SELECT a, b FROM test.kinds WHERE a > ?", "SELECT LENGTH(?)", "CALL test.kinds_cursor(?)",
      "UPDATE test.kinds SET b = ? WHERE a = ?",
    }

    -- What is said to that, with 0 for ids, which differ from session to session; and the ids.
    local function prepare(client)
      local said, ids = {}, {}
      for _, text in ipairs(prepared) do
        client:send(PREPARE .. text)
      end
      client:send(PING)
      repeat
        local payload, sequence = client:packet()
        local ok = payload:byte() == 0
        if ok and #ids < #prepared then
          ids[#ids + 1] = payload:sub(2, 5)
          payload = "\0\0\0\0\0" .. payload:sub(6)
          ok = false
        end
        said[#said + 1] = sequence .. payload
      until ok
      return table.concat(said), ids
    end

    local function commands_of(ids, attributes, more)
      local function sql(text)
        return QUERY .. (attributes and "\0\1" or "") .. text
      end
      local first, second, third, fourth = unpack(ids)
      local list = {
        sql "SELECT 1, NULL, 'x'", sql "SELECT a, b FROM test.kinds", sql "SELECT a FROM test.kinds WHERE a < 0",
        sql "SELECT 1; SELECT 2; DO 0; SELECT b FROM test.kinds; SELEC", sql "SELECT nowhere",
        INIT_DB .. "test", INIT_DB .. "no_such_schema", sql "SET NAMES latin1", sql "USE mysql", sql "USE test",
        sql "CALL kinds_cursor(@o)", sql "SELECT @o", sql "CALL kinds_nothing()", sql "SELECT 'behind'",
        sql "BEGIN", sql "UPDATE kinds SET b = 'zwei' WHERE a = 2", sql "ROLLBACK",
        PING, SET_OPTION .. "\1\0", sql "SELECT 1; SELECT 2", SET_OPTION .. "\0\0", sql "SELECT 1; SELECT 2",
        "\4kinds\0", "\5no_schema", "\6no_schema", "\12\255\255\255\0", "\15", "\21", "\0", "\11", "\16", "\19", "\20",
        "\29", "\200", "\7\1", "\13",
        PREPARE .. "SELEC",
        execute(first, 0, "\0\1\3\0\1\0\0\0"), execute(first, 1, "\0\1\3\0\0\0\0\0"), FETCH .. first .. "\2\0\0\0",
        FETCH .. first .. "\2\0\0\0", STMT_RESET .. first,
        LONG_DATA .. second .. "\0\0" .. ("x"):rep(1000), LONG_DATA .. second .. "\0\0yyy",
        execute(second, 0, "\0\1\252\0"), execute(third, 0, "\0\1\3\0\0\0\0\0"), sql "SELECT 'behind it'",
        STMT_CLOSE .. first, execute("\255\255\255\127", 0, "\0\0"), STMT_CLOSE .. second, STMT_CLOSE .. third, PING,
        "\31", sql "SELECT @o",
      }
      local bulk = { -- MariaDB's COM_STMT_BULK_EXECUTE, and metadata that the client has already
        sql "BEGIN", "\250" .. fourth .. "\128\0" .. "\253\0\3\0" .. "\0\4drei\0\3\0\0\0" .. "\1\0\2\0\0\0",
        sql "SELECT a, b FROM test.kinds", sql "ROLLBACK",
        execute(first, 0, "\0\1\3\0\1\0\0\0"), execute(first, 0, "\0\1\3\0\1\0\0\0"),
      }
      for index, command in ipairs(more and bulk or {}) do
        table.insert(list, index, command)
      end
      if attributes then
        list[#list + 1] = QUERY .. "\1\1\0\1\254\0\4name\5value" .. "SELECT 'attributes'"
      end
      list[#list + 1] = sql(("SELECT LENGTH('%s')"):format(("x"):rep(2 ^ 24)))
      list[#list + 1] = sql "SELECT REPEAT('y', 17000000)"
      list[#list + 1] = sql "SELECT 'the end'"
      return list
    end

    -- All bytes that come for the commands, which are sent without waiting.
    local function record(port, flags, attributes, more)
      local client = raw.connect(port)
      client.extended_capabilities = more
      client:login("nopass", flags)
      assert.is_nil(client.refused)
      local said, ids = prepare(client)
      for _, command in ipairs(commands_of(ids, attributes, more)) do
        client:send(command)
      end
      client:send("\1")
      assert.truthy(client:wait_for_end())
      local bytes = said .. client:rest()
      client:close()
      return bytes
    end

    local function same(flags, attributes, more)
      local direct = record(server.port, flags, attributes, more)
      assert.truthy(direct:find("the end", -100, true))
      for name, proxy in pairs(proxies) do
        local through = record(proxy.port, flags, attributes, more)
        if direct ~= through then
          local at = 1
          while direct:byte(at) == through:byte(at) do at = at + 1 end
          local function readable(bytes)
            return (bytes:sub(math.max(1, at - 60), at + 60):gsub("[^%g ]", function(byte)
              return ("\\%d "):format(byte:byte())
            end))
          end
          error(("%s, byte %d: %s\ninstead of %s"):format(name, at, readable(through), readable(direct)))
        end
      end
      return direct
    end

    for form, flags in pairs(forms) do
      it("does anything are answered as ever, with " .. form, function()
        same(flags)
      end)
    end

    if server.flavour == "mariadb" then
      it("does anything are answered as ever, with what MariaDB has besides", function()
        local direct = same(FLAGS.CLIENT_DEPRECATE_EOF, false, extended)
        assert.truthy(direct:find("\4drei", 1, true)) -- what it has written
      end)
    end

    if server.flavour == "mysql" then
      it("does anything keep their attributes, which it does not see", function()
        local flags = FLAGS.CLIENT_QUERY_ATTRIBUTES + FLAGS.CLIENT_DEPRECATE_EOF + FLAGS.CLIENT_SESSION_TRACK
        local direct = same(flags, true)
        assert.truthy(direct:find("\10attributes", 1, true)) -- a cell
      end)
    end
  end)
end
