//! What a source tells of its changes: complete transactions in commit order, each at a position.
//!
//! A [`Feed`] is switched on for a service by `feed:` in its manifest. Whoever keeps views reads a table's rows once, at a stated
//! position ([`Feed::snapshot`]), and then every transaction after it ([`Feed::changes`]); what it has stored durably it
//! [acknowledges](Feed::acknowledge), and only then may the source forget it.
//!
//! # Promises
//! - A transaction is released only after its commit was read. Its position is that of its commit; positions grow strictly.
//! - Reading on after a position repeats no transaction at or before it and leaves none out. What the source no longer has is
//!   [`Error::HistoryGone`](crate::Error::HistoryGone), never a gap.
//! - Changes that were rolled back, to a savepoint or altogether, never show.
//! - What a feed can't follow (a table whose columns changed, rows it can't tell apart) is an error that names the table.

use std::cmp::Ordering;
use std::fmt::{self, Debug, Display};
use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::Stream;

use crate::{BatchStream, ColumnDef, Result, TableDef};

/// A place in a source's own log, at the end of a transaction.
///
/// Positions of one feed are ordered by `order`; `token` is what the source itself calls the place (an LSN, a GTID set, a number), for
/// people, for resuming and for [`Feed::covers`]. Positions of different feeds don't compare.
#[derive(Debug, Clone)]
pub struct Position {
    order: u64,
    token: Arc<str>,
}

impl Position {
    /// A place by its order and by the source's word for it.
    pub fn new(order: u64, token: impl Into<Arc<str>>) -> Self {
        Self { order, token: token.into() }
    }

    /// Where it stands among the positions of its feed.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// The source's word for it.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Position {}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

/// What one committed transaction did to the tables that are followed.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Where its commit stands.
    pub position: Position,
    /// When it was committed by the source's clock, in microseconds since 1970 UTC, where the source says so.
    pub committed_us: Option<i64>,
    /// What must be visible before it: positions of other services that it carries.
    pub depends_on: Vec<Dependency>,
    /// Its changes, those of each table in the order in which they were made. May be empty: then only the position moves.
    pub changes: Vec<TableChange>,
}

/// A position of another service that a transaction builds upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The other service.
    pub service: String,
    /// A position of its feed, in its source's words; see [`Feed::covers`].
    pub token: String,
}

/// One step of a transaction, on one table.
#[derive(Debug, Clone)]
pub struct TableChange {
    /// Which of the tables that were asked for.
    pub table: usize,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a table.
#[derive(Debug, Clone)]
pub enum Change {
    /// Rows came, went or were replaced.
    Rows(RowChanges),
    /// All rows went.
    Truncate,
}

/// Changes of rows, in order, as one batch of the table's whole schema.
///
/// An update is two rows: [`RowOp::DeleteKey`] (or [`RowOp::DeleteRow`]) of the old one and then [`RowOp::InsertOver`] of the new one.
#[derive(Debug, Clone)]
pub struct RowChanges {
    /// One row for each entry of `ops`. What an operation does not define is NULL, in columns that can't be NULL any value; so its schema
    /// has the table's names and types, and every column nullable.
    pub rows: RecordBatch,
    /// What is done with each row.
    pub ops: Vec<RowOp>,
    /// Cells that an [`RowOp::InsertOver`] does not bring: they keep the value of the row that the delete before it took away.
    pub kept: Vec<Kept>,
}

impl RowChanges {
    /// The schema of the rows of a table's changes: its names and types, every column nullable.
    pub fn schema(table: &TableDef) -> SchemaRef {
        let field = |column: &ColumnDef| Field::new(&column.name, column.data_type.clone(), true);
        Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
    }
}

/// What is done with a row of [`RowChanges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOp {
    /// The row is new; all of its columns are given.
    Insert,
    /// The row with this key goes; only the columns of the table's key are given.
    DeleteKey,
    /// One row that equals this one in all columns goes.
    DeleteRow,
    /// The row takes the place of the one that the operation before took away.
    InsertOver,
}

/// A cell that keeps the value it had, as a TOASTed value of Postgres does in an update that leaves it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The row of the batch.
    pub row: usize,
    /// The column of the table.
    pub column: usize,
}

/// Transactions as they are committed. Ends only with an error or when it is dropped.
pub type TransactionStream = Pin<Box<dyn Stream<Item = Result<Transaction>> + Send>>;

/// The rows of some tables, all as of one position.
pub struct TablesAt {
    /// The position: the rows hold every transaction up to it and none after it.
    pub position: Position,
    /// The rows of each table, in the order in which they were asked for. May be read one after the other, in this order, or at once.
    pub tables: Vec<BatchStream>,
}

impl Debug for TablesAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TablesAt").field("position", &self.position).finish_non_exhaustive()
    }
}

/// How much a feed promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedClass {
    /// Every position is the boundary of a transaction of the source.
    Transactional,
    /// Every position is a listing of immutable objects: whole objects come and go.
    Listing,
}

/// Something that a source lacks for its feed, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What is missing, by the source's own name for it.
    pub what: String,
    /// The exact statement or setting that grants it.
    pub remedy: String,
}

/// Where a feed stands, as its source sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// Bytes of log that the source keeps for this feed, where it can say.
    pub retained_bytes: Option<u64>,
    /// The oldest position that the source can still read on from, in its own words.
    pub oldest: Option<String>,
}

/// The changes of one source. All methods may be called at once.
#[async_trait]
pub trait Feed: Debug + Send + Sync {
    /// The word of the manifest: `logical`, `binlog`, `triggers`, `listing`.
    fn mode(&self) -> &'static str;

    /// How much it promises.
    fn class(&self) -> FeedClass;

    /// What the source lacks to be followed over these tables; empty where all is well. Changes nothing.
    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>>;

    /// Puts in place at the source what following these tables needs, or adds them to what is there (a slot, a publication, triggers).
    /// From then on the source keeps its changes until they are acknowledged.
    async fn install(&self, tables: &[TableDef]) -> Result<()>;

    /// Takes everything away that [`Feed::install`] ever put in place. Returns a line for each thing that was removed.
    async fn remove(&self) -> Result<Vec<String>>;

    /// The rows of tables at one position at which the feed is already [installed](Feed::install) for them, without stopping writers.
    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt>;

    /// Every transaction after a position. Tables are numbered as in the slice. A transaction without changes to them may be left out, or come
    /// with no changes so that the position moves on. A source may have one reader at a time: another waits a while for the first to leave, and is
    /// refused then.
    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream>;

    /// The source may forget what is at or before the position: it is stored durably here. Cheap; may be called often.
    async fn acknowledge(&self, position: &Position) -> Result<()>;

    /// The end of the source's log now: everything committed before the call is at or before it.
    async fn head(&self) -> Result<Position>;

    /// Whether a position of this feed covers a token that a writer got from the source after its commit.
    ///
    /// # Errors
    /// The token is none of this kind of source.
    fn covers(&self, position: &Position, token: &str) -> Result<bool>;

    /// Makes a position out of what [`Position::order`] and [`Position::token`] gave before a restart.
    fn resume(&self, order: u64, token: &str) -> Result<Position> {
        Ok(Position::new(order, token))
    }

    /// Where the feed stands at its source.
    async fn status(&self) -> Result<FeedStatus>;
}
