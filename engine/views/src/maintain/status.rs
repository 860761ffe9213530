//! What a [`Maintenance`](super::Maintenance) tells of itself.

use std::sync::Arc;

use headwater_source::Position;

use super::{Epoch, SourceId, ViewId};
use crate::operator::Description;
use crate::{Delta, Error};

/// What a step did.
#[derive(Debug, Default)]
pub struct Report {
    /// The epoch that it published, where there was anything to publish.
    pub epoch: Option<Arc<Epoch>>,
    /// What it did to the rows of each view that changed.
    pub changes: Vec<ViewChange>,
    /// Views that failed in it, with the reason.
    pub failed_views: Vec<(ViewId, Error)>,
    /// Sources that failed in it, with the reason.
    pub failed_sources: Vec<(SourceId, Error)>,
    /// Whether more could follow at once.
    pub more: bool,
    /// The next moment at which a view changes though nothing else does, in nanoseconds since 1970.
    pub next_moment: Option<i64>,
    /// Sources whose end has to be told to [`Maintenance::settle`](super::Maintenance::settle), once each, before some views begin.
    pub unsettled: Vec<SourceId>,
}

/// What an epoch did to a view.
#[derive(Debug)]
pub struct ViewChange {
    /// The view.
    pub view: ViewId,
    /// Each row that changed, once, with the weight that it gained or lost.
    pub delta: Delta,
    /// Whether it shows for the first time: the rows are all that it has.
    pub first: bool,
}

/// Where a source stands.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The service.
    pub service: String,
    /// Its position in the newest epoch.
    pub position: Option<Position>,
    /// Transactions that wait.
    pub waiting: usize,
    /// Rows that they change.
    pub waiting_rows: usize,
    /// What holds the first of them back.
    pub held: Option<Held>,
    /// Why it goes no further; reading its tables anew mends it.
    pub failed: Option<String>,
}

/// A transaction that is held back until another source has come further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it stands.
    pub position: Position,
    /// The source that it waits for.
    pub service: String,
    /// What that has to cover.
    pub token: String,
    /// Why it can't be told whether it does.
    pub fault: Option<String>,
}

/// Whether a view goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewState {
    /// Its inputs are not loaded yet.
    Loading,
    /// It shows every epoch.
    Live,
    /// It stays at its last version, for this reason.
    Failed(String),
}

/// How a view stands.
#[derive(Debug, Clone)]
pub struct ViewStatus {
    /// Its name.
    pub name: String,
    /// Whether it goes on.
    pub state: ViewState,
    /// Different rows that it shows.
    pub rows: usize,
    /// Bytes of its state and its rows.
    pub bytes: usize,
}

/// A line of EXPLAIN MATERIALIZED VIEW.
#[derive(Debug, Clone)]
pub struct Explained {
    /// How deep it stands; 0 for the root.
    pub depth: usize,
    /// The operator.
    pub description: Description,
}
