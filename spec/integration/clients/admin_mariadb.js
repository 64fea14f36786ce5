// npm's mariadb at the admin interface: host, port, user, password. Prints what it sees.
const mariadb = require("mariadb");
const [host, port, user, password] = process.argv.slice(2);

async function main() {
  const c = await mariadb.createConnection({
    host, port: Number(port), user, password, database: "proxy", rowsAsArray: true, bigIntAsNumber: true,
  });
  console.log(...(await c.query("SELECT COUNT(*), MIN(backend_ndx), 'ü' FROM backends"))[0]);
  console.log(...(await c.execute("SELECT state FROM backends WHERE backend_ndx = ?", [1]))[0]);
  await c.query("SELECT * FROM nowhere").catch((error) => console.log(error.errno));
  await c.ping();
  await c.end();
  await mariadb.createConnection({ host, port: Number(port), user, password: "wrong" })
    .catch((error) => console.log(error.errno));
}
main();
