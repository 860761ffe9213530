//! How MariaDB and MySQL write SQL.
//!
//! Both servers convert a value to the column's type, character set and collation only where that changes no answer here:
//! - Decimals are bound as text and cast, because a bare text would be compared as a double.
//! - A text compared with a column is given the column's collation: beside a view's constant, it would otherwise be a matter of rank whose
//!   collation decides, and the server refuses where it cannot tell.
//! - A text compared with a column of another character set than utf8mb4 is converted to that set, with `?` for what the set lacks: the
//!   server would refuse the comparison.
//! - `=` on collated text and labels compares the UTF-8 bytes. Where it filters, the comparison under the collation stands beside
//!   it for the index: equal bytes are equal under every collation. So it is with LIKE.
//! - A date is compared as it is read, NULL where it is a zero date. Where that filters, the bare comparison stands beside it for
//!   the index. Values outside the server's range are put as ones inside it (`range`).
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
use headwater_source::{Aggregate, AggregateFunction, Call, ColumnDef, CompareOp, Expr, Function, SortKey, ValueClass};

use super::range::within_range;
use super::types;
use crate::sql::{Dialect, Equality, Having, Hint, Numbering, Use, standard_aggregate, standard_call};

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
            Use::Argument | Use::Like if is_text(column.class) || column.class == ValueClass::Text => text_of(&quoted),
            Use::Like if column.class == ValueClass::Computed => text_of(&quoted),
            _ => quoted,
        }
    }

    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String {
        match (&column.data_type, purpose) {
            (DataType::Binary, _) => BINARY.to_owned(),
            (DataType::Utf8, Use::Equality | Use::Order) if is_text(column.class) => BINARY.to_owned(),
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

    fn one_of_keys(&self, text: &str, list: &str, remote_type: &str) -> String {
        let of = if remote_type == JSON_UNSIGNED { "BIGINT UNSIGNED" } else { "BIGINT" };
        format!("{text} IN (SELECT j.k FROM JSON_TABLE({list}, '$[*]' COLUMNS (k {of} PATH '$')) j)")
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
            _ => return standard_call(call, args),
        })
    }

    /// Sums are decimals, whatever is summed.
    fn aggregate(&self, aggregate: &Aggregate, arg: &str, result: &ColumnDef) -> String {
        let text = standard_aggregate(aggregate.function, arg);
        match aggregate.function {
            AggregateFunction::Sum if result.class == ValueClass::Integer => format!("CAST({text} AS SIGNED)"),
            AggregateFunction::Min | AggregateFunction::Max if is_text(result.class) => text_again(result, &text),
            _ => text,
        }
    }
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
fn may_be_zero(column: &ColumnDef) -> bool {
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

/// A text of UTF-8 bytes, as the column has it.
fn text_again(column: &ColumnDef, bytes: &str) -> String {
    match types::charset(column) {
        Some((types::UTF8, collation)) => format!("CONVERT({bytes} USING utf8mb4) COLLATE {collation}"),
        Some((charset, collation)) => {
            format!("CONVERT(CONVERT({bytes} USING utf8mb4) USING {charset}) COLLATE {collation}")
        }
        None => text_of(bytes),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_source::{Relation, ScalarValue, ServiceName, TableDef};

    use super::*;
    use crate::sql::render_relation;

    const JSON: MysqlDialect = MysqlDialect { lists: Lists::Json };

    fn table() -> Relation {
        let column = |name: &str, declared: &str, data_type, class| ColumnDef::new(name, data_type, declared, class);
        let mut text = column("c1", "varchar(20)", DataType::Utf8, ValueClass::TextFolded);
        text.collation = Some("utf8mb4_general_ci".to_owned());
        let number = column("c0", "bigint(20)", DataType::Int64, ValueClass::Integer);
        Relation::table(Arc::new(TableDef::new(["shop", "orders"], vec![number, text])))
    }

    fn text(relation: &Relation) -> String {
        render_relation(&JSON, &ServiceName::parse("shop").unwrap(), relation).unwrap().text
    }

    fn above(column: usize) -> Expr {
        Expr::compare(CompareOp::Greater, Expr::Column(column), Expr::Literal(ScalarValue::from(7_i64)))
    }

    #[test]
    fn having_names_aggregates_and_a_filter_on_a_key_stands_outside() {
        let grouped = table().aggregate(vec![Expr::Column(0)], vec![Aggregate::count_rows()]);
        let by = "SELECT `c0`, count(*) FROM `shop`.`orders` GROUP BY `c0`";
        assert_eq!(text(&grouped.clone().filter(vec![above(1)])), format!("{by} HAVING count(*) > ?"));
        let key = Expr::Or(vec![above(0), above(1)]);
        assert_eq!(
            text(&grouped.filter(vec![key])),
            "SELECT t1.c0, t1.c1 FROM (SELECT `c0` AS c0, count(*) AS c1 FROM `shop`.`orders` GROUP BY `c0`) t1 \
             WHERE (t1.c0 > ? OR t1.c1 > ?)"
        );
    }

    #[test]
    fn groups_by_which_rows_do_not_lie_are_not_made_along_an_index_that_lacks_what_is_read() {
        let sum = |column| Aggregate {
            function: AggregateFunction::Sum,
            arg: Some(Expr::Column(column)),
            condition: None,
            data_type: DataType::Int64,
        };
        let number = |name| ColumnDef::new(name, DataType::Int64, "bigint(20)", ValueClass::Integer);
        let table = || TableDef::new(["shop", "lines"], vec![number("order"), number("quantity")]);
        let of = |rows: Relation, key, aggregate| {
            text(&rows.aggregate(vec![Expr::Column(key)], vec![aggregate])).split('`').next().unwrap().to_owned()
        };
        let start = |table: TableDef, key, aggregate| of(Relation::table(Arc::new(table)), key, aggregate);
        assert_eq!(start(table(), 0, sum(1)), "SELECT SQL_BIG_RESULT ");
        assert_eq!(start(table().with_key(["order"]), 1, sum(0)), "SELECT SQL_BIG_RESULT ");
        assert_eq!(start(table().with_key(["order"]), 0, sum(1)), "SELECT ", "rows lie by their key");
        assert_eq!(start(table(), 0, Aggregate::count_rows()), "SELECT ", "the index has all that is asked");
        assert_eq!(start(table(), 0, sum(0)), "SELECT ");
        let filtered = |column| Relation::table(Arc::new(table())).filter(vec![above(column)]);
        assert_eq!(of(filtered(1), 0, Aggregate::count_rows()), "SELECT SQL_BIG_RESULT ");
        assert_eq!(of(filtered(0), 0, Aggregate::count_rows()), "SELECT ");
    }

    #[test]
    fn order_of_a_select_within_is_not_by_an_alias_of_the_same_name() {
        let key = SortKey { column: 0, descending: false, nulls_first: true };
        let cut = table().project(vec![Expr::Column(1), Expr::Column(0)]).top(vec![SortKey { column: 1, ..key }], 0, 5);
        assert_eq!(
            text(&cut.filter(vec![above(1)])),
            "SELECT t2.c0, t2.c1 FROM (SELECT t1.`c1` AS c0, t1.`c0` AS c1 FROM `shop`.`orders` t1 \
             ORDER BY t1.`c0` LIMIT 5) t2 WHERE t2.c1 > ?"
        );
    }

    #[test]
    fn offset_stands_behind_a_limit_even_where_there_is_none() {
        assert!(text(&table().top(vec![], 3, u64::MAX)).ends_with(" LIMIT 18446744073709551615 OFFSET 3"));
        assert!(text(&table().top(vec![], 3, 2)).ends_with(" LIMIT 2 OFFSET 3"));
    }

    fn one_of(count: i64) -> Expr {
        let values = (0..count).map(ScalarValue::from).collect();
        Expr::InList { expr: Box::new(Expr::Column(0)), values, negated: false }
    }

    #[test]
    fn long_list_that_rows_must_be_in_is_one_value_and_one_text() {
        let found = text(&table().filter(vec![one_of(100)]));
        assert!(
            found.ends_with(" WHERE `c0` IN (SELECT j.k FROM JSON_TABLE(?, '$[*]' COLUMNS (k BIGINT PATH '$')) j)"),
            "{found}"
        );
        assert_eq!(found, text(&table().filter(vec![one_of(5_000)])));
        assert!(text(&table().filter(vec![one_of(3)])).ends_with(" WHERE `c0` IN (?, ?, ?)"));
        // Elsewhere the server would make the rows anew for each row that it looks at.
        let either = Expr::Or(vec![one_of(100), above(0)]);
        let not = Expr::Not(Box::new(one_of(100)));
        let counted = Aggregate { condition: Some(one_of(100)), ..Aggregate::count_rows() };
        for relation in
            [table().filter(vec![either]), table().filter(vec![not]), table().aggregate(vec![], vec![counted])]
        {
            assert!(!text(&relation).contains("JSON_TABLE"));
        }
        let old = MysqlDialect { lists: Lists::Placeholders };
        let statement = render_relation(&old, &ServiceName::parse("shop").unwrap(), &table().filter(vec![one_of(100)]));
        assert_eq!(statement.unwrap().binds.len(), 100);
    }
}
