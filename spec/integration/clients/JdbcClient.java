// MariaDB Connector/J: host, port, user, password, a file of rows. Prints what it sees.
import java.sql.*;
import java.util.Arrays;

class JdbcClient {
  static Connection c;

  static void show(ResultSet r) throws SQLException {
    int columns = r.getMetaData().getColumnCount();
    while (r.next()) {
      StringBuilder row = new StringBuilder("  row");
      for (int i = 1; i <= columns; i++) row.append(' ').append(r.getString(i));
      System.out.println(row);
    }
  }

  static void results(Statement s, boolean rows) throws SQLException {
    while (true) {
      if (rows) show(s.getResultSet());
      else if (s.getUpdateCount() == -1) break;
      else System.out.println("  affected " + s.getUpdateCount());
      rows = s.getMoreResults();
    }
  }

  static String text(SQLException e) {
    return e.getErrorCode() + " " + e.getSQLState() + " " + e.getMessage().replaceAll("\\(conn=\\d+\\) ", "");
  }

  static void run(String sql) {
    System.out.println(sql.substring(0, Math.min(60, sql.length())));
    try (Statement s = c.createStatement()) {
      results(s, s.execute(sql));
    } catch (SQLException e) {
      System.out.println("  " + text(e));
    }
  }

  static void prepared(String sql, int fetchSize, Object... values) {
    System.out.println("prepared " + sql + " " + fetchSize);
    try (PreparedStatement s = c.prepareStatement(sql)) {
      s.setFetchSize(fetchSize);
      for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
      results(s, s.execute());
    } catch (SQLException e) {
      System.out.println("  " + text(e));
    }
  }

  static Connection open(String[] at, String user, String password, String more) throws SQLException {
    return DriverManager.getConnection("jdbc:mariadb://" + at[0] + ":" + at[1] + "/" + more, user, password);
  }

  static void refused(String[] at, String user, String password, String more) {
    try {
      open(at, user, password, more).close();
      System.out.println("  not refused");
    } catch (SQLException e) {
      System.out.println("  refused " + text(e).replaceAll("port=\\d+", ""));
    }
  }

  static void work() throws SQLException {
    run("DROP TABLE IF EXISTS t");
    run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), n DECIMAL(9,2), b LONGBLOB)");
    try (PreparedStatement s = c.prepareStatement("INSERT INTO t (name, n) VALUES (?, ?)", 1)) {
      for (int i = 0; i < 1000; i++) {
        s.setString(1, "Ünï" + i);
        s.setDouble(2, i / 4.0);
        s.addBatch();
      }
      System.out.println("batch " + Arrays.stream(s.executeBatch()).filter(n -> n == 1 || n == -2).count());
    }
    run("SELECT COUNT(*), SUM(n) FROM t");
    run("SELECT 1; SELECT 2, 'zwei'; DO 0; SELECT 3 FROM t WHERE id = 0");
    run("SELECT 1; SELEC 2; SELECT 3");
    run("SELECT * FROM nowhere");
    prepared("SELECT id, name, n FROM t WHERE id < ?", 0, 4);
    prepared("SELECT id, name, n FROM t WHERE id < ?", 2, 8);
    prepared("SELECT * FROM nowhere WHERE id = ?", 0, 1);
    prepared("SELECT (SELECT id FROM t WHERE id > ?)", 0, 1);
    run("DROP PROCEDURE IF EXISTS p");
    run("CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two'; END");
    prepared("CALL p(?)", 0, 5);
    byte[] large = new byte[17000000];
    Arrays.fill(large, (byte) 7);
    try (PreparedStatement s = c.prepareStatement("INSERT INTO t (id, b) VALUES (5000, ?)")) {
      s.setBytes(1, large);
      System.out.println("large " + s.executeUpdate());
    }
    try (ResultSet r = c.createStatement().executeQuery("SELECT b FROM t WHERE id = 5000")) {
      r.next();
      System.out.println("large " + Arrays.equals(large, r.getBytes(1)));
    }
    c.setAutoCommit(false);
    run("DELETE FROM t");
    c.rollback();
    c.setAutoCommit(true);
    run("SELECT COUNT(*) FROM t");
    try (Statement s = c.createStatement()) { // rows as they come
      s.setFetchSize(10);
      ResultSet r = s.executeQuery("SELECT a.id FROM t a JOIN t b WHERE b.id < 20");
      int count = 0;
      while (r.next()) count++;
      System.out.println("stream " + count);
    }
    System.out.println("valid " + c.isValid(5) + " " + c.getCatalog());
  }

  public static void main(String[] at) throws SQLException {
    String more = "?allowMultiQueries=true&allowPublicKeyRetrieval=true";
    try (Connection first = open(at, at[2], at[3], more)) {
      first.createStatement().execute("CREATE DATABASE IF NOT EXISTS jdbc CHARACTER SET utf8mb4");
    }
    // Statements prepared by the client; by the server; in bulk; without pipelining.
    for (String way : new String[] {"", "&useServerPrepStmts=true", "&useBulkStmts=true", "&usePipelineAuth=false",
                                    "&rewriteBatchedStatements=true"}) {
      System.out.println("== " + way);
      c = open(at, at[2], at[3], "jdbc" + more + way);
      work();
      c.close();
    }
    refused(at, at[2], "wrong", more);
    refused(at, "nobody", "x", more);
    refused(at, at[2], at[3], "nowhere" + more);
    c = open(at, at[2], at[3], more);
    run("DROP DATABASE jdbc");
    c.close();
    System.out.println("end");
  }
}
