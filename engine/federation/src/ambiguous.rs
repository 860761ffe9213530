//! Keeps keys of a join from reaching another column of the same name.
//!
//! DataFusion carries a join's filter down by the names of columns: where two columns of one operator have the same name, it takes
//! the first (`FilterRemapper` in `filter_pushdown.rs` of datafusion-physical-plan 55.2), and a semi join's other side takes what
//! is named as the key is. Services name their keys alike, so an `id` of one table would be compared with the keys of
//! another, and rows that match would never be read. A scan is told no keys that may have come by such a way.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use headwater_rules::UnlikeRowsExec;

use crate::RemoteScanExec;
use crate::windows::OpenWindowExec;

/// The physical optimizer rule. It runs after DataFusion's own, when every scan has taken its filters.
#[derive(Debug, Default)]
pub struct UnambiguousKeys;

impl PhysicalOptimizerRule for UnambiguousKeys {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(check_join)?.data)
    }

    fn name(&self) -> &str {
        "headwater_unambiguous_keys"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The columns of an operator that a filter is about.
#[derive(Debug, Clone)]
enum Names {
    These(HashSet<String>),
    /// How the operator above names them is not known.
    Any,
}

fn check_join(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(plan)) };
    let filters: Vec<u64> =
        plan.dynamic_expressions_produced().iter().filter_map(|filter| filter.expression_id()).collect();
    if filters.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let keys = join.on().iter().flat_map(|(_, key)| collect_columns(key));
    let names = Names::These(keys.map(|key| key.name().to_owned()).collect());
    let probe = descend(join.right(), &names, &filters)?;
    let children = vec![Arc::clone(join.left()), probe];
    replace_children_if_necessary(plan, children).map(Transformed::yes)
}

/// The plan, in which no scan knows these filters that they may have reached by an ambiguous name.
fn descend(plan: &Arc<dyn ExecutionPlan>, names: &Names, filters: &[u64]) -> Result<Arc<dyn ExecutionPlan>> {
    if is_ambiguous(plan, names) {
        return untold(Arc::clone(plan), filters);
    }
    let mut children = Vec::new();
    for (index, child) in plan.children().into_iter().enumerate() {
        children.push(match crosses(plan, index, names) {
            true => untold(Arc::clone(child), filters)?,
            false => descend(child, &names_below(plan, names), filters)?,
        });
    }
    replace_children_if_necessary(Arc::clone(plan), children)
}

fn is_ambiguous(plan: &Arc<dyn ExecutionPlan>, names: &Names) -> bool {
    let schema = plan.schema();
    let mut seen = HashSet::new();
    schema.fields().iter().any(|field| {
        let concerned = match names {
            Names::These(names) => names.contains(field.name()),
            Names::Any => true,
        };
        concerned && !seen.insert(field.name())
    })
}

/// What the columns are called in the inputs of an operator.
fn names_below(plan: &Arc<dyn ExecutionPlan>, names: &Names) -> Names {
    let Names::These(names) = names else { return Names::Any };
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let shown = projection.expr().iter().filter(|shown| names.contains(&shown.alias));
        let columns = shown.flat_map(|shown| collect_columns(&shown.expr));
        return Names::These(columns.map(|column| column.name().to_owned()).collect());
    }
    let keeps_names = plan.is::<HashJoinExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<UnlikeRowsExec>()
        || plan.is::<FilterExec>()
        || plan.is::<OpenWindowExec>()
        || plan.is::<SortExec>();
    if keeps_names { Names::These(names.clone()) } else { Names::Any }
}

/// Whether a filter may cross over to a side of a semi join that it is not about. DataFusion hands it to the side whose
/// columns the join does not yield, too, by the name that the key has on the other.
fn crosses(plan: &Arc<dyn ExecutionPlan>, child: usize, names: &Names) -> bool {
    let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return false };
    let hidden = match join.join_type() {
        JoinType::LeftSemi => 1,
        JoinType::RightSemi => 0,
        _ => return false,
    };
    let Names::These(names) = names else { return child == hidden };
    let same_name = |name: &String| {
        join.on().iter().any(|(left, right)| {
            let named = |key: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
                key.downcast_ref::<Column>().is_some_and(|column| column.name() == name)
            };
            named(left) && named(right)
        })
    };
    child == hidden && !names.iter().all(same_name)
}

fn untold(plan: Arc<dyn ExecutionPlan>, filters: &[u64]) -> Result<Arc<dyn ExecutionPlan>> {
    let told_nothing = plan.transform_down(|node| {
        Ok(match node.downcast_ref::<RemoteScanExec>() {
            Some(scan) if scan.knows(filters) => {
                Transformed::yes(Arc::new(scan.without(filters)) as Arc<dyn ExecutionPlan>)
            }
            _ => Transformed::no(node),
        })
    })?;
    Ok(told_nothing.data)
}
