//! The rows of a source's table, by its key, and what a source's changes make of them.
//!
//! A source says of a row that went no more than its key; what the row held is known here. Changes are applied transaction by transaction, and
//! what comes out at the end of an epoch is the difference: a row that changed twice shows once. Changes that do not fit the rows are an error,
//! and the table is put back as it was before the epoch.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use hashbrown::{HashMap, HashTable};
use headwater_source::{Change, Kept, RowChanges, RowOp, TableDef};

use crate::delta::{batch, loosened};
use crate::rows::{Bytes, Codec, Encoded, Fixed, hash};
use crate::{Delta, Error, Result};

/// Rows per batch of what a table holds.
const BATCH_ROWS: usize = 32_768;

#[derive(Debug)]
pub(crate) struct Table {
    service: Arc<str>,
    name: Arc<str>,
    schema: SchemaRef,
    loose: SchemaRef,
    key: Option<Vec<usize>>,
    /// The columns of the key; all where there is no key.
    key_columns: Vec<usize>,
    other_columns: Vec<usize>,
    key_codec: Codec,
    other_codec: Codec,
    rows: HashTable<Entry>,
    count: i64,
    heap: usize,
    /// What was there before the epoch, of each key that it touched.
    touched: HashMap<Bytes, Option<(Bytes, i64)>, Fixed>,
}

/// A row by its key; without a key, a row of all columns and how often it is there.
#[derive(Debug, Clone)]
struct Entry {
    key: Bytes,
    others: Bytes,
    count: i64,
}

impl Table {
    pub(crate) fn new(service: Arc<str>, definition: &TableDef) -> Result<Self> {
        Self::of(service, definition.full_name().into(), definition.schema(), definition.key.as_deref())
    }

    /// A table without rows.
    pub(crate) fn of(service: Arc<str>, name: Arc<str>, schema: SchemaRef, key: Option<&[String]>) -> Result<Self> {
        let column = |column: &String| {
            schema.index_of(column).map_err(|_| {
                Error::name(format!(
                    "key column \"{column}\" of table \"{name}\" of service \"{service}\" is not a column"
                ))
            })
        };
        let key = match key {
            Some(names) if !names.is_empty() => Some(names.iter().map(column).collect::<Result<Vec<_>>>()?),
            _ => None,
        };
        let all = 0..schema.fields().len();
        let key_columns = key.clone().unwrap_or_else(|| all.clone().collect());
        let other_columns: Vec<usize> = all.filter(|column| !key_columns.contains(column)).collect();
        let types = |columns: &[usize]| Codec::new(columns.iter().map(|column| schema.field(*column).data_type()));
        Ok(Self {
            key_codec: types(&key_columns)?,
            other_codec: types(&other_columns)?,
            loose: loosened(&schema),
            service,
            name,
            schema,
            key,
            key_columns,
            other_columns,
            rows: HashTable::new(),
            count: 0,
            heap: 0,
            touched: HashMap::default(),
        })
    }

    /// An empty table of the same definition.
    pub(crate) fn emptied(&self) -> Result<Self> {
        let key = self.key_names();
        Self::of(Arc::clone(&self.service), Arc::clone(&self.name), Arc::clone(&self.schema), Some(&key))
    }

    /// Gives its rows up.
    pub(crate) fn clear(&mut self) {
        self.rows = HashTable::new();
        self.touched = HashMap::default();
        (self.count, self.heap) = (0, 0);
    }

    pub(crate) fn full_name(&self) -> &str {
        &self.name
    }

    /// The key's columns; none where there is no key.
    pub(crate) fn key_names(&self) -> Vec<String> {
        let names = self.key.iter().flatten().map(|column| self.schema.field(*column).name().clone());
        names.collect()
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.heap + self.rows.capacity() * (size_of::<Entry>() + 1)
    }

    /// Adds rows of a snapshot.
    pub(crate) fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        self.fits(rows)?;
        let (keys, others) = self.encode(rows)?;
        self.rows.reserve(rows.num_rows(), |entry| hash(entry.key.as_slice()));
        for row in 0..rows.num_rows() {
            if !self.insert(keys.bytes(row), others.bytes(row), 1) {
                return Err(self.duplicate());
            }
        }
        Ok(())
    }

    /// Adds what was stored of the table, delta by delta. Within one, what went goes first, so that its key is free for what came.
    pub(crate) fn add(&mut self, deltas: &[Delta]) -> Result<()> {
        for delta in deltas {
            let (keys, others) = self.encode(delta.rows())?;
            let weights = || delta.weights().iter().copied().enumerate();
            for (row, weight) in weights().filter(|(_, weight)| *weight < 0) {
                for _ in 0..weight.unsigned_abs() {
                    self.take(keys.bytes(row)).ok_or_else(|| self.inconsistent("a row went that is not there"))?;
                }
            }
            for (row, weight) in weights().filter(|(_, weight)| *weight > 0) {
                if !self.insert(keys.bytes(row), others.bytes(row), weight) {
                    return Err(self.duplicate());
                }
            }
        }
        Ok(())
    }

    /// Applies one change of a transaction.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Truncate => {
                for entry in self.rows.drain() {
                    self.touched.entry(entry.key).or_insert(Some((entry.others, entry.count)));
                }
                (self.count, self.heap) = (0, 0);
                Ok(())
            }
            Change::Rows(changes) => self.apply_rows(changes),
        }
    }

    fn apply_rows(&mut self, changes: &RowChanges) -> Result<()> {
        self.fits(&changes.rows)?;
        if changes.ops.len() != changes.rows.num_rows() {
            return Err(self.inconsistent("there are not as many operations as rows"));
        }
        let (keys, others) = self.encode(&changes.rows)?;
        let mut kept = changes.kept.iter().peekable();
        let mut taken: Option<(Bytes, Bytes)> = None;
        for (row, op) in changes.ops.iter().enumerate() {
            let (key, other) = (keys.bytes(row), others.bytes(row));
            match op {
                RowOp::Insert => {
                    taken = None;
                    self.come(key, other)?;
                }
                RowOp::DeleteKey => {
                    if self.key.is_none() {
                        return Err(self.inconsistent("a row was deleted by its key, and the table has none"));
                    }
                    let gone = self.go(key).ok_or_else(|| self.inconsistent("a row was deleted that is not there"))?;
                    taken = Some((key.into(), gone));
                }
                RowOp::DeleteRow => {
                    let gone = self.go(key).ok_or_else(|| self.inconsistent("a row was deleted that is not there"))?;
                    if gone.as_slice() != other {
                        return Err(self.inconsistent("a row was deleted that is there with other values"));
                    }
                    taken = Some((key.into(), gone));
                }
                RowOp::InsertOver => {
                    let Some(old) = taken.take() else {
                        return Err(self.inconsistent("a row takes the place of another, and none was taken away"));
                    };
                    let mut cells = Vec::new();
                    while kept.peek().is_some_and(|kept| kept.row == row) {
                        cells.extend(kept.next());
                    }
                    if cells.is_empty() {
                        self.come(key, other)?;
                    } else {
                        let (key, other) = self.patched(&changes.rows, row, &cells, &old)?;
                        self.come(key.bytes(0), other.bytes(0))?;
                    }
                }
            }
        }
        match kept.next() {
            Some(_) => Err(self.inconsistent("a cell is kept of a row that took the place of none")),
            None => Ok(()),
        }
    }

    /// A row whose kept cells come from the row that it replaces.
    fn patched(
        &self,
        rows: &RecordBatch,
        row: usize,
        kept: &[&Kept],
        old: &(Bytes, Bytes),
    ) -> Result<(Encoded, Encoded)> {
        let old = self.restore(&[old.0.as_slice()], &[old.1.as_slice()])?;
        let columns: Vec<ArrayRef> = (0..rows.num_columns())
            .map(|column| match kept.iter().any(|kept| kept.column == column) {
                true => Arc::clone(&old[column]),
                false => rows.column(column).slice(row, 1),
            })
            .collect();
        self.encode(&batch(&self.loose, columns, 1)?)
    }

    fn come(&mut self, key: &[u8], others: &[u8]) -> Result<()> {
        self.remember(key);
        if self.insert(key, others, 1) {
            return Ok(());
        }
        Err(self.inconsistent("a row came whose key is there already"))
    }

    /// Takes a row away; its other columns.
    fn go(&mut self, key: &[u8]) -> Option<Bytes> {
        self.remember(key);
        self.take(key)
    }

    fn take(&mut self, key: &[u8]) -> Option<Bytes> {
        let mut entry = self.rows.find_entry(hash(key), |entry| entry.key.as_slice() == key).ok()?;
        self.count -= 1;
        if entry.get().count > 1 {
            entry.get_mut().count -= 1;
            return Some(entry.get().others.clone());
        }
        let (gone, _) = entry.remove();
        self.heap -= gone.key.heap() + gone.others.heap();
        Some(gone.others)
    }

    /// Whether there was room for the row: not where another has its key.
    fn insert(&mut self, key: &[u8], others: &[u8], times: i64) -> bool {
        let hashed = hash(key);
        if let Some(entry) = self.rows.find_mut(hashed, |entry| entry.key.as_slice() == key) {
            if self.key.is_some() {
                return false;
            }
            entry.count += times;
            self.count += times;
            return true;
        }
        let entry = Entry { key: key.into(), others: others.into(), count: times };
        self.heap += entry.key.heap() + entry.others.heap();
        self.count += times;
        self.rows.insert_unique(hashed, entry, |entry| hash(entry.key.as_slice()));
        true
    }

    fn find(&self, key: &[u8]) -> Option<&Entry> {
        self.rows.find(hash(key), |entry| entry.key.as_slice() == key)
    }

    fn remember(&mut self, key: &[u8]) {
        if !self.touched.contains_key(key) {
            let before = self.find(key).map(|entry| (entry.others.clone(), entry.count));
            self.touched.insert(key.into(), before);
        }
    }

    /// The difference to what was there before the epoch.
    pub(crate) fn finish(&mut self) -> Result<Vec<Delta>> {
        let touched = std::mem::take(&mut self.touched);
        let mut difference = Difference::default();
        for (key, before) in &touched {
            let now = self.find(key.as_slice());
            difference.add(
                key.as_slice(),
                before.as_ref().map(|(others, count)| (others.as_slice(), *count)),
                now.map(|entry| (entry.others.as_slice(), entry.count)),
            );
        }
        self.deltas(&difference)
    }

    /// Puts back what was there before the epoch.
    pub(crate) fn undo(&mut self) {
        for (key, before) in std::mem::take(&mut self.touched) {
            if let Ok(entry) = self.rows.find_entry(hash(key.as_slice()), |entry| entry.key == key) {
                let (gone, _) = entry.remove();
                self.count -= gone.count;
                self.heap -= gone.key.heap() + gone.others.heap();
            }
            if let Some((others, count)) = before {
                self.insert(key.as_slice(), others.as_slice(), count);
            }
        }
    }

    /// Becomes another state of the same table. Returns the difference.
    pub(crate) fn replace(&mut self, new: Self) -> Result<Vec<Delta>> {
        let mut difference = Difference::default();
        for entry in &self.rows {
            let now = new.find(entry.key.as_slice()).map(|entry| (entry.others.as_slice(), entry.count));
            difference.add(entry.key.as_slice(), Some((entry.others.as_slice(), entry.count)), now);
        }
        for entry in &new.rows {
            if self.find(entry.key.as_slice()).is_none() {
                difference.add(entry.key.as_slice(), None, Some((entry.others.as_slice(), entry.count)));
            }
        }
        let deltas = self.deltas(&difference)?;
        *self = new;
        Ok(deltas)
    }

    /// All rows.
    pub(crate) fn contents(&self) -> Result<Vec<Delta>> {
        let mut difference = Difference::default();
        for entry in &self.rows {
            difference.push(entry.key.as_slice(), entry.others.as_slice(), entry.count);
        }
        self.deltas(&difference)
    }

    fn deltas(&self, difference: &Difference<'_>) -> Result<Vec<Delta>> {
        let mut deltas = Vec::new();
        let batches = difference.keys.chunks(BATCH_ROWS).zip(difference.others.chunks(BATCH_ROWS));
        for ((keys, others), weights) in batches.zip(difference.weights.chunks(BATCH_ROWS)) {
            deltas.push(Delta::new(batch(&self.loose, self.restore(keys, others)?, keys.len())?, weights.to_vec())?);
        }
        Ok(deltas)
    }

    fn restore(&self, keys: &[&[u8]], others: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let keys = self.key_codec.decode(keys.iter().copied())?;
        let others = self.other_codec.decode(others.iter().copied())?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        let placed = self.key_columns.iter().zip(keys).chain(self.other_columns.iter().zip(others));
        placed.for_each(|(place, column)| columns[*place] = Some(column));
        Ok(columns.into_iter().flatten().collect())
    }

    fn encode(&self, rows: &RecordBatch) -> Result<(Encoded, Encoded)> {
        let columns = |places: &[usize]| places.iter().map(|place| rows.column(*place).clone()).collect::<Vec<_>>();
        let keys = self.key_codec.encode(&columns(&self.key_columns), rows.num_rows())?;
        let others = self.other_codec.encode(&columns(&self.other_columns), rows.num_rows())?;
        Ok((keys, others))
    }

    fn fits(&self, rows: &RecordBatch) -> Result<()> {
        let schema = rows.schema();
        let same = schema.fields().len() == self.schema.fields().len()
            && schema
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(theirs, ours)| theirs.name() == ours.name() && theirs.data_type() == ours.data_type());
        if same { Ok(()) } else { Err(self.inconsistent("its columns are not those that are held")) }
    }

    fn inconsistent(&self, reason: &str) -> Error {
        Error::Inconsistent {
            service: self.service.to_string(),
            table: self.name.to_string(),
            reason: reason.to_owned(),
        }
    }

    fn duplicate(&self) -> Error {
        let names: Vec<&str> =
            self.key_columns.iter().map(|column| self.schema.field(*column).name().as_str()).collect();
        Error::DuplicateKey { service: self.service.to_string(), table: self.name.to_string(), key: names.join(", ") }
    }
}

/// Rows with weights, as bytes.
#[derive(Default)]
struct Difference<'a> {
    keys: Vec<&'a [u8]>,
    others: Vec<&'a [u8]>,
    weights: Vec<i64>,
}

impl<'a> Difference<'a> {
    fn push(&mut self, key: &'a [u8], others: &'a [u8], weight: i64) {
        self.keys.push(key);
        self.others.push(others);
        self.weights.push(weight);
    }

    /// What turns the row before into the row now.
    fn add(&mut self, key: &'a [u8], before: Option<(&'a [u8], i64)>, now: Option<(&'a [u8], i64)>) {
        match (before, now) {
            (Some((old, before)), Some((new, now))) if old == new => {
                if now != before {
                    self.push(key, new, now - before);
                }
            }
            (before, now) => {
                if let Some((others, count)) = before {
                    self.push(key, others, -count);
                }
                if let Some((others, count)) = now {
                    self.push(key, others, count);
                }
            }
        }
    }
}
