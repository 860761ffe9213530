//! Keeps what is the same in all rows beneath an operator from being taken for the same above it.
//!
//! - A constant of an outer join's side: `SELECT u.open FROM t LEFT JOIN (SELECT id, true AS open FROM u) AS u ON t.id = u.id ORDER BY u.open DESC`. Above the join `open` is true or NULL. DataFusion keeps it
//!   as a constant (`EquivalenceGroup::join` of datafusion-physical-expr 55.2), sorts nothing, and a limit keeps other rows than the first.
//! - Two columns that are equal, in grouping sets: `t JOIN u ON t.id = u.id GROUP BY CUBE (t.id, u.id) ORDER BY 1, 2`. Above the groups one of them may be NULL alone. So may a constant: of `GROUP BY ROLLUP (id, 'a')` the final
//!   groups were handed on wherever the `'a'` of the parts' groups changed, and came again. And groups of sets are in no order, whatever their rows were in.
//! - A constant of a part of a union: `SELECT 7 AS kind, id FROM t UNION ALL SELECT 5, id FROM u ORDER BY 1, 2 LIMIT 4`. Each part is sorted by `id` alone, and that is right
//!   where they are merged. But the parts tell each other by a filter beyond which `id` nothing is among the first (`SortExec` with a fetch), and the first rows of `u` were
//!   left out.
//!
//! So an operator of which nothing such is known stands between. It stays in the plan: a sort looks once more whether there is anything to sort when it
//! starts.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    replace_children_if_necessary,
};

/// The physical optimizer rule. It runs before sorts are put where they are needed.
#[derive(Debug, Default)]
pub struct HideSameness;

impl PhysicalOptimizerRule for HideSameness {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let hidden = plan.transform_up(|node| {
            let inputs = node.children().into_iter();
            let hidden = |(index, input): (usize, &Arc<dyn ExecutionPlan>)| {
                if is_of_sets(input) {
                    UnlikeRowsExec::above(input, Known::Nothing)
                } else if is_misread(node.as_ref(), index, input) {
                    UnlikeRowsExec::above(input, Known::Orders)
                } else {
                    Arc::clone(input)
                }
            };
            let inputs = inputs.enumerate().map(hidden).collect();
            replace_children_if_necessary(Arc::clone(&node), inputs).map(Transformed::yes)
        })?;
        Ok(hidden.data)
    }

    fn name(&self) -> &str {
        "headwater_hide_sameness"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether the rows are groups of grouping sets of which more is said than holds.
fn is_of_sets(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let of_sets = plan.downcast_ref::<AggregateExec>().is_some_and(|groups| groups.group_expr().has_grouping_set());
    let said = plan.equivalence_properties();
    let is_placed = matches!(plan.output_partitioning(), Partitioning::Hash(..));
    of_sets && (is_placed || !said.eq_group().is_empty() || !said.oeq_class().is_empty())
}

/// Whether the operator keeps of this input what no longer holds of its own rows.
fn is_misread(node: &dyn ExecutionPlan, index: usize, input: &Arc<dyn ExecutionPlan>) -> bool {
    let known = input.equivalence_properties();
    if node.is::<UnionExec>() || node.is::<InterleaveExec>() {
        return !known.constants().is_empty();
    }
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let merge = node.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type);
    let nested = node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let may_be_null = match hash.or(merge).or(nested) {
        Some(JoinType::Left) => index == 1,
        Some(JoinType::Right) => index == 0,
        Some(JoinType::Full) => true,
        _ => false,
    };
    // Columns that are equal are NULL together; what is computed of one may not be.
    let is_computed = |expr: &Arc<dyn PhysicalExpr>| !expr.is::<Column>();
    may_be_null && (!known.constants().is_empty() || known.eq_group().iter().any(|class| class.iter().any(is_computed)))
}

/// What is known of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Orders,
    Nothing,
}

/// Its input, of which no more is known than its order.
#[derive(Debug)]
pub struct UnlikeRowsExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    known: Known,
}

impl UnlikeRowsExec {
    fn above(input: &Arc<dyn ExecutionPlan>, known: Known) -> Arc<dyn ExecutionPlan> {
        let said = input.equivalence_properties();
        let partitioning = input.output_partitioning();
        let (orders, partitioning) = match known {
            Known::Orders => (said.oeq_class().iter().cloned().collect(), partitioning.clone()),
            Known::Nothing => (vec![], Partitioning::UnknownPartitioning(partitioning.partition_count())),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(said.schema()), orders),
            partitioning,
            input.pipeline_behavior(),
            input.boundedness(),
        )
        .with_scheduling_type(input.properties().scheduling_type);
        Arc::new(Self { input: Arc::clone(input), properties: Arc::new(properties), known })
    }
}

impl DisplayAs for UnlikeRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlikeRowsExec")
    }
}

impl ExecutionPlan for UnlikeRowsExec {
    fn name(&self) -> &'static str {
        "UnlikeRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.known == Known::Orders]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Self::above(input, self.known)),
            _ => internal_err!("UnlikeRowsExec has one input"),
        }
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => internal_err!("UnlikeRowsExec has one input"),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
