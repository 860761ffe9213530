"""Reads answers of several endpoints with ADBC's Flight SQL driver and with pyarrow.flight.

Usage: endpoints_client.py HOST:PORT

The server has the services pg (many, with 100,000 rows) and lite (t, with seven), and gives an answer in no order several
endpoints; sql-tests/tests/flight starts it. Ends with status 0 when every check passed.
"""

import concurrent.futures
import sys

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as flight

QUERY = "SELECT id FROM pg.many UNION ALL SELECT id + 1000000 FROM lite.t"
ROWS = sorted([*range(1, 100_001), *range(1_000_000, 1_000_007)])


def same(tables):
    found = sorted(value for table in tables for value in table.column(0).to_pylist())
    assert found == ROWS, f"{len(found)} rows"


def with_adbc(address):
    with flightsql.connect(f"grpc://{address}", autocommit=True) as connection:
        # The driver reads all endpoints at once and holds a few batches of each.
        for _ in range(3):
            with connection.cursor() as cursor:
                cursor.execute(QUERY)
                same([cursor.fetch_arrow_table()])
        with connection.cursor() as cursor:
            cursor.execute(QUERY + " ORDER BY id")
            assert cursor.fetch_arrow_table().column(0).to_pylist() == ROWS
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM (" + QUERY + ") WHERE id < ?", parameters=[11])
            assert sorted(cursor.fetchall()) == [(number,) for number in range(1, 11)]
        # Partitions are read by whoever has them.
        with connection.cursor() as cursor:
            partitions, schema = cursor.adbc_execute_partitions(QUERY)
            assert len(partitions) > 1 and schema.names == ["id"], (len(partitions), schema)
            tables = []
            for partition in partitions:
                cursor.adbc_read_partition(partition)
                tables.append(cursor.fetch_arrow_table())
            same(tables)


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def command(query):
    """A CommandStatementQuery, as Flight SQL packs it."""
    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return flight.FlightDescriptor.for_command(field(1, kind) + field(2, field(1, query.encode())))


def with_pyarrow(address):
    client = flight.connect(f"grpc://{address}")
    info = client.get_flight_info(command(QUERY))
    assert len(info.endpoints) > 1 and not info.ordered, info
    with concurrent.futures.ThreadPoolExecutor(len(info.endpoints)) as pool:
        read = lambda endpoint: flight.connect(f"grpc://{address}").do_get(endpoint.ticket).read_all()
        same(pool.map(read, info.endpoints))
    info = client.get_flight_info(command(QUERY))
    same([client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints])
    # One that stops reading is closed, and holds nothing up.
    info = client.get_flight_info(command(QUERY))
    reader = client.do_get(info.endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows > 0
    reader.cancel()
    same([client.do_get(endpoint.ticket).read_all() for endpoint in client.get_flight_info(command(QUERY)).endpoints])
    info = client.get_flight_info(command(QUERY + " ORDER BY id"))
    assert len(info.endpoints) == 1
    assert client.do_get(info.endpoints[0].ticket).read_all().column(0) == pa.chunked_array([ROWS]).cast(pa.int64())


def main():
    (address,) = sys.argv[1:]
    with_adbc(address)
    print("ADBC passed")
    with_pyarrow(address)
    print("every check passed")


if __name__ == "__main__":
    main()
