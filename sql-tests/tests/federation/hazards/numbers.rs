//! Arithmetic, aggregates and the ends of number types.

use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, both_ways, error, rows};

#[tokio::test]
async fn integer_division_is_integer_at_every_source() {
    let rows = "INSERT INTO t VALUES (1, -7), (2, 7), (3, 0), (4, NULL), (5, 2147483647), (6, -2147483648)";
    let everywhere = Everywhere::with(
        &format!("CREATE TABLE t (id int, v int); {rows}"),
        &format!("CREATE TABLE t (id int, v int); {rows}"),
        &format!("CREATE TABLE t (id INTEGER, v INTEGER); {rows}"),
    )
    .await;
    let reference = everywhere.reference().await;
    for answer in everywhere.agrees(&reference, "SELECT id FROM {t} WHERE id / 2 = 1 ORDER BY id").await {
        assert_eq!(answer.unwrap().column(), ["2", "3"]);
    }
    for query in [
        "SELECT id, v / 2, v % 3 FROM {t} WHERE v / 2 = -3",
        "SELECT id FROM {t} WHERE v % 2 = 1",
        "SELECT id FROM {t} WHERE -v > 0",
        "SELECT id FROM {t} WHERE abs(v) = 7",
        "SELECT id, v + 1 FROM {t} WHERE v + 1 < 0",
        "SELECT id, v / 0 FROM {t} WHERE id = 1",
        "SELECT id FROM {t} WHERE 1 / v = 0",
        "SELECT round(v / 2.0) FROM {t}",
        "SELECT avg(v), sum(v), min(v), max(v), count(v), count(*) FROM {t}",
        "SELECT v & 1, v | 1 FROM {t} WHERE v & 1 = 1",
        "SELECT id FROM {t} WHERE v = 7.0",
        "SELECT id FROM {t} WHERE v > 6.5",
        "SELECT id FROM {t} WHERE v = '7'",
        "SELECT id FROM {t} WHERE v IN (7, 9223372036854775807)",
        "SELECT id FROM {t} WHERE v < 99999999999",
    ] {
        everywhere.agrees(&reference, query).await;
    }
}

#[tokio::test]
async fn sum_past_the_largest_integer_is_the_same_both_ways() {
    let rows = "INSERT INTO t VALUES (1, 9223372036854775807), (2, 9223372036854775807), (3, -9223372036854775808)";
    let everywhere = Everywhere::with(
        &format!("CREATE TABLE t (id int, v bigint); {rows}"),
        &format!("CREATE TABLE t (id int, v bigint); {rows}"),
        &format!("CREATE TABLE t (id INTEGER, v INTEGER); {rows}"),
    )
    .await;
    let reference = everywhere.reference().await;
    for query in [
        "SELECT sum(v) FROM {t} WHERE v > 0",
        "SELECT avg(v) FROM {t}",
        "SELECT -v FROM {t} WHERE id = 3",
        "SELECT v * 2 FROM {t} WHERE id = 1",
        "SELECT abs(v) FROM {t} WHERE id = 3",
        "SELECT v % -1 FROM {t} WHERE id = 3",
        "SELECT id FROM {t} WHERE v = 9223372036854775807",
        "SELECT id FROM {t} WHERE v >= -9223372036854775808 ORDER BY v, id LIMIT 1",
        "SELECT id FROM {t} WHERE v = 9223372036854775808",
        "SELECT id FROM {t} WHERE v < 9223372036854775808",
    ] {
        everywhere.agrees(&reference, query).await;
    }
}

#[tokio::test]
async fn unsigned_integers_keep_their_upper_half() {
    let database = MysqlDatabase::with(
        "CREATE TABLE t (id int, b bigint unsigned, i int unsigned, m mediumint unsigned, s smallint unsigned, y tinyint unsigned, flag bool); \
         INSERT INTO t VALUES (1, 18446744073709551615, 4294967295, 16777215, 65535, 255, true), (2, 0, 0, 0, 0, 0, false), \
         (3, 9223372036854775808, 2147483648, 8388608, 32768, 128, NULL), (4, NULL, NULL, NULL, NULL, NULL, 7)",
    )
    .await;
    let engine = Services::new().with_mysql("my", &database.url());
    let engine = engine.engine().await;
    let found = both_ways(&engine, "SELECT b, i, m, s, y FROM my.t WHERE id = 1").await.unwrap();
    assert_eq!(found.texts(), [["18446744073709551615", "4294967295", "16777215", "65535", "255"]]);
    let reference = Reference::copy(&engine, &["my.t"]).await;
    for column in ["b", "i", "m", "s", "y", "flag"] {
        for query in [
            format!("SELECT id, {column} FROM my.t WHERE {column} > 200"),
            format!("SELECT id FROM my.t WHERE {column} = 255"),
            format!("SELECT id FROM my.t WHERE {column} >= -1"),
            format!("SELECT {column} FROM my.t ORDER BY {column} DESC NULLS LAST LIMIT 1"),
            format!("SELECT sum({column}), min({column}), max({column}) FROM my.t"),
        ] {
            reference.agrees(&engine, &query).await.ok();
        }
    }
    reference.agrees(&engine, "SELECT id FROM my.t WHERE b = 18446744073709551615").await.unwrap();
    reference.agrees(&engine, "SELECT id FROM my.t WHERE flag").await.ok();
}

#[tokio::test]
async fn decimals_keep_every_digit_and_scale() {
    let rows = "INSERT INTO t VALUES (1, 12345678901234567890.1234567890, 12345678901234567890123456789012345678, 1.10, 0.005), \
        (2, -99999999999999999999.9999999999, -99999999999999999999999999999999999999, -0.01, 0.015), \
        (3, 0.0000000001, 1, 99999999.99, -0.005), (4, NULL, NULL, NULL, NULL)";
    let columns = "id int, wide decimal(30,10), full_width decimal(38,0), money decimal(10,2), small decimal(6,3)";
    let everywhere = Everywhere::with(
        &format!("CREATE TABLE t ({columns}); {rows}"),
        &format!("CREATE TABLE t ({columns}); {rows}"),
        "CREATE TABLE t (id INTEGER, wide TEXT, full_width TEXT, money DECIMAL(10,2), small DECIMAL(6,3)); \
         INSERT INTO t VALUES (1, '', '', 1.10, 0.005), (2, '', '', -0.01, 0.015), (3, '', '', 99999999.99, -0.005), (4, NULL, NULL, NULL, NULL)",
    )
    .await;
    for service in ["pg", "my"] {
        let found = both_ways(&everywhere.engine, &format!("SELECT wide, full_width FROM {service}.t ORDER BY id"))
            .await
            .unwrap();
        let expected = [
            ["12345678901234567890.1234567890", "12345678901234567890123456789012345678"],
            ["-99999999999999999999.9999999999", "-99999999999999999999999999999999999999"],
            ["0.0000000001", "1"],
            ["NULL", "NULL"],
        ];
        assert_eq!(found.texts(), expected, "{service}");
    }
    let reference = everywhere.reference().await;
    for query in [
        "SELECT id FROM {t} WHERE wide = 12345678901234567890.1234567890",
        "SELECT id FROM {t} WHERE wide > 0.00000000005",
        "SELECT id FROM {t} WHERE wide = 0.00000000010000001",
        "SELECT id FROM {t} WHERE full_width = 12345678901234567890123456789012345678",
        "SELECT id FROM {t} WHERE money = 1.1",
        "SELECT id FROM {t} WHERE money = 1.100",
        "SELECT id FROM {t} WHERE money = 1.101",
        "SELECT id FROM {t} WHERE money > 1",
        "SELECT id FROM {t} WHERE money IN (1.10, -0.01)",
        "SELECT id FROM {t} WHERE money BETWEEN -0.015 AND 1.105",
        "SELECT id FROM {t} WHERE money = CAST(1.1 AS DOUBLE)",
        "SELECT money FROM {t} ORDER BY money DESC NULLS LAST LIMIT 1",
        "SELECT sum(money), avg(money), min(money), max(money) FROM {t}",
        "SELECT sum(wide), avg(wide) FROM {t}",
        "SELECT sum(full_width), avg(full_width) FROM {t}",
        "SELECT avg(small), sum(small) / 3, round(small, 2), money * small, money / small FROM {t} GROUP BY small, money",
        "SELECT count(DISTINCT money) FROM {t}",
    ] {
        everywhere.agrees(&reference, query).await;
    }
}

#[tokio::test]
async fn numerics_beyond_decimal_are_text_and_never_wrong() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, free numeric, wide numeric(50,10), huge numeric(100,50), negative_scale numeric(5,-2)); \
         INSERT INTO t VALUES (1, 'NaN', 1234567890123456789012345678901234567890.0123456789, 1.5, 12345), \
         (2, 'Infinity', -0.0000000001, -2, 100), (3, 1e100, NULL, NULL, NULL), (4, 0.10, 0, 0, 0), (5, '-Infinity', 1, 1, 1)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT free FROM pg.t ORDER BY id").await.unwrap();
    let million = format!("1{}", "0".repeat(100));
    assert_eq!(found.column(), ["NaN", "Infinity", million.as_str(), "0.10", "-Infinity"]);
    let found = both_ways(&engine, "SELECT wide FROM pg.t WHERE id <= 2 ORDER BY id").await.unwrap();
    assert_eq!(found.column(), ["1234567890123456789012345678901234567890.0123456789", "-0.0000000001"]);
    let found = both_ways(&engine, "SELECT negative_scale FROM pg.t WHERE id = 1").await.unwrap();
    assert_eq!(found.column(), ["12300"]);
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for query in [
        "SELECT id FROM pg.t WHERE free = '0.10'",
        "SELECT id FROM pg.t WHERE free = '0.1'",
        "SELECT id FROM pg.t WHERE free < '5'",
        "SELECT id FROM pg.t WHERE wide > 0",
        "SELECT id FROM pg.t WHERE huge = '1.5'",
        "SELECT id FROM pg.t WHERE negative_scale >= 100",
        "SELECT free FROM pg.t ORDER BY free LIMIT 2",
        "SELECT sum(wide), max(wide) FROM pg.t",
    ] {
        reference.agrees(&engine, query).await.ok();
    }
}

/// A service of the same database that reads them as decimals: what is computed there is what is computed here, and a value that the decimal
/// does not hold is an error wherever it would be read.
#[tokio::test]
async fn loose_numerics_read_as_decimals_are_computed_at_their_source() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id int, k int, n numeric); \
         INSERT INTO t SELECT id, id % 4, CASE WHEN id % 7 = 0 THEN NULL ELSE (id - 50) * 0.125 END FROM generate_series(1, 100) id; \
         INSERT INTO t VALUES (101, 1, 1.50), (102, 2, 1.5), (103, 3, 99999999999999999999.999999999); \
         CREATE VIEW totals AS SELECT k, sum(n) AS total FROM t WHERE id <= 102 GROUP BY k; \
         CREATE TABLE odd (id int, n numeric); INSERT INTO odd VALUES (1, 0.0000000001), (2, 5), (3, 'NaN'), (4, 1e30)",
    )
    .await;
    let source = format!("connector: postgres, url: \"{}\", numeric: \"decimal(38,9)\"", database.url());
    let services = Services::new().with("pg", &source).with_postgres("raw", &database.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["pg.t", "pg.totals"]).await;
    for query in [
        "SELECT id FROM pg.t WHERE n = 1.5 ORDER BY id",
        "SELECT id, n FROM pg.t WHERE n > 1.5 AND n < 3 ORDER BY n DESC, id LIMIT 3",
        "SELECT k, sum(n), avg(n), min(n), max(n), count(DISTINCT n) FROM pg.t GROUP BY k ORDER BY k",
        "SELECT n, count(*) FROM pg.t WHERE k IN (1, 2) GROUP BY n ORDER BY n",
        "SELECT sum(n * 2 + k), sum(abs(n)) FROM pg.t WHERE id < 103",
        "SELECT k FROM pg.totals WHERE total > 10 ORDER BY k",
        "SELECT count(*) FROM pg.t a JOIN pg.totals b ON a.n = b.total",
    ] {
        reference.agrees(&engine, query).await.unwrap();
    }
    let plan =
        rows(&engine, "EXPLAIN SELECT k, sum(n) FROM pg.t WHERE n > 1.5 GROUP BY k").await.texts().concat().concat();
    assert!(plan.contains("sum(\"n\")") && plan.contains("\"n\" > $1::numeric"), "{plan}");
    let both = "SELECT count(*) FROM pg.t a JOIN raw.t b ON a.id = b.id WHERE a.n > 1.5 AND b.n = '1.500'";
    assert_eq!(both_ways(&engine, both).await.unwrap().column(), ["0"]);
    assert_eq!(
        both_ways(&engine, "SELECT a.n, b.n FROM pg.t a JOIN raw.t b ON a.id = b.id WHERE a.id = 101")
            .await
            .unwrap()
            .rows,
        [[Some("1.500000000".to_owned()), Some("1.50".to_owned())]]
    );
    for (condition, column) in [("id = 1", "behind the point"), ("id = 3", "NaN"), ("id = 4", "digits")] {
        let error = error(&engine, &format!("SELECT n FROM pg.odd WHERE {condition}")).await;
        assert!(error.contains("\"n\"") && error.contains("public.odd") && error.contains(column), "{error}");
    }
    assert_eq!(rows(&engine, "SELECT n FROM pg.odd WHERE id = 2").await.column(), ["5.000000000"]);
}

#[tokio::test]
async fn nan_in_a_constrained_numeric_is_an_error_that_names_the_column() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (id int, price numeric(10,2)); INSERT INTO t VALUES (1, 1), (2, 'NaN')")
            .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let error = both_ways(&engine, "SELECT price FROM pg.t").await.unwrap_err();
    assert!(error.contains("\"price\"") && error.contains("\"pg\"") && error.contains('t'), "{error}");
    assert_eq!(both_ways(&engine, "SELECT id FROM pg.t ORDER BY id").await.unwrap().column(), ["1", "2"]);
}

#[tokio::test]
async fn floats_compare_as_locally_with_signed_zeros_and_nan() {
    let everywhere = Everywhere::with(
        "CREATE TABLE t (id int, d double precision, f real); INSERT INTO t VALUES (1, 0.0, 0.0), (2, '-0.0', '-0.0'), (3, 'NaN', 'NaN'), \
         (4, 'Infinity', 'Infinity'), (5, '-Infinity', '-Infinity'), (6, 1.5, 1.5), (7, 0.1, 0.1), (8, 5e-324, 1e-45), (9, NULL, NULL)",
        "CREATE TABLE t (id int, d double, f float); INSERT INTO t VALUES (1, 0.0, 0.0), (2, -0.0e0, -0.0e0), (6, 1.5, 1.5), (7, 0.1, 0.1), \
         (8, 2.2250738585072014e-308, 1e-37), (9, NULL, NULL)",
        "CREATE TABLE t (id INTEGER, d DOUBLE, f REAL); INSERT INTO t VALUES (1, 0.0, 0.0), (2, -0.0, -0.0), (4, 9e999, 9e999), (5, -9e999, -9e999), \
         (6, 1.5, 1.5), (7, 0.1, 0.1), (8, 5e-324, 1e-45), (9, NULL, NULL)",
    )
    .await;
    let reference = everywhere.reference().await;
    for column in ["d", "f"] {
        for test in [
            "= 0.0",
            "= -0.0",
            "<> 0.0",
            "< 0.0",
            "<= 0.0",
            "<= -0.0",
            "> 0.0",
            ">= 0.0",
            "> -0.0",
            "= 'NaN'::double",
            "<> 'NaN'::double",
            "< 'NaN'::double",
            ">= 'NaN'::double",
            "> 1e308",
            "= 1.5",
            "= 0.1",
            "= 0.1::float",
            "IN (1.5, 0.0)",
            "NOT IN (1.5, 0.0)",
            "BETWEEN -0.0 AND 0.1",
            "= 'Infinity'::double",
            "< 'Infinity'::double",
            "IS NULL",
        ] {
            everywhere.agrees(&reference, &format!("SELECT id, {column} FROM {{t}} WHERE {column} {test}")).await;
        }
        for query in [
            format!("SELECT id FROM {{t}} ORDER BY {column}, id LIMIT 4"),
            format!("SELECT id FROM {{t}} ORDER BY {column} DESC NULLS LAST, id LIMIT 4"),
            format!("SELECT {column}, count(*) FROM {{t}} GROUP BY {column}"),
            format!("SELECT min({column}), max({column}) FROM {{t}}"),
            format!("SELECT l.id, r.id FROM {{t}} l JOIN {{t}} r ON l.{column} = r.{column}"),
            format!("SELECT round({column}), {column} % 1, -{column} FROM {{t}}"),
        ] {
            everywhere.agrees(&reference, &query).await;
        }
    }
}
