//! What random queries found: each failure as a small case that stays.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, session};

/// Asks with pushdown, without and over a local copy, under these settings, and asserts the one answer.
async fn agree(services: &Services, tables: &[&str], settings: &[&str], query: &str) -> Vec<Vec<Option<String>>> {
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, tables).await;
    for setting in settings {
        reference.ask(setting).await.unwrap();
    }
    let right = reference.ask(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        for setting in settings {
            ask(&session, setting).await.unwrap();
        }
        let found = ask(&session, query).await.unwrap_or_else(|error| panic!("{query}\n{pushdown:?}: {error}"));
        assert_eq!(found.difference(&right), None, "{query}\npushdown {pushdown:?}");
    }
    right.sorted().rows
}

const PARTITIONED: [&str; 3] = [
    "SET datafusion.execution.target_partitions = 3",
    "SET datafusion.optimizer.hash_join_single_partition_threshold = 0",
    "SET datafusion.optimizer.hash_join_single_partition_threshold_rows = 0",
];

/// DataFusion hands a join's keys down by names of columns: the keys of `v.id` reached `o.id`, and its row was not read.
#[tokio::test]
async fn keys_of_a_join_do_not_reach_another_column_of_the_same_name() {
    let database = MysqlDatabase::with(
        "CREATE TABLE orders (id boolean, day date); \
         INSERT INTO orders VALUES (0, '1969-12-31'), (0, '0001-01-01'), (1, '1969-12-31'), (NULL, '2020-02-29'), \
         (0, '0001-01-01'), (0, '0001-01-01'); \
         CREATE TABLE visits (id bigint, page smallint, seconds double, day date); \
         INSERT INTO visits VALUES (-1, 1, NULL, '1969-12-31')",
    )
    .await;
    let services = Services::new().with_mysql("my", &database.url());
    let query = "SELECT 1.0 AS found FROM my.orders o LEFT JOIN my.visits v ON o.day = v.day \
        JOIN my.visits w ON v.id = w.id WHERE o.id = w.page AND (v.seconds <= 1.0) IS NULL";
    for settings in [&PARTITIONED[..], &[]] {
        let rows = agree(&services, &["my.orders", "my.visits"], settings, query).await;
        assert_eq!(rows, [[Some("1.0".to_owned())]]);
    }
}

/// The side that is aggregated early has no column to group by: a constant alone made an aggregate of nothing, which failed, and a
/// count made a row of no rows, which each row of the other side met.
#[tokio::test]
async fn join_without_keys_is_not_aggregated_beneath() {
    let postgres = PostgresDatabase::with("CREATE TABLE none (x int)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE words (w varchar(20)); INSERT INTO words VALUES ('a'), ('b')").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for query in [
        "SELECT DISTINCT CAST('1' AS DOUBLE) AS one FROM pg.none n JOIN my.words w ON true",
        "SELECT w.w, count(n.x) AS many FROM my.words w CROSS JOIN pg.none n GROUP BY w.w",
        "SELECT w.w, sum(n.x) AS total FROM my.words w JOIN pg.none n ON w.w = 'a' GROUP BY w.w",
    ] {
        let rows = agree(&services, &["pg.none", "my.words"], &[], query).await;
        assert!(rows.is_empty(), "{query}: {rows:?}");
    }
}

/// MariaDB remembers what a subquery answered by the values of the outer row under their collation, and took the answer for 'A' for that
/// for 'a'.
#[tokio::test]
async fn answer_of_a_subquery_is_not_remembered_for_another_text_that_folds_alike() {
    let database = MysqlDatabase::with(
        "CREATE TABLE t (id int PRIMARY KEY, s varchar(20)); \
         INSERT INTO t VALUES (0, 'A'), (1, 'a'), (2, 'A'), (3, 'a'), (4, 'a'), (5, '\u{E1}'), (6, 'A ')",
    )
    .await;
    let services = Services::new().with_mysql("my", &database.url());
    let query = "SELECT a.id FROM my.t a WHERE NOT EXISTS (SELECT 1 FROM my.t b WHERE b.id % 3 = 1 AND b.s = a.s)";
    let rows = agree(&services, &["my.t"], &[], query).await;
    assert_eq!(rows.concat(), ["0", "2", "5", "6"].map(|id| Some(id.to_owned())));
}
