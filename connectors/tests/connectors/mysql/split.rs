//! Scans in parts, of one state of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use headwater_source::{CompareOp, Expr, OptionValue, ScalarValue, Scan, ScanRequest, Snapshot, Source, TableDef};
use mysql_async::prelude::Queryable;

use super::{DEADLINE, Database, connect, table};

const ROWS: u64 = 250_000;
const PARTS: usize = 4;

/// A table of many rows whose `amount` adds up to ten for each.
async fn ledger(database: &mut Database, engine: &str) {
    database
        .run(&format!("CREATE TABLE ledger (id BIGINT NOT NULL PRIMARY KEY, amount BIGINT NOT NULL) ENGINE={engine}"))
        .await;
    database.run(&format!("INSERT INTO ledger SELECT seq, 10 FROM seq_1_to_{ROWS}")).await;
    database.run("ANALYZE TABLE ledger").await;
}

fn request(table: &Arc<TableDef>) -> ScanRequest {
    ScanRequest { partitions_max: PARTS, ..ScanRequest::all(Arc::clone(table)) }
}

/// A snapshot, as soon as there is one.
async fn snapshot(source: &Arc<dyn Source>, statements: usize) -> Snapshot {
    let start = Instant::now();
    loop {
        if let Some(snapshot) = source.snapshot(statements, None).await.unwrap() {
            return snapshot;
        }
        assert!(start.elapsed() < DEADLINE, "there is no snapshot");
    }
}

/// The rows of each part and the sum of their amounts, all read at the same time.
async fn sums(scan: &Arc<dyn Scan>, snapshot: Option<&Snapshot>) -> Vec<(usize, i64)> {
    let part = |part| async move {
        let stream = match snapshot {
            Some(snapshot) => scan.open_for(part, &snapshot.clone().into()).await?,
            None => scan.open(part).await?,
        };
        let add = |(rows, sum): (usize, i64), batch: arrow::record_batch::RecordBatch| {
            let amounts = batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
            (rows + batch.num_rows(), sum + amounts)
        };
        stream.try_fold((0, 0), |sums, batch| futures::future::ready(Ok(add(sums, batch)))).await
    };
    try_join_all((0..scan.partitions()).map(part)).await.unwrap()
}

fn total(sums: &[(usize, i64)]) -> (u64, i64) {
    (sums.iter().map(|(rows, _)| *rows as u64).sum(), sums.iter().map(|(_, sum)| sum).sum())
}

const WHOLE: (u64, i64) = (ROWS, 10 * ROWS as i64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_under_writes_are_of_one_state_and_hold_each_row_once() {
    let mut database = Database::new().await;
    ledger(&mut database, "InnoDB").await;
    let source = database.source();
    let scan = source.prepare(request(&table(&source, "ledger").await)).await.unwrap();
    assert_eq!(scan.partitions(), PARTS);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (url, stop, written) = (database.url(), Arc::clone(&stop), Arc::clone(&written));
        tokio::spawn(async move {
            let mut conn = connect(&url).await;
            // From the first part to the last and back, and a row that moves from part to part.
            for turn in 0_i64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (from, to) = (1 + turn % 1000, 249_000 - turn % 1000);
                let moved = if turn % 2 == 0 { (125_000, 500_000) } else { (500_000, 125_000) };
                for statement in [
                    "BEGIN".to_owned(),
                    format!("UPDATE ledger SET amount = amount - {} WHERE id = {from}", 1 + turn % 7),
                    format!("UPDATE ledger SET id = {} WHERE id = {}", moved.1, moved.0),
                    format!("UPDATE ledger SET amount = amount + {} WHERE id = {to}", 1 + turn % 7),
                    "COMMIT".to_owned(),
                ] {
                    conn.query_drop(statement).await.unwrap();
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut states = Vec::new();
    while states.len() < 8 {
        let snapshot = snapshot(&source, PARTS).await;
        let before = written.load(Ordering::Relaxed);
        let sums = sums(&scan, Some(&snapshot)).await;
        assert_eq!(total(&sums), WHOLE, "{sums:?}");
        assert!(sums.iter().all(|(rows, _)| *rows > 0), "{sums:?}");
        if written.load(Ordering::Relaxed) > before {
            states.push(sums);
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    states.dedup();
    assert!(states.len() > 1, "the writer changed nothing: {states:?}");
    // Without a snapshot one part is the whole.
    let sums = sums(&scan, None).await;
    assert_eq!((total(&sums), sums[0].0 as u64), (WHOLE, ROWS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_stay_in_every_part() {
    let mut database = Database::new().await;
    ledger(&mut database, "InnoDB").await;
    let source = database.source();
    let mut request = request(&table(&source, "ledger").await);
    request.filters =
        vec![Expr::compare(CompareOp::LessOrEqual, Expr::Column(0), Expr::Literal(ScalarValue::from(100_000_i64)))];
    let scan = source.prepare(request).await.unwrap();
    let snapshot = snapshot(&source, scan.partitions()).await;
    assert_eq!(total(&sums(&scan, Some(&snapshot)).await), (100_000, 1_000_000));
}

#[tokio::test]
async fn what_cannot_be_of_one_state_or_is_cut_is_one_part() {
    let mut database = Database::new().await;
    ledger(&mut database, "MyISAM").await;
    let source = database.source();
    let described = table(&source, "ledger").await;
    assert_eq!(source.prepare(request(&described)).await.unwrap().partitions(), 1, "MyISAM has no states");
    database.run("ALTER TABLE ledger ENGINE=InnoDB").await;
    let cut = ScanRequest { limit: Some(5), ..request(&described) };
    assert_eq!(source.prepare(cut).await.unwrap().partitions(), 1);
    assert_eq!(source.prepare(ScanRequest::all(described)).await.unwrap().partitions(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_each_want_several_connections_take_turns() {
    let mut database = Database::new().await;
    ledger(&mut database, "InnoDB").await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(4))]);
    let described = table(&source, "ledger").await;
    let query = || async {
        let scan = source.prepare(ScanRequest { partitions_max: 3, ..request(&described) }).await.unwrap();
        let snapshot = source.snapshot(3, None).await.unwrap();
        assert_eq!(total(&sums(&scan, snapshot.as_ref()).await), WHOLE);
    };
    try_join_all((0..6).map(|_| async {
        query().await;
        Ok::<_, ()>(())
    }))
    .await
    .unwrap();
    assert!(source.snapshot(5, None).await.unwrap().is_none(), "more than there are connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_is_dropped_gives_its_connections_back() {
    let mut database = Database::new().await;
    ledger(&mut database, "InnoDB").await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(2))]);
    let scan =
        source.prepare(ScanRequest { partitions_max: 2, ..request(&table(&source, "ledger").await) }).await.unwrap();
    for _ in 0..3 {
        let snapshot = snapshot(&source, 2).await;
        // One part is read whole, of the other a batch.
        assert!(scan.open_for(0, &snapshot.clone().into()).await.unwrap().count().await > 1);
        assert!(scan.open_for(1, &snapshot.into()).await.unwrap().next().await.unwrap().is_ok());
    }
    // A transaction that has read the table and is still open would be in the way of this.
    database.run("SET SESSION lock_wait_timeout = 10").await;
    database.run("ALTER TABLE ledger COMMENT 'unused'").await;
    assert_eq!(total(&sums(&scan, None).await), WHOLE);
}
