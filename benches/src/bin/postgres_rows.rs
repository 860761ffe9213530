//! Rows over the Postgres protocol: Headwater's door beside Postgres itself, the same rows to the same client.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin postgres_rows`
//!
//! One table of 1,000,000 orders is in Postgres and in a Parquet file. The client (tokio-postgres, one connection over loopback without TLS) reads all of it from
//! Postgres, from Headwater over the file, which is no bottleneck, and from Headwater over that Postgres, which both pay for. It asks in each way that drivers do: a
//! prepared statement with its rows in binary (psycopg with `binary=True`, asyncpg), a simple query with its rows as text (psql, psycopg without parameters), and COPY as
//! text and in binary.

use std::path::Path;
use std::pin::pin;

use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use headwater::Engine;
use headwater_benches::{Median, Moved, median, timed};
use headwater_server::{Security, pg};
use headwater_sql_tests::postgres::PostgresDatabase;
use tokio::net::TcpListener;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How the client asks.
#[derive(Debug, Clone, Copy)]
enum Way {
    Binary,
    Text,
    CopyText,
    CopyBinary,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Binary, "prepared, binary"),
    (Way::Text, "simple query, text"),
    (Way::CopyText, "COPY, text"),
    (Way::CopyBinary, "COPY, binary"),
];

/// How often each side is asked. The first run of each is not counted.
const RUNS: usize = 5;
const ROWS: u64 = 1_000_000;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let database = PostgresDatabase::with(&format!(
        "CREATE TABLE orders AS SELECT n AS id, n % 1000 AS customer, (n * 0.37)::float8 AS amount, 'order ' || n || ' of customer ' || n % 1000 AS note, \
         timestamp '2024-01-01' + n * interval '1 second' AS placed_at FROM generate_series(1, {ROWS}::bigint) n"
    ))
    .await;
    database.execute("VACUUM ANALYZE orders").await;
    let engine = engine(directory.path(), &database.url()).await;
    let door = door(engine).await;
    let (postgres, headwater) = (client(&database.url()).await, client(&door).await);
    let sides = [
        ("postgres", &postgres, "orders"),
        ("headwater over Parquet", &headwater, "files.orders"),
        ("headwater over Postgres", &headwater, "shop.orders"),
    ];
    println!("| client | server | rows | rows/s | MB/s on the wire | of Postgres |");
    println!("|---|---|---:|---:|---:|---:|");
    for (way, named) in WAYS {
        let mut runs = [const { vec![] }; 3];
        for _ in 0..=RUNS {
            for ((_, client, table), runs) in sides.iter().zip(&mut runs) {
                runs.push(timed(&mut async || read(client, way, table).await).await);
            }
        }
        let medians: Vec<Median> = runs.iter().map(|runs| median(&runs[1..])).collect();
        for ((server, ..), median) in sides.iter().zip(&medians) {
            match way {
                Way::CopyBinary => assert_eq!(median.moved.bytes, medians[0].moved.bytes, "{server}, {named}"),
                _ => assert_eq!(median.moved.rows, ROWS, "{server}, {named}"),
            }
            let rate = ROWS as f64 / median.time.as_secs_f64();
            let peer = ROWS as f64 / medians[0].time.as_secs_f64();
            let wire =
                if median.moved.bytes == 0 { "-".to_owned() } else { format!("{:.0}", median.megabytes_per_second()) };
            println!("| {named} | {server} | {ROWS} | {rate:.0} | {wire} | {:.2} |", rate / peer);
        }
    }
}

async fn read(client: &Client, way: Way, table: &str) -> Moved {
    let mut moved = Moved::default();
    match way {
        Way::Binary => {
            let rows = client.query_raw::<_, i64, _>(&format!("SELECT * FROM {table}"), []).await.expect("it is asked");
            let mut rows = pin!(rows);
            while rows.try_next().await.expect("a row arrives").is_some() {
                moved.rows += 1;
            }
        }
        Way::Text => {
            let mut messages =
                pin!(client.simple_query_raw(&format!("SELECT * FROM {table}")).await.expect("it is asked"));
            while let Some(message) = messages.try_next().await.expect("a message arrives") {
                moved.rows += u64::from(matches!(message, SimpleQueryMessage::Row(_)));
            }
        }
        Way::CopyText | Way::CopyBinary => {
            let format = if matches!(way, Way::CopyText) { "text" } else { "binary" };
            let copy = format!("COPY (SELECT * FROM {table}) TO STDOUT (FORMAT {format})");
            let mut chunks = pin!(client.copy_out(&copy).await.expect("it is asked"));
            while let Some(chunk) = chunks.try_next().await.expect("a chunk arrives") {
                moved.bytes += chunk.len() as u64;
                // A row of text is a line; one in binary has no end of its own, and the sizes are compared instead.
                if matches!(way, Way::CopyText) {
                    moved.rows += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
                }
            }
        }
    }
    moved
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server takes connections");
    // Ends with the client.
    tokio::spawn(connection);
    client
}

async fn door(engine: Engine) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let for_ever = std::future::pending::<()>();
    tokio::spawn(pg::serve(engine, listener, for_ever, pg::Limits::default(), Security::default()));
    format!("postgres://bench@{address}/headwater")
}

/// An engine over the database, and over a copy of its table in a file.
async fn engine(directory: &Path, url: &str) -> Engine {
    let (services, folder) = (directory.join("services"), directory.join("files"));
    std::fs::create_dir(&services).expect("a directory is made");
    std::fs::create_dir(&folder).expect("a directory is made");
    let manifest = format!(
        "service: shop\nsource: {{connector: postgres, url: \"{url}\"}}\npublishes: {{orders: {{from: orders}}}}\n"
    );
    std::fs::write(services.join("shop.yaml"), manifest).expect("a manifest is written");
    let engine = opened(&services).await;
    let rows =
        engine.sql("SELECT * FROM shop.orders").await.expect("it is planned").collect().await.expect("it is read");
    let frame = SessionContext::new().read_batches(rows).expect("batches of one schema");
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    let file = folder.join("orders.parquet");
    frame.write_parquet(&file.to_string_lossy(), options, None).await.expect("Parquet is written");
    let manifest =
        "service: files\nsource: {connector: files, url: ../files/}\npublishes: {orders: {from: orders.parquet}}\n";
    std::fs::write(services.join("files.yaml"), manifest).expect("a manifest is written");
    opened(&services).await
}

async fn opened(services: &Path) -> Engine {
    let builder = Engine::builder().services_dir(services).connectors(headwater_connectors::all());
    builder.build().await.expect("the engine opens")
}
