//! What Postgres and its driver report, as the contract's errors: by what the caller can do next.
//!
//! A cause keeps the server's message and SQLSTATE and drops DETAIL and HINT, which may quote a row's values.

use std::time::{Duration, Instant};

use headwater_source::{Cause, Error, ServiceName};
use tokio_postgres::error::SqlState;

use super::answer::{Fault, ServerError};
use super::handshake::NotConnected;
use super::types::LooseNumeric;

/// Who is blamed, the limits under which it worked, and how it was told to read.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) service: ServiceName,
    pub(super) location: String,
    pub(super) connect_timeout: Duration,
    pub(super) pool_wait: Duration,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) loose: LooseNumeric,
}

/// How far a statement had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The statement is parsed: a name that is not there is one that was there when the query was planned.
    Preparing,
    /// No row was read: the source may simply be down.
    Starting,
    /// Rows were being read: what came before is not an answer.
    Reading,
}

/// How much earlier than the limit the server's clock may end a statement and still count as the limit.
const CLOCK_SLACK: Duration = Duration::from_millis(50);

impl Place {
    /// An error while a connection was made.
    pub(super) fn connecting(&self, error: NotConnected) -> Error {
        let code = match &error {
            NotConnected::Refused(error) => error.code().map(|code| code.code().to_owned()),
            NotConnected::Unfit(Fault::Server(error)) => Some(error.code.clone()),
            _ => None,
        };
        let denied = code.is_some_and(|code| code.starts_with("28") || code == "42501")
            || matches!(&error, NotConnected::Refused(error) if refused_before_asking(error));
        let (service, location) = (self.service.clone(), self.location.clone());
        let cause = match error {
            NotConnected::Refused(error) => driver_cause(error),
            NotConnected::Unfit(Fault::Server(error)) => Box::new(error),
            other => Box::new(other),
        };
        match denied {
            true => Error::AccessDenied { service, location, cause },
            false => Error::Unavailable { service, location, cause },
        }
    }

    /// An error of a statement over `table` that began at `started`.
    pub(super) fn statement(&self, table: &str, phase: Phase, started: Instant, fault: Fault) -> Error {
        let service = self.service.clone();
        let error = match fault {
            Fault::Server(error) => error,
            Fault::Bind(reason) => return self.unsupported(reason),
            lost @ (Fault::Io(_) | Fault::Malformed(_)) => return self.lost(table, phase, Box::new(lost)),
        };
        let code = error.code.clone();
        match code.as_str() {
            "42501" => Error::AccessDenied { service, location: self.location.clone(), cause: Box::new(error) },
            _ if phase == Phase::Preparing && error.names_what_is_not_there() => self.changed(table, error.message),
            "57014" if self.limit_reached(started) => self.statement_timeout(),
            "57014" => Error::Interrupted { service, table: table.to_owned(), cause: Box::new(error) },
            text if lost_connection(text) => self.lost(table, phase, Box::new(error)),
            text => Error::Remote { service, code: Some(text.to_owned()), cause: Box::new(error) },
        }
    }

    /// The connection went away.
    pub(super) fn lost(&self, table: &str, phase: Phase, cause: Cause) -> Error {
        let service = self.service.clone();
        match phase {
            Phase::Preparing | Phase::Starting => {
                Error::Unavailable { service, location: self.location.clone(), cause }
            }
            Phase::Reading => Error::Interrupted { service, table: table.to_owned(), cause },
        }
    }

    /// The table is not what the query was planned with.
    pub(super) fn changed(&self, table: &str, change: String) -> Error {
        Error::SchemaChanged { service: self.service.clone(), table: table.to_owned(), change }
    }

    /// The statement ran longer than the manifest allows.
    pub(super) fn statement_timeout(&self) -> Error {
        let limit = self.statement_timeout.unwrap_or_default();
        self.timeout("the statement", limit, "statement_timeout_ms")
    }

    /// A named limit was passed.
    pub(super) fn timeout(&self, what: &'static str, limit: Duration, option: &'static str) -> Error {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Error::Timeout { service: self.service.clone(), what, limit_ms, option }
    }

    /// The request asks for what was not offered.
    pub(super) fn unsupported(&self, reason: impl Into<String>) -> Error {
        Error::Unsupported { service: self.service.clone(), reason: reason.into() }
    }

    fn limit_reached(&self, started: Instant) -> bool {
        self.statement_timeout.is_some_and(|limit| started.elapsed() + CLOCK_SLACK >= limit)
    }
}

/// Whether authentication failed on our side: no password where one is asked for, or a server that cannot prove that it knows it.
/// The driver tells these from other errors only by their words.
fn refused_before_asking(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    error.to_string() == "authentication error" || cause == "password missing"
}

/// Whether the SQLSTATE says that the server or the connection went away, or has no room for us.
fn lost_connection(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || code == SqlState::TOO_MANY_CONNECTIONS.code()
}

fn driver_cause(error: tokio_postgres::Error) -> Cause {
    match error.as_db_error() {
        Some(db) => Box::new(ServerError { message: db.message().to_owned(), code: db.code().code().to_owned() }),
        None => Box::new(error),
    }
}
