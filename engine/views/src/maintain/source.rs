//! A source: where it stands, and the transactions that wait for an epoch.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use headwater_source::{Change, Dependency, Position, TableChange};

use super::TableId;
use crate::mutant::{self, Mutant};

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
    /// What views wait for before they begin.
    pub(super) unsettled: Unsettled,
    pub(super) tables: Vec<TableId>,
}

/// How far a source must have come before views over it begin.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// How often its end was asked for and not told yet.
    asked: usize,
    /// Where it ended.
    floor: Option<Position>,
    /// It may have been shown further than it stands now, before a restart: no view begins, not even one that reads nothing else.
    restored: bool,
    /// The end that a restart asks for was not told yet.
    restart_asks: bool,
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
            unsettled: Unsettled::default(),
            tables: vec![],
        }
    }

    /// Whether a view over so many sources may begin.
    pub(super) fn is_settled(&self, sources: usize) -> bool {
        let waits_for_what_was_shown = self.unsettled.restored && !mutant::has(Mutant::ShowsTheCheckpointAfterARestart);
        let waits_for_others = sources > 1
            && !mutant::has(Mutant::BeginsBeforeItsSourcesAgree)
            && !mutant::has(Mutant::ShowsTheCheckpointAfterARestart);
        !(waits_for_what_was_shown || waits_for_others) || self.is_at_its_end()
    }

    fn is_at_its_end(&self) -> bool {
        let Unsettled { asked, floor, .. } = &self.unsettled;
        *asked == 0 && floor.as_ref().is_none_or(|floor| self.position.as_ref().is_some_and(|own| own >= floor))
    }

    /// Its end will be told.
    pub(super) fn ask_end(&mut self) {
        self.unsettled.asked += 1;
    }

    /// It stands at a checkpoint, and its end will be told.
    pub(super) fn restored(&mut self, position: Option<Position>) {
        self.offered.clone_from(&position);
        self.position = position;
        self.unsettled = Unsettled { asked: 1, floor: None, restored: true, restart_asks: true };
    }

    /// Its end was told; `None` where there is none to wait for.
    pub(super) fn settle(&mut self, end: Option<Position>) {
        self.unsettled.asked = self.unsettled.asked.saturating_sub(1);
        if end > self.unsettled.floor {
            self.unsettled.floor = end;
        }
    }

    /// Its end was told for the first time since a restart; whether that was asked for.
    pub(super) fn settle_restart(&mut self, end: Option<Position>) -> bool {
        let asked = std::mem::take(&mut self.unsettled.restart_asks);
        if asked {
            self.settle(end);
        }
        asked
    }

    /// All of it was read just now, at this position.
    pub(super) fn loaded(&mut self, position: Position) {
        self.position = Some(position);
        self.failed = None;
        self.settle_restart(None);
        self.unsettled.restored = false;
        self.drain();
    }

    /// Its positions so far are those of a log that is no more.
    pub(super) fn begin_history(&mut self) {
        self.position = None;
        self.unsettled.floor = None;
        self.drain();
    }

    /// What it was shown at before a restart is reached for good.
    pub(super) fn note_progress(&mut self) {
        if self.unsettled.restored && self.is_at_its_end() {
            self.unsettled.restored = false;
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
