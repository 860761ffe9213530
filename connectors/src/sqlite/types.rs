//! The type table: what a declared type is read as.
//!
//! SQLite lets any value stand in any column (outside STRICT tables); the declared type decides here all the same, never the
//! values that happen to be there. A value whose storage class or form does not fit is
//! [`Error::Value`](headwater_source::Error::Value), naming table, column and rowid.
//!
//! | declared type (any case) | Arrow type | fits |
//! |---|---|---|
//! | `INT`, `INTEGER`, `TINYINT` ... `BIGINT`, `INT2`, `INT8`, `UNSIGNED BIG INT`, `INT(11)` | Int64 | INTEGER |
//! | `BOOL`, `BOOLEAN` | Boolean | INTEGER 0 and 1 |
//! | `REAL`, `FLOAT`, `DOUBLE`, `DOUBLE PRECISION` | Float64 | REAL; INTEGER that a double holds exactly |
//! | `DECIMAL(p,s)`, `NUMERIC(p,s)`, `DEC`, `NUMBER`, p up to 38 | Decimal128(p,s) | INTEGER and TEXT exactly; REAL whose shortest decimal form has at most s places |
//! | the same, p 39 to 76 | Decimal256(p,s) | as above |
//! | the same, without p or beyond 76 | Utf8 | anything, see below |
//! | `TEXT`, `CLOB`, `VARCHAR(n)`, `CHAR(n)`, `NVARCHAR(n)`, any other with CHAR, CLOB or TEXT | Utf8 | TEXT in valid UTF-8 |
//! | `BLOB`, `BINARY(n)`, `VARBINARY(n)`, `BYTEA`, any other with BLOB | Binary | BLOB |
//! | `DATE` | Date32 | TEXT `2024-02-29`, years 0000 to 9999 |
//! | `DATETIME`, `TIMESTAMP` | Timestamp(us) | TEXT `2024-02-29`, `2024-02-29 12:30`, `2024-02-29T12:30:00.123456Z` |
//! | `TIMESTAMPTZ`, `TIMESTAMP WITH TIME ZONE` | Timestamp(us, UTC) | the same with an offset `+02:00`; without one it is UTC |
//! | `TIME` | Time64(us) | TEXT `12:30`, `12:30:00`, `12:30:00.123456` |
//! | `JSON`, `UUID`, `STRING`, `POINT`, `ANY`, no type at all, any other | Utf8 | anything: INTEGER in digits, REAL in its shortest form, TEXT as it is, BLOB as `X'0AFF'` |
//!
//! Notes:
//! - A name that SQLite gives INTEGER affinity only by the letters INT in it (`POINT`, `INTERVAL`) is read as text.
//! - `CHAR(n)` is read as it is stored: SQLite never pads, so there is no padding to take away.
//! - SQLite itself turns the text `12.50` in a `DECIMAL` column into the double 12.5 when it is stored, and digits beyond the
//!   15th are lost there. A double is read where only one decimal of the declared scale rounds to it: 0.30000000000000004 in
//!   `DECIMAL(10,2)` is an error rather than a rounded number, and so is a double of more than 2^52 units.
//! - An INTEGER in a `DATE` or `TIMESTAMP` column may be seconds, milliseconds or a Julian day: it is an error, not a guess.
//! - A fraction of a second finer than microseconds is an error unless its further digits are zeros.
//! - An expression in a view has no declared type, so it is read as text.

use arrow::datatypes::{DataType, TimeUnit};
use headwater_source::ColumnDef;

/// How a column is read, from its declared type alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Boolean,
    Float,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    Blob,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// Text of any storage class.
    Any,
}

/// The most digits that Decimal256 holds.
const DIGITS_MAX: u8 = 76;
/// The most digits that Decimal128 holds.
pub(super) const DIGITS_MAX_128: u8 = 38;

impl Kind {
    /// How a column is read: a table's by its declared type; what a query computes has none, and is read as it is computed.
    pub(super) fn of_column(column: &ColumnDef) -> Self {
        match &column.data_type {
            DataType::Int64 if column.remote_type.is_empty() => Self::Integer,
            DataType::Boolean if column.remote_type.is_empty() => Self::Boolean,
            _ => Self::of(&column.remote_type),
        }
    }

    /// Reads a declared type.
    pub(super) fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let (head, arguments, tail) = split(&upper);
        let name = format!("{head} {tail}");
        let words: Vec<&str> = name.split_whitespace().collect();
        match words.as_slice() {
            ["BOOL" | "BOOLEAN"] => Self::Boolean,
            ["DECIMAL" | "DEC" | "NUMERIC" | "NUMBER"] => Self::decimal(arguments),
            ["DATE"] => Self::Date,
            ["TIME"] => Self::Time,
            ["DATETIME" | "TIMESTAMP"] | ["TIMESTAMP", "WITHOUT", "TIME", "ZONE"] => Self::Timestamp,
            ["TIMESTAMPTZ"] | ["TIMESTAMP", "WITH", "TIME", "ZONE"] => Self::TimestampTz,
            ["BINARY" | "VARBINARY" | "BYTEA"] => Self::Blob,
            words if words.iter().any(|word| is_integer(word)) => Self::Integer,
            _ => Self::by_affinity(&upper),
        }
    }

    /// What SQLite's own affinity rules make of the name (<https://www.sqlite.org/datatype3.html>, section 3.1).
    fn by_affinity(upper: &str) -> Self {
        let holds = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
        if holds(&["INT"]) {
            Self::Any
        } else if holds(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if holds(&["BLOB"]) {
            Self::Blob
        } else if holds(&["REAL", "FLOA", "DOUB"]) {
            Self::Float
        } else {
            Self::Any
        }
    }

    fn decimal(arguments: &str) -> Self {
        let mut numbers = arguments.split(',').map(|number| number.trim().parse::<u8>().ok());
        let precision = numbers.next().flatten();
        let scale = numbers.next().unwrap_or(Some(0));
        match (precision, scale, numbers.next()) {
            (Some(precision @ 1..=DIGITS_MAX), Some(scale), None) if scale <= precision => {
                // Invariant: scale <= 76, so it fits i8.
                Self::Decimal { precision, scale: scale as i8 }
            }
            _ => Self::Any,
        }
    }

    /// The Arrow type.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Boolean => DataType::Boolean,
            Self::Float => DataType::Float64,
            Self::Decimal { precision, scale } if precision <= DIGITS_MAX_128 => DataType::Decimal128(precision, scale),
            Self::Decimal { precision, scale } => DataType::Decimal256(precision, scale),
            Self::Text | Self::Any => DataType::Utf8,
            Self::Blob => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// `VARCHAR(20) X` as `VARCHAR`, `20` and `X`.
fn split(declared: &str) -> (&str, &str, &str) {
    let Some((head, rest)) = declared.split_once('(') else { return (declared, "", "") };
    let (arguments, tail) = rest.rsplit_once(')').unwrap_or((rest, ""));
    (head, arguments, tail)
}

/// Whether the word names an integer type: `INT`, `UINT32`, `BIGINT`, but not `POINT`.
fn is_integer(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(word, "INT" | "UINT" | "INTEGER" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "BIGINT" | "UBIGINT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_type_decides_in_any_case_and_spelling() {
        let decimal = |precision, scale| Kind::Decimal { precision, scale };
        for (declared, kind) in [
            ("integer", Kind::Integer),
            ("INT(11)", Kind::Integer),
            ("Unsigned Big Int", Kind::Integer),
            ("INT8", Kind::Integer),
            ("bigint(20) unsigned", Kind::Integer),
            ("POINT", Kind::Any),
            ("INTERVAL", Kind::Any),
            ("Boolean", Kind::Boolean),
            ("DOUBLE PRECISION", Kind::Float),
            ("float(24)", Kind::Float),
            ("decimal(12, 2)", decimal(12, 2)),
            ("NUMERIC(5)", decimal(5, 0)),
            ("NUMERIC(76,76)", decimal(76, 76)),
            ("NUMERIC(77,2)", Kind::Any),
            ("NUMERIC(2,5)", Kind::Any),
            ("NUMERIC(10,-2)", Kind::Any),
            ("NUMERIC(1,2,3)", Kind::Any),
            ("NUMERIC", Kind::Any),
            ("NATIVE CHARACTER(70)", Kind::Text),
            ("clob", Kind::Text),
            ("LONGBLOB", Kind::Blob),
            ("varbinary(16)", Kind::Blob),
            ("date", Kind::Date),
            ("DATETIME(6)", Kind::Timestamp),
            ("timestamp(3) with time zone", Kind::TimestampTz),
            ("time", Kind::Time),
            ("JSON", Kind::Any),
            ("STRING", Kind::Any),
            ("UUID", Kind::Any),
            ("", Kind::Any),
            ("VARCHAR(", Kind::Text),
        ] {
            assert_eq!(Kind::of(declared), kind, "{declared}");
        }
    }

    #[test]
    fn decimals_wider_than_128_bits_are_256_bits_wide() {
        assert_eq!(Kind::of("DECIMAL(38,10)").data_type(), DataType::Decimal128(38, 10));
        assert_eq!(Kind::of("DECIMAL(39,10)").data_type(), DataType::Decimal256(39, 10));
    }
}
