//! Rows that come and go: a record batch with a weight for each row.
//!
//! Weight 1 is a row that came, -1 one that went, 3 the same row three times. Deltas add up: what matters is the sum of the weights of equal
//! rows, and neither their order nor how they are cut into batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{concat_batches, filter, filter_record_batch, take};
use arrow::datatypes::{Field, Fields, Int64Type, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use hashbrown::HashMap;

use crate::rows::{Bytes, Codec, Fixed};
use crate::{Error, Result};

/// Rows with weights.
#[derive(Debug, Clone)]
pub struct Delta {
    rows: RecordBatch,
    weights: ScalarBuffer<i64>,
}

impl Delta {
    /// Rows with a weight for each.
    ///
    /// # Errors
    /// There are not as many weights as rows.
    pub fn new(rows: RecordBatch, weights: impl Into<ScalarBuffer<i64>>) -> Result<Self> {
        let weights = weights.into();
        if rows.num_rows() != weights.len() {
            return Err(Error::invariant(format!("{} rows with {} weights", rows.num_rows(), weights.len())));
        }
        Ok(Self { rows, weights })
    }

    /// Rows that came, once each.
    pub fn inserted(rows: RecordBatch) -> Self {
        let weights = vec![1; rows.num_rows()].into();
        Self { rows, weights }
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Their weights.
    pub fn weights(&self) -> &[i64] {
        &self.weights
    }

    /// How many rows there are, whatever their weights.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Some of the rows, without copying them.
    pub fn slice(&self, offset: usize, rows: usize) -> Self {
        Self { rows: self.rows.slice(offset, rows), weights: self.weights.slice(offset, rows) }
    }

    /// The same rows with the opposite weights: what takes back what this delta did.
    pub fn negated(&self) -> Self {
        Self { rows: self.rows.clone(), weights: self.weights.iter().map(|weight| -weight).collect() }
    }

    /// What deltas of these columns come to: each row once, with the sum of its weights. Rows of which nothing is left are left out.
    ///
    /// # Errors
    /// A column's type has no order; other columns than these.
    pub fn sum(schema: &Schema, deltas: &[Self]) -> Result<Self> {
        let codec = Codec::new(schema.fields().iter().map(|field| field.data_type()))?;
        let sums = sums(&codec, deltas)?;
        let (rows, weights): (Vec<&[u8]>, Vec<i64>) =
            sums.iter().map(|(row, weight)| (row.as_slice(), *weight)).unzip();
        Self::new(batch(&loosened(schema), codec.decode(rows.iter().copied())?, rows.len())?, weights)
    }

    /// Deltas of these columns, one after the other.
    pub(crate) fn concat(schema: &SchemaRef, deltas: &[Self]) -> Result<Self> {
        let rows = deltas.iter().map(|delta| under(schema, delta.rows())).collect::<Result<Vec<_>>>()?;
        let weights: Vec<i64> = deltas.iter().flat_map(|delta| delta.weights().iter().copied()).collect();
        Self::new(concat_batches(schema, &rows)?, weights)
    }

    pub(crate) fn columns(&self) -> &[ArrayRef] {
        self.rows.columns()
    }

    /// The rows for which the mask holds.
    pub(crate) fn filtered(&self, mask: &BooleanArray) -> Result<Self> {
        let rows = filter_record_batch(&self.rows, mask)?;
        let weights = arrow::array::Int64Array::new(self.weights.clone(), None);
        let weights = filter(&weights, mask)?;
        let weights = arrow::array::cast::AsArray::as_primitive::<Int64Type>(&weights).values().clone();
        Ok(Self { rows, weights })
    }

    /// The same weights over other columns.
    pub(crate) fn with_rows(&self, rows: RecordBatch) -> Self {
        Self { rows, weights: self.weights.clone() }
    }
}

/// How often each row of some deltas came more than it went; rows for which that is nothing are left out.
pub(crate) fn sums(codec: &Codec, deltas: &[Delta]) -> Result<HashMap<Bytes, i64, Fixed>> {
    let mut sums: HashMap<Bytes, i64, Fixed> = HashMap::default();
    for delta in deltas {
        let rows = codec.encode(delta.columns(), delta.len())?;
        for (row, weight) in delta.weights().iter().enumerate() {
            match sums.get_mut(rows.bytes(row)) {
                Some(sum) => *sum += weight,
                None => {
                    sums.insert(rows.bytes(row).into(), *weight);
                }
            }
        }
    }
    sums.retain(|_, weight| *weight != 0);
    Ok(sums)
}

/// A batch of columns whose rows may be none or have no columns.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Whether the columns have the same names and types, in the same order.
pub(crate) fn same_columns(one: &Schema, other: &Schema) -> bool {
    let mut pairs = one.fields().iter().zip(other.fields());
    one.fields().len() == other.fields().len()
        && pairs.all(|(one, other)| one.name() == other.name() && one.data_type() == other.data_type())
}

/// The schema with every column nullable: what batches inside of a view are checked against, since rows that only name a key hold nothing
/// elsewhere.
pub(crate) fn loosened(schema: &Schema) -> SchemaRef {
    let loose = |field: &Arc<Field>| {
        if field.is_nullable() { Arc::clone(field) } else { Arc::new(field.as_ref().clone().with_nullable(true)) }
    };
    Arc::new(Schema::new(schema.fields().iter().map(loose).collect::<Fields>()))
}

/// The same columns under another schema of the same types.
pub(crate) fn under(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    batch(schema, rows.columns().to_vec(), rows.num_rows())
}

pub(crate) fn take_columns(columns: &[ArrayRef], indices: &[u32]) -> Result<Vec<ArrayRef>> {
    let indices = UInt32Array::from(indices.to_vec());
    columns.iter().map(|column| Ok(take(column, &indices, None)?)).collect()
}
