//! One row by its key, through each layer, beside the bare driver.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin point_query`
//!
//! A table of 100,000 rows, in Postgres and in MariaDB, is asked for one row at a time, by its primary key, over warm connections of one process. The bare driver runs
//! a statement that it has prepared. `connector` prepares and opens a scan of the connector and reads its batches: the table is checked against its description each time.
//! `connector, tagged` does so for a query, which the source can name to its operators. `engine` plans SQL and answers it, tagged too; `engine, observed` is told of each query
//! besides, as where traces are sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use headwater::{Engine, QueryObserver, QueryTrace};
use headwater_connectors::{MysqlConnector, PostgresConnector};
use headwater_source::{
    CompareOp, Connector, Expr, OpenContext, OptionValue, Options, QueryId, ReadContext, ScalarValue, ScanRequest,
    ServiceName, Source, TableDef,
};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use mysql_async::prelude::Queryable;
use tokio_postgres::NoTls;

const ROWS: i64 = 100_000;
/// How often each side asks. The first tenth is not counted.
const ASKED: i64 = 2_000;

/// A connection of the bare driver, with its statement.
enum Driver {
    Postgres(tokio_postgres::Client, tokio_postgres::Statement),
    Mysql(Box<mysql_async::Conn>, mysql_async::Statement),
}

/// Whether an engine is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Off,
    Observed,
}

/// Is told of each query, and makes nothing of it.
#[derive(Debug)]
struct Ignoring;

impl QueryObserver for Ignoring {
    fn ended(&self, _: QueryTrace) {}
}

#[tokio::main]
async fn main() {
    let postgres = PostgresDatabase::with(&format!(
        "CREATE TABLE orders AS SELECT n AS id, n % 1000 AS customer, md5(n::text) AS note, now() AS at FROM generate_series(1, {ROWS}::bigint) n;
         ALTER TABLE orders ADD PRIMARY KEY (id); ANALYZE orders"
    ))
    .await;
    let mysql = MysqlDatabase::with(&format!(
        "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY, customer BIGINT NOT NULL, note VARCHAR(40) NOT NULL, at DATETIME NOT NULL);
         INSERT INTO orders SELECT seq, seq % 1000, MD5(seq), NOW() FROM seq_1_to_{ROWS}; ANALYZE TABLE orders"
    ))
    .await;
    println!("| source | side | median, µs | p99, µs | more than the driver, µs |");
    println!("|---|---|---:|---:|---:|");
    // Without TLS on any side: loopback.
    let url = format!("{}?sslmode=disable", postgres.url());
    let driver = Driver::postgres(&url).await;
    measure("Postgres", driver, &PostgresConnector, "postgres", &url).await;
    let url = format!("{}?sslmode=disable", mysql.url());
    let driver = Driver::mysql(&mysql).await;
    measure("MariaDB", driver, &MysqlConnector, "mysql", &url).await;
}

async fn measure(name: &str, mut driver: Driver, connector: &dyn Connector, kind: &str, url: &str) {
    let source = source(connector, url);
    let table = Arc::new(source.table("orders").await.expect("the table is described"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (plain, watched) = (
        engine(directory.path(), kind, url, Watch::Off).await,
        engine(directory.path(), kind, url, Watch::Observed).await,
    );
    let [mut bare, mut scanned, mut tagged, mut planned, mut observed] = [const { vec![] }; 5];
    for turn in 0..ASKED {
        let id = turn * 7_919 % ROWS + 1;
        let query = ReadContext::from(QueryId::new(turn.unsigned_abs()));
        bare.push(timed(async || driver.ask(id).await).await);
        scanned.push(timed(async || by_connector(&source, &table, id, &ReadContext::default()).await).await);
        tagged.push(timed(async || by_connector(&source, &table, id, &query).await).await);
        planned.push(timed(async || by_engine(&plain, id).await).await);
        observed.push(timed(async || by_engine(&watched, id).await).await);
    }
    let floor = share(&bare, 0.5);
    for (side, times) in [
        ("driver", &bare),
        ("connector", &scanned),
        ("connector, tagged", &tagged),
        ("engine", &planned),
        ("engine, observed", &observed),
    ] {
        let median = share(times, 0.5);
        println!(
            "| {name} | {side} | {} | {} | {} |",
            median.as_micros(),
            share(times, 0.99).as_micros(),
            median.saturating_sub(floor).as_micros()
        );
    }
}

async fn timed(ask: impl AsyncFnOnce() -> usize) -> Duration {
    let started = Instant::now();
    assert_eq!(ask().await, 1, "each key has a row");
    started.elapsed()
}

fn share(times: &[Duration], share: f64) -> Duration {
    headwater_benches::percentile(&times[times.len() / 10..], share)
}

impl Driver {
    async fn postgres(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server takes connections");
        tokio::spawn(connection);
        let statement = client.prepare("SELECT * FROM orders WHERE id = $1").await.expect("it is prepared");
        Self::Postgres(client, statement)
    }

    async fn mysql(database: &MysqlDatabase) -> Self {
        let mut conn = database.client().await;
        let statement = conn.prep("SELECT * FROM orders WHERE id = ?").await.expect("it is prepared");
        Self::Mysql(Box::new(conn), statement)
    }

    async fn ask(&mut self, id: i64) -> usize {
        match self {
            Self::Postgres(client, statement) => client.query(statement, &[&id]).await.expect("it asks").len(),
            Self::Mysql(conn, statement) => {
                conn.exec::<mysql_async::Row, _, _>(&*statement, (id,)).await.expect("it asks").len()
            }
        }
    }
}

async fn by_connector(source: &Arc<dyn Source>, table: &Arc<TableDef>, id: i64, context: &ReadContext) -> usize {
    let mut request = ScanRequest::all(Arc::clone(table));
    request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from(id)))];
    let scan = source.prepare(request).await.expect("the scan is prepared");
    let rows = scan.open_for(0, context).await.expect("it starts");
    let batches: Vec<_> = rows.try_collect().await.expect("it is read");
    batches.iter().map(|batch| batch.num_rows()).sum()
}

async fn by_engine(engine: &Engine, id: i64) -> usize {
    let answer = engine.sql(&format!("SELECT * FROM shop.orders WHERE id = {id}")).await.expect("the query is planned");
    let batches: Vec<_> = answer.into_stream().expect("it starts").try_collect().await.expect("it is answered");
    batches.iter().map(|batch| batch.num_rows()).sum()
}

fn source(connector: &dyn Connector, url: &str) -> Arc<dyn Source> {
    let service = ServiceName::parse("shop").expect("a name");
    let values = BTreeMap::from([("url".to_owned(), OptionValue::Text(url.to_owned()))]);
    let options = Options::check(connector.options(), values).expect("the options are right");
    let context = OpenContext { service: &service, directory: Path::new("/") };
    connector.open(context, &options).expect("the source opens")
}

async fn engine(directory: &Path, kind: &str, url: &str, watch: Watch) -> Engine {
    let manifest = format!(
        "service: shop\nsource: {{connector: {kind}, url: \"{url}\"}}\npublishes: {{orders: {{from: orders}}}}\n"
    );
    std::fs::write(directory.join("shop.yaml"), manifest).expect("a manifest is written");
    let mut builder = Engine::builder().services_dir(directory).connectors(headwater_connectors::all());
    if watch == Watch::Observed {
        builder = builder.observer(Arc::new(Ignoring));
    }
    builder.build().await.expect("the engine opens")
}
