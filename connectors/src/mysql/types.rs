//! The type table: how a column of MariaDB or MySQL is read, and how its values compare.
//!
//! | type | Arrow | class | notes |
//! |---|---|---|---|
//! | tinyint, smallint, mediumint, int, bigint | Int8, Int16, Int32, Int32, Int64 | Integer | tinyint(1), and so BOOLEAN, is Int8: it holds -128 to 127 |
//! | the same, unsigned | UInt8, UInt16, UInt32, UInt32, UInt64 | Integer | |
//! | bit(n) | UInt64 | Integer | the bits as a number, as MySQL computes with them |
//! | year | Int16 | Integer | 0, 1901 to 2155 |
//! | decimal(p,s) | Decimal128(p,s), from 39 digits Decimal256(p,s) | Decimal | p is at most 65 |
//! | float, double | Float32, Float64 | Float | |
//! | char(n) | Utf8 | TextPadded | without the padding, as the server sends it |
//! | varchar, tinytext, text, mediumtext, longtext | Utf8 | Text under utf8mb4_nopad_bin and utf8mb4_0900_bin, else TextFolded | MariaDB's json is a longtext |
//! | any of these in another character set than Unicode, latin1 or ascii | Utf8 | Opaque | two encodings may stand for one character |
//! | enum | Utf8 | Label, or Opaque where a label is empty | the label; the empty text for a value that was invalid when it was written, which the server tells from an empty label and text does not |
//! | set, json, inet4, inet6, unknown types | Utf8 | Opaque | as the server prints them |
//! | uuid | Utf8 | Uuid | lower case with dashes |
//! | binary(n), varbinary(n), tinyblob, blob, mediumblob, longblob | Binary | Bytes | binary(n) keeps its zero bytes |
//! | geometry, point, ... | Binary | Opaque | four bytes of SRID, little endian, then WKB |
//! | date | Date32 | Date | zero dates are NULL |
//! | datetime(f) | Timestamp(µs) | Timestamp | zero dates are NULL |
//! | timestamp(f) | Timestamp(µs, UTC) | TimestampTz | zero dates are NULL |
//! | time(f) | Duration(µs) | Time | -838:59:59 to 838:59:59 is more than a day |
//!
//! A zero date is one whose month or day is zero (`0000-00-00`, `2020-00-15`): no day of any calendar. It is read as NULL, so columns of
//! dates are nullable whatever they declare, and filters on them take such a date for NULL. A day that does not
//! exist (`2020-02-31`, under ALLOW_INVALID_DATES) is an error that names the column.

use arrow::datatypes::{DataType, TimeUnit};
use headwater_source::{ColumnDef, ValueClass};

/// What `information_schema.COLUMNS` says of a column.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogColumn {
    pub(super) name: String,
    /// DATA_TYPE: the bare word.
    pub(super) base: String,
    /// COLUMN_TYPE: with lengths and `unsigned`.
    pub(super) full: String,
    pub(super) nullable: bool,
    pub(super) precision: Option<u64>,
    pub(super) scale: Option<u64>,
    pub(super) charset: Option<String>,
    pub(super) collation: Option<String>,
    pub(super) comment: String,
}

/// Character sets in which every character has one encoding that the server converts to UTF-8 and back.
const PLAIN_CHARSETS: &[&str] = &["utf8mb4", "utf8mb3", "utf8", "ucs2", "utf16", "utf16le", "utf32", "latin1", "ascii"];

/// The character set of the connection.
pub(super) const UTF8: &str = "utf8mb4";

/// The zone of instants.
pub(super) const UTC: &str = "UTC";

/// The largest precision of a Decimal128.
const DECIMAL128_DIGITS_MAX: u8 = 38;

impl CatalogColumn {
    /// The column as the engine sees it.
    pub(super) fn describe(self) -> ColumnDef {
        let (data_type, class) = self.arrow();
        let holds_zero_dates = matches!(class, ValueClass::Date | ValueClass::Timestamp | ValueClass::TimestampTz);
        let mut column = ColumnDef::new(self.name, data_type, self.full, class);
        column.nullable = self.nullable || holds_zero_dates;
        column.collation = self.collation;
        column.comment = Some(self.comment).filter(|comment| !comment.is_empty());
        column
    }

    fn arrow(&self) -> (DataType, ValueClass) {
        let unsigned = self.full.to_ascii_lowercase().contains(" unsigned");
        let integer = |signed, without_sign| (if unsigned { without_sign } else { signed }, ValueClass::Integer);
        match self.base.to_ascii_lowercase().as_str() {
            "tinyint" => integer(DataType::Int8, DataType::UInt8),
            "smallint" => integer(DataType::Int16, DataType::UInt16),
            "mediumint" | "int" | "integer" => integer(DataType::Int32, DataType::UInt32),
            "bigint" => integer(DataType::Int64, DataType::UInt64),
            "bit" => (DataType::UInt64, ValueClass::Integer),
            "year" => (DataType::Int16, ValueClass::Integer),
            "decimal" | "numeric" => self.decimal(),
            "float" => (DataType::Float32, ValueClass::Float),
            "double" | "real" => (DataType::Float64, ValueClass::Float),
            "char" => (DataType::Utf8, self.text_class(ValueClass::TextPadded)),
            "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                let bytewise = self.collation.as_deref().is_some_and(is_bytewise);
                let class = if bytewise { ValueClass::Text } else { ValueClass::TextFolded };
                (DataType::Utf8, self.text_class(class))
            }
            "enum" if has_empty_label(&self.full) => (DataType::Utf8, ValueClass::Opaque),
            "enum" => (DataType::Utf8, self.text_class(ValueClass::Label)),
            "uuid" => (DataType::Utf8, ValueClass::Uuid),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                (DataType::Binary, ValueClass::Bytes)
            }
            base if is_geometry(base) => (DataType::Binary, ValueClass::Opaque),
            "date" => (DataType::Date32, ValueClass::Date),
            "datetime" => (DataType::Timestamp(TimeUnit::Microsecond, None), ValueClass::Timestamp),
            "timestamp" => (DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), ValueClass::TimestampTz),
            "time" => (DataType::Duration(TimeUnit::Microsecond), ValueClass::Time),
            _ => (DataType::Utf8, ValueClass::Opaque),
        }
    }

    fn decimal(&self) -> (DataType, ValueClass) {
        let precision = self.precision.and_then(|digits| u8::try_from(digits).ok());
        let scale = self.scale.and_then(|digits| i8::try_from(digits).ok());
        match (precision, scale) {
            (Some(precision @ 1..=DECIMAL128_DIGITS_MAX), Some(scale)) => {
                (DataType::Decimal128(precision, scale), ValueClass::Decimal)
            }
            (Some(precision @ 1..=76), Some(scale)) => (DataType::Decimal256(precision, scale), ValueClass::Decimal),
            _ => (DataType::Utf8, ValueClass::Opaque),
        }
    }

    fn text_class(&self, class: ValueClass) -> ValueClass {
        match &self.charset {
            Some(charset) if PLAIN_CHARSETS.contains(&charset.to_ascii_lowercase().as_str()) => class,
            _ => ValueClass::Opaque,
        }
    }
}

/// Whether equality under the collation is that of the bytes: binary, not padded with spaces, and in the connection's own character
/// set, so that no value is converted to be compared.
fn is_bytewise(collation: &str) -> bool {
    matches!(collation.to_ascii_lowercase().as_str(), "utf8mb4_nopad_bin" | "utf8mb4_0900_bin")
}

/// The character set and the collation of a column whose text may be compared. The set is what stands before the first `_` of
/// the collation.
pub(super) fn charset(column: &ColumnDef) -> Option<(&'static str, &str)> {
    let collation = column.collation.as_deref()?;
    let name = collation.split('_').next()?;
    let charset = PLAIN_CHARSETS.iter().copied().find(|charset| charset.eq_ignore_ascii_case(name))?;
    // It goes into a statement bare: anything but a word is none.
    let word = collation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word.then_some((charset, collation))
}

/// Whether one of an enum's labels is empty, or might be: a quote inside of a label is doubled, too.
fn has_empty_label(full: &str) -> bool {
    ["('',", "('')", ",'',", ",'')"].iter().any(|part| full.contains(part))
}

/// Whether a column's type is one that the table above does not name: it is read as the text that the server makes of it. What is
/// computed has no type here and is known.
pub(super) fn is_unknown(remote_type: &str) -> bool {
    let base = base(remote_type);
    !(base.is_empty() || KNOWN.contains(&base.as_str()) || is_geometry(&base))
}

const KNOWN: &[&str] = &[
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "integer",
    "bigint",
    "bit",
    "year",
    "decimal",
    "numeric",
    "float",
    "double",
    "real",
    "char",
    "varchar",
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "enum",
    "set",
    "json",
    "inet4",
    "inet6",
    "uuid",
    "binary",
    "varbinary",
    "tinyblob",
    "blob",
    "mediumblob",
    "longblob",
    "date",
    "datetime",
    "timestamp",
    "time",
];

/// The first word of a type: `decimal` of `decimal(10,2) unsigned`.
pub(super) fn base(remote_type: &str) -> String {
    let end = remote_type.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(remote_type.len());
    remote_type[..end].to_ascii_lowercase()
}

fn is_geometry(base: &str) -> bool {
    matches!(
        base,
        "geometry"
            | "point"
            | "linestring"
            | "polygon"
            | "multipoint"
            | "multilinestring"
            | "multipolygon"
            | "geometrycollection"
            | "geomcollection"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(full: &str, charset: &str, collation: &str) -> ColumnDef {
        CatalogColumn {
            name: "c".to_owned(),
            base: base(full),
            full: full.to_owned(),
            charset: Some(charset.to_owned()).filter(|name| !name.is_empty()),
            collation: Some(collation.to_owned()).filter(|name| !name.is_empty()),
            ..CatalogColumn::default()
        }
        .describe()
    }

    #[test]
    fn collation_decides_how_text_compares() {
        let class = |full: &str, charset: &str, collation: &str| column(full, charset, collation).class;
        assert_eq!(class("varchar(9)", "utf8mb4", "utf8mb4_general_ci"), ValueClass::TextFolded);
        assert_eq!(class("varchar(9)", "utf8mb4", "utf8mb4_bin"), ValueClass::TextFolded, "it pads with spaces");
        assert_eq!(class("varchar(9)", "utf8mb4", "utf8mb4_nopad_bin"), ValueClass::Text);
        assert_eq!(class("text", "utf8mb4", "utf8mb4_0900_bin"), ValueClass::Text);
        assert_eq!(class("text", "latin1", "latin1_nopad_bin"), ValueClass::TextFolded, "values are converted");
        assert_eq!(class("char(9)", "utf8mb4", "utf8mb4_nopad_bin"), ValueClass::TextPadded);
        assert_eq!(class("varchar(9)", "cp932", "cp932_nopad_bin"), ValueClass::Opaque, "two codes for one character");
        assert_eq!(class("enum('a')", "utf8mb4", "utf8mb4_bin"), ValueClass::Label);
    }

    #[test]
    fn column_of_dates_is_nullable_whatever_it_declares() {
        assert!(column("date", "", "").nullable);
        assert!(column("datetime(6)", "", "").nullable);
        assert!(!column("int(11)", "", "").nullable);
    }

    #[test]
    fn unknown_type_is_text_and_known_ones_are_known() {
        assert_eq!(column("vector(3)", "", "").data_type, DataType::Utf8);
        assert!(is_unknown("vector(3)"));
        assert!(!is_unknown("bigint(20) unsigned zerofill") && !is_unknown("point"));
    }
}
