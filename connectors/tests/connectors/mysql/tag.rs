//! What the server's list of processes says of a query's statements.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use headwater_source::{OptionValue, QueryId, Scan, ScanRequest, Source};

use super::{Database, table};

/// How many of the connector's connections show a text.
fn showing(database: &Database, text: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID() AND INFO LIKE '%{text}%'",
        database.name
    )
}

async fn scan(source: &Arc<dyn Source>, name: &str) -> Arc<dyn Scan> {
    source.prepare(ScanRequest::all(table(source, name).await)).await.unwrap()
}

#[tokio::test]
async fn running_statement_names_its_query_and_an_idle_connection_none() {
    let mut database = Database::new().await;
    database
        .run("CREATE VIEW many AS SELECT CAST(seq AS SIGNED) AS id, REPEAT('x', 100) AS v FROM seq_1_to_300000")
        .await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(1))]);
    let scan = scan(&source, "many").await;
    for query in [41, 42] {
        let mut stream = scan.open_for(0, &QueryId::new(query).into()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let of_query = showing(&database, &format!("/* headwater query={query} */ SELECT"));
        database.wait_for(&of_query, 1).await;
        let rest: Vec<_> = stream.try_collect().await.unwrap();
        assert!(rest.len() > 1);
        let any = showing(&database, "headwater query");
        database.wait_for(&any, 0).await;
    }
}

#[tokio::test]
async fn statement_that_is_cancelled_leaves_no_claim() {
    let mut database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT SLEEP(60) AS v").await;
    let source = database.source();
    let scan = scan(&source, "slow").await;
    let reading =
        tokio::spawn(async move { scan.open_for(0, &QueryId::new(7).into()).await?.try_collect::<Vec<_>>().await });
    let claimed = showing(&database, "headwater query=7 ");
    database.wait_for(&claimed, 1).await;
    reading.abort();
    database.wait_for(&claimed, 0).await;
}

#[tokio::test]
async fn what_was_prepared_for_a_query_is_closed_with_it() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    database.run("INSERT INTO t VALUES (1), (2)").await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(1))]);
    let scan = scan(&source, "t").await;
    let kept = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME =";
    let (prepared, closed) = (format!("{kept} 'COM_STMT_PREPARE'"), format!("{kept} 'COM_STMT_CLOSE'"));
    let before: (i64, i64) = (database.ask(&prepared).await, database.ask(&closed).await);
    const QUERIES: i64 = 100;
    for query in 0..QUERIES {
        let context = QueryId::new(u64::try_from(query).unwrap()).into();
        let rows: Vec<_> = scan.open_for(0, &context).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows[0].num_rows(), 2);
    }
    let after: (i64, i64) = (database.ask(&prepared).await, database.ask(&closed).await);
    // Other tests use the server too, so there may be more of both.
    assert!(after.0 - before.0 >= QUERIES && after.1 - before.1 >= QUERIES - 1, "{before:?} {after:?}");
}

#[tokio::test]
async fn connection_that_died_in_the_pool_is_replaced_under_a_query_too() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    database.run("INSERT INTO t VALUES (1)").await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(1))]);
    let scan = scan(&source, "t").await;
    for query in 1..=3 {
        let context = QueryId::new(query).into();
        let rows: Vec<_> = scan.open_for(0, &context).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows[0].num_rows(), 1);
        let idle = "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND DB =";
        let id: i64 = database.ask(&format!("{idle} '{}'", database.name)).await;
        database.run(&format!("KILL CONNECTION {id}")).await;
    }
}
