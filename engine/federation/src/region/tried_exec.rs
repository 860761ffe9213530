//! Answers from the first rows of one side, or from all of them.
//!
//! The first plan is read to its end; it makes as many rows as the query asks for, at most. Where there are so many, they are the answer. Otherwise they are dropped, and the other plan runs.

use std::fmt;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::stream::{self, StreamExt};

use super::tried::TriedNode;
use super::typed::under;

/// Makes the physical operator of the logical one.
#[derive(Debug, Default)]
pub(super) struct TriedPlanner;

#[async_trait]
impl ExtensionPlanner for TriedPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<TriedNode>() else { return Ok(None) };
        let [first, whole] = inputs else { return internal_err!("Tried has two inputs") };
        let schema = Arc::clone(node.whole.schema().inner());
        Ok(Some(Arc::new(TriedExec::new([Arc::clone(first), Arc::clone(whole)], node.rows, schema))))
    }
}

/// The operator.
#[derive(Debug)]
pub(crate) struct TriedExec {
    /// The plan that is tried, and the other.
    children: [Arc<dyn ExecutionPlan>; 2],
    rows: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TriedExec {
    fn new(children: [Arc<dyn ExecutionPlan>; 2], rows: usize, schema: SchemaRef) -> Self {
        let orders = order_of(&children).into_iter();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), orders),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { children, rows, schema, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// The order that both plans have.
fn order_of(children: &[Arc<dyn ExecutionPlan>; 2]) -> Option<LexOrdering> {
    let [first, whole] = children;
    let order = whole.output_ordering()?;
    (first.output_ordering() == Some(order)).then(|| order.clone())
}

async fn run(
    children: [Arc<dyn ExecutionPlan>; 2],
    rows: usize,
    context: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
) -> Result<SendableRecordBatchStream> {
    let [first, whole] = &children;
    let mut answer = read(first, &context).await?;
    if answer.rows() < rows {
        MetricBuilder::new(&metrics).counter("fell_back", 0).add(1);
        drop(answer);
        answer = read(whole, &context).await?;
    }
    answer.in_one_batch(whole.schema())
}

/// What a plan answers.
struct Answer {
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
}

async fn read(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Answer> {
    let memory = MemoryConsumer::new("first rows of an order").register(context.memory_pool());
    let mut answer = Answer { batches: vec![], memory };
    let mut rows = plan.execute(0, Arc::clone(context))?;
    while let Some(batch) = rows.next().await.transpose()? {
        answer.memory.try_grow(batch.get_array_memory_size())?;
        answer.batches.push(batch);
    }
    Ok(answer)
}

impl Answer {
    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// What is computed of the rows above is computed of one batch, and so keeps their order, where several would be dealt out.
    fn in_one_batch(self, schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        let Self { mut batches, memory } = self;
        // Texts of more bytes than their offsets count stay several.
        if batches.len() > 1 && i32::try_from(memory.size()).is_ok() {
            memory.try_grow(memory.size())?;
            batches = vec![concat_batches(&schema, &batches)?];
            memory.shrink(memory.size() / 2);
        }
        // The rows' memory is given back with the last of them.
        let kept = stream::iter(batches).map(move |batch| {
            let _ = &memory;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, kept)))
    }
}

impl ExecutionPlan for TriedExec {
    fn name(&self) -> &'static str {
        "TriedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; 2]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let order = order_of(&self.children).map(OrderingRequirements::from);
        vec![order.clone(), order]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true; 2]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; 2]
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
        match <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) {
            Ok(children) => Ok(Arc::new(Self::new(children, self.rows, Arc::clone(&self.schema)))),
            Err(children) => internal_err!("TriedExec has two children, found {}", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("TriedExec has one partition, asked for {partition}");
        }
        let answer = run(self.children.clone(), self.rows, context, self.metrics.clone());
        Ok(under(self.schema(), answer))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for TriedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TriedExec: the first input answers where it has {} rows; the second otherwise", self.rows)
    }
}
