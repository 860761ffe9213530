//! MariaDB and MySQL: a real server at `HEADWATER_TEST_MYSQL_URL`, with a user who may create databases and users, and a
//! certificate for `localhost` from the authority whose PEM file is `HEADWATER_TEST_MYSQL_CA`.

mod access;
mod catalog;
mod change;
mod conforms;
mod ends;
mod feed;
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

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use headwater_connectors::MysqlConnector;
use headwater_source::{
    Connector, OpenContext, OptionValue, Options, Result, ScanRequest, ServiceName, Source, TableDef,
};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder};
use url::Url;

/// How long a test waits for what must come to pass.
const DEADLINE: Duration = Duration::from_secs(10);

/// A database of a test's own, dropped with it, and a session that may do anything in it.
struct Database {
    name: String,
    admin: Conn,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./test"))
}

fn server() -> Url {
    Url::parse(&variable("HEADWATER_TEST_MYSQL_URL")).expect("HEADWATER_TEST_MYSQL_URL must be a url")
}

async fn connect(url: &Url) -> Conn {
    let options = mysql_async::Opts::from_url(url.as_str()).unwrap();
    Conn::new(OptsBuilder::from_opts(options).prefer_socket(false)).await.unwrap()
}

impl Database {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hw_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = connect(&server()).await;
        for statement in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"),
            format!("USE {name}"),
            // What the tests write must reach the table as it stands.
            "SET NAMES utf8mb4, sql_mode = '', time_zone = '+00:00'".to_owned(),
        ] {
            admin.query_drop(statement).await.unwrap();
        }
        Self { name, admin }
    }

    async fn run(&mut self, statement: &str) {
        if let Err(error) = self.admin.query_drop(statement).await {
            panic!("{statement}: {error}");
        }
    }

    async fn ask<T: FromRow + Send + 'static>(&mut self, statement: &str) -> T {
        self.admin.query_first(statement).await.unwrap().unwrap()
    }

    /// The url of this database, for the tests' user.
    fn url(&self) -> Url {
        let mut url = server();
        url.set_path(&self.name);
        url
    }

    fn source(&self) -> Arc<dyn Source> {
        open(self.url().as_str(), &[]).unwrap()
    }

    /// A source with more options.
    fn source_with(&self, options: &[(&str, OptionValue)]) -> Arc<dyn Source> {
        open(self.url().as_str(), options).unwrap()
    }

    /// Waits until the statement's answer is `wanted`, or fails at the deadline.
    async fn wait_for(&mut self, statement: &str, wanted: i64) {
        let start = Instant::now();
        loop {
            let found: i64 = self.ask(statement).await;
            if found == wanted {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{statement} is still {found}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {}", self.name);
        // A thread, because dropping cannot wait and the test's own runtime may be over.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = connect(&server()).await;
                conn.query_drop("SET lock_wait_timeout = 5").await.unwrap();
                conn.query_drop(statement).await.unwrap();
                conn.disconnect().await.unwrap();
            });
        });
        if cleaner.join().is_err() && !std::thread::panicking() {
            panic!("the test's database could not be dropped");
        }
    }
}

fn open(url: &str, options: &[(&str, OptionValue)]) -> Result<Arc<dyn Source>> {
    let service = ServiceName::parse("shop")?;
    let mut values = BTreeMap::from([("url".to_owned(), OptionValue::Text(url.to_owned()))]);
    values.extend(options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let options = Options::check(MysqlConnector.options(), values)?;
    MysqlConnector.open(OpenContext { service: &service, directory: Path::new("/") }, &options)
}

fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

async fn table(source: &Arc<dyn Source>, name: &str) -> Arc<TableDef> {
    Arc::new(source.table(name).await.unwrap())
}

/// Every row of a request as one batch.
async fn read(source: &Arc<dyn Source>, request: ScanRequest) -> Result<RecordBatch> {
    let schema = request.schema();
    let batches: Vec<RecordBatch> = source.prepare(request).await?.open(0).await?.try_collect().await?;
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
    }
    Ok(concat_batches(&schema, &batches).unwrap())
}

async fn read_all(source: &Arc<dyn Source>, name: &str) -> RecordBatch {
    read(source, ScanRequest::all(table(source, name).await)).await.unwrap()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"))
}

/// The values of the tests' `id INT NOT NULL`, in order.
fn ids(batch: &RecordBatch) -> Vec<i32> {
    let mut ids: Vec<i32> = column(batch, "id").as_primitive::<Int32Type>().values().to_vec();
    ids.sort_unstable();
    ids
}
