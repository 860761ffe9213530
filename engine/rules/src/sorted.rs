//! Sorts again what lost its order on the way.
//!
//! DataFusion takes a sort away where it knows the rows to be in order, as by a constant. Rules that come later replace the operators that it knew it by, and what
//! it derives of the new ones may be less: a join that projects its columns itself forgets which of them are constant (`HashJoinExec` of
//! datafusion-physical-plan 55.2), and a union of inputs sorted by one column forgets the second column that is the same. The check of the finished plan then
//! refuses the query, as `SELECT x FROM (SELECT 1 AS x, id FROM t) AS a LEFT JOIN u ON a.id = u.id ORDER BY x`. This rule puts the sort back
//! before that check.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

/// The physical optimizer rule. It runs before DataFusion's check of the finished plan.
#[derive(Debug, Default)]
pub struct SortedInputs;

impl PhysicalOptimizerRule for SortedInputs {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(with_sorted_inputs)?.data)
    }

    fn name(&self) -> &str {
        "headwater_sorted_inputs"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn with_sorted_inputs(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut sorted_any = false;
    let mut children = Vec::new();
    for (child, required) in plan.children().into_iter().zip(plan.required_input_ordering()) {
        let mut child = Arc::clone(child);
        if let Some(required) = required.map(|required| required.into_single())
            && !child.equivalence_properties().ordering_satisfy_requirement(required.clone())?
        {
            let has_parts = child.output_partitioning().partition_count() > 1;
            child = Arc::new(SortExec::new(LexOrdering::from(required), child).with_preserve_partitioning(has_parts));
            sorted_any = true;
        }
        children.push(child);
    }
    if sorted_any {
        Ok(Transformed::yes(replace_children_if_necessary(plan, children)?))
    } else {
        Ok(Transformed::no(plan))
    }
}
