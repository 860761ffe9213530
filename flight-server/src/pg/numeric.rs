//! `numeric` in its binary format: digits to the base 10,000.
//!
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/numeric.c>, `numeric_send` and `numeric_recv`.

use std::fmt::Write;

use bytes::{Buf, BufMut, Bytes, BytesMut};

const NEGATIVE: u16 = 0x4000;

/// The most digits to the base 10,000 that a parameter may have: more than any decimal here holds.
const DIGITS_MAX: u16 = 64;

/// Writes a decimal number, as `-12.340`.
pub(super) fn put(out: &mut BytesMut, text: &str) {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (NEGATIVE, text),
        None => (0, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = fraction.len();
    // Groups of four to both sides of the point.
    let whole = whole.trim_start_matches('0');
    let padded = format!(
        "{:0>width$}{:0<tail$}",
        whole,
        fraction,
        width = whole.len().next_multiple_of(4),
        tail = scale.next_multiple_of(4)
    );
    let mut digits: Vec<i16> = padded.as_bytes().chunks(4).map(group).collect();
    let mut weight = i16::try_from(whole.len().div_ceil(4)).unwrap_or_default() - 1;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    weight -= i16::try_from(leading).unwrap_or_default();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    out.put_i16(i16::try_from(digits.len()).unwrap_or_default());
    out.put_i16(weight);
    out.put_u16(if digits.is_empty() { 0 } else { sign });
    out.put_u16(u16::try_from(scale).unwrap_or_default());
    digits.into_iter().for_each(|digit| out.put_i16(digit));
}

fn group(bytes: &[u8]) -> i16 {
    bytes.iter().fold(0, |sum, byte| sum * 10 + i16::from(byte.wrapping_sub(b'0').min(9)))
}

/// Reads a number; `None` where it is broken, no number, or has more digits than any type here.
pub(super) fn read(mut bytes: Bytes) -> Option<String> {
    if bytes.len() < 8 {
        return None;
    }
    let (count, weight, sign, scale) = (bytes.get_u16(), bytes.get_i16(), bytes.get_u16(), bytes.get_u16());
    if count > DIGITS_MAX || bytes.len() != usize::from(count) * 2 || !(sign == 0 || sign == NEGATIVE) {
        return None;
    }
    if !(-64..=64).contains(&weight) || scale > 256 {
        return None;
    }
    let mut digits = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let digit = bytes.get_u16();
        if digit > 9_999 {
            return None;
        }
        digits.push(digit);
    }
    let at = |place: i32| {
        usize::try_from(i32::from(weight) - place).ok().and_then(|index| digits.get(index)).copied().unwrap_or_default()
    };
    let mut whole = String::new();
    for place in (0..=i32::from(weight).max(0)).rev() {
        let _never = write!(whole, "{:04}", at(place));
    }
    let mut fraction = String::new();
    for place in 1..=i32::from(scale.div_ceil(4)) {
        let _never = write!(fraction, "{:04}", at(-place));
    }
    fraction.truncate(usize::from(scale));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if sign == NEGATIVE { "-" } else { "" };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> BytesMut {
        let mut out = BytesMut::new();
        put(&mut out, text);
        out
    }

    #[test]
    fn digits_weight_and_scale_are_those_of_postgres() {
        // What `SELECT numeric_send(...)` of PostgreSQL 15 prints.
        for (text, bytes) in [
            ("0", "0000000000000000"),
            ("0.00", "0000000000000002"),
            ("1", "00010000000000000001"),
            ("-12.34", "0002000040000002000c0d48"),
            ("10000", "00010001000000000001"),
            ("0.0001", "0001ffff000000040001"),
        ] {
            let hex: String = written(text).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(hex.starts_with(bytes), "{text}: {hex}");
        }
    }

    #[test]
    fn number_comes_back_as_it_went() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "12.34",
            "-0.05",
            "10000",
            "123456789012345678901234567890.12345678",
            "9999.9999",
            "0.0001",
            "100000000.10",
        ] {
            assert_eq!(read(written(text).freeze()).as_deref(), Some(text));
        }
    }

    #[test]
    fn broken_bytes_are_no_number() {
        let whole = written("-1234.5678");
        for end in 0..whole.len() {
            assert_eq!(read(Bytes::copy_from_slice(&whole[..end])), None);
        }
        // NaN.
        assert_eq!(read(Bytes::from_static(&[0, 0, 0, 0, 0xc0, 0, 0, 0])), None);
    }
}
