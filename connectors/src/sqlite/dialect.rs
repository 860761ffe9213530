//! The capability table, and how SQLite's statements are written.
//!
//! Outside STRICT tables any value may stand in any column, and where it is compared it has an order of its own: numbers before
//! texts before blobs. So a filter is exact only where SQLite makes sure of the storage class: in STRICT tables and on the
//! rowid. Elsewhere ([`ValueClass::Loose`]) it is a superset, and the engine checks again. A row that passes is then
//! always decoded, and a value that does not fit is an error, never counted as a match. A row that does not pass is
//! not read, so a misfit in it is not met: a pushed filter can make a query succeed that would fail as a full scan, and
//! never makes it answer with other rows.
//!
//! | on | `=` | `<>` | `<` | IS NULL | LIKE | ORDER BY |
//! |---|---|---|---|---|---|---|
//! | rowid; INTEGER, TEXT (BINARY collation), BLOB of STRICT tables | exact | exact | exact | exact | no | exact |
//! | integers, text, blobs elsewhere | superset | superset | superset | superset | no | no |
//! | text with collation NOCASE or RTRIM | superset | no | no | superset | no | no |
//! | floats | superset | no | superset | superset | no | no |
//! | dates | superset | superset | superset | superset | no | no |
//! | timestamps | superset | no | superset | superset | no | no |
//! | booleans | superset | superset | no | superset | no | no |
//! | decimals, times, instants, any other | no | no | no | superset | no | no |
//!
//! - Text is compared with `COLLATE BINARY` (memcmp, as Arrow does) unless that is the column's own collation, or the column
//!   folds, where its own collation lets its index be used and finds at least what equals.
//! - Every date that is read starts with `YYYY-MM-DD`, so days compare as texts. Timestamps have several forms, so they
//!   are compared by their day, which is a superset.
//! - `<>` on floats: it stands for NOT IN too, and SQLite takes -0.0 and 0.0 for equal where the engine's IN does not.
//!   `<>` on a folding column would lose rows too.
//! - LIKE ignores case in SQLite and ends at NUL.
//! - Decimals are stored as doubles, integers or text, which compare with each other in no useful way.
//! - Databases in UTF-16 order text otherwise; in compound views and virtual tables it is open how a comparison converts its
//!   sides. Nothing but IS NULL is pushed on these.

use arrow::datatypes::DataType;
use headwater_source::{
    Aggregate, AggregateFunction, Bind, Call, Capabilities, ColumnDef, CompareOp, Conditions, Error, Expr, Function,
    JoinKind, Operator, Queries, Result, Rule, ScalarValue, ServiceName, SortKey, Support, ValueClass,
};
use rusqlite::types::Value;

use super::temporal::{DAY_MICROS, format_date};
use crate::sql::{Dialect, Naming, Use, standard_aggregate, standard_call};

/// The most values of one scan. SQLite takes 32766; a timestamp takes two.
const BINDS_MAX: usize = 16_000;

const RULES: &[Rule] = &[
    (Operator::Equal, ValueClass::Integer, Support::Exact),
    (Operator::NotEqual, ValueClass::Integer, Support::Exact),
    (Operator::Order, ValueClass::Integer, Support::Exact),
    (Operator::IsNull, ValueClass::Integer, Support::Exact),
    (Operator::Sort, ValueClass::Integer, Support::Exact),
    (Operator::Equal, ValueClass::Text, Support::Exact),
    (Operator::NotEqual, ValueClass::Text, Support::Exact),
    (Operator::Order, ValueClass::Text, Support::Exact),
    (Operator::IsNull, ValueClass::Text, Support::Exact),
    (Operator::Sort, ValueClass::Text, Support::Exact),
    (Operator::Equal, ValueClass::Bytes, Support::Exact),
    (Operator::NotEqual, ValueClass::Bytes, Support::Exact),
    (Operator::Order, ValueClass::Bytes, Support::Exact),
    (Operator::IsNull, ValueClass::Bytes, Support::Exact),
    (Operator::Sort, ValueClass::Bytes, Support::Exact),
    (Operator::Equal, ValueClass::Loose, Support::Superset),
    (Operator::NotEqual, ValueClass::Loose, Support::Superset),
    (Operator::Order, ValueClass::Loose, Support::Superset),
    (Operator::IsNull, ValueClass::Loose, Support::Superset),
    (Operator::Equal, ValueClass::TextFolded, Support::Superset),
    (Operator::IsNull, ValueClass::TextFolded, Support::Superset),
    (Operator::Equal, ValueClass::Float, Support::Superset),
    (Operator::Order, ValueClass::Float, Support::Superset),
    (Operator::IsNull, ValueClass::Float, Support::Superset),
    (Operator::Equal, ValueClass::Date, Support::Superset),
    (Operator::NotEqual, ValueClass::Date, Support::Superset),
    (Operator::Order, ValueClass::Date, Support::Superset),
    (Operator::IsNull, ValueClass::Date, Support::Superset),
    (Operator::Equal, ValueClass::Timestamp, Support::Superset),
    (Operator::Order, ValueClass::Timestamp, Support::Superset),
    (Operator::IsNull, ValueClass::Timestamp, Support::Superset),
    (Operator::Equal, ValueClass::Boolean, Support::Superset),
    (Operator::NotEqual, ValueClass::Boolean, Support::Superset),
    (Operator::IsNull, ValueClass::Boolean, Support::Superset),
    (Operator::IsNull, ValueClass::Decimal, Support::Superset),
    (Operator::IsNull, ValueClass::Time, Support::Superset),
    (Operator::IsNull, ValueClass::TimestampTz, Support::Superset),
    (Operator::IsNull, ValueClass::Opaque, Support::Superset),
    (Operator::Equal, ValueClass::Computed, Support::Exact),
    (Operator::NotEqual, ValueClass::Computed, Support::Exact),
    (Operator::Order, ValueClass::Computed, Support::Exact),
    (Operator::IsNull, ValueClass::Computed, Support::Exact),
    (Operator::Sort, ValueClass::Computed, Support::Exact),
    (Operator::IsNull, ValueClass::Total, Support::Exact),
];

/// What is computed exactly, of columns that SQLite itself makes sure of. Missing, and why:
/// - columns of any other table: a value that does not fit would be computed with, not reported. Proving beforehand that all fit costs the scan
///   that it would save;
/// - floats and decimals (which are floats here), `substr` and `length` (they end at NUL), `upper` and `lower` (ASCII only);
/// - groups: SQLite sorts for them, or walks an index and looks each row up. Of 2,000,000 rows in 500,000 groups a sum took it 4.4 s, where
///   reading the rows took 0.5 s; with two columns of low cardinality it was 0.8 s and 0.5 s. They are read and hashed here.
const QUERIES: Queries = {
    use AggregateFunction::{Max, Min, Sum};
    use Function as F;
    use ValueClass as V;
    Queries {
        functions: &[
            (F::Add, V::Integer),
            (F::Subtract, V::Integer),
            (F::Multiply, V::Integer),
            (F::Divide, V::Integer),
            (F::Remainder, V::Integer),
            (F::Negate, V::Integer),
            (F::Case, V::Integer),
            (F::Case, V::Text),
            (F::Case, V::Computed),
            (F::Coalesce, V::Integer),
            (F::Coalesce, V::Text),
            (F::Coalesce, V::Computed),
            (F::NullIf, V::Integer),
            (F::NullIf, V::Text),
            (F::Concat, V::Text),
            (F::Concat, V::Computed),
            (F::Digits, V::Integer),
        ],
        aggregates: &[
            (Sum, V::Integer),
            (Min, V::Integer),
            (Max, V::Integer),
            (Min, V::Text),
            (Max, V::Text),
            (Min, V::Computed),
            (Max, V::Computed),
        ],
        integers: &[DataType::Int64],
        groups: &[],
        cases: &[V::Text],
        joins: &[JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti],
        conditions: Conditions::AreValues,
        scale_max: 0,
    }
};

/// What stands in a query as a value: SQLite has a storage class for no other.
const CONSTANTS: &[ValueClass] = &[ValueClass::Boolean, ValueClass::Integer, ValueClass::Computed];

/// The capability table.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::new("SQLite", RULES)
    .with_max_binds(BINDS_MAX)
    .with_queries(&QUERIES)
    .with_constants(CONSTANTS)
    .in_process();

/// SQLite's SQL.
pub(super) struct Sqlite;

impl Dialect for Sqlite {
    const QUOTE: char = '"';

    // SQLite takes an unknown name in double quotes for a string, but not a qualified one.
    const NAMING: Naming = Naming::Qualified;

    fn placeholder(&self, number: usize, _: &str) -> String {
        format!("?{number}")
    }

    fn column(&self, column: &ColumnDef, text: String, purpose: Use) -> String {
        let compared = matches!(purpose, Use::Equality | Use::Order | Use::Sort | Use::Group);
        let own = column.class == ValueClass::TextFolded || column.collation.as_deref() == Some("BINARY");
        if compared && !own { format!("{text} COLLATE BINARY") } else { text }
    }

    fn bind_type(&self, column: &ColumnDef, _: Use) -> String {
        match (column.class, &column.data_type) {
            (ValueClass::Date | ValueClass::Timestamp | ValueClass::Computed, _) => "text".to_owned(),
            (ValueClass::Integer | ValueClass::Total, _) => "integer".to_owned(),
            (_, DataType::Boolean) => "boolean".to_owned(),
            _ => column.remote_type.to_ascii_lowercase(),
        }
    }

    fn lowered(&self, condition: Expr) -> Expr {
        lower(condition)
    }

    fn call(&self, call: &Call, args: &[String]) -> Option<String> {
        Some(match (call.function, args) {
            (Function::Divide, [a, b]) => format!("({a} / {b})"),
            (Function::Remainder, [a, b]) => format!("({a} % {b})"),
            (Function::Concat, args) => format!("({})", args.join(" || ")),
            (Function::Digits, [a]) => format!("CAST({a} AS TEXT)"),
            (Function::Lower, [a]) => format!("lower({a})"),
            (Function::Upper, [a]) => format!("upper({a})"),
            // Characters are counted up to a NUL, behind which no case is changed.
            (Function::BeyondAscii, [a]) => format!("length(CAST({a} AS BLOB)) <> length({a})"),
            _ => return standard_call(call, args),
        })
    }

    /// SQLite fails where a sum of integers leaves 64 bits, and the engine's wraps round. Each half of the summands' bits is summed up on its
    /// own, which stays in range for 2^31 rows; the shift drops what is carried beyond.
    fn aggregate(&self, aggregate: &Aggregate, arg: &str, result: &ColumnDef) -> String {
        if result.class != ValueClass::Total {
            return standard_aggregate(aggregate.function, arg);
        }
        let low = format!("sum(({arg}) & 4294967295)");
        format!("(((sum(({arg}) >> 32) + ({low} >> 32)) << 32) | ({low} & 4294967295))")
    }

    fn sort_key(&self, column: &ColumnDef, expression: &str, key: SortKey) -> String {
        let direction = if key.descending { "DESC" } else { "ASC" };
        if !column.nullable {
            return format!("{expression} {direction}");
        }
        let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
        format!("{expression} {direction} NULLS {nulls}")
    }
}

/// A bound value as SQLite stores it.
pub(super) fn bind_value(bind: &Bind, service: &ServiceName) -> Result<Value> {
    match &bind.value {
        ScalarValue::Boolean(Some(flag)) => Ok(Value::Integer(i64::from(*flag))),
        ScalarValue::Int64(Some(integer)) => Ok(Value::Integer(*integer)),
        ScalarValue::Float64(Some(real)) => Ok(Value::Real(*real)),
        ScalarValue::Utf8(Some(text)) => Ok(Value::Text(text.clone())),
        ScalarValue::Binary(Some(bytes)) => Ok(Value::Blob(bytes.clone())),
        other => {
            let reason = format!("a value of type {} cannot be bound", other.data_type());
            Err(Error::Unsupported { service: service.clone(), reason })
        }
    }
}

/// The condition as SQLite evaluates it: days as text, timestamps as ranges of days.
fn lower(condition: Expr) -> Expr {
    match condition {
        Expr::And(parts) => Expr::And(parts.into_iter().map(lower).collect()),
        Expr::Or(parts) => Expr::Or(parts.into_iter().map(lower).collect()),
        Expr::Not(inner) => Expr::Not(Box::new(lower(*inner))),
        Expr::Compare { op, left, right } => lower_compare(op, *left, *right),
        Expr::InList { expr, values, negated } => lower_in_list(expr, values, negated),
        other => other,
    }
}

fn lower_compare(op: CompareOp, left: Expr, right: Expr) -> Expr {
    match right {
        Expr::Literal(ScalarValue::Date32(Some(days))) => {
            Expr::compare(op, left, Expr::Literal(day_text(i64::from(days)).into()))
        }
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), _)) => match op {
            CompareOp::Less | CompareOp::LessOrEqual => until_day_of(micros, left),
            CompareOp::Greater | CompareOp::GreaterOrEqual => from_day_of(micros, left),
            _ => Expr::And(vec![from_day_of(micros, left.clone()), until_day_of(micros, left)]),
        },
        right => Expr::compare(op, left, right),
    }
}

fn lower_in_list(expr: Box<Expr>, values: Vec<ScalarValue>, negated: bool) -> Expr {
    let micros: Vec<i64> = values.iter().filter_map(micros).collect();
    // Only IN is offered on timestamps, never NOT IN.
    if let (Some(first), Some(last)) = (micros.iter().min(), micros.iter().max()) {
        return Expr::And(vec![from_day_of(*first, (*expr).clone()), until_day_of(*last, *expr)]);
    }
    let values = values
        .into_iter()
        .map(|value| match value {
            ScalarValue::Date32(Some(days)) => day_text(i64::from(days)).into(),
            other => other,
        })
        .collect();
    Expr::InList { expr, values, negated }
}

fn micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        _ => None,
    }
}

/// The text that compares with every date text as the day does; outside the years 0000 to 9999, one before or after them all.
fn day_text(days: i64) -> String {
    format_date(days).unwrap_or_else(|| if days < 0 { String::new() } else { AFTER.to_owned() })
}

/// Sorts after every character of a date or timestamp.
const AFTER: &str = "~";

fn from_day_of(micros: i64, column: Expr) -> Expr {
    let first = day_text(micros.div_euclid(DAY_MICROS));
    Expr::compare(CompareOp::GreaterOrEqual, column, Expr::Literal(first.into()))
}

fn until_day_of(micros: i64, column: Expr) -> Expr {
    let last = format_date(micros.div_euclid(DAY_MICROS)).map(|day| format!("{day}{AFTER}"));
    let last = last.unwrap_or_else(|| day_text(micros.div_euclid(DAY_MICROS)));
    Expr::compare(CompareOp::LessOrEqual, column, Expr::Literal(last.into()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn column() -> Expr {
        Expr::Column(0)
    }

    #[test]
    fn timestamp_is_compared_by_its_day() {
        let noon = Expr::Literal(ScalarValue::TimestampMicrosecond(Some(DAY_MICROS / 2), None));
        let shown = |expr: Expr| format!("{expr:?}");
        let less = shown(lower_compare(CompareOp::LessOrEqual, column(), noon.clone()));
        assert!(less.contains("1970-01-01~"), "{less}");
        let equal = shown(lower_compare(CompareOp::Equal, column(), noon));
        assert!(equal.contains("\"1970-01-01\"") && equal.contains("1970-01-01~"), "{equal}");
    }

    #[test]
    fn day_beyond_four_digits_compares_before_or_after_all_texts() {
        assert_eq!(day_text(-719_529), "");
        assert_eq!(day_text(2_932_897), "~");
        assert!("9999-12-31" < "~");
    }

    #[test]
    fn column_is_compared_bytewise() {
        let mut text = ColumnDef::new("name", DataType::Utf8, "TEXT", ValueClass::Loose);
        text.collation = Some("BINARY".to_owned());
        let write = |column: &ColumnDef, purpose| Sqlite.column(column, "t1.\"name\"".to_owned(), purpose);
        assert_eq!(write(&text, Use::Equality), "t1.\"name\"");
        text.collation = Some("CUSTOM".to_owned());
        assert_eq!(write(&text, Use::Order), "t1.\"name\" COLLATE BINARY");
        assert_eq!(write(&text, Use::Group), "t1.\"name\" COLLATE BINARY");
        assert_eq!(write(&text, Use::Read), "t1.\"name\"");
        text.class = ValueClass::TextFolded;
        assert_eq!(write(&text, Use::Equality), "t1.\"name\"");
    }
}
