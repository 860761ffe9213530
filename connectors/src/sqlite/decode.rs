//! Turns SQLite's values into Arrow arrays, by the [type table](super::types).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, Float64Builder,
    Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::i256;
use headwater_source::ColumnDef;
use rusqlite::types::ValueRef;

use super::decimal;
use super::temporal::{Offset, parse_date, parse_time, parse_timestamp};
use super::types::{DIGITS_MAX_128, Kind};

/// Why a value does not fit its column; the row is added by the scan.
pub(super) type Misfit = String;

/// Builds one column of a batch.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Float(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Any(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder, Offset),
}

impl ColumnBuilder {
    /// An empty builder of the column's Arrow type.
    pub(super) fn new(column: &ColumnDef) -> Self {
        match Kind::of_column(column) {
            Kind::Integer => Self::Integer(Int64Builder::new()),
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
            Kind::Float => Self::Float(Float64Builder::new()),
            Kind::Decimal { precision, scale } if precision <= DIGITS_MAX_128 => {
                let builder = Decimal128Builder::new().with_data_type(column.data_type.clone());
                Self::Decimal128(builder, precision, scale)
            }
            Kind::Decimal { precision, scale } => {
                let builder = Decimal256Builder::new().with_data_type(column.data_type.clone());
                Self::Decimal256(builder, precision, scale)
            }
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Any => Self::Any(StringBuilder::new()),
            Kind::Blob => Self::Blob(BinaryBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Kind::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new(), Offset::Utc),
            Kind::TimestampTz => Self::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(column.data_type.clone()),
                Offset::Any,
            ),
        }
    }

    /// Appends a value and returns how many bytes it added beyond its fixed width.
    pub(super) fn append(&mut self, value: ValueRef<'_>) -> Result<usize, Misfit> {
        if value == ValueRef::Null {
            self.append_null();
            return Ok(0);
        }
        match self {
            Self::Integer(builder) => builder.append_value(integer(value)?),
            Self::Boolean(builder) => builder.append_value(boolean(value)?),
            Self::Float(builder) => builder.append_value(float(value)?),
            Self::Decimal128(builder, precision, scale) => {
                let units = units(value, *precision, *scale)?;
                builder.append_value(units.to_i128().ok_or("it has more digits than the declared precision")?);
            }
            Self::Decimal256(builder, precision, scale) => builder.append_value(units(value, *precision, *scale)?),
            Self::Text(builder) => return Ok(append_text(builder, text(value)?)),
            Self::Any(builder) => return any_text(builder, value),
            Self::Blob(builder) => {
                let ValueRef::Blob(bytes) = value else { return Err(storage(value, "BLOB")) };
                builder.append_value(bytes);
                return Ok(bytes.len());
            }
            Self::Date(builder) => {
                builder.append_value(parse_date(text(value)?).ok_or("its text is not a date YYYY-MM-DD")?);
            }
            Self::Time(builder) => {
                builder.append_value(parse_time(text(value)?).ok_or("its text is not a time HH:MM:SS.ffffff")?);
            }
            Self::Timestamp(builder, offset) => builder.append_value(timestamp(value, *offset)?),
        }
        Ok(0)
    }

    fn append_null(&mut self) {
        match self {
            Self::Integer(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Decimal128(builder, ..) => builder.append_null(),
            Self::Decimal256(builder, ..) => builder.append_null(),
            Self::Text(builder) | Self::Any(builder) => builder.append_null(),
            Self::Blob(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder, _) => builder.append_null(),
        }
    }

    /// Takes the rows as an array and starts anew.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Decimal128(builder, ..) => Arc::new(builder.finish()),
            Self::Decimal256(builder, ..) => Arc::new(builder.finish()),
            Self::Text(builder) | Self::Any(builder) => Arc::new(builder.finish()),
            Self::Blob(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder, _) => Arc::new(builder.finish()),
        }
    }
}

/// The misfit of a value in another storage class than the column takes.
fn storage(value: ValueRef<'_>, wanted: &str) -> Misfit {
    let found = match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "INTEGER",
        ValueRef::Real(_) => "REAL",
        ValueRef::Text(_) => "TEXT",
        ValueRef::Blob(_) => "BLOB",
    };
    format!("it is stored as {found}, its declared type takes {wanted}")
}

fn integer(value: ValueRef<'_>) -> Result<i64, Misfit> {
    match value {
        ValueRef::Integer(integer) => Ok(integer),
        other => Err(storage(other, "INTEGER")),
    }
}

fn boolean(value: ValueRef<'_>) -> Result<bool, Misfit> {
    match value {
        ValueRef::Integer(0) => Ok(false),
        ValueRef::Integer(1) => Ok(true),
        other => Err(storage(other, "the INTEGER 0 or 1")),
    }
}

fn float(value: ValueRef<'_>) -> Result<f64, Misfit> {
    match value {
        ValueRef::Real(real) => Ok(real),
        ValueRef::Integer(integer) => {
            let real = integer as f64;
            if real as i128 == i128::from(integer) {
                Ok(real)
            } else {
                Err("it is an INTEGER that no double holds exactly".to_owned())
            }
        }
        other => Err(storage(other, "REAL")),
    }
}

fn units(value: ValueRef<'_>, precision: u8, scale: i8) -> Result<i256, Misfit> {
    let parsed = match value {
        ValueRef::Integer(integer) => decimal::parse(&integer.to_string(), precision, scale),
        ValueRef::Real(real) => decimal::of_double(real, precision, scale),
        ValueRef::Text(_) => decimal::parse(text(value)?, precision, scale),
        other => return Err(storage(other, "INTEGER, REAL or TEXT")),
    };
    parsed.map_err(str::to_owned)
}

fn text(value: ValueRef<'_>) -> Result<&str, Misfit> {
    match value {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| "its text is not valid UTF-8".to_owned()),
        other => Err(storage(other, "TEXT")),
    }
}

fn timestamp(value: ValueRef<'_>, offset: Offset) -> Result<i64, Misfit> {
    let shape = match offset {
        Offset::Utc => "its text is not a timestamp YYYY-MM-DD HH:MM:SS.ffffff without an offset",
        Offset::Any => "its text is not a timestamp YYYY-MM-DD HH:MM:SS.ffffff+HH:MM",
    };
    temporal_text(value, |text| parse_timestamp(text, offset), shape)
}

fn temporal_text(value: ValueRef<'_>, parse: impl Fn(&str) -> Option<i64>, shape: &str) -> Result<i64, Misfit> {
    parse(text(value)?).ok_or_else(|| shape.to_owned())
}

fn append_text(builder: &mut StringBuilder, text: &str) -> usize {
    builder.append_value(text);
    text.len()
}

/// Writes a value of any storage class as text: digits, the shortest form of a double, text, `X'0AFF'`.
fn any_text(builder: &mut StringBuilder, value: ValueRef<'_>) -> Result<usize, Misfit> {
    let written = match value {
        ValueRef::Text(_) => return Ok(append_text(builder, text(value)?)),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) if real.is_infinite() => if real > 0.0 { "Inf" } else { "-Inf" }.to_owned(),
        ValueRef::Real(real) => format!("{real:?}"),
        ValueRef::Blob(bytes) => hexadecimal(bytes),
        ValueRef::Null => String::new(),
    };
    Ok(append_text(builder, &written))
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    format!("X'{}'", digits.map(char::from).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_is_a_float_only_where_the_double_is_exact() {
        let exact = 1_i64 << 53;
        assert_eq!(float(ValueRef::Integer(exact)), Ok(9_007_199_254_740_992.0));
        assert!(float(ValueRef::Integer(exact + 1)).is_err());
        assert_eq!(float(ValueRef::Integer(i64::MIN)), Ok(-9_223_372_036_854_775_808.0));
        assert!(float(ValueRef::Integer(i64::MAX)).is_err());
        assert_eq!(float(ValueRef::Integer(0)), Ok(0.0));
    }

    #[test]
    fn blob_prints_as_a_literal_of_its_own_dialect() {
        assert_eq!(hexadecimal(&[0x0a, 0xff]), "X'0AFF'");
    }
}
