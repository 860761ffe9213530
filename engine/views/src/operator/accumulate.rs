//! Accumulators of all groups at once, in columns: rows come with weights, and what came can go.
//!
//! Results are those of DataFusion's accumulators bit for bit, for integers and decimals; a sum of floats is the exact sum, rounded once,
//! where DataFusion's depends on the order of the rows.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, BooleanArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{
    ArrowNumericType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type,
    UInt64Type,
};

use super::exact::ExactSum;
use super::extremes::{CountDistinct, Extreme, Which};
use super::mean::mean;
use crate::Result;

/// One aggregate of all groups.
pub(crate) trait Accumulate: Debug + Send {
    /// There are so many groups now; new ones have seen nothing.
    fn resize(&mut self, groups: usize);

    /// Adds rows. NULLs among the arguments count for nothing.
    fn update(&mut self, rows: &Input<'_>) -> Result<()>;

    /// The results of some groups.
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef>;

    /// A group is empty and may become another.
    fn forget(&mut self, group: u32);

    /// Bytes of state; about.
    fn bytes(&self) -> usize;
}

/// Rows for an accumulator.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) groups: &'a [u32],
    pub(crate) weights: &'a [i64],
    pub(crate) arguments: &'a [ArrayRef],
    /// Rows for which FILTER holds, where there is one.
    pub(crate) filter: Option<&'a BooleanArray>,
}

impl Input<'_> {
    /// Calls for each row that passes the filter and has no NULL in the first argument.
    pub(crate) fn each(&self, mut call: impl FnMut(usize, usize, i64)) {
        let nulls = self.arguments.first().and_then(|argument| argument.logical_nulls());
        for (row, (group, weight)) in self.groups.iter().zip(self.weights).enumerate() {
            let passes = self.filter.is_none_or(|filter| filter.value(row));
            if passes && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                call(row, *group as usize, *weight);
            }
        }
    }
}

/// The accumulator for a function over arguments of these types, where there is one.
pub(crate) fn accumulator(
    function: &str,
    distinct: bool,
    arguments: &[DataType],
    result: &DataType,
) -> Result<Option<Box<dyn Accumulate>>> {
    let single = match arguments {
        [single] => single,
        _ => return Ok(None),
    };
    if distinct && !matches!(function, "min" | "max") {
        return Ok(match function {
            "count" => Some(Box::new(CountDistinct::new(single)?)),
            _ => None,
        });
    }
    Ok(Some(match (function, single) {
        ("count", _) => Box::new(Count::default()),
        ("sum", DataType::Int64) => Box::new(Sum::<Int64Type>::new(result)),
        ("sum", DataType::UInt64) => Box::new(Sum::<UInt64Type>::new(result)),
        ("sum", DataType::Decimal32(..)) => Box::new(Sum::<Decimal32Type>::new(result)),
        ("sum", DataType::Decimal64(..)) => Box::new(Sum::<Decimal64Type>::new(result)),
        ("sum", DataType::Decimal128(..)) => Box::new(Sum::<Decimal128Type>::new(result)),
        ("sum", DataType::Decimal256(..)) => Box::new(Sum::<Decimal256Type>::new(result)),
        ("sum", DataType::Float64) => Box::new(Floats::new(Read::Sum)),
        ("avg", DataType::Float64) => Box::new(Floats::new(Read::Mean)),
        ("avg", DataType::Decimal32(_, scale)) => mean::<Decimal32Type>(*scale, result),
        ("avg", DataType::Decimal64(_, scale)) => mean::<Decimal64Type>(*scale, result),
        ("avg", DataType::Decimal128(_, scale)) => mean::<Decimal128Type>(*scale, result),
        ("avg", DataType::Decimal256(_, scale)) => mean::<Decimal256Type>(*scale, result),
        ("min", _) if single == result => Box::new(Extreme::new(single, Which::Least)?),
        ("max", _) if single == result => Box::new(Extreme::new(single, Which::Greatest)?),
        ("bool_and", DataType::Boolean) => Box::new(Truth::new(Quantifier::All)),
        ("bool_or", DataType::Boolean) => Box::new(Truth::new(Quantifier::Any)),
        _ => return Ok(None),
    }))
}

/// COUNT: rows without NULL in any argument.
#[derive(Debug, Default)]
struct Count {
    counts: Vec<i64>,
}

impl Accumulate for Count {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        rows.each(|_, group, weight| self.counts[group] += weight);
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]))))
    }

    fn forget(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}

/// SUM of integers and decimals, which wraps round as DataFusion's does: then it does not matter in which order rows come and go.
#[derive(Debug)]
struct Sum<T: ArrowNumericType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    result: DataType,
}

impl<T: ArrowNumericType> Sum<T> {
    fn new(result: &DataType) -> Self {
        Self { sums: vec![], counts: vec![], result: result.clone() }
    }
}

impl<T> Accumulate for Sum<T>
where
    T: ArrowNumericType + Debug + Send,
    T::Native: ArrowNativeTypeOp,
{
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, T::Native::default());
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        let values = rows.arguments[0].as_primitive::<T>().values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        rows.each(|row, group, weight| {
            counts[group] += weight;
            let sum = sums[group];
            sums[group] = match weight {
                1 => sum.add_wrapping(values[row]),
                -1 => sum.sub_wrapping(values[row]),
                _ => {
                    let part = times(values[row], weight.unsigned_abs());
                    if weight > 0 { sum.add_wrapping(part) } else { sum.sub_wrapping(part) }
                }
            };
        });
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let sum = |group: &u32| {
            let group = *group as usize;
            (self.counts[group] != 0).then(|| self.sums[group])
        };
        let sums: PrimitiveArray<T> = groups.iter().map(sum).collect();
        Ok(Arc::new(sums.with_data_type(self.result.clone())))
    }

    fn forget(&mut self, group: u32) {
        self.sums[group as usize] = T::Native::default();
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.counts.capacity() * size_of::<i64>()
    }
}

/// `value` so many times, modulo the width of its type.
fn times<N: ArrowNativeTypeOp>(value: N, count: u64) -> N {
    let (mut sum, mut power, mut rest) = (N::ZERO, value, count);
    while rest != 0 {
        if rest & 1 == 1 {
            sum = sum.add_wrapping(power);
        }
        power = power.add_wrapping(power);
        rest >>= 1;
    }
    sum
}

#[derive(Debug, Clone, Copy)]
enum Read {
    Sum,
    Mean,
}

/// SUM and AVG of doubles, exactly.
#[derive(Debug)]
struct Floats {
    sums: Vec<ExactSum>,
    counts: Vec<i64>,
    read: Read,
    heap: usize,
}

impl Floats {
    fn new(read: Read) -> Self {
        Self { sums: vec![], counts: vec![], read, heap: 0 }
    }
}

impl Accumulate for Floats {
    fn resize(&mut self, groups: usize) {
        self.sums.resize_with(groups, ExactSum::default);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        let values = rows.arguments[0].as_primitive::<Float64Type>().values();
        let (sums, counts, heap) = (&mut self.sums, &mut self.counts, &mut self.heap);
        rows.each(|row, group, weight| {
            counts[group] += weight;
            let before = sums[group].heap();
            sums[group].add(values[row], weight);
            *heap = *heap + sums[group].heap() - before;
        });
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let read = |group: &u32| {
            let group = *group as usize;
            let count = self.counts[group];
            (count != 0).then(|| match self.read {
                Read::Sum => self.sums[group].value(),
                Read::Mean => self.sums[group].value() / count as f64,
            })
        };
        Ok(Arc::new(groups.iter().map(read).collect::<Float64Array>()))
    }

    fn forget(&mut self, group: u32) {
        let group = group as usize;
        self.heap -= self.sums[group].heap();
        self.sums[group] = ExactSum::default();
        self.counts[group] = 0;
    }

    fn bytes(&self) -> usize {
        self.heap + self.sums.capacity() * size_of::<ExactSum>() + self.counts.capacity() * size_of::<i64>()
    }
}

#[derive(Debug, Clone, Copy)]
enum Quantifier {
    All,
    Any,
}

/// BOOL_AND and BOOL_OR: how many rows are true and how many false.
#[derive(Debug)]
struct Truth {
    trues: Vec<i64>,
    falses: Vec<i64>,
    quantifier: Quantifier,
}

impl Truth {
    fn new(quantifier: Quantifier) -> Self {
        Self { trues: vec![], falses: vec![], quantifier }
    }
}

impl Accumulate for Truth {
    fn resize(&mut self, groups: usize) {
        self.trues.resize(groups, 0);
        self.falses.resize(groups, 0);
    }

    fn update(&mut self, rows: &Input<'_>) -> Result<()> {
        let values = rows.arguments[0].as_boolean();
        let (trues, falses) = (&mut self.trues, &mut self.falses);
        rows.each(|row, group, weight| {
            if values.value(row) {
                trues[group] += weight;
            } else {
                falses[group] += weight;
            }
        });
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let truth = |group: &u32| {
            let (trues, falses) = (self.trues[*group as usize], self.falses[*group as usize]);
            (trues != 0 || falses != 0).then_some(match self.quantifier {
                Quantifier::All => falses == 0,
                Quantifier::Any => trues != 0,
            })
        };
        Ok(Arc::new(groups.iter().map(truth).collect::<BooleanArray>()))
    }

    fn forget(&mut self, group: u32) {
        self.trues[group as usize] = 0;
        self.falses[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        (self.trues.capacity() + self.falses.capacity()) * size_of::<i64>()
    }
}
