//! Triggers and a log in the service's own file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_connectors::SqliteConnector;
use headwater_connectors::conformance::feed::{FeedStore, Write};
use headwater_source::{Dependency, Error, OptionValue, Result, RowOp, Source, async_trait};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::Database;
use crate::following::{Following, conforms, failure_of, next, open_followed, row_count, rows};

fn followed(directory: &Path, service: &str) -> Arc<dyn Source> {
    try_followed(directory, service, &[("consent", OptionValue::Flag(true))]).unwrap()
}

fn try_followed(directory: &Path, service: &str, feed: &[(&str, OptionValue)]) -> Result<Arc<dyn Source>> {
    let path = [("path", OptionValue::Text("shop.db".to_owned()))];
    open_followed(&SqliteConnector, service, directory, &path, "triggers", feed)
}

impl Database {
    fn followed(&self) -> Arc<dyn Source> {
        followed(self.directory.path(), "shop")
    }

    async fn following(&self, tables: &[&str]) -> Following {
        Following::installed(self.followed(), tables).await
    }

    fn count(&self, sql: &str) -> i64 {
        self.writer.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// The suite's store.
struct Notes {
    directory: TempDir,
    path: PathBuf,
}

impl Notes {
    fn new(journal: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", journal).unwrap();
        connection.execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, n INTEGER)").unwrap();
        Self { directory, path }
    }

    async fn write(&self, writes: &[Write], end: &'static str) {
        let (path, writes) = (self.path.clone(), writes.to_vec());
        let work = move || {
            let connection = Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            connection.pragma_update(None, "synchronous", "off").unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (index, write) in writes.iter().enumerate() {
                apply(&connection, write);
                if index == 0 {
                    connection.execute_batch("SAVEPOINT kept").unwrap();
                }
            }
            connection.execute_batch(end).unwrap();
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }
}

fn apply(connection: &Connection, write: &Write) {
    match write {
        Write::Put { id, body, n } => {
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?1, ?2, ?3)", params![id, body, n]).unwrap();
        }
        Write::Delete { id } => {
            connection.execute("DELETE FROM notes WHERE id = ?1", [id]).unwrap();
        }
        Write::Rekey { from, to } => {
            connection.execute("UPDATE OR IGNORE notes SET id = ?2 WHERE id = ?1", [from, to]).unwrap();
        }
    }
}

#[async_trait]
impl FeedStore for Notes {
    fn open(&self, service: &str) -> Arc<dyn Source> {
        followed(self.directory.path(), service)
    }

    fn table(&self) -> &str {
        "notes"
    }

    async fn commit(&self, writes: &[Write]) {
        self.write(writes, "COMMIT").await;
    }

    async fn roll_back(&self, writes: &[Write]) {
        self.write(writes, "ROLLBACK TO kept; COMMIT").await;
        self.write(writes, "ROLLBACK").await;
    }

    async fn token(&self) -> Option<String> {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        let sql = "SELECT max(number) FROM headwater_one_feed_log";
        Some(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().to_string())
    }
}

#[tokio::test]
async fn sqlite_feed_conforms_in_wal_mode() {
    conforms(&Notes::new("wal")).await;
}

#[tokio::test]
async fn sqlite_feed_conforms_with_a_rollback_journal() {
    conforms(&Notes::new("delete")).await;
}

#[test]
fn feed_without_consent_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for options in [&[][..], &[("consent", OptionValue::Flag(false))]] {
        let error = match try_followed(directory.path(), "shop", options) {
            Ok(_) => panic!("it must be refused"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("consent"), "{error}");
    }
}

#[tokio::test]
async fn every_type_comes_as_a_scan_yields_it() {
    let database = Database::new(
        "PRAGMA journal_mode = wal;
         CREATE TABLE t (id INTEGER PRIMARY KEY, b BOOLEAN, f DOUBLE, d DECIMAL(12,2), w DECIMAL(50,10), s TEXT, v VARCHAR(9),
            x BLOB, day DATE, at TIMESTAMP, tz TIMESTAMPTZ, clock TIME, any, j JSON, g INTEGER AS (id * 2) STORED, h TEXT AS (s || '!'))",
    );
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.run(
        "INSERT INTO t VALUES (1, 1, -0.0, 12.5, '1234567890123456789.5', 'ü''\\ 😀', '', x'00ff', '2024-02-29',
            '2024-02-29 12:00:00.123456', '2024-02-29T12:00:00+05:30', '23:59:59.5', 1.5, '{\"a\": 1}'),
         (-4611686018427387904, 0, 9e999, -0.01, -1, '', 'x', x'', '0001-01-01', '9999-12-31', '1970-01-01 00:00:00Z', '00:00', x'0A', 7),
         (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
         (4, 1, 7, 7, '0.5', 'text', 'v', x'01', '2024-01-01', '2024-01-01 10:00', '2024-01-01 10:00', '10:00:00', 'text', NULL);
         UPDATE t SET id = id + 10 WHERE id > 0",
    );
    following.catch_up_and_agree(&mut replica).await;
    assert_eq!(replica.rows(0).len(), 4);
    database.run("UPDATE t SET f = 1.25, s = 'other' WHERE id = 11");
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn value_that_no_scan_can_read_is_named() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)");
    let following = database.following(&["t"]).await;
    let replica = following.snapshot().await;
    database.run("INSERT INTO t VALUES (1, 'no number')");
    let error = failure_of(&mut following.changes(replica.position()).await).await;
    assert!(matches!(&error, Error::Value { column, .. } if column == "n"), "{}", error.report());
}

/// REPLACE takes rows away without a word to delete triggers; upserts, IGNORE and FAIL leave them.
#[tokio::test]
async fn rows_that_conflicts_take_away_or_leave_are_told_apart() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT UNIQUE COLLATE NOCASE, a INT, b INT, n INT, UNIQUE (a, b));
         CREATE UNIQUE INDEX part ON t (n) WHERE n > 100;
         CREATE TABLE r (k TEXT PRIMARY KEY ON CONFLICT REPLACE, n INT) WITHOUT ROWID;
         CREATE TABLE h (k TEXT NOT NULL PRIMARY KEY, n INT);
         INSERT INTO t VALUES (1, 'a', 1, 1, 1), (2, 'b', 2, 2, 2), (3, 'c', 3, 3, 101), (4, 'd', NULL, NULL, 4);
         INSERT INTO r VALUES ('x', 1), ('y', 2); INSERT INTO h VALUES ('x', 1), ('y', 2)",
    );
    let following = database.following(&["t", "r", "h"]).await;
    let mut replica = following.snapshot().await;
    for sql in [
        "INSERT OR REPLACE INTO t VALUES (5, 'A', 2, 2, 101)",
        "INSERT OR IGNORE INTO t VALUES (5, 'z', 9, 9, 9), (6, 'f', 6, 6, 6)",
        "INSERT INTO t VALUES (6, 'q', 7, 7, 7) ON CONFLICT (id) DO UPDATE SET n = 66",
        "INSERT INTO t VALUES (9, 'F', 8, 8, 8) ON CONFLICT DO NOTHING",
        "UPDATE OR REPLACE t SET email = 'd' WHERE id = 6",
        "UPDATE OR REPLACE t SET id = 5 WHERE id = 6",
        "UPDATE OR IGNORE t SET id = 5",
        "REPLACE INTO t SELECT id + 1, email || 'x', a, b, n FROM t",
        "UPDATE t SET email = upper(email)",
        "INSERT INTO r VALUES ('x', 7); UPDATE r SET k = 'x' WHERE k = 'y'",
        "INSERT OR REPLACE INTO h (rowid, k, n) VALUES (1, 'w', 5); UPDATE OR REPLACE h SET rowid = 1 WHERE k = 'y'",
        "DELETE FROM t",
        "INSERT INTO t (email) VALUES ('new')",
        "BEGIN; INSERT INTO t (email) VALUES ('p'); DELETE FROM t; INSERT INTO t (id) VALUES (1); COMMIT",
    ] {
        database.run(sql);
        following.catch_up_and_agree(&mut replica).await;
    }
    database.run("PRAGMA recursive_triggers = on; INSERT OR REPLACE INTO t VALUES (1, 'new', 1, 1, 1)");
    following.catch_up_and_agree(&mut replica).await;
    let error = database.writer.execute_batch("INSERT OR FAIL INTO t VALUES (2, 'x', 4, 4, 4), (1, 'y', 5, 5, 5)");
    assert!(error.is_err());
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn cascades_and_triggers_of_the_service_are_seen() {
    let database = Database::new(
        "PRAGMA foreign_keys = on; CREATE TABLE a (id INTEGER PRIMARY KEY, n INT);
         CREATE TABLE b (id INTEGER PRIMARY KEY, a INT REFERENCES a ON DELETE CASCADE ON UPDATE SET NULL);
         CREATE TRIGGER own AFTER INSERT ON b BEGIN UPDATE a SET n = n + 1 WHERE id = NEW.a; END;
         INSERT INTO a VALUES (1, 0), (2, 0); INSERT INTO b VALUES (1, 1), (2, 2)",
    );
    let following = database.following(&["a", "b"]).await;
    let mut replica = following.snapshot().await;
    for sql in ["INSERT INTO b VALUES (3, 1)", "DELETE FROM a WHERE id = 1", "UPDATE a SET id = 7 WHERE id = 2"] {
        database.run(sql);
        following.catch_up_and_agree(&mut replica).await;
    }
}

#[tokio::test]
async fn keys_that_compare_alike_and_are_not_are_kept_apart() {
    let database = Database::new(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, n INT); INSERT INTO t VALUES ('a', 1);
         CREATE TABLE u (k NOT NULL PRIMARY KEY, n INT)",
    );
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    for sql in ["UPDATE t SET k = 'A'", "UPDATE t SET k = 'a', n = 2", "INSERT OR REPLACE INTO t VALUES ('A', 3)"] {
        database.run(sql);
        following.catch_up_and_agree(&mut replica).await;
    }
    let untyped = Following::of(database.followed(), &["u"]).await;
    let refused = untyped.feed.install(&untyped.tables).await.unwrap_err().to_string();
    assert!(refused.contains("key column \"k\""), "{refused}");
}

#[tokio::test]
async fn key_that_only_the_manifest_names_needs_a_unique_index() {
    let database =
        Database::new("CREATE TABLE t (a INT NOT NULL, b TEXT NOT NULL, n INT); CREATE VIEW v AS SELECT * FROM t");
    let mut following = Following::of(database.followed(), &["t", "v"]).await;
    let lacks = following.feed.check(&following.tables).await.unwrap();
    assert!(lacks[0].what.contains("no primary key") && lacks[1].what.contains("view"), "{lacks:?}");
    following.tables.truncate(1);
    following.tables[0].key = Some(vec!["a".to_owned(), "b".to_owned()]);
    let refused = following.feed.install(&following.tables).await.unwrap_err().to_string();
    let remedy = "CREATE UNIQUE INDEX \"t_key\" ON \"t\" (\"a\", \"b\")";
    assert!(refused.contains(remedy), "{refused}");
    database.run(remedy);
    following.feed.install(&following.tables).await.unwrap();
    let mut replica = following.snapshot().await;
    database.run("INSERT INTO t VALUES (1, 'x', 1); UPDATE t SET b = 'y'; INSERT OR REPLACE INTO t VALUES (1, 'y', 2)");
    following.catch_up_and_agree(&mut replica).await;
    database.run("CREATE UNIQUE INDEX odd ON t (abs(n))");
    let refused = following.feed.install(&following.tables).await.unwrap_err().to_string();
    assert!(refused.contains("expression") && refused.contains("DROP INDEX \"odd\""), "{refused}");
}

#[tokio::test]
async fn edit_of_the_schema_is_noticed_and_named() {
    for (sql, what) in [
        ("DROP TRIGGER headwater_shop_feed_1_update", "trigger"),
        ("ALTER TABLE t ADD COLUMN x INT", "altered"),
        ("CREATE UNIQUE INDEX u ON t (n)", "unique indexes"),
        ("DROP TABLE t", "gone"),
        ("ALTER TABLE t RENAME COLUMN n TO m", "altered"),
        ("BEGIN; DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, n INT); COMMIT", "trigger"),
        ("DROP TABLE headwater_shop_feed_log", "removed"),
    ] {
        let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
        let following = database.following(&["t"]).await;
        let replica = following.snapshot().await;
        let mut changes = following.changes(replica.position()).await;
        database.run(sql);
        let error = failure_of(&mut changes).await;
        assert!(matches!(error, Error::SchemaChanged { .. } | Error::HistoryGone { .. }), "{sql}: {}", error.report());
        assert!(error.to_string().contains(what), "{sql}: {error}");
    }
}

#[tokio::test]
async fn triggers_that_were_put_back_do_not_hide_what_was_missed() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.run("DROP TRIGGER headwater_shop_feed_1_insert; INSERT INTO t VALUES (1, 1)");
    following.feed.install(&following.tables).await.unwrap();
    let error = following.try_catch_up(&mut replica).await.unwrap_err();
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
    let mut replica = following.snapshot().await;
    database.run("INSERT INTO t VALUES (2, 2)");
    following.catch_up_and_agree(&mut replica).await;
    // Once more changes nothing.
    following.feed.install(&following.tables).await.unwrap();
    database.run("INSERT INTO t VALUES (3, 2)");
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn log_is_forgotten_once_it_was_acknowledged() {
    let database = Database::new("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    let start = replica.position().clone();
    database.run("INSERT INTO t WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) SELECT n, n FROM c");
    let mut changes = following.changes(replica.position()).await;
    let transaction = next(&mut changes).await.unwrap();
    replica.apply(&transaction).unwrap();
    assert_eq!(row_count(&transaction), 1000);
    let rows_left = || database.count("SELECT count(*) FROM headwater_shop_feed_log");
    assert!(rows_left() >= 1000);
    following.feed.acknowledge(&transaction.position).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while rows_left() > 1 {
        assert!(Instant::now() < deadline, "{} rows are left", rows_left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = following.feed.changes(&following.tables, &start).await.err().unwrap();
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
    database.run("DELETE FROM t WHERE id > 5");
    replica.apply(&next(&mut changes).await.unwrap()).unwrap();
    following.agree(&replica).await;
    let oldest: u64 = following.feed.status().await.unwrap().oldest.unwrap().parse().unwrap();
    assert!(oldest >= transaction.position.order() - 1, "{oldest}");
}

#[tokio::test]
async fn transaction_of_many_rows_is_one_and_so_are_many_that_were_not_read() {
    let database = Database::new("PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.run("INSERT INTO t WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500000) SELECT n, n FROM c");
    database.run("UPDATE t SET n = 7 WHERE id = 1; UPDATE t SET n = 8 WHERE id = 1; DELETE FROM t WHERE id = 2");
    let taken = following.catch_up(&mut replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(row_count(&taken[0]), 499_999);
    assert!(rows(&taken[0]).iter().all(|rows| rows.ops.len() <= 65_537 && rows.ops[0] == RowOp::Insert));
    following.agree(&replica).await;
}

#[tokio::test]
async fn writer_tells_what_its_transaction_depends_on() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
    let following = database.following(&["t"]).await;
    let mut replica = following.snapshot().await;
    database.run(
        "BEGIN; INSERT INTO t VALUES (1, 1);
         INSERT INTO headwater_shop_feed_log (tab, existed, k0) VALUES (-1, 0, '{\"payments\": \"0/16B3748\"}'); COMMIT",
    );
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken[0].depends_on, [Dependency { service: "payments".to_owned(), token: "0/16B3748".to_owned() }]);
}

#[tokio::test]
async fn file_that_cannot_be_written_to_is_told_and_removal_leaves_nothing() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT)");
    let before = database.count("SELECT count(*) FROM sqlite_schema");
    let following = database.following(&["t"]).await;
    assert_eq!(following.source.tables().await.unwrap().len(), 1, "the log is no table of the service");
    let removed = following.feed.remove().await.unwrap();
    assert_eq!(removed.len(), 7, "{removed:?}");
    assert_eq!(database.count("SELECT count(*) FROM sqlite_schema"), before);
    drop(following);
    // Whoever may do anything may write to any file; such a one is not refused.
    let path = database.path();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    if std::fs::OpenOptions::new().write(true).open(&path).is_err() {
        let following = Following::of(database.followed(), &["t"]).await;
        let lacks = following.feed.check(&following.tables).await.unwrap();
        assert!(lacks[0].remedy.contains("chmod"), "{lacks:?}");
    }
}
