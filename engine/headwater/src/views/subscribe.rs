//! A view's changes as they are published, whole epochs in their order.

use std::sync::Arc;

use headwater_views::{Delta, Vector, ViewId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::ask::ViewName;
use super::registry::{Shared, Views, refused};
use crate::Result;

/// What an epoch did to a view.
#[derive(Debug, Clone)]
pub struct ViewDelta {
    pub(super) view: ViewId,
    /// The epoch's number.
    pub epoch: u64,
    /// The positions of the sources that the view reads, as of the epoch.
    pub vector: Vector,
    /// Each row that changed, once, with the weight that it gained or lost.
    pub delta: Delta,
    /// Whether the view was computed anew: the rows are all that it has now, and what was held of it before is void.
    pub restarted: bool,
}

/// A stream of a view's changes. It never leaves an epoch out: who reads too slowly gets an error and subscribes anew.
#[derive(Debug)]
pub struct Subscription {
    name: ViewName,
    view: ViewId,
    snapshot: Option<ViewDelta>,
    deltas: broadcast::Receiver<Arc<ViewDelta>>,
    /// Keeps the views' tasks going.
    _views: Arc<Views>,
}

/// Whether a subscription begins with all rows that the view has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Snapshot,
    Changes,
}

impl Subscription {
    pub(crate) fn begin(views: &Arc<Views>, name: &str, begin: Begin) -> Result<Self> {
        let shared: &Arc<Shared> = views.shared();
        let name = ViewName::parse(name)?;
        let view = shared.definition(&name)?.view;
        // Epochs are delivered under this lock: none falls between the snapshot and the first delta.
        let core = shared.core.lock();
        let deltas = shared.deltas.subscribe();
        let epoch = shared.published.latest();
        drop(core);
        let snapshot = match (begin, epoch.view(view)) {
            (Begin::Snapshot, Some(shown)) => {
                let batches = shown.version.batches()?;
                let rows = arrow::compute::concat_batches(shown.version.schema(), &batches)
                    .map_err(datafusion::error::DataFusionError::from)?;
                let delta = Delta::inserted(rows);
                Some(ViewDelta { view, epoch: shown.epoch, vector: shown.vector.clone(), delta, restarted: true })
            }
            _ => None,
        };
        Ok(Self { name, view, snapshot, deltas, _views: Arc::clone(views) })
    }

    /// The next epoch that changed the view; `None` once the engine has ended.
    ///
    /// # Errors
    /// The reader was so slow that epochs are gone: subscribe anew, with a snapshot.
    pub async fn next(&mut self) -> Result<Option<ViewDelta>> {
        if let Some(snapshot) = self.snapshot.take() {
            return Ok(Some(snapshot));
        }
        loop {
            match self.deltas.recv().await {
                Ok(delta) if delta.view == self.view => return Ok(Some((*delta).clone())),
                Ok(_) => {}
                Err(RecvError::Closed) => return Ok(None),
                Err(RecvError::Lagged(epochs)) => {
                    let reason =
                        format!("its reader is {epochs} epochs behind what is kept; subscribe anew with a snapshot");
                    return Err(refused(&format!("the subscription to \"{}\"", self.name), &reason));
                }
            }
        }
    }
}
