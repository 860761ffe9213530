//! How MariaDB and MySQL write SQL, and what they may be asked to compare.
//!
//! Both servers convert a value to the column's type, character set and collation only where that changes no answer here:
//! - Decimals are bound as text and cast, because a bare text would be compared as a double.
//! - A text compared with a column is given the column's collation: beside a view's constant, it would otherwise be a matter of rank whose
//!   collation decides, and the server refuses where it cannot tell.
//! - A text compared with a column of another character set than utf8mb4 is converted to that set, with `?` for what the set lacks: the
//!   server would refuse the comparison.
//! - `=` on collated text and labels compares the UTF-8 bytes. Where it filters, the comparison under the collation stands beside
//!   it for the index: equal bytes are equal under every collation.
//! - A date is compared as it is read, NULL where it is a zero date. Where that filters, the bare comparison stands beside it for
//!   the index. Values outside the server's range are put as ones inside it (`range`).
//! - `<` on text compares the UTF-8 bytes of both sides, which is Arrow's order whatever the collation; an index helps only where the
//!   collation is bytewise itself.
//! - YEAR is cast, because a bare `y = 5` means the year 2005.
//! - TIME is cast to its finest precision: MariaDB moves a value to the precision of the column's index, past rows that it should find.
//! - NULL sorts first; where it must not, `col IS NULL` goes before the key.
//!
//! What is not pushed, and why: ORDER BY on text and binary strings (the server sorts by
//! their first `max_sort_length` bytes); order on UUIDs (MariaDB orders them by their
//! time).

use arrow::datatypes::DataType;
use headwater_source::{Capabilities, ColumnDef, CompareOp, Expr, Operator, Rule, SortKey, Support, ValueClass};

use super::range::within_range;
use super::types;
use crate::sql::{Dialect, Equality, Hint, Numbering, Use};

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
        (Equal, V::TextFolded, Exact),
        (NotEqual, V::TextFolded, Exact),
        (Order, V::TextFolded, Exact),
        (Like, V::TextFolded, Superset),
        (Equal, V::TextPadded, Exact),
        (NotEqual, V::TextPadded, Exact),
        (Order, V::TextPadded, Exact),
        (Like, V::TextPadded, Superset),
        (Equal, V::Label, Exact),
        (NotEqual, V::Label, Exact),
        (Order, V::Label, Exact),
        (Equal, V::Bytes, Exact),
        (NotEqual, V::Bytes, Exact),
        (Order, V::Bytes, Exact),
        (Equal, V::Uuid, Exact),
        (NotEqual, V::Uuid, Exact),
        (Equal, V::Date, Exact),
        (NotEqual, V::Date, Exact),
        (Order, V::Date, Exact),
        (Equal, V::Timestamp, Exact),
        (NotEqual, V::Timestamp, Exact),
        (Order, V::Timestamp, Exact),
        (Equal, V::TimestampTz, Exact),
        (NotEqual, V::TimestampTz, Exact),
        (Order, V::TimestampTz, Exact),
        (Equal, V::Time, Exact),
        (NotEqual, V::Time, Exact),
        (Order, V::Time, Exact),
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
        (IsNull, V::Date, Exact),
        (IsNull, V::Timestamp, Exact),
        (IsNull, V::TimestampTz, Exact),
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
            Use::Read => quoted,
            Use::Indexed if is_text(column.class) || is_dated(column.class) => quoted,
            _ if is_dated(column.class) => without_zero_dates(&quoted),
            Use::Equality | Use::Order if types::base(&column.remote_type) == "year" => {
                format!("CAST({quoted} AS SIGNED)")
            }
            Use::Equality | Use::Order if column.class == ValueClass::Time => format!("CAST({quoted} AS TIME(6))"),
            Use::Equality | Use::Order if is_text(column.class) => {
                format!("CAST(CONVERT({quoted} USING utf8mb4) AS BINARY)")
            }
            _ => quoted,
        }
    }

    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String {
        match &column.data_type {
            DataType::Binary => BINARY.to_owned(),
            DataType::Utf8 if matches!(purpose, Use::Equality | Use::Order) && is_text(column.class) => {
                BINARY.to_owned()
            }
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

    fn lowered(&self, condition: Expr) -> Expr {
        within_range(condition)
    }

    /// Bytes that are equal are equal under every collation, and a date that is no zero date compares as itself.
    fn hint(&self, op: CompareOp, column: &ColumnDef) -> Hint {
        match op {
            CompareOp::NotEqual => Hint::Alone,
            CompareOp::Equal if is_text(column.class) => Hint::Beside,
            _ if is_dated(column.class) => Hint::Beside,
            _ => Hint::Alone,
        }
    }

    fn plain_equality(&self, left: &ColumnDef, _right: &ColumnDef) -> Equality {
        match self.hint(CompareOp::Equal, left) {
            Hint::Alone => Equality::ByOperator,
            Hint::Beside => Equality::ByMore,
        }
    }

    fn like_escape(&self) -> &'static str {
        // One backslash, under the session's sql_mode.
        r" ESCAPE '\\'"
    }
}

/// Whether the server compares the class's text by a collation or by position, and not by its bytes.
fn is_text(class: ValueClass) -> bool {
    matches!(class, ValueClass::TextFolded | ValueClass::TextPadded | ValueClass::Label)
}

/// Whether the class may hold zero dates.
fn is_dated(class: ValueClass) -> bool {
    matches!(class, ValueClass::Date | ValueClass::Timestamp | ValueClass::TimestampTz)
}

/// The value as it is read: NULL where the month or the day is zero.
fn without_zero_dates(text: &str) -> String {
    format!("CASE WHEN MONTH({text}) > 0 AND DAYOFMONTH({text}) > 0 THEN {text} END")
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
