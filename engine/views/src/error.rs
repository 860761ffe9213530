//! What can go wrong with a view, by what the caller can do next.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the maintenance of views.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The query can't be a view: write it otherwise.
    #[error("the query cannot be a materialized view: {reason}")]
    Query {
        /// What it holds and what to write instead.
        reason: String,
    },
    /// There is no such view, table or service, or there is one already.
    #[error("{reason}")]
    Name {
        /// Which, and what to do.
        reason: String,
    },
    /// A source's changes don't fit its rows: its tables have to be read anew.
    #[error(
        "the changes of table \"{table}\" of service \"{service}\" do not fit its rows: {reason}; the table has to be read anew"
    )]
    Inconsistent {
        /// The service.
        service: String,
        /// The table at the source.
        table: String,
        /// Which operation met which state. Never values.
        reason: String,
    },
    /// A table's key does not tell its rows apart.
    #[error(
        "table \"{table}\" of service \"{service}\" has two rows of one key ({key}); correct the key in the manifest"
    )]
    DuplicateKey {
        /// The service.
        service: String,
        /// The table at the source.
        table: String,
        /// The key's columns.
        key: String,
    },
    /// A table has more rows than can be held of one: publish fewer of its columns, or none of it.
    #[error(
        "table \"{table}\" of service \"{service}\" has more than 32 GiB of rows, and views can read no more of one; publish fewer of its columns"
    )]
    TooLarge {
        /// The service.
        service: String,
        /// The table at the source.
        table: String,
    },
    /// A source went back, or its snapshot does not hold what was held before.
    #[error("service \"{service}\" offered position {offered} after {seen}; positions must grow")]
    Order {
        /// The service.
        service: String,
        /// The position that came too late.
        offered: String,
        /// The position that was seen before it.
        seen: String,
    },
    /// The view's state would pass its limit: raise the limit or narrow the view.
    #[error(
        "view \"{view}\" needs {bytes} bytes and may have {limit}; raise view_memory_bytes in the engine's limits or narrow the view"
    )]
    Memory {
        /// The view.
        view: String,
        /// What it needs.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// A checkpoint is damaged or of another version: the sources have to be read anew.
    #[error("checkpoint {part} cannot be read: {reason}; remove it, and the tables are read anew from their sources")]
    Checkpoint {
        /// Which part.
        part: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A contradiction within the engine: the view is rebuilt from the tables.
    #[error("the state of a view contradicts itself: {reason}; REFRESH MATERIALIZED VIEW rebuilds it")]
    Invariant {
        /// What contradicts what.
        reason: String,
    },
    /// An expression of the view failed over a row, as it would in a query.
    #[error("the query of the view failed")]
    Evaluation(#[source] Box<DataFusionError>),
}

impl Error {
    pub(crate) fn query(reason: impl Into<String>) -> Self {
        Self::Query { reason: reason.into() }
    }

    pub(crate) fn name(reason: impl Into<String>) -> Self {
        Self::Name { reason: reason.into() }
    }

    pub(crate) fn invariant(reason: impl Into<String>) -> Self {
        Self::Invariant { reason: reason.into() }
    }

    /// The message with its causes, in one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Evaluation(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::Evaluation(Box::new(error.into()))
    }
}
