"""Logs in at a Headwater server through ADBC's Flight SQL driver: by password, by token, and by neither.

Usage: login_client.py grpc+tls://HOST:PORT CA.crt

The password of ada is in HEADWATER_PASSWORD and a token of hers in HEADWATER_TOKEN; sql-tests/tests/flight starts the
server, which has the table lite.t with two rows. Ends with status 0 when every check passed.
"""

import os
import sys

import adbc_driver_flightsql.dbapi as flightsql
from adbc_driver_flightsql import DatabaseOptions


def ask(uri, options):
    with flightsql.connect(uri, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM lite.t WHERE id < ?", parameters=[9])
        return cursor.fetchall()


def fails(uri, options):
    try:
        found = ask(uri, options)
    except flightsql.Error as error:
        text = str(error)
        assert os.environ["HEADWATER_PASSWORD"] not in text, text
        return text
    raise AssertionError(f"got in, and found {found}")


def main():
    uri, authority = sys.argv[1:]
    with open(authority, encoding="utf-8") as file:
        tls = {DatabaseOptions.TLS_ROOT_CERTS.value: file.read()}
    password = os.environ["HEADWATER_PASSWORD"]
    header = DatabaseOptions.AUTHORIZATION_HEADER.value
    assert ask(uri, tls | {"username": "ada", "password": password}) == [(2,)]
    assert ask(uri, tls | {header: "Bearer " + os.environ["HEADWATER_TOKEN"]}) == [(2,)]
    assert "not known here" in fails(uri, tls | {"username": "ada", "password": "wrong"})
    fails(uri, tls)
    fails(uri, tls | {header: "Bearer hwt_unknown"})
    fails(uri, {"username": "ada", "password": password})
    print("every check passed")


if __name__ == "__main__":
    main()
