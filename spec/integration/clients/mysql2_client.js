// npm's mysql2: host, port, user, password, a file of rows. Prints what it sees.
const fs = require("fs");
const mysql = require("mysql2/promise");
const [host, port, user, password, rows] = process.argv.slice(2);
const to = (more) => ({ host, port: Number(port), user, password, multipleStatements: true, ...more });

async function attempt(what, call) {
  try {
    console.log(what.slice(0, 60), JSON.stringify(await call()));
  } catch (error) {
    console.log(what.slice(0, 60), error.code, error.errno, error.sqlState, error.message);
  }
}

async function main() {
  const c = await mysql.createConnection(to());
  const run = (sql, values) => attempt(sql.sql || sql, async () => (await c.query(sql, values))[0]);
  const execute = (sql, values) => attempt("execute " + sql, async () => (await c.execute(sql, values))[0]);

  await c.query("DROP DATABASE IF EXISTS mysql2");
  await run("CREATE DATABASE mysql2 CHARACTER SET utf8mb4; USE mysql2");
  await run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), n DECIMAL(9,2), at DATETIME, b LONGBLOB)");
  await run("INSERT INTO t (name, n) VALUES ?", [Array.from({ length: 500 }, (_, i) => ["Ünï" + i, i / 4])]);
  await run("SELECT * FROM t WHERE id < 4");
  await run("SELECT 1; SELECT 2, 'zwei'; DO 0; SELECT 3 FROM t WHERE id = 0");
  await run("SELECT 1; SELEC 2; SELECT 3");
  await run("SELECT * FROM nowhere");
  await run({ sql: "LOAD DATA LOCAL INFILE ? REPLACE INTO TABLE t (id, name)", values: [rows],
              infileStreamFactory: (path) => fs.createReadStream(path) });
  await run({ sql: "SELECT 1; LOAD DATA LOCAL INFILE ? REPLACE INTO TABLE t (id, name); SELECT 2", values: [rows],
              infileStreamFactory: (path) => fs.createReadStream(path) });
  await run("CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two'; END");
  await run("CALL p(1)");
  for (const id of [1, 2]) await execute("SELECT id, name, n, at, ? AS given FROM t WHERE id = ?", ["x", id]);
  await execute("INSERT INTO t (name, b) VALUES (?, ?)", ["with blob", Buffer.from([0, 255, 254])]);
  await execute("SELECT b, name FROM t WHERE b IS NOT NULL", []);
  await execute("SELECT * FROM nowhere", []);
  await execute("CALL p(?)", [5]);
  const s = await c.prepare("SELECT ? + 1 AS n");
  for (const n of [1, 2]) await attempt("prepared", async () => (await s.execute([n]))[0]);
  await s.close();
  await execute("SELECT (SELECT id FROM t WHERE id > ?) AS more", [0]);

  const large = Buffer.alloc(17000000, "abc");
  await execute("INSERT INTO t (id, b) VALUES (?, ?)", [5000, large]);
  await attempt("large", async () => (await c.query("SELECT b FROM t WHERE id = 5000"))[0][0].b.equals(large));

  await c.beginTransaction();
  await run("DELETE FROM t");
  await c.rollback();
  await run("SELECT COUNT(*) AS n FROM t");

  let count = 0; // rows as they come, with pauses: the server has to wait
  await new Promise((resolve, reject) => {
    const stream = c.connection.query("SELECT a.id, b.name FROM t a JOIN t b WHERE b.id < 100").stream({ highWaterMark: 5 });
    stream.on("data", () => { if (++count % 5000 === 0) { stream.pause(); setImmediate(() => stream.resume()); } });
    stream.on("end", resolve).on("error", reject);
  });
  console.log("stream", count);

  await run("SET @a = 1");
  await attempt("ping", () => c.ping());
  await attempt("reset", () => c.reset()); // COM_RESET_CONNECTION
  await run("SELECT @a AS a, DATABASE() AS d");
  await attempt("changeUser", () => c.changeUser({ user, password, database: "mysql2" })); // with an auth switch
  await run("SELECT DATABASE() AS d, CURRENT_USER() AS u");
  await attempt("changeUser, refused", () => c.changeUser({ user, password: "wrong", database: "mysql2" }));

  const pool = mysql.createPool(to({ database: "mysql2", connectionLimit: 5 }));
  await attempt("pool", () => Promise.all(Array.from({ length: 30 }, async (_, i) =>
    (await pool.query("SELECT ? AS i, SLEEP(0.01) AS s", [i]))[0][0].i)));
  await pool.end();
  await attempt("wrong password", () => mysql.createConnection(to({ password: "wrong" })));
  await attempt("unknown user", () => mysql.createConnection(to({ user: "nobody" })));
  await attempt("unknown database", () => mysql.createConnection(to({ database: "nowhere" })));
  const last = await mysql.createConnection(to());
  await last.query("DROP DATABASE mysql2");
  await last.end();
  console.log("end");
  process.exit(0);
}

main().catch((error) => { console.log(error); process.exit(1); });
