//! A view's changes as they are published, whole epochs in their order.
//!
//! A subscription is a place in the view's history: the last epoch that was told. It begins with the rows that the view has, with those that it
//! had in an earlier epoch, or with neither, and never leaves an epoch out. Who reads too slowly gets an error and begins anew.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater_views::{Delta, Epoch, Shown, Vector, ViewId};
use tokio::sync::OwnedSemaphorePermit;

use super::ask::ViewName;
use super::history::{History, Missing, Next};
use super::registry::{Shared, Views};
use crate::error::Passed;
use crate::opaque::Opaque;
use crate::{Error, Result};

/// What an epoch did to a view.
#[derive(Debug, Clone)]
pub struct ViewDelta {
    /// The epoch's number.
    pub epoch: u64,
    /// The positions of the sources that the view reads, as of the epoch.
    pub vector: Vector,
    /// Each row that changed, once, with the weight that it gained or lost.
    pub delta: Delta,
    /// Whether the rows are all that the view has in this epoch, and what was held of it before is void.
    pub restarted: bool,
}

/// A stream of a view's changes. It never leaves an epoch out: who reads too slowly gets an error and subscribes anew.
#[derive(Debug)]
pub struct Subscription {
    name: ViewName,
    view: ViewId,
    schema: SchemaRef,
    history: Opaque<Arc<History>>,
    place: Place,
    /// What is told is kept over restarts.
    is_kept: bool,
    /// Keeps the views' tasks going.
    views: Opaque<Arc<Views>>,
    /// One of the subscriptions that the engine takes.
    _admitted: OwnedSemaphorePermit,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With all rows that the view has, and then what each epoch changes.
    Snapshot,
    /// With what epochs from now on change.
    Changes,
    /// With what every epoch after this one changed.
    After(u64),
    /// With all rows that the view had in this epoch, and then what every epoch after it changed.
    SnapshotOf(u64),
}

/// How far a subscription is.
#[derive(Debug)]
enum Place {
    /// Not begun: the view has not come to where it may be shown, or nobody has read yet.
    Before(Begin),
    /// Everything up to this epoch was told.
    After(u64),
}

impl Subscription {
    /// Begins to follow a view.
    ///
    /// # Errors
    /// There is no such view; the engine takes no more subscriptions; the epoch to go on from is not held any more, or was never published.
    pub(crate) fn begin(views: &Arc<Views>, name: &ViewName, begin: Begin) -> Result<Self> {
        let shared = views.shared();
        let definition = shared.definition(name)?;
        let (view, schema) = (definition.view, definition.schema);
        let admitted = Arc::clone(&shared.subscribers).try_acquire_owned();
        let admitted = admitted
            .map_err(|_| Passed::Subscriptions { subscriptions_max: shared.options.subscriptions_max }.into_error())?;
        let history = shared.history(view);
        // Were it dropped in between, nobody would end this history.
        if shared.definition(name)?.view != view {
            return Err(dropped(name));
        }
        let epoch = shared.published.latest();
        let place = match begin {
            Begin::After(after) | Begin::SnapshotOf(after) => {
                if after > epoch.number {
                    return Err(never_published(name, after, epoch.number));
                }
                history.check(after).map_err(|reason| missing(name, after, reason, epoch.number))?;
                Place::Before(begin)
            }
            Begin::Changes if shared.shown_now(&epoch, view).is_some() => Place::After(epoch.number),
            Begin::Changes | Begin::Snapshot => Place::Before(begin),
        };
        let (history, views) = (Opaque::new(history), Opaque::new(Arc::clone(views)));
        Ok(Self { name: name.clone(), view, schema, history, place, is_kept: false, views, _admitted: admitted })
    }

    pub(super) fn view(&self) -> ViewId {
        self.view
    }

    /// The view's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next epoch that changed the view. Waits while there is none.
    ///
    /// # Errors
    /// The reader was so slow that epochs are gone, or the view was dropped. [`Error::kind`](crate::Error::kind) is
    /// [`HistoryGone`](crate::ErrorKind::HistoryGone) or [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn next(&mut self) -> Result<Option<ViewDelta>> {
        let mut parts = VecDeque::new();
        let told = self.next_parts(&mut parts).await?;
        let delta = Delta::sum(&self.schema, &Vec::from(parts))?;
        Ok(Some(ViewDelta { delta, ..told }))
    }

    /// The next epoch, its rows in parts: they count, and not the delta of what is returned.
    pub(super) async fn next_parts(&mut self, parts: &mut VecDeque<Delta>) -> Result<ViewDelta> {
        loop {
            if let Place::Before(begin) = self.place {
                let (after, snapshot) = self.settle(begin).await?;
                if let Some((told, rows)) = snapshot {
                    self.views.shared().keep_told(self.view, &self.history, told.epoch).await;
                    (self.place, self.is_kept) = (Place::After(after), true);
                    parts.extend(rows);
                    return Ok(told);
                }
                self.place = Place::After(after);
            }
            let Place::After(after) = self.place else { continue };
            if !self.is_kept {
                self.views.shared().keep_told(self.view, &self.history, after).await;
                self.is_kept = true;
            }
            let mut moved = self.history.watch();
            match self.history.after(after) {
                Next::Delta(delta) => {
                    self.place = Place::After(delta.epoch);
                    parts.push_back(delta.delta.clone());
                    return Ok((*delta).clone());
                }
                Next::Missing(reason) => {
                    let newest = self.views.shared().published.latest().number;
                    return Err(missing(&self.name, after, reason, newest));
                }
                Next::Over => return Err(dropped(&self.name)),
                // The sender lives as long as the history, which is held here.
                Next::Wait => {
                    let _ = moved.changed().await;
                }
            }
        }
    }

    /// Waits until the view may be shown. The epoch to go on after, and the rows to begin with.
    async fn settle(&self, begin: Begin) -> Result<(u64, Option<(ViewDelta, Vec<Delta>)>)> {
        let (epoch, shown) = self.shown().await?;
        if let Begin::SnapshotOf(after) = begin {
            return Ok((after, Some(self.snapshot_of(after).await?)));
        }
        match begin {
            Begin::Snapshot => {
                let rows = shown.version.deltas()?;
                Ok((epoch.number, Some((self.all(shown.epoch, shown.vector.clone()), rows))))
            }
            Begin::After(after) => Ok((after, None)),
            Begin::Changes | Begin::SnapshotOf(_) => Ok((epoch.number, None)),
        }
    }

    /// The rows that the view had in an epoch: those of now, with what came since taken back.
    async fn snapshot_of(&self, after: u64) -> Result<(ViewDelta, Vec<Delta>)> {
        let (shared, history, view) = (Arc::clone(self.views.shared()), Arc::clone(&self.history), self.view);
        let published = shared.published.clone();
        // Under the maintenance's lock every published epoch has its delta in the history.
        let found = shared.with_core(move |_| {
            let epoch = published.latest();
            (epoch.view(view).cloned(), history.between(after, epoch.number), epoch.number)
        });
        let (shown, since, newest) = found.await?;
        let (vector, since) = since.map_err(|reason| missing(&self.name, after, reason, newest))?;
        let mut rows = shown.ok_or_else(|| dropped(&self.name))?.version.deltas()?;
        rows.extend(since.iter().map(|delta| delta.delta.negated()));
        Ok((self.all(after, vector), vec![Delta::sum(&self.schema, &rows)?]))
    }

    /// What is told of an epoch whose rows are all that the view has.
    fn all(&self, epoch: u64, vector: Vector) -> ViewDelta {
        let delta = Delta::inserted(RecordBatch::new_empty(Arc::clone(&self.schema)));
        ViewDelta { epoch, vector, delta, restarted: true }
    }

    /// The newest epoch, once it shows the view and is not older than what was shown before a restart.
    async fn shown(&self) -> Result<(Arc<Epoch>, Arc<Shown>)> {
        let shared = self.views.shared();
        let (mut news, mut moved) = (shared.news.subscribe(), self.history.watch());
        loop {
            news.mark_unchanged();
            let epoch = shared.published.latest();
            if let Some(shown) = shared.shown_now(&epoch, self.view) {
                // Its delta may not be in the history yet; it will be, and is behind the place where this begins.
                return Ok((epoch, shown));
            }
            if matches!(self.history.after(u64::MAX), Next::Over) {
                return Err(dropped(&self.name));
            }
            tokio::select! {
                _ = news.changed() => {}
                _ = moved.changed() => {}
            }
        }
    }
}

impl Shared {
    /// A view as an epoch shows it, unless that is older than what was shown before the engine started.
    pub(super) fn shown_now(&self, epoch: &Epoch, view: ViewId) -> Option<Arc<Shown>> {
        let shown = epoch.view(view)?;
        let behind = self.behind.lock();
        shown.vector.iter().all(|(service, _)| !behind.contains(service)).then(|| Arc::clone(shown))
    }

    /// The history of a view that there is.
    pub(super) fn history(&self, view: ViewId) -> Arc<History> {
        let mut histories = self.histories.lock();
        Arc::clone(histories.entry(view).or_insert_with(|| Arc::new(History::new(self.options.history()))))
    }
}

fn missing(view: &ViewName, wanted: u64, reason: Missing, newest: u64) -> Error {
    let view = view.to_string();
    match reason {
        Missing::Gone { since } => Passed::History { view, wanted, since, newest }.into_error(),
        Missing::Lost => Passed::Lost { view, wanted, newest }.into_error(),
    }
}

fn never_published(view: &ViewName, wanted: u64, newest: u64) -> Error {
    Passed::Unpublished { view: view.to_string(), wanted, newest }.into_error()
}

fn dropped(view: &ViewName) -> Error {
    Passed::Dropped { view: view.to_string() }.into_error()
}
