//! Values of a filter, as Postgres takes them beside a statement.

use std::error::Error;
use std::fmt;

use arrow::array::{Array, ArrayRef};
use bytes::BytesMut;
use headwater_source::{Bind, ScalarValue};
use tokio_postgres::types::{Kind, Type};

use super::field::{EPOCH_DAYS, EPOCH_MICROS};

/// A value and the type it is sent as.
#[derive(Clone)]
pub(super) struct Parameter {
    value: ScalarValue,
    kind: Type,
}

impl Parameter {
    /// The parameter for a bind, or why there is none.
    pub(super) fn new(bind: &Bind) -> Result<Self, String> {
        use ScalarValue as S;
        let kind = match (&bind.value, bind.remote_type.as_str()) {
            (S::Boolean(Some(_)), "boolean") => Type::BOOL,
            (S::Int16(Some(_)), "smallint") => Type::INT2,
            (S::Int32(Some(_)), "integer") => Type::INT4,
            (S::Int64(Some(_)), "bigint") => Type::INT8,
            (S::UInt32(Some(_)), "oid") => Type::OID,
            (S::Float32(Some(_)), "real") => Type::FLOAT4,
            (S::Float64(Some(_)), "double precision") => Type::FLOAT8,
            (S::Decimal128(Some(_), ..) | S::Decimal256(Some(_), ..), "numeric") => Type::NUMERIC,
            (S::Utf8(Some(_)), "text") => Type::TEXT,
            (S::Utf8(Some(_)), "bpchar") => Type::BPCHAR,
            (S::Utf8(Some(_)), "uuid") => Type::UUID,
            (S::Utf8(Some(_)), "tid") => Type::TID,
            (S::Binary(Some(_)), "bytea") => Type::BYTEA,
            (S::Date32(Some(_)), "date") => Type::DATE,
            (S::Time64Microsecond(Some(_)), "time") => Type::TIME,
            (S::TimestampMicrosecond(Some(_), None), "timestamp") => Type::TIMESTAMP,
            (S::TimestampMicrosecond(Some(_), Some(_)), "timestamptz") => Type::TIMESTAMPTZ,
            (S::List(_), "smallint[]") => Type::INT2_ARRAY,
            (S::List(_), "integer[]") => Type::INT4_ARRAY,
            (S::List(_), "bigint[]") => Type::INT8_ARRAY,
            (S::List(_), "oid[]") => Type::OID_ARRAY,
            (S::List(_), "real[]") => Type::FLOAT4_ARRAY,
            (S::List(_), "double precision[]") => Type::FLOAT8_ARRAY,
            (S::List(_), "text[]") => Type::TEXT_ARRAY,
            (S::List(_), "uuid[]") => Type::UUID_ARRAY,
            (S::List(_), "bytea[]") => Type::BYTEA_ARRAY,
            (S::List(_), "date[]") => Type::DATE_ARRAY,
            (S::List(_), "timestamp[]") => Type::TIMESTAMP_ARRAY,
            (S::List(_), "timestamptz[]") => Type::TIMESTAMPTZ_ARRAY,
            (value, remote_type) => return Err(format!("a value of type {} as {remote_type}", value.data_type())),
        };
        Ok(Self { value: bind.value.clone(), kind })
    }
}

/// Shows the type and never the value.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.kind)
    }
}

impl Parameter {
    /// Writes the value, without its length.
    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), Box<dyn Error + Sync + Send>> {
        match (&self.value, self.kind.kind()) {
            (ScalarValue::List(list), Kind::Array(element)) => write_list(&list.value(0), element, out),
            (value, _) => write(value, out),
        }
    }

    /// 0 for text, 1 for binary. A numeric's, a uuid's and a row's place's text is exact and the same in every version.
    pub(super) fn format(&self) -> i16 {
        match self.kind {
            Type::NUMERIC | Type::UUID | Type::TID => 0,
            _ => 1,
        }
    }
}

/// An array of one dimension, as array_recv reads it: dimensions, a flag for NULLs, the element's type, length and lower bound,
/// then each element behind its length.
fn write_list(values: &ArrayRef, element: &Type, out: &mut BytesMut) -> Result<(), Box<dyn Error + Sync + Send>> {
    let length = i32::try_from(values.len())?;
    for word in [1, 0, element.oid().cast_signed(), length, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for row in 0..values.len() {
        let place = out.len();
        out.extend_from_slice(&[0; 4]);
        match (ScalarValue::try_from_array(values, row)?, element) {
            (ScalarValue::Utf8(Some(text)), &Type::UUID) => out.extend_from_slice(&uuid(&text)?),
            (value, _) => write(&value, out)?,
        }
        let written = i32::try_from(out.len() - place - 4)?;
        out[place..place + 4].copy_from_slice(&written.to_be_bytes());
    }
    Ok(())
}

/// The bytes of a UUID's canonical text.
fn uuid(text: &str) -> Result<[u8; 16], &'static str> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|_| "a UUID of other than 32 digits")?;
    Ok(number.to_be_bytes())
}

fn write(value: &ScalarValue, out: &mut BytesMut) -> Result<(), Box<dyn Error + Sync + Send>> {
    match value {
        ScalarValue::Boolean(Some(value)) => out.extend_from_slice(&[u8::from(*value)]),
        ScalarValue::Int16(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::Int32(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::Int64(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::UInt32(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::Float32(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::Float64(Some(value)) => out.extend_from_slice(&value.to_be_bytes()),
        ScalarValue::Decimal128(Some(value), _, scale) => out.extend_from_slice(numeric_text(value, *scale).as_bytes()),
        ScalarValue::Decimal256(Some(value), _, scale) => out.extend_from_slice(numeric_text(value, *scale).as_bytes()),
        ScalarValue::Utf8(Some(value)) => out.extend_from_slice(value.as_bytes()),
        ScalarValue::Binary(Some(value)) => out.extend_from_slice(value),
        ScalarValue::Date32(Some(days)) => out.extend_from_slice(&date(*days)?.to_be_bytes()),
        ScalarValue::Time64Microsecond(Some(micros)) => out.extend_from_slice(&micros.to_be_bytes()),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => out.extend_from_slice(&timestamp(*micros)?.to_be_bytes()),
        other => return Err(format!("a value of type {} cannot be bound", other.data_type()).into()),
    }
    Ok(())
}

/// The unscaled value in scientific notation: `-1234e-2`.
fn numeric_text(unscaled: &impl fmt::Display, scale: i8) -> String {
    format!("{unscaled}e{}", -i16::from(scale))
}

fn date(days: i32) -> Result<i32, &'static str> {
    match days {
        i32::MIN | i32::MAX => Ok(days),
        days => days.checked_sub(EPOCH_DAYS).ok_or("a date out of range"),
    }
}

fn timestamp(micros: i64) -> Result<i64, &'static str> {
    match micros {
        i64::MIN | i64::MAX => Ok(micros),
        micros => micros.checked_sub(EPOCH_MICROS).ok_or("a timestamp out of range"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_prints_its_type_and_never_its_value() {
        let bind = Bind { value: ScalarValue::from("canary"), remote_type: "text".into() };
        assert_eq!(format!("{:?}", Parameter::new(&bind).unwrap()), "<text>");
    }

    #[test]
    fn value_of_a_type_that_is_never_offered_is_refused() {
        for value in [ScalarValue::Null, ScalarValue::from(1_u64), ScalarValue::Utf8(None)] {
            assert!(Parameter::new(&Bind { value, remote_type: "text".into() }).is_err());
        }
    }
}
