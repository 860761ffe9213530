//! What the tests of feeds have in common.

#![allow(dead_code, reason = "a build with fewer connectors does not use all of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use headwater_connectors::conformance::feed::{FeedStore, Replica, check};
use headwater_source::{
    Change, Connector, Error, Feed, FeedOptions, OpenContext, OptionValue, Options, Position, Result, RowChanges,
    ScanRequest, ServiceName, Source, TableDef, Transaction, TransactionStream,
};

/// Runs the suite.
pub(crate) async fn conforms(store: &dyn FeedStore) {
    check(store).await.unwrap_or_else(|violation| panic!("{violation}"));
}

/// Opens a source with its feed.
pub(crate) fn open_followed(
    connector: &dyn Connector,
    service: &str,
    directory: &Path,
    options: &[(&str, OptionValue)],
    mode: &str,
    feed: &[(&str, OptionValue)],
) -> Result<Arc<dyn Source>> {
    let service = ServiceName::parse(service)?;
    let values = |pairs: &[(&str, OptionValue)]| -> BTreeMap<String, OptionValue> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let options = Options::check(connector.options(), values(options))?;
    let feed = FeedOptions::check(connector.feeds(), mode, values(feed))?;
    connector.open_followed(OpenContext { service: &service, directory }, &options, &feed)
}

/// A source, its feed, and tables of it.
pub(crate) struct Following {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) feed: Arc<dyn Feed>,
    pub(crate) tables: Vec<TableDef>,
}

impl Following {
    /// With tables that are not installed.
    pub(crate) async fn of(source: Arc<dyn Source>, tables: &[&str]) -> Self {
        let feed = source.feed().expect("a feed that is switched on");
        let mut defs = vec![];
        for table in tables {
            defs.push(source.table(table).await.unwrap_or_else(|error| panic!("{}", error.report())));
        }
        Self { source, feed, tables: defs }
    }

    /// With tables that are installed.
    pub(crate) async fn installed(source: Arc<dyn Source>, tables: &[&str]) -> Self {
        let following = Self::of(source, tables).await;
        following.feed.install(&following.tables).await.unwrap_or_else(|error| panic!("{}", error.report()));
        following
    }

    pub(crate) async fn snapshot(&self) -> Replica {
        let at = self.feed.snapshot(&self.tables).await.unwrap_or_else(|error| panic!("{}", error.report()));
        Replica::load(&self.tables, at).await.unwrap_or_else(|violation| panic!("{violation}"))
    }

    pub(crate) async fn changes(&self, after: &Position) -> TransactionStream {
        self.feed.changes(&self.tables, after).await.unwrap_or_else(|error| panic!("{}", error.report()))
    }

    /// Takes what was committed so far; the transactions.
    pub(crate) async fn try_catch_up(&self, replica: &mut Replica) -> Result<Vec<Transaction>> {
        let head = self.feed.head().await?;
        let mut changes = self.feed.changes(&self.tables, replica.position()).await?;
        let mut taken = vec![];
        while *replica.position() < head {
            let transaction = next(&mut changes).await?;
            replica.apply(&transaction).unwrap_or_else(|violation| panic!("{violation}"));
            taken.push(transaction);
        }
        Ok(taken)
    }

    pub(crate) async fn catch_up(&self, replica: &mut Replica) -> Vec<Transaction> {
        self.try_catch_up(replica).await.unwrap_or_else(|error| panic!("{}", error.report()))
    }

    /// The same, of which only those with changes are returned, and after which the replica is the source's tables.
    pub(crate) async fn catch_up_and_agree(&self, replica: &mut Replica) -> Vec<Transaction> {
        let mut taken = self.catch_up(replica).await;
        self.agree(replica).await;
        taken.retain(|transaction| !transaction.changes.is_empty());
        taken
    }

    pub(crate) async fn scan(&self, table: usize) -> Vec<RecordBatch> {
        let request = ScanRequest::all(Arc::new(self.tables[table].clone()));
        let read = async {
            let scan = self.source.prepare(request).await?;
            let mut batches = vec![];
            for partition in 0..scan.partitions() {
                batches.extend(scan.open(partition).await?.try_collect::<Vec<_>>().await?);
            }
            Ok::<_, Error>(batches)
        };
        read.await.unwrap_or_else(|error| panic!("{}", error.report()))
    }

    pub(crate) async fn agree(&self, replica: &Replica) {
        for table in 0..self.tables.len() {
            let batches = self.scan(table).await;
            replica.equals(table, &batches).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
}

/// Waits for a transaction.
pub(crate) async fn next(changes: &mut TransactionStream) -> Result<Transaction> {
    let next = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
    next.expect("a transaction within 60 s").expect("changes do not end")
}

/// Waits for the error with which changes end.
pub(crate) async fn failure_of(changes: &mut TransactionStream) -> Error {
    loop {
        if let Err(error) = next(changes).await {
            return error;
        }
    }
}

/// The batches of a transaction's changes of rows.
pub(crate) fn rows(transaction: &Transaction) -> Vec<&RowChanges> {
    let mut all = vec![];
    for change in &transaction.changes {
        if let Change::Rows(rows) = &change.change {
            all.push(rows);
        }
    }
    all
}

/// How many rows of changes a transaction has.
pub(crate) fn row_count(transaction: &Transaction) -> usize {
    rows(transaction).iter().map(|rows| rows.ops.len()).sum()
}

/// The sum of the numbers in the first column, which is of 32 bits.
pub(crate) fn ids(rows: &RowChanges) -> i64 {
    rows.rows.column(0).as_primitive::<Int32Type>().iter().flatten().map(i64::from).sum()
}
