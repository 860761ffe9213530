//! Lets keys reach the rows beneath functions over windows.
//!
//! `row_number() OVER (PARTITION BY customer ORDER BY placed DESC)` is worked out for each customer by himself: where a join above has use for some customers only, their rows are all that need
//! be read. DataFusion's window operators let no filter through; this one stands in their place while joins are tied to scans, and lets through what is said of columns by which every
//! one of its functions is partitioned. A filter may grow narrower while rows are read: what it then leaves out of a partition, it also leaves out of the answer.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Statistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{OrderingRequirements, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
    replace_children_if_necessary,
};

/// The physical optimizer rule. It runs before joins are tied to scans.
#[derive(Debug, Default)]
pub(crate) struct OpenWindows;

impl PhysicalOptimizerRule for OpenWindows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let opened = plan.transform_up(|node| {
            let partitioned_by = partitioned_by(&node);
            Ok(match partitioned_by.is_empty() {
                true => Transformed::no(node),
                false => Transformed::yes(Arc::new(OpenWindowExec { window: node, partitioned_by }) as _),
            })
        })?;
        Ok(opened.data)
    }

    fn name(&self) -> &str {
        "headwater_open_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The columns by which each of the operator's functions is partitioned; none of another operator.
fn partitioned_by(node: &Arc<dyn ExecutionPlan>) -> HashSet<usize> {
    let bounded = node.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
    let functions = bounded.or_else(|| node.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr));
    let columns = |function: &Arc<dyn WindowExpr>| -> HashSet<usize> {
        function.partition_by().iter().filter_map(|key| Some(key.downcast_ref::<Column>()?.index())).collect()
    };
    let of_each = functions.unwrap_or_default().iter().map(columns);
    of_each.reduce(|all, own| all.intersection(&own).copied().collect()).unwrap_or_default()
}

/// A window operator, but for what it lets through.
#[derive(Debug)]
pub(crate) struct OpenWindowExec {
    window: Arc<dyn ExecutionPlan>,
    partitioned_by: HashSet<usize>,
}

impl DisplayAs for OpenWindowExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.window.fmt_as(kind, f)
    }
}

impl ExecutionPlan for OpenWindowExec {
    fn name(&self) -> &str {
        self.window.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.window.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.window.children()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.window.input_distribution_requirements()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.window.required_input_ordering()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.window.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.window.benefits_from_input_partitioning()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.window.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let window = replace_children_if_necessary(Arc::clone(&self.window), children)?;
        Ok(Arc::new(Self { window, partitioned_by: self.partitioned_by.clone() }))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let window = Arc::clone(&self.window).reset_state()?;
        Ok(Arc::new(Self { window, partitioned_by: self.partitioned_by.clone() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.window.metrics()
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.window.child_stats_requests(partition)
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.window.statistics_from_inputs(inputs, args)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.window.cardinality_effect()
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let [input] = self.children()[..] else { return internal_err!("a window operator has one input") };
        // The columns of the input come first among the operator's own.
        let through = ChildFilterDescription::from_child_with_allowed_indices(
            &parent_filters,
            self.partitioned_by.clone(),
            input,
        )?;
        Ok(FilterDescription::new().with_child(through))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.window.execute(partition, context)
    }
}
