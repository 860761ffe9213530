//! Distinct keys of rows that a semi or anti join only tests for.
//!
//! `WHERE EXISTS (SELECT 1 FROM shop.orders o WHERE o.customer = c.id)` needs to know which customers have orders, not each order. Where the tested side is of another source than the
//! rows that are kept, its source ships what the join reads of it once: the values are grouped there. It is done where there are guessed to be at most half as many groups as rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, JoinType, Result};
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan};

use super::eager::Side;
use super::estimate::{estimate, source_of};
use super::pays::groups_that_pay;

/// The plan with distinct rows where joins only test for them.
///
/// Leaves the schemas of these groups in `partial`: a value that several parts of a source send is as good as one.
pub(super) fn tested_once(plan: LogicalPlan, partial: &mut Vec<DFSchemaRef>) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        Ok(match once(join, partial)? {
            Some(once) => Transformed::yes(once),
            None => Transformed::no(plan),
        })
    })?;
    Ok(rewritten.data)
}

fn once(join: &Join, partial: &mut Vec<DFSchemaRef>) -> Result<Option<LogicalPlan>> {
    let side = match join.join_type {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Side::Right,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => Side::Left,
        _ => return Ok(None),
    };
    let (tested, kept) = side.of(join);
    let source = source_of(tested);
    if source.is_none() || source == source_of(kept) || is_grouped(tested) {
        return Ok(None);
    }
    let columns: Vec<Expr> = side.read_columns(join).into_iter().map(Expr::Column).collect();
    let rows = estimate(tested);
    if columns.is_empty() {
        return Ok(None);
    }
    let expected = rows.groups(&columns);
    let groups = LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(tested), columns, vec![])?);
    if groups_that_pay(&groups, rows.rows, expected)?.is_none() {
        return Ok(None);
    }
    partial.push(Arc::clone(groups.schema()));
    side.exchanged(join, groups).map(Some)
}

/// Whether the rows are groups already.
fn is_grouped(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Filter(_) => {
            plan.inputs().into_iter().all(is_grouped)
        }
        _ => false,
    }
}
