//! What can go wrong for the user of the engine.

use std::fmt;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use headwater_federation::source_error;
use headwater_source::Error as SourceError;

use crate::Fault;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. [`Error::report`] is the message for a person, [`Error::kind`] what a program may decide by.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Manifests are wrong; nothing was opened.
    Manifests(Vec<Fault>),
    /// A source failed or refused.
    Source(SourceError),
    /// The statement is none that the engine runs.
    Refused {
        /// What was asked, with the object's name.
        what: String,
        /// Why it is refused and what to do.
        reason: String,
    },
    /// The query is wrong or failed; a source's error may be inside.
    Query(Box<DataFusionError>),
}

/// What a program may decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement or the configuration is wrong: correct it.
    InvalidInput,
    /// A name is not known.
    NotFound,
    /// The statement is refused, or the source refuses access.
    Denied,
    /// A source can't be reached or went away: try again later.
    Unavailable,
    /// A limit in time was passed.
    Timeout,
    /// A limit in memory was passed.
    ResourcesExhausted,
    /// The answer can't be computed from this data, as in a division by zero or a value that does not fit.
    Execution,
    /// The table changed after the query was planned: run it again.
    Changed,
    /// The engine does not do this.
    Unsupported,
    /// A defect of the engine.
    Internal,
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Manifests(_) => ErrorKind::InvalidInput,
            Self::Refused { .. } => ErrorKind::Denied,
            Self::Source(error) => source_kind(error),
            Self::Query(error) => match source_error(error) {
                Some(error) => source_kind(error),
                None => query_kind(error),
            },
        }
    }

    /// The source's error behind this one, where there is one.
    pub fn source_error(&self) -> Option<&SourceError> {
        match self {
            Self::Source(error) => Some(error),
            Self::Query(error) => source_error(error),
            _ => None,
        }
    }

    /// The message with its causes, for a person. One line, but for manifests: one line a fault.
    pub fn report(&self) -> String {
        match (self.source_error(), self) {
            (Some(error), _) => error.report(),
            (None, Self::Query(error)) => error.strip_backtrace(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(faults) => {
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Source(error) => error.fmt(f),
            Self::Refused { what, reason } => write!(f, "{what} is refused: {reason}"),
            Self::Query(error) => f.write_str(&error.strip_backtrace()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => error.source(),
            Self::Query(error) => error.source(),
            Self::Manifests(_) | Self::Refused { .. } => None,
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn source_kind(error: &SourceError) -> ErrorKind {
    match error {
        SourceError::Config { .. } => ErrorKind::InvalidInput,
        SourceError::Unavailable { .. } | SourceError::Interrupted { .. } => ErrorKind::Unavailable,
        SourceError::AccessDenied { .. } => ErrorKind::Denied,
        SourceError::TableNotFound { .. } => ErrorKind::NotFound,
        SourceError::SchemaChanged { .. } => ErrorKind::Changed,
        SourceError::Value { .. } | SourceError::Remote { .. } => ErrorKind::Execution,
        SourceError::Timeout { .. } => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

fn query_kind(error: &DataFusionError) -> ErrorKind {
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) if matches!(**inner, SchemaError::FieldNotFound { .. }) => {
            ErrorKind::NotFound
        }
        DataFusionError::Plan(message) if message.starts_with("table '") => ErrorKind::NotFound,
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => {
            ErrorKind::InvalidInput
        }
        DataFusionError::Configuration(_) => ErrorKind::InvalidInput,
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        DataFusionError::ResourcesExhausted(_) => ErrorKind::ResourcesExhausted,
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => ErrorKind::Execution,
        _ => ErrorKind::Internal,
    }
}
