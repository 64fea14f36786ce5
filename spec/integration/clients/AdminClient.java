// MariaDB Connector/J at the admin interface: host, port, user, password. Prints what it sees.
import java.sql.*;

class AdminClient {
  static Connection connect(String[] a, String password, String more) throws SQLException {
    return DriverManager.getConnection("jdbc:mariadb://" + a[0] + ":" + a[1] + "/proxy?" + more, a[2], password);
  }

  public static void main(String[] a) throws SQLException {
    System.setOut(new java.io.PrintStream(System.out, true, java.nio.charset.StandardCharsets.UTF_8));
    try (Connection c = connect(a, a[3], "")) {
      ResultSet r = c.createStatement().executeQuery("SELECT COUNT(*), MIN(backend_ndx), 'ü' FROM backends");
      r.next();
      System.out.println(r.getInt(1) + " " + r.getInt(2) + " " + r.getString(3));
      try {
        c.createStatement().executeQuery("SELECT * FROM nowhere");
      } catch (SQLException e) {
        if (e.getErrorCode() != 1146) throw e;
      }
      c.getMetaData().getTables(null, null, null, null).close();
    } catch (SQLSyntaxErrorException e) {
      if (!e.getMessage().contains("near")) throw e; // its look at the tables is more than one table
    }
    try (Connection c = connect(a, a[3], "useServerPrepStmts=true")) {
      PreparedStatement s = c.prepareStatement("SELECT state FROM backends WHERE backend_ndx = ?");
      for (int i = 0; i < 2; i++) {
        s.setInt(1, 1);
        ResultSet r = s.executeQuery();
        r.next();
        if (i == 1) System.out.println(r.getString(1));
      }
      try {
        c.createStatement().executeQuery("SELECT * FROM nowhere");
      } catch (SQLException e) {
        System.out.println(e.getErrorCode());
      }
    }
    try {
      connect(a, "wrong", "");
    } catch (SQLException e) {
      System.out.println(e.getErrorCode());
    }
  }
}
