//! Values as the server prints them, into the columns that a scan fills from their binary form.
//!
//! A feed asks for text: not every type has a binary form that can be read, and the server decides for all columns at once. The session's
//! settings fix how dates, intervals, floats and binary strings are printed. Invariant: what is read here is what a scan of the
//! same row reads, to the bit.

use arrow::datatypes::{Decimal128Type, Decimal256Type, IntervalMonthDayNano, i256};

use super::super::field::{Reason, TRUNCATED, within};
use super::super::numeric::Unscaled;
use super::super::values::{List, Values, too_many_dimensions, without_padding};

/// How a column's text relates to what a scan selects, which is a cast to text for types that are read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The cast prints as the type does.
    Printed,
    /// The cast to text prints the mask of a single host, the type itself does not.
    Address,
    /// An array whose elements' padding the cast leaves out.
    PaddedElements,
}

impl Values {
    /// Takes a value that was printed.
    pub(super) fn push_printed(&mut self, text: &[u8], form: Form) -> Result<(), Reason> {
        match self {
            Self::Boolean(builder) => builder.append(text == b"t"),
            Self::Int16(column) => column.values.push(number(text)?),
            Self::Int32(column) => column.values.push(number(text)?),
            Self::Int64(column) => column.values.push(number(text)?),
            Self::UInt32(column) => column.values.push(number(text)?),
            Self::Float32(column) => column.values.push(number(text)?),
            Self::Float64(column) => column.values.push(number(text)?),
            Self::Decimal128(column, precision, scale) => {
                column.values.push(within::<Decimal128Type>(decimal(text, *scale)?, *precision, *scale)?);
            }
            Self::Decimal256(column, precision, scale) => {
                let value: i256 = decimal(text, *scale)?;
                column.values.push(within::<Decimal256Type>(value, *precision, *scale)?);
            }
            Self::Total64(_) | Self::Total128(..) => return Err("a sum, which is no column of a table".to_owned()),
            Self::Text(column) if form == Form::Address && !text.contains(&b'/') => {
                let mask: &[u8] = if text.contains(&b':') { b"/128" } else { b"/32" };
                column.push(&[text, mask].concat())?;
            }
            Self::Text(column) | Self::Uuid(column) => column.push(text)?,
            Self::Padded(column) => column.push(without_padding(text))?,
            Self::Bytes(column) => column.push(&bytes(text)?)?,
            Self::Date(column) => column.values.push(date(text)?),
            Self::Time(column) => column.values.push(time(text)?),
            Self::Timestamp(column) => column.values.push(timestamp(text)?),
            Self::Interval(column) => column.values.push(interval(text)?),
            Self::List(list) => list.push_printed(text, form)?,
        }
        Ok(())
    }
}

impl List {
    /// As array_out prints them: bounds where they do not begin with 1, then elements in braces, in quotes where they need them.
    fn push_printed(&mut self, text: &[u8], form: Form) -> Result<(), Reason> {
        let body = match text.first() {
            Some(b'[') => {
                let bounds = text.iter().position(|byte| *byte == b'=').ok_or(TRUNCATED)?;
                &text[bounds + 1..]
            }
            _ => text,
        };
        let dimensions = body.iter().take_while(|byte| **byte == b'{').count();
        if dimensions > 1 {
            return Err(too_many_dimensions(i32::try_from(dimensions).unwrap_or(i32::MAX)));
        }
        let inner = body.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).ok_or(TRUNCATED)?;
        let mut rest = inner;
        let mut element = Vec::new();
        while !rest.is_empty() {
            let quoted = next_element(&mut rest, &mut element)?;
            if !quoted && element.eq_ignore_ascii_case(b"NULL") {
                self.values.push_null()?;
                self.nulls.append_null();
                continue;
            }
            let value = if form == Form::PaddedElements { without_padding(&element) } else { &element };
            self.values.push_printed(value, Form::Printed)?;
            self.nulls.append_non_null();
        }
        self.end()
    }
}

/// Takes an element and the comma behind it; whether it was in quotes.
fn next_element(rest: &mut &[u8], element: &mut Vec<u8>) -> Result<bool, Reason> {
    element.clear();
    let quoted = rest.first() == Some(&b'"');
    let mut at = usize::from(quoted);
    loop {
        match rest.get(at) {
            Some(b'\\') => {
                element.push(*rest.get(at + 1).ok_or(TRUNCATED)?);
                at += 2;
            }
            Some(b'"') if quoted => {
                at += 1;
                break;
            }
            Some(b',') if !quoted => break,
            None if !quoted => break,
            None => return Err(TRUNCATED.to_owned()),
            Some(byte) => {
                element.push(*byte);
                at += 1;
            }
        }
    }
    *rest = match rest.get(at) {
        None => &[],
        Some(b',') => &rest[at + 1..],
        Some(_) => return Err("an array without a comma between its elements".to_owned()),
    };
    Ok(quoted)
}

/// Integers and floats; Rust takes NaN, Infinity and -Infinity as Postgres prints them.
fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, Reason> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "a number of another type than the column's".to_owned())
}

/// A printed numeric, times ten to the `scale`. The refusals are those of the binary form.
fn decimal<T: Unscaled>(text: &[u8], scale: i8) -> Result<T, Reason> {
    const TOO_LONG: &str = "more digits than the decimal has that the column is read as";
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    match digits {
        b"NaN" => return Err("NaN; read it through a view that casts the column to text".to_owned()),
        b"Infinity" => return Err("an infinity; read it through a view that casts the column to text".to_owned()),
        _ => {}
    }
    let (mut value, mut missing, mut point) = (T::small(0), i32::from(scale), false);
    for byte in digits {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' if point && missing <= 0 => {
                if *byte != b'0' {
                    return Err(
                        "more digits behind the point than the decimal has that the column is read as".to_owned()
                    );
                }
            }
            b'0'..=b'9' => {
                missing -= i32::from(point);
                value = value.push(10, i64::from(byte - b'0')).ok_or(TOO_LONG)?;
            }
            _ => return Err("a malformed numeric".to_owned()),
        }
    }
    for _ in 0..missing.max(0) {
        value = value.push(10, 0).ok_or(TOO_LONG)?;
    }
    Ok(if negative { value.negated() } else { value })
}

/// A printed binary string.
fn bytes(text: &[u8]) -> Result<Vec<u8>, Reason> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let hex = text.strip_prefix(b"\\x").filter(|hex| hex.len().is_multiple_of(2));
    let read = |hex: &[u8]| hex.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
    hex.and_then(read).ok_or_else(|| "a malformed binary string".to_owned())
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Infinities are the ends of the type, as a scan reads them.
fn date(text: &[u8]) -> Result<i32, Reason> {
    match text {
        b"infinity" => return Ok(i32::MAX),
        b"-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, before_christ) = without_era(text);
    i32::try_from(days(text, before_christ)?).map_err(|_| "a date out of range".to_owned())
}

fn timestamp(text: &[u8]) -> Result<i64, Reason> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, before_christ) = without_era(text);
    let space = text.iter().position(|byte| *byte == b' ').ok_or(TRUNCATED)?;
    let clock = &text[space + 1..];
    // The session's zone is UTC.
    let clock = clock.strip_suffix(b"+00").unwrap_or(clock);
    days(&text[..space], before_christ)?
        .checked_mul(DAY_MICROS)
        .and_then(|micros| micros.checked_add(time(clock).ok()?))
        .filter(|micros| *micros != i64::MAX)
        .ok_or_else(|| "a time after 294247-01-10T04:00:54, past 64 bits of microseconds".to_owned())
}

fn without_era(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" BC") {
        Some(text) => (text, true),
        None => (text, false),
    }
}

/// Days since 1970-01-01 of a year, a month and a day with dashes between them.
fn days(text: &[u8], before_christ: bool) -> Result<i64, Reason> {
    let mut parts = text.split(|byte| *byte == b'-').map(number::<i64>);
    let mut next = || parts.next().unwrap_or_else(|| Err(TRUNCATED.to_owned()));
    let (year, month, day) = (next()?, next()?, next()?);
    let year = if before_christ { 1 - year } else { year };
    Ok(days_from_civil(year, month, day))
}

/// Howard Hinnant's days_from_civil: years begin in March, and 400 of them have 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Microseconds of hours, minutes, seconds and at most six digits behind them. 24:00:00 is one.
fn time(text: &[u8]) -> Result<i64, Reason> {
    let (clock, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let mut parts = clock.split(|byte| *byte == b':').map(number::<i64>);
    let mut next = || parts.next().unwrap_or_else(|| Err(TRUNCATED.to_owned()));
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let digits = if fraction.is_empty() { 0 } else { number::<i64>(fraction)? };
    let missing = 6_usize.checked_sub(fraction.len()).ok_or("more than six digits of a second")?;
    let micros = digits * 10_i64.pow(u32::try_from(missing).unwrap_or(0));
    hours
        .checked_mul(3_600_000_000)
        .and_then(|hours| hours.checked_add(minutes * 60_000_000 + seconds * 1_000_000 + micros))
        .ok_or_else(|| "a time out of range".to_owned())
}

/// As IntervalStyle postgres prints it: years, months, days with their units, then a clock with a sign of its own.
fn interval(text: &[u8]) -> Result<IntervalMonthDayNano, Reason> {
    const TOO_LONG: &str = "an interval of more than 292 years of hours, past 64 bits of nanoseconds";
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let mut words = text.split(|byte| *byte == b' ');
    while let Some(word) = words.next() {
        if word.contains(&b':') {
            let (negative, clock) = match word.first() {
                Some(b'-') => (true, &word[1..]),
                Some(b'+') => (false, &word[1..]),
                _ => (false, word),
            };
            let length = time(clock)?;
            micros = if negative { -length } else { length };
            continue;
        }
        let count = number::<i64>(word.strip_prefix(b"+").unwrap_or(word)).map_err(|_| TOO_LONG)?;
        match words.next() {
            Some(b"year" | b"years") => months += count * 12,
            Some(b"mon" | b"mons") => months += count,
            Some(b"day" | b"days") => days += count,
            _ => return Err("a malformed interval".to_owned()),
        }
    }
    let small = |value: i64| i32::try_from(value).map_err(|_| "a malformed interval".to_owned());
    Ok(IntervalMonthDayNano::new(small(months)?, small(days)?, micros.checked_mul(1000).ok_or(TOO_LONG)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_is_read_with_every_digit_or_refused() {
        assert_eq!(decimal::<i128>(b"-123.45", 2), Ok(-12_345));
        assert_eq!(decimal::<i128>(b"99900", 0), Ok(99_900));
        assert_eq!(decimal::<i128>(b"0.00999", 5), Ok(999));
        assert_eq!(decimal::<i128>(b"1.5", 4), Ok(15_000));
        assert_eq!(decimal::<i128>(b"1.500", 1), Ok(15));
        assert!(decimal::<i128>(b"1.55", 1).is_err() && decimal::<i128>(b"NaN", 1).unwrap_err().contains("NaN"));
        assert!(decimal::<i128>("9".repeat(60).as_bytes(), 1).is_err());
    }

    #[test]
    fn dates_and_times_keep_both_eras() {
        assert_eq!(date(b"1970-01-01"), Ok(0));
        assert_eq!(date(b"4714-11-24 BC"), Ok(-2_440_588));
        assert_eq!(date(b"5874897-12-31"), Ok(2_145_042_905));
        assert_eq!(date(b"0001-01-01"), Ok(-719_162));
        assert_eq!(timestamp(b"1969-12-31 23:59:59.999999+00"), Ok(-1));
        assert_eq!(timestamp(b"4714-11-24 00:00:00 BC"), Ok(-210_866_803_200_000_000));
        assert_eq!(timestamp(b"4714-11-24 00:00:00+00 BC"), Ok(-210_866_803_200_000_000));
        assert_eq!(timestamp(b"294247-01-10 04:00:54.775806"), Ok(i64::MAX - 1));
        assert!(timestamp(b"294247-01-10 04:00:54.775807").is_err());
        assert_eq!(time(b"24:00:00"), Ok(DAY_MICROS));
        assert_eq!(time(b"04:05:06.5"), Ok(14_706_500_000));
    }

    #[test]
    fn interval_is_read_part_by_part() {
        let read = |text: &str| interval(text.as_bytes());
        let expected = IntervalMonthDayNano::new(14, -3, 14_706_000_007_000);
        assert_eq!(read("1 year 2 mons -3 days +04:05:06.000007"), Ok(expected));
        assert_eq!(read("-178000000 years"), Ok(IntervalMonthDayNano::new(-2_136_000_000, 0, 0)));
        assert_eq!(read("00:00:00"), Ok(IntervalMonthDayNano::new(0, 0, 0)));
        assert_eq!(read("-00:00:01"), Ok(IntervalMonthDayNano::new(0, 0, -1_000_000_000)));
        assert!(read("2562048:00:00").unwrap_err().contains("292 years"));
    }

    #[test]
    fn binary_string_is_hexadecimal() {
        assert_eq!(bytes(b"\\x00ff27"), Ok(vec![0, 255, 39]));
        assert!(bytes(b"\\x0").is_err() && bytes(b"00").is_err() && bytes(b"\\xzz").is_err());
    }
}
