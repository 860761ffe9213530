//! Columns that grow by a binary field at a time: a vector for each, and one place that knows which.
//!
//! NULLs are counted by whoever holds the column; here they only keep its place. Text is checked for UTF-8 once for a batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, NullBufferBuilder,
    PrimitiveArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type, i256,
};
use headwater_source::ValueClass;

use super::field::{Reason, date, fixed, float4, float8, int, interval, length_prefixed, timestamp, uuid, within};
use super::numeric;
use super::types::element_type;

/// The values of a column.
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Fixed<Int16Type>),
    Int32(Fixed<Int32Type>),
    Int64(Fixed<Int64Type>),
    UInt32(Fixed<UInt32Type>),
    Float32(Fixed<Float32Type>),
    Float64(Fixed<Float64Type>),
    Decimal128(Fixed<Decimal128Type>, u8, i8),
    Decimal256(Fixed<Decimal256Type>, u8, i8),
    /// A sum, modulo 2 to the 64.
    Total64(Fixed<Int64Type>),
    /// A sum, modulo 2 to the 128.
    Total128(Fixed<Decimal128Type>, i8),
    Text(Varying),
    /// Text without its padding.
    Padded(Varying),
    Uuid(Varying),
    Bytes(Varying),
    Date(Fixed<Date32Type>),
    Time(Fixed<Time64MicrosecondType>),
    Timestamp(Fixed<TimestampMicrosecondType>),
    Interval(Fixed<IntervalMonthDayNanoType>),
    List(Box<List>),
}

/// Values of one width.
pub(super) struct Fixed<T: ArrowPrimitiveType> {
    pub(super) values: Vec<T::Native>,
    data_type: DataType,
}

/// Values of any length, one behind another.
pub(super) struct Varying {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

/// Lists of values.
pub(super) struct List {
    element: FieldRef,
    pub(super) values: Values,
    pub(super) nulls: NullBufferBuilder,
    offsets: Vec<i32>,
}

impl Values {
    /// The writer of a type.
    pub(super) fn new(data_type: &DataType, class: ValueClass) -> Self {
        match data_type {
            DataType::Int64 if class == ValueClass::Total => Self::Total64(Fixed::new(data_type)),
            DataType::Decimal128(_, scale) if class == ValueClass::Total => {
                Self::Total128(Fixed::new(data_type), *scale)
            }
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int16 => Self::Int16(Fixed::new(data_type)),
            DataType::Int32 => Self::Int32(Fixed::new(data_type)),
            DataType::Int64 => Self::Int64(Fixed::new(data_type)),
            DataType::UInt32 => Self::UInt32(Fixed::new(data_type)),
            DataType::Float32 => Self::Float32(Fixed::new(data_type)),
            DataType::Float64 => Self::Float64(Fixed::new(data_type)),
            DataType::Decimal128(precision, scale) => Self::Decimal128(Fixed::new(data_type), *precision, *scale),
            DataType::Decimal256(precision, scale) => Self::Decimal256(Fixed::new(data_type), *precision, *scale),
            DataType::Binary => Self::Bytes(Varying::new()),
            DataType::Date32 => Self::Date(Fixed::new(data_type)),
            DataType::Time64(_) => Self::Time(Fixed::new(data_type)),
            DataType::Timestamp(..) => Self::Timestamp(Fixed::new(data_type)),
            DataType::Interval(_) => Self::Interval(Fixed::new(data_type)),
            DataType::List(element) => Self::List(Box::new(List::new(element))),
            _ if class == ValueClass::Uuid => Self::Uuid(Varying::new()),
            _ if class == ValueClass::TextPadded => Self::Padded(Varying::new()),
            _ => Self::Text(Varying::new()),
        }
    }

    /// Takes a value.
    #[inline]
    pub(super) fn push(&mut self, field: &[u8]) -> Result<(), Reason> {
        match self {
            Self::Boolean(builder) => builder.append(fixed::<1>(field)? != [0]),
            Self::Int16(column) => column.values.push(i16::from_be_bytes(fixed(field)?)),
            Self::Int32(column) => column.values.push(i32::from_be_bytes(fixed(field)?)),
            Self::Int64(column) => column.values.push(i64::from_be_bytes(fixed(field)?)),
            Self::UInt32(column) => column.values.push(u32::from_be_bytes(fixed(field)?)),
            Self::Float32(column) => column.values.push(float4(field)?),
            Self::Float64(column) => column.values.push(float8(field)?),
            Self::Decimal128(column, precision, scale) => {
                let value = match numeric::short(field, *scale) {
                    Some(value) => value.into(),
                    None => numeric::read(field, *scale)?,
                };
                column.values.push(within::<Decimal128Type>(value, *precision, *scale)?);
            }
            Self::Decimal256(column, precision, scale) => {
                let value: i256 = numeric::read(field, *scale)?;
                column.values.push(within::<Decimal256Type>(value, *precision, *scale)?);
            }
            Self::Total64(column) => {
                let (low, _) = numeric::read::<i256>(field, 0)?.to_parts();
                column.values.push(low as i64);
            }
            Self::Total128(column, scale) => {
                let (low, _) = numeric::read::<i256>(field, *scale)?.to_parts();
                column.values.push(low.cast_signed());
            }
            Self::Text(column) | Self::Bytes(column) => column.push(field)?,
            Self::Padded(column) => column.push(without_padding(field))?,
            Self::Uuid(column) => column.push(&uuid(fixed(field)?))?,
            Self::Date(column) => column.values.push(date(field)?),
            Self::Time(column) => column.values.push(i64::from_be_bytes(fixed(field)?)),
            Self::Timestamp(column) => column.values.push(timestamp(field)?),
            Self::Interval(column) => column.values.push(interval(field)?),
            Self::List(list) => list.push(field)?,
        }
        Ok(())
    }

    /// Keeps the place of a NULL.
    pub(super) fn push_null(&mut self) -> Result<(), Reason> {
        match self {
            Self::Boolean(builder) => builder.append(false),
            Self::Int16(column) => column.push_null(),
            Self::Int32(column) => column.push_null(),
            Self::Int64(column) | Self::Total64(column) => column.push_null(),
            Self::UInt32(column) => column.push_null(),
            Self::Float32(column) => column.push_null(),
            Self::Float64(column) => column.push_null(),
            Self::Decimal128(column, ..) | Self::Total128(column, _) => column.push_null(),
            Self::Decimal256(column, ..) => column.push_null(),
            Self::Text(column) | Self::Padded(column) | Self::Uuid(column) | Self::Bytes(column) => column.push(&[])?,
            Self::Date(column) => column.push_null(),
            Self::Time(column) => column.push_null(),
            Self::Timestamp(column) => column.push_null(),
            Self::Interval(column) => column.push_null(),
            Self::List(list) => list.end()?,
        }
        Ok(())
    }

    /// The column so far, or which of its rows cannot be read and why.
    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, (usize, Reason)> {
        Ok(match self {
            Self::Boolean(builder) => Arc::new(BooleanArray::new(builder.finish(), nulls)),
            Self::Int16(column) => column.finish(nulls),
            Self::Int32(column) => column.finish(nulls),
            Self::Int64(column) | Self::Total64(column) => column.finish(nulls),
            Self::UInt32(column) => column.finish(nulls),
            Self::Float32(column) => column.finish(nulls),
            Self::Float64(column) => column.finish(nulls),
            Self::Decimal128(column, ..) | Self::Total128(column, _) => column.finish(nulls),
            Self::Decimal256(column, ..) => column.finish(nulls),
            Self::Text(column) | Self::Padded(column) | Self::Uuid(column) => column.finish_text(nulls)?,
            Self::Bytes(column) => column.finish_bytes(nulls),
            Self::Date(column) => column.finish(nulls),
            Self::Time(column) => column.finish(nulls),
            Self::Timestamp(column) => column.finish(nulls),
            Self::Interval(column) => column.finish(nulls),
            Self::List(list) => list.finish(nulls)?,
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Boolean(builder) => builder.len(),
            Self::Int16(column) => column.values.len(),
            Self::Int32(column) => column.values.len(),
            Self::Int64(column) | Self::Total64(column) => column.values.len(),
            Self::UInt32(column) => column.values.len(),
            Self::Float32(column) => column.values.len(),
            Self::Float64(column) => column.values.len(),
            Self::Decimal128(column, ..) | Self::Total128(column, _) => column.values.len(),
            Self::Decimal256(column, ..) => column.values.len(),
            Self::Text(column) | Self::Padded(column) | Self::Uuid(column) | Self::Bytes(column) => column.len(),
            Self::Date(column) => column.values.len(),
            Self::Time(column) => column.values.len(),
            Self::Timestamp(column) => column.values.len(),
            Self::Interval(column) => column.values.len(),
            Self::List(list) => list.offsets.len() - 1,
        }
    }
}

impl<T: ArrowPrimitiveType> Fixed<T> {
    fn new(data_type: &DataType) -> Self {
        Self { values: vec![], data_type: data_type.clone() }
    }

    fn push_null(&mut self) {
        self.values.push(T::Native::default());
    }

    /// The next batch is as long as this one, most likely.
    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let next = Vec::with_capacity(self.values.len());
        let values = std::mem::replace(&mut self.values, next);
        Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(self.data_type.clone()))
    }
}

impl Varying {
    fn new() -> Self {
        Self { bytes: vec![], offsets: vec![0] }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Reason> {
        self.bytes.extend_from_slice(value);
        self.offsets.push(i32::try_from(self.bytes.len()).map_err(|_| "more bytes than a batch holds")?);
        Ok(())
    }

    fn parts(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let next = Vec::with_capacity(self.bytes.len());
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        (OffsetBuffer::new(offsets.into()), std::mem::replace(&mut self.bytes, next))
    }

    fn finish_bytes(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, bytes) = self.parts();
        Arc::new(BinaryArray::new(offsets, bytes.into(), nulls))
    }

    fn finish_text(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, (usize, Reason)> {
        const NOT_UTF8: &str = "text that is not UTF-8; the database's encoding is SQL_ASCII";
        let (offsets, bytes) = self.parts();
        let values = bytes.into();
        if let Ok(text) = StringArray::try_new(offsets.clone(), arrow::buffer::Buffer::clone(&values), nulls) {
            return Ok(Arc::new(text));
        }
        let is_text = |ends: &[i32]| std::str::from_utf8(&values[ends[0] as usize..ends[1] as usize]).is_ok();
        let row = offsets.windows(2).position(|ends| !is_text(ends));
        Err((row.unwrap_or(0), NOT_UTF8.to_owned()))
    }
}

impl List {
    fn new(element: &FieldRef) -> Self {
        let values = Values::new(element.data_type(), ValueClass::Opaque);
        Self { element: Arc::clone(element), values, nulls: NullBufferBuilder::new(0), offsets: vec![0] }
    }

    /// As array_send writes them: dimensions, a flag for NULLs, the element's type, length and lower bound of each dimension,
    /// the elements with their lengths.
    fn push(&mut self, field: &[u8]) -> Result<(), Reason> {
        let mut rest = field;
        let dimensions = int(&mut rest)?;
        int(&mut rest)?;
        let element = int(&mut rest)?.cast_unsigned();
        if element != element_type(self.element.data_type()).oid() {
            return Err(format!("elements of a type that is not expected (oid {element})"));
        }
        if dimensions > 1 {
            return Err(too_many_dimensions(dimensions));
        }
        let length = if dimensions == 1 { int(&mut rest)? } else { 0 };
        if dimensions == 1 {
            // The lower bound, which a list has no place for.
            int(&mut rest)?;
        }
        for _ in 0..length {
            match length_prefixed(&mut rest)? {
                Some(value) => {
                    self.values.push(value)?;
                    self.nulls.append_non_null();
                }
                None => {
                    self.values.push_null()?;
                    self.nulls.append_null();
                }
            }
        }
        self.end()
    }

    pub(super) fn end(&mut self) -> Result<(), Reason> {
        self.offsets.push(i32::try_from(self.values.len()).map_err(|_| "too many elements for one batch")?);
        Ok(())
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, (usize, Reason)> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let row_of = |element: usize| offsets.iter().rposition(|start| *start as usize <= element).unwrap_or(0);
        let values = self.values.finish(self.nulls.finish()).map_err(|(element, reason)| (row_of(element), reason))?;
        let list = ListArray::try_new(Arc::clone(&self.element), offsets, values, nulls);
        list.map(|list| Arc::new(list) as ArrayRef).map_err(|error| (0, error.to_string()))
    }
}

pub(super) fn too_many_dimensions(dimensions: i32) -> Reason {
    format!("an array of {dimensions} dimensions; only one is read, so unnest it or cast it to text in a view")
}

/// A char(n) as a cast to text reads it.
pub(super) fn without_padding(field: &[u8]) -> &[u8] {
    let end = field.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &field[..end]
}
