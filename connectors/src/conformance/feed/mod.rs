//! The suite that every feed passes.
//!
//! A connector joins with a [`FeedStore`]: a store of its own with a table `notes(id integer key, body text, n integer)`, made by the
//! test, to which the suite writes, and a way to open its feed as after a restart.

mod replica;

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt, future::join_all};
use headwater_source::{
    Error, Feed, FeedClass, Position, ScalarValue, ScanRequest, Source, TableDef, Transaction, TransactionStream,
    async_trait,
};

pub use self::replica::{Replica, Row};
use super::Violation;

type Checked<T = ()> = Result<T, Violation>;

/// How long the suite waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many writers write at a time.
const WRITERS: i64 = 4;
/// How many transactions each of them commits, and how many where a file is written for each row.
const TRANSACTIONS: i64 = 40;
const LISTED_TRANSACTIONS: i64 = 8;
/// How often files that go while they are read may make a snapshot fail.
const LISTED_TRIES: usize = 200;
/// The keys that a writer uses, so that writers never wait for one another.
const KEYS: i64 = 1_000;

/// Where, among a writer's keys, its transactions put rows that they move on.
const PASSING: std::ops::Range<i64> = 100..120;

/// One write to the table `notes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The row comes, or takes the place of the one with its id.
    Put {
        /// The key.
        id: i64,
        /// A text.
        body: String,
        /// A number.
        n: i64,
    },
    /// The row with this id goes, where there is one.
    Delete {
        /// The key.
        id: i64,
    },
    /// The row with the first id gets the second, where there is such a row and no other has it.
    Rekey {
        /// The key so far.
        from: i64,
        /// The key from now on.
        to: i64,
    },
}

/// A store with a feed, for the suite.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// The store with its feed, opened anew: nothing is shared with what was opened before. Different names are different services.
    fn open(&self, service: &str) -> Arc<dyn Source>;

    /// The table, as a manifest's `from` names it.
    fn table(&self) -> &str;

    /// Commits some writes as one transaction. Called by several writers at once.
    async fn commit(&self, writes: &[Write]);

    /// The same, and then rolls it back; and a transaction that keeps the first of the writes and rolls the others back to a savepoint. A store
    /// without transactions does nothing.
    async fn roll_back(&self, writes: &[Write]);

    /// What a writer would get from the store after its commit, where the store has such a thing.
    async fn token(&self) -> Option<String>;
}

/// Runs the whole suite; the first broken promise is the error.
pub async fn check(store: &dyn FeedStore) -> Checked {
    snapshot_and_changes_are_the_table(store).await?;
    resuming_anywhere_repeats_nothing_and_leaves_nothing_out(store).await?;
    rolled_back_changes_never_show(store).await?;
    token_of_a_commit_is_covered_once_it_was_read(store).await?;
    feeds_of_two_services_do_not_disturb_each_other(store).await?;
    removal_leaves_nothing_and_is_told(store).await
}

/// A feed and its table.
struct Following {
    source: Arc<dyn Source>,
    feed: Arc<dyn Feed>,
    tables: Vec<TableDef>,
}

impl Following {
    async fn open(store: &dyn FeedStore, service: &str) -> Checked<Self> {
        const RULE: &str = "a feed that is switched on is there";
        let source = store.open(service);
        let feed = source.feed().ok_or_else(|| Violation { rule: RULE, detail: "there is none".to_owned() })?;
        let tables = vec![source.table(store.table()).await.map_err(failed(RULE))?];
        Ok(Self { source, feed, tables })
    }

    async fn installed(store: &dyn FeedStore, service: &str) -> Checked<Self> {
        const RULE: &str = "a feed is installed where nothing lacks";
        let following = Self::open(store, service).await?;
        let lacks = following.feed.check(&following.tables).await.map_err(failed(RULE))?;
        if let Some(lack) = lacks.first() {
            return Err(Violation { rule: RULE, detail: format!("{}: {}", lack.what, lack.remedy) });
        }
        following.feed.install(&following.tables).await.map_err(failed(RULE))?;
        Ok(following)
    }

    async fn snapshot(&self) -> Checked<Replica> {
        const RULE: &str = "a snapshot can be read";
        let mut tries = match self.feed.class() {
            FeedClass::Transactional => 1,
            FeedClass::Listing => LISTED_TRIES,
        };
        loop {
            tries -= 1;
            let read = async {
                let at = self.feed.snapshot(&self.tables).await.map_err(failed(RULE))?;
                Replica::load(&self.tables, at).await
            };
            match read.await {
                Err(_) if tries > 0 => {}
                read => return read,
            }
        }
    }

    async fn changes(&self, after: &Position) -> Checked<TransactionStream> {
        self.feed.changes(&self.tables, after).await.map_err(failed("changes can be read"))
    }

    /// Takes changes until everything that is committed now was taken; the transactions.
    async fn catch_up(&self, replica: &mut Replica) -> Checked<Vec<Transaction>> {
        let head = self.feed.head().await.map_err(failed("a feed tells its end"))?;
        let mut changes = self.changes(replica.position()).await?;
        let mut taken = vec![];
        while *replica.position() < head {
            let transaction = next(&mut changes, &head).await?;
            replica.apply(&transaction)?;
            self.is_whole(replica)?;
            taken.push(transaction);
        }
        Ok(taken)
    }

    /// No state between transactions shows what [`writes`] has only within one: a row at a place from which it moves on.
    fn is_whole(&self, replica: &Replica) -> Checked {
        const RULE: &str = "transactions come whole";
        let torn = |row: &Row| match row.first() {
            Some(ScalarValue::Int64(Some(id))) => PASSING.contains(&id.rem_euclid(KEYS)) && *id >= 0,
            _ => false,
        };
        match replica.rows(0).iter().find(|row| torn(row)) {
            Some(row) if self.feed.class() == FeedClass::Transactional => {
                Err(Violation { rule: RULE, detail: format!("{row:?} shows at {}", replica.position()) })
            }
            _ => Ok(()),
        }
    }

    async fn scan(&self) -> Checked<Vec<RecordBatch>> {
        let read = async {
            let scan = self.source.prepare(ScanRequest::all(Arc::new(self.tables[0].clone()))).await?;
            let mut batches = vec![];
            for partition in 0..scan.partitions() {
                batches.extend(scan.open(partition).await?.try_collect::<Vec<_>>().await?);
            }
            Ok(batches)
        };
        read.await.map_err(failed("the table can be scanned"))
    }

    /// The replica is the table. Nobody writes meanwhile.
    async fn agree(&self, replica: &Replica) -> Checked {
        replica.equals(0, &self.scan().await?)
    }
}

/// Waits for the next transaction; `wanted` says for whom, in messages.
async fn next(changes: &mut TransactionStream, wanted: &Position) -> Checked<Transaction> {
    const RULE: &str = "what was committed comes";
    match tokio::time::timeout(PATIENCE, changes.next()).await {
        Ok(Some(Ok(transaction))) => Ok(transaction),
        Ok(Some(Err(error))) => Err(failed(RULE)(error)),
        Ok(None) => Err(Violation { rule: RULE, detail: "the changes ended".to_owned() }),
        Err(_) => Err(Violation { rule: RULE, detail: format!("not up to {wanted} within {PATIENCE:?}") }),
    }
}

/// A writer's transaction: two rows that always agree, a row that moves and one that goes.
fn writes(writer: i64, number: i64) -> Vec<Write> {
    let first = writer * KEYS;
    let pair = first + number % 20;
    let n = number * 7 % 13;
    let body = |id: i64| format!("body {} of {writer} ü'\\ \u{1F600}", id * number);
    vec![
        Write::Put { id: pair, body: body(pair), n },
        Write::Put { id: pair + 100, body: body(pair), n },
        Write::Rekey { from: first + number % 20 + 100, to: first + 500 + number },
        Write::Delete { id: first + 500 + number - 5 },
    ]
}

async fn write_all(store: &dyn FeedStore, from: i64, to: i64) {
    let writer = |writer: i64| async move {
        for number in from..to {
            store.commit(&writes(writer, number)).await;
        }
    };
    join_all((0..WRITERS).map(writer)).await;
}

async fn snapshot_and_changes_are_the_table(store: &dyn FeedStore) -> Checked {
    store.commit(&[Write::Put { id: -1, body: "before".to_owned(), n: 0 }]).await;
    let following = Following::installed(store, "one").await?;
    let early = following.snapshot().await?;
    let meanwhile = async {
        let mut late = following.snapshot().await?;
        let mut taken = following.catch_up(&mut late).await?;
        taken.extend(following.catch_up(&mut late).await?);
        Ok((late, taken))
    };
    let count = match following.feed.class() {
        FeedClass::Transactional => TRANSACTIONS,
        FeedClass::Listing => LISTED_TRANSACTIONS,
    };
    let (read, ()) = tokio::join!(meanwhile, write_all(store, 0, count));
    let (mut late, _) = read?;
    following.catch_up(&mut late).await?;
    following.agree(&late).await?;
    let mut early = early;
    following.catch_up(&mut early).await?;
    following.agree(&early).await
}

async fn resuming_anywhere_repeats_nothing_and_leaves_nothing_out(store: &dyn FeedStore) -> Checked {
    const RULE: &str = "resuming repeats nothing and leaves nothing out";
    let following = Following::installed(store, "one").await?;
    let mut replica = following.snapshot().await?;
    // What the tables were at each position: a copy that goes on from there must come to the same.
    let mut states = vec![replica.clone()];
    let head = {
        let mut changes = following.changes(replica.position()).await?;
        for number in 100..110 {
            write_all(store, number, number + 1).await;
            let head = following.feed.head().await.map_err(failed(RULE))?;
            while *replica.position() < head {
                replica.apply(&next(&mut changes, &head).await?)?;
                states.push(replica.clone());
            }
        }
        replica.position().clone()
    };
    following.agree(&replica).await?;
    let middle = states.len() / 2;
    for place in [0, 1, states.len() / 3, middle, states.len() - 2] {
        resume(store, states[place].clone(), &head).await?;
    }
    // What is acknowledged may be gone; what is not must be there.
    let mut changes = following.changes(states[middle].position()).await?;
    following.feed.acknowledge(states[middle].position()).await.map_err(failed(RULE))?;
    next(&mut changes, &head).await?;
    drop(changes);
    resume(store, states[middle].clone(), &head).await?;
    resume(store, states[states.len() - 2].clone(), &head).await
}

/// Opens the feed as after a restart, and goes on from a state to a place and to what the table is now.
async fn resume(store: &dyn FeedStore, mut state: Replica, head: &Position) -> Checked {
    const RULE: &str = "resuming repeats nothing and leaves nothing out";
    let again = Following::open(store, "one").await?;
    let (order, token) = (state.position().order(), state.position().token().to_owned());
    let after = again.feed.resume(order, &token).map_err(failed(RULE))?;
    again.feed.head().await.map_err(failed(RULE))?;
    let mut changes = again.changes(&after).await?;
    while state.position() < head {
        state.apply(&next(&mut changes, head).await?)?;
    }
    again.agree(&state).await
}

async fn rolled_back_changes_never_show(store: &dyn FeedStore) -> Checked {
    let following = Following::installed(store, "one").await?;
    let mut replica = following.snapshot().await?;
    store
        .roll_back(&[
            Write::Put { id: -10, body: "kept".to_owned(), n: 1 },
            Write::Put { id: -11, body: "gone".to_owned(), n: 1 },
            Write::Delete { id: -1 },
        ])
        .await;
    store.commit(&[Write::Put { id: -12, body: "after".to_owned(), n: 1 }]).await;
    let taken = following.catch_up(&mut replica).await?;
    following.agree(&replica).await?;
    let texts = taken.iter().flat_map(|transaction| &transaction.changes).map(|change| format!("{change:?}"));
    match texts.into_iter().any(|text| text.contains("gone")) {
        true => Err(Violation { rule: "what was rolled back never shows", detail: "a row shows".to_owned() }),
        false => Ok(()),
    }
}

async fn token_of_a_commit_is_covered_once_it_was_read(store: &dyn FeedStore) -> Checked {
    const RULE: &str = "a token is covered exactly when its commit was read";
    let following = Following::installed(store, "one").await?;
    if following.feed.class() == FeedClass::Listing {
        return Ok(());
    }
    let mut replica = following.snapshot().await?;
    let before = replica.position().clone();
    store.commit(&[Write::Put { id: -20, body: "token".to_owned(), n: 1 }]).await;
    let Some(token) = store.token().await else { return Ok(()) };
    following.catch_up(&mut replica).await?;
    let covered = |position: &Position| following.feed.covers(position, &token).map_err(failed(RULE));
    match (covered(&before)?, covered(replica.position())?) {
        (false, true) => {}
        found => return Err(Violation { rule: RULE, detail: format!("before and after {token}: {found:?}") }),
    }
    match following.feed.covers(&before, "no token of any store") {
        Err(Error::Unsupported { .. } | Error::Config { .. }) => Ok(()),
        other => Err(Violation { rule: RULE, detail: format!("another text is {other:?}") }),
    }
}

async fn feeds_of_two_services_do_not_disturb_each_other(store: &dyn FeedStore) -> Checked {
    let (one, two) = (Following::installed(store, "one").await?, Following::installed(store, "two").await?);
    let (mut first, mut second) = (one.snapshot().await?, two.snapshot().await?);
    write_all(store, 200, 205).await;
    let (read, also_read) = tokio::join!(one.catch_up(&mut first), two.catch_up(&mut second));
    read?;
    also_read?;
    one.feed.acknowledge(first.position()).await.map_err(failed("acknowledged"))?;
    write_all(store, 205, 210).await;
    one.catch_up(&mut first).await?;
    two.catch_up(&mut second).await?;
    one.agree(&first).await?;
    two.agree(&second).await
}

async fn removal_leaves_nothing_and_is_told(store: &dyn FeedStore) -> Checked {
    const RULE: &str = "what was installed is removed, and told";
    for service in ["one", "two"] {
        let following = Following::installed(store, service).await?;
        following.feed.remove().await.map_err(failed(RULE))?;
        let again = following.feed.remove().await.map_err(failed(RULE))?;
        if !again.is_empty() {
            return Err(Violation { rule: RULE, detail: format!("again: {again:?}") });
        }
    }
    Ok(())
}

fn failed(rule: &'static str) -> impl Fn(Error) -> Violation {
    move |error| Violation { rule, detail: error.report() }
}
