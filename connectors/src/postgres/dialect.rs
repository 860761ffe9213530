//! What Postgres can do with a pushed expression, and how it is written there.
//!
//! Text is compared bytewise only under COLLATE "C" in a UTF-8 database; `=` and `<>` are bytewise under every deterministic
//! collation, and stay plain so that an index is used. Labels compare in the order of their declaration and are compared as text.
//! An enum, json or composite `IS NULL` asks whether the datum is there, not whether a composite's fields are.

use arrow::datatypes::DataType;
use headwater_source::{
    Aggregate, AggregateFunction, CalendarUnit, Call, Capabilities, ColumnDef, Conditions, Expr, Function, JoinKind,
    Operator, Queries, Rule, SortKey, Support, ValueClass,
};

use super::range::within_range;
use super::split::PLACE_TYPE;
use super::types::{is_sent_as_text, read_cast, sql_type};
use crate::sql::{Dialect, Use, standard_aggregate, standard_call};

/// The protocol counts binds in 16 bits. A list of values is one bind where the type has arrays here, and as many as it is long where
/// it has none.
const MAX_BINDS: usize = 65_535;

/// The most integers of one list: they are one array, of 12 bytes each.
const MAX_INTEGERS: usize = 200_000;

/// The capability table. Postgres puts several processes to work on one statement by itself, but groups a table by its key in one, and through
/// the disk where its statistics take the groups for few. What is missing stays local.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::new("Postgres", RULES)
    .with_max_binds(MAX_BINDS)
    .with_max_integers(MAX_INTEGERS)
    .with_queries(&QUERIES)
    .in_groups();

const RULES: &[Rule] = {
    use Operator::{Equal, IsNull, Like, NotEqual, NotLike, Order, Sort};
    use Support::{Exact, Superset};
    use ValueClass::{
        Boolean, Bytes, Computed, Date, Decimal, Float, Integer, Label, Opaque, Text, TextFolded, TextPadded, Time,
        Timestamp, TimestampTz, Total, Uuid,
    };
    &[
        (Equal, Boolean, Exact),
        (NotEqual, Boolean, Exact),
        (Order, Boolean, Exact),
        (IsNull, Boolean, Exact),
        (Sort, Boolean, Exact),
        (Equal, Integer, Exact),
        (NotEqual, Integer, Exact),
        (Order, Integer, Exact),
        (IsNull, Integer, Exact),
        (Sort, Integer, Exact),
        // -0.0 equals 0.0 in Postgres as here, and NaN itself; ORDER BY tells the zeros apart here.
        (Equal, Float, Exact),
        (NotEqual, Float, Exact),
        (Order, Float, Exact),
        (IsNull, Float, Exact),
        (Equal, Decimal, Exact),
        (NotEqual, Decimal, Exact),
        (Order, Decimal, Exact),
        (IsNull, Decimal, Exact),
        (Sort, Decimal, Exact),
        (Equal, Text, Exact),
        (NotEqual, Text, Exact),
        (Order, Text, Exact),
        (IsNull, Text, Exact),
        (Like, Text, Exact),
        (NotLike, Text, Exact),
        (Sort, Text, Exact),
        // Equality by the collation, which an index serves; all else by bytes.
        (Equal, TextFolded, Superset),
        (Order, TextFolded, Exact),
        (IsNull, TextFolded, Exact),
        (Like, TextFolded, Exact),
        (NotLike, TextFolded, Exact),
        (Sort, TextFolded, Exact),
        // Equality ignores trailing spaces, of the value too.
        (Equal, TextPadded, Superset),
        (Order, TextPadded, Exact),
        (IsNull, TextPadded, Exact),
        (Like, TextPadded, Exact),
        (NotLike, TextPadded, Exact),
        (Sort, TextPadded, Exact),
        (Equal, Bytes, Exact),
        (NotEqual, Bytes, Exact),
        (Order, Bytes, Exact),
        (IsNull, Bytes, Exact),
        (Sort, Bytes, Exact),
        (Equal, Date, Exact),
        (NotEqual, Date, Exact),
        (Order, Date, Exact),
        (IsNull, Date, Exact),
        (Sort, Date, Exact),
        (Equal, Time, Exact),
        (NotEqual, Time, Exact),
        (Order, Time, Exact),
        (IsNull, Time, Exact),
        (Sort, Time, Exact),
        (Equal, Timestamp, Exact),
        (NotEqual, Timestamp, Exact),
        (Order, Timestamp, Exact),
        (IsNull, Timestamp, Exact),
        (Sort, Timestamp, Exact),
        (Equal, TimestampTz, Exact),
        (NotEqual, TimestampTz, Exact),
        (Order, TimestampTz, Exact),
        (IsNull, TimestampTz, Exact),
        (Sort, TimestampTz, Exact),
        // Lower-case text with dashes sorts as the bytes do.
        (Equal, Uuid, Exact),
        (NotEqual, Uuid, Exact),
        (Order, Uuid, Exact),
        (IsNull, Uuid, Exact),
        (Like, Uuid, Exact),
        (NotLike, Uuid, Exact),
        (Sort, Uuid, Exact),
        (Equal, Label, Exact),
        (NotEqual, Label, Exact),
        (Order, Label, Exact),
        (IsNull, Label, Exact),
        (Like, Label, Exact),
        (NotLike, Label, Exact),
        (Sort, Label, Exact),
        // Text computed of text: COLLATE "C" replaces whatever collation it got from its columns.
        (Equal, Computed, Exact),
        (NotEqual, Computed, Exact),
        (Order, Computed, Exact),
        (IsNull, Computed, Exact),
        (Like, Computed, Exact),
        (NotLike, Computed, Exact),
        (Sort, Computed, Exact),
        (IsNull, Total, Exact),
        (IsNull, Opaque, Exact),
    ]
};

/// What is computed exactly. Missing, and why: floats (their sums depend on the order, and NaN and -0.0 differ); upper and lower (of letters
/// beyond ASCII's they go by the locale); avg (the engine divides, so that digits and rounding are its own).
const QUERIES: Queries = {
    use AggregateFunction::{CountDistinct, Max, Min, Sum};
    use CalendarUnit as U;
    use Function as F;
    use ValueClass as V;
    Queries {
        functions: &[
            (F::Add, V::Integer),
            (F::Add, V::Decimal),
            (F::Subtract, V::Integer),
            (F::Subtract, V::Decimal),
            (F::Multiply, V::Integer),
            (F::Multiply, V::Decimal),
            (F::Divide, V::Integer),
            (F::Remainder, V::Integer),
            (F::Negate, V::Integer),
            (F::Negate, V::Decimal),
            (F::Widen, V::Integer),
            (F::Widen, V::Decimal),
            (F::Case, V::Boolean),
            (F::Case, V::Integer),
            (F::Case, V::Decimal),
            (F::Case, V::Text),
            (F::Case, V::TextFolded),
            (F::Case, V::TextPadded),
            (F::Case, V::Computed),
            (F::Case, V::Date),
            (F::Case, V::Timestamp),
            (F::Case, V::TimestampTz),
            (F::Coalesce, V::Boolean),
            (F::Coalesce, V::Integer),
            (F::Coalesce, V::Decimal),
            (F::Coalesce, V::Text),
            (F::Coalesce, V::TextFolded),
            (F::Coalesce, V::TextPadded),
            (F::Coalesce, V::Computed),
            (F::Coalesce, V::Date),
            (F::Coalesce, V::Timestamp),
            (F::Coalesce, V::TimestampTz),
            (F::NullIf, V::Integer),
            (F::NullIf, V::Decimal),
            (F::NullIf, V::Date),
            (F::CharLength, V::Text),
            (F::CharLength, V::TextFolded),
            (F::CharLength, V::TextPadded),
            (F::CharLength, V::Computed),
            (F::Substring, V::Text),
            (F::Substring, V::TextFolded),
            (F::Substring, V::TextPadded),
            (F::Substring, V::Computed),
            (F::Concat, V::Text),
            (F::Concat, V::TextFolded),
            (F::Concat, V::TextPadded),
            (F::Concat, V::Computed),
            (F::Year, V::Date),
            (F::Year, V::Timestamp),
            (F::Month, V::Date),
            (F::Month, V::Timestamp),
            (F::Day, V::Date),
            (F::Day, V::Timestamp),
            (F::Year, V::TimestampTz),
            (F::Month, V::TimestampTz),
            (F::Day, V::TimestampTz),
            (F::Quarter, V::Date),
            (F::Quarter, V::Timestamp),
            (F::Quarter, V::TimestampTz),
            (F::Week, V::Date),
            (F::Week, V::Timestamp),
            (F::Week, V::TimestampTz),
            (F::DayOfWeek, V::Date),
            (F::DayOfWeek, V::Timestamp),
            (F::DayOfWeek, V::TimestampTz),
            (F::DayOfYear, V::Date),
            (F::DayOfYear, V::Timestamp),
            (F::DayOfYear, V::TimestampTz),
            (F::Hour, V::Timestamp),
            (F::Hour, V::TimestampTz),
            (F::Minute, V::Timestamp),
            (F::Minute, V::TimestampTz),
            (F::Second, V::Timestamp),
            (F::Second, V::TimestampTz),
            (F::Truncate(U::Year), V::Date),
            (F::Truncate(U::Year), V::Timestamp),
            (F::Truncate(U::Year), V::TimestampTz),
            (F::Truncate(U::Quarter), V::Date),
            (F::Truncate(U::Quarter), V::Timestamp),
            (F::Truncate(U::Quarter), V::TimestampTz),
            (F::Truncate(U::Month), V::Date),
            (F::Truncate(U::Month), V::Timestamp),
            (F::Truncate(U::Month), V::TimestampTz),
            (F::Truncate(U::Week), V::Date),
            (F::Truncate(U::Week), V::Timestamp),
            (F::Truncate(U::Week), V::TimestampTz),
            (F::Truncate(U::Day), V::Date),
            (F::Truncate(U::Day), V::Timestamp),
            (F::Truncate(U::Day), V::TimestampTz),
            (F::Truncate(U::Hour), V::Date),
            (F::Truncate(U::Hour), V::Timestamp),
            (F::Truncate(U::Hour), V::TimestampTz),
            (F::Truncate(U::Minute), V::Date),
            (F::Truncate(U::Minute), V::Timestamp),
            (F::Truncate(U::Minute), V::TimestampTz),
            (F::Truncate(U::Second), V::Date),
            (F::Truncate(U::Second), V::Timestamp),
            (F::Truncate(U::Second), V::TimestampTz),
            (F::DateOf, V::Timestamp),
            (F::DateOf, V::TimestampTz),
            (F::Absolute, V::Decimal),
            (F::Greatest, V::Integer),
            (F::Greatest, V::Decimal),
            (F::Greatest, V::Date),
            (F::Greatest, V::Timestamp),
            (F::Greatest, V::TimestampTz),
            (F::Least, V::Integer),
            (F::Least, V::Decimal),
            (F::Least, V::Date),
            (F::Least, V::Timestamp),
            (F::Least, V::TimestampTz),
            (F::Trim, V::Text),
            (F::Trim, V::TextFolded),
            (F::Trim, V::TextPadded),
            (F::Trim, V::Computed),
            (F::TrimStart, V::Text),
            (F::TrimStart, V::TextFolded),
            (F::TrimStart, V::TextPadded),
            (F::TrimStart, V::Computed),
            (F::TrimEnd, V::Text),
            (F::TrimEnd, V::TextFolded),
            (F::TrimEnd, V::TextPadded),
            (F::TrimEnd, V::Computed),
            (F::Replace, V::Text),
            (F::Replace, V::TextFolded),
            (F::Replace, V::TextPadded),
            (F::Replace, V::Computed),
            (F::Right, V::Text),
            (F::Right, V::TextFolded),
            (F::Right, V::TextPadded),
            (F::Right, V::Computed),
            (F::Position, V::Text),
            (F::Position, V::TextFolded),
            (F::Position, V::TextPadded),
            (F::Position, V::Computed),
            (F::Digits, V::Integer),
        ],
        aggregates: &[
            (CountDistinct, V::Boolean),
            (CountDistinct, V::Integer),
            (CountDistinct, V::Decimal),
            (CountDistinct, V::Text),
            (CountDistinct, V::TextFolded),
            (CountDistinct, V::TextPadded),
            (CountDistinct, V::Computed),
            (CountDistinct, V::Bytes),
            (CountDistinct, V::Date),
            (CountDistinct, V::Time),
            (CountDistinct, V::Timestamp),
            (CountDistinct, V::TimestampTz),
            (CountDistinct, V::Uuid),
            (CountDistinct, V::Label),
            (Sum, V::Integer),
            (Sum, V::Decimal),
            (Min, V::Integer),
            (Max, V::Integer),
            (Min, V::Decimal),
            (Max, V::Decimal),
            (Min, V::Text),
            (Max, V::Text),
            (Min, V::TextFolded),
            (Max, V::TextFolded),
            (Min, V::TextPadded),
            (Max, V::TextPadded),
            (Min, V::Computed),
            (Max, V::Computed),
            (Min, V::Date),
            (Max, V::Date),
            (Min, V::Time),
            (Max, V::Time),
            (Min, V::Timestamp),
            (Max, V::Timestamp),
            (Min, V::TimestampTz),
            (Max, V::TimestampTz),
        ],
        integers: &[DataType::Int16, DataType::Int32, DataType::Int64],
        groups: &[
            V::Boolean,
            V::Integer,
            V::Decimal,
            V::Text,
            V::TextFolded,
            V::TextPadded,
            V::Computed,
            V::Bytes,
            V::Date,
            V::Time,
            V::Timestamp,
            V::TimestampTz,
            V::Uuid,
            V::Label,
        ],
        cases: &[V::Text, V::TextFolded, V::TextPadded, V::Computed],
        joins: &[JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti],
        conditions: Conditions::AreValues,
        scale_max: 38,
    }
};

/// Postgres's SQL.
pub(super) struct Postgres(pub(super) Reads);

/// What stands in the outermost select list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Columns of a table. Text goes as it is stored, so that the server need not make another row of each.
    Columns,
    /// Values of any kind, cast to the types that are read.
    Values,
}

impl Dialect for Postgres {
    const QUOTE: char = '"';

    fn placeholder(&self, number: usize, remote_type: &str) -> String {
        format!("${number}::{remote_type}")
    }

    fn column(&self, column: &ColumnDef, quoted: String, purpose: Use) -> String {
        use ValueClass::{Computed, Label, Opaque, Text, TextFolded, TextPadded, Uuid};
        match (purpose, column.class) {
            (Use::Argument, Label | TextFolded | TextPadded | Uuid) => format!("{quoted}::text"),
            // Computed text has its columns' collation: one that folds, or none where they have several.
            (Use::Equality, Computed) => format!("{quoted}::text COLLATE \"C\""),
            (Use::Group, TextFolded | TextPadded | Computed) => format!("{quoted}::text COLLATE \"C\""),
            (Use::Argument | Use::Group, _) => quoted,
            (Use::Read, _) if self.0 == Reads::Columns && is_sent_as_text(column) => quoted,
            (Use::Read, _) => match read_cast(column) {
                Some(cast) => format!("{quoted}::{cast}"),
                None => quoted,
            },
            // A composite whose fields are all NULL is NULL to IS NULL, and is read as "(,)".
            (Use::IsNull, Opaque) => format!("NULLIF(num_nulls({quoted}), 1)"),
            (Use::IsNull, _) => quoted,
            (Use::Equality | Use::Order | Use::Sort | Use::Like, Label) => format!("{quoted}::text COLLATE \"C\""),
            (Use::Order | Use::Sort, Text | TextFolded | TextPadded | Computed) => {
                format!("{quoted}::text COLLATE \"C\"")
            }
            (Use::Like, TextFolded | TextPadded | Computed) => format!("{quoted}::text COLLATE \"C\""),
            (Use::Like, Text | Uuid) | (Use::Equality, TextFolded) => format!("{quoted}::text"),
            _ => quoted,
        }
    }

    fn bind_type(&self, column: &ColumnDef, purpose: Use) -> String {
        match (purpose, column.class) {
            (Use::Equality, ValueClass::TextPadded) => "bpchar",
            (Use::Equality | Use::Order, ValueClass::Uuid) => "uuid",
            (Use::Order, ValueClass::Opaque) if column.remote_type == PLACE_TYPE => PLACE_TYPE,
            _ => sql_type(&column.data_type),
        }
        .to_owned()
    }

    fn list_type(&self, column: &ColumnDef) -> Option<String> {
        use ValueClass::{Bytes, Computed, Date, Float, Integer, Label, Text, Timestamp, TimestampTz, Uuid};
        let listed = matches!(
            column.class,
            Bytes | Computed | Date | Float | Integer | Label | Text | Timestamp | TimestampTz | Uuid
        );
        listed.then(|| format!("{}[]", self.bind_type(column, Use::Equality)))
    }

    fn lowered(&self, condition: Expr) -> Expr {
        within_range(condition)
    }

    fn call(&self, call: &Call, args: &[String]) -> Option<String> {
        Some(match (call.function, args) {
            (Function::Divide, [a, b]) => format!("({a} / {b})"),
            (Function::Remainder, [a, b]) => format!("({a} % {b})"),
            (Function::Widen, [a]) => format!("{a}::{}", sql_type(&call.data_type)),
            (Function::CharLength, [a]) => format!("char_length({a})"),
            (Function::Substring, [a, from]) => format!("substr({a}, {from}::integer)"),
            (Function::Substring, [a, from, length]) => format!("substr({a}, {from}::integer, {length}::integer)"),
            (Function::Concat, args) => format!("({})", args.join(" || ")),
            (Function::Year, [a]) => field_of("year", " + 1", a),
            (Function::Month, [a]) => field_of("month", "", a),
            (Function::Day, [a]) => field_of("day", "", a),
            (Function::Quarter, [a]) => field_of("quarter", "", a),
            (Function::Week, [a]) => field_of("week", "", a),
            (Function::DayOfWeek, [a]) => field_of("dow", "", a),
            (Function::DayOfYear, [a]) => field_of("doy", "", a),
            (Function::Hour, [a]) => field_of("hour", "", a),
            (Function::Minute, [a]) => field_of("minute", "", a),
            (Function::Second, [a]) => field_of("second", "", &format!("date_trunc('second', {a})")),
            (Function::Truncate(unit), [a]) => {
                let zone =
                    if matches!(call.data_type, DataType::Timestamp(_, None)) { "timestamp" } else { "timestamptz" };
                format!("date_trunc('{}', {a}::{zone})", unit_name(unit))
            }
            // The session's time zone is UTC.
            (Function::DateOf, [a]) => format!("{a}::date"),
            (Function::Greatest, args) => format!("greatest({})", args.join(", ")),
            (Function::Least, args) => format!("least({})", args.join(", ")),
            (Function::Trim, [a]) => format!("btrim({a})"),
            (Function::Right, [a, length]) => format!("right({a}, {length}::integer)"),
            (Function::Position, [a, part]) => format!("strpos({a}, {part} COLLATE \"C\")"),
            (Function::Digits, [a]) => format!("{a}::text"),
            (Function::Lower, [a]) => format!("lower({a}::text COLLATE \"C\")"),
            (Function::Upper, [a]) => format!("upper({a}::text COLLATE \"C\")"),
            (Function::BeyondAscii, [a]) => {
                format!("octet_length(convert_to({a}::text, 'UTF8')) <> char_length({a}::text)")
            }
            _ => return standard_call(call, args),
        })
    }

    /// A sum is read as it is: a bigint of small integers, a numeric of all else.
    fn aggregate(&self, aggregate: &Aggregate, arg: &str, result: &ColumnDef) -> String {
        let text = standard_aggregate(aggregate.function, arg);
        match (aggregate.function, result.class) {
            (AggregateFunction::Sum, ValueClass::Total) => format!("{text}::numeric"),
            (AggregateFunction::Sum, ValueClass::Integer) => format!("{text}::bigint"),
            _ => text,
        }
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

fn unit_name(unit: CalendarUnit) -> &'static str {
    match unit {
        CalendarUnit::Year => "year",
        CalendarUnit::Quarter => "quarter",
        CalendarUnit::Month => "month",
        CalendarUnit::Week => "week",
        CalendarUnit::Day => "day",
        CalendarUnit::Hour => "hour",
        CalendarUnit::Minute => "minute",
        CalendarUnit::Second => "second",
    }
}

/// A field of a date or timestamp as the engine counts it: the year before 1 is 0, and infinities, like all years past its calendar, have no
/// fields.
fn field_of(field: &str, before_christ: &str, date: &str) -> String {
    format!(
        "CASE WHEN {date} >= '0001-01-01'::date AND {date} < '262143-01-01'::date THEN extract({field} FROM {date})::integer \
         WHEN {date} < '0001-01-01'::date AND isfinite({date}) THEN extract({field} FROM {date})::integer{before_christ} END"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_source::{CompareOp, Expr, Like, ScalarValue, ScanRequest, ServiceName, TableDef};

    use super::*;
    use crate::sql::render;

    #[test]
    fn statement_casts_binds_and_compares_text_bytewise() {
        let columns = vec![
            ColumnDef::new("id", DataType::Int64, "bigint", ValueClass::Integer),
            ColumnDef::new("na\"me", DataType::Utf8, "text", ValueClass::Text),
            ColumnDef::new("mood", DataType::Utf8, "public.mood", ValueClass::Label),
            ColumnDef::new("box", DataType::Utf8, "public.box", ValueClass::Opaque),
        ];
        let mut request = ScanRequest::all(Arc::new(TableDef::new(["public", "t"], columns)));
        let text = |text: &str| Expr::Literal(ScalarValue::from(text));
        request.filters = vec![
            Expr::compare(CompareOp::Equal, Expr::Column(1), text("a")),
            Expr::compare(CompareOp::Less, Expr::Column(1), text("b")),
            Expr::compare(CompareOp::NotEqual, Expr::Column(2), text("ok")),
            Expr::Like(Like {
                expr: Box::new(Expr::Column(1)),
                pattern: "a%".into(),
                negated: true,
                case_insensitive: false,
            }),
            Expr::IsNull(Box::new(Expr::Column(3))),
        ];
        request.sort = vec![SortKey { column: 1, descending: true, nulls_first: false }];
        let statement = render(&Postgres(Reads::Columns), &ServiceName::parse("s").unwrap(), &request).unwrap();
        assert_eq!(
            statement.text,
            "SELECT \"id\", \"na\"\"me\", \"mood\"::text, \"box\"::text FROM \"public\".\"t\" \
             WHERE \"na\"\"me\" = $1::text AND \"na\"\"me\"::text COLLATE \"C\" < $2::text \
             AND \"mood\"::text COLLATE \"C\" <> $3::text AND NULLIF(num_nulls(\"box\"), 1) IS NULL \
             AND \"na\"\"me\"::text NOT LIKE $4::text ORDER BY \"na\"\"me\"::text COLLATE \"C\" DESC NULLS LAST"
        );
    }
}
