# PyMySQL: host, port, user, password, a file of rows. Prints what it sees.
import sys
import pymysql
from pymysql.constants import CLIENT
from pymysql.cursors import DictCursor, SSCursor

host, port, user, password, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]


def connect(**more):
    return pymysql.connect(host=host, port=port, **{"user": user, "password": password, **more})


def attempt(what, call):
    try:
        print(what, call())
    except pymysql.MySQLError as error:
        print(what, type(error).__name__, error.args)


c = connect(local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS, autocommit=True)
cur = c.cursor()


def run(sql, arguments=None):
    def call():
        affected = cur.execute(sql, arguments)
        answers = [(affected, cur.lastrowid, cur.fetchall())]
        while cur.nextset():
            answers.append((cur.rowcount, cur.lastrowid, cur.fetchall()))
        return answers
    attempt(sql[:60], call)


run("DROP DATABASE IF EXISTS pymysql")
run("CREATE DATABASE pymysql CHARACTER SET utf8mb4")
c.select_db("pymysql")
run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), n DECIMAL(9,2), at DATETIME, b LONGBLOB)")
print(cur.executemany("INSERT INTO t (name, n, at) VALUES (%s, %s, %s)",
                      [("Ünï%d" % i, i / 4, "2026-01-02 03:04:05") for i in range(1000)]), cur.lastrowid)
run("SELECT * FROM t WHERE id < 4")
run("SELECT COUNT(*), SUM(n) FROM t")
run("SELECT 1; SELECT 2, 'zwei'; DO 0; SELECT 3 FROM t WHERE id = 0")
run("SELECT 1; SELEC 2; SELECT 3")
run("SELECT %s, HEX(%s), %s", (None, b"\x00\xff", "'\"\\"))
run("SELECT * FROM nowhere")
run("INSERT INTO t (id) VALUES (1)")
run("LOAD DATA LOCAL INFILE '%s' REPLACE INTO TABLE t (id, name)" % rows)
run("LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE t")
run("SELECT name FROM t WHERE id IN (4, 5)")
run("CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two'; END")
cur.callproc("p", (5,))
print(cur.fetchall(), cur.nextset(), cur.fetchall(), cur.nextset())
c.begin()
run("DELETE FROM t")
c.rollback()
run("SELECT COUNT(*) FROM t")
large = bytes(range(256)) * 70000  # 17.9 MB
print(cur.execute("INSERT INTO t (id, b) VALUES (5000, %s)", (large,)))
cur.execute("SELECT b FROM t WHERE id = 5000")
print(cur.fetchone()[0] == large)
with connect(database="pymysql", cursorclass=SSCursor).cursor() as stream:
    stream.execute("SELECT a.id, b.name FROM t a JOIN t b WHERE a.id <= 300 AND b.id <= 300 ORDER BY 1, b.id")
    print(sum(row[0] + len(row[1]) for row in stream))
with connect(database="pymysql", cursorclass=DictCursor).cursor() as named:
    named.execute("SELECT id, name FROM t WHERE id = 2")
    print(named.fetchall())
print(c.ping(), c.get_autocommit(), c.character_set_name())
c.set_charset("latin1")
run("SELECT 'é', @@character_set_client")
run("SELECT SLEEP(0.1)")
victim = connect()
attempt("COM_PROCESS_KILL", lambda: bool(c.kill(victim.thread_id())))
attempt("wrong password", lambda: connect(password="wrong"))
attempt("unknown user", lambda: connect(user="nobody", password="x"))
attempt("unknown database", lambda: connect(database="nowhere"))
run("DROP DATABASE pymysql")
c.close()
print("end")
