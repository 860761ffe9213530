//! Filters whose date, time or duration lies where Arrow has values and the server has none.
//!
//! Such a value can't be sent, yet the comparison has an answer: every column value lies on one side of it. The filter is
//! rewritten to one over the ends of the server's range that is true, false and NULL for the same rows.

use headwater_source::{CompareOp, Expr, ScalarValue};

use super::calendar::{MAX_US, MIN_US, TIME_MAX_US};

/// 0000-01-01 and 9999-12-31, in days from 1970-01-01.
const DATES: (i32, i32) = (-719_528, 2_932_896);

/// The filter, with every value one that the server has.
pub(super) fn within_range(filter: Expr) -> Expr {
    match filter {
        Expr::And(parts) => Expr::And(parts.into_iter().map(within_range).collect()),
        Expr::Or(parts) => Expr::Or(parts.into_iter().map(within_range).collect()),
        Expr::Not(inner) => Expr::Not(Box::new(within_range(*inner))),
        Expr::Compare { op, left, right } => compare(op, *left, *right),
        Expr::InList { expr, values, negated } => in_list(*expr, values, negated),
        other => other,
    }
}

/// Whether the server has the value.
pub(super) fn holds(value: &ScalarValue) -> bool {
    !matches!(side(value), Some((Side::Before | Side::After, ..)))
}

enum Side {
    Within,
    Before,
    After,
}

fn compare(op: CompareOp, left: Expr, right: Expr) -> Expr {
    use CompareOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let Expr::Literal(value) = &right else { return Expr::compare(op, left, right) };
    let Some((side, first, last)) = side(value) else { return Expr::compare(op, left, right) };
    let (op, end) = match (side, op) {
        (Side::Within, _) => return Expr::compare(op, left, right),
        (_, Equal | NotEqual) => return constant(left, op == NotEqual, &first),
        (Side::Before, Less | LessOrEqual) => (Less, first),
        (Side::Before, Greater | GreaterOrEqual) => (GreaterOrEqual, first),
        (Side::After, Less | LessOrEqual) => (LessOrEqual, last),
        (Side::After, Greater | GreaterOrEqual) => (Greater, last),
    };
    Expr::compare(op, left, Expr::Literal(end))
}

fn in_list(expr: Expr, values: Vec<ScalarValue>, negated: bool) -> Expr {
    let Some((_, first, _)) = values.first().and_then(side) else {
        return Expr::InList { expr: Box::new(expr), values, negated };
    };
    let values: Vec<ScalarValue> = values.into_iter().filter(holds).collect();
    match values.is_empty() {
        true => constant(expr, negated, &first),
        false => Expr::InList { expr: Box::new(expr), values, negated },
    }
}

/// A filter that is `truth` for every value and NULL for NULL.
fn constant(expr: Expr, truth: bool, first: &ScalarValue) -> Expr {
    let op = if truth { CompareOp::GreaterOrEqual } else { CompareOp::Less };
    Expr::compare(op, expr, Expr::Literal(first.clone()))
}

/// Where a value lies, and the first and last values of its type; `None` for types that the server has whole.
fn side(value: &ScalarValue) -> Option<(Side, ScalarValue, ScalarValue)> {
    match value {
        ScalarValue::Date32(Some(days)) => {
            let end = |days| ScalarValue::Date32(Some(days));
            Some((place(*days, DATES), end(DATES.0), end(DATES.1)))
        }
        ScalarValue::TimestampMicrosecond(Some(us), zone) => {
            let end = |us| ScalarValue::TimestampMicrosecond(Some(us), zone.clone());
            Some((place(*us, (MIN_US, MAX_US)), end(MIN_US), end(MAX_US)))
        }
        ScalarValue::DurationMicrosecond(Some(us)) => {
            let end = |us| ScalarValue::DurationMicrosecond(Some(us));
            Some((place(*us, (-TIME_MAX_US, TIME_MAX_US)), end(-TIME_MAX_US), end(TIME_MAX_US)))
        }
        _ => None,
    }
}

fn place<T: PartialOrd>(value: T, (first, last): (T, T)) -> Side {
    match value {
        value if value < first => Side::Before,
        value if value > last => Side::After,
        _ => Side::Within,
    }
}
