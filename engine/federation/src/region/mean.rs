//! The division of an average, as DataFusion's `avg` does it.
//!
//! A source is asked for the sum and the count, which are exact; digits and rounding of the quotient are the engine's own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Int64Type, i256};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The quotient of a sum and a count, of the type that `avg` has over values of the sum's scale.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mean {
    signature: Signature,
    data_type: DataType,
}

/// `sum / count` as `avg` of type `data_type` has it. NULL where nothing was counted.
pub(super) fn mean(sum: Expr, count: Expr, data_type: DataType) -> Expr {
    let function = Mean { signature: Signature::any(2, Volatility::Immutable), data_type };
    Arc::new(ScalarUDF::from(function)).call(vec![sum, count])
}

impl ScalarUDFImpl for Mean {
    fn name(&self) -> &str {
        "headwater_mean"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [sum, count] = arrays.as_slice() else { return internal_err!("a mean is of a sum and a count") };
        let counts = count.as_primitive::<Int64Type>();
        let counted = |row: usize| (!counts.is_null(row) && counts.value(row) > 0).then(|| counts.value(row));
        let quotients: ArrayRef = match (sum.data_type(), &self.data_type) {
            (DataType::Int64, DataType::Float64) => {
                let sums = sum.as_primitive::<Int64Type>();
                let quotient =
                    |row| counted(row).filter(|_| !sums.is_null(row)).map(|n| sums.value(row) as f64 / n as f64);
                Arc::new((0..sums.len()).map(quotient).collect::<Float64Array>())
            }
            (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) => {
                let sums = sum.as_primitive::<Decimal128Type>();
                let quotient = |row| match counted(row).filter(|_| !sums.is_null(row)) {
                    Some(count) => divided(sums.value(row), *from, count, *precision, *to).map(Some),
                    None => Ok(None),
                };
                let quotients = (0..sums.len()).map(quotient).collect::<Result<Decimal128Array>>()?;
                Arc::new(quotients.with_data_type(self.data_type.clone()))
            }
            (from, to) => return internal_err!("no mean of {from} as {to}"),
        };
        Ok(ColumnarValue::Array(quotients))
    }
}

/// Scaled up, divided and cut off, never rounded.
fn divided(sum: i128, from: i8, count: i64, precision: u8, to: i8) -> Result<i128> {
    let digits = u32::try_from(to - from).unwrap_or(0).min(u32::from(DECIMAL128_MAX_PRECISION));
    let scaled = i256::from_i128(sum).checked_mul(i256::from_i128(10_i128.pow(digits)));
    let quotient = scaled.and_then(|scaled| scaled.checked_div(i256::from_i128(count.into()))?.to_i128());
    match quotient.filter(|quotient| Decimal128Type::is_valid_decimal_precision(*quotient, precision)) {
        Some(quotient) => Ok(quotient),
        None => exec_err!("Arithmetic Overflow in AvgAccumulator"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotient_is_cut_off_towards_zero() {
        assert_eq!(divided(200, 2, 3, 16, 6).unwrap(), 666_666);
        assert_eq!(divided(-200, 2, 3, 16, 6).unwrap(), -666_666);
        assert!(divided(i128::MAX, 0, 1, 38, 4).is_err());
    }
}
