// Asks a Headwater server as programs with PostgreSQL's JDBC driver do.
//
// Usage: java -cp postgresql.jar JdbcClient.java HOST:PORT
//
// The server has the services orders (orders, lines), customers and the materialized view reports.totals, and no users;
// sql-tests/tests/flight/clients.rs starts it. Ends with status 0 when every check passed.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.core.BaseConnection;

public class JdbcClient {
    static final String[] HOSTILE = {"a'da", "x\\", "\\') OR 1=1 -- ", "\uD83D\uDE00"};

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object found, Object expected, String what) {
        check(Objects.equals(found, expected), what + ": found " + found + ", expected " + expected);
    }

    /** The columns of a result, each row as one text. */
    static List<String> rows(ResultSet result, String... columns) throws SQLException {
        List<String> rows = new ArrayList<>();
        while (result.next()) {
            List<String> row = new ArrayList<>();
            for (String column : columns) {
                row.add(result.getString(column));
            }
            rows.add(String.join("|", row.stream().map(String::valueOf).toList()));
        }
        result.close();
        return rows;
    }

    static Connection connect(String address, String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", "ada");
        for (int i = 0; i < options.length; i += 2) {
            properties.setProperty(options[i], options[i + 1]);
        }
        return DriverManager.getConnection("jdbc:postgresql://" + address + "/headwater", properties);
    }

    static void discovers(Connection connection) throws SQLException {
        DatabaseMetaData meta = connection.getMetaData();
        same(meta.getDatabaseProductName(), "PostgreSQL", "product");
        check(meta.getDatabaseMajorVersion() == 15, "version");
        check(rows(meta.getSchemas(), "TABLE_SCHEM").containsAll(List.of("customers", "orders", "reports")), "schemas");
        same(rows(meta.getSchemas(null, "ord%"), "TABLE_SCHEM"), List.of("orders"), "schemas of a pattern");
        same(rows(meta.getCatalogs(), "TABLE_CAT"), List.of("headwater"), "catalogs");
        check(rows(meta.getTableTypes(), "TABLE_TYPE").contains("MATERIALIZED VIEW"), "table types");
        same(rows(meta.getTables(null, "orders", "%", new String[] {"TABLE"}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"),
            List.of("orders|lines|TABLE", "orders|orders|TABLE"), "tables");
        same(rows(meta.getTables(null, "reports", "%", null), "TABLE_NAME", "TABLE_TYPE"),
            List.of("totals|MATERIALIZED VIEW"), "materialized views");
        check(rows(meta.getTables(null, null, "pg_cl%", null), "TABLE_NAME", "TABLE_TYPE").contains("pg_class|SYSTEM TABLE"), "system tables");
        same(rows(meta.getColumns(null, "orders", "orders", "%"), "COLUMN_NAME", "TYPE_NAME", "NULLABLE", "ORDINAL_POSITION"),
            List.of("id|int8|0|1", "customer|text|0|2", "total|float8|1|3"), "columns");
        same(rows(meta.getColumns(null, "orders", "lines", "li%"), "COLUMN_NAME", "DATA_TYPE"),
            List.of("line|" + Types.BIGINT), "columns of a pattern");
        same(rows(meta.getPrimaryKeys(null, "orders", "lines"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME"),
            List.of("order_id|1|lines_pkey", "line|2|lines_pkey"), "primary keys");
        same(rows(meta.getIndexInfo(null, "orders", "lines", true, true), "INDEX_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "NON_UNIQUE"),
            List.of("lines_pkey|order_id|1|f", "lines_pkey|line|2|f"), "indexes");
        same(rows(meta.getImportedKeys(null, "orders", "lines"), "FK_NAME"), List.of(), "imported keys");
        same(rows(meta.getExportedKeys(null, "orders", "orders"), "FK_NAME"), List.of(), "exported keys");
        same(rows(meta.getCrossReference(null, "orders", "orders", null, "orders", "lines"), "FK_NAME"), List.of(), "cross reference");
        same(rows(meta.getBestRowIdentifier(null, "orders", "orders", DatabaseMetaData.bestRowSession, false), "COLUMN_NAME"),
            List.of("id"), "row identifier");
        same(rows(meta.getVersionColumns(null, "orders", "orders"), "COLUMN_NAME").size(), 1, "version columns");
        check(rows(meta.getTypeInfo(), "TYPE_NAME", "DATA_TYPE").contains("int8|" + Types.BIGINT), "types");
        same(rows(meta.getUDTs(null, "orders", "%", null), "TYPE_NAME"), List.of(), "types of users");
        same(rows(meta.getProcedures(null, "orders", "%"), "PROCEDURE_NAME"), List.of(), "procedures");
        same(rows(meta.getFunctions(null, "orders", "%"), "FUNCTION_NAME"), List.of(), "functions");
        check(meta.getMaxColumnNameLength() > 0 && !meta.getSQLKeywords().isEmpty(), "limits and keywords");
        check(rows(meta.getTablePrivileges(null, "orders", "%"), "TABLE_NAME").size() >= 0, "privileges");
    }

    static void reads(Connection connection) throws SQLException {
        String values = "SELECT CAST(1 AS SMALLINT) AS a, 2 AS b, CAST(1.5 AS REAL) AS c, CAST(12.340 AS DECIMAL(10,3)) AS d, true AS e, 'x' AS f, "
            + "DATE '2024-02-29' AS g, TIMESTAMP '2024-02-29 13:05:00.25' AS h, NULL AS i, X'00ff' AS j, [1, NULL] AS k";
        try (PreparedStatement statement = connection.prepareStatement(values)) {
            // The fifth time on, the driver prepares it at the server and asks for its values in binary.
            for (int i = 0; i < 8; i++) {
                ResultSet row = statement.executeQuery();
                check(row.next(), "a row");
                same(row.getShort("a"), (short) 1, "smallint");
                same(row.getLong("b"), 2L, "bigint");
                same(row.getFloat("c"), 1.5f, "real");
                same(row.getBigDecimal("d"), new BigDecimal("12.340"), "decimal");
                same(row.getBoolean("e"), true, "boolean");
                same(row.getString("f"), "x", "text");
                same(row.getDate("g"), Date.valueOf("2024-02-29"), "date");
                same(row.getTimestamp("h"), Timestamp.valueOf("2024-02-29 13:05:00.25"), "timestamp");
                same(row.getObject("i"), null, "null");
                check(Arrays.equals(row.getBytes("j"), new byte[] {0, (byte) 0xff}), "bytes");
                same(Arrays.asList((Object[]) row.getArray("k").getArray()), Arrays.asList(1L, null), "array");
                ResultSetMetaData meta = row.getMetaData();
                same(meta.getColumnTypeName(4), "numeric", "type");
                same(meta.getScale(4), 3, "scale");
                row.close();
            }
        }
    }

    static void binds(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM orders.orders WHERE customer = ?")) {
            for (String text : HOSTILE) {
                statement.setString(1, text);
                same(rows(statement.executeQuery(), "id"), text.equals("a'da") ? List.of("3") : List.of(), text);
            }
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM orders.orders WHERE id >= ? AND (total > ? OR total IS NULL) ORDER BY id")) {
            for (int i = 0; i < 8; i++) {
                statement.setInt(1, 1);
                statement.setDouble(2, 6);
                same(rows(statement.executeQuery(), "id"), List.of("1", "3"), "numbers");
            }
            statement.setLong(1, 3);
            statement.setNull(2, Types.DOUBLE);
            same(rows(statement.executeQuery(), "id"), List.of("3"), "null");
            same(statement.getParameterMetaData().getParameterTypeName(1), "int8", "parameter");
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT oid::regclass::text AS name FROM pg_class WHERE oid = ?")) {
            for (int i = 0; i < 8; i++) {
                statement.setLong(1, 1259);
                same(rows(statement.executeQuery(), "name"), List.of("pg_class"), "the catalog");
            }
        }
    }

    static void fetches(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("SELECT value FROM generate_series(1, 1050) ORDER BY value")) {
            statement.setFetchSize(100);
            ResultSet result = statement.executeQuery();
            long expected = 0;
            while (result.next()) {
                same(result.getLong(1), ++expected, "a fetched row");
            }
            same(expected, 1050L, "all rows");
        }
        connection.commit();
        connection.setAutoCommit(true);
        connection.setReadOnly(true);
        check(connection.isValid(5), "the connection is valid");
        same(connection.getSchema(), "orders", "the schema");
        connection.setSchema("customers");
        try (Statement statement = connection.createStatement()) {
            same(rows(statement.executeQuery("SELECT name FROM customers"), "name"), List.of("ada"), "the schema that was set");
        }
        connection.setSchema("orders");
        connection.setReadOnly(false);
    }

    static void fails(Connection connection) throws SQLException {
        String[][] wrong = {
            {"SELEC 1", "42601"}, {"SELECT * FROM orders.nothing", "42P01"}, {"SELECT nothing FROM orders.orders", "42703"},
            {"DELETE FROM orders.orders", "25006"}, {"SELECT 1 / (id - id) FROM orders.orders", "22012"},
        };
        for (String[] pair : wrong) {
            try (Statement statement = connection.createStatement()) {
                statement.execute(pair[0]);
                throw new AssertionError(pair[0] + " is taken");
            } catch (SQLException error) {
                same(error.getSQLState(), pair[1], pair[0]);
            }
        }
        try (Statement statement = connection.createStatement()) {
            same(rows(statement.executeQuery("SELECT count(*) AS n FROM orders.orders"), "n"), List.of("3"), "the connection goes on");
        }
    }

    static void cancels(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            // The driver sends one cancel for each execution, maybe before the statement itself has left, and a cancel that comes before its
            // statement is for nothing, as in PostgreSQL. So it is sent again below the statement until the statement has ended.
            BaseConnection below = connection.unwrap(BaseConnection.class);
            Thread thread = new Thread(() -> {
                try {
                    statement.cancel();
                    while (!statement.isClosed()) {
                        Thread.sleep(100);
                        below.cancelQuery();
                    }
                } catch (Exception ignored) {
                    // The statement is closed.
                }
            });
            thread.start();
            try {
                statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 1000000) b ON a.value < b.value WHERE a.value + b.value < 0");
                throw new AssertionError("a statement that takes an hour ended");
            } catch (SQLException error) {
                same(error.getSQLState(), "57014", "cancelled");
            }
            statement.close();
            thread.join();
        }
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000) a JOIN generate_series(1, 1000000) b ON a.value < b.value WHERE a.value + b.value < 0");
            throw new AssertionError("a statement that takes an hour ended");
        } catch (SQLException error) {
            same(error.getSQLState(), "57014", "timed out");
        }
    }

    public static void main(String[] arguments) throws Exception {
        String[][] ways = {{}, {"prepareThreshold", "1", "binaryTransfer", "true"}, {"preferQueryMode", "simple"}};
        for (String[] way : ways) {
            try (Connection connection = connect(arguments[0], way)) {
                discovers(connection);
                reads(connection);
                if (way.length == 0 || !way[0].equals("preferQueryMode")) {
                    binds(connection);
                    fetches(connection);
                }
                fails(connection);
            }
            System.out.println(String.join(" ", way) + " passed");
        }
        try (Connection connection = connect(arguments[0])) {
            cancels(connection);
        }
        System.out.println("every check passed");
    }
}
