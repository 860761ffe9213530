//! A query while it runs: it waits for its turn, ends at its deadline, and is told to the log when it is over.
//!
//! Invariant: once the deadline is past, nothing of the query is left at a source, even where nobody reads the stream: a timer drops the
//! running plan, and with it every remote stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater_federation::RemoteLog;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{Level, debug, enabled};

use crate::access::Leave;
use crate::answer::Kind;
use crate::audit::{End, Entry};
use crate::error::Passed;
use crate::governor::{Governor, Turn};
use crate::trace::Tracing;
use crate::{Deadline, Error, QueryOutcome, Result};

/// A query that may begin.
pub(crate) struct Start {
    pub(crate) query: u64,
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) context: Arc<TaskContext>,
    pub(crate) governor: Arc<Governor>,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) kind: Kind,
    pub(crate) leave: Option<Leave>,
    pub(crate) entry: Option<Entry>,
    pub(crate) tracing: Option<Tracing>,
}

/// The stream of a running query.
struct Running {
    schema: SchemaRef,
    /// What an answer without an end needs for each batch.
    leave: Option<Leave>,
    shared: Arc<Shared>,
    deadline: Option<Deadline>,
    timer: Option<AbortHandle>,
    tally: Tally,
    is_over: bool,
}

/// What the stream and its timer share.
struct Shared {
    /// `None` once the query is over.
    batches: Mutex<Option<SendableRecordBatchStream>>,
    is_late: AtomicBool,
    reader: AtomicWaker,
}

/// What the log is told of a query.
struct Tally {
    query: u64,
    started: Instant,
    first_row: Option<Duration>,
    rows: u64,
    log: RemoteLog,
    governor: Arc<Governor>,
    entry: Option<Entry>,
    tracing: Option<Tracing>,
}

/// How a query ended.
enum Outcome<'a> {
    Complete,
    Failed(&'a DataFusionError),
    /// Nobody reads on.
    Cancelled,
}

impl Start {
    /// Starts the query. Where too many run already, it begins when it is read and its turn has come.
    pub(crate) fn run(self) -> Result<SendableRecordBatchStream> {
        let (query, entry, tracing) = (self.query, self.entry.clone(), self.tracing.clone());
        self.begun().inspect_err(|error| {
            if let Some(tracing) = tracing {
                tracing.failed(query, error);
            }
            if let Some(entry) = entry {
                entry.end(query, 0, End::Failed(error.kind()));
            }
        })
    }

    fn begun(mut self) -> Result<SendableRecordBatchStream> {
        let schema = self.plan.schema();
        let (query, deadline) = (self.query, self.deadline);
        let (entry, tracing) = (self.entry.take(), self.tracing.take());
        let leave = self.leave.take().filter(|_| self.kind == Kind::Subscription);
        let log = RemoteLog::new(Arc::clone(&self.plan));
        // A subscription has no end, and others would wait for its turn for ever.
        let turn = if self.kind == Kind::Subscription { None } else { self.governor.turn_now() };
        let governor = Arc::clone(&self.governor);
        let batches = match turn {
            Some(turn) => executed(self.plan, self.context, Some(turn))?,
            None if self.kind == Kind::Subscription || reads_nothing(&self.plan) => {
                executed(self.plan, self.context, None)?
            }
            None => self.in_turn(),
        };
        let shared =
            Shared { batches: Mutex::new(Some(batches)), is_late: AtomicBool::new(false), reader: AtomicWaker::new() };
        let tally = Tally { query, started: Instant::now(), first_row: None, rows: 0, log, governor, entry, tracing };
        let shared = Arc::new(shared);
        let mut running = Running { schema, leave, shared, deadline, timer: None, tally, is_over: false };
        running.set_timer();
        Ok(Box::pin(running))
    }

    fn in_turn(self) -> SendableRecordBatchStream {
        let schema = self.plan.schema();
        let begun = async move {
            let turn = self.governor.turn().await.map_err(Passed::into_datafusion)?;
            executed(self.plan, self.context, Some(turn))
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(begun).try_flatten()))
    }
}

/// The plan's stream, which holds the right to run while it lives.
fn executed(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    turn: Option<Turn>,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let batches = execute_stream(plan, context)?;
    let schema = batches.schema();
    let held = batches.inspect(move |_| {
        let _held = &turn;
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, held)))
}

/// Whether the plan only says what is known already, as those of SET and EXPLAIN do: such a statement waits for nobody.
fn reads_nothing(plan: &Arc<dyn ExecutionPlan>) -> bool {
    matches!(plan.name(), "EmptyExec" | "ExplainExec" | "PlaceholderRowExec")
}

impl Running {
    /// Sets the timer. Where there is no runtime yet, the first poll does.
    fn set_timer(&mut self) {
        let (Some(deadline), None, Ok(runtime)) = (self.deadline, &self.timer, Handle::try_current()) else { return };
        // A deadline beyond what a clock can tell never comes.
        let Some(at) = self.tally.started.checked_add(deadline.limit()) else { return };
        let shared = Arc::clone(&self.shared);
        let timer = runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            shared.expire();
        });
        self.timer = Some(timer.abort_handle());
    }

    fn poll_batches(&self, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, DataFusionError>>> {
        match self.shared.batches.lock().as_mut() {
            Some(batches) => batches.poll_next_unpin(cx),
            None => Poll::Pending,
        }
    }

    fn end(&mut self, outcome: &Outcome<'_>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        self.shared.close();
        self.tally.tell(outcome);
    }
}

impl Shared {
    /// The deadline is past: drops the query, or leaves that to whoever polls it right now.
    fn expire(&self) {
        self.is_late.store(true, Ordering::SeqCst);
        if let Some(mut batches) = self.batches.try_lock() {
            *batches = None;
        }
        self.reader.wake();
    }

    fn close(&self) {
        *self.batches.lock() = None;
    }
}

impl Stream for Running {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        this.set_timer();
        this.shared.reader.register(cx.waker());
        let polled = this.poll_batches(cx);
        // The timer sets this before it looks whether the query is being polled, so one of the two drops it.
        if let (true, Some(deadline)) = (this.shared.is_late.load(Ordering::SeqCst), this.deadline) {
            let late = deadline.into_datafusion();
            this.end(&Outcome::Failed(&late));
            return Poll::Ready(Some(Err(late)));
        }
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && this.leave.as_ref().is_some_and(|leave| !leave.holds()) {
            let changed = Passed::Rights.into_datafusion();
            this.end(&Outcome::Failed(&changed));
            return Poll::Ready(Some(Err(changed)));
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(batch))) => this.tally.count(batch.num_rows()),
            Poll::Ready(Some(Err(error))) => this.end(&Outcome::Failed(error)),
            Poll::Ready(None) => this.end(&Outcome::Complete),
        }
        polled
    }
}

impl RecordBatchStream for Running {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(&Outcome::Cancelled);
    }
}

impl Tally {
    fn count(&mut self, rows: usize) {
        if rows > 0 && self.first_row.is_none() {
            self.first_row = Some(self.started.elapsed());
        }
        self.rows += rows as u64;
    }

    fn tell(&self, outcome: &Outcome<'_>) {
        let took = self.started.elapsed();
        self.governor.counters().ended(outcome.word(), took, self.rows, &self.log.statements());
        if let Some(entry) = &self.entry {
            entry.end(self.query, self.rows, outcome.end());
        }
        if let Some(tracing) = &self.tracing {
            tracing.ended(self.query, self.rows, outcome.traced());
        }
        if !enabled!(Level::DEBUG) {
            return;
        }
        let totals = self.log.totals();
        debug!(
            query_id = self.query,
            %outcome,
            ms = took.as_millis(),
            first_row_ms = self.first_row.map(|time| time.as_millis()),
            rows = self.rows,
            statements = totals.statements,
            rows_shipped = totals.rows,
            bytes_shipped = totals.bytes,
            "query finished"
        );
    }
}

impl Outcome<'_> {
    fn end(&self) -> End {
        match self {
            Self::Complete => End::Complete,
            Self::Failed(error) => End::Failed(Error::kind_of(error)),
            Self::Cancelled => End::Cancelled,
        }
    }

    fn traced(&self) -> QueryOutcome {
        match self.end() {
            End::Complete => QueryOutcome::Complete,
            End::Failed(kind) => QueryOutcome::Failed(kind),
            End::Cancelled => QueryOutcome::Cancelled,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete | Self::Cancelled => f.write_str(self.word()),
            // The kind alone: a message may hold what the user wrote.
            Self::Failed(error) => write!(f, "failed: {:?}", Error::kind_of(error)),
        }
    }
}
