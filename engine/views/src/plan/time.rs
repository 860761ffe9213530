//! The time of a view: what of its query depends on now(), and when that changes for a row.
//!
//! A condition with now() in it is a function of the row and of the time. It is followed where it is built from comparisons of a time of the
//! row with the time of now, moved by a fixed interval or cut to its day or unit: each then changes at most twice, at times that the row itself
//! tells ([`Crossing`]). Everything else is refused by name, since nobody could say when to look at the row again.
//!
//! While a query is planned, a parameter stands for the time, which no rule of the optimizer computes or moves where it may not be.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, LogicalPlan, Operator, binary_expr, cast};
use headwater_rules::DAY_OF;

use crate::{Error, Result};

/// The parameter that stands for the time.
const NOW: &str = "$headwater_now";

/// The column that holds it for a condition over rows.
pub(crate) const NOW_COLUMN: &str = "headwater now";

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// When a comparison changes for a row: its time at which the other side, `cut(now + before, unit) + after`, comes to equal it, passes it, or both.
#[derive(Debug, Clone)]
pub(crate) struct Crossing {
    /// The row's time.
    pub(crate) time: Expr,
    pub(crate) moved: Moved,
    pub(crate) when: When,
}

/// The time as a comparison has it: `cut(now + before, unit) + after`, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    before: i128,
    unit: i128,
    after: i128,
}

/// At which moments a comparison changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The time comes to the row's.
    Reached,
    /// The time leaves the row's behind.
    Passed,
    /// Both.
    Both,
}

/// Whether a function gives the time of the query.
pub(crate) fn is_now(name: &str) -> bool {
    matches!(name, "now" | "current_date")
}

/// Whether an expression depends on the time.
pub(crate) fn tells_time(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_placeholder(part))).unwrap_or(true)
}

/// Puts the parameter in the place of now() and what is like it.
pub(crate) fn with_parameter(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        if !mentions_function(&node)? {
            return Ok(Transformed::no(node));
        }
        let name_preserver = datafusion::logical_expr::expr_rewriter::NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let saved = name_preserver.save(&expr);
            let expr = expr.transform_up(|part| Ok(replaced(part)))?;
            Ok(expr.update_data(|expr| saved.restore(expr)))
        })?;
        node.map_data(|node| node.recompute_schema())
    })?;
    Ok(replaced.data)
}

fn mentions_function(node: &LogicalPlan) -> datafusion::error::Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(matches!(part, Expr::ScalarFunction(call) if is_now(call.func.name()))))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn replaced(part: Expr) -> Transformed<Expr> {
    let now = || {
        let field = Field::new("now", DataType::Timestamp(TimeUnit::Nanosecond, None), false);
        Expr::Placeholder(Placeholder::new_with_field(NOW.to_owned(), Some(Arc::new(field))))
    };
    match part {
        Expr::ScalarFunction(call) if call.func.name() == "now" => Transformed::yes(now()),
        Expr::ScalarFunction(call) if call.func.name() == "current_date" => {
            Transformed::yes(cast(now(), DataType::Date32))
        }
        // Children come first, so what is replaced in them is there already.
        Expr::Between(between) if [&between.expr, &between.low, &between.high].into_iter().any(|e| tells_time(e)) => {
            Transformed::yes(comparisons(between))
        }
        other => Transformed::no(other),
    }
}

fn comparisons(between: Between) -> Expr {
    let Between { expr, negated, low, high } = between;
    match negated {
        false => {
            let after = binary_expr(expr.as_ref().clone(), Operator::GtEq, *low);
            after.and(binary_expr(*expr, Operator::LtEq, *high))
        }
        true => {
            let before = binary_expr(expr.as_ref().clone(), Operator::Lt, *low);
            before.or(binary_expr(*expr, Operator::Gt, *high))
        }
    }
}

fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.id == NOW)
}

/// Whether a node itself, or any below it, depends on the time.
pub(crate) fn plan_tells_time(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= node_tells_time(node)?.is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The expression of a node that depends on the time, where one does.
pub(crate) fn node_tells_time(node: &LogicalPlan) -> datafusion::error::Result<Option<Expr>> {
    let mut found = None;
    node.apply_expressions(|expr| {
        if tells_time(expr) {
            found.get_or_insert_with(|| expr.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A condition as its query writes it.
pub(crate) fn shown(condition: &Expr) -> String {
    condition.to_string().replace(NOW, "now()")
}

/// The condition over the row's columns and the column of the time.
pub(crate) fn with_column(condition: &Expr) -> Result<Expr> {
    let column = Expr::Column(datafusion::common::Column::from_name(NOW_COLUMN));
    let replaced = condition.clone().transform_up(|part| {
        Ok(if is_placeholder(&part) { Transformed::yes(column.clone()) } else { Transformed::no(part) })
    })?;
    Ok(replaced.data)
}

/// Everything that makes a condition change with the time.
///
/// # Errors
/// [`Error::Query`] where the time stands in no comparison that can be followed.
pub(crate) fn crossings(condition: &Expr) -> Result<Vec<Crossing>> {
    let mut found = Vec::new();
    collect(condition, &mut found)?;
    Ok(found)
}

/// Why a query is refused that holds now() where it can't be followed.
pub(crate) fn refusal(expr: &Expr) -> Error {
    let shown = shown(expr);
    Error::query(format!(
        "\"{shown}\" depends on the time in a way that a view does not follow; compare a time of the row with it in WHERE or HAVING, as in \
         ts > now() - interval '1 hour', or leave it to the query that reads the view"
    ))
}

fn collect(expr: &Expr, found: &mut Vec<Crossing>) -> Result<()> {
    if !tells_time(expr) {
        return Ok(());
    }
    if is_placeholder(expr) {
        return Err(refusal(expr));
    }
    if let Some(crossing) = crossing(expr) {
        found.push(crossing);
        return Ok(());
    }
    // What is made of comparisons changes when one of them does.
    let mut failed = None;
    expr.apply_children(|child| {
        if let Err(error) = collect(child, found) {
            failed.get_or_insert(error);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // The whole comparison says more than the part of it in which the time was met.
    failed.map_or(Ok(()), |error| Err(if is_comparison(expr) { refusal(expr) } else { error }))
}

fn is_comparison(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(binary) if binary.op.supports_propagation())
}

fn crossing(expr: &Expr) -> Option<Crossing> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    let (time, now, op) = match (tells_time(left), tells_time(right)) {
        (false, true) => (left, right, *op),
        (true, false) => (right, left, op.swap()?),
        _ => return None,
    };
    let when = match op {
        // While the row's time is later; until the time has come to it.
        Operator::Gt | Operator::LtEq => When::Reached,
        Operator::GtEq | Operator::Lt => When::Passed,
        Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => When::Both,
        _ => return None,
    };
    Some(Crossing { time: time.as_ref().clone(), moved: moved(now)?, when })
}

/// The time as it is cut and moved; `None` where it is anything else.
fn moved(expr: &Expr) -> Option<Moved> {
    match expr {
        expr if is_placeholder(expr) => Some(Moved { before: 0, unit: 1, after: 0 }),
        Expr::Cast(Cast { expr, field }) => cut(moved(expr)?, field.data_type()),
        Expr::ScalarFunction(call) if call.func.name() == DAY_OF => cut(moved(call.args.first()?)?, &DataType::Date32),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => match (moved(left), moved(right)) {
            (Some(moved), _) => add(moved, nanos(right)?),
            (None, Some(moved)) => add(moved, nanos(left)?),
            (None, None) => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => add(moved(left)?, -nanos(right)?),
        _ => None,
    }
}

fn add(moved: Moved, nanos: i128) -> Option<Moved> {
    match moved.unit {
        1 => Some(Moved { before: moved.before + nanos, ..moved }),
        // A day has no hours to add to.
        NANOS_PER_DAY if nanos % NANOS_PER_DAY != 0 => None,
        _ => Some(Moved { after: moved.after + nanos, ..moved }),
    }
}

fn cut(moved: Moved, to: &DataType) -> Option<Moved> {
    let unit = match to {
        // A zone would move the time by as much as its clocks say then.
        DataType::Timestamp(unit, zone) if zone.as_deref().is_none_or(is_utc) => nanos_per(*unit),
        DataType::Date32 => NANOS_PER_DAY,
        _ => return None,
    };
    match moved {
        moved if unit <= moved.unit => Some(moved),
        moved if moved.after == 0 => Some(Moved { unit, ..moved }),
        _ => None,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Etc/UTC" | "GMT" | "Z")
}

/// Nanoseconds of a unit of time.
pub(crate) fn nanos_per(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// A literal interval of a fixed length. Months have none.
fn nanos(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            Some(i128::from(interval.days) * NANOS_PER_DAY + i128::from(interval.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Some(i128::from(interval.days) * NANOS_PER_DAY + i128::from(interval.milliseconds) * 1_000_000)
        }
        ScalarValue::DurationSecond(Some(value)) => Some(i128::from(*value) * nanos_per(TimeUnit::Second)),
        ScalarValue::DurationMillisecond(Some(value)) => Some(i128::from(*value) * nanos_per(TimeUnit::Millisecond)),
        ScalarValue::DurationMicrosecond(Some(value)) => Some(i128::from(*value) * nanos_per(TimeUnit::Microsecond)),
        ScalarValue::DurationNanosecond(Some(value)) => Some(i128::from(*value)),
        _ => None,
    }
}

impl Moved {
    /// The moments at which a comparison with a row's time, in nanoseconds, may change. There is none between them.
    pub(crate) fn moments(&self, time: i128, when: When) -> impl Iterator<Item = i128> + use<> {
        let Self { before, unit, after } = *self;
        let (whole, rest) = ((time - after).div_euclid(unit), (time - after).rem_euclid(unit));
        let start = |whole: i128| whole * unit - before;
        // A time that is no multiple of the unit is never equalled, only passed.
        let reached = (when != When::Passed && rest == 0).then(|| start(whole));
        let passed = (when != When::Reached || rest != 0).then(|| start(whole + 1));
        // What is cut toward zero steps a moment later below it.
        let early = (time - after < unit).then(|| [start(whole - 1) + 1, start(whole) + 1]);
        reached.into_iter().chain(passed).chain(early.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_changes_where_its_moments_say_and_nowhere_else() {
        for unit in [1, 10] {
            for (before, after) in [(0, 0), (-7, 0), (7, 0), (3, -20), (3, 4)] {
                let moved = Moved { before, unit, after };
                let other = |now: i128| (now + before).div_euclid(unit) * unit + after;
                for time in -30..60_i128 {
                    for (when, holds) in [
                        (When::Reached, (|time, other| time > other) as fn(i128, i128) -> bool),
                        (When::Reached, |time, other| time <= other),
                        (When::Passed, |time, other| time >= other),
                        (When::Passed, |time, other| time < other),
                        (When::Both, |time, other| time == other),
                        (When::Both, |time, other| time != other),
                    ] {
                        let moments: Vec<i128> = moved.moments(time, when).collect();
                        for now in -100..100 {
                            let changed = holds(time, other(now)) != holds(time, other(now - 1));
                            assert!(
                                !changed || moments.contains(&now),
                                "{moved:?} {when:?} {time} at {now}: {moments:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
