//! The type table: which Arrow type each file's type is read as, and how the types of several files become one.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use headwater_source::ValueClass;

use super::discover::Format;

/// The type that a file's type is read as.
///
/// Views, large variants and dictionaries become the plain type; the rest keeps its meaning and its unit.
pub(super) fn house(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => house(value),
        DataType::RunEndEncoded(_, value) => house(value.data_type()),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(unit, Some(zone)) if utc(zone) => DataType::Timestamp(*unit, Some("UTC".into())),
        DataType::List(item) => DataType::List(house_field(item)),
        DataType::ListView(item) => DataType::List(house_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(house_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(house_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(house_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(house_field(entries), *sorted),
        other => other.clone(),
    }
}

/// How values of a type compare. Everything is compared by Arrow itself.
pub(super) fn class(data_type: &DataType) -> ValueClass {
    match data_type {
        DataType::Boolean => ValueClass::Boolean,
        data_type if data_type.is_integer() => ValueClass::Integer,
        DataType::Float32 | DataType::Float64 => ValueClass::Float,
        DataType::Decimal128(..) | DataType::Decimal256(..) => ValueClass::Decimal,
        DataType::Utf8 => ValueClass::Text,
        DataType::Binary => ValueClass::Bytes,
        DataType::Date32 | DataType::Date64 => ValueClass::Date,
        DataType::Time64(_) => ValueClass::Time,
        DataType::Timestamp(_, None) => ValueClass::Timestamp,
        DataType::Timestamp(_, Some(_)) => ValueClass::TimestampTz,
        _ => ValueClass::Opaque,
    }
}

/// The one type that holds the values of both, or `None` where none does without loss.
pub(super) fn union(format: Format, a: &DataType, b: &DataType) -> Option<DataType> {
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        // Text formats are read anew as the wider type, so nothing is lost in between.
        (a, b) if matches!(format, Format::Csv | Format::Json) => text_union(format, a, b),
        (DataType::Float32, DataType::Float64) | (DataType::Float64, DataType::Float32) => Some(DataType::Float64),
        (a, b) if a.is_integer() && b.is_integer() => integer_union(a, b),
        (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) => decimal_union((*p1, *s1), (*p2, *s2)),
        _ => None,
    }
}

/// The type that a text file's column is decoded as before it is cast to its own type.
///
/// Arrow's JSON decoder takes 1.5 as the integer 1; as text it is exact, and the cast that follows is strict. Timestamps are
/// checked for digits that would be lost.
pub(super) fn decoded(format: Format, data_type: &DataType) -> DataType {
    match (format, data_type) {
        (Format::Json, DataType::Int64) | (Format::Csv, DataType::Timestamp(..)) => DataType::Utf8,
        (Format::Json, DataType::List(item)) => DataType::List(decoded_field(format, item)),
        (Format::Json, DataType::Struct(fields)) => {
            DataType::Struct(fields.iter().map(|field| decoded_field(format, field)).collect())
        }
        (_, other) => other.clone(),
    }
}

fn decoded_field(format: Format, field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), decoded(format, field.data_type()), field.is_nullable()))
}

/// Field metadata is a file's own affair: types of two files that differ only there are one type.
fn house_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), house(field.data_type()), field.is_nullable()))
}

fn utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00" | "+0000" | "+00" | "Etc/UTC" | "utc")
}

fn text_union(format: Format, a: &DataType, b: &DataType) -> Option<DataType> {
    match (a, b) {
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => Some(DataType::Float64),
        (DataType::Date32, timestamp @ DataType::Timestamp(..))
        | (timestamp @ DataType::Timestamp(..), DataType::Date32) => Some(timestamp.clone()),
        (DataType::List(a), DataType::List(b)) => union(format, a.data_type(), b.data_type())
            .map(|item| DataType::List(Arc::new(Field::new("item", item, true)))),
        (a, b) if !a.is_nested() && !b.is_nested() => Some(DataType::Utf8),
        _ => None,
    }
}

/// Width in bits and whether a sign takes one of them.
fn integer_shape(data_type: &DataType) -> Option<(u8, bool)> {
    let shape = match data_type {
        DataType::Int8 => (8, true),
        DataType::Int16 => (16, true),
        DataType::Int32 => (32, true),
        DataType::Int64 => (64, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    };
    Some(shape)
}

fn integer_union(a: &DataType, b: &DataType) -> Option<DataType> {
    let ((a_bits, a_signed), (b_bits, b_signed)) = (integer_shape(a)?, integer_shape(b)?);
    if a_signed == b_signed {
        return Some(if a_bits >= b_bits { a.clone() } else { b.clone() });
    }
    let (signed_bits, unsigned_bits) = if a_signed { (a_bits, b_bits) } else { (b_bits, a_bits) };
    match signed_bits.max(unsigned_bits.checked_mul(2)?) {
        16 => Some(DataType::Int16),
        32 => Some(DataType::Int32),
        64 => Some(DataType::Int64),
        _ => None,
    }
}

fn decimal_union((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Option<DataType> {
    let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
    let scale = s1.max(s2);
    let precision = u8::try_from(whole + i16::from(scale)).ok()?;
    (precision <= 38).then_some(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_two_files_are_joined_only_where_nothing_is_lost() {
        let parquet = |a: &DataType, b: &DataType| union(Format::Parquet, a, b);
        assert_eq!(parquet(&DataType::Int16, &DataType::Int64), Some(DataType::Int64));
        assert_eq!(parquet(&DataType::UInt32, &DataType::Int8), Some(DataType::Int64));
        assert_eq!(parquet(&DataType::UInt64, &DataType::Int64), None);
        assert_eq!(parquet(&DataType::Int64, &DataType::Float64), None);
        assert_eq!(parquet(&DataType::Utf8, &DataType::Int64), None);
        assert_eq!(
            parquet(&DataType::Decimal128(10, 2), &DataType::Decimal128(10, 4)),
            Some(DataType::Decimal128(12, 4))
        );
        assert_eq!(union(Format::Csv, &DataType::Utf8, &DataType::Int64), Some(DataType::Utf8));
    }

    #[test]
    fn views_and_dictionaries_become_plain_types_at_every_depth() {
        let item = Field::new("item", DataType::Dictionary(DataType::Int8.into(), DataType::Utf8View.into()), true);
        let plain = Field::new("item", DataType::Utf8, true);
        assert_eq!(house(&DataType::List(Arc::new(item))), DataType::List(Arc::new(plain)));
    }
}
