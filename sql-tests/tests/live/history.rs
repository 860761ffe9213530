//! History that is gone: a slot that was dropped or invalidated, a log that was purged or begun anew. Each is a named error, the tables are read
//! anew, and nothing is missing.

use headwater::{Engine, ViewOptions};
use headwater_sql_tests::own::OwnServer;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::DEADLINE;
use crate::bank::{SCHEMA, VIEWS, Writers, moves};
use crate::follow::{agree, create, engine, feed, options, options_with, shown};
use crate::store::{Databases, Store, over_mariadb, over_postgres, sqlite};

/// How often the tables were read.
async fn snapshots(engine: &Engine) -> u64 {
    feed(engine, "bank", "snapshots").await.parse().unwrap()
}

/// Transfers of 1, one after the other.
async fn write(store: &Store, count: usize) {
    let mut connection = store.connect().await.unwrap();
    for number in 0..count {
        connection.run(&format!("{}; {}; COMMIT", store.begin(), moves(number % 7, number % 10))).await.unwrap();
    }
}

/// The views are where the source is, after its tables were read anew for a reason that is told.
async fn read_anew(engine: &Engine, store: &Store, before: u64, reasons: &[&str]) {
    for (name, _) in VIEWS {
        shown(engine, name).await;
    }
    wait::until("the tables are read anew", DEADLINE, async || {
        snapshots(engine).await > before && feed(engine, "bank", "state").await == "following"
    })
    .await;
    let error = feed(engine, "bank", "last_error").await;
    assert!(error.contains("has no changes after") && error.contains("any more"), "{error}");
    assert!(reasons.iter().any(|reason| error.contains(reason)), "none of {reasons:?}: {error}");
    agree(engine, &[("bank", store)], &VIEWS).await;
    write(store, 20).await;
    agree(engine, &[("bank", store)], &VIEWS).await;
}

/// Follows a store with a state directory, stops, lets something happen, and starts again.
async fn while_it_is_away(services: &Services, store: &Store, away: impl AsyncFnOnce(), reasons: &[&str]) {
    let state = services.directory().join("state");
    let first = engine(services, options_with(&state)).await;
    create(&first, &VIEWS).await;
    write(store, 50).await;
    agree(&first, &[("bank", store)], &VIEWS).await;
    first.checkpoint().await.unwrap();
    drop(first);
    write(store, 50).await;
    away().await;
    let again = engine(services, options_with(&state)).await;
    read_anew(&again, store, 0, reasons).await;
}

/// Drops the slot of a name, whoever reads it.
async fn drop_slot(store: &Store, name: &str) {
    wait::until("the slot is dropped", DEADLINE, async || {
        let mut connection = store.connect().await.unwrap();
        let stop = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}' AND active"
        );
        connection.run(&stop).await.unwrap();
        connection.run(&format!("SELECT pg_drop_replication_slot('{name}')")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_that_is_dropped_under_the_engine_is_told_and_tables_are_read_anew() {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    let slot = databases.postgres.as_ref().unwrap().name().to_owned();
    let engine = engine(&services, options()).await;
    create(&engine, &VIEWS).await;
    let before = snapshots(&engine).await;
    let writers = Writers::of_bank(&store, 1, 100);
    drop_slot(&store, &slot).await;
    writers.finish().await;
    read_anew(&engine, &store, before, &["slot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_that_is_dropped_while_the_engine_is_away_is_told_and_tables_are_read_anew() {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    let slot = databases.postgres.as_ref().unwrap().name().to_owned();
    while_it_is_away(&services, &store, async || drop_slot(&store, &slot).await, &["slot"]).await;
}

/// Settings under which a slot is invalidated once the log has grown by a file or two.
const SMALL: &[&str] = &["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"];

/// Writes log until the server has given a slot up.
async fn outgrow(store: &Store, slot: &str) {
    store.run("CREATE TABLE IF NOT EXISTS filler (id bigint)").await;
    let lost =
        format!("SELECT 1 / count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND wal_status = 'lost'");
    wait::until("the slot is lost", DEADLINE, async || {
        store.run("INSERT INTO filler SELECT generate_series(1, 1000)").await;
        let mut connection = store.connect().await.unwrap();
        connection.run("SELECT pg_switch_wal()").await.unwrap();
        connection.run("CHECKPOINT").await.unwrap();
        connection.run(&lost).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_that_the_server_has_invalidated_is_told_and_tables_are_read_anew() {
    let server = OwnServer::postgres(SMALL).await;
    let (url, store) = (server.url(), Store::Postgres(server.url()));
    store.run(SCHEMA).await;
    let services = over_postgres(Services::new(), "bank", &url, "bank");
    while_it_is_away(&services, &store, async || outgrow(&store, "bank").await, &["slot"]).await;
}

/// An engine that stores nothing for an hour acknowledges nothing, and the server gives its slot up while it reads.
#[tokio::test(flavor = "multi_thread")]
async fn slot_that_is_invalidated_under_the_engine_is_told_and_tables_are_read_anew() {
    let server = OwnServer::postgres(SMALL).await;
    let (url, store) = (server.url(), Store::Postgres(server.url()));
    store.run(SCHEMA).await;
    let services = over_postgres(Services::new(), "bank", &url, "bank");
    let state = services.directory().join("state");
    let seldom = ViewOptions { checkpoint_interval: std::time::Duration::from_secs(3600), ..options_with(&state) };
    let engine = engine(&services, seldom).await;
    create(&engine, &VIEWS).await;
    let before = snapshots(&engine).await;
    store.run("CREATE TABLE IF NOT EXISTS filler (id bigint)").await;
    wait::until("the slot was lost", DEADLINE, async || {
        store.run("INSERT INTO filler SELECT generate_series(1, 1000)").await;
        write(&store, 3).await;
        let mut connection = store.connect().await.unwrap();
        connection.run("SELECT pg_switch_wal()").await.unwrap();
        connection.run("CHECKPOINT").await.unwrap();
        snapshots(&engine).await > before
    })
    .await;
    read_anew(&engine, &store, before, &["slot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_log_that_is_purged_is_told_and_tables_are_read_anew() {
    let server = OwnServer::mariadb(&[]).await;
    let (url, store) = (server.url(), Store::Mariadb(server.url()));
    store.run(SCHEMA).await;
    let services = over_mariadb(Services::new(), "bank", &url);
    // A log that the engine's connection still holds, for a moment after it has gone, is not purged.
    let purge = async || {
        wait::until("the first log is purged", DEADLINE, async || {
            write(&store, 5).await;
            store.run("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE now() + interval 1 day").await;
            let is_gone = "SELECT CAST(BINLOG_GTID_POS('binlog.000001', 4) IS NULL AS CHAR)".to_owned();
            store.connect().await.unwrap().value(is_gone).await.unwrap() == "1"
        })
        .await;
    };
    while_it_is_away(&services, &store, purge, &["was purged"]).await;
}

/// The positions of the new log are smaller than those of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn binary_log_that_begins_anew_is_told_and_tables_are_read_anew() {
    let server = OwnServer::mariadb(&[]).await;
    let (url, store) = (server.url(), Store::Mariadb(server.url()));
    store.run(SCHEMA).await;
    let services = over_mariadb(Services::new(), "bank", &url);
    write(&store, 50).await;
    let reset = async || {
        store.run("RESET MASTER").await;
        write(&store, 5).await;
    };
    while_it_is_away(&services, &store, reset, &["purged", "another by now"]).await;
}

/// Somebody has taken the feed away; its log's numbers begin at 1 again.
#[tokio::test(flavor = "multi_thread")]
async fn change_log_that_was_removed_from_the_file_is_told_and_tables_are_read_anew() {
    let (services, store) = sqlite(Services::new(), "bank", SCHEMA);
    let remove = async || {
        let services = services.manifests();
        let feed = headwater::open_feed(&services, "bank", &headwater_connectors::all()).unwrap();
        assert!(!feed.remove().await.unwrap().is_empty());
    };
    while_it_is_away(&services, &store, remove, &["log"]).await;
}
