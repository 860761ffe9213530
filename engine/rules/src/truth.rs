//! Writes what a column says of a condition's truth in the form whose NULLs DataFusion knows.
//!
//! `x IS TRUE` is never NULL. DataFusion plans it as `x IS NOT DISTINCT FROM true`, which it takes for NULL where `x` may be (`BinaryExpr::nullable` of
//! datafusion-physical-expr 55.2), and then refuses the plan of `SELECT DISTINCT x IS TRUE FROM t`, whose input is not the one that was planned. As a CASE it is not.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, lit, when};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The optimizer rule. It runs last: expressions are not simplified after it.
#[derive(Debug, Default)]
pub struct TruthsAsCases;

impl OptimizerRule for TruthsAsCases {
    fn name(&self) -> &str {
        "headwater_truths_as_cases"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        // Of the plans that make columns, it is the one beneath the check.
        let LogicalPlan::Projection(projection) = &plan else { return Ok(Transformed::no(plan)) };
        let schema = projection.input.schema().clone();
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let cased = expr.transform_up(|part| {
                let may_be_null = |tested: &Expr| tested.nullable(schema.as_ref());
                Ok(match part {
                    Expr::IsTrue(tested) if may_be_null(&tested)? => Transformed::yes(case(*tested, true)?),
                    Expr::IsNotTrue(tested) if may_be_null(&tested)? => Transformed::yes(case(*tested, false)?),
                    Expr::IsFalse(tested) if may_be_null(&tested)? => Transformed::yes(case(Expr::Not(tested), true)?),
                    Expr::IsNotFalse(tested) if may_be_null(&tested)? => {
                        Transformed::yes(case(Expr::Not(tested), false)?)
                    }
                    Expr::IsUnknown(tested) => Transformed::yes(Expr::IsNull(tested)),
                    Expr::IsNotUnknown(tested) => Transformed::yes(Expr::IsNotNull(tested)),
                    other => Transformed::no(other),
                })
            })?;
            Ok(cased.update_data(|expr| name.restore(expr)))
        })
    }
}

fn case(condition: Expr, then: bool) -> Result<Expr> {
    when(condition, lit(then)).otherwise(lit(!then))
}
