//! The stream of changes: reads the log's events and releases transactions once their commit was read.
//!
//! A task of its own reads, and stops when the stream is dropped. At most [`WAITING`] transactions are read ahead; then the server waits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use headwater_source::futures::stream;
use headwater_source::{Dependency, Error, Result, Transaction, TransactionStream};
use tokio::sync::mpsc;

use super::super::error::Site;
use super::super::wire::Failure;
use super::event::{GroupStart, Malformed, Query, Rows, TableMap, bytes, kind, rotate, uncompressed};
use super::log::{Event, Log};
use super::place::{Gtid, Place};
use super::rows::{Bad, Changes, Kind};
use super::statement::{Meaning, Name, meaning};
use super::tables::Followed;

/// So many transactions may wait to be read.
const WAITING: usize = 64;
/// How often the server says that it is there; see [`SILENCE`].
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// The table whose rows carry dependencies, in any database of a followed table, in its first column.
pub(super) const DEPENDS: &str = "headwater_depends";

/// What reads a log.
pub(super) struct Reader {
    pub(super) site: Site,
    pub(super) tables: Vec<Followed>,
    pub(super) place: Place,
    /// Whether the server takes names of tables that differ in case for one.
    pub(super) folds_names: bool,
    pub(super) maps: HashMap<u64, Mapped>,
    pub(super) group: Option<Group>,
}

/// What a table map's table is to us.
pub(super) enum Mapped {
    Followed(usize, Vec<(u8, [u8; 2])>),
    Depends(Vec<(u8, [u8; 2])>),
    Other,
}

/// A group of events of which the commit was not read yet.
pub(super) struct Group {
    start: GroupStart,
    server: u32,
    changes: Changes,
    depends_on: Vec<Dependency>,
}

/// How an event's content lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Compressed,
}

impl Form {
    fn open(self, content: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
        match self {
            Self::Plain => Ok(Cow::Borrowed(content)),
            Self::Compressed => uncompressed(content).map(Cow::Owned),
        }
    }
}

/// An event of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowsEvent {
    kind: Kind,
    version: usize,
    form: Form,
}

/// Which event of rows has a number; `None` where it is another event.
fn rows_event(number: u8) -> Option<RowsEvent> {
    [
        (kind::WRITE_ROWS, Kind::Write, Form::Plain),
        (kind::UPDATE_ROWS, Kind::Update, Form::Plain),
        (kind::DELETE_ROWS, Kind::Delete, Form::Plain),
        (kind::COMPRESSED_WRITE_ROWS, Kind::Write, Form::Compressed),
        (kind::COMPRESSED_UPDATE_ROWS, Kind::Update, Form::Compressed),
        (kind::COMPRESSED_DELETE_ROWS, Kind::Delete, Form::Compressed),
    ]
    .into_iter()
    .find_map(|(versions, kind, form)| {
        let version = versions.iter().position(|version| *version == number)? + 1;
        Some(RowsEvent { kind, version, form })
    })
}

type Sender = mpsc::Sender<Result<Transaction>>;

/// Reads until the stream is dropped or something fails.
pub(super) fn transactions(reader: Reader, log: Log) -> TransactionStream {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut reader = reader;
        if let Err(error) = reader.run(log, &sender).await {
            drop(sender.send(Err(error)).await);
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) }))
}

impl Reader {
    async fn run(&mut self, mut log: Log, sender: &Sender) -> Result<()> {
        loop {
            let event = tokio::select! {
                next = tokio::time::timeout(SILENCE, log.event()) => match next {
                    Ok(event) => event.map_err(|failure| self.lost(failure))?,
                    Err(_) => return Err(self.site.unavailable("the server says nothing any more")),
                },
                () = sender.closed() => return Ok(()),
            };
            if let Some(transaction) = self.take(&event)?
                && sender.send(Ok(transaction)).await.is_err()
            {
                return Ok(());
            }
        }
    }

    fn lost(&self, failure: Failure) -> Error {
        match failure {
            // The log cannot be read from there: purged, or never written.
            Failure::Server { code: 1236, message, .. } => self.gone(&message),
            failure => self.site.connecting(failure),
        }
    }

    fn gone(&self, reason: &str) -> Error {
        let wanted = self.place.position().token().to_owned();
        Error::HistoryGone { service: self.site.service.clone(), wanted, reason: reason.to_owned() }
    }

    /// Takes an event; a transaction where it ends one.
    fn take(&mut self, event: &Event) -> Result<Option<Transaction>> {
        let Event { kind: number, timestamp, server, end, ref body } = *event;
        match number {
            kind::GTID => {
                let start = GroupStart::read(body).map_err(|what| self.malformed(what))?;
                self.group = Some(Group { start, server, changes: Changes::default(), depends_on: vec![] });
                Ok(None)
            }
            kind::XID => self.commit(end, timestamp).map(Some),
            kind::QUERY => self.query(body, end, timestamp, Form::Plain),
            kind::COMPRESSED_QUERY => self.query(body, end, timestamp, Form::Compressed),
            kind::TABLE_MAP => self.map(body).map(|()| None),
            kind::ROTATE => self.rotate(body, end),
            kind::FORMAT_DESCRIPTION | kind::GTID_LIST | kind::BINLOG_CHECKPOINT | kind::HEARTBEAT => {
                Ok(self.idle(end))
            }
            // Of tables that are followed there was none in it.
            kind::XA_PREPARE => self.commit(end, timestamp).map(Some),
            kind::INCIDENT => Err(self.gone("the server has noted that events are missing from its log")),
            number => match rows_event(number) {
                Some(event) => self.rows(body, event),
                None => Ok(None),
            },
        }
    }

    /// A place between groups, at which nothing happened.
    fn idle(&mut self, end: u32) -> Option<Transaction> {
        if self.group.is_some() || end <= self.place.offset {
            return None;
        }
        self.place.offset = end;
        Some(self.nothing())
    }

    fn nothing(&self) -> Transaction {
        Transaction { position: self.place.position(), committed_us: None, depends_on: vec![], changes: vec![] }
    }

    fn rotate(&mut self, body: &[u8], end: u32) -> Result<Option<Transaction>> {
        let (offset, file) = rotate(body).map_err(|what| self.malformed(what))?;
        let file = String::from_utf8_lossy(file).trim_end_matches('\0').to_owned();
        self.maps.clear();
        if file == self.place.file {
            return Ok(None);
        }
        // The first of all rotations is said and not written: it repeats the file that was asked for.
        let mut next = self.place.clone();
        (next.file, next.offset) = (file, u32::try_from(offset).unwrap_or(u32::MAX));
        if Place::parse(next.position().token()).is_none() || next.position() <= self.place.position() {
            return Err(
                self.gone(&format!("its log goes on in \"{}\" after \"{}\" (at {end})", next.file, self.place.file))
            );
        }
        self.place = next;
        Ok(Some(self.nothing()))
    }

    fn commit(&mut self, end: u32, timestamp: u32) -> Result<Transaction> {
        let group = self.group.take().ok_or_else(|| self.malformed("a commit outside of a group"))?;
        if end <= self.place.offset {
            return Err(self.unsupported("a file of its log that is longer than 4 GiB; SET GLOBAL max_binlog_size = 1073741824, and commit less at once"));
        }
        self.place.offset = end;
        self.place.gtids.add(Gtid { domain: group.start.domain, server: group.server, number: group.start.number });
        let changes = group.changes.finish(&self.tables).map_err(|bad| self.bad(None, bad))?;
        Ok(Transaction {
            position: self.place.position(),
            committed_us: (timestamp > 0).then(|| i64::from(timestamp) * 1_000_000),
            depends_on: group.depends_on,
            changes,
        })
    }

    fn query(&mut self, body: &[u8], end: u32, timestamp: u32, form: Form) -> Result<Option<Transaction>> {
        let query = Query::read(body).map_err(|what| self.malformed(what))?;
        let database = String::from_utf8_lossy(query.database).into_owned();
        let text = form.open(query.text).map_err(|what| self.malformed(what))?;
        match meaning(&text) {
            Meaning::Commits => return self.commit(end, timestamp).map(Some),
            Meaning::RollsBack => {
                if let Some(group) = &mut self.group {
                    (group.changes, group.depends_on) = (Changes::default(), vec![]);
                }
                return self.commit(end, timestamp).map(Some);
            }
            Meaning::RollsBackPartly if self.group.as_ref().is_some_and(|group| !group.changes.is_empty()) => {
                return Err(self.unsupported(
                    "a rollback to a savepoint of a transaction that also wrote to a table without transactions",
                ));
            }
            Meaning::EndsPrepared => return self.commit(end, timestamp).map(Some),
            Meaning::Writes(names) if self.concern(&database, &names) => {
                return Err(self.unsupported(
                    "a statement in place of its rows; SET GLOBAL binlog_format = 'ROW', and let clients connect anew",
                ));
            }
            Meaning::Truncates(name) => {
                if let Some(index) = self.find(&database, &name) {
                    let table = &self.tables[index];
                    let truncated = self.group.as_mut().map(|group| group.changes.truncate(index, table));
                    truncated.transpose().map_err(|bad| self.bad(Some(index), bad))?;
                }
            }
            Meaning::Redefines(names) => {
                if let Some(index) = names.iter().find_map(|name| self.find(&database, name)) {
                    return Err(self.redefined(index));
                }
            }
            Meaning::DropsDatabase(dropped) => {
                if let Some(index) = self.tables.iter().position(|table| self.same(table.database(), &dropped)) {
                    return Err(self.redefined(index));
                }
            }
            Meaning::Begins | Meaning::RollsBackPartly | Meaning::Writes(_) | Meaning::Nothing => {}
        }
        match self.group.as_ref().is_some_and(|group| group.start.is_standalone()) {
            true => self.commit(end, timestamp).map(Some),
            false => Ok(None),
        }
    }

    fn same(&self, a: &str, b: &str) -> bool {
        a == b || self.folds_names && a.to_lowercase() == b.to_lowercase()
    }

    /// Whether names in a statement may be of tables that are followed. A table without a name in it may be written to by a trigger of one
    /// that has, in the same database.
    fn concern(&self, database: &str, names: &[Name]) -> bool {
        self.tables.iter().any(|table| {
            self.same(table.database(), database)
                || names.iter().any(|(qualifier, name)| {
                    self.same(table.name(), name)
                        || qualifier.as_ref().is_some_and(|qualifier| self.same(table.database(), qualifier))
                })
        })
    }

    fn find(&self, database: &str, (qualifier, name): &Name) -> Option<usize> {
        let database = qualifier.as_deref().unwrap_or(database);
        self.tables.iter().position(|table| self.same(table.database(), database) && self.same(table.name(), name))
    }

    fn map(&mut self, body: &[u8]) -> Result<()> {
        let TableMap { id, database, table, columns } = TableMap::read(body).map_err(|what| self.malformed(what))?;
        let (database, table) = (String::from_utf8_lossy(&database), String::from_utf8_lossy(&table));
        let mapped = match self.find(&database, &(None, table.clone().into_owned())) {
            Some(_) if self.group.as_ref().is_some_and(|group| group.start.is_prepared()) => {
                return Err(self.distributed());
            }
            Some(index) => {
                let followed = &self.tables[index];
                let fits = followed.forms.len() == columns.len()
                    && followed.forms.iter().zip(&columns).all(|(form, column)| form.fits(*column));
                if !fits {
                    let change = format!("its rows in the log have other columns: {columns:?}");
                    return Err(self.site.schema_changed(&followed.table.full_name(), change));
                }
                Mapped::Followed(index, columns)
            }
            None if table == DEPENDS && self.tables.iter().any(|table| self.same(table.database(), &database)) => {
                Mapped::Depends(columns)
            }
            None => Mapped::Other,
        };
        self.maps.insert(id, mapped);
        Ok(())
    }

    fn rows(&mut self, body: &[u8], event: RowsEvent) -> Result<Option<Transaction>> {
        let RowsEvent { kind: what, version, form } = event;
        // Which table it is stands before all else.
        let id = body.first_chunk::<6>().map(|[a, b, c, d, e, f]| u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]));
        let mapped = id.and_then(|id| self.maps.get(&id));
        if matches!(mapped, None | Some(Mapped::Other)) {
            return Ok(None);
        }
        let rows = Rows::read(body, version, what == Kind::Update).map_err(|what| self.malformed(what))?;
        let (Some(group), Some(mapped)) = (&mut self.group, self.maps.get(&rows.table)) else {
            return Err(self.malformed("rows outside of a group"));
        };
        match mapped {
            Mapped::Followed(index, columns) if rows.columns == columns.len() => {
                let (index, table) = (*index, &self.tables[*index]);
                let opened = form.open(rows.rows).map_err(Bad::Row);
                let taken = opened.and_then(|rows| group.changes.take(index, table, columns, what, &rows));
                taken.map_err(|bad| self.bad(Some(index), bad))?;
            }
            Mapped::Depends(columns) if what == Kind::Write => {
                let read = form.open(rows.rows).and_then(|opened| depends(columns, rows.columns, &opened));
                let depends_on = read.map_err(|what| self.depends_malformed(what))?;
                if let Some(group) = &mut self.group {
                    group.depends_on.extend(depends_on);
                }
            }
            Mapped::Depends(_) | Mapped::Other => {}
            Mapped::Followed(..) => return Err(self.malformed("rows of another number of columns than their table")),
        }
        Ok(None)
    }

    fn redefined(&self, index: usize) -> Error {
        self.site.schema_changed(&self.tables[index].table.full_name(), "its definition was altered")
    }

    fn distributed(&self) -> Error {
        self.unsupported("a transaction of XA, whose rows are logged before it is committed")
    }

    fn depends_malformed(&self, what: &str) -> Error {
        self.unsupported(&format!(
            "a transaction that says what it depends on by {what}; INSERT INTO {DEPENDS} VALUES ('{{\"service\": \"position\"}}')"
        ))
    }

    fn bad(&self, index: Option<usize>, bad: Bad) -> Error {
        match (index, bad) {
            (Some(index), Bad::Value(column, reason)) => {
                let table = &self.tables[index].table;
                Error::Value {
                    service: self.site.service.clone(),
                    table: table.full_name(),
                    column: table.columns[column].name.clone(),
                    data_type: table.columns[column].data_type.to_string(),
                    reason: format!("{reason}, in the first transaction with changes after {}", self.place.position()),
                }
            }
            (_, Bad::Row(what) | Bad::Value(_, what)) => self.malformed(what),
        }
    }

    fn malformed(&self, what: &str) -> Error {
        self.unsupported(what)
    }

    fn unsupported(&self, what: &str) -> Error {
        let reason = format!("its binary log has {what} (after {})", self.place.position());
        Error::Unsupported { service: self.site.service.clone(), reason }
    }
}

/// The texts in the rows of the table of dependencies: its first column. Whole numbers may stand beside it, such as a key by which a writer
/// deletes its own row and no other's.
fn depends(columns: &[(u8, [u8; 2])], count: usize, rows: &[u8]) -> Result<Vec<Dependency>, &'static str> {
    const OTHER: &str = "a table that is not a column of text, with or without whole numbers behind it";
    let Some(((kind, said), numbers)) = columns.split_first().filter(|_| columns.len() == count) else {
        return Err(OTHER);
    };
    let size = match kind {
        15 if u16::from_le_bytes(*said) < 256 => 1,
        15 => 2,
        252 => usize::from(said[0]),
        _ => return Err(OTHER),
    };
    let widths = numbers.iter().map(|(kind, _)| match kind {
        1 => Ok(1),
        2 => Ok(2),
        9 => Ok(3),
        3 => Ok(4),
        8 => Ok(8),
        _ => Err(OTHER),
    });
    let widths = widths.collect::<Result<Vec<usize>, _>>()?;
    let (mut rest, mut all) = (rows, vec![]);
    while !rest.is_empty() {
        let nulls = bytes(&mut rest, count.div_ceil(8))?;
        let is_null = |column: usize| nulls[column / 8] >> (column % 8) & 1 == 1;
        if is_null(0) {
            return Err("NULL");
        }
        let mut length = [0; 8];
        length.get_mut(..size).ok_or(OTHER)?.copy_from_slice(bytes(&mut rest, size)?);
        let text = bytes(&mut rest, usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))?;
        all.extend(crate::dependencies::parse(text)?);
        for (_, width) in widths.iter().enumerate().filter(|(column, _)| !is_null(column + 1)) {
            bytes(&mut rest, *width)?;
        }
    }
    Ok(all)
}
