//! Database servers that are killed under the engine and its writers: what was confirmed is in the views, once, and every version is a bank.

use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::own::OwnServer;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::bank::{SCHEMA, VIEWS, Writers};
use crate::follow::{agree, create, engine, feed, options};
use crate::store::{Store, over_mariadb, over_postgres};
use crate::watch::Watch;
use crate::{DEADLINE, check, rounds, seed};

/// Kills a server of which `store` is a database, and starts it again.
async fn killed(mut server: OwnServer, services: &Services, store: &Store) {
    let (seed, rounds) = (seed(), rounds(2));
    let mut dice = Dice::branch(seed, 1 << 33);
    store.run(SCHEMA).await;
    let engine = engine(services, options()).await;
    create(&engine, &VIEWS).await;
    let names: Vec<&str> = VIEWS.iter().map(|(name, _)| *name).collect();
    let watch = Watch::views(&engine, &names);
    let snapshots = feed(&engine, "bank", "snapshots").await;
    let writers = Writers::of_bank(store, seed, usize::MAX);
    for _ in 0..rounds {
        let enough = writers.committed() + dice.between(50, 300);
        wait::until("writers write", DEADLINE, async || writers.committed() > enough).await;
        server.kill();
        wait::until("the engine has noticed", DEADLINE, async || feed(&engine, "bank", "state").await == "retrying")
            .await;
        server.start().await;
    }
    let enough = writers.committed() + 50;
    wait::until("writers write again", DEADLINE, async || writers.committed() > enough).await;
    let committed = writers.stop().await;
    agree(&engine, &[("bank", store)], &VIEWS).await;
    let (versions, _) = watch.judge(&engine, check::bank).await;
    let error = feed(&engine, "bank", "last_error").await;
    assert_eq!(feed(&engine, "bank", "snapshots").await, snapshots, "it goes on from where it was: {error}");
    eprintln!("{committed} transactions in {versions} versions over {rounds} kills");
    drop(engine);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_is_killed_comes_back_and_its_views_go_on() {
    let server = OwnServer::postgres(&[]).await;
    let url = server.url();
    let services = over_postgres(Services::new(), "bank", &url, "bank");
    killed(server, &services, &Store::Postgres(url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_that_is_killed_comes_back_and_its_views_go_on() {
    let server = OwnServer::mariadb(&[]).await;
    let url = server.url();
    let services = over_mariadb(Services::new(), "bank", &url);
    killed(server, &services, &Store::Mariadb(url)).await;
}
