//! What was read of a sub-plan, read again.
//!
//! An operator that reads a sub-plan to learn its keys may have to hand the rows to another plan after all. It leaves what it has read
//! and the rest of the stream in a [`Replay`]; the other plan's scan yields them as if it had read them itself.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;

/// Rows that were read, and the rest of them. Taken once.
#[derive(Default)]
pub(super) struct Replay(Mutex<Option<Read>>);

struct Read {
    batches: Vec<RecordBatch>,
    rest: Option<SendableRecordBatchStream>,
}

impl Replay {
    /// Leaves what was read, and what was not.
    pub(super) fn leave(&self, batches: Vec<RecordBatch>, rest: Option<SendableRecordBatchStream>) {
        *self.0.lock() = Some(Read { batches, rest });
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replay")
    }
}

/// The rows as a table of columns `c0`, `c1`, ...
#[derive(Debug)]
pub(super) struct ReplayTable {
    schema: SchemaRef,
    replay: Arc<Replay>,
    /// How many rows are guessed to come.
    rows: f64,
}

impl ReplayTable {
    /// Rows of these types, about so many.
    pub(super) fn new(schema: &Schema, replay: Arc<Replay>, rows: f64) -> Self {
        let numbered = schema.fields().iter().enumerate();
        let fields = numbered
            .map(|(index, field)| Field::new(format!("c{index}"), field.data_type().clone(), field.is_nullable()));
        Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), replay, rows }
    }
}

#[async_trait]
impl TableProvider for ReplayTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let replay = Arc::clone(&self.replay);
        // Known to be few, they are the side that a join holds.
        let mut statistics = Statistics::new_unknown(&schema);
        statistics.num_rows = Precision::Inexact(self.rows.ceil() as usize);
        let (properties, statistics) = (Arc::new(properties), Arc::new(statistics));
        Ok(Arc::new(ReplayExec { schema, projection, replay, properties, statistics }))
    }
}

/// Yields what a [`Replay`] holds.
#[derive(Debug)]
pub(super) struct ReplayExec {
    schema: SchemaRef,
    projection: Vec<usize>,
    replay: Arc<Replay>,
    properties: Arc<PlanProperties>,
    statistics: Arc<Statistics>,
}

impl ReplayExec {
    /// The operator before it runs, with another place for the rows.
    pub(super) fn afresh(&self, rows: impl FnOnce(&Arc<Replay>) -> Arc<Replay>) -> Self {
        Self {
            schema: Arc::clone(&self.schema),
            projection: self.projection.clone(),
            replay: rows(&self.replay),
            properties: Arc::clone(&self.properties),
            statistics: Arc::clone(&self.statistics),
        }
    }
}

impl ExecutionPlan for ReplayExec {
    fn name(&self) -> &'static str {
        "ReplayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("ReplayExec is a leaf"),
        }
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&self.statistics))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let read = self.replay.0.lock().take();
        let Read { batches, rest } =
            read.ok_or_else(|| internal_datafusion_err!("rows are read again that were not read before"))?;
        let rest = rest.map_or_else(|| stream::empty().boxed(), |rest| rest.boxed());
        // The batches have the names of the plan that was read; here they are numbered.
        let (schema, projection) = (Arc::clone(&self.schema), self.projection.clone());
        let batches = stream::iter(batches.into_iter().map(Ok)).chain(rest).map(move |batch| {
            let batch: RecordBatch = batch?.project(&projection)?;
            let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

impl DisplayAs for ReplayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayExec: what was read for its keys")
    }
}
