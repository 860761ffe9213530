//! The physical operator that runs a prepared scan.
//!
//! It adds nothing to the rows: it counts them, carries the source's error, and drops the source's stream as soon as nobody
//! reads on, which stops the remote statement.
//!
//! A scan that is the probe side of a hash join waits for the keys of the build side and sends them down with its statement (a
//! bind join): see [`key_filter`]. Joins in a row chain: each scan waits for the join above it, whose build side may itself have
//! waited.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
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
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::{self, StreamExt, TryStreamExt};
use headwater_source::{Error, ReadContext, Scan, Snapshot, Source, Threshold};
use tokio::sync::OnceCell;
use tracing::debug;

use crate::admission::Connection;
use crate::connections::{ConnectionsOn, On};
use crate::keys::{KeyFilter, key_filter, may_filter, order_column, row_filter};
use crate::narrow::{BoundKeys, Narrowed, Planned};
use crate::once::ReadOnce;
use crate::reading::{BYTES, ELAPSED, Meter, Opening, ROWS, Reading, STATEMENTS};
use crate::region::{Asked, TableName};
use crate::snapshot::SharedSnapshot;
use crate::threshold::SortThreshold;
use crate::{
    Admission, Pushdown, RemoteStatementReport, StatementOutcome, StatementTrace, StatementTraces, to_datafusion,
};

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
    /// Filters above by values of subqueries.
    conditions: Vec<Condition>,
    /// What a sort above leaves to be read.
    threshold: Option<Arc<SortThreshold>>,
    /// The scan that is really run, once the keys are known.
    narrowed: Arc<OnceCell<Narrowed>>,
    /// The state of the source that all statements of the query read, where there are several.
    snapshot: Arc<OnceLock<Arc<SharedSnapshot>>>,
    /// The rows, where other scans of the plan want the same.
    once: Arc<OnceLock<Arc<ReadOnce>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// A filter above, which stays there too.
#[derive(Debug, Clone)]
struct Condition {
    filter: Arc<dyn PhysicalExpr>,
    /// Which of [`Asked::columns`] each of its columns is.
    places: Vec<Option<usize>>,
}

impl RemoteScanExec {
    /// How long a scan waits for the keys of a join's other side before it reads without them. A build side that takes longer costs
    /// more than the rows that the keys would have saved.
    pub const KEYS_WAIT_MAX: Duration = Duration::from_secs(60);

    pub(crate) fn new(planned: Planned, notes: Vec<String>) -> Self {
        let schema = planned.asked.schema();
        let mut statistics = Statistics::new_unknown(&schema);
        statistics.num_rows = Precision::Inexact(planned.rows.ceil() as usize);
        // How many rows a join makes, and so which side the next one holds, is told by how many values its keys have.
        for (column, position) in statistics.column_statistics.iter_mut().zip(planned.asked.positions()) {
            if let Some(distinct) = planned.distinct(position) {
                column.distinct_count = Precision::Inexact(distinct.min(planned.rows).max(1.0).ceil() as usize);
            }
        }
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
            conditions: vec![],
            threshold: None,
            narrowed: Arc::default(),
            snapshot: Arc::default(),
            once: Arc::default(),
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
            table: self.tables(),
            statement: scan.statement().to_string(),
            statements: value(STATEMENTS),
            rows: value(ROWS),
            bytes: value(BYTES),
            elapsed_ms: value(ELAPSED) / 1_000_000,
        }
    }

    /// Waits for the keys and starts one partition.
    async fn read(self, partition: usize, of: OfQuery) -> Result<Option<Reading>> {
        let OfQuery { admission, traces } = of;
        let meter = Meter::new(&self.metrics, partition);
        let query = admission.as_ref().map(|admission| admission.query());
        let narrowed = self.narrowed.get_or_try_init(|| self.narrow()).await?;
        match narrowed {
            // Fewer parts may be worth while once the keys are known.
            Narrowed::To { scan, keys, .. } if partition < scan.partitions() => {
                if *keys > 0 {
                    MetricBuilder::new(&self.metrics).counter(KEYS, partition).add(*keys);
                }
                let snapshot = match self.snapshot.get() {
                    Some(shared) => {
                        // Before the permit: a query that holds a state waits for permits, and must get one from who has its own.
                        let _paused = admission.as_ref().map(|admission| admission.pause());
                        shared.get(query).await.map_err(|error| failed(&self.planned.tables, error))?
                    }
                    None => None,
                };
                let threshold = self.threshold.clone().map(|threshold| threshold as Arc<dyn Threshold>);
                let context = ReadContext { query, snapshot, threshold };
                if !scan.asks(partition, &context) {
                    return Ok(None);
                }
                let permit = match admission {
                    Some(admission) => {
                        let service = &self.planned.service;
                        let entered =
                            admission.enter(service.name(), service.source().as_ref(), connection_of(&context));
                        Some(entered.await.map_err(to_datafusion)?)
                    }
                    None => None,
                };
                let traced = traces.and_then(|traces| traces.begin(|| self.trace(scan.as_ref())));
                let opening = Opening { scan: Arc::clone(scan), partition, context, permit, traced };
                Reading::start(self.planned.tables, opening, meter).await.map(Some)
            }
            Narrowed::Empty | Narrowed::To { .. } => {
                if let Some(shared) = self.snapshot.get() {
                    shared.pass().await;
                }
                Ok(None)
            }
        }
    }

    async fn narrow(&self) -> Result<Narrowed> {
        let mut filters = Vec::new();
        for join in &self.joins {
            if !is_complete(join).await {
                debug!(service = %self.planned.service.name(), "a join's keys did not come in time; reading without them");
                continue;
            }
            let asked = &self.planned.asked;
            match key_filter(join, asked.columns(), &asked.positions()) {
                KeyFilter::NoRow => return Ok(Narrowed::Empty),
                KeyFilter::Rows(filter, reach) => filters.push((filter, reach)),
                KeyFilter::Nothing => {}
            }
        }
        for Condition { filter, places } in &self.conditions {
            match row_filter(filter, self.planned.asked.columns(), places) {
                KeyFilter::NoRow => return Ok(Narrowed::Empty),
                KeyFilter::Rows(filter, reach) => filters.push((filter, reach)),
                KeyFilter::Nothing => {}
            }
        }
        self.planned.narrowed_by(filters).await
    }

    /// The source that is read.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        self.planned.service.source()
    }

    /// What two scans have in common that read one store under one role.
    pub(crate) fn source_key(&self) -> String {
        let source = self.source();
        format!("{} {}", source.capabilities().source(), source.location())
    }

    /// Into how many statements the scan is split.
    pub(crate) fn partitions(&self) -> usize {
        self.planned.scan.partitions()
    }

    /// Whether the scan reads all of its statement's rows, whatever is told it.
    pub(crate) fn reads_all(&self) -> bool {
        !self.is_told_values() && self.threshold.is_none()
    }

    /// Whether its statement depends on values that come at run time.
    fn is_told_values(&self) -> bool {
        !self.joins.is_empty() || !self.conditions.is_empty() || self.planned.bound.is_some()
    }

    /// How many rows are guessed to come.
    pub(crate) fn estimated_rows(&self) -> f64 {
        self.planned.rows
    }

    /// How many values the table has in the column that one of the rows' columns is, as its source says.
    pub(crate) fn distinct(&self, column: usize) -> Option<f64> {
        self.planned.distinct(*self.planned.asked.positions().get(column)?)
    }

    /// Whether both would send the same statement to the same source but for keys.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.planned, &other.planned);
        let plain = |planned: &Planned| planned.bound.is_none();
        plain(ours)
            && plain(theirs)
            && self.schema == other.schema
            && ours.scan.partitions() == theirs.scan.partitions()
            && ours.scan.statement() == theirs.scan.statement()
            && self.source_key() == other.source_key()
    }

    /// Lets the scan share its rows with others.
    pub(crate) fn read_once(&self, once: Arc<ReadOnce>) {
        // A plan that is planned once is told once.
        let _ = self.once.set(once);
    }

    /// Whether it shares its rows.
    pub(crate) fn is_read_once(&self) -> bool {
        self.once.get().is_some()
    }

    /// Whether it shares its rows with this one.
    pub(crate) fn shares_rows(&self, other: &Self) -> bool {
        matches!((self.once.get(), other.once.get()), (Some(ours), Some(theirs)) if Arc::ptr_eq(ours, theirs))
    }

    /// The rows of a partition, as the source sends them.
    pub(crate) fn stream(
        self,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> stream::BoxStream<'static, Result<RecordBatch>> {
        let config = context.session_config();
        let of = OfQuery { admission: config.get_extension(), traces: config.get_extension() };
        let connections = config.get_extension::<ConnectionsOn>();
        stream::once(On::new(connections.as_deref(), self.read(partition, of)))
            .map_ok(|reading| match reading {
                Some(reading) => stream::try_unfold(reading, Reading::next).boxed(),
                None => stream::empty().boxed(),
            })
            .try_flatten()
            .boxed()
    }

    /// The scan as it was planned.
    pub(crate) fn planned(&self) -> &Planned {
        &self.planned
    }

    /// The same scan, planned so.
    pub(crate) fn with(&self, planned: Planned) -> Self {
        Self { planned, ..self.clone() }
    }

    /// The scan as it is before its plan is tied together and run, with another place for keys that an operator hands to it.
    pub(crate) fn afresh(&self, keys: impl FnOnce(&Arc<BoundKeys>) -> Arc<BoundKeys>) -> Self {
        let bound = self.planned.bound.as_ref().map(keys);
        Self {
            planned: Planned { bound, ..self.planned.clone() },
            joins: vec![],
            conditions: vec![],
            threshold: None,
            narrowed: Arc::default(),
            snapshot: Arc::default(),
            once: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
            ..self.clone()
        }
    }

    /// Whether what was prepared may be opened at any later time, or is easily prepared again.
    pub(crate) fn can_be_planned_again(&self) -> bool {
        self.planned.scan.is_timeless()
            || (matches!(self.planned.asked, Asked::Table(_)) && self.planned.parts.is_none())
    }

    /// The same as a scan that takes no keys and reads all rows.
    fn unnarrowed(&self) -> Self {
        Self { joins: vec![], conditions: vec![], threshold: None, narrowed: Arc::default(), ..self.clone() }
    }

    /// The scan with what a sort above tells of its own input's columns, which are the scan's at these places; `None` where it would make nothing of it.
    pub(crate) fn with_threshold(
        &self,
        filter: &Arc<dyn PhysicalExpr>,
        first_key: &Arc<dyn PhysicalExpr>,
        places: &[Option<usize>],
    ) -> Option<Self> {
        let places = self.places_asked(places)?;
        let columns = self.planned.asked.columns();
        let first = order_column(first_key, columns, &places)?;
        let threshold = || SortThreshold::new(Arc::clone(filter), places, columns.to_vec());
        let heeds = self.planned.scan.heeds_threshold_of(first);
        heeds.then(|| Self { threshold: Some(Arc::new(threshold())), ..self.clone() })
    }

    /// The scan with a filter above by values of subqueries; `None` where nothing may be left out of it.
    pub(crate) fn with_condition(&self, filter: &Arc<dyn PhysicalExpr>, places: &[Option<usize>]) -> Option<Self> {
        let places = self.places_asked(places)?;
        if self.planned.bound.is_some() || !may_filter(filter, self.planned.asked.columns(), &places) {
            return None;
        }
        let mut scan = self.clone();
        scan.conditions.push(Condition { filter: Arc::clone(filter), places });
        scan.planned.cut = None;
        scan.narrowed = Arc::default();
        Some(scan)
    }

    /// Which of [`Asked::columns`] the scan's columns at these places are, where rows may be left out.
    fn places_asked(&self, places: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
        let Planned { asked, pushes, .. } = &self.planned;
        // Of the first rows of a table, which the source chooses, none may be missing.
        if asked.is_cut() || *pushes != Pushdown::On {
            return None;
        }
        let positions = asked.positions();
        Some(places.iter().map(|place| place.and_then(|place| positions.get(place).copied())).collect())
    }

    /// Lets the scan read the state that other statements of its query read.
    pub(crate) fn share(&self, snapshot: Arc<SharedSnapshot>) {
        // A plan that is planned once is told once.
        let _ = self.snapshot.set(snapshot);
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
        scan.snapshot = Arc::default();
        scan.once = Arc::default();
        scan
    }

    /// The trace of a statement that is sent now.
    fn trace(&self, scan: &dyn Scan) -> StatementTrace {
        let source = self.source();
        StatementTrace {
            service: self.planned.service.name().to_string(),
            system: source.capabilities().source(),
            location: source.location(),
            tables: self.tables(),
            text: scan.statement().text.clone(),
            started: SystemTime::now(),
            took: Duration::ZERO,
            rows: 0,
            bytes: 0,
            outcome: StatementOutcome::Cancelled,
        }
    }

    /// The tables' names in SQL.
    fn tables(&self) -> String {
        self.planned.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

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

/// Whether a statement that reads so has its connection already.
fn connection_of(context: &ReadContext) -> Connection {
    match context.snapshot.as_ref().is_some_and(Snapshot::has_connections) {
        true => Connection::Had,
        false => Connection::Wanted,
    }
}

/// What a query's task context holds for its statements.
struct OfQuery {
    admission: Option<Arc<Admission>>,
    traces: Option<Arc<StatementTraces>>,
}

/// Every scan of a plan, in the plan's order.
pub(crate) fn scans_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<&RemoteScanExec> {
    let own = plan.downcast_ref::<RemoteScanExec>().into_iter();
    own.chain(plan.children().into_iter().flat_map(scans_of)).collect()
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
        let takes = !self.planned.asked.is_cut()
            && self.planned.pushes == Pushdown::On
            && self.planned.bound.is_none()
            && only_joins_tell(config);
        if !matches!(phase, FilterPushdownPhase::Post) || joins.is_empty() || !takes {
            return Ok(FilterPushdownPropagation { filters, updated_node: None });
        }
        let mut node = self.clone();
        node.joins.extend(joins);
        node.narrowed = Arc::default();
        node.snapshot = Arc::default();
        node.once = Arc::default();
        Ok(FilterPushdownPropagation { filters, updated_node: Some(Arc::new(node)) })
    }

    /// A recursive query resets its plan before each iteration, and with it its joins, which then tell no keys any more: a scan
    /// that went on waiting for them would wait in vain. A sort that is reset tells what it keeps by a new filter.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            joins: vec![],
            threshold: None,
            narrowed: Arc::default(),
            once: Arc::default(),
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
        let batches = match self.once.get().cloned() {
            None => self.clone().stream(partition, &context),
            Some(once) => {
                let scan = self.unnarrowed();
                stream::once(async move { once.rows(scan, partition, &context).await })
                    .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
                    .try_flatten()
                    .boxed()
            }
        };
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
        let Planned { service, scan, rows, cut, bound, .. } = &self.planned;
        write!(f, "RemoteScanExec: service={}, statement={}", service.name(), scan.statement())?;
        write!(f, ", estimated_rows={}", rows.ceil())?;
        if scan.partitions() > 1 {
            write!(f, ", partitions={}", scan.partitions())?;
        }
        match (self.narrowed.get(), !self.is_told_values()) {
            (_, true) => {}
            (None, false) if bound.is_some() => write!(f, ", keys=[from the side read first, at run time]")?,
            (None, false) if self.joins.is_empty() => write!(f, ", keys=[from a subquery, at run time]")?,
            (None, false) => write!(f, ", keys=[from the join above, at run time]")?,
            (Some(Narrowed::Empty), false) => write!(f, ", keys=[none came: not asked]")?,
            (Some(Narrowed::To { scan, keys, unsent: None }), false) => {
                write!(f, ", keys=[{keys} bound: {}]", scan.statement())?;
            }
            (Some(Narrowed::To { scan, keys, unsent: Some(why) }), false) => {
                write!(f, ", keys=[{keys} bound, as {why}: {}]", scan.statement())?;
            }
        }
        if self.threshold.is_some() && !self.is_read_once() {
            write!(f, ", skips=[what comes after the first rows of the order above, at run time]")?;
        }
        if self.is_read_once() {
            write!(f, ", read once for all that ask the same")?;
        }
        if let (Some(cut), None) = (cut, self.narrowed.get()) {
            write!(f, ", first=[{} rows of the order, where the keys are complete]", cut.first.rows)?;
        }
        if !self.notes.is_empty() {
            write!(f, ", local=[{}]", self.notes.join("; "))?;
        }
        Ok(())
    }
}
