"""Asks a Headwater server through ADBC's Flight SQL driver, as a data scientist would.

Usage: adbc_client.py grpc://HOST:PORT

The server has the services pg, my and lite, each with a table `t (id, s)` of hostile texts, and pg.many with 100,000
rows; sql-tests/tests/flight starts it. Ends with status 0 when every check passed.
"""

import datetime
import decimal
import json
import sys

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa

HOSTILE = ["a'b", "a''b", "x\\", "\\') OR 1=1 -- ", 'say "hi"', "\U0001f600"]
SERVICES = ["pg", "my", "lite"]


def rows(connection, query, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters=parameters)
        return cursor.fetchall()


def fails(connection, query, *parts):
    try:
        found = rows(connection, query)
    except flightsql.Error as error:
        for part in parts:
            assert part in str(error), f"{query}: {part} is not in {error}"
        return
    raise AssertionError(f"{query} answers {found}")


def reads(connection):
    for service in SERVICES:
        assert rows(connection, f"SELECT count(*) FROM {service}.t") == [(7,)]
        found = rows(connection, f"SELECT s FROM {service}.t ORDER BY id")
        assert found == [(text,) for text in HOSTILE] + [(None,)], found
    joined = "SELECT p.id FROM pg.t p JOIN my.t m ON p.s = m.s_bin JOIN lite.t l ON l.s = p.s ORDER BY p.id"
    assert rows(connection, joined) == [(number,) for number in range(6)]
    instant = datetime.datetime(2024, 1, 1, 0, 0, 7, tzinfo=datetime.timezone.utc)
    (identifier, name, price, at), = rows(connection, "SELECT * FROM pg.many WHERE id = 7")
    assert (identifier, name, price) == (7, "row 7", decimal.Decimal("8.75")), (identifier, name, price)
    assert at.astimezone(datetime.timezone.utc) == instant, at


def streams(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM pg.many")
        reader = cursor.fetch_record_batch()
        assert reader.schema.names == ["id", "name"], reader.schema
        assert sum(batch.num_rows for batch in reader) == 100_000
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM pg.many ORDER BY id")
        assert cursor.fetchone() == (1,)
    with connection.cursor() as cursor:
        cursor.execute("SELECT s FROM my.t WHERE false")
        table = cursor.fetch_arrow_table()
        assert table.num_rows == 0 and table.schema.field("s").type == pa.string(), table.schema


def binds(connection):
    for service in SERVICES:
        for number, text in enumerate(HOSTILE):
            found = rows(connection, f"SELECT id FROM {service}.t WHERE s = ?", (text,))
            assert found == [(number,)], (service, text, found)
        assert rows(connection, f"SELECT id FROM {service}.t WHERE id > $1 AND id < $2 ORDER BY id", (1, 4)) == [(2,), (3,)]
        assert rows(connection, f"SELECT id FROM {service}.t WHERE s = ?", (None,)) == []
    assert rows(connection, "SELECT name FROM pg.many WHERE price = $1", (decimal.Decimal("8.75"),)) == [("row 7",)]
    at = datetime.datetime(2024, 1, 1, 0, 0, 9, tzinfo=datetime.timezone.utc)
    assert rows(connection, "SELECT id FROM pg.many WHERE at = $1", (at,)) == [(9,)]


def discovers(connection):
    assert set(connection.adbc_get_table_types()) >= {"BASE TABLE"}, connection.adbc_get_table_types()
    schema = connection.adbc_get_table_schema("many", db_schema_filter="pg")
    assert schema.names == ["id", "name", "price", "at"], schema
    assert schema.field("price").type == pa.decimal128(12, 2), schema
    info = connection.adbc_get_info()
    assert "headwater" in str(info.get("vendor_name", "")).lower(), info
    catalogs = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
    assert [catalog["catalog_name"] for catalog in catalogs] == ["headwater"], catalogs
    found = {
        (schema["db_schema_name"], table["table_name"]): [column["column_name"] for column in table["table_columns"]]
        for schema in catalogs[0]["catalog_db_schemas"]
        for table in schema["db_schema_tables"] or []
    }
    assert found[("pg", "t")] == ["id", "s"] and found[("my", "t")] == ["id", "s", "s_bin"], found
    assert found[("lite", "t")] == ["id", "s"], found


def stamps(connection):
    """An answer over a view says of which state it is, in the metadata of its schema."""
    rows(connection, "CREATE MATERIALIZED VIEW v.texts AS SELECT id, s FROM pg.t")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) AS n FROM v.texts")
        reader = cursor.fetch_record_batch()
        metadata = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
        assert reader.read_all().to_pylist() == [{"n": 7}]
    assert int(metadata["headwater.epoch"]) > 0, metadata
    assert json.loads(metadata["headwater.vector"])["pg"], metadata
    assert json.loads(metadata["headwater.lag_ms_max"])["pg"] >= 0, metadata
    assert json.loads(metadata["headwater.class"]) == {"pg": "polled"}, metadata
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) AS n FROM pg.t")
        assert not cursor.fetch_record_batch().schema.metadata


def subscribes(connection):
    """A subscription yields its first epoch and can be left."""
    with connection.cursor() as cursor:
        cursor.execute("SUBSCRIBE TO v.texts WITH SNAPSHOT")
        reader = cursor.fetch_record_batch()
        found = []
        for batch in reader:
            found += batch.to_pylist()
            if found[-1]["headwater_last"]:
                break
        assert [row["s"] for row in sorted(found, key=lambda row: row["id"])] == HOSTILE + [None], found
        assert all(row["headwater_weight"] == 1 for row in found), found
    rows(connection, "DROP MATERIALIZED VIEW v.texts")


def refuses(connection):
    fails(connection, "SELECT * FROM pg.nowhere", "nowhere")
    fails(connection, "DELETE FROM pg.t", "DELETE")
    fails(connection, "CREATE TABLE pg.made (id INT)", "CREATE TABLE")
    fails(connection, "SELECT 1; SELECT 2")
    assert rows(connection, "SELECT count(*) FROM pg.t") == [(7,)]


def sets(uri):
    """Settings hold for a client that keeps cookies."""
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with flightsql.connect(uri, db_kwargs=options, autocommit=True) as connection:
        rows(connection, "SET search_path = lite")
        assert rows(connection, "SELECT count(*) FROM t") == [(7,)]
        rows(connection, "SET headwater.pushdown = off")
        assert rows(connection, "SELECT id FROM t WHERE s = 'a''b'") == [(0,)]


def main():
    uri = sys.argv[1]
    with flightsql.connect(uri, autocommit=True) as connection:
        for check in [reads, streams, binds, discovers, stamps, subscribes, refuses]:
            check(connection)
            print(check.__name__, "passed")
    sets(uri)
    print("every check passed")


if __name__ == "__main__":
    main()
