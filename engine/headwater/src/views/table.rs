//! A view as a table: what DataFusion scans is the epoch that its query has pinned.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use headwater_source::async_trait;
use headwater_views::{Epoch, Published, ViewId};

use super::ask::ViewName;
use crate::access::Read;

/// The epoch that one query reads: the newest when its first view is planned, unless it was set before.
#[derive(Debug, Default)]
pub(crate) struct Pin(OnceLock<Arc<Epoch>>);

/// A view as DataFusion sees it.
#[derive(Debug)]
pub(crate) struct ViewTable {
    pub(crate) name: ViewName,
    pub(crate) view: ViewId,
    pub(crate) schema: SchemaRef,
    pub(crate) sql: String,
    /// What its query reads.
    pub(crate) inputs: Vec<Read>,
    published: Published,
}

impl Pin {
    /// Pins an epoch.
    pub(crate) fn to(epoch: Arc<Epoch>) -> Self {
        Self(OnceLock::from(epoch))
    }

    /// The epoch, if one is pinned.
    pub(crate) fn pinned(&self) -> Option<Arc<Epoch>> {
        self.0.get().cloned()
    }

    pub(super) fn epoch(&self, published: &Published) -> Arc<Epoch> {
        Arc::clone(self.0.get_or_init(|| published.latest()))
    }
}

impl ViewTable {
    pub(crate) fn new(
        name: ViewName,
        view: ViewId,
        schema: SchemaRef,
        sql: String,
        inputs: Vec<Read>,
        published: Published,
    ) -> Arc<Self> {
        Arc::new(Self { name, view, schema, sql, inputs, published })
    }
}

/// The views that a plan reads, each once.
pub(crate) fn reads_views(plan: &LogicalPlan) -> Result<Vec<(ViewName, ViewId)>> {
    let mut views: Vec<(ViewName, ViewId)> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<ViewTable>()
            && views.iter().all(|(_, view)| *view != table.view)
        {
            views.push((table.name.clone(), table.view));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(views)
}

/// Puts the views' queries in the place of the views.
pub(crate) fn inline_views(plan: LogicalPlan, queries: &HashMap<ViewId, LogicalPlan>) -> Result<LogicalPlan> {
    let inlined = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let provider = source_as_provider(&scan.source)?;
        let query = provider.downcast_ref::<ViewTable>().and_then(|table| queries.get(&table.view));
        match query {
            Some(query) => {
                let named = LogicalPlanBuilder::from(query.clone()).alias(scan.table_name.clone())?.build()?;
                Ok(Transformed::yes(named))
            }
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(inlined.data)
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.sql)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let epoch = match session.config().get_extension::<Pin>() {
            Some(pin) => pin.epoch(&self.published),
            None => self.published.latest(),
        };
        let Some(shown) = epoch.view(self.view) else {
            return Err(DataFusionError::Plan(format!(
                "materialized view \"{}\" is not loaded yet; headwater.views tells why",
                self.name
            )));
        };
        let rows = shown.version.batches().map_err(|error| DataFusionError::External(Box::new(error)))?;
        let rows = MemorySourceConfig::try_new_exec(&[rows], Arc::clone(&self.schema), projection.cloned())?;
        Ok(Arc::new(ViewExec { name: self.name.clone(), epoch: shown.epoch, rows }))
    }
}

/// Reads a view at an epoch. It does what the scan of its rows does, and EXPLAIN tells which view it is.
#[derive(Debug)]
struct ViewExec {
    name: ViewName,
    epoch: u64,
    rows: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for ViewExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterializedViewExec: view={}, epoch={}", self.name, self.epoch)
    }
}

impl ExecutionPlan for ViewExec {
    fn name(&self) -> &'static str {
        "MaterializedViewExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
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

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn repartitioned(&self, partitions: usize, config: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let rows = self.rows.repartitioned(partitions, config)?;
        Ok(rows.map(|rows| Arc::new(Self { name: self.name.clone(), epoch: self.epoch, rows }) as _))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.rows.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.rows.metrics()
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.rows.statistics_from_inputs(inputs, args)
    }
}
