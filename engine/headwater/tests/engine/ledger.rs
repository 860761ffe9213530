//! A source of the tests' own with a feed: tables in memory, a log of transactions, and everything that a source may do to who follows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use headwater::{Engine, EngineBuilder, ServiceName, Tables, ViewOptions};
use headwater_source::{
    BatchStream, Capabilities, Change, ColumnDef, Dependency, Error, Feed, FeedClass, FeedStatus, Lack, Position,
    RemoteStatement, Result, RowChanges, RowOp, Scan, ScanRequest, Source, TableChange, TableDef, TablesAt,
    Transaction, TransactionStream, ValueClass, async_trait, futures,
};
use parking_lot::Mutex;
use tokio::sync::watch;

const CAPABILITIES: Capabilities = Capabilities::new("ledger", &[]);

/// Tables `(id, amount)` of one service.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    service: ServiceName,
    state: Arc<Mutex<State>>,
    moved: Arc<watch::Sender<u64>>,
    has_feed: bool,
}

/// What happened to a row: its table, its id, and its amount where it came.
type Told = (String, i64, Option<i64>);

type Entry = (Position, Vec<Dependency>, Vec<Told>);

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, BTreeMap<i64, i64>>,
    /// Transactions after the acknowledged ones.
    log: Vec<Entry>,
    position: u64,
    acknowledged: u64,
    snapshots: usize,
    removed: usize,
    down: bool,
    /// Counts disconnections, which end the streams that are open.
    cut: u64,
}

impl Ledger {
    pub(crate) fn new(service: &str, tables: &[&str]) -> Self {
        let state = State {
            tables: tables.iter().map(|name| ((*name).to_owned(), BTreeMap::new())).collect(),
            ..State::default()
        };
        Self {
            service: ServiceName::parse(service).unwrap(),
            state: Arc::new(Mutex::new(state)),
            moved: Arc::new(watch::Sender::new(0)),
            has_feed: true,
        }
    }

    /// The same ledger without its feed.
    pub(crate) fn without_feed(mut self) -> Self {
        self.has_feed = false;
        self
    }

    /// An engine over some ledgers.
    pub(crate) async fn engine(ledgers: &[&Ledger], views: ViewOptions) -> Engine {
        Self::builder(ledgers).views(views).build().await.unwrap()
    }

    pub(crate) fn builder(ledgers: &[&Ledger]) -> EngineBuilder {
        let add = |builder: EngineBuilder, ledger: &&Ledger| {
            builder.source(ledger.service.as_str(), Arc::new((*ledger).clone()), Tables::All)
        };
        ledgers.iter().fold(Engine::builder(), add)
    }

    /// A transaction: rows by their ids, `None` for one that goes. Its token.
    pub(crate) fn commit(&self, changes: &[(&str, i64, Option<i64>)]) -> String {
        self.commit_after(changes, vec![])
    }

    pub(crate) fn commit_after(&self, changes: &[(&str, i64, Option<i64>)], depends_on: Vec<Dependency>) -> String {
        let mut state = self.state.lock();
        state.position += 1;
        let mut told = Vec::new();
        for (table, id, amount) in changes {
            let rows = state.tables.get_mut(*table).expect("a table of the ledger");
            if rows.remove(id).is_some() {
                told.push(((*table).to_owned(), *id, None));
            }
            if let Some(amount) = amount {
                rows.insert(*id, *amount);
                told.push(((*table).to_owned(), *id, Some(*amount)));
            }
        }
        let token = state.position.to_string();
        let position = Position::new(state.position, token.as_str());
        state.log.push((position, depends_on, told));
        drop(state);
        self.moved.send_modify(|moved| *moved += 1);
        token
    }

    pub(crate) fn take_down(&self) {
        let mut state = self.state.lock();
        state.down = true;
        state.cut += 1;
        drop(state);
        self.moved.send_modify(|moved| *moved += 1);
    }

    pub(crate) fn bring_back(&self) {
        self.state.lock().down = false;
    }

    /// Ends what is being read, as a network does.
    pub(crate) fn cut_streams(&self) {
        self.state.lock().cut += 1;
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Forgets the log, acknowledged or not.
    pub(crate) fn forget_history(&self) {
        let mut state = self.state.lock();
        state.log.clear();
        state.acknowledged = state.position;
    }

    pub(crate) fn snapshots(&self) -> usize {
        self.state.lock().snapshots
    }

    /// How often its feed was taken away.
    pub(crate) fn removed(&self) -> usize {
        self.state.lock().removed
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.state.lock().acknowledged
    }

    pub(crate) fn total(&self, table: &str) -> i64 {
        self.state.lock().tables[table].values().sum()
    }

    fn unless_down(&self) -> Result<()> {
        match self.state.lock().down {
            false => Ok(()),
            true => Err(self.unavailable()),
        }
    }

    fn unavailable(&self) -> Error {
        let cause = "the ledger was taken away".into();
        Error::Unavailable { service: self.service.clone(), location: self.location(), cause }
    }

    fn rows(&self, table: &str) -> RecordBatch {
        let state = self.state.lock();
        let (ids, amounts): (Vec<i64>, Vec<i64>) =
            state.tables[table].iter().map(|(id, amount)| (*id, *amount)).unzip();
        let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(ids)), Arc::new(Int64Array::from(amounts))];
        RecordBatch::try_new(definition(table).schema(), columns).unwrap()
    }
}

fn definition(name: &str) -> TableDef {
    let column = |name: &str| ColumnDef::new(name, DataType::Int64, "integer", ValueClass::Integer);
    TableDef::new([name], vec![column("id").not_null(), column("amount")]).with_key(["id"])
}

#[async_trait]
impl Source for Ledger {
    fn location(&self) -> String {
        format!("ledger of {}", self.service)
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.unless_down()?;
        Ok(self.state.lock().tables.keys().map(|name| definition(name)).collect())
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.unless_down()?;
        let known: Vec<String> = self.state.lock().tables.keys().cloned().collect();
        match known.iter().any(|name| name == from) {
            true => Ok(definition(from)),
            false => Err(Error::TableNotFound { service: self.service.clone(), table: from.to_owned(), known }),
        }
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.unless_down()?;
        let statement = RemoteStatement { text: request.table.name.clone(), binds: vec![] };
        Ok(Arc::new(LedgerScan { ledger: self.clone(), request, statement }))
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.has_feed.then(|| Arc::new(self.clone()) as Arc<dyn Feed>)
    }
}

#[derive(Debug)]
struct LedgerScan {
    ledger: Ledger,
    request: ScanRequest,
    statement: RemoteStatement,
}

#[async_trait]
impl Scan for LedgerScan {
    fn statement(&self) -> &RemoteStatement {
        &self.statement
    }

    async fn open(&self, _: usize) -> Result<BatchStream> {
        self.ledger.unless_down()?;
        let rows = self.ledger.rows(&self.request.table.name).project(&self.request.projection).unwrap();
        Ok(Box::pin(futures::stream::iter([Ok(rows)])))
    }
}

#[async_trait]
impl Feed for Ledger {
    fn mode(&self) -> &'static str {
        "ledger"
    }

    fn class(&self) -> FeedClass {
        FeedClass::Transactional
    }

    async fn check(&self, _: &[TableDef]) -> Result<Vec<Lack>> {
        Ok(vec![])
    }

    async fn install(&self, _: &[TableDef]) -> Result<()> {
        self.unless_down()
    }

    async fn remove(&self) -> Result<Vec<String>> {
        self.state.lock().removed += 1;
        Ok(vec!["nothing, but for the tests".to_owned()])
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        self.unless_down()?;
        let rows: Vec<RecordBatch> = tables.iter().map(|table| self.rows(&table.name)).collect();
        let mut state = self.state.lock();
        state.snapshots += 1;
        let position = Position::new(state.position, state.position.to_string());
        let stream = |rows| Box::pin(futures::stream::iter([Ok(rows)])) as BatchStream;
        Ok(TablesAt { position, tables: rows.into_iter().map(stream).collect() })
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        self.unless_down()?;
        let (acknowledged, cut) = {
            let state = self.state.lock();
            (state.acknowledged, state.cut)
        };
        if after.order() < acknowledged {
            return Err(Error::HistoryGone {
                service: self.service.clone(),
                wanted: after.to_string(),
                reason: "the ledger has forgotten it".to_owned(),
            });
        }
        let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
        let (ledger, moved) = (self.clone(), self.moved.subscribe());
        let begin = (ledger, moved, names, after.order());
        let stream = futures::stream::try_unfold(begin, move |(ledger, mut moved, names, after)| async move {
            loop {
                moved.mark_unchanged();
                let next = {
                    let state = ledger.state.lock();
                    if state.cut != cut {
                        drop(state);
                        return Err(ledger.unavailable());
                    }
                    state.log.iter().find(|(position, ..)| position.order() > after).cloned()
                };
                if let Some((position, depends_on, changes)) = next {
                    let after = position.order();
                    let changes = changes.iter().filter_map(|change| told(&names, change)).collect();
                    let transaction = Transaction { position, committed_us: None, depends_on, changes };
                    return Ok(Some((transaction, (ledger, moved, names, after))));
                }
                // The sender lives as long as the ledger, which is held here.
                let _ = moved.changed().await;
            }
        });
        Ok(Box::pin(stream))
    }

    async fn acknowledge(&self, position: &Position) -> Result<()> {
        let mut state = self.state.lock();
        state.acknowledged = state.acknowledged.max(position.order());
        let acknowledged = state.acknowledged;
        state.log.retain(|(position, ..)| position.order() > acknowledged);
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        self.unless_down()?;
        let state = self.state.lock();
        Ok(Position::new(state.position, state.position.to_string()))
    }

    fn covers(&self, position: &Position, token: &str) -> Result<bool> {
        let wrong = || Error::Config { reason: format!("\"{token}\" is no position of a ledger") };
        Ok(position.order() >= token.parse::<u64>().map_err(|_| wrong())?)
    }

    async fn status(&self) -> Result<FeedStatus> {
        Ok(FeedStatus { retained_bytes: Some(self.state.lock().log.len() as u64), oldest: None })
    }
}

fn told(names: &[String], (table, id, amount): &Told) -> Option<TableChange> {
    let table = names.iter().position(|name| name == table)?;
    let columns: Vec<Arc<dyn Array>> =
        vec![Arc::new(Int64Array::from(vec![*id])), Arc::new(Int64Array::from(vec![*amount]))];
    let fields = ["id", "amount"].map(|name| Field::new(name, DataType::Int64, true));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap();
    let ops = vec![if amount.is_some() { RowOp::Insert } else { RowOp::DeleteKey }];
    Some(TableChange { table, change: Change::Rows(RowChanges { rows, ops, kept: vec![] }) })
}
