# PyMySQL at the admin interface: host, port, user, password. Prints what it sees.
import sys
import pymysql

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
c = pymysql.connect(host=host, port=port, user=user, password=password, database="proxy", charset="utf8mb4")
cur = c.cursor()
cur.execute("SELECT COUNT(*), MIN(backend_ndx), 'ü' FROM backends")
print(*cur.fetchone())
cur.execute("SELECT state FROM backends WHERE backend_ndx = %s", (1,))
print(*cur.fetchone())
try:
    cur.execute("SELECT * FROM nowhere")
except pymysql.MySQLError as error:
    print(error.args[0])
c.commit()
c.ping()
c.close()
try:
    pymysql.connect(host=host, port=port, user=user, password="wrong")
except pymysql.MySQLError as error:
    print(error.args[0])
