//! The bank within one database: ten accounts that sum to nothing, transfers of 1 between them, and a table of the transfers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use headwater_sql_tests::dice::Dice;
use tokio::task::JoinHandle;

use crate::store::{Connection, Failure, Store};

pub(crate) const ACCOUNTS: usize = 10;

/// Writers at a time.
pub(crate) const WRITERS: usize = 4;

pub(crate) const SCHEMA: &str = "
CREATE TABLE accounts (id bigint NOT NULL PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE transfers (id bigint NOT NULL PRIMARY KEY, src bigint NOT NULL, dst bigint NOT NULL);
INSERT INTO accounts VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0);";

/// The views over service `bank`, by name, with what each has in every version checked in `check`.
pub(crate) const VIEWS: [(&str, &str); 5] = [
    ("total", "SELECT sum(balance) AS total FROM bank.accounts"),
    ("balances", "SELECT id, balance FROM bank.accounts"),
    (
        "pairs",
        "SELECT a.id AS one, b.id AS two, a.balance + b.balance AS both_balances FROM bank.accounts a JOIN bank.accounts b ON a.id + 5 = b.id",
    ),
    ("top", "SELECT id, balance FROM bank.accounts ORDER BY balance DESC, id LIMIT 3"),
    (
        "ledger",
        "SELECT a.id, a.balance, coalesce(i.n, 0) AS came, coalesce(o.n, 0) AS went FROM bank.accounts a \
         LEFT JOIN (SELECT dst, count(*) AS n FROM bank.transfers GROUP BY dst) i ON i.dst = a.id \
         LEFT JOIN (SELECT src, count(*) AS n FROM bank.transfers GROUP BY src) o ON o.src = a.id",
    ),
];

/// Writers that can be stopped.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a writer is to do.
pub(crate) struct Orders {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) committed: Arc<AtomicUsize>,
    /// At most so many transactions.
    pub(crate) transactions: usize,
}

impl Orders {
    /// Whether there is more to do.
    pub(crate) fn go_on(&self, done: usize) -> bool {
        done < self.transactions && !self.stop.load(Ordering::Relaxed)
    }
}

impl Writers {
    /// Writers that each do what `write` says.
    pub(crate) fn start<W: Future<Output = ()> + Send + 'static>(
        count: usize,
        transactions: usize,
        write: impl Fn(usize, Orders) -> W,
    ) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let orders = || Orders { stop: Arc::clone(&stop), committed: Arc::clone(&committed), transactions };
        let tasks = (0..count).map(|number| tokio::spawn(write(number, orders()))).collect();
        Self { stop, committed, tasks }
    }

    /// Writers of transfers within one store.
    pub(crate) fn of_bank(store: &Store, seed: u64, transactions: usize) -> Self {
        Self::start(WRITERS, transactions, |number, orders| {
            let store = store.clone();
            async move { Writer::new(seed, number).run(&store, orders).await }
        })
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until they have done what they were told.
    pub(crate) async fn finish(self) -> usize {
        for task in self.tasks {
            task.await.unwrap();
        }
        self.committed.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}

struct Writer {
    dice: Dice,
    next: u64,
    /// Transfers that it has made and not undone.
    made: Vec<(u64, usize, usize)>,
}

/// Between the ids of two writers, and of two lives of one.
const STRIDE: u64 = 1 << 32;

impl Writer {
    fn new(seed: u64, number: usize) -> Self {
        let next = (number as u64 + 1) * STRIDE + (seed % (1 << 16)) * (1 << 16);
        Self { dice: Dice::branch(seed, number as u64), next, made: vec![] }
    }

    async fn run(&mut self, store: &Store, orders: Orders) {
        let mut connection: Option<Connection> = None;
        let mut done = 0;
        while orders.go_on(done) {
            let held = match connection.take() {
                Some(held) => Ok(held),
                None => store.connect().await,
            };
            // A server that is down is back soon.
            let Ok(mut held) = held else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            match self.transact(&mut held, store.begin()).await {
                Ok(()) => {
                    connection = Some(held);
                    done += 1;
                    orders.committed.fetch_add(1, Ordering::Relaxed);
                }
                // Nobody knows whether it was committed; it is not undone, and its id is not used again.
                Err(_) => self.made.clear(),
            }
        }
    }

    async fn transact(&mut self, connection: &mut Connection, begin: &str) -> Result<(), Failure> {
        let (src, dst) = (self.dice.below(ACCOUNTS), self.dice.below(ACCOUNTS));
        self.next += 1;
        let id = self.next;
        let transfer = format!("{}; INSERT INTO transfers VALUES ({id}, {src}, {dst})", moves(src, dst));
        match self.dice.below(100) {
            0..10 => connection.run(&format!("{begin}; {transfer}; ROLLBACK")).await,
            10..20 => {
                let other = moves(self.dice.below(ACCOUNTS), 3);
                let sql = format!(
                    "{begin}; {transfer}; SAVEPOINT s; {other}; DELETE FROM transfers WHERE id = {id}; ROLLBACK TO s; COMMIT"
                );
                connection.run(&sql).await?;
                self.made.push((id, src, dst));
                Ok(())
            }
            20..35 if !self.made.is_empty() => {
                let place = self.dice.below(self.made.len());
                let (id, src, dst) = self.made.swap_remove(place);
                let back = moves(dst, src);
                connection.run(&format!("{begin}; {back}; DELETE FROM transfers WHERE id = {id}; COMMIT")).await
            }
            35..45 if !self.made.is_empty() => {
                let place = self.dice.below(self.made.len());
                let (old, src, dst) = self.made[place];
                self.made[place] = (id, src, dst);
                connection.run(&format!("{begin}; UPDATE transfers SET id = {id} WHERE id = {old}; COMMIT")).await
            }
            _ => {
                connection.run(&format!("{begin}; {transfer}; COMMIT")).await?;
                self.made.push((id, src, dst));
                Ok(())
            }
        }
    }
}

/// The statements that move 1. In the order of the accounts, so that writers wait for one another and never round a circle.
pub(crate) fn moves(src: usize, dst: usize) -> String {
    let of = |account: usize, by: &str| format!("UPDATE accounts SET balance = balance {by} WHERE id = {account}");
    let (debit, credit) = (of(src, "- 1"), of(dst, "+ 1"));
    if src <= dst { format!("{debit}; {credit}") } else { format!("{credit}; {debit}") }
}
