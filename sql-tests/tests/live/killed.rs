//! `headwater serve` as a process of its own, killed again and again while writers write to all three stores.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::cast::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use futures::StreamExt;
use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::process::{Client, Serving};
use headwater_sql_tests::wait;

use crate::across::{Across, INSTALLED, views};
use crate::{DEADLINE, rounds, seed};

/// What one query shows: the bank, and the epoch and the positions at which it is read.
const ASKED: &str = "SELECT t.total, o.n, e.n, f.epoch, f.service, f.position FROM v.total t CROSS JOIN v.open o \
    CROSS JOIN (SELECT count(*) AS n FROM v.early) e CROSS JOIN headwater.freshness f WHERE f.schema = 'v' AND f.name = 'total'";

/// The newest that a client has seen.
#[derive(Default)]
struct Seen {
    epoch: u64,
    positions: BTreeMap<String, u64>,
    answers: usize,
}

impl Seen {
    /// Asks once; the answer is a bank, and not older than any before.
    async fn ask(&mut self, client: &mut Client) -> Result<(), String> {
        let answer = client.ask(ASKED).await?;
        let rows = answer.texts();
        assert_eq!(rows.len(), 3, "a row for each service: {rows:?}");
        for row in rows {
            let number = |cell: usize| row[cell].parse::<i64>().unwrap();
            let (total, open, early) = (number(0), number(1), number(2));
            assert!(total == -open && open >= 0 && early == 0, "total {total}, open {open}, early {early}");
            let (epoch, position) = (row[3].parse::<u64>().unwrap(), order(row[5]));
            assert!(epoch >= self.epoch, "epoch {epoch} after {}", self.epoch);
            self.epoch = epoch;
            let known = self.positions.entry(row[4].to_owned()).or_default();
            assert!(position >= *known, "{} at {} goes back", row[4], row[5]);
            *known = position;
        }
        self.answers += 1;
        Ok(())
    }
}

/// The balances of all accounts: many rows that are alike.
const BALANCES: (&str, &str) = (
    "balances",
    "SELECT balance FROM pg.accounts UNION ALL SELECT balance FROM my.accounts UNION ALL SELECT balance FROM lite.accounts",
);

/// What a client holds that follows the balances: how often each is there, as of a whole epoch.
#[derive(Default)]
struct Held {
    rows: BTreeMap<i64, i64>,
    epoch: Option<u64>,
    resumed: usize,
}

impl Held {
    /// Follows from where it is, until the server is gone.
    async fn follow(&mut self, client: &mut Client) -> Result<(), String> {
        let from = self.epoch.map_or("WITH SNAPSHOT".to_owned(), |epoch| format!("FROM EPOCH {epoch}"));
        let batches = client.stream(&format!("SUBSCRIBE TO v.balances {from}")).await;
        // The server may be gone by now, but it has to know of the epoch.
        let mut batches = Box::pin(batches.inspect_err(|error| assert!(!error.contains("WITH SNAPSHOT"), "{error}"))?);
        self.resumed += usize::from(self.epoch.is_some());
        let mut waiting = vec![];
        while let Some(batch) = batches.next().await.transpose()? {
            let (epochs, weights) =
                (batch.column(0).as_primitive::<UInt64Type>(), batch.column(2).as_primitive::<Int64Type>());
            let (lasts, balances) = (batch.column(3).as_boolean(), batch.column(4).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                waiting.push((balances.value(row), weights.value(row)));
                if lasts.value(row) {
                    assert!(self.epoch.is_none_or(|epoch| epoch < epochs.value(row)), "epochs come in their order");
                    for (balance, weight) in waiting.drain(..) {
                        *self.rows.entry(balance).or_default() += weight;
                    }
                    self.rows.retain(|_, times| *times != 0);
                    assert!(
                        self.rows.values().all(|times| *times > 0),
                        "a row went that was not there: {:?}",
                        self.rows
                    );
                    self.epoch = Some(epochs.value(row));
                }
            }
        }
        Ok(())
    }

    /// What a query over the balances shows, in the same form.
    async fn expected(client: &mut Client) -> BTreeMap<i64, i64> {
        let shown = client.ask("SELECT balance, count(*) FROM v.balances GROUP BY balance").await.unwrap();
        shown.texts().iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap())).collect()
    }
}

/// A position as a number that grows with it: a place in Postgres's log, a file and an offset of MariaDB's, a number.
fn order(position: &str) -> u64 {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    if let Some((high, low)) = position.split_once('/') {
        return hex(high) << 32 | hex(low);
    }
    let place = position.split(' ').next().unwrap();
    match place.split_once(':') {
        Some((file, offset)) => {
            let number: u64 = file.rsplit_once('.').unwrap().1.parse().unwrap();
            number << 32 | offset.parse::<u64>().unwrap()
        }
        None => place.parse().unwrap(),
    }
}

/// Makes the views where they are not there yet.
async fn define(client: &mut Client) {
    let views = views();
    let views = INSTALLED.iter().chain([&BALANCES]).map(|(name, query)| (*name, (*query).to_owned())).chain(views);
    for (name, query) in views {
        let sql = format!("CREATE MATERIALIZED VIEW IF NOT EXISTS v.{name} AS {query}");
        client.ask(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_killed_again_and_again_loses_nothing_doubles_nothing_and_shows_nothing_older() {
    let (seed, rounds) = (seed(), rounds(5));
    let mut dice = Dice::branch(seed, 1 << 32);
    let across = Across::new().await;
    let state = across.services.directory().join("state");
    let start =
        async || Serving::start(&across.services.manifests(), &state, &["--checkpoint-interval-ms", "40"]).await;
    let (mut seen, mut held) = (Seen::default(), Held::default());
    let mut serving = start().await;
    define(&mut serving.client().await).await;
    let writers = across.writers(seed, usize::MAX);
    for round in 0..rounds {
        let (mut client, mut follower) = (serving.client().await, serving.client().await);
        // Some lives end while the server starts, the others a while after it has answered.
        let is_answered = dice.percent(60);
        let life = Duration::from_millis(dice.between(0, 1_500) as u64);
        if is_answered {
            seen.ask(&mut client).await.unwrap();
        }
        let asking = async {
            loop {
                seen.ask(&mut client).await.unwrap();
            }
        };
        let lives = async { tokio::join!(asking, held.follow(&mut follower)) };
        let ended: Result<((), _), _> = tokio::time::timeout(life, lives).await;
        assert!(ended.is_err());
        eprintln!("round {round}: killed after {life:?}, {} answers so far, epoch {}", seen.answers, seen.epoch);
        serving.kill().await;
        serving = start().await;
    }
    let mut client = serving.client().await;
    seen.ask(&mut client).await.unwrap();
    let committed = writers.stop().await;
    for (name, query) in views() {
        let expected = client.ask(&query).await.unwrap();
        wait::until("the view is where its sources are", DEADLINE, async || {
            let shown = client.ask(&format!("SELECT * FROM v.{name}")).await.unwrap();
            shown.difference(&expected).is_none()
        })
        .await;
    }
    seen.ask(&mut client).await.unwrap();
    // Whoever went on from where it was, life after life, has what the view has.
    let (expected, mut follower) = (Held::expected(&mut client).await, serving.client().await);
    if held.epoch.is_some() && held.rows != expected {
        let caught_up = async {
            while held.rows != expected {
                let next = tokio::time::timeout(Duration::from_secs(1), held.follow(&mut follower)).await;
                assert!(next.is_err(), "{next:?}");
            }
        };
        wait::within("the follower is where the view is", DEADLINE, caught_up).await;
    }
    let feeds =
        client.ask("SELECT service, snapshots, last_error FROM headwater.feeds ORDER BY service").await.unwrap();
    for feed in feeds.texts() {
        assert_eq!(feed[1..], ["0", "NULL"], "{}: it goes on from its checkpoint", feed[0]);
    }
    let (answers, resumed) = (seen.answers, held.resumed);
    eprintln!(
        "{committed} chains of transfers, {answers} answers over {rounds} kills, a follower that went on {resumed} times"
    );
    serving.kill().await;
}
