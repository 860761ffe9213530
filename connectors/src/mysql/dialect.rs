//! How MariaDB and MySQL write SQL.
//!
//! Both servers convert a value to the column's type, character set and collation only where that changes no answer here:
//! - Decimals are bound as text and cast, because a bare text would be compared as a double.
//! - A text compared with a column is given the column's collation: beside a view's constant, it would otherwise be a matter of rank whose
//!   collation decides, and the server refuses where it cannot tell.
//! - A text compared with a column of another character set than utf8mb4 is converted to that set, with `?` for what the set lacks: the
//!   server would refuse the comparison.
//! - `=` on collated text and labels compares the UTF-8 bytes. Where it filters, the comparison under the collation stands beside
//!   it for the index: equal bytes are equal under every collation. So it is with LIKE; a pattern that has no `_` is looked for in the
//!   bytes, which takes half the time.
//! - A date is compared as it is read, NULL where it is a zero date. Where that filters, the bare comparison is used, for the index, and
//!   beside it that it is none; a day that equals a constant is none. Values outside the server's range are put as ones inside it (`range`).
//! - `<` on text compares the UTF-8 bytes of both sides, which is Arrow's order whatever the collation; an index helps only where the
//!   collation is bytewise itself.
//! - YEAR and BIT are cast, because a bare `y = 5` means the year 2005, and a bare bit is a string to some functions.
//! - TIME is cast to its finest precision: MariaDB moves a value to the precision of the column's index, past rows that it should find.
//! - NULL sorts first; where it must not, `col IS NULL` goes before the key.
//!
//! What is computed:
//! - Text that a function takes is in utf8mb4 under utf8mb4_bin, whatever column it comes from: so texts of several columns meet.
//! - Groups of text are those of its bytes; the text itself is the same in all rows of a group, and is taken from any.
//! - Constants that are computed with are cast, so that their type does not depend on how the server takes a parameter.
//! - A least or greatest text is found by its bytes and becomes a text of the column's character set and collation again.
//!
//! What may be asked is in `capabilities`.

use arrow::datatypes::DataType;
use headwater_source::{
    Aggregate, AggregateFunction, CalendarUnit, Call, ColumnDef, CompareOp, Expr, Function, SortKey, ValueClass,
};

use super::range::within_range;
use super::types;
use crate::sql::{Dialect, Equality, Finding, Having, Hint, Numbering, Use, standard_aggregate, standard_call};

/// Backticks, `?`, and the casts that keep comparisons honest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MysqlDialect {
    pub(super) lists: Lists,
}

/// How a long list of integers that all rows must be in is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// As one JSON text that JSON_TABLE makes rows of: one statement for lists of any length, quick to prepare, joined by an index where
    /// there is one.
    Json,
    /// As a placeholder for each value, for servers that have no JSON_TABLE: MariaDB before 10.6, MySQL before 8.0.4.
    Placeholders,
}

/// A list of fewer values is written out: its values are few, and the server's optimizer looks each of them up in its statistics.
const JSON_VALUES_MIN: usize = 32;

/// The most values of a list that is written twice, of the 65,535 that the protocol counts.
const HINTED_VALUES_MAX: usize = 10_000;

/// The types of lists of integers.
const JSON_SIGNED: &str = "json bigint";
const JSON_UNSIGNED: &str = "json bigint unsigned";

const BINARY: &str = "varbinary";

/// A date that is computed with.
const DATE: &str = "date";

/// An integer that is computed with.
const SIGNED: &str = "signed";

const IN_CHARSET: &str = "varchar character set ";
const COLLATED: &str = " collate ";

impl Dialect for MysqlDialect {
    const QUOTE: char = '`';
    const NUMBERING: Numbering = Numbering::ByPlace;
    const HAVING: Having = Having::OnAggregates;
    const LIMIT_OF_NONE: Option<u64> = Some(u64::MAX);
    // Left alone, MariaDB goes along an index of the groups' column and fetches each row of the table by its key, which takes twenty times as long as
    // to read the table and sort.
    const GROUPED_OUT_OF_ORDER: &'static str = "SQL_BIG_RESULT ";

    // Where it has no histograms, MariaDB begins with an index of the table that is looked up, if that holds all columns that are read, and then
    // comes to the other table's rows in no order.
    const READ_FIRST: Option<&'static str> = Some("STRAIGHT_JOIN");

    fn placeholder(&self, _: usize, remote_type: &str) -> String {
        match remote_type {
            BINARY => "CAST(? AS BINARY)".to_owned(),
            DATE => "CAST(? AS DATE)".to_owned(),
            SIGNED => "CAST(? AS SIGNED)".to_owned(),
            decimal if decimal.starts_with("decimal(") => format!("CAST(? AS {decimal})"),
            text => text_placeholder(text),
        }
    }

    fn column(&self, column: &ColumnDef, quoted: String, purpose: Use) -> String {
        let base = types::base(&column.remote_type);
        match purpose {
            Use::Read if types::is_unknown(&column.remote_type) => format!("CAST({quoted} AS CHAR)"),
            Use::Read => quoted,
            Use::Indexed if is_text(column.class) || is_dated(column.class) => quoted,
            _ if may_be_zero(column) => without_zero_dates(&quoted),
            Use::Equality | Use::Order | Use::Argument if base == "year" => format!("CAST({quoted} AS SIGNED)"),
            Use::Argument | Use::Group | Use::Sort if base == "bit" => format!("CAST({quoted} AS UNSIGNED)"),
            Use::Equality | Use::Order if column.class == ValueClass::Time => format!("CAST({quoted} AS TIME(6))"),
            Use::Equality | Use::Order | Use::Group | Use::Sort if is_text(column.class) => bytes_of(column, &quoted),
            Use::LikeBytes if column.data_type == DataType::Utf8 => bytes_of(column, &quoted),
            Use::Argument | Use::Like if is_text(column.class) || column.class == ValueClass::Text => text_of(&quoted),
            Use::Like if column.class == ValueClass::Computed => text_of(&quoted),
            _ => quoted,
        }
    }

    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String {
        match (&column.data_type, purpose) {
            (DataType::Binary, _) => BINARY.to_owned(),
            (DataType::Utf8, Use::Equality | Use::Order) if is_text(column.class) => BINARY.to_owned(),
            (DataType::Utf8, Use::LikeBytes) => BINARY.to_owned(),
            (DataType::Utf8, Use::Argument | Use::Like) => "varchar".to_owned(),
            (DataType::Utf8, _) => text_type(column),
            (DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale), _) => {
                format!("decimal({precision},{scale})")
            }
            (DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64, _) => {
                "bigint unsigned".to_owned()
            }
            (integer, Use::Argument) if integer.is_integer() => SIGNED.to_owned(),
            (integer, _) if integer.is_integer() => "bigint".to_owned(),
            (DataType::Float32, _) => "float".to_owned(),
            (DataType::Float64, _) => "double".to_owned(),
            (DataType::Date32, Use::Argument) => DATE.to_owned(),
            (DataType::Date32 | DataType::Timestamp(..), _) => "datetime(6)".to_owned(),
            (DataType::Duration(_), _) => "time(6)".to_owned(),
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
            CompareOp::Equal if is_text(column.class) && column.collation.is_some() => Hint::Beside,
            _ if may_be_zero(column) => Hint::Beside,
            _ => Hint::Alone,
        }
    }

    fn proviso(&self, column: &ColumnDef, text: &str) -> Option<String> {
        may_be_zero(column).then(|| is_no_zero_date(text))
    }

    /// No constant is a zero date. A time is another thing: the server may look it up as the column has it, without what is finer.
    fn equals_exactly(&self, column: &ColumnDef) -> bool {
        may_be_zero(column) && column.class == ValueClass::Date
    }

    fn hinted_values_max(&self) -> usize {
        HINTED_VALUES_MAX
    }

    fn keys_type(&self, column: &ColumnDef, values: usize) -> Option<String> {
        let written_out = self.lists == Lists::Placeholders || values < JSON_VALUES_MIN;
        let cast = matches!(types::base(&column.remote_type).as_str(), "year" | "bit");
        match &column.data_type {
            _ if written_out || cast || column.class != ValueClass::Integer => None,
            unsigned if unsigned.is_unsigned_integer() => Some(JSON_UNSIGNED.to_owned()),
            _ => Some(JSON_SIGNED.to_owned()),
        }
    }

    fn one_of_keys(&self, text: &str, list: &str, remote_type: &str, finding: Finding) -> String {
        let of = if remote_type == JSON_UNSIGNED { "BIGINT UNSIGNED" } else { "BIGINT" };
        let one_of = format!("{text} IN (SELECT j.k FROM JSON_TABLE({list}, '$[*]' COLUMNS (k {of} PATH '$')) j)");
        match finding {
            Finding::ByIndex => one_of,
            // Within CASE it is tested when a row is read. Bare, the server would make a join of it, and may sort all rows before.
            Finding::ByTest => format!("CASE WHEN {one_of} THEN TRUE END"),
        }
    }

    fn plain_equality(&self, left: &ColumnDef, _right: &ColumnDef) -> Equality {
        match self.hint(CompareOp::Equal, left) {
            Hint::Alone => Equality::ByOperator,
            Hint::Beside => Equality::ByMore,
        }
    }

    fn like_hint(&self, column: &ColumnDef) -> Hint {
        if types::charset(column).is_some() { Hint::Beside } else { Hint::Alone }
    }

    fn like_use(&self, pattern: &str) -> Use {
        if pattern.contains('_') { Use::Like } else { Use::LikeBytes }
    }

    fn like_escape(&self) -> &'static str {
        // One backslash, under the session's sql_mode.
        r" ESCAPE '\\'"
    }

    fn group_value(&self, column: &ColumnDef, text: &str, by: &str) -> String {
        if is_text(column.class) { text.to_owned() } else { by.to_owned() }
    }

    fn call(&self, call: &Call, args: &[String]) -> Option<String> {
        Some(match (call.function, args) {
            (Function::Divide, [a, b]) => format!("({a} DIV {b})"),
            (Function::Remainder, [a, b]) => format!("({a} % {b})"),
            (Function::Widen, [a]) => match call.data_type {
                DataType::Decimal128(precision, scale) => format!("CAST({a} AS DECIMAL({precision},{scale}))"),
                _ => a.clone(),
            },
            (Function::CharLength, [a]) => format!("CHAR_LENGTH({a})"),
            (Function::Substring, args) => format!("SUBSTRING({})", args.join(", ")),
            (Function::Concat, args) => format!("CONCAT({})", args.join(", ")),
            (Function::Year, [a]) => format!("YEAR({a})"),
            (Function::Month, [a]) => format!("MONTH({a})"),
            (Function::Day, [a]) => format!("DAYOFMONTH({a})"),
            (Function::Quarter, [a]) => format!("QUARTER({a})"),
            // Of ISO 8601: from Monday on, the first with more than three days of the year.
            (Function::Week, [a]) => format!("WEEK({}, 3)", of_true_year(a)),
            (Function::DayOfWeek, [a]) => format!("(DAYOFWEEK({}) - 1)", of_true_year(a)),
            (Function::DayOfYear, [a]) => format!("DAYOFYEAR({})", of_true_year(a)),
            (Function::Hour, [a]) => format!("HOUR({a})"),
            (Function::Minute, [a]) => format!("MINUTE({a})"),
            (Function::Second, [a]) => format!("SECOND({a})"),
            (Function::Truncate(unit), [a]) => format!("CAST({} AS DATETIME(6))", beginning_of(unit, a)?),
            (Function::DateOf, [a]) => format!("DATE({a})"),
            (Function::Greatest, args) => of_known("GREATEST", args),
            (Function::Least, args) => of_known("LEAST", args),
            (Function::Trim, [a]) => format!("TRIM({a})"),
            (Function::Right, [a, length]) => format!("RIGHT({a}, {length})"),
            (Function::Position, [a, part]) => format!("LOCATE({part}, {a})"),
            (Function::Digits, [a]) => format!("CAST({a} AS CHAR)"),
            (Function::Lower, [a]) => format!("LOWER({a})"),
            (Function::Upper, [a]) => format!("UPPER({a})"),
            (Function::BeyondAscii, [a]) => format!("OCTET_LENGTH({a}) <> CHAR_LENGTH({a})"),
            _ => return standard_call(call, args),
        })
    }

    /// Sums are decimals, whatever is summed.
    fn aggregate(&self, aggregate: &Aggregate, arg: &str, result: &ColumnDef) -> String {
        let text = standard_aggregate(aggregate.function, arg);
        match aggregate.function {
            AggregateFunction::Sum if result.class == ValueClass::Integer => format!("CAST({text} AS SIGNED)"),
            // Of texts as their bytes.
            AggregateFunction::Min | AggregateFunction::Max if result.class == ValueClass::Computed => text_of(&text),
            _ => text,
        }
    }
}

/// The beginning of the unit that a moment is in. It is made of the moment's text: days are not counted right in the year 0.
fn beginning_of(unit: CalendarUnit, moment: &str) -> Option<String> {
    let format = match unit {
        CalendarUnit::Year => "%Y-01-01",
        CalendarUnit::Quarter => {
            return Some(format!("CONCAT(DATE_FORMAT({moment}, '%Y-'), QUARTER({moment}) * 3 - 2, '-01')"));
        }
        CalendarUnit::Month => "%Y-%m-01",
        CalendarUnit::Week => return None,
        CalendarUnit::Day => return Some(format!("DATE({moment})")),
        CalendarUnit::Hour => "%Y-%m-%d %H:00:00",
        CalendarUnit::Minute => "%Y-%m-%d %H:%i:00",
        CalendarUnit::Second => "%Y-%m-%d %H:%i:%s",
    };
    Some(format!("DATE_FORMAT({moment}, '{format}')"))
}

/// The date, of the year 400 instead of 0: the calendar is the same, and the servers take the year 0 for one of 365 days.
fn of_true_year(date: &str) -> String {
    format!("CASE WHEN YEAR({date}) = 0 THEN {date} + INTERVAL 400 YEAR ELSE {date} END")
}

/// A function that is NULL where an argument is, of those that are not.
fn of_known(function: &str, args: &[String]) -> String {
    let turned = |first: usize| {
        let args = args.iter().cycle().skip(first).take(args.len());
        format!("COALESCE({})", args.cloned().collect::<Vec<_>>().join(", "))
    };
    format!("{function}({})", (0..args.len()).map(turned).collect::<Vec<_>>().join(", "))
}

/// Whether the server compares the class's text by a collation or by position, and not by its bytes.
fn is_text(class: ValueClass) -> bool {
    matches!(class, ValueClass::TextFolded | ValueClass::TextPadded | ValueClass::Label | ValueClass::Computed)
}

/// Whether the class is one of dates.
fn is_dated(class: ValueClass) -> bool {
    matches!(class, ValueClass::Date | ValueClass::Timestamp | ValueClass::TimestampTz)
}

/// Whether zero dates may be among the values: what is computed of dates is made of them as they are read.
pub(super) fn may_be_zero(column: &ColumnDef) -> bool {
    is_dated(column.class) && !column.remote_type.is_empty()
}

/// The UTF-8 bytes of a text.
fn bytes_of(column: &ColumnDef, text: &str) -> String {
    match types::charset(column) {
        Some((types::UTF8, _)) => format!("CAST({text} AS BINARY)"),
        None if column.class == ValueClass::Computed => format!("CAST({text} AS BINARY)"),
        _ => format!("CAST(CONVERT({text} USING utf8mb4) AS BINARY)"),
    }
}

/// A text as functions take it.
fn text_of(text: &str) -> String {
    format!("CONVERT({text} USING utf8mb4) COLLATE utf8mb4_bin")
}

/// The value as it is read: NULL where the month or the day is zero.
fn without_zero_dates(text: &str) -> String {
    format!("CASE WHEN {} THEN {text} END", is_no_zero_date(text))
}

fn is_no_zero_date(text: &str) -> String {
    format!("MONTH({text}) > 0 AND DAYOFMONTH({text}) > 0")
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

#[cfg(test)]
mod tests;
