//! The stream of changes: reads what the server sends and releases transactions once their commit was read.
//!
//! A task of its own holds the connection, so that the server hears of us while whoever reads is busy; it stops when the stream is
//! dropped. At most [`WAITING`] transactions are read ahead.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream;
use headwater_source::{Dependency, Error, Position, Result, TableDef, Transaction, TransactionStream};
use tokio::sync::{Notify, mpsc};

use super::super::answer::Fault;
use super::super::connect::{Connections, Purpose};
use super::super::decode::BadValue;
use super::super::error::Phase;
use super::super::field::EPOCH_MICROS;
use super::super::input;
use super::super::wire::Wire;
use super::lsn;
use super::message::{Message, Relation, Sent, message, sent};
use super::rows::{Changes, Numbered};
use super::tables::{Followed, Reading, followed};

/// So many transactions may wait to be read.
const WAITING: usize = 64;
/// How often the server hears of us, and the tables are looked at, where nothing else gives cause.
const TICK: Duration = Duration::from_secs(5);
/// The prefix of messages that carry dependencies.
const WORD: &[u8] = b"headwater";

/// What was acknowledged, for the task that reads.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    place: AtomicU64,
    changed: Notify,
}

impl Acknowledged {
    pub(super) fn raise(&self, place: u64) {
        if self.place.fetch_max(place, Ordering::AcqRel) < place {
            self.changed.notify_one();
        }
    }
}

/// A connection on which the server sends changes, and all that is needed to read them.
pub(super) struct Reader {
    pub(super) wire: Wire,
    pub(super) connections: Arc<Connections>,
    pub(super) acknowledged: Arc<Acknowledged>,
    pub(super) tables: Vec<Followed>,
    pub(super) after: u64,
}

/// Reads until the stream is dropped or something fails.
pub(super) fn transactions(reader: Reader) -> TransactionStream {
    let (sender, receiver) = mpsc::channel(WAITING);
    let defs = reader.tables.iter().map(|table| Arc::new(table.table.clone())).collect();
    let state = State { open: None, defs, relations: HashMap::new(), looked_at: false, position: reader.after };
    tokio::spawn(async move {
        let mut running = Running { reader, state, idle: None };
        if let Err(error) = running.run(&sender).await {
            // Whoever dropped the stream needs no reason.
            drop(sender.send(Err(error)).await);
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) }))
}

struct Running {
    reader: Reader,
    state: State,
    /// A place before which there is nothing more to come, not told yet.
    idle: Option<u64>,
}

/// What is known of the stream so far.
struct State {
    defs: Vec<Arc<TableDef>>,
    /// Of each description that came: which table it is and how its changes are read, or that it is none of ours.
    relations: HashMap<u32, Option<(usize, Reading)>>,
    /// Whether a table was described since the catalog was asked last.
    looked_at: bool,
    open: Option<Open>,
    position: u64,
}

/// A transaction of which the commit was not read yet.
#[derive(Default)]
struct Open {
    changes: Changes,
    depends_on: Vec<Dependency>,
}

/// What a message means for whoever reads.
enum Step {
    Nothing,
    Commit(Transaction),
    Idle { end: u64, wants_answer: bool },
}

/// Why a message cannot be read.
enum Trouble {
    Fault(Fault),
    Value(usize, BadValue),
    Changed(String, String),
    Word(&'static str),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

type Sender = mpsc::Sender<Result<Transaction>>;

impl Running {
    async fn run(&mut self, sender: &Sender) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.drain(sender).await?;
            let acknowledged = Arc::clone(&self.reader.acknowledged);
            tokio::select! {
                filled = self.reader.wire.fill() => filled.map_err(|fault| self.failed(fault.into()))?,
                () = acknowledged.changed.notified() => self.report().await?,
                _ = tick.tick() => {
                    self.report().await?;
                    match self.look().await {
                        // All connections are in use; there is another tick.
                        Ok(()) | Err(Error::Timeout { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                permit = sender.reserve(), if self.idle.is_some() => {
                    if let (Ok(permit), Some(end)) = (permit, self.idle.take()) {
                        permit.send(Ok(self.nothing_until(end)));
                    }
                }
                () = sender.closed() => return Ok(()),
            }
        }
    }

    /// Takes every message that is there.
    async fn drain(&mut self, sender: &Sender) -> Result<()> {
        loop {
            let step = self.step().map_err(|trouble| self.failed(trouble))?;
            match step {
                None => return Ok(()),
                Some(Step::Nothing) => {}
                Some(Step::Idle { end, wants_answer }) => {
                    if end > self.state.position {
                        self.idle = Some(end);
                    }
                    if wants_answer {
                        self.report().await?;
                    }
                }
                Some(Step::Commit(transaction)) => {
                    if std::mem::take(&mut self.state.looked_at) {
                        self.look().await?;
                    }
                    self.idle = None;
                    if !self.release(transaction, sender).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Result<Option<Step>, Trouble> {
        let Reader { wire, tables, .. } = &mut self.reader;
        while let Some((tag, body)) = input::next(&mut wire.input)? {
            if !wire.takes(tag, &body)? {
                continue;
            }
            return match tag {
                b'd' => self.state.take(wire.input.body(body), tables).map(Some),
                b'c' | b'C' => Err(Fault::Malformed("an end of its changes").into()),
                _ => Err(Fault::Malformed("something that is no change").into()),
            };
        }
        Ok(None)
    }

    /// Hands a transaction on, telling the server of us while that takes time; whether anybody still reads.
    async fn release(&mut self, transaction: Transaction, sender: &Sender) -> Result<bool> {
        loop {
            tokio::select! {
                permit = sender.reserve() => {
                    let Ok(permit) = permit else { return Ok(false) };
                    permit.send(Ok(transaction));
                    return Ok(true);
                }
                () = tokio::time::sleep(TICK) => self.report().await?,
            }
        }
    }

    fn nothing_until(&mut self, end: u64) -> Transaction {
        self.state.position = end;
        Transaction {
            position: Position::new(end, lsn::printed(end)),
            committed_us: None,
            depends_on: vec![],
            changes: vec![],
        }
    }

    /// Tells the server what was acknowledged, and that we are there: a status update with three places, our clock, and no wish for an answer.
    async fn report(&mut self) -> Result<()> {
        let place = self.reader.acknowledged.place.load(Ordering::Acquire).to_be_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_micros()).unwrap_or_default();
        let clock = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(EPOCH_MICROS).to_be_bytes();
        let update = [&b"r"[..], &place, &place, &place, &clock, &[0]].concat();
        let told = self.reader.wire.send_copy(&update).await;
        told.map_err(|fault| self.failed(fault.into()))
    }

    /// Sees that the catalog's tables are still those that are followed.
    async fn look(&mut self) -> Result<()> {
        let defs: Vec<TableDef> = self.state.defs.iter().map(|table| TableDef::clone(table)).collect();
        let connections = &self.reader.connections;
        // Not one of those that statements wait for.
        let mut lease = connections.lease_for(Purpose::Snapshot).await?;
        let now = followed(&mut lease, &connections.place, &defs).await?;
        lease.release();
        for (then, now) in self.reader.tables.iter().zip(now) {
            if then.print != now.print {
                let change = "its columns were altered".to_owned();
                return Err(connections.place.changed(&then.table.full_name(), change));
            }
        }
        Ok(())
    }

    fn failed(&self, trouble: Trouble) -> Error {
        let place = &self.reader.connections.place;
        match trouble {
            Trouble::Fault(fault) => super::gone(place, &lsn::printed(self.state.position), fault, |fault| {
                place.statement("", Phase::Starting, std::time::Instant::now(), fault)
            }),
            Trouble::Value(table, BadValue { column, data_type, reason }) => {
                let table = self.state.defs[table].full_name();
                let after = lsn::printed(self.state.position);
                let reason = format!("{reason}, in the first transaction with changes after {after}");
                Error::Value { service: place.service.clone(), table, column, data_type, reason }
            }
            Trouble::Changed(table, change) => place.changed(&table, change),
            Trouble::Word(what) => place.unsupported(format!(
                "the first transaction with changes after {} says what it depends on by {what}; write \
                 pg_logical_emit_message(true, 'headwater', '{{\"service\": \"position\"}}')",
                lsn::printed(self.state.position)
            )),
        }
    }
}

impl State {
    fn take(&mut self, body: &[u8], tables: &[Followed]) -> Result<Step, Trouble> {
        let change = match sent(body)? {
            // Of a transaction that is being sent the server says nothing here.
            Sent::Keepalive { end, wants_answer } => {
                let end = if self.open.is_some() { 0 } else { end };
                return Ok(Step::Idle { end, wants_answer });
            }
            Sent::Change(change) => message(change)?,
        };
        match change {
            Message::Begin => self.open = Some(Open::default()),
            Message::Commit { end, committed_us } => return self.commit(end, committed_us),
            Message::Relation(relation) => self.describe(&relation, tables)?,
            Message::Insert { relation, new } => {
                self.change(relation, |changes, table| changes.insert(table, new))?;
            }
            Message::Update { relation, old, new } => {
                self.change(relation, |changes, table| changes.update(table, old, new))?;
            }
            Message::Delete { relation, old } => self.change(relation, |changes, table| changes.delete(table, old))?,
            Message::Truncate { relations } => {
                for relation in relations {
                    self.change(relation, |changes, table| changes.truncate(table.index))?;
                }
            }
            Message::Word { transactional: true, prefix: WORD, content } => {
                let depends_on = dependencies(content)?;
                self.open()?.depends_on.extend(depends_on);
            }
            Message::Word { .. } | Message::Other => {}
        }
        Ok(Step::Nothing)
    }

    fn open(&mut self) -> Result<&mut Open, Fault> {
        self.open.as_mut().ok_or(Fault::Malformed("a change outside of a transaction"))
    }

    fn commit(&mut self, end: u64, committed_us: i64) -> Result<Step, Trouble> {
        let open = self.open.take().ok_or(Fault::Malformed("a commit outside of a transaction"))?;
        if end <= self.position {
            return Err(Fault::Malformed("a transaction that was sent before").into());
        }
        self.position = end;
        let Open { changes, depends_on } = open;
        let changes = changes.finish().map_err(|(table, bad)| Trouble::Value(table, bad))?;
        let position = Position::new(end, lsn::printed(end));
        Ok(Step::Commit(Transaction { position, committed_us: Some(committed_us), depends_on, changes }))
    }

    fn describe(&mut self, relation: &Relation, tables: &[Followed]) -> Result<(), Trouble> {
        let named = |table: &Followed| table.table.path == [relation.schema.as_str(), relation.name.as_str()];
        let index = tables.iter().position(|table| table.oid == relation.oid);
        let Some(index) = index.or_else(|| tables.iter().position(named)) else {
            self.relations.insert(relation.oid, None);
            return Ok(());
        };
        let reading = tables[index].reading(relation);
        let reading = reading.map_err(|change| Trouble::Changed(tables[index].table.full_name(), change))?;
        self.relations.insert(relation.oid, Some((index, reading)));
        self.looked_at = true;
        Ok(())
    }

    fn change(
        &mut self,
        relation: u32,
        apply: impl FnOnce(&mut Changes, &Numbered<'_>) -> Result<(), BadValue>,
    ) -> Result<(), Trouble> {
        let known =
            self.relations.get(&relation).ok_or(Fault::Malformed("a change of a table that it never described"))?;
        let Some((index, reading)) = known else { return Ok(()) };
        let open = self.open.as_mut().ok_or(Fault::Malformed("a change outside of a transaction"))?;
        let table = Numbered { index: *index, table: &self.defs[*index], reading };
        apply(&mut open.changes, &table).map_err(|bad| Trouble::Value(*index, bad))
    }
}

/// An object of texts: services and positions of their feeds.
fn dependencies(content: &[u8]) -> Result<Vec<Dependency>, Trouble> {
    crate::dependencies::parse(content).map_err(Trouble::Word)
}
