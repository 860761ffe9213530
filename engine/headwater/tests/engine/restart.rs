//! Starting again from a state directory with several views, and following a service again that no view read for a while.

use headwater::ViewOptions;

use crate::ledger::Ledger;
use crate::views::{accounts, ask, quick, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_read_anew_whichever_views_come_back_first() {
    let directory = tempfile::tempdir().unwrap();
    let options = ViewOptions { state: Some(directory.path().into()), ..quick() };
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], options.clone()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.accounts AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.limits AS SELECT sum(amount) AS total FROM bank.limits").await;
    engine.checkpoint().await.unwrap();
    let before = bank.snapshots();
    drop((engine, session));
    let engine = Ledger::engine(&[&bank], options.clone()).await;
    let session = engine.session();
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "2").await;
    let token = bank.commit(&[("accounts", 1, Some(1)), ("limits", 1, Some(1_000))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(text(&session, "SELECT a.total, l.total FROM v.accounts a, v.limits l").await, "901|1044");
    assert_eq!(before, bank.snapshots(), "what the checkpoint holds is not read anew");
}
