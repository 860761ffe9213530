//! One state of the database for several statements, and tables that are read in parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use futures::future::try_join_all;
use headwater_source::{
    Aggregate, ColumnDef, CompareOp, Error, Expr, QueryRequest, Relation, Result, ScalarValue, Scan, ScanRequest,
    Snapshot, Source,
};

use super::{Database, client, eventually, failure, table};

const ROWS: i32 = 60_000;

/// A table of some 3,000 pages with room in each, so that updates of `balance` alone may be heap-only; those of an indexed column are not.
async fn large() -> Database {
    let database = Database::new().await;
    database
        .run(&format!(
            "CREATE TABLE large (id int, balance int NOT NULL, place int, moves int, pad text) WITH (fillfactor = 80, autovacuum_enabled = off);
             INSERT INTO large SELECT n, 100, n, 0, repeat('x', 260) FROM generate_series(1, {ROWS}) n;
             CREATE INDEX ON large (place); CREATE INDEX ON large (moves); ANALYZE large"
        ))
        .await;
    database
}

async fn request(source: &Arc<dyn Source>, from: &str, partitions_max: usize) -> ScanRequest {
    let mut request = ScanRequest::all(table(source, from).await);
    request.partitions_max = partitions_max;
    request
}

async fn parts(source: &Arc<dyn Source>, request: ScanRequest) -> Arc<dyn Scan> {
    source.prepare(request).await.unwrap()
}

async fn snapshot(source: &Arc<dyn Source>) -> Snapshot {
    source.snapshot(1, None).await.unwrap_or_else(|error| panic!("{}", error.report())).expect("Postgres has snapshots")
}

async fn read_part(scan: &dyn Scan, part: usize, snapshot: &Snapshot) -> Result<Vec<RecordBatch>> {
    scan.open_for(part, &snapshot.clone().into()).await?.try_collect().await
}

/// How often each id came, and the sum of all balances.
fn summed(batches: &[RecordBatch]) -> (BTreeMap<i32, usize>, i64) {
    let (mut ids, mut total) = (BTreeMap::new(), 0);
    for batch in batches {
        for id in batch.column_by_name("id").unwrap().as_primitive::<Int32Type>().values() {
            *ids.entry(*id).or_default() += 1;
        }
        let balances = batch.column_by_name("balance").unwrap().as_primitive::<Int32Type>();
        total += balances.values().iter().map(|balance| i64::from(*balance)).sum::<i64>();
    }
    (ids, total)
}

fn assert_each_row_once(batches: &[RecordBatch]) {
    let (ids, total) = summed(batches);
    assert_eq!(ids.len(), usize::try_from(ROWS).unwrap());
    assert!(ids.values().all(|count| *count == 1), "a row came twice");
    assert_eq!(total, i64::from(ROWS) * 100, "money was made or lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_one_snapshot_hold_each_row_once_while_all_rows_move() {
    let database = large().await;
    let source = database.source();
    let scan = parts(&source, request(&source, "large", 4).await).await;
    assert_eq!(scan.partitions(), 2, "{}", scan.statement());
    let one = snapshot(&source).await;
    let mut read = read_part(scan.as_ref(), 0, &one).await.unwrap();
    let first = read.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert!(first > 10_000 && first < 50_000, "{first} rows in the first part of two");
    // Each row goes behind the pages of its part.
    database.run("UPDATE large SET place = place + 1").await;
    let another = snapshot(&source).await;
    let moved = read_part(scan.as_ref(), 1, &another).await.unwrap();
    read.extend(read_part(scan.as_ref(), 1, &one).await.unwrap());
    assert_each_row_once(&read);
    let twice = moved.iter().map(RecordBatch::num_rows).sum::<usize>() + first;
    assert!(twice > usize::try_from(ROWS).unwrap(), "without one snapshot, rows would have come twice");
}

/// What takes longest to test stands last in a statement, behind the bounds of its part.
#[tokio::test(flavor = "multi_thread")]
async fn parts_have_their_bounds_wherever_these_stand_in_the_statement() {
    let database = large().await;
    let source = database.source();
    let mut request = request(&source, "large", 4).await;
    let equal = |column: usize, value: i32| {
        Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(ScalarValue::from(value)))
    };
    request.filters = vec![
        Expr::Or(vec![equal(1, 100), equal(1, 7), equal(0, 3)]),
        Expr::compare(CompareOp::NotEqual, Expr::Column(4), Expr::Literal(ScalarValue::from("y"))),
    ];
    let scan = parts(&source, request).await;
    assert_eq!(scan.partitions(), 2, "{}", scan.statement());
    let one = snapshot(&source).await;
    let mut read = vec![];
    for part in 0..2 {
        let rows = read_part(scan.as_ref(), part, &one).await.unwrap();
        assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() > 10_000);
        read.extend(rows);
    }
    assert_each_row_once(&read);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_hold_each_row_once_while_others_update() {
    let database = large().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = vec![];
    for seed in 1..=3_i32 {
        let (client, stop) = (client(&database.url()).await, Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let mut transfers = 0_i32;
            while !stop.load(Ordering::Relaxed) {
                transfers += 1;
                let row = |n: i32| (n.wrapping_mul(7_919).wrapping_mul(seed)).rem_euclid(ROWS) + 1;
                let (from, to) = (row(transfers).min(row(transfers + 1)), row(transfers).max(row(transfers + 1)));
                // The first is heap-only where its page has room, the second never is, and both leave a page that is full.
                let sql = format!(
                    "BEGIN; UPDATE large SET balance = balance - 1 WHERE place = {from} AND id = {from};
                     UPDATE large SET balance = balance + (SELECT count(*) FROM large WHERE id = {from} AND place = {from})::int, moves = moves + 1
                     WHERE place = {to} AND id = {to}; COMMIT"
                );
                client.batch_execute(&sql).await.expect("rows are updated in one order");
            }
            transfers
        }));
    }
    let source = database.source();
    let scan = parts(&source, request(&source, "large", 4).await).await;
    for _ in 0..8 {
        let one = snapshot(&source).await;
        let reads = (0..scan.partitions()).map(|part| read_part(scan.as_ref(), part, &one));
        assert_each_row_once(&try_join_all(reads).await.unwrap().concat());
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn filtered_parts_hold_what_the_whole_holds() {
    let database = large().await;
    let source = database.source();
    let mut request = request(&source, "large", 2).await;
    request.projection = vec![0];
    request.filters =
        vec![Expr::compare(CompareOp::LessOrEqual, Expr::Column(0), Expr::Literal(ScalarValue::from(45_000_i32)))];
    let scan = parts(&source, request).await;
    let statement = scan.statement().to_string();
    assert!(statement.contains("\"ctid\" >= $2::tid AND \"ctid\" < $3::tid binds=[integer, tid, tid]"), "{statement}");
    let one = snapshot(&source).await;
    let mut read = vec![];
    for part in 0..scan.partitions() {
        read.extend(read_part(scan.as_ref(), part, &one).await.unwrap());
    }
    let batch = concat_batches(&read[0].schema(), &read).unwrap();
    let mut ids = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, (1..=45_000).collect::<Vec<_>>());
    assert!(failure(scan.open_for(2, &one.into()).await.map(|_| ())).to_string().contains("part 2 of 2"));
    assert!(
        matches!(failure(scan.open(0).await.map(|_| ())), Error::Unsupported { .. }),
        "parts are read in one snapshot"
    );
}

#[tokio::test]
async fn what_has_no_pages_of_its_own_is_not_split() {
    let database = large().await;
    database
        .run(
            "CREATE VIEW seen AS SELECT * FROM large; CREATE MATERIALIZED VIEW kept AS SELECT * FROM large;
             CREATE TABLE small AS SELECT 1 AS id; CREATE TABLE parent (LIKE large); INSERT INTO parent SELECT * FROM large;
             CREATE TABLE child () INHERITS (parent); CREATE TABLE parted (LIKE large) PARTITION BY HASH (id);
             CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO parted SELECT * FROM large;
             CREATE TABLE unanalyzed WITH (autovacuum_enabled = off) AS SELECT * FROM large; ANALYZE kept, small, parent, child, parted",
        )
        .await;
    let source = database.source();
    for from in ["seen", "kept", "small", "parent", "parted", "unanalyzed"] {
        let scan = parts(&source, request(&source, from, 4).await).await;
        assert_eq!((scan.partitions(), scan.statement().text.contains("ctid")), (1, false), "{from}");
    }
    assert_eq!(parts(&source, request(&source, "part", 4).await).await.partitions(), 2, "a partition is a table too");
    let equal = |column| Expr::compare(CompareOp::Equal, Expr::Column(column), Expr::Literal(ScalarValue::from(1_i32)));
    let mut indexed = request(&source, "large", 4).await;
    indexed.filters = vec![equal(2)];
    assert_eq!(parts(&source, indexed).await.partitions(), 1);
}

async fn count(source: &Arc<dyn Source>, from: &str, snapshot: &Snapshot) -> i64 {
    let relation = Relation::table(table(source, from).await);
    let relation = relation.aggregate(vec![], vec![Aggregate::count_rows()]);
    let schema = Arc::new(Schema::new(relation.columns().iter().map(ColumnDef::field).collect::<Vec<_>>()));
    let batch_rows = ScanRequest::DEFAULT_BATCH_ROWS;
    let request = QueryRequest { relation, schema, batch_rows, statistics: vec![] };
    let scan = source.prepare_query(request).await.unwrap();
    read_part(scan.as_ref(), 0, snapshot).await.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn statements_of_one_snapshot_see_one_state() {
    let database = Database::new().await;
    database.run("CREATE TABLE orders AS SELECT 1 AS id; CREATE TABLE lines AS SELECT 1 AS id, 1 AS n").await;
    // Two services of one database read one state too.
    let (orders, lines) = (database.source(), database.source());
    let one = snapshot(&orders).await;
    let first = parts(&orders, request(&orders, "orders", 1).await).await;
    let before = read_part(first.as_ref(), 0, &one).await.unwrap();
    database.run("INSERT INTO orders VALUES (2); INSERT INTO lines VALUES (2, 1), (2, 2)").await;
    let second = parts(&lines, request(&lines, "lines", 1).await).await;
    let after = read_part(second.as_ref(), 0, &one).await.unwrap();
    assert_eq!((before[0].num_rows(), after[0].num_rows()), (1, 1));
    assert_eq!((count(&orders, "orders", &one).await, count(&lines, "lines", &one).await), (1, 1));
    let now = snapshot(&orders).await;
    assert_eq!((count(&orders, "orders", &now).await, count(&lines, "lines", &now).await), (2, 3));
}

#[tokio::test]
async fn change_of_a_table_after_the_snapshot_is_refused_and_not_misread() {
    for ddl in [
        "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b",
        "ALTER TABLE t DROP COLUMN b",
        "TRUNCATE t",
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t RENAME TO old; CREATE TABLE t AS SELECT 3 AS a, 4 AS b",
        "ALTER SCHEMA public RENAME TO old; CREATE SCHEMA public; CREATE TABLE public.t AS SELECT 3 AS a, 4 AS b",
    ] {
        let database = Database::new().await;
        database.run("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2)").await;
        let source = database.source();
        let scan = parts(&source, request(&source, "t", 1).await).await;
        let one = snapshot(&source).await;
        assert_eq!(read_part(scan.as_ref(), 0, &one).await.unwrap()[0].num_rows(), 1);
        database.run(ddl).await;
        match read_part(scan.as_ref(), 0, &one).await {
            Err(Error::SchemaChanged { .. }) => {}
            other => panic!("{ddl}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn catalog_that_was_touched_without_effect_does_not_matter() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2)").await;
    let source = database.source();
    let scan = parts(&source, request(&source, "t", 1).await).await;
    database.run("BEGIN; ALTER TABLE t DROP COLUMN b; ALTER TABLE t RENAME a TO c; ROLLBACK").await;
    database.run("CREATE INDEX ON t (a); GRANT SELECT ON t TO PUBLIC; ALTER TABLE t ADD COLUMN c int; ANALYZE t").await;
    let one = snapshot(&source).await;
    for _ in 0..2 {
        assert_eq!(read_part(scan.as_ref(), 0, &one).await.unwrap()[0].num_rows(), 1);
        assert_eq!(scan.open(0).await.unwrap().try_collect::<Vec<_>>().await.unwrap()[0].num_rows(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_statements_do_not_wait_for_one_another() {
    let database = large().await;
    let source = database.source_with(&[("pool_size", 2), ("pool_wait_ms", 30_000)]);
    let scan = parts(&source, request(&source, "large", 2).await).await;
    let query = async || {
        let one = snapshot(&source).await;
        let reads = (0..scan.partitions()).map(|part| read_part(scan.as_ref(), part, &one));
        try_join_all(reads).await.map(|read| assert_each_row_once(&read.concat()))
    };
    try_join_all((0..12).map(|_| query())).await.unwrap_or_else(|error| panic!("{}", error.report()));
}

#[tokio::test]
async fn dropped_snapshot_ends_its_transaction_and_keeps_its_connection() {
    let database = Database::new().await;
    database.run("CREATE TABLE t AS SELECT 1 AS a").await;
    let source = database.source_with(&[("pool_size", 1)]);
    let sql = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'headwater shop snapshot'";
    let holders = async || {
        let row = database.client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    for _ in 0..3 {
        let one = snapshot(&source).await;
        assert_eq!(holders().await, (1, 1));
        assert_eq!(count(&source, "t", &one).await, 1);
        drop(one);
        eventually("the transaction ends", Duration::from_secs(1), async || holders().await == (1, 0)).await;
    }
}
