//! The traits that a connector implements to be read.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::Stream;

use crate::{
    Capabilities, Error, Feed, QueryId, QueryRequest, ReadContext, RemoteStatement, Result, ScanRequest, Snapshot,
    TableDef, TableStatistics,
};

/// Record batches as they come. Dropping it stops the work at the source.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// One store of one service: what the engine reads from. Never writes.
///
/// Opening a source does no I/O; connections are made when they are needed and kept in a bounded pool, so a source that
/// is down now works once it is back.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// Where the data is, for people: host and database or path, never a password. Two sources with the same location are
    /// the same store under the same role.
    fn location(&self) -> String;

    /// What the source can do with a pushed expression. Fixed for the life of the source.
    fn capabilities(&self) -> &Capabilities;

    /// How many connections the source opens at a time, where each statement takes one; `None` where statements take none. The engine
    /// keeps a part of them free.
    fn connections_max(&self) -> Option<usize> {
        None
    }

    /// Whether the statements that read a state of the source ([`Source::snapshot`]) have their connections with it ([`Snapshot::with_connections`](crate::Snapshot::with_connections)).
    fn states_have_connections(&self) -> bool {
        false
    }

    /// Every table that the role may read, described now.
    async fn tables(&self) -> Result<Vec<TableDef>>;

    /// One table, by the name that a manifest's `from` gives it: the dotted path, or only its last part
    /// where that is unambiguous. Described now, not from a cache.
    async fn table(&self, from: &str) -> Result<TableDef>;

    /// What the source knows of a table's rows, from its own catalog and never by reading the table; `None` where it keeps no
    /// statistics. An error costs a good plan and no more.
    async fn statistics(&self, _table: &TableDef) -> Result<Option<TableStatistics>> {
        Ok(None)
    }

    /// Decides how a request is read, without reading rows.
    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>>;

    /// The same for a whole query. Only asked of a source whose [`Capabilities::queries`] says what a query may hold.
    async fn prepare_query(&self, _request: QueryRequest) -> Result<Arc<dyn Scan>> {
        Err(Error::config(format!("the source at {} offers queries but does not prepare them", self.location())))
    }

    /// A state of the source that several statements of one query can read, held until it is dropped; `None` where the source has no
    /// such thing. `statements` is how many will read it, `query` whose they are.
    async fn snapshot(&self, _statements: usize, _query: Option<QueryId>) -> Result<Option<Snapshot>> {
        Ok(None)
    }

    /// The source's changes, where the manifest switched its feed on.
    fn feed(&self) -> Option<Arc<dyn Feed>> {
        None
    }
}

/// A prepared request.
#[async_trait]
pub trait Scan: Debug + Send + Sync {
    /// What goes to the source.
    fn statement(&self) -> &RemoteStatement;

    /// Into how many disjoint parts the rows are split, at least one. A request with a limit or an order has one. A source that splits
    /// a table makes at most [`ScanRequest::partitions_max`] parts, and only where [`Source::snapshot`] lets all of them read one state;
    /// a source of several files may have one for each.
    fn partitions(&self) -> usize {
        1
    }

    /// Whether opening it at any later time reads what a scan that is prepared then would: what was prepared is a statement, and nothing
    /// of the source's present state, as a list of its files, is in it.
    fn is_timeless(&self) -> bool {
        false
    }

    /// Whether reading this partition so asks anything of the source. Where the parts could not read one state of it, the first may be the
    /// whole, and then the others ask nothing and have no rows.
    fn asks(&self, _partition: usize, _context: &ReadContext) -> bool {
        true
    }

    /// Whether reading leaves out rows that [`ReadContext::threshold`] no longer wants, where its order is by this column of the request's table
    /// first. Saying no costs nothing but the rows.
    fn heeds_threshold_of(&self, _column: usize) -> bool {
        false
    }

    /// Starts reading a partition. May be called again: each call reads anew.
    async fn open(&self, partition: usize) -> Result<BatchStream>;

    /// The same for a query, of the state that a snapshot of this source holds.
    async fn open_for(&self, partition: usize, _context: &ReadContext) -> Result<BatchStream> {
        self.open(partition).await
    }
}
