//! Queries run on threads of their own.
//!
//! A query may compute for seconds without a pause. Polled where the terminal or a connection is served, it would hold up Ctrl-C, and
//! every other request; on threads of its own it does not, and it computes the next batch while the last one travels.
//!
//! Queries that read little have threads for themselves, and the operating system runs them before those of the others: a row that is
//! looked up by its key does not wait for a scan. A query whose reading was guessed to be little goes on among the others once it has
//! computed for longer than a small one does.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use cpu_time::ThreadTime;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater::Answer;
use parking_lot::Mutex;
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, Sleep};

/// How long a cancelled statement may take to tell its sources so. A source tells nothing when it has heard.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// How often the end of what was cancelled is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// How long a query computes before it counts as none that reads little, without the time that it waits.
const LITTLE: Duration = Duration::from_millis(5);

/// The priority of threads of queries that read much, of 99, where other threads have 49. On Linux it is a nice value of 9: where both want the time of a core, another thread gets
/// seven times of theirs, and theirs is enough to go on.
const MUCH: u8 = 25;

/// The threads that queries run on, twice one for each core. Dropping it cuts off what runs at its next pause, without waiting.
pub(crate) struct Queries {
    threads: Threads,
    /// Empty only while it is dropped.
    runtimes: Vec<Runtime>,
}

/// Where queries are started.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    /// For queries that read little.
    little: Handle,
    /// For all others.
    much: Handle,
    left: Left,
}

/// When a stream was last dropped before its end.
#[derive(Debug, Clone, Default)]
struct Left(Arc<Mutex<Option<Instant>>>);

impl Queries {
    /// Starts the threads.
    pub(crate) fn start() -> io::Result<Self> {
        let little = Builder::new_multi_thread().enable_all().thread_name("query").build()?;
        let much =
            Builder::new_multi_thread().enable_all().thread_name("scan").on_thread_start(let_others_pass).build()?;
        let threads = Threads { little: little.handle().clone(), much: much.handle().clone(), left: Left::default() };
        Ok(Self { threads, runtimes: vec![little, much] })
    }

    /// Lets what was cancelled tell its sources so, for as long as that may take, and then drops the threads. Does not wait for it.
    pub(crate) fn end_later(self) {
        std::thread::spawn(move || {
            std::thread::sleep(FAREWELL);
            drop(self);
        });
    }

    /// Drops the threads once what was cancelled has had its time to tell its sources so, where something was. What is `cut_off` is, whether its stream has been dropped yet or not.
    pub(crate) async fn farewell(self, cut_off: Option<Instant>) {
        let left = *self.threads.left.0.lock();
        if let Some(left) = left.max(cut_off) {
            tokio::time::sleep_until(left + FAREWELL).await;
        }
    }

    /// Drops the threads once nothing runs there any more, for queries whose connections live on them: sources were told, and what was held is let go. Waits no longer than
    /// [`FAREWELL`] for what computes without a pause.
    pub(crate) async fn settle(mut self) {
        let end = Instant::now() + FAREWELL;
        let runs = |runtime: &Runtime| runtime.metrics().num_alive_tasks() > 0;
        while self.runtimes.iter().any(runs) && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        let runtimes = std::mem::take(&mut self.runtimes);
        let ending = tokio::task::spawn_blocking(move || {
            for runtime in runtimes {
                runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
            }
        });
        // It fails only where a runtime panics as it ends: then there is nothing left to wait for.
        let _ended = ending.await;
    }

    /// Where queries are started.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        for runtime in std::mem::take(&mut self.runtimes) {
            runtime.shutdown_background();
        }
    }
}

/// Lets the operating system run other threads before this one.
fn let_others_pass() {
    static SAID: Once = Once::new();
    let Ok(priority) = ThreadPriorityValue::try_from(MUCH) else { return };
    if let Err(error) = ThreadPriority::Crossplatform(priority).set_for_current() {
        SAID.call_once(|| {
            tracing::warn!(?error, "queries that read much have the priority of those that read little");
        });
    }
}

impl Threads {
    /// Starts an answer on the threads for it. It ends a moment after its deadline, also where it computes without a pause. `error` is how an error is told.
    pub(crate) fn run<E, F>(&self, answer: Answer, error: F) -> Result<Detached<Result<RecordBatch, E>>, E>
    where
        E: Send + Unpin + 'static,
        F: Fn(headwater::Error) -> E + Send + 'static,
    {
        self.run_written(answer, error, |batches| batches)
    }

    /// The same, of what is made of the batches on those threads.
    pub(crate) fn run_written<T, E, F, S>(
        &self,
        answer: Answer,
        error: F,
        written: impl FnOnce(BoxStream<'static, Result<RecordBatch, E>>) -> S,
    ) -> Result<Detached<Result<T, E>>, E>
    where
        T: Send + 'static,
        E: Send + Unpin + 'static,
        F: Fn(headwater::Error) -> E + Send + 'static,
        S: Stream<Item = Result<T, E>> + Send + 'static,
    {
        let little = answer.reads_little();
        // Operators may spawn as soon as they are executed.
        let _entered = if little { self.little.enter() } else { self.much.enter() };
        let late = answer.deadline().map(|deadline| (deadline.limit(), error(deadline.error())));
        let batches = answer.into_stream().map_err(&error)?;
        let items = Box::pin(written(batches.map_err(move |failed| error(failed.into())).boxed()));
        let detached = match little {
            true => Detached::start_little(self, items),
            false => Detached::start(&self.much, self.left.clone(), items),
        };
        Ok(match late {
            Some((limit, late)) => detached.until(limit, Err(late)),
            None => detached,
        })
    }

    /// Computes a value on the threads of queries that read little.
    pub(crate) fn compute<T: Send + 'static>(&self, value: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.little.spawn(async move { value() })
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
    left: Left,
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
    fn start(on: &Handle, left: Left, stream: impl Stream<Item = T> + Send + Unpin + 'static) -> Self {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        Self { items, overdue: None, task: Some(on.spawn(send(stream, sender))), left }
    }

    /// Starts a stream that should soon be at its end. Where it is not, it goes on among those that read much.
    fn start_little(threads: &Threads, stream: impl Stream<Item = T> + Send + Unpin + 'static) -> Self {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        let much = threads.much.clone();
        let task = threads.little.spawn(async move {
            let mut sending = Box::pin(send(stream, sender));
            if is_little(sending.as_mut()).await {
                return;
            }
            let mut rest = JoinSet::new();
            rest.spawn_on(sending, &much);
            if let Some(Err(Ok(panic))) = rest.join_next().await.map(|ended| ended.map_err(JoinError::try_into_panic)) {
                std::panic::resume_unwind(panic);
            }
        });
        Self { items, overdue: None, task: Some(task), left: threads.left.clone() }
    }

    /// Ends with this item where nothing has come and the stream has not ended a moment after the deadline.
    pub(crate) fn until(mut self, deadline: Duration, last: T) -> Self {
        // A deadline beyond what a clock can tell never comes.
        let at = Instant::now().checked_add(deadline.saturating_add(GRACE));
        self.overdue = at.map(|at| Overdue { at, sleep: None, last });
        self
    }
}

/// Sends the items to whoever reads them, until nobody does.
async fn send<T>(mut stream: impl Stream<Item = T> + Unpin, sender: mpsc::Sender<T>) {
    while let Some(item) = stream.next().await {
        if sender.send(item).await.is_err() {
            return;
        }
    }
}

/// Runs it to its end or until it has computed for longer than a query does that reads little; whether it is over.
async fn is_little(mut sending: Pin<&mut impl Future>) -> bool {
    let mut computed = Duration::ZERO;
    poll_fn(|cx| {
        // The time on a clock goes on while others run.
        let before = ThreadTime::now();
        let polled = sending.as_mut().poll(cx);
        computed += before.elapsed();
        match polled {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if computed > LITTLE => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
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
        self.leave();
        Poll::Ready(self.overdue.take().map(|overdue| overdue.last))
    }

    /// Gives up what has not ended.
    fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            *self.left.0.lock() = Some(Instant::now());
        }
    }
}

impl<T> Drop for Detached<T> {
    fn drop(&mut self) {
        self.leave();
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
        let items: Vec<i32> =
            Detached::start(&Handle::current(), Left::default(), futures::stream::iter(0..100)).collect().await;
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn panic_is_passed_on() {
        let stream = futures::stream::once(async { panic!("boom") }).boxed();
        let detached = Detached::<()>::start(&Handle::current(), Left::default(), stream);
        let collected = AssertUnwindSafe(detached.collect::<Vec<_>>()).catch_unwind().await;
        assert!(collected.is_err());
    }

    #[tokio::test]
    async fn query_without_a_pause_holds_nothing_else_up() {
        let queries = Queries::start().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let stream = futures::stream::once(async move { stopped.recv().is_err() }).boxed();
        let mut busy = Detached::start_little(queries.threads(), stream);
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
        let busy = Detached::start(&queries.threads().much, Left::default(), stream)
            .until(Duration::from_millis(1), "given up");
        assert_eq!(busy.collect::<Vec<_>>().await, ["given up"]);
        drop(stop);
        let quick = Detached::start_little(queries.threads(), futures::stream::iter([1, 2])).until(Duration::ZERO, 3);
        assert_eq!(quick.collect::<Vec<_>>().await, [1, 2]);
    }

    fn spin(time: Duration) {
        let before = ThreadTime::now();
        while before.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn query_that_computes_long_goes_on_among_the_scans_and_loses_nothing() {
        let queries = Queries::start().unwrap();
        let stream = futures::stream::iter(0..100).then(|item| async move {
            spin(LITTLE / 10);
            tokio::task::yield_now().await;
            (item, thread())
        });
        let sent: Vec<(i32, String)> = Detached::start_little(queries.threads(), stream.boxed()).collect().await;
        assert_eq!(sent.iter().map(|(item, _)| *item).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert_eq!((sent[0].1.as_str(), sent[99].1.as_str()), ("query", "scan"));
    }

    #[tokio::test]
    async fn panic_of_a_query_that_went_on_among_the_scans_is_passed_on() {
        let queries = Queries::start().unwrap();
        let stream = futures::stream::iter(0..100).then(|_| async {
            spin(LITTLE / 10);
            tokio::task::yield_now().await;
            assert_eq!(thread(), "query", "boom");
        });
        let sent = Detached::start_little(queries.threads(), stream.boxed()).collect::<Vec<_>>();
        assert!(AssertUnwindSafe(sent).catch_unwind().await.is_err());
    }

    /// By how much this thread lets others pass: the seventeenth of the values behind its name.
    #[cfg(target_os = "linux")]
    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, values) = stat.rsplit_once(')').unwrap();
        values.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lookups_go_before_scans() {
        let queries = Queries::start().unwrap();
        let of = |handle: &Handle| handle.block_on(handle.spawn(async { nice() })).unwrap();
        assert_eq!(of(&queries.threads().little), nice());
        assert_eq!(of(&queries.threads().much), 9);
    }

    #[tokio::test]
    async fn what_was_left_is_waited_for_and_what_has_ended_is_not() {
        let queries = Queries::start().unwrap();
        let _all: Vec<i32> = Detached::start_little(queries.threads(), futures::stream::iter(0..9)).collect().await;
        let start = Instant::now();
        queries.farewell(None).await;
        assert!(start.elapsed() < FAREWELL / 2, "{:?}", start.elapsed());
        let queries = Queries::start().unwrap();
        drop(Detached::start_little(queries.threads(), futures::stream::pending::<()>()));
        queries.farewell(None).await;
        assert!(start.elapsed() >= FAREWELL, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn what_was_left_is_let_go_before_its_threads_end() {
        let queries = Queries::start().unwrap();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let stream = futures::stream::pending::<()>().map(move |()| drop(Arc::clone(&held)));
        drop(Detached::start_little(queries.threads(), stream));
        let start = Instant::now();
        queries.settle().await;
        assert_eq!(Arc::strong_count(&alive), 1);
        assert!(start.elapsed() < FAREWELL, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn dropped_stream_is_dropped_in_its_task() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let stream = futures::stream::pending::<()>().map(move |()| drop(Arc::clone(&held)));
        drop(Detached::start(&Handle::current(), Left::default(), stream));
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
