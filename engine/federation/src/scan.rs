//! The physical operator that runs a prepared scan.
//!
//! It adds nothing to the rows: it counts them, carries the source's error, and drops the source's stream as soon as nobody
//! reads on, which stops the remote statement.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{BatchStream, Error, Scan};

use crate::{RemoteStatementReport, Service, to_datafusion};

/// Reads a service's table by one remote statement for each partition.
#[derive(Debug)]
pub struct RemoteScanExec {
    service: Arc<Service>,
    /// The table's name in SQL.
    table: String,
    scan: Arc<dyn Scan>,
    schema: SchemaRef,
    statistics: Arc<Statistics>,
    /// What stayed local, and why; one sentence for each filter.
    notes: Vec<String>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RemoteScanExec {
    pub(crate) fn new(
        service: Arc<Service>,
        table: &str,
        scan: Arc<dyn Scan>,
        schema: SchemaRef,
        statistics: Statistics,
        notes: Vec<String>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(scan.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // Its streams wait for the network and so yield to the runtime by themselves.
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            service,
            table: table.to_owned(),
            scan,
            schema,
            statistics: Arc::new(statistics),
            notes,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// What was read so far.
    pub fn report(&self) -> RemoteStatementReport {
        let metrics = self.metrics.clone_inner();
        let value = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize()) as u64;
        RemoteStatementReport {
            service: self.service.name().to_string(),
            table: self.table.clone(),
            statement: self.scan.statement().to_string(),
            statements: value(STATEMENTS),
            rows: value(ROWS),
            bytes: value(BYTES),
            elapsed_ms: value(ELAPSED) / 1_000_000,
        }
    }

    fn meter(&self, partition: usize) -> Meter {
        let builder = || MetricBuilder::new(&self.metrics);
        Meter {
            rows: builder().counter(ROWS, partition),
            bytes: builder().counter(BYTES, partition),
            elapsed: builder().subset_time(ELAPSED, partition),
            statements: builder().counter(STATEMENTS, partition),
        }
    }
}

const ROWS: &str = "rows";
const BYTES: &str = "bytes";
const ELAPSED: &str = "elapsed";
const STATEMENTS: &str = "statements";

/// Counts what one partition reads.
struct Meter {
    rows: Count,
    bytes: Count,
    elapsed: Time,
    statements: Count,
}

/// A partition while it is read.
struct Reading {
    service: Arc<Service>,
    table: String,
    batches: BatchStream,
    meter: Meter,
}

impl Reading {
    async fn start(
        service: Arc<Service>,
        table: String,
        scan: Arc<dyn Scan>,
        partition: usize,
        meter: Meter,
    ) -> Result<Self> {
        let started = Instant::now();
        meter.statements.add(1);
        let opened = scan.open(partition).await;
        meter.elapsed.add_elapsed(started);
        match opened {
            Ok(batches) => Ok(Self { service, table, batches, meter }),
            Err(error) => Err(failed(&service, &table, error)),
        }
    }

    async fn next(mut self) -> Result<Option<(arrow::record_batch::RecordBatch, Self)>> {
        let started = Instant::now();
        let next = self.batches.next().await;
        self.meter.elapsed.add_elapsed(started);
        match next {
            Some(Ok(batch)) => {
                self.meter.rows.add(batch.num_rows());
                self.meter.bytes.add(batch.get_array_memory_size());
                Ok(Some((batch, self)))
            }
            Some(Err(error)) => Err(failed(&self.service, &self.table, error)),
            None => Ok(None),
        }
    }
}

/// A schema that changed must be asked for anew by the next query.
fn failed(service: &Service, table: &str, error: Error) -> datafusion::error::DataFusionError {
    if matches!(error, Error::SchemaChanged { .. } | Error::TableNotFound { .. }) {
        service.forget(table);
    }
    to_datafusion(error)
}

impl ExecutionPlan for RemoteScanExec {
    fn name(&self) -> &'static str {
        "RemoteScanExec"
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
            false => internal_err!("RemoteScanExec is a leaf"),
        }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reading = Reading::start(
            Arc::clone(&self.service),
            self.table.clone(),
            Arc::clone(&self.scan),
            partition,
            self.meter(partition),
        );
        let batches = stream::once(reading).map_ok(|reading| stream::try_unfold(reading, Reading::next)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        match partition {
            None => Ok(Arc::clone(&self.statistics)),
            Some(_) => Ok(Arc::new(Statistics::new_unknown(&self.schema))),
        }
    }
}

impl DisplayAs for RemoteScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteScanExec: service={}, statement={}", self.service.name(), self.scan.statement())?;
        if self.scan.partitions() > 1 {
            write!(f, ", partitions={}", self.scan.partitions())?;
        }
        if !self.notes.is_empty() {
            write!(f, ", local=[{}]", self.notes.join("; "))?;
        }
        Ok(())
    }
}
