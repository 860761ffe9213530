//! The share of rows that a condition keeps, guessed from what is known of the columns.
//!
//! Comparisons with constants are laid over the column's range as if its values were evenly spread; several of them on one column
//! are taken together. What can't be judged has a fixed share: Selinger et al., SIGMOD 1979, with a smaller one for LIKE.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

use super::estimate::{Estimate, Values};

/// The share that an inequality keeps of which nothing is known.
const INEQUALITY: f64 = 1.0 / 3.0;

/// The share that LIKE keeps.
const LIKE: f64 = 0.1;

/// The share that any other condition keeps.
const OTHER: f64 = 0.25;

/// The share that a list keeps at most, of a column of which nothing is known.
const GUESSED_LIST: f64 = 0.5;

/// The least share that is believed: a guess of none would make everything else cheap.
const LEAST: f64 = 1e-9;

/// The share of rows for which all conditions are true.
pub(super) fn selectivity(conditions: &[Expr], input: &Estimate) -> f64 {
    let mut share = 1.0;
    let mut bounds: BTreeMap<&Column, Bounds> = BTreeMap::new();
    for condition in conditions.iter().flat_map(split_conjunction) {
        match bound(condition, input) {
            Some((column, op, value)) => bounds.entry(column).or_default().narrow(op, value),
            None => share *= of(condition, input),
        }
    }
    for (column, bounds) in bounds {
        share *= input.values(column).and_then(|values| bounds.share(values)).unwrap_or(bounds.unknown());
    }
    share.clamp(LEAST, 1.0)
}

/// A value as a number, where its type has an order that numbers have: whole units, days, microseconds.
pub(crate) fn number(value: &ScalarValue) -> Option<f64> {
    if value.is_null() {
        return None;
    }
    let ordered = value.data_type().is_numeric()
        || matches!(value.data_type(), DataType::Date32 | DataType::Timestamp(..) | DataType::Boolean);
    if !ordered {
        return None;
    }
    let whole = match value.data_type() {
        DataType::Date32 => value.cast_to(&DataType::Int32).ok()?.cast_to(&DataType::Float64),
        DataType::Timestamp(..) => value.cast_to(&DataType::Int64).ok()?.cast_to(&DataType::Float64),
        _ => value.cast_to(&DataType::Float64),
    };
    match whole.ok()? {
        ScalarValue::Float64(Some(number)) if number.is_finite() => Some(number),
        _ => None,
    }
}

/// The constants that a column is compared with.
#[derive(Debug, Default)]
struct Bounds {
    low: Option<f64>,
    high: Option<f64>,
}

impl Bounds {
    fn narrow(&mut self, op: Operator, value: f64) {
        match op {
            Operator::Gt | Operator::GtEq => self.low = Some(self.low.map_or(value, |low| low.max(value))),
            _ => self.high = Some(self.high.map_or(value, |high| high.min(value))),
        }
    }

    fn share(&self, values: &Values) -> Option<f64> {
        let (min, max) = values.range?;
        let low = self.low.unwrap_or(min).max(min);
        let high = self.high.unwrap_or(max).min(max);
        if high < low {
            // Rows beyond what the statistics have seen: as many as one value has.
            return Some(1.0 / values.distinct.max(1.0));
        }
        let width = (max - min).max(f64::MIN_POSITIVE);
        let share = ((high - low) / width).clamp(1.0 / values.distinct.max(1.0), 1.0);
        Some(share * (1.0 - values.null_fraction))
    }

    fn unknown(&self) -> f64 {
        match (self.low, self.high) {
            (Some(_), Some(_)) => INEQUALITY * INEQUALITY,
            _ => INEQUALITY,
        }
    }
}

/// `column < constant` and its like.
fn bound<'a>(condition: &'a Expr, input: &Estimate) -> Option<(&'a Column, Operator, f64)> {
    let Expr::BinaryExpr(binary) = condition else { return None };
    let (column, op, value) = match (&*binary.left, &*binary.right) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, binary.op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, binary.op.swap()?, value),
        _ => return None,
    };
    let is_bound = matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    let value = number(value).filter(|_| is_bound && input.values(column).is_some())?;
    Some((column, op, value))
}

fn of(condition: &Expr, input: &Estimate) -> f64 {
    match condition {
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        Expr::Literal(..) => LEAST,
        Expr::Not(inner) => 1.0 - of(inner, input),
        Expr::BinaryExpr(binary) => of_binary(binary, input),
        Expr::InList(list) => of_list(list, input),
        Expr::Between(between) => of_between(between, input),
        Expr::Like(like) => negated(like.negated, LIKE),
        Expr::IsNull(inner) => nulls(inner, input),
        Expr::IsNotNull(inner) => 1.0 - nulls(inner, input),
        Expr::IsTrue(inner) => of_any(inner, input),
        Expr::IsNotTrue(inner) => 1.0 - of_any(inner, input),
        Expr::Alias(alias) => of(&alias.expr, input),
        _ => OTHER,
    }
}

fn of_binary(binary: &BinaryExpr, input: &Estimate) -> f64 {
    let (left, right) = (&*binary.left, &*binary.right);
    match binary.op {
        Operator::And => selectivity(&[left.clone(), right.clone()], input),
        Operator::Or => {
            let (a, b) = (of_any(left, input), of_any(right, input));
            a + b - a * b
        }
        Operator::Eq => equality(left, right, input),
        Operator::NotEq => 1.0 - equality(left, right, input),
        Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => INEQUALITY,
        Operator::LikeMatch | Operator::ILikeMatch => LIKE,
        _ => OTHER,
    }
}

fn of_any(condition: &Expr, input: &Estimate) -> f64 {
    selectivity(std::slice::from_ref(condition), input)
}

fn equality(left: &Expr, right: &Expr, input: &Estimate) -> f64 {
    let values = |expr: &Expr| match expr {
        Expr::Column(column) => input.values(column),
        _ => None,
    };
    match (values(left), values(right)) {
        (Some(a), Some(b)) => 1.0 / a.distinct.max(b.distinct).max(1.0),
        (Some(one), None) | (None, Some(one)) => one.share_of_one(),
        (None, None) => LIKE,
    }
}

fn of_list(list: &InList, input: &Estimate) -> f64 {
    let one = equality(&list.expr, &Expr::Literal(ScalarValue::Null, None), input);
    let is_guessed =
        matches!(&*list.expr, Expr::Column(column) if input.values(column).is_some_and(Values::is_guessed));
    // However long it is, a guess says neither that it holds all values nor that it holds next to none.
    let most = if is_guessed { GUESSED_LIST } else { 1.0 };
    negated(list.negated, (one * list.list.len() as f64).min(most))
}

fn of_between(between: &Between, input: &Estimate) -> f64 {
    let compare = |op, value: &Expr| {
        let (left, right) = (between.expr.clone(), Box::new(value.clone()));
        Expr::BinaryExpr(BinaryExpr { left, op, right })
    };
    let both = [compare(Operator::GtEq, &between.low), compare(Operator::LtEq, &between.high)];
    negated(between.negated, selectivity(&both, input))
}

fn nulls(inner: &Expr, input: &Estimate) -> f64 {
    match inner {
        Expr::Column(column) => input.values(column).map_or(LIKE, |values| values.null_fraction).max(LEAST),
        _ => LIKE,
    }
}

fn negated(negated: bool, share: f64) -> f64 {
    if negated { 1.0 - share } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_of_one_column_are_taken_together() {
        let values = Values::unknown(1000.0).within(0.0, 100.0);
        let mut bounds = Bounds::default();
        bounds.narrow(Operator::GtEq, 40.0);
        bounds.narrow(Operator::Lt, 60.0);
        bounds.narrow(Operator::Lt, 90.0);
        assert_eq!(bounds.share(&values), Some(0.2));
        let mut beyond = Bounds::default();
        beyond.narrow(Operator::Gt, 1_000.0);
        assert_eq!(beyond.share(&values), Some(0.01));
    }

    #[test]
    fn list_over_an_unknown_column_keeps_some_and_leaves_some() {
        let (state, rows) = (Column::from_name("state"), 1e6);
        let input = Estimate::of(rows, vec![(state.clone(), Values::unknown(rows))]);
        let list = |count: i64, negated| {
            let constants = (0..count).map(|value| Expr::Literal(ScalarValue::from(value), None)).collect();
            Expr::InList(InList::new(Box::new(Expr::Column(state.clone())), constants, negated))
        };
        assert_eq!(selectivity(&[list(2, false)], &input), 0.01);
        assert_eq!(selectivity(&[list(5_000, false)], &input), 0.5);
        assert_eq!(selectivity(&[list(5_000, true)], &input), 0.5);
    }

    #[test]
    fn values_of_ordered_types_are_numbers() {
        assert_eq!(number(&ScalarValue::Date32(Some(10))), Some(10.0));
        assert_eq!(number(&ScalarValue::Decimal128(Some(1234), 10, 2)), Some(12.34));
        assert_eq!(number(&ScalarValue::from("x")), None);
    }
}
