//! Queries run on threads of their own.
//!
//! A query may compute for seconds without a pause. Polled where the terminal or a connection is served, it would hold up Ctrl-C, and
//! every other request; on threads of its own it does not, and it computes the next batch while the last one travels.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Sleep};

/// How long a cancelled statement may take to tell its sources so. A source tells nothing when it has heard.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// The threads that queries run on, one for each core. Dropping it cuts off what runs at its next pause, without waiting.
pub(crate) struct Queries {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Queries {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().thread_name("query").build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Lets what was cancelled tell its sources so, for as long as that may take, and then drops the threads. Does not wait for it.
    pub(crate) fn end_later(self) {
        std::thread::spawn(move || {
            std::thread::sleep(FAREWELL);
            drop(self);
        });
    }

    /// What streams are started on.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How many items may wait to be read: one that travels and one that is ready.
const WAITING_MAX: usize = 2;

/// How long a query that is past its deadline may take to say so itself.
const GRACE: Duration = Duration::from_secs(1);

/// The items of a stream that runs in a task. Dropping it stops the task at its next pause; a panic of the task is passed on.
pub(crate) struct Detached<T> {
    items: mpsc::Receiver<T>,
    /// When a stream that computes without a pause is given up, and what is said then.
    overdue: Option<Overdue<T>>,
    /// None once it has ended.
    task: Option<JoinHandle<()>>,
}

/// The end of a stream that does not end by itself.
struct Overdue<T> {
    at: Instant,
    /// Made by whoever reads, to go by that runtime's clock: the threads of a query that computes without a pause tell no time.
    sleep: Option<Pin<Box<Sleep>>>,
    last: T,
}

impl<T: Send + 'static> Detached<T> {
    /// Starts a stream.
    pub(crate) fn start(on: &Handle, mut stream: impl Stream<Item = T> + Send + Unpin + 'static) -> Self {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        let task = on.spawn(async move {
            while let Some(item) = stream.next().await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        Self { items, overdue: None, task: Some(task) }
    }

    /// Ends with this item where nothing has come and the stream has not ended a moment after the deadline.
    pub(crate) fn until(mut self, deadline: Duration, last: T) -> Self {
        // A deadline beyond what a clock can tell never comes.
        let at = Instant::now().checked_add(deadline.saturating_add(GRACE));
        self.overdue = at.map(|at| Overdue { at, sleep: None, last });
        self
    }
}

impl<T: Unpin> Stream for Detached<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.items.poll_recv(cx) {
            Poll::Ready(Some(item)) => return Poll::Ready(Some(item)),
            Poll::Ready(None) => {}
            Poll::Pending => return self.poll_overdue(cx),
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

impl<T> Detached<T> {
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(overdue) = &mut self.overdue else { return Poll::Pending };
        let at = overdue.at;
        ready!(overdue.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx));
        self.items.close();
        if let Some(task) = self.task.take() {
            task.abort();
        }
        Poll::Ready(self.overdue.take().map(|overdue| overdue.last))
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
        let items: Vec<i32> = Detached::start(&Handle::current(), futures::stream::iter(0..100)).collect().await;
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn panic_is_passed_on() {
        let stream = futures::stream::once(async { panic!("boom") }).boxed();
        let detached = Detached::<()>::start(&Handle::current(), stream);
        let collected = AssertUnwindSafe(detached.collect::<Vec<_>>()).catch_unwind().await;
        assert!(collected.is_err());
    }

    #[tokio::test]
    async fn query_without_a_pause_holds_nothing_else_up() {
        let queries = Queries::start().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stream = futures::stream::once(async move { stopped.recv().is_err() }).boxed();
        let mut busy = Detached::start(queries.handle(), stream);
        // On this runtime's one thread, this would never be reached if the stream ran here.
        tokio::task::yield_now().await;
        drop(stop);
        assert_eq!(busy.next().await, Some(true));
    }

    #[tokio::test]
    async fn query_without_a_pause_is_given_up_after_its_deadline() {
        let queries = Queries::start().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stream = futures::stream::once(async move {
            let _stopped = stopped.recv();
            "late"
        })
        .boxed();
        let busy = Detached::start(queries.handle(), stream).until(Duration::from_millis(1), "given up");
        assert_eq!(busy.collect::<Vec<_>>().await, ["given up"]);
        drop(stop);
        let quick = Detached::start(queries.handle(), futures::stream::iter([1, 2])).until(Duration::ZERO, 3);
        assert_eq!(quick.collect::<Vec<_>>().await, [1, 2]);
    }

    #[tokio::test]
    async fn dropped_stream_is_dropped_in_its_task() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let stream = futures::stream::pending::<()>().map(move |()| drop(Arc::clone(&held)));
        drop(Detached::start(&Handle::current(), stream));
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
