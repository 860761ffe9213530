//! Binary fields into Arrow builders, the same for COPY and for the extended protocol.
//!
//! Invariant: a batch holds at most [`BATCH_BYTES`] of field bytes and one row more, so its 32-bit offsets suffice.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, ListArray, NullBufferBuilder,
    PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, FieldRef, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type, i256,
};
use arrow::error::ArrowError;
use headwater_source::{ColumnDef, ValueClass};

use super::numeric;
use super::types::element_type;

/// A batch ends early when its fields hold so many bytes.
pub(super) const BATCH_BYTES: usize = 16 << 20;

/// Days from 1970-01-01 to Postgres's epoch, 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// Why a value can't be read.
pub(super) type Reason = String;

/// A value that its column's type can't represent.
#[derive(Debug)]
pub(super) struct BadValue {
    pub(super) column: String,
    pub(super) data_type: String,
    pub(super) reason: Reason,
}

/// Collects rows into batches.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    batch_rows: usize,
    rows: usize,
    bytes: usize,
    total: u64,
}

struct Column {
    name: String,
    data_type: DataType,
    nullable: bool,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal128(PrimitiveBuilder<Decimal128Type>, u8, i8),
    Decimal256(PrimitiveBuilder<Decimal256Type>, u8, i8),
    /// A sum, modulo 2 to the 64.
    Total64(PrimitiveBuilder<Int64Type>),
    /// A sum, modulo 2 to the 128.
    Total128(PrimitiveBuilder<Decimal128Type>, i8),
    Text(StringBuilder),
    Uuid(StringBuilder),
    Bytes(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    List(Box<List>),
}

struct List {
    element: FieldRef,
    values: Values,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Decoder {
    /// A decoder of rows of these columns into batches of `schema`.
    pub(super) fn new(columns: &[ColumnDef], schema: SchemaRef, batch_rows: usize) -> Self {
        let columns = columns.iter().map(|column| Column {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
            values: Values::new(&column.data_type, column.class),
        });
        Self { columns: columns.collect(), schema, batch_rows: batch_rows.max(1), rows: 0, bytes: 0, total: 0 }
    }

    /// Takes the fields of one row.
    pub(super) fn push<'a>(&mut self, fields: impl Iterator<Item = Option<&'a [u8]>>) -> Result<(), Box<BadValue>> {
        let row = self.total;
        for (column, field) in self.columns.iter_mut().zip(fields) {
            self.bytes += field.map_or(1, <[u8]>::len);
            let taken = match field {
                None if !column.nullable => Err("NULL, though the column is declared NOT NULL".to_owned()),
                field => column.values.append(field),
            };
            if let Err(reason) = taken {
                let (column, data_type) = (column.name.clone(), column.data_type.to_string());
                return Err(Box::new(BadValue {
                    column,
                    data_type,
                    reason: format!("{reason}, in row {row} of this scan"),
                }));
            }
        }
        self.rows += 1;
        self.total += 1;
        Ok(())
    }

    /// Whether the batch is to be taken.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.batch_rows || self.bytes >= BATCH_BYTES
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The rows so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(|column| column.values.finish()).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
    }
}

impl Values {
    fn new(data_type: &DataType, class: ValueClass) -> Self {
        match data_type {
            DataType::Int64 if class == ValueClass::Total => Self::Total64(PrimitiveBuilder::new()),
            DataType::Decimal128(_, scale) if class == ValueClass::Total => Self::Total128(typed(data_type), *scale),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::new()),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::new()),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::new()),
            DataType::UInt32 => Self::UInt32(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal128(typed(data_type), *precision, *scale),
            DataType::Decimal256(precision, scale) => Self::Decimal256(typed(data_type), *precision, *scale),
            DataType::Binary => Self::Bytes(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(PrimitiveBuilder::new()),
            DataType::Time64(_) => Self::Time(PrimitiveBuilder::new()),
            DataType::Timestamp(..) => Self::Timestamp(typed(data_type)),
            DataType::Interval(_) => Self::Interval(PrimitiveBuilder::new()),
            DataType::List(element) => Self::List(Box::new(List::new(element))),
            _ if class == ValueClass::Uuid => Self::Uuid(StringBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn append(&mut self, field: Option<&[u8]>) -> Result<(), Reason> {
        match self {
            Self::Boolean(builder) => match field {
                Some(field) => builder.append_value(fixed::<1>(field)? != [0]),
                None => builder.append_null(),
            },
            Self::Int16(builder) => append(builder, field, |field| Ok(i16::from_be_bytes(fixed(field)?)))?,
            Self::Int32(builder) => append(builder, field, |field| Ok(i32::from_be_bytes(fixed(field)?)))?,
            Self::Int64(builder) => append(builder, field, |field| Ok(i64::from_be_bytes(fixed(field)?)))?,
            Self::UInt32(builder) => append(builder, field, |field| Ok(u32::from_be_bytes(fixed(field)?)))?,
            Self::Float32(builder) => append(builder, field, float4)?,
            Self::Float64(builder) => append(builder, field, float8)?,
            Self::Decimal128(builder, precision, scale) => append(builder, field, |field| {
                let value = numeric::read(field, *scale)?;
                within::<Decimal128Type>(value, *precision, *scale)
            })?,
            Self::Decimal256(builder, precision, scale) => append(builder, field, |field| {
                let value: i256 = numeric::read(field, *scale)?;
                within::<Decimal256Type>(value, *precision, *scale)
            })?,
            Self::Total64(builder) => append(builder, field, |field| {
                let (low, _) = numeric::read::<i256>(field, 0)?.to_parts();
                Ok(low as i64)
            })?,
            Self::Total128(builder, scale) => append(builder, field, |field| {
                let (low, _) = numeric::read::<i256>(field, *scale)?.to_parts();
                Ok(low.cast_signed())
            })?,
            Self::Text(builder) => match field {
                Some(field) => builder.append_value(utf8(field)?),
                None => builder.append_null(),
            },
            Self::Uuid(builder) => match field {
                Some(field) => append_uuid(builder, fixed(field)?),
                None => builder.append_null(),
            },
            Self::Bytes(builder) => builder.append_option(field),
            Self::Date(builder) => append(builder, field, date)?,
            Self::Time(builder) => append(builder, field, |field| Ok(i64::from_be_bytes(fixed(field)?)))?,
            Self::Timestamp(builder) => append(builder, field, timestamp)?,
            Self::Interval(builder) => append(builder, field, interval)?,
            Self::List(list) => list.append(field)?,
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::UInt32(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal128(builder, ..) => Arc::new(builder.finish()),
            Self::Decimal256(builder, ..) => Arc::new(builder.finish()),
            Self::Total64(builder) => Arc::new(builder.finish()),
            Self::Total128(builder, _) => Arc::new(builder.finish()),
            Self::Text(builder) | Self::Uuid(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Interval(builder) => Arc::new(builder.finish()),
            Self::List(list) => Arc::new(list.finish()?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Boolean(builder) => builder.len(),
            Self::Int16(builder) => builder.len(),
            Self::Int32(builder) => builder.len(),
            Self::Int64(builder) => builder.len(),
            Self::UInt32(builder) => builder.len(),
            Self::Float32(builder) => builder.len(),
            Self::Float64(builder) => builder.len(),
            Self::Decimal128(builder, ..) => builder.len(),
            Self::Decimal256(builder, ..) => builder.len(),
            Self::Total64(builder) => builder.len(),
            Self::Total128(builder, _) => builder.len(),
            Self::Text(builder) | Self::Uuid(builder) => builder.len(),
            Self::Bytes(builder) => builder.len(),
            Self::Date(builder) => builder.len(),
            Self::Time(builder) => builder.len(),
            Self::Timestamp(builder) => builder.len(),
            Self::Interval(builder) => builder.len(),
            Self::List(list) => list.nulls.len(),
        }
    }
}

impl List {
    fn new(element: &FieldRef) -> Self {
        let values = Values::new(element.data_type(), ValueClass::Opaque);
        Self { element: element.clone(), values, offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    fn append(&mut self, field: Option<&[u8]>) -> Result<(), Reason> {
        match field {
            Some(field) => self.append_elements(field)?,
            None => self.nulls.append_null(),
        }
        self.offsets.push(i32::try_from(self.values.len()).map_err(|_| "too many elements for one batch")?);
        Ok(())
    }

    /// As array_send writes them: dimensions, a flag for NULLs, the element's type, length and lower bound of each dimension,
    /// the elements with their lengths.
    fn append_elements(&mut self, field: &[u8]) -> Result<(), Reason> {
        let mut rest = field;
        let dimensions = int(&mut rest)?;
        int(&mut rest)?;
        let element = int(&mut rest)?.cast_unsigned();
        if element != element_type(self.element.data_type()).oid() {
            return Err(format!("elements of a type that is not expected (oid {element})"));
        }
        if dimensions > 1 {
            return Err(format!(
                "an array of {dimensions} dimensions; only one is read, so unnest it or cast it to text in a view"
            ));
        }
        let length = if dimensions == 1 { int(&mut rest)? } else { 0 };
        if dimensions == 1 {
            // The lower bound, which a list has no place for.
            int(&mut rest)?;
        }
        for _ in 0..length {
            let value = length_prefixed(&mut rest)?;
            self.values.append(value)?;
        }
        self.nulls.append_non_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<ListArray, ArrowError> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        ListArray::try_new(self.element.clone(), offsets, self.values.finish()?, self.nulls.finish())
    }
}

const TRUNCATED: &str = "a truncated value";

fn typed<T: ArrowPrimitiveType>(data_type: &DataType) -> PrimitiveBuilder<T> {
    PrimitiveBuilder::new().with_data_type(data_type.clone())
}

fn append<T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    field: Option<&[u8]>,
    read: impl Fn(&[u8]) -> Result<T::Native, Reason>,
) -> Result<(), Reason> {
    match field {
        Some(field) => builder.append_value(read(field)?),
        None => builder.append_null(),
    }
    Ok(())
}

fn fixed<const N: usize>(field: &[u8]) -> Result<[u8; N], Reason> {
    field.try_into().map_err(|_| format!("{} bytes where {N} are expected", field.len()))
}

fn int(rest: &mut &[u8]) -> Result<i32, Reason> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

/// A length and so many bytes; -1 is NULL.
fn length_prefixed<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Reason> {
    let Ok(length) = usize::try_from(int(rest)?) else { return Ok(None) };
    let (head, tail) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(Some(head))
}

fn utf8(field: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(field).map_err(|_| "text that is not UTF-8; the database's encoding is SQL_ASCII".to_owned())
}

fn float4(field: &[u8]) -> Result<f32, Reason> {
    let value = f32::from_be_bytes(fixed(field)?);
    Ok(if value.is_nan() { f32::NAN } else { value })
}

fn float8(field: &[u8]) -> Result<f64, Reason> {
    let value = f64::from_be_bytes(fixed(field)?);
    Ok(if value.is_nan() { f64::NAN } else { value })
}

fn within<T: DecimalType>(value: T::Native, precision: u8, scale: i8) -> Result<T::Native, Reason> {
    match T::is_valid_decimal_precision(value, precision) {
        true => Ok(value),
        false => Err(format!("a numeric of more than {precision} digits with {scale} of them behind the point")),
    }
}

fn append_uuid(builder: &mut StringBuilder, bytes: [u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    builder.append_value(std::str::from_utf8(&text).expect("Invariant: hexadecimal digits and dashes are UTF-8"));
}

/// Infinities are the ends of both representations.
fn date(field: &[u8]) -> Result<i32, Reason> {
    match i32::from_be_bytes(fixed(field)?) {
        infinity @ (i32::MIN | i32::MAX) => Ok(infinity),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(|| "a date out of range".to_owned()),
    }
}

/// Infinities are the ends of both representations; a finite time that would be read as one is refused.
fn timestamp(field: &[u8]) -> Result<i64, Reason> {
    match i64::from_be_bytes(fixed(field)?) {
        infinity @ (i64::MIN | i64::MAX) => Ok(infinity),
        micros => micros
            .checked_add(EPOCH_MICROS)
            .filter(|micros| *micros != i64::MAX)
            .ok_or_else(|| "a time after 294247-01-10T04:00:54, past 64 bits of microseconds".to_owned()),
    }
}

/// Microseconds, days, months. PostgreSQL 17's infinite intervals have the largest of each and overflow here too.
fn interval(field: &[u8]) -> Result<IntervalMonthDayNano, Reason> {
    let bytes: [u8; 16] = fixed(field)?;
    let mut rest = &bytes[8..];
    let (days, months) = (int(&mut rest)?, int(&mut rest)?);
    let micros = i64::from_be_bytes(fixed(&bytes[..8])?);
    let nanos =
        micros.checked_mul(1000).ok_or("an interval of more than 292 years of hours, past 64 bits of nanoseconds")?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}
