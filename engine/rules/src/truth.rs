//! Writes what a column says of a condition's truth in a form whose NULLs DataFusion knows.
//!
//! `x IS TRUE` is never NULL. DataFusion plans it as `x IS NOT DISTINCT FROM true`, which it takes for NULL where `x` may be (`BinaryExpr::nullable` of
//! datafusion-physical-expr 55.2), and then refuses the plan of `SELECT DISTINCT x IS TRUE FROM t`, whose input is not the one that was planned. `nullif(x, false) IS NOT NULL` says the same,
//! and stays as it is when expressions are simplified.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::zeros::under_their_names;

/// The optimizer rule. Conditions stay as they are: what they say is no column.
#[derive(Debug, Default)]
pub struct TruthsAsNulls;

impl OptimizerRule for TruthsAsNulls {
    fn name(&self) -> &str {
        "headwater_truths_as_nulls"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::TableScan(_)) {
            return Ok(Transformed::no(plan));
        }
        under_their_names(plan, written)
    }
}

fn written(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|part| {
        Ok(match part {
            Expr::IsTrue(tested) => Transformed::yes(Expr::IsNotNull(Box::new(nullif(*tested, lit(false))))),
            Expr::IsNotTrue(tested) => Transformed::yes(Expr::IsNull(Box::new(nullif(*tested, lit(false))))),
            Expr::IsFalse(tested) => Transformed::yes(Expr::IsNotNull(Box::new(nullif(*tested, lit(true))))),
            Expr::IsNotFalse(tested) => Transformed::yes(Expr::IsNull(Box::new(nullif(*tested, lit(true))))),
            Expr::IsUnknown(tested) => Transformed::yes(Expr::IsNull(tested)),
            Expr::IsNotUnknown(tested) => Transformed::yes(Expr::IsNotNull(tested)),
            other => Transformed::no(other),
        })
    })
}
