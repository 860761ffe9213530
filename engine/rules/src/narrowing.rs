//! Keeps casts that make one value of several where they are compared.
//!
//! DataFusion writes `CAST(total AS BIGINT) = 10` as `total = 10.00` where the constant is a value of the column's type too (`unwrap_cast` of datafusion-optimizer 55.2, and that of
//! datafusion-physical-expr, which prunes files). The cast cuts 10.50 to 10, and the rows of 10.01 to 10.99 were missing. It knows of such casts between dates and
//! timestamps alone. So are misread: decimals that lose digits, to integers and to decimals; timestamps without a time zone to those of one that is not UTC; and
//! `TRY_CAST` of what may not fit, which is NULL there: `TRY_CAST(big AS INT) > 5` was true of 10000000000.
//!
//! Such a cast is written as a function of the same value, which no rule sees into, logical or physical, and which no service computes, as none computes the cast. It is so
//! wherever a constant may meet it: in comparisons, lists, CASE and the arguments of functions.

use std::sync::Arc;

use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TryCast, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::zeros::{holds, input_schema, under_their_names};

/// The optimizer rule. It runs before expressions are simplified, and after conditions have been moved.
#[derive(Debug, Default)]
pub struct NarrowingCasts;

impl OptimizerRule for NarrowingCasts {
    fn name(&self) -> &str {
        "headwater_narrowing_casts"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !holds(&plan, |part| cast_of(part).is_some())? {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        under_their_names(plan, |expr| with_kept_casts(expr, &schema))
    }
}

/// The expression, whose narrowing casts are functions where constants may meet them.
fn with_kept_casts(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|part| {
        if !may_meet_constants(&part) {
            return Ok(Transformed::no(part));
        }
        let kept = part.transform_up(|part| Ok(kept(part, schema)))?;
        Ok(Transformed::new(kept.data, kept.transformed, TreeNodeRecursion::Jump))
    })
}

fn may_meet_constants(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => binary.op.supports_propagation(),
        Expr::InList(_) | Expr::Between(_) | Expr::Case(_) | Expr::ScalarFunction(_) => true,
        _ => false,
    }
}

fn kept(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Some((inner, to, safe)) = cast_of(&expr) else { return Transformed::no(expr) };
    match inner.get_type(schema) {
        Ok(from) if is_misread(&from, &to, safe) => {
            let function = KeptCast { signature: Signature::any(1, Volatility::Immutable), to, safe };
            Transformed::yes(Arc::new(ScalarUDF::from(function)).call(vec![inner.clone()]))
        }
        _ => Transformed::no(expr),
    }
}

/// What is cast, to which type, and whether what does not fit is NULL. `arrow_cast` becomes a cast where expressions are simplified.
fn cast_of(expr: &Expr) -> Option<(&Expr, DataType, bool)> {
    match expr {
        Expr::Cast(Cast { expr, field }) => Some((expr, field.data_type().clone(), false)),
        Expr::TryCast(TryCast { expr, field }) => Some((expr, field.data_type().clone(), true)),
        Expr::ScalarFunction(call) => {
            let safe = match call.func.name() {
                "arrow_cast" => false,
                "arrow_try_cast" => true,
                _ => return None,
            };
            let [value, Expr::Literal(to, _)] = &call.args[..] else { return None };
            Some((value, to.try_as_str().flatten()?.parse().ok()?, safe))
        }
        _ => None,
    }
}

/// Whether a cast that DataFusion undoes has one result of several values, or none of some.
fn is_misread(from: &DataType, to: &DataType, safe: bool) -> bool {
    if from == to || !is_undone(from) || !is_undone(to) {
        return false;
    }
    let loses = match (from, to) {
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) => !is_utc(zone),
        _ => match (digits(from), digits(to)) {
            (Some((_, scale)), Some((_, to_scale))) => to_scale < scale,
            (Some((_, scale)), None) => scale > 0,
            _ => false,
        },
    };
    loses || (safe && !always_fits(from, to))
}

/// Types whose casts DataFusion undoes, texts and bytes aside.
fn is_undone(data_type: &DataType) -> bool {
    digits(data_type).is_some()
        || data_type.is_integer()
        || matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
}

pub(crate) fn is_utc(zone: &str) -> bool {
    ["UTC", "Etc/UTC", "Z", "+00:00", "+00", "+0000"].contains(&zone)
}

/// Digits and scale of a decimal.
fn digits(data_type: &DataType) -> Option<(i16, i16)> {
    match data_type {
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale) => Some((i16::from(*digits), i16::from(*scale))),
        _ => None,
    }
}

/// Whether every value of the one type is one of the other.
fn always_fits(from: &DataType, to: &DataType) -> bool {
    let bits = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    match (digits(from), digits(to)) {
        (Some((digits, scale)), Some((to_digits, to_scale))) => {
            to_scale >= scale && to_digits - to_scale >= digits - scale
        }
        (None, None) if from.is_integer() && to.is_integer() => {
            let widens = bits(to) > bits(from);
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, true) | (false, false) => bits(to) >= bits(from),
                (false, true) => widens,
                (true, false) => false,
            }
        }
        _ => false,
    }
}

/// A cast that stays where it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KeptCast {
    signature: Signature,
    to: DataType,
    /// What does not fit is NULL.
    safe: bool,
}

impl KeptCast {
    fn written(&self, args: &[Expr]) -> String {
        let name = if self.safe { "TRY_CAST" } else { "CAST" };
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        format!("{name}({} AS {})", args.join(", "), self.to)
    }
}

impl ScalarUDFImpl for KeptCast {
    fn name(&self) -> &str {
        if self.safe { "try_cast" } else { "cast" }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = self.safe || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return internal_err!("a cast is of one value") };
        let options = CastOptions { safe: self.safe, ..DEFAULT_CAST_OPTIONS };
        value.cast_to(&self.to, Some(&options))
    }

    fn evaluate_bounds(&self, _: &[&Interval]) -> Result<Interval> {
        Interval::make_unbounded(&self.to)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn cast_is_misread_where_it_has_one_result_of_several_values() {
        use DataType::{Date32, Decimal128, Int32, Int64, Utf8};
        let zoned = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
        let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
        for (from, to) in
            [(Decimal128(12, 2), Int64), (Decimal128(12, 2), Decimal128(12, 1)), (plain.clone(), zoned("+02:00"))]
        {
            assert!(is_misread(&from, &to, false), "{from} to {to}");
        }
        for (from, to) in [
            (Decimal128(12, 0), Int64),
            (Decimal128(12, 2), Decimal128(14, 4)),
            (Int32, Int64),
            (Int64, Int32),
            (Int32, Decimal128(12, 2)),
            (Utf8, Int64),
            (plain.clone(), zoned("UTC")),
            (zoned("+02:00"), plain),
            (Int32, Date32),
        ] {
            assert!(!is_misread(&from, &to, false), "{from} to {to}");
        }
        assert!(is_misread(&Int64, &Int32, true));
        assert!(!is_misread(&Int32, &Int64, true));
    }
}
