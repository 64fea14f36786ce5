<?php
// PHP mysqli (mysqlnd): host, port, user, password, a file of rows. Prints what it sees.
[, $host, $port, $user, $password, $rows] = $argv;
mysqli_report(MYSQLI_REPORT_OFF);

function connect($user, $password, $database = null) {
  global $host, $port;
  $c = mysqli_init();
  $c->options(MYSQLI_OPT_LOCAL_INFILE, true);
  if (@$c->real_connect($host, $user, $password, $database, (int)$port)) return $c;
  echo "cannot connect: ", mysqli_connect_errno(), " ", mysqli_connect_error(), "\n";
  return null;
}

function show($what, $value) { echo $what, " ", json_encode($value, JSON_INVALID_UTF8_SUBSTITUTE), "\n"; }

function results($c) {
  do {
    $r = $c->store_result();
    show("  result", [$r ? $r->fetch_all() : null, $c->affected_rows, $c->insert_id, $c->warning_count, $c->info,
                      $c->errno, $c->error]);
  } while ($c->more_results() && ($c->next_result() || show("  error", [$c->errno, $c->error])));
}

function run($c, $sql) {
  show("query", substr($sql, 0, 60));
  if ($c->multi_query($sql)) results($c); else show("  error", [$c->errno, $c->sqlstate, $c->error]);
}

$c = connect($user, $password);
show("server", [$c->server_version, $c->protocol_version, strtok($c->stat(), " ")]);
run($c, "DROP DATABASE IF EXISTS mysqli; CREATE DATABASE mysqli CHARACTER SET utf8mb4");
show("select_db", [$c->select_db("mysqli"), $c->select_db("nowhere"), $c->errno, $c->error]);
run($c, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), n DECIMAL(9,2), at DATETIME, b LONGBLOB)");
run($c, "INSERT INTO t (name, n, at) VALUES ('one', 1.5, '2026-01-02 03:04:05'), ('zwei', NULL, NULL), ('Ünï', 3, NOW())");
run($c, "SELECT 1; SELECT id, name, n FROM t; DO 1; SELECT 1 FROM t WHERE id = 0");
run($c, "SELECT 1; SELEC 2; SELECT 3");
run($c, "SELECT * FROM nowhere");
run($c, "LOAD DATA LOCAL INFILE '$rows' REPLACE INTO TABLE t (id, name)");
run($c, "SELECT 1; LOAD DATA LOCAL INFILE '$rows' REPLACE INTO TABLE t (id, name)"); // mysqlnd would lose a third
run($c, "CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT id, name FROM t WHERE id < n; END");
run($c, "CALL p(3)");

// Prepared statements, with and without a cursor.
foreach (["SELECT id, name, n, at, ? FROM t ORDER BY id", "INSERT INTO t (name) VALUES (?)", "SELECT id FROM t WHERE id = ? + 99",
          "SELECT * FROM nowhere WHERE id = ?", "SELECT (SELECT id FROM t) + ?", "CALL p(?)"] as $sql) {
  foreach ([MYSQLI_CURSOR_TYPE_NO_CURSOR, MYSQLI_CURSOR_TYPE_READ_ONLY] as $cursor) {
    show("prepare", [$sql, $cursor]);
    $s = $c->prepare($sql);
    if (!$s) { show("  error", [$c->errno, $c->error]); continue; }
    if ($cursor && strpos($sql, "SELECT (") === 0) continue; // mysqlnd would wait for ever, also without a proxy
    $s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, $cursor);
    foreach ([2, 3] as $n) {
      $s->bind_param("i", $n);
      if (!$s->execute()) { show("  error", [$s->errno, $s->error]); continue; }
      do {
        $r = $s->get_result();
        $all = [];
        while ($r && ($row = $r->fetch_row())) { unset($row[3]); $all[] = $row; }
        show("  result", [$all, $s->affected_rows, $s->insert_id, $s->errno, $s->error]);
      } while ($s->more_results() && $s->next_result());
    }
    $s->close();
  }
}

// A cursor read one row at a time: COM_STMT_FETCH.
$s = $c->prepare("SELECT a.id, b.name FROM t a, t b ORDER BY 1, b.id");
$s->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
$s->execute();
$s->bind_result($id, $name);
for ($sum = 0, $count = 0; $s->fetch(); $count++) $sum += $id + strlen($name);
show("cursor", [$count, $sum]);
$s->close();

// Long data, in pieces: one of them does not fit into one packet.
$s = $c->prepare("INSERT INTO t (id, b) VALUES (?, ?)");
$id = 100;
$s->bind_param("ib", $id, $null);
foreach (["first", str_repeat("x", 17000000), "last"] as $piece) $s->send_long_data(1, $piece);
show("long data", [$s->execute(), $s->affected_rows, $s->error]);
$s->reset();
run($c, "SELECT LENGTH(b), LEFT(b, 7), RIGHT(b, 6), SHA2(b, 256) FROM t WHERE id = 100");

// Unbuffered.
$c->real_query("SELECT a.id FROM t a, t b, t c, t d ORDER BY 1");
$r = $c->use_result();
for ($sum = 0, $count = 0; $row = $r->fetch_row(); $count++) $sum += $row[0];
show("unbuffered", [$count, $sum]);
$r->free();

// Asynchronous.
$c->query("SELECT SLEEP(0.1), 'async'", MYSQLI_ASYNC);
do { $read = $error = $reject = [$c]; } while (!mysqli_poll($read, $error, $reject, 10));
show("async", $c->reap_async_query()->fetch_row());

$c->begin_transaction();
run($c, "DELETE FROM t");
$c->rollback();
run($c, "SET @a = 1; SELECT COUNT(*), @a FROM t");

// COM_CHANGE_USER.
show("change_user", [$c->change_user($user, $password, "mysqli"), $c->errno]);
run($c, "SELECT @a, DATABASE(), CURRENT_USER()");
show("change_user, refused", [@$c->change_user($user, "wrong", "mysqli"), $c->errno, $c->error]);
$c->close();
$c = connect($user, $password);
show("change_user, no such database", [@$c->change_user($user, $password, "nowhere"), $c->errno, $c->error]);
$c->close();

connect($user, "wrong");
connect("nobody", "x");
connect($user, $password, "nowhere");
$c = connect($user, $password, "mysqli");
$c->kill($c->thread_id);
run($c, "SELECT 1");
$c = connect($user, $password);
run($c, "DROP DATABASE mysqli");
$c->close();
echo "end\n";
