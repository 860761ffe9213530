//! Rows into Arrow batches.
//!
//! Invariant: a batch holds at most [`BATCH_BYTES`] of field bytes and one row more, so its 32-bit offsets suffice.

use arrow::array::{ArrayRef, NullBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use headwater_source::ColumnDef;

use super::field::{Reason, length_prefixed};
use super::values::Values;

/// A batch ends early when its fields hold so many bytes.
pub(super) const BATCH_BYTES: usize = 16 << 20;

/// A value that its column's type can't represent.
#[derive(Debug)]
pub(super) struct BadValue {
    pub(super) column: String,
    pub(super) data_type: String,
    pub(super) reason: Reason,
}

/// Why a batch could not be made.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// A value does not fit its column.
    Value(Box<BadValue>),
    /// The row is not one of these columns.
    Row(&'static str),
    /// The columns do not make a batch.
    Batch(ArrowError),
}

/// Collects rows into batches.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Fields of a row: a result without columns still has one.
    fields: u16,
    batch_rows: usize,
    rows: usize,
    bytes: usize,
    total: u64,
}

struct Column {
    name: String,
    data_type: DataType,
    nullable: bool,
    nulls: NullBufferBuilder,
    values: Values,
}

impl Decoder {
    /// A decoder of rows of these columns into batches of `schema`.
    pub(super) fn new(columns: &[ColumnDef], schema: SchemaRef, batch_rows: usize) -> Self {
        let columns: Vec<Column> = columns.iter().map(Column::new).collect();
        let fields = u16::try_from(columns.len().max(1)).unwrap_or(u16::MAX);
        Self { columns, fields, schema, batch_rows: batch_rows.max(1), rows: 0, bytes: 0, total: 0 }
    }

    /// Takes a row: the number of its fields, then each behind its length.
    #[inline]
    pub(super) fn push(&mut self, body: &[u8]) -> Result<(), Unreadable> {
        let Some((count, mut rest)) = body.split_first_chunk::<2>() else { return Err(Unreadable::Row("a short row")) };
        if u16::from_be_bytes(*count) != self.fields {
            return Err(Unreadable::Row("a row of another number of fields"));
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            let taken = length_prefixed(&mut rest).and_then(|field| column.push(field));
            if let Err(reason) = taken {
                return Err(self.bad(index, self.total, &reason));
            }
        }
        self.bytes += body.len();
        self.rows += 1;
        self.total += 1;
        Ok(())
    }

    fn bad(&self, index: usize, row: u64, reason: &str) -> Unreadable {
        let Column { name, data_type, .. } = &self.columns[index];
        let reason = format!("{reason}, in row {row} of this scan");
        Unreadable::Value(Box::new(BadValue { column: name.clone(), data_type: data_type.to_string(), reason }))
    }

    /// Whether the batch is to be taken.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.batch_rows || self.bytes >= BATCH_BYTES
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch, Unreadable> {
        let first = self.total - self.rows as u64;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for index in 0..self.columns.len() {
            let column = &mut self.columns[index];
            match column.values.finish(column.nulls.finish()) {
                Ok(array) => arrays.push(array),
                Err((row, reason)) => return Err(self.bad(index, first + row as u64, &reason)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(Unreadable::Batch)
    }
}

impl Column {
    fn new(column: &ColumnDef) -> Self {
        Self {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
            nulls: NullBufferBuilder::new(0),
            values: Values::new(&column.data_type, column.class),
        }
    }

    #[inline]
    fn push(&mut self, field: Option<&[u8]>) -> Result<(), Reason> {
        match field {
            Some(field) => {
                self.values.push(field)?;
                self.nulls.append_non_null();
            }
            None if self.nullable => {
                self.values.push_null()?;
                self.nulls.append_null();
            }
            None => return Err("NULL, though the column is declared NOT NULL".to_owned()),
        }
        Ok(())
    }
}
