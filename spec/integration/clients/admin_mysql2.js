// npm's mysql2 at the admin interface: host, port, user, password. Prints what it sees.
const mysql = require("mysql2/promise");
const [host, port, user, password] = process.argv.slice(2);

async function main() {
  const c = await mysql.createConnection({ host, port: Number(port), user, password, database: "proxy", rowsAsArray: true });
  console.log(...(await c.query("SELECT COUNT(*), MIN(backend_ndx), 'ü' FROM backends"))[0][0]);
  for (const sql of ["query", "execute", "execute"]) {
    const [rows] = await c[sql]("SELECT state FROM backends WHERE backend_ndx = ?", [1]);
    if (sql === "query") console.log(...rows[0]);
    else if (rows[0][0] !== "unknown") console.log("execute", rows);
  }
  await c.query("SELECT * FROM nowhere").catch((error) => console.log(error.errno));
  await c.ping();
  await c.end();
  await mysql.createConnection({ host, port: Number(port), user, password: "wrong" })
    .catch((error) => console.log(error.errno));
}
main();
