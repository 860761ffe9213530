//! Keeps out of the table of an order's first groups what it is not made for.
//!
//! For `SELECT k, max(x) AS m FROM t GROUP BY k ORDER BY m DESC LIMIT 2` DataFusion keeps no more groups than it will answer (`TopKAggregation` of
//! datafusion-physical-optimizer 55.2). It finds a group there by `==` of its key, and its rank by the operators of numbers: a group of NaN is never found again, which
//! panics, and no number is greater than it. So floating-point numbers are grouped as without a limit.
//!
//! It also finds the groups beneath windows, which it takes for operators that leave rows as they are: `SELECT k, rank() OVER (ORDER BY k) FROM t GROUP BY k ORDER BY k DESC LIMIT 1` ranked
//! among the groups that were kept. Beneath a window nothing is cut for the sake of an order above it.
//!
//! `SELECT DISTINCT` with a limit and without an order stops at so many groups (`LimitedDistinctAggregation`). Where its rows turn out to have an order later on, as those of a window
//! have, they went to that table too, which then failed for want of an order to cut by. They are grouped as without a limit.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

/// The physical optimizer rule. It runs after the rules whose cuts it takes away, and those that give rows an order.
#[derive(Debug, Default)]
pub struct ExactTopGroups;

impl PhysicalOptimizerRule for ExactTopGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let exact = plan.transform_up(|node| {
            if is_window(&node) {
                let whole = |input: &Arc<dyn ExecutionPlan>| with_all_groups(Arc::clone(input));
                let inputs = node.children().into_iter().map(whole).collect::<Result<_>>()?;
                return replace_children_if_necessary(node, inputs).map(Transformed::yes);
            }
            Ok(match node.downcast_ref::<AggregateExec>() {
                Some(groups) if is_cut_by_order(groups) && has_floats(groups) || fails_for_want_of_order(groups) => {
                    Transformed::yes(Arc::new(groups.with_new_limit_options(None)) as Arc<dyn ExecutionPlan>)
                }
                _ => Transformed::no(node),
            })
        })?;
        Ok(exact.data)
    }

    fn name(&self) -> &str {
        "headwater_exact_top_groups"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_window(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>()
}

/// The plan without cuts of groups, but for those of a sort of its own.
fn with_all_groups(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let whole = plan.transform_down(|node| {
        if node.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_some()) || node.children().len() != 1 {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        Ok(match node.downcast_ref::<AggregateExec>() {
            Some(groups) if is_cut_by_order(groups) => {
                Transformed::yes(Arc::new(groups.with_new_limit_options(None)) as Arc<dyn ExecutionPlan>)
            }
            _ => Transformed::no(node),
        })
    })?;
    Ok(whole.data)
}

/// Whether the cut is one of an order, and not one to any so many groups.
fn is_cut_by_order(groups: &AggregateExec) -> bool {
    groups.limit_options().is_some_and(|limit| limit.descending().is_some())
}

/// Whether any so many groups are kept, of rows that have an order: they would be cut by one that is not said.
fn fails_for_want_of_order(groups: &AggregateExec) -> bool {
    let any = groups.limit_options().is_some_and(|limit| limit.descending().is_none());
    any && !groups.is_unordered_unfiltered_group_by_distinct()
}

/// Whether the key or the value is a floating-point number.
fn has_floats(groups: &AggregateExec) -> bool {
    groups.schema().fields().iter().any(|field| field.data_type().is_floating())
}
