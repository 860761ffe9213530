//! Keeps floating-point numbers out of the table of an order's first groups.
//!
//! For `SELECT k, max(x) AS m FROM t GROUP BY k ORDER BY m DESC LIMIT 2` DataFusion keeps no more groups than it will answer (`TopKAggregation` of
//! datafusion-physical-optimizer 55.2). It finds a group there by `==` of its key, and its rank by the operators of numbers: a group of NaN is never found again, which
//! panics, and no number is greater than it. So floating-point numbers are grouped as without a limit.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// The physical optimizer rule. It runs after the rule whose cuts it takes away.
#[derive(Debug, Default)]
pub struct ExactTopGroups;

impl PhysicalOptimizerRule for ExactTopGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let exact = plan.transform_up(|node| {
            Ok(match node.downcast_ref::<AggregateExec>() {
                Some(groups) if is_cut_by_order(groups) && has_floats(groups) => {
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

/// Whether the cut is one of an order, and not one to any so many groups.
fn is_cut_by_order(groups: &AggregateExec) -> bool {
    groups.limit_options().is_some_and(|limit| limit.descending().is_some())
}

/// Whether the key or the value is a floating-point number.
fn has_floats(groups: &AggregateExec) -> bool {
    groups.schema().fields().iter().any(|field| field.data_type().is_floating())
}
