-- What the recorder has clients say: functions of a server and the port to talk to it.

local proto = require "mysql.proto"

local process = require "spec.support.process"
local raw = require "spec.support.raw"

local CAPABILITIES, EXTENDED = proto.capabilities, proto.extended_capabilities

-- With the server's own command line --------------------------------------------------------------------------------

local statements = [[
CREATE DATABASE IF NOT EXISTS recorded;
USE recorded;
DROP TABLE IF EXISTS t, u;
CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), price DECIMAL(9,2), at DATETIME, b BLOB)
  ENGINE=InnoDB;
INSERT INTO t (name, price, at, b) VALUES ('one', 1.5, '2020-02-29 12:00:00', x'00ff'), (NULL, NULL, NULL, NULL);
INSERT INTO t SET name = 'it''s \'quoted\'', price = -1e2;
SELECT * FROM t; -- a comment
SELECT /* another */ id, name AS `a name` FROM t WHERE price > 1 ORDER BY id LIMIT 1;
# nothing
/*!50000 SELECT 1 */;
SELECT 1 FROM t WHERE 0;
SELECT * FROM nowhere;
SELEC 1;
INSERT INTO t (id) VALUES (1);
UPDATE t SET price = price + 1 WHERE id < 10;
SELECT CAST('x' AS SIGNED), 1/0;
SHOW WARNINGS;
SHOW VARIABLES LIKE 'version%';
DESCRIBE t;
EXPLAIN SELECT * FROM t;
SELECT REPEAT('x', 300);
SELECT (SELECT 1 UNION SELECT 2);
WITH c AS (SELECT 1 AS n) SELECT n FROM c;
SELECT * FROM t FOR UPDATE;
SELECT 1 INTO @a; SELECT @a, @@version;
SET @b = 2, SESSION sql_mode = '';
BEGIN; DELETE FROM t WHERE id = 2; ROLLBACK;
START TRANSACTION READ ONLY; COMMIT;
PREPARE s FROM 'SELECT ?'; EXECUTE s USING @b; DEALLOCATE PREPARE s;
CREATE TABLE u LIKE t; INSERT INTO u SELECT * FROM t; ALTER TABLE u ADD COLUMN more INT; REPLACE INTO u (id) VALUES (1);
LOCK TABLES t READ; UNLOCK TABLES; TRUNCATE u; KILL 0; HELP 'SELECT'; FLUSH STATUS; DO SLEEP(0);
DROP PROCEDURE IF EXISTS p;
DELIMITER //
CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two' FROM t; IF n > 1 THEN SELECT * FROM nowhere; END IF; END//
CALL p(1)//
CALL p(2)//
SELECT 1; SELECT 2; DO 0; SELECT * FROM t//
SELECT 1; SELEC 2; SELECT 3//
status//
]]

local uploads = [[
LOAD DATA LOCAL INFILE 'rows' INTO TABLE t (id, name)//
SELECT 1; LOAD DATA LOCAL INFILE 'rows' REPLACE INTO TABLE t (id, name); SELECT 2//
LOAD DATA LOCAL INFILE 'rows' INTO TABLE nowhere//
LOAD DATA LOCAL INFILE '/nowhere' INTO TABLE t//
]]

local function command_line(options)
  return function(server, port)
    local program, args = server:client()
    process.write_file(process.folder() .. "/rows", "4\tfour\n5\tfive\n")
    for _, option in ipairs(options) do
      args[#args + 1] = option
    end
    for _, option in ipairs(server.flavour == "mysql" and { "--get-server-public-key", "--ssl-mode=DISABLED" }
      or { "--skip-ssl" }) do
      args[#args + 1] = option
    end
    for _, option in ipairs(server:login(port)) do
      args[#args + 1] = option
    end
    process.run(program, args, {
      input = process.write_file(process.path("sql"), statements .. uploads), cwd = process.folder(),
    })
  end
end

-- With connectors -------------------------------------------------------------------------------------------------

local pymysql = [[
import sys, pymysql
c = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="nopass", password="")
cur = c.cursor()
for sql in ("SELECT 1, NULL, 'é'", "SHOW TABLES FROM recorded", "SELECT NOW(6)",
            "INSERT INTO recorded.t (name) VALUES ('p')"):
    cur.execute(sql)
    cur.fetchall()
c.ping(); c.select_db("test"); c.autocommit(True); c.close()
]]

local mysqli = [[<?php
mysqli_report(MYSQLI_REPORT_OFF);
$c = mysqli_init();
$c->real_connect("127.0.0.1", "nopass", "", "recorded", (int)$argv[1]);
foreach (["SELECT ?, name, price, at, b FROM t", "INSERT INTO t (name) VALUES (?)",
          "SELECT * FROM nowhere WHERE id = ?", "DO ?", "CALL p(?)"] as $sql) {
  foreach ([MYSQLI_CURSOR_TYPE_NO_CURSOR, MYSQLI_CURSOR_TYPE_READ_ONLY] as $cursor) {
    $s = $c->prepare($sql);
    if (!$s) continue;
    $s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, $cursor);
    $n = 1;
    $s->bind_param("i", $n);
    $s->execute();
    do { if ($r = $s->get_result()) while ($r->fetch_row()); } while ($s->more_results() && $s->next_result());
    $s->close();
  }
}
$s = $c->prepare("SELECT LENGTH(?), 1");
$s->bind_param("b", $n);
$s->send_long_data(0, "long");
$s->execute(); $s->store_result(); $s->reset(); $s->close();
$c->multi_query("SELECT 1; SELECT 2, 3; DO 1");
do { if ($r = $c->store_result()) $r->free(); } while ($c->more_results() && $c->next_result());
echo $c->stat();
$c->change_user("nopass", "", "test");
$c->change_user("nobody", "x", "test");
$c->close();
]]

local function connector(program, name, text)
  return function(_, port)
    local code, _, errors = process.run(program, { process.write_file(process.path(name), text), tostring(port) })
    assert(code == 0, errors)
  end
end

-- By hand: what no ordinary client sends ----------------------------------------------------------------------------

local function uint(value, size)
  local bytes = {}
  for i = 1, size do
    bytes[i] = string.char(math.floor(value / 256 ^ (i - 1)) % 256)
  end
  return table.concat(bytes)
end

-- Commands for the statement that was prepared last. Its one parameter is an INT of 5.
local function execute(cursor)
  return function(id)
    return "\23" .. id .. string.char(cursor) .. uint(1, 4) .. "\0\1\3\0" .. uint(5, 4)
  end
end

local function fetch(id)
  return "\28" .. id .. uint(1, 4)
end

local function reset(id)
  return "\26" .. id
end

local function by_hand(capabilities, extended)
  return function(server, port)
    local client = raw.connect(port)
    local attributes = capabilities == CAPABILITIES.CLIENT_QUERY_ATTRIBUTES
    client.extended_capabilities = extended
    client:login("nopass", capabilities)
    local function query(sql)
      return "\3" .. (attributes and "\0\1" or "") .. sql
    end
    local commands = {
      "\2test", query "SELECT 1, 'a'", query "SET @a = 1", query "SELECT 1 WHERE 0", query "SELECT 1; SELECT 2; DO 0",
      query "SELECT POINT(1, 2), 1",
      query "ALTER TABLE recorded.t ENGINE=InnoDB, ADD COLUMN z INT", query "SELEC",
      "\3" .. (attributes and "\2\1\0\1\3\0\1n\254\0\1s" .. uint(7, 4) .. "\3abc" or "") .. "SELECT 'with attributes'",
      server.flavour == "mysql" and query "SET resultset_metadata = NONE" or "\14",
      query "SELECT 1, 'a'", query "SELECT 1 WHERE 0",
      "\22SELECT ?, 'a'", execute(0), execute(0), execute(1), fetch, fetch, reset, fetch,
      "\22CALL recorded.p(?)", execute(0), execute(1), "\22SELECT 1", "\22DO ?", execute(0),
      "\22SELECT * FROM nowhere", "\28" .. uint(99, 4) .. uint(1, 4),
      "\4t\0", "\4nowhere\0", "\9", "\10", "\14", "\27\0\0", "\13", "\99", "\5x", "\31",
      "\17nopass\0\0\0\45\0no_such_plugin\0", "\17nobody\0\0\0\45\0mysql_native_password\0",
    }
    local id
    for _, command in ipairs(commands) do
      command = type(command) == "function" and command(id) or command
      client:send(command)
      local payload, sequence = client:packet(0.3)
      if payload and payload:byte() == 0 and command:byte() == 22 then
        id = payload:sub(2, 5)
      end
      while payload do
        if command:byte() == 17 and payload:byte() == 0xfe then
          client:send("", sequence + 1)
        end
        payload, sequence = client:packet(0.1)
      end
    end
    client:close()
  end
end

local function replica(capabilities)
  return function(_, port)
    local client = raw.connect(port)
    client:login("nopass", capabilities)
    local attributes = capabilities == CAPABILITIES.CLIENT_QUERY_ATTRIBUTES and "\0\1" or ""
    for _, command in ipairs {
      "\3" .. attributes .. "SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'",
      "\21" .. uint(7, 4) .. "\0\0\0" .. uint(0, 10),
      "\18" .. uint(4, 4) .. uint(1, 2) .. uint(7, 4), -- BINLOG_DUMP_NON_BLOCK
      "\18" .. uint(4, 4) .. uint(1, 2) .. uint(7, 4) .. "nowhere",
    } do
      client:send(command)
      while client:packet(0.2) do end
    end
    client:close()
  end
end

return {
  command_line { "--force", "--local-infile=1", "--show-warnings" },
  command_line { "--force", "--local-infile=0", "--skip-column-names" },
  connector("/usr/bin/python3", "pymysql.py", pymysql),
  connector("php", "mysqli.php", mysqli),
  by_hand(0),
  by_hand(CAPABILITIES.CLIENT_DEPRECATE_EOF),
  by_hand(CAPABILITIES.CLIENT_OPTIONAL_RESULTSET_METADATA),
  by_hand(CAPABILITIES.CLIENT_OPTIONAL_RESULTSET_METADATA + CAPABILITIES.CLIENT_DEPRECATE_EOF),
  by_hand(CAPABILITIES.CLIENT_QUERY_ATTRIBUTES),
  by_hand(0, EXTENDED.MARIADB_CLIENT_CACHE_METADATA),
  by_hand(CAPABILITIES.CLIENT_DEPRECATE_EOF, EXTENDED.MARIADB_CLIENT_CACHE_METADATA + EXTENDED.MARIADB_CLIENT_PROGRESS),
  by_hand(0, EXTENDED.MARIADB_CLIENT_EXTENDED_METADATA),
  replica(0),
  replica(CAPABILITIES.CLIENT_DEPRECATE_EOF),
}
