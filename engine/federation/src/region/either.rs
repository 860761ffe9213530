//! Joins of which a row is kept by a condition of one side or by one of the other.
//!
//! `WHERE o.price > 500000 OR c.balance > 9999` is for neither source to test alone, so both would ship all of their rows. The rows for which the first condition is true are joined by
//! themselves, and those for which it is not with the rows for which the second one is: each row of the answer comes once, and each of the joins reads by the keys of its smaller side. It
//! is done where the two conditions together are guessed to keep at most half of the rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, disjunction, split_binary, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, Operator, Union};
use datafusion::optimizer::{Optimizer, OptimizerContext};
use headwater_rules::PushFilters;

use super::estimate::{estimate, source_of};
use super::grow::holds_subquery;

/// The share of rows that both conditions together may keep at most.
const KEPT_MAX: f64 = 0.5;

/// How many rows the larger side must have at least.
const ROWS_MIN: f64 = 10_000.0;

/// The plan with two joins in the place of such a one.
pub(super) fn joined_by_either(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down(|plan| {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        // The sides are of one source each, which joins by itself; and what was made of a join is not parted again.
        let made = |joins| Transformed::new(joins, true, TreeNodeRecursion::Jump);
        let parted = parted(join)?;
        Ok(parted.map_or_else(|| Transformed::no(plan), made))
    })?;
    Ok(rewritten.data)
}

fn parted(join: &Join) -> Result<Option<LogicalPlan>> {
    let plain = join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing;
    let takes_keys = join.on.iter().any(|on| matches!(on, (Expr::Column(_), Expr::Column(_))));
    let (Some(filter), true, true) = (&join.filter, plain, takes_keys) else { return Ok(None) };
    let (left, right) = (source_of(&join.left), source_of(&join.right));
    if left.is_none()
        || right.is_none()
        || left == right
        || ![&join.left, &join.right].into_iter().all(|side| is_repeatable(side))
    {
        return Ok(None);
    }
    let conditions = split_conjunction(filter);
    let found = conditions.iter().enumerate().find_map(|(at, condition)| Some((at, Either::of(condition, join)?)));
    let Some((at, Either { of_left, of_right })) = found else { return Ok(None) };
    let first_left = kept(&join.left, of_left.clone())?;
    let second_right = kept(&join.right, of_right)?;
    let (lefts, rights) = (estimate(&join.left).rows, estimate(&join.right).rows);
    let share = estimate(&first_left).rows / lefts + estimate(&second_right).rows / rights;
    if lefts.max(rights) < ROWS_MIN || share > KEPT_MAX {
        return Ok(None);
    }
    let others = conditions.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, other)| (*other).clone());
    let others = conjunction(others);
    let joined = |left: LogicalPlan, right: LogicalPlan| {
        Arc::new(LogicalPlan::Join(Join {
            left: Arc::new(left),
            right: Arc::new(right),
            filter: others.clone(),
            ..join.clone()
        }))
    };
    let first = joined(first_left, join.right.as_ref().clone());
    let second = joined(kept(&join.left, of_left.is_not_true())?, second_right);
    Ok(Some(LogicalPlan::Union(Union { inputs: vec![first, second], schema: Arc::clone(&join.schema) })))
}

/// The rows of a side for which the condition is true, with the condition where the side's rows come from.
fn kept(side: &Arc<LogicalPlan>, condition: Expr) -> Result<LogicalPlan> {
    let filter = LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(side))?);
    let once = OptimizerContext::new().with_max_passes(1);
    Optimizer::with_rules(vec![Arc::new(PushFilters::default())]).optimize(filter, &once, |_, _| {})
}

/// Whether a plan that is read twice has the same rows both times, in whatever order they come.
fn is_repeatable(plan: &LogicalPlan) -> bool {
    let repeats = match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Join(_) | LogicalPlan::Filter(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            true
        }
        _ => false,
    };
    let is_fixed = |expr: &Expr| !expr.is_volatile() && !holds_subquery(expr);
    repeats && plan.expressions().iter().all(is_fixed) && plan.inputs().into_iter().all(is_repeatable)
}

/// A condition of one side, or one of the other.
struct Either {
    of_left: Expr,
    of_right: Expr,
}

impl Either {
    fn of(condition: &Expr, join: &Join) -> Option<Self> {
        if condition.is_volatile() || holds_subquery(condition) {
            return None;
        }
        let reads = |part: &Expr, side: &LogicalPlan| {
            let columns = part.column_refs();
            !columns.is_empty() && columns.iter().all(|column| side.schema().has_column(column))
        };
        let (left, right): (Vec<&Expr>, Vec<&Expr>) =
            split_binary(condition, Operator::Or).into_iter().partition(|part| reads(part, &join.left));
        if !right.iter().all(|part| reads(part, &join.right)) {
            return None;
        }
        let any = |parts: Vec<&Expr>| disjunction(parts.into_iter().cloned());
        Some(Self { of_left: any(left)?, of_right: any(right)? })
    }
}
