//! Rows that several operators of a plan read, computed once.
//!
//! Each place of the plan has an operator with a plan of its own for the rows. Whoever is asked first runs its plan to the end, all partitions at once and in tasks of their own: nobody who waits
//! for the rows waits for somebody to read on. The rows are kept until the query ends, in memory up to a share of the query's, and beyond it in the spill directory.
//!
//! Invariant: a plan of which nobody wants the rows any more is stopped. While it runs, only those who read it hold it. Who wants them after that runs a plan that is as new, and whose statements
//! read a state of their own: some of what was announced of the first one's was served.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    execute_stream_partitioned,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared, ready, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::planner::tie;
use super::shared::SharedNode;
use crate::draft::afresh;

/// The share of a query's memory that rows of one plan are held in.
const MEMORY_SHARE: usize = 8;

/// Makes the physical operator of the logical one.
#[derive(Debug, Default)]
pub(super) struct SharedPlanner;

#[async_trait]
impl ExtensionPlanner for SharedPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<SharedNode>() else { return Ok(None) };
        let [input] = inputs else { return internal_err!("Shared has one input") };
        Ok(Some(Arc::new(SharedExec::new(Arc::clone(input), Arc::clone(&node.rows)))))
    }
}

/// The rows, for all who read them.
#[derive(Default)]
pub(crate) struct SharedRows {
    kept: OnceLock<Arc<Kept>>,
    /// The plan that is being run for them.
    computing: Mutex<Option<WeakShared<Computing>>>,
    /// Whether one was.
    begun: AtomicBool,
}

/// Whether a plan is the first that is run for some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    First,
    /// Another was given up.
    Again,
}

type Computing = BoxFuture<'static, std::result::Result<Arc<Kept>, Arc<DataFusionError>>>;

/// The rows of all partitions.
struct Kept {
    partitions: Vec<Vec<Piece>>,
    spills: SpillManager,
    /// Given back to the pool with the rows.
    _memory: Arc<Held>,
}

/// Some of the rows.
#[derive(Clone)]
enum Piece {
    Held(RecordBatch),
    Spilled(Arc<dyn SpillFile>),
}

/// The memory that rows are held in.
struct Held {
    reservation: MemoryReservation,
    most: usize,
}

impl SharedRows {
    /// The rows, for which this plan is run unless another is, or was. To be held from when they are asked for until they are there.
    fn computed(
        self: &Arc<Self>,
        run: impl FnOnce(Run) -> Result<BoxFuture<'static, Result<Kept>>>,
    ) -> Result<Shared<Computing>> {
        let mut computing = self.computing.lock();
        if let Some(computed) = computing.as_ref().and_then(WeakShared::upgrade) {
            return Ok(computed);
        }
        let computed: Computing = match self.kept.get() {
            Some(kept) => ready(Ok(Arc::clone(kept))).boxed(),
            None => {
                let run = run(if self.begun.swap(true, Ordering::Relaxed) { Run::Again } else { Run::First })?;
                let rows = Arc::clone(self);
                let computed = async move {
                    let kept = Arc::new(run.await.map_err(Arc::new)?);
                    Ok(Arc::clone(rows.kept.get_or_init(|| kept)))
                };
                computed.boxed()
            }
        };
        let computed = computed.shared();
        *computing = computed.downgrade();
        Ok(computed)
    }
}

impl fmt::Debug for SharedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRows")
    }
}

impl Held {
    fn of(context: &TaskContext) -> Self {
        let pool = context.memory_pool();
        let most = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / MEMORY_SHARE,
            _ => usize::MAX,
        };
        Self {
            reservation: MemoryConsumer::new("rows that are needed again").with_can_spill(true).register(pool),
            most,
        }
    }

    /// Whether there was room for so many bytes more.
    fn takes(&self, bytes: usize) -> bool {
        self.reservation.size().saturating_add(bytes) <= self.most && self.reservation.try_grow(bytes).is_ok()
    }
}

/// Runs a plan to its end.
async fn kept(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>, metrics: SpillMetrics) -> Result<Kept> {
    let spills = SpillManager::new(context.runtime_env(), metrics, plan.schema());
    let memory = Arc::new(Held::of(&context));
    let partitions = execute_stream_partitioned(plan, context)?.into_iter().map(|rows| {
        let task = SpawnedTask::spawn(pieces(rows, spills.clone(), Arc::clone(&memory)));
        async move { task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))? }
    });
    let partitions = try_join_all(partitions.collect::<Vec<_>>()).await?;
    Ok(Kept { partitions, spills, _memory: memory })
}

/// The rows of a partition: the first ones held, and the rest spilled where there is no more room.
async fn pieces(mut rows: SendableRecordBatchStream, spills: SpillManager, memory: Arc<Held>) -> Result<Vec<Piece>> {
    let (mut pieces, mut file) = (Vec::new(), None);
    while let Some(batch) = rows.next().await.transpose()? {
        if file.is_none() && memory.takes(batch.get_array_memory_size()) {
            pieces.push(Piece::Held(batch));
            continue;
        }
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(spills.create_in_progress_file("rows that are needed again")?),
        };
        file.append_batch(&batch)?;
    }
    if let Some(mut file) = file {
        pieces.extend(file.finish()?.map(Piece::Spilled));
    }
    Ok(pieces)
}

impl Kept {
    /// The rows of one of so many partitions. A reader may have fewer or more than there are.
    fn rows(self: Arc<Self>, partition: usize, of: usize) -> impl stream::Stream<Item = Result<RecordBatch>> + Send {
        let mine = self.partitions.iter().skip(partition).step_by(of.max(1)).flatten().cloned();
        let mine: Vec<Piece> = mine.collect();
        stream::iter(mine).flat_map(move |piece| match piece {
            Piece::Held(batch) => stream::iter([Ok(batch)]).boxed(),
            Piece::Spilled(file) => match self.spills.read_spill_as_stream(file, None) {
                Ok(rows) => rows.boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            },
        })
    }
}

/// The operator.
#[derive(Debug)]
pub(crate) struct SharedExec {
    input: Arc<dyn ExecutionPlan>,
    rows: Arc<SharedRows>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SharedExec {
    fn new(input: Arc<dyn ExecutionPlan>, rows: Arc<SharedRows>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { input, rows, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Whether its rows are none of these, among which they are now.
    pub(crate) fn is_first<'a>(&'a self, known: &mut Vec<&'a Arc<SharedRows>>) -> bool {
        let first = !known.iter().any(|known| Arc::ptr_eq(known, &self.rows));
        known.push(&self.rows);
        first
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &'static str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::new(input, Arc::clone(&self.rows)))),
            Err(children) => internal_err!("SharedExec has one child, found {}", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let computed = self.rows.computed(|run| {
            let input = match run {
                Run::First => Arc::clone(&self.input),
                Run::Again => {
                    let input = afresh(&self.input)?;
                    tie(&input);
                    input
                }
            };
            let metrics = SpillMetrics::new(&self.metrics, partition);
            let run = async move {
                let task = SpawnedTask::spawn(kept(input, context, metrics));
                task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
            };
            Ok(run.boxed())
        })?;
        let of = self.properties.partitioning.partition_count();
        let rows = stream::once(computed)
            .map(move |kept| kept.map(|kept| kept.rows(partition, of)).map_err(DataFusionError::Shared))
            .try_flatten();
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema(), rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(match args.partition() {
            None => Arc::clone(&inputs[0]),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedExec: computed once for all that need it")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::memory::MemorySourceConfig;

    use super::*;

    /// A plan that has these rows in its partitions.
    fn rows(partitions: &[&[i64]]) -> Arc<dyn ExecutionPlan> {
        let batch = |rows: &[i64]| {
            let column = Arc::new(Int64Array::from(rows.to_vec())) as arrow::array::ArrayRef;
            RecordBatch::try_from_iter([("id", column)]).unwrap()
        };
        let partitions: Vec<Vec<RecordBatch>> = partitions.iter().map(|rows| vec![batch(rows)]).collect();
        let schema = partitions[0][0].schema();
        MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap()
    }

    async fn read(plan: &SharedExec) -> Vec<i64> {
        let mut found = Vec::new();
        for partition in 0..plan.properties().partitioning.partition_count() {
            let mut batches = plan.execute(partition, Arc::new(TaskContext::default())).unwrap();
            while let Some(batch) = batches.try_next().await.unwrap() {
                found.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
        }
        found.sort_unstable();
        found
    }

    #[tokio::test]
    async fn who_comes_first_computes_for_all_and_each_row_is_read_once_whatever_the_partitions() {
        let shared = Arc::<SharedRows>::default();
        let first = SharedExec::new(rows(&[&[1, 2], &[3], &[4, 5, 6]]), Arc::clone(&shared));
        assert_eq!(read(&first).await, [1, 2, 3, 4, 5, 6]);
        // What these would compute is not asked for.
        for partitions in [&[&[7][..]][..], &[&[7], &[8], &[9], &[10], &[11]]] {
            let other = SharedExec::new(rows(partitions), Arc::clone(&shared));
            assert_eq!(read(&other).await, [1, 2, 3, 4, 5, 6]);
        }
    }

    #[tokio::test]
    async fn rows_that_nobody_waited_for_are_computed_again_for_who_comes_next() {
        let shared = Arc::<SharedRows>::default();
        let plan = SharedExec::new(rows(&[&[1, 2], &[3]]), Arc::clone(&shared));
        drop(plan.execute(0, Arc::new(TaskContext::default())).unwrap());
        assert!(shared.begun.load(Ordering::Relaxed) && shared.kept.get().is_none());
        assert_eq!(read(&plan).await, [1, 2, 3]);
    }
}
