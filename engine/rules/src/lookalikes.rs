//! Keeps windows apart that begin alike.
//!
//! Where an expression is in a plan twice, DataFusion computes it once. Of two windows it compares partitions and orders only as far as the shorter list goes
//! (`NormalizeEq` of datafusion-expr 55.2), so `PARTITION BY g ORDER BY x ROWS 1 PRECEDING` and `PARTITION BY g, x ROWS 1 PRECEDING` are one for it, whose column then stands where
//! a window must, and the query panics or is refused. A plan with such windows is left as it is.

use datafusion::common::Result;
use datafusion::common::cse::NormalizeEq;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's rule that computes an expression once, in whose place it stands.
#[derive(Debug, Default)]
pub struct ComputedOnce(CommonSubexprEliminate);

impl OptimizerRule for ComputedOnce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if has_lookalikes(&plan)? { Ok(Transformed::no(plan)) } else { self.0.rewrite(plan, config) }
    }
}

/// Whether two windows of the plan are one for DataFusion and not the same.
fn has_lookalikes(plan: &LogicalPlan) -> Result<bool> {
    let mut windows: Vec<&Expr> = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Window(window) = node {
            windows.extend(window.window_expr.iter().map(bare));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let alike = |left: &Expr, right: &Expr| left != right && left.normalize_eq(right);
    Ok(windows.iter().enumerate().any(|(at, left)| windows[..at].iter().any(|right| alike(left, right))))
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}
