//! The answer of a query: a stream of record batches that starts when it is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::TryStreamExt;
use headwater_federation::{RemoteLog, StatementTraces, reads_little};

use crate::access::Leave;
use crate::audit::Entry;
use crate::error::Passed;
use crate::governor::Governor;
use crate::running::Start;
use crate::trace::Tracing;
use crate::{Error, Result, Stamp};

/// A planned query. Nothing is asked of a source for rows before it is read; dropping the stream stops what runs there.
pub struct Answer {
    query: u64,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    governor: Arc<Governor>,
    deadline: Option<Duration>,
    kind: Kind,
    stamp: Option<Stamp>,
    leave: Option<Leave>,
    entry: Option<Entry>,
    /// What kind of statement it is the answer of.
    of: &'static str,
    statements: Option<Arc<StatementTraces>>,
    tracing: Option<Tracing>,
}

/// Whether an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It does, and takes its turn among the queries.
    Query,
    /// It goes on until its reader leaves: it takes no turn and has no deadline.
    Subscription,
}

/// How long a query may run, from when its answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Duration);

impl Deadline {
    /// The time.
    pub fn limit(self) -> Duration {
        self.0
    }

    /// The error of a query that has not ended by then.
    pub fn error(self) -> Error {
        self.into_datafusion().into()
    }

    pub(crate) fn into_datafusion(self) -> DataFusionError {
        Passed::Deadline { limit_ms: u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX) }.into_datafusion()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("query", &self.query)
            .field("schema", &self.plan.schema())
            .finish_non_exhaustive()
    }
}

impl Answer {
    pub(crate) fn new(
        plan: Arc<dyn ExecutionPlan>,
        context: TaskContext,
        governor: &Arc<Governor>,
        deadline: Option<Duration>,
    ) -> Self {
        let query = governor.next_query();
        let (context, statements) = governor.admitted(query, context);
        let governor = Arc::clone(governor);
        let (kind, stamp, leave, entry) = (Kind::Query, None, None, None);
        let (of, tracing) = ("statement", None);
        Self { query, plan, context, governor, deadline, kind, stamp, leave, entry, of, statements, tracing }
    }

    /// An answer without an end.
    pub(crate) fn endless(plan: Arc<dyn ExecutionPlan>, context: TaskContext, governor: &Arc<Governor>) -> Self {
        Self { kind: Kind::Subscription, ..Self::new(plan, context, governor, None) }
    }

    /// The same, for somebody whose rights were these, and as this entry of the audit log.
    pub(crate) fn decided(self, leave: Option<Leave>, entry: Option<Entry>) -> Self {
        Self { leave, entry, ..self }
    }

    /// The same, of a statement of this kind.
    pub(crate) fn of(self, of: &'static str) -> Self {
        Self { of, ..self }
    }

    /// The same, of a statement that is traced: it is planned now.
    pub(crate) fn traced(self, tracing: Option<Tracing>) -> Self {
        let tracing = tracing.map(|tracing| tracing.planned(self.of, self.statements.clone()));
        Self { tracing, ..self }
    }

    /// The same, of this state of the views that it reads.
    pub(crate) fn stamped(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    /// Of which state the answer is, where it reads materialized views.
    pub fn stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// The columns of the answer, and of which state it is in the metadata: see [`Stamp::metadata`].
    pub fn stamped_schema(&self) -> SchemaRef {
        let schema = self.schema();
        let Some(stamp) = &self.stamp else { return schema };
        let metadata = schema.metadata().clone().into_iter().chain(stamp.metadata()).collect();
        Arc::new(schema.as_ref().clone().with_metadata(metadata))
    }

    /// Whether the answer goes on until its reader leaves, as that of SUBSCRIBE does.
    pub fn is_endless(&self) -> bool {
        self.kind == Kind::Subscription
    }

    /// The query's number, which the engine's log calls `query_id`. No other query of the engine has it.
    pub fn query_id(&self) -> u64 {
        self.query
    }

    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// In how many parts the rows are computed side by side. It is one where they are in an order.
    pub fn partitions(&self) -> usize {
        self.plan.output_partitioning().partition_count()
    }

    /// How many rows there are, as the planner estimates it from what the sources tell; `None` where they tell too little.
    pub fn estimated_rows(&self) -> Option<usize> {
        let statistics = StatisticsContext::new().compute(self.plan.as_ref(), &StatisticsArgs::new());
        statistics.ok()?.num_rows.get_value().copied()
    }

    /// Whether the query reads few rows, as the planner estimates it: no source is guessed to send more than a thousand, and nothing makes
    /// many of them. Such a query ends soon, or the guess was wrong.
    pub fn reads_little(&self) -> bool {
        reads_little(&self.plan)
    }

    /// The query's deadline. The stream keeps it wherever the query pauses, and one that computes without a pause goes on beyond it; who runs
    /// the stream on other threads than it is read on can end the reading then.
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline.map(Deadline)
    }

    /// The remote statements of the query, to be read while it runs or afterwards.
    pub fn remote_statements(&self) -> RemoteLog {
        RemoteLog::new(Arc::clone(&self.plan))
    }

    /// Starts the query and streams its batches as they are computed. An error ends the stream: what came before it is not an
    /// answer. Where the engine runs as many queries as it may ([`Limits`](crate::Limits)), this one starts when it is read and one
    /// of them has ended. Its deadline counts from now.
    ///
    /// # Errors
    /// What its caller may read has changed since it was planned; the audit log can't be written.
    pub fn into_stream(self) -> Result<SendableRecordBatchStream> {
        let deadline = self.deadline();
        let Self { query, plan, context, governor, kind, leave, entry, tracing, .. } = self;
        let tracing = tracing.map(Tracing::began);
        let begun = || {
            if leave.as_ref().is_some_and(|leave| !leave.holds()) {
                let error = Passed::Rights.into_error();
                if let Some(entry) = &entry {
                    entry.refused(query, &error, vec![]);
                }
                return Err(error);
            }
            entry.as_ref().map_or(Ok(()), |entry| entry.start(query))
        };
        begun().inspect_err(|error| {
            if let Some(tracing) = &tracing {
                tracing.failed(query, error);
            }
        })?;
        Start { query, plan, context, governor, deadline, kind, leave, entry, tracing }.run()
    }

    /// Runs the query to its end and returns all of it.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        Ok(self.into_stream()?.try_collect().await?)
    }
}
