//! From a commit at its service to the row in a view, and from a restart to serving.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin view_live [SECONDS]`
//!
//! **Commit to visible.** A view joins orders in Postgres with customers in MariaDB. Writers commit 1,000 transactions a second at Postgres, each an
//! order of its own; a subscriber of the view notes when it sees it. Told is the time from when the writer knows of its commit until then; a row
//! that is seen earlier counts as 0. Writers, both servers and the engine share the machine.
//!
//! **Restart.** A view over a table of 1,000,000 rows; the engine ends after a checkpoint and is opened again. Told is the time until a query is
//! answered from the view.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use headwater::{Engine, ViewOptions};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use tokio::sync::Mutex;
use tokio_postgres::NoTls;

/// Transactions a second that all writers together commit.
const RATE: u64 = 1_000;
const WRITERS: u64 = 8;
const CUSTOMERS: i64 = 1_000;
const ROWS: i64 = 1_000_000;
/// The longest that the last rows may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(20, |text| text.parse().expect("a number of seconds as argument"));
    println!("| what | transactions | p50, ms | p90, ms | p99, ms | most, ms |");
    println!("|---|---:|---:|---:|---:|---:|");
    commit_to_visible(seconds).await;
    println!();
    println!("| restart of a view over rows | opened, ms | answered, ms |");
    println!("|---:|---:|---:|");
    restart().await;
}

async fn commit_to_visible(seconds: u64) {
    let orders = PostgresDatabase::with(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, total bigint NOT NULL)",
    )
    .await;
    let customers = MysqlDatabase::with("CREATE TABLE customers (id bigint PRIMARY KEY, region bigint NOT NULL)").await;
    let rows: Vec<String> = (0..CUSTOMERS).map(|id| format!("({id}, {})", id % 50)).collect();
    customers.execute(&format!("INSERT INTO customers VALUES {}", rows.join(","))).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    manifest(directory.path(), "orders", "postgres", &orders.url(), "logical");
    manifest(directory.path(), "customers", "mysql", &customers.url(), "binlog");
    let engine = open(directory.path(), None).await;
    create(&engine, "CREATE MATERIALIZED VIEW v.joined AS SELECT o.id, o.total, c.region FROM orders.orders o JOIN customers.customers c ON c.id = o.customer").await;
    let mut changes = engine.subscribe("v.joined").expect("the view is there");

    let committed: Arc<Mutex<HashMap<i64, Instant>>> = Arc::default();
    let (next, count) = (Arc::new(AtomicI64::new(0)), RATE * seconds);
    let begun = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (url, committed, next) = (orders.url(), Arc::clone(&committed), Arc::clone(&next));
            tokio::spawn(async move {
                let url = format!("{url}?sslmode=disable");
                let (client, connection) =
                    tokio_postgres::connect(&url, NoTls).await.expect("the server takes connections");
                tokio::spawn(connection);
                let insert = client.prepare("INSERT INTO orders VALUES ($1, $2, $3)").await.expect("it is prepared");
                for turn in 0..count / WRITERS {
                    let due = begun + Duration::from_micros((turn * WRITERS + writer) * 1_000_000 / RATE);
                    tokio::time::sleep_until(due.into()).await;
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    client.execute(&insert, &[&id, &(id % CUSTOMERS), &id]).await.expect("the order is committed");
                    let now = Instant::now();
                    committed.lock().await.insert(id, now);
                }
            })
        })
        .collect();
    let mut seen: HashMap<i64, Instant> = HashMap::new();
    let wanted = usize::try_from(count / WRITERS * WRITERS).expect("a count");
    while seen.len() < wanted {
        let left = (Duration::from_secs(seconds) + PATIENCE).saturating_sub(begun.elapsed());
        let change = tokio::time::timeout(left, changes.next()).await.expect("all rows are seen in time");
        let change = change.expect("the reader keeps up").expect("the engine runs");
        let now = Instant::now();
        let ids = change.delta.rows().column(0).as_primitive::<Int64Type>().values();
        seen.extend(ids.iter().map(|id| (*id, now)));
    }
    let took = begun.elapsed();
    for writer in writers {
        writer.await.expect("a writer ends");
    }
    let committed = committed.lock().await;
    let mut times: Vec<Duration> = committed.iter().map(|(id, at)| seen[id].saturating_duration_since(*at)).collect();
    times.sort();
    let at = |share: usize| times[(times.len() * share / 1_000).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "| commit at Postgres to visible, {:.0} a second | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
        times.len() as f64 / took.as_secs_f64(),
        times.len(),
        at(500),
        at(900),
        at(990),
        at(1_000)
    );
}

async fn restart() {
    let orders = PostgresDatabase::with(&format!(
        "CREATE TABLE orders AS SELECT n AS id, n % 1000 AS customer, n % 977 AS total FROM generate_series(1, {ROWS}::bigint) n;
         ALTER TABLE orders ADD PRIMARY KEY (id)"
    ))
    .await;
    let (directory, state) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    manifest(directory.path(), "orders", "postgres", &orders.url(), "logical");
    let engine = open(directory.path(), Some(state.path())).await;
    create(&engine, "CREATE MATERIALIZED VIEW v.totals AS SELECT customer, sum(total) AS total, count(*) AS n FROM orders.orders GROUP BY customer").await;
    engine.checkpoint().await.expect("the state is stored");
    drop(engine);
    for _ in 0..3 {
        let begun = Instant::now();
        let engine = open(directory.path(), Some(state.path())).await;
        let opened = begun.elapsed();
        loop {
            let answer = engine.sql("SELECT sum(n) FROM v.totals").await;
            if let Ok(answer) = answer
                && let Ok(batches) = answer.collect().await
            {
                assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), ROWS);
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "the view is not shown");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("| {ROWS} | {} | {} |", opened.as_millis(), begun.elapsed().as_millis());
        drop(engine);
    }
    let engine = open(directory.path(), Some(state.path())).await;
    engine.sql("DROP MATERIALIZED VIEW IF EXISTS v.totals").await.expect("the view goes");
}

fn manifest(directory: &Path, service: &str, connector: &str, url: &str, mode: &str) {
    let text = format!(
        "service: {service}\nsource: {{connector: {connector}, url: \"{url}\"}}\nfeed: {{mode: {mode}}}\npublishes: \"*\"\n"
    );
    std::fs::write(directory.join(format!("{service}.yaml")), text).expect("a manifest is written");
}

async fn open(directory: &Path, state: Option<&Path>) -> Engine {
    let views = ViewOptions { state: state.map(Into::into), ..ViewOptions::default() };
    let builder = Engine::builder().services_dir(directory).connectors(headwater_connectors::all()).views(views);
    builder.build().await.expect("the engine opens")
}

async fn create(engine: &Engine, sql: &str) {
    let answer = engine.sql(sql).await.unwrap_or_else(|error| panic!("{}", error.report()));
    answer.collect().await.unwrap_or_else(|error| panic!("{}", error.report()));
}
