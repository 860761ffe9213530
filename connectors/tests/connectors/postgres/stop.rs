//! A scan that ends early: dropped, cut off, or out of time.

use std::time::{Duration, Instant};

use futures::StreamExt;
use headwater_source::{BatchStream, CompareOp, Error, Expr, ScalarValue, ScanRequest};

use super::{Database, eventually, failure, open, read_all, table, text, try_read};

const SECOND: Duration = Duration::from_secs(1);

async fn million() -> Database {
    let database = Database::new().await;
    database
        .run("CREATE TABLE million AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 1000000) n")
        .await;
    database
}

async fn started(source: &std::sync::Arc<dyn headwater_source::Source>, filtered: bool) -> BatchStream {
    let mut request = ScanRequest::all(table(source, "million").await);
    if filtered {
        request.filters =
            vec![Expr::compare(CompareOp::Greater, Expr::Column(0), Expr::Literal(ScalarValue::from(0_i32)))];
    }
    let mut stream = source.prepare(request).await.unwrap().open(0).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), ScanRequest::DEFAULT_BATCH_ROWS);
    stream
}

#[tokio::test]
async fn dropped_stream_stops_its_statement_and_frees_its_connection() {
    let database = million().await;
    for mode in ["disable", "require"] {
        for filtered in [false, true] {
            let options = [("sslmode", text(mode)), ("pool_size", headwater_source::OptionValue::Count(1))];
            let source = open(&database.url(), &options).unwrap();
            let stream = started(&source, filtered).await;
            assert_eq!(database.running("million").await, 1);
            drop(stream);
            eventually("the statement is gone", SECOND, async || database.running("million").await == 0).await;
            assert_eq!(table(&source, "million").await.columns.len(), 2, "the pool of one goes on");
        }
    }
}

async fn sleeping(database: &Database) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    database.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
}

#[tokio::test]
async fn statement_that_yields_nothing_yet_stops_too() {
    let database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT pg_sleep(60)::text AS v").await;
    let source = database.source();
    let scan = source.prepare(ScanRequest::all(table(&source, "slow").await)).await.unwrap();
    let opening = tokio::spawn(async move { scan.open(0).await.map(|_| ()) });
    eventually("the statement sleeps", 5 * SECOND, async || sleeping(&database).await).await;
    opening.abort();
    eventually("the statement is gone", SECOND, async || database.running("slow").await == 0).await;
}

#[tokio::test]
async fn whole_scan_yields_every_row_in_batches_and_keeps_its_connection() {
    let database = million().await;
    let source = database.source_with(&[("pool_size", 1)]);
    let mut rows = 0;
    for filtered in [false, true] {
        let mut stream = started(&source, filtered).await;
        let mut seen = ScanRequest::DEFAULT_BATCH_ROWS;
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            assert!(batch.num_rows() <= ScanRequest::DEFAULT_BATCH_ROWS);
            seen += batch.num_rows();
        }
        rows += seen;
    }
    assert_eq!(rows, 2_000_000);
    let sql = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'headwater shop'";
    eventually("one connection, idle and not in a transaction", SECOND, async || {
        let row = database.client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1)) == (1, 0)
    })
    .await;
}

#[tokio::test]
async fn reader_that_pauses_holds_the_server_back() {
    let database = million().await;
    for filtered in [false, true] {
        let source = database.source();
        let stream = started(&source, filtered).await;
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'";
        eventually("the server waits for its reader", 10 * SECOND, async || {
            database.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
        })
        .await;
        drop(stream);
        eventually("the statement is gone", SECOND, async || database.running("million").await == 0).await;
    }
}

#[tokio::test]
async fn long_values_end_a_batch_before_its_rows_are_many() {
    let database = Database::new().await;
    database.run("CREATE TABLE wide AS SELECT repeat('x', 1000000) AS v FROM generate_series(1, 40)").await;
    let source = database.source();
    let scan = source.prepare(ScanRequest::all(table(&source, "wide").await)).await.unwrap();
    let sizes: Vec<usize> = scan.open(0).await.unwrap().map(|batch| batch.unwrap().num_rows()).collect().await;
    assert_eq!((sizes.iter().sum::<usize>(), sizes.len() > 2), (40, true), "{sizes:?}");
}

#[tokio::test]
async fn server_that_goes_away_in_mid_scan_is_an_error_and_no_end() {
    let database = million().await;
    for filtered in [false, true] {
        let source = database.source();
        let mut stream = started(&source, filtered).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'headwater shop'";
        database.client.query(sql, &[]).await.unwrap();
        let mut last = None;
        while let Some(batch) = stream.next().await {
            last = Some(batch);
        }
        let error = failure(last.expect("more than one batch"));
        assert!(matches!(&error, Error::Interrupted { table, .. } if table == "public.million"), "{}", error.report());
        read_all(&source, "million").await;
    }
}

#[tokio::test]
async fn statement_cancelled_by_another_is_interrupted() {
    let database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT pg_sleep(60)::text AS v").await;
    let source = database.source();
    let request = ScanRequest::all(table(&source, "slow").await);
    let reading = tokio::spawn(async move { try_read(&source, request).await });
    eventually("the statement sleeps", 5 * SECOND, async || sleeping(&database).await).await;
    let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'headwater shop'";
    database.client.query(sql, &[]).await.unwrap();
    let error = failure(reading.await.unwrap());
    assert!(matches!(error, Error::Interrupted { .. }), "{}", error.report());
}

#[tokio::test]
async fn statement_past_its_limit_is_a_timeout() {
    let database = Database::new().await;
    database.run("CREATE VIEW slow AS SELECT pg_sleep(60)::text AS v").await;
    let source = database.source_with(&[("statement_timeout_ms", 200)]);
    let started = Instant::now();
    let error = failure(try_read(&source, ScanRequest::all(table(&source, "slow").await)).await);
    assert!(matches!(error, Error::Timeout { what: "the statement", limit_ms: 200, .. }), "{}", error.report());
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(database.running("slow").await, 0);
}

#[tokio::test]
async fn table_locked_by_another_is_a_timeout() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v int)").await;
    let source = database.source_with(&[("statement_timeout_ms", 200)]);
    let request = ScanRequest::all(table(&source, "t").await);
    database.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let error = failure(try_read(&source, request).await);
    assert!(matches!(error, Error::Timeout { what: "the statement", .. }), "{}", error.report());
    database.run("COMMIT").await;
}

#[tokio::test]
async fn error_in_mid_scan_is_told_and_nothing_is_presented_as_whole() {
    let database = Database::new().await;
    database.run("CREATE VIEW broken AS SELECT 1 / (n - 50000) AS v FROM generate_series(1, 100000) n").await;
    let source = database.source();
    let error = failure(try_read(&source, ScanRequest::all(table(&source, "broken").await)).await);
    assert!(matches!(&error, Error::Remote { code: Some(code), .. } if code == "22012"), "{}", error.report());
    database.run("CREATE TABLE fine AS SELECT 1 AS v").await;
    assert_eq!(read_all(&source, "fine").await.num_rows(), 1);
}

#[tokio::test]
async fn statement_that_waits_for_a_lock_stops_when_it_is_dropped() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (v int); INSERT INTO t VALUES (1)").await;
    let source = database.source_with(&[("pool_size", 1)]);
    let scan = source.prepare(ScanRequest::all(table(&source, "t").await)).await.unwrap();
    database.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    let opening = {
        let scan = std::sync::Arc::clone(&scan);
        tokio::spawn(async move { scan.open(0).await.map(|_| ()) })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async || database.client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1;
    eventually("the statement waits", 5 * SECOND, waiting).await;
    opening.abort();
    eventually("nobody waits", SECOND, async || !waiting().await).await;
    database.run("COMMIT").await;
    assert_eq!(read_all(&source, "t").await.num_rows(), 1, "the pool of one goes on");
}

#[tokio::test]
async fn dropped_parts_stop_their_statements() {
    let database = million().await;
    database.run("ANALYZE million").await;
    let source = database.source_with(&[("pool_size", 4)]);
    let mut request = ScanRequest::all(table(&source, "million").await);
    request.partitions_max = 4;
    let scan = source.prepare(request).await.unwrap();
    assert_eq!(scan.partitions(), 4);
    let one = source.snapshot(4, None).await.unwrap().unwrap();
    let mut streams = vec![];
    for part in 0..4 {
        let mut stream = scan.open_for(part, &one.clone().into()).await.unwrap();
        assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
        streams.push(stream);
    }
    assert_eq!(database.running("million").await, 4);
    drop(streams);
    drop(one);
    eventually("the statements are gone", SECOND, async || database.running("million").await == 0).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'headwater%'
        AND state <> 'idle'";
    let none_open = async || database.client.query_one(open, &[]).await.unwrap().get::<_, i64>(0) == 0;
    eventually("no transaction is open", SECOND, none_open).await;
}

#[tokio::test]
async fn refused_statement_leaves_its_connection_to_the_next() {
    let database = Database::new().await;
    database.run("CREATE VIEW broken AS SELECT 1 / (n - 3) AS v FROM generate_series(1, 5) n").await;
    let source = database.source_with(&[("pool_size", 1)]);
    let mut pids = vec![];
    for _ in 0..3 {
        let error = failure(try_read(&source, ScanRequest::all(table(&source, "broken").await)).await);
        assert!(matches!(error, Error::Remote { .. }), "{}", error.report());
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'headwater shop'";
        pids.extend(database.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, i32>(0)));
    }
    pids.dedup();
    assert_eq!(pids.len(), 1);
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_and_the_next_statement_opens_one() {
    let database = million().await;
    let source = database.source_with(&[("idle_timeout_ms", 500)]);
    let connected = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'headwater shop'";
        database.client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let mut streams = vec![];
    for _ in 0..4 {
        streams.push(started(&source, false).await);
    }
    assert_eq!(connected().await, 4);
    for stream in streams {
        stream.for_each(|batch| async { drop(batch.unwrap()) }).await;
    }
    eventually("idle connections are closed", 10 * SECOND, async || connected().await == 0).await;
    assert_eq!(read_all(&source, "million").await.num_rows(), 1_000_000);
    eventually("the new one is closed too", 10 * SECOND, async || connected().await == 0).await;
}
