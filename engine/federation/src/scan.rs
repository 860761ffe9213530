//! The physical operator that runs a prepared scan.
//!
//! It adds nothing to the rows: it counts them, carries the source's error, and drops the source's stream as soon as nobody
//! reads on, which stops the remote statement.
//!
//! A scan that is the probe side of a hash join waits for the keys of the build side and sends them down with its statement (a
//! bind join): see [`key_filter`]. Joins in a row chain: each scan waits for the join above it, whose build side may itself have
//! waited.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::apply_expression_roots;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{BatchStream, Error, Scan};
use tokio::sync::OnceCell;
use tracing::debug;

use crate::keys::{KeyFilter, key_filter, keys_of, range_of_keys};
use crate::region::{Asked, TableName};
use crate::{Admission, Permit, Pushdown, RemoteStatementReport, Service, to_datafusion};

/// Reads a service's table by one remote statement for each partition.
#[derive(Debug, Clone)]
pub struct RemoteScanExec {
    planned: Planned,
    schema: SchemaRef,
    statistics: Arc<Statistics>,
    /// What stayed local, and why; one sentence for each filter.
    notes: Vec<String>,
    /// What the joins above will say of the keys that can match.
    joins: Vec<Arc<dyn PhysicalExpr>>,
    /// The scan that is really run, once the keys are known.
    narrowed: Arc<OnceCell<Narrowed>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The scan as it was planned, before any key is known.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) service: Arc<Service>,
    /// The tables that are read.
    pub(crate) tables: Vec<TableName>,
    pub(crate) asked: Asked,
    pub(crate) scan: Arc<dyn Scan>,
    /// Whether keys may be sent at all: not while the session has pushdown off.
    pub(crate) pushes: Pushdown,
}

/// The scan with the keys that came.
#[derive(Debug)]
enum Narrowed {
    /// No key came: there is nothing to ask.
    Empty,
    /// Read so, with so many keys bound.
    To { scan: Arc<dyn Scan>, keys: usize },
}

impl RemoteScanExec {
    /// How long a scan waits for the keys of a join's other side before it reads without them. A build side that takes longer costs
    /// more than the rows that the keys would have saved.
    pub const KEYS_WAIT_MAX: Duration = Duration::from_secs(60);

    pub(crate) fn new(planned: Planned, statistics: Statistics, notes: Vec<String>) -> Self {
        let schema = planned.asked.schema();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(planned.scan.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // Its streams wait for the network and so yield to the runtime by themselves.
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            planned,
            schema,
            statistics: Arc::new(statistics),
            notes,
            joins: vec![],
            narrowed: Arc::default(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// What was read so far.
    pub fn report(&self) -> RemoteStatementReport {
        let metrics = self.metrics.clone_inner();
        let value = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize()) as u64;
        let scan = match self.narrowed.get() {
            Some(Narrowed::To { scan, .. }) => scan,
            _ => &self.planned.scan,
        };
        RemoteStatementReport {
            service: self.planned.service.name().to_string(),
            table: self.planned.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", "),
            statement: scan.statement().to_string(),
            statements: value(STATEMENTS),
            rows: value(ROWS),
            bytes: value(BYTES),
            elapsed_ms: value(ELAPSED) / 1_000_000,
        }
    }

    /// Waits for the keys and starts one partition.
    async fn read(self, partition: usize, admission: Option<Arc<Admission>>) -> Result<Option<Reading>> {
        let meter = self.meter(partition);
        let narrowed = self.narrowed.get_or_try_init(|| self.narrow()).await?;
        let Planned { service, tables, .. } = self.planned;
        match narrowed {
            Narrowed::Empty => Ok(None),
            Narrowed::To { scan, keys } => {
                if *keys > 0 {
                    MetricBuilder::new(&self.metrics).counter(KEYS, partition).add(*keys);
                }
                let permit = match admission {
                    Some(admission) => Some(admission.enter(service.name(), service.source().as_ref()).await),
                    None => None,
                };
                let permit = permit.transpose().map_err(to_datafusion)?;
                Reading::start(tables, Arc::clone(scan), partition, meter, permit).await.map(Some)
            }
        }
    }

    async fn narrow(&self) -> Result<Narrowed> {
        let planned = Narrowed::To { scan: Arc::clone(&self.planned.scan), keys: 0 };
        let mut filters = Vec::new();
        for join in &self.joins {
            if !is_complete(join).await {
                debug!(service = %self.planned.service.name(), "a join's keys did not come in time; reading without them");
                continue;
            }
            let asked = &self.planned.asked;
            match key_filter(join, asked.columns(), &asked.positions()) {
                KeyFilter::NoRow => return Ok(Narrowed::Empty),
                KeyFilter::Rows(filter) => filters.push(filter),
                KeyFilter::Nothing => {}
            }
        }
        match self.planned.narrowed_by(filters).await? {
            // The streams of a plan are fixed before the keys are known.
            Some((scan, keys)) if scan.partitions() == self.planned.scan.partitions() => {
                Ok(Narrowed::To { scan, keys })
            }
            _ => Ok(planned),
        }
    }

    /// Whether one of these dynamic filters tells it keys.
    pub(crate) fn knows(&self, filters: &[u64]) -> bool {
        self.joins.iter().any(|join| join.expression_id().is_some_and(|id| filters.contains(&id)))
    }

    /// The scan without what these dynamic filters would tell it.
    pub(crate) fn without(&self, filters: &[u64]) -> Self {
        let mut scan = self.clone();
        scan.joins.retain(|join| join.expression_id().is_none_or(|id| !filters.contains(&id)));
        scan.narrowed = Arc::default();
        scan
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
const KEYS: &str = "keys";

/// Whether every dynamic filter is a join's. Those of a top-k or an aggregate look the same and are never complete: where a
/// session has switched them on, a scan must wait for none.
fn only_joins_tell(config: &ConfigOptions) -> bool {
    let optimizer = &config.optimizer;
    !optimizer.enable_topk_dynamic_filter_pushdown && !optimizer.enable_aggregate_dynamic_filter_pushdown
}

/// Waits until a join has all its keys; whether they came in time.
async fn is_complete(join: &Arc<dyn PhysicalExpr>) -> bool {
    match join.downcast_ref::<DynamicFilterPhysicalExpr>() {
        Some(filter) => tokio::time::timeout(RemoteScanExec::KEYS_WAIT_MAX, filter.wait_complete()).await.is_ok(),
        None => false,
    }
}

impl Planned {
    /// The scan with these filters too, as far as the source can use them, and the number of keys in them.
    async fn narrowed_by(&self, filters: Vec<headwater_source::Expr>) -> Result<Option<(Arc<dyn Scan>, usize)>> {
        let source = self.service.source();
        let capabilities = source.capabilities();
        let mut chosen = Vec::new();
        let mut room = capabilities.max_binds().saturating_sub(self.scan.statement().binds.len());
        let mut keys = 0;
        for filter in filters {
            // The keys themselves while they are few enough for one statement, and their range otherwise.
            let forms = [filter.clone(), range_of_keys(filter)];
            let mut offers = forms.iter().filter_map(|form| capabilities.offer_over(form, self.asked.columns()).filter);
            if let Some(filter) = offers.find(|filter| filter.literals() <= room) {
                room -= filter.literals();
                keys += keys_of(&filter);
                chosen.push(filter);
            }
        }
        let Some(narrowed) = self.asked.narrowed(&chosen).filter(|_| !chosen.is_empty()) else { return Ok(None) };
        let scan = narrowed.prepare(source.as_ref()).await.map_err(|error| failed(&self.tables, error))?;
        Ok(Some((scan, keys)))
    }
}

/// Counts what one partition reads.
struct Meter {
    rows: Count,
    bytes: Count,
    elapsed: Time,
    statements: Count,
}

/// A partition while it is read.
struct Reading {
    tables: Vec<TableName>,
    batches: BatchStream,
    meter: Meter,
    /// Held while the statement runs.
    _permit: Option<Permit>,
}

impl Reading {
    async fn start(
        tables: Vec<TableName>,
        scan: Arc<dyn Scan>,
        partition: usize,
        meter: Meter,
        permit: Option<Permit>,
    ) -> Result<Self> {
        let started = Instant::now();
        meter.statements.add(1);
        let opened = scan.open(partition).await;
        meter.elapsed.add_elapsed(started);
        match opened {
            Ok(batches) => Ok(Self { tables, batches, meter, _permit: permit }),
            Err(error) => Err(failed(&tables, error)),
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
            Some(Err(error)) => Err(failed(&self.tables, error)),
            None => Ok(None),
        }
    }
}

/// A schema that changed must be asked for anew by the next query.
pub(crate) fn failed(tables: &[TableName], error: Error) -> datafusion::error::DataFusionError {
    if matches!(error, Error::SchemaChanged { .. } | Error::TableNotFound { .. }) {
        tables.iter().for_each(|table| table.service.forget(&table.name));
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
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        // A join only tells its keys where it finds its filter among the expressions beneath it.
        apply_expression_roots(&self.joins, visit)
    }

    /// Takes the dynamic filters of the joins above. They stay the joins' own to check.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let offered: Vec<Arc<dyn PhysicalExpr>> =
            child_pushdown_result.parent_filters.into_iter().map(|parent| parent.filter).collect();
        let filters = vec![PushedDown::No; offered.len()];
        let joins: Vec<_> = offered.into_iter().filter(|filter| filter.is::<DynamicFilterPhysicalExpr>()).collect();
        // A cut scan must not be narrowed: the join would see other rows than the first.
        let takes = !self.planned.asked.is_cut() && self.planned.pushes == Pushdown::On && only_joins_tell(config);
        if !matches!(phase, FilterPushdownPhase::Post) || joins.is_empty() || !takes {
            return Ok(FilterPushdownPropagation { filters, updated_node: None });
        }
        let mut node = self.clone();
        node.joins.extend(joins);
        node.narrowed = Arc::default();
        Ok(FilterPushdownPropagation { filters, updated_node: Some(Arc::new(node)) })
    }

    /// A recursive query resets its plan before each iteration, and with it its joins, which then tell no keys any more: a scan
    /// that went on waiting for them would wait in vain.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            joins: vec![],
            narrowed: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
            ..(*self).clone()
        }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("RemoteScanExec is a leaf"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let admission = context.session_config().get_extension::<Admission>();
        let batches = stream::once(self.clone().read(partition, admission))
            .map_ok(|reading| match reading {
                Some(reading) => stream::try_unfold(reading, Reading::next).boxed(),
                None => stream::empty().boxed(),
            })
            .try_flatten();
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
        let Planned { service, scan, .. } = &self.planned;
        write!(f, "RemoteScanExec: service={}, statement={}", service.name(), scan.statement())?;
        if scan.partitions() > 1 {
            write!(f, ", partitions={}", scan.partitions())?;
        }
        match (self.narrowed.get(), self.joins.is_empty()) {
            (_, true) => {}
            (None, false) => write!(f, ", keys=[from the join above, at run time]")?,
            (Some(Narrowed::Empty), false) => write!(f, ", keys=[none came: not asked]")?,
            (Some(Narrowed::To { scan, keys }), false) => write!(f, ", keys=[{keys} bound: {}]", scan.statement())?,
        }
        if !self.notes.is_empty() {
            write!(f, ", local=[{}]", self.notes.join("; "))?;
        }
        Ok(())
    }
}
