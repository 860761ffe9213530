//! Leaving early: a dropped stream stops its statement at the server, and the pool stays whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::util::display::array_value_to_string;
use futures::{StreamExt, TryStreamExt};
use headwater_source::{Error, OptionValue, Scan, ScanRequest, Source};

use super::{Database, read_all, table};

/// Statements of the connector's that run on the database now.
fn running(database: &Database) -> String {
    format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID() AND COMMAND <> 'Sleep'",
        database.name
    )
}

/// The connector's connections to the database.
fn connected(database: &Database) -> String {
    format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
        database.name
    )
}

/// A view of a million rows, some 100 MB of text.
async fn million(database: &mut Database) {
    database
        .run("CREATE VIEW million AS SELECT CAST(seq AS SIGNED) AS id, REPEAT('x', 100) AS v FROM seq_1_to_1000000")
        .await;
}

async fn scan(source: &Arc<dyn Source>, name: &str) -> Arc<dyn Scan> {
    source.prepare(ScanRequest::all(table(source, name).await)).await.unwrap()
}

fn count(value: u64) -> OptionValue {
    OptionValue::Count(value)
}

#[tokio::test]
async fn million_rows_are_read_whole() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source();
    let stream = scan(&source, "million").await.open(0).await.unwrap();
    let rows: usize = stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await.unwrap();
    assert_eq!(rows, 1_000_000);
    database.wait_for(&connected(&database), 1).await;
}

#[tokio::test]
async fn dropped_stream_stops_its_statement_and_the_source_works_on() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source_with(&[("pool_size", count(1))]);
    let scan = scan(&source, "million").await;
    let (running, connected) = (running(&database), connected(&database));
    for _ in 0..5 {
        let mut stream = scan.open(0).await.unwrap();
        let first = stream.next().await.unwrap().unwrap();
        assert!((1..=ScanRequest::DEFAULT_BATCH_ROWS).contains(&first.num_rows()));
        database.wait_for(&running, 1).await;
        drop(stream);
        let dropped = Instant::now();
        database.wait_for(&running, 0).await;
        assert!(dropped.elapsed() < Duration::from_secs(1), "{:?}", dropped.elapsed());
        database.wait_for(&connected, 0).await;
    }
}

#[tokio::test]
async fn statement_that_is_still_computing_is_stopped_when_its_opening_is_dropped() {
    let mut database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT SLEEP(60) AS v").await;
    let source = database.source_with(&[("pool_size", count(1))]);
    let scan = scan(&source, "slow").await;
    let reading = tokio::spawn(async move {
        let stream = scan.open(0).await?;
        stream.try_collect::<Vec<_>>().await
    });
    let running = running(&database);
    database.wait_for(&running, 1).await;
    reading.abort();
    database.wait_for(&running, 0).await;
}

#[tokio::test]
async fn stream_that_ends_gives_its_connection_back() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    database.run("INSERT INTO t VALUES (1), (2)").await;
    let source = database.source_with(&[("pool_size", count(1))]);
    let scan = scan(&source, "t").await;
    for _ in 0..20 {
        let mut stream = scan.open(0).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 2);
        // The stream still stands; its connection is free because the rows are over.
        let other = scan.open(0).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(other.len(), 1);
        assert!(stream.next().await.is_none());
    }
    database.wait_for(&connected(&database), 1).await;
}

#[tokio::test]
async fn pool_holds_no_more_connections_than_it_may_and_waiting_ends() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source_with(&[("pool_size", count(2)), ("pool_wait_ms", count(1000))]);
    let scan = scan(&source, "million").await;
    let first = scan.open(0).await.unwrap();
    let second = scan.open(0).await.unwrap();
    let error = scan.open(0).await.err().unwrap();
    let expected = matches!(&error, Error::Timeout { what: "waiting for a connection", option: "pool_wait_ms", .. });
    assert!(expected, "{error}");
    database.wait_for(&connected(&database), 2).await;
    drop((first, second));
    let third = scan.open(0).await.unwrap();
    drop(third);
    database.wait_for(&running(&database), 0).await;
}

#[tokio::test]
async fn connection_that_is_killed_in_mid_scan_is_an_interruption() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source();
    let mut stream = scan(&source, "million").await.open(0).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let busy =
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Sleep' AND DB =";
    let id: i64 = database.ask(&format!("{busy} '{}'", database.name)).await;
    database.run(&format!("KILL CONNECTION {id}")).await;
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(&error, Error::Interrupted { .. }), "{}", error.report());
    assert!(error.to_string().contains("million"), "{error}");
}

#[tokio::test]
async fn connection_that_died_in_the_pool_is_replaced() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    let source = database.source();
    read_all(&source, "t").await;
    let idle = "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND DB =";
    let id: i64 = database.ask(&format!("{idle} '{}'", database.name)).await;
    database.run(&format!("KILL CONNECTION {id}")).await;
    read_all(&source, "t").await;
}

#[tokio::test]
async fn statement_that_passes_its_limit_is_a_timeout() {
    let mut database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT SLEEP(60) AS v").await;
    let source = database.source_with(&[("statement_timeout_ms", count(300))]);
    let scan = scan(&source, "slow").await;
    let start = Instant::now();
    let outcome = match scan.open(0).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    let error = outcome.unwrap_err();
    let expected =
        matches!(&error, Error::Timeout { what: "the statement", limit_ms: 300, option: "statement_timeout_ms", .. });
    assert!(expected && start.elapsed() < Duration::from_secs(5), "{error} after {:?}", start.elapsed());
    database.wait_for(&running(&database), 0).await;
}

#[tokio::test]
async fn server_enforces_the_statements_limit_too() {
    let mut database = Database::new().await;
    // A view may not read a variable; a function of the view's may.
    database
        .run("CREATE FUNCTION limit_of_statement() RETURNS DOUBLE READS SQL DATA RETURN @@SESSION.max_statement_time")
        .await;
    database.run("CREATE VIEW settings AS SELECT limit_of_statement() AS v").await;
    let source = database.source_with(&[("statement_timeout_ms", count(12_500))]);
    let batch = read_all(&source, "settings").await;
    assert_eq!(array_value_to_string(batch.column(0), 0).unwrap(), "12.5");
}

#[tokio::test]
async fn slow_reader_makes_the_server_wait() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source();
    let mut stream = scan(&source, "million").await.open(0).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let writing = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID() AND STATE LIKE 'Writing to net%'",
        database.name
    );
    database.wait_for(&writing, 1).await;
    drop(stream);
    database.wait_for(&running(&database), 0).await;
}

#[tokio::test]
async fn many_scans_at_once_take_turns_on_few_connections() {
    let mut database = Database::new().await;
    database.run("CREATE VIEW some AS SELECT CAST(seq AS SIGNED) AS id FROM seq_1_to_1000").await;
    let source = database.source_with(&[("pool_size", count(3))]);
    let scan = scan(&source, "some").await;
    let reads = (0..30).map(|_| {
        let scan = Arc::clone(&scan);
        async move {
            let batches = scan.open(0).await?.try_collect::<Vec<_>>().await?;
            Ok::<usize, Error>(batches.iter().map(|batch| batch.num_rows()).sum())
        }
    });
    let rows = futures::future::try_join_all(reads).await.unwrap();
    assert_eq!(rows, [1000; 30]);
    let connections: i64 = database.ask(&connected(&database)).await;
    assert!(connections <= 3, "{connections}");
}

#[tokio::test]
async fn every_connection_of_the_pool_died_and_the_next_query_works() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    let source = database.source_with(&[("pool_size", count(3))]);
    let scan = scan(&source, "t").await;
    let reads = (0..3).map(|_| scan.open(0));
    drop(futures::future::try_join_all(reads).await.unwrap());
    for _ in 0..3 {
        read_all(&source, "t").await;
    }
    let idle = format!(
        "SELECT COALESCE(MAX(ID), 0) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND DB = '{}'",
        database.name
    );
    loop {
        let id: i64 = database.ask(&idle).await;
        if id == 0 {
            break;
        }
        // It may have gone by itself.
        let _ = mysql_async::prelude::Queryable::query_drop(&mut database.admin, format!("KILL CONNECTION {id}")).await;
    }
    read_all(&source, "t").await;
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_and_the_next_statement_opens_one() {
    let mut database = Database::new().await;
    million(&mut database).await;
    let source = database.source_with(&[("idle_timeout_ms", count(500))]);
    let scan = scan(&source, "million").await;
    let mut streams = vec![];
    for _ in 0..4 {
        streams.push(scan.open(0).await.unwrap());
    }
    let connected = connected(&database);
    database.wait_for(&connected, 4).await;
    for stream in streams {
        stream.try_for_each(|_| async { Ok(()) }).await.unwrap();
    }
    database.wait_for(&connected, 0).await;
    assert_eq!(read_all(&source, "million").await.num_rows(), 1_000_000);
    database.wait_for(&connected, 1).await;
    database.wait_for(&connected, 0).await;
}
