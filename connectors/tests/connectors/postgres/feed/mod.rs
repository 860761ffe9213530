//! Logical replication: what is released, what is refused, what is found out.

mod definition;
mod slot;
mod types;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_connectors::PostgresConnector;
use headwater_connectors::conformance::feed::{FeedStore, Write};
use headwater_source::{Change, Dependency, OptionValue, RowOp, Source, Transaction, async_trait};
use tokio_postgres::Client;

use super::{Database, client, failure, text, unique};
use crate::following::{Following, conforms, failure_of, ids, next, open_followed, row_count, rows};

/// A source whose feed has a slot of its own.
fn followed(url: &str, slot: &str) -> Arc<dyn Source> {
    followed_with(slot, &[("url", text(url))])
}

fn followed_with(slot: &str, options: &[(&str, OptionValue)]) -> Arc<dyn Source> {
    let feed = [("slot", text(slot))];
    open_followed(&PostgresConnector, "shop", "/".as_ref(), options, "logical", &feed).expect("the options are right")
}

/// A database that is followed. Its slot is dropped with it.
struct Followed {
    slot: String,
    database: Database,
}

impl Followed {
    async fn new(schema: &str) -> Self {
        let followed = Self { slot: unique("hw_slot"), database: Database::new().await };
        followed.database.run(schema).await;
        followed
    }

    fn source(&self) -> Arc<dyn Source> {
        followed(&self.database.url(), &self.slot)
    }

    async fn run(&self, sql: &str) {
        self.database.run(sql).await;
    }

    async fn of(&self, tables: &[&str]) -> Following {
        Following::installed(self.source(), tables).await
    }

    /// The error of putting a feed in place over a table.
    async fn refusal(&self, table: &str) -> String {
        let following = Following::of(self.source(), &[table]).await;
        let lacks = following.feed.check(&following.tables).await.unwrap();
        let refused = failure(following.feed.install(&following.tables).await).to_string();
        assert!(!lacks.is_empty(), "{refused}");
        assert!(refused.contains(&lacks[0].what) && refused.contains(&lacks[0].remedy), "{refused}");
        refused
    }
}

impl Drop for Followed {
    /// A database with a slot in use cannot be dropped.
    fn drop(&mut self) {
        let (url, slot) = (self.database.url(), self.slot.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client(&url).await;
                let stop = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active";
                drop(client.batch_execute(stop).await);
                let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
                for _ in 0..200 {
                    if client.execute(sql, &[&slot]).await.is_ok() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        drop(dropping.join());
    }
}

/// The suite's store: each service has a slot of its own.
struct Notes {
    followed: Followed,
    idle: Mutex<Vec<Client>>,
}

impl Notes {
    /// A connection of nobody else's; it goes back with [`Self::give_back`].
    async fn writer(&self) -> Client {
        let idle = self.idle.lock().unwrap().pop();
        match idle {
            Some(client) => client,
            None => client(&self.followed.database.url()).await,
        }
    }

    fn give_back(&self, client: Client) {
        self.idle.lock().unwrap().push(client);
    }
}

async fn write(client: &Client, write: &Write) {
    match write {
        Write::Put { id, body, n } => {
            let sql = "INSERT INTO notes VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET body = $2, n = $3";
            client.execute(sql, &[id, body, n]).await.unwrap();
        }
        Write::Delete { id } => {
            client.execute("DELETE FROM notes WHERE id = $1", &[id]).await.unwrap();
        }
        Write::Rekey { from, to } => {
            let sql = "UPDATE notes SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM notes WHERE id = $2)";
            client.execute(sql, &[from, to]).await.unwrap();
        }
    }
}

#[async_trait]
impl FeedStore for Notes {
    fn open(&self, service: &str) -> Arc<dyn Source> {
        let slot = match service {
            "one" => self.followed.slot.clone(),
            other => format!("{}_{other}", self.followed.slot),
        };
        followed(&self.followed.database.url(), &slot)
    }

    fn table(&self) -> &str {
        "notes"
    }

    async fn commit(&self, writes: &[Write]) {
        let client = self.writer().await;
        client.batch_execute("BEGIN").await.unwrap();
        for one in writes {
            write(&client, one).await;
        }
        client.batch_execute("COMMIT").await.unwrap();
        self.give_back(client);
    }

    async fn roll_back(&self, writes: &[Write]) {
        let client = self.writer().await;
        for end in ["ROLLBACK TO kept; COMMIT", "ROLLBACK"] {
            client.batch_execute("BEGIN").await.unwrap();
            for (index, one) in writes.iter().enumerate() {
                write(&client, one).await;
                if index == 0 {
                    client.batch_execute("SAVEPOINT kept").await.unwrap();
                }
            }
            client.batch_execute(end).await.unwrap();
        }
    }

    async fn token(&self) -> Option<String> {
        let row = self.writer().await.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        Some(row.get(0))
    }
}

#[tokio::test]
async fn postgres_feed_conforms() {
    let followed = Followed::new("CREATE TABLE notes (id bigint PRIMARY KEY, body text, n bigint)").await;
    conforms(&Notes { followed, idle: Mutex::default() }).await;
}

#[tokio::test]
async fn rows_without_a_key_go_as_wholes_where_the_identity_is_full() {
    let followed = Followed::new(
        "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL)",
    )
    .await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1, 'x'), (2, repeat('y', 100000))").await;
    followed.run("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)").await;
    followed.run("UPDATE t SET b = 'z' WHERE a IS NULL; UPDATE t SET a = 3 WHERE a = 2").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert!(rows(&taken[1])[0].ops == [RowOp::DeleteRow]);
    assert_eq!(rows(&taken[2])[0].ops, [RowOp::DeleteRow, RowOp::InsertOver, RowOp::DeleteRow, RowOp::InsertOver]);
}

#[tokio::test]
async fn key_of_an_index_identifies_where_the_manifest_names_its_columns() {
    let followed = Followed::new(
        "CREATE TABLE t (a int NOT NULL, b text, UNIQUE (a)); ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_key;
         INSERT INTO t VALUES (1, 'x')",
    )
    .await;
    let mut following = Following::of(followed.source(), &["t"]).await;
    assert!(failure(following.feed.install(&following.tables).await).to_string().contains("REPLICA IDENTITY FULL"));
    following.tables[0].key = Some(vec!["a".to_owned()]);
    following.feed.install(&following.tables).await.unwrap();
    let mut replica = following.snapshot().await;
    followed.run("UPDATE t SET a = 2; UPDATE t SET b = 'y'; DELETE FROM t; INSERT INTO t VALUES (5, 'z')").await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn truncation_empties_every_table_that_it_reaches() {
    let followed = Followed::new(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
         INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1, 1)",
    )
    .await;
    let following = followed.of(&["a", "b"]).await;
    let mut replica = following.snapshot().await;
    followed.run("BEGIN; INSERT INTO a VALUES (3); TRUNCATE a CASCADE; INSERT INTO a VALUES (4), (1); COMMIT").await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let truncated: Vec<usize> = taken[0]
        .changes
        .iter()
        .filter(|change| matches!(change.change, Change::Truncate))
        .map(|change| change.table)
        .collect();
    assert_eq!(truncated, [0, 1]);
    assert_eq!(replica.rows(0).len(), 2);
}

#[tokio::test]
async fn rolled_back_savepoints_and_transactions_never_show() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed
        .run(
            "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2); SAVEPOINT u; INSERT INTO t VALUES (3);
             RELEASE u; ROLLBACK TO s; INSERT INTO t VALUES (4); COMMIT;
             BEGIN; INSERT INTO t VALUES (5); ROLLBACK",
        )
        .await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(row_count(&taken[0]), 2);
}

#[tokio::test]
async fn transaction_of_half_a_million_rows_comes_whole() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY, body text)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    followed.run("INSERT INTO t SELECT n, 'body ' || n FROM generate_series(1, 500000) n").await;
    let head = following.feed.head().await.unwrap();
    let mut changes = following.changes(replica.position()).await;
    let mut whole: Option<Transaction> = None;
    while whole.is_none() {
        let transaction = next(&mut changes).await.unwrap();
        whole = Some(transaction).filter(|transaction| !transaction.changes.is_empty());
    }
    let whole = whole.unwrap();
    assert_eq!(row_count(&whole), 500_000);
    assert!(whole.position <= head);
    assert!(rows(&whole).iter().all(|rows| rows.ops.len() <= 65_536));
    let total: i64 = rows(&whole).iter().map(|rows| ids(rows)).sum();
    assert_eq!(total, 500_000 * 500_001 / 2);
}

#[tokio::test]
async fn message_of_a_transaction_carries_what_it_depends_on() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    followed
        .run(
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'headwater', '{\"payments\": \"0/16B3748\"}');
             SELECT pg_logical_emit_message(true, 'other', 'x'); COMMIT;
             SELECT pg_logical_emit_message(false, 'headwater', 'no part of a transaction')",
        )
        .await;
    let taken = following.catch_up_and_agree(&mut replica).await;
    let expected = Dependency { service: "payments".to_owned(), token: "0/16B3748".to_owned() };
    assert_eq!(taken[0].depends_on, [expected]);
    assert!(taken[0].committed_us.is_some_and(|at| at > 1_700_000_000_000_000));
    let mut changes = following.changes(replica.position()).await;
    followed.run("SELECT pg_logical_emit_message(true, 'headwater', 'payments')").await;
    let error = failure_of(&mut changes).await.to_string();
    assert!(error.contains("not JSON") && error.contains("pg_logical_emit_message"), "{error}");
}
