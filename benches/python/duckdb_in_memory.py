"""DuckDB over Parquet files that it has read into memory, asked by JSON lines on standard input.

The first line says in which directory they are, one for each table, and is answered {"ready": true}; each further one is answered as `duckdb_peer.py` does.
"""

import glob
import json
import os
import sys

import duckdb

from duckdb_peer import serve


def main():
    connection = duckdb.connect(config={"threads": os.cpu_count()})
    directory = json.loads(sys.stdin.readline())["tables"]
    for path in glob.glob(f"{directory}/*.parquet"):
        name = os.path.basename(path).removesuffix(".parquet")
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{path}'")
    serve(connection)


if __name__ == "__main__":
    main()
