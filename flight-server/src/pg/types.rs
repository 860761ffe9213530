//! Which type of PostgreSQL a column has, and what its values are turned into before they are written.
//!
//! An unsigned integer has the next larger type, and the largest is numeric. Records and maps are JSON, and what is left is text.

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use postgres_types::Type;

/// What the metadata of a field calls the oid of its type, where Arrow has no type of that meaning.
pub(super) const PG_TYPE: &str = "headwater.pg_type";

/// A column as clients get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) oid: u32,
    /// Bytes of a value, -1 where they differ.
    pub(super) size: i16,
    /// Precision and scale of a numeric, -1 where there is none.
    pub(super) modifier: i32,
}

/// The columns of a result.
pub(super) fn columns(schema: &Schema) -> Vec<Column> {
    schema.fields().iter().map(|field| column(field)).collect()
}

pub(super) fn column(field: &Field) -> Column {
    let pg = of_field(field);
    let name = field.name().clone();
    Column { name, oid: pg.oid(), size: size(&pg), modifier: modifier(field.data_type()) }
}

/// PostgreSQL's type of a field: what its metadata says, or else that of its Arrow type.
pub(super) fn of_field(field: &Field) -> Type {
    let said = field.metadata().get(PG_TYPE).and_then(|oid| Type::from_oid(oid.parse().ok()?));
    said.unwrap_or_else(|| of(field.data_type()))
}

/// PostgreSQL's type of an Arrow type.
pub(super) fn of(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 => Type::INT8,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Struct(_) | DataType::Map(..) => Type::JSON,
        DataType::Dictionary(_, values) => of(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            array_of(&of(item.data_type())).unwrap_or(Type::TEXT)
        }
        _ => Type::TEXT,
    }
}

/// The type of arrays of a type; arrays of arrays and of records are text.
fn array_of(element: &Type) -> Option<Type> {
    Some(match *element {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        _ => return None,
    })
}

/// The Arrow type that a column's values have when they are written: one for each of PostgreSQL's.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Nanosecond),
        DataType::Dictionary(_, values) => plain(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let plain = Field::new(item.name(), plain(item.data_type()), true).with_metadata(item.metadata().clone());
            DataType::List(plain.into())
        }
        other => other.clone(),
    }
}

/// The Arrow type of a parameter that a client says is of this type; `None` where it says nothing or something that we have not.
pub(super) fn arrow_of(oid: u32) -> Option<DataType> {
    Some(match Type::from_oid(oid)? {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UUID => DataType::Utf8,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

/// A schema whose open columns (of NULL alone) are text.
pub(super) fn settled(schema: &Schema) -> SchemaRef {
    let settle = |field: &Field| match field.data_type() {
        DataType::Null => Field::new(field.name(), DataType::Utf8, true),
        _ => field.clone(),
    };
    Schema::new(schema.fields().iter().map(|field| settle(field)).collect::<Vec<_>>()).into()
}

fn size(pg: &Type) -> i16 {
    match *pg {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::OID | Type::FLOAT4 | Type::DATE => 4,
        Type::NAME => 64,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// What PostgreSQL calls the type modifier: of a numeric, precision and scale and four.
pub(super) fn modifier(data_type: &DataType) -> i32 {
    let (precision, scale) = match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (i32::from(*precision), i32::from(*scale)),
        _ => return -1,
    };
    match scale {
        0.. => ((precision << 16) | scale) + 4,
        // PostgreSQL 15 has negative scales too, and many a driver does not know.
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_type_has_one_that_clients_know() {
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
        for (arrow, oid, modifier) in [
            (DataType::UInt64, 1700, -1),
            (DataType::Decimal128(12, 2), 1700, ((12 << 16) | 2) + 4),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), 1184, -1),
            (list(DataType::UInt8), 1005, -1),
            (list(list(DataType::Int8)), 25, -1),
            (DataType::Null, 25, -1),
        ] {
            let column = column(&Field::new("x", arrow.clone(), true));
            assert_eq!((column.oid, column.modifier), (oid, modifier), "{arrow}");
        }
    }
}
