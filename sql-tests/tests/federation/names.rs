//! Names: schemas, the search path, information_schema, SHOW and DESCRIBE.

use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, ask, error, rows};

async fn two_services() -> Services {
    Services::new()
        .with_sqlite(
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, total INTEGER NOT NULL); INSERT INTO orders VALUES (1, 10);
             CREATE TABLE shared (who TEXT); INSERT INTO shared VALUES ('orders');",
        )
        .with_sqlite("customers", "CREATE TABLE customers (id INTEGER, name TEXT); CREATE TABLE shared (who TEXT); INSERT INTO shared VALUES ('customers');")
}

#[tokio::test]
async fn unqualified_name_is_found_along_the_search_path_in_its_order() {
    let services = two_services().await;
    let engine = services.engine().await;
    let session = engine.session();
    let who = async |session: &headwater::Session| {
        ask(session, "SELECT who FROM shared").await.map(|rows| rows.column()[0].to_owned())
    };
    assert_eq!(who(&session).await.as_deref(), Ok("orders"));
    ask(&session, "SET search_path = customers, orders").await.unwrap();
    assert_eq!(who(&session).await.as_deref(), Ok("customers"));
    assert_eq!(ask(&session, "SELECT total FROM orders").await.unwrap().column(), ["10"]);
    assert_eq!(
        ask(&session, "SELECT o.total FROM orders o LEFT JOIN customers c ON c.id = o.id").await.unwrap().column(),
        ["10"]
    );
    assert_eq!(ask(&session, "SELECT who FROM headwater.orders.shared").await.unwrap().column(), ["orders"]);
    // Another session keeps its own.
    assert_eq!(who(&engine.session()).await.as_deref(), Ok("orders"));
    let message = ask(&session, "SET search_path = custmers").await.unwrap_err();
    assert!(message.contains("customers"), "{message}");
    assert_eq!(who(&session).await.as_deref(), Ok("customers"), "a refused SET changes nothing");
    let shown = ask(&session, "SHOW search_path").await.unwrap();
    assert!(shown.texts()[0].iter().any(|text| text.contains("customers, orders")), "{:?}", shown.texts());
}

#[tokio::test]
async fn unknown_name_is_an_error_that_names_the_nearest() {
    let services = two_services().await;
    let engine = services.engine().await;
    for (query, parts) in [
        ("SELECT * FROM orders.oders", vec!["oders", "orders"]),
        ("SELECT * FROM ordrs.orders", vec!["ordrs", "orders"]),
        ("SELECT * FROM nowhere", vec!["nowhere"]),
        ("SELECT totl FROM orders.orders", vec!["totl", "total"]),
        ("SELECT * FROM other.orders.orders", vec!["other"]),
    ] {
        let message = error(&engine, query).await;
        for part in parts {
            assert!(message.contains(part), "{query}: {message} names {part}");
        }
    }
}

#[tokio::test]
async fn information_schema_lists_tables_and_columns_of_every_service() {
    let everywhere = Everywhere::with_texts(&[]).await;
    let query = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
        WHERE table_schema NOT IN ('information_schema', 'headwater') ORDER BY table_schema";
    let found = rows(&everywhere.engine, query).await;
    let expected = [
        ["headwater", "lite", "t", "BASE TABLE"],
        ["headwater", "my", "t", "BASE TABLE"],
        ["headwater", "pg", "t", "BASE TABLE"],
    ];
    assert_eq!(found.texts(), expected);
    let query = "SELECT table_schema, column_name, data_type, is_nullable FROM information_schema.columns \
        WHERE table_name = 't' AND table_schema = 'pg' ORDER BY ordinal_position";
    let found = rows(&everywhere.engine, query).await;
    assert_eq!(found.texts(), [["pg", "id", "Int64", "NO"], ["pg", "s", "Utf8", "YES"]]);
    let shown = rows(&everywhere.engine, "SHOW TABLES").await;
    assert!(
        ["lite", "my", "pg"].iter().all(|service| shown.texts().iter().any(|row| row.contains(service))),
        "{:?}",
        shown.texts()
    );
    let described = rows(&everywhere.engine, "DESCRIBE my.t").await;
    assert_eq!(described.texts().iter().map(|row| row[0]).collect::<Vec<_>>(), ["id", "s", "s_bin"]);
    let schemas = rows(&everywhere.engine, "SELECT schema_name FROM information_schema.schemata").await;
    assert!(["lite", "my", "pg"].iter().all(|service| schemas.column().contains(service)), "{:?}", schemas.column());
    let columns = rows(&everywhere.engine, "SHOW COLUMNS FROM lite.t").await;
    assert_eq!(columns.rows.len(), 2);
}

#[tokio::test]
async fn service_that_is_down_is_listed_and_hides_no_other() {
    let services = two_services().await.with_tables(
        "gone",
        "connector: postgres, url: \"postgres://someone:canary@127.0.0.1:1/nowhere\", connect_timeout_ms: 500",
        "{invoices: {from: public.invoices}}",
    );
    let engine = services.engine().await;
    let listed = rows(&engine, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'gone'").await;
    assert_eq!(listed.column(), ["invoices"]);
    assert_eq!(rows(&engine, "SELECT total FROM orders.orders").await.column(), ["10"]);
    let message = error(&engine, "SELECT * FROM gone.invoices").await;
    assert!(
        message.contains("\"gone\"") && message.contains("unavailable") && !message.contains("canary"),
        "{message}"
    );
}

#[tokio::test]
async fn published_name_stands_for_the_table_that_from_names() {
    let database = PostgresDatabase::with(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int); CREATE TABLE b.t (id int, x text); \
        INSERT INTO a.t VALUES (1); INSERT INTO b.t VALUES (2, 'x'); CREATE TABLE private (id int)",
    )
    .await;
    let source = format!("connector: postgres, url: \"{}\"", database.url());
    let services = Services::new().with_tables(
        "shop",
        &source,
        "{first: {from: a.t, key: [id]}, second: {from: b.t}, \"Odd Name\": {from: a.t}}",
    );
    let engine = services.engine().await;
    assert_eq!(rows(&engine, "SELECT id FROM shop.first").await.column(), ["1"]);
    assert_eq!(rows(&engine, "SELECT id FROM shop.second WHERE x = 'x'").await.column(), ["2"]);
    assert_eq!(rows(&engine, "SELECT id FROM shop.\"Odd Name\"").await.column(), ["1"]);
    for hidden in ["private", "t"] {
        let message = error(&engine, &format!("SELECT * FROM shop.{hidden}")).await;
        assert!(message.contains(hidden), "what is not published is not found: {message}");
    }
    let listed = rows(
        &engine,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY table_name",
    )
    .await;
    assert_eq!(listed.column(), ["Odd Name", "first", "second"]);
}
