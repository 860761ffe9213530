//! What an engine may take of its machine and of its sources.
//!
//! ```
//! use std::time::Duration;
//! use headwater::{Engine, Limits};
//!
//! # let rt = tokio::runtime::Runtime::new()?;
//! # rt.block_on(async {
//! let limits = Limits { query_deadline: Some(Duration::from_secs(30)), ..Limits::default() };
//! let engine = Engine::builder().limits(limits).build().await?;
//! # Ok::<(), headwater::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same limits stand under `limits` in the file that `--config` names; see [`read_config`](crate::read_config). A session may
//! tighten the deadline: `SET headwater.query_deadline = '30 s'`.

mod machine;

use std::path::PathBuf;
use std::time::Duration;

use headwater_source::{Error as SourceError, OptionDef, OptionKind, Options};

use crate::Result;

/// The limits of one engine, over all its sessions. An error that comes of one names its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory that sorts, joins and groups of all queries may take together, in bytes. What does not fit is spilled where the
    /// operator can, and an error where it can't. Default: 60 % of the memory of the machine or of the container.
    pub memory_bytes: u64,
    /// Where is spilled: a directory that exists. Files in it go with the query that made them. Default: the system's directory for
    /// temporary files.
    pub spill_directory: PathBuf,
    /// Bytes that all queries together may have spilled at a time. Default: 32 GiB. 0 forbids spilling.
    pub spill_bytes: u64,
    /// How long a query may run, from when its answer is read to its last row. `None` is for ever. Default: one hour, which is long
    /// for an answer that somebody waits for, and short for a source that must keep old rows for it.
    pub query_deadline: Option<Duration>,
    /// Queries that run at a time. Default: 100.
    pub queries_max: usize,
    /// Queries that wait for another to end, at most; one more is refused at once. Default: 1000.
    pub queries_waiting_max: usize,
    /// How long a query waits for another to end where so many run already. Default: 30 s.
    pub query_wait: Duration,
    /// Statements that run at one store under one role at a time; services that share a store share them. A source with few
    /// connections has fewer: three quarters of them. Default: 16.
    pub statements_max: usize,
    /// How long a statement waits for another to end where so many run already. Default: 30 s.
    pub statement_wait: Duration,
    /// Bytes that the state and the rows of one materialized view may take. A view that needs more stays at its last version. Default: 1 GiB.
    pub view_memory_bytes: u64,
}

/// The keys of the section `limits`.
pub(crate) const KEYS: &[OptionDef] = &[
    OptionDef {
        name: "memory_bytes",
        kind: OptionKind::Count,
        required: false,
        doc: "Memory that sorts, joins and groups of all queries may take together, in bytes. Default: 60 % of the memory of the \
              machine or of the container.",
    },
    OptionDef {
        name: "spill_directory",
        kind: OptionKind::Text,
        required: false,
        doc: "The directory for what does not fit in memory; relative to this file. Default: the system's directory for temporary \
              files.",
    },
    OptionDef {
        name: "spill_bytes",
        kind: OptionKind::Count,
        required: false,
        doc: "Bytes that all queries together may have spilled at a time; 0 forbids spilling. Default: 34359738368 (32 GiB).",
    },
    OptionDef {
        name: "query_deadline_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long a query may run, from when its answer is read to its last row, in milliseconds; 0 is for ever. Default: \
              3600000 (one hour).",
    },
    OptionDef {
        name: "queries_max",
        kind: OptionKind::Count,
        required: false,
        doc: "Queries that run at a time. Default: 100.",
    },
    OptionDef {
        name: "queries_waiting_max",
        kind: OptionKind::Count,
        required: false,
        doc: "Queries that wait for another to end, at most; one more is refused at once. Default: 1000.",
    },
    OptionDef {
        name: "query_wait_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long a query waits for another to end where so many run already, in milliseconds. Default: 30000.",
    },
    OptionDef {
        name: "statements_max",
        kind: OptionKind::Count,
        required: false,
        doc: "Statements that run at one store under one role at a time, at most three quarters of the source's connections. \
              Default: 16.",
    },
    OptionDef {
        name: "statement_wait_ms",
        kind: OptionKind::Count,
        required: false,
        doc: "How long a statement waits for another to end where so many run already, in milliseconds. Default: 30000.",
    },
    OptionDef {
        name: "view_memory_bytes",
        kind: OptionKind::Count,
        required: false,
        doc: "Bytes that the state and the rows of one materialized view may take. Default: 1073741824 (1 GiB).",
    },
];

/// The smallest memory that the operators can work with, in bytes.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// The largest number of queries or statements: what the semaphore counts to and more than any machine runs.
const COUNT_MAX: usize = 1_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: machine::memory_share(),
            spill_directory: std::env::temp_dir(),
            spill_bytes: 32 << 30,
            query_deadline: Some(Duration::from_secs(60 * 60)),
            queries_max: 100,
            queries_waiting_max: 1_000,
            query_wait: Duration::from_secs(30),
            statements_max: 16,
            statement_wait: Duration::from_secs(30),
            view_memory_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// The limits as options of [`KEYS`] give them; a relative directory is resolved by the caller.
    pub(crate) fn of(options: &Options) -> Self {
        let default = Self::default();
        let time = |key: &str, default: Duration| match options.count(key, u64::MAX) {
            u64::MAX => default,
            milliseconds => Duration::from_millis(milliseconds),
        };
        let count =
            |key: &str, default: usize| usize::try_from(options.count(key, default as u64)).unwrap_or(usize::MAX);
        let deadline = time("query_deadline_ms", default.query_deadline.unwrap_or_default());
        Self {
            memory_bytes: options.count("memory_bytes", default.memory_bytes),
            spill_directory: options.text("spill_directory").map_or(default.spill_directory, PathBuf::from),
            spill_bytes: options.count("spill_bytes", default.spill_bytes),
            query_deadline: (!deadline.is_zero()).then_some(deadline),
            queries_max: count("queries_max", default.queries_max),
            queries_waiting_max: count("queries_waiting_max", default.queries_waiting_max),
            query_wait: time("query_wait_ms", default.query_wait),
            statements_max: count("statements_max", default.statements_max),
            statement_wait: time("statement_wait_ms", default.statement_wait),
            view_memory_bytes: options.count("view_memory_bytes", default.view_memory_bytes),
        }
    }

    /// The key that can't be met, and why.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Some(("memory_bytes", format!("takes at least {MEMORY_BYTES_MIN}")));
        }
        if self.spill_bytes > 0 && !self.spill_directory.is_dir() {
            let directory = self.spill_directory.display();
            return Some((
                "spill_directory",
                format!("\"{directory}\" is no directory; make it, or set spill_bytes to 0"),
            ));
        }
        let counts = [("queries_max", self.queries_max), ("statements_max", self.statements_max)];
        let wrong = counts.into_iter().find(|(_, count)| !(1..=COUNT_MAX).contains(count));
        wrong.map(|(key, _)| (key, format!("takes 1 to {COUNT_MAX}")))
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.fault() {
            None => Ok(()),
            Some((key, message)) => Err(SourceError::config(format!("limit {key}: {message}")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headwater_source::OptionValue;

    use super::*;

    fn of(values: &[(&str, OptionValue)]) -> Limits {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Limits::of(&Options::check(KEYS, values.collect::<BTreeMap<_, _>>()).unwrap())
    }

    #[test]
    fn keys_say_the_defaults_that_hold() {
        let default = of(&[]);
        assert_eq!(default, Limits::default());
        for (key, value) in [
            ("spill_bytes", default.spill_bytes),
            ("query_deadline_ms", default.query_deadline.unwrap().as_millis() as u64),
            ("queries_max", default.queries_max as u64),
            ("queries_waiting_max", default.queries_waiting_max as u64),
            ("query_wait_ms", default.query_wait.as_millis() as u64),
            ("statements_max", default.statements_max as u64),
            ("statement_wait_ms", default.statement_wait.as_millis() as u64),
            ("view_memory_bytes", default.view_memory_bytes),
        ] {
            let doc = KEYS.iter().find(|definition| definition.name == key).unwrap().doc;
            assert!(doc.contains(&format!("Default: {value}")), "{key}: {doc}");
        }
    }

    #[test]
    fn each_key_sets_its_limit() {
        let count = OptionValue::Count;
        let limits = of(&[
            ("memory_bytes", count(1 << 30)),
            ("spill_directory", OptionValue::Text("/".to_owned())),
            ("spill_bytes", count(0)),
            ("query_deadline_ms", count(0)),
            ("queries_max", count(3)),
            ("queries_waiting_max", count(8)),
            ("query_wait_ms", count(4)),
            ("statements_max", count(5)),
            ("statement_wait_ms", count(6)),
            ("view_memory_bytes", count(7)),
        ]);
        let expected = Limits {
            memory_bytes: 1 << 30,
            spill_directory: PathBuf::from("/"),
            spill_bytes: 0,
            query_deadline: None,
            queries_max: 3,
            queries_waiting_max: 8,
            query_wait: Duration::from_millis(4),
            statements_max: 5,
            statement_wait: Duration::from_millis(6),
            view_memory_bytes: 7,
        };
        assert_eq!(limits, expected);
        assert!(limits.fault().is_none());
    }

    #[test]
    fn limit_that_cannot_be_met_is_named() {
        let key = |limits: Limits| limits.fault().map(|(key, _)| key);
        assert_eq!(key(Limits::default()), None);
        assert_eq!(key(Limits { memory_bytes: 1, ..Limits::default() }), Some("memory_bytes"));
        assert_eq!(key(Limits { spill_directory: "/none".into(), ..Limits::default() }), Some("spill_directory"));
        assert_eq!(key(Limits { queries_max: 0, ..Limits::default() }), Some("queries_max"));
        assert_eq!(key(Limits { statements_max: 0, ..Limits::default() }), Some("statements_max"));
    }
}
