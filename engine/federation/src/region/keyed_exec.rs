//! Reads one side for its keys, then asks the other side's source for the finished answer, or falls back.
//!
//! The side that is read first is read until it ends or until it has more keys than fit. With all keys at hand, at least one, and none
//! twice where that would count, the remote plan runs with the keys bound. Otherwise the other plan runs, over the rows that were read
//! and the rest of that stream: nothing is asked twice.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::StreamExt;

use super::keyed::{KeyedNode, KeyedPlan, Repeated};
use super::replay::Replay;
use super::typed::under;
use crate::narrow::BoundKeys;

/// Makes the physical operator of the logical one.
#[derive(Debug, Default)]
pub(super) struct KeyedPlanner;

#[async_trait]
impl ExtensionPlanner for KeyedPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<KeyedNode>() else { return Ok(None) };
        let [keys, remote, fallback] = inputs else { return internal_err!("Keyed has three inputs") };
        let children = [Arc::clone(keys), Arc::clone(remote), Arc::clone(fallback)];
        let schema = Arc::clone(node.remote.schema().inner());
        Ok(Some(Arc::new(KeyedExec::new(children, node.plan.clone(), schema))))
    }
}

/// The operator.
#[derive(Debug)]
pub(crate) struct KeyedExec {
    /// What is read first, the remote plan, the other plan.
    children: [Arc<dyn ExecutionPlan>; 3],
    plan: KeyedPlan,
    /// The query's. What the other two have may be NULL where the query's can't be: a key is the other side's there.
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What came of reading one side.
enum Keys {
    /// All of them, each once where that matters.
    All(Vec<ScalarValue>),
    /// None, too many, or one that counts again.
    Unfit,
}

/// The side that is read first, as far as it was read.
struct Collected {
    batches: Vec<RecordBatch>,
    keys: HashSet<ScalarValue>,
    repeats: bool,
    memory: MemoryReservation,
}

impl KeyedExec {
    fn new(children: [Arc<dyn ExecutionPlan>; 3], plan: KeyedPlan, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { children, plan, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The operator before it runs, with other places for what it hands over.
    pub(super) fn afresh(
        &self,
        keys: impl FnOnce(&Arc<BoundKeys>) -> Arc<BoundKeys>,
        rows: impl FnOnce(&Arc<Replay>) -> Arc<Replay>,
    ) -> Self {
        let (bound, replay) = (keys(&self.plan.bound), rows(&self.plan.replay));
        let plan = KeyedPlan { bound, replay, ..self.plan.clone() };
        Self::new(self.children.clone(), plan, Arc::clone(&self.schema))
    }
}

async fn run(
    children: [Arc<dyn ExecutionPlan>; 3],
    plan: KeyedPlan,
    context: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
) -> Result<SendableRecordBatchStream> {
    let [first, remote, fallback] = children;
    let mut rows = first.execute(0, Arc::clone(&context))?;
    let memory = MemoryConsumer::new("keys of a join").register(context.memory_pool());
    let mut collected = Collected { batches: vec![], keys: HashSet::new(), repeats: false, memory };
    let mut rest = None;
    while let Some(batch) = rows.next().await.transpose()? {
        collected.push(batch, &plan)?;
        if collected.is_unfit(&plan) {
            rest = Some(rows);
            break;
        }
    }
    MetricBuilder::new(&metrics).counter("keys", 0).add(collected.keys.len());
    match collected.keys_of(&plan, rest.is_none()) {
        Keys::All(keys) => {
            plan.bound.set(keys);
            remote.execute(0, context)
        }
        Keys::Unfit => {
            MetricBuilder::new(&metrics).counter("fell_back", 0).add(1);
            plan.replay.leave(collected.batches, rest);
            fallback.execute(0, context)
        }
    }
}

impl Collected {
    fn push(&mut self, batch: RecordBatch, plan: &KeyedPlan) -> Result<()> {
        self.memory.try_grow(batch.get_array_memory_size())?;
        let column = batch.column(plan.key);
        for row in 0..batch.num_rows() {
            // A NULL key has no partner.
            if column.is_valid(row) {
                self.repeats |= !self.keys.insert(ScalarValue::try_from_array(column, row)?);
            }
        }
        self.batches.push(batch);
        Ok(())
    }

    fn is_unfit(&self, plan: &KeyedPlan) -> bool {
        self.keys.len() > plan.keys_max || (self.repeats && plan.repeated == Repeated::CountsAgain)
    }

    fn keys_of(&mut self, plan: &KeyedPlan, complete: bool) -> Keys {
        if !complete || self.keys.is_empty() || self.is_unfit(plan) {
            return Keys::Unfit;
        }
        let mut keys: Vec<ScalarValue> = std::mem::take(&mut self.keys).into_iter().collect();
        // The same keys make the same statement, and an index is walked one way.
        keys.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        Keys::All(keys)
    }
}

impl ExecutionPlan for KeyedExec {
    fn name(&self) -> &'static str {
        "KeyedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; 3]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 3]>::try_from(children) {
            Ok(children) => Ok(Arc::new(Self::new(children, self.plan.clone(), Arc::clone(&self.schema)))),
            Err(children) => internal_err!("KeyedExec has three children, found {}", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("KeyedExec has one partition, asked for {partition}");
        }
        let answer = run(self.children.clone(), self.plan.clone(), context, self.metrics.clone());
        Ok(under(self.schema(), answer))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for KeyedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repeated = match self.plan.repeated {
            Repeated::CountsOnce => "",
            Repeated::CountsAgain => " and none comes twice",
        };
        write!(
            f,
            "KeyedExec: the first input's keys go to the second where they are at most {}{repeated}; the third answers otherwise",
            self.plan.keys_max
        )
    }
}
