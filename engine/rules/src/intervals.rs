//! A whole number times an interval: `day + n * INTERVAL '1 day'`.
//!
//! DataFusion has intervals added and subtracted, and refuses to multiply them (`BinaryTypeCoercer` of datafusion-expr-common 55.2), so that calendars of `generate_series` could not be
//! written as every Postgres client writes them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Plans what DataFusion has no operator for.
pub fn mended_expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(TimesIntervals)]
}

#[derive(Debug)]
struct TimesIntervals;

impl ExprPlanner for TimesIntervals {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if raw.op != BinaryOperator::Multiply {
            return Ok(PlannerResult::Original(raw));
        }
        let raw = match (is_interval(&raw.left, schema), is_interval(&raw.right, schema)) {
            (true, false) => RawBinaryExpr { right: as_number(raw.right), ..raw },
            (false, true) => RawBinaryExpr { left: as_number(raw.left), ..raw },
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let types = (raw.left.get_type(schema), raw.right.get_type(schema));
        let (interval, number) = match types {
            (Ok(DataType::Interval(_)), Ok(number)) if number.is_integer() => (&raw.left, &raw.right),
            (Ok(number), Ok(DataType::Interval(_))) if number.is_integer() => (&raw.right, &raw.left),
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let args = vec![cast(interval.clone(), INTERVAL), cast(number.clone(), DataType::Int64)];
        Ok(PlannerResult::Planned(Arc::new(ScalarUDF::from(Times::default())).call(args)))
    }
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

/// A parameter of which no type is known is a number beside an interval.
fn as_number(expr: Expr) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            let field = Arc::new(Field::new(&id, DataType::Int64, true));
            Expr::Placeholder(Placeholder { id, field: Some(field) })
        }
        other => other,
    }
}

/// `interval * number`, of an interval of months, days and nanoseconds and a whole number of 64 bits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Times {
    signature: Signature,
}

impl Default for Times {
    fn default() -> Self {
        Self { signature: Signature::exact(vec![INTERVAL, DataType::Int64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Times {
    fn name(&self) -> &str {
        "headwater_times"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), INTERVAL, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let [intervals, numbers] = take_function_args("*", args.args)?;
        let (intervals, numbers) = (intervals.to_array(rows)?, numbers.to_array(rows)?);
        let (intervals, numbers) =
            (intervals.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Int64Type>());
        let product = |row: usize| match intervals.is_valid(row) && numbers.is_valid(row) {
            true => times(intervals.value(row), numbers.value(row)).map(Some),
            false => Ok(None),
        };
        let products = (0..rows).map(product).collect::<Result<IntervalMonthDayNanoArray>>()?;
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&products, 0)?),
            false => ColumnarValue::Array(Arc::new(products)),
        })
    }
}

fn times(interval: IntervalMonthDayNano, number: i64) -> Result<IntervalMonthDayNano> {
    let whole = |part: i32| i64::from(part).checked_mul(number).and_then(|product| i32::try_from(product).ok());
    let product = whole(interval.months).zip(whole(interval.days)).zip(interval.nanoseconds.checked_mul(number));
    match product {
        Some(((months, days), nanoseconds)) => Ok(IntervalMonthDayNano::new(months, days, nanoseconds)),
        None => {
            let IntervalMonthDayNano { months, days, nanoseconds } = interval;
            exec_err!(
                "an interval of {months} months, {days} days and {nanoseconds} ns times {number} is longer than an interval can be"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_multiplied_and_none_overflows() {
        let interval = IntervalMonthDayNano::new(1, -2, 3_000);
        assert_eq!(times(interval, -4).unwrap(), IntervalMonthDayNano::new(-4, 8, -12_000));
        assert_eq!(times(interval, 0).unwrap(), IntervalMonthDayNano::new(0, 0, 0));
        let error = times(interval, i64::from(i32::MAX) + 1).unwrap_err().to_string();
        assert!(error.contains("longer than an interval can be"), "{error}");
        assert!(times(IntervalMonthDayNano::new(0, 0, i64::MAX), 2).is_err());
    }
}
