//! What a query costs before its first row: the time to plan it, by phase, and a whole point query beside the bare driver.
//!
//! `cargo run --release -p headwater-benches --bin planning [SERVICES SEARCH_PATH]`
//!
//! Without arguments the services are a SQLite file (orders, lineitem) and a Parquet file (customer, nation) with TPC-H's columns and few
//! rows; with a directory of manifests and a search path (`a,b`), theirs. The questions are eight that a microservice asks. Descriptions of
//! tables are warm; each number is the median of 200 runs. The last table asks for one row by its key, through Headwater and through the
//! driver of SQLite alone, whose statement is prepared each time, as Headwater's is.

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, RecordBatchReader};
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use headwater::{Engine, Session};
use tpchgen::generators::{CustomerGenerator, NationGenerator};
use tpchgen_arrow::{CustomerArrow, NationArrow};

const RUNS: usize = 200;

const QUESTIONS: [(&str, &str); 8] = [
    (
        "one customer's orders and their lines",
        "SELECT c_custkey, c_name, o_orderkey, o_orderdate, l_linenumber, l_quantity, l_extendedprice \
         FROM customer JOIN orders ON o_custkey = c_custkey JOIN lineitem ON l_orderkey = o_orderkey \
         WHERE c_custkey = 370 ORDER BY o_orderkey, l_linenumber",
    ),
    (
        "top 10 latest orders of a nation's customers",
        "SELECT o_orderkey, o_orderdate, o_totalprice, c_name FROM nation \
         JOIN customer ON c_nationkey = n_nationkey JOIN orders ON o_custkey = c_custkey \
         WHERE n_name = 'KENYA' ORDER BY o_orderdate DESC, o_orderkey LIMIT 10",
    ),
    (
        "revenue of the customers above a balance",
        "SELECT c_custkey, c_name, count(*) AS line_count, sum(l_extendedprice * (1 - l_discount)) AS revenue \
         FROM customer, orders, lineitem WHERE c_custkey = o_custkey AND o_orderkey = l_orderkey AND c_acctbal > 9990 \
         GROUP BY c_custkey, c_name ORDER BY c_custkey",
    ),
    ("count of all lines", "SELECT count(*) AS line_count FROM lineitem"),
    (
        "orders by priority",
        "SELECT o_orderpriority, count(*) AS order_count, sum(o_totalprice) AS total, max(o_orderdate) AS latest \
         FROM orders GROUP BY o_orderpriority ORDER BY o_orderpriority",
    ),
    (
        "quantities of one day's orders, with names",
        "SELECT c_name, o_orderkey, sum(l_quantity) AS qty FROM customer, orders, lineitem \
         WHERE c_custkey = o_custkey AND o_orderkey = l_orderkey AND o_orderdate = DATE '1995-03-15' \
         GROUP BY c_name, o_orderkey ORDER BY o_orderkey",
    ),
    ("any 100 lines", "SELECT l_orderkey, l_linenumber, l_partkey, l_comment FROM lineitem LIMIT 100"),
    (
        "orders by priority of the customers above a balance",
        "SELECT o_orderpriority, count(*) AS order_count FROM orders \
         WHERE o_custkey IN (SELECT c_custkey FROM customer WHERE c_acctbal > 9990) \
         GROUP BY o_orderpriority ORDER BY o_orderpriority",
    ),
];

const ORDERS: &str = "
CREATE TABLE orders (o_orderkey INTEGER PRIMARY KEY, o_custkey INTEGER NOT NULL, o_orderstatus TEXT NOT NULL,
    o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL, o_orderpriority TEXT NOT NULL, o_clerk TEXT NOT NULL,
    o_shippriority INTEGER NOT NULL, o_comment TEXT NOT NULL);
CREATE TABLE lineitem (l_orderkey INTEGER NOT NULL, l_partkey INTEGER NOT NULL, l_suppkey INTEGER NOT NULL,
    l_linenumber INTEGER NOT NULL, l_quantity DECIMAL(15,2) NOT NULL, l_extendedprice DECIMAL(15,2) NOT NULL,
    l_discount DECIMAL(15,2) NOT NULL, l_tax DECIMAL(15,2) NOT NULL, l_returnflag TEXT NOT NULL, l_linestatus TEXT NOT NULL,
    l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL, l_receiptdate DATE NOT NULL, l_shipinstruct TEXT NOT NULL,
    l_shipmode TEXT NOT NULL, l_comment TEXT NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber));
INSERT INTO orders VALUES (7, 370, 'O', 172799.49, '1996-01-02', '5-LOW', 'Clerk#000000951', 0, 'none');
INSERT INTO lineitem VALUES (7, 1, 1, 1, 17, 21168.23, 0.04, 0.02, 'N', 'O', '1996-03-13', '1996-02-12', '1996-03-22',
    'DELIVER IN PERSON', 'TRUCK', 'none');
";

/// The phases of a plan, and the whole way from a statement's text to an answer that can be read.
#[derive(Default)]
struct Times {
    logical: Vec<Duration>,
    optimized: Vec<Duration>,
    physical: Vec<Duration>,
    whole: Vec<Duration>,
    with_session: Vec<Duration>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let fixture = tempfile::tempdir().expect("a temporary directory");
    let engine = match &arguments[..] {
        [services, search_path] => open(Path::new(services), search_path).await,
        [] => open(&lay_out(fixture.path()).await, "customers,orders").await,
        _ => panic!("usage: planning [SERVICES SEARCH_PATH]"),
    };
    println!(
        "| question | SQL to logical, µs | optimizer, µs | regions and physical, µs | whole, µs | whole in a new session, µs |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, question) in QUESTIONS {
        let times = planned(&engine, question).await;
        let [logical, optimized, physical, whole, with_session] =
            [times.logical, times.optimized, times.physical, times.whole, times.with_session].map(median);
        println!("| {name} | {logical} | {optimized} | {physical} | {whole} | {with_session} |");
    }
    let sessions = timed_each(async || drop(engine.session())).await;
    println!("\nA new session: {sessions} µs.");
    if arguments.is_empty() {
        point_query(&engine, &fixture.path().join("orders.db")).await;
    }
}

async fn planned(engine: &Engine, question: &str) -> Times {
    let session = engine.session();
    let mut times = Times::default();
    for _ in 0..=RUNS {
        phases(&session, question, &mut times).await;
        let started = Instant::now();
        drop(session.sql(question).await.expect("the question is planned"));
        times.whole.push(started.elapsed());
        let started = Instant::now();
        drop(engine.sql(question).await.expect("the question is planned"));
        times.with_session.push(started.elapsed());
    }
    times
}

async fn phases(session: &Session, question: &str, times: &mut Times) {
    let state = session.context().state();
    let started = Instant::now();
    let logical = state.create_logical_plan(question).await.expect("the question is SQL");
    times.logical.push(started.elapsed());
    let started = Instant::now();
    let optimized = state.optimize(&logical).expect("the plan is optimized");
    times.optimized.push(started.elapsed());
    let started = Instant::now();
    state.query_planner().create_physical_plan(&optimized, &state).await.expect("the plan is made physical");
    times.physical.push(started.elapsed());
}

/// One row by its key: planned, asked and read.
async fn point_query(engine: &Engine, file: &Path) {
    let session = engine.session();
    let ours = timed_each(async || {
        let answer =
            session.sql("SELECT * FROM orders.orders WHERE o_orderkey = 7").await.expect("the query is planned");
        let batches: Vec<RecordBatch> =
            answer.into_stream().expect("it starts").try_collect().await.expect("it answers");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    })
    .await;
    let prepared = session.prepare("SELECT * FROM orders.orders WHERE o_orderkey = $1").await.expect("it is prepared");
    let again = timed_each(async || {
        let answer = prepared.execute(vec![7_i64.into()]).await.expect("the query is planned");
        let batches = answer.collect().await.expect("it answers");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    })
    .await;
    let driver = rusqlite::Connection::open(file).expect("the file is SQLite");
    let theirs = timed_each(async || {
        let mut statement = driver.prepare("SELECT * FROM orders WHERE o_orderkey = ?").expect("it is prepared");
        let rows = statement.query_map([7], |row| row.get::<_, String>(8)).expect("it runs");
        assert_eq!(rows.count(), 1);
    })
    .await;
    println!("\n| one row by its key | µs |\n|---|---:|");
    println!("| headwater, SQL | {ours} |\n| headwater, prepared | {again} |\n| rusqlite | {theirs} |");
}

/// The median time of a run, in microseconds.
async fn timed_each(mut run: impl AsyncFnMut()) -> u128 {
    let mut times = Vec::with_capacity(RUNS + 1);
    for _ in 0..=RUNS {
        let started = Instant::now();
        run().await;
        times.push(started.elapsed());
    }
    median(times)
}

/// In microseconds; the first run is not counted.
fn median(times: Vec<Duration>) -> u128 {
    let mut times = times[1..].to_vec();
    times.sort();
    times[times.len() / 2].as_micros()
}

async fn open(services: &Path, search_path: &str) -> Engine {
    let engine = Engine::builder()
        .services_dir(services)
        .connectors(headwater_connectors::all())
        .search_path(search_path.split(',').map(str::trim))
        .build()
        .await
        .unwrap_or_else(|error| panic!("{}", error.report()));
    let faults = engine.discover().await;
    assert!(faults.is_empty(), "every service must answer: {faults:?}");
    engine
}

/// The stores and their manifests; returns the manifests' directory.
async fn lay_out(directory: &Path) -> std::path::PathBuf {
    let orders = rusqlite::Connection::open(directory.join("orders.db")).expect("a SQLite file");
    orders.execute_batch(ORDERS).expect("the tables are made");
    let customers = directory.join("customers");
    std::fs::create_dir(&customers).expect("a directory");
    write_parquet(&customers.join("customer.parquet"), CustomerArrow::new(CustomerGenerator::new(0.001, 1, 1))).await;
    write_parquet(&customers.join("nation.parquet"), NationArrow::new(NationGenerator::default())).await;
    let services = directory.join("services");
    std::fs::create_dir(&services).expect("a directory");
    let manifest = |service: &str, source: &str, publishes: &str| {
        let text = format!("service: {service}\nsource: {{{source}}}\npublishes: {publishes}\n");
        std::fs::write(services.join(format!("{service}.yaml")), text).expect("a manifest");
    };
    manifest("orders", "connector: sqlite, path: ../orders.db", "\"*\"");
    let published = "{customer: {from: customer.parquet}, nation: {from: nation.parquet}}";
    manifest("customers", "connector: files, url: ../customers/", published);
    services
}

async fn write_parquet(file: &Path, rows: impl RecordBatchReader) {
    let batches: Vec<RecordBatch> = rows.collect::<Result<_, _>>().expect("generated rows are well-formed");
    let frame = SessionContext::new().read_batches(batches).expect("batches of one schema");
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    frame.write_parquet(&file.to_string_lossy(), options, None).await.expect("the file is written");
}
