//! What the connector says of a table's rows.

use arrow::datatypes::DataType;
use headwater_source::{ColumnStatistics, Index, ScalarValue, TableStatistics};

use super::{Database, client, open, table, unique, url_as};

async fn statistics_as(source: &std::sync::Arc<dyn headwater_source::Source>, from: &str) -> TableStatistics {
    let table = table(source, from).await;
    let found = source.statistics(&table).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let found = found.expect("it has statistics");
    assert_eq!(found.columns.len(), table.columns.len());
    for (statistics, column) in found.columns.iter().zip(&table.columns) {
        for end in [&statistics.min, &statistics.max].into_iter().flatten() {
            assert_eq!(end.data_type(), column.data_type, "{}", column.name);
        }
    }
    found
}

async fn statistics(database: &Database, from: &str) -> TableStatistics {
    statistics_as(&database.source(), from).await
}

fn near(actual: Option<u64>, expected: f64) -> bool {
    actual.is_some_and(|actual| (actual as f64 - expected).abs() <= expected / 10.0)
}

fn ends(statistics: &ColumnStatistics) -> (String, String) {
    let text = |end: &Option<ScalarValue>| end.as_ref().map_or("none".to_owned(), |end| format!("{end:?}"));
    (text(&statistics.min), text(&statistics.max))
}

#[tokio::test]
async fn rows_distinct_values_nulls_widths_and_ends_are_the_catalogs() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TABLE t AS SELECT n AS id, n % 10 AS few, CASE WHEN n % 4 = 0 THEN n END AS often_null, NULL::int AS never,
                repeat('x', 10) AS text10, (n / 2)::numeric(12,2) AS half
             FROM generate_series(1, 10000) n; ANALYZE t",
        )
        .await;
    let found = statistics(&database, "t").await;
    assert_eq!(found.rows, Some(10_000));
    let [id, few, often_null, never, text10, half] = &found.columns[..] else { panic!("six columns") };
    assert!(near(id.distinct, 10_000.0) && near(half.distinct, 5_000.0), "{:?} {:?}", id.distinct, half.distinct);
    assert_eq!((few.distinct, text10.distinct, never.distinct), (Some(10), Some(1), None));
    assert!(near(often_null.distinct, 2_500.0), "{:?}", often_null.distinct);
    assert!((often_null.null_fraction.unwrap() - 0.75).abs() < 0.05 && never.null_fraction == Some(1.0));
    assert_eq!((id.width_bytes, text10.width_bytes, id.null_fraction), (Some(4.0), Some(11.0), Some(0.0)));
    assert_eq!(ends(id), ("Int32(1)".into(), "Int32(10000)".into()));
    assert_eq!(ends(few), ("Int32(0)".into(), "Int32(9)".into()));
    assert_eq!(half.max, Some(ScalarValue::Decimal128(Some(500_000), 12, 2)));
    assert_eq!(ends(never), ("none".into(), "none".into()));
}

#[tokio::test]
async fn ends_are_of_the_columns_arrow_type_and_order() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE DOMAIN small AS smallint;
             CREATE TABLE t AS SELECT n % 2 = 0 AS flag, n::small AS short, n::bigint AS long, n::real AS single,
                CASE WHEN n = 1 THEN 'NaN' ELSE n::float8 END AS double, chr(64 + n) || 'x' AS word, (CASE WHEN n < 30 THEN 'b' ELSE 'Z' END)::char(4) AS padded,
                decode(lpad(to_hex(n), 2, '0'), 'hex') AS raw, '2024-01-01'::date + n AS day, '00:00'::time + n * interval '1 second' AS clock,
                '2024-01-01'::timestamp + n * interval '1 day' AS moment, '2024-01-01Z'::timestamptz + n * interval '1 day' AS instant,
                ('00000000-0000-0000-0000-0000000000' || lpad(n::text, 2, '0'))::uuid AS u, (enum_range(NULL::mood))[n % 3 + 1] AS m,
                n::numeric AS loose, ARRAY[n] AS list, jsonb_build_object('n', n) AS document, n * interval '1 day' AS span, ('10.0.0.' || n)::inet AS address
             FROM generate_series(1, 50) n; ANALYZE t",
        )
        .await;
    let source = database.source();
    let described = table(&source, "t").await;
    let found = statistics_as(&source, "t").await;
    let of = |name: &str| ends(&found.columns[described.column_index(name).unwrap()]);
    let pair = |min: &str, max: &str| (min.to_owned(), max.to_owned());
    assert_eq!(of("flag"), pair("Boolean(false)", "Boolean(true)"));
    assert_eq!(of("short"), pair("Int16(1)", "Int16(50)"));
    assert_eq!(of("long"), pair("Int64(1)", "Int64(50)"));
    assert_eq!(of("single"), pair("Float32(1)", "Float32(50)"));
    assert_eq!(of("double"), pair("Float64(2)", "Float64(50)"));
    assert_eq!(of("word"), pair("Utf8(\"Ax\")", "Utf8(\"rx\")"), "by bytes, whatever the locale");
    assert_eq!(of("padded"), pair("Utf8(\"Z\")", "Utf8(\"b\")"));
    assert_eq!(of("raw"), pair("Binary(\"1\")", "Binary(\"50\")"));
    assert_eq!(of("day"), pair("Date32(\"2024-01-02\")", "Date32(\"2024-02-20\")"));
    assert_eq!(of("clock"), pair("Time64Microsecond(\"1000000\")", "Time64Microsecond(\"50000000\")"));
    assert_eq!(of("moment").0, "TimestampMicrosecond(1704153600000000, None)");
    assert_eq!(of("instant").0, "TimestampMicrosecond(1704153600000000, Some(\"UTC\"))");
    assert_eq!(of("u").1, "Utf8(\"00000000-0000-0000-0000-000000000050\")");
    assert_eq!(of("m"), pair("Utf8(\"happy\")", "Utf8(\"sad\")"));
    for opaque in ["loose", "list", "document", "span", "address"] {
        assert_eq!(of(opaque), pair("none", "none"), "{opaque}");
    }
    assert!(matches!(described.columns[0].data_type, DataType::Boolean));
}

#[tokio::test]
async fn indexes_over_all_rows_and_plain_columns_are_listed_in_their_order() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TABLE t (a int, b int, c text, d int[], PRIMARY KEY (b, a)); CREATE UNIQUE INDEX ON t (c) INCLUDE (a);
             CREATE INDEX ON t (c, b DESC); CREATE INDEX ON t USING hash (a); CREATE UNIQUE INDEX ON t (a) WHERE b > 0;
             CREATE UNIQUE INDEX ON t (lower(c)); CREATE INDEX ON t (a, (b + 1)); CREATE INDEX ON t USING gin (d)",
        )
        .await;
    let mut indexes = statistics(&database, "t").await.indexes;
    indexes.sort_by_key(|index| index.columns.clone());
    let index = |columns: &[usize], unique| Index { columns: columns.to_vec(), unique };
    let expected = [index(&[0], false), index(&[1, 0], true), index(&[2], true), index(&[2, 1], false)];
    assert_eq!(indexes, expected);
}

#[tokio::test]
async fn rows_are_counted_by_the_pages_that_there_are() {
    let database = Database::new().await;
    // 226 rows of one integer a page.
    database.run("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 300); ANALYZE t").await;
    assert_eq!(statistics(&database, "t").await.rows, Some(300));
    database.run("ALTER TABLE t SET (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 100000)").await;
    let rows = statistics(&database, "t").await.rows.unwrap();
    assert!((60_000..100_000).contains(&rows), "{rows}: as many a page as the first two pages had");
    database.run("CREATE TABLE u (a int, b text) WITH (autovacuum_enabled = off); INSERT INTO u SELECT n, 'b' FROM generate_series(1, 20000) n").await;
    let rows = statistics(&database, "u").await.rows.unwrap();
    assert!((5_000..20_000).contains(&rows), "{rows}: texts are taken for 32 bytes");
    database.run("DELETE FROM t").await;
    database.run("VACUUM t").await;
    assert_eq!(statistics(&database, "t").await.rows, Some(0));
}

#[tokio::test]
async fn unanalyzed_table_has_indexes_and_rows_of_ten_pages_and_a_view_has_nothing() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (a int PRIMARY KEY, b text); CREATE VIEW v AS SELECT * FROM t").await;
    let found = statistics(&database, "t").await;
    assert_eq!(found.rows, Some(1_270), "of 64 bytes each");
    let key = ColumnStatistics { distinct: Some(1_270), ..ColumnStatistics::default() };
    assert_eq!(found.columns, [key, ColumnStatistics::default()]);
    assert_eq!(found.indexes, [Index { columns: vec![0], unique: true }]);
    let source = database.source();
    let view = table(&source, "v").await;
    assert_eq!(source.statistics(&view).await.unwrap(), None);
    let mut gone = view.as_ref().clone();
    gone.path = vec!["public".into(), "gone".into()];
    assert_eq!(source.statistics(&gone).await.unwrap(), None);
}

#[tokio::test]
async fn partitions_and_children_count_and_children_break_uniqueness() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TABLE p (k int PRIMARY KEY, v int) PARTITION BY HASH (k);
             CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             INSERT INTO p SELECT n, n % 5 FROM generate_series(1, 1000) n;
             CREATE TABLE parent (k int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
             INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT generate_series(1, 90); ANALYZE",
        )
        .await;
    let found = statistics(&database, "p").await;
    assert_eq!((found.rows, found.columns[1].distinct), (Some(1_000), Some(5)));
    assert_eq!(found.indexes, [Index { columns: vec![0], unique: true }]);
    assert_eq!(ends(&found.columns[0]), ("Int32(1)".into(), "Int32(1000)".into()));
    let found = statistics(&database, "parent").await;
    assert_eq!(found.rows, Some(100));
    assert_eq!(ends(&found.columns[0]), ("Int32(1)".into(), "Int32(90)".into()));
    assert_eq!(found.indexes, [Index { columns: vec![0], unique: false }]);
}

#[tokio::test]
async fn role_that_may_not_see_statistics_gets_rows_and_indexes() {
    let database = Database::new().await;
    let role = unique("hw_reader");
    database
        .run(&format!(
            "CREATE TABLE t AS SELECT n AS a, n AS hidden FROM generate_series(1, 100) n; CREATE UNIQUE INDEX ON t (a); ANALYZE t;
             CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT SELECT (a) ON t TO {role}"
        ))
        .await;
    let source = open(&url_as(&role, "reader", &database.name), &[]).unwrap();
    let found = statistics_as(&source, "t").await;
    assert_eq!((found.rows, found.columns.len()), (Some(100), 1), "the hidden column is not there");
    assert_eq!(found.columns[0].distinct, Some(100));
    database.run("REVOKE SELECT ON pg_catalog.pg_stats FROM PUBLIC").await;
    let found = statistics_as(&source, "t").await;
    assert_eq!((found.rows, &found.columns[0].min), (Some(100), &None));
    assert_eq!(found.columns[0].distinct, Some(100), "a unique column has as many values as rows");
    assert_eq!(found.indexes, [Index { columns: vec![0], unique: true }]);
    // The connection goes on after the refusal.
    assert_eq!(super::read_all(&source, "t").await.num_rows(), 100);
    drop(source);
    let name = database.name.clone();
    drop(database);
    let server = client(&super::server_url()).await;
    server.batch_execute(&format!("DROP ROLE {role}")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}
