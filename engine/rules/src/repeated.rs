//! Keeps an aggregate from being ordered by one thing twice.
//!
//! For `first_value(x ORDER BY a, a)`, as `SELECT DISTINCT ON (a) a, a ... ORDER BY 1, 2` is planned, DataFusion evaluates both and knows of one
//! (`FirstLastGroupsAccumulator` of datafusion-functions-aggregate 55.2), which panics. What was compared already never decides, whichever way it goes.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The optimizer rule. It runs after those that make two expressions one.
#[derive(Debug, Default)]
pub struct OrdersWithoutRepeats;

impl OptimizerRule for OrdersWithoutRepeats {
    fn name(&self) -> &str {
        "headwater_orders_without_repeats"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(without_repeats)?.update_data(|expr| name.restore(expr)))
        })
    }
}

fn without_repeats(mut expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(aggregate) = &mut expr else { return Ok(Transformed::no(expr)) };
    let order = &mut aggregate.params.order_by;
    let all = order.len();
    let mut seen = Vec::with_capacity(all);
    order.retain(|sort| {
        let key = sort.expr.clone().unalias_nested().data;
        let first = !seen.contains(&key);
        seen.push(key);
        first
    });
    let changed = order.len() < all;
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}
