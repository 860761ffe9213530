//! A file's batches as the table's: columns found by name, cast without loss, missing ones NULL, partitions filled in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::error::Failure;
use super::infer::is_timestamp;

/// Where a column of the table comes from in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The column of the file's batches with this index.
    File(usize),
    /// The file has no such column.
    Missing,
    /// The file's path says it.
    Partition(Option<String>),
}

/// Turns the batches of one file into the table's.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    /// The columns and their types.
    pub(super) schema: SchemaRef,
    /// Where each of them comes from.
    pub(super) origins: Vec<Origin>,
}

impl Adapter {
    /// The batch with the table's columns.
    pub(super) fn adapt(&self, batch: &RecordBatch) -> Result<RecordBatch, Failure> {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.origins.len());
        for (origin, field) in self.origins.iter().zip(self.schema.fields()) {
            columns.push(match origin {
                Origin::File(index) => convert(batch.column(*index), field.name(), field.data_type())?,
                Origin::Missing => new_null_array(field.data_type(), rows),
                Origin::Partition(value) => {
                    Arc::new(StringArray::from_iter(std::iter::repeat_n(value.as_deref(), rows)))
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn convert(array: &ArrayRef, name: &str, data_type: &DataType) -> Result<ArrayRef, Failure> {
    let value_error = |reason: &str| Failure::Value {
        column: name.to_owned(),
        data_type: data_type.to_string(),
        reason: reason.to_owned(),
    };
    if matches!((array.data_type(), data_type), (DataType::Utf8, DataType::Timestamp(..))) {
        let texts = array.as_string::<i32>();
        if texts.iter().flatten().any(|text| !is_timestamp(text)) {
            return Err(value_error("text that is no timestamp without a zone, to the microsecond, in a row"));
        }
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    // The cast's own message quotes the value.
    let cast = if array.data_type() == data_type {
        Arc::clone(array)
    } else {
        cast_with_options(array, data_type, &strict).map_err(|_| value_error("a value in a row"))?
    };
    Ok(canonical(cast))
}

/// Every NaN becomes the one that every connector yields; -0.0 stays.
fn canonical(array: ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            match floats.values().iter().any(|value| value.is_nan()) {
                true => Arc::new(floats.unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value })),
                false => array,
            }
        }
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            match floats.values().iter().any(|value| value.is_nan()) {
                true => Arc::new(floats.unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value })),
                false => array,
            }
        }
        _ => array,
    }
}
