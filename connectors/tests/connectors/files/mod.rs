//! The files connector against real files in a temporary directory.

mod conforms;
mod faults;
mod feed;
mod formats;
mod layout;
mod pushdown;
mod statistics;
mod store;
mod streams;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use futures::TryStreamExt;
use headwater_connectors::FilesConnector;
use headwater_source::{
    Connector, Error, OpenContext, OptionValue, Options, Result, ScanRequest, ServiceName, Source, TableDef,
};
use tempfile::TempDir;

/// A directory of files and the source that reads it.
struct Shop {
    directory: TempDir,
    source: Arc<dyn Source>,
}

impl Shop {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(options: &[(&str, OptionValue)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = open(directory.path(), ".", options).unwrap();
        Self { directory, source }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn parquet(&self, name: &str, batch: &RecordBatch) {
        self.parquet_in_groups(name, batch, 1024 * 1024);
    }

    fn parquet_in_groups(&self, name: &str, batch: &RecordBatch, rows: usize) {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn ipc(&self, name: &str, batch: &RecordBatch) {
        let file = File::create(self.path(name)).unwrap();
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
    }

    async fn table(&self, from: &str) -> Arc<TableDef> {
        Arc::new(self.source.table(from).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    async fn request(&self, from: &str) -> ScanRequest {
        ScanRequest::all(self.table(from).await)
    }

    /// Every row of a table, printed and sorted.
    async fn rows(&self, from: &str) -> Vec<String> {
        lines(&self.read(self.request(from).await).await.unwrap_or_else(|error| panic!("{}", error.report())))
    }

    async fn read(&self, request: ScanRequest) -> Result<Vec<RecordBatch>> {
        let schema = request.schema();
        let scan = self.source.prepare(request).await?;
        let mut batches = vec![];
        for partition in 0..scan.partitions() {
            let read: Vec<RecordBatch> = scan.open(partition).await?.try_collect().await?;
            assert!(read.iter().all(|batch| batch.schema() == schema), "a batch has another schema");
            batches.extend(read);
        }
        Ok(batches)
    }

    /// What goes wrong from planning to the last row.
    async fn error(&self, from: &str) -> Error {
        let table = match self.source.table(from).await {
            Ok(table) => table,
            Err(error) => return error,
        };
        self.read(ScanRequest::all(Arc::new(table))).await.expect_err("the read must fail")
    }
}

fn open(directory: &Path, url: &str, options: &[(&str, OptionValue)]) -> Result<Arc<dyn Source>> {
    let mut values: BTreeMap<String, OptionValue> =
        options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    values.insert("url".to_owned(), text(url));
    let options = Options::check(FilesConnector.options(), values)?;
    let service = ServiceName::parse("suppliers")?;
    FilesConnector.open(OpenContext { service: &service, directory }, &options)
}

fn text(value: &str) -> OptionValue {
    OptionValue::Text(value.to_owned())
}

/// The rows as `a|b`, sorted.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let printed = pretty_format_batches(batches).unwrap().to_string();
    let rows = printed.lines().skip(3).filter(|line| line.starts_with('|'));
    let mut rows: Vec<String> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|")).collect();
    rows.sort();
    rows
}

fn types(table: &TableDef) -> Vec<String> {
    table.columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect()
}

/// Rows `first..first + count` of a table of an id and a name; every third name is NULL.
fn people(first: i64, count: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first..first + count);
    let names: StringArray = (first..first + count).map(|id| (id % 3 != 0).then(|| format!("name {id}"))).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, false),
        ("name", Arc::new(names) as ArrayRef, true),
    ])
    .unwrap()
}
