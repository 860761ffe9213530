//! Turns SQLite's errors into what the caller can do next.

use headwater_source::{Error, ServiceName};
use rusqlite::ErrorCode;

use super::config::Config;

/// What the connector was doing when an error came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage<'a> {
    /// Opening the file and starting a transaction.
    Open,
    /// Preparing a statement or reading the catalog.
    Prepare,
    /// Reading rows of the table.
    Read(&'a str),
}

/// Sorts an error by its code and by the stage that it came in.
pub(super) fn classify(service: &ServiceName, config: &Config, stage: Stage<'_>, error: rusqlite::Error) -> Error {
    let service = service.clone();
    let location = || config.location();
    match (error.sqlite_error_code(), stage) {
        (Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied), _) => {
            Error::AccessDenied { service, location: location(), cause: Box::new(error) }
        }
        (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Error::Timeout {
            service,
            what: "waiting for a lock",
            limit_ms: millis(config.busy_timeout),
            option: "busy_timeout_ms",
        },
        (Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase), _) | (_, Stage::Open) => {
            Error::Unavailable { service, location: location(), cause: Box::new(error) }
        }
        (_, Stage::Read(table)) => Error::Interrupted { service, table: table.to_owned(), cause: Box::new(error) },
        (_, Stage::Prepare) => {
            let code = error.sqlite_error().map(|error| error.extended_code.to_string());
            Error::Remote { service, code, cause: Box::new(error) }
        }
    }
}

/// Whole milliseconds, for messages.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
