//! What each remote statement of a query did, for whoever traces queries.
//!
//! A query that is traced carries [`StatementTraces`] in its task context; a scan that finds them there says when its statement begins and how it ends, and counts its batches
//! meanwhile. A query that is not traced carries none, and nothing is counted for it. Nothing is done for a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use headwater_source::Error;
use parking_lot::Mutex;

/// A remote statement that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementTrace {
    /// The service that was asked.
    pub service: String,
    /// What kind of source that is, as its capabilities name it.
    pub system: &'static str,
    /// Where the source is: host and database or path, never a password.
    pub location: String,
    /// The tables' names in SQL.
    pub tables: String,
    /// The text with its placeholders. It holds no value.
    pub text: String,
    /// When it was sent.
    pub started: SystemTime,
    /// Until its last row, its error, or until nobody read on.
    pub took: Duration,
    /// Rows received.
    pub rows: u64,
    /// Bytes of the batches received, as Arrow holds them.
    pub bytes: u64,
    /// How it ended.
    pub outcome: StatementOutcome,
}

/// How a remote statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementOutcome {
    /// Its last row has come.
    Complete,
    /// Nobody reads on.
    Cancelled,
    /// It failed; the class of the error ([`Error::class`]).
    Failed(&'static str),
}

/// The statements of one query.
#[derive(Debug, Default)]
pub struct StatementTraces(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    statements: Vec<Arc<Entry>>,
    left_out: u64,
}

/// A statement that has begun, and perhaps ended.
#[derive(Debug)]
struct Entry {
    begun: StatementTrace,
    clock: Instant,
    rows: AtomicU64,
    bytes: AtomicU64,
    end: Mutex<Option<(Duration, StatementOutcome)>>,
}

/// A statement while it is read. Dropping it says that nobody reads on.
#[derive(Debug)]
pub(crate) struct Traced(Arc<Entry>);

impl StatementTraces {
    /// So many statements of a query are told one by one; of more only their number is.
    pub const STATEMENTS_MAX: usize = 1_000;

    /// A statement begins; `None` where so many have that this one is only counted. `begun` makes the trace as it is now.
    pub(crate) fn begin(&self, begun: impl FnOnce() -> StatementTrace) -> Option<Traced> {
        let mut all = self.0.lock();
        if all.statements.len() >= Self::STATEMENTS_MAX {
            all.left_out += 1;
            return None;
        }
        let (rows, bytes) = (AtomicU64::default(), AtomicU64::default());
        let entry = Arc::new(Entry { begun: begun(), clock: Instant::now(), rows, bytes, end: Mutex::default() });
        all.statements.push(Arc::clone(&entry));
        Some(Traced(entry))
    }

    /// What was sent so far, in the order in which it was, and how many statements beyond those. One that has not ended is told as cancelled: this is asked when the
    /// query is over.
    pub fn statements(&self) -> (Vec<StatementTrace>, u64) {
        let all = self.0.lock();
        (all.statements.iter().map(|entry| entry.now()).collect(), all.left_out)
    }
}

impl Entry {
    fn now(&self) -> StatementTrace {
        let end = *self.end.lock();
        let (took, outcome) = end.unwrap_or_else(|| (self.clock.elapsed(), StatementOutcome::Cancelled));
        let (rows, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        StatementTrace { took, rows, bytes, outcome, ..self.begun.clone() }
    }

    /// The first end counts.
    fn end(&self, outcome: StatementOutcome) {
        self.end.lock().get_or_insert_with(|| (self.clock.elapsed(), outcome));
    }
}

impl Traced {
    /// A batch has come.
    pub(crate) fn count(&self, rows: usize, bytes: usize) {
        self.0.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn complete(&self) {
        self.0.end(StatementOutcome::Complete);
    }

    pub(crate) fn failed(&self, error: &Error) {
        self.0.end(StatementOutcome::Failed(error.class()));
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.0.end(StatementOutcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> StatementTrace {
        StatementTrace {
            service: "orders".to_owned(),
            system: "example",
            location: "here".to_owned(),
            tables: "orders".to_owned(),
            text: "SELECT 1".to_owned(),
            started: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            rows: 0,
            bytes: 0,
            outcome: StatementOutcome::Cancelled,
        }
    }

    #[test]
    fn statement_is_told_as_it_ended_and_one_that_is_read_as_cancelled() {
        let traces = StatementTraces::default();
        let (complete, dropped) = (traces.begin(statement).unwrap(), traces.begin(statement).unwrap());
        let _read = traces.begin(statement).unwrap();
        complete.count(3, 24);
        complete.complete();
        drop((complete, dropped));
        let (told, left_out) = traces.statements();
        let outcomes: Vec<_> = told.iter().map(|trace| (trace.rows, trace.bytes, trace.outcome)).collect();
        let cancelled = (0, 0, StatementOutcome::Cancelled);
        assert_eq!((outcomes, left_out), (vec![(3, 24, StatementOutcome::Complete), cancelled, cancelled], 0));
    }

    #[test]
    fn statements_beyond_the_limit_are_counted() {
        let traces = StatementTraces::default();
        let begun = (0..StatementTraces::STATEMENTS_MAX + 2).filter_map(|_| traces.begin(statement)).count();
        let (told, left_out) = traces.statements();
        assert_eq!((begun, told.len(), left_out), (1_000, 1_000, 2));
    }
}
