"""Asks a Headwater server through PostgreSQL's ODBC driver, unixODBC and pyodbc.

Usage: odbc_client.py HOST:PORT

The server has the services orders (orders, lines), customers and the materialized view reports.totals, without users;
sql-tests/tests/flight starts it. Ends with status 0 when every check passed.
"""

import datetime
import decimal
import glob
import sys

import pyodbc

HOSTILE = ["a'da", "x\\", '\\") OR 1=1 -- ', "\U0001f600"]


def driver():
    """The library itself, so that nothing has to be registered."""
    found = glob.glob("/usr/lib/*/odbc/psqlodbcw.so") + glob.glob("/usr/lib/odbc/psqlodbcw.so")
    assert found, "the ODBC driver is not there: apt-get install odbc-postgresql"
    return found[0]


def connect(host, port, options=""):
    text = f"DRIVER={driver()};SERVER={host};PORT={port};DATABASE=headwater;UID=ada;PWD=none;{options}"
    return pyodbc.connect(text, autocommit=True)


def discovers(connection):
    cursor = connection.cursor()
    tables = [(row.table_schem, row.table_name, row.table_type) for row in cursor.tables(schema="orders")]
    assert tables == [("orders", "lines", "TABLE"), ("orders", "orders", "TABLE")], tables
    tables = [(row.table_name, row.table_type) for row in cursor.tables(schema="reports")]
    assert tables == [("totals", "MATVIEW")], tables
    columns = [(row.column_name, row.type_name, row.nullable) for row in cursor.columns(table="orders", schema="orders")]
    assert columns == [("id", "int8", 0), ("customer", "text", 0), ("total", "float8", 1)], columns
    keys = [(row.column_name, row.key_seq) for row in cursor.primaryKeys(table="lines", schema="orders")]
    assert keys == [("order_id", 1), ("line", 2)], keys
    indexes = [row.column_name for row in cursor.statistics(table="lines", schema="orders", unique=True) if row.column_name]
    assert indexes == ["order_id", "line"], indexes
    assert cursor.foreignKeys(table="orders", schema="orders").fetchall() == []
    assert cursor.procedures(schema="orders").fetchall() == []
    types = {row.type_name for row in cursor.getTypeInfo()}
    assert {"int8", "text", "numeric"} <= types, types
    assert connection.getinfo(pyodbc.SQL_DBMS_NAME) == "PostgreSQL"


def reads(connection):
    row = connection.execute(
        "SELECT CAST(1 AS SMALLINT) AS a, 2 AS b, CAST(1.5 AS REAL) AS c, CAST(12.340 AS DECIMAL(10,3)) AS d, 'x' AS f, "
        "DATE '2024-02-29' AS g, TIMESTAMP '2024-02-29 13:05:00.25' AS h, NULL AS i, X'00ff' AS j"
    ).fetchone()
    expected = (1, 2, 1.5, decimal.Decimal("12.340"), "x", datetime.date(2024, 2, 29),
                datetime.datetime(2024, 2, 29, 13, 5, 0, 250000), None, b"\x00\xff")
    assert tuple(row) == expected, row
    rows = connection.execute("SELECT id, customer, total FROM orders.orders ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [(1, "ada", 20.5), (2, "bob", 5.0), (3, "a'da", None)], rows


def binds(connection):
    for text in HOSTILE:
        found = connection.execute("SELECT id FROM orders.orders WHERE customer = ?", text).fetchall()
        assert [row.id for row in found] == ([3] if text == "a'da" else []), found
    found = connection.execute("SELECT id FROM orders.orders WHERE id > ? AND total > ?", 0, 6.0).fetchall()
    assert [row.id for row in found] == [1], found


def fails(connection):
    for text, state in [("SELEC 1", "42601"), ("SELECT * FROM orders.nothing", "42S02"), ("DELETE FROM orders.orders", "25006")]:
        try:
            connection.execute(text)
        except pyodbc.Error as error:
            assert error.args[0] in (state, "42P01"), error
        else:
            raise AssertionError(f"{text} is taken")
    assert connection.execute("SELECT count(*) FROM orders.orders").fetchval() == 3


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    # Statements prepared at the server, and not; rows fetched in parts.
    for options in ["", "UseServerSidePrepare=0", "UseDeclareFetch=0;Fetch=10"]:
        connection = connect(host, port, options)
        for check in [discovers, reads, binds, fails]:
            check(connection)
            print(options, check.__name__, "passed")
        connection.close()
    print("every check passed")


if __name__ == "__main__":
    main()
