//! What can go wrong between the engine and a source, by what the caller can do next.

use std::error::Error as StdError;

use crate::{ServiceName, nearest};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed cause, kept for [`StdError::source`].
pub type Cause = Box<dyn StdError + Send + Sync>;

/// An error of a source. Every variant but [`Error::Config`] names the service.
///
/// Messages never hold credentials or the literals of a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong: correct it.
    #[error("{reason}")]
    Config {
        /// What is wrong, with the key's name and what to write instead.
        reason: String,
    },
    /// The source can't be reached now: try again later, or look at the cause.
    #[error("service \"{service}\" is unavailable at {location}")]
    Unavailable {
        /// The service.
        service: ServiceName,
        /// Host and database, or path; never a password.
        location: String,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// The source answered and refuses these credentials or lacks a privilege: correct the role.
    #[error("service \"{service}\" refused access at {location}")]
    AccessDenied {
        /// The service.
        service: ServiceName,
        /// Host and database, or path; never a password.
        location: String,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// No such table at the source: correct `from` in the manifest.
    #[error("service \"{service}\" has no table \"{table}\"{}", hint(table, known))]
    TableNotFound {
        /// The service.
        service: ServiceName,
        /// The name that was asked for.
        table: String,
        /// Tables that the source does have.
        known: Vec<String>,
    },
    /// The table's columns are no longer those that the query was planned with: ask again.
    #[error(
        "table \"{table}\" of service \"{service}\" has changed since the query was planned ({change}); run the query again"
    )]
    SchemaChanged {
        /// The service.
        service: ServiceName,
        /// The table at the source.
        table: String,
        /// What differs.
        change: String,
    },
    /// A value can't be represented in the column's Arrow type.
    #[error(
        "column \"{column}\" of table \"{table}\" of service \"{service}\" holds a value that {data_type} cannot represent: {reason}"
    )]
    Value {
        /// The service.
        service: ServiceName,
        /// The table at the source.
        table: String,
        /// The column.
        column: String,
        /// The Arrow type that the column is read as.
        data_type: String,
        /// What kind of value it is and which row where that is known; what to do.
        reason: String,
    },
    /// A named limit was passed.
    #[error(
        "service \"{service}\" did not finish {what} within {limit_ms} ms; raise {option} in its manifest or ask for less"
    )]
    Timeout {
        /// The service.
        service: ServiceName,
        /// What was going on: "connecting", "the statement", "waiting for a connection".
        what: &'static str,
        /// The limit, in milliseconds.
        limit_ms: u64,
        /// The manifest key that sets the limit.
        option: &'static str,
    },
    /// So many statements run at the source already that another had to wait, and its turn did not come in time: ask again later.
    #[error(
        "service \"{service}\" is asked {running} statements already, of {statements} at a time, with {waiting} waiting beside this one, whose turn did not \
         come within {waited_ms} ms; try again later, or raise {option} or statement_wait_ms in the engine's limits"
    )]
    Busy {
        /// The service.
        service: ServiceName,
        /// How many statements may run at its store at a time.
        statements: usize,
        /// How many run there. They may be more: one query at a time may go over the limit.
        running: usize,
        /// How many others wait for their turn there.
        waiting: usize,
        /// How long the statement waited, in milliseconds.
        waited_ms: u64,
        /// What sets how many may run.
        option: &'static str,
    },
    /// The source went away or failed in the middle of a scan; what came before it is not an answer.
    #[error("service \"{service}\" failed while reading table \"{table}\"")]
    Interrupted {
        /// The service.
        service: ServiceName,
        /// The table at the source.
        table: String,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// The source refused a statement.
    #[error("service \"{service}\" refused a statement{}", code.as_ref().map(|code| format!(" with code {code}")).unwrap_or_default())]
    Remote {
        /// The service.
        service: ServiceName,
        /// The source's own error code: SQLSTATE, MySQL error number, SQLite result code.
        code: Option<String>,
        /// What the driver said.
        #[source]
        cause: Cause,
    },
    /// The source no longer has the changes that are needed: what was built from them must be built anew.
    #[error("service \"{service}\" has no changes after {wanted} any more ({reason}); rebuild what follows it")]
    HistoryGone {
        /// The service.
        service: ServiceName,
        /// The position to read on from, in the source's words.
        wanted: String,
        /// What the source said: the slot was dropped, the binlog purged.
        reason: String,
    },
    /// The request asks for what the source did not offer: a defect of the caller.
    #[error("service \"{service}\" cannot do what was asked: {reason}")]
    Unsupported {
        /// The service.
        service: ServiceName,
        /// What was asked.
        reason: String,
    },
}

impl Error {
    /// A configuration error.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Config { reason: reason.into() }
    }

    /// What kind of error it is, in one word for counters and traces.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config",
            Self::Unavailable { .. } => "unavailable",
            Self::AccessDenied { .. } => "access_denied",
            Self::TableNotFound { .. } => "table_not_found",
            Self::SchemaChanged { .. } => "schema_changed",
            Self::Value { .. } => "value",
            Self::Timeout { .. } => "timeout",
            Self::Busy { .. } => "busy",
            Self::Interrupted { .. } => "interrupted",
            Self::Remote { .. } => "remote",
            Self::HistoryGone { .. } => "history_gone",
            Self::Unsupported { .. } => "unsupported",
        }
    }

    /// The service that the error names, where it names one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Config { .. } => None,
            Self::Unavailable { service, .. }
            | Self::AccessDenied { service, .. }
            | Self::TableNotFound { service, .. }
            | Self::SchemaChanged { service, .. }
            | Self::Value { service, .. }
            | Self::Timeout { service, .. }
            | Self::Busy { service, .. }
            | Self::Interrupted { service, .. }
            | Self::Remote { service, .. }
            | Self::HistoryGone { service, .. }
            | Self::Unsupported { service, .. } => Some(service),
        }
    }

    /// The message with all its causes, joined by ": ", as one line for a person.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // Drivers often repeat their cause in their own message.
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

fn hint(table: &str, known: &[String]) -> String {
    match nearest(table, known.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None if known.is_empty() => "; the source shows no tables to this role".to_owned(),
        None => String::new(),
    }
}
