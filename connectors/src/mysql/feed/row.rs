//! Rows of the log into the values that a scan's rows have: those of the binary protocol.

use headwater_source::{ColumnDef, ValueClass};
use mysql_common::value::Value;

use super::super::{calendar, types};
use super::charset::Charset;
use super::event::{Malformed, bit, bytes, take};

/// How a column's values lie in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Integer {
        bytes: usize,
        unsigned: bool,
    },
    Year,
    Bit,
    Decimal,
    Float,
    Double,
    /// varchar, and char, with a length of one byte or two.
    Text(Charset),
    /// char(n): without its padding.
    Char(Charset),
    Bytes,
    /// binary(n): without the zeros at its end, which are there all the same.
    Padded(usize),
    Enum(Vec<String>),
    Set(Vec<String>),
    Uuid,
    Inet4,
    Inet6,
    Date,
    Datetime,
    Timestamp,
    Time,
}

/// The numbers of types in a table map.
mod sent {
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const YEAR: u8 = 13;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const DECIMAL: u8 = 246;
    pub(super) const BLOB: u8 = 252;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
    /// Of an enum and of a set, in what a string says further.
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
}

impl Form {
    /// How a column is read, or why it cannot be.
    pub(super) fn of(column: &ColumnDef) -> Result<Self, String> {
        let base = types::base(&column.remote_type);
        let unsigned = column.remote_type.to_ascii_lowercase().contains(" unsigned");
        let integer = |bytes| Self::Integer { bytes, unsigned };
        Ok(match base.as_str() {
            "tinyint" => integer(1),
            "smallint" => integer(2),
            "mediumint" => integer(3),
            "int" | "integer" => integer(4),
            "bigint" => integer(8),
            "bit" => Self::Bit,
            "year" => Self::Year,
            "decimal" | "numeric" => Self::Decimal,
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "char" => Self::Char(charset(column)?),
            "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Self::Text(charset(column)?),
            "enum" => Self::Enum(labels(&column.remote_type)),
            "set" => Self::Set(labels(&column.remote_type)),
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            "binary" => Self::Padded(width(&column.remote_type)),
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Bytes,
            _ if column.class == ValueClass::Opaque && column.data_type == arrow::datatypes::DataType::Binary => {
                Self::Bytes
            }
            "date" => Self::Date,
            "datetime" => Self::Datetime,
            "timestamp" => Self::Timestamp,
            "time" => Self::Time,
            _ => return Err(format!("is of type {}, which is not read from a binary log", column.remote_type)),
        })
    }

    /// Whether a table map's column is one of this form.
    pub(super) fn fits(&self, (kind, said): (u8, [u8; 2])) -> bool {
        let is_string = |real: u8| kind == sent::STRING && said[0] == real;
        match self {
            Self::Integer { bytes: 1, .. } => kind == sent::TINY,
            Self::Integer { bytes: 2, .. } => kind == sent::SHORT,
            Self::Integer { bytes: 3, .. } => kind == sent::INT24,
            Self::Integer { bytes: 4, .. } => kind == sent::LONG,
            Self::Integer { .. } => kind == sent::LONGLONG,
            Self::Year => kind == sent::YEAR,
            Self::Bit => kind == sent::BIT,
            Self::Decimal => kind == sent::DECIMAL,
            Self::Float => kind == sent::FLOAT,
            Self::Double => kind == sent::DOUBLE,
            Self::Text(_) => matches!(kind, sent::VARCHAR | sent::BLOB),
            Self::Bytes => matches!(kind, sent::VARCHAR | sent::BLOB | sent::GEOMETRY),
            Self::Char(_) | Self::Padded(_) | Self::Uuid | Self::Inet4 | Self::Inet6 => {
                kind == sent::STRING && !matches!(said[0], sent::ENUM | sent::SET)
            }
            Self::Enum(_) => is_string(sent::ENUM),
            Self::Set(_) => is_string(sent::SET),
            Self::Date => kind == sent::DATE,
            Self::Datetime => kind == sent::DATETIME2,
            Self::Timestamp => kind == sent::TIMESTAMP2,
            Self::Time => kind == sent::TIME2,
        }
    }

    /// Takes a value.
    fn read(&self, (kind, said): (u8, [u8; 2]), rest: &mut &[u8]) -> Result<Value, Malformed> {
        Ok(match self {
            Self::Integer { bytes: count, unsigned } => integer(bytes(rest, *count)?, *unsigned),
            Self::Year => match take::<1>(rest)? {
                [0] => Value::Int(0),
                [years] => Value::Int(1900 + i64::from(years)),
            },
            Self::Bit => {
                let bits = usize::from(said[1]) * 8 + usize::from(said[0]);
                Value::Bytes(bytes(rest, bits.div_ceil(8))?.to_vec())
            }
            Self::Decimal => Value::Bytes(decimal(rest, said[0], said[1])?),
            Self::Float => Value::Float(f32::from_le_bytes(take(rest)?)),
            Self::Double => Value::Double(f64::from_le_bytes(take(rest)?)),
            Self::Text(charset) => Value::Bytes(decoded(*charset, string(kind, said, rest)?)?),
            Self::Char(charset) => {
                let mut text = decoded(*charset, string(kind, said, rest)?)?;
                text.truncate(text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1));
                Value::Bytes(text)
            }
            Self::Bytes => Value::Bytes(string(kind, said, rest)?.to_vec()),
            Self::Padded(width) => Value::Bytes(padded(string(kind, said, rest)?, *width)),
            Self::Enum(labels) => {
                let number = match said[1] {
                    1 => usize::from(take::<1>(rest)?[0]),
                    _ => usize::from(u16::from_le_bytes(take(rest)?)),
                };
                // Zero is what was invalid when it was written.
                let label = number.checked_sub(1).and_then(|index| labels.get(index));
                let known = label.map(|label| label.clone().into_bytes());
                Value::Bytes(if number == 0 { vec![] } else { known.ok_or("an enum's label that is not known")? })
            }
            Self::Set(labels) => {
                let set = bytes(rest, usize::from(said[1]))?;
                let chosen: Vec<&str> = labels
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| bit(set, *index))
                    .map(|(_, label)| label.as_str())
                    .collect();
                Value::Bytes(chosen.join(",").into_bytes())
            }
            Self::Uuid => Value::Bytes(uuid(&padded(string(kind, said, rest)?, 16))),
            Self::Inet4 => {
                let address = padded(string(kind, said, rest)?, 4);
                let octets: [u8; 4] = address.as_slice().try_into().map_err(|_| "an address of another length")?;
                Value::Bytes(std::net::Ipv4Addr::from(octets).to_string().into_bytes())
            }
            Self::Inet6 => {
                let address = padded(string(kind, said, rest)?, 16);
                let octets: [u8; 16] = address.as_slice().try_into().map_err(|_| "an address of another length")?;
                Value::Bytes(inet6(octets).into_bytes())
            }
            Self::Date => {
                let [a, b, c] = take(rest)?;
                let packed = u32::from_le_bytes([a, b, c, 0]);
                Value::Date(low16(packed >> 9), low8(packed >> 5 & 15), low8(packed & 31), 0, 0, 0, 0)
            }
            Self::Datetime => datetime(rest, said[0])?,
            Self::Timestamp => timestamp(rest, said[0])?,
            Self::Time => time(rest, said[0])?,
        })
    }
}

/// Takes a row: which columns are NULL, then the values of the others.
pub(super) fn row(forms: &[Form], columns: &[(u8, [u8; 2])], rest: &mut &[u8]) -> Result<Vec<Value>, Malformed> {
    let nulls = bytes(rest, columns.len().div_ceil(8))?;
    let mut values = Vec::with_capacity(columns.len());
    for (index, (form, column)) in forms.iter().zip(columns).enumerate() {
        values.push(if bit(nulls, index) { Value::NULL } else { form.read(*column, rest)? });
    }
    Ok(values)
}

fn integer(little: &[u8], unsigned: bool) -> Value {
    let negative = !unsigned && little.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..little.len()].copy_from_slice(little);
    match unsigned {
        true => Value::UInt(u64::from_le_bytes(wide)),
        false => Value::Int(i64::from_le_bytes(wide)),
    }
}

/// Text or bytes behind their length, whose own size the type says.
fn string<'a>(kind: u8, said: [u8; 2], rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let size = match kind {
        sent::VARCHAR => {
            if u16::from_le_bytes(said) < 256 {
                1
            } else {
                2
            }
        }
        // A string's greatest length has its upper two bits in the type's own byte, inverted.
        sent::STRING => {
            let most = u16::from(said[1]) | (u16::from(said[0] & 0x30) ^ 0x30) << 4;
            if most < 256 { 1 } else { 2 }
        }
        _ => usize::from(said[0]),
    };
    let mut length = [0; 8];
    length.get_mut(..size).ok_or("a length of too many bytes")?.copy_from_slice(bytes(rest, size)?);
    bytes(rest, usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
}

fn decoded(charset: Charset, text: &[u8]) -> Result<Vec<u8>, Malformed> {
    charset.decode(text).map(|text| text.into_owned()).ok_or("text that is none of its character set")
}

fn padded(value: &[u8], width: usize) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().max(width), 0);
    value
}

/// A decimal of nine digits to four bytes, a rest in fewer; the first bit is the sign's, inverted, and a negative one has all bits inverted.
fn decimal(rest: &mut &[u8], precision: u8, scale: u8) -> Result<Vec<u8>, Malformed> {
    const SIZES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let (scale, whole) = (usize::from(scale), usize::from(precision).saturating_sub(usize::from(scale)));
    let size = |digits: usize| digits / 9 * 4 + SIZES[digits % 9];
    let mut raw = bytes(rest, size(whole) + size(scale))?.to_vec();
    let negative = raw.first().is_some_and(|byte| byte & 0x80 == 0);
    if let Some(first) = raw.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        raw.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut raw = raw.as_slice();
    let mut group = |digits: usize, text: &mut String| {
        let number = bytes(&mut raw, SIZES[digits])?.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        text.push_str(&format!("{number:0digits$}"));
        Ok::<_, Malformed>(())
    };
    let mut text = String::new();
    if whole % 9 > 0 {
        group(whole % 9, &mut text)?;
    }
    (0..whole / 9).try_for_each(|_| group(9, &mut text))?;
    let mut fraction = String::new();
    (0..scale / 9).try_for_each(|_| group(9, &mut fraction))?;
    if scale % 9 > 0 {
        group(scale % 9, &mut fraction)?;
    }
    let whole = text.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let is_zero = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
    let sign = if negative && !is_zero { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    Ok(format!("{sign}{whole}{point}{fraction}").into_bytes())
}

/// Microseconds behind a value, in as many bytes as its digits need.
fn fraction(rest: &mut &[u8], digits: u8) -> Result<i64, Malformed> {
    let raw = bytes(rest, usize::from(digits.div_ceil(2)))?;
    let number = raw.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    Ok(match raw.len() {
        1 => number * 10_000,
        2 => number * 100,
        _ => number,
    })
}

fn datetime(rest: &mut &[u8], digits: u8) -> Result<Value, Malformed> {
    const OFFSET: i64 = 0x80_0000_0000;
    let packed = bytes(rest, 5)?.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte)) - OFFSET;
    let micros = fraction(rest, digits)?;
    let (date, clock) = ((packed >> 17).unsigned_abs(), (packed & 0x1_ffff).unsigned_abs());
    let (months, day) = (date >> 5, date & 31);
    Ok(Value::Date(
        u16::try_from(months / 13).unwrap_or(u16::MAX),
        low8(months % 13),
        low8(day),
        low8(clock >> 12),
        low8(clock >> 6 & 63),
        low8(clock & 63),
        low32(micros),
    ))
}

/// Seconds since 1970; zero is the zero date.
fn timestamp(rest: &mut &[u8], digits: u8) -> Result<Value, Malformed> {
    let seconds = i64::from(u32::from_be_bytes(take(rest)?));
    let micros = fraction(rest, digits)?;
    if seconds == 0 && micros == 0 {
        return Ok(Value::Date(0, 0, 0, 0, 0, 0, 0));
    }
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400).unsigned_abs());
    let (year, month, day) = calendar::civil(days);
    Ok(Value::Date(year, month, day, low8(clock / 3600), low8(clock / 60 % 60), low8(clock % 60), low32(micros)))
}

/// A time: ten bits of hours, six of minutes, six of seconds, and a fraction that counts on with them when they are negative.
fn time(rest: &mut &[u8], digits: u8) -> Result<Value, Malformed> {
    let size = 3 + usize::from(digits.div_ceil(2));
    let raw = bytes(rest, size)?.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let shift = 8 * (size - 3);
    let packed = raw - (0x80_0000_i64 << shift);
    let size = packed.unsigned_abs();
    let (clock, part) = (size >> shift, size & ((1 << shift) - 1));
    let micros = match shift {
        8 => part * 10_000,
        16 => part * 100,
        _ => part,
    };
    let hours = clock >> 12 & 0x3ff;
    Ok(Value::Time(
        packed < 0,
        u32::try_from(hours / 24).unwrap_or(u32::MAX),
        low8(hours % 24),
        low8(clock >> 6 & 63),
        low8(clock & 63),
        u32::try_from(micros).unwrap_or(u32::MAX),
    ))
}

fn low8<N: TryInto<u8>>(number: N) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

fn low16(number: u32) -> u16 {
    number.try_into().unwrap_or(u16::MAX)
}

fn low32(number: i64) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// A UUID as MariaDB stores it: the parts of a UUID of time in reverse order, so that they sort by time, others as they are.
fn uuid(stored: &[u8]) -> Vec<u8> {
    let mut bytes = stored.to_vec();
    // In the stored order the ninth byte has the variant, and the seventh the version, where the parts are as they are.
    let is_swapped = |bytes: &[u8]| bytes[6] == 0 || bytes[6] & 0x80 != 0;
    if is_swapped(&bytes) {
        bytes = [&stored[12..16], &stored[10..12], &stored[8..10], &stored[6..8], &stored[0..6]].concat();
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into_bytes()
}

/// An IPv6 address as MariaDB prints it: IPv4 in dotted form where it is compatible or mapped.
fn inet6(octets: [u8; 16]) -> String {
    let address = std::net::Ipv6Addr::from(octets);
    let last = std::net::Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    match octets[..12] {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] if octets[12..14] != [0, 0] => format!("::{last}"),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] => format!("::ffff:{last}"),
        _ => address.to_string(),
    }
}

/// The labels of an enum or a set: in quotes, with quotes inside of them doubled.
fn labels(remote_type: &str) -> Vec<String> {
    let (mut labels, mut label, mut inside) = (vec![], String::new(), false);
    let mut characters = remote_type.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' if !inside => inside = true,
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                label.push('\'');
            }
            '\'' => {
                inside = false;
                labels.push(std::mem::take(&mut label));
            }
            other if inside => label.push(other),
            _ => {}
        }
    }
    labels
}

/// The number in a type's brackets; one where there is none.
fn width(remote_type: &str) -> usize {
    let inner = remote_type.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    inner.and_then(|(width, _)| width.trim().parse().ok()).unwrap_or(1)
}

fn charset(column: &ColumnDef) -> Result<Charset, String> {
    let collation = column.collation.as_deref().unwrap_or_default();
    let name = collation.split('_').next().unwrap_or_default();
    Charset::of(name).ok_or_else(|| format!("is in the character set {name}, which is not read from a binary log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_decimal(raw: &[u8], precision: u8, scale: u8) -> String {
        String::from_utf8(decimal(&mut &raw[..], precision, scale).unwrap()).unwrap()
    }

    #[test]
    fn decimal_is_read_group_by_group() {
        // The example of MySQL's own decimal2bin.
        assert_eq!(read_decimal(&[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], 14, 4), "1234567890.1234");
        assert_eq!(read_decimal(&[0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d], 14, 4), "-1234567890.1234");
        assert_eq!(read_decimal(&[0x80, 0x00], 3, 1), "0.0");
    }

    #[test]
    fn labels_are_told_apart_whatever_is_in_them() {
        assert_eq!(labels("enum('a','O''k, (x)','')"), ["a", "O'k, (x)", ""]);
        assert_eq!(labels("set('x')"), ["x"]);
    }

    #[test]
    fn integers_of_any_width_keep_their_sign() {
        assert_eq!(integer(&[0xff, 0xff, 0xff], false), Value::Int(-1));
        assert_eq!(integer(&[0xff, 0xff, 0xff], true), Value::UInt(0xff_ffff));
        assert_eq!(integer(&[0, 0, 0x80], false), Value::Int(-8_388_608));
    }

    #[test]
    fn negative_time_with_a_fraction_is_read() {
        // -00:00:01.10, two digits: 0x7FFFFE F6.
        assert_eq!(time(&mut &[0x7f, 0xff, 0xfe, 0xf6][..], 2), Ok(Value::Time(true, 0, 0, 0, 1, 100_000)));
        assert_eq!(time(&mut &[0x80, 0x00, 0x01][..], 0), Ok(Value::Time(false, 0, 0, 0, 1, 0)));
    }
}
