//! Drivers and tools that are not ours, each with what it asks of the catalog: JDBC, ODBC, Node.js, pandas, polars, psql, and what BI tools send when they look around.

use std::path::{Path, PathBuf};

use headwater_server::Security;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::variable;

use crate::doors::{Doors, python, run};

fn services() -> Services {
    Services::new()
        .with_sqlite(
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL);
             CREATE TABLE lines (order_id INTEGER, line INTEGER, PRIMARY KEY (order_id, line));
             INSERT INTO orders VALUES (1, 'ada', 20.5), (2, 'bob', 5), (3, 'a''da', NULL)",
        )
        .with_sqlite(
            "customers",
            "CREATE TABLE customers (name TEXT PRIMARY KEY, country TEXT); INSERT INTO customers VALUES ('ada', 'uk')",
        )
}

/// The services with a materialized view over them, behind every door.
async fn open() -> (Services, Doors) {
    let services = services();
    let engine = services.engine().await;
    let view = "CREATE MATERIALIZED VIEW reports.totals AS SELECT customer, count(*) AS n FROM orders.orders GROUP BY customer";
    engine.sql(view).await.unwrap();
    let doors = Doors::open(engine, Security::default()).await;
    (services, doors)
}

fn file(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)
}

fn passed((is_content, text): (bool, String)) {
    assert!(is_content && text.contains("every check passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc_discovers_prepares_fetches_and_cancels() {
    let (_services, doors) = open().await;
    let (program, address) = (file("java", "JdbcClient.java"), doors.postgres.to_string());
    let arguments = ["-cp", &variable("HEADWATER_TEST_JDBC"), program.to_str().unwrap(), &address];
    passed(run(Path::new("java"), &arguments, &[]).await);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odbc_discovers_binds_and_reads() {
    let (_services, doors) = open().await;
    passed(python("odbc_client.py", &[&doors.postgres.to_string()], &[]).await);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres_reads_binds_and_walks() {
    let (_services, doors) = open().await;
    let (program, address) = (file("node", "client.js"), doors.postgres.to_string());
    let modules = variable("HEADWATER_TEST_NODE_PATH");
    passed(run(Path::new("node"), &[program.to_str().unwrap(), &address], &[("NODE_PATH", &modules)]).await);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pandas_and_polars_read_frames() {
    let (_services, doors) = open().await;
    passed(python("frames_client.py", &[&doors.flight.to_string(), &doors.postgres.to_string()], &[]).await);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bi_tools_find_schemas_tables_columns_and_keys() {
    let (_services, doors) = open().await;
    passed(python("introspection_client.py", &[&doors.postgres.to_string()], &[]).await);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_answers_each_of_its_listings() {
    let (_services, doors) = open().await;
    let url = format!("postgres://ada@{}/headwater", doors.postgres);
    // A command of psql, and what its answer shows.
    let listings = [
        ("\\d", "orders"),
        ("\\d orders.orders", "PRIMARY KEY, btree (id)"),
        ("\\d+ orders.orders", "Table \"orders.orders\""),
        ("\\d reports.totals", "Materialized view \"reports.totals\""),
        ("\\d pg_class", "relname"),
        ("\\d orders.orders_pkey", "Index \"orders.orders_pkey\""),
        ("\\dt *.*", "lines"),
        ("\\dv", "Did not find any relations"),
        ("\\dm *.*", "totals"),
        ("\\di", "orders_pkey"),
        ("\\ds", "Did not find any relations"),
        ("\\dn+", "customers"),
        ("\\df", "(0 rows)"),
        ("\\dT", "(0 rows)"),
        ("\\dT+ text", "text"),
        ("\\do", "(0 rows)"),
        ("\\dC", "(0 rows)"),
        ("\\dD", "(0 rows)"),
        ("\\dp", "Access privileges"),
        ("\\ddp", "(0 rows)"),
        ("\\dx", "(0 rows)"),
        ("\\dy", "(0 rows)"),
        ("\\db", "pg_default"),
        ("\\des", "(0 rows)"),
        ("\\dO", "(0 rows)"),
        ("\\dF", "(0 rows)"),
        ("\\dL", "(0 rows)"),
        ("\\dRp", "(0 rows)"),
        ("\\drds", "Did not find any settings"),
        ("\\dconfig server_version", "15.0"),
        ("\\l", "headwater"),
        ("\\l+", "headwater"),
        ("\\du", "ada"),
        ("\\dg+", "ada"),
        ("\\encoding", "UTF8"),
        ("\\conninfo", "connected to database \"headwater\""),
    ];
    for (command, part) in listings {
        let (is_content, text) =
            run(Path::new("psql"), &["-X", "-v", "ON_ERROR_STOP=1", &url, "-c", command], &[]).await;
        assert!(is_content && text.contains(part), "{command}\n{text}");
    }
    doors.close().await;
}
