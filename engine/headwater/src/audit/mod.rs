//! The audit log: who read which columns of which tables, when, from where, how many rows, and how it ended.
//!
//! One JSON object a line, in a file that only its owner can read ([`log`]). A statement that reads tables has a line `start` before its first row and a line `end`
//! after its last; one that is denied or fails before it runs has the line `end` alone. Each line is whole by itself. docs/security.md lists the fields.
//!
//! # Promised
//! No row leaves before its line `start` is written: where the file can't be written, statements are refused ([`Error::Unaudited`](crate::Error::Unaudited)) until it can be.
//! No line holds a statement's text, a literal, a value of a parameter, or a name that is not one of a table or column that there is; statements of one shape have one
//! fingerprint ([`fingerprint`]).
//!
//! # Not recorded
//! Statements that read no table: SET, SHOW, `SELECT 1`, and what asks for names alone (`information_schema`, `pg_catalog`, Flight's metadata), of which a caller sees only
//! what they may read. Where one is denied or fails, that is recorded.

mod fingerprint;
mod log;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::error;

use crate::access::{Caller, Read};
use crate::{Error, ErrorKind, Result};
pub use log::AuditLog;

/// A statement on its way into the log. Clones are of the same statement.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    log: Arc<AuditLog>,
    caller: Caller,
    kind: &'static str,
    fingerprint: Option<u64>,
    reads: Arc<[Read]>,
    /// Whether it changes something, and so is recorded though it reads nothing.
    changes: bool,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Cancelled,
    Failed(ErrorKind),
}

impl Entry {
    /// Of a statement of which nothing is known yet but its text.
    pub(crate) fn new(log: &Arc<AuditLog>, caller: &Caller, text: &str) -> Self {
        Self {
            log: Arc::clone(log),
            caller: caller.clone(),
            kind: "statement",
            fingerprint: fingerprint::of(text),
            reads: Arc::new([]),
            changes: false,
        }
    }

    /// The same, once it is known what it reads.
    pub(crate) fn reading(self, kind: &'static str, reads: Vec<Read>) -> Self {
        Self { kind, reads: reads.into(), ..self }
    }

    /// The same, of a statement that reads what another one does.
    pub(crate) fn reading_as(self, other: &Self) -> Self {
        Self { kind: other.kind, reads: Arc::clone(&other.reads), ..self }
    }

    /// The same, of what defines or changes something.
    pub(crate) fn changing(self, kind: &'static str, reads: Vec<Read>) -> Self {
        Self { kind, reads: reads.into(), changes: true, ..self }
    }

    /// The statement begins. Nothing of it may be told before this is written.
    ///
    /// # Errors
    /// The log can't be written.
    pub(crate) fn start(&self, query: u64) -> Result<()> {
        if self.reads.is_empty() && !self.changes {
            return Ok(());
        }
        self.log.write(&self.line("start", query)).map_err(|error| Error::Unaudited(error.to_string()))
    }

    /// The statement has ended. What can't be written now keeps the next one from starting.
    pub(crate) fn end(&self, query: u64, rows: u64, end: End) {
        if !self.reads.is_empty() || self.changes {
            self.tell(query, Some(rows), end, None);
        }
    }

    /// The statement was not run. `hidden` is what it asked for that its caller may not know of.
    pub(crate) fn refused(&self, query: u64, error: &Error, hidden: Vec<Read>) {
        let denied = !hidden.is_empty() || matches!(error, Error::Denied(_));
        let end = if denied { End::Failed(ErrorKind::Denied) } else { End::Failed(error.kind()) };
        let entry = if hidden.is_empty() { self.clone() } else { Self { reads: hidden.into(), ..self.clone() } };
        entry.tell(query, None, end, denied.then_some("denied"));
    }

    fn tell(&self, query: u64, rows: Option<u64>, end: End, outcome: Option<&str>) {
        let mut line = self.line("end", query);
        let (word, kind) = match end {
            End::Complete => ("complete", None),
            End::Cancelled => ("cancelled", None),
            End::Failed(kind) => ("failed", Some(kind)),
        };
        line.insert("outcome".to_owned(), json!(outcome.unwrap_or(word)));
        line.insert("rows".to_owned(), json!(rows));
        if let Some(kind) = kind {
            line.insert("error".to_owned(), json!(format!("{kind:?}")));
        }
        if let Err(error) = self.log.write(&line) {
            error!(query_id = query, %error, "the end of a statement could not be written to the audit log");
        }
    }

    fn line(&self, event: &str, query: u64) -> Map<String, Value> {
        let tables: Vec<Value> = self
            .reads
            .iter()
            .map(|read| json!({"schema": read.schema, "table": read.table, "columns": read.columns}))
            .collect();
        let mut line = log::line(event, self.caller.name(), self.caller.door(), self.caller.address());
        line.insert("query_id".to_owned(), json!(query));
        line.insert("kind".to_owned(), json!(self.kind));
        line.insert("statement".to_owned(), json!(self.fingerprint.map(|print| format!("{print:016x}"))));
        line.insert("tables".to_owned(), Value::Array(tables));
        line
    }
}
