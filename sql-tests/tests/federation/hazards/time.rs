//! Instants, dates and times over the whole range of their types.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, both_ways, error, rows};

#[tokio::test]
async fn postgres_instants_far_from_now_are_exact() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, tz timestamptz, ts timestamp, d date, tm time); INSERT INTO t VALUES \
         (1, '1000-01-01 00:00:00+00', '1000-01-01', '1000-01-01', '00:00:00'), \
         (2, '3000-12-31 23:59:59.999999+00', '3000-12-31 23:59:59.999999', '3000-12-31', '23:59:59.999999'), \
         (3, '1969-12-31 23:59:59.999999+00', '1969-12-31 23:59:59.999999', '1969-12-31', '12:34:56.789'), \
         (4, '0001-01-01 00:00:00+00', '0001-01-01', '0001-01-01', NULL), \
         (5, '2024-02-29 12:00:00+05:30', '2024-02-29 12:00:00', '2024-02-29', '24:00:00')",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT tz, ts, d FROM pg.t ORDER BY id").await.unwrap();
    let expected = [
        ["1000-01-01T00:00:00Z", "1000-01-01T00:00:00", "1000-01-01"],
        ["3000-12-31T23:59:59.999999Z", "3000-12-31T23:59:59.999999", "3000-12-31"],
        ["1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999", "1969-12-31"],
        ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "0001-01-01"],
        ["2024-02-29T06:30:00Z", "2024-02-29T12:00:00", "2024-02-29"],
    ];
    assert_eq!(found.texts(), expected);
    let found = both_ways(&engine, "SELECT tm FROM pg.t WHERE id <= 3 ORDER BY id").await.unwrap();
    assert_eq!(found.column(), ["00:00:00", "23:59:59.999999", "12:34:56.789"]);
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for query in [
        "SELECT id FROM pg.t WHERE tz < '1970-01-01T00:00:00Z'",
        "SELECT id FROM pg.t WHERE tz = '3000-12-31T23:59:59.999999Z'",
        "SELECT id FROM pg.t WHERE tz >= TIMESTAMP '2024-02-29 06:30:00'",
        "SELECT id FROM pg.t WHERE tz BETWEEN '1000-01-01' AND '1969-12-31T23:59:59.999999Z'",
        "SELECT id FROM pg.t WHERE ts = '1969-12-31 23:59:59.999999'",
        "SELECT id FROM pg.t WHERE ts > TIMESTAMP '1969-12-31 23:59:59.9999989'",
        "SELECT id FROM pg.t WHERE d = DATE '2024-02-29'",
        "SELECT id FROM pg.t WHERE d < '1970-01-01'",
        "SELECT id FROM pg.t WHERE d >= TIMESTAMP '2024-02-29 12:00:00'",
        "SELECT id FROM pg.t WHERE d IN (DATE '1000-01-01', DATE '3000-12-31')",
        "SELECT id, tz FROM pg.t ORDER BY tz LIMIT 2",
        "SELECT id, ts FROM pg.t ORDER BY ts DESC LIMIT 2",
        "SELECT extract(year FROM d), count(*) FROM pg.t GROUP BY extract(year FROM d)",
        "SELECT date_trunc('year', ts) FROM pg.t WHERE date_trunc('year', ts) > '1900-01-01'",
        "SELECT date_trunc('day', tz) FROM pg.t WHERE id = 5",
        "SELECT min(tz), max(tz), min(d), max(d) FROM pg.t",
        "SELECT id FROM pg.t WHERE d + INTERVAL '1 day' = DATE '2024-03-01'",
        "SELECT CAST(tz AS DATE) FROM pg.t WHERE id = 5",
    ] {
        reference.agrees(&engine, query).await.ok();
    }
}

#[tokio::test]
async fn infinity_is_the_end_of_the_type_and_beyond_it_is_an_error() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, tz timestamptz, ts timestamp, d date); \
         INSERT INTO t VALUES (1, '2024-01-01 00:00:00+00', '2024-01-01', '2024-01-01'), (2, 'infinity', 'infinity', 'infinity'), \
         (3, '-infinity', '-infinity', '-infinity'); CREATE TABLE far (id int, tz timestamptz, ts timestamp, d date); \
         INSERT INTO far VALUES (4, '294276-12-31 23:59:59+00', '294276-12-31', '5874897-12-31')",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    for (column, end) in [("tz", "9223372036854775807"), ("ts", "9223372036854775807"), ("d", "2147483647")] {
        let read = format!(
            "SELECT arrow_cast({column}, '{}') FROM pg.t ORDER BY id",
            if column == "d" { "Int32" } else { "Int64" }
        );
        let found = both_ways(&engine, &read).await.unwrap();
        assert_eq!(found.column()[1], end, "{column}");
        let order = both_ways(&engine, &format!("SELECT id FROM pg.t ORDER BY {column} LIMIT 3")).await.unwrap();
        assert_eq!(order.rows.len(), 3);
    }
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for test in [
        "tz > '2024-01-01T00:00:00Z'",
        "tz < '2024-01-01T00:00:00Z'",
        "ts >= '2024-01-01'",
        "ts < '1900-01-01'",
        "d > DATE '2024-01-01'",
        "d < DATE '2024-01-01'",
        "d <> DATE '2024-01-01'",
        "tz <> '2024-01-01T00:00:00Z'",
    ] {
        reference
            .agrees(&engine, &format!("SELECT id FROM pg.t WHERE {test}"))
            .await
            .unwrap_or_else(|error| panic!("{test}: {error}"));
    }
    for column in ["tz", "ts"] {
        let message = both_ways(&engine, &format!("SELECT {column} FROM pg.far")).await.unwrap_err();
        assert!(message.contains(&format!("\"{column}\"")) && message.contains("\"pg\""), "{message}");
    }
    assert_eq!(rows(&engine, "SELECT id FROM pg.far").await.column(), ["4"]);
}

#[tokio::test]
async fn zone_of_the_postgres_session_changes_nothing() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, tz timestamptz, ts timestamp); INSERT INTO t VALUES \
        (1, '2024-03-10 07:30:00+00', '2024-03-10 02:30:00'), (2, '2024-11-03 05:30:00+00', '2024-11-03 01:30:00')",
    )
    .await;
    database.execute(&format!("ALTER DATABASE {} SET timezone = 'America/New_York'", database.name())).await;
    database.execute(&format!("ALTER DATABASE {} SET datestyle = 'German'", database.name())).await;
    database.execute(&format!("ALTER DATABASE {} SET intervalstyle = 'sql_standard'", database.name())).await;
    database.execute(&format!("ALTER DATABASE {} SET extra_float_digits = -5", database.name())).await;
    database.execute(&format!("ALTER DATABASE {} SET bytea_output = 'escape'", database.name())).await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT tz, ts FROM pg.t ORDER BY id").await.unwrap();
    let expected = [["2024-03-10T07:30:00Z", "2024-03-10T02:30:00"], ["2024-11-03T05:30:00Z", "2024-11-03T01:30:00"]];
    assert_eq!(found.texts(), expected);
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for query in [
        "SELECT id FROM pg.t WHERE tz = '2024-03-10T07:30:00Z'",
        "SELECT id FROM pg.t WHERE tz = TIMESTAMP '2024-03-10 07:30:00'",
        "SELECT id FROM pg.t WHERE tz >= '2024-11-03T01:30:00-04:00'",
        "SELECT date_trunc('day', tz) FROM pg.t",
        "SELECT id FROM pg.t WHERE date_trunc('hour', tz) = '2024-11-03T05:00:00Z'",
    ] {
        reference.agrees(&engine, query).await.unwrap();
    }
}

#[tokio::test]
async fn mariadb_times_years_and_zero_dates_are_read_as_documented_or_named() {
    let database = MysqlDatabase::create().await;
    database
        .execute(
            "SET SESSION sql_mode = ''; SET SESSION time_zone = '+00:00'; \
             CREATE TABLE t (id int, d date, dt datetime(6), ts timestamp(6) NULL, tm time(6), y year); \
             INSERT INTO t VALUES (1, '2024-02-29', '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789012', '12:34:56.789012', 2024), \
             (2, '0000-00-00', NULL, NULL, NULL, 0), (3, NULL, '0000-00-00 00:00:00', NULL, NULL, NULL), \
             (4, '2024-00-10', NULL, NULL, NULL, NULL), (5, NULL, NULL, NULL, '838:59:59', 1901), (6, NULL, NULL, NULL, '-01:00:00', 2155), \
             (7, '1000-01-01', '9999-12-31 23:59:59.999999', '1970-01-01 00:00:01', '00:00:00', NULL), (8, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT d, dt, ts, y FROM my.t WHERE id = 1").await.unwrap();
    let texts = found.texts();
    assert_eq!(&texts[0][..2], ["2024-02-29", "2024-02-29T12:34:56.789012"]);
    assert!(texts[0][2].starts_with("2024-02-29T12:34:56.789012") && texts[0][3] == "2024", "{texts:?}");
    let found = both_ways(&engine, "SELECT d, dt FROM my.t WHERE id = 7").await.unwrap();
    assert_eq!(found.texts(), [["1000-01-01", "9999-12-31T23:59:59.999999"]]);
    // Never a wrong value: an error naming the column, or the documented NULL.
    for (id, column) in [(2, "d"), (3, "dt"), (4, "d")] {
        match both_ways(&engine, &format!("SELECT {column} FROM my.t WHERE id = {id}")).await {
            Ok(found) => assert_eq!(found.column(), ["NULL"], "{column} of row {id}"),
            Err(error) => assert!(error.contains(&format!("\"{column}\"")) && error.contains("\"my\""), "{error}"),
        }
    }
    for (id, text) in [(5, "PT3020399S"), (6, "-PT3600S")] {
        let found = both_ways(&engine, &format!("SELECT tm FROM my.t WHERE id = {id}")).await.unwrap();
        assert_eq!(found.column(), [text]);
    }
    assert_eq!(rows(&engine, "SELECT count(*) FROM my.t").await.column(), ["8"]);
    for test in [
        "y = 2024",
        "y > 1900",
        "y = 0",
        "d = DATE '2024-02-29'",
        "d < DATE '2000-01-01'",
        "d IS NULL",
        "d IS NOT NULL",
        "dt IS NULL",
        "dt = TIMESTAMP '2024-02-29 12:34:56.789012'",
        "dt > TIMESTAMP '2024-01-01'",
        "ts >= TIMESTAMP '1970-01-01 00:00:01'",
    ] {
        both_ways(&engine, &format!("SELECT id FROM my.t WHERE {test}")).await.ok();
    }
    for query in [
        "SELECT id, dt FROM my.t ORDER BY dt LIMIT 2",
        "SELECT y FROM my.t ORDER BY y DESC NULLS LAST LIMIT 2",
        "SELECT max(y), min(y) FROM my.t",
    ] {
        both_ways(&engine, query).await.ok();
    }
}

#[tokio::test]
async fn latest_rows_of_mariadb_are_found_along_an_index_and_zero_dates_stay_null() {
    let database = MysqlDatabase::create().await;
    database
        .execute(
            "SET SESSION sql_mode = ''; SET SESSION time_zone = '+00:00'; \
             CREATE TABLE t (id int PRIMARY KEY, d date, at datetime(6) NOT NULL, n int NOT NULL, KEY (d), KEY (at)); \
             INSERT INTO t SELECT seq, '2020-01-01' + INTERVAL seq % 900 DAY, '2020-01-01 00:00:01' + INTERVAL seq HOUR, seq % 9 FROM seq_1_to_20000; \
             UPDATE t SET d = NULL WHERE id % 2000 = 7; UPDATE t SET d = '2021-00-10', at = '2021-03-00 10:00:00' WHERE id % 1000 = 9; ANALYZE TABLE t",
        )
        .await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["my.t"]).await;
    for (way, query) in [
        (" UNION ALL ", "SELECT * FROM my.t ORDER BY d DESC, id LIMIT 30"),
        (" UNION ALL ", "SELECT id, d FROM my.t ORDER BY d DESC NULLS LAST, id DESC LIMIT 3"),
        (" UNION ALL ", "SELECT id FROM my.t WHERE n < 7 ORDER BY at, id LIMIT 40 OFFSET 10"),
        (" UNION ALL ", "SELECT n, at FROM my.t WHERE id <> 9 ORDER BY at DESC, id LIMIT 5"),
        (" UNION ALL ", "SELECT count(*), max(at) FROM (SELECT at FROM my.t ORDER BY at NULLS FIRST LIMIT 25)"),
        ("", "SELECT id, d FROM my.t WHERE d < DATE '2021-06-01' ORDER BY d DESC, id LIMIT 7"),
        ("ORDER BY CASE", "SELECT id FROM my.t WHERE id < 100 ORDER BY at DESC, id LIMIT 7"),
        ("", "SELECT max(d), min(d), max(at), min(id) FROM my.t"),
        ("", "SELECT id, at FROM my.t WHERE at = (SELECT max(at) FROM my.t)"),
    ] {
        reference.agrees(&engine, query).await.unwrap();
        let plan = rows(&engine, &format!("EXPLAIN {query}")).await.texts().concat().concat();
        for shown in [" UNION ALL ", "ORDER BY CASE"] {
            assert_eq!(plan.contains(shown), shown == way, "{plan}");
        }
    }
}

#[tokio::test]
async fn value_that_is_no_date_is_an_error_and_not_a_false_answer() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (id int, d date); INSERT INTO t VALUES (1, '2024-01-01')").await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    for value in ["2024-02-30", "not a date", ""] {
        let message = error(&engine, &format!("SELECT id FROM pg.t WHERE d = '{value}'")).await;
        assert!(!message.contains("\"pg\""), "the mistake is the query's: {message}");
    }
}
