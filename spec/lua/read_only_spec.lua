local read_only = require "mysql-proxy.read_only"

local reading = [[
SELECT 1
select * from t where a = 'delete from t'
SELECT `update`, t.delete FROM t
SELECT replace(a, 'x', 'y'), insert('abc', 1, 1, 'x') FROM t
SELECT 1;
SELECT 1; SELECT 2
;
SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1
SELECT a INTO @a FROM t
(SELECT 1) UNION (SELECT 2)
((SELECT 1))
WITH a AS (SELECT 1) SELECT * FROM a
WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 2) SELECT * FROM a
VALUES ROW(1, 2)
TABLE t ORDER BY a
SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`
/*!40101 SET NAMES utf8 */
/*!40103 SET TIME_ZONE='+00:00' */
SELECT 1 /* FOR UPDATE */
SELECT 1 -- FOR UPDATE
SELECT 1 # FOR UPDATE
SELECT "it''s", 'a "quoted" one'
SELECT 'it\'s'
SELECT 1 -1, 2--1
SELECT _utf8'x', N'y', x'41', b'1', 0x41
SELECT 'é', 'ü'
SELECT `中`, `é`, "中" FROM `中`.`表` WHERE à = 'x' -- 中
SELECT 1.5, 1e5, .5, 1., t.1e FROM t WHERE a IN (1, -2, 3) AND b IN ('x', 'y''z', 'it\'s')
PREPARE s FROM 'SELECT prepared FROM t'
SELECT @a := 1, @@version, @@session.autocommit
SHOW TABLES
SHOW CREATE TABLE t
SHOW FULL PROCESSLIST
SHOW VARIABLES LIKE 'tx%'
SHOW GRANTS
SHOW WARNINGS
DESCRIBE t
DESC t
EXPLAIN SELECT 1
EXPLAIN UPDATE t SET a = 1
EXPLAIN FORMAT=JSON DELETE FROM t
EXPLAIN ANALYZE SELECT 1
EXPLAIN ANALYZE FORMAT=TREE SELECT 1
ANALYZE SELECT 1
ANALYZE FORMAT=JSON SELECT 1
HELP 'update'
USE test
SET NAMES utf8mb4
SET NAMES utf8mb4 COLLATE utf8mb4_bin
SET CHARACTER SET utf8
SET @a = 1
SET @a = 1, @b = (SELECT 2)
SET autocommit = 0
SET SESSION sql_mode = 'ANSI'
SET @@session.time_zone = '+00:00'
SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO'
SET @x = @@transaction_read_only
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ
SET TRANSACTION READ ONLY
SET ROLE NONE
SET STATEMENT max_statement_time=1 FOR SELECT 1
BEGIN
BEGIN WORK
START TRANSACTION
START TRANSACTION READ ONLY
START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY
START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */
COMMIT
COMMIT AND CHAIN
ROLLBACK
ROLLBACK TO SAVEPOINT a
SAVEPOINT a
RELEASE SAVEPOINT a
PREPARE s FROM 'SELECT ?'
EXECUTE s USING @a
EXECUTE s
DEALLOCATE PREPARE s
DO SLEEP(0)
HANDLER t READ FIRST
KILL QUERY 7
kill /* Ctrl-C */ query 7;
UNLOCK TABLES
CHECKSUM TABLE t
]]

local writing = [[
INSERT INTO t VALUES (1)
insert t values (1)
INSERT INTO t SELECT 1
REPLACE INTO t VALUES (1)
UPDATE t SET a = 1
DELETE FROM t
TRUNCATE t
TRUNCATE TABLE t
CREATE TABLE x (a INT)
CREATE TEMPORARY TABLE x (a INT)
CREATE USER x
DROP TABLE t
DROP PREPARE s
ALTER TABLE t ADD b INT
RENAME TABLE t TO u
GRANT ALL ON *.* TO x
REVOKE ALL ON *.* FROM x
LOAD DATA LOCAL INFILE 'x' INTO TABLE t
LOAD XML INFILE 'x' INTO TABLE t
IMPORT TABLE FROM 'x'
CALL p()
LOCK TABLES t WRITE
LOCK TABLES t READ
LOCK INSTANCE FOR BACKUP
FLUSH TABLES
FLUSH TABLES WITH READ LOCK
RESET MASTER
KILL 1
KILL CONNECTION 1
KILL QUERY
KILL QUERY USER x
KILL QUERY @a
SHUTDOWN
OPTIMIZE TABLE t
REPAIR TABLE t
CHECK TABLE t
ANALYZE TABLE t
ANALYZE LOCAL TABLE t
ANALYZE UPDATE t SET a = 1
ANALYZE FORMAT=JSON DELETE FROM t
EXPLAIN ANALYZE UPDATE t, u SET t.a = 1
EXPLAIN ANALYZE DELETE t FROM t, u
EXPLAIN FORMAT=TREE ANALYZE DELETE FROM t
XA START 'a'
BINLOG 'x'
CHANGE MASTER TO MASTER_HOST = 'x'
START SLAVE
START REPLICA
STOP SLAVE
INSTALL PLUGIN x SONAME 'y'
UNINSTALL PLUGIN x
CLONE LOCAL DATA DIRECTORY = 'x'
SELECT * FROM t FOR UPDATE
SELECT * FROM t FOR UPDATE SKIP LOCKED
SELECT * FROM t FOR SHARE
SELECT * FROM t LOCK IN SHARE MODE
SELECT * FROM (SELECT * FROM t FOR UPDATE) x
(SELECT * FROM t) FOR UPDATE
SELECT * INTO OUTFILE '/tmp/x' FROM t
SELECT * FROM t INTO DUMPFILE '/tmp/x'
TABLE t INTO OUTFILE '/tmp/x'
SELECT NEXTVAL(s)
SELECT NEXT VALUE FOR s
SELECT SETVAL(s, 1)
WITH a AS (SELECT 1) UPDATE t SET a = 1
WITH a AS (SELECT 1) DELETE FROM t
WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a
(UPDATE t SET a = 1)
SELECT 1; DELETE FROM t
SELECT 1;; DELETE FROM t
BEGIN; DELETE FROM t
/* c */ DELETE FROM t
/**/DELETE FROM t
-- c
DELETE/**/FROM t
/*! DELETE FROM t */
/*!50000 DELETE */ FROM t
/*!500000 DELETE */ FROM t
/*M! DELETE FROM t */
/*M!100000 DELETE FROM t */
/*!50000 DELETE FROM t; */ SELECT 1
SELECT 1 /*! INTO OUTFILE '/tmp/x' */
SELECT 1 /*!99999 ; */ INTO OUTFILE '/tmp/x'
/*!99999 SELECT */ /*!50000 DELETE */ FROM t
/*!99999 SELECT 1 */ DELETE FROM t
SELECT 1 /*! FOR */ UPDATE
/*! /*! SELECT 1 */ */
/* /* */ DELETE FROM t
SELECT '\'; DELETE FROM t; -- '
SELECT "\"; DELETE FROM t; -- "
SELECT "\" FOR UPDATE -- "
SET GLOBAL a = 1
SET PERSIST a = 1
SET PERSIST_ONLY a = 1
SET @@global.a = 1
SET @@GLOBAL . a = 1
SET @@persist.a = 1
SET a = 1, GLOBAL b = 2
SET PASSWORD = 'x'
SET PASSWORD FOR x = 'y'
SET DEFAULT ROLE x TO y
SET RESOURCE GROUP x
SET @a = 1, PASSWORD = PASSWORD('x')
SET @a = (SELECT 1), DEFAULT ROLE x
SELECT 1 /*!99999 ' */; DELETE FROM t; -- '*/
SELECT 1 /*!99999 " */; DELETE FROM t; -- "*/
SELECT 1 /*!99999 ` */; DELETE FROM t; -- `*/
SELECT 1 /*!99999 -- */; DELETE FROM t
SELECT 1 /*!99999 # */; DELETE FROM t
SELECT 1 /*!99999 /* */ ' */; DELETE FROM t; -- '*/
SELECT * FROM t WHERE a > 1e0FOR SHARE
SELECT * FROM t WHERE a > 1.FOR SHARE
SELECT * FROM t WHERE a > .5FOR SHARE
SELECT 1, 2, 3 FROM t WHERE a IN ('a', 'b') FOR UPDATE
SET STATEMENT a=1 FOR SET STATEMENT b=1 FOR SELECT 1
PREPARE s FROM 'PREPARE t FROM ''SELECT 1'''
SET transaction_read_only = 0
SET TRANSACTION_READ_ONLY = OFF
SET SESSION transaction_read_only = 0
SET LOCAL transaction_read_only = 0
SET @@transaction_read_only = 0
SET @@session.transaction_read_only = 0
SET @@session.`transaction_read_only` = 0
SET @@local.tx_read_only := 0
SET tx_read_only = 0
SET `tx_read_only` = 0
SET x = 1, tx_read_only = 0
SET @a = (SELECT 1, 2), tx_read_only = 0
SET autocommit = 1, SESSION/**/tx_read_only/**/=/**/0
SET TRANSACTION READ WRITE
SET SESSION TRANSACTION READ WRITE
SET LOCAL TRANSACTION READ WRITE
SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE
SET GLOBAL TRANSACTION READ WRITE
SET GLOBAL TRANSACTION READ ONLY
SET SESSION TRANSACTION /*! READ WRITE */
SET STATEMENT max_statement_time=1 FOR DELETE FROM t
SET STATEMENT tx_read_only=0 FOR SELECT 1
SET STATEMENT a=1
SET @a = (SELECT 1 FROM t FOR UPDATE)
START TRANSACTION READ WRITE
START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE
BEGIN NOT ATOMIC DELETE FROM t; END
BEGIN SELECT 1; END
DECLARE a INT
PREPARE s FROM 'DELETE FROM t'
PREPARE s FROM "DELETE FROM t"
PREPARE s FROM 'DEL' 'ETE FROM t'
PREPARE s FROM @a
PREPARE s FROM CONCAT('DEL', 'ETE')
PREPARE s FROM 'SELECT \'a\''
EXECUTE IMMEDIATE 'DELETE FROM t'
EXECUTE IMMEDIATE @a
DO NEXTVAL(s)
RELEASE ALL
'DELETE'
`DELETE` FROM t
1
]]

describe("the read-only check", function()
  for statement in reading:gmatch("[^\n]+") do
    it("lets through " .. statement, function()
      assert.is_true(read_only.check(statement))
    end)
  end

  for statement in writing:gmatch("[^\n]+") do
    if not statement:match("^%-%- ") then
      it("refuses " .. statement, function()
        local ok, reason = read_only.check(statement)
        assert.is_nil(ok)
        assert.is_string(reason)
      end)
    end
  end

  it("ends a # or -- comment at the end of its line", function()
    assert.is_true(read_only.check("# c\nSELECT 1 -- d\n, 2"))
    assert.is_nil(read_only.check("# c\nDELETE FROM t"))
    assert.is_nil(read_only.check("-- c\nDELETE FROM t"))
    assert.is_nil(read_only.check("--\nDELETE FROM t"))
    assert.is_nil(read_only.check("SELECT 1 # '\n; DELETE FROM t # '"))
    assert.is_nil(read_only.check("SELECT 1 -- '\n; DELETE FROM t -- '"))
  end)

  it("knows that --x is no comment", function()
    assert.is_nil(read_only.check("SELECT 1 --1 FOR UPDATE"))
  end)

  it("refuses a backslash that may be half a character before a quote", function()
    assert.is_nil(read_only.check("SELECT '\191\\'; DELETE FROM t; -- '"))
    assert.is_nil(read_only.check("SELECT '\191\\\\'; DELETE FROM t; -- '"))
  end)

  -- Which the server takes for a space, or for half of a character, is a matter of the session's character set.
  it("refuses what a byte above 127 may hide", function()
    for _, text in ipairs {
      "SET SESSION\160TRANSACTION\160READ\160WRITE",
      "SET SESSION\255TRANSACTION\255READ\255WRITE",
      "SELECT 1 INTO\160OUTFILE\160'/tmp/x'",
      "WITH a AS (SELECT 1) \160DELETE FROM t",
      "SELECT * FROM a.\255\160FOR SHARE",
      "SELECT 1 --\160'\n; DELETE FROM t; -- '",
      "SELECT 1 --\129'\n; DELETE FROM t; -- '",
      "SELECT 1 AS \129`; DELETE FROM t; -- `", -- gbk
      "SELECT 1 AS `\129`; DELETE FROM t; -- `",
      "SELECT 1 AS \161\129`; DELETE FROM t; -- `",
      "SELECT 1 AS \129\161`; DELETE FROM t; -- `", -- big5
      "SELECT 1 AS \161\224`; DELETE FROM t; -- `", -- sjis
    } do
      local ok, reason = read_only.check(text)
      assert.is_nil(ok, text)
      assert.is_string(reason)
    end
  end)

  local function seconds(sql)
    local begun = os.clock()
    local ok = read_only.check(sql)
    return os.clock() - begun, ok
  end

  it("looks at a long list in little time", function()
    local took, ok = seconds("SELECT * FROM t WHERE a IN (1" .. (", 1"):rep(1000000) .. ")")
    assert.is_true(ok)
    assert.is_true(took < 5)
  end)

  it("refuses what would keep others waiting for long", function()
    local nested = "SELECT 1"
    for _ = 1, 7 do
      nested = ("/*!*/"):rep(4) .. "PREPARE s FROM '" .. nested:gsub("'", "''") .. "'"
    end
    for _, text in ipairs {
      nested,
      ("SET STATEMENT a=1 FOR "):rep(50000) .. "SELECT 1",
      "SELECT 1" .. ("+1"):rep(1000000),
      "SELECT '\\\\" .. ("x"):rep(32 * 1024 * 1024) .. "'" .. ("/*!*/"):rep(4),
    } do
      local took, ok = seconds(text)
      assert.is_nil(ok)
      assert.is_true(took < 5)
    end
  end)

  it("refuses NUL bytes outside of strings, and survives unfinished text", function()
    assert.is_nil(read_only.check("\0DELETE FROM t"))
    assert.is_nil(read_only.check("\0"))
    for _, text in ipairs { "'", '"', "`", "/*", "SELECT 'a", "SELECT `a", "SELECT 1 /*", "/*!", "*/", "\\", "'\\" } do
      assert.has_no.errors(function()
        read_only.check(text)
      end)
    end
  end)

  it("refuses more version comments than it can try all readings of", function()
    assert.is_true(read_only.check("SELECT 1 " .. ("/*! + 1 */"):rep(4)))
    assert.is_nil(read_only.check("SELECT 1 " .. ("/*! + 1 */"):rep(5)))
  end)

  it("lets commands through that cannot write", function()
    for _, command in ipairs { 1, 2, 4, 14, 17, 23, 28, 31, 250 } do
      assert.is_true(read_only.command_allowed(command))
    end
    for _, command in ipairs { 0, 5, 6, 7, 8, 12, 13, 16, 18, 21, 29, 30, 32, 33, 255 } do
      assert.is_false(read_only.command_allowed(command))
    end
  end)
end)
