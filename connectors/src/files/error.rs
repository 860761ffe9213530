//! Failures of stores and decoders as the contract's errors, naming the file.

use std::error::Error as StdError;
use std::fmt;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use headwater_source::{Cause, Error, ServiceName};
use object_store::Error as StoreError;

/// What went wrong while a file was listed or read, before it is known where.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store refused or failed.
    Store(StoreError),
    /// A value does not fit its type.
    Value {
        /// The column, where the decoder names it.
        column: String,
        /// The Arrow type.
        data_type: String,
        /// Which row and why; never the value.
        reason: String,
    },
    /// The file is not what it was when it was listed.
    Replaced,
    /// The error is complete as it is.
    Done(Box<Error>),
    /// Anything else: a decoder's complaint.
    Other(Cause),
}

/// Where a failure happened.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// The service.
    pub(super) service: ServiceName,
    /// Where its files are.
    pub(super) location: String,
    /// The table.
    pub(super) table: String,
}

/// A cause that names its file.
#[derive(Debug)]
pub(super) struct FileError {
    file: String,
    cause: Cause,
}

impl Site {
    /// The error of a failure on `file`.
    pub(super) fn file(&self, file: &str, failure: Failure) -> Error {
        let Self { service, location, table } = self.clone();
        match failure {
            Failure::Done(error) => *error,
            Failure::Replaced => {
                let change = format!("file \"{file}\" was replaced while it was read");
                Error::SchemaChanged { service, table, change }
            }
            Failure::Store(StoreError::NotFound { .. }) => {
                Error::SchemaChanged { service, table, change: format!("file \"{file}\" is gone") }
            }
            Failure::Store(StoreError::Precondition { .. }) => self.file(file, Failure::Replaced),
            Failure::Store(error) if denied(&error) => {
                Error::AccessDenied { service, location, cause: named(file, error.into()) }
            }
            Failure::Store(error) => Error::Interrupted { service, table, cause: named(file, error.into()) },
            Failure::Value { column, data_type, reason } => {
                Error::Value { service, table, column, data_type, reason: format!("{reason} of file \"{file}\"") }
            }
            Failure::Other(cause) => Error::Interrupted { service, table, cause: named(file, cause) },
        }
    }

    /// The error of a failure to open or list the store.
    pub(super) fn store(&self, failure: Failure) -> Error {
        let Self { service, location, table } = self.clone();
        match failure {
            Failure::Done(error) => *error,
            Failure::Store(error) if denied(&error) => Error::AccessDenied { service, location, cause: error.into() },
            Failure::Store(error) => Error::Unavailable { service, location, cause: error.into() },
            Failure::Other(cause) => Error::Unavailable { service, location, cause },
            other => Self { service, location, table: table.clone() }.file(&table, other),
        }
    }
}

/// A cause that is a sentence of ours.
pub(super) fn sentence(text: impl Into<String>) -> Failure {
    Failure::Other(text.into().into())
}

fn named(file: &str, cause: Cause) -> Cause {
    Box::new(FileError { file: file.to_owned(), cause })
}

fn denied(error: &StoreError) -> bool {
    match error {
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => true,
        other => root_io(other).is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied),
    }
}

fn root_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a std::io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file \"{}\"", self.file)
    }
}

impl StdError for FileError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.cause.as_ref())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(cause) => from_cause(cause),
            other => Self::Other(other.into()),
        }
    }
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::ObjectStore(error) => Self::Store(*error),
            DataFusionError::ArrowError(error, _) => Self::from(*error),
            DataFusionError::External(cause) => from_cause(cause),
            DataFusionError::Context(_, inner) => Self::from(*inner),
            DataFusionError::ParquetError(error) => match *error {
                datafusion::parquet::errors::ParquetError::External(cause) => from_cause(cause),
                other => Self::Other(other.into()),
            },
            DataFusionError::IoError(error) => from_cause(error.into()),
            other => Self::Other(other.strip_backtrace().into()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Done(Box::new(error))
    }
}

/// Finds the store's own error under a decoder's wrapping.
fn from_cause(cause: Cause) -> Failure {
    let cause = match cause.downcast::<StoreError>() {
        Ok(error) => return Failure::Store(*error),
        Err(cause) => cause,
    };
    let cause = match cause.downcast::<DataFusionError>() {
        Ok(error) => return Failure::from(*error),
        Err(cause) => cause,
    };
    match cause.downcast::<std::io::Error>() {
        Ok(error) if error.get_ref().is_some() => match error.into_inner() {
            Some(inner) => from_cause(inner),
            None => sentence("an input or output error"),
        },
        Ok(error) => Failure::Other(error),
        Err(cause) => Failure::Other(cause),
    }
}
