//! What a view's last epochs did to it, kept for those who follow it.
//!
//! There is one history for each view, and every subscription reads it at its own pace: a slow one holds up nobody and takes no memory of its
//! own. A history is bounded in epochs and in bytes. Who wants to go on from before its oldest epoch is told so. With a place for state it outlives
//! the engine, in a [journal](super::journal).
//!
//! Invariant: every delta after the epoch `since` is held or yet to come, in the order of the epochs.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use headwater_views::Vector;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::journal::{Frame, Journal};
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
    /// What is written of it, where the view was ever followed and there is a place for it.
    pub(super) journal: Mutex<Option<Journal>>,
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while the view was never shown.
    kept: Option<Kept>,
    bytes: usize,
    is_over: bool,
}

/// What is held of a view's epochs, those of earlier engines among them.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// The epoch after which everything is held, and its vector.
    since: (u64, Vector),
    deltas: VecDeque<Arc<ViewDelta>>,
    /// The epochs of engines before this one of which it is known what they told: after which, and up to which.
    runs: Vec<(u64, u64)>,
    /// The epochs of this engine come after this number.
    start: u64,
    /// The last epoch that was told.
    newest: u64,
}

/// What follows an epoch.
#[derive(Debug)]
pub(super) enum Next {
    /// This.
    Delta(Arc<ViewDelta>),
    /// Nothing yet.
    Wait,
    /// That is not known.
    Missing(Missing),
    /// The view was dropped.
    Over,
}

/// Why it is not known what followed an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is too long ago: only what came after this epoch is known.
    Gone { since: u64 },
    /// An earlier engine told of the epoch, and what it told up to there could not be kept.
    Lost,
}

impl History {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), journal: Mutex::default(), moved: watch::Sender::new(()) }
    }

    /// The history that an earlier engine kept in a journal.
    pub(super) fn restored(bounds: Bounds, kept: Kept, journal: Journal) -> Self {
        let bytes = kept.deltas.iter().map(|delta| bytes_of(delta)).sum();
        let mut state = State { kept: Some(kept), bytes, is_over: false };
        state.forget(bounds);
        let (state, journal) = (Mutex::new(state), Mutex::new(Some(journal)));
        Self { bounds, state, journal, moved: watch::Sender::new(()) }
    }

    /// The view shows for the first time, in this epoch.
    pub(super) fn begin(&self, epoch: u64, vector: Vector) {
        self.state.lock().kept.get_or_insert_with(|| Kept::since(epoch, vector));
        self.moved.send_replace(());
    }

    /// An epoch changed the view.
    pub(super) fn push(&self, delta: Arc<ViewDelta>) {
        let mut state = self.state.lock();
        state.bytes += bytes_of(&delta);
        let vector = &delta.vector;
        state.kept.get_or_insert_with(|| Kept::since(delta.epoch, vector.clone())).push(delta);
        state.forget(self.bounds);
        drop(state);
        self.moved.send_replace(());
    }

    /// Whether it is written down what is told.
    pub(super) fn has_journal(&self) -> bool {
        self.journal.lock().as_ref().is_some_and(|journal| !journal.is_unwritten())
    }

    /// Whether an epoch at least as new was told already.
    pub(super) fn is_told(&self, epoch: u64) -> bool {
        self.state.lock().kept.as_ref().is_some_and(|kept| epoch <= kept.newest)
    }

    /// Somebody was told the rows of an epoch.
    pub(super) fn told(&self, epoch: u64) {
        if let Some(kept) = &mut self.state.lock().kept {
            kept.told(epoch);
        }
    }

    /// The view is dropped.
    pub(super) fn end(&self) {
        self.state.lock().is_over = true;
        self.moved.send_replace(());
    }

    /// The first delta after an epoch.
    pub(super) fn after(&self, epoch: u64) -> Next {
        let state = self.state.lock();
        match &state.kept {
            _ if state.is_over => Next::Over,
            None => Next::Wait,
            Some(kept) => match kept.check(epoch) {
                Err(missing) => Next::Missing(missing),
                Ok(()) => {
                    let place = kept.deltas.partition_point(|delta| delta.epoch <= epoch);
                    kept.deltas.get(place).map_or(Next::Wait, |delta| Next::Delta(Arc::clone(delta)))
                }
            },
        }
    }

    /// The vector of an epoch, and the deltas after it up to another.
    pub(super) fn between(&self, after: u64, until: u64) -> Result<(Vector, Vec<Arc<ViewDelta>>), Missing> {
        let state = self.state.lock();
        let kept = state.kept.as_ref().ok_or(Missing::Gone { since: until })?;
        kept.check(after)?;
        let place = kept.deltas.partition_point(|delta| delta.epoch <= after);
        // Between two deltas nothing changed: the rows of an epoch are those of the delta before it.
        let before = place.checked_sub(1).and_then(|last| kept.deltas.get(last));
        let vector = before.map_or(&kept.since.1, |last| &last.vector);
        let between = kept.deltas.iter().skip(place).filter(|delta| delta.epoch <= until);
        Ok((vector.clone(), between.cloned().collect()))
    }

    /// Whether what came after an epoch is known, as far as there is anything.
    pub(super) fn check(&self, epoch: u64) -> Result<(), Missing> {
        self.state.lock().kept.as_ref().map_or(Ok(()), |kept| kept.check(epoch))
    }

    /// The epoch after which everything is held.
    pub(super) fn since(&self) -> Option<u64> {
        self.state.lock().kept.as_ref().map(|kept| kept.since.0)
    }

    /// All that is held.
    pub(super) fn kept(&self) -> Option<Kept> {
        self.state.lock().kept.clone()
    }

    /// Tells of every change of the history.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }
}

impl State {
    /// Lets the oldest epochs go that are too many.
    fn forget(&mut self, bounds: Bounds) {
        let Some(kept) = &mut self.kept else { return };
        // The newest is held whatever it takes: without it nobody could follow the view.
        while kept.deltas.len() > 1
            && (kept.deltas.len() > bounds.epochs || self.bytes > bounds.bytes)
            && let Some(oldest) = kept.deltas.pop_front()
        {
            self.bytes -= bytes_of(&oldest);
            kept.since = (oldest.epoch, oldest.vector.clone());
        }
    }
}

impl Kept {
    /// What comes after an epoch.
    pub(super) fn since(epoch: u64, vector: Vector) -> Self {
        let (deltas, runs) = (VecDeque::new(), vec![]);
        Self { since: (epoch, vector), deltas, runs, start: epoch, newest: epoch }
    }

    /// Another engine goes on, whose epochs come after this one.
    pub(super) fn start(&mut self, epoch: u64) {
        self.runs.push((self.start, self.newest));
        (self.start, self.newest) = (epoch, epoch);
    }

    pub(super) fn told(&mut self, epoch: u64) {
        self.newest = self.newest.max(epoch);
    }

    pub(super) fn push(&mut self, delta: Arc<ViewDelta>) {
        self.told(delta.epoch);
        self.deltas.push_back(delta);
    }

    /// The last epoch that was told.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn check(&self, epoch: u64) -> Result<(), Missing> {
        let is_told = |(start, newest): &(u64, u64)| (*start..=*newest).contains(&epoch);
        match epoch {
            _ if epoch < self.since.0 => Err(Missing::Gone { since: self.since.0 }),
            _ if epoch >= self.start || epoch == self.since.0 || self.runs.iter().any(is_told) => Ok(()),
            _ => Err(Missing::Lost),
        }
    }

    /// The same as frames of a log.
    pub(super) fn frames(&self) -> Vec<Frame<'_>> {
        let mut frames = vec![Frame::Since(self.since.0, &self.since.1)];
        let runs = self.runs.iter().filter(|(_, newest)| *newest >= self.since.0);
        let mut deltas = self.deltas.iter().peekable();
        for (number, (start, newest)) in runs.chain([&(self.start, self.newest)]).enumerate() {
            if number > 0 {
                frames.push(Frame::Start(*start));
            }
            while let Some(delta) = deltas.next_if(|delta| delta.epoch <= *newest) {
                frames.push(Frame::Delta(delta));
            }
            frames.push(Frame::Told(*newest));
        }
        frames
    }
}

/// Of its rows alone: those that were read from a journal share the memory of what they were read with.
fn bytes_of(delta: &ViewDelta) -> usize {
    let bytes = |column: &ArrayRef| match column.data_type() {
        // Their values are not counted.
        DataType::Utf8View | DataType::BinaryView => column.get_array_memory_size(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    };
    let rows: usize = delta.delta.rows().columns().iter().map(bytes).sum();
    rows + size_of_val(delta.delta.weights()) + size_of::<ViewDelta>()
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
        assert!(matches!(history.after(4), Next::Missing(Missing::Gone { since: 5 })));
        [7, 9].into_iter().for_each(|epoch| history.push(delta(epoch, 1)));
        assert_eq!(epoch_of(history.after(5)), Ok(7));
        assert_eq!(epoch_of(history.after(8)), Ok(9));
        assert!(matches!(history.after(9), Next::Wait));
        history.push(delta(12, 1));
        assert!(matches!(history.after(6), Next::Missing(Missing::Gone { since: 7 })));
        assert_eq!(epoch_of(history.after(7)), Ok(9));
        assert_eq!(history.between(7, 11).unwrap().1.len(), 1);
        assert_eq!(history.between(6, 11).unwrap_err(), Missing::Gone { since: 7 });
        history.end();
        assert!(matches!(history.after(12), Next::Over));
    }

    #[test]
    fn history_is_bounded_in_bytes_and_holds_the_newest_epoch_whatever_it_takes() {
        let history = History::new(Bounds { epochs: 100, bytes: 4_000 });
        history.begin(0, Vector::default());
        (1..10).for_each(|epoch| history.push(delta(epoch, 100)));
        assert!(matches!(history.after(0), Next::Missing(Missing::Gone { .. })));
        history.push(delta(10, 10_000));
        assert_eq!(history.since(), Some(9));
        assert_eq!(epoch_of(history.after(9)), Ok(10));
    }
}
