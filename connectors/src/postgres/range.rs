//! Filters whose date, time or timestamp lies where Arrow has values and Postgres has none.
//!
//! Such a value can't be sent, yet the comparison has an answer: every column value lies on one side of it. The filter is
//! rewritten to one over the ends of Postgres's range that is true, false and NULL for the same rows.

use headwater_source::{CompareOp, Expr, ScalarValue};

/// Days from 1970-01-01 to 4714-11-24 BC, the first date that Postgres has, and to 5874897-12-31, the last.
const DATES: (i32, i32) = (-2_440_588, 2_145_042_905);
/// The first timestamp that Postgres has, in microseconds from 1970-01-01; the last is behind 64 bits.
const TIMESTAMPS: (i64, i64) = (-210_866_803_200_000_000, i64::MAX - 1);
/// Midnight and the midnight that ends the day, in microseconds.
const TIMES: (i64, i64) = (0, 86_400_000_000);

/// The filter, with every value one that Postgres has.
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
    let within = |value: &ScalarValue| !matches!(side(value), Some((Side::Before | Side::After, ..)));
    let values: Vec<ScalarValue> = values.into_iter().filter(within).collect();
    match values.is_empty() {
        true => constant(expr, negated, &first),
        false => Expr::InList { expr: Box::new(expr), values, negated },
    }
}

/// A filter that is `truth` for every value and NULL for NULL.
fn constant(expr: Expr, truth: bool, first: &ScalarValue) -> Expr {
    let least = match first {
        ScalarValue::Date32(_) => ScalarValue::Date32(Some(i32::MIN)),
        ScalarValue::TimestampMicrosecond(_, zone) => ScalarValue::TimestampMicrosecond(Some(i64::MIN), zone.clone()),
        other => other.clone(),
    };
    let op = if truth { CompareOp::GreaterOrEqual } else { CompareOp::Less };
    Expr::compare(op, expr, Expr::Literal(least))
}

/// Where a value lies, and the first and last finite values of its type; `None` for types that Postgres has whole.
fn side(value: &ScalarValue) -> Option<(Side, ScalarValue, ScalarValue)> {
    match value {
        ScalarValue::Date32(Some(days)) => {
            let end = |days| ScalarValue::Date32(Some(days));
            let infinite = matches!(*days, i32::MIN | i32::MAX);
            Some((place(days, DATES, infinite), end(DATES.0), end(DATES.1)))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            let end = |micros| ScalarValue::TimestampMicrosecond(Some(micros), zone.clone());
            let infinite = matches!(*micros, i64::MIN | i64::MAX);
            Some((place(micros, TIMESTAMPS, infinite), end(TIMESTAMPS.0), end(TIMESTAMPS.1)))
        }
        ScalarValue::Time64Microsecond(Some(micros)) => {
            let end = |micros| ScalarValue::Time64Microsecond(Some(micros));
            Some((place(micros, TIMES, false), end(TIMES.0), end(TIMES.1)))
        }
        _ => None,
    }
}

fn place<T: PartialOrd>(value: &T, (first, last): (T, T), infinite: bool) -> Side {
    match infinite {
        true => Side::Within,
        false if *value < first => Side::Before,
        false if *value > last => Side::After,
        false => Side::Within,
    }
}
