//! The type table: which Arrow type and class a column of Postgres is read as, and how it is written in a select list.
//!
//! | Postgres | Arrow | class | notes |
//! |---|---|---|---|
//! | boolean | Boolean | Boolean | |
//! | smallint, integer, bigint | Int16, Int32, Int64 | Integer | |
//! | oid | UInt32 | Integer | |
//! | real, double precision | Float32, Float64 | Float | every NaN is read as the one positive quiet NaN |
//! | numeric(p,s) | Decimal128(p,s) to 38 digits, Decimal256 to 76 | Decimal | s < 0 is read as (p-s, 0), s > p as (s, s); NaN is an error |
//! | numeric without precision or with more digits | Utf8 | Opaque | as printed, with every digit; or as the decimal that the manifest says: [`LooseNumeric`] |
//! | text, varchar, name | Utf8 | Text | TextFolded under a nondeterministic collation; Opaque where the server's encoding is not UTF8 |
//! | citext | Utf8 | TextFolded | |
//! | char(n) | Utf8 | TextPadded | without trailing spaces |
//! | bytea | Binary | Bytes | |
//! | date | Date32 | Date | infinity is `i32::MAX`, -infinity `i32::MIN` |
//! | time | Time64(Microsecond) | Time | 24:00:00 is 86400000000 |
//! | timestamp | Timestamp(Microsecond) | Timestamp | infinity is `i64::MAX`, -infinity `i64::MIN`; past 294247-01-10 an error |
//! | timestamptz | Timestamp(Microsecond, "UTC") | TimestampTz | the same |
//! | interval | Interval(MonthDayNano) | Opaque | past 292 years of time-of-day, and infinity, an error |
//! | uuid | Utf8 | Uuid | lower case with dashes |
//! | an enum | Utf8 | Label | |
//! | json, jsonb | Utf8 | Opaque | as printed |
//! | a domain | as its base type | as its base type | |
//! | an array of any of the above | List | Opaque | lower bounds are dropped; more than one dimension is an error |
//! | "char", money, timetz, bit, inet, cidr, macaddr, xml, ranges, composites, geometry, full text, pg_lsn, ... and their arrays | Utf8 | Opaque | as printed |

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, IntervalUnit, TimeUnit};
use headwater_source::{ColumnDef, ValueClass};
use tokio_postgres::types::{Oid, Type};

/// A type of the catalog, domains resolved.
#[derive(Debug, Clone)]
pub(super) struct CatalogType {
    pub(super) oid: Oid,
    pub(super) name: String,
    /// pg_type.typtype: b base, c composite, e enum, r range, m multirange.
    pub(super) kind: String,
    /// The type modifier: precision and scale of a numeric. -1 where there is none.
    pub(super) modifier: i32,
}

/// How a column's text compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextOrder {
    /// Equal strings have equal bytes, and COLLATE "C" sorts as Arrow does.
    Deterministic,
    /// Other strings may be equal too.
    Folded,
    /// The server does not keep UTF-8: a bind may not even be representable there.
    OtherEncoding,
}

/// How a numeric is read whose declaration fits no decimal: it has no precision, or more digits than any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LooseNumeric {
    /// As printed.
    #[default]
    Text,
    /// As a decimal; a value that it can't hold is an error.
    Decimal { precision: u8, scale: i8 },
}

impl LooseNumeric {
    /// Reads `text` or `decimal(P,S)`, with 1 to 76 digits of which at most all are behind the point.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text: String = text.to_ascii_lowercase().split_whitespace().collect();
        if text == "text" {
            return Some(Self::Text);
        }
        let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
        let fits =
            (1..=DECIMAL256_MAX_PRECISION).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
        fits.then_some(Self::Decimal { precision, scale })
    }

    fn data_type(self) -> (DataType, ValueClass) {
        match self {
            Self::Text => (DataType::Utf8, ValueClass::Opaque),
            Self::Decimal { precision, scale } if precision <= DECIMAL128_MAX_PRECISION => {
                (DataType::Decimal128(precision, scale), ValueClass::Decimal)
            }
            Self::Decimal { precision, scale } => (DataType::Decimal256(precision, scale), ValueClass::Decimal),
        }
    }
}

/// Reads a column's type. An array has an element.
pub(super) fn map(
    base: &CatalogType,
    element: Option<&CatalogType>,
    order: TextOrder,
    loose: LooseNumeric,
) -> (DataType, ValueClass) {
    let Some(element) = element else {
        return scalar(base, order, loose).unwrap_or((DataType::Utf8, ValueClass::Opaque));
    };
    match scalar(element, order, loose) {
        Some((data_type, _)) => (DataType::List(Arc::new(Field::new_list_field(data_type, true))), ValueClass::Opaque),
        None => (DataType::Utf8, ValueClass::Opaque),
    }
}

/// The type of the values of a mapped type, `None` for others.
fn scalar(base: &CatalogType, order: TextOrder, loose: LooseNumeric) -> Option<(DataType, ValueClass)> {
    let text = |class| match order {
        TextOrder::OtherEncoding => (DataType::Utf8, ValueClass::Opaque),
        TextOrder::Folded if class == ValueClass::Text => (DataType::Utf8, ValueClass::TextFolded),
        _ => (DataType::Utf8, class),
    };
    if base.kind == "e" {
        return Some(text(ValueClass::Label));
    }
    let Some(known) = Type::from_oid(base.oid) else {
        return (base.name == "citext" && base.kind == "b").then(|| text(ValueClass::TextFolded));
    };
    Some(match known {
        Type::BOOL => (DataType::Boolean, ValueClass::Boolean),
        Type::INT2 => (DataType::Int16, ValueClass::Integer),
        Type::INT4 => (DataType::Int32, ValueClass::Integer),
        Type::INT8 => (DataType::Int64, ValueClass::Integer),
        Type::OID => (DataType::UInt32, ValueClass::Integer),
        Type::FLOAT4 => (DataType::Float32, ValueClass::Float),
        Type::FLOAT8 => (DataType::Float64, ValueClass::Float),
        Type::NUMERIC => decimal(base.modifier).unwrap_or_else(|| loose.data_type()),
        Type::TEXT | Type::VARCHAR | Type::NAME => text(ValueClass::Text),
        Type::BPCHAR => text(ValueClass::TextPadded),
        Type::BYTEA => (DataType::Binary, ValueClass::Bytes),
        Type::DATE => (DataType::Date32, ValueClass::Date),
        Type::TIME => (DataType::Time64(TimeUnit::Microsecond), ValueClass::Time),
        Type::TIMESTAMP => (DataType::Timestamp(TimeUnit::Microsecond, None), ValueClass::Timestamp),
        Type::TIMESTAMPTZ => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), ValueClass::TimestampTz),
        Type::INTERVAL => (DataType::Interval(IntervalUnit::MonthDayNano), ValueClass::Opaque),
        Type::UUID => (DataType::Utf8, ValueClass::Uuid),
        Type::JSON | Type::JSONB => (DataType::Utf8, ValueClass::Opaque),
        _ => return None,
    })
}

/// A numeric of this modifier, `None` where no decimal holds it. Scales outside 0 to the precision are widened to what Arrow can hold
/// without loss.
fn decimal(modifier: i32) -> Option<(DataType, ValueClass)> {
    let (precision, scale) = precision_and_scale(modifier)?;
    let (precision, scale) = match scale {
        ..0 => (precision - scale, 0),
        _ => (precision.max(scale), scale),
    };
    let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?);
    (precision <= DECIMAL256_MAX_PRECISION).then(|| LooseNumeric::Decimal { precision, scale }.data_type())
}

/// As numeric.c packs them: precision above 16 bits, scale in 11 bits with a sign, all plus 4.
fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    const HEADER: i32 = 4;
    let packed = modifier.checked_sub(HEADER).filter(|packed| *packed >= 0)?;
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// The type as which a column is selected, in a cast, where it has to be cast.
pub(super) fn read_cast(column: &ColumnDef) -> Option<String> {
    match &column.data_type {
        DataType::Utf8 if column.class != ValueClass::Uuid => Some("text".to_owned()),
        // An array of a domain is read as an array of the domain's base type; for others the cast does nothing.
        DataType::List(element) => Some(format!("{}[]", sql_type(element.data_type()))),
        _ => None,
    }
}

/// Whether the column's own type is sent as text is, byte for byte; a char(n) with its padding, which the decoder leaves out.
pub(super) fn is_sent_as_text(column: &ColumnDef) -> bool {
    let declared = |prefix| column.remote_type.starts_with(prefix);
    match column.class {
        ValueClass::Text | ValueClass::TextFolded => declared("character varying") || column.remote_type == "text",
        ValueClass::TextPadded => declared("character("),
        _ => false,
    }
}

/// Whether the server may send a column in this type: its own where that is sent alike, or the one that is asked for.
pub(super) fn is_sent_as(column: &ColumnDef, oid: Oid) -> bool {
    let own = match column.class {
        ValueClass::TextPadded => Type::BPCHAR,
        _ => Type::VARCHAR,
    };
    oid == wire_type(column).oid() || oid == own.oid() && is_sent_as_text(column)
}

/// The name of the type that is read as this Arrow type.
pub(super) fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::UInt32 => "oid",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric",
        DataType::Binary => "bytea",
        DataType::Date32 => "date",
        DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Interval(_) => "interval",
        _ => "text",
    }
}

/// The type in which the server sends a selected column.
pub(super) fn wire_type(column: &ColumnDef) -> Type {
    match &column.data_type {
        _ if column.class == ValueClass::Total => Type::NUMERIC,
        DataType::Utf8 if column.class == ValueClass::Uuid => Type::UUID,
        DataType::List(element) => array_type(element.data_type()),
        other => element_type(other),
    }
}

/// The type in which the server sends an element that is read as this Arrow type.
pub(super) fn element_type(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::BOOL,
        DataType::Int16 => Type::INT2,
        DataType::Int32 => Type::INT4,
        DataType::Int64 => Type::INT8,
        DataType::UInt32 => Type::OID,
        DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Decimal128(..) | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::Binary => Type::BYTEA,
        DataType::Date32 => Type::DATE,
        DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) => Type::INTERVAL,
        _ => Type::TEXT,
    }
}

fn array_type(element: &DataType) -> Type {
    match element_type(element) {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: i32, scale: i32) -> DataType {
        decimal(((precision << 16) | (scale & 0x7ff)) + 4).map_or(DataType::Utf8, |(data_type, _)| data_type)
    }

    #[test]
    fn numeric_keeps_its_digits_in_the_smallest_decimal_that_holds_them() {
        assert_eq!(numeric(12, 2), DataType::Decimal128(12, 2));
        assert_eq!(numeric(38, 38), DataType::Decimal128(38, 38));
        assert_eq!(numeric(39, 0), DataType::Decimal256(39, 0));
        assert_eq!(numeric(76, 76), DataType::Decimal256(76, 76));
        assert_eq!(numeric(77, 0), DataType::Utf8);
        assert_eq!(decimal(-1), None);
    }

    #[test]
    fn scale_outside_the_precision_is_widened_without_loss() {
        assert_eq!(numeric(3, -2), DataType::Decimal128(5, 0));
        assert_eq!(numeric(3, 5), DataType::Decimal128(5, 5));
        assert_eq!(numeric(30, -1000), DataType::Utf8);
        assert_eq!(numeric(2, 1000), DataType::Utf8);
    }

    #[test]
    fn loose_numeric_is_text_or_a_decimal_of_at_most_76_digits() {
        let decimal = |precision, scale| Some(LooseNumeric::Decimal { precision, scale });
        assert_eq!(LooseNumeric::parse("Text"), Some(LooseNumeric::Text));
        assert_eq!(LooseNumeric::parse("decimal(38,9)"), decimal(38, 9));
        assert_eq!(LooseNumeric::parse("DECIMAL(76, 76)"), decimal(76, 76));
        for text in
            ["", "decimal", "decimal(38)", "decimal(77,0)", "decimal(0,0)", "decimal(5,6)", "decimal(5,-1)", "double"]
        {
            assert_eq!(LooseNumeric::parse(text), None, "{text}");
        }
    }
}
