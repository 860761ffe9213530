//! A query's value as a parameter of the binary protocol.
//!
//! Dates and times beyond what the server has are moved to its nearest. Filters arrive without them (`range`).

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, DecimalType};
use headwater_source::{Bind, ScalarValue};
use mysql_common::value::Value;

use super::calendar;

/// The parameter for a bind, or `None` where its type is not one that this connector reads.
pub(super) fn parameter(bind: &Bind) -> Option<Value> {
    Some(match &bind.value {
        ScalarValue::Int8(Some(number)) => Value::Int(i64::from(*number)),
        ScalarValue::Int16(Some(number)) => Value::Int(i64::from(*number)),
        ScalarValue::Int32(Some(number)) => Value::Int(i64::from(*number)),
        ScalarValue::Int64(Some(number)) => Value::Int(*number),
        ScalarValue::UInt8(Some(number)) => Value::UInt(u64::from(*number)),
        ScalarValue::UInt16(Some(number)) => Value::UInt(u64::from(*number)),
        ScalarValue::UInt32(Some(number)) => Value::UInt(u64::from(*number)),
        ScalarValue::UInt64(Some(number)) => Value::UInt(*number),
        ScalarValue::Float32(Some(number)) => Value::Float(*number),
        ScalarValue::Float64(Some(number)) => Value::Double(*number),
        ScalarValue::Decimal128(Some(number), precision, scale) => {
            Value::Bytes(Decimal128Type::format_decimal(*number, *precision, *scale).into_bytes())
        }
        ScalarValue::Decimal256(Some(number), precision, scale) => {
            Value::Bytes(Decimal256Type::format_decimal(*number, *precision, *scale).into_bytes())
        }
        ScalarValue::Utf8(Some(text)) => Value::Bytes(text.clone().into_bytes()),
        ScalarValue::Binary(Some(bytes)) => Value::Bytes(bytes.clone()),
        ScalarValue::Date32(Some(days)) => moment(i64::from(*days).saturating_mul(calendar::DAY_US)),
        ScalarValue::TimestampMicrosecond(Some(us), _) => moment(*us),
        ScalarValue::DurationMicrosecond(Some(us)) => duration(*us),
        ScalarValue::List(list) => json(list.values())?,
        _ => return None,
    })
}

/// Integers as a JSON array; `None` of anything else.
fn json(values: &ArrayRef) -> Option<Value> {
    use std::fmt::Write;
    let mut text = String::with_capacity(values.len() * 8 + 2);
    let mut separator = '[';
    for row in 0..values.len() {
        let value = ScalarValue::try_from_array(values, row).ok()?;
        let number = if value.data_type().is_integer() {
            value.cast_to(&DataType::Decimal128(20, 0)).ok()?
        } else {
            return None;
        };
        let ScalarValue::Decimal128(Some(number), ..) = number else { return None };
        // Writing to a text can't fail.
        write!(text, "{separator}{number}").ok()?;
        separator = ',';
    }
    text.push_str(if separator == '[' { "[]" } else { "]" });
    Some(Value::Bytes(text.into_bytes()))
}

fn moment(us: i64) -> Value {
    let us = us.clamp(calendar::MIN_US, calendar::MAX_US);
    let (days, rest) = (us.div_euclid(calendar::DAY_US), us.rem_euclid(calendar::DAY_US));
    let (year, month, day) = calendar::civil(days);
    let (hour, minute, second, micros) = clock(rest.unsigned_abs());
    Value::Date(year, month, day, hour, minute, second, micros)
}

fn duration(us: i64) -> Value {
    let size = us.clamp(-calendar::TIME_MAX_US, calendar::TIME_MAX_US).unsigned_abs();
    let day = calendar::DAY_US.unsigned_abs();
    let (hour, minute, second, micros) = clock(size % day);
    // 838 hours are 34 days.
    let days = u32::try_from(size / day).unwrap_or(u32::MAX);
    Value::Time(us < 0, days, hour, minute, second, micros)
}

/// Hours, minutes, seconds and microseconds of less than a day.
fn clock(us: u64) -> (u8, u8, u8, u32) {
    let seconds = us / 1_000_000;
    let part = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    let micros = u32::try_from(us % 1_000_000).unwrap_or_default();
    (part(seconds / 3600), part(seconds / 60 % 60), part(seconds % 60), micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter_of(value: ScalarValue) -> Value {
        parameter(&Bind { value, remote_type: String::new() }).unwrap()
    }

    #[test]
    fn dates_and_times_keep_their_microseconds() {
        assert_eq!(parameter_of(ScalarValue::Date32(Some(-1))), Value::Date(1969, 12, 31, 0, 0, 0, 0));
        let us = ScalarValue::TimestampMicrosecond(Some(-1), None);
        assert_eq!(parameter_of(us), Value::Date(1969, 12, 31, 23, 59, 59, 999_999));
        let us = ScalarValue::DurationMicrosecond(Some(-(25 * 3600 * 1_000_000 + 1)));
        assert_eq!(parameter_of(us), Value::Time(true, 1, 1, 0, 0, 1));
    }

    #[test]
    fn moment_beyond_the_servers_range_is_its_nearest() {
        let last = Value::Date(9999, 12, 31, 23, 59, 59, 999_999);
        assert_eq!(parameter_of(ScalarValue::Date32(Some(i32::MAX))), last);
        assert_eq!(parameter_of(ScalarValue::TimestampMicrosecond(Some(i64::MAX), None)), last);
        assert_eq!(parameter_of(ScalarValue::Date32(Some(i32::MIN))), Value::Date(0, 1, 1, 0, 0, 0, 0));
        let time = parameter_of(ScalarValue::DurationMicrosecond(Some(i64::MIN)));
        assert_eq!(time, Value::Time(true, 34, 22, 59, 59, 999_999));
    }

    #[test]
    fn decimal_travels_as_all_its_digits() {
        let value = ScalarValue::Decimal128(Some(-1_234_567_890_123_456_789_012), 38, 10);
        assert_eq!(parameter_of(value), Value::Bytes(b"-123456789012.3456789012".to_vec()));
    }

    #[test]
    fn list_of_integers_travels_as_json() {
        let list = |values: &[ScalarValue], data_type| {
            parameter_of(ScalarValue::List(ScalarValue::new_list_nullable(values, &data_type)))
        };
        let signed = [i64::MIN, 0, i64::MAX].map(ScalarValue::from);
        let text = b"[-9223372036854775808,0,9223372036854775807]".to_vec();
        assert_eq!(list(&signed, DataType::Int64), Value::Bytes(text));
        assert_eq!(list(&[u64::MAX.into()], DataType::UInt64), Value::Bytes(b"[18446744073709551615]".to_vec()));
        assert_eq!(list(&[], DataType::Int8), Value::Bytes(b"[]".to_vec()));
    }
}
