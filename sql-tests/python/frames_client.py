"""Reads frames from a Headwater server as pandas and polars do, over the Postgres protocol and over Flight SQL.

Usage: frames_client.py FLIGHT_HOST:PORT POSTGRES_HOST:PORT

The server has the services orders (orders, lines) and customers, without users; sql-tests/tests/flight starts it. Ends with
status 0 when every check passed.
"""

import sys

import adbc_driver_flightsql.dbapi
import adbc_driver_postgresql.dbapi
import pandas
import polars
import sqlalchemy

QUERY = "SELECT id, customer, total FROM orders.orders ORDER BY id"
ROWS = [(1, "ada", 20.5), (2, "bob", 5.0), (3, "a'da", None)]


def same(frame):
    """Whether a frame of pandas has the rows."""
    found = [tuple(None if pandas.isna(value) else value for value in row) for row in frame.itertuples(index=False)]
    assert found == ROWS, frame


def with_pandas(flight, postgres):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://ada@{postgres}/headwater")
    same(pandas.read_sql(QUERY, engine))
    same(pandas.read_sql(sqlalchemy.text("SELECT * FROM orders.orders WHERE id >= :id ORDER BY id"), engine, params={"id": 1}))
    same(pandas.read_sql_table("orders", engine, schema="orders").sort_values("id"))
    parts = list(pandas.read_sql(QUERY, engine, chunksize=2))
    assert [len(part) for part in parts] == [2, 1], parts
    with adbc_driver_flightsql.dbapi.connect(f"grpc://{flight}", autocommit=True) as connection:
        same(pandas.read_sql(QUERY, connection))
        same(pandas.read_sql_table("orders", connection, schema="orders").sort_values("id"))


def with_polars(flight, postgres):
    uri = f"postgresql://ada@{postgres}/headwater"
    engine = sqlalchemy.create_engine(uri.replace("postgresql:", "postgresql+psycopg:"))
    assert polars.read_database(QUERY, engine).rows() == ROWS
    parts = list(polars.read_database(QUERY, engine, iter_batches=True, batch_size=2))
    assert sum(len(part) for part in parts) == 3
    with adbc_driver_flightsql.dbapi.connect(f"grpc://{flight}", autocommit=True) as connection:
        frame = polars.read_database(QUERY, connection)
        assert frame.rows() == ROWS and frame.schema["total"] == polars.Float64, frame
        assert polars.read_database("SELECT id FROM orders.orders WHERE id > ?", connection, execute_options={"parameters": [2]}).rows() == [(3,)]
    # ADBC's own driver for PostgreSQL, which reads by COPY in binary, and connectorx.
    assert polars.read_database_uri(QUERY, uri, engine="adbc").rows() == ROWS
    assert polars.read_database_uri(QUERY, uri, engine="connectorx").rows() == ROWS


def with_adbc(postgres):
    with adbc_driver_postgresql.dbapi.connect(f"postgresql://ada@{postgres}/headwater", autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute(QUERY)
            table = cursor.fetch_arrow_table()
            assert [tuple(row.values()) for row in table.to_pylist()] == ROWS, table
            cursor.execute("SELECT id FROM orders.orders WHERE customer = $1", parameters=["a'da"])
            assert cursor.fetchall() == [(3,)]
        assert connection.adbc_get_table_schema("orders", db_schema_filter="orders").names == ["id", "customer", "total"]
        listings_of_adbc(connection)


def listings_of_adbc(connection):
    """The driver lists what it finds in pg_catalog; without a filter it asks for kinds of relations by a list with spaces in it."""
    found = schemas(connection, depth="db_schemas", db_schema_filter="orders")
    assert [schema["db_schema_name"] for schema in found] == ["orders"], found
    assert {"orders", "customers"} <= {schema["db_schema_name"] for schema in schemas(connection, depth="db_schemas")}
    assert tables(connection, depth="tables", db_schema_filter="orders") == {"orders": None, "lines": None}
    assert tables(connection, depth="tables", db_schema_filter="orders", table_name_filter="ord%") == {"orders": None}
    assert tables(connection, depth="tables", db_schema_filter="orders", table_types_filter=["table"]).keys() == {"orders", "lines"}
    assert tables(connection, depth="tables", db_schema_filter="orders", table_types_filter=["view"]) == {}
    columns = {"orders": [("id", 1), ("customer", 2), ("total", 3)], "lines": [("order_id", 1), ("line", 2)]}
    assert tables(connection, depth="all", db_schema_filter="orders") == columns
    assert tables(connection, depth="columns", db_schema_filter="orders", column_name_filter="cust%")["orders"] == [("customer", 2)]
    (schema,) = schemas(connection, depth="all", db_schema_filter="orders")
    keys = {table["table_name"]: table["table_constraints"] for table in schema["db_schema_tables"]}
    assert [(key["constraint_type"], key["constraint_column_names"]) for key in keys["lines"]] == [("PRIMARY KEY", ["order_id", "line"])], keys


def schemas(connection, **asked):
    (catalog,) = connection.adbc_get_objects(**asked).read_all().to_pylist()
    return catalog["catalog_db_schemas"]


def tables(connection, **asked):
    """The tables that are listed, each with its columns and their places where they are listed too."""
    found = {}
    for schema in schemas(connection, **asked):
        for table in schema["db_schema_tables"]:
            columns = table["table_columns"]
            places = columns and [(column["column_name"], column["ordinal_position"]) for column in columns]
            found[table["table_name"]] = places
    return found


def main():
    flight, postgres = sys.argv[1:]
    with_pandas(flight, postgres)
    print("pandas passed")
    with_polars(flight, postgres)
    print("polars passed")
    with_adbc(postgres)
    print("every check passed")


if __name__ == "__main__":
    main()
