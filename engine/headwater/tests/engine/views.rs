//! Materialized views from SQL to rows: defined, followed, read at one epoch, fresh enough, and back after a restart.

use std::time::{Duration, Instant};

use arrow::array::cast::AsArray;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::array_value_to_string;
use headwater::{Engine, ErrorKind, Session, ViewOptions};
use headwater_source::Dependency;

use crate::ledger::Ledger;

/// The longest that anything here takes on a machine that is busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn quick() -> ViewOptions {
    ViewOptions {
        head_interval: Duration::from_millis(20),
        poll_interval: Duration::from_millis(20),
        checkpoint_interval: Duration::from_millis(20),
        stale_wait: Duration::from_secs(20),
        ..ViewOptions::default()
    }
}

pub(crate) async fn ask(session: &Session, sql: &str) -> Vec<RecordBatch> {
    try_ask(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()))
}

pub(crate) async fn try_ask(session: &Session, sql: &str) -> headwater::Result<Vec<RecordBatch>> {
    session.sql(sql).await?.collect().await
}

pub(crate) async fn number(session: &Session, sql: &str) -> Option<i64> {
    let rows = ask(session, sql).await;
    let column = rows[0].column(0);
    assert_eq!(column.data_type(), &DataType::Int64, "{sql}");
    let column = column.as_primitive::<Int64Type>();
    column.is_valid(0).then(|| column.value(0))
}

pub(crate) async fn text(session: &Session, sql: &str) -> String {
    let rows = ask(session, sql).await;
    let cells = rows.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            cells.collect::<Vec<_>>().join("|")
        })
    });
    cells.collect::<Vec<_>>().join("\n")
}

/// Asks until the answer is the wanted one.
pub(crate) async fn until(session: &Session, sql: &str, wanted: &str) {
    let begun = tokio::time::Instant::now();
    loop {
        let found = text(session, sql).await;
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{sql}: {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn accounts(service: &str) -> Ledger {
    let ledger = Ledger::new(service, &["accounts", "limits"]);
    for id in 0..10 {
        ledger.commit(&[("accounts", id, Some(100)), ("limits", id, Some(id))]);
    }
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn view_follows_its_services_and_is_read_as_a_table() {
    let (bank, shop) = (accounts("bank"), accounts("shop"));
    let engine = Ledger::engine(&[&bank, &shop], quick()).await;
    let session = engine.session();
    let created = text(
        &session,
        "CREATE MATERIALIZED VIEW reports.totals AS SELECT b.id % 2 AS odd, sum(b.amount + s.amount) AS total \
         FROM bank.accounts b JOIN shop.accounts s ON b.id = s.id GROUP BY b.id % 2",
    )
    .await;
    assert_eq!(created, "reports.totals|shown");
    assert_eq!(text(&session, "SELECT odd, total FROM reports.totals ORDER BY odd").await, "0|1000\n1|1000");
    bank.commit(&[("accounts", 2, Some(150)), ("accounts", 3, None)]);
    let shown = shop.commit(&[("accounts", 12, Some(7))]);
    until(&session, "SELECT total FROM reports.totals ORDER BY odd", "1050\n800").await;
    until(&session, "SELECT position FROM headwater.freshness WHERE service = 'shop'", &shown).await;
    assert_eq!(
        text(&session, "SELECT state, class FROM headwater.feeds").await,
        "following|transactional\nfollowing|transactional"
    );
    let explained = text(&session, "EXPLAIN MATERIALIZED VIEW reports.totals").await;
    assert!(explained.contains("inner join|incremental") && explained.contains("scan bank.accounts"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grouping_sets_follow_what_changes_and_keep_the_total_of_no_rows() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    let sql = "SELECT id % 2 AS odd, grouping(id % 2) AS all_ids, count(*) AS n, sum(amount) AS total \
               FROM bank.accounts WHERE id < 4 GROUP BY ROLLUP (id % 2)";
    ask(&session, &format!("CREATE MATERIALIZED VIEW v.sums AS {sql}")).await;
    let explained = text(&session, "EXPLAIN MATERIALIZED VIEW v.sums").await;
    assert!(explained.contains("expand to 2 grouping sets|incremental"), "{explained}");
    assert!(!explained.contains("recompute"), "{explained}");
    let sums = "SELECT * FROM v.sums ORDER BY all_ids, odd";
    assert_eq!(text(&session, sums).await, "0|0|2|200\n1|0|2|200\n|1|4|400");
    let gone: Vec<_> = (0..4).map(|id| ("accounts", id, None)).collect();
    let token = bank.commit(&gone);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(text(&session, sums).await, "|1|0|");
    assert_eq!(text(&session, &format!("{sql} ORDER BY 2, 1")).await, "|1|0|", "as the query itself says");
}

#[tokio::test(flavor = "multi_thread")]
async fn query_over_several_views_reads_one_epoch() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.one AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.many AS SELECT id, amount FROM bank.accounts WHERE amount <> 0").await;
    let writer = {
        let bank = bank.clone();
        tokio::task::spawn_blocking(move || {
            for round in 0..2_000 {
                bank.commit(&[("accounts", round % 10, Some(round)), ("accounts", 50, Some(round))]);
            }
        })
    };
    let mut differences = 0;
    loop {
        let found = text(&session, "SELECT (SELECT total FROM v.one), (SELECT sum(amount) FROM v.many)").await;
        let (one, many) = found.split_once('|').unwrap();
        differences += i64::from(one != many);
        if writer.is_finished() && one == bank.total("accounts").to_string() {
            break;
        }
    }
    assert_eq!(differences, 0, "two views showed different epochs to one query");
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_reads_its_own_writes_by_their_token() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    for amount in 1..50 {
        let token = bank.commit(&[("accounts", 0, Some(amount))]);
        ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
        assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(900 + amount));
    }
    let engine = Ledger::engine(&[&bank], ViewOptions { stale_wait: Duration::from_millis(50), ..quick() }).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "SET headwater.at_least = '{bank: \"1000000\"}'").await;
    let error = try_ask(&session, "SELECT total FROM v.total").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("\"v.total\" shows service \"bank\" at"), "{}", error.report());
    ask(&session, "SET headwater.on_stale = live").await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(bank.total("accounts")));
    ask(&session, "SET headwater.at_least = '{bank: x}'").await;
    assert!(try_ask(&session, "SELECT total FROM v.total").await.unwrap_err().report().contains("no position"));
    ask(&session, "SET headwater.at_least = ''").await;
    ask(&session, "SET headwater.on_stale = 'wait'").await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(bank.total("accounts")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_on_staleness_holds_while_the_source_is_there_and_is_missed_by_name_when_it_is_not() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], ViewOptions { stale_wait: Duration::from_millis(300), ..quick() }).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "SET headwater.max_staleness = '1 ms'").await;
    // While the source is there its end is asked for, and no query is refused.
    for amount in 1..20 {
        bank.commit(&[("accounts", 0, Some(amount))]);
        ask(&session, "SET headwater.max_staleness = '100 ms'").await;
        let total = number(&session, "SELECT total FROM v.total").await.unwrap();
        assert!(total > 0);
    }
    // What was committed last is to be there when the source is not.
    let token = bank.commit(&[("accounts", 0, Some(20))]);
    until(&session, "SELECT position FROM headwater.feeds", &token).await;
    bank.take_down();
    ask(&session, "SET headwater.max_staleness = '50 ms'").await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let error = loop {
        match try_ask(&session, "SELECT total FROM v.total").await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "an answer however old is given"),
        }
    };
    assert!(error.report().contains("behind service \"bank\""), "{}", error.report());
    ask(&session, "SET headwater.max_staleness = off").await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(bank.total("accounts")));
    until(&session, "SELECT state FROM headwater.feeds", "retrying").await;
    bank.bring_back();
    let token = bank.commit(&[("accounts", 1, Some(5))]);
    until(&session, "SELECT position FROM headwater.feeds", &token).await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(bank.total("accounts")));
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_breaks_is_read_on_without_loss_and_history_that_is_gone_is_read_anew() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total, count(*) AS n FROM bank.accounts")
        .await;
    for round in 0..20 {
        bank.commit(&[("accounts", 100 + round, Some(round))]);
        bank.cut_streams();
    }
    let wanted = format!("{}|30", bank.total("accounts"));
    until(&session, "SELECT total, n FROM v.total", &wanted).await;
    assert_eq!(bank.snapshots(), 1, "what the source still had was not read anew");
    bank.take_down();
    bank.commit(&[("accounts", 0, None)]);
    bank.forget_history();
    bank.bring_back();
    let wanted = format!("{}|29", bank.total("accounts"));
    until(&session, "SELECT total, n FROM v.total", &wanted).await;
    assert_eq!(bank.snapshots(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_in_one_service_never_shows_before_its_debit_in_the_other() {
    let (left, right) = (accounts("debits"), accounts("credits"));
    let engine = Ledger::engine(&[&left, &right], quick()).await;
    let session = engine.session();
    let sql = "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM \
               (SELECT amount FROM debits.accounts UNION ALL SELECT amount FROM credits.accounts)";
    ask(&session, sql).await;
    let mut changes = engine.subscribe("v.total").unwrap();
    let mut versions = 0;
    for round in 0..100 {
        // The credit is committed and heard of first; its debit is the next transaction of the other.
        let debit = 11 + round;
        let dependency = Dependency { service: "debits".to_owned(), token: debit.to_string() };
        right.commit_after(&[("accounts", 0, Some(100 + round + 1))], vec![dependency]);
        let token = left.commit(&[("accounts", 0, Some(100 - round - 1))]);
        assert_eq!(token, debit.to_string());
    }
    // The last transaction of the credits comes after all of them.
    right.commit(&[("accounts", 50, Some(7))]);
    let mut total = 0;
    while total != 2_007 {
        let change = tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap().unwrap();
        if change.restarted {
            total = 0;
        }
        let rows = change.delta.rows().column(0).as_primitive::<Int64Type>();
        total += rows.iter().zip(change.delta.weights()).map(|(value, weight)| value.unwrap() * weight).sum::<i64>();
        assert!(total <= 2_000 || total == 2_007, "a credit showed before its debit: {total}");
        versions += 1;
    }
    assert!(versions > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_over_views_and_later_views_read_what_is_held() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.rich AS SELECT id, amount FROM bank.accounts WHERE amount > 50").await;
    ask(&session, "SET search_path = bank, v").await;
    assert_eq!(
        text(&session, "CREATE MATERIALIZED VIEW v.count AS SELECT count(*) AS n FROM rich").await,
        "v.count|shown"
    );
    assert_eq!(bank.snapshots(), 1, "a view over a view reads no source");
    ask(
        &session,
        "CREATE MATERIALIZED VIEW v.limits AS SELECT a.id, l.amount FROM accounts a JOIN limits l ON a.id = l.id",
    )
    .await;
    assert_eq!(number(&session, "SELECT count(*) FROM v.limits").await, Some(10));
    bank.commit(&[("accounts", 1, Some(1)), ("limits", 2, None)]);
    until(&session, "SELECT (SELECT n FROM v.count), (SELECT count(*) FROM v.limits)", "9|9").await;
    let error = try_ask(&session, "DROP MATERIALIZED VIEW v.rich").await.unwrap_err();
    assert!(error.report().contains("is read by \"v.count\""), "{}", error.report());
    ask(&session, "DROP MATERIALIZED VIEW v.count").await;
    ask(&session, "DROP MATERIALIZED VIEW v.rich").await;
    assert_eq!(try_ask(&session, "SELECT * FROM v.rich").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(text(&session, "DROP MATERIALIZED VIEW IF EXISTS v.rich").await, "v.rich|there is none");
    bank.commit(&[("limits", 3, None)]);
    until(&session, "SELECT count(*) FROM v.limits", "8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_cannot_be_are_refused_by_name() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.a AS SELECT id FROM bank.accounts").await;
    for (sql, message) in [
        ("CREATE MATERIALIZED VIEW v.a AS SELECT 1 AS x", "there is one already; write CREATE OR REPLACE"),
        ("CREATE MATERIALIZED VIEW a AS SELECT 1 AS x", "schema.name"),
        ("CREATE MATERIALIZED VIEW bank.a AS SELECT 1 AS x", "schema \"bank\" is a service"),
        ("CREATE MATERIALIZED VIEW headwater.a AS SELECT 1 AS x", "the engine's own"),
        ("CREATE MATERIALIZED VIEW v.b AS SELECT random() AS x", "random() gives another value"),
        (
            "CREATE MATERIALIZED VIEW v.b AS SELECT a.id, b.id FROM bank.accounts a JOIN bank.accounts b ON a.id = b.amount",
            "two columns named \"id\"",
        ),
        ("CREATE MATERIALIZED VIEW v.b AS SELECT nothing FROM bank.accounts", "nothing"),
        ("CREATE MATERIALIZED VIEW v.b AS SELECT * FROM headwater.feeds", "neither a table of a service nor"),
        ("CREATE VIEW v.b AS SELECT 1 AS x", "refused"),
        ("REFRESH MATERIALIZED VIEW v.aa", "did you mean \"v.a\"?"),
        ("DROP MATERIALIZED VIEW v.zebra", "there is none of that name"),
    ] {
        let error = try_ask(&session, sql).await.map(|_| ()).unwrap_err();
        assert!(error.report().contains(message), "{sql}: {}", error.report());
    }
    assert_eq!(
        text(&session, "CREATE MATERIALIZED VIEW IF NOT EXISTS v.a AS SELECT 1 AS x").await,
        "v.a|it is there already"
    );
    assert_eq!(
        text(&session, "CREATE OR REPLACE MATERIALIZED VIEW v.a AS SELECT count(*) AS n FROM bank.accounts").await,
        "v.a|shown"
    );
    assert_eq!(number(&session, "SELECT n FROM v.a").await, Some(10));
    assert_eq!(text(&session, "REFRESH MATERIALIZED VIEW v.a").await, "v.a|shown");
    assert_eq!(number(&session, "SELECT n FROM v.a").await, Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn source_without_a_feed_is_polled_and_says_so() {
    let (bank, shop) = (accounts("bank"), accounts("shop").without_feed());
    let engine = Ledger::engine(&[&bank, &shop], quick()).await;
    let session = engine.session();
    let sql = "CREATE MATERIALIZED VIEW v.sum AS SELECT sum(b.amount + s.amount) AS total FROM bank.accounts b JOIN shop.accounts s ON b.id = s.id";
    ask(&session, sql).await;
    shop.commit(&[("accounts", 4, Some(0))]);
    until(&session, "SELECT total FROM v.sum", "1900").await;
    bank.commit(&[("accounts", 4, Some(0))]);
    until(&session, "SELECT total FROM v.sum", "1800").await;
    let classes = text(&session, "SELECT service, class FROM headwater.freshness ORDER BY service").await;
    assert_eq!(classes, "bank|transactional\nshop|polled");
}

async fn restarted(bank: &Ledger, options: &ViewOptions) -> (Engine, Session) {
    let engine = Ledger::engine(&[bank], options.clone()).await;
    let session = engine.session();
    (engine, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_that_starts_again_goes_on_from_its_checkpoint_without_a_snapshot_and_shows_nothing_older() {
    let directory = tempfile::tempdir().unwrap();
    let options = ViewOptions { state: Some(directory.path().join("state").into()), ..quick() };
    let bank = accounts("bank");
    let (engine, session) = restarted(&bank, &options).await;
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.twice AS SELECT 2 * total AS total FROM v.total").await;
    // It reads another table, which is kept for it until it is back.
    ask(&session, "CREATE MATERIALIZED VIEW v.limits AS SELECT sum(amount) AS total FROM bank.limits").await;
    let read = bank.snapshots();
    let token = bank.commit(&[("accounts", 0, Some(0))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.twice").await, Some(1800));
    engine.checkpoint().await.unwrap();
    assert_eq!(bank.acknowledged(), token.parse::<u64>().unwrap());
    // What is shown after the checkpoint is not stored, and yet nothing older is shown later.
    let late = bank.commit(&[("accounts", 1, Some(0))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {late}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.twice").await, Some(1600));
    let epoch: u64 = text(&session, "SELECT epoch FROM headwater.views WHERE name = 'total'").await.parse().unwrap();
    drop((engine, session));
    for round in 1..4_i64 {
        bank.commit(&[("accounts", 1 + round, Some(0))]);
        let (engine, session) = restarted(&bank, &options).await;
        until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "3").await;
        let total = number(&session, "SELECT total FROM v.twice").await;
        assert_eq!(total, Some(1600 - 200 * round), "older than what was shown before");
        let now: u64 = text(&session, "SELECT epoch FROM headwater.views WHERE name = 'total'").await.parse().unwrap();
        assert!(now > epoch);
        drop((engine, session));
    }
    assert_eq!(bank.snapshots(), read);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_views_that_come_back_at_different_times_are_not_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let options = ViewOptions { state: Some(directory.path().into()), ..quick() };
    let (bank, shop) = (accounts("bank"), accounts("shop"));
    let engine = Ledger::engine(&[&bank, &shop], options.clone()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.one AS SELECT sum(amount) AS total FROM bank.accounts").await;
    let sql = "CREATE MATERIALIZED VIEW v.two AS SELECT sum(l.amount) AS total FROM bank.limits l JOIN shop.limits s ON l.id = s.id";
    ask(&session, sql).await;
    engine.checkpoint().await.unwrap();
    drop((engine, session));
    // The second view can't come back while the shop is away; its table of the bank changes meanwhile.
    shop.take_down();
    let engine = Ledger::engine(&[&bank, &shop], options).await;
    let session = engine.session();
    until(&session, "SELECT name FROM headwater.views WHERE state = 'live'", "one").await;
    let token = bank.commit(&[("limits", 3, Some(1_000)), ("accounts", 3, Some(0))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.one").await, Some(900));
    shop.bring_back();
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "2").await;
    assert_eq!(number(&session, "SELECT total FROM v.two").await, Some(1_042));
    bank.commit(&[("limits", 4, Some(2_000))]);
    until(&session, "SELECT total FROM v.two", "3038").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_that_is_not_back_yet_is_neither_unknown_nor_forgotten_nor_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        ViewOptions { state: Some(directory.path().into()), stale_wait: Duration::from_millis(100), ..quick() };
    let (bank, shop) = (accounts("bank"), accounts("shop"));
    let engine = Ledger::engine(&[&bank, &shop], options.clone()).await;
    let session = engine.session();
    for name in ["one", "two"] {
        ask(&session, &format!("CREATE MATERIALIZED VIEW v.{name} AS SELECT sum(amount) AS total FROM shop.accounts"))
            .await;
    }
    engine.checkpoint().await.unwrap();
    drop((engine, session));
    shop.take_down();
    let engine = Ledger::engine(&[&bank, &shop], options.clone()).await;
    let session = engine.session();
    for sql in [
        "SELECT total FROM v.one",
        "CREATE MATERIALIZED VIEW v.one AS SELECT 1 AS x",
        "REFRESH MATERIALIZED VIEW v.one",
    ] {
        let error = try_ask(&session, sql).await.unwrap_err();
        assert!(error.report().contains("\"v.one\" is not back since the engine started"), "{}", error.report());
    }
    assert_eq!(text(&session, "DROP MATERIALIZED VIEW v.two").await, "v.two|dropped");
    // Definitions are written by what else is created, and that must not take the missing one out.
    ask(&session, "CREATE MATERIALIZED VIEW v.other AS SELECT sum(amount) AS total FROM bank.accounts").await;
    drop((engine, session));
    shop.bring_back();
    let engine = Ledger::engine(&[&bank, &shop], ViewOptions { stale_wait: DEADLINE, ..options }).await;
    let session = engine.session();
    // Asked at once: it is waited for.
    assert_eq!(number(&session, "SELECT total FROM v.one").await, Some(1_000));
    until(&session, "SELECT name FROM headwater.views WHERE state = 'live' ORDER BY name", "one\nother").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_state_costs_a_new_reading_and_what_a_crash_left_is_cleared() {
    let directory = tempfile::tempdir().unwrap();
    let options = ViewOptions { state: Some(directory.path().into()), ..quick() };
    let bank = accounts("bank");
    let (engine, session) = restarted(&bank, &options).await;
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    engine.checkpoint().await.unwrap();
    drop((engine, session));
    // A crash in the middle of a checkpoint leaves a part that no manifest names, and files that were not finished.
    let left =
        ["table-9-rows-9.arrow", "manifest.new", "table-0-log-77.arrow.new"].map(|name| directory.path().join(name));
    left.iter().for_each(|file| std::fs::write(file, b"left by a crash").unwrap());
    bank.commit(&[("accounts", 0, Some(1))]);
    let (engine, session) = restarted(&bank, &options).await;
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "1").await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(901));
    assert_eq!(bank.snapshots(), 1);
    engine.checkpoint().await.unwrap();
    assert!(!left[0].exists(), "a part that nobody needs is removed");
    drop((engine, session));
    let manifest = directory.path().join("manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    bank.commit(&[("accounts", 0, Some(2))]);
    let (_engine, session) = restarted(&bank, &options).await;
    until(&session, "SELECT count(*) FROM headwater.views WHERE state = 'live'", "1").await;
    assert_eq!(number(&session, "SELECT total FROM v.total").await, Some(902));
    assert_eq!(bank.snapshots(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_no_view_reads_any_more_keeps_nothing_for_us() {
    let (bank, shop) = (accounts("bank"), accounts("shop"));
    let engine = Ledger::engine(&[&bank, &shop], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "CREATE OR REPLACE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM shop.accounts")
        .await;
    until(&session, "SELECT state FROM headwater.feeds ORDER BY service", "idle\nfollowing").await;
    assert_eq!((bank.removed(), shop.removed()), (1, 0));
    ask(&session, "CREATE MATERIALIZED VIEW v.again AS SELECT sum(amount) AS total FROM bank.accounts").await;
    let token = bank.commit(&[("accounts", 0, Some(1))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    assert_eq!(number(&session, "SELECT total FROM v.again").await, Some(901));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statement_reads_the_epoch_of_its_execution() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM bank.accounts").await;
    let prepared = session.prepare("SELECT total FROM v.total").await.unwrap();
    for amount in 1..5 {
        let token = bank.commit(&[("accounts", 0, Some(amount))]);
        ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
        let rows = prepared.execute(vec![]).await.unwrap().collect().await.unwrap();
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 900 + amount);
    }
    assert!(headwater::defines_view("DROP MATERIALIZED VIEW v.total") && !headwater::defines_view("SELECT 1"));
    assert!(session.prepare("REFRESH MATERIALIZED VIEW v.total").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn state_directory_serves_one_engine_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let options = ViewOptions { state: Some(directory.path().into()), ..quick() };
    let bank = accounts("bank");
    let first = Ledger::engine(&[&bank], options.clone()).await;
    let error = Ledger::builder(&[&bank]).views(options.clone()).build().await.unwrap_err();
    assert!(error.report().contains("in use by another engine"), "{}", error.report());
    drop(first);
    let begun = tokio::time::Instant::now();
    while Ledger::builder(&[&bank]).views(options.clone()).build().await.is_err() {
        assert!(begun.elapsed() < DEADLINE, "the directory is still in use");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_sees_every_epoch_and_its_sum_is_the_view() {
    let bank = accounts("bank");
    let engine = Ledger::engine(&[&bank], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.all AS SELECT id, amount FROM bank.accounts").await;
    let mut changes = engine.subscribe("v.all").unwrap();
    for round in 0..200 {
        bank.commit(&[("accounts", round % 20, Some(round)), ("accounts", (round * 7) % 20, None)]);
    }
    let last = bank.commit(&[("accounts", 99, Some(1))]);
    let (mut total, mut epoch) = (0, 0);
    loop {
        let change = tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap().unwrap();
        assert!(change.epoch > epoch, "epochs come in their order, each once");
        epoch = change.epoch;
        let amounts = change.delta.rows().column(1).as_primitive::<Int64Type>();
        total +=
            amounts.iter().zip(change.delta.weights()).map(|(amount, weight)| amount.unwrap() * weight).sum::<i64>();
        if change.vector.position("bank").is_some_and(|position| position.token() == last) {
            break;
        }
    }
    assert_eq!(total, bank.total("accounts"));
    assert!(engine.subscribe("v.none").is_err());
}
