//! Changes by logical replication: `feed: {mode: logical}`.
//!
//! A service has one slot and one publication of the same name, for all of its tables. The server keeps its log from the slot on until it is
//! acknowledged. Rows come by the plugin pgoutput, which every server has, printed as text; a transaction comes whole once it has
//! committed, and never when it was rolled back.
//!
//! A position is the end of a commit in the log, or a place up to which the log holds nothing for us. A snapshot's position is exact:
//! a temporary slot exports the state of the database at the place where it begins.

mod lsn;
mod message;
mod needs;
mod rows;
mod slot;
mod tables;
mod text;
mod transactions;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{TryStreamExt, stream};
use headwater_source::{
    BatchStream, Error, Feed, FeedClass, FeedDef, FeedOptions, FeedStatus, Lack, OptionDef, OptionKind, Position,
    Result, Scan, ScanRequest, ServiceName, Snapshot, TableDef, TablesAt, TransactionStream, async_trait,
};

use super::answer::Fault;
use super::connect::Connections;
use super::discover::failed;
use super::error::{Phase, Place};
use super::scan::PostgresScan;
use super::snapshot::Exported;
use transactions::{Acknowledged, Reader, transactions};

/// The feeds of a Postgres.
pub(super) const FEEDS: &[FeedDef] = &[FeedDef { mode: MODE, options: OPTIONS, doc: "Logical replication." }];

const MODE: &str = "logical";

const OPTIONS: &[OptionDef] = &[OptionDef {
    name: "slot",
    kind: OptionKind::Text,
    required: false,
    doc: "The name of the replication slot and of the publication: a-z, 0-9 and _. Default headwater_ and the service's name.",
}];

/// The longest name of a slot, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Room for what tells a temporary slot from others.
const SUFFIX_BYTES: usize = 24;
/// How long a slot may still be in use by a reader that has just gone.
const SLOT_WAIT: Duration = Duration::from_secs(20);
/// Between two tries to use it.
const SLOT_PAUSE: Duration = Duration::from_millis(50);

/// The changes of one database, for one service.
pub(super) struct PostgresFeed {
    connections: Arc<Connections>,
    /// Of the slot and of the publication.
    name: String,
    acknowledged: Arc<Acknowledged>,
}

impl PostgresFeed {
    /// Reads the options.
    pub(super) fn new(connections: Arc<Connections>, service: &ServiceName, options: &FeedOptions) -> Result<Self> {
        let name = match options.options.text("slot") {
            Some(name) => name.to_owned(),
            None => format!("headwater_{service}"),
        };
        let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !fits || name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::config(format!(
                "the slot's name {name:?} must hold only a-z, 0-9 and _, at most {NAME_BYTES_MAX} of them; set \"slot\" in \"feed\""
            )));
        }
        Ok(Self { connections, name, acknowledged: Arc::default() })
    }

    fn place(&self) -> &Place {
        &self.connections.place
    }

    /// An error of a command.
    fn refused(&self, fault: Fault) -> Error {
        self.place().statement("", Phase::Starting, Instant::now(), fault)
    }

    /// A name that no other slot has.
    fn passing_name(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_micros()).unwrap_or_default();
        let own = format!("_{:x}_{:x}", micros & 0xffff_ffff_ffff, NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff);
        let room = NAME_BYTES_MAX - SUFFIX_BYTES;
        format!("{}{own}", &self.name[..self.name.len().min(room)])
    }
}

impl fmt::Debug for PostgresFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresFeed({} at {})", self.name, self.place().location)
    }
}

#[async_trait]
impl Feed for PostgresFeed {
    fn mode(&self) -> &'static str {
        MODE
    }

    fn class(&self) -> FeedClass {
        FeedClass::Transactional
    }

    async fn check(&self, tables: &[TableDef]) -> Result<Vec<Lack>> {
        let mut lease = self.connections.lease().await?;
        let lacks = needs::lacks(&mut lease, self.place(), &self.name, tables).await?;
        lease.release();
        Ok(lacks)
    }

    async fn install(&self, tables: &[TableDef]) -> Result<()> {
        let mut lease = self.connections.lease().await?;
        let lacks = needs::lacks(&mut lease, self.place(), &self.name, tables).await?;
        if let Some(Lack { what, remedy }) = lacks.first() {
            lease.release();
            return Err(self.place().unsupported(format!("{what}; {remedy}")));
        }
        let published = slot::publish(&mut lease, self.place(), &self.name, tables).await;
        match published {
            Ok(()) => lease.release(),
            Err(error) => {
                lease.recover().await;
                return Err(error);
            }
        }
        self.make_slot().await
    }

    async fn remove(&self) -> Result<Vec<String>> {
        let mut lease = self.connections.lease().await?;
        let removed = slot::remove(&mut lease, self.place(), &self.name).await;
        match removed {
            Ok(_) => lease.release(),
            Err(_) => lease.recover().await,
        }
        removed
    }

    async fn snapshot(&self, tables: &[TableDef]) -> Result<TablesAt> {
        let mut wire = self.connections.replication().await?;
        let name = self.passing_name();
        let command = format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT");
        let rows = wire.command(&command).await.map_err(|fault| self.refused(fault))?;
        let column = |index: usize| rows.first().and_then(|row| row.get(index).cloned().flatten());
        let (Some(place), Some(snapshot)) = (column(1).and_then(|text| lsn::parse(&text)), column(2)) else {
            return Err(self.refused(Fault::Malformed("no snapshot of a slot")));
        };
        self.check_slot(place).await?;
        self.check_published(tables, place).await?;
        let exported = Arc::new(Exported::of_slot(snapshot, wire).map_err(|fault| self.refused(fault))?);
        let table = |table: &TableDef| {
            let request = ScanRequest::all(Arc::new(table.clone()));
            let scan = PostgresScan::of_table(Arc::clone(&self.connections), request)?;
            Ok(at(scan, Arc::clone(&exported)))
        };
        let tables = tables.iter().map(table).collect::<Result<Vec<_>>>()?;
        Ok(TablesAt { position: Position::new(place, lsn::printed(place)), tables })
    }

    async fn changes(&self, tables: &[TableDef], after: &Position) -> Result<TransactionStream> {
        let place = self.place();
        let mut lease = self.connections.lease().await?;
        let tables = tables::followed(&mut lease, place, tables).await?;
        let publication = slot::published(&mut lease, place, &self.name).await?;
        lease.release();
        for table in &tables {
            slot::check_published(place, &publication, table, after.token())?;
        }
        let deadline = Instant::now() + SLOT_WAIT;
        loop {
            self.check_slot(after.order()).await?;
            let mut wire = self.connections.replication().await?;
            let command = slot::start(&self.name, after.order(), publication.carries_words);
            match wire.copy_both(&command).await {
                Ok(()) => {
                    let (connections, acknowledged) = (Arc::clone(&self.connections), Arc::clone(&self.acknowledged));
                    return Ok(transactions(Reader { wire, connections, acknowledged, tables, after: after.order() }));
                }
                // Whoever read before may be gone without the server knowing it yet.
                Err(Fault::Server(error)) if error.code == "55006" && Instant::now() < deadline => {
                    drop(wire);
                    tokio::time::sleep(SLOT_PAUSE).await;
                }
                Err(fault) => return Err(gone(place, after.token(), fault, |fault| self.refused(fault))),
            }
        }
    }

    async fn acknowledge(&self, position: &Position) -> Result<()> {
        self.acknowledged.raise(position.order());
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        let mut lease = self.connections.lease().await?;
        let rows = lease.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await;
        let rows = rows.map_err(|fault| failed(self.place(), fault))?;
        lease.release();
        let text = rows.first().map(|row| row.get::<String>(0)).transpose();
        let text = text.map_err(|fault| failed(self.place(), fault))?.unwrap_or_default();
        let place = lsn::parse(&text).ok_or_else(|| self.refused(Fault::Malformed("no place in its log")))?;
        let place = lsn::end_before(place);
        Ok(Position::new(place, lsn::printed(place)))
    }

    fn covers(&self, position: &Position, token: &str) -> Result<bool> {
        let place = lsn::parse(token).ok_or_else(|| {
            self.place()
                .unsupported("a token that is no place in a Postgres log; pg_current_wal_insert_lsn() gives one")
        })?;
        Ok(position.order() >= lsn::end_before(place))
    }

    async fn status(&self) -> Result<FeedStatus> {
        let mut lease = self.connections.lease().await?;
        let found = slot::find(&mut lease, self.place(), &self.name).await?;
        lease.release();
        Ok(found.map_or_else(FeedStatus::default, |slot| FeedStatus {
            retained_bytes: slot.retained_bytes,
            oldest: slot.confirmed.map(lsn::printed),
        }))
    }
}

impl PostgresFeed {
    /// Makes the slot where there is none. That waits for the transactions that are open at the server.
    async fn make_slot(&self) -> Result<()> {
        let mut lease = self.connections.lease().await?;
        let found = slot::find(&mut lease, self.place(), &self.name).await?;
        lease.release();
        if let Some(slot) = found {
            return match slot.lost {
                None => Ok(()),
                Some(_) => self.renew_slot().await,
            };
        }
        let mut wire = self.connections.replication().await?;
        let command = format!("CREATE_REPLICATION_SLOT \"{}\" LOGICAL pgoutput NOEXPORT_SNAPSHOT", self.name);
        match wire.command(&command).await {
            // Somebody made it meanwhile.
            Err(Fault::Server(error)) if error.code == "42710" => Ok(()),
            made => made.map(|_| ()).map_err(|fault| self.refused(fault)),
        }
    }

    /// A slot that the server has invalidated serves nothing any more; what was read up to it is loaded anew.
    async fn renew_slot(&self) -> Result<()> {
        let mut lease = self.connections.lease().await?;
        slot::drop_slot(&mut lease, self.place(), &self.name).await?;
        lease.release();
        Box::pin(self.make_slot()).await
    }

    /// Sees that tables are published from a place on.
    async fn check_published(&self, tables: &[TableDef], after: u64) -> Result<()> {
        let mut lease = self.connections.lease().await?;
        let tables = tables::followed(&mut lease, self.place(), tables).await?;
        let publication = slot::published(&mut lease, self.place(), &self.name).await?;
        lease.release();
        tables
            .iter()
            .try_for_each(|table| slot::check_published(self.place(), &publication, table, &lsn::printed(after)))
    }

    /// Sees that the slot is there and can be read on from a place.
    async fn check_slot(&self, after: u64) -> Result<()> {
        let place = self.place();
        let mut lease = self.connections.lease().await?;
        let found = slot::find(&mut lease, place, &self.name).await?;
        lease.release();
        let gone = |reason: String| {
            let wanted = lsn::printed(after);
            Err(Error::HistoryGone { service: place.service.clone(), wanted, reason })
        };
        match found {
            None => gone(format!("there is no replication slot \"{}\"", self.name)),
            Some(slot) if slot.lost.is_some() => {
                let how = slot.lost.unwrap_or_default();
                gone(format!("replication slot \"{}\" is {how}: the server has removed its log", self.name))
            }
            Some(slot) if slot.confirmed.is_some_and(|confirmed| confirmed > after) => {
                let confirmed = slot.confirmed.map(lsn::printed).unwrap_or_default();
                gone(format!("replication slot \"{}\" begins at {confirmed}", self.name))
            }
            Some(_) => Ok(()),
        }
    }
}

/// A table's rows at an exported snapshot, which is held until they are asked for.
fn at(scan: PostgresScan, exported: Arc<Exported>) -> BatchStream {
    let opened = async move { scan.open_for(0, &Snapshot::new(exported).into()).await };
    Box::pin(stream::once(opened).try_flatten())
}

/// An error of the stream: history that is gone, or another.
fn gone(place: &Place, after: &str, fault: Fault, other: impl FnOnce(Fault) -> Error) -> Error {
    match fault {
        // A slot or a publication that is not there; a slot in no state to be read; a file of the log that was removed.
        Fault::Server(error) if ["42704", "55000", "58P01"].contains(&error.code.as_str()) => {
            Error::HistoryGone { service: place.service.clone(), wanted: after.to_owned(), reason: error.to_string() }
        }
        fault => other(fault),
    }
}
