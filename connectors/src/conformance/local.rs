//! What the engine answers: the reference that pushed filters and orders are held against.
//!
//! All is Arrow's own, but for one thing: as in the engine, comparisons and IN take -0.0 and 0.0 for equal. The order of rows tells
//! them apart: it is IEEE 754's total order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, Scalar, UInt32Array, make_array};
use arrow::compute::kernels::cmp;
use arrow::compute::{
    SortColumn, SortOptions, and_kleene, filter_record_batch, is_not_null, is_null, lexsort_to_indices, like, nlike,
    not, or_kleene,
};
use arrow::datatypes::{Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use headwater_source::{CompareOp, Expr, Like, ScalarValue, SortKey};

/// The truth of a filter for each row: true, false or unknown.
///
/// The batch has all of the table's columns, in their order.
pub fn evaluate(filter: &Expr, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    match filter {
        Expr::Column(_) => Ok(column(filter, batch)?.as_boolean().clone()),
        Expr::Compare { op, left, right } => compare(*op, left, right, batch),
        Expr::And(parts) => fold(parts, batch, and_kleene),
        Expr::Or(parts) => fold(parts, batch, or_kleene),
        Expr::Not(inner) => not(&evaluate(inner, batch)?),
        Expr::IsNull(inner) => is_null(&column(inner, batch)?),
        Expr::IsNotNull(inner) => is_not_null(&column(inner, batch)?),
        Expr::InList { expr, values, negated } => in_list(expr, values, *negated, batch),
        Expr::Like(pattern) => matches(pattern, batch),
        other => Err(ArrowError::NotYetImplemented(other.to_string())),
    }
}

/// The rows for which the filter is true.
pub fn filter(filter: &Expr, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    filter_record_batch(batch, &evaluate(filter, batch)?)
}

/// The rows in order, at most `limit` of them.
pub fn sort(keys: &[SortKey], limit: Option<usize>, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<SortColumn> = keys
        .iter()
        .map(|key| SortColumn {
            values: batch.column(key.column).clone(),
            options: Some(SortOptions { descending: key.descending, nulls_first: key.nulls_first }),
        })
        .collect();
    let indices: UInt32Array = lexsort_to_indices(&columns, limit)?;
    arrow::compute::take_record_batch(batch, &indices)
}

/// The rows as a sorted list that can be compared: two lists are equal where the multisets of rows are, bit by bit.
pub fn multiset(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<OwnedRow>, ArrowError> {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let mut rows = Vec::new();
    for batch in batches {
        let converted = converter.convert_columns(batch.columns())?;
        rows.extend(converted.iter().map(|row| row.owned()));
    }
    rows.sort();
    Ok(rows)
}

type Fold = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>;

fn fold(parts: &[Expr], batch: &RecordBatch, join: Fold) -> Result<BooleanArray, ArrowError> {
    let mut truths = parts.iter().map(|part| evaluate(part, batch));
    let first = truths.next().ok_or_else(|| ArrowError::InvalidArgumentError("no parts".to_owned()))??;
    truths.try_fold(first, |all, truth| join(&all, &truth?))
}

fn column(expr: &Expr, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
    match expr {
        Expr::Column(index) => Ok(batch.column(*index).clone()),
        other => Err(ArrowError::NotYetImplemented(other.to_string())),
    }
}

fn scalar(value: &ScalarValue) -> Result<Scalar<ArrayRef>, ArrowError> {
    value.to_scalar().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

fn compare(op: CompareOp, left: &Expr, right: &Expr, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    match (left, right) {
        (Expr::Literal(value), right) => compare_value(op.swapped(), &column(right, batch)?, value),
        (left, Expr::Literal(value)) => compare_value(op, &column(left, batch)?, value),
        (left, right) => compare_data(op, &column(left, batch)?, &column(right, batch)?),
    }
}

fn compare_value(op: CompareOp, values: &ArrayRef, value: &ScalarValue) -> Result<BooleanArray, ArrowError> {
    compare_data(op, values, &scalar(value)?)
}

fn compare_data(op: CompareOp, left: &dyn Datum, right: &dyn Datum) -> Result<BooleanArray, ArrowError> {
    let (left, right) = (&OneZero::new(left), &OneZero::new(right));
    match op {
        CompareOp::Equal => cmp::eq(left, right),
        CompareOp::NotEqual => cmp::neq(left, right),
        CompareOp::Less => cmp::lt(left, right),
        CompareOp::LessOrEqual => cmp::lt_eq(left, right),
        CompareOp::Greater => cmp::gt(left, right),
        CompareOp::GreaterOrEqual => cmp::gt_eq(left, right),
    }
}

/// Values in which -0.0 has become 0.0.
struct OneZero {
    values: ArrayRef,
    is_scalar: bool,
}

impl OneZero {
    fn new(datum: &dyn Datum) -> Self {
        let (array, is_scalar) = datum.get();
        let values: ArrayRef = if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
            Arc::new(floats.unary::<_, Float64Type>(|float| float + 0.0))
        } else if let Some(floats) = array.as_primitive_opt::<Float32Type>() {
            Arc::new(floats.unary::<_, Float32Type>(|float| float + 0.0))
        } else {
            make_array(array.to_data())
        };
        Self { values, is_scalar }
    }
}

impl Datum for OneZero {
    fn get(&self) -> (&dyn Array, bool) {
        (&self.values, self.is_scalar)
    }
}

fn in_list(
    expr: &Expr,
    values: &[ScalarValue],
    negated: bool,
    batch: &RecordBatch,
) -> Result<BooleanArray, ArrowError> {
    let column = column(expr, batch)?;
    let mut truth = BooleanArray::from(vec![false; column.len()]);
    for value in values {
        truth = or_kleene(&truth, &compare_value(CompareOp::Equal, &column, value)?)?;
    }
    if negated { not(&truth) } else { Ok(truth) }
}

fn matches(pattern: &Like, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    if pattern.case_insensitive {
        return Err(ArrowError::NotYetImplemented("ILIKE".to_owned()));
    }
    let column = column(&pattern.expr, batch)?;
    let value = scalar(&ScalarValue::from(pattern.pattern.as_str()))?;
    if pattern.negated { nlike(&column, &value) } else { like(&column, &value) }
}
