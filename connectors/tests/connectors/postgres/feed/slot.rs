//! The slot: what it keeps, who reads it, what is gone with it.

use std::time::Duration;

use headwater_connectors::conformance::feed::Replica;
use headwater_source::{Error, FeedClass, ScalarValue};

use super::Followed;
use crate::following::{Following, next};
use crate::postgres::{eventually, failure};

#[tokio::test]
async fn slot_or_publication_that_was_dropped_is_history_that_is_gone() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    followed.run("INSERT INTO t VALUES (1)").await;
    followed.run(&format!("SELECT pg_drop_replication_slot('{}')", followed.slot)).await;
    let gone = |error: Error| match error {
        Error::HistoryGone { wanted, reason, .. } => {
            assert_eq!(wanted, replica.position().token());
            reason
        }
        other => panic!("{}", other.report()),
    };
    let reason = gone(failure(following.feed.changes(&following.tables, replica.position()).await));
    assert!(reason.contains("no replication slot"), "{reason}");
    // One that was made anew begins later.
    following.feed.install(&following.tables).await.unwrap();
    let reason = gone(failure(following.feed.changes(&following.tables, replica.position()).await));
    assert!(reason.contains("begins at"), "{reason}");
    let replica = following.snapshot().await;
    followed.run(&format!("DROP PUBLICATION {}; INSERT INTO t VALUES (2)", followed.slot)).await;
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
}

#[tokio::test]
async fn reader_whose_connection_is_ended_reads_on_from_where_it_was() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let mut changes = following.changes(replica.position()).await;
    followed.run("INSERT INTO t VALUES (1)").await;
    followed
        .run(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
            followed.slot
        ))
        .await;
    let error = loop {
        match next(&mut changes).await {
            Ok(transaction) => replica.apply(&transaction).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{}", error.report());
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn server_forgets_what_was_acknowledged_and_nothing_else() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let mut replica = following.snapshot().await;
    let confirmed = async || {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
        followed.database.client.query_one(sql, &[&followed.slot]).await.unwrap().get::<_, String>(0)
    };
    let before = confirmed().await;
    let mut changes = following.changes(replica.position()).await;
    followed.run("INSERT INTO t VALUES (1)").await;
    let mut transaction = next(&mut changes).await.unwrap();
    while transaction.changes.is_empty() {
        transaction = next(&mut changes).await.unwrap();
    }
    assert_eq!(confirmed().await, before);
    following.feed.acknowledge(&transaction.position).await.unwrap();
    let reached = async |token: &str| confirmed().await == token;
    eventually("the acknowledgement arrives", Duration::from_secs(20), async || {
        reached(transaction.position.token()).await
    })
    .await;
    // Writes of others move the position on, so that the server's log can go.
    followed.run("CREATE TABLE noise AS SELECT generate_series(1, 1000)").await;
    let head = following.feed.head().await.unwrap();
    let idle = loop {
        let transaction = next(&mut changes).await.unwrap();
        assert!(transaction.changes.is_empty());
        if transaction.position >= head {
            break transaction.position;
        }
    };
    following.feed.acknowledge(&idle).await.unwrap();
    eventually("so does that of a place without changes", Duration::from_secs(20), async || {
        reached(idle.token()).await
    })
    .await;
    let status = following.feed.status().await.unwrap();
    assert_eq!(status.oldest.as_deref(), Some(idle.token()));
    assert!(status.retained_bytes.is_some());
    drop(changes);
    let error = failure(following.feed.changes(&following.tables, replica.position()).await);
    assert!(matches!(error, Error::HistoryGone { .. }), "{}", error.report());
    replica = following.snapshot().await;
    following.catch_up_and_agree(&mut replica).await;
}

#[tokio::test]
async fn second_reader_of_a_slot_is_refused_once_the_first_does_not_leave() {
    let followed = Followed::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let following = followed.of(&["t"]).await;
    let replica = following.snapshot().await;
    let first = following.changes(replica.position()).await;
    let other = Following::of(followed.source(), &["t"]).await;
    let waiting = tokio::spawn(async move { other.feed.changes(&other.tables, replica.position()).await.map(|_| ()) });
    // The first leaves while the second waits.
    drop(first);
    waiting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(following.feed.class(), FeedClass::Transactional);
}

#[tokio::test]
async fn snapshot_of_more_tables_than_connections_is_one_state() {
    let tables: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    let create: Vec<String> =
        tables.iter().map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY, n int)")).collect();
    let followed = Followed::new(&create.join(";")).await;
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    let following = followed.of(&names).await;
    let insert = |id: i32| {
        let inserts: Vec<String> =
            tables.iter().map(|name| format!("INSERT INTO {name} VALUES ({id}, {id})")).collect();
        format!("BEGIN; {}; COMMIT", inserts.join(";"))
    };
    followed.run(&insert(1)).await;
    let at = following.feed.snapshot(&following.tables).await.unwrap();
    followed.run(&insert(2)).await;
    let mut replica = Replica::load(&following.tables, at).await.unwrap();
    let ids = |replica: &Replica| (0..12).map(|table| replica.rows(table).len()).collect::<Vec<_>>();
    assert_eq!(ids(&replica), [1; 12]);
    let taken = following.catch_up_and_agree(&mut replica).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(ids(&replica), [2; 12]);
    assert!(replica.rows(3).contains(&vec![ScalarValue::from(2_i32), ScalarValue::from(2_i32)]));
}
