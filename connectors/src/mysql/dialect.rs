//! How MariaDB and MySQL write SQL, and what they may be asked to compare.
//!
//! Both servers convert a value to the column's type, character set and collation only where that changes no answer here:
//! - Decimals are bound as text and cast, because a bare text would be compared as a double.
//! - A text compared with a column is given the column's collation: beside a view's constant, it would otherwise be a matter of rank whose
//!   collation decides, and the server refuses where it cannot tell.
//! - A text compared with a column of another character set than utf8mb4 is converted to that set, with `?` for what the set lacks: the
//!   server would refuse the comparison. The rows that then equal `?` are some too many, which is why such columns are never
//!   more than [`ValueClass::TextFolded`].
//! - `<` on text compares the UTF-8 bytes of both sides, which is Arrow's order whatever the collation; an index helps only where the
//!   collation is bytewise itself.
//! - YEAR is cast, because a bare `y = 5` means the year 2005.
//! - TIME is cast to its finest precision: MariaDB moves a value to the precision of the column's index, past rows that it should find.
//! - NULL sorts first; where it must not, `col IS NULL` goes before the key.
//!
//! What is not pushed, and why: `<>` on folded text and dates (a superset of `<>` must not lose a row that only differs in case,
//! nor one beside a value that was moved into the server's range); ORDER BY on text and binary strings (the server sorts by
//! their first `max_sort_length` bytes); IS NULL on dates (zero dates are read as NULL); order on labels (the server orders them by
//! position) and on UUIDs (MariaDB orders them by their time).

use arrow::datatypes::DataType;
use headwater_source::{Capabilities, ColumnDef, Operator, Rule, SortKey, Support, ValueClass};

use super::types;
use crate::sql::{Dialect, Numbering, Use};

/// Backticks, `?`, and the casts that keep comparisons honest.
pub(super) struct MysqlDialect;

/// What may be pushed. Each rule has a test that compares the server with Arrow.
pub(super) const CAPABILITIES: Capabilities = Capabilities::new("mysql", RULES);

const RULES: &[Rule] = {
    use Operator::{Equal, IsNull, Like, NotEqual, Order, Sort};
    use Support::{Exact, Superset};
    use ValueClass as V;
    &[
        (Equal, V::Integer, Exact),
        (NotEqual, V::Integer, Exact),
        (Order, V::Integer, Exact),
        (Sort, V::Integer, Exact),
        (Equal, V::Decimal, Exact),
        (NotEqual, V::Decimal, Exact),
        (Order, V::Decimal, Exact),
        (Sort, V::Decimal, Exact),
        (Equal, V::Float, Superset),
        (Order, V::Float, Superset),
        (Equal, V::Text, Exact),
        (NotEqual, V::Text, Exact),
        (Order, V::Text, Exact),
        (Like, V::Text, Superset),
        (Equal, V::TextFolded, Superset),
        (Order, V::TextFolded, Exact),
        (Like, V::TextFolded, Superset),
        (Equal, V::TextPadded, Superset),
        (Order, V::TextPadded, Exact),
        (Like, V::TextPadded, Superset),
        (Equal, V::Label, Superset),
        (Equal, V::Bytes, Exact),
        (NotEqual, V::Bytes, Exact),
        (Order, V::Bytes, Exact),
        (Equal, V::Uuid, Exact),
        (NotEqual, V::Uuid, Exact),
        (Equal, V::Date, Superset),
        (Order, V::Date, Superset),
        (Equal, V::Timestamp, Superset),
        (Order, V::Timestamp, Superset),
        (Equal, V::TimestampTz, Superset),
        (Order, V::TimestampTz, Superset),
        (Equal, V::Time, Superset),
        (Order, V::Time, Superset),
        (Sort, V::Time, Exact),
        (IsNull, V::Integer, Exact),
        (IsNull, V::Decimal, Exact),
        (IsNull, V::Float, Exact),
        (IsNull, V::Text, Exact),
        (IsNull, V::TextFolded, Exact),
        (IsNull, V::TextPadded, Exact),
        (IsNull, V::Label, Exact),
        (IsNull, V::Bytes, Exact),
        (IsNull, V::Uuid, Exact),
        (IsNull, V::Time, Exact),
        (IsNull, V::Opaque, Exact),
    ]
};

const BINARY: &str = "varbinary";

const IN_CHARSET: &str = "varchar character set ";
const COLLATED: &str = " collate ";

impl Dialect for MysqlDialect {
    const QUOTE: char = '`';
    const NUMBERING: Numbering = Numbering::ByPlace;

    fn placeholder(&self, _: usize, remote_type: &str) -> String {
        match remote_type {
            BINARY => "CAST(? AS BINARY)".to_owned(),
            decimal if decimal.starts_with("decimal(") => format!("CAST(? AS {decimal})"),
            text => text_placeholder(text),
        }
    }

    fn column(&self, column: &ColumnDef, quoted: String, purpose: Use) -> String {
        match purpose {
            Use::Read if types::is_unknown(&column.remote_type) => format!("CAST({quoted} AS CHAR)"),
            Use::Equality | Use::Order if types::base(&column.remote_type) == "year" => {
                format!("CAST({quoted} AS SIGNED)")
            }
            Use::Equality | Use::Order if column.class == ValueClass::Time => format!("CAST({quoted} AS TIME(6))"),
            Use::Order if is_collated(column.class) => format!("CAST(CONVERT({quoted} USING utf8mb4) AS BINARY)"),
            _ => quoted,
        }
    }

    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String {
        match &column.data_type {
            DataType::Binary => BINARY.to_owned(),
            DataType::Utf8 if purpose == Use::Order && is_collated(column.class) => BINARY.to_owned(),
            DataType::Utf8 => text_type(column),
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                format!("decimal({precision},{scale})")
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => "bigint unsigned".to_owned(),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => "bigint".to_owned(),
            DataType::Float32 => "float".to_owned(),
            DataType::Float64 => "double".to_owned(),
            DataType::Date32 | DataType::Timestamp(..) => "datetime(6)".to_owned(),
            DataType::Duration(_) => "time(6)".to_owned(),
            _ => column.remote_type.clone(),
        }
    }

    fn sort_key(&self, column: &ColumnDef, expression: &str, key: SortKey) -> String {
        let direction = if key.descending { " DESC" } else { "" };
        match (key.nulls_first, key.descending) {
            _ if !column.nullable => format!("{expression}{direction}"),
            // As the server does by itself, so that an index will do.
            (true, false) | (false, true) => format!("{expression}{direction}"),
            (true, true) => format!("{expression} IS NULL DESC, {expression}{direction}"),
            (false, false) => format!("{expression} IS NULL, {expression}{direction}"),
        }
    }

    fn like_escape(&self) -> &'static str {
        // One backslash, under the session's sql_mode.
        r" ESCAPE '\\'"
    }
}

/// Whether the server orders the class's text by a collation, and not by its bytes.
fn is_collated(class: ValueClass) -> bool {
    matches!(class, ValueClass::TextFolded | ValueClass::TextPadded)
}

/// The type of a text that is compared with a column: in its character set, under its collation.
fn text_type(column: &ColumnDef) -> String {
    match types::charset(column) {
        Some((charset, collation)) => format!("{IN_CHARSET}{charset}{COLLATED}{collation}"),
        None => "varchar".to_owned(),
    }
}

/// A value of a type that [`text_type`] wrote.
fn text_placeholder(remote_type: &str) -> String {
    let collated = remote_type.strip_prefix(IN_CHARSET).and_then(|rest| rest.split_once(COLLATED));
    match collated {
        Some((types::UTF8, collation)) => format!("? COLLATE {collation}"),
        Some((charset, collation)) => format!("CONVERT(? USING {charset}) COLLATE {collation}"),
        None => "?".to_owned(),
    }
}
