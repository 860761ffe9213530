//! The capability table, rule by rule: what the server makes of a filter against what Arrow makes of it over the whole table.
//!
//! Each case is a type and the rows of a table. Every value that the scan yields, and some that the table does not hold, goes through
//! every operator.

use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::{SortOptions, sort};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use headwater_connectors::conformance::local;
use headwater_source::{CompareOp, Expr, Like, ScalarValue, ScanRequest, SortKey, Source, Support, TableDef};
use mysql_async::prelude::Queryable;

use super::{Database, column, ids, read, table};

const V: usize = 1;

struct Case {
    sql_type: &'static str,
    rows: &'static [&'static str],
    more: Vec<ScalarValue>,
}

/// Offers a filter and, where something of it is pushed, compares the rows. Says what the offer was.
async fn check(source: &Arc<dyn Source>, table: &Arc<TableDef>, all: &RecordBatch, filter: &Expr) -> Support {
    let offer = source.capabilities().offer(filter, table);
    let Some(pushed) = offer.filter else { return Support::No };
    let right = ids(&local::filter(filter, all).unwrap());
    let mut request = ScanRequest::all(Arc::clone(table));
    request.filters = vec![pushed];
    let what = format!("{} {filter:?}", table.columns[V].remote_type);
    let came = ids(&read(source, request).await.unwrap_or_else(|error| panic!("{what}: {}", error.report())));
    match offer.support {
        Support::Exact => assert_eq!(came, right, "{what}"),
        Support::Superset => {
            assert!(right.iter().all(|id| came.contains(id)), "{what}: {came:?} lacks some of {right:?}")
        }
        Support::No => panic!("{what}: a filter that is not pushed has none"),
    }
    offer.support
}

fn filters(values: &[ScalarValue]) -> Vec<Expr> {
    use CompareOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let column = || Box::new(Expr::Column(V));
    let mut filters = vec![Expr::IsNull(column()), Expr::IsNotNull(column())];
    for value in values {
        for op in [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual] {
            filters.push(Expr::compare(op, Expr::Column(V), Expr::Literal(value.clone())));
        }
    }
    for negated in [false, true] {
        filters.push(Expr::InList { expr: column(), values: values.to_vec(), negated });
        filters.push(Expr::InList { expr: column(), values: values[..1].to_vec(), negated });
    }
    filters
}

async fn check_case(database: &mut Database, source: &Arc<dyn Source>, name: &str, case: Case) {
    database
        .run(&format!(
            "CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v {} NULL, KEY (v))",
            case.sql_type
        ))
        .await;
    for row in case.rows.iter().chain(&["NULL"]) {
        database.run(&format!("INSERT INTO {name} (v) VALUES ({row})")).await;
    }
    let described = table(source, name).await;
    let all = read(source, ScanRequest::all(Arc::clone(&described))).await.unwrap();
    let v = column(&all, "v");
    let mut values: Vec<ScalarValue> = (0..all.num_rows())
        .map(|row| ScalarValue::try_from_array(v, row).unwrap())
        .filter(|value| !value.is_null())
        .collect();
    values.extend(case.more);
    for filter in filters(&values) {
        check(source, &described, &all, &filter).await;
    }
    check_sort(source, &described, &all).await;
}

/// Where a sort is offered, the rows come in Arrow's order, and the first of them under a limit.
async fn check_sort(source: &Arc<dyn Source>, table: &Arc<TableDef>, all: &RecordBatch) {
    for (descending, nulls_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let key = SortKey { column: V, descending, nulls_first };
        if source.capabilities().offer_sort(&[key], table).is_err() {
            return;
        }
        let right = sort(column(all, "v"), Some(SortOptions { descending, nulls_first })).unwrap();
        for limit in [3, all.num_rows()] {
            let mut request = ScanRequest::all(Arc::clone(table));
            (request.sort, request.limit) = (vec![key], Some(limit as u64));
            let came = read(source, request).await.unwrap();
            assert_eq!(
                column(&came, "v").as_ref(),
                right.slice(0, limit).as_ref(),
                "{key:?} {}",
                table.columns[V].remote_type
            );
        }
    }
}

async fn check_cases(cases: Vec<Case>) {
    let mut database = Database::new().await;
    let source = database.source();
    for (index, case) in cases.into_iter().enumerate() {
        check_case(&mut database, &source, &format!("t{index}"), case).await;
    }
}

fn case(sql_type: &'static str, rows: &'static [&'static str], more: Vec<ScalarValue>) -> Case {
    Case { sql_type, rows, more }
}

#[tokio::test]
async fn integers_compare_and_sort_as_in_arrow() {
    check_cases(vec![
        case("TINYINT", &["-128", "-1", "0", "1", "127"], vec![]),
        case("BOOLEAN", &["0", "1", "2", "-1"], vec![]),
        case("SMALLINT UNSIGNED", &["0", "1", "65535"], vec![7_u16.into()]),
        case("MEDIUMINT", &["-8388608", "0", "8388607"], vec![i32::MIN.into(), i32::MAX.into()]),
        case("INT UNSIGNED", &["0", "2147483648", "4294967295"], vec![]),
        case(
            "BIGINT",
            &["-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807"],
            vec![9_007_199_254_740_992_i64.into()],
        ),
        case(
            "BIGINT UNSIGNED",
            &["0", "9223372036854775807", "9223372036854775808", "18446744073709551614", "18446744073709551615"],
            vec![],
        ),
        case("BIT(1)", &["0", "1"], vec![2_u64.into()]),
        case(
            "BIT(64)",
            &["0", "255", "256", "9223372036854775808", "18446744073709551615"],
            vec![48_u64.into(), 49_u64.into()],
        ),
        case(
            "YEAR",
            &["'0000'", "1901", "1970", "2000", "2005", "2155"],
            vec![5_i16.into(), 70_i16.into(), (-1_i16).into(), 9999_i16.into()],
        ),
    ])
    .await;
}

#[tokio::test]
async fn decimals_compare_by_all_their_digits() {
    check_cases(vec![
        case(
            "DECIMAL(10,2)",
            &["-0.01", "0", "0.01", "0.1", "99999999.99"],
            vec![ScalarValue::Decimal128(Some(-9_999_999_999), 10, 2)],
        ),
        case(
            "DECIMAL(38,10)",
            &["1234567890123456789012345678.0000000001", "1234567890123456789012345678.0000000002", "-1"],
            vec![],
        ),
        case(
            "DECIMAL(20,0) UNSIGNED",
            &["0", "9007199254740992", "9007199254740993"],
            vec![ScalarValue::Decimal128(Some(-1), 20, 0)],
        ),
        case(
            "DECIMAL(65,30)",
            &[
                "0.000000000000000000000000000001",
                "0.000000000000000000000000000002",
                "-99999999999999999999999999999999999.5",
            ],
            vec![],
        ),
    ])
    .await;
}

#[tokio::test]
async fn floats_lose_no_row() {
    check_cases(vec![
        case(
            "FLOAT",
            &["0.1", "0.3", "0", "16777216", "3.4e38", "1e-38", "33.1"],
            vec![ScalarValue::Float32(Some(0.2))],
        ),
        case("FLOAT(7,4)", &["999.00009", "0.1"], vec![]),
        case(
            "DOUBLE",
            &["0.1", "0.30000000000000004", "0", "1.7976931348623157e308", "2.2250738585072014e-308"],
            vec![ScalarValue::Float64(Some(0.3))],
        ),
    ])
    .await;
}

const WORDS: &[&str] = &[
    "''",
    "' '",
    "'a'",
    "'A'",
    "'á'",
    "'a '",
    "'a  '",
    "'ab'",
    "'a\\tb'",
    "'ß'",
    "'ss'",
    "'z'",
    "'Z'",
    "'é'",
    "'€'",
    "'\\\\'",
    "'%'",
    "'_'",
    "'say \"hi\"'",
    "'it\\'s'",
    "'?'",
    "'a\\0b'",
    "'0'",
    "'00'",
    "'1e0'",
    "'ﬀ'",
    "'😀'",
    "'😁'",
];

fn strangers() -> Vec<ScalarValue> {
    ["\u{fffd}", "ÿ", "日本", "\u{10ffff}", "\\'; --", "x\\", "İ", "ı", "\u{200b}a", "aa", "1"]
        .map(ScalarValue::from)
        .to_vec()
}

#[tokio::test]
async fn text_of_every_collation_and_character_set_compares_by_its_bytes() {
    check_cases(vec![
        case("VARCHAR(20)", WORDS, strangers()),
        case("VARCHAR(20) COLLATE utf8mb4_unicode_ci", WORDS, strangers()),
        case("VARCHAR(20) COLLATE utf8mb4_bin", WORDS, strangers()),
        case("VARCHAR(20) COLLATE utf8mb4_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) COLLATE utf8mb4_uca1400_ai_ci", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET ascii COLLATE ascii_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET utf16 COLLATE utf16_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET utf16le COLLATE utf16le_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET utf32 COLLATE utf32_general_ci", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET ucs2 COLLATE ucs2_nopad_bin", WORDS, strangers()),
        case("VARCHAR(20) CHARACTER SET cp932", WORDS, strangers()),
        case("CHAR(20)", WORDS, strangers()),
        case("CHAR(20) COLLATE utf8mb4_nopad_bin", WORDS, strangers()),
        case("TEXT COLLATE utf8mb4_nopad_bin, KEY (v(10)), x INT", WORDS, strangers()),
        case(
            "ENUM('a', 'B', 'b ', 'é', '0', '1', '2', 'it''s')",
            &["'a'", "'B'", "'é'", "'none'", "'0'", "'1'", "'2'", "1", "8"],
            strangers(),
        ),
        case("ENUM('a', 'A') CHARACTER SET latin1 COLLATE latin1_bin", &["'a'", "'A'", "'none'"], strangers()),
        case(
            "ENUM('', 'a', 'B', 'b ', 'é', '0', '1', '2')",
            &["'a'", "'B'", "'é'", "'none'", "'0'", "'1'", "'2'", "1"],
            strangers(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn constants_of_views_compare_under_their_own_collation() {
    let mut database = Database::new().await;
    let source = database.source();
    for (index, collation) in
        ["utf8mb4_nopad_bin", "utf8mb4_bin", "utf8mb4_unicode_ci", "latin1_swedish_ci"].iter().enumerate()
    {
        let charset = collation.split('_').next().unwrap();
        database.run(&format!("SET NAMES {charset} COLLATE {collation}")).await;
        database.run(&format!("CREATE VIEW v{index} AS SELECT 1 AS id, 'abc' AS v, CURRENT_USER() AS u")).await;
        database.run("SET NAMES utf8mb4").await;
        let described = table(&source, &format!("v{index}")).await;
        assert_eq!(described.columns[V].collation.as_deref(), Some(*collation));
        let all = read(&source, ScanRequest::all(Arc::clone(&described))).await.unwrap();
        for filter in filters(&["abc", "ABC", "abc ", "abd", "日本"].map(ScalarValue::from)) {
            check(&source, &described, &all, &filter).await;
        }
    }
}

#[tokio::test]
async fn like_matches_as_in_arrow_and_knows_one_escape_character() {
    let mut database = Database::new().await;
    let source = database.source();
    let types = [
        "VARCHAR(20)",
        "VARCHAR(20) COLLATE utf8mb4_nopad_bin",
        "VARCHAR(20) COLLATE utf8mb4_unicode_ci",
        "VARCHAR(20) CHARACTER SET latin1",
        "VARCHAR(20) CHARACTER SET utf16",
        "CHAR(20)",
    ];
    for (index, sql_type) in types.iter().enumerate() {
        let name = format!("t{index}");
        database
            .run(&format!("CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v {sql_type} NULL)"))
            .await;
        for word in WORDS.iter().chain(&["NULL", "'a\\nb'", "'a%b'", "'a_b'", "'a\\\\b'"]) {
            database.run(&format!("INSERT INTO {name} (v) VALUES ({word})")).await;
        }
        let described = table(&source, &name).await;
        let all = read(&source, ScanRequest::all(Arc::clone(&described))).await.unwrap();
        let patterns = [
            "%", "_", "a%", "%b", "a_b", "a\\%b", "a\\_b", "a\\\\b", "%\\\\%", "", " ", "A%", "%ß%", "__", "😀", "%é%",
            "a\\b", "%'%", "%\"%", "?",
        ];
        for pattern in patterns {
            for negated in [false, true] {
                let expr = Box::new(Expr::Column(V));
                let filter = Expr::Like(Like { expr, pattern: pattern.to_owned(), negated, case_insensitive: false });
                let support = check(&source, &described, &all, &filter).await;
                assert_eq!(support, Support::Exact, "{sql_type} {pattern}");
            }
        }
    }
}

#[tokio::test]
async fn binary_strings_and_uuids_compare_by_their_bytes() {
    let bytes = |bytes: &[u8]| ScalarValue::Binary(Some(bytes.to_vec()));
    let uuid = |text: &str| ScalarValue::from(text);
    check_cases(vec![
        case(
            "VARBINARY(20)",
            &["''", "x'00'", "x'0000'", "'a'", "'a '", "'A'", "x'ff'", "x'f09f9880'", "x'27'", "x'5c'"],
            vec![bytes(b"\xff\xfe\x00'"), bytes(b"\\"), bytes(b"\xc3")],
        ),
        case("BINARY(3)", &["'a'", "'a  '", "x'ff'", "x'000000'"], vec![bytes(b"a"), bytes(b"a\0\0"), bytes(b"")]),
        case(
            "UUID",
            &[
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-0000-1000-8000-000000000001'",
                "'00112233-4455-6677-8899-aabbccddeeff'",
            ],
            vec![uuid("11111111-0000-1000-8000-000000000001")],
        ),
        case("SET('a','b')", &["'a'", "'a,b'"], vec![]),
        case("INET6", &["'::1'"], vec![]),
    ])
    .await;
}

#[tokio::test]
async fn dates_and_times_compare_as_they_are_read() {
    let date = |days| ScalarValue::Date32(Some(days));
    let moment = |us| ScalarValue::TimestampMicrosecond(Some(us), None);
    let instant = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
    let time = |us| ScalarValue::DurationMicrosecond(Some(us));
    check_cases(vec![
        case(
            "DATE",
            &[
                "'0000-00-00'",
                "'2020-00-15'",
                "'2020-01-00'",
                "'0001-01-01'",
                "'1969-12-31'",
                "'1970-01-01'",
                "'9999-12-31'",
            ],
            vec![date(i32::MIN), date(i32::MAX), date(-719_528), date(7)],
        ),
        case(
            "DATETIME",
            &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'1969-12-31 23:59:59'", "'9999-12-31 23:59:59'"],
            vec![moment(i64::MIN), moment(i64::MAX), moment(-1), moment(-500_000)],
        ),
        case(
            "DATETIME(6)",
            &["'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'", "'2020-02-29 00:00:00.5'"],
            vec![moment(0), moment(i64::MAX)],
        ),
        case(
            "TIMESTAMP(6)",
            &[
                "'0000-00-00 00:00:00'",
                "'1970-01-01 00:00:01'",
                "'2038-01-19 03:14:07.999999'",
                "'2021-03-28 02:30:00'",
            ],
            vec![instant(i64::MIN), instant(i64::MAX), instant(0), instant(1)],
        ),
        case(
            "TIME",
            &["'-838:59:59'", "'-00:00:01'", "'0'", "'23:59:59'", "'24:00:00'", "'838:59:59'"],
            vec![time(i64::MIN), time(i64::MAX), time(500_000), time(-500_000)],
        ),
        case("TIME(6)", &["'-00:00:00.000001'", "'0'", "'00:00:00.000001'", "'100:00:00.5'"], vec![time(1_000_000)]),
    ])
    .await;
}

#[tokio::test]
async fn equality_on_folded_text_and_ranges_on_numbers_use_the_index() {
    let mut database = Database::new().await;
    let source = database.source();
    let cases: [(&str, CompareOp, ScalarValue); 7] = [
        ("VARCHAR(20)", CompareOp::Equal, "x7".into()),
        ("VARCHAR(20) CHARACTER SET latin1", CompareOp::Equal, "x7".into()),
        ("VARCHAR(20) COLLATE utf8mb4_nopad_bin", CompareOp::Less, "x1".into()),
        ("BIGINT UNSIGNED", CompareOp::Greater, 990_u64.into()),
        ("DECIMAL(10,2)", CompareOp::Equal, ScalarValue::Decimal128(Some(700), 10, 2)),
        ("DATE", CompareOp::Equal, ScalarValue::Date32(Some(7))),
        ("VARBINARY(20)", CompareOp::Equal, ScalarValue::Binary(Some(b"x7".to_vec()))),
    ];
    for (index, (sql_type, op, value)) in cases.into_iter().enumerate() {
        let name = format!("t{index}");
        database.run(&format!("CREATE TABLE {name} (id INT NOT NULL PRIMARY KEY, v {sql_type}, KEY (v))")).await;
        let number = matches!(value, ScalarValue::UInt64(_) | ScalarValue::Decimal128(..));
        let values = match &value {
            ScalarValue::Date32(_) => "'1970-01-01' + INTERVAL seq DAY",
            _ if number => "seq",
            _ => "CONCAT('x', seq)",
        };
        database.run(&format!("INSERT INTO {name} SELECT seq, {values} FROM seq_1_to_1000")).await;
        database.run(&format!("ANALYZE TABLE {name}")).await;
        let mut request = ScanRequest::all(table(&source, &name).await);
        request.filters = vec![Expr::compare(op, Expr::Column(V), Expr::Literal(value))];
        let statement = source.prepare(request).await.unwrap().statement().text.clone();
        // The plan does not depend on the value but for its selectivity: a text stands in for every type.
        let literal = match sql_type {
            "BIGINT UNSIGNED" => "990",
            "DECIMAL(10,2)" => "'7.00'",
            "DATE" => "TIMESTAMP'1970-01-08 00:00:00'",
            "VARCHAR(20) COLLATE utf8mb4_nopad_bin" => "'x1'",
            _ => "'x7'",
        };
        let plan: mysql_async::Row = database.ask(&format!("EXPLAIN {}", statement.replace('?', literal))).await;
        let key: Option<String> = plan.get("key").unwrap();
        assert_eq!(key.as_deref(), Some("v"), "{statement}");
    }
}

#[tokio::test]
async fn long_lists_of_keys_find_their_rows_by_the_index() {
    let mut database = Database::new().await;
    let source = database.source();
    let types: [(&str, &[&str], DataType); 5] = [
        ("TINYINT", &["-128", "127"], DataType::Int8),
        ("SMALLINT UNSIGNED", &["0", "65535"], DataType::UInt16),
        ("INT", &["-2147483648", "2147483647"], DataType::Int32),
        ("BIGINT", &["-9223372036854775808", "9007199254740993", "9223372036854775807"], DataType::Int64),
        ("BIGINT UNSIGNED", &["9007199254740993", "9223372036854775808", "18446744073709551615"], DataType::UInt64),
    ];
    for (index, (sql_type, ends, data_type)) in types.into_iter().enumerate() {
        let name = format!("t{index}");
        database
            .run(&format!("CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v {sql_type}, KEY (v))"))
            .await;
        for value in ends {
            database.run(&format!("INSERT INTO {name} (v) VALUES ({value})")).await;
        }
        // Each value twice, and so many rows that an index pays.
        database.run(&format!("INSERT INTO {name} (v) SELECT seq % 120 FROM seq_1_to_9000")).await;
        database.run(&format!("INSERT INTO {name} (v) VALUES (NULL)")).await;
        database.run(&format!("ANALYZE TABLE {name}")).await;
        let described = table(&source, &name).await;
        let all = read(&source, ScanRequest::all(Arc::clone(&described))).await.unwrap();
        let literal = |text: &str| ScalarValue::from(text).cast_to(&data_type).unwrap();
        // Some that the table has, the ends of the type, twice the same, and many that it lacks.
        let mut values: Vec<ScalarValue> = ends.iter().map(|text| literal(text)).collect();
        values.extend(["3", "3", "60", "119"].map(literal));
        values.extend((120..127).map(|number| literal(&number.to_string())));
        let padding: Vec<ScalarValue> = values.iter().cycle().take(100).cloned().collect();
        let of = |negated| Expr::InList { expr: Box::new(Expr::Column(V)), values: padding.clone(), negated };
        let list = of(false);
        assert_eq!(check(&source, &described, &all, &list).await, Support::Exact);
        let above = Expr::compare(CompareOp::Greater, Expr::Column(0), Expr::Literal(500_i32.into()));
        check(&source, &described, &all, &of(true)).await;
        let mut request = ScanRequest::all(Arc::clone(&described));
        request.filters = vec![list, above];
        let statement = source.prepare(request).await.unwrap().statement().clone();
        assert_eq!(statement.binds.len(), 2, "{statement}");
        let text = statement.text.replacen('?', "'[3,60]'", 1).replacen('?', "500", 1);
        let mut keys = Vec::new();
        for row in database.admin.query::<mysql_async::Row, _>(format!("EXPLAIN {text}")).await.unwrap() {
            keys.push(row.get::<Option<String>, _>("key").unwrap());
        }
        assert!(keys.contains(&Some("v".to_owned())), "{text}: {keys:?}");
    }
}
