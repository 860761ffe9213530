//! Sources that make few rows a second: what came is handed on, and not held back for a full batch.

use std::time::Duration;

use futures::StreamExt;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, rows};
use headwater_sql_tests::wait;

/// All rows take ten times as long. Both servers send a few thousand bytes at a time, so rows are wide.
const SOON: Duration = Duration::from_secs(5);

/// Five thousand rows, a hundred of them a second.
async fn slow() -> (PostgresDatabase, MysqlDatabase, Services) {
    let postgres = PostgresDatabase::with(
        "CREATE VIEW slow AS SELECT i::bigint AS id, CASE WHEN pg_sleep(0.01) IS NULL THEN 1 ELSE 0 END AS z, repeat('x', 2000) AS pad \
         FROM generate_series(1, 5000) i",
    )
    .await;
    let mysql = MysqlDatabase::with(
        "CREATE VIEW slow AS SELECT CAST(seq AS SIGNED) AS id, sleep(0.01) AS z, repeat('x', 2000) AS pad FROM seq_1_to_5000",
    )
    .await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    (postgres, mysql, services)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_slow_source_are_handed_on_as_they_come() {
    let (_postgres, _mysql, services) = slow().await;
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        let query = format!("SELECT id, pad, z FROM {service}.slow");
        let mut stream = engine.sql(&query).await.unwrap().into_stream().unwrap();
        let first = wait::within("a first batch", SOON, stream.next()).await.unwrap().unwrap();
        assert!((1..1000).contains(&first.num_rows()), "{service}: {} rows", first.num_rows());
        let second = wait::within("a second batch", SOON, stream.next()).await.unwrap().unwrap();
        assert!((1..1000).contains(&second.num_rows()), "{service}: {} rows", second.num_rows());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_above_a_filter_over_a_slow_source_is_met_soon() {
    let (_postgres, _mysql, services) = slow().await;
    let engine = services.engine().await;
    for service in ["pg", "my"] {
        // The source does not compute it: rows are filtered here.
        let query = format!("SELECT id, pad FROM {service}.slow WHERE md5(CAST(z AS varchar)) <> 'x' LIMIT 3");
        let found = wait::within("three rows", SOON, rows(&engine, &query)).await;
        assert_eq!(found.texts().len(), 3, "{service}");
    }
}
