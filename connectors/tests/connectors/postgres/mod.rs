//! The Postgres connector against a real server: `HEADWATER_TEST_POSTGRES_URL`, a role that may create databases and roles, and
//! `HEADWATER_TEST_POSTGRES_CA`, the authority of its certificate for localhost and 127.0.0.1.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]

mod access;
mod catalog;
mod change;
mod conforms;
mod feed;
mod local;
mod names;
mod pushdown;
mod split;
mod statistics;
mod stop;
mod tag;
mod types;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use headwater_connectors::PostgresConnector;
use headwater_source::{
    Connector, Error, OpenContext, OptionValue, Options, Result, ScanRequest, ServiceName, Source, TableDef,
};
use tokio_postgres::{Client, NoTls};

/// A variable that `./test` sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./test"))
}

fn server_url() -> String {
    variable("HEADWATER_TEST_POSTGRES_URL")
}

/// The server's url with another database, and without its query.
fn database_url(name: &str) -> String {
    let url = server_url();
    let base = url.split('?').next().unwrap_or_default();
    let (server, _) = base.rsplit_once('/').expect("the url names a database");
    format!("{server}/{name}")
}

/// The server's url with other credentials.
fn url_as(user: &str, password: &str, database: &str) -> String {
    let url = database_url(database);
    let (_, rest) = url.split_once('@').expect("the url names a user");
    format!("postgres://{user}:{password}@{rest}")
}

/// A name that no other test or run uses.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server takes connections");
    tokio::spawn(connection);
    client
}

/// A database of a test's own, dropped with it.
struct Database {
    name: String,
    client: Client,
}

impl Database {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(options: &str) -> Self {
        let name = unique("hw");
        let server = client(&server_url()).await;
        server
            .batch_execute(&format!("CREATE DATABASE {name} {options}"))
            .await
            .expect("the role may create databases");
        let client = client(&database_url(&name)).await;
        Self { name, client }
    }

    fn url(&self) -> String {
        database_url(&self.name)
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    fn source(&self) -> Arc<dyn Source> {
        open(&self.url(), &[]).expect("the options are right")
    }

    /// A source that reads a numeric without precision so.
    fn source_reading(&self, numeric: &str) -> Arc<dyn Source> {
        open(&self.url(), &[("numeric", text(numeric))]).expect("the options are right")
    }

    fn source_with(&self, options: &[(&str, u64)]) -> Arc<dyn Source> {
        let options: Vec<_> = options.iter().map(|(key, count)| (*key, OptionValue::Count(*count))).collect();
        open(&self.url(), &options).expect("the options are right")
    }

    /// How many of the connector's statements of this database hold the text and run.
    async fn running(&self, text: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'headwater shop'
            AND state = 'active' AND query LIKE '%' || $1 || '%'";
        self.client.query_one(sql, &[&text]).await.expect("pg_stat_activity is there").get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { drop(client(&server_url()).await.batch_execute(&sql).await) });
        });
        drop(dropping.join());
    }
}

fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

fn open(url: &str, options: &[(&str, OptionValue)]) -> Result<Arc<dyn Source>> {
    let service = ServiceName::parse("shop").expect("a name");
    let mut values: BTreeMap<String, OptionValue> =
        options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    values.insert("url".to_owned(), text(url));
    let options = Options::check(PostgresConnector.options(), values)?;
    PostgresConnector.open(OpenContext { service: &service, directory: Path::new("/") }, &options)
}

async fn table(source: &Arc<dyn Source>, from: &str) -> Arc<TableDef> {
    Arc::new(source.table(from).await.unwrap_or_else(|error| panic!("{}", error.report())))
}

async fn try_read(source: &Arc<dyn Source>, request: ScanRequest) -> Result<RecordBatch> {
    let schema = request.schema();
    let batches: Vec<RecordBatch> = source.prepare(request).await?.open(0).await?.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == schema), "a batch has the schema of its request");
    Ok(concat_batches(&schema, &batches).expect("batches of one schema"))
}

async fn read(source: &Arc<dyn Source>, request: ScanRequest) -> RecordBatch {
    try_read(source, request).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

async fn read_all(source: &Arc<dyn Source>, from: &str) -> RecordBatch {
    read(source, ScanRequest::all(table(source, from).await)).await
}

fn column(batch: &RecordBatch, name: &str) -> ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")).clone()
}

/// The error of a call that must fail.
fn failure<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it must fail"),
        Err(error) => error,
    }
}

/// Waits until the condition holds; the pause is only between looks.
async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
