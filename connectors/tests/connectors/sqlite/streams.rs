//! Long scans: bounded, cancelled, timed out, and failing in the middle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_source::futures::{StreamExt, TryStreamExt};
use headwater_source::{Error, ScanRequest, Source};

use super::{Database, batches, read, request};

const MILLION: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); \
                       WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) \
                       INSERT INTO t SELECT i, 'row number ' || i FROM n";

/// A view whose first row takes for ever.
const ENDLESS: &str = "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) AS c FROM n";

/// Waits until the only connection is free again, which is when the thread has stopped.
async fn freed(source: &Arc<dyn Source>) -> Duration {
    let started = Instant::now();
    source.tables().await.unwrap();
    started.elapsed()
}

#[tokio::test]
async fn million_rows_come_once_each_and_a_reader_who_leaves_stops_the_scan() {
    let database = Database::new(MILLION);
    let source = database.source_with(&[("pool_size", 1)]);
    let all = request(&source, "t").await;
    let mut stream = source.prepare(all.clone()).await.unwrap().open(0).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!((1..=ScanRequest::DEFAULT_BATCH_ROWS).contains(&first.num_rows()));
    drop(stream);
    let elapsed = freed(&source).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    let rows: usize = batches(&source, &all).await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 1_000_000);
}

#[tokio::test]
async fn reader_who_waits_holds_back_the_scan() {
    let database = Database::new(MILLION);
    let source = database.source_with(&[("pool_size", 1), ("pool_wait_ms", 100)]);
    let all = request(&source, "t").await;
    let mut stream = source.prepare(all).await.unwrap().open(0).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    // Were the scan to run ahead without bounds, it would end and free the connection.
    for _ in 0..5 {
        match source.tables().await {
            Err(Error::Timeout { what, option, .. }) => {
                assert_eq!((what, option), ("waiting for a connection", "pool_wait_ms"));
            }
            other => panic!("{other:?}"),
        }
    }
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(rest.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1_000_000 - first.num_rows());
}

#[tokio::test]
async fn statement_that_never_yields_a_row_stops_when_its_reader_leaves() {
    let database = Database::new(ENDLESS);
    let source = database.source_with(&[("pool_size", 1)]);
    let all = request(&source, "v").await;
    let scan = source.prepare(all).await.unwrap();
    let mut stream = scan.open(0).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
    assert!(waited.is_err(), "there is no first row");
    drop(stream);
    let elapsed = freed(&source).await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
}

#[tokio::test]
async fn statement_that_takes_too_long_is_stopped_and_says_which_limit() {
    let database = Database::new(&format!("{ENDLESS}; CREATE TABLE t (id INTEGER PRIMARY KEY)"));
    let source = database.source_with(&[("pool_size", 1), ("statement_timeout_ms", 300)]);
    let all = request(&source, "v").await;
    let started = Instant::now();
    match batches(&source, &all).await {
        Err(Error::Timeout { what, limit_ms, option, .. }) => {
            assert_eq!((what, limit_ms, option), ("the statement", 300, "statement_timeout_ms"));
        }
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_millis(1300), "{:?}", started.elapsed());
    assert_eq!(read(&source, &request(&source, "t").await).await.unwrap().num_rows(), 0);
}

#[tokio::test]
async fn value_that_does_not_fit_in_the_middle_ends_the_scan_as_an_error() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
         INSERT INTO t SELECT i * 2, CASE i WHEN 5000 THEN 'five thousand' ELSE i END FROM n",
    );
    let source = database.source_with(&[("pool_size", 1)]);
    let all = ScanRequest { batch_rows: 100, ..request(&source, "t").await };
    for _ in 0..3 {
        let mut stream = source.prepare(all.clone()).await.unwrap().open(0).await.unwrap();
        let mut rows = 0;
        let error = loop {
            match stream.next().await {
                Some(Ok(batch)) => rows += batch.num_rows(),
                Some(Err(error)) => break error,
                None => panic!("the scan ended well after {rows} rows"),
            }
        };
        assert_eq!(rows, 4900);
        assert!(stream.next().await.is_none(), "nothing follows an error");
        let message = error.to_string();
        for part in ["\"n\"", "\"t\"", "\"shop\"", "Int64", "rowid 10000 ", "TEXT"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(!message.contains("five thousand"), "values stay out of messages: {message}");
    }
    let past = ScanRequest { projection: vec![0], ..all };
    assert_eq!(read(&source, &past).await.unwrap().num_rows(), 10_000);
}

#[tokio::test]
async fn error_of_sqlite_in_the_middle_ends_the_scan_as_an_error() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT i FROM n; \
         CREATE VIEW v AS SELECT id, CASE id WHEN 900 THEN abs(-9223372036854775808) ELSE id END AS n FROM t",
    );
    let source = database.source();
    let all = ScanRequest { batch_rows: 100, ..request(&source, "v").await };
    let mut stream = source.prepare(all).await.unwrap().open(0).await.unwrap();
    let mut rows = 0;
    let error = loop {
        match stream.next().await {
            Some(Ok(batch)) => rows += batch.num_rows(),
            Some(Err(error)) => break error,
            None => panic!("the scan ended well after {rows} rows"),
        }
    };
    assert_eq!(rows, 800);
    assert!(matches!(&error, Error::Interrupted { table, .. } if table == "v"), "{}", error.report());
    assert!(error.report().contains("integer overflow"), "{}", error.report());
}

#[tokio::test]
async fn wide_values_end_a_batch_before_its_rows_are_full() {
    let database = Database::new(
        "CREATE TABLE t (b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
         INSERT INTO t SELECT zeroblob(1 << 20) FROM n",
    );
    let source = database.source();
    let batches = batches(&source, &request(&source, "t").await).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [16, 16, 8]);
}

#[tokio::test]
async fn scan_shows_one_state_of_the_table_while_it_is_written() {
    let database = Database::new(&format!("PRAGMA journal_mode = WAL; {MILLION}"));
    let source = database.source();
    let all = request(&source, "t").await;
    let mut stream = source.prepare(all).await.unwrap().open(0).await.unwrap();
    let first = stream.next().await.unwrap().unwrap().num_rows();
    database.run("DELETE FROM t WHERE id % 2 = 0");
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(first + rest.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1_000_000);
}

#[tokio::test]
async fn rows_that_come_slowly_are_handed_on_before_a_batch_is_full() {
    // Each row takes some milliseconds, and all of them a minute at least.
    let database = Database::new(
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8192) \
         SELECT i, (WITH RECURSIVE w(x) AS (SELECT i UNION ALL SELECT x + 1 FROM w WHERE x < i + 100000) SELECT max(x) FROM w) AS m FROM n",
    );
    let source = database.source_with(&[]);
    let all = request(&source, "v").await;
    let mut stream = source.prepare(all).await.unwrap().open(0).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.unwrap().unwrap().unwrap();
    assert!((1..1000).contains(&first.num_rows()), "{} rows", first.num_rows());
}
