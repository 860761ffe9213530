//! Views that read now(): their rows come and go by themselves, and services that are polled at an interval of their own.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater::ViewOptions;

use crate::ledger::Ledger;
use crate::views::{ask, quick, text, try_ask, until};

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_and_go_with_the_time_and_nothing_else_and_so_they_do_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        ViewOptions { state: Some(directory.path().into()), clock_interval: Duration::from_millis(5), ..quick() };
    let bank = Ledger::new("bank", &["events"]);
    let engine = Ledger::engine(&[&bank], options.clone()).await;
    let session = engine.session();
    let at = "arrow_cast(amount, 'Timestamp(Millisecond, None)')";
    let sql = format!(
        "CREATE MATERIALIZED VIEW v.recent AS SELECT id FROM bank.events WHERE {at} > now() - interval '1 second' AND {at} <= now()"
    );
    ask(&session, &sql).await;
    ask(&session, "CREATE MATERIALIZED VIEW v.count AS SELECT count(*) AS n FROM v.recent").await;
    let mut changes = engine.subscribe_to_changes("v.count").unwrap();
    let now = now_ms();
    // One that is over, one of now, one to come.
    bank.commit(&[("events", 1, Some(now - 60_000)), ("events", 2, Some(now)), ("events", 3, Some(now + 600))]);
    until(&session, "SELECT id FROM v.recent", "2").await;
    until(&session, "SELECT id FROM v.recent ORDER BY id", "2\n3").await;
    until(&session, "SELECT id FROM v.recent", "3").await;
    let seen = text(&session, "SELECT name, now > to_timestamp(0) FROM headwater.views ORDER BY name").await;
    assert_eq!(seen, "count|\nrecent|true", "the time of a view that reads it is told");
    let explained = text(&session, "EXPLAIN MATERIALIZED VIEW v.recent").await;
    assert!(explained.contains("temporal filter") && explained.contains("now()"), "{explained}");
    until(&session, "SELECT n FROM v.count", "0").await;
    for _ in 0..4 {
        let change = changes.next().await.unwrap().unwrap();
        assert_eq!(change.delta.weights().iter().sum::<i64>(), 0, "a count takes the place of a count");
    }
    let later = now_ms();
    bank.commit(&[("events", 4, Some(later + 1_500))]);
    engine.checkpoint().await.unwrap();
    drop((changes, engine, session));
    let engine = Ledger::engine(&[&bank], options).await;
    let session = engine.session();
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "2").await;
    until(&session, "SELECT id FROM v.recent", "4").await;
    until(&session, "SELECT n FROM v.count", "0").await;
    let error = try_ask(&session, "CREATE MATERIALIZED VIEW v.bad AS SELECT now() AS at").await.unwrap_err();
    assert!(error.report().contains("\"now()") && error.report().contains("interval '1 hour'"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn service_is_polled_at_its_own_interval() {
    let (often, seldom) = (Ledger::new("often", &["t"]).without_feed(), Ledger::new("seldom", &["t"]).without_feed());
    let poll_intervals = BTreeMap::from([("seldom".to_owned(), Duration::from_secs(3_600))]);
    let engine = Ledger::engine(&[&often, &seldom], ViewOptions { poll_intervals, ..quick() }).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.often AS SELECT count(*) AS n FROM often.t").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.seldom AS SELECT count(*) AS n FROM seldom.t").await;
    seldom.commit(&[("t", 1, Some(1))]);
    often.commit(&[("t", 1, Some(1))]);
    until(&session, "SELECT n FROM v.often", "1").await;
    assert_eq!(text(&session, "SELECT n FROM v.seldom").await, "0");
}
