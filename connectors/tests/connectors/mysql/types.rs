//! The type table, row by row: both ends of each type's range, what is odd about it, and NULL.

use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use headwater_source::{Error, ScanRequest, ValueClass};

use super::{Database, column, read, read_all, table};

/// A type, how it is read, and literals with the text that Arrow prints for them.
type Case = (&'static str, &'static str, ValueClass, &'static [(&'static str, &'static str)]);

async fn check(cases: &[Case]) {
    let mut database = Database::new().await;
    let source = database.source();
    for (index, (sql_type, arrow_type, class, values)) in cases.iter().enumerate() {
        let name = format!("t{index}");
        database
            .run(&format!("CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v {sql_type} NULL)"))
            .await;
        for (literal, _) in *values {
            database.run(&format!("INSERT INTO {name} (v) VALUES ({literal})")).await;
        }
        database.run(&format!("INSERT INTO {name} (v) VALUES (NULL)")).await;
        let described = table(&source, &name).await;
        let v = &described.columns[1];
        assert_eq!((v.data_type.to_string().as_str(), v.class), (*arrow_type, *class), "{sql_type}");
        let batch = read_all(&source, &name).await;
        let found = column(&batch, "v");
        for (row, (literal, expected)) in values.iter().enumerate() {
            let printed = array_value_to_string(found, row).unwrap();
            assert_eq!(
                (found.is_null(row), printed.as_str()),
                (*expected == "NULL", null_as_empty(expected)),
                "{sql_type} {literal}"
            );
        }
        assert!(found.is_null(values.len()), "{sql_type} NULL");
    }
}

fn null_as_empty(expected: &str) -> &str {
    if expected == "NULL" { "" } else { expected }
}

#[tokio::test]
async fn integers_of_every_width_keep_both_ends() {
    use ValueClass::Integer;
    check(&[
        ("TINYINT", "Int8", Integer, &[("-128", "-128"), ("127", "127")]),
        ("TINYINT UNSIGNED", "UInt8", Integer, &[("0", "0"), ("255", "255")]),
        ("BOOLEAN", "Int8", Integer, &[("FALSE", "0"), ("TRUE", "1"), ("-128", "-128"), ("127", "127")]),
        ("SMALLINT", "Int16", Integer, &[("-32768", "-32768"), ("32767", "32767")]),
        ("SMALLINT UNSIGNED", "UInt16", Integer, &[("65535", "65535")]),
        ("MEDIUMINT", "Int32", Integer, &[("-8388608", "-8388608"), ("8388607", "8388607")]),
        ("MEDIUMINT UNSIGNED", "UInt32", Integer, &[("16777215", "16777215")]),
        ("INT", "Int32", Integer, &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
        ("INT(5) UNSIGNED ZEROFILL", "UInt32", Integer, &[("7", "7"), ("4294967295", "4294967295")]),
        (
            "BIGINT",
            "Int64",
            Integer,
            &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")],
        ),
        (
            "BIGINT UNSIGNED",
            "UInt64",
            Integer,
            &[
                ("0", "0"),
                ("9223372036854775808", "9223372036854775808"),
                ("18446744073709551615", "18446744073709551615"),
            ],
        ),
        ("BIT(1)", "UInt64", Integer, &[("b'0'", "0"), ("b'1'", "1")]),
        ("BIT(9)", "UInt64", Integer, &[("b'100000001'", "257")]),
        ("BIT(64)", "UInt64", Integer, &[("0", "0"), ("18446744073709551615", "18446744073709551615")]),
        ("YEAR", "Int16", Integer, &[("'0000'", "0"), ("1901", "1901"), ("2155", "2155")]),
    ])
    .await;
}

#[tokio::test]
async fn decimals_keep_every_digit() {
    use ValueClass::Decimal;
    const NINES: &str = "99999999999999999999999999999999999999999999999999999999999999999";
    check(&[
        (
            "DECIMAL(10,2)",
            "Decimal128(10, 2)",
            Decimal,
            &[("-99999999.99", "-99999999.99"), ("0.01", "0.01"), ("-0.01", "-0.01"), ("0", "0.00")],
        ),
        ("DECIMAL(10,2) UNSIGNED ZEROFILL", "Decimal128(10, 2)", Decimal, &[("1.5", "1.50")]),
        ("DECIMAL(5,0)", "Decimal128(5, 0)", Decimal, &[("-99999", "-99999")]),
        (
            "DECIMAL(30,10)",
            "Decimal128(30, 10)",
            Decimal,
            &[("12345678901234567890.0123456789", "12345678901234567890.0123456789")],
        ),
        (
            "DECIMAL(38,38)",
            "Decimal128(38, 38)",
            Decimal,
            &[("0.12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678")],
        ),
        (
            "DECIMAL(39,1)",
            "Decimal256(39, 1)",
            Decimal,
            &[("-12345678901234567890123456789012345678.9", "-12345678901234567890123456789012345678.9")],
        ),
        ("DECIMAL(65,0)", "Decimal256(65, 0)", Decimal, &[(NINES, NINES)]),
        (
            "DECIMAL(65,30)",
            "Decimal256(65, 30)",
            Decimal,
            &[("0.000000000000000000000000000001", "0.000000000000000000000000000001")],
        ),
    ])
    .await;
}

#[tokio::test]
async fn floats_keep_their_bits() {
    use ValueClass::Float;
    check(&[
        (
            "FLOAT",
            "Float32",
            Float,
            &[("3.4028234e38", "3.4028235e38"), ("0.1", "0.1"), ("16777217", "16777216.0"), ("1e-38", "1e-38")],
        ),
        ("FLOAT(7,4)", "Float32", Float, &[("999.00009", "999.0001")]),
        (
            "DOUBLE",
            "Float64",
            Float,
            &[
                ("1.7976931348623157e308", "1.7976931348623157e308"),
                ("2.2250738585072014e-308", "2.2250738585072014e-308"),
            ],
        ),
        ("DOUBLE UNSIGNED", "Float64", Float, &[("0.1", "0.1")]),
    ])
    .await;
}

#[tokio::test]
async fn text_of_every_kind_and_character_set_is_utf8() {
    use ValueClass::{Opaque, Text, TextFolded, TextPadded};
    check(&[
        ("CHAR(5)", "Utf8", TextPadded, &[("'ab'", "ab"), ("'ab   '", "ab"), ("''", "")]),
        (
            "VARCHAR(20)",
            "Utf8",
            TextFolded,
            &[("'ab  '", "ab  "), ("'say \"hi\" \\'\\\\'", "say \"hi\" '\\"), ("'a\\0b'", "a\0b"), ("'😀ß'", "😀ß")],
        ),
        ("VARCHAR(20) COLLATE utf8mb4_bin", "Utf8", TextFolded, &[("'a'", "a")]),
        ("VARCHAR(20) COLLATE utf8mb4_nopad_bin", "Utf8", Text, &[("'a '", "a ")]),
        ("VARCHAR(20) CHARACTER SET latin1", "Utf8", TextFolded, &[("'é€'", "é€")]),
        ("VARCHAR(20) CHARACTER SET utf16", "Utf8", TextFolded, &[("'😀'", "😀")]),
        ("VARCHAR(20) CHARACTER SET cp932", "Utf8", Opaque, &[("'日本'", "日本")]),
        ("TINYTEXT", "Utf8", TextFolded, &[("REPEAT('x', 3)", "xxx")]),
        ("TEXT", "Utf8", TextFolded, &[("'ü'", "ü")]),
        ("MEDIUMTEXT", "Utf8", TextFolded, &[("''", "")]),
        ("LONGTEXT COLLATE utf8mb4_nopad_bin", "Utf8", Text, &[("'x'", "x")]),
    ])
    .await;
}

#[tokio::test]
async fn odd_types_are_read_and_hide_nothing() {
    use ValueClass::{Bytes, Label, Opaque, Uuid};
    check(&[
        ("ENUM('small', 'BIG', 'it''s')", "Utf8", Label, &[("'big'", "BIG"), ("3", "it's"), ("'none'", "")]),
        ("SET('a', 'b', 'c')", "Utf8", Opaque, &[("'c,a'", "a,c"), ("''", "")]),
        ("JSON", "Utf8", ValueClass::TextFolded, &[("'{\"a\": [1, null]}'", "{\"a\": [1, null]}")]),
        ("UUID", "Utf8", Uuid, &[("'00112233-4455-6677-8899-AABBCCDDEEFF'", "00112233-4455-6677-8899-aabbccddeeff")]),
        ("INET6", "Utf8", Opaque, &[("'::1'", "::1"), ("'::ffff:1.2.3.4'", "::ffff:1.2.3.4")]),
        ("INET4", "Utf8", Opaque, &[("'10.0.0.1'", "10.0.0.1")]),
        ("BINARY(4)", "Binary", Bytes, &[("'ab'", "61620000"), ("x'00ff'", "00ff0000")]),
        ("VARBINARY(4)", "Binary", Bytes, &[("x'00ff'", "00ff"), ("''", "")]),
        ("TINYBLOB", "Binary", Bytes, &[("x'ff'", "ff")]),
        ("BLOB", "Binary", Bytes, &[("x'00'", "00")]),
        ("MEDIUMBLOB", "Binary", Bytes, &[("x'0102'", "0102")]),
        ("LONGBLOB", "Binary", Bytes, &[("x'ff00'", "ff00")]),
        ("POINT", "Binary", Opaque, &[("POINT(1, 2)", "000000000101000000000000000000f03f0000000000000040")]),
        ("GEOMETRY", "Binary", Opaque, &[("POINT(1, 2)", "000000000101000000000000000000f03f0000000000000040")]),
    ])
    .await;
}

#[tokio::test]
async fn dates_and_times_keep_both_ends_and_zero_dates_are_null() {
    use ValueClass::{Date, Time, Timestamp, TimestampTz};
    check(&[
        (
            "DATE",
            "Date32",
            Date,
            &[
                ("'0001-01-01'", "0001-01-01"),
                ("'9999-12-31'", "9999-12-31"),
                ("'1969-12-31'", "1969-12-31"),
                ("'0000-00-00'", "NULL"),
                ("'2020-00-15'", "NULL"),
                ("'2020-02-00'", "NULL"),
            ],
        ),
        (
            "DATETIME",
            "Timestamp(µs)",
            Timestamp,
            &[("'1000-01-01 00:00:00'", "1000-01-01T00:00:00"), ("'0000-00-00 00:00:00'", "NULL")],
        ),
        (
            "DATETIME(6)",
            "Timestamp(µs)",
            Timestamp,
            &[
                ("'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999"),
                ("'1969-12-31 23:59:59.999999'", "1969-12-31T23:59:59.999999"),
            ],
        ),
        ("DATETIME(3)", "Timestamp(µs)", Timestamp, &[("'2020-02-29 12:00:00.123'", "2020-02-29T12:00:00.123")]),
        (
            "TIMESTAMP(6)",
            "Timestamp(µs, \"UTC\")",
            TimestampTz,
            &[
                ("'1970-01-01 00:00:01'", "1970-01-01T00:00:01Z"),
                ("'2038-01-19 03:14:07.999999'", "2038-01-19T03:14:07.999999Z"),
                ("'0000-00-00 00:00:00'", "NULL"),
            ],
        ),
    ])
    .await;
    check(&[
        (
            "TIME",
            "Duration(µs)",
            Time,
            &[("'00:00:00'", "P0D"), ("'838:59:59'", "PT3020399S"), ("'-838:59:59'", "-PT3020399S")],
        ),
        ("TIME(6)", "Duration(µs)", Time, &[("'-00:00:00.000001'", "-PT0.000001S"), ("'25:00:00.5'", "PT90000.5S")]),
    ])
    .await;
}

#[tokio::test]
async fn server_time_zone_moves_no_instant() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v TIMESTAMP NULL)").await;
    database.run("SET time_zone = '+05:30'").await;
    database.run("INSERT INTO t VALUES (1, '2020-01-01 05:30:00')").await;
    let batch = read_all(&database.source(), "t").await;
    assert_eq!(array_value_to_string(column(&batch, "v"), 0).unwrap(), "2020-01-01T00:00:00Z");
}

#[tokio::test]
async fn day_that_does_not_exist_is_an_error_that_names_the_column() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v DATE)").await;
    database.run("SET sql_mode = 'ALLOW_INVALID_DATES'").await;
    database.run("INSERT INTO t VALUES (1, '2020-02-01'), (2, '2020-02-31')").await;
    let source = database.source();
    let request = ScanRequest::all(table(&source, "t").await);
    let error = read(&source, request).await.unwrap_err();
    assert!(
        matches!(&error, Error::Value { column, reason, .. } if column == "v" && reason.contains("row 2")),
        "{error}"
    );
}

#[tokio::test]
async fn not_null_date_is_nullable_because_of_zero_dates() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v DATE NOT NULL, w DATETIME NOT NULL, x INT NOT NULL)").await;
    database.run("INSERT INTO t VALUES (1, '0000-00-00', '2020-00-01', 0)").await;
    let source = database.source();
    let described = table(&source, "t").await;
    let nullable: Vec<bool> = described.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, true, true, false]);
    let batch = read_all(&source, "t").await;
    assert!(column(&batch, "v").is_null(0) && column(&batch, "w").is_null(0));
}

#[tokio::test]
async fn view_of_computed_columns_is_read() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, d DECIMAL(10,2), f FLOAT)").await;
    database.run("INSERT INTO t VALUES (1, 1.25, 0.5), (2, 3.75, 0.1)").await;
    database
        .run("CREATE VIEW v AS SELECT id, id = 1 AS is_one, d / 3 AS third, SUM(d) AS total, COUNT(*) AS n, AVG(f) AS mean, NULL AS nothing, CONCAT(id, 'x') AS s, CURRENT_TIME AS now FROM t GROUP BY id")
        .await;
    let source = database.source();
    let described = table(&source, "v").await;
    let batch = read_all(&source, "v").await;
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, described.columns.len()));
    let third = column(&batch, "third");
    assert!(matches!(third.data_type(), DataType::Decimal128(..)), "{}", third.data_type());
    assert_eq!(array_value_to_string(third, 0).unwrap(), "0.416667");
}

#[tokio::test]
async fn projection_may_be_empty_reordered_or_repeated() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v TEXT)").await;
    database.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.projection = vec![];
    let batch = read(&source, request.clone()).await.unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 0));
    request.projection = vec![1, 0, 1];
    let batch = read(&source, request).await.unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 3));
    assert_eq!(array_value_to_string(batch.column(2), 1).unwrap(), "b");
}

#[tokio::test]
async fn batches_hold_no_more_rows_than_asked_for_and_no_more_bytes_than_the_limit() {
    use futures::TryStreamExt;
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, v LONGTEXT)").await;
    database.run("INSERT INTO t SELECT seq, REPEAT('x', 6000000) FROM seq_1_to_7").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    let scan = source.prepare(request.clone()).await.unwrap();
    let rows: Vec<usize> = scan.open(0).await.unwrap().map_ok(|batch| batch.num_rows()).try_collect().await.unwrap();
    assert_eq!(rows, [3, 3, 1], "16 MiB are three rows of 6 MB");
    request.batch_rows = 2;
    let scan = source.prepare(request).await.unwrap();
    let rows: Vec<usize> = scan.open(0).await.unwrap().map_ok(|batch| batch.num_rows()).try_collect().await.unwrap();
    assert_eq!(rows, [2, 2, 2, 1]);
}

#[tokio::test]
async fn row_larger_than_the_servers_packet_is_read() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, a LONGTEXT, b LONGTEXT, c LONGBLOB)").await;
    let packet: u64 = database.ask("SELECT @@max_allowed_packet").await;
    let length = packet / 2 + 1000;
    database
        .run(&format!("INSERT INTO t VALUES (1, REPEAT('a', {length}), REPEAT('b', {length}), REPEAT('c', {length})), (2, 'x', 'y', 'z')"))
        .await;
    let batch = read_all(&database.source(), "t").await;
    assert_eq!(batch.num_rows(), 2);
    let printed = array_value_to_string(column(&batch, "b"), 0).unwrap();
    assert!(printed.len() as u64 == length && printed.bytes().all(|byte| byte == b'b'));
}
