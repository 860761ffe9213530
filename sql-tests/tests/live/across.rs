//! The bank over Postgres, MariaDB and SQLite: debits in one, credits in another, and the credit's transaction says which debit it builds upon.

use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::bank::{ACCOUNTS, Orders, WRITERS, Writers};
use crate::follow::{agree, create, engine, options};
use crate::store::{Connection, Databases, Failure, Store, sqlite};
use crate::watch::Watch;
use crate::{DEADLINE, check, seed, transactions};

/// Versions that are seen before the writers stop.
const VERSIONS: usize = 30;

const TABLES: &str = "
CREATE TABLE accounts (id bigint NOT NULL PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE debits (id bigint NOT NULL PRIMARY KEY);
CREATE TABLE credits (id bigint NOT NULL PRIMARY KEY);
CREATE TABLE installed (id bigint NOT NULL PRIMARY KEY);
INSERT INTO accounts VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0);";

const OUTBOX: &str =
    "CREATE TABLE headwater_depends (tokens VARCHAR(4000) NOT NULL, id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY);";

/// The services, and their stores.
pub(crate) const SERVICES: [&str; 3] = ["pg", "my", "lite"];

/// Three stores and the services over them.
pub(crate) struct Across {
    pub(crate) services: Services,
    pub(crate) stores: Vec<(&'static str, Store)>,
    pub(crate) databases: Databases,
}

impl Across {
    pub(crate) async fn new() -> Self {
        let mut databases = Databases::default();
        let (services, pg) = databases.postgres(Services::new(), "pg", TABLES).await;
        let (services, my) = databases.mariadb(services, "my", &format!("{TABLES}{OUTBOX}")).await;
        let (services, lite) = sqlite(services, "lite", TABLES);
        Self { services, stores: vec![("pg", pg), ("my", my), ("lite", lite)], databases }
    }

    pub(crate) fn stores(&self) -> Vec<(&str, &Store)> {
        self.stores.iter().map(|(service, store)| (*service, store)).collect()
    }

    pub(crate) fn writers(&self, seed: u64, transactions: usize) -> Writers {
        Writers::start(WRITERS, transactions, |number, orders| {
            let stores = self.stores.clone();
            async move {
                Mover { stores, dice: Dice::branch(seed, number as u64), next: first(seed, number) }.run(orders).await
            }
        })
    }
}

/// The number of a writer's first transfer; writers of another seed begin elsewhere.
fn first(seed: u64, writer: usize) -> u64 {
    (writer as u64 + 1) << 40 | (seed % (1 << 20)) << 20
}

/// A table of all three.
fn all(table: &str, columns: &str) -> String {
    SERVICES.map(|service| format!("SELECT {columns} FROM {service}.{table}")).join(" UNION ALL ")
}

/// The views, by name.
pub(crate) fn views() -> Vec<(&'static str, String)> {
    let (debits, credits) = (all("debits", "id"), all("credits", "id"));
    vec![
        ("total", format!("SELECT sum(balance) AS total FROM ({})", all("accounts", "balance"))),
        (
            "early",
            format!("SELECT c.id FROM ({credits}) c WHERE NOT EXISTS (SELECT 1 FROM ({debits}) d WHERE d.id = c.id)"),
        ),
        (
            "open",
            format!("SELECT count(*) AS n FROM ({debits}) d LEFT JOIN ({credits}) c ON c.id = d.id WHERE c.id IS NULL"),
        ),
    ]
}

/// Moves money from store to store.
struct Mover {
    stores: Vec<(&'static str, Store)>,
    dice: Dice,
    next: u64,
}

impl Mover {
    async fn run(&mut self, orders: Orders) {
        let mut connections: Vec<Connection> = vec![];
        for (_, store) in &self.stores {
            connections.push(store.connect().await.unwrap());
        }
        let mut done = 0;
        while orders.go_on(done) {
            self.transfer(&mut connections).await.unwrap();
            done += 1;
            orders.committed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A debit, and the credits that follow it from store to store: each builds upon the one before.
    async fn transfer(&mut self, connections: &mut [Connection]) -> Result<(), Failure> {
        let mut from = self.dice.below(connections.len());
        for _ in 0..self.dice.between(1, 3) {
            let to = (from + self.dice.between(1, connections.len() - 1)) % connections.len();
            self.next += 1;
            let (id, one, other) = (self.next, self.dice.below(ACCOUNTS), self.dice.below(ACCOUNTS));
            let begin = self.stores[from].1.begin();
            let debit = format!(
                "{begin}; UPDATE accounts SET balance = balance - 1 WHERE id = {one}; INSERT INTO debits VALUES ({id}); COMMIT"
            );
            committed(&mut connections[from], &debit).await?;
            let token = connections[from].token().await?;
            let (begin, depends) = (self.stores[to].1.begin(), self.stores[to].1.depends(self.stores[from].0, &token));
            let credit = format!(
                "{begin}; {depends}; UPDATE accounts SET balance = balance + 1 WHERE id = {other}; INSERT INTO credits VALUES ({id}); COMMIT"
            );
            committed(&mut connections[to], &credit).await?;
            from = to;
        }
        Ok(())
    }
}

/// Runs a transaction until it is committed: MariaDB may choose it to end a deadlock, and has rolled it back then.
async fn committed(connection: &mut Connection, transaction: &str) -> Result<(), Failure> {
    loop {
        match connection.run(transaction).await {
            Err(error) if error.contains("ERROR 1213") => {}
            done => return done,
        }
    }
}

/// A view over each store, so that SQLite has its log before anybody writes to it.
pub(crate) const INSTALLED: [(&str, &str); 3] = [
    ("installed_pg", "SELECT id FROM pg.installed"),
    ("installed_my", "SELECT id FROM my.installed"),
    ("installed_lite", "SELECT id FROM lite.installed"),
];

#[tokio::test(flavor = "multi_thread")]
async fn credit_in_one_database_never_shows_before_its_debit_in_another() {
    let (seed, each) = (seed(), transactions(50));
    let across = Across::new().await;
    let engine = engine(&across.services, options()).await;
    create(&engine, &INSTALLED).await;
    let writers = across.writers(seed, usize::MAX);
    let views = views();
    let views: Vec<(&str, &str)> = views.iter().map(|(name, query)| (*name, query.as_str())).collect();
    wait::until("writers write", DEADLINE, async || writers.committed() > WRITERS).await;
    // Every table is read under the writers, each store's at a place of its own.
    create(&engine, &views[..1]).await;
    create(&engine, &views[1..]).await;
    let names: Vec<&str> = views.iter().map(|(name, _)| *name).collect();
    let watch = Watch::views(&engine, &names);
    let begun = writers.committed();
    let committed = async |share: usize| {
        let enough = begun + WRITERS * each / share;
        wait::until("writers write", DEADLINE, async || writers.committed() > enough).await;
    };
    committed(2).await;
    across.databases.postgres.as_ref().unwrap().value("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE database = current_database() AND active").await;
    committed(1).await;
    wait::until("versions are seen while writers write", DEADLINE, async || watch.versions() >= VERSIONS).await;
    let committed = writers.stop().await;
    agree(&engine, &across.stores(), &views).await;
    let (versions, last) = watch.judge(&engine, check::causal).await;
    assert_eq!(crate::watch::only(&last["total"]), 0, "every credit has come");
    eprintln!("{committed} chains of transfers in {versions} versions");
    assert!(versions >= VERSIONS, "{versions} versions are too few to have seen anything");
}
