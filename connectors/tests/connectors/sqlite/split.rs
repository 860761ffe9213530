//! Several statements, and a scan's parts, of one state of the file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use headwater_source::futures::TryStreamExt;
use headwater_source::futures::future::try_join_all;
use headwater_source::{
    CompareOp, Expr, Known, ReadContext, ScalarValue, Scan, ScanRequest, Snapshot, SortKey, Source,
};
use rusqlite::Connection;

use super::{Database, request};

const ROWS: i64 = 60_000;
const PARTS: usize = 4;

/// How long a test waits for what must come to pass.
const DEADLINE: Duration = Duration::from_secs(60);

/// Each amount is ten.
fn ledger(journal: &str) -> Database {
    Database::new(&format!(
        "PRAGMA journal_mode = {journal}; CREATE TABLE ledger (id INTEGER PRIMARY KEY, amount BIGINT NOT NULL); \
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) INSERT INTO ledger SELECT i, 10 FROM n"
    ))
}

fn amount(op: CompareOp, value: i64) -> Expr {
    Expr::compare(op, Expr::Column(1), Expr::Literal(ScalarValue::from(value)))
}

/// All of the table, in parts where that is possible: for a condition that every row meets.
async fn in_parts(source: &Arc<dyn Source>, table: &str) -> ScanRequest {
    let request = request(source, table).await;
    let statistics = Arc::new(source.statistics(&request.table).await.unwrap().unwrap());
    let filters = vec![amount(CompareOp::Greater, -1_000_000_000)];
    ScanRequest { filters, partitions_max: PARTS, known: Some(Known { statistics, rows: ROWS as f64 }), ..request }
}

/// The rows of each part and the sum of their amounts, all read at the same time.
async fn sums(scan: &Arc<dyn Scan>, snapshot: Option<&Snapshot>) -> Vec<(usize, i64)> {
    let context = snapshot.cloned().map(ReadContext::from).unwrap_or_default();
    let part = |part| {
        let context = &context;
        async move {
            let batches: Vec<_> = scan.open_for(part, context).await?.try_collect().await?;
            let amounts = batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().values());
            Ok::<_, headwater_source::Error>((batches.iter().map(|batch| batch.num_rows()).sum(), amounts.sum()))
        }
    };
    try_join_all((0..scan.partitions()).map(part)).await.unwrap()
}

fn total(sums: &[(usize, i64)]) -> (usize, i64) {
    (sums.iter().map(|(rows, _)| rows).sum(), sums.iter().map(|(_, sum)| sum).sum())
}

const ALL: (usize, i64) = (ROWS as usize, ROWS * 10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_of_one_state_while_others_write() {
    for journal in ["wal", "delete"] {
        let database = ledger(journal);
        let source = database.source();
        let scan = source.prepare(in_parts(&source, "ledger").await).await.unwrap();
        assert_eq!(scan.partitions(), PARTS);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (path, stop) = (database.path(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let connection = Connection::open(path).unwrap();
                connection.busy_timeout(DEADLINE).unwrap();
                connection.execute_batch("PRAGMA synchronous = off").unwrap();
                let mut turn = 0_i64;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let (from, to, amount) = (1 + turn % 1000, ROWS - turn % 1000, 1 + turn % 7);
                    let moved = format!(
                        "BEGIN IMMEDIATE; UPDATE ledger SET amount = amount - {amount} WHERE id = {from}; \
                         UPDATE ledger SET amount = amount + {amount} WHERE id = {to}; COMMIT"
                    );
                    connection.execute_batch(&moved).unwrap();
                    // Now many transactions at once, now none for a while.
                    if turn % 50 == 0 {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                turn
            })
        };
        let (start, mut read) = (Instant::now(), 0);
        while read < 40 {
            if let Some(snapshot) = source.snapshot(PARTS, None).await.unwrap() {
                let sums = sums(&scan, Some(&snapshot)).await;
                assert!(sums.iter().all(|(rows, _)| *rows == ALL.0 / PARTS), "{sums:?}");
                assert_eq!(total(&sums), ALL, "{journal}: {sums:?}");
                read += 1;
            }
            assert!(start.elapsed() < DEADLINE, "{journal}: {read} were read");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 10, "{journal}: the writer wrote too little");
    }
}

#[tokio::test]
async fn statement_that_starts_later_reads_what_the_first_did() {
    let database = ledger("wal");
    let source = database.source();
    let scan = source.prepare(request(&source, "ledger").await).await.unwrap();
    let snapshot = source.snapshot(2, None).await.unwrap().unwrap();
    assert_eq!(sums(&scan, Some(&snapshot)).await, [ALL]);
    database.run("DELETE FROM ledger WHERE id > 10");
    assert_eq!(sums(&scan, Some(&snapshot)).await, [ALL], "the state that is held");
    assert_eq!(sums(&scan, None).await, [(10, 100)], "the state of now");
    let error = scan.open_for(0, &snapshot.into()).await.err().unwrap();
    assert!(error.to_string().contains("more statements"), "{error}");
}

#[tokio::test]
async fn without_a_state_the_first_part_is_the_whole_and_a_state_takes_its_connections_at_once() {
    let database = ledger("wal");
    let source = database.source_with(&[("pool_size", PARTS as u64), ("pool_wait_ms", 200)]);
    let scan = source.prepare(in_parts(&source, "ledger").await).await.unwrap();
    let sums_without = sums(&scan, None).await;
    assert_eq!((sums_without[0], total(&sums_without)), (ALL, ALL));
    let most = 4 * PARTS;
    assert!(source.snapshot(most + 1, None).await.unwrap().is_none(), "more than may be to states");
    for _ in 0..3 {
        // What no statement takes is given back.
        let held = source.snapshot(most, None).await.unwrap().unwrap();
        assert!(source.snapshot(1, None).await.unwrap().is_none(), "none is left");
        assert_eq!(total(&sums(&scan, None).await), ALL, "single statements have connections of their own");
        drop(held);
    }
    let held = source.snapshot(PARTS, None).await.unwrap().unwrap();
    assert_eq!(total(&sums(&scan, Some(&held)).await), ALL);
}

#[tokio::test]
async fn only_rows_that_are_tested_and_in_no_order_are_split_and_only_by_the_rowid() {
    let database = ledger("wal");
    database.run(
        "CREATE TABLE by_text (id TEXT PRIMARY KEY, amount BIGINT); INSERT INTO by_text SELECT id, amount FROM ledger; \
         CREATE TABLE by_number (id INT PRIMARY KEY, amount BIGINT); INSERT INTO by_number SELECT id, amount FROM ledger; \
         CREATE TABLE falling (id INTEGER PRIMARY KEY DESC, amount BIGINT); INSERT INTO falling SELECT id, amount FROM ledger; \
         INSERT INTO falling VALUES (NULL, 10), (NULL, 10); CREATE TABLE one (id INTEGER PRIMARY KEY, amount BIGINT); INSERT INTO one VALUES (7, 10)",
    );
    let source = database.source();
    let partitions = async |request: ScanRequest| source.prepare(request).await.unwrap().partitions();
    for (table, parts) in [("ledger", PARTS), ("by_text", 1), ("by_number", 1), ("falling", 1), ("one", 1)] {
        assert_eq!(partitions(in_parts(&source, table).await).await, parts, "{table}");
    }
    let all = in_parts(&source, "ledger").await;
    assert_eq!(partitions(ScanRequest { limit: Some(5), ..all.clone() }).await, 1);
    assert_eq!(partitions(ScanRequest { known: None, ..all.clone() }).await, 1);
    assert_eq!(partitions(ScanRequest { filters: vec![], ..all.clone() }).await, 1);
    let sort = vec![SortKey { column: 0, descending: false, nulls_first: false }];
    assert_eq!(partitions(ScanRequest { sort, ..all.clone() }).await, 1);
    // Filters hold in each part, and a row that the statistics have not seen is in one.
    database.run("INSERT INTO ledger VALUES (-5, 10), (1000000, 10), (1000001, 11)");
    let scan = source.prepare(ScanRequest { filters: vec![amount(CompareOp::Equal, 10)], ..all }).await.unwrap();
    let snapshot = source.snapshot(PARTS, None).await.unwrap().unwrap();
    assert_eq!(total(&sums(&scan, Some(&snapshot)).await), (ALL.0 + 2, ALL.1 + 20));
}
