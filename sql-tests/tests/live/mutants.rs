//! The bank is tested too: a feed that is wrong on purpose must turn it red.
//!
//! The faults are put between the engine and a real feed, in the test's own connector; nothing of them is in any build. Those within the maintenance
//! are tried in `engine/views/src/mutants.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use headwater::{Engine, ViewOptions};
use headwater_source::{
    Capabilities, Connector, Feed, FeedClass, FeedDef, FeedOptions, FeedStatus, Lack, OpenContext, OptionDef, Options,
    Position, QueryId, QueryRequest, Result, Scan, ScanRequest, Snapshot, Source, TableDef, TableStatistics, TablesAt,
    Transaction, TransactionStream, async_trait,
};
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;

use crate::across::{Across, INSTALLED, views};
use crate::bank::{SCHEMA, VIEWS, Writers};
use crate::follow::{agree, create, feed, options, options_with};
use crate::store::Databases;
use crate::watch::Watch;
use crate::{DEADLINE, check, seed};

/// What is wrong with a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// What two transactions did is told the other way round.
    Reorders,
    /// The first half of a transaction is told before its commit.
    Tears,
    /// Every tenth transaction is left out.
    Loses,
    /// Every tenth transaction is told twice.
    Repeats,
    /// What transactions depend on is left out.
    IgnoresDependencies,
    /// The source is told to forget what was read, stored or not.
    AcknowledgesEarly,
}

/// A connector whose feeds have a fault, or none.
#[derive(Debug)]
struct Faulty(Arc<dyn Connector>, Option<Fault>);

#[derive(Debug)]
struct FaultySource(Arc<dyn Source>, Option<Fault>);

#[derive(Debug)]
struct FaultyFeed(Arc<dyn Feed>, Option<Fault>);

impl Connector for Faulty {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn options(&self) -> &'static [OptionDef] {
        self.0.options()
    }

    fn feeds(&self) -> &'static [FeedDef] {
        self.0.feeds()
    }

    fn open(&self, context: OpenContext<'_>, options: &Options) -> Result<Arc<dyn Source>> {
        self.0.open(context, options)
    }

    fn open_followed(
        &self,
        context: OpenContext<'_>,
        options: &Options,
        feed: &FeedOptions,
    ) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FaultySource(self.0.open_followed(context, options, feed)?, self.1)))
    }
}

#[async_trait]
impl Source for FaultySource {
    fn location(&self) -> String {
        self.0.location()
    }

    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    fn connections_max(&self) -> Option<usize> {
        self.0.connections_max()
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.0.tables().await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.0.table(from).await
    }

    async fn statistics(&self, table: &TableDef) -> Result<Option<TableStatistics>> {
        self.0.statistics(table).await
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.0.prepare(request).await
    }

    async fn prepare_query(&self, request: QueryRequest) -> Result<Arc<dyn Scan>> {
        self.0.prepare_query(request).await
    }

    async fn snapshot(&self, statements: usize, query: Option<QueryId>) -> Result<Option<Snapshot>> {
        self.0.snapshot(statements, query).await
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.0.feed().map(|feed| Arc::new(FaultyFeed(feed, self.1)) as _)
    }
}

#[async_trait]
impl Feed for FaultyFeed {
    fn mode(&self) -> &'static str {
        self.0.mode()
    }

    fn class(&self) -> FeedClass {
        self.0.class()
    }

    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>> {
        self.0.check(tables).await
    }

    async fn install(&self, tables: &[TableDef]) -> Result<()> {
        self.0.install(tables).await
    }

    async fn remove(&self) -> Result<Vec<String>> {
        self.0.remove().await
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        self.0.snapshot(tables).await
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        let changes = self.0.changes(tables, after).await?;
        let Some(fault) = self.1 else { return Ok(changes) };
        let (feed, mut number, mut held) = (Arc::clone(&self.0), 0, None);
        let told = changes.then(move |next| {
            let told = match next {
                Ok(transaction) => {
                    number += usize::from(!transaction.changes.is_empty());
                    wrong(fault, number, transaction, &mut held).into_iter().map(Ok).collect()
                }
                Err(error) => vec![Err(error)],
            };
            let feed = Arc::clone(&feed);
            async move {
                if let (Fault::AcknowledgesEarly, Some(Ok(transaction))) = (fault, told.last()) {
                    feed.acknowledge(&transaction.position).await.unwrap();
                }
                // A reader that takes all that is there would take both halves of what was torn.
                stream::iter(told).then(move |told| async move {
                    if fault == Fault::Tears {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    told
                })
            }
        });
        Ok(Box::pin(told.flatten()))
    }

    async fn acknowledge(&self, position: &Position) -> Result<()> {
        self.0.acknowledge(position).await
    }

    async fn head(&self) -> Result<Position> {
        self.0.head().await
    }

    fn covers(&self, position: &Position, token: &str) -> Result<bool> {
        self.0.covers(position, token)
    }

    fn resume(&self, order: u64, token: &str) -> Result<Position> {
        self.0.resume(order, token)
    }

    async fn status(&self) -> Result<FeedStatus> {
        self.0.status().await
    }
}

/// What a feed with a fault tells in the place of a transaction, the `number`th with changes. `held` is what it keeps back.
fn wrong(fault: Fault, number: usize, mut told: Transaction, held: &mut Option<Transaction>) -> Vec<Transaction> {
    match fault {
        Fault::Reorders => match held.take() {
            Some(mut before) => {
                std::mem::swap(&mut before.changes, &mut told.changes);
                vec![before, told]
            }
            None if told.changes.is_empty() => vec![told],
            None => {
                *held = Some(told);
                vec![]
            }
        },
        Fault::Tears if told.changes.len() > 1 => {
            let rest = told.changes.split_off(1);
            let position = Position::new(told.position.order() - 1, told.position.token());
            let first = Transaction { position, ..told.clone() };
            vec![first, Transaction { changes: rest, ..told }]
        }
        Fault::Loses if number.is_multiple_of(10) => vec![Transaction { changes: vec![], ..told }],
        Fault::Repeats if number.is_multiple_of(10) => {
            *held = Some(told.clone());
            vec![told]
        }
        Fault::Repeats => {
            let again = held.take().map(|held| held.changes).unwrap_or_default();
            told.changes.extend(again);
            vec![told]
        }
        Fault::IgnoresDependencies => vec![Transaction { depends_on: vec![], ..told }],
        Fault::Tears | Fault::Loses | Fault::AcknowledgesEarly => vec![told],
    }
}

async fn engine(services: &Services, options: ViewOptions, fault: Option<Fault>) -> Engine {
    let connectors = headwater_connectors::all().into_iter().map(|connector| Arc::new(Faulty(connector, fault)) as _);
    let connectors: Vec<Arc<dyn Connector>> = connectors.collect();
    Engine::builder().services_dir(services.manifests()).connectors(connectors).views(options).build().await.unwrap()
}

/// The bank in one Postgres, as `one.rs` plays it, and shorter.
async fn bank(fault: Option<Fault>, seed: u64) {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    // Each transaction has an epoch of its own: those that changed places within one would show nothing.
    let options = ViewOptions { epoch_rows: 1, ..options() };
    let engine = engine(&services, options, fault).await;
    create(&engine, &VIEWS).await;
    let names: Vec<&str> = VIEWS.iter().map(|(name, _)| *name).collect();
    let watch = Watch::views(&engine, &names);
    Writers::of_bank(&store, seed, 25).finish().await;
    agree(&engine, &[("bank", &store)], &VIEWS).await;
    watch.judge(&engine, check::bank).await;
    // A feed that the engine itself has caught in a lie is as red as one that the judge has.
    let error = feed(&engine, "bank", "last_error").await;
    assert_eq!(error, "NULL", "changes that do not fit");
}

/// The bank over three stores.
async fn across(fault: Option<Fault>, seed: u64) {
    let across = Across::new().await;
    let engine = engine(&across.services, options(), fault).await;
    create(&engine, &INSTALLED).await;
    let views = views();
    let views: Vec<(&str, &str)> = views.iter().map(|(name, query)| (*name, query.as_str())).collect();
    create(&engine, &views).await;
    let names: Vec<&str> = views.iter().map(|(name, _)| *name).collect();
    let watch = Watch::views(&engine, &names);
    across.writers(seed, 25).finish().await;
    agree(&engine, &across.stores(), &views).await;
    watch.judge(&engine, check::causal).await;
}

/// A crash with more read than stored.
async fn crash(fault: Option<Fault>, _seed: u64) {
    let mut databases = Databases::default();
    let (services, store) = databases.postgres(Services::new(), "bank", SCHEMA).await;
    let state = services.directory().join("state");
    let seldom = || ViewOptions { checkpoint_interval: Duration::from_secs(3600), ..options_with(&state) };
    let first = engine(&services, seldom(), fault).await;
    create(&first, &VIEWS).await;
    first.checkpoint().await.unwrap();
    let acknowledged = async || {
        databases
            .postgres
            .as_ref()
            .unwrap()
            .value("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()")
            .await
    };
    let stored = acknowledged().await;
    Writers::of_bank(&store, 1, 10).finish().await;
    agree(&first, &[("bank", &store)], &VIEWS).await;
    if fault.is_some() {
        wait::until("the source has forgotten", DEADLINE, async || acknowledged().await != stored).await;
    }
    drop(first);
    let again = engine(&services, seldom(), fault).await;
    for (name, _) in VIEWS {
        crate::follow::shown(&again, name).await;
    }
    agree(&again, &[("bank", &store)], &VIEWS).await;
    assert_eq!(feed(&again, "bank", "snapshots").await, "0", "it goes on from its checkpoint");
}

/// Whether a play goes red.
async fn is_red(play: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(play).catch_unwind().await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_that_reorders_tears_loses_or_repeats_is_found_by_the_bank() {
    let seed = seed();
    assert!(!is_red(bank(None, seed)).await, "red without a fault");
    for fault in [Fault::Reorders, Fault::Tears, Fault::Loses, Fault::Repeats] {
        assert!(is_red(bank(Some(fault), seed)).await, "{fault:?} is not found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_that_ignores_dependencies_is_found_by_the_bank_over_three_stores() {
    let seed = seed();
    assert!(!is_red(across(None, seed)).await, "red without a fault");
    assert!(is_red(across(Some(Fault::IgnoresDependencies), seed)).await, "credits before their debits are not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_that_acknowledges_early_is_found_by_a_crash() {
    assert!(!is_red(crash(None, 0)).await, "red without a fault");
    assert!(is_red(crash(Some(Fault::AcknowledgesEarly), 0)).await, "what was forgotten too early is not found");
}
