"""Makes Apache Superset list the tables of a running Headwater and draw a chart from them.

Usage: superset_job.py HEADWATER

Run by `./test --superset` with the Python of an environment that has requirements-superset.txt. HEADWATER is the command. Everything
is made in a temporary directory: two services over SQLite files with a materialized view, a user with a password, Superset's own
metadata. Superset runs as a server of its own and is asked by its API alone, as its pages ask it. Ends with status 0 when every check
passed. The password is HEADWATER_TEST_CANARY, where it is set; it must not be in what either server says.
"""

import json
import os
import pathlib
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

DEADLINE_S = 120
ADMIN = secrets.token_urlsafe(16)
PASSWORD = os.environ.get("HEADWATER_TEST_CANARY") or secrets.token_urlsafe(16)

CONFIG = """
SECRET_KEY = {secret!r}
SQLALCHEMY_DATABASE_URI = "sqlite:///{directory}/superset.db?check_same_thread=false"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
RATELIMIT_ENABLED = False
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, is_so, process, log):
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{what}: not so within {DEADLINE_S} s\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def make_services(directory, headwater):
    services = directory / "services"
    services.mkdir()
    tables = {
        "orders": "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL, placed DATE);"
                  "INSERT INTO orders VALUES (1, 'ada', 20.5, '2024-01-01'), (2, 'bob', 5, '2024-01-02'), (3, 'ada', 1.5, '2024-02-01')",
        "customers": "CREATE TABLE customers (name TEXT PRIMARY KEY, country TEXT); INSERT INTO customers VALUES ('ada', 'uk'), ('bob', 'us')",
    }
    for name, statements in tables.items():
        with sqlite3.connect(directory / f"{name}.db") as connection:
            connection.executescript(statements)
        (services / f"{name}.yaml").write_text(f"service: {name}\nsource: {{connector: sqlite, path: ../{name}.db}}\npublishes: \"*\"\n")
    (services / "access.yaml").write_text(
        "roles:\n  all:\n    members: [ada]\n    grants: [{service: orders}, {service: customers}, {view: reports.totals}]\n")
    views = services / "views"
    views.mkdir()
    (views / "totals.sql").write_text(
        "CREATE MATERIALIZED VIEW reports.totals AS SELECT customer, sum(total) AS total FROM orders.orders GROUP BY customer;\n")
    hashes = subprocess.run([headwater, "user", "hash"], input=PASSWORD, capture_output=True, text=True, check=True).stdout
    lines = "".join(f"    {line}\n" for line in hashes.splitlines())
    (directory / "users.yaml").write_text("users:\n  ada:\n" + lines)
    return services


def start_headwater(directory, headwater):
    services = make_services(directory, headwater)
    log = directory / "headwater.log"
    port = free_port()
    command = [headwater, "serve", "--services", services, "--state", directory / "state", "--users", directory / "users.yaml",
               "--flight-addr", "127.0.0.1:0", "--pg-addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=log.open("w"), env={**os.environ, "HEADWATER_LOG": "debug"})
    wait_until("headwater listens", lambda: "listening on postgres://" in log.read_text(), process, log)
    return process, port, log


def start_superset(directory):
    config = directory / "superset_config.py"
    config.write_text(CONFIG.format(secret=secrets.token_urlsafe(42), directory=directory))
    environment = {**os.environ, "SUPERSET_CONFIG_PATH": str(config), "FLASK_APP": "superset.app:create_app()", "SUPERSET_HOME": str(directory)}
    superset = pathlib.Path(sys.executable).parent / "superset"
    log = directory / "superset.log"
    with log.open("w") as out:
        for arguments in [
            ["db", "upgrade"],
            ["fab", "create-admin", "--username", "admin", "--firstname", "a", "--lastname", "b", "--email", "a@example.com", "--password", ADMIN],
            ["init"],
        ]:
            done = subprocess.run([superset, *arguments], env=environment, stdout=out, stderr=out)
            if done.returncode:
                sys.exit(f"superset {arguments[0]} failed\n{log.read_text()[-4000:]}")
        port = free_port()
        process = subprocess.Popen([superset, "run", "-p", str(port)], env=environment, stdout=out, stderr=out)
    base = f"http://127.0.0.1:{port}"
    wait_until("Superset is healthy", lambda: is_healthy(base), process, log)
    return process, base, log


def is_healthy(base):
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Superset:
    """Superset's API, as its pages use it."""

    def __init__(self, base):
        self.base, self.token = base, None
        login = {"username": "admin", "password": ADMIN, "provider": "db", "refresh": False}
        self.token = self.post("security/login", login)["access_token"]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(f"{self.base}/api/v1/{path}", method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None, timeout=DEADLINE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')[:2000]}")

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body):
        return self.ask("POST", path, body)


def add_database(superset, port):
    uri = f"postgresql+psycopg2://ada:{urllib.parse.quote(PASSWORD)}@127.0.0.1:{port}/headwater"
    asked = {"database_name": "Headwater", "sqlalchemy_uri": uri, "expose_in_sqllab": True}
    superset.post("database/test_connection/", {"database_name": "Headwater", "sqlalchemy_uri": uri})
    return superset.post("database/", asked)["id"]


def lists(superset, database):
    schemas = superset.get(f"database/{database}/schemas/")["result"]
    assert {"orders", "customers", "reports"} <= set(schemas), schemas
    listed = lambda schema: {
        (table["value"], table["type"])
        for table in superset.get(f"database/{database}/tables/?q=(schema_name:{schema},force:!t)")["result"]
    }
    assert ("orders", "table") in listed("orders"), listed("orders")
    assert [name for name, _ in listed("reports")] == ["totals"], listed("reports")
    columns = superset.get(f"database/{database}/table_metadata/?name=orders&schema=orders")
    assert [column["name"] for column in columns["columns"]] == ["id", "customer", "total", "placed"], columns


def charts(superset, database):
    for schema, table, expected in [
        ("orders", "orders", [{"customer": "ada", "sum": 22.0}, {"customer": "bob", "sum": 5.0}]),
        ("reports", "totals", [{"customer": "ada", "sum": 22.0}, {"customer": "bob", "sum": 5.0}]),
    ]:
        dataset = superset.post("dataset/", {"database": database, "schema": schema, "table_name": table})["id"]
        metric = {"expressionType": "SIMPLE", "column": {"column_name": "total"}, "aggregate": "SUM", "label": "sum"}
        query = {"columns": ["customer"], "metrics": [metric], "orderby": [["customer", True]], "row_limit": 100,
                 "filters": [{"col": "customer", "op": "IN", "val": ["ada", "bob"]}]}
        context = {"datasource": {"id": dataset, "type": "table"}, "queries": [query], "result_format": "json", "result_type": "full", "force": True}
        (answer,) = superset.post("chart/data", context)["result"]
        assert answer["data"] == expected, answer
        saved = superset.post("chart/", {
            "slice_name": f"totals of {schema}", "viz_type": "table", "datasource_id": dataset, "datasource_type": "table",
            "query_context": json.dumps(context), "params": json.dumps({"viz_type": "table"}),
        })["id"]
        (answer,) = superset.get(f"chart/{saved}/data/")["result"]
        assert answer["data"] == expected, answer


def asks_in_sql(superset, database):
    """SQL Lab: a join of two services."""
    sql = "SELECT c.country, sum(o.total) AS total FROM orders.orders o JOIN customers.customers c ON c.name = o.customer GROUP BY c.country ORDER BY 1"
    asked = {"database_id": database, "schema": "orders", "sql": sql, "runAsync": False, "client_id": secrets.token_hex(5)}
    answer = superset.post("sqllab/execute/", asked)
    assert answer["data"] == [{"country": "uk", "total": 22.0}, {"country": "us", "total": 5.0}], answer


def main():
    (headwater,) = sys.argv[1:]
    processes = []
    with tempfile.TemporaryDirectory(prefix="headwater-superset.") as directory:
        directory = pathlib.Path(directory)
        try:
            server, port, server_log = start_headwater(directory, headwater)
            processes.append(server)
            bi, base, bi_log = start_superset(directory)
            processes.append(bi)
            superset = Superset(base)
            database = add_database(superset, port)
            for check in [lists, charts, asks_in_sql]:
                check(superset, database)
                print(check.__name__, "passed", flush=True)
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=DEADLINE_S)
        assert server.returncode == 0, server.returncode
        for log in [server_log, bi_log]:
            assert PASSWORD not in log.read_text(), f"{log.name} has the password"
    print("every check passed")


if __name__ == "__main__":
    main()
