//! Statements that run while their client polls: PollFlightInfo.
//!
//! A statement runs from its first poll on, in a task of its own, and its rows are put into parts of so many rows or bytes; each is an endpoint with its own ticket,
//! in the order of the rows. Parts that nobody has fetched hold at most so many bytes: then the statement waits. So a client may fetch while it polls, and must where
//! the result is large.
//!
//! It ends where nobody has polled it for the life of a ticket, where it is cancelled, and when the server stops.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightDescriptor;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tonic::Status;
use uuid::Uuid;

use super::stream::Batches;
use crate::auth::current;

/// How long a poll waits for something to happen.
const WAIT: Duration = Duration::from_secs(1);

/// How large parts are, and how much of them is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) part_rows: usize,
    pub(super) part_bytes: usize,
    pub(super) held_bytes: usize,
}

/// A part of a result, which holds its share of the room until it is let go.
pub(super) struct Part {
    pub(super) batches: Vec<RecordBatch>,
    room: OwnedSemaphorePermit,
}

impl Part {
    /// Its rows, which hold the room until they are sent.
    pub(super) fn into_batches(self) -> Batches {
        let Self { batches, room } = self;
        Box::pin(futures::stream::iter(batches).map(move |batch| {
            let _held = &room;
            Ok(batch)
        }))
    }
}

/// A statement that is polled. Dropping it ends it.
pub(super) struct Polled {
    pub(super) schema: SchemaRef,
    /// What the client asked for at first.
    pub(super) descriptor: FlightDescriptor,
    state: watch::Receiver<State>,
    task: AbortHandle,
}

/// What has become of a statement so far.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The tickets of its parts, in order.
    pub(super) parts: Vec<Uuid>,
    pub(super) rows: u64,
    pub(super) end: Option<Result<(), Status>>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Polled {
    /// Starts a statement as whoever asks now. `keep` gives out the ticket of a part.
    pub(super) fn start(
        schema: SchemaRef,
        descriptor: FlightDescriptor,
        batches: Batches,
        sizes: Sizes,
        keep: impl Fn(Part) -> Result<Uuid, Status> + Send + Sync + 'static,
    ) -> Self {
        let (told, state) = watch::channel(State::default());
        let principal = current::principal();
        let work = async move {
            let end = collected(batches, sizes, &keep, &told).await;
            told.send_modify(|state| state.end = Some(end));
        };
        let task = tokio::spawn(current::as_principal(principal, work)).abort_handle();
        Self { schema, descriptor, state, task }
    }

    /// What has become of it since a client knew of so many parts; waits a moment for news.
    pub(super) async fn news(&self, known: usize) -> State {
        let mut state = self.state.clone();
        let is_new = |state: &State| state.parts.len() > known || state.end.is_some();
        match tokio::time::timeout(WAIT, state.wait_for(is_new)).await {
            Ok(Ok(state)) => state.clone(),
            // Nothing has happened, or it was aborted: what was told last holds.
            Ok(Err(_)) | Err(_) => self.state.borrow().clone(),
        }
    }

    /// Ends it.
    pub(super) fn cancel(&self) {
        self.task.abort();
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.borrow().end.is_some() || self.task.is_finished()
    }
}

async fn collected(
    mut batches: Batches,
    sizes: Sizes,
    keep: &(impl Fn(Part) -> Result<Uuid, Status> + Sync),
    told: &watch::Sender<State>,
) -> Result<(), Status> {
    let room = Arc::new(Semaphore::new(sizes.held_bytes.min(Semaphore::MAX_PERMITS)));
    let mut collected = Collected::default();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        told.send_modify(|state| state.rows += batch.num_rows() as u64);
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let fits = sizes.part_rows.max(1).saturating_sub(collected.rows).min(rest.num_rows());
            collected.add(rest.slice(0, fits));
            rest = rest.slice(fits, rest.num_rows() - fits);
            if collected.rows >= sizes.part_rows || collected.bytes >= sizes.part_bytes {
                give(&mut collected, &room, sizes, keep, told).await?;
            }
        }
    }
    // A result without rows has one part too, which says its columns.
    if collected.rows > 0 || told.borrow().parts.is_empty() {
        give(&mut collected, &room, sizes, keep, told).await?;
    }
    Ok(())
}

#[derive(Default)]
struct Collected {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Collected {
    fn add(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        // A slice holds all of what it is of.
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }
}

async fn give(
    collected: &mut Collected,
    room: &Arc<Semaphore>,
    sizes: Sizes,
    keep: &(impl Fn(Part) -> Result<Uuid, Status> + Sync),
    told: &watch::Sender<State>,
) -> Result<(), Status> {
    let Collected { batches, bytes, .. } = std::mem::take(collected);
    // A part that is larger than all the room has it alone.
    let wanted = bytes.clamp(1, sizes.held_bytes.max(1));
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    let room = Arc::clone(room).acquire_many_owned(wanted).await;
    let room = room.map_err(|_| Status::internal("the room for parts is closed"))?;
    let part = keep(Part { batches, room })?;
    told.send_modify(|state| state.parts.push(part));
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array};
    use parking_lot::Mutex;

    use super::*;

    fn batch(from: i32, to: i32) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(from..to));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    fn polled(sizes: Sizes, parts: &Arc<Mutex<Vec<Part>>>) -> Polled {
        let source: Batches = Box::pin(futures::stream::iter([Ok(batch(0, 25)), Ok(batch(25, 30))]));
        let kept = Arc::clone(parts);
        Polled::start(batch(0, 1).schema(), FlightDescriptor::default(), source, sizes, move |part| {
            kept.lock().push(part);
            Ok(Uuid::new_v4())
        })
    }

    #[tokio::test]
    async fn rows_come_in_parts_of_a_size_and_in_order() {
        let parts = Arc::default();
        let polled = polled(Sizes { part_rows: 10, part_bytes: usize::MAX, held_bytes: 1 << 20 }, &parts);
        while polled.news(usize::MAX).await.end.is_none() {}
        assert_eq!(polled.news(0).await.rows, 30);
        let rows: Vec<usize> =
            parts.lock().iter().map(|part| part.batches.iter().map(RecordBatch::num_rows).sum()).collect();
        assert_eq!(rows, [10, 10, 10]);
    }

    #[tokio::test]
    async fn statement_waits_for_parts_to_be_fetched() {
        let parts: Arc<Mutex<Vec<Part>>> = Arc::default();
        let polled = polled(Sizes { part_rows: 10, part_bytes: usize::MAX, held_bytes: 1 }, &parts);
        assert_eq!(polled.news(0).await.parts.len(), 1);
        assert!(polled.news(1).await.end.is_none(), "there is room for one part");
        parts.lock().clear();
        assert_eq!(polled.news(1).await.parts.len(), 2);
        polled.cancel();
    }
}
