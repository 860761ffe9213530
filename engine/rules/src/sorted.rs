//! Sorts again what lost its order on the way.
//!
//! DataFusion takes a sort away where it knows the rows to be in order, as by a constant. Rules that come later replace the operators that it knew it by, and what
//! it derives of the new ones may be less: a join that projects its columns itself forgets which of them are constant (`HashJoinExec` of
//! datafusion-physical-plan 55.2), and a union of inputs sorted by one column forgets the second column that is the same. The check of the finished plan then
//! refuses the query, as `SELECT x FROM (SELECT 1 AS x, id FROM t) AS a LEFT JOIN u ON a.id = u.id ORDER BY x`. This rule puts the sort back
//! before that check.
//!
//! Of an order by what is computed it may know nothing at all: of `-trunc(x)`, or of `length(g) > 3`, since most functions tell no range of their values
//! (`ScalarUDFImpl::evaluate_bounds` of datafusion-expr 55.2), of which the bounds of what is made of them can't be computed. `SELECT g, max(x) FROM t GROUP BY g ORDER BY length(g) > 3` is sorted
//! as it should be and then refused. So the check takes an order that is written at the input, too.

use std::sync::Arc;

use datafusion::common::config::{ConfigOptions, OptimizerOptions};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::sanity_checker::{check_finiteness_requirements, check_plan_sanity};
use datafusion::physical_plan::execution_plan::InvariantLevel;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ChildSatisfactionOptions, ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary,
};

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

/// DataFusion's check of the finished plan, `SanityCheckPlan`, in whose place it stands.
#[derive(Debug, Default)]
pub struct WrittenOrders;

impl PhysicalOptimizerRule for WrittenOrders {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.apply(|node| {
            match check_plan_sanity(node, &config.optimizer) {
                Err(_) if has_written_orders(node)? => check(node, &config.optimizer)?,
                checked => checked?,
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "SanityCheckPlan"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether the node's inputs are in the orders that it requires, of one of which DataFusion does not know it.
fn has_written_orders(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut unknown = false;
    for (child, required) in node.children().into_iter().zip(node.required_input_ordering()) {
        let Some(required) = required.map(|required| required.into_single()) else { continue };
        if !is_sorted(child, &required)? {
            return Ok(false);
        }
        unknown |= !is_known_sorted(child, &required)?;
    }
    Ok(unknown)
}

/// All that DataFusion checks of a node but the orders of its inputs.
fn check(node: &Arc<dyn ExecutionPlan>, options: &OptimizerOptions) -> Result<()> {
    check_finiteness_requirements(node.as_ref(), options)?;
    let required = node.input_distribution_requirements();
    for (index, child) in node.children().into_iter().enumerate() {
        let how = ChildSatisfactionOptions::new().with_allow_subset(true);
        if !required.child_satisfaction(index, child.as_ref(), how)?.is_satisfied() {
            return plan_err!("input {index} of {} is not distributed as it requires", node.name());
        }
    }
    node.check_invariants(InvariantLevel::Executable)
}

fn is_sorted(input: &Arc<dyn ExecutionPlan>, required: &LexRequirement) -> Result<bool> {
    Ok(is_known_sorted(input, required)? || is_written_sorted(input, required))
}

fn is_known_sorted(input: &Arc<dyn ExecutionPlan>, required: &LexRequirement) -> Result<bool> {
    input.equivalence_properties().ordering_satisfy_requirement(required.clone())
}

/// Whether an order of the input starts with the very expressions that are required.
fn is_written_sorted(input: &Arc<dyn ExecutionPlan>, required: &LexRequirement) -> bool {
    let is_same = |order: &LexOrdering| {
        let pairs = order.iter().zip(required.iter());
        let mut same = pairs.map(|(order, required)| {
            order.expr.eq(&required.expr) && required.options.is_none_or(|options| options == order.options)
        });
        order.len() >= required.len() && same.all(|same| same)
    };
    input.equivalence_properties().oeq_class().iter().any(is_same)
}

fn with_sorted_inputs(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut sorted_any = false;
    let mut children = Vec::new();
    for (child, required) in plan.children().into_iter().zip(plan.required_input_ordering()) {
        let mut child = Arc::clone(child);
        if let Some(required) = required.map(|required| required.into_single())
            && !is_sorted(&child, &required)?
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
