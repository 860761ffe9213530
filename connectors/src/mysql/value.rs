//! A value of the binary protocol, where it was read to, and as the native value of an Arrow type, or why it is none.

use arrow::datatypes::i256;
use mysql_common::value::Value;

use super::calendar;

/// A value as the server sends it. A text is in the place where it was read to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Datum<'a> {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
    /// Year, month, day, hour, minute, second, microseconds.
    Date(u16, u8, u8, u8, u8, u8, u32),
    /// Whether it is negative, days, hours, minutes, seconds, microseconds.
    Time(bool, u32, u8, u8, u8, u32),
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        match *value {
            Value::NULL => Self::Null,
            Value::Int(number) => Self::Int(number),
            Value::UInt(number) => Self::UInt(number),
            Value::Float(number) => Self::Float(number),
            Value::Double(number) => Self::Double(number),
            Value::Bytes(ref bytes) => Self::Bytes(bytes),
            Value::Date(year, month, day, hour, minute, second, micros) => {
                Self::Date(year, month, day, hour, minute, second, micros)
            }
            Value::Time(negative, days, hour, minute, second, micros) => {
                Self::Time(negative, days, hour, minute, second, micros)
            }
        }
    }
}

const OTHER_TYPE: &str = "the server sent a value of another type";
const OUT_OF_RANGE: &str = "a number out of range";

pub(super) fn integer<T: TryFrom<i64> + TryFrom<u64>>(value: Datum<'_>) -> Result<Option<T>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Int(number) => T::try_from(number).map(Some).map_err(|_| OUT_OF_RANGE),
        Datum::UInt(number) => T::try_from(number).map(Some).map_err(|_| OUT_OF_RANGE),
        // BIT: big endian, up to eight bytes.
        Datum::Bytes(bytes) if bytes.len() <= 8 => {
            let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            T::try_from(number).map(Some).map_err(|_| OUT_OF_RANGE)
        }
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn single(value: Datum<'_>) -> Result<Option<f32>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Float(number) => Ok(Some(number)),
        Datum::Double(number) => {
            // A view may send a float as a double; it is a float's value then.
            #[expect(clippy::cast_possible_truncation, reason = "the line below refuses what was truncated")]
            let narrow = number as f32;
            if f64::from(narrow) == number { Ok(Some(narrow)) } else { Err("a double where a float was expected") }
        }
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn double(value: Datum<'_>) -> Result<Option<f64>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Float(number) => Ok(Some(f64::from(number))),
        Datum::Double(number) => Ok(Some(number)),
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn decimal128(value: Datum<'_>, scale: usize) -> Result<Option<i128>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Bytes(text) => scaled(text, scale).map(Some),
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn decimal256(value: Datum<'_>, scale: usize) -> Result<Option<i256>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Bytes(text) => i256::from_string(&unscaled(text, scale)?).map(Some).ok_or(OUT_OF_RANGE),
        _ => Err(OTHER_TYPE),
    }
}

/// A sum of integers, modulo 64 bits.
pub(super) fn total64(value: Datum<'_>) -> Result<Option<i64>, &'static str> {
    // The low bits are kept: that is the modulus.
    Ok(total128(value, 0)?.map(|number| number as i64))
}

/// A sum of decimals in units of its last digit, modulo 128 bits.
pub(super) fn total128(value: Datum<'_>, scale: usize) -> Result<Option<i128>, &'static str> {
    Ok(decimal256(value, scale)?.map(|number| {
        let (low, _) = number.to_parts();
        low.cast_signed()
    }))
}

const MALFORMED: &str = "the server sent a malformed decimal";
const TOO_FINE: &str = "a decimal with more digits after the point than the column has";

/// A decimal in units of its last digit.
fn scaled(text: &[u8], scale: usize) -> Result<i128, &'static str> {
    /// So many digits fit into 64 bits whatever they are, which is several times as fast.
    const SHORT: usize = 18;
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let number = match digits.len() + scale {
        short if short <= SHORT => {
            gathered(digits, scale, 0_u64, |number, digit| Some(number * 10 + u64::from(digit)))?.into()
        }
        _ => gathered(digits, scale, 0_i128, |number, digit| number.checked_mul(10)?.checked_add(digit.into()))?,
    };
    Ok(if negative { -number } else { number })
}

/// Adds digit to digit, and zeros for those that the scale has more.
fn gathered<N>(
    digits: &[u8],
    scale: usize,
    mut number: N,
    next: impl Fn(N, u8) -> Option<N>,
) -> Result<N, &'static str> {
    let (mut any, mut fraction) = (false, None);
    for byte in digits {
        match (byte, fraction) {
            (b'.', None) => {
                fraction = Some(0);
                continue;
            }
            (b'0', Some(digits)) if digits == scale => {
                any = true;
                continue;
            }
            (b'1'..=b'9', Some(digits)) if digits == scale => return Err(TOO_FINE),
            (b'0'..=b'9', _) => {}
            _ => return Err(MALFORMED),
        }
        any = true;
        fraction = fraction.map(|digits| digits + 1);
        number = next(number, byte - b'0').ok_or(OUT_OF_RANGE)?;
    }
    if !any {
        return Err(MALFORMED);
    }
    for _ in fraction.unwrap_or(0)..scale {
        number = next(number, 0).ok_or(OUT_OF_RANGE)?;
    }
    Ok(number)
}

/// A decimal's digits without the point, with exactly `scale` of them after it.
fn unscaled(text: &[u8], scale: usize) -> Result<String, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| MALFORMED)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > scale && fraction[scale..].bytes().any(|digit| digit != b'0') {
        return Err(TOO_FINE);
    }
    let mut digits = String::with_capacity(whole.len() + scale);
    digits.push_str(whole);
    digits.push_str(&fraction[..fraction.len().min(scale)]);
    digits.extend(std::iter::repeat_n('0', scale.saturating_sub(fraction.len())));
    let bare = digits.strip_prefix('-').unwrap_or(&digits);
    if bare.is_empty() || !bare.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(MALFORMED);
    }
    Ok(digits)
}

pub(super) fn text(value: Datum<'_>) -> Result<Option<&str>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Bytes(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| "text that is not UTF-8"),
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn bytes(value: Datum<'_>) -> Result<Option<&[u8]>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Bytes(bytes) => Ok(Some(bytes)),
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn date(value: Datum<'_>) -> Result<Option<i32>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        // A zero date.
        Datum::Date(_, 0, ..) | Datum::Date(_, _, 0, ..) => Ok(None),
        Datum::Date(year, month, day, ..) => {
            calendar::days(year, month, day).map(Some).ok_or("a date that the calendar does not have")
        }
        _ => Err(OTHER_TYPE),
    }
}

pub(super) fn timestamp(value: Datum<'_>) -> Result<Option<i64>, &'static str> {
    let clock = match value {
        Datum::Date(_, _, _, hour, minute, second, micros) => clock_us(hour, minute, second, micros),
        _ => 0,
    };
    Ok(date(value)?.map(|days| i64::from(days) * calendar::DAY_US + clock))
}

pub(super) fn duration(value: Datum<'_>) -> Result<Option<i64>, &'static str> {
    match value {
        Datum::Null => Ok(None),
        Datum::Time(negative, days, hour, minute, second, micros) => {
            let size = i64::from(days) * calendar::DAY_US + clock_us(hour, minute, second, micros);
            Ok(Some(if negative { -size } else { size }))
        }
        _ => Err(OTHER_TYPE),
    }
}

fn clock_us(hour: u8, minute: u8, second: u8, micros: u32) -> i64 {
    (i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * 1_000_000 + i64::from(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_in_64_bits_is_that_in_128() {
        for text in
            ["0", "-0.05", "12.5", "-99999999.99", "123456789012345", "90000000000000000000.1", "00012.30", "5."]
        {
            for scale in [1_usize, 2, 5, 10] {
                let right = unscaled(text.as_bytes(), scale).map(|digits| digits.parse::<i128>().unwrap());
                assert_eq!(scaled(text.as_bytes(), scale), right, "{text} {scale}");
            }
        }
        for malformed in ["", "-", ".", "1e3", "1.2.3", "NaN", "--1", "1-"] {
            assert_eq!(scaled(malformed.as_bytes(), 3), Err(MALFORMED), "{malformed:?}");
        }
        assert_eq!(scaled(b"12.501", 1), Err(TOO_FINE));
        assert_eq!(scaled(b"340282366920938463463374607431768211456", 0), Err(OUT_OF_RANGE));
        assert_eq!(scaled(b"-170141183460469231731687303715884105727", 0), Ok(-i128::MAX));
    }

    #[test]
    fn decimal_gains_or_loses_zeros_and_never_digits() {
        assert_eq!(unscaled(b"-12.5", 3).as_deref(), Ok("-12500"));
        assert_eq!(unscaled(b"12.500", 1).as_deref(), Ok("125"));
        assert!(unscaled(b"12.501", 1).is_err());
        for malformed in ["", "-", ".", "1e3", "1.2.3", "NaN"] {
            assert!(unscaled(malformed.as_bytes(), 0).is_err(), "{malformed:?}");
        }
    }

    #[test]
    fn sum_that_left_its_type_wraps_round() {
        let sent = |text: &'static str| Datum::Bytes(text.as_bytes());
        assert_eq!(total64(sent("18446744073709551614")), Ok(Some(-2)));
        assert_eq!(total64(sent("-9223372036854775809")), Ok(Some(i64::MAX)));
        assert_eq!(total128(sent("340282366920938463463374607431768211455.0"), 0), Ok(Some(-1)));
        assert_eq!(total128(sent("-1.5"), 2), Ok(Some(-150)));
        assert_eq!(total128(Datum::Null, 2), Ok(None));
    }

    #[test]
    fn number_that_does_not_fit_is_refused() {
        assert_eq!(integer::<i8>(Datum::Int(-128)), Ok(Some(-128)));
        assert!(integer::<i8>(Datum::Int(128)).is_err());
        assert!(integer::<u64>(Datum::Int(-1)).is_err());
        assert_eq!(integer::<u64>(Datum::UInt(u64::MAX)), Ok(Some(u64::MAX)));
        assert_eq!(integer::<u64>(Datum::Bytes(&[1, 0])), Ok(Some(256)));
        assert!(single(Datum::Double(0.1)).is_err());
    }

    #[test]
    fn zero_date_is_null_and_a_missing_day_is_refused() {
        for zero in [(0, 0, 0), (2020, 0, 15), (2020, 1, 0)] {
            assert_eq!(date(Datum::Date(zero.0, zero.1, zero.2, 0, 0, 0, 0)), Ok(None));
        }
        assert!(date(Datum::Date(2020, 2, 31, 0, 0, 0, 0)).is_err());
        assert_eq!(timestamp(Datum::Date(1969, 12, 31, 23, 59, 59, 999_999)), Ok(Some(-1)));
    }
}
