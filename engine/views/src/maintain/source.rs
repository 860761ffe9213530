//! A source: where it stands, and the transactions that wait for an epoch.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use headwater_source::{Change, Dependency, Position, TableChange};

use super::TableId;

/// Whether a position of a source covers a token of it; the error says why the token is none.
pub type Covers = Arc<dyn Fn(&Position, &str) -> std::result::Result<bool, String> + Send + Sync>;

pub(super) struct Source {
    pub(super) service: Arc<str>,
    pub(super) covers: Covers,
    /// Where it stands in the last epoch; `None` until its tables are loaded.
    pub(super) position: Option<Position>,
    /// The position of the last transaction that was offered.
    pub(super) offered: Option<Position>,
    pub(super) queue: VecDeque<Waiting>,
    pub(super) queued_rows: usize,
    /// Why it goes no further.
    pub(super) failed: Option<String>,
    pub(super) tables: Vec<TableId>,
}

/// A transaction that waits for an epoch.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) position: Position,
    pub(super) depends_on: Vec<Dependency>,
    pub(super) changes: Vec<(TableId, Change)>,
    pub(super) rows: usize,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("service", &self.service)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(service: &str, covers: Covers) -> Self {
        Self {
            service: service.into(),
            covers,
            position: None,
            offered: None,
            queue: VecDeque::new(),
            queued_rows: 0,
            failed: None,
            tables: vec![],
        }
    }

    /// Forgets transactions that wait; the last position offered is that of the last epoch again.
    pub(super) fn drain(&mut self) {
        self.queue.clear();
        self.queued_rows = 0;
        self.offered.clone_from(&self.position);
    }

    /// Forgets where it stands: its next tables are loaded as those of a new source are.
    pub(super) fn forget(&mut self) {
        self.position = None;
        self.failed = None;
        self.drain();
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.offered = Some(waiting.position.clone());
        self.queued_rows += waiting.rows;
        self.queue.push_back(waiting);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.queued_rows -= waiting.rows;
        Some(waiting)
    }
}

/// How many rows a change touches; a truncation counts for one.
pub(super) fn rows_of(changes: &[TableChange]) -> usize {
    let rows = |change: &TableChange| match &change.change {
        Change::Rows(rows) => rows.ops.len(),
        Change::Truncate => 1,
    };
    changes.iter().map(rows).sum()
}
