//! One row by its key, through each layer, beside the bare driver.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin point_query`
//!
//! A table of 100,000 rows in Postgres is asked for one row at a time, by its primary key, over warm connections of one process. The bare driver runs
//! a statement that it has prepared. `connector` prepares and opens a scan of the Postgres connector and reads its batches: the table is
//! checked against its description each time. `engine` plans SQL and answers it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use headwater::Engine;
use headwater_connectors::PostgresConnector;
use headwater_source::{
    CompareOp, Connector, Expr, OpenContext, OptionValue, Options, ScalarValue, ScanRequest, ServiceName, Source,
    TableDef,
};
use headwater_sql_tests::postgres::PostgresDatabase;
use tokio_postgres::{Client, NoTls, Statement};

const ROWS: i64 = 100_000;
/// How often each side asks. The first tenth is not counted.
const ASKED: i64 = 2_000;

#[tokio::main]
async fn main() {
    let database = PostgresDatabase::with(&format!(
        "CREATE TABLE orders AS SELECT n AS id, n % 1000 AS customer, md5(n::text) AS note, now() AS at FROM generate_series(1, {ROWS}::bigint) n;
         ALTER TABLE orders ADD PRIMARY KEY (id); ANALYZE orders"
    ))
    .await;
    // Without TLS on either side: loopback.
    let url = format!("{}?sslmode=disable", database.url());
    let driver = driver(&url).await;
    let source = source(&url);
    let table = Arc::new(source.table("orders").await.expect("the table is described"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engine = engine(directory.path(), &url).await;

    let [mut bare, mut connector, mut planned] = [const { vec![] }; 3];
    for turn in 0..ASKED {
        let id = turn * 7_919 % ROWS + 1;
        bare.push(timed(async || by_driver(&driver, id).await).await);
        connector.push(timed(async || by_connector(&source, &table, id).await).await);
        planned.push(timed(async || by_engine(&engine, id).await).await);
    }
    let bare = median(bare);
    println!("| side | median, µs | more than the driver, µs |");
    println!("|---|---:|---:|");
    for (side, time) in [("driver", bare), ("connector", median(connector)), ("engine", median(planned))] {
        println!("| {side} | {} | {} |", time.as_micros(), time.saturating_sub(bare).as_micros());
    }
}

async fn timed(ask: impl AsyncFnOnce() -> usize) -> Duration {
    let started = Instant::now();
    assert_eq!(ask().await, 1, "each key has a row");
    started.elapsed()
}

fn median(times: Vec<Duration>) -> Duration {
    let mut times = times[times.len() / 10..].to_vec();
    times.sort();
    times[times.len() / 2]
}

async fn by_driver((client, statement): &(Client, Statement), id: i64) -> usize {
    client.query(statement, &[&id]).await.expect("the driver asks").len()
}

async fn by_connector(source: &Arc<dyn Source>, table: &Arc<TableDef>, id: i64) -> usize {
    let mut request = ScanRequest::all(Arc::clone(table));
    request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from(id)))];
    let scan = source.prepare(request).await.expect("the scan is prepared");
    let batches: Vec<_> = scan.open(0).await.expect("it starts").try_collect().await.expect("it is read");
    batches.iter().map(|batch| batch.num_rows()).sum()
}

async fn by_engine(engine: &Engine, id: i64) -> usize {
    let answer = engine.sql(&format!("SELECT * FROM shop.orders WHERE id = {id}")).await.expect("the query is planned");
    let batches: Vec<_> = answer.into_stream().expect("it starts").try_collect().await.expect("it is answered");
    batches.iter().map(|batch| batch.num_rows()).sum()
}

async fn driver(url: &str) -> (Client, Statement) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server takes connections");
    tokio::spawn(connection);
    let statement = client.prepare("SELECT * FROM orders WHERE id = $1").await.expect("it is prepared");
    (client, statement)
}

fn source(url: &str) -> Arc<dyn Source> {
    let service = ServiceName::parse("shop").expect("a name");
    let values = BTreeMap::from([("url".to_owned(), OptionValue::Text(url.to_owned()))]);
    let options = Options::check(PostgresConnector.options(), values).expect("the options are right");
    let context = OpenContext { service: &service, directory: Path::new("/") };
    PostgresConnector.open(context, &options).expect("the source opens")
}

async fn engine(directory: &Path, url: &str) -> Engine {
    let manifest = format!("service: shop\nsource: {{connector: postgres, url: \"{url}\"}}\npublishes: \"*\"\n");
    std::fs::write(directory.join("shop.yaml"), manifest).expect("a manifest is written");
    let connectors = headwater_connectors::all();
    Engine::builder().services_dir(directory).connectors(connectors).build().await.expect("the engine opens")
}
