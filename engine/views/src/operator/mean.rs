//! AVG of decimals.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, ArrowNativeTypeOp, PrimitiveArray};
use arrow::datatypes::{ArrowNumericType, DataType, DecimalType, i256};
use datafusion::error::DataFusionError;

use super::accumulate::{Accumulate, Input};
use crate::{Error, Result};

/// AVG of decimals: the sum in a type with room, scaled, divided towards zero and checked, as DataFusion's `DecimalAverager` does.
#[derive(Debug)]
struct DecimalMean<T: DecimalType> {
    sums: Vec<i256>,
    counts: Vec<i64>,
    /// 10 to the power of the digits that the result has beyond the sum.
    factor: i256,
    result: DataType,
    value: PhantomData<T>,
}

/// The accumulator for decimals of this scale.
pub(super) fn mean<T>(scale: i8, result: &DataType) -> Box<dyn Accumulate>
where
    T: DecimalType + ArrowNumericType + Debug + Send,
    T::Native: Into<i256> + ArrowNativeTypeOp + FromWide,
{
    let digits = match result {
        DataType::Decimal32(_, wider)
        | DataType::Decimal64(_, wider)
        | DataType::Decimal128(_, wider)
        | DataType::Decimal256(_, wider) => wider.saturating_sub(scale),
        _ => 0,
    };
    let factor = i256::from_i128(10).pow_wrapping(u32::try_from(digits).unwrap_or(0));
    Box::new(DecimalMean::<T> { sums: vec![], counts: vec![], factor, result: result.clone(), value: PhantomData })
}

/// Narrowing from 256 bits.
pub(crate) trait FromWide: Sized {
    fn from_wide(value: i256) -> Option<Self>;
}

impl FromWide for i32 {
    fn from_wide(value: i256) -> Option<Self> {
        value.to_i128().and_then(|value| value.try_into().ok())
    }
}

impl FromWide for i64 {
    fn from_wide(value: i256) -> Option<Self> {
        value.to_i128().and_then(|value| value.try_into().ok())
    }
}

impl FromWide for i128 {
    fn from_wide(value: i256) -> Option<Self> {
        value.to_i128()
    }
}

impl FromWide for i256 {
    fn from_wide(value: i256) -> Option<Self> {
        Some(value)
    }
}

impl<T> Accumulate for DecimalMean<T>
where
    T: DecimalType + ArrowNumericType + Debug + Send,
    T::Native: Into<i256> + ArrowNativeTypeOp + FromWide,
{
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, i256::ZERO);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        let values = rows.arguments[0].as_primitive::<T>().values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        rows.each(|row, group, weight| {
            counts[group] += weight;
            let value: i256 = values[row].into();
            sums[group] = match weight {
                1 => sums[group].wrapping_add(value),
                -1 => sums[group].wrapping_sub(value),
                _ => sums[group].wrapping_add(value.wrapping_mul(i256::from_i128(i128::from(weight)))),
            };
        });
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let (precision, scale) = match self.result {
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => (precision, scale),
            _ => return Err(Error::invariant("the mean of decimals is no decimal")),
        };
        let overflow = || DataFusionError::Execution("Arithmetic Overflow in AvgAccumulator".to_owned());
        let mean = |group: &u32| -> Result<Option<T::Native>> {
            let group = *group as usize;
            if self.counts[group] == 0 {
                return Ok(None);
            }
            let scaled = self.sums[group].checked_mul(self.factor).ok_or_else(overflow)?;
            let mean = scaled.wrapping_div(i256::from_i128(i128::from(self.counts[group])));
            let mean = T::Native::from_wide(mean).ok_or_else(overflow)?;
            T::validate_decimal_precision(mean, precision, scale).map_err(|_| overflow())?;
            Ok(Some(mean))
        };
        let means: PrimitiveArray<T> = groups.iter().map(mean).collect::<Result<Vec<_>>>()?.into_iter().collect();
        Ok(Arc::new(means.with_data_type(self.result.clone())))
    }

    fn forget(&mut self, group: u32) {
        self.sums[group as usize] = i256::ZERO;
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * size_of::<i256>() + self.counts.capacity() * size_of::<i64>()
    }
}
