//! Compares dates and timestamps as they are, and not as nanoseconds.
//!
//! A date beside a timestamp, and a timestamp beside a text, are cast to nanoseconds (type coercion of datafusion-expr-common 55.2), which end in the year 2262: `valid_to > now()` failed where
//! `valid_to` is 9999-12-31, and so did each comparison with `TIMESTAMP '9999-12-31 00:00:00'`, whatever the column's unit. Where DataFusion then casts the constant to the column's unit
//! (`unwrap_cast` of datafusion-optimizer 55.2), it cuts it: `s < TIMESTAMP '2024-01-01 00:00:01.5'` was `s < '2024-01-01 00:00:01'` of a column in seconds.
//!
//! So a date or a timestamp that is compared with a constant is compared in its own unit, with the last value that is not after the constant. Two that are cast are
//! cast to the finer of their units.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::narrowing::is_utc;
use crate::zeros::{holds, input_schema, under_their_names};

/// The optimizer rule. It runs before constants are computed, which fails for some, and when those are that did not.
#[derive(Debug, Default)]
pub struct OwnInstants;

impl OptimizerRule for OwnInstants {
    fn name(&self) -> &str {
        "headwater_own_instants"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !holds(&plan, is_cast)? {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        under_their_names(plan, |expr| {
            expr.transform_up(|part| {
                Ok(match compared(&part, &schema) {
                    Some(compared) => Transformed::yes(compared),
                    None => Transformed::no(part),
                })
            })
        })
    }
}

fn is_cast(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)))
}

/// The comparison in another form, where it is one to be written so.
fn compared(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let with_constant = |instant: &Expr, op: Operator, constant: &Expr| {
                Instant::of(instant, constant, schema)?.compared(op, nanoseconds(constant)?)
            };
            with_constant(left, *op, right)
                .or_else(|| with_constant(right, op.swap()?, left))
                .or_else(|| in_finer_unit(left, *op, right, schema))
        }
        Expr::Between(Between { expr, negated, low, high }) if !expr.is_volatile() => {
            let (below, above) = match negated {
                true => (Operator::Lt, Operator::Gt),
                false => (Operator::GtEq, Operator::LtEq),
            };
            let part = |op: Operator, bound: &Expr| Instant::of(expr, bound, schema)?.compared(op, nanoseconds(bound)?);
            let (from, to) = (part(below, low), part(above, high));
            if from.is_none() && to.is_none() {
                return None;
            }
            let plain = |op: Operator, bound: &Expr| {
                Expr::BinaryExpr(BinaryExpr { left: expr.clone(), op, right: Box::new(bound.clone()) })
            };
            let from = from.unwrap_or_else(|| plain(below, low));
            let to = to.unwrap_or_else(|| plain(above, high));
            Some(if *negated { from.or(to) } else { from.and(to) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let instant =
                Instant::of(expr, list.iter().find(|constant| is_beyond(constant)).or(list.first())?, schema)?;
            let listed = list.iter().map(nanoseconds).collect::<Option<Vec<i128>>>()?;
            let exact = |nanoseconds: i128| (nanoseconds.rem_euclid(instant.unit) == 0).then_some(nanoseconds);
            let own = listed.into_iter().filter_map(exact).filter_map(|value| instant.literal(value / instant.unit));
            let own: Vec<Expr> = own.collect();
            Some(match own.is_empty() {
                true => instant.always(*negated),
                false => instant.expr.in_list(own, *negated),
            })
        }
        _ => None,
    }
}

/// What is compared, without the cast to a unit that it does not have.
struct Instant {
    expr: Expr,
    data_type: DataType,
    /// How many nanoseconds are one of its own unit.
    unit: i128,
}

impl Instant {
    /// What is compared with the constant, where that must be done in another form than the one that is written.
    fn of(expr: &Expr, constant: &Expr, schema: &DFSchema) -> Option<Self> {
        let (inner, data_type) = match uncast(expr, schema) {
            Some(uncast) => uncast,
            // The constant is none of its type.
            None if is_beyond(constant) => (expr.clone(), expr.get_type(schema).ok()?),
            None => return None,
        };
        if inner.as_literal().is_some() || nanoseconds(&inner).is_some() {
            return None;
        }
        let unit = unit(&data_type)?;
        Some(Self { expr: inner, data_type, unit })
    }

    fn compared(self, op: Operator, constant: i128) -> Option<Expr> {
        let floor = constant.div_euclid(self.unit);
        let is_exact = constant.rem_euclid(self.unit) == 0;
        let (op, answer) = match op {
            Operator::Eq | Operator::NotEq if !is_exact => return Some(self.always(op == Operator::NotEq)),
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom if is_exact && self.literal(floor).is_some() => {
                (op, false)
            }
            Operator::IsDistinctFrom => return Some(lit(true)),
            Operator::IsNotDistinctFrom => return Some(lit(false)),
            Operator::Lt | Operator::LtEq if !is_exact => (Operator::LtEq, floor >= 0),
            Operator::Gt | Operator::GtEq if !is_exact => (Operator::Gt, floor < 0),
            Operator::Lt | Operator::LtEq => (op, floor >= 0),
            Operator::Gt | Operator::GtEq => (op, floor < 0),
            Operator::Eq => (op, false),
            Operator::NotEq => (op, true),
            _ => return None,
        };
        // Before or after all values that there are, where it is none of the type's own.
        Some(match self.literal(floor) {
            Some(literal) => Expr::BinaryExpr(BinaryExpr { left: Box::new(self.expr), op, right: Box::new(literal) }),
            None => self.always(answer),
        })
    }

    /// The value of the type that is so many of its units.
    fn literal(&self, units: i128) -> Option<Expr> {
        let value = match &self.data_type {
            DataType::Date32 => ScalarValue::Date32(Some(i32::try_from(units).ok()?)),
            DataType::Timestamp(unit, zone) => {
                let (units, zone) = (Some(i64::try_from(units).ok()?), zone.clone());
                match unit {
                    TimeUnit::Second => ScalarValue::TimestampSecond(units, zone),
                    TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(units, zone),
                    TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(units, zone),
                    TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(units, zone),
                }
            }
            _ => return None,
        };
        Some(Expr::Literal(value, None))
    }

    /// The answer for all that is not NULL, and NULL for what is.
    fn always(self, answer: bool) -> Expr {
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        match answer {
            true => self.expr.is_not_null().or(null),
            false => self.expr.is_null().and(null),
        }
    }
}

fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}

fn unit(data_type: &DataType) -> Option<i128> {
    Some(match data_type {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        _ => return None,
    })
}

/// What is cast to timestamps of a finer unit as the same instants, and its type.
fn uncast(expr: &Expr, schema: &DFSchema) -> Option<(Expr, DataType)> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let from = expr.get_type(schema).ok()?;
    let DataType::Timestamp(_, zone) = field.data_type() else { return None };
    let is_same_instant = match &from {
        DataType::Timestamp(_, Some(_)) => true,
        _ => zone.as_ref().is_none_or(|zone| is_utc(zone)),
    };
    let is_finer = unit(&from)? > unit(field.data_type())?;
    (is_same_instant && is_finer).then(|| (expr.as_ref().clone(), from))
}

/// The instant that a constant is, in nanoseconds, be it beyond those that a timestamp counts.
fn nanoseconds(constant: &Expr) -> Option<i128> {
    match constant {
        Expr::Literal(value, _) => counted(value),
        Expr::Cast(Cast { expr, field }) => {
            let to = field.data_type();
            let DataType::Timestamp(unit, zone) = to else { return None };
            match expr.as_ref() {
                Expr::Literal(text, _) if text.data_type().is_string() => match text.cast_to(to) {
                    Ok(value) => counted(&value),
                    Err(_) if *unit == TimeUnit::Nanosecond => {
                        let is_exact = text.try_as_str().flatten().is_some_and(has_microseconds);
                        let to = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                        text.cast_to(&to).ok().filter(|_| is_exact).and_then(|value| counted(&value))
                    }
                    Err(_) => None,
                },
                // Of a text that is cast twice, and of a date.
                inner if *unit == TimeUnit::Nanosecond && is_same_instant(inner, zone.as_deref()) => nanoseconds(inner),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a constant is the same instant in that time zone.
fn is_same_instant(constant: &Expr, zone: Option<&str>) -> bool {
    let from = match constant {
        Expr::Literal(value, _) => value.data_type(),
        Expr::Cast(cast) => cast.field.data_type().clone(),
        _ => return false,
    };
    matches!(from, DataType::Timestamp(_, Some(_))) || (is_instant(&from) && zone.is_none_or(is_utc))
}

fn counted(value: &ScalarValue) -> Option<i128> {
    let units = match value {
        ScalarValue::Date32(Some(days)) => i128::from(*days),
        ScalarValue::TimestampSecond(Some(units), _)
        | ScalarValue::TimestampMillisecond(Some(units), _)
        | ScalarValue::TimestampMicrosecond(Some(units), _)
        | ScalarValue::TimestampNanosecond(Some(units), _) => i128::from(*units),
        _ => return None,
    };
    Some(units * unit(&value.data_type())?)
}

/// Whether the text says no fraction of a microsecond.
fn has_microseconds(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.chars().take_while(char::is_ascii_digit).count() <= 6
}

/// Whether a constant is an instant that nanoseconds do not reach.
fn is_beyond(constant: &Expr) -> bool {
    matches!(constant, Expr::Cast(_)) && nanoseconds(constant).is_some_and(|value| i64::try_from(value).is_err())
}

/// Two that are cast to a unit that neither has, in the finer of theirs.
fn in_finer_unit(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    if !op.supports_propagation() {
        return None;
    }
    let (Expr::Cast(from), Expr::Cast(to)) = (left, right) else { return None };
    let (DataType::Timestamp(_, zone), true) = (from.field.data_type(), from.field.data_type() == to.field.data_type())
    else {
        return None;
    };
    let (left, left_type) = uncast(left, schema)?;
    let (right, right_type) = uncast(right, schema)?;
    if left.as_literal().is_some() || right.as_literal().is_some() {
        return None;
    }
    // A day is no unit of timestamps.
    let finer = unit(&left_type)?.min(unit(&right_type)?).min(1_000_000_000);
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond];
    let finer = units.into_iter().find(|own| unit(&DataType::Timestamp(*own, None)) == Some(finer))?;
    let to = DataType::Timestamp(finer, zone.as_ref().map(Arc::clone));
    let recast = |expr: Expr, from: DataType| match from == to {
        true => expr,
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    };
    let (left, right) = (recast(left, left_type), recast(right, right_type));
    Some(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{cast, col};

    use super::*;

    fn schema() -> DFSchema {
        let stamp = |unit| DataType::Timestamp(unit, None);
        let fields = [
            ("day", DataType::Date32),
            ("s", stamp(TimeUnit::Second)),
            ("us", stamp(TimeUnit::Microsecond)),
            ("ns", stamp(TimeUnit::Nanosecond)),
        ];
        let fields: Vec<Field> = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        DFSchema::try_from(Arc::new(Schema::new(fields))).unwrap()
    }

    fn fine(expr: Expr) -> Expr {
        cast(expr, DataType::Timestamp(TimeUnit::Nanosecond, None))
    }

    #[test]
    fn instant_is_compared_in_its_own_unit() {
        let day = |days| Expr::Literal(ScalarValue::Date32(Some(days)), None);
        let second = |seconds| Expr::Literal(ScalarValue::TimestampSecond(Some(seconds), None), None);
        let micro = |micros| Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), None);
        let null = || Expr::Literal(ScalarValue::Boolean(None), None);
        for (written, own) in [
            (fine(col("day")).gt(fine(lit("1970-01-03 00:00:00"))), col("day").gt(day(2))),
            (fine(col("day")).gt_eq(fine(lit("1970-01-03 00:00:01"))), col("day").gt(day(2))),
            (fine(col("day")).lt(fine(lit("1970-01-03 00:00:01"))), col("day").lt_eq(day(2))),
            (fine(col("day")).lt(fine(lit("1969-12-31 12:00:00"))), col("day").lt_eq(day(-1))),
            (fine(lit("1970-01-03 00:00:00")).lt(fine(col("day"))), col("day").gt(day(2))),
            (fine(col("day")).eq(fine(lit("1970-01-03 00:00:01"))), col("day").is_null().and(null())),
            (fine(col("day")).not_eq(fine(lit("1970-01-03 00:00:01"))), col("day").is_not_null().or(null())),
            (fine(col("s")).lt(fine(lit("1970-01-01 00:00:01.5"))), col("s").lt_eq(second(1))),
            (fine(col("us")).lt(fine(lit("9999-12-31 00:00:00"))), col("us").lt(micro(253_402_214_400_000_000))),
            (col("ns").lt(fine(lit("9999-12-31 00:00:00"))), col("ns").is_not_null().or(null())),
            (col("ns").gt_eq(fine(lit("9999-12-31 00:00:00"))), col("ns").is_null().and(null())),
            (
                fine(col("s"))
                    .in_list(vec![fine(lit("1970-01-01 00:00:01.5")), fine(lit("1970-01-01 00:00:02"))], true),
                col("s").in_list(vec![second(2)], true),
            ),
            (
                fine(col("day")).eq(fine(col("us"))),
                cast(col("day"), DataType::Timestamp(TimeUnit::Microsecond, None)).eq(col("us")),
            ),
        ] {
            assert_eq!(compared(&written, &schema()), Some(own), "{written}");
        }
        for left in [
            col("ns").lt(fine(lit("2024-01-01 00:00:00"))),
            fine(col("us")).lt(fine(lit("never"))),
            fine(col("us")).lt(fine(lit("9999-12-31 00:00:00.0000001"))),
            fine(col("us")).lt(col("ns")),
        ] {
            assert_eq!(compared(&left, &schema()), None, "{left}");
        }
    }
}
