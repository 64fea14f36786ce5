-- What a person types into a command line client. Statements end with // so that several can be sent as one.
DROP DATABASE IF EXISTS cli//
CREATE DATABASE cli CHARACTER SET utf8mb4//
USE cli
CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), price DECIMAL(9,2), at DATETIME, b VARBINARY(20))//
INSERT INTO t (name, price, at, b) VALUES ('Ünï', 1.50, '2026-01-02 03:04:05', 0x00ff10), ('two', NULL, NULL, NULL)//
SELECT * FROM t//
SELECT 1; SELECT 'two', 2; INSERT INTO t (name) VALUES ('three'); SELECT COUNT(*) FROM t//
SELECT 1; SELEC 2; SELECT 3//
SELECT * FROM nowhere//
INSERT INTO t (id) VALUES (1)//
UPDATE t SET price = price + 1 WHERE price IS NOT NULL//
DELETE FROM t WHERE id = 99//
SELECT 1 / 0, CAST('x' AS UNSIGNED)//
SHOW WARNINGS//
CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, name FROM t ORDER BY id; END//
CALL p(1)//
CALL p(1); SELECT 'after'//
CREATE PROCEDURE q() BEGIN SELECT 'first'; SELECT * FROM nowhere; END//
CALL q()//
PREPARE s FROM 'SELECT ?, ? + 1'//
SET @a = 'x', @b = 2//
EXECUTE s USING @a, @b//
DEALLOCATE PREPARE s//
BEGIN; INSERT INTO t (name) VALUES ('gone'); ROLLBACK; SELECT COUNT(*) FROM t//
SELECT LENGTH(REPEAT('x', 20000000)), REPEAT('y', 70000)//
SELECT NULL, '', ' ', 0x41, b'1', TRUE, 1.0e10, NOW() > '2020-01-01'//
SELECT @init//
SHOW CREATE TABLE t//
DESCRIBE t//
EXPLAIN SELECT * FROM t WHERE id = 1//
CHECK TABLE t; ANALYZE TABLE t//
LOAD DATA LOCAL INFILE '@FILE@' INTO TABLE t (id, name)//
SELECT 1; LOAD DATA LOCAL INFILE '@FILE@' REPLACE INTO TABLE t (id, name); SELECT COUNT(*) FROM t//
LOAD DATA LOCAL INFILE '@FILE@' INTO TABLE nowhere//
LOAD DATA LOCAL INFILE '/nowhere' INTO TABLE t//
SELECT id, name FROM t ORDER BY id//
help contents//
help SELECT//
use nowhere
resetconnection//
SELECT @a, DATABASE()//
use cli
DROP DATABASE cli//
