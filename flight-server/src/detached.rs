//! A stream that is computed in a task of its own.
//!
//! A query may compute for seconds without a pause. Polled where the terminal or a connection is served, it would hold up
//! Ctrl-C, and every other request of that connection; in its own task it does not, and it computes the next batch while
//! the last one travels.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

/// How many items may wait to be read: one that travels and one that is ready.
const WAITING_MAX: usize = 2;

/// The items of a stream that runs in a task. Dropping it stops the task at its next pause; a panic of the task is passed on.
pub(crate) struct Detached<T> {
    items: mpsc::Receiver<T>,
    /// None once it has ended.
    task: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Detached<T> {
    /// Starts a stream. Needs a runtime.
    pub(crate) fn start(mut stream: impl Stream<Item = T> + Send + Unpin + 'static) -> Self {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(async move {
            while let Some(item) = stream.next().await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Self { items, task: Some(task) }
    }
}

impl<T> Stream for Detached<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = ready!(self.items.poll_recv(cx)) {
            return Poll::Ready(Some(item));
        }
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = ready!(Pin::new(task).poll(cx));
        self.task = None;
        // Without this, a stream that panicked would look like one that ended.
        match ended.map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            _ => Poll::Ready(None),
        }
    }
}

impl<T> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn items_arrive_in_order_and_end() {
        let items: Vec<i32> = Detached::start(futures::stream::iter(0..100)).collect().await;
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn panic_is_passed_on() {
        let stream = futures::stream::once(async { panic!("boom") }).boxed();
        let collected = AssertUnwindSafe(Detached::<()>::start(stream).collect::<Vec<_>>()).catch_unwind().await;
        assert!(collected.is_err());
    }

    #[tokio::test]
    async fn dropped_stream_is_dropped_in_its_task() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let stream = futures::stream::pending::<()>().map(move |()| drop(Arc::clone(&held)));
        drop(Detached::start(stream));
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
