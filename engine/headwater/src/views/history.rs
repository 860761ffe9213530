//! What a view's last epochs did to it, kept for those who follow it.
//!
//! There is one history for each view, and every subscription reads it at its own pace: a slow one holds up nobody and takes no memory of its
//! own. A history is bounded in epochs and in bytes. Who wants to go on from before its oldest epoch is told so.
//!
//! Invariant: every delta after the epoch `since` is held or yet to come, in the order of the epochs.

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_views::Vector;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::subscribe::ViewDelta;

/// What a history may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) epochs: usize,
    pub(super) bytes: usize,
}

/// The last epochs of a view.
#[derive(Debug)]
pub(crate) struct History {
    bounds: Bounds,
    state: Mutex<State>,
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The epoch after which everything is held, and its vector; `None` while the view was never shown.
    since: Option<(u64, Vector)>,
    deltas: VecDeque<Arc<ViewDelta>>,
    bytes: usize,
    is_over: bool,
}

/// What follows an epoch.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Delta(Arc<ViewDelta>),
    /// Nothing yet.
    Wait,
    /// That is no longer known; only what came after this epoch is.
    Gone { since: u64 },
    /// The view was dropped.
    Over,
}

impl History {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), moved: watch::Sender::new(()) }
    }

    /// The view shows for the first time, in this epoch.
    pub(super) fn begin(&self, epoch: u64, vector: Vector) {
        self.state.lock().since.get_or_insert((epoch, vector));
        self.moved.send_replace(());
    }

    /// An epoch changed the view.
    pub(super) fn push(&self, delta: Arc<ViewDelta>) {
        let mut state = self.state.lock();
        state.bytes += bytes_of(&delta);
        state.deltas.push_back(delta);
        // The newest is held whatever it takes: without it nobody could follow the view.
        while state.deltas.len() > 1
            && (state.deltas.len() > self.bounds.epochs || state.bytes > self.bounds.bytes)
            && let Some(oldest) = state.deltas.pop_front()
        {
            state.bytes -= bytes_of(&oldest);
            state.since = Some((oldest.epoch, oldest.vector.clone()));
        }
        drop(state);
        self.moved.send_replace(());
    }

    /// The view is dropped.
    pub(super) fn end(&self) {
        self.state.lock().is_over = true;
        self.moved.send_replace(());
    }

    /// The first delta after an epoch.
    pub(super) fn after(&self, epoch: u64) -> Next {
        let state = self.state.lock();
        match &state.since {
            _ if state.is_over => Next::Over,
            None => Next::Wait,
            Some((since, _)) if epoch < *since => Next::Gone { since: *since },
            Some(_) => {
                let place = state.deltas.partition_point(|delta| delta.epoch <= epoch);
                state.deltas.get(place).map_or(Next::Wait, |delta| Next::Delta(Arc::clone(delta)))
            }
        }
    }

    /// The vector of an epoch, and the deltas after it up to another; `Err` with the oldest epoch that can be gone on from where they are not all
    /// held.
    pub(super) fn between(&self, after: u64, until: u64) -> Result<(Vector, Vec<Arc<ViewDelta>>), u64> {
        let state = self.state.lock();
        let Some((since, vector)) = &state.since else { return Err(until) };
        if after < *since {
            return Err(*since);
        }
        let place = state.deltas.partition_point(|delta| delta.epoch <= after);
        // Between two deltas nothing changed: the rows of an epoch are those of the delta before it.
        let vector = place.checked_sub(1).and_then(|last| state.deltas.get(last)).map_or(vector, |last| &last.vector);
        let between = state.deltas.iter().skip(place).filter(|delta| delta.epoch <= until);
        Ok((vector.clone(), between.cloned().collect()))
    }

    /// The epoch after which everything is held.
    pub(super) fn since(&self) -> Option<u64> {
        self.state.lock().since.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Tells of every change of the history.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }
}

fn bytes_of(delta: &ViewDelta) -> usize {
    delta.delta.rows().get_array_memory_size() + size_of_val(delta.delta.weights()) + size_of::<ViewDelta>()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use headwater_views::Delta;

    use super::*;

    fn delta(epoch: u64, rows: usize) -> Arc<ViewDelta> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
        let delta = Delta::inserted(RecordBatch::try_from_iter([("n", column)]).unwrap());
        Arc::new(ViewDelta { epoch, vector: Vector::default(), delta, restarted: false })
    }

    fn epoch_of(next: Next) -> Result<u64, String> {
        match next {
            Next::Delta(delta) => Ok(delta.epoch),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn history_that_is_full_forgets_its_oldest_epoch_and_says_so() {
        let history = History::new(Bounds { epochs: 2, bytes: 1 << 20 });
        assert!(matches!(history.after(5), Next::Wait), "nothing is known before the view shows");
        history.begin(5, Vector::default());
        assert!(matches!(history.after(4), Next::Gone { since: 5 }));
        [7, 9].into_iter().for_each(|epoch| history.push(delta(epoch, 1)));
        assert_eq!(epoch_of(history.after(5)), Ok(7));
        assert_eq!(epoch_of(history.after(8)), Ok(9));
        assert!(matches!(history.after(9), Next::Wait));
        history.push(delta(12, 1));
        assert!(matches!(history.after(6), Next::Gone { since: 7 }));
        assert_eq!(epoch_of(history.after(7)), Ok(9));
        assert_eq!(history.between(7, 11).unwrap().1.len(), 1);
        assert_eq!(history.between(6, 11).unwrap_err(), 7);
        history.end();
        assert!(matches!(history.after(12), Next::Over));
    }

    #[test]
    fn history_is_bounded_in_bytes_and_holds_the_newest_epoch_whatever_it_takes() {
        let history = History::new(Bounds { epochs: 100, bytes: 4_000 });
        history.begin(0, Vector::default());
        (1..10).for_each(|epoch| history.push(delta(epoch, 100)));
        assert!(matches!(history.after(0), Next::Gone { .. }));
        history.push(delta(10, 10_000));
        assert_eq!(history.since(), Some(9));
        assert_eq!(epoch_of(history.after(9)), Ok(10));
    }
}
