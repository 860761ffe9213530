//! For whom a partition is read, and of which state.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::Expr;

/// The number of a query, as the engine's log and its audit log tell it (`query_id`).
///
/// It names the query at its sources too, for whoever looks at their lists of running statements. A number that the engine counted and nobody wrote, it may stand in
/// a comment of a statement's text, where no value may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(u64);

impl QueryId {
    /// The query that the engine counted so.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The number, in digits.
impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Scan::open_for`](crate::Scan::open_for) is told beside the partition. The default is nobody's query, of the state that is met.
#[derive(Debug, Clone, Default)]
pub struct ReadContext {
    /// The query that the statement belongs to. A source that can show it to its operators does, at the cost of no round trip; once the statement has ended, a
    /// connection shows it no more.
    pub query: Option<QueryId>,
    /// The state to read.
    pub snapshot: Option<Snapshot>,
    /// Which rows are still wanted. Only where [`Scan::heeds_threshold_of`](crate::Scan::heeds_threshold_of) says that the scan looks at it.
    pub threshold: Option<Arc<dyn Threshold>>,
}

/// What a query still wants of a scan's rows: it reads the first of an order, and while they come in, less and less of what follows can be among them.
pub trait Threshold: fmt::Debug + Send + Sync {
    /// The columns of the request's table that the condition may be about.
    fn columns(&self) -> &[usize];

    /// What grows whenever the condition changes.
    fn generation(&self) -> u64;

    /// A condition that is true for every row that is still wanted, over the columns of the request's table; `None` while all are. A reader
    /// may leave out the other rows from now on, and need not.
    fn current(&self) -> Option<Expr>;
}

impl From<Snapshot> for ReadContext {
    fn from(snapshot: Snapshot) -> Self {
        Self { snapshot: Some(snapshot), ..Self::default() }
    }
}

impl From<QueryId> for ReadContext {
    fn from(query: QueryId) -> Self {
        Self { query: Some(query), ..Self::default() }
    }
}

/// A state of a source, as [`Source::snapshot`](crate::Source::snapshot) holds it for the statements of one query. Only its own connector looks inside.
#[derive(Clone)]
pub struct Snapshot {
    held: Arc<dyn Any + Send + Sync>,
    has_connections: bool,
}

impl Snapshot {
    /// Wraps what the connector holds, and takes a connection of its pool for each statement that reads it.
    pub fn new(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self { held, has_connections: false }
    }

    /// Wraps what the connector holds, which has a connection for each statement that was announced. These statements wait for no connection.
    pub fn with_connections(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self { held, has_connections: true }
    }

    /// Whether its statements have their connections already.
    pub fn has_connections(&self) -> bool {
        self.has_connections
    }

    /// What the connector holds, if it is of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.held).downcast().ok()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}
