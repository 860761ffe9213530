//! Single binary fields, as the send functions of their types write them.

use arrow::datatypes::{DecimalType, IntervalMonthDayNano};

/// Days from 1970-01-01 to Postgres's epoch, 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// Why a value can't be read.
pub(super) type Reason = String;

pub(super) const TRUNCATED: &str = "a truncated value";

#[inline]
pub(super) fn fixed<const N: usize>(field: &[u8]) -> Result<[u8; N], Reason> {
    field.try_into().map_err(|_| format!("{} bytes where {N} are expected", field.len()))
}

#[inline]
pub(super) fn int(rest: &mut &[u8]) -> Result<i32, Reason> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

/// A length and so many bytes; -1 is NULL.
#[inline]
pub(super) fn length_prefixed<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Reason> {
    let Ok(length) = usize::try_from(int(rest)?) else { return Ok(None) };
    let (head, tail) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    *rest = tail;
    Ok(Some(head))
}

#[inline]
pub(super) fn float4(field: &[u8]) -> Result<f32, Reason> {
    let value = f32::from_be_bytes(fixed(field)?);
    Ok(if value.is_nan() { f32::NAN } else { value })
}

#[inline]
pub(super) fn float8(field: &[u8]) -> Result<f64, Reason> {
    let value = f64::from_be_bytes(fixed(field)?);
    Ok(if value.is_nan() { f64::NAN } else { value })
}

pub(super) fn within<T: DecimalType>(value: T::Native, precision: u8, scale: i8) -> Result<T::Native, Reason> {
    match T::is_valid_decimal_precision(value, precision) {
        true => Ok(value),
        false => Err(format!("a numeric of more than {precision} digits with {scale} of them behind the point")),
    }
}

/// The canonical text of a UUID.
pub(super) fn uuid(bytes: [u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Infinities are the ends of both representations.
#[inline]
pub(super) fn date(field: &[u8]) -> Result<i32, Reason> {
    match i32::from_be_bytes(fixed(field)?) {
        infinity @ (i32::MIN | i32::MAX) => Ok(infinity),
        days => days.checked_add(EPOCH_DAYS).ok_or_else(|| "a date out of range".to_owned()),
    }
}

/// Infinities are the ends of both representations; a finite time that would be read as one is refused.
#[inline]
pub(super) fn timestamp(field: &[u8]) -> Result<i64, Reason> {
    match i64::from_be_bytes(fixed(field)?) {
        infinity @ (i64::MIN | i64::MAX) => Ok(infinity),
        micros => micros
            .checked_add(EPOCH_MICROS)
            .filter(|micros| *micros != i64::MAX)
            .ok_or_else(|| "a time after 294247-01-10T04:00:54, past 64 bits of microseconds".to_owned()),
    }
}

/// Microseconds, days, months. PostgreSQL 17's infinite intervals have the largest of each and overflow here too.
#[inline]
pub(super) fn interval(field: &[u8]) -> Result<IntervalMonthDayNano, Reason> {
    let bytes: [u8; 16] = fixed(field)?;
    let mut rest = &bytes[8..];
    let (days, months) = (int(&mut rest)?, int(&mut rest)?);
    let micros = i64::from_be_bytes(fixed(&bytes[..8])?);
    let nanos =
        micros.checked_mul(1000).ok_or("an interval of more than 292 years of hours, past 64 bits of nanoseconds")?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}
