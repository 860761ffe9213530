//! A service that is followed for views: where its task stands, and how far its source's log is known to reach.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use headwater_federation::Service;
use headwater_source::{Feed, FeedClass, Position, TableDef};
use headwater_views::{SourceId, TableId};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How many heads of a source's log are remembered.
const HEADS_MAX: usize = 64;

/// A service whose tables views read.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(super) service: Arc<Service>,
    pub(super) source: SourceId,
    pub(super) feed: Option<Arc<dyn Feed>>,
    /// The tables, in the order in which they were added, and a number that grows when one is.
    pub(super) tables: watch::Sender<Vec<Wanted>>,
    /// Rows read of the snapshot that is under way.
    pub(super) loaded_rows: AtomicU64,
    /// How often all tables were read since the engine started.
    pub(super) snapshots: AtomicU64,
    status: Mutex<Status>,
    task: Mutex<Option<tokio::task::AbortHandle>>,
}

/// A table that views read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: TableId,
    pub(super) definition: Arc<TableDef>,
}

/// What the task is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Loading,
    Following,
    Polling,
    Retrying,
    Idle,
}

#[derive(Debug)]
struct Status {
    stage: Stage,
    error: Option<String>,
    last_error: Option<String>,
    heads: VecDeque<(Instant, Position)>,
}

impl Stage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Following => "following",
            Self::Polling => "polling",
            Self::Retrying => "retrying",
            Self::Idle => "idle",
        }
    }
}

impl Followed {
    pub(super) fn new(service: Arc<Service>, source: SourceId) -> Arc<Self> {
        let feed = service.source().feed();
        let status =
            Mutex::new(Status { stage: Stage::Starting, error: None, last_error: None, heads: VecDeque::new() });
        let (tables, _) = watch::channel(vec![]);
        let (loaded_rows, snapshots, task) = Default::default();
        Arc::new(Self { service, source, feed, tables, loaded_rows, snapshots, status, task })
    }

    pub(super) fn name(&self) -> &str {
        self.service.name().as_str()
    }

    /// The feed's word, or `poll`.
    pub(super) fn mode(&self) -> &'static str {
        self.feed.as_ref().map_or("poll", |feed| feed.mode())
    }

    /// What its positions promise.
    pub(super) fn class(&self) -> &'static str {
        match self.feed.as_ref().map(|feed| feed.class()) {
            Some(FeedClass::Transactional) => "transactional",
            Some(FeedClass::Listing) => "listing",
            None => "polled",
        }
    }

    pub(super) fn enter(&self, stage: Stage) {
        let mut status = self.status.lock();
        status.stage = stage;
        if stage != Stage::Retrying {
            status.error = None;
        }
    }

    pub(super) fn fail(&self, error: String) {
        let mut status = self.status.lock();
        status.stage = Stage::Retrying;
        status.error = Some(error.clone());
        status.last_error = Some(error);
    }

    /// What stopped it last, even if it goes on again.
    pub(super) fn last_error(&self) -> Option<String> {
        self.status.lock().last_error.clone()
    }

    pub(super) fn stage(&self) -> (Stage, Option<String>) {
        let status = self.status.lock();
        (status.stage, status.error.clone())
    }

    /// Everything committed before `at` is at or before this position.
    pub(super) fn saw_head(&self, at: Instant, head: Position) {
        let mut status = self.status.lock();
        if status.heads.len() == HEADS_MAX {
            // Keeps the oldest, which a source that is far behind reaches first.
            let middle = HEADS_MAX / 2;
            status.heads.remove(middle);
        }
        status.heads.push_back((at, head));
    }

    /// The last time of which it is known that a view at this position shows everything committed before.
    pub(super) fn fresh_at(&self, position: &Position) -> Option<Instant> {
        let mut status = self.status.lock();
        let last = status.heads.iter().rposition(|(_, head)| position >= head)?;
        status.heads.drain(..last);
        status.heads.front().map(|(at, _)| *at)
    }

    /// The end of the source's log as last seen.
    pub(super) fn head(&self) -> Option<Position> {
        self.status.lock().heads.back().map(|(_, head)| head.clone())
    }

    pub(super) fn run(&self, task: tokio::task::AbortHandle) {
        *self.task.lock() = Some(task);
    }

    pub(super) fn is_running(&self) -> bool {
        self.task.lock().is_some()
    }

    pub(super) fn stop(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Whether its tables were read since the engine started.
    pub(super) fn has_polled(&self) -> bool {
        self.snapshots.load(Ordering::Relaxed) > 0
    }

    pub(super) fn rows_loaded(&self) -> u64 {
        self.loaded_rows.load(Ordering::Relaxed)
    }
}
