//! What an error of a server or a connection means to the engine.

use std::time::Duration;

use headwater_source::{Error, ServiceName};

use super::wire::Failure;

/// Which source an error is about.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) service: ServiceName,
    pub(super) location: String,
    /// The limit of a statement, for the message where it passed.
    pub(super) statement_timeout: Option<Duration>,
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The server can't take the connection, or it is gone.
    Unavailable,
    /// The role may not.
    Denied,
    /// A table or column is not what it was.
    Schema,
    /// The statement ran into its limit.
    Timeout,
    /// Somebody stopped the statement or the connection.
    Killed,
    /// The statement is at fault.
    Statement,
}

impl Site {
    /// An error while connecting.
    pub(super) fn connecting(&self, error: Failure) -> Error {
        match kind(&error) {
            Kind::Denied => self.denied(error),
            _ => self.unavailable(error),
        }
    }

    /// An error of a statement on the source's catalog.
    pub(super) fn describing(&self, error: Failure) -> Error {
        match kind(&error) {
            Kind::Denied => self.denied(error),
            Kind::Unavailable | Kind::Killed => self.unavailable(error),
            Kind::Timeout => self.statement_timed_out(),
            Kind::Schema | Kind::Statement => self.remote(error),
        }
    }

    /// An error of a scan of `table`, before its first row or after.
    pub(super) fn scanning(&self, table: &str, error: Failure) -> Error {
        match kind(&error) {
            Kind::Denied => self.denied(error),
            Kind::Timeout => self.statement_timed_out(),
            Kind::Schema => self.schema_changed(table, error.to_string()),
            Kind::Unavailable | Kind::Killed => {
                Error::Interrupted { service: self.service.clone(), table: table.to_owned(), cause: Box::new(error) }
            }
            Kind::Statement => self.remote(error),
        }
    }

    pub(super) fn schema_changed(&self, table: &str, change: impl Into<String>) -> Error {
        Error::SchemaChanged { service: self.service.clone(), table: table.to_owned(), change: change.into() }
    }

    pub(super) fn timed_out(&self, what: &'static str, limit: Duration, option: &'static str) -> Error {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Error::Timeout { service: self.service.clone(), what, limit_ms, option }
    }

    pub(super) fn statement_timed_out(&self) -> Error {
        self.timed_out("the statement", self.statement_timeout.unwrap_or_default(), "statement_timeout_ms")
    }

    pub(super) fn unavailable(&self, cause: impl Into<headwater_source::Cause>) -> Error {
        Error::Unavailable { service: self.service.clone(), location: self.location.clone(), cause: cause.into() }
    }

    fn denied(&self, error: Failure) -> Error {
        Error::AccessDenied { service: self.service.clone(), location: self.location.clone(), cause: Box::new(error) }
    }

    fn remote(&self, error: Failure) -> Error {
        let code = error.code().map(|code| code.to_string());
        Error::Remote { service: self.service.clone(), code, cause: Box::new(error) }
    }
}

fn kind(failure: &Failure) -> Kind {
    match failure {
        Failure::Server { code, .. } => server_kind(*code),
        Failure::Io(_) | Failure::NoTls | Failure::NoName => Kind::Unavailable,
        Failure::Refused(_) => Kind::Denied,
        Failure::Malformed(_) | Failure::Parameters { .. } => Kind::Statement,
    }
}

/// By MySQL's and MariaDB's error numbers, which agree below 1900 and do not overlap above.
fn server_kind(code: u16) -> Kind {
    match code {
        // Access denied: to a database, at all, to a statement, a column, by host, by plugin, expired, locked, by
        // require_secure_transport.
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1251 | 1275 | 1370 | 1396 | 1449 | 1698 | 1820 | 1862 | 2049
        | 3118 | 3159 | 4151 => Kind::Denied,
        // No such column, table, view that is invalid now, table that was altered, statement to prepare anew.
        1051 | 1054 | 1146 | 1356 | 1412 | 1615 => Kind::Schema,
        // MariaDB's max_statement_time, MySQL's max_execution_time.
        1969 | 3024 => Kind::Timeout,
        // KILL QUERY, KILL CONNECTION.
        1317 | 1927 => Kind::Killed,
        // Too many connections, unknown database, shutdown, host blocked, per-user limits, network errors seen by the server.
        1040 | 1042 | 1049 | 1053 | 1077 | 1079 | 1129 | 1152 | 1158..=1161 | 1184 | 1203 | 1226 | 4031 => {
            Kind::Unavailable
        }
        _ => Kind::Statement,
    }
}
