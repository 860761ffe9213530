//! More rows than the memory of queries holds: spilled, or an error that says what to raise; never an abort, and no file stays.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::datasource::MemTable;
use headwater::{Engine, Error, ErrorKind, Limits};

const ROWS: i64 = 800_000;

const MEMORY_BYTES: u64 = 20 << 20;

/// Some 45 MB in an order that is no order, made once for all tests.
fn batches() -> Vec<RecordBatch> {
    static BATCHES: LazyLock<Vec<RecordBatch>> = LazyLock::new(|| {
        let batch = |batch: i64| {
            let ids = (batch * 8000..(batch + 1) * 8000).map(|id| id * 7919 % ROWS);
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
            let pads = (0..8000).map(|row| format!("{:040}", (batch * 8000 + row) * 6007 % ROWS));
            let pads: ArrayRef = Arc::new(StringArray::from_iter_values(pads));
            RecordBatch::try_from_iter([("id", ids), ("pad", pads)]).unwrap()
        };
        (0..ROWS / 8000).map(batch).collect()
    });
    BATCHES.clone()
}

/// An engine over a table that its memory does not hold.
async fn engine(limits: Limits) -> Engine {
    let engine = Engine::builder().limits(limits).build().await.unwrap();
    let batches = batches();
    let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    engine.register_table("shop", "large", Arc::new(table)).unwrap();
    engine
}

fn small(spill: &tempfile::TempDir) -> Limits {
    Limits { memory_bytes: MEMORY_BYTES, spill_directory: spill.path().to_owned(), ..Limits::default() }
}

/// How many files are spilled, without what says that the engine lives.
fn files(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| path.file_name().is_some_and(|name| name != "lock"));
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Waits until no file is left: tasks of a query that has failed or was dropped end a moment later.
async fn are_gone(spill: &tempfile::TempDir) {
    let gone = async {
        while files(spill.path()) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the files go with the query");
}

/// The rows, or the error after asserting that it says what to do.
async fn asked(engine: &Engine, sql: &str) -> Result<usize, Error> {
    let answer = engine.sql(sql).await.unwrap().collect().await;
    if let Err(error) = &answer {
        assert_eq!(error.kind(), ErrorKind::ResourcesExhausted, "{sql}: {error}");
        let message = error.report();
        assert!(message.contains("in the engine's limits") && !message.contains('\n'), "{message}");
        assert!(!message.contains("datafusion.runtime"), "{message}");
    }
    answer.map(|batches| batches.iter().map(RecordBatch::num_rows).sum())
}

const SORT: &str = "SELECT id, pad FROM shop.large ORDER BY pad DESC, id";
const GROUPS: &str = "SELECT pad, count(*), max(id) FROM shop.large GROUP BY pad";
const JOIN: &str = "SELECT a.id FROM shop.large a JOIN shop.large b ON a.pad = b.pad";

#[tokio::test(flavor = "multi_thread")]
async fn sort_larger_than_memory_spills_and_leaves_no_file() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine(small(&spill)).await;
    let answer = engine.sql(SORT).await.unwrap();
    let batches = answer.collect().await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS as usize);
    let last = batches.last().unwrap();
    let pads = last.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!(pads.value(pads.len() - 1), format!("{:040}", 0));
    are_gone(&spill).await;
    drop(engine);
    assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0, "the engine's folder goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_larger_than_memory_spill_and_leave_no_file() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine(small(&spill)).await;
    match asked(&engine, GROUPS).await {
        Ok(rows) => assert_eq!(rows, ROWS as usize),
        Err(error) => panic!("{}", error.report()),
    }
    are_gone(&spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hash_join_larger_than_memory_is_an_error_that_names_who_holds_it_and_the_engine_goes_on() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine(small(&spill)).await;
    let message = asked(&engine, JOIN).await.expect_err("a hash join holds its build side").report();
    assert!(message.contains("HashJoin") && message.contains("memory_bytes"), "{message}");
    assert_eq!(asked(&engine, "SELECT id FROM shop.large WHERE id < 10").await.unwrap(), 10);
    // The same join as a merge of sorted inputs spills.
    let session = engine.session();
    session.sql("SET datafusion.optimizer.prefer_hash_join = false").await.unwrap();
    let batches = session.sql(JOIN).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), ROWS as usize);
    are_gone(&spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spilling_stops_at_its_limit_and_where_it_is_forbidden() {
    let spill = tempfile::tempdir().unwrap();
    let capped = engine(Limits { spill_bytes: 4 << 20, ..small(&spill) }).await;
    let message = asked(&capped, SORT).await.expect_err("four megabytes are not enough").report();
    assert!(message.contains("spill_bytes"), "{message}");
    are_gone(&spill).await;
    let forbidden = engine(Limits { spill_bytes: 0, ..small(&spill) }).await;
    let message = asked(&forbidden, SORT).await.expect_err("nothing may be spilled").report();
    assert!(message.contains("memory_bytes") || message.contains("spill_bytes"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn query_that_is_dropped_while_it_spills_leaves_no_file() {
    use futures::StreamExt;
    let spill = tempfile::tempdir().unwrap();
    let engine = engine(small(&spill)).await;
    let mut stream = engine.sql(SORT).await.unwrap().into_stream().unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert!(files(spill.path()) > 0, "a sort that has begun to answer has spilled");
    drop(stream);
    are_gone(&spill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spill_directory_that_was_removed_is_named_and_used_again_once_it_is_back() {
    let spill = tempfile::tempdir().unwrap();
    let engine = engine(small(&spill)).await;
    assert_eq!(asked(&engine, SORT).await.unwrap(), ROWS as usize);
    std::fs::remove_dir_all(spill.path()).unwrap();
    let message = asked(&engine, SORT).await.expect_err("there is nowhere to spill").report();
    let directory = spill.path().display().to_string();
    assert!(message.contains(&directory) && message.contains("spill_directory"), "{message}");
    std::fs::create_dir(spill.path()).unwrap();
    assert_eq!(asked(&engine, SORT).await.unwrap(), ROWS as usize);
    are_gone(&spill).await;
    assert_eq!(engine.metrics().await.spill_bytes, 0);
}
