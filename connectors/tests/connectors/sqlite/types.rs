use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use headwater_source::{Error, ScanRequest, ValueClass};

use super::{Database, column_of, printed, read, request};

/// Reads the only column of a table that was made with this type and these values.
async fn column(declared: &str, values: &str) -> Result<(DataType, Vec<String>), Error> {
    let database = Database::new(&format!("CREATE TABLE t (c {declared}); INSERT INTO t VALUES {values}"));
    let source = database.source();
    let request = request(&source, "t").await;
    let batch = read(&source, &request).await?;
    Ok((request.table.columns[0].data_type.clone(), printed(&batch, 0)))
}

async fn assert_reads(declared: &str, values: &str, data_type: DataType, expected: &[&str]) {
    let (found, printed) =
        column(declared, values).await.unwrap_or_else(|error| panic!("{declared}: {}", error.report()));
    assert_eq!(
        (found, printed),
        (data_type, expected.iter().map(|s| (*s).to_owned()).collect()),
        "{declared} {values}"
    );
}

/// The second row, with rowid 2, is refused; the first is NULL, which says nothing of the type.
async fn assert_refuses(declared: &str, value: &str, reason: &str) {
    match column(declared, &format!("(NULL), ({value})")).await {
        Err(Error::Value { service, table, column, reason: found, .. }) => {
            assert_eq!((service.as_str(), table.as_str(), column.as_str()), ("shop", "t", "c"));
            assert!(found.contains("rowid 2 ") && found.contains(reason), "{declared} {value}: {found}");
        }
        other => panic!("{declared} {value} must be refused: {other:?}"),
    }
}

#[tokio::test]
async fn integers_are_64_bits_wide_under_every_name() {
    for declared in
        ["INT", "integer", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "INT2", "INT8", "UNSIGNED BIG INT", "INT(11)"]
    {
        let values = "(NULL), (-9223372036854775808), (9223372036854775807), ('7'), (3.0)";
        let expected = ["NULL", "-9223372036854775808", "9223372036854775807", "7", "3"];
        assert_reads(declared, values, DataType::Int64, &expected).await;
    }
    assert_refuses("INT", "'abc'", "stored as TEXT").await;
    assert_refuses("INT", "1.5", "stored as REAL").await;
    assert_refuses("INT", "9223372036854775808", "stored as REAL").await;
    assert_refuses("INT", "x'00'", "stored as BLOB").await;
}

#[tokio::test]
async fn booleans_are_zero_and_one() {
    assert_reads("BOOLEAN", "(NULL), (true), (0), ('1')", DataType::Boolean, &["NULL", "true", "false", "true"]).await;
    assert_reads("bool", "(1)", DataType::Boolean, &["true"]).await;
    assert_refuses("BOOLEAN", "2", "0 or 1").await;
    assert_refuses("BOOLEAN", "'t'", "stored as TEXT").await;
}

#[tokio::test]
async fn floats_keep_every_bit() {
    for declared in ["REAL", "FLOAT", "double", "DOUBLE PRECISION"] {
        assert_reads(
            declared,
            "(NULL), (1), (0.1), (9e999), (-9e999), (1e300), ('2.5')",
            DataType::Float64,
            &["NULL", "1.0", "0.1", "inf", "-inf", "1e300", "2.5"],
        )
        .await;
    }
    assert_refuses("REAL", "'x'", "stored as TEXT").await;
    let database = Database::new("CREATE TABLE t (c REAL); INSERT INTO t VALUES (5e-324), (0.30000000000000004)");
    let source = database.source();
    let batch = read(&source, &request(&source, "t").await).await.unwrap();
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().values(), &[5e-324, 0.1 + 0.2]);
}

#[tokio::test]
async fn integer_in_a_float_column_of_a_view_is_read_where_a_double_holds_it() {
    let database = Database::new(
        "CREATE TABLE a (c REAL); INSERT INTO a VALUES (0.5); CREATE TABLE b (c INTEGER); INSERT INTO b VALUES (7); \
         CREATE VIEW v AS SELECT c FROM a UNION ALL SELECT c FROM b",
    );
    let source = database.source();
    let batch = read(&source, &request(&source, "v").await).await.unwrap();
    assert_eq!(
        (batch.column(0).data_type(), printed(&batch, 0)),
        (&DataType::Float64, vec!["0.5".into(), "7.0".into()])
    );
}

#[tokio::test]
async fn expression_of_a_view_is_text_unless_it_is_cast() {
    let database = Database::new(
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (NULL), (4); \
         CREATE VIEW v AS SELECT a + 1 AS sum, CAST(a AS INTEGER) AS whole, CAST(a AS REAL) AS ratio, CAST(a AS TEXT) AS label FROM t",
    );
    let source = database.source();
    let all = request(&source, "v").await;
    let types: Vec<DataType> = all.table.columns.iter().map(|column| column.data_type.clone()).collect();
    assert_eq!(types, [DataType::Utf8, DataType::Int64, DataType::Float64, DataType::Utf8]);
    let batch = read(&source, &all).await.unwrap();
    let second: Vec<String> = (0..4).map(|column| printed(&batch, column)[1].clone()).collect();
    assert_eq!(second, ["5", "4", "4.0", "4"]);
}

#[tokio::test]
async fn null_in_a_column_that_is_declared_not_null_is_an_error() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT); INSERT INTO t VALUES (1, 1), (2, NULL); PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, 'n INT', 'n INT NOT NULL')",
    );
    let source = database.source();
    let error = read(&source, &request(&source, "t").await).await.unwrap_err().to_string();
    assert!(error.contains("rowid 2 it is NULL"), "{error}");
}

#[tokio::test]
async fn row_that_has_no_rowid_is_named_by_its_place() {
    let database = Database::new(
        "CREATE TABLE t (k TEXT PRIMARY KEY, n INT) WITHOUT ROWID; INSERT INTO t VALUES ('a', 1), ('b', 'x'); \
         CREATE TABLE r (rowid TEXT, _rowid_ TEXT, oid TEXT, n INT); INSERT INTO r VALUES (1, 2, 3, 'x'); \
         CREATE VIEW v AS SELECT n FROM t",
    );
    let source = database.source();
    for (table, place) in [("t", "in row 2 as read"), ("v", "in row 2 as read"), ("r", "in row 1 as read")] {
        let error = read(&source, &request(&source, table).await).await.unwrap_err().to_string();
        assert!(error.contains(place), "{table}: {error}");
    }
}

#[tokio::test]
async fn decimals_are_exact_or_refused() {
    let money = DataType::Decimal128(12, 2);
    assert_reads(
        "DECIMAL(12,2)",
        "(NULL), (12), ('12.50'), (12.5), (-0.01), (9999999999.99)",
        money.clone(),
        &["NULL", "12.00", "12.50", "12.50", "-0.01", "9999999999.99"],
    )
    .await;
    assert_reads("numeric(12, 2)", "(1e3)", money, &["1000.00"]).await;
    assert_reads("DEC(5)", "(99999)", DataType::Decimal128(5, 0), &["99999"]).await;
    assert_reads(
        "DECIMAL(38,10)",
        "(9223372036854775807)",
        DataType::Decimal128(38, 10),
        &["9223372036854775807.0000000000"],
    )
    .await;
    assert_reads("NUMERIC(76,1)", "(-7), ('0.5')", DataType::Decimal256(76, 1), &["-7.0", "0.5"]).await;
    assert_reads("NUMERIC", "(NULL), (1), (12.5), ('abc')", DataType::Utf8, &["NULL", "1", "12.5", "abc"]).await;
    assert_refuses("DECIMAL(12,2)", "0.1 + 0.2", "more decimal places").await;
    assert_refuses("DECIMAL(12,2)", "12.505", "more decimal places").await;
    assert_refuses("DECIMAL(4,2)", "100", "more digits").await;
    // SQLite has already lost digits of these when it stored them.
    assert_refuses("DECIMAL(38,0)", "'12345678901234567890123456789012345678'", "stored as REAL").await;
    assert_refuses("DECIMAL(20,2)", "'123456789012345.67'", "stored as REAL").await;
    assert_refuses("DECIMAL(12,2)", "9e999", "not a decimal number").await;
    assert_refuses("DECIMAL(12,2)", "'abc'", "not a decimal number").await;
    assert_refuses("DECIMAL(12,2)", "x'01'", "stored as BLOB").await;
}

#[tokio::test]
async fn text_is_read_as_it_is_stored() {
    for declared in ["TEXT", "VARCHAR(3)", "CHAR(9)", "NVARCHAR(9)", "CLOB", "CHARACTER VARYING(5)"] {
        assert_reads(
            declared,
            "(NULL), (''), ('a  '), (5), ('it''s \\ \"x\" 日本')",
            DataType::Utf8,
            &["NULL", "", "a  ", "5", "it's \\ \"x\" 日本"],
        )
        .await;
    }
    assert_refuses("TEXT", "x'00'", "stored as BLOB").await;
    assert_refuses("TEXT", "CAST(x'ff41' AS TEXT)", "not valid UTF-8").await;
    let database = Database::new("CREATE TABLE t (c TEXT); INSERT INTO t VALUES (CAST(x'610062' AS TEXT))");
    let source = database.source();
    let batch = read(&source, &request(&source, "t").await).await.unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "a\0b");
}

#[tokio::test]
async fn blobs_are_bytes() {
    for declared in ["BLOB", "BINARY(4)", "VARBINARY(9)", "BYTEA", "LONGBLOB"] {
        assert_reads(declared, "(NULL), (x''), (x'00ff')", DataType::Binary, &["NULL", "", "00ff"]).await;
    }
    assert_refuses("BLOB", "'text'", "stored as TEXT").await;
    assert_refuses("BLOB", "5", "stored as INTEGER").await;
}

#[tokio::test]
async fn dates_and_times_are_iso_text() {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    assert_reads(
        "DATE",
        "(NULL), ('0000-01-01'), ('2024-02-29'), ('9999-12-31')",
        DataType::Date32,
        &["NULL", "0000-01-01", "2024-02-29", "9999-12-31"],
    )
    .await;
    for declared in ["DATETIME", "TIMESTAMP", "datetime(6)", "TIMESTAMP WITHOUT TIME ZONE"] {
        let values =
            "(NULL), ('2024-02-29'), ('2024-02-29 12:30'), ('2024-02-29T12:30:00.5Z'), ('1000-01-01 00:00:00+00:00')";
        let expected =
            ["NULL", "2024-02-29T00:00:00", "2024-02-29T12:30:00", "2024-02-29T12:30:00.500", "1000-01-01T00:00:00"];
        assert_reads(declared, values, micros(None), &expected).await;
    }
    let zoned = ["2024-02-29T10:30:00Z", "2024-02-29T12:30:00Z"];
    assert_reads("TIMESTAMPTZ", "('2024-02-29 12:30:00+02:00'), ('2024-02-29 12:30')", micros(Some("UTC")), &zoned)
        .await;
    assert_reads(
        "TIME",
        "(NULL), ('12:30'), ('23:59:59.999999')",
        DataType::Time64(TimeUnit::Microsecond),
        &["NULL", "12:30:00", "23:59:59.999999"],
    )
    .await;
    assert_refuses("DATE", "'2024-02-30'", "not a date").await;
    assert_refuses("DATE", "20240229", "stored as INTEGER").await;
    assert_refuses("DATETIME", "1709164800", "stored as INTEGER").await;
    assert_refuses("DATETIME", "'2024-02-29 12:30:00+02:00'", "without an offset").await;
    assert_refuses("DATETIME", "'2024-02-29 12:30:00.1234567'", "not a timestamp").await;
    assert_refuses("TIME", "'24:00'", "not a time").await;
}

#[tokio::test]
async fn any_other_type_is_text_and_hides_no_column() {
    for declared in ["", "JSON", "UUID", "STRING", "POINT", "INTERVAL", "ANY", "NUMERIC(99,2)", "geometry(4326)"] {
        let values = "(NULL), (7), (0.1), (1e300), ('{\"a\": 1}'), (x'0AFF')";
        let expected = ["NULL", "7", "0.1", "1e300", "{\"a\": 1}", "X'0AFF'"];
        assert_reads(declared, values, DataType::Utf8, &expected).await;
    }
}

#[tokio::test]
async fn table_is_described_with_keys_generated_columns_and_collations() {
    let database = Database::new(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, n INT NOT NULL, twice INT AS (n * 2), kept TEXT AS (n || 'x') STORED, \
           s TEXT COLLATE NOCASE); \
         CREATE TABLE b (x TEXT, y INT, z INT, PRIMARY KEY (z, x)) WITHOUT ROWID; \
         CREATE TABLE c (id INT PRIMARY KEY); CREATE TABLE d (id INTEGER PRIMARY KEY DESC); \
         CREATE TABLE e (i INTEGER, s TEXT, b BLOB, r REAL, x ANY) STRICT; \
         INSERT INTO a (n) VALUES (1), (2), (3); CREATE INDEX n ON a (n); ANALYZE; \
         CREATE VIEW v AS SELECT id, n + 1 AS m, s FROM a; CREATE VIRTUAL TABLE f USING fts5(body);",
    );
    let source = database.source();
    let tables = source.tables().await.unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "v"]);
    let [a, b, c, d, e, f, v] = tables.as_slice() else { panic!() };
    assert_eq!(a.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["id", "n", "twice", "kept", "s"]);
    assert_eq!((a.key.as_deref(), a.rows_estimate), (Some(&["id".to_owned()][..]), Some(3)));
    assert_eq!((column_of(a, "id").nullable, column_of(a, "id").class), (false, ValueClass::Integer));
    assert_eq!((column_of(a, "n").nullable, column_of(a, "n").class), (false, ValueClass::Loose));
    assert_eq!(
        (column_of(a, "s").collation.as_deref(), column_of(a, "s").class),
        (Some("NOCASE"), ValueClass::TextFolded)
    );
    assert_eq!(b.key.as_deref(), Some(&["z".to_owned(), "x".to_owned()][..]));
    assert!(column_of(c, "id").nullable && column_of(d, "id").nullable, "neither is the rowid");
    let classes: Vec<ValueClass> = e.columns.iter().map(|column| column.class).collect();
    assert_eq!(
        classes,
        [ValueClass::Integer, ValueClass::Text, ValueClass::Bytes, ValueClass::Float, ValueClass::Opaque]
    );
    assert_eq!((f.columns.len(), f.columns[0].class), (1, ValueClass::Opaque));
    assert_eq!((column_of(v, "m").data_type.clone(), column_of(v, "id").class), (DataType::Utf8, ValueClass::Loose));
    let batch = read(&source, &ScanRequest::all(std::sync::Arc::new(a.clone()))).await.unwrap();
    assert_eq!(
        (printed(&batch, 2), printed(&batch, 3)),
        (vec!["2".into(), "4".into(), "6".into()], vec!["1x".into(), "2x".into(), "3x".into()])
    );
}

#[tokio::test]
async fn compound_view_of_different_types_is_text_and_compares_only_locally() {
    let database = Database::new(
        "CREATE TABLE a (k INTEGER, b BLOB, n); CREATE TABLE b (k TEXT, b BLOB, n); INSERT INTO a VALUES (5, x'01', 1.5); \
         INSERT INTO b VALUES ('5', x'02', 'n'); CREATE VIEW v AS SELECT * FROM a UNION ALL SELECT * FROM b; \
         CREATE VIEW w AS SELECT k, n FROM v",
    );
    let source = database.source();
    for view in ["v", "w"] {
        let request = request(&source, view).await;
        assert_eq!(column_of(&request.table, "k").data_type, DataType::Utf8);
        assert!(request.table.columns.iter().all(|column| column.class == ValueClass::Opaque));
        assert_eq!(printed(&read(&source, &request).await.unwrap(), 0), ["5", "5"]);
    }
    let v = request(&source, "v").await;
    assert_eq!(column_of(&v.table, "b").data_type, DataType::Binary);
    assert_eq!(printed(&read(&source, &v).await.unwrap(), 2), ["1.5", "n"]);
}
