//! One execution behind several tickets: a large result, of which each endpoint yields a share.
//!
//! The statement begins when the first of its tickets is fetched, and each batch goes to the endpoint that has room for it first. A client that fetches all endpoints at once reads
//! them side by side; one that fetches them one after another gets every row with the first and none with the others; and one that fetches one endpoint alone has the whole
//! answer. No row is kept for a reader who may never come.
//!
//! There is one snapshot, one turn, one deadline and one line in the audit log, since there is one stream of batches. It ends with its rows, when it is cancelled by any of its tickets, and
//! when the last client that reads it leaves before the end; where nobody fetches anything, with its tickets.
//!
//! Rejected: an endpoint for one partition of the plan alone. Partitions wait for one another (for the build side of a join, for a turn at a source), so those that nobody fetches would hold up
//! the others, or their rows would fill memory and disk until somebody does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use arrow::array::RecordBatch;
use futures::Stream;
use parking_lot::Mutex;
use tonic::Status;

use super::stream::Batches;

/// Starts the statement.
type Begin = Box<dyn FnOnce() -> Result<Batches, Status> + Send>;

/// What a ticket stands for: a share of the rows of one execution.
pub(super) struct Share(Arc<Spread>);

struct Spread {
    state: Mutex<State>,
    readers: Arc<Readers>,
}

enum State {
    Waiting(Begin),
    Running {
        batches: Batches,
        /// How many read it now.
        readers: usize,
    },
    /// Nothing comes any more; the error is told to whoever reads on.
    Over(Result<(), Status>),
}

/// Those who wait for a batch. Whoever is woken looks for it; the others wait on.
#[derive(Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Share {
    /// So many shares of a statement that has not begun.
    pub(super) fn of(begin: Begin, count: usize) -> Vec<Self> {
        let spread = Spread { state: Mutex::new(State::Waiting(begin)), readers: Arc::default() };
        let spread = Arc::new(spread);
        (0..count).map(|_| Self(Arc::clone(&spread))).collect()
    }

    /// The rows that this share gets. The first that is read starts the statement.
    ///
    /// # Errors
    /// The statement could not be started, or was ended.
    pub(super) fn into_batches(self) -> Result<Batches, Status> {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Waiting(_))
            && let State::Waiting(begin) = std::mem::replace(&mut *state, State::Over(Err(ended())))
        {
            *state = match begin() {
                Ok(batches) => State::Running { batches, readers: 0 },
                Err(status) => State::Over(Err(status)),
            };
        }
        match &mut *state {
            State::Running { readers, .. } => *readers += 1,
            State::Over(Err(status)) => return Err(status.clone()),
            State::Waiting(_) | State::Over(Ok(())) => {}
        }
        drop(state);
        Ok(Box::pin(Reader { spread: self.0, is_over: false }))
    }

    /// Ends the statement for all who read it or would; whether there was something to end.
    pub(super) fn cancel(&self) -> bool {
        let is_over = matches!(*self.0.state.lock(), State::Over(_));
        if !is_over {
            self.0.end(Err(Status::cancelled("the statement was cancelled")));
        }
        !is_over
    }
}

impl Spread {
    fn end(&self, how: Result<(), Status>) {
        // What is dropped may do work of its own, so that happens after the lock is free.
        let before = std::mem::replace(&mut *self.state.lock(), State::Over(how));
        drop(before);
        self.readers.wake_all();
    }
}

impl Readers {
    fn add(&self, waker: &Waker) {
        let mut waiting = self.0.lock();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

/// The stream of one endpoint.
struct Reader {
    spread: Arc<Spread>,
    is_over: bool,
}

impl Stream for Reader {
    type Item = Result<RecordBatch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // Before the source is polled: it may have a batch for this one right after another has found none.
        self.spread.readers.add(cx.waker());
        let (item, before) = {
            let all = Waker::from(Arc::clone(&self.spread.readers));
            let mut state = self.spread.state.lock();
            let item = match &mut *state {
                State::Running { batches, .. } => match batches.as_mut().poll_next(&mut Context::from_waker(&all)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(item) => item,
                },
                State::Over(Ok(())) => None,
                State::Over(Err(status)) => Some(Err(status.clone())),
                State::Waiting(_) => Some(Err(Status::internal("a statement was read that had not begun"))),
            };
            // Under the lock under which it was polled: a stream that has failed has no more rows, which another reader would take for the end.
            let over = match &item {
                Some(Ok(_)) => None,
                Some(Err(status)) => Some(Err(status.clone())),
                None => Some(Ok(())),
            };
            (item, over.map(|how| std::mem::replace(&mut *state, State::Over(how))))
        };
        if before.is_some() {
            self.is_over = true;
            // What is dropped may do work of its own, so that happens after the lock is free.
            drop(before);
            self.spread.readers.wake_all();
        }
        Poll::Ready(item)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let is_left = match &mut *self.spread.state.lock() {
            State::Running { readers, .. } => {
                *readers -= 1;
                *readers == 0
            }
            State::Waiting(_) | State::Over(_) => false,
        };
        if is_left {
            self.spread.end(Err(ended()));
        }
    }
}

fn ended() -> Status {
    Status::cancelled("the statement was ended: its client left before the end of an endpoint; run it again")
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array};
    use futures::StreamExt;
    use tokio::sync::mpsc;

    use super::*;

    fn batch(number: i32) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![number]));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    /// Shares of what is sent. The sender sees whether the source is still held.
    fn shares(count: usize) -> (mpsc::Sender<Result<RecordBatch, Status>>, Vec<Share>) {
        let (sender, receiver) = mpsc::channel(16);
        let received = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|received| (received, receiver))
        });
        (sender, Share::of(Box::new(move || Ok(Box::pin(received))), count))
    }

    async fn rows(batches: Batches) -> usize {
        batches.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await.iter().sum()
    }

    #[tokio::test]
    async fn shares_read_one_after_another_hold_every_row_once() {
        let (sender, shares) = shares(3);
        for number in 0..10 {
            sender.send(Ok(batch(number))).await.unwrap();
        }
        drop(sender);
        let mut found = Vec::new();
        for share in shares {
            found.push(rows(share.into_batches().unwrap()).await);
        }
        assert_eq!(found, [10, 0, 0]);
    }

    #[tokio::test]
    async fn reader_that_does_not_read_holds_nobody_up() {
        let (sender, shares) = shares(2);
        let mut readers = shares.into_iter().map(|share| share.into_batches().unwrap());
        let (mut idle, busy) = (readers.next().unwrap(), readers.next().unwrap());
        // It waits for a batch, is woken for one and does not come back for it.
        assert!(futures::poll!(idle.next()).is_pending());
        let reading = tokio::spawn(rows(busy));
        for number in 0..10 {
            sender.send(Ok(batch(number))).await.unwrap();
        }
        drop(sender);
        assert_eq!(reading.await.unwrap(), 10);
        assert!(idle.next().await.is_none());
    }

    #[tokio::test]
    async fn cancelled_share_ends_all_and_lets_the_source_go() {
        let (sender, mut shares) = shares(3);
        let waiting = shares.pop().unwrap();
        let mut reading = shares.pop().unwrap().into_batches().unwrap();
        assert!(waiting.cancel());
        assert!(sender.is_closed());
        assert_eq!(reading.next().await.unwrap().unwrap_err().code(), tonic::Code::Cancelled);
        assert!(reading.next().await.is_none());
        assert!(shares.pop().unwrap().into_batches().is_err());
        assert!(!waiting.cancel(), "what is over can't be cancelled");
    }

    #[test]
    fn error_is_told_to_readers_that_ask_in_the_same_moment() {
        for _ in 0..2_000 {
            let failing = futures::stream::iter([Err(Status::internal("lost"))]);
            let shares = Share::of(Box::new(|| Ok(Box::pin(failing))), 2);
            let readers: Vec<Batches> = shares.into_iter().map(|share| share.into_batches().unwrap()).collect();
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                for mut reader in readers {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        assert!(futures::executor::block_on(reader.next()).is_some_and(|item| item.is_err()));
                    });
                }
            });
        }
    }

    #[tokio::test]
    async fn last_reader_that_leaves_ends_the_statement() {
        let (sender, mut shares) = shares(3);
        let (one, other) = (shares.pop().unwrap(), shares.pop().unwrap());
        let (one, other) = (one.into_batches().unwrap(), other.into_batches().unwrap());
        drop(one);
        assert!(!sender.is_closed(), "another reads on");
        drop(other);
        assert!(sender.is_closed());
        let error = shares.pop().unwrap().into_batches().err().unwrap();
        assert!(error.message().contains("its client left"), "{error}");
    }

    #[tokio::test]
    async fn error_is_told_to_every_reader() {
        let (sender, shares) = shares(2);
        let readers: Vec<Batches> = shares.into_iter().map(|share| share.into_batches().unwrap()).collect();
        sender.send(Err(Status::unavailable("gone"))).await.unwrap();
        for mut reader in readers {
            assert_eq!(reader.next().await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
        }
    }

    #[tokio::test]
    async fn statement_that_nobody_fetched_goes_with_its_tickets() {
        let (sender, shares) = shares(2);
        drop(shares);
        assert!(sender.is_closed());
    }
}
