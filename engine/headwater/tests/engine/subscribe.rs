//! SUBSCRIBE: whole epochs, from wherever the reader was, and the state that an answer over views is stamped with.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use futures::{Stream, StreamExt};
use headwater::{Begin, Engine, Error, ErrorKind, Session, StateStore, ViewOptions};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::ledger::Ledger;
use crate::views::{DEADLINE, accounts, ask, number, quick, text, try_ask, until};

/// What a client holds of a view: rows by id, of the epoch that it came to.
#[derive(Debug, Default, PartialEq)]
struct Held {
    rows: BTreeMap<i64, i64>,
    epoch: u64,
    vector: String,
}

/// A client that applies whole epochs and nothing else.
struct Client {
    batches: Pin<Box<dyn Stream<Item = Result<RecordBatch, datafusion::error::DataFusionError>> + Send>>,
    waiting: Vec<(i64, i64, i64)>,
}

impl Client {
    async fn begin(session: &Session, sql: &str) -> Self {
        let answer = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
        assert!(answer.is_endless() && answer.deadline().is_none());
        Self { batches: answer.into_stream().unwrap(), waiting: vec![] }
    }

    /// Reads on until an epoch is whole.
    async fn next(&mut self, held: &mut Held) -> Result<(), Error> {
        loop {
            let batch = tokio::time::timeout(DEADLINE, self.batches.next()).await.unwrap().unwrap()?;
            let last = batch.num_rows() - 1;
            let epoch = batch.column(0).as_primitive::<UInt64Type>();
            let weights = batch.column(2).as_primitive::<Int64Type>();
            let (ids, amounts) =
                (batch.column(4).as_primitive::<Int64Type>(), batch.column(5).as_primitive::<Int64Type>());
            self.waiting.extend((0..=last).map(|row| (weights.value(row), ids.value(row), amounts.value(row))));
            assert!(epoch.value(0) > held.epoch || held.epoch == 0, "epochs come in their order");
            assert!((0..last).all(|row| !batch.column(3).as_boolean().value(row)), "only the last row ends an epoch");
            if !batch.column(3).as_boolean().value(last) {
                continue;
            }
            self.waiting.sort_unstable();
            for (weight, id, amount) in self.waiting.drain(..) {
                match weight {
                    -1 => assert_eq!(held.rows.remove(&id), Some(amount)),
                    1 => assert_eq!(held.rows.insert(id, amount), None),
                    other => panic!("a row came {other} times"),
                }
            }
            held.epoch = epoch.value(last);
            held.vector = batch.column(1).as_string::<i32>().value(last).to_owned();
            return Ok(());
        }
    }

    async fn until(&mut self, held: &mut Held, token: &str) {
        while held.vector != format!("{{\"bank\":\"{token}\"}}") {
            self.next(held).await.unwrap_or_else(|error| panic!("{}", error.report()));
        }
    }
}

async fn engine_over(bank: &Ledger, options: ViewOptions) -> (Engine, Session) {
    let engine = Ledger::engine(&[bank], options).await;
    let session = engine.session();
    (engine, session)
}

const ALL: &str = "CREATE MATERIALIZED VIEW v.all AS SELECT id, amount FROM bank.accounts";

async fn report(session: &Session, sql: &str) -> (ErrorKind, String) {
    let error = try_ask(session, sql).await.map(|_| ()).unwrap_err();
    (error.kind(), error.report())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_in_sql_tells_whole_epochs_and_goes_on_from_any_of_them() {
    let bank = accounts("bank");
    let (_engine, session) = engine_over(&bank, quick()).await;
    ask(&session, ALL).await;
    let mut client = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    let mut held = Held::default();
    client.next(&mut held).await.unwrap();
    assert_eq!(held.rows, (0..10).map(|id| (id, 100)).collect());
    let half = bank.commit(&[("accounts", 3, Some(1)), ("accounts", 4, None)]);
    client.until(&mut held, &half).await;
    drop(client);
    // What happens while nobody reads is told to whoever goes on.
    let mut last = String::new();
    for round in 0..50 {
        last = bank.commit(&[("accounts", round % 12, Some(round)), ("accounts", (round * 5) % 12, None)]);
    }
    ask(&session, &format!("SET headwater.at_least = '{{bank: {last}}}'")).await;
    let wanted: BTreeMap<i64, i64> = ask(&session, "SELECT id, amount FROM v.all")
        .await
        .iter()
        .flat_map(|batch| {
            let column = |place: usize| batch.column(place).as_primitive::<Int64Type>().values().to_vec();
            column(0).into_iter().zip(column(1)).collect::<Vec<_>>()
        })
        .collect();
    let (resumed_from, before) = (held.epoch, held.rows.clone());
    let mut client = Client::begin(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {resumed_from};")).await;
    client.until(&mut held, &last).await;
    assert_eq!(held.rows, wanted);
    // The snapshot of an epoch is what was held then.
    let sql = format!("SUBSCRIBE TO v.all WITH SNAPSHOT FROM EPOCH {resumed_from}");
    let mut other = Held::default();
    let mut client = Client::begin(&session, &sql).await;
    client.next(&mut other).await.unwrap();
    assert_eq!((other.epoch, &other.rows), (resumed_from, &before));
    assert_eq!(other.vector, format!("{{\"bank\":\"{half}\"}}"));
    client.until(&mut other, &last).await;
    assert_eq!(other, held);
    // The vector is what at_least takes.
    ask(&session, &format!("SET headwater.at_least = '{}'", held.vector)).await;
    assert_eq!(number(&session, "SELECT count(*) FROM v.all").await, Some(wanted.len() as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn epoch_that_is_not_held_is_refused_with_what_is_and_a_slow_reader_is_cut_off() {
    let bank = accounts("bank");
    let options = ViewOptions { history_epochs: 4, subscriptions_max: 2, ..quick() };
    let (engine, session) = engine_over(&bank, options).await;
    ask(&session, ALL).await;
    let first: u64 = text(&session, "SELECT epoch FROM headwater.views").await.parse().unwrap();
    let mut slow = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    let mut held = Held::default();
    slow.next(&mut held).await.unwrap();
    let mut last = String::new();
    for amount in 0..30 {
        last = bank.commit(&[("accounts", 0, Some(amount))]);
        ask(&session, &format!("SET headwater.at_least = '{{bank: {last}}}'")).await;
        ask(&session, "SELECT * FROM v.all").await;
    }
    let error = loop {
        if let Err(error) = slow.next(&mut held).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::HistoryGone);
    let (kind, message) = report(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {first}")).await;
    let oldest: u64 = text(&session, "SELECT oldest_epoch FROM headwater.views").await.parse().unwrap();
    assert_eq!(kind, ErrorKind::HistoryGone);
    assert!(message.contains(&format!("only what changed after epoch {oldest}")), "{message}");
    assert!(message.contains("WITH SNAPSHOT"), "{message}");
    let mut client = Client::begin(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {oldest}")).await;
    let mut resumed = Held { rows: BTreeMap::from([(0, 25)]), ..Held::default() };
    client.until(&mut resumed, &last).await;
    assert_eq!(resumed.rows[&0], 29);
    // The slow one let go of its place with its error; two more is as many as there may be.
    let other = engine.subscribe("v.all").unwrap();
    let error = engine.subscribe("v.all").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourcesExhausted);
    assert!(error.report().contains("subscriptions_max"), "{}", error.report());
    drop((slow, client, other));
    engine.subscribe_at("v.all", Begin::After(oldest)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn epoch_of_an_engine_without_state_is_never_taken_for_one_of_another() {
    let bank = accounts("bank");
    let (engine, session) = engine_over(&bank, quick()).await;
    ask(&session, ALL).await;
    let mut client = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    let mut held = Held::default();
    let token = bank.commit(&[("accounts", 0, Some(1))]);
    client.until(&mut held, &token).await;
    drop((client, engine, session));
    bank.commit(&[("accounts", 0, Some(2))]);
    let (_engine, session) = engine_over(&bank, quick()).await;
    ask(&session, ALL).await;
    let (kind, message) = report(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {}", held.epoch)).await;
    assert_eq!(kind, ErrorKind::HistoryGone, "{message}");
    let (kind, message) = report(&session, "SUBSCRIBE TO v.all FROM EPOCH 18000000000000000000").await;
    assert_eq!(kind, ErrorKind::HistoryGone);
    assert!(message.contains("was never published here"), "{message}");
    let mut anew = Held::default();
    let mut client = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    client.next(&mut anew).await.unwrap();
    assert!(anew.epoch > held.epoch && anew.rows[&0] == 2, "{anew:?}");
}

/// An engine that stores its tables only when it is told to.
async fn engine_in(bank: &Ledger, state: StateStore) -> (Engine, Session) {
    let options = ViewOptions { state: Some(state), checkpoint_interval: Duration::from_secs(3_600), ..quick() };
    engine_over(bank, options).await
}

/// A client that goes on from what it holds.
async fn resumed(session: &Session, held: &Held) -> Client {
    until(session, "SELECT state FROM headwater.views", "live").await;
    Client::begin(session, &format!("SUBSCRIBE TO v.all FROM EPOCH {}", held.epoch)).await
}

fn copy(held: &Held) -> Held {
    Held { rows: held.rows.clone(), epoch: held.epoch, vector: held.vector.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_goes_on_over_restarts_from_every_epoch_that_it_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let bank = accounts("bank");
    let mut told: Vec<Held> = vec![];
    for life in 0..4 {
        let (engine, session) = engine_in(&bank, directory.path().into()).await;
        let mut held = Held::default();
        let mut client = match told.last() {
            None => {
                ask(&session, ALL).await;
                Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await
            }
            Some(last) => {
                held = copy(last);
                resumed(&session, last).await
            }
        };
        for round in 0..3 {
            let token = bank.commit(&[("accounts", round, Some(life * 10 + round)), ("accounts", life + 20, Some(1))]);
            client.until(&mut held, &token).await;
            told.push(copy(&held));
            // The tables of the first two lives are stored in their middle, those of the others are those of a life before.
            if round == 1 && life < 2 {
                engine.checkpoint().await.unwrap();
            }
        }
        drop((client, engine, session));
        // What happens while nobody is there is told by the next one.
        bank.commit(&[("accounts", 5, (life % 2 == 0).then_some(life))]);
    }
    let (engine, session) = engine_in(&bank, directory.path().into()).await;
    let last = bank.commit(&[("accounts", 9, None)]);
    let mut newest = copy(told.last().unwrap());
    resumed(&session, &newest).await.until(&mut newest, &last).await;
    assert!(!newest.rows.contains_key(&9) && newest.rows[&20] == 1, "{newest:?}");
    for held in &told {
        let mut other = copy(held);
        resumed(&session, held).await.until(&mut other, &last).await;
        assert_eq!(other, newest, "from epoch {}", held.epoch);
        let mut snapshot = Held::default();
        let sql = format!("SUBSCRIBE TO v.all WITH SNAPSHOT FROM EPOCH {}", held.epoch);
        Client::begin(&session, &sql).await.next(&mut snapshot).await.unwrap();
        assert_eq!(&snapshot, held);
    }
    // Another view of the name has another history, over a restart too.
    ask(&session, "CREATE OR REPLACE MATERIALIZED VIEW v.all AS SELECT id, amount + 1 AS amount FROM bank.accounts")
        .await;
    let from = format!("SUBSCRIBE TO v.all FROM EPOCH {}", newest.epoch);
    assert_eq!(report(&session, &from).await.0, ErrorKind::HistoryGone);
    engine.checkpoint().await.unwrap();
    assert_eq!(journals(directory.path()), 0, "what no view needs is removed");
    drop((engine, session));
    let (_engine, session) = engine_in(&bank, directory.path().into()).await;
    until(&session, "SELECT state FROM headwater.views", "live").await;
    assert_eq!(report(&session, &from).await.0, ErrorKind::HistoryGone);
}

/// How many pieces of journals there are.
fn journals(state: &Path) -> usize {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name());
    files.filter(|name| name.to_string_lossy().starts_with("journal-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_of_a_journal_is_known_to_be_lost_and_nothing_else() {
    damage(false).await;
    damage(true).await;
}

/// Some file systems leave zeros where something was to be written.
async fn damage(is_zeros: bool) {
    let directory = tempfile::tempdir().unwrap();
    let bank = accounts("bank");
    let (engine, session) = engine_in(&bank, directory.path().into()).await;
    ask(&session, ALL).await;
    let mut client = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    let (mut held, mut told) = (Held::default(), vec![]);
    for amount in 0..3 {
        let token = bank.commit(&[("accounts", 0, Some(amount))]);
        client.until(&mut held, &token).await;
        told.push(copy(&held));
    }
    engine.checkpoint().await.unwrap();
    drop((client, engine, session));
    // The machine's power went: the last frame is not whole, and then something was written after it.
    let log = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let log = log.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "log")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.truncate(bytes.len() - 20);
    bytes.extend(if is_zeros { [0; 40] } else { [7; 40] });
    std::fs::write(&log, bytes).unwrap();
    let last = bank.commit(&[("accounts", 0, Some(9))]);
    for _ in 0..2 {
        let (engine, session) = engine_in(&bank, directory.path().into()).await;
        for held in &told[..2] {
            let mut other = copy(held);
            resumed(&session, held).await.until(&mut other, &last).await;
            assert_eq!((other.rows[&0], other.rows.len()), (9, 10));
        }
        let (kind, message) = report(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {}", told[2].epoch)).await;
        assert_eq!(kind, ErrorKind::HistoryGone, "{message}");
        assert!(message.contains("what it told last was not kept"), "{message}");
        drop((engine, session));
    }
    // A journal that cannot be read at all costs its followers a snapshot, and the view nothing.
    std::fs::write(&log, b"nothing").unwrap();
    let (_engine, session) = engine_in(&bank, directory.path().into()).await;
    until(&session, "SELECT state FROM headwater.views", "live").await;
    let (kind, message) = report(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {}", told[0].epoch)).await;
    assert_eq!(kind, ErrorKind::HistoryGone, "{message}");
    let mut anew = Held::default();
    Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await.next(&mut anew).await.unwrap();
    assert_eq!(anew.rows[&0], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_keeps_what_was_told_up_to_each_checkpoint() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let state = || StateStore::Objects { store: Arc::clone(&store), prefix: "state".into() };
    let bank = accounts("bank");
    let mut held = Held::default();
    let mut stored = vec![];
    for life in 0..3 {
        let (engine, session) = engine_in(&bank, state()).await;
        let mut client = if life == 0 {
            ask(&session, ALL).await;
            Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await
        } else {
            resumed(&session, &held).await
        };
        for round in 0..3 {
            let token = bank.commit(&[("accounts", life, Some(round))]);
            client.until(&mut held, &token).await;
            engine.checkpoint().await.unwrap();
            stored.push(copy(&held));
        }
        let mut lost = copy(&held);
        let token = bank.commit(&[("accounts", 8, Some(life))]);
        client.until(&mut lost, &token).await;
        drop((client, engine, session));
        let (engine, session) = engine_in(&bank, state()).await;
        until(&session, "SELECT state FROM headwater.views", "live").await;
        let (kind, message) = report(&session, &format!("SUBSCRIBE TO v.all FROM EPOCH {}", lost.epoch)).await;
        assert_eq!(kind, ErrorKind::HistoryGone, "{message}");
        for from in &stored {
            let mut other = copy(from);
            resumed(&session, from).await.until(&mut other, &token).await;
            assert_eq!(other.rows, lost.rows, "from epoch {}", from.epoch);
        }
        drop(engine);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_ends_by_name_when_its_view_goes_and_adds_up_over_failure_and_refresh() {
    let bank = accounts("bank");
    let (_engine, session) = engine_over(&bank, quick()).await;
    ask(&session, "CREATE MATERIALIZED VIEW v.all AS SELECT id, 100 / amount AS amount FROM bank.accounts").await;
    let mut client = Client::begin(&session, "SUBSCRIBE TO v.all WITH SNAPSHOT").await;
    let mut held = Held::default();
    client.next(&mut held).await.unwrap();
    bank.commit(&[("accounts", 0, Some(0))]);
    until(&session, "SELECT state FROM headwater.views", "failed").await;
    let token = bank.commit(&[("accounts", 0, Some(50)), ("accounts", 1, None)]);
    until(&session, "SELECT position FROM headwater.feeds", &token).await;
    ask(&session, "REFRESH MATERIALIZED VIEW v.all").await;
    client.until(&mut held, &token).await;
    assert_eq!((held.rows[&0], held.rows.len()), (2, 9), "what was told adds up to the view");
    ask(&session, "CREATE OR REPLACE MATERIALIZED VIEW v.all AS SELECT id, amount FROM bank.accounts").await;
    let error = client.next(&mut held).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("\"v.all\" was dropped or replaced"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_is_prepared_without_parameters_and_refused_where_it_cannot_be() {
    let bank = accounts("bank");
    let (_engine, session) = engine_over(&bank, quick()).await;
    ask(&session, ALL).await;
    let prepared = session.prepare("SUBSCRIBE TO v.all WITH SNAPSHOT").await.unwrap();
    let names: Vec<String> = prepared.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["headwater_epoch", "headwater_vector", "headwater_weight", "headwater_last", "id", "amount"]);
    for _ in 0..2 {
        let mut rows = prepared.execute(vec![]).await.unwrap().into_stream().unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 10);
    }
    assert!(!headwater::defines_view("SUBSCRIBE TO v.all"));
    ask(&session, "CREATE MATERIALIZED VIEW v.odd AS SELECT id AS headwater_weight FROM bank.accounts").await;
    for (sql, message) in [
        ("SUBSCRIBE TO v.al", "did you mean \"v.all\"?"),
        ("SUBSCRIBE TO bank.accounts", "there is none of that name"),
        ("SUBSCRIBE v.all", "write SUBSCRIBE TO schema.name [WITH SNAPSHOT] [FROM EPOCH n]"),
        ("SUBSCRIBE TO all", "write SUBSCRIBE TO schema.name"),
        ("SUBSCRIBE TO v.all WITHOUT SNAPSHOT", "write SUBSCRIBE TO schema.name"),
        ("SUBSCRIBE TO v.all FROM EPOCH", "FROM EPOCH takes the number of an epoch"),
        ("SUBSCRIBE TO v.all FROM EPOCH 1.5", "an epoch is a whole number"),
        ("SUBSCRIBE TO v.all FROM EPOCH 1 FROM EPOCH 2", "write SUBSCRIBE TO"),
        ("SUBSCRIBE TO v.all; SELECT 1", "write SUBSCRIBE TO"),
        ("SUBSCRIBE TO v.odd", "column \"headwater_weight\""),
        ("EXPLAIN SUBSCRIBE TO v.all", ""),
    ] {
        let (_, found) = report(&session, sql).await;
        assert!(found.contains(message), "{sql}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_over_views_says_of_which_state_it_is_and_others_say_nothing() {
    let (bank, shop) = (accounts("bank"), accounts("shop").without_feed());
    let engine = Ledger::engine(&[&bank, &shop], quick()).await;
    let session = engine.session();
    ask(&session, "CREATE MATERIALIZED VIEW v.bank AS SELECT sum(amount) AS total FROM bank.accounts").await;
    ask(&session, "CREATE MATERIALIZED VIEW v.shop AS SELECT sum(amount) AS total FROM shop.accounts").await;
    let token = bank.commit(&[("accounts", 0, Some(1))]);
    ask(&session, &format!("SET headwater.at_least = '{{bank: {token}}}'")).await;
    ask(&session, "SET headwater.max_staleness = '20 s'").await;
    let answer = session.sql("SELECT b.total + s.total AS total FROM v.bank b, v.shop s").await.unwrap();
    let stamp = answer.stamp().unwrap().clone();
    assert_eq!(stamp.sources["bank"].position.token(), token);
    assert_eq!((stamp.sources["bank"].class, stamp.sources["shop"].class), ("transactional", "polled"));
    assert!(stamp.sources.values().all(|source| source.lag.is_some_and(|lag| lag < DEADLINE)), "{stamp:?}");
    let metadata = answer.stamped_schema().metadata().clone();
    assert_eq!(metadata["headwater.epoch"], stamp.epoch.to_string());
    let vector: serde_json::Value = serde_json::from_str(&metadata["headwater.vector"]).unwrap();
    assert_eq!(vector["bank"], token.as_str());
    let lags: serde_json::Value = serde_json::from_str(&metadata["headwater.lag_ms_max"]).unwrap();
    assert!(lags["shop"].as_f64().unwrap() >= 0.0);
    for sql in ["SELECT count(*) FROM bank.accounts", "SHOW search_path", "SELECT * FROM headwater.views"] {
        let answer = session.sql(sql).await.unwrap();
        assert!(answer.stamp().is_none() && answer.stamped_schema().metadata().is_empty(), "{sql}");
    }
}
