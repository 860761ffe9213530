//! SQLite: real files, written by SQLite itself.

mod conforms;
mod feed;
mod pushes;
mod reads;
mod split;
mod statistics;
mod streams;
mod types;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use headwater_connectors::SqliteConnector;
use headwater_source::futures::TryStreamExt;
use headwater_source::{
    Connector, OpenContext, OptionValue, Options, Result, ScanRequest, ServiceName, Source, TableDef,
};
use rusqlite::Connection;
use tempfile::TempDir;

/// A database file, and a connection that writes to it.
struct Database {
    directory: TempDir,
    writer: Connection,
}

impl Database {
    fn new(sql: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let writer = Connection::open(directory.path().join("shop.db")).unwrap();
        writer.execute_batch(sql).unwrap();
        Self { directory, writer }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("shop.db")
    }

    fn run(&self, sql: &str) {
        self.writer.execute_batch(sql).unwrap();
    }

    fn source(&self) -> Arc<dyn Source> {
        self.source_with(&[])
    }

    fn source_with(&self, counts: &[(&str, u64)]) -> Arc<dyn Source> {
        open(self.directory.path(), "shop.db", counts).unwrap()
    }
}

fn service() -> ServiceName {
    ServiceName::parse("shop").unwrap()
}

fn open(directory: &Path, path: &str, counts: &[(&str, u64)]) -> Result<Arc<dyn Source>> {
    let connector = SqliteConnector;
    let mut values = vec![("path".to_owned(), OptionValue::Text(path.to_owned()))];
    values.extend(counts.iter().map(|(key, count)| ((*key).to_owned(), OptionValue::Count(*count))));
    let options = Options::check(connector.options(), values.into_iter().collect())?;
    connector.open(OpenContext { service: &service(), directory }, &options)
}

/// A request for all of a table, described now.
async fn request(source: &Arc<dyn Source>, table: &str) -> ScanRequest {
    ScanRequest::all(Arc::new(source.table(table).await.unwrap()))
}

async fn batches(source: &Arc<dyn Source>, request: &ScanRequest) -> Result<Vec<RecordBatch>> {
    source.prepare(request.clone()).await?.open(0).await?.try_collect().await
}

async fn read(source: &Arc<dyn Source>, request: &ScanRequest) -> Result<RecordBatch> {
    Ok(concat_batches(&request.schema(), &batches(source, request).await?).unwrap())
}

/// Each value of a column as Arrow prints it, NULL as "NULL".
fn printed(batch: &RecordBatch, column: usize) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::new().with_null("NULL");
    let array: &dyn Array = batch.column(column);
    let formatter = arrow::util::display::ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

fn column_of<'t>(table: &'t TableDef, name: &str) -> &'t headwater_source::ColumnDef {
    &table.columns[table.column_index(name).unwrap()]
}
