//! Every rule of the capability table, over edge values: an exact filter yields just the rows that Arrow's comparison yields, a
//! superset at least those.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use headwater_source::{
    CompareOp, Expr, Like, Operator, ScalarValue, ScanRequest, SortKey, Source, Support, TableDef, ValueClass,
};

use super::local::{filtered, multiset, rows, sorted};
use super::{Database, read, read_all, table};

const OPS: [CompareOp; 6] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Less,
    CompareOp::LessOrEqual,
    CompareOp::Greater,
    CompareOp::GreaterOrEqual,
];

const STRINGS: &str = "(''), (' '), ('a'), ('A'), ('a '), ('a  '), ('ab'), ('aB'), ('b'), ('B'), ('ä'), ('Ä'), ('z'), ('é'), ('e\u{301}'), \
    ('-'), ('_'), ('%'), ('\\'), ('a\\b'), ('a%b'), ('a_b'), (E'a\\nb'), (E'\\t'), ('ß'), ('ss'), ('日本'), ('𝄞'), ('\u{ffff}'), \
    ('''; DROP TABLE t; --'), ('\\'') OR 1=1 -- '), ('10'), ('9')";

const UUIDS: &str = "('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff'), \
    ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('9fffffff-ffff-ffff-ffff-ffffffffffff'), ('0eebc999-9c0b-4ef8-bb6d-6bb9bd380a11')";

const NUMBERS: &str = "(0), (1), (-1), (2), (10), (9), (100)";

const DATES: &str =
    "('-infinity'), ('infinity'), ('4714-11-24 BC'), ('1969-12-31'), ('1970-01-01'), ('2000-01-01'), ('2024-02-29')";

/// A column's type, its rows without NULL, and its class.
fn columns() -> Vec<(&'static str, String, ValueClass)> {
    let stamps = format!("{DATES}, ('294247-01-10 04:00:54.775806'), ('2000-01-01 00:00:00.000001')");
    let dates = format!("{DATES}, ('5874897-12-31')");
    let labels = "('zz'), ('a'), ('B'), ('ä'), ('b%')".to_owned();
    vec![
        ("boolean", "(true), (false)".to_owned(), ValueClass::Boolean),
        ("smallint", format!("{NUMBERS}, (-32768), (32767)"), ValueClass::Integer),
        ("integer", format!("{NUMBERS}, (-2147483648), (2147483647)"), ValueClass::Integer),
        ("bigint", format!("{NUMBERS}, (-9223372036854775808), (9223372036854775807)"), ValueClass::Integer),
        ("oid", "(0), (1), (2147483648), (4294967295)".to_owned(), ValueClass::Integer),
        ("real", format!("{NUMBERS}, ('-0'), ('NaN'), ('Infinity'), ('-Infinity'), (0.1)"), ValueClass::Float),
        (
            "double precision",
            format!("{NUMBERS}, ('-0'), ('NaN'), ('Infinity'), ('-Infinity'), (0.1)"),
            ValueClass::Float,
        ),
        ("numeric(12,2)", format!("{NUMBERS}, (9999999999.99), (-9999999999.99), (0.01), (1.10)"), ValueClass::Decimal),
        ("numeric(3,-2)", "(0), (99900), (-100)".to_owned(), ValueClass::Decimal),
        (
            "numeric(60,30)",
            format!("{NUMBERS}, (0.000000000000000000000000000001), (123456789012345678901234567890.5)"),
            ValueClass::Decimal,
        ),
        ("text", STRINGS.to_owned(), ValueClass::Text),
        ("varchar(30)", STRINGS.to_owned(), ValueClass::Text),
        ("name", STRINGS.to_owned(), ValueClass::Text),
        ("text COLLATE \"en-x-icu\"", STRINGS.to_owned(), ValueClass::Text),
        ("text COLLATE \"C\"", STRINGS.to_owned(), ValueClass::Text),
        ("text COLLATE folded", STRINGS.to_owned(), ValueClass::TextFolded),
        ("citext", STRINGS.to_owned(), ValueClass::TextFolded),
        ("char(24)", STRINGS.to_owned(), ValueClass::TextPadded),
        ("char(24) COLLATE \"en-x-icu\"", STRINGS.to_owned(), ValueClass::TextPadded),
        ("bytea", "(''), ('\\x00'), ('\\xff'), ('\\x0001'), ('\\x61')".to_owned(), ValueClass::Bytes),
        ("date", dates, ValueClass::Date),
        ("time", "('00:00'), ('24:00'), ('23:59:59.999999'), ('12:00')".to_owned(), ValueClass::Time),
        ("timestamp", stamps.clone(), ValueClass::Timestamp),
        ("timestamptz", stamps, ValueClass::TimestampTz),
        ("uuid", UUIDS.to_owned(), ValueClass::Uuid),
        ("mood", labels, ValueClass::Label),
        ("price", "(1), (2.5)".to_owned(), ValueClass::Decimal),
        ("jsonb", "('1'), ('{}')".to_owned(), ValueClass::Opaque),
        ("pair", "(ROW(NULL, NULL)::pair), ((1, 'a')::pair), ((1, NULL)::pair)".to_owned(), ValueClass::Opaque),
        ("int[]", "('{}'), ('{NULL}')".to_owned(), ValueClass::Opaque),
    ]
}

async fn database() -> Database {
    let database = Database::with("ENCODING 'UTF8' TEMPLATE template0").await;
    database
        .run(
            "SET TimeZone = 'UTC';
             CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TYPE mood AS ENUM ('zz', 'a', 'B', 'ä', 'b%');
             CREATE TYPE pair AS (a int, b text);
             CREATE DOMAIN price AS numeric(12,2);
             CREATE EXTENSION citext",
        )
        .await;
    database
}

/// What the pushed filter yields against what Arrow makes of the whole table.
async fn compare(source: &Arc<dyn Source>, definition: &Arc<TableDef>, all: &RecordBatch, filter: &Expr) {
    let offer = source.capabilities().offer(filter, definition);
    let Some(pushed) = offer.filter.clone() else { return };
    let mut request = ScanRequest::all(definition.clone());
    request.filters = vec![pushed];
    let statement = source.prepare(request.clone()).await.unwrap().statement().to_string();
    let remote = multiset(&read(source, request).await);
    let local = multiset(&filtered(all, filter));
    let context = || format!("{statement}\nfilter {filter:?}\ntype {}", definition.columns[0].remote_type);
    match offer.support {
        Support::Exact => assert_eq!(remote, local, "{}", context()),
        _ => {
            let mut rest = remote.clone();
            for row in local {
                let at = rest.iter().position(|other| *other == row);
                rest.remove(at.unwrap_or_else(|| panic!("{row} is missing\n{}", context())));
            }
        }
    }
}

/// The column's own values, and the neighbours that no row holds.
fn values(all: &RecordBatch) -> Vec<ScalarValue> {
    let column = all.column(0);
    let mut values: Vec<ScalarValue> = (0..column.len())
        .map(|row| ScalarValue::try_from_array(column, row).unwrap())
        .filter(|value| !value.is_null())
        .collect();
    let more: Vec<ScalarValue> = match column.data_type() {
        DataType::Utf8 => ["c", "a   ", "A ", "\\", "nobody's \"label\"", "\u{10ffff}"].map(ScalarValue::from).to_vec(),
        DataType::Date32 => {
            [i32::MIN + 1, -2_440_589, 2_145_042_906, i32::MAX - 1].map(|days| ScalarValue::Date32(Some(days))).to_vec()
        }
        DataType::Timestamp(_, zone) => [i64::MIN + 1, -210_866_803_200_000_001, 7]
            .map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()))
            .to_vec(),
        DataType::Time64(_) => {
            [i64::MIN, -1, 86_400_000_001, i64::MAX].map(|micros| ScalarValue::Time64Microsecond(Some(micros))).to_vec()
        }
        _ => vec![],
    };
    values.extend(more);
    values
}

async fn prepared(database: &Database, index: usize, sql_type: &str, values: &str) -> (Arc<TableDef>, RecordBatch) {
    database
        .run(&format!("CREATE TABLE t{index} (v {sql_type}, w {sql_type}); INSERT INTO t{index} (v) VALUES {values}, (NULL); UPDATE t{index} SET w = v"))
        .await;
    let source = database.source();
    let name = format!("t{index}");
    (table(&source, &name).await, read_all(&source, &name).await)
}

#[tokio::test]
async fn comparison_is_what_arrow_makes_of_it() {
    let database = database().await;
    let source = database.source();
    for (index, (sql_type, literals, class)) in columns().into_iter().enumerate() {
        let (definition, all) = prepared(&database, index, sql_type, &literals).await;
        assert_eq!(definition.columns[0].class, class, "{sql_type}");
        let column = || Expr::Column(0);
        for value in values(&all) {
            for op in OPS {
                let filter = Expr::compare(op, column(), Expr::Literal(value.clone()));
                compare(&source, &definition, &all, &filter).await;
                if matches!(op, CompareOp::Equal | CompareOp::Less) {
                    compare(&source, &definition, &all, &Expr::Not(Box::new(filter))).await;
                }
            }
        }
        for op in OPS {
            compare(&source, &definition, &all, &Expr::compare(op, column(), Expr::Column(1))).await;
        }
        compare(&source, &definition, &all, &Expr::IsNull(Box::new(column()))).await;
        compare(&source, &definition, &all, &Expr::IsNotNull(Box::new(column()))).await;
        compare(&source, &definition, &all, &Expr::Not(Box::new(Expr::IsNull(Box::new(column()))))).await;
        compare(&source, &definition, &all, &column()).await;
    }
}

#[tokio::test]
async fn lists_and_logic_are_what_arrow_makes_of_them() {
    let database = database().await;
    let source = database.source();
    for (index, (sql_type, literals, _)) in columns().into_iter().enumerate() {
        let (definition, all) = prepared(&database, index, sql_type, &literals).await;
        let values = values(&all);
        let column = || Box::new(Expr::Column(0));
        for negated in [false, true] {
            for count in [3, values.len()] {
                for chunk in values.chunks(count.max(1)) {
                    let list = Expr::InList { expr: column(), values: chunk.to_vec(), negated };
                    compare(&source, &definition, &all, &list).await;
                }
            }
        }
        let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
        let less = Expr::compare(CompareOp::Less, *column(), Expr::Literal(last.clone()));
        let equal = Expr::compare(CompareOp::Equal, *column(), Expr::Literal(first.clone()));
        let null = Expr::IsNull(column());
        for filter in [
            Expr::And(vec![less.clone(), equal.clone()]),
            Expr::Or(vec![less.clone(), null.clone(), equal.clone()]),
            Expr::Not(Box::new(Expr::Or(vec![less.clone(), null.clone()]))),
            Expr::And(vec![Expr::Or(vec![equal, null.clone()]), Expr::Not(Box::new(Expr::And(vec![less, null])))]),
        ] {
            compare(&source, &definition, &all, &filter).await;
        }
    }
}

#[tokio::test]
async fn patterns_match_as_in_arrow() {
    let database = database().await;
    let source = database.source();
    let patterns = [
        "", "%", "_", "__", "a%", "%b", "a_b", "a\\_b", "a\\%b", "\\%", "\\_", "\\\\", "a\\\\b", "%\\\\%", "%\n%",
        "_\n_", "日_", "_本", "A%", "%a%", "\\a", "a\\b", "é", "%\u{301}", "a %", "%_ ", "_%_%_", "0%-%", "%''%",
        "[a]", "a.b", "^a", "(", "*", "z{1}",
    ];
    for (index, (sql_type, literals, class)) in columns().into_iter().enumerate() {
        if source.capabilities().support(Operator::Like, class) == Support::No {
            continue;
        }
        let (definition, all) = prepared(&database, index, sql_type, &literals).await;
        for pattern in patterns {
            for negated in [false, true] {
                let like = Like {
                    expr: Box::new(Expr::Column(0)),
                    pattern: pattern.to_owned(),
                    negated,
                    case_insensitive: false,
                };
                compare(&source, &definition, &all, &Expr::Like(like)).await;
            }
        }
    }
}

#[tokio::test]
async fn sorted_rows_stand_as_arrow_sorts_them() {
    let database = database().await;
    let source = database.source();
    for (index, (sql_type, literals, class)) in columns().into_iter().enumerate() {
        if source.capabilities().support(Operator::Sort, class) != Support::Exact {
            continue;
        }
        let (definition, all) = prepared(&database, index, sql_type, &literals).await;
        for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut request = ScanRequest::all(definition.clone());
            request.sort = vec![SortKey { column: 0, descending, nulls_first }];
            assert!(source.capabilities().offer_sort(&request.sort, &definition).is_ok());
            let local = sorted(&all, &request.sort);
            assert_eq!(rows(&read(&source, request.clone()).await), rows(&local), "{sql_type}");
            request.limit = Some(2);
            request.projection = vec![1];
            let top = read(&source, request).await;
            assert_eq!(rows(&top), rows(&local.slice(0, 2.min(local.num_rows())).project(&[1]).unwrap()), "{sql_type}");
        }
    }
}

#[tokio::test]
async fn every_rule_has_a_column_that_tests_it() {
    let tested: Vec<ValueClass> = columns().into_iter().map(|(_, _, class)| class).collect();
    let database = Database::new().await;
    for (operator, class, support) in database.source().capabilities().rules() {
        // No column is of these classes: values that the server computes are.
        if matches!(class, ValueClass::Computed | ValueClass::Total) {
            continue;
        }
        assert!(tested.contains(class), "{operator} on {class:?} is {support:?} and untested");
    }
}

#[tokio::test]
async fn equality_uses_the_index_of_a_text_column() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v text COLLATE \"en-x-icu\" PRIMARY KEY); INSERT INTO t SELECT 'k' || n FROM generate_series(1, 20000) n; ANALYZE t").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from("k7")))];
    let statement = source.prepare(request).await.unwrap().statement().text.clone();
    let plan = database.client.query(&format!("EXPLAIN {statement}"), &[&"k7"]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Index")), "{plan:?}");
}

#[tokio::test]
async fn limit_and_empty_projection_yield_rows_without_columns() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v int); INSERT INTO t SELECT generate_series(1, 100)").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.projection = vec![];
    assert_eq!(read(&source, request.clone()).await.num_rows(), 100);
    request.limit = Some(7);
    assert_eq!(read(&source, request.clone()).await.num_rows(), 7);
    request.limit = None;
    request.filters =
        vec![Expr::compare(CompareOp::Greater, Expr::Column(0), Expr::Literal(ScalarValue::from(90_i32)))];
    assert_eq!(read(&source, request).await.num_rows(), 10);
}

#[tokio::test]
async fn list_of_integers_is_one_value_however_many_the_protocol_counts() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v int); INSERT INTO t SELECT generate_series(1, 10)").await;
    let source = database.source();
    let definition = table(&source, "t").await;
    let list = |count: i32| Expr::InList {
        expr: Box::new(Expr::Column(0)),
        values: (1..=count).map(ScalarValue::from).collect(),
        negated: false,
    };
    assert_eq!(source.capabilities().offer(&list(200_001), &definition).support, Support::No);
    let mut request = ScanRequest::all(definition);
    request.filters = vec![list(200_000)];
    assert_eq!(read(&source, request).await.num_rows(), 10);
}
