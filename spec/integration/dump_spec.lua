local uv = require "luv"

local process = require "spec.support.process"
local proxies = require "spec.support.proxy"
local servers = require "spec.support.server"
local transcripts = require "spec.support.transcript"

-- Name, type, and value by the row's number n.
local columns = {
  { "a_tinyint", "TINYINT", "n % 256 - 128" },
  { "a_smallint", "SMALLINT UNSIGNED", "n" },
  { "a_mediumint", "MEDIUMINT", "-n" },
  { "an_int", "INT ZEROFILL", "n" },
  { "a_bigint", "BIGINT UNSIGNED", "18446744073709551615 - n" },
  { "a_decimal", "DECIMAL(65, 30)", "n / 7 * 1e20" },
  { "a_float", "FLOAT", "n / 8" },
  { "a_double", "DOUBLE", "EXP(n / 100)" },
  { "a_bit", "BIT(64)", "n * 4294967297" },
  { "a_date", "DATE", "DATE '1000-01-01' + INTERVAL n * 100 DAY" },
  { "a_time", "TIME(6)", "SEC_TO_TIME((n - 10000) / 7)" },
  { "a_datetime", "DATETIME(6)", "TIMESTAMP '2000-02-29 23:59:59.999999' + INTERVAL n HOUR" },
  { "a_timestamp", "TIMESTAMP(3) NULL", "FROM_UNIXTIME(n * 86400 + 0.125)" },
  { "a_year", "YEAR", "1901 + n % 255" },
  { "a_char", "CHAR(20)", "REPEAT('c ', n % 11)" },
  { "a_varchar", "VARCHAR(200) CHARACTER SET utf8mb4",
    [[CONCAT('\'"\\%_\n', REPEAT(CONVERT(0xf09f90acc3bf USING utf8mb4), n % 20))]] },
  { "a_binary", "BINARY(16)", "LEFT(UNHEX(SHA2(n, 224)), 16)" },
  { "a_varbinary", "VARBINARY(255)", "UNHEX(SHA2(n, 512))" },
  { "a_tinyblob", "TINYBLOB", "CHAR(n % 256)" },
  { "a_blob", "BLOB", "REPEAT(UNHEX(SHA2(n, 224)), n % 50)" },
  { "a_mediumblob", "MEDIUMBLOB", "0x000a0d1a" },
  { "a_longblob", "LONGBLOB", "''" },
  { "a_text", "TEXT", [[CONCAT(n, REPEAT('t', n % 99), '\t\r\n')]] },
  { "a_longtext", "LONGTEXT CHARACTER SET latin1", "_latin1 0xe4" },
  { "an_enum", "ENUM('', 'one', 'it''s')", "n % 3 + 1" },
  { "a_set", "SET('a', 'b', 'c')", "n % 8" },
  { "a_json", "JSON", "JSON_OBJECT('n', n, 'list', JSON_ARRAY(1, NULL, 'x'))" },
  { "a_point", "POINT", "POINT(n, -n)" },
  { "a_geometry", "GEOMETRY", "ST_GeomFromText('POLYGON((0 0, 0 1, 1 1, 0 0))')" },
}

local own_columns = {
  mariadb = {
    { "a_uuid", "UUID", "CONCAT('123e4567-e89b-12d3-a456-', LPAD(HEX(n), 12, '0'))" },
    { "an_inet6", "INET6", "CONCAT('fe80::', HEX(n))" },
  },
  mysql = {
    { "a_vector", "VECTOR(3)", "TO_VECTOR(CONCAT('[', n, ', 0.5, -1e10]'))" },
  },
}

local function fill(server)
  local definitions, names, values = {}, {}, {}
  for _, list in ipairs { columns, own_columns[server.flavour] } do
    for _, column in ipairs(list) do
      table.insert(definitions, column[1] .. " " .. column[2])
      table.insert(names, column[1])
      table.insert(values, column[3])
    end
  end
  server:sql(([[
    DROP DATABASE IF EXISTS dumped; CREATE DATABASE dumped; USE dumped;
    CREATE TABLE numbers (n INT PRIMARY KEY);
    INSERT INTO numbers WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 625) SELECT n FROM s;
    INSERT INTO numbers SELECT n + 625 FROM numbers;
    INSERT INTO numbers SELECT n + 1250 FROM numbers;
    INSERT INTO numbers SELECT n + 2500 FROM numbers;
    INSERT INTO numbers SELECT n + 5000 FROM numbers;
    INSERT INTO numbers SELECT n + 10000 FROM numbers;
    CREATE TABLE everything (id INT AUTO_INCREMENT PRIMARY KEY, %s,
      stored_one INT AS (an_int * 2) STORED, virtual_one INT AS (an_int * 3) VIRTUAL, KEY (a_varchar(10)));
    INSERT INTO everything (%s) SELECT %s FROM numbers ORDER BY n;
    INSERT INTO everything (id) VALUES (1000000);
    CREATE TABLE large (id INT PRIMARY KEY, bytes LONGBLOB);
    INSERT INTO large SELECT 1, REPEAT(UNHEX(GROUP_CONCAT(LPAD(HEX(n - 1), 2, '0') ORDER BY n SEPARATOR '')), 81920)
      FROM numbers WHERE n <= 256;
    INSERT INTO large VALUES (2, NULL), (3, '');
    CREATE VIEW seen AS SELECT id, a_varchar FROM everything WHERE a_year > 2000;
    CREATE TRIGGER `counted` BEFORE UPDATE ON numbers FOR EACH ROW SET NEW.n = OLD.n;
    CREATE FUNCTION `twice`(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
  ]]):format(table.concat(definitions, ", "), table.concat(names, ", "), table.concat(values, ", ")))
  server:sql "delimiter //\n\
    CREATE PROCEDURE dumped.`several`() BEGIN SELECT 'a;b' AS c; SELECT COUNT(*) FROM dumped.everything; END//"
end

for _, server in ipairs(servers.all()) do
  describe("a dump, " .. server.name .. " #long", function()
    local proxy

    setup(function()
      proxy = proxies.start { server }
      server:sql "SET GLOBAL log_bin_trust_function_creators = 1"
      fill(server)
    end)

    teardown(function()
      proxy:stop()
      server:sql "DROP DATABASE IF EXISTS dumped; DROP DATABASE IF EXISTS copied;"
    end)

    -- A shell's command for one of the server's programs, logged in at a port.
    local function quoted(name, port, ...)
      local program, args = server:client(name)
      for _, list in ipairs { server.clear_text, server:login(port), { "--max-allowed-packet=1G", ... } } do
        for _, arg in ipairs(list) do
          args[#args + 1] = arg
        end
      end
      return ("'%s' '%s'"):format(program, table.concat(args, "' '"))
    end

    local function dump(port, database)
      local options = { "--single-transaction", "--routines", "--skip-dump-date", database }
      if server.flavour == "mysql" then -- else it flushes tables, which is no reading
        table.insert(options, "--set-gtid-purged=OFF")
      end
      return quoted(server.flavour == "mysql" and "mysqldump" or "mariadb-dump", port, unpack(options))
    end

    local function shell(command)
      local code, _, errors = process.run("bash", { "-c", "set -o pipefail; " .. command })
      assert(code == 0, errors)
    end

    -- The digest of a dump, without the lines that say where it is from. Also its size.
    local function digest(port, database)
      local path = process.path("dump")
      shell(("%s | LC_ALL=C sed '/^-- Host: /d; /^-- Dumping routines/d' >'%s'"):format(dump(port, database), path))
      local result, size = transcripts.digest(path), uv.fs_stat(path).size
      os.remove(path)
      return result, size
    end

    it("has every table, view and routine", function()
      local path = process.path("dump")
      shell(("%s >'%s'"):format(dump(proxy.port, "dumped"), path))
      local _, output = process.run("grep", { "-aoE",
        "(CREATE TABLE|VIEW|TRIGGER|FUNCTION|PROCEDURE) `[a-z]+`|Dump completed", path })
      for _, word in ipairs {
        "TABLE `numbers`", "TABLE `everything`", "TABLE `large`", "VIEW `seen`", "TRIGGER `counted`",
        "FUNCTION `twice`", "PROCEDURE `several`", "Dump completed",
      } do
        assert.truthy(output:find(word, 1, true), word)
      end
      os.remove(path)
    end)

    it("is the same through the proxy, byte for byte", function()
      local direct, size = digest(server.port, "dumped")
      assert.is_true(size > 40e6, ("%d bytes"):format(size))
      assert.equal(direct, (digest(proxy.port, "dumped")))
      assert.equal(direct, (digest(proxy.read_only_port, "dumped")))
    end)

    it("read and loaded through the proxy makes the same database", function()
      server:sql "DROP DATABASE IF EXISTS copied; CREATE DATABASE copied;"
      shell(dump(proxy.port, "dumped") .. " | " .. quoted(nil, proxy.port, "copied"))
      assert.equal("20001", server:sql("SELECT COUNT(*) FROM copied.everything"):match("%d+"))
      assert.equal((digest(server.port, "dumped")), (digest(server.port, "copied")))
    end)
  end)
end
