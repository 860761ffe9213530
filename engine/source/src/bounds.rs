//! How large a number can get, from types alone.
//!
//! The engine's integers wrap round and its decimals have at most so many digits; sources fail, saturate or go on with more digits
//! instead. So arithmetic is only pushed where no value of the columns' types can leave the result's range.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;

use crate::{Call, ColumnDef, Expr, Function};

/// The most rows that one sum is taken over: more than any table that a service's one database holds. A sum of more may leave its
/// type's range, which sources answer with an error.
pub(crate) const ROWS_MAX: f64 = 4e9;

/// Makes up for the rounding of this module's own arithmetic.
const SLACK: f64 = 1.0 + 1e-9;

/// A bound of the absolute value, in whole units; `None` where there is none or the expression is no number.
pub(crate) fn magnitude(expr: &Expr, columns: &[ColumnDef]) -> Option<f64> {
    match expr {
        Expr::Column(index) => type_magnitude(&columns.get(*index)?.data_type),
        Expr::Literal(value) => literal_magnitude(value),
        Expr::Call(call) => call_magnitude(call, columns).map(|value| value * SLACK),
        _ => None,
    }
}

/// Whether every number up to this one is a value of the type.
pub(crate) fn fits(magnitude: f64, data_type: &DataType) -> bool {
    type_magnitude(data_type).is_some_and(|most| magnitude * SLACK < most)
}

fn type_magnitude(data_type: &DataType) -> Option<f64> {
    Some(match data_type {
        DataType::Int8 => 128.0,
        DataType::Int16 => 32_768.0,
        DataType::Int32 => 2_147_483_648.0,
        DataType::Int64 => 9_223_372_036_854_775_808.0,
        DataType::UInt8 => 256.0,
        DataType::UInt16 => 65_536.0,
        DataType::UInt32 => 4_294_967_296.0,
        DataType::UInt64 => 18_446_744_073_709_551_616.0,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            10_f64.powi(i32::from(*precision) - i32::from(*scale))
        }
        _ => return None,
    })
}

fn literal_magnitude(value: &ScalarValue) -> Option<f64> {
    if value.is_null() {
        return Some(0.0);
    }
    type_magnitude(&value.data_type())?;
    match value.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(Some(number)) => Some(number.abs() * SLACK),
        _ => None,
    }
}

fn call_magnitude(call: &Call, columns: &[ColumnDef]) -> Option<f64> {
    let of = |index: usize| magnitude(call.args.get(index)?, columns);
    match call.function {
        Function::Add | Function::Subtract => Some(of(0)? + of(1)?),
        Function::Multiply => Some(of(0)? * of(1)?),
        Function::Divide
        | Function::Remainder
        | Function::Negate
        | Function::Widen
        | Function::NullIf
        | Function::Absolute => of(0),
        Function::Coalesce | Function::Greatest | Function::Least => largest((0..call.args.len()).map(of)),
        Function::Case => {
            let values = (1..call.args.len()).step_by(2).chain([call.args.len() - 1]);
            largest(values.map(of))
        }
        Function::CharLength | Function::Position => Some(2_147_483_648.0),
        Function::Year
        | Function::Month
        | Function::Day
        | Function::Quarter
        | Function::Week
        | Function::DayOfWeek
        | Function::DayOfYear
        | Function::Hour
        | Function::Minute
        | Function::Second => Some(1e7),
        Function::Substring
        | Function::Concat
        | Function::Truncate(_)
        | Function::DateOf
        | Function::Trim
        | Function::TrimStart
        | Function::TrimEnd
        | Function::Replace
        | Function::Right
        | Function::Digits
        | Function::Lower
        | Function::Upper
        | Function::BeyondAscii => None,
    }
}

fn largest(mut values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.try_fold(0.0, |most: f64, value| Some(most.max(value?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValueClass;

    fn price() -> Vec<ColumnDef> {
        let decimal = DataType::Decimal128(15, 2);
        vec![ColumnDef::new("price", decimal, "decimal(15,2)", ValueClass::Decimal)]
    }

    #[test]
    fn digits_of_the_values_count_and_not_those_of_the_types() {
        // 1 - price is of type decimal(23,2), and price * (1 - price) would be of 39 digits by its types.
        let one = Expr::Literal(ScalarValue::Decimal128(Some(1), 20, 0));
        let rest = Expr::call(Function::Subtract, vec![one, Expr::Column(0)], DataType::Decimal128(23, 2));
        let product = DataType::Decimal128(38, 4);
        let revenue = Expr::call(Function::Multiply, vec![Expr::Column(0), rest], product.clone());
        let most = magnitude(&revenue, &price()).unwrap();
        assert!(fits(most, &product) && !fits(most * ROWS_MAX, &product), "{most}");
    }

    #[test]
    fn sum_of_two_large_integers_does_not_fit() {
        let columns = vec![ColumnDef::new("id", DataType::Int64, "bigint", ValueClass::Integer)];
        let sum = |value: i64| {
            let args = vec![Expr::Column(0), Expr::Literal(ScalarValue::from(value))];
            magnitude(&Expr::call(Function::Add, args, DataType::Int64), &columns).unwrap()
        };
        assert!(!fits(sum(1), &DataType::Int64));
    }
}
