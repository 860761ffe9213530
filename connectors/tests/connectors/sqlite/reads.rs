//! Files that come, go, change and are locked, and what the catalog shows then.

use std::time::{Duration, Instant};

use headwater_source::{Error, ScanRequest};
use rusqlite::Connection;

use super::{Database, batches, open, printed, read, request};

#[tokio::test]
async fn file_that_is_missing_is_unavailable_until_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let source = open(directory.path(), "later.db", &[]).unwrap();
    match source.tables().await {
        Err(Error::Unavailable { location, .. }) => assert!(location.ends_with("/later.db"), "{location}"),
        other => panic!("{other:?}"),
    }
    assert!(!directory.path().join("later.db").exists(), "a reader must not create it");
    let writer = Connection::open(directory.path().join("later.db")).unwrap();
    writer.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(read(&source, &request(&source, "t").await).await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn file_that_another_takes_the_place_of_is_opened_anew() {
    let database = Database::new("CREATE TABLE t (c TEXT); INSERT INTO t VALUES ('old')");
    let source = database.source();
    let all = request(&source, "t").await;
    assert_eq!(printed(&read(&source, &all).await.unwrap(), 0), ["old"]);
    let other = Database::new("CREATE TABLE t (c TEXT); INSERT INTO t VALUES ('new')");
    std::fs::rename(other.path(), database.path()).unwrap();
    assert_eq!(printed(&read(&source, &all).await.unwrap(), 0), ["new"]);
    std::fs::remove_file(database.path()).unwrap();
    assert!(matches!(read(&source, &all).await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn file_of_another_kind_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("notes.txt"),
        "this is not a database, and long enough to have a header".repeat(9),
    )
    .unwrap();
    let source = open(directory.path(), "notes.txt", &[]).unwrap();
    let error = source.tables().await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }) && error.report().contains("not a database"),
        "{}",
        error.report()
    );
    let source = open(directory.path(), ".", &[]).unwrap();
    assert!(matches!(source.tables().await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn wrong_options_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let message = |path: &str, counts: &[(&str, u64)]| open(directory.path(), path, counts).unwrap_err().to_string();
    assert!(message("", &[]).contains("\"path\""));
    assert!(message("a.db", &[("pool_size", 0)]).contains("\"pool_size\""));
    assert!(message("a.db", &[("busy_timeout", 0)]).contains("\"busy_timeout_ms\""));
}

#[tokio::test]
async fn writer_that_holds_the_lock_is_waited_for_and_then_named() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    let source = database.source_with(&[("busy_timeout_ms", 200)]);
    let all = request(&source, "t").await;
    database.run("BEGIN EXCLUSIVE");
    let started = Instant::now();
    match batches(&source, &all).await {
        Err(Error::Timeout { what, option, .. }) => {
            assert_eq!((what, option), ("waiting for a lock", "busy_timeout_ms"))
        }
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
    database.run("COMMIT");
    assert_eq!(read(&source, &all).await.unwrap().num_rows(), 1);
}

#[tokio::test]
async fn lock_that_is_released_in_time_is_not_noticed() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    let source = database.source_with(&[("busy_timeout_ms", 30_000)]);
    let all = request(&source, "t").await;
    database.run("BEGIN EXCLUSIVE");
    let reading = tokio::spawn(async move { read(&source, &all).await });
    tokio::task::yield_now().await;
    database.run("COMMIT");
    assert_eq!(reading.await.unwrap().unwrap().num_rows(), 1);
}

#[tokio::test]
async fn reader_who_leaves_while_the_file_is_locked_frees_the_connection() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    // Were the first reader to hold on to the only connection, the second would give up waiting for it.
    let limits = [("pool_size", 1), ("pool_wait_ms", 400), ("statement_timeout_ms", 1500), ("busy_timeout_ms", 60_000)];
    let source = database.source_with(&limits);
    let all = request(&source, "t").await;
    database.run("BEGIN EXCLUSIVE");
    let scan = source.prepare(all).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), scan.open(0)).await.is_err());
    match source.tables().await {
        Err(Error::Timeout { what, .. }) => assert_eq!(what, "the statement", "it got the connection and met the lock"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wal_database_is_read_while_its_writer_is_busy_and_shows_what_is_committed() {
    let database =
        Database::new("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    let source = database.source();
    let all = request(&source, "t").await;
    database.run("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)");
    assert_eq!(read(&source, &all).await.unwrap().num_rows(), 1);
    database.run("COMMIT");
    assert_eq!(read(&source, &all).await.unwrap().num_rows(), 2);
}

#[tokio::test]
async fn column_that_changed_is_named_and_one_that_is_not_read_does_no_harm() {
    for (change, expected) in [
        ("ALTER TABLE t RENAME COLUMN b TO c", "column \"b\" is gone"),
        ("ALTER TABLE t DROP COLUMN b", "column \"b\" is gone"),
        ("DROP TABLE t", "it is gone"),
        ("DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT)", "column \"b\" was \"INT\" and is \"TEXT\""),
        (
            "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, b INT NOT NULL)",
            "column \"b\" was \"INT\" and is \"INT NOT NULL\"",
        ),
        (
            "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, b INT) STRICT",
            "column \"b\" is compared in another way",
        ),
        (
            "DROP TABLE t; CREATE VIEW t AS SELECT 1 AS id, 2 AS b",
            "it was a table and is a view, or the other way round",
        ),
    ] {
        let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, b INT); INSERT INTO t VALUES (1, 2)");
        let source = database.source();
        let all = request(&source, "t").await;
        let id_only = ScanRequest { projection: vec![0], ..all.clone() };
        assert_eq!(read(&source, &all).await.unwrap().num_rows(), 1, "the connection has the old schema in its cache");
        database.run(change);
        match read(&source, &all).await {
            Err(Error::SchemaChanged { table, change, .. }) => {
                assert_eq!((table.as_str(), change.contains(expected)), ("t", true), "{change}")
            }
            other => panic!("{change}: {other:?}"),
        }
        if change.contains("COLUMN") {
            assert_eq!(read(&source, &id_only).await.unwrap().num_rows(), 1, "{change}");
        }
    }
    // Columns in another place are still found by their names.
    let database = Database::new("CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'x')");
    let source = database.source();
    let all = request(&source, "t").await;
    database.run("DROP TABLE t; CREATE TABLE t (b TEXT, z INT, a INT); INSERT INTO t VALUES ('y', 0, 2)");
    let batch = read(&source, &all).await.unwrap();
    assert_eq!((printed(&batch, 0), printed(&batch, 1)), (vec!["2".to_owned()], vec!["y".to_owned()]));
}

#[tokio::test]
async fn table_is_found_in_any_case_and_an_unknown_one_has_a_neighbour() {
    let database = Database::new("CREATE TABLE Orders (id INTEGER PRIMARY KEY)");
    let source = database.source();
    assert_eq!(source.table("orders").await.unwrap().name, "Orders");
    let error = source.table("order").await.unwrap_err();
    assert_eq!(error.to_string(), "service \"shop\" has no table \"order\"; did you mean \"Orders\"?");
    assert!(source.table("sqlite_schema").await.is_err());
}

#[tokio::test]
async fn view_on_a_table_that_is_gone_hides_no_other() {
    let database =
        Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE VIEW broken AS SELECT nope FROM gone");
    let source = database.source();
    let names: Vec<String> = source.tables().await.unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["t"]);
    let error = source.table("broken").await.unwrap_err();
    assert!(matches!(error, Error::Remote { .. }) && error.report().contains("gone"), "{}", error.report());
}
