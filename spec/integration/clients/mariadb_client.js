// npm's mariadb, which pipelines: host, port, user, password, a file of rows. Prints what it sees.
const mariadb = require("mariadb");
const [host, port, user, password, rows] = process.argv.slice(2);
const to = (more) => ({ host, port: Number(port), user, password, multipleStatements: true, permitLocalInfile: true,
                        allowPublicKeyRetrieval: true, ...more });

const plain = (_, value) => (typeof value === "bigint" ? value.toString() : value);
const text = (error) => error.sqlMessage || error.message.replace(/conn:-?\d+|after \d+ms/g, "");

async function attempt(what, call) {
  try {
    console.log(what.slice(0, 60), JSON.stringify(await call(), plain));
  } catch (error) {
    console.log(what.slice(0, 60), error.code, error.errno, error.sqlState, text(error));
  }
}

async function main() {
  const c = await mariadb.createConnection(to());
  const run = (sql, values) => attempt(sql.sql || sql, () => c.query(sql, values));
  const execute = (sql, values) => attempt("execute " + sql, () => c.execute(sql, values));

  await c.query("DROP DATABASE IF EXISTS npm_mariadb");
  await run("CREATE DATABASE npm_mariadb CHARACTER SET utf8mb4; USE npm_mariadb");
  await run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), n DECIMAL(9,2), b LONGBLOB)");
  await attempt("batch", () => c.batch("INSERT INTO t (name, n) VALUES (?, ?)", // COM_STMT_BULK_EXECUTE on MariaDB
    Array.from({ length: 2000 }, (_, i) => ["Ünï" + i, i % 7 ? i / 4 : null])));
  await attempt("batch, refused", () => c.batch("INSERT INTO t (id, name) VALUES (?, ?)", [[9001, "a"], [1, "b"], [9002, "c"]]));
  await attempt("batch, updates", () => c.batch("UPDATE t SET n = ? WHERE id = ?", [[1, 1], [2, 2], [3, 99999]]));
  await run("SELECT * FROM t WHERE id < 4");
  await run("SELECT COUNT(*) AS c, SUM(n) AS s FROM t");
  await run("SELECT 1; SELECT 2, 'zwei'; DO 0; SELECT 3 FROM t WHERE id = 0");
  await run("SELECT 1; SELEC 2; SELECT 3");
  await run(`LOAD DATA LOCAL INFILE '${rows}' REPLACE INTO TABLE t (id, name)`);
  await run("LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE t");
  await run("CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two'; END");
  await run("CALL p(1)");

  // Pipelined: sent at once, answered in order, an error among them.
  const sqls = Array.from({ length: 300 }, (_, i) => (i === 150 ? "SELEC" : `SELECT ${i} AS i, REPEAT('x', ${i * 10}) AS x`));
  await attempt("pipeline", async () => (await Promise.allSettled(sqls.map((sql) => c.query(sql))))
    .map((r, i) => (r.status === "rejected" ? r.reason.errno : r.value[0].i === i && r.value[0].x.length === i * 10)));
  await attempt("pipeline of prepared", async () => (await Promise.allSettled(Array.from({ length: 50 }, (_, i) =>
    c.execute(i % 10 ? "SELECT ? AS i" : "SELECT ?, nothing AS i", [i])))).map((r) => (r.reason ? r.reason.errno : r.value[0].i)));

  for (const id of [1, 2]) await execute("SELECT id, name, n, ? AS given FROM t WHERE id = ?", ["x", id]);
  await execute("SELECT * FROM nowhere", []);
  await execute("SELECT (SELECT id FROM t WHERE id > ?) AS more", [0]);
  await execute("CALL p(?)", [5]);
  const s = await c.prepare("SELECT ? + 1 AS n, CAST(? AS JSON) IS NULL").catch(() => c.prepare("SELECT ? + 1 AS n, ? AS x"));
  for (const n of [1, 2]) await attempt("prepared", () => s.execute([n, "{}"]));
  s.close();

  const large = Buffer.alloc(17000000, "abc");
  await execute("INSERT INTO t (id, b) VALUES (?, ?)", [50000, large]);
  await attempt("large", async () => (await c.query("SELECT b FROM t WHERE id = 50000"))[0].b.equals(large));

  await c.beginTransaction();
  await run("DELETE FROM t");
  await c.rollback();
  let count = 0;
  for await (const row of c.queryStream("SELECT a.id, b.name FROM t a JOIN t b WHERE b.id < 20")) count += row.name ? 1 : 0;
  console.log("stream", count);

  await run("SET @a = 1");
  await attempt("ping", () => c.ping());
  await attempt("reset", () => c.reset()); // COM_RESET_CONNECTION
  await run("SELECT @a AS a, DATABASE() AS d");
  await c.end();
  // COM_CHANGE_USER, of which the connector makes a wrong packet if it has not logged in with a database.
  const d = await mariadb.createConnection(to({ database: "npm_mariadb" }));
  const who = () => attempt("who", () => d.query("SELECT DATABASE() AS d, CURRENT_USER() AS u"));
  await attempt("changeUser", () => d.changeUser({ user, password, database: "npm_mariadb" }));
  await who();
  // On MariaDB to an account of another plugin: an auth switch in the middle.
  await attempt("changeUser, switch", () => d.changeUser({ user: "ed", password: "secret", database: "npm_mariadb" }));
  await who();
  await d.end();

  const pool = mariadb.createPool(to({ database: "npm_mariadb", connectionLimit: 5, resetAfterUse: true }));
  await attempt("pool", () => Promise.all(Array.from({ length: 30 }, async (_, i) =>
    (await pool.query("SELECT ? AS i, SLEEP(0.01) AS s", [i]))[0].i)));
  await pool.end();
  await attempt("wrong password", () => mariadb.createConnection(to({ password: "wrong" })));
  await attempt("unknown user", () => mariadb.createConnection(to({ user: "nobody" })));
  await attempt("unknown database", () => mariadb.createConnection(to({ database: "nowhere" })));
  const last = await mariadb.createConnection(to());
  await last.query("DROP DATABASE npm_mariadb");
  await last.end();
  console.log("end");
  process.exit(0);
}

main().catch((error) => { console.log(error); process.exit(1); });
