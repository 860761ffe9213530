//! SQLite's freedom: any value may stand in any column.

use headwater_sql_tests::services::{Reference, Services, both_ways, rows};

#[tokio::test]
async fn null_in_the_first_row_does_not_decide_the_type() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER, i INTEGER, r REAL, s TEXT, b BLOB, d DATE, n DECIMAL(10,2));
         INSERT INTO t VALUES (1, NULL, NULL, NULL, NULL, NULL, NULL), (2, 7, 1.5, 'x', x'01', '2024-01-01', 1.25);",
    );
    let engine = services.engine().await;
    let found = both_ways(&engine, "SELECT i, r, s, b, d, n FROM lite.t ORDER BY id").await.unwrap();
    assert_eq!(found.texts()[1], ["7", "1.5", "x", "01", "2024-01-01", "1.25"]);
    assert_eq!(found.texts()[0], ["NULL"; 6]);
}

#[tokio::test]
async fn value_that_does_not_fit_is_an_error_with_table_column_and_row() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER, n INTEGER);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000) INSERT INTO t SELECT x, x FROM c;
         UPDATE t SET n = 'not a number' WHERE id = 15000;",
    );
    let engine = services.engine().await;
    for query in ["SELECT n FROM lite.t", "SELECT sum(n) FROM lite.t", "SELECT count(*) FROM lite.t WHERE n + 0 >= 0"] {
        let error = both_ways(&engine, query).await.unwrap_err();
        for part in ["\"lite\"", "\"t\"", "\"n\"", "15000"] {
            assert!(error.contains(part), "{query}: {error} names {part}");
        }
        assert!(!error.contains("not a number"), "the value itself may be private: {error}");
    }
    assert_eq!(rows(&engine, "SELECT count(*) FROM lite.t").await.column(), ["20000"]);
    assert_eq!(rows(&engine, "SELECT max(id) FROM lite.t").await.column(), ["20000"]);
}

#[tokio::test]
async fn mixed_storage_classes_are_compared_as_they_are_read() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, any, s TEXT, r REAL);
         INSERT INTO t VALUES (1, 1, 1, 1), (2, '1', '1', '1'), (3, 1.5, 1.5, 1.5), (4, NULL, NULL, NULL), (5, 'x', 'x', 2), (6, '10', '10', 10), (7, 9, '9', 9);",
    );
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["lite.t"]).await;
    for test in [
        "any = '1'",
        "any > '1'",
        "any < 'x'",
        "any IS NULL",
        "s = '1'",
        "s > '10'",
        "s IN ('1', '9')",
        "s LIKE '1%'",
        "r = 1",
        "r > 1.5",
        "r IN (1, 2)",
    ] {
        reference
            .agrees(&engine, &format!("SELECT id FROM lite.t WHERE {test}"))
            .await
            .unwrap_or_else(|error| panic!("{test}: {error}"));
    }
    for order in ["any", "s", "r DESC"] {
        reference.agrees(&engine, &format!("SELECT id FROM lite.t ORDER BY {order}, id LIMIT 3")).await.unwrap();
    }
}

#[tokio::test]
async fn booleans_and_dates_that_are_not_are_named() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER, b BOOLEAN, d DATE, ts TIMESTAMP);
         INSERT INTO t VALUES (1, 1, '2024-01-01', '2024-01-01 10:00:00'), (2, 0, '2024-01-02', '2024-01-02T10:00:00.5'), (3, NULL, NULL, NULL),
           (4, 'maybe', 'someday', 'sometime');",
    );
    let engine = services.engine().await;
    for column in ["b", "d", "ts"] {
        let error = both_ways(&engine, &format!("SELECT {column} FROM lite.t")).await.unwrap_err();
        assert!(error.contains(&format!("\"{column}\"")) && error.contains("\"lite\""), "{error}");
    }
    services.sqlite("lite").execute_batch("DELETE FROM t WHERE id = 4").unwrap();
    let found = both_ways(&engine, "SELECT b, d, ts FROM lite.t ORDER BY id").await.unwrap();
    assert_eq!(found.texts()[0], ["true", "2024-01-01", "2024-01-01T10:00:00"]);
    let reference = Reference::copy(&engine, &["lite.t"]).await;
    for test in [
        "b",
        "NOT b",
        "b IS NULL",
        "b = true",
        "d = DATE '2024-01-02'",
        "d < DATE '2024-01-02'",
        "ts > TIMESTAMP '2024-01-01 10:00:00'",
        "ts = TIMESTAMP '2024-01-02 10:00:00.5'",
    ] {
        reference
            .agrees(&engine, &format!("SELECT id FROM lite.t WHERE {test}"))
            .await
            .unwrap_or_else(|error| panic!("{test}: {error}"));
    }
}

#[tokio::test]
async fn large_result_comes_in_batches() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 50000) INSERT INTO t SELECT x FROM c;",
    );
    let engine = services.engine().await;
    let batches = engine.sql("SELECT id FROM lite.t").await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 50_000);
    assert!(batches.len() > 1 && batches.iter().all(|batch| batch.num_rows() <= 8192), "{} batches", batches.len());
}
