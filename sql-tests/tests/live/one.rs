//! The bank within one database, watched at every version while four writers write and connections break.

use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::bank::{SCHEMA, VIEWS, WRITERS, Writers};
use crate::follow::{agree, create, engine, feed, options};
use crate::store::{Databases, Store, sqlite};
use crate::watch::Watch;
use crate::{DEADLINE, check, seed, transactions};

/// Transactions that are waited for, one after the other, at the end.
const ROUNDS: u64 = 20;

/// The last view reads a table more than the others and is made in the middle, so that all tables are read anew under the writers.
async fn watched(services: &Services, store: &Store, default: usize, disturb: impl AsyncFn()) {
    let (seed, each) = (seed(), transactions(default));
    let engine = engine(services, options()).await;
    let writers = Writers::of_bank(store, seed, each);
    let (early, late) = VIEWS.split_at(VIEWS.len() - 1);
    create(&engine, early).await;
    let names: Vec<&str> = early.iter().map(|(name, _)| *name).collect();
    let mut watch = Watch::views(&engine, &names);
    wait::until("a quarter is committed", DEADLINE, async || writers.committed() > WRITERS * each / 4).await;
    create(&engine, late).await;
    watch.add(&engine, &[late[0].0]);
    wait::until("half is committed", DEADLINE, async || writers.committed() > WRITERS * each / 2).await;
    disturb().await;
    let mut committed = writers.finish().await;
    // With nothing else to do, a machine may have committed it all before much of it is shown. Each of these shows.
    for round in 1..=ROUNDS {
        committed += Writers::of_bank(store, seed.wrapping_add(round), 2).finish().await;
        agree(&engine, &[("bank", store)], &VIEWS).await;
    }
    let (versions, _) = watch.judge(&engine, check::bank).await;
    eprintln!("{committed} transactions in {versions} versions; feed: {}", feed(&engine, "bank", "last_error").await);
    assert!(versions >= ROUNDS as usize, "{versions} versions are too few to have seen anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_in_postgres_sums_to_nothing_in_every_version() {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    let database = databases.postgres.as_ref().unwrap();
    watched(&services, &store, 600, async || database.terminate_connections().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_in_mariadb_sums_to_nothing_in_every_version() {
    let mut databases = Databases::default();
    let (services, store) = databases.mariadb(Services::new(), "bank", SCHEMA).await;
    let database = databases.mariadb.as_ref().unwrap();
    watched(&services, &store, 600, async || database.terminate_connections().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_in_sqlite_sums_to_nothing_in_every_version() {
    let (services, store) = sqlite(Services::new(), "bank", SCHEMA);
    watched(&services, &store, 300, async || {}).await;
}
