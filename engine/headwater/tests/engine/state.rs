//! Views' state in an object store: it comes back, and only the engine that came last writes it.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use headwater::{StateStore, ViewOptions};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::ledger::Ledger;
use crate::views::{accounts, ask, number, quick, text, until};

fn kept_in(store: &Arc<InMemory>) -> ViewOptions {
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    let state = Some(StateStore::Objects { store, prefix: Path::from("team/state") });
    // Each checkpoint is the test's own.
    ViewOptions { state, checkpoint_interval: Duration::from_secs(3_600), ..quick() }
}

async fn names(store: &InMemory) -> Vec<String> {
    let found: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut names: Vec<String> = found.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn state_in_an_object_store_comes_back_without_reading_tables_anew() {
    let store = Arc::new(InMemory::new());
    // A crash in the middle of a checkpoint leaves a part that no manifest names; what is not Headwater's stays.
    for name in ["team/state/table-9-rows-9.arrow", "team/other.arrow"] {
        store.put(&Path::from(name), PutPayload::from_static(b"left")).await.unwrap();
    }
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], kept_in(&store)).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.accounts AS SELECT sum(amount) AS total FROM bank.accounts").await;
    engine.checkpoint().await.unwrap();
    let parts = names(&store).await;
    let part = parts.iter().find(|name| name.ends_with(".arrow") && name.starts_with("team/state")).unwrap();
    let expected =
        ["team/other.arrow", "team/state/journals.json", "team/state/manifest", part, "team/state/views.json"];
    assert_eq!(parts, expected, "what nobody needs is removed");
    let read = bank.snapshots();
    bank.commit(&[("accounts", 0, Some(1))]);
    engine.checkpoint().await.unwrap();
    drop((engine, session));
    let token = bank.commit(&[("accounts", 1, Some(1))]);
    let engine = Ledger::engine(&[&bank], kept_in(&store)).await;
    let session = engine.session();
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "1").await;
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.accounts").await, Some(802));
    assert_eq!(bank.snapshots(), read, "what the checkpoint holds is not read anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_whose_state_another_has_taken_over_stores_nothing_any_more() {
    let store = Arc::new(InMemory::new());
    let bank = accounts("bank");
    let first = Ledger::engine(&[&bank], kept_in(&store)).await;
    let session = first.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.accounts AS SELECT sum(amount) AS total FROM bank.accounts").await;
    first.checkpoint().await.unwrap();
    let acknowledged = bank.acknowledged();
    let second = Ledger::engine(&[&bank], kept_in(&store)).await;
    let later = second.session();
    until(&later, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "1").await;
    let token = bank.commit(&[("accounts", 0, Some(0))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.accounts").await, Some(900), "it goes on answering");
    let error = first.checkpoint().await.unwrap_err();
    assert!(error.report().contains("another engine has taken it over"), "{}", error.report());
    assert!(error.report().contains("team/state"), "{}", error.report());
    assert_eq!(bank.acknowledged(), acknowledged, "the source keeps what is not stored");
    let sql = "CREATE MATERIALIZED VIEW v.other AS SELECT 1 AS x";
    assert!(crate::views::try_ask(&session, sql).await.unwrap_err().report().contains("taken it over"));
    ask(&later, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    second.checkpoint().await.unwrap();
    assert!(bank.acknowledged() > acknowledged);
    assert_eq!(text(&later, "SELECT total FROM v.accounts").await, "900");
}

#[test]
fn place_of_state_is_a_path_or_a_url_without_secrets() {
    assert!(
        matches!(StateStore::parse("state/views").unwrap(), StateStore::Directory(path) if path.ends_with("views"))
    );
    assert!(
        matches!(StateStore::parse("file:///var/state").unwrap(), StateStore::Directory(path) if path.starts_with("/var"))
    );
    assert!(matches!(
        StateStore::parse("s3://bucket/team/state").unwrap(),
        StateStore::Objects { prefix, .. } if prefix.as_ref() == "team/state"
    ));
    for (place, says) in [("s3://key:secret@bucket/x", "environment"), ("ftp://host/x", "ftp://host/x")] {
        let error = StateStore::parse(place).unwrap_err();
        assert!(error.report().contains(says), "{}", error.report());
        assert!(!error.report().contains("secret"));
    }
}
