//! Calendar functions over the whole range of dates and timestamps, and their conditions as ranges.
//!
//! DataFusion's `date_trunc` (datafusion-functions 55.2) casts dates to nanoseconds and computes months in them, so it fails before 1677 and after 2262, and for the infinities of
//! a service. The one here computes in the column's own unit, and takes a date as it is: the result is a timestamp in microseconds. The cast of a timestamp to a date
//! ([`WholeDays`]) is a function too: arrow's (arrow-cast 59.3) fails past the year 262142, and so for infinities, which stay infinities here.
//!
//! Both say what a condition on them means for what they are computed of ([`ScalarUDFImpl::preimage`]): `date_trunc('month', ts) = '2024-05-01'` and
//! `CAST(ts AS DATE) BETWEEN ...` become ranges of `ts`, which services filter by and find by their indexes.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::execution::SessionStateDefaults;
use datafusion::functions::datetime;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    Cast, Coercion, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TryCast, TypeSignature, TypeSignatureClass, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::narrowing::is_utc;
use crate::zeros::{holds, input_schema, under_their_names};

/// DataFusion's functions, with those of this module in the place of its own of the same names.
pub fn mended_scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.push(Arc::new(ScalarUDF::from(DateTrunc::default())));
    functions
}

/// The name of the function that [`WholeDays`] writes.
pub const DAY_OF: &str = "headwater_day_of";

/// The optimizer rule that makes a function of casts of timestamps to dates. It runs before expressions are simplified.
#[derive(Debug, Default)]
pub struct WholeDays;

impl OptimizerRule for WholeDays {
    fn name(&self) -> &str {
        "headwater_whole_days"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !holds(&plan, |part| cast_to_date(part).is_some())? {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        under_their_names(plan, |expr| expr.transform_up(|part| Ok(day_of(part, &schema))))
    }
}

/// What is cast to a date. The function never fails, so that TRY_CAST is the same.
fn cast_to_date(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
            if *field.data_type() == DataType::Date32 =>
        {
            Some(expr)
        }
        _ => None,
    }
}

fn day_of(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match cast_to_date(&expr) {
        Some(inner) if inner.get_type(schema).is_ok_and(|from| is_own(&from)) => {
            Transformed::yes(Arc::new(ScalarUDF::from(DayOf::default())).call(vec![inner.clone()]))
        }
        _ => Transformed::no(expr),
    }
}

/// Whether it is a timestamp in the unit of services' columns, of UTC or of no zone.
fn is_own(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.as_deref().is_none_or(is_utc),
        _ => false,
    }
}

/// The cast of a timestamp to the date of its day.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DayOf {
    signature: Signature,
}

impl Default for DayOf {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

fn written_as_cast(args: &[Expr]) -> String {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    format!("CAST({} AS Date32)", args.join(", "))
}

impl ScalarUDFImpl for DayOf {
    fn name(&self) -> &str {
        DAY_OF
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(written_as_cast(args))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(written_as_cast(args))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Date32, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args("CAST", args.args)?;
        let is_scalar = matches!(value, ColumnarValue::Scalar(_));
        let array = value.to_array(if is_scalar { 1 } else { args.number_rows })?;
        let days: PrimitiveArray<Date32Type> = array.as_primitive::<TimestampMicrosecondType>().unary(day);
        as_given(Arc::new(days), is_scalar)
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        Ok(input.first().map_or(SortProperties::Unordered, |value| value.sort_properties))
    }

    fn evaluate_bounds(&self, _: &[&Interval]) -> Result<Interval> {
        Interval::make_unbounded(&DataType::Date32)
    }

    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let ([value], Expr::Literal(ScalarValue::Date32(Some(date)), _)) = (args, constant) else {
            return Ok(PreimageResult::None);
        };
        if value.is_volatile() {
            return Ok(PreimageResult::None);
        }
        let data_type = info.get_data_type(value)?;
        let from = i64::from(*date).checked_mul(MICROS_OF_DAY);
        let to = from.and_then(|from| from.checked_add(MICROS_OF_DAY));
        range(value, from.zip(to), &data_type)
    }
}

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// The day of a timestamp.
fn day(micros: i64) -> i32 {
    match micros {
        i64::MAX => i32::MAX,
        i64::MIN => i32::MIN,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a count of microseconds in 64 bits is less than 2^31 days"
        )]
        micros => micros.div_euclid(MICROS_OF_DAY) as i32,
    }
}

/// The condition that a timestamp is at least the one and before the other.
fn range(value: &Expr, bounds: Option<(i64, i64)>, data_type: &DataType) -> Result<PreimageResult> {
    let (Some((from, to)), DataType::Timestamp(TimeUnit::Microsecond, zone)) = (bounds, data_type) else {
        return Ok(PreimageResult::None);
    };
    let bound = |micros| ScalarValue::TimestampMicrosecond(Some(micros), zone.clone());
    let interval = Box::new(Interval::try_new(bound(from), bound(to))?);
    Ok(PreimageResult::Range { expr: value.clone(), interval })
}

fn as_given(array: datafusion::arrow::array::ArrayRef, is_scalar: bool) -> Result<ColumnarValue> {
    match is_scalar {
        true => ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar),
        false => Ok(ColumnarValue::Array(array)),
    }
}

/// `date_trunc(unit, value)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for DateTrunc {
    fn default() -> Self {
        let unit = || Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
        let of = |value: Coercion| TypeSignature::Coercible(vec![unit(), value]);
        let text = vec![TypeSignatureClass::Native(logical_string())];
        let nanoseconds = NativeType::Timestamp(TimeUnit::Nanosecond, None);
        let signature = Signature::one_of(
            vec![
                of(Coercion::new_exact(TypeSignatureClass::Native(logical_date()))),
                of(Coercion::new_implicit(TypeSignatureClass::Timestamp, text, nanoseconds)),
                of(Coercion::new_exact(TypeSignatureClass::Time)),
            ],
            Volatility::Immutable,
        );
        Self { signature, aliases: vec!["datetrunc".to_owned()] }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match types.get(1) {
            Some(DataType::Date32 | DataType::Date64) => DataType::Timestamp(TimeUnit::Microsecond, None),
            None | Some(DataType::Null) => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Some(other) => other.clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [name, value] = take_function_args(self.name(), &args.args)?;
        let unit = Unit::of_argument(name)?;
        let is_date = matches!(value.data_type(), DataType::Date32);
        match (unit, value.data_type()) {
            (Some(unit), data_type) if is_date || is_own(&data_type) => {
                let is_scalar = matches!(value, ColumnarValue::Scalar(_));
                let array = value.to_array(if is_scalar { 1 } else { args.number_rows })?;
                let truncated: PrimitiveArray<TimestampMicrosecondType> = match data_type {
                    DataType::Date32 => {
                        array.as_primitive::<Date32Type>().try_unary(|date| unit.truncate(midnight(date)?))?
                    }
                    DataType::Timestamp(_, zone) => array
                        .as_primitive::<TimestampMicrosecondType>()
                        .try_unary(|micros| unit.truncate(micros))?
                        .with_timezone_opt(zone),
                    other => return exec_err!("date_trunc of {other}"),
                };
                as_given(Arc::new(truncated), is_scalar)
            }
            (_, data_type) => {
                if matches!(data_type, DataType::Date32 | DataType::Date64) {
                    args.args[1] = args.args[1].cast_to(args.return_type(), None)?;
                }
                datetime::date_trunc().inner().invoke_with_args(args)
            }
        }
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        let [unit, value] = take_function_args(self.name(), input)?;
        Ok(match unit.sort_properties {
            SortProperties::Singleton => value.sort_properties,
            _ => SortProperties::Unordered,
        })
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        let types: Vec<DataType> = inputs.iter().map(|input| input.data_type()).collect();
        Interval::make_unbounded(&self.return_type(&types)?)
    }

    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let ([Expr::Literal(name, _), value], Expr::Literal(constant, _)) = (args, constant) else {
            return Ok(PreimageResult::None);
        };
        let unit = name.try_as_str().flatten().and_then(Unit::parse);
        let (Some(unit), ScalarValue::TimestampMicrosecond(Some(from), _)) = (unit, constant) else {
            return Ok(PreimageResult::None);
        };
        // The values of one unit are those from its beginning on; a constant within one equals none.
        if value.is_volatile() || unit.truncate(*from).ok() != Some(*from) {
            return Ok(PreimageResult::None);
        }
        let bounds = unit.next(*from).map(|to| (*from, to));
        let data_type = info.get_data_type(value)?;
        match (bounds, &data_type) {
            (Some((from, to)), DataType::Date32) => {
                if from % MICROS_OF_DAY != 0 || to % MICROS_OF_DAY != 0 {
                    return Ok(PreimageResult::None);
                }
                let bound = |micros| ScalarValue::Date32(Some(day(micros)));
                let interval = Box::new(Interval::try_new(bound(from), bound(to))?);
                Ok(PreimageResult::Range { expr: value.clone(), interval })
            }
            (bounds, data_type) if is_own(data_type) => range(value, bounds, data_type),
            _ => Ok(PreimageResult::None),
        }
    }
}

/// The first moment of a date.
fn midnight(date: i32) -> Result<i64> {
    match date {
        i32::MAX => Ok(i64::MAX),
        i32::MIN => Ok(i64::MIN),
        date => i64::from(date)
            .checked_mul(MICROS_OF_DAY)
            .ok_or_else(|| exec_datafusion_err!("a date {date} days after 1970-01-01 is past the timestamps")),
    }
}

/// What a moment is truncated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "millisecond" => Self::Millisecond,
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The unit that a function's first argument names; `None` of another, which DataFusion's function knows or refuses.
    fn of_argument(name: &ColumnarValue) -> Result<Option<Self>> {
        match name {
            ColumnarValue::Scalar(name) => Ok(name.try_as_str().flatten().and_then(Self::parse)),
            ColumnarValue::Array(_) => exec_err!("the unit of date_trunc must be a constant"),
        }
    }

    /// The last beginning of a unit that is not after the moment. An infinity stays one.
    fn truncate(self, micros: i64) -> Result<i64> {
        if micros == i64::MAX || micros == i64::MIN {
            return Ok(micros);
        }
        let day = micros.div_euclid(MICROS_OF_DAY);
        let truncated = match self {
            Self::Millisecond => micros.checked_sub(micros.rem_euclid(1_000)),
            Self::Second => micros.checked_sub(micros.rem_euclid(1_000_000)),
            Self::Minute => micros.checked_sub(micros.rem_euclid(60_000_000)),
            Self::Hour => micros.checked_sub(micros.rem_euclid(3_600_000_000)),
            Self::Day => day.checked_mul(MICROS_OF_DAY),
            // 1970-01-01 was a Thursday.
            Self::Week => (day - (day + 3).rem_euclid(7)).checked_mul(MICROS_OF_DAY),
            Self::Month | Self::Quarter | Self::Year => {
                let months = self.months();
                first_of(month_of(day).div_euclid(months) * months).checked_mul(MICROS_OF_DAY)
            }
        };
        truncated.ok_or_else(|| exec_datafusion_err!("date_trunc leaves the range of timestamps"))
    }

    /// The beginning of the unit after the one that begins here.
    fn next(self, micros: i64) -> Option<i64> {
        if micros == i64::MAX || micros == i64::MIN {
            return None;
        }
        match self {
            Self::Millisecond => micros.checked_add(1_000),
            Self::Second => micros.checked_add(1_000_000),
            Self::Minute => micros.checked_add(60_000_000),
            Self::Hour => micros.checked_add(3_600_000_000),
            Self::Day => micros.checked_add(MICROS_OF_DAY),
            Self::Week => micros.checked_add(7 * MICROS_OF_DAY),
            Self::Month | Self::Quarter | Self::Year => {
                let month = month_of(micros.div_euclid(MICROS_OF_DAY));
                first_of(month + self.months()).checked_mul(MICROS_OF_DAY)
            }
        }
    }

    fn months(self) -> i64 {
        match self {
            Self::Year => 12,
            Self::Quarter => 3,
            _ => 1,
        }
    }
}

/// Days from 0000-03-01, from which on leap days are the last of their years, to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;

/// Days of 400 years of the Gregorian calendar.
const DAYS_OF_ERA: i64 = 146_097;

/// The month of a day (counted from 1970-01-01), counted from January of the year 0. DataFusion's and chrono's calendars end before timestamps do.
fn month_of(day: i64) -> i64 {
    let day = day + DAYS_TO_EPOCH;
    let (era, day) = (day.div_euclid(DAYS_OF_ERA), day.rem_euclid(DAYS_OF_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    (era * 400 + year) * 12 + month + 2
}

/// The first day of a month.
fn first_of(month: i64) -> i64 {
    let from_march = month - 2;
    let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * DAYS_OF_ERA + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 - DAYS_TO_EPOCH
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, TimestampNanosecondArray};
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::TimestampNanosecondType;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn truncated(unit: &str, value: ScalarValue) -> ScalarValue {
        let function = DateTrunc::default();
        let data_type = function.return_type(&[DataType::Utf8, value.data_type()]).unwrap();
        let field = |data_type| Arc::new(Field::new("", data_type, true));
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(unit.into()), ColumnarValue::Scalar(value.clone())],
            arg_fields: vec![field(DataType::Utf8), field(value.data_type())],
            number_rows: 1,
            return_field: field(data_type),
            config_options: Arc::default(),
        };
        match function.invoke_with_args(args).unwrap() {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(_) => panic!("an array of a scalar"),
        }
    }

    #[test]
    fn within_nanoseconds_it_is_datafusions() {
        let step = 409_612_345_678_901;
        let moments = TimestampNanosecondArray::from_iter_values((-6_000..19_000_i64).map(|at| at * step));
        let own = cast(&moments, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
        let moments = cast(&own, moments.data_type()).unwrap();
        for unit in ["millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"] {
            let field = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
            let args = |array: &Arc<dyn Array>| ScalarFunctionArgs {
                args: vec![ColumnarValue::Scalar(unit.into()), ColumnarValue::Array(Arc::clone(array))],
                arg_fields: vec![field(&DataType::Utf8), field(array.data_type())],
                number_rows: array.len(),
                return_field: field(array.data_type()),
                config_options: Arc::default(),
            };
            let here = DateTrunc::default().invoke_with_args(args(&own)).unwrap().into_array(1).unwrap();
            let there = datetime::date_trunc().inner().invoke_with_args(args(&moments)).unwrap().into_array(1).unwrap();
            let there = there.as_primitive::<TimestampNanosecondType>();
            let here = here.as_primitive::<TimestampMicrosecondType>();
            assert!(here.values().iter().zip(there.values()).all(|(here, there)| here * 1_000 == *there), "{unit}");
        }
    }

    #[test]
    fn dates_and_moments_outside_of_nanoseconds_and_infinities_are_truncated() {
        let micros = |value| ScalarValue::TimestampMicrosecond(Some(value), None);
        let date = |year: i64, month: i64, day: i64| {
            ScalarValue::Date32(Some(i32::try_from(first_of(year * 12 + month - 1) + day - 1).unwrap()))
        };
        let first = |year: i64, month: i64| micros(first_of(year * 12 + month - 1) * MICROS_OF_DAY);
        for year in [-4712, -1, 0, 1, 1600, 1970, 9999, 262_143, 290_000] {
            assert_eq!(truncated("year", date(year, 12, 31)), first(year, 1), "{year}");
            assert_eq!(truncated("quarter", date(year, 6, 30)), first(year, 4), "{year}");
            assert_eq!(truncated("MONTH", date(year, 2, 28)), first(year, 2), "{year}");
            assert_eq!(truncated("month", first(year, 3)), first(year, 3), "{year}");
        }
        for infinity in [i64::MAX, i64::MIN] {
            assert_eq!(truncated("month", micros(infinity)), micros(infinity));
        }
        assert_eq!(truncated("week", ScalarValue::Date32(Some(i32::MIN))), micros(i64::MIN));
        assert_eq!(
            truncated("day", ScalarValue::TimestampMicrosecond(None, None)),
            ScalarValue::TimestampMicrosecond(None, None)
        );
        assert_eq!(day(i64::MIN), i32::MIN);
        assert_eq!(day(-1), -1);
    }

    #[tokio::test]
    async fn conditions_become_ranges() {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_scalar_functions(mended_scalar_functions())
            .with_optimizer_rules(crate::mended_optimizer_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        context
            .sql("CREATE TABLE t AS SELECT arrow_cast('2024-05-03T10:00:00', 'Timestamp(Microsecond, None)') AS ts, DATE '2024-05-03' AS d")
            .await
            .unwrap();
        for (condition, filter) in [
            ("CAST(ts AS DATE) = DATE '2024-05-03'", "ts >= "),
            ("date_trunc('month', ts) = '2024-05-01'", "ts >= "),
            ("date_trunc('month', d) >= '2024-05-01'", "d >= "),
            ("CAST(ts AS DATE) IN (DATE '2024-05-03', DATE '2024-05-05')", "ts >= "),
            ("date_trunc('month', ts) <= '2024-05-02'", "date_trunc("),
        ] {
            let plan = context.sql(&format!("SELECT * FROM t WHERE {condition}")).await.unwrap();
            let rows: usize = plan.clone().collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
            let plan = plan.into_optimized_plan().unwrap().to_string().replace("t.", "");
            assert!(plan.contains(filter) && rows == 1, "{condition}: {rows} rows of {plan}");
        }
    }
}
