//! What MariaDB and MySQL may be asked to compare and to compute.
//!
//! Everything here is what both servers do, in every version: a source is opened without asking which it is.
//!
//! What is not pushed, and why:
//! - Groups, distinct counts and orders of text that may be longer than 255 characters, and of binary strings that may be longer than 1020
//!   bytes: the servers sort and group by the first `max_sort_length` bytes.
//! - Order on UUIDs: MariaDB orders them by their time.
//! - Arithmetic on unsigned integers: a difference below zero is an error there.
//! - Sums of floats, which depend on the order, and orders and groups by them: ORDER BY tells -0.0 from 0.0 here.
//! - Conditions as values: they are numbers there.
//! - `||` of texts that may be longer than 64 KiB together: past `max_allowed_packet` the servers answer NULL.
//! - upper and lower: by the collation.
//! - The Monday of a week: that of the first days of the year 0 is before all dates there. ABS of integers: the servers' result has a wider type. GREATEST and LEAST within
//!   another: the arguments are written several times.

use arrow::datatypes::DataType;
use headwater_source::{
    AggregateFunction, CalendarUnit, Call, Capabilities, ColumnDef, Conditions, Expr, Function, JoinKind, ListLookup,
    Operator, Purpose, Queries, Rule, ScalarValue, Support, ValueClass,
};

use super::{range, types};

/// What may be pushed. Each rule has a test that compares the server with Arrow.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::new("mysql", RULES)
    .with_max_binds(MAX_BINDS)
    .with_queries(&QUERIES)
    .with_objection(objection)
    .with_list_lookup(ListLookup::Always)
    .in_parts();

/// The protocol counts 65,535 values. A list of so many keys, of up to 20 digits each, is a text of less than 1 MiB, which every
/// `max_allowed_packet` but an odd one lets through; a list that is written twice is shorter (`dialect`).
const MAX_BINDS: usize = 48_000;

/// The most values of an expression that is computed: its text may stand in a statement several times.
const COMPUTED_VALUES_MAX: usize = 1_000;

const RULES: &[Rule] = {
    use Operator::{Equal, IsNull, Like, NotEqual, NotLike, Order, Sort};
    use Support::Exact;
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
        (Equal, V::Float, Exact),
        (NotEqual, V::Float, Exact),
        (Order, V::Float, Exact),
        (Equal, V::Text, Exact),
        (NotEqual, V::Text, Exact),
        (Order, V::Text, Exact),
        (Like, V::Text, Exact),
        (NotLike, V::Text, Exact),
        (Sort, V::Text, Exact),
        (Equal, V::TextFolded, Exact),
        (NotEqual, V::TextFolded, Exact),
        (Order, V::TextFolded, Exact),
        (Like, V::TextFolded, Exact),
        (NotLike, V::TextFolded, Exact),
        (Sort, V::TextFolded, Exact),
        (Equal, V::TextPadded, Exact),
        (NotEqual, V::TextPadded, Exact),
        (Order, V::TextPadded, Exact),
        (Like, V::TextPadded, Exact),
        (NotLike, V::TextPadded, Exact),
        (Sort, V::TextPadded, Exact),
        (Equal, V::Label, Exact),
        (NotEqual, V::Label, Exact),
        (Order, V::Label, Exact),
        (Like, V::Label, Exact),
        (NotLike, V::Label, Exact),
        (Sort, V::Label, Exact),
        (Equal, V::Bytes, Exact),
        (NotEqual, V::Bytes, Exact),
        (Order, V::Bytes, Exact),
        (Sort, V::Bytes, Exact),
        (Equal, V::Uuid, Exact),
        (NotEqual, V::Uuid, Exact),
        (Equal, V::Date, Exact),
        (NotEqual, V::Date, Exact),
        (Order, V::Date, Exact),
        (Sort, V::Date, Exact),
        (Equal, V::Timestamp, Exact),
        (NotEqual, V::Timestamp, Exact),
        (Order, V::Timestamp, Exact),
        (Sort, V::Timestamp, Exact),
        (Equal, V::TimestampTz, Exact),
        (NotEqual, V::TimestampTz, Exact),
        (Order, V::TimestampTz, Exact),
        (Sort, V::TimestampTz, Exact),
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
        (Equal, V::Computed, Exact),
        (NotEqual, V::Computed, Exact),
        (Order, V::Computed, Exact),
        (Like, V::Computed, Exact),
        (NotLike, V::Computed, Exact),
        (Sort, V::Computed, Exact),
        (IsNull, V::Computed, Exact),
        (IsNull, V::Total, Exact),
    ]
};

/// What is computed exactly.
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
            (F::Case, V::Integer),
            (F::Case, V::Decimal),
            (F::Case, V::Text),
            (F::Case, V::TextFolded),
            (F::Case, V::TextPadded),
            (F::Case, V::Label),
            (F::Case, V::Computed),
            (F::Case, V::Date),
            (F::Case, V::Timestamp),
            (F::Case, V::TimestampTz),
            (F::Coalesce, V::Integer),
            (F::Coalesce, V::Decimal),
            (F::Coalesce, V::Text),
            (F::Coalesce, V::TextFolded),
            (F::Coalesce, V::TextPadded),
            (F::Coalesce, V::Label),
            (F::Coalesce, V::Computed),
            (F::Coalesce, V::Date),
            (F::Coalesce, V::Timestamp),
            (F::Coalesce, V::TimestampTz),
            (F::NullIf, V::Integer),
            (F::NullIf, V::Decimal),
            (F::CharLength, V::Text),
            (F::CharLength, V::TextFolded),
            (F::CharLength, V::TextPadded),
            (F::CharLength, V::Label),
            (F::CharLength, V::Computed),
            (F::Substring, V::Text),
            (F::Substring, V::TextFolded),
            (F::Substring, V::TextPadded),
            (F::Substring, V::Label),
            (F::Substring, V::Computed),
            (F::Concat, V::Text),
            (F::Concat, V::TextFolded),
            (F::Concat, V::TextPadded),
            (F::Concat, V::Label),
            (F::Concat, V::Computed),
            (F::Year, V::Date),
            (F::Year, V::Timestamp),
            (F::Year, V::TimestampTz),
            (F::Month, V::Date),
            (F::Month, V::Timestamp),
            (F::Month, V::TimestampTz),
            (F::Day, V::Date),
            (F::Day, V::Timestamp),
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
            (F::Least, V::Integer),
            (F::Least, V::Decimal),
            (F::Trim, V::Text),
            (F::Trim, V::TextFolded),
            (F::Trim, V::TextPadded),
            (F::Trim, V::Label),
            (F::Trim, V::Computed),
            (F::TrimStart, V::Text),
            (F::TrimStart, V::TextFolded),
            (F::TrimStart, V::TextPadded),
            (F::TrimStart, V::Label),
            (F::TrimStart, V::Computed),
            (F::TrimEnd, V::Text),
            (F::TrimEnd, V::TextFolded),
            (F::TrimEnd, V::TextPadded),
            (F::TrimEnd, V::Label),
            (F::TrimEnd, V::Computed),
            (F::Replace, V::Text),
            (F::Replace, V::TextFolded),
            (F::Replace, V::TextPadded),
            (F::Replace, V::Label),
            (F::Replace, V::Computed),
            (F::Right, V::Text),
            (F::Right, V::TextFolded),
            (F::Right, V::TextPadded),
            (F::Right, V::Label),
            (F::Right, V::Computed),
            (F::Position, V::Text),
            (F::Position, V::TextFolded),
            (F::Position, V::TextPadded),
            (F::Position, V::Label),
            (F::Position, V::Computed),
            (F::Digits, V::Integer),
        ],
        aggregates: &[
            (CountDistinct, V::Integer),
            (CountDistinct, V::Decimal),
            (CountDistinct, V::Text),
            (CountDistinct, V::TextFolded),
            (CountDistinct, V::TextPadded),
            (CountDistinct, V::Label),
            (CountDistinct, V::Computed),
            (CountDistinct, V::Bytes),
            (CountDistinct, V::Date),
            (CountDistinct, V::Timestamp),
            (CountDistinct, V::TimestampTz),
            (CountDistinct, V::Time),
            (CountDistinct, V::Uuid),
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
            (Min, V::Timestamp),
            (Max, V::Timestamp),
            (Min, V::TimestampTz),
            (Max, V::TimestampTz),
            (Min, V::Time),
            (Max, V::Time),
        ],
        integers: &[DataType::Int8, DataType::Int16, DataType::Int32, DataType::Int64],
        groups: &[
            V::Integer,
            V::Decimal,
            V::Text,
            V::TextFolded,
            V::TextPadded,
            V::Label,
            V::Computed,
            V::Bytes,
            V::Date,
            V::Timestamp,
            V::TimestampTz,
            V::Time,
            V::Uuid,
        ],
        cases: &[V::Text, V::TextFolded, V::TextPadded, V::Label, V::Computed],
        joins: &[JoinKind::Inner, JoinKind::Left, JoinKind::Semi, JoinKind::Anti],
        conditions: Conditions::AreNot,
        // MySQL's limit; MariaDB's is 38.
        scale_max: 30,
    }
};

/// The longest keys of groups and orders, in bytes: 255 characters. Sessions sort by 1024 bytes (`connect`).
const KEY_BYTES_MAX: u64 = 1020;

/// The longest text that is put together, in bytes.
const CONCAT_BYTES_MAX: u64 = 1 << 16;

/// The longest integer, with its sign.
const DIGITS_MAX: u64 = 20;

/// The most bytes of a character.
const CHARACTER_BYTES_MAX: u64 = 4;

fn objection(expr: &Expr, purpose: Purpose, columns: &[ColumnDef]) -> Option<String> {
    match (purpose, expr) {
        (Purpose::Key, _) => key_objection(expr, columns),
        (Purpose::Value, Expr::Literal(ScalarValue::Boolean(_))) => Some("mysql has no booleans".to_owned()),
        (Purpose::Value, Expr::Literal(value)) if !range::holds(value) => {
            Some("mysql has no dates before the year 0 and after 9999".to_owned())
        }
        (Purpose::Value, Expr::Call(_)) if expr.literals() > COMPUTED_VALUES_MAX => {
            Some(format!("more than {COMPUTED_VALUES_MAX} values in one computed value"))
        }
        (Purpose::Value, Expr::Call(call)) if is_extreme(call) && call.args.iter().any(holds_extreme) => {
            Some("GREATEST and LEAST within another".to_owned())
        }
        (Purpose::Value, Expr::Call(Call { function: Function::Concat | Function::Replace, .. })) => {
            let fits = bytes_max(expr, columns).is_some_and(|bytes| bytes <= CONCAT_BYTES_MAX);
            (!fits).then(|| "mysql makes NULL of text that is too long".to_owned())
        }
        _ => None,
    }
}

fn is_extreme(call: &Call) -> bool {
    matches!(call.function, Function::Greatest | Function::Least)
}

fn holds_extreme(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => is_extreme(call) || call.args.iter().any(holds_extreme),
        _ => false,
    }
}

fn key_objection(key: &Expr, columns: &[ColumnDef]) -> Option<String> {
    let column = key.describe(columns);
    let long = matches!(column.data_type, DataType::Utf8 | DataType::Binary)
        && column.class != ValueClass::Uuid
        && bytes_max(key, columns).is_none_or(|bytes| bytes > KEY_BYTES_MAX);
    long.then(|| {
        format!("mysql groups and sorts by the first {KEY_BYTES_MAX} bytes, \"{}\" may have more", column.name)
    })
}

/// How long a text or binary string can get, in bytes; `None` where nothing says so.
fn bytes_max(expr: &Expr, columns: &[ColumnDef]) -> Option<u64> {
    let of_all = |args: &mut dyn Iterator<Item = &Expr>| {
        args.map(|arg| bytes_max(arg, columns)).try_fold(Vec::new(), |mut all, bytes| {
            all.push(bytes?);
            Some(all)
        })
    };
    match expr {
        Expr::Column(index) => declared_bytes_max(columns.get(*index)?),
        Expr::Literal(ScalarValue::Utf8(text)) => Some(text.as_ref().map_or(0, |text| text.len() as u64)),
        Expr::Call(call) => match call.function {
            Function::Substring => {
                let cut = match call.args.get(2) {
                    Some(Expr::Literal(ScalarValue::Int64(Some(length)))) => {
                        u64::try_from(*length).ok()?.checked_mul(CHARACTER_BYTES_MAX)
                    }
                    _ => None,
                };
                let whole = bytes_max(call.args.first()?, columns);
                [cut, whole].into_iter().flatten().min()
            }
            // Each byte may be replaced.
            Function::Replace => {
                let with = bytes_max(call.args.get(2)?, columns)?;
                bytes_max(call.args.first()?, columns)?.checked_mul(with.max(1))
            }
            Function::Trim | Function::TrimStart | Function::TrimEnd | Function::Right => {
                bytes_max(call.args.first()?, columns)
            }
            Function::Digits => Some(DIGITS_MAX),
            Function::Concat => of_all(&mut call.args.iter()).map(|all| all.iter().sum()),
            Function::Coalesce => of_all(&mut call.args.iter()).and_then(|all| all.into_iter().max()),
            Function::Case => {
                let values = call.args.iter().skip(1).step_by(2);
                let last = call.args.last().filter(|_| call.args.len() % 2 == 1);
                let values = values.chain(last).filter(|value| !is_null(value));
                of_all(&mut values.into_iter()).and_then(|all| all.into_iter().max())
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value) if value.is_null())
}

/// By the declared type: `varchar(255)` has at most 1020 bytes.
fn declared_bytes_max(column: &ColumnDef) -> Option<u64> {
    let declared = column.remote_type.as_str();
    let length = || declared.split_once('(')?.1.split_once(')')?.0.parse::<u64>().ok();
    match types::base(declared).as_str() {
        "char" | "varchar" => length()?.checked_mul(CHARACTER_BYTES_MAX),
        "binary" | "varbinary" => length(),
        "tinytext" | "tinyblob" => Some(255),
        // No label is longer than all of them.
        "enum" => (declared.chars().count() as u64).checked_mul(CHARACTER_BYTES_MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(declared: &str) -> ColumnDef {
        ColumnDef::new("s", DataType::Utf8, declared, ValueClass::TextFolded)
    }

    #[test]
    fn only_text_that_is_sorted_by_all_its_bytes_is_a_key() {
        for (declared, fits) in [
            ("varchar(255)", true),
            ("varchar(256)", false),
            ("char(5)", true),
            ("text", false),
            ("longtext", false),
            ("enum('a','b')", true),
        ] {
            let objection = objection(&Expr::Column(0), Purpose::Key, &[text(declared)]);
            assert_eq!(objection.is_none(), fits, "{declared}: {objection:?}");
        }
        let part = |length: i64| {
            let number = |number: i64| Expr::Literal(ScalarValue::from(number));
            Expr::call(Function::Substring, vec![Expr::Column(0), number(1), number(length)], DataType::Utf8)
        };
        assert_eq!(objection(&part(255), Purpose::Key, &[text("longtext")]), None);
        assert!(objection(&part(256), Purpose::Key, &[text("longtext")]).is_some());
    }

    #[test]
    fn text_that_may_pass_the_servers_packet_is_not_put_together() {
        let twice = |declared: &str| {
            let both = Expr::call(Function::Concat, vec![Expr::Column(0), Expr::Column(0)], DataType::Utf8);
            objection(&both, Purpose::Value, &[text(declared)])
        };
        assert_eq!(twice("varchar(8000)"), None);
        assert!(twice("varchar(9000)").is_some() && twice("longtext").is_some());
    }

    #[test]
    fn value_that_the_server_lacks_is_not_computed_with() {
        let refused = |value: ScalarValue| objection(&Expr::Literal(value), Purpose::Value, &[]).is_some();
        assert!(refused(ScalarValue::Date32(Some(i32::MAX))) && refused(ScalarValue::from(true)));
        assert!(!refused(ScalarValue::Date32(Some(7))) && !refused(ScalarValue::from(7_i64)));
    }
}
