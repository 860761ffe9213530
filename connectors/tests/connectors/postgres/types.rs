//! Every row of the type table: values at both ends, NULL, and what is refused.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int16Type, Int32Type, IntervalMonthDayNano, IntervalUnit, TimeUnit,
    TimestampMicrosecondType, i256,
};
use headwater_source::{CompareOp, Error, Expr, ScalarValue, ScanRequest, ValueClass};

use super::{Database, column, failure, read, table, try_read};

/// Writes literals and NULL into a column of the type, and reads them by COPY and, with a bind, by the extended protocol.
async fn values_of(database: &Database, sql_type: &str, literals: &[&str]) -> (ArrayRef, ValueClass) {
    let rows: Vec<String> = literals.iter().enumerate().map(|(n, literal)| format!("({n}, {literal})")).collect();
    let rows = rows.join(", ");
    let end = literals.len();
    database
        .run(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (n int, v {sql_type}); INSERT INTO t VALUES {rows}, ({end}, NULL)"
        ))
        .await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    let class = request.table.columns[1].class;
    let copied = column(&read(&source, request.clone()).await, "v");
    request.filters =
        vec![Expr::compare(CompareOp::GreaterOrEqual, Expr::Column(0), Expr::Literal(ScalarValue::from(0_i32)))];
    let bound = column(&read(&source, request).await, "v");
    assert_eq!(&copied, &bound, "{sql_type}: both protocols read the same");
    (copied, class)
}

async fn check(
    database: &Database,
    sql_type: &str,
    literals: &[&str],
    class: ValueClass,
    expected: impl Array + 'static,
) {
    let (values, actual) = values_of(database, sql_type, literals).await;
    assert_eq!(values.data_type(), expected.data_type(), "{sql_type}");
    assert_eq!(values.as_ref(), &expected as &dyn Array, "{sql_type}");
    assert_eq!(actual, class, "{sql_type}");
}

async fn check_text(database: &Database, sql_type: &str, literals: &[&str], class: ValueClass, expected: &[&str]) {
    let expected: StringArray = expected.iter().map(|text| Some(*text)).chain([None]).collect();
    check(database, sql_type, literals, class, expected).await;
}

/// The reason for which a value is refused.
async fn refused(database: &Database, sql_type: &str, literal: &str) -> String {
    database
        .run(&format!("DROP TABLE IF EXISTS bad; CREATE TABLE bad (v {sql_type}); INSERT INTO bad VALUES ({literal})"))
        .await;
    let source = database.source();
    match failure(try_read(&source, ScanRequest::all(table(&source, "bad").await)).await) {
        Error::Value { column, table, reason, .. } if (column.as_str(), table.as_str()) == ("v", "public.bad") => {
            reason
        }
        other => panic!("{sql_type} {literal}: {}", other.report()),
    }
}

#[tokio::test]
async fn integers_and_booleans_keep_both_ends() {
    let database = Database::new().await;
    let bools = BooleanArray::from(vec![Some(true), Some(false), None]);
    check(&database, "boolean", &["true", "false"], ValueClass::Boolean, bools).await;
    let int2 = Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]);
    check(&database, "smallint", &["-32768", "32767"], ValueClass::Integer, int2).await;
    let int4 = Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]);
    check(&database, "integer", &["-2147483648", "2147483647"], ValueClass::Integer, int4).await;
    let int8 = Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]);
    check(&database, "bigint", &["-9223372036854775808", "9223372036854775807"], ValueClass::Integer, int8).await;
    let oid = UInt32Array::from(vec![Some(0), Some(u32::MAX), None]);
    check(&database, "oid", &["0", "4294967295"], ValueClass::Integer, oid).await;
}

#[tokio::test]
async fn floats_keep_their_bits_and_have_one_nan() {
    let database = Database::new().await;
    let literals = ["'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "0.1", "'4.9e-324'", "'1.7976931348623157e308'"];
    let (values, class) = values_of(&database, "double precision", &literals).await;
    assert_eq!(class, ValueClass::Float);
    let bits: Vec<Option<u64>> =
        values.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect();
    let expected = [-0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1, 5e-324, f64::MAX];
    assert_eq!(bits, expected.iter().map(|value: &f64| Some(value.to_bits())).chain([None]).collect::<Vec<_>>());
    let float4 = Float32Array::from(vec![Some(-0.0), Some(f32::NAN), Some(f32::MAX), Some(1e-45), None]);
    check(&database, "real", &["'-0'", "'NaN'", "'3.4028235e38'", "'1e-45'"], ValueClass::Float, float4).await;
}

#[tokio::test]
async fn numerics_keep_every_digit() {
    let database = Database::new().await;
    let d128 = |values: Vec<Option<i128>>, precision, scale| {
        Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()
    };
    let literals = ["-9999999999.99", "0.01", "0", "10000", "1234567890.12"];
    let values = vec![Some(-999_999_999_999), Some(1), Some(0), Some(1_000_000), Some(123_456_789_012), None];
    check(&database, "numeric(12,2)", &literals, ValueClass::Decimal, d128(values, 12, 2)).await;
    let nines = "9".repeat(38);
    let most: i128 = nines.parse().unwrap();
    check(
        &database,
        "numeric(38,0)",
        &[&nines, &format!("-{nines}")],
        ValueClass::Decimal,
        d128(vec![Some(most), Some(-most), None], 38, 0),
    )
    .await;
    let point = format!("{}.9", "9".repeat(37));
    check(
        &database,
        "numeric(38,1)",
        &[&point, "0.1"],
        ValueClass::Decimal,
        d128(vec![Some(most), Some(1), None], 38, 1),
    )
    .await;
    let fraction = format!("0.{nines}");
    check(
        &database,
        "numeric(38,38)",
        &[&fraction, "1e-38"],
        ValueClass::Decimal,
        d128(vec![Some(most), Some(1), None], 38, 38),
    )
    .await;
    check(
        &database,
        "numeric(3,-2)",
        &["99900", "-100"],
        ValueClass::Decimal,
        d128(vec![Some(99900), Some(-100), None], 5, 0),
    )
    .await;
    check(
        &database,
        "numeric(3,5)",
        &["0.00999", "-0.00001"],
        ValueClass::Decimal,
        d128(vec![Some(999), Some(-1), None], 5, 5),
    )
    .await;
    let nines = "9".repeat(76);
    let most = i256::from_string(&nines).unwrap();
    let d256 = Decimal256Array::from(vec![Some(most), Some(-most), None]).with_precision_and_scale(76, 0).unwrap();
    check(&database, "numeric(76,0)", &[&nines, &format!("-{nines}")], ValueClass::Decimal, d256).await;
    let long = format!("{nines}{nines}.{nines}");
    let printed = [long.as_str(), "NaN", "Infinity", "-Infinity", "1.50"];
    check_text(
        &database,
        "numeric",
        &[&long, "'NaN'", "'Infinity'", "'-Infinity'", "1.50"],
        ValueClass::Opaque,
        &printed,
    )
    .await;
    check_text(&database, "numeric(100,2)", &["1", "'NaN'"], ValueClass::Opaque, &["1.00", "NaN"]).await;
    assert!(refused(&database, "numeric(12,2)", "'NaN'").await.contains("NaN"));
}

#[tokio::test]
async fn loose_numerics_are_read_as_the_decimal_that_the_manifest_says() {
    let database = Database::new().await;
    database
        .run(
            "CREATE DOMAIN amount AS numeric CHECK (VALUE > -1000);
             CREATE TABLE t (n int, free numeric, held amount, wide numeric(100,50), list numeric[], fixed numeric(12,2));
             INSERT INTO t VALUES (1, 1.5, 2.25, 0.125, '{1.50,NULL,-3}', 7), (2, 99999999999999999999999999999.999999999, 0, -1, '{}', 0.01),
             (3, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let source = database.source_reading("decimal(38, 9)");
    let table = table(&source, "t").await;
    let found = read(&source, ScanRequest::all(Arc::clone(&table))).await;
    let decimal = |values: Vec<Option<i128>>| {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 9).unwrap()) as ArrayRef
    };
    let most: i128 = "9".repeat(38).parse().unwrap();
    assert_eq!(&column(&found, "free"), &decimal(vec![Some(1_500_000_000), Some(most), None]));
    assert_eq!(&column(&found, "held"), &decimal(vec![Some(2_250_000_000), Some(0), None]));
    assert_eq!(&column(&found, "wide"), &decimal(vec![Some(125_000_000), Some(-1_000_000_000), None]));
    assert_eq!(
        column(&found, "list").as_list::<i32>().value(0).as_ref(),
        &decimal(vec![Some(1_500_000_000), None, Some(-3_000_000_000)]) as &dyn Array
    );
    assert_eq!(column(&found, "fixed").data_type(), &DataType::Decimal128(12, 2));
    assert_eq!(table.columns[1].class, ValueClass::Decimal);
    let wider = database.source_reading("decimal(76,40)");
    let found = read(&wider, ScanRequest::all(super::table(&wider, "t").await)).await;
    assert_eq!(column(&found, "wide").data_type(), &DataType::Decimal256(76, 40));
}

#[tokio::test]
async fn a_loose_numeric_that_its_decimal_does_not_hold_is_refused_by_name() {
    let database = Database::new().await;
    let source = database.source_reading("decimal(10,2)");
    for (literal, reason) in [
        ("1.005", "behind the point"),
        ("100000000", "more than 10 digits"),
        ("1e40", "more digits"),
        ("'NaN'", "NaN"),
        ("'Infinity'", "infinity"),
    ] {
        database
            .run(&format!("DROP TABLE IF EXISTS bad; CREATE TABLE bad (v numeric); INSERT INTO bad VALUES ({literal})"))
            .await;
        match failure(try_read(&source, ScanRequest::all(table(&source, "bad").await)).await) {
            Error::Value { column, table, reason: found, .. } => {
                assert_eq!((column.as_str(), table.as_str()), ("v", "public.bad"));
                assert!(found.contains(reason), "{literal}: {found}");
            }
            other => panic!("{literal}: {}", other.report()),
        }
    }
    for numeric in ["decimal", "decimal(77,0)", "float", ""] {
        let error = super::open(&database.url(), &[("numeric", super::text(numeric))]).unwrap_err().report();
        assert!(error.contains("\"numeric\"") && error.contains("decimal(38,9)"), "{numeric}: {error}");
    }
}

#[tokio::test]
async fn text_is_read_as_stored_and_char_without_its_padding() {
    let database = Database::new().await;
    let literals = ["''", "'  a '", "'O''Brien \\ \"x\"'", "'日本 𝄞 é e\u{301}'"];
    let printed = ["", "  a ", "O'Brien \\ \"x\"", "日本 𝄞 é e\u{301}"];
    for sql_type in ["text", "varchar", "varchar(40)", "name", "text COLLATE \"en-x-icu\""] {
        check_text(&database, sql_type, &literals, ValueClass::Text, &printed).await;
    }
    check_text(&database, "char(8)", &["'ab'", "' a b   '", "''"], ValueClass::TextPadded, &["ab", " a b", ""]).await;
    check_text(&database, "bpchar", &["'ab  '"], ValueClass::TextPadded, &["ab"]).await;
    check_text(&database, "\"char\"", &["'x'", "''"], ValueClass::Opaque, &["x", ""]).await;
    database.run("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
    check_text(&database, "text COLLATE folded", &["'a'", "'A'"], ValueClass::TextFolded, &["a", "A"]).await;
    let bytes = BinaryArray::from_opt_vec(vec![Some(b""), Some(&[0, 255, 39]), None]);
    check(&database, "bytea", &["''", "'\\x00ff27'"], ValueClass::Bytes, bytes).await;
}

#[tokio::test]
async fn dates_and_times_keep_their_whole_range() {
    let database = Database::new().await;
    let dates = ["'4714-11-24 BC'", "'5874897-12-31'", "'1970-01-01'", "'0001-01-01'", "'infinity'", "'-infinity'"];
    let days = [Some(-2_440_588), Some(2_145_042_905), Some(0), Some(-719_162), Some(i32::MAX), Some(i32::MIN), None];
    check(&database, "date", &dates, ValueClass::Date, PrimitiveArray::<Date32Type>::from_iter(days)).await;
    let times = Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), Some(86_400_000_000), None]);
    check(&database, "time", &["'00:00'", "'23:59:59.999999'", "'24:00'"], ValueClass::Time, times).await;
    let stamps = [
        "'4714-11-24 00:00:00 BC'",
        "'1000-01-01'",
        "'1969-12-31 23:59:59.999999'",
        "'3000-01-01'",
        "'294247-01-10 04:00:54.775806'",
        "'infinity'",
        "'-infinity'",
    ];
    let micros = [
        Some(-210_866_803_200_000_000),
        Some(-30_610_224_000_000_000),
        Some(-1),
        Some(32_503_680_000_000_000),
        Some(i64::MAX - 1),
        Some(i64::MAX),
        Some(i64::MIN),
        None,
    ];
    let expected = PrimitiveArray::<TimestampMicrosecondType>::from_iter(micros);
    check(&database, "timestamp", &stamps, ValueClass::Timestamp, expected.clone()).await;
    database.run("SET TimeZone = 'UTC'").await;
    check(&database, "timestamptz", &stamps, ValueClass::TimestampTz, expected.with_timezone("UTC")).await;
    database.run("SET TimeZone = 'Asia/Tokyo'").await;
    let zoned = TimestampMicrosecondArray::from(vec![Some(-9 * 3_600_000_000), None]).with_timezone("UTC");
    check(&database, "timestamptz", &["'1970-01-01'"], ValueClass::TimestampTz, zoned).await;
    for literal in ["'294247-01-10 04:00:54.775807'", "'294276-12-31 23:59:59.999999'"] {
        assert!(refused(&database, "timestamp", literal).await.contains("294247-01-10"));
    }
}

#[tokio::test]
async fn intervals_keep_months_days_and_nanoseconds_apart() {
    let database = Database::new().await;
    let literals = ["'1 year 2 months -3 days 04:05:06.000007'", "'-178000000 years'", "'9223372036 seconds'"];
    let expected = IntervalMonthDayNanoArray::from(vec![
        Some(IntervalMonthDayNano::new(14, -3, 14_706_000_007_000)),
        Some(IntervalMonthDayNano::new(-2_136_000_000, 0, 0)),
        Some(IntervalMonthDayNano::new(0, 0, 9_223_372_036_000_000_000)),
        None,
    ]);
    check(&database, "interval", &literals, ValueClass::Opaque, expected).await;
    assert!(refused(&database, "interval", "'2562048 hours'").await.contains("292 years"));
}

#[tokio::test]
async fn uuid_json_and_enum_are_text() {
    let database = Database::new().await;
    let uuids = ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"];
    let printed = ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"];
    check_text(&database, "uuid", &uuids, ValueClass::Uuid, &printed).await;
    check_text(&database, "json", &["'{\"b\" : 1}'", "'null'"], ValueClass::Opaque, &["{\"b\" : 1}", "null"]).await;
    check_text(&database, "jsonb", &["'{\"b\" : 1}'"], ValueClass::Opaque, &["{\"b\": 1}"]).await;
    database.run("CREATE TYPE mood AS ENUM ('sad', 'O''k \"x\"')").await;
    check_text(&database, "mood", &["'sad'", "'O''k \"x\"'"], ValueClass::Label, &["sad", "O'k \"x\""]).await;
}

#[tokio::test]
async fn unmapped_types_are_text_as_printed() {
    let database = Database::new().await;
    database.run("CREATE TYPE pair AS (a int, b text); CREATE TYPE floats AS RANGE (subtype = float8)").await;
    for (sql_type, literal, printed) in [
        ("timetz", "'04:05:06.5+02'", "04:05:06.5+02"),
        ("bit(3)", "B'101'", "101"),
        ("varbit", "B'1'", "1"),
        ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
        ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
        ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
        ("xml", "'<a/>'", "<a/>"),
        ("int4range", "'[1,3]'", "[1,4)"),
        ("floats", "'[1,2)'", "[1,2)"),
        ("int4multirange", "'{[1,2)}'", "{[1,2)}"),
        ("pair", "(1, 'x y')", "(1,\"x y\")"),
        ("point", "'(1,2)'", "(1,2)"),
        ("tsvector", "'a b'", "'a' 'b'"),
        ("pg_lsn", "'0/10'", "0/10"),
        ("xid", "'7'", "7"),
        ("regclass", "'pg_class'", "pg_class"),
        ("int2vector", "'1 2'", "1 2"),
        ("inet[]", "'{10.0.0.1,NULL}'", "{10.0.0.1,NULL}"),
        ("pair[]", "ARRAY[(1,'x')::pair]", "{\"(1,x)\"}"),
    ] {
        check_text(&database, sql_type, &[literal], ValueClass::Opaque, &[printed]).await;
    }
    // The currency sign is the server's.
    let (money, class) = values_of(&database, "money", &["12.5::money"]).await;
    assert!(money.as_string::<i32>().value(0).contains("12.50"));
    assert_eq!(class, ValueClass::Opaque);
}

#[tokio::test]
async fn arrays_of_one_dimension_are_lists() {
    let database = Database::new().await;
    let ints = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None, Some(i32::MIN)]),
        Some(vec![]),
        Some(vec![Some(5)]),
        None,
    ]);
    check(&database, "int[]", &["'{1,NULL,-2147483648}'", "'{}'", "'[7:7]={5}'"], ValueClass::Opaque, ints).await;
    let small = ListArray::from_iter_primitive::<Int16Type, _, _>(vec![Some(vec![Some(1)]), None]);
    database.run("CREATE DOMAIN small AS smallint CHECK (VALUE > 0)").await;
    check(&database, "small[]", &["'{1}'"], ValueClass::Opaque, small).await;
    database.run("CREATE TYPE mood AS ENUM ('sad', 'ok')").await;
    for (sql_type, literal, elements) in [
        ("text[]", "ARRAY['a,b', NULL, '']", vec![Some("a,b"), None, Some("")]),
        ("varchar(9)[]", "'{x}'", vec![Some("x")]),
        ("char(3)[]", "ARRAY['x']::char(3)[]", vec![Some("x")]),
        ("mood[]", "'{sad,NULL}'", vec![Some("sad"), None]),
        ("uuid[]", "'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'", vec![Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")]),
        ("jsonb[]", "ARRAY['{\"a\":1}']::jsonb[]", vec![Some("{\"a\": 1}")]),
        ("numeric[]", "'{NaN,1.50}'", vec![Some("NaN"), Some("1.50")]),
    ] {
        let mut expected = ListBuilder::new(StringBuilder::new());
        expected.append_value(elements);
        expected.append_null();
        check(&database, sql_type, &[literal], ValueClass::Opaque, expected.finish()).await;
    }
    for (sql_type, literal, element) in [
        ("boolean[]", "'{t}'", DataType::Boolean),
        ("bigint[]", "'{1}'", DataType::Int64),
        ("oid[]", "'{1}'", DataType::UInt32),
        ("real[]", "'{1}'", DataType::Float32),
        ("float8[]", "'{NaN}'", DataType::Float64),
        ("numeric(12,2)[]", "'{1.25}'", DataType::Decimal128(12, 2)),
        ("numeric(50,2)[]", "'{1.25}'", DataType::Decimal256(50, 2)),
        ("bytea[]", "ARRAY['\\x00'::bytea]", DataType::Binary),
        ("date[]", "'{infinity}'", DataType::Date32),
        ("time[]", "'{12:00}'", DataType::Time64(TimeUnit::Microsecond)),
        ("timestamp[]", "'{infinity}'", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("timestamptz[]", "'{infinity}'", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("interval[]", "'{1 day}'", DataType::Interval(IntervalUnit::MonthDayNano)),
    ] {
        let (values, _) = values_of(&database, sql_type, &[literal]).await;
        let list = values.as_list::<i32>();
        assert_eq!((list.value_type(), list.value(0).len(), list.is_null(1)), (element, 1, true), "{sql_type}");
    }
    assert!(refused(&database, "int[]", "'{{1,2},{3,4}}'").await.contains("2 dimensions"));
}

#[tokio::test]
async fn domains_are_read_as_their_base_type() {
    let database = Database::new().await;
    database.run("CREATE DOMAIN price AS numeric(12,2) CHECK (VALUE >= 0); CREATE DOMAIN net AS price; CREATE DOMAIN tags AS text[]").await;
    let expected = Decimal128Array::from(vec![Some(150), None]).with_precision_and_scale(12, 2).unwrap();
    check(&database, "net", &["1.5"], ValueClass::Decimal, expected).await;
    let mut expected = ListBuilder::new(StringBuilder::new());
    expected.append_value([Some("a")]);
    expected.append_null();
    check(&database, "tags", &["'{a}'"], ValueClass::Opaque, expected.finish()).await;
}

#[tokio::test]
async fn citext_is_folded_text() {
    let database = Database::new().await;
    database.run("CREATE EXTENSION citext").await;
    check_text(&database, "citext", &["'Ab'"], ValueClass::TextFolded, &["Ab"]).await;
}

#[tokio::test]
async fn database_of_another_encoding_yields_utf8_and_compares_locally() {
    let database = Database::with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    check_text(&database, "text", &["'é'", "'ÿ'"], ValueClass::Opaque, &["é", "ÿ"]).await;
    let ascii = Database::with("ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").await;
    ascii.run("CREATE TABLE t AS SELECT convert_from('\\xff', 'SQL_ASCII') AS v").await;
    let source = ascii.source();
    let error = failure(try_read(&source, ScanRequest::all(table(&source, "t").await)).await);
    assert!(matches!(&error, Error::Remote { code: Some(code), .. } if code == "22021"), "{}", error.report());
}
