//! Reads the log from a number on, and the rows that it names, in one transaction: what many commits did together.

use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use headwater_source::{
    Change, Dependency, Error, Position, Result, RowChanges, RowOp, ServiceName, TableChange, Transaction,
};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, Connection, params_from_iter};

use super::super::decode::ColumnBuilder;
use super::super::error::Stage;
use super::super::{catalog, misfit};
use super::log::{DEPENDS, Names, Watched, quoted};

/// A batch of changes ends when it holds so many rows.
const BATCH_ROWS: usize = 65_536;
/// How many bytes of text and blobs end it before.
const BATCH_BYTES: usize = 16 << 20;

/// What is followed.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) service: ServiceName,
    pub(super) names: Names,
    pub(super) tables: Vec<Watched>,
    /// The version of the file's schema at which the tables were looked at last.
    pub(super) looked_at: Option<i64>,
}

/// An error of SQLite, or one of ours.
pub(super) enum Trouble {
    Sqlite(Stage<'static>, rusqlite::Error),
    Told(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Stage::Prepare, error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

/// The rows of one table that were touched, in the order in which each was first.
#[derive(Default)]
struct Touched {
    seen: HashMap<Vec<u8>, ()>,
    rows: Vec<(Vec<Value>, bool)>,
}

impl Followed {
    /// What was committed after a number; `None` where nothing was. Runs inside of a transaction that reads.
    pub(super) fn read(&mut self, connection: &Connection, after: i64) -> Result<Option<Transaction>, Trouble> {
        self.look(connection, after)?;
        let last = self.names.ends(connection)?.map_or(0, |(_, last)| last);
        if last <= after {
            return Ok(None);
        }
        let (touched, depends_on) = self.touched(connection, after)?;
        let mut changes = vec![];
        for (table, touched) in touched.into_iter().enumerate() {
            let rows = self.changes(connection, &self.tables[table], touched)?;
            changes.extend(rows.into_iter().map(|rows| TableChange { table, change: Change::Rows(rows) }));
        }
        Ok(Some(Transaction { position: position(last), committed_us: None, depends_on, changes }))
    }

    /// Sees that the log can be read on from a number, and that the tables and their triggers are as they must be.
    pub(super) fn look(&mut self, connection: &Connection, after: i64) -> Result<(), Trouble> {
        let version: i64 = connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        if self.looked_at != Some(version) {
            if !self.names.are_there(connection)? {
                return Err(self.gone(after, "its log was removed from the file").into());
            }
            for index in 0..self.tables.len() {
                self.look_at(connection, index, after)?;
            }
            self.looked_at = Some(version);
        }
        match self.names.ends(connection)? {
            Some((first, last)) if first <= after + 1 && after <= last => Ok(()),
            Some((first, last)) => Err(self.gone(after, &format!("its log has numbers {first} to {last}")).into()),
            None => Err(self.gone(after, "its log is empty").into()),
        }
    }

    fn look_at(&mut self, connection: &Connection, index: usize, after: i64) -> Result<(), Trouble> {
        let table = self.tables[index].table.clone();
        let changed =
            |change: String| Error::SchemaChanged { service: self.service.clone(), table: table.full_name(), change };
        match catalog::columns_now(connection, &table.name)? {
            None => return Err(changed("it is gone".to_owned()).into()),
            Some(now) if now.columns != table.columns => {
                return Err(changed("its columns were altered".to_owned()).into());
            }
            Some(_) => {}
        }
        let Some(watched) = self.names.watched(connection, &table)? else {
            return Err(self.gone(after, &format!("table \"{}\" is not in its log", table.name)).into());
        };
        if watched.since > after {
            let reason = format!("the changes of table \"{}\" are in its log from {} on", table.name, watched.since);
            return Err(self.gone(after, &reason).into());
        }
        if let Some(change) = watched.misses(connection)? {
            return Err(changed(change).into());
        }
        self.tables[index] = watched;
        Ok(())
    }

    fn gone(&self, after: i64, reason: &str) -> Error {
        Error::HistoryGone { service: self.service.clone(), wanted: after.to_string(), reason: reason.to_owned() }
    }

    fn touched(&self, connection: &Connection, after: i64) -> Result<(Vec<Touched>, Vec<Dependency>), Trouble> {
        let places: Vec<String> = (0..self.names.width(connection)?).map(|place| format!("k{place}")).collect();
        let sql = format!(
            "SELECT tab, existed, {} FROM {} WHERE number > ?1 ORDER BY number",
            places.join(", "),
            self.names.log()
        );
        let mut tables: Vec<Touched> = self.tables.iter().map(|_| Touched::default()).collect();
        let mut depends_on = vec![];
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            if number == DEPENDS {
                depends_on.extend(self.dependencies(row.get_ref(2)?)?);
                continue;
            }
            // Of tables that somebody else follows under this name, or a mark.
            let Some(index) = self.tables.iter().position(|table| table.number == number) else { continue };
            let mut key = Vec::with_capacity(self.tables[index].key.len());
            for place in 0..self.tables[index].key.len() {
                key.push(row.get::<_, Value>(place + 2)?);
            }
            tables[index].add(key, row.get(1)?);
        }
        Ok((tables, depends_on))
    }

    fn dependencies(&self, text: ValueRef<'_>) -> Result<Vec<Dependency>> {
        let bytes = match text {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
            _ => &[],
        };
        crate::dependencies::parse(bytes).map_err(|what| Error::Unsupported {
            service: self.service.clone(),
            reason: format!(
                "a transaction says what it depends on by {what}; write INSERT INTO {} (tab, existed, k0) VALUES ({DEPENDS}, 0, \
                 '{{\"service\": \"position\"}}')",
                self.names.log()
            ),
        })
    }

    /// What became of the rows that were touched.
    fn changes(&self, connection: &Connection, table: &Watched, touched: Touched) -> Result<Vec<RowChanges>, Trouble> {
        let mut all = vec![];
        if touched.rows.is_empty() {
            return Ok(all);
        }
        let columns: Vec<String> = table.table.columns.iter().map(|column| quoted(&column.name)).collect();
        let key: Vec<String> = table.key.iter().map(|index| format!("{} = ?", columns[*index])).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {}", columns.join(", "), quoted(&table.table.name), key.join(" AND "));
        let mut statement = connection.prepare_cached(&sql)?;
        let mut batch = Batch::new(table, &self.service);
        for (key, existed) in touched.rows {
            batch.row(&mut statement, &key, existed)?;
            if batch.ops.len() >= BATCH_ROWS || batch.bytes >= BATCH_BYTES {
                all.push(std::mem::replace(&mut batch, Batch::new(table, &self.service)).finish()?);
            }
        }
        if !batch.ops.is_empty() {
            all.push(batch.finish()?);
        }
        Ok(all)
    }
}

impl Touched {
    fn add(&mut self, key: Vec<Value>, existed: bool) {
        let mut code = vec![];
        key.iter().for_each(|value| encode(value, &mut code));
        if self.seen.insert(code, ()).is_none() {
            self.rows.push((key, existed));
        }
    }
}

/// A value as bytes that are another's only where storage class and value are.
fn encode(value: &Value, code: &mut Vec<u8>) {
    let (tag, bytes): (u8, &[u8]) = match value {
        Value::Null => (0, &[]),
        Value::Integer(integer) => return code.extend([&[1][..], &integer.to_be_bytes()].concat()),
        Value::Real(real) => return code.extend([&[2][..], &real.to_be_bytes()].concat()),
        Value::Text(text) => (3, text.as_bytes()),
        Value::Blob(bytes) => (4, bytes),
    };
    code.push(tag);
    code.extend((bytes.len() as u64).to_be_bytes());
    code.extend(bytes);
}

/// The place after a number.
pub(super) fn position(number: i64) -> Position {
    Position::new(number.unsigned_abs(), number.to_string())
}

/// Changes of a table that are not a batch yet.
struct Batch<'a> {
    watched: &'a Watched,
    service: &'a ServiceName,
    columns: Vec<ColumnBuilder>,
    ops: Vec<RowOp>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(watched: &'a Watched, service: &'a ServiceName) -> Self {
        let columns = watched.table.columns.iter().map(ColumnBuilder::new).collect();
        Self { watched, service, columns, ops: vec![], bytes: 0 }
    }

    /// What became of one row.
    fn row(&mut self, statement: &mut CachedStatement<'_>, key: &[Value], existed: bool) -> Result<(), Trouble> {
        if let Some(place) = key.iter().position(|value| *value == Value::Null) {
            let reason = "it is NULL, and a key tells no rows apart by that; declare the column NOT NULL".to_owned();
            return Err(self.bad(self.watched.key[place], reason).into());
        }
        if existed {
            for index in 0..self.columns.len() {
                let place = self.watched.key.iter().position(|column| *column == index);
                let value = place.map_or(ValueRef::Null, |place| ValueRef::from(&key[place]));
                self.put(index, value)?;
            }
            self.ops.push(RowOp::DeleteKey);
        }
        let mut rows = statement.query(params_from_iter(key))?;
        let Some(row) = rows.next()? else { return Ok(()) };
        for (place, index) in self.watched.key.iter().enumerate() {
            // The key's collation, or 1 and 1.0, may find another row than the one that was touched; it was touched itself.
            if row.get_ref(*index)? != ValueRef::from(&key[place]) {
                return Ok(());
            }
        }
        for index in 0..self.columns.len() {
            let value = row.get_ref(index)?;
            if value == ValueRef::Null && !self.watched.table.columns[index].nullable {
                return Err(self.bad(index, misfit::NULL.to_owned()).into());
            }
            self.put(index, value)?;
        }
        self.ops.push(if existed { RowOp::InsertOver } else { RowOp::Insert });
        Ok(())
    }

    fn put(&mut self, column: usize, value: ValueRef<'_>) -> Result<()> {
        match self.columns[column].append(value) {
            Ok(bytes) => self.bytes += bytes,
            Err(reason) => return Err(self.bad(column, reason)),
        }
        Ok(())
    }

    fn bad(&self, column: usize, reason: String) -> Error {
        let column = &self.watched.table.columns[column];
        Error::Value {
            service: self.service.clone(),
            table: self.watched.table.full_name(),
            column: column.name.clone(),
            data_type: column.data_type.to_string(),
            reason: format!("{reason}; correct the value or the column's declared type"),
        }
    }

    fn finish(mut self) -> Result<RowChanges> {
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let rows = RecordBatch::try_new(RowChanges::schema(&self.watched.table), arrays);
        let rows = rows.map_err(|error| Error::Interrupted {
            service: self.service.clone(),
            table: self.watched.table.full_name(),
            cause: Box::new(error),
        })?;
        Ok(RowChanges { rows, ops: self.ops, kept: vec![] })
    }
}
