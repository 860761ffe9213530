"""DuckDB over the four services, asked by JSON lines on standard input.

The first line says where the stores are and is answered {"ready": true}; each further one is {"sql": ...} and is answered
{"rows": n, "seconds": s} or {"error": ...}. The time is from the SQL text to all rows in Arrow.

The settings are those that serve it best on one machine: no compression between two processes, and long lists of keys from a join.
"""

import glob
import json
import os
import sys
import time
from urllib.parse import urlsplit

import duckdb


def attach(connection, stores):
    site = os.path.dirname(os.path.dirname(duckdb.__file__))
    for extension in ("postgres_scanner", "mysql_scanner", "sqlite_scanner"):
        pattern = f"{site}/duckdb_extension_{extension}/extensions/v*/{extension}.duckdb_extension"
        connection.execute(f"LOAD '{glob.glob(pattern)[0]}'")
    customers, orders = urlsplit(stores["customers"]), urlsplit(stores["orders"])
    server = "host={0.hostname} port={0.port} user={0.username} password={0.password}"
    database = customers.path.lstrip("/")
    connection.execute(f"ATTACH '{server.format(customers)} dbname={database}' AS customers (TYPE postgres, READ_ONLY)")
    database = orders.path.lstrip("/")
    options = f"database={database} compression=disabled"
    connection.execute(f"ATTACH '{server.format(orders)} {options}' AS orders (TYPE mysql, READ_ONLY)")
    connection.execute(f"ATTACH '{stores['catalog']}' AS catalog (TYPE sqlite, READ_ONLY)")
    for table in ("supplier", "partsupp"):
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{stores['suppliers']}/{table}.parquet'")
    connection.execute(f"SET search_path = 'customers.public,orders.{database},catalog.main,memory.main'")
    connection.execute("SET dynamic_or_filter_threshold = 20000")


def answer(connection, sql):
    started = time.perf_counter()
    try:
        rows = connection.execute(sql).to_arrow_table().num_rows
    except duckdb.Error as error:
        return {"error": str(error).splitlines()[0]}
    return {"rows": rows, "seconds": time.perf_counter() - started}


def serve(connection):
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(connection, json.loads(line)["sql"])), flush=True)


def main():
    connection = duckdb.connect(config={"threads": os.cpu_count(), "allow_unsigned_extensions": True})
    attach(connection, json.loads(sys.stdin.readline()))
    serve(connection)


if __name__ == "__main__":
    main()
