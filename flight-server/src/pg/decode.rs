//! Parameters: from what a client binds to typed values. They never become text of a statement.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use bytes::{Buf, Bytes};
use datafusion::common::ScalarValue;
use postgres_types::Type;

use super::catalog::split_list;
use super::encode::Format;
use super::error::{INVALID_TEXT, PROTOCOL, PgError, UNSUPPORTED};
use super::numeric;
use super::time::{POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROSECONDS};
use super::types::arrow_of;
use crate::flight::parameters::converted;

/// A value as the type that the statement takes. `said` is the type that the client gave the parameter, 0 where it gave none.
pub(super) fn value(
    bytes: Option<Bytes>,
    format: Format,
    said: u32,
    parameter: &Field,
) -> Result<ScalarValue, PgError> {
    let wanted = parameter.data_type();
    let Some(bytes) = bytes else {
        let open = arrow_of(said).unwrap_or(DataType::Utf8);
        let to = if wanted.is_null() { &open } else { wanted };
        return ScalarValue::try_from(to).map_err(|error| refused(parameter, &error.to_string()));
    };
    if let DataType::List(item) = wanted {
        let item = Field::new(parameter.name(), item.data_type().clone(), true);
        return match format {
            Format::Text => list_of_text(&bytes, &item),
            Format::Binary => list_of_binary(bytes, &item),
        };
    }
    let given = match format {
        Format::Text => text(&bytes, said, parameter)?,
        Format::Binary => binary(bytes, said, parameter)?,
    };
    let array = given.to_array().map_err(|error| refused(parameter, &error.to_string()))?;
    fitted(&array, parameter)
}

/// An array as PostgreSQL writes it, `{1,NULL,"a b"}`.
fn list_of_text(bytes: &Bytes, item: &Field) -> Result<ScalarValue, PgError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PgError::new("22021", "a parameter is not UTF-8"))?;
    let items = split_list(text).ok_or_else(|| refused(item, "an array is written in braces"))?;
    let one = |text: Option<String>| value(text.map(Bytes::from), Format::Text, 0, item);
    let items = items.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, item.data_type())))
}

/// An array in binary: dimensions, whether one is NULL, the type of the items; of each dimension its length and where it begins; the items.
fn list_of_binary(mut bytes: Bytes, item: &Field) -> Result<ScalarValue, PgError> {
    let broken = || PgError::new(PROTOCOL, format!("the array bound to {} ends in the middle", item.name()));
    let word = |bytes: &mut Bytes| bytes.try_get_i32().map_err(|_| broken());
    let (dimensions, _, said) = (word(&mut bytes)?, word(&mut bytes)?, word(&mut bytes)?);
    let said = u32::try_from(said).map_err(|_| broken())?;
    let length = match dimensions {
        0 => 0,
        1 => {
            let length = word(&mut bytes)?;
            word(&mut bytes)?;
            usize::try_from(length).map_err(|_| broken())?
        }
        _ => {
            return Err(PgError::new(
                UNSUPPORTED,
                format!("the array bound to {} has several dimensions", item.name()),
            ));
        }
    };
    let mut items = Vec::new();
    for _ in 0..length {
        let one = match usize::try_from(word(&mut bytes)?) {
            Err(_) => None,
            Ok(length) if length <= bytes.len() => Some(bytes.split_to(length)),
            Ok(_) => return Err(broken()),
        };
        items.push(value(one, Format::Binary, said, item)?);
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, item.data_type())))
}

fn fitted(array: &ArrayRef, parameter: &Field) -> Result<ScalarValue, PgError> {
    let array = converted(array, parameter).map_err(|status| PgError::new(INVALID_TEXT, status.message()))?;
    ScalarValue::try_from_array(&array, 0).map_err(|error| refused(parameter, &error.to_string()))
}

fn refused(parameter: &Field, reason: &str) -> PgError {
    PgError::new(INVALID_TEXT, format!("the value bound to {} can't be taken: {reason}", parameter.name()))
}

/// A value that comes as text. Of an open parameter it is of the type that the client gave it.
fn text(bytes: &Bytes, said: u32, parameter: &Field) -> Result<ScalarValue, PgError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PgError::new("22021", "a parameter is not UTF-8"))?;
    let wanted = parameter.data_type();
    if matches!(wanted, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
        let hex = text.strip_prefix("\\x").and_then(unhex);
        return hex
            .map(|bytes| ScalarValue::Binary(Some(bytes)))
            .ok_or_else(|| refused(parameter, "bytes are written as \\x and hexadecimal digits"));
    }
    if let (true, Some(open)) = (wanted.is_null(), arrow_of(said)) {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let open = Field::new(parameter.name(), open, true);
        return fitted(&array, &open);
    }
    Ok(ScalarValue::Utf8(Some(text.to_owned())))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs.map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()).collect()
}

/// A value in binary, of the type that the client gave it, or else of the one that it was told.
fn binary(mut bytes: Bytes, said: u32, parameter: &Field) -> Result<ScalarValue, PgError> {
    let told = if parameter.data_type().is_null() { Type::TEXT } else { super::types::of_field(parameter) };
    let pg = if said == 0 { told } else { Type::from_oid(said).unwrap_or(Type::TEXT) };
    let length = bytes.len();
    let wanted = match pg {
        Type::BOOL => Some(1),
        Type::INT2 => Some(2),
        Type::INT4 | Type::OID | Type::FLOAT4 | Type::DATE => Some(4),
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => Some(8),
        Type::UUID => Some(16),
        _ => None,
    };
    if wanted.is_some_and(|wanted| wanted != length) {
        return Err(PgError::new(PROTOCOL, format!("the value bound to {} has {length} bytes", parameter.name())));
    }
    let microseconds = |since: i64| since.checked_add(POSTGRES_EPOCH_MICROSECONDS);
    Ok(match pg {
        Type::BOOL => ScalarValue::Boolean(Some(bytes.get_u8() != 0)),
        Type::INT2 => ScalarValue::Int16(Some(bytes.get_i16())),
        Type::INT4 => ScalarValue::Int32(Some(bytes.get_i32())),
        Type::OID => ScalarValue::Int64(Some(i64::from(bytes.get_u32()))),
        Type::INT8 => ScalarValue::Int64(Some(bytes.get_i64())),
        Type::FLOAT4 => ScalarValue::Float32(Some(bytes.get_f32())),
        Type::FLOAT8 => ScalarValue::Float64(Some(bytes.get_f64())),
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::DATE => ScalarValue::Date32(bytes.get_i32().checked_add(POSTGRES_EPOCH_DAYS)),
        Type::TIME => ScalarValue::Time64Microsecond(Some(bytes.get_i64())),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(microseconds(bytes.get_i64()), None),
        Type::TIMESTAMPTZ => ScalarValue::TimestampMicrosecond(microseconds(bytes.get_i64()), Some("UTC".into())),
        Type::NUMERIC => {
            let number =
                numeric::read(bytes).ok_or_else(|| refused(parameter, "it is no number that is known here"))?;
            ScalarValue::Utf8(Some(number))
        }
        Type::UUID => {
            let mut id = [0; 16];
            bytes.copy_to_slice(&mut id);
            ScalarValue::Utf8(Some(uuid::Uuid::from_bytes(id).to_string()))
        }
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN => {
            let text = String::from_utf8(bytes.to_vec());
            ScalarValue::Utf8(Some(text.map_err(|_| PgError::new("22021", "a parameter is not UTF-8"))?))
        }
        other => {
            let message =
                format!("parameters of type {other} in binary are not taken; cast {} to text", parameter.name());
            return Err(PgError::new(UNSUPPORTED, message));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(data_type: DataType) -> Field {
        Field::new("$1", data_type, true)
    }

    #[test]
    fn text_and_binary_give_the_statements_type() {
        let number = parameter(DataType::Int64);
        let text = value(Some(Bytes::from_static(b"7")), Format::Text, 0, &number).unwrap();
        let binary = value(Some(Bytes::from_static(&[0, 7])), Format::Binary, Type::INT2.oid(), &number).unwrap();
        assert_eq!((text, binary), (ScalarValue::Int64(Some(7)), ScalarValue::Int64(Some(7))));
        assert_eq!(value(None, Format::Text, 0, &number).unwrap(), ScalarValue::Int64(None));
        let day = value(Some(Bytes::from_static(&[0, 0, 0, 0])), Format::Binary, 0, &parameter(DataType::Date32));
        assert_eq!(day.unwrap(), ScalarValue::Date32(Some(POSTGRES_EPOCH_DAYS)));
    }

    #[test]
    fn arrays_are_taken_as_text_and_in_binary() {
        let numbers = parameter(DataType::new_list(DataType::Int64, true));
        let expected = ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::Int64(Some(7)), ScalarValue::Int64(None)],
            &DataType::Int64,
        ));
        let text = value(Some(Bytes::from_static(b"{7,NULL}")), Format::Text, 0, &numbers).unwrap();
        let head = [1_i32, 1, 23, 2, 1, 4, 7, -1].map(i32::to_be_bytes).concat();
        let binary = value(Some(Bytes::from(head.clone())), Format::Binary, 1007, &numbers).unwrap();
        assert_eq!((&text, &binary), (&expected, &expected));
        for end in 0..head.len() {
            assert!(
                value(Some(Bytes::copy_from_slice(&head[..end])), Format::Binary, 1007, &numbers).is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn open_parameter_takes_the_clients_type() {
        let open = parameter(DataType::Null);
        let given = |said: Type| value(Some(Bytes::from_static(b"7")), Format::Text, said.oid(), &open).unwrap();
        assert_eq!(given(Type::INT4), ScalarValue::Int32(Some(7)));
        assert_eq!(given(Type::TEXT), ScalarValue::Utf8(Some("7".to_owned())));
    }

    #[test]
    fn value_that_does_not_fit_is_refused_without_showing_it() {
        for (bytes, format, said) in [
            (Bytes::from_static(b"canary"), Format::Text, 0),
            (Bytes::from_static(b"1"), Format::Binary, Type::INT8.oid()),
            (Bytes::from_static(&[0xff]), Format::Text, 0),
            (Bytes::from_static(&[0; 12]), Format::Binary, Type::INT4_ARRAY.oid()),
        ] {
            let error = value(Some(bytes), format, said, &parameter(DataType::Int64)).unwrap_err();
            assert!(!error.message.contains("canary"), "{error}");
        }
    }
}
