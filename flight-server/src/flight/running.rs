//! Statements that are being streamed, by the names of their tickets, so that another call can cancel them.
//!
//! Invariant: an entry goes with its stream. It is there for the principal alone whose ticket it was. Where a statement has several tickets, each of them cancels it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use super::stream::Batches;
use crate::auth::current;

type Name = (Option<Arc<str>>, Uuid);

/// The statements that run.
#[derive(Clone, Default)]
pub(super) struct Running {
    entries: Arc<Mutex<HashMap<Name, watch::Sender<bool>>>>,
}

impl Running {
    /// The batches of a statement with these tickets, which end with CANCELLED once it is cancelled. The source is let go at that moment, also where nobody reads.
    pub(super) fn enter(&self, tickets: &[Uuid], batches: Batches) -> Batches {
        let names: Vec<Name> = tickets.iter().copied().map(owned).collect();
        let (cancel, mut cancelled) = watch::channel(false);
        self.entries.lock().extend(names.iter().map(|name| (name.clone(), cancel.clone())));
        drop(cancel);
        let source = Arc::new(Mutex::new(Some(batches)));
        let held = Arc::clone(&source);
        let watching = tokio::spawn(async move {
            // An error says that the stream is gone.
            if cancelled.wait_for(|cancelled| *cancelled).await.is_ok() {
                *held.lock() = None;
                true
            } else {
                false
            }
        });
        Box::pin(Cancellable { source, watching, entries: Entries { running: self.clone(), names }, is_over: false })
    }

    /// Cancels a statement of whoever asks now; whether there was one.
    pub(super) fn cancel(&self, name: Uuid) -> bool {
        match self.entries.lock().get(&owned(name)) {
            Some(cancel) => !cancel.send_replace(true),
            None => false,
        }
    }
}

fn owned(name: Uuid) -> Name {
    (current::principal().name().map(Arc::from), name)
}

/// Entries, which go with the stream.
struct Entries {
    running: Running,
    names: Vec<Name>,
}

impl Drop for Entries {
    fn drop(&mut self) {
        let mut entries = self.running.entries.lock();
        self.names.iter().for_each(|name| drop(entries.remove(name)));
    }
}

struct Cancellable {
    /// `None` once it is cancelled.
    source: Arc<Mutex<Option<Batches>>>,
    watching: tokio::task::JoinHandle<bool>,
    #[expect(dead_code, reason = "held to be dropped with the stream")]
    entries: Entries,
    is_over: bool,
}

impl Stream for Cancellable {
    type Item = Result<RecordBatch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.source.lock().as_mut().map(|source| source.as_mut().poll_next(cx));
        match polled {
            Some(Poll::Ready(item)) => {
                self.is_over = item.is_none();
                Poll::Ready(item)
            }
            Some(Poll::Pending) => match Pin::new(&mut self.watching).poll(cx) {
                Poll::Pending | Poll::Ready(Ok(false)) => Poll::Pending,
                Poll::Ready(_) => self.cancelled(),
            },
            None => self.cancelled(),
        }
    }
}

impl Cancellable {
    fn cancelled(&mut self) -> Poll<Option<Result<RecordBatch, Status>>> {
        self.is_over = true;
        Poll::Ready(Some(Err(Status::cancelled("the statement was cancelled"))))
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::auth::current::as_principal;
    use crate::auth::test_principal;

    #[tokio::test]
    async fn cancelled_statement_ends_and_lets_its_source_go() {
        let (running, name, other) = (Running::default(), Uuid::new_v4(), Uuid::new_v4());
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let source: Batches = Box::pin(futures::stream::pending().map(move |item: Result<RecordBatch, Status>| {
            let _held = &held;
            item
        }));
        let mut stream = running.enter(&[name, other], source);
        let stranger = as_principal(test_principal("bob"), async { running.cancel(name) }).await;
        assert!(!stranger, "a statement is its user's alone");
        assert!(running.cancel(other));
        assert!(!running.cancel(name), "each of its tickets cancels it, once");
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::Cancelled);
        assert!(stream.next().await.is_none());
        assert_eq!(Arc::strong_count(&alive), 1);
        drop(stream);
        assert!(!running.cancel(name), "what has ended can't be cancelled");
        assert!(running.entries.lock().is_empty());
    }
}
