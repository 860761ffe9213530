//! What a row is made of: casts, conditions and projections.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::Services;

use super::answers;

/// Asserts that the rows of a query, of one column, are these.
async fn finds(services: &Services, tables: &[&str], query: &str, right: &[&str]) {
    let right: Vec<&[&str]> = right.iter().map(std::slice::from_ref).collect();
    answers(services, tables, query, &right).await;
}

/// One table in three services.
async fn everywhere(statements: &str) -> (Services, PostgresDatabase, MysqlDatabase) {
    let (postgres, mysql) = (PostgresDatabase::with(statements).await, MysqlDatabase::with(statements).await);
    let services = Services::new()
        .with_postgres("pg", &postgres.url())
        .with_mysql("my", &mysql.url())
        .with_sqlite("lite", statements);
    (services, postgres, mysql)
}

const TABLES: [&str; 3] = ["pg.t", "my.t", "lite.t"];

/// A cast that cuts was taken away where it was compared: `CAST(total AS BIGINT) = 10` was `total = 10.00`.
#[tokio::test]
async fn cast_that_cuts_is_done_before_it_is_compared() {
    let (services, _postgres, _mysql) = everywhere(
        "CREATE TABLE t (id integer, total decimal(12, 2), big bigint); \
         INSERT INTO t VALUES (1, 10.00, 10000000000), (2, 10.50, 7), (3, 10.99, NULL), (4, 11.00, NULL), (5, 9.99, NULL), \
         (6, -0.50, NULL), (7, NULL, NULL)",
    )
    .await;
    for table in TABLES {
        for (condition, right) in [
            ("CAST(total AS BIGINT) = 10", &["1", "2", "3"][..]),
            ("10 = CAST(total AS SMALLINT)", &["1", "2", "3"]),
            ("arrow_cast(total, 'Int64') = 10", &["1", "2", "3"]),
            ("CAST(total AS INT) <> 10", &["4", "5", "6"]),
            ("CAST(total AS BIGINT) > 10", &["4"]),
            ("CAST(total AS BIGINT) <= 10", &["1", "2", "3", "5", "6"]),
            ("CAST(total AS BIGINT) < 10", &["5", "6"]),
            ("CAST(total AS INT) = 0", &["6"]),
            ("CAST(total AS BIGINT) IN (10, 12)", &["1", "2", "3"]),
            ("CAST(total AS BIGINT) NOT IN (10, 12)", &["4", "5", "6"]),
            ("CAST(total AS BIGINT) = 10 OR CAST(total AS BIGINT) = 9", &["1", "2", "3", "5"]),
            ("CAST(total AS BIGINT) BETWEEN 9 AND 10", &["1", "2", "3", "5"]),
            ("CAST(total AS BIGINT) IS NOT DISTINCT FROM 10", &["1", "2", "3"]),
            ("CASE CAST(total AS BIGINT) WHEN 10 THEN true ELSE false END", &["1", "2", "3"]),
            ("CAST(CAST(total AS BIGINT) AS INT) = 10", &["1", "2", "3"]),
            ("CAST(total AS DECIMAL(12, 0)) = 11", &["2", "3", "4"]),
            ("CAST(total AS DECIMAL(14, 4)) = 10.5", &["2"]),
            ("TRY_CAST(big AS INT) > 5", &["2"]),
            ("NOT (CAST(total AS BIGINT) = 10)", &["4", "5", "6"]),
        ] {
            finds(&services, &[table], &format!("SELECT id FROM {table} WHERE {condition}"), right).await;
        }
        let whole = format!("(SELECT id, CAST(total AS BIGINT) AS whole FROM {table}) AS v");
        for (query, right) in [
            (format!("SELECT id FROM {whole} WHERE whole = 10"), &["1", "2", "3"][..]),
            (format!("SELECT count(*) AS n FROM {table} WHERE CAST(total AS BIGINT) = 10"), &["3"]),
            (format!("SELECT count(*) FILTER (WHERE CAST(total AS BIGINT) = 10) AS n FROM {table}"), &["3"]),
            (format!("SELECT count(*) AS n FROM {whole} GROUP BY whole HAVING whole = 10"), &["3"]),
            (
                format!("SELECT max(id) AS n FROM {table} GROUP BY total > 0 HAVING CAST(max(total) AS BIGINT) = 11"),
                &["5"],
            ),
            (
                format!(
                    "SELECT a.id FROM {table} AS a JOIN {table} AS b ON a.id = b.id AND CAST(b.total AS BIGINT) = 10"
                ),
                &["1", "2", "3"],
            ),
            (
                format!(
                    "SELECT b.id FROM {table} AS a LEFT JOIN {table} AS b ON a.id = b.id AND CAST(b.total AS INT) = 10"
                ),
                &["1", "2", "3", "NULL", "NULL", "NULL", "NULL"],
            ),
            (format!("SELECT CAST(total AS BIGINT) = 10 AS ten FROM {table} WHERE id = 2"), &["true"]),
        ] {
            finds(&services, &[table], &query, right).await;
        }
    }
}

/// Files are pruned by conditions that were simplified once more.
#[tokio::test]
async fn cast_that_cuts_is_done_before_files_are_read() {
    let services = Services::new().with_files("files");
    let totals = Decimal128Array::from(vec![1000, 1050, 1099, 1100]).with_precision_and_scale(12, 2).unwrap();
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        ("total", Arc::new(totals) as ArrayRef),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![0, 1, 2, 3])) as ArrayRef),
    ])
    .unwrap();
    let file = std::fs::File::create(services.folder("files").join("t.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for (condition, right) in [
        ("CAST(total AS BIGINT) = 10", &["1", "2", "3"][..]),
        ("CAST(total AS BIGINT) > 10", &["4"]),
        ("CAST(total AS DECIMAL(12, 0)) = 11", &["2", "3", "4"]),
        ("at < TIMESTAMP '1970-01-01 00:00:00.0015'", &["1", "2"]),
        ("at = TIMESTAMP '1970-01-01 00:00:00.0015'", &[]),
        ("at > TIMESTAMP '1970-01-01 00:00:00.001999999'", &["3", "4"]),
    ] {
        finds(&services, &["files.t"], &format!("SELECT id FROM files.t WHERE {condition}"), right).await;
    }
}

/// A projection was moved beneath the filter that keeps from it what it can't be computed of.
#[tokio::test]
async fn what_fails_is_computed_of_the_rows_that_are_left() {
    let (services, _postgres, _mysql) = everywhere(
        "CREATE TABLE t (a integer, b integer, c integer, s varchar(9)); \
         INSERT INTO t VALUES (1, 2, 3, '7'), (0, 1, 1, 'x'), (-2, 4, 2, '8'), (NULL, 1, 1, '')",
    )
    .await;
    for table in TABLES {
        for (query, right) in [
            ("SELECT a, (b + c) / a AS x FROM t WHERE abs(a) > 0", &[&["1", "5"][..], &["-2", "-3"]][..]),
            ("SELECT a, b % a + c AS x FROM t WHERE abs(a) > 0", &[&["1", "3"], &["-2", "2"]]),
            ("SELECT a, CAST(s AS INT) + b AS x FROM t WHERE abs(a) > 0", &[&["1", "9"], &["-2", "12"]]),
            (
                "SELECT a, (sum(b) + max(c)) / a AS x FROM t GROUP BY a HAVING abs(a) + count(*) > 1",
                &[&["1", "5"], &["-2", "-3"]],
            ),
            (
                "SELECT t.a, (t.b + u.c) / t.a AS x FROM t JOIN t AS u ON t.b = u.b WHERE abs(t.a) + abs(u.a) > 0",
                &[&["1", "5"], &["-2", "-3"]],
            ),
            ("SELECT a, a > 0 AS x FROM t WHERE abs(a) + b > 0", &[&["1", "true"], &["0", "false"], &["-2", "false"]]),
            ("SELECT c, b AS x FROM t WHERE abs(a) > 0", &[&["3", "2"], &["2", "4"]]),
        ] {
            let query =
                query.replace("FROM t", &format!("FROM {table} AS t")).replace("JOIN t", &format!("JOIN {table}"));
            answers(&services, &[table], &query, right).await;
        }
    }
    let query = "SELECT t.a, u.b FROM pg.t AS t LEFT JOIN my.t AS u \
        ON u.b > 1 AND CASE WHEN t.a <> 0 THEN 6 / t.a + u.b ELSE 0 END > 7";
    let right = [&["1", "2"][..], &["1", "4"], &["0", "NULL"], &["-2", "NULL"], &["NULL", "NULL"]];
    answers(&services, &["pg.t", "my.t"], query, &right).await;
}

/// Dates and timestamps were compared as nanoseconds, which end in the year 2262.
#[tokio::test]
async fn instants_are_compared_in_their_own_unit() {
    const ROWS: &str = "INSERT INTO t VALUES (1, '9999-12-31', '2024-01-01 00:00:00'), (2, '2024-01-01', '2024-01-01 12:00:00.000001'), \
        (3, '2024-01-02', '9999-12-31 00:00:00'), (4, NULL, NULL)";
    let with = |timestamp: &str| format!("CREATE TABLE t (id integer, valid_to date, seen {timestamp}); {ROWS}");
    let postgres = PostgresDatabase::with(&with("timestamp")).await;
    let mysql = MysqlDatabase::with(&with("datetime(6)")).await;
    let services = Services::new()
        .with_postgres("pg", &postgres.url())
        .with_mysql("my", &mysql.url())
        .with_sqlite("lite", &with("timestamp"));
    for table in TABLES {
        for (condition, right) in [
            ("valid_to > now()", &["1"][..]),
            ("now() <= valid_to", &["1"]),
            ("valid_to > TIMESTAMP '2024-01-01 00:00:00'", &["1", "3"]),
            ("valid_to >= TIMESTAMP '2024-01-01 00:00:00'", &["1", "2", "3"]),
            ("valid_to >= TIMESTAMP '2024-01-01 12:00:00'", &["1", "3"]),
            ("valid_to <= TIMESTAMP '2024-01-01 12:00:00'", &["2"]),
            ("valid_to < TIMESTAMP '2024-01-01 00:00:00'", &[]),
            ("valid_to = TIMESTAMP '2024-01-02 00:00:00'", &["3"]),
            ("valid_to = TIMESTAMP '2024-01-02 12:00:00'", &[]),
            ("(valid_to = TIMESTAMP '2024-01-02 12:00:00') IS NULL", &["4"]),
            ("valid_to <> TIMESTAMP '2024-01-02 12:00:00'", &["1", "2", "3"]),
            ("valid_to IN (TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-02 00:00:01')", &["2"]),
            ("valid_to BETWEEN TIMESTAMP '2024-01-01 00:00:01' AND TIMESTAMP '9999-12-31 00:00:00'", &["1", "3"]),
            ("valid_to = TIMESTAMP '9999-12-31 00:00:00'", &["1"]),
            ("valid_to > seen", &["1"]),
            ("seen < TIMESTAMP '9999-12-31 00:00:00'", &["1", "2"]),
            ("seen >= TIMESTAMP '9999-12-31 00:00:00'", &["3"]),
            ("seen = '9999-12-31T00:00:00'", &["3"]),
            ("seen <= '9999-12-31T23:59:59.999999'", &["1", "2", "3"]),
            ("seen > TIMESTAMP '2024-01-01 12:00:00.0000005'", &["2", "3"]),
            ("seen < TIMESTAMP '2024-01-01 12:00:00.0000015'", &["1", "2"]),
            ("seen = TIMESTAMP '2024-01-01 12:00:00.0000015'", &[]),
            ("seen = TIMESTAMP '2024-01-01 12:00:00.000001'", &["2"]),
        ] {
            finds(&services, &[table], &format!("SELECT id FROM {table} WHERE {condition}"), right).await;
        }
        let joined = format!("SELECT a.id FROM {table} AS a JOIN {table} AS b ON a.valid_to = b.seen");
        finds(&services, &[table], &joined, &["1", "2"]).await;
    }
}
