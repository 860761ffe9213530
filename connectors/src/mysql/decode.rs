//! Rows of the binary protocol into Arrow builders.
//!
//! The result's own columns say how the server sends each value. They must be of the family that the planned Arrow type is
//! read from, or the table has changed; within a family (a view may send an `int` as a `bigint`) every value is checked.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    DurationMicrosecondBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use headwater_source::{ColumnDef, ValueClass};
use mysql_common::constants::{ColumnFlags, ColumnType};
use mysql_common::packets::Column;

use super::value::{
    Datum, bytes, date, decimal128, decimal256, double, duration, integer, single, text, timestamp, total64, total128,
};
use super::wire::{lenenc, split};

/// Why a value did not become Arrow's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The column is not what was planned.
    Changed(String),
    /// The value does not fit.
    Value(&'static str),
}

/// In a row, the bits that say which values are missing begin with so many that say nothing.
const MISSING_OFFSET: usize = 2;

/// How a column's values are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Float,
    Double,
    Date,
    Time,
    Bytes,
    /// NULL always.
    Nothing,
}

/// Gathers rows until they make a batch.
#[derive(Debug)]
pub(super) struct Decoder {
    schema: SchemaRef,
    builders: Vec<Builder>,
    /// How the values of a row are sent; known once the result is.
    sent: Vec<Sent>,
    rows: usize,
    bytes: usize,
}

/// A builder for each Arrow type of the type table.
#[derive(Debug)]
pub(super) enum Builder {
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, usize),
    Decimal256(Decimal256Builder, usize),
    /// A sum, which the server makes a decimal of and which is read modulo 64 bits.
    Total64(Int64Builder),
    /// The same modulo 128 bits.
    Total128(Decimal128Builder, usize),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Duration(DurationMicrosecondBuilder),
}

impl Decoder {
    /// A decoder for rows of `columns`, which have the types of `schema`, or the type that it cannot read.
    pub(super) fn new(columns: &[ColumnDef], schema: SchemaRef) -> Result<Self, DataType> {
        let builders = columns.iter().map(Builder::of).collect::<Result<_, _>>()?;
        Ok(Self { schema, builders, sent: vec![], rows: 0, bytes: 0 })
    }

    /// Checks that a result's columns are sent as the planned types are read.
    ///
    /// Where no column is asked for, the result has one constant, which is not looked at.
    pub(super) fn check(&mut self, columns: &[Column]) -> Result<(), String> {
        if columns.len() != self.builders.len().max(1) {
            return Err(format!("{} columns came instead of {}", columns.len(), self.builders.len()));
        }
        for ((field, builder), column) in self.schema.fields().iter().zip(&self.builders).zip(columns) {
            if !builder.reads(column.column_type()) {
                let (name, sent) = (field.name(), column.column_type());
                return Err(format!("column \"{name}\" is sent as {sent:?} and not read as {}", field.data_type()));
            }
        }
        self.sent = columns.iter().map(Sent::of).collect();
        Ok(())
    }

    /// Adds a row, as it was sent. On a fault, names the column's index.
    pub(super) fn push(&mut self, row: &[u8]) -> Result<(), (usize, Fault)> {
        let short = |index| (index, Fault::Changed("the row is short".to_owned()));
        let missing = 1..1 + (self.sent.len() + MISSING_OFFSET).div_ceil(8);
        let (Some(missing), Some(mut rest)) = (row.get(missing.clone()), row.get(missing.end..)) else {
            return Err(short(0));
        };
        for (index, (builder, sent)) in self.builders.iter_mut().zip(&self.sent).enumerate() {
            let bit = index + MISSING_OFFSET;
            let value = match missing[bit / 8] >> (bit % 8) & 1 {
                0 => sent.take(&mut rest).ok_or_else(|| short(index))?,
                _ => Datum::Null,
            };
            if let Datum::Bytes(bytes) = value {
                self.bytes += bytes.len();
            }
            let missing = builder.push(value).map_err(|reason| (index, Fault::Value(reason)))?;
            if missing && !self.schema.field(index).is_nullable() {
                return Err((index, Fault::Changed("a column that was NOT NULL holds NULL".to_owned())));
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Rows gathered.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of text and binary strings gathered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The batch of what was gathered.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays =
            self.builders.iter_mut().zip(self.schema.fields()).map(|(b, field)| b.finish(field.data_type())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}

impl Sent {
    fn of(column: &Column) -> Self {
        use ColumnType as T;
        let unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
        match (column.column_type(), unsigned) {
            (T::MYSQL_TYPE_TINY, false) => Self::I8,
            (T::MYSQL_TYPE_TINY, true) => Self::U8,
            (T::MYSQL_TYPE_SHORT | T::MYSQL_TYPE_YEAR, false) => Self::I16,
            (T::MYSQL_TYPE_SHORT | T::MYSQL_TYPE_YEAR, true) => Self::U16,
            (T::MYSQL_TYPE_INT24 | T::MYSQL_TYPE_LONG, false) => Self::I32,
            (T::MYSQL_TYPE_INT24 | T::MYSQL_TYPE_LONG, true) => Self::U32,
            (T::MYSQL_TYPE_LONGLONG, false) => Self::I64,
            (T::MYSQL_TYPE_LONGLONG, true) => Self::U64,
            (T::MYSQL_TYPE_FLOAT, _) => Self::Float,
            (T::MYSQL_TYPE_DOUBLE, _) => Self::Double,
            (T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_TIMESTAMP, _) => Self::Date,
            (T::MYSQL_TYPE_TIME, _) => Self::Time,
            (T::MYSQL_TYPE_NULL, _) => Self::Nothing,
            _ => Self::Bytes,
        }
    }

    /// Takes a value from the front; `None` of a row that ends before it does.
    #[inline]
    fn take<'a>(self, rest: &mut &'a [u8]) -> Option<Datum<'a>> {
        Some(match self {
            Self::I8 => Datum::Int(i8::from_le_bytes(*split(rest)?).into()),
            Self::U8 => Datum::UInt(u8::from_le_bytes(*split(rest)?).into()),
            Self::I16 => Datum::Int(i16::from_le_bytes(*split(rest)?).into()),
            Self::U16 => Datum::UInt(u16::from_le_bytes(*split(rest)?).into()),
            Self::I32 => Datum::Int(i32::from_le_bytes(*split(rest)?).into()),
            Self::U32 => Datum::UInt(u32::from_le_bytes(*split(rest)?).into()),
            Self::I64 => Datum::Int(i64::from_le_bytes(*split(rest)?)),
            Self::U64 => Datum::UInt(u64::from_le_bytes(*split(rest)?)),
            Self::Float => Datum::Float(f32::from_le_bytes(*split(rest)?)),
            Self::Double => Datum::Double(f64::from_le_bytes(*split(rest)?)),
            Self::Bytes => Datum::Bytes(prefixed(rest)?),
            Self::Date => date_of(prefixed(rest)?)?,
            Self::Time => time_of(prefixed(rest)?)?,
            Self::Nothing => Datum::Null,
        })
    }
}

/// Bytes behind their number.
#[inline]
fn prefixed<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(lenenc(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

/// A date of which what is zero at the end may be left out.
fn date_of(sent: &[u8]) -> Option<Datum<'static>> {
    let mut part = [0; 11];
    part.get_mut(..sent.len())?.copy_from_slice(sent);
    let [y, yy, month, day, hour, minute, second, micros @ ..] = part;
    Some(Datum::Date(u16::from_le_bytes([y, yy]), month, day, hour, minute, second, u32::from_le_bytes(micros)))
}

/// A time, the same.
fn time_of(sent: &[u8]) -> Option<Datum<'static>> {
    let mut part = [0; 12];
    part.get_mut(..sent.len())?.copy_from_slice(sent);
    let [negative, d, dd, ddd, dddd, hour, minute, second, micros @ ..] = part;
    let days = u32::from_le_bytes([d, dd, ddd, dddd]);
    Some(Datum::Time(negative != 0, days, hour, minute, second, u32::from_le_bytes(micros)))
}

impl Builder {
    pub(super) fn of(column: &ColumnDef) -> Result<Self, DataType> {
        let data_type = &column.data_type;
        match (column.class, data_type) {
            (ValueClass::Total, DataType::Int64) => Ok(Self::Total64(Int64Builder::new())),
            (ValueClass::Total, DataType::Decimal128(_, scale)) => {
                let builder = Decimal128Builder::new().with_data_type(data_type.clone());
                Ok(Self::Total128(builder, digits(*scale, data_type)?))
            }
            (ValueClass::Total, _) => Err(data_type.clone()),
            _ => Self::new(data_type),
        }
    }

    fn new(data_type: &DataType) -> Result<Self, DataType> {
        Ok(match data_type {
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::UInt8 => Self::UInt8(UInt8Builder::new()),
            DataType::UInt16 => Self::UInt16(UInt16Builder::new()),
            DataType::UInt32 => Self::UInt32(UInt32Builder::new()),
            DataType::UInt64 => Self::UInt64(UInt64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal128(Decimal128Builder::new().with_data_type(data_type.clone()), digits(*scale, data_type)?)
            }
            DataType::Decimal256(_, scale) => {
                Self::Decimal256(Decimal256Builder::new().with_data_type(data_type.clone()), digits(*scale, data_type)?)
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::Duration(TimeUnit::Microsecond) => Self::Duration(DurationMicrosecondBuilder::new()),
            other => return Err(other.clone()),
        })
    }

    /// Whether the server's type is of the family that this builder takes.
    fn reads(&self, sent: ColumnType) -> bool {
        use ColumnType as T;
        let integer = matches!(
            sent,
            T::MYSQL_TYPE_TINY
                | T::MYSQL_TYPE_SHORT
                | T::MYSQL_TYPE_YEAR
                | T::MYSQL_TYPE_INT24
                | T::MYSQL_TYPE_LONG
                | T::MYSQL_TYPE_LONGLONG
        );
        let decimal = matches!(sent, T::MYSQL_TYPE_NEWDECIMAL | T::MYSQL_TYPE_DECIMAL);
        let float = matches!(sent, T::MYSQL_TYPE_FLOAT | T::MYSQL_TYPE_DOUBLE);
        let date = matches!(sent, T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE);
        let moment = matches!(sent, T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_TIMESTAMP);
        let time = sent == T::MYSQL_TYPE_TIME;
        let bit = sent == T::MYSQL_TYPE_BIT;
        let bytes = !(integer || decimal || float || date || moment || time || bit);
        if sent == T::MYSQL_TYPE_NULL {
            return true;
        }
        match self {
            Self::UInt64(_) => integer || bit,
            Self::Int8(_) | Self::Int16(_) | Self::Int32(_) | Self::Int64(_) => integer,
            Self::UInt8(_) | Self::UInt16(_) | Self::UInt32(_) => integer,
            Self::Float32(_) | Self::Float64(_) => float,
            Self::Decimal128(..) | Self::Decimal256(..) | Self::Total64(_) | Self::Total128(..) => decimal,
            // A decimal whose precision the catalog does not say is read as text.
            Self::Text(_) => bytes || decimal,
            Self::Binary(_) => bytes,
            Self::Date(_) => date,
            Self::Timestamp(_) => moment,
            Self::Duration(_) => time,
        }
    }

    /// Adds a value; says whether it was NULL.
    #[inline]
    pub(super) fn push(&mut self, value: Datum<'_>) -> Result<bool, &'static str> {
        let missing = match self {
            Self::Int8(builder) => append!(builder, integer(value)?),
            Self::Int16(builder) => append!(builder, integer(value)?),
            Self::Int32(builder) => append!(builder, integer(value)?),
            Self::Int64(builder) => append!(builder, integer(value)?),
            Self::UInt8(builder) => append!(builder, integer(value)?),
            Self::UInt16(builder) => append!(builder, integer(value)?),
            Self::UInt32(builder) => append!(builder, integer(value)?),
            Self::UInt64(builder) => append!(builder, integer(value)?),
            Self::Float32(builder) => append!(builder, single(value)?),
            Self::Float64(builder) => append!(builder, double(value)?),
            Self::Decimal128(builder, scale) => append!(builder, decimal128(value, *scale)?),
            Self::Decimal256(builder, scale) => append!(builder, decimal256(value, *scale)?),
            Self::Total64(builder) => append!(builder, total64(value)?),
            Self::Total128(builder, scale) => append!(builder, total128(value, *scale)?),
            Self::Text(builder) => append!(builder, text(value)?),
            Self::Binary(builder) => append!(builder, bytes(value)?),
            Self::Date(builder) => append!(builder, date(value)?),
            Self::Timestamp(builder) => append!(builder, timestamp(value)?),
            Self::Duration(builder) => append!(builder, duration(value)?),
        };
        Ok(missing)
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Self::Int8(builder) => builder,
            Self::Int16(builder) => builder,
            Self::Int32(builder) => builder,
            Self::Int64(builder) => builder,
            Self::UInt8(builder) => builder,
            Self::UInt16(builder) => builder,
            Self::UInt32(builder) => builder,
            Self::UInt64(builder) => builder,
            Self::Float32(builder) => builder,
            Self::Float64(builder) => builder,
            Self::Decimal128(builder, _) => builder,
            Self::Decimal256(builder, _) => builder,
            Self::Total64(builder) => builder,
            Self::Total128(builder, _) => builder,
            Self::Text(builder) => builder,
            Self::Binary(builder) => builder,
            Self::Date(builder) => builder,
            Self::Timestamp(builder) => builder,
            Self::Duration(builder) => builder,
        };
        let array = builder.finish();
        debug_assert_eq!(array.data_type(), data_type);
        array
    }
}

/// Appends an optional value to a builder; says whether it was NULL.
macro_rules! append {
    ($builder:expr, $value:expr) => {{
        let value = $value;
        let missing = value.is_none();
        $builder.append_option(value);
        missing
    }};
}
use append;

fn digits(scale: i8, data_type: &DataType) -> Result<usize, DataType> {
    usize::try_from(scale).map_err(|_| data_type.clone())
}
