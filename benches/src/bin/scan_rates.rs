//! Full scans through each connector, beside the raw client of the same source.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin scan_rates`
//!
//! TPC-H's lineitem (1,200,000 rows, scale factor 0.2) is loaded into Postgres, MariaDB, a SQLite file and a Parquet file; every column of
//! every row is read. The peers: `psql` with COPY to nowhere, `mariadb --quick` to nowhere, the `sqlite3` shell to nowhere, and plain DataFusion
//! for Parquet. Postgres and MariaDB are read over as many connections as there are cores; Postgres over a single one too. The peers write text or nothing; Headwater ends with Arrow batches. MB are what the engine holds as Arrow, for both.
//!
//! The second table is the most memory that was resident while so many of the rows were read: each time in a process of its own, which is this program
//! once more, with the services, the service and the largest order key.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use arrow::array::RecordBatch;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use headwater::{Engine, Session};
use headwater_benches::{Median, Moved, resident_max_bytes, side_by_side};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use tokio::process::Command;
use tpchgen::generators::LineItemGenerator;
use tpchgen_arrow::LineItemArrow;

const SCALE_FACTOR: f64 = 0.2;

/// The services, each with all of the table.
const SERVICES: [&str; 4] = ["in_postgres", "in_mysql", "in_sqlite", "in_files"];

/// The shares of the table that the memory of a read is measured over.
const SHARES: [f64; 4] = [0.125, 0.25, 0.5, 1.0];

/// TPC-H's order keys leave gaps: there are so many to the scale factor.
const ORDER_KEYS: f64 = 6_000_000.0;

#[tokio::main]
async fn main() {
    if let [services, service, last] = &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        return read_and_tell(Path::new(services), service, last.parse().expect("an order key")).await;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (csv, parquet) = generate(directory.path()).await;
    let postgres = load_postgres(&csv).await;
    let mysql = load_mysql(&csv).await;
    let sqlite = load_sqlite(directory.path(), &csv).await;
    let services = describe(directory.path(), &postgres.url(), &mysql.url());
    let engine = open(&services).await;

    println!("| source | rows | headwater rows/s | MB/s (Arrow) | peer | peer rows/s | headwater / peer |");
    println!("|---|---:|---:|---:|---|---:|---:|");
    let copy = "COPY lineitem TO STDOUT (FORMAT binary)";
    let psql = async || shell("psql", &["-X", "-q", &postgres.url(), "-c", copy]).await;
    let session = engine.session();
    print("postgres", "psql, COPY binary", side_by_side(async || scan(&session, "in_postgres").await, psql).await);
    let alone = engine.session();
    alone.context().state_ref().write().config_mut().options_mut().execution.target_partitions = 1;
    let one = "postgres, one connection";
    print(one, "psql, COPY binary", side_by_side(async || scan(&alone, "in_postgres").await, psql).await);

    let mariadb = mariadb_arguments(&mysql.url());
    let arguments: Vec<&str> = mariadb.iter().map(String::as_str).collect();
    let mariadb = async || shell("mariadb", &arguments).await;
    print("mysql", "mariadb --quick", side_by_side(async || scan(&session, "in_mysql").await, mariadb).await);

    let file = sqlite.to_string_lossy().into_owned();
    let sqlite3 = async || shell("sqlite3", &[&file, "SELECT * FROM lineitem"]).await;
    print("sqlite", "sqlite3 shell", side_by_side(async || scan(&session, "in_sqlite").await, sqlite3).await);

    let plain = async || datafusion(&parquet).await;
    print("files (Parquet)", "DataFusion", side_by_side(async || scan(&session, "in_files").await, plain).await);
    drop(engine);

    println!("\n| source | rows | MB (Arrow) | resident at most, MiB |");
    println!("|---|---:|---:|---:|");
    for service in SERVICES {
        for share in SHARES {
            let last = (ORDER_KEYS * SCALE_FACTOR * share) as i64;
            println!("{}", read_by_another(&services, service, last).await);
        }
    }
}

/// Reads the lines up to an order key and prints a row of the second table.
async fn read_and_tell(services: &Path, service: &str, last: i64) {
    let session = open(services).await.session();
    let moved = read(&session, &format!("SELECT * FROM {service}.lineitem WHERE l_orderkey <= {last}")).await;
    let (rows, megabytes) = (moved.rows, moved.bytes as f64 / 1e6);
    println!("| {service} | {rows} | {megabytes:.0} | {} |", resident_max_bytes(std::process::id()) >> 20);
}

/// The row of the second table that this program prints as a process of its own.
async fn read_by_another(services: &Path, service: &str, last: i64) -> String {
    let program = std::env::current_exe().expect("the program has a path");
    let output =
        Command::new(program).args([services.as_os_str(), service.as_ref(), last.to_string().as_ref()]).output();
    let output = output.await.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn print(source: &str, peer: &str, (ours, theirs): (Median, Median)) {
    // The peers that write text don't count their rows: they read the same table.
    let peer_rate = ours.moved.rows as f64 / theirs.time.as_secs_f64();
    println!(
        "| {source} | {} | {:.0} | {:.0} | {peer} | {peer_rate:.0} | {:.2} |",
        ours.moved.rows,
        ours.rows_per_second(),
        ours.megabytes_per_second(),
        ours.rows_per_second() / peer_rate
    );
}

async fn scan(session: &Session, service: &str) -> Moved {
    read(session, &format!("SELECT * FROM {service}.lineitem")).await
}

async fn read(session: &Session, query: &str) -> Moved {
    let answer = session.sql(query).await.expect("the query is planned");
    let mut batches = answer.into_stream().expect("the query starts");
    let mut moved = Moved::default();
    while let Some(batch) = batches.try_next().await.expect("a batch arrives") {
        moved.rows += batch.num_rows() as u64;
        moved.bytes += batch.get_array_memory_size() as u64;
    }
    moved
}

/// Runs a client with its output thrown away.
async fn shell(program: &str, arguments: &[&str]) -> Moved {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status().await.expect("the client starts");
    assert!(status.success(), "{program} failed");
    Moved::default()
}

async fn datafusion(parquet: &Path) -> Moved {
    let context = SessionContext::new();
    let path = parquet.to_string_lossy();
    context.register_parquet("lineitem", path.as_ref(), ParquetReadOptions::default()).await.expect("the file is read");
    let mut batches = context.table("lineitem").await.expect("it is there").execute_stream().await.expect("it starts");
    let mut moved = Moved::default();
    while let Some(batch) = batches.try_next().await.expect("a batch arrives") {
        moved.rows += batch.num_rows() as u64;
        moved.bytes += batch.get_array_memory_size() as u64;
    }
    moved
}

/// The data as CSV, for loading, and as Parquet.
async fn generate(directory: &Path) -> (PathBuf, PathBuf) {
    let lines = LineItemArrow::new(LineItemGenerator::new(SCALE_FACTOR, 1, 1)).with_batch_size(8192);
    let context = SessionContext::new();
    let batches: Vec<RecordBatch> = lines.map(|batch| batch.expect("a batch is generated")).collect();
    let frame = context.read_batches(batches).expect("batches of one schema");
    let (csv, parquet) = (directory.join("lineitem.csv"), directory.join("lineitem.parquet"));
    let options = || DataFrameWriteOptions::new().with_single_file_output(true);
    frame.clone().write_csv(&csv.to_string_lossy(), options(), None).await.expect("CSV is written");
    frame.write_parquet(&parquet.to_string_lossy(), options(), None).await.expect("Parquet is written");
    (csv, parquet)
}

const COLUMNS: &str = "l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, \
    l_linenumber integer NOT NULL, l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, \
    l_discount decimal(15,2) NOT NULL, l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, \
    l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, \
    l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL";

async fn load_postgres(csv: &Path) -> PostgresDatabase {
    let database = PostgresDatabase::with(&format!("CREATE TABLE lineitem ({COLUMNS})")).await;
    database.copy_csv("lineitem", without_header(csv)).await;
    database.execute("VACUUM ANALYZE lineitem").await;
    database
}

async fn load_mysql(csv: &Path) -> MysqlDatabase {
    let database = MysqlDatabase::with(&format!("CREATE TABLE lineitem ({COLUMNS})")).await;
    database.load_csv("lineitem", without_header(csv)).await;
    database
}

async fn load_sqlite(directory: &Path, csv: &Path) -> PathBuf {
    let file = directory.join("lineitem.db");
    // Decimals are declared as SQLite programs keep them: floating.
    let columns = COLUMNS.replace("decimal(15,2)", "real");
    let connection = rusqlite::Connection::open(&file).expect("a file is made");
    connection.execute_batch(&format!("CREATE TABLE lineitem ({columns})")).expect("the table is made");
    let import = format!(".import --csv --skip 1 {} lineitem", csv.display());
    shell("sqlite3", &[&file.to_string_lossy(), &import]).await;
    file
}

fn without_header(csv: &Path) -> Vec<u8> {
    let text = std::fs::read(csv).expect("the CSV is there");
    let end = text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text[end..].to_vec()
}

fn mariadb_arguments(url: &str) -> Vec<String> {
    let rest = url.trim_start_matches("mysql://");
    let (account, address) = rest.split_once('@').expect("a URL with an account");
    let (user, password) = account.split_once(':').expect("an account with a password");
    let (host, database) = address.split_once('/').expect("a URL with a database");
    let (host, port) = host.split_once(':').expect("a host with a port");
    [
        "--no-defaults",
        "--quick",
        "--batch",
        "-h",
        host,
        "-P",
        port,
        "-u",
        user,
        &format!("-p{password}"),
        database,
        "-e",
    ]
    .iter()
    .map(|part| (*part).to_owned())
    .chain(["SELECT * FROM lineitem".to_owned()])
    .collect()
}

/// The four services, as manifests in a directory.
fn describe(directory: &Path, postgres: &str, mysql: &str) -> PathBuf {
    let services = directory.join("services");
    std::fs::create_dir(&services).expect("a directory is made");
    let sources = [
        (format!("{{connector: postgres, url: \"{postgres}\"}}"), "lineitem"),
        (format!("{{connector: mysql, url: \"{mysql}\"}}"), "lineitem"),
        ("{connector: sqlite, path: ../lineitem.db}".to_owned(), "lineitem"),
        ("{connector: files, url: ../}".to_owned(), "lineitem.parquet"),
    ];
    for (service, (source, from)) in SERVICES.into_iter().zip(sources) {
        let manifest = format!("service: {service}\nsource: {source}\npublishes: {{lineitem: {{from: {from}}}}}\n");
        std::fs::write(services.join(format!("{service}.yaml")), manifest).expect("a manifest is written");
    }
    services
}

async fn open(services: &Path) -> Engine {
    Engine::builder()
        .services_dir(services)
        .connectors(headwater_connectors::all())
        .build()
        .await
        .expect("the engine opens")
}
