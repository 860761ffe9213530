"""Asks a Headwater server over the Postgres protocol as psycopg, asyncpg and SQLAlchemy do.

Usage: postgres_clients.py HOST:PORT

The server has the services orders (orders, lines) and customers; sql-tests/tests/flight starts it, without users. Ends
with status 0 when every check passed.
"""

import asyncio
import datetime
import decimal
import sys

import asyncpg
import psycopg
import sqlalchemy

VALUES = (
    "SELECT CAST(1 AS SMALLINT) AS a, 2 AS b, CAST(1.5 AS REAL) AS c, CAST(12.340 AS DECIMAL(10,3)) AS d, true AS e, 'x' AS f, "
    "DATE '2024-02-29' AS g, TIMESTAMP '2024-02-29 13:05:00.25' AS h, NULL AS i, X'00ff' AS j, "
    "[1, NULL] AS k"
)
EXPECTED = (
    1,
    2,
    1.5,
    decimal.Decimal("12.340"),
    True,
    "x",
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 13, 5, 0, 250000),
    None,
    b"\x00\xff",
    [1, None],
)
HOSTILE = ["a'da", "x\\", '\\") OR 1=1 -- ', "\U0001f600"]


def with_psycopg(host, port):
    with psycopg.connect(host=host, port=port, user="ada", dbname="headwater", autocommit=True) as connection:
        for binary in [False, True]:
            with connection.cursor(binary=binary) as cursor:
                assert cursor.execute(VALUES).fetchone() == EXPECTED, cursor.execute(VALUES).fetchone()
                for text in HOSTILE:
                    found = cursor.execute("SELECT id FROM orders.orders WHERE customer = %s", [text]).fetchall()
                    assert found == ([(3,)] if text == "a'da" else []), found
                found = cursor.execute("SELECT id FROM orders.orders WHERE id > %s AND total > %s", [0, 6]).fetchall()
                assert found == [(1,)], found
                assert cursor.execute("SELECT %s, %s", [7, "x"]).fetchone() == (7, "x")
        with connection.transaction():
            assert connection.execute("SELECT count(*) FROM customers").fetchone() == (1,)
        with connection.cursor() as cursor, cursor.copy("COPY orders.orders (id, customer) TO STDOUT") as copy:
            assert list(copy.rows()) == [("1", "ada"), ("2", "bob"), ("3", "a'da")]
        with connection.cursor() as cursor, cursor.copy("COPY orders.orders (id) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int8"])
            assert list(copy.rows()) == [(1,), (2,), (3,)]
        for index in range(8):
            # The sixth time on, psycopg prepares it.
            assert connection.execute("SELECT %s + 1", [index]).fetchone() == (index + 1,)
        try:
            connection.execute("SELECT * FROM orders.nothing")
        except psycopg.errors.UndefinedTable as error:
            assert "nothing" in str(error)
        else:
            raise AssertionError("a table that is not there was read")


async def with_asyncpg(host, port):
    connection = await asyncpg.connect(host=host, port=port, user="ada", database="headwater")
    assert tuple(await connection.fetchrow(VALUES)) == EXPECTED
    rows = await connection.fetch("SELECT relname FROM pg_class WHERE relname = ANY($1::text[]) ORDER BY 1", ["orders", "lines"])
    assert [row["relname"] for row in rows] == ["lines", "orders"], rows
    for text in HOSTILE:
        found = await connection.fetch("SELECT id FROM orders.orders WHERE customer = $1", text)
        assert [row["id"] for row in found] == ([3] if text == "a'da" else [])
    assert await connection.fetchval("SELECT count(*) FROM orders.orders WHERE total > $1", 6.0) == 1
    async with connection.transaction():
        rows = [row["value"] async for row in connection.cursor("SELECT value FROM generate_series(1, 120) ORDER BY value")]
    assert rows == list(range(1, 121))
    assert await connection.fetchval("SELECT version()") is not None
    await connection.reset()
    await connection.close()


def with_sqlalchemy(host, port):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://ada@{host}:{port}/headwater")
    inspector = sqlalchemy.inspect(engine)
    assert sorted(inspector.get_table_names(schema="orders")) == ["lines", "orders"]
    columns = {column["name"]: column for column in inspector.get_columns("orders", schema="orders")}
    assert list(columns) == ["id", "customer", "total"], columns
    assert isinstance(columns["id"]["type"], sqlalchemy.BIGINT) and not columns["customer"]["nullable"], columns
    assert inspector.has_table("orders", schema="orders") and not inspector.has_table("nothing", schema="orders")
    assert inspector.get_pk_constraint("lines", schema="orders")["constrained_columns"] == ["order_id", "line"]
    assert inspector.get_foreign_keys("orders", schema="orders") == []
    table = sqlalchemy.Table("orders", sqlalchemy.MetaData(), schema="orders", autoload_with=engine)
    with engine.connect() as connection:
        query = sqlalchemy.select(table.c.customer).where(table.c.id == 2)
        assert connection.execute(query).fetchall() == [("bob",)]


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    with_psycopg(host, int(port))
    print("psycopg passed")
    asyncio.run(with_asyncpg(host, int(port)))
    print("asyncpg passed")
    with_sqlalchemy(host, int(port))
    print("every check passed")


if __name__ == "__main__":
    main()
