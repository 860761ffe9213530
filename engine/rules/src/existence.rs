//! Knows that an aggregate of all rows is there without rows, too.
//!
//! `EXISTS (SELECT count(*) FROM y WHERE y.c = x.a)` is always true: the count of no rows is a row. DataFusion makes it a join with the counts by `y.c`, of which there is none without partners
//! (`decorrelate_predicate_subquery` of datafusion-optimizer 55.2).

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::membership::is_one_row;
use crate::zeros::under_their_names;

/// The optimizer rule. It runs before subqueries are made joins.
#[derive(Debug, Default)]
pub struct RowsOfNoRows;

impl OptimizerRule for RowsOfNoRows {
    fn name(&self) -> &str {
        "headwater_rows_of_no_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(plan));
        }
        under_their_names(plan, |condition| condition.transform_up(|part| Ok(known(part))))
    }
}

fn known(part: Expr) -> Transformed<Expr> {
    match &part {
        Expr::Exists(Exists { subquery, negated })
            if !subquery.outer_ref_columns.is_empty() && is_one_row(&subquery.subquery) =>
        {
            Transformed::yes(lit(!negated))
        }
        _ => Transformed::no(part),
    }
}
