//! The rows of a source's table, by its key, and what a source's changes make of them.
//!
//! A source says of a row that went no more than its key; what the row held is known here. Changes are applied transaction by transaction, and
//! what comes out at the end of an epoch is the difference: a row that changed twice shows once. Changes that do not fit the rows are an error,
//! and the table is put back as it was before the epoch.
//!
//! Joins look rows up here as well, by the key or by an [`Index`], so that a row is there once for all views that read it.

mod difference;
mod index;
mod layout;
mod lookup;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use hashbrown::HashTable;
use headwater_source::{Change, Kept, RowChanges, RowOp, TableDef};

use difference::Difference;
use index::Index;
pub(crate) use index::{By, InUse};
pub(crate) use layout::width;
use layout::{Layout, fixed_first};
pub(crate) use lookup::Lookup;

use crate::delta::{batch, loosened};
use crate::packed::Packed;
use crate::places::{Places, warm};
use crate::rows::{Bytes, Codec, Encoded, hash};
use crate::{Delta, Error, Result};

/// Rows per batch of what a table holds.
const BATCH_ROWS: usize = 32_768;

/// So many rows at a time are loaded into the processor's cache before they are needed: what they need fits there.
pub(crate) const WARM_ROWS: usize = 512;

/// What an epoch of so many rows touches is no reason to keep memory for the next one.
const TOUCHED_KEPT: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Table {
    service: Arc<str>,
    name: Arc<str>,
    schema: SchemaRef,
    loose: SchemaRef,
    key: Option<Vec<usize>>,
    /// The columns of the key, as their bytes lie; all where there is no key.
    key_columns: Vec<usize>,
    other_columns: Vec<usize>,
    key_codec: Codec,
    other_codec: Codec,
    layout: Layout,
    rows: Places,
    held: Packed,
    count: i64,
    indexes: Vec<Index>,
    /// What was there before the epoch, of each key that it touched.
    touched: HashTable<Before>,
}

/// What was there of a key before the epoch: other columns and a count; `None` where it was not there.
#[derive(Debug)]
struct Before {
    hash: u64,
    key: Bytes,
    row: Option<(Bytes, i64)>,
    /// Where it is now.
    now: Option<u32>,
}

/// A row by its key; without a key, a row of all columns and how often it is there. What is held of the second is its count.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    key: &'a [u8],
    others: &'a [u8],
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
        let key_columns = fixed_first(&schema, key.clone().unwrap_or_else(|| all.clone().collect()));
        let other_columns = all.filter(|column| !key_columns.contains(column)).collect();
        let other_columns = fixed_first(&schema, other_columns);
        let types = |columns: &[usize]| Codec::new(columns.iter().map(|column| schema.field(*column).data_type()));
        Ok(Self {
            key_codec: types(&key_columns)?,
            other_codec: types(&other_columns)?,
            layout: Layout::new(&schema, &key_columns, &other_columns)?,
            loose: loosened(&schema),
            service,
            name,
            schema,
            key,
            key_columns,
            other_columns,
            rows: Places::default(),
            held: Packed::default(),
            count: 0,
            indexes: vec![],
            touched: HashTable::new(),
        })
    }

    /// An empty table of the same definition.
    pub(crate) fn emptied(&self) -> Result<Self> {
        let key = self.key_names();
        Self::of(Arc::clone(&self.service), Arc::clone(&self.name), Arc::clone(&self.schema), Some(&key))
    }

    /// Gives its rows up.
    pub(crate) fn clear(&mut self) {
        self.empty();
        self.touched = HashTable::new();
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
        self.held.bytes() + self.rows.bytes() + self.indexes.iter().map(Index::bytes).sum::<usize>()
    }

    /// Sees to it that rows can be looked up by columns of [one width](width), none of them twice. That lasts for as long as what is returned; forever, where that is nothing.
    pub(crate) fn index(&mut self, by: &By) -> Result<Option<InUse>> {
        if self.is_key(by) {
            return Ok(None);
        }
        if let Some(index) = self.indexes.iter().find(|index| index.serves(by)) {
            return Ok(Some(index.in_use()));
        }
        let spans: Option<Vec<_>> = by.columns.iter().map(|column| self.layout.span(*column)).collect();
        let spans = spans.ok_or_else(|| Error::invariant("a column of an index has values of many lengths"))?;
        let index = Index::new(by.clone(), spans);
        let in_use = index.in_use();
        self.indexes.push(self.filled(index));
        Ok(Some(in_use))
    }

    /// Forgets the indexes that no view uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.indexes.retain(Index::is_used);
    }

    /// The rows by some columns; `None` where they can't be looked up so.
    pub(crate) fn lookup(&self, by: &By) -> Option<Lookup<'_>> {
        match self.indexes.iter().find(|index| index.serves(by)) {
            Some(index) => Some(Lookup { table: self, index: Some(index) }),
            None => self.is_key(by).then_some(Lookup { table: self, index: None }),
        }
    }

    fn is_key(&self, by: &By) -> bool {
        self.key.is_some() && self.key_columns == by.columns
    }

    /// The index over the rows that are there.
    fn filled(&self, mut index: Index) -> Index {
        self.places().into_iter().for_each(|place| index.insert(&self.held, place));
        index
    }

    /// Adds rows of a snapshot.
    pub(crate) fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        self.fits(rows)?;
        let (keys, others) = self.encode(rows)?;
        for row in 0..rows.num_rows() {
            if self.insert(hash(keys.bytes(row)), keys.bytes(row), others.bytes(row), 1)?.is_none() {
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
                    self.take(hash(keys.bytes(row)), keys.bytes(row))
                        .ok_or_else(|| self.inconsistent("a row went that is not there"))?;
                }
            }
            for (row, weight) in weights().filter(|(_, weight)| *weight > 0) {
                if self.insert(hash(keys.bytes(row)), keys.bytes(row), others.bytes(row), weight)?.is_none() {
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
                for place in self.places() {
                    let key = Bytes::from(self.held.key(place));
                    self.remember(hash(key.as_slice()), key.as_slice(), Some(place));
                }
                self.touched.iter_mut().for_each(|before| before.now = None);
                self.empty();
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
        let hashes = keys.hashes(changes.ops.len());
        let mut warm = 0;
        self.touched.reserve(hashes.len().min(TOUCHED_KEPT) / 2, |before| before.hash);
        let mut kept = changes.kept.iter().peekable();
        let mut taken: Option<(Bytes, Bytes)> = None;
        let mut row = 0;
        while let Some(op) = changes.ops.get(row) {
            if row >= warm {
                self.warm(&hashes[row..hashes.len().min(row + WARM_ROWS)]);
                warm = row + WARM_ROWS;
            }
            let (key, other) = (keys.bytes(row), others.bytes(row));
            let over = (*op == RowOp::DeleteKey && changes.ops.get(row + 1) == Some(&RowOp::InsertOver))
                .then(|| (keys.bytes(row + 1), others.bytes(row + 1)));
            if let Some((new_key, new_other)) = over
                && new_key == key
                && kept.peek().is_none_or(|kept| kept.row > row + 1)
                && self.overwrite(hashes[row], key, new_other)
            {
                taken = None;
                row += 2;
                continue;
            }
            match op {
                RowOp::Insert => {
                    taken = None;
                    self.come(hashes[row], key, other)?;
                }
                RowOp::DeleteKey => {
                    if self.key.is_none() {
                        return Err(self.inconsistent("a row was deleted by its key, and the table has none"));
                    }
                    let gone = self
                        .go(hashes[row], key)
                        .ok_or_else(|| self.inconsistent("a row was deleted that is not there"))?;
                    taken = Some((key.into(), gone));
                }
                RowOp::DeleteRow => {
                    let gone = self
                        .go(hashes[row], key)
                        .ok_or_else(|| self.inconsistent("a row was deleted that is not there"))?;
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
                        self.come(hashes[row], key, other)?;
                    } else {
                        let (key, other) = self.patched(&changes.rows, row, &cells, &old)?;
                        self.come(hash(key.bytes(0)), key.bytes(0), other.bytes(0))?;
                    }
                }
            }
            row += 1;
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

    /// Another row takes the place of one of the same key, where both are as long and the table has a key: what most updates are.
    fn overwrite(&mut self, hashed: u64, key: &[u8], others: &[u8]) -> bool {
        let Some(place) = self.place(hashed, key).filter(|_| self.key.is_some()) else { return false };
        let old = self.held.get(place).1;
        if old.len() != others.len() {
            return false;
        }
        let moved: Vec<usize> = match self.indexes.is_empty() {
            true => vec![],
            false => (0..self.indexes.len()).filter(|index| self.indexes[*index].tells_apart(old, others)).collect(),
        };
        self.remember(hashed, key, Some(place));
        moved.iter().for_each(|index| self.indexes[*index].remove(&self.held, place));
        let done = self.held.overwrite(place, others);
        moved.iter().for_each(|index| self.indexes[*index].insert(&self.held, place));
        done
    }

    fn come(&mut self, hashed: u64, key: &[u8], others: &[u8]) -> Result<()> {
        self.remember(hashed, key, self.place(hashed, key));
        if let Some(place) = self.insert(hashed, key, others, 1)? {
            self.stands_at(hashed, key, Some(place));
            return Ok(());
        }
        Err(self.inconsistent("a row came whose key is there already"))
    }

    /// Takes a row away; its other columns.
    fn go(&mut self, hashed: u64, key: &[u8]) -> Option<Bytes> {
        self.remember(hashed, key, self.place(hashed, key));
        let (others, left) = self.take(hashed, key)?;
        self.stands_at(hashed, key, left);
        Some(others)
    }

    /// Takes a row out; its other columns, and where the key's rows are that are left.
    fn take(&mut self, hashed: u64, key: &[u8]) -> Option<(Bytes, Option<u32>)> {
        let place = self.place(hashed, key)?;
        let entry = self.entry(place);
        let (others, count) = (Bytes::from(entry.others), entry.count);
        self.count -= 1;
        if count > 1 {
            self.count_at(place, count - 1);
            return Some((others, Some(place)));
        }
        self.remove(hashed, place);
        Some((others, None))
    }

    fn remove(&mut self, hashed: u64, place: u32) {
        self.indexes.iter_mut().for_each(|index| index.remove(&self.held, place));
        self.rows.remove(hashed, place);
        self.held.remove(place);
    }

    /// Where the row is from now on; `None` where another has its key.
    fn insert(&mut self, hashed: u64, key: &[u8], others: &[u8], times: i64) -> Result<Option<u32>> {
        if let Some(place) = self.place(hashed, key) {
            if self.key.is_some() {
                return Ok(None);
            }
            self.count_at(place, self.entry(place).count + times);
            self.count += times;
            return Ok(Some(place));
        }
        let count = times.to_le_bytes();
        let held = if self.key.is_some() { others } else { &count };
        let Some(place) = self.held.insert(key, held) else {
            return Err(Error::TooLarge { service: self.service.to_string(), table: self.name.to_string() });
        };
        self.rows.insert(hashed, place);
        self.indexes.iter_mut().for_each(|index| index.insert(&self.held, place));
        self.count += times;
        Ok(Some(place))
    }

    fn place(&self, hashed: u64, key: &[u8]) -> Option<u32> {
        self.rows.find(hashed, |place| self.held.key(place) == key)
    }

    fn entry(&self, place: u32) -> Entry<'_> {
        let (key, held) = self.held.get(place);
        match (&self.key, held.as_array()) {
            (None, Some(count)) => Entry { key, others: &[], count: i64::from_le_bytes(*count) },
            _ => Entry { key, others: held, count: 1 },
        }
    }

    /// Without a key, how often a row is there.
    fn count_at(&mut self, place: u32, count: i64) {
        self.held.others_mut(place).copy_from_slice(&count.to_le_bytes());
    }

    fn find(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.place(hash(key), key).map(|place| self.entry(place))
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.places().into_iter().map(|place| self.entry(place))
    }

    /// All places in the order in which they lie. Not in that of the index, which is that of their hashes: another index by the same hashes that is filled in that order has all of them in one
    /// part of it until it has grown, and looks through them one by one.
    fn places(&self) -> Vec<u32> {
        let mut places: Vec<u32> = self.rows.iter().collect();
        places.sort_unstable();
        places
    }

    fn empty(&mut self) {
        (self.rows, self.held, self.count) = (Places::default(), Packed::default(), 0);
        self.indexes.iter_mut().for_each(|index| *index = index.emptied());
    }

    fn remember(&mut self, hashed: u64, key: &[u8], place: Option<u32>) {
        let is_same = |before: &Before| before.hash == hashed && before.key.as_slice() == key;
        if self.touched.find(hashed, is_same).is_none() {
            let row = place.map(|place| self.entry(place)).map(|entry| (entry.others.into(), entry.count));
            let before = Before { hash: hashed, key: key.into(), row, now: place };
            self.touched.insert_unique(hashed, before, |before| before.hash);
        }
    }

    /// Notes where a key is after it was touched.
    fn stands_at(&mut self, hashed: u64, key: &[u8], now: Option<u32>) {
        let is_same = |before: &Before| before.hash == hashed && before.key.as_slice() == key;
        if let Some(before) = self.touched.find_mut(hashed, is_same) {
            before.now = now;
        }
    }

    /// Loads what changes of rows of these hashes will need into the processor's cache.
    fn warm(&self, hashes: &[u64]) {
        let places = self.rows.likely(hashes);
        warm(places.iter().map(|place| self.held.first(*place)));
    }

    /// The difference to what was there before the epoch.
    pub(crate) fn difference(&self) -> Result<Vec<Delta>> {
        let mut difference = Difference::default();
        for some in self.touched.iter().collect::<Vec<_>>().chunks(WARM_ROWS) {
            warm(some.iter().filter_map(|before| before.now).map(|place| self.held.first(place)));
            for Before { key, row, now, .. } in some {
                let now = now.map(|place| self.entry(place));
                difference.add(
                    key.as_slice(),
                    row.as_ref().map(|(others, count)| (others.as_slice(), *count)),
                    now.map(|entry| (entry.others, entry.count)),
                );
            }
        }
        self.deltas(&difference)
    }

    /// The epoch is over: what was there before it is forgotten.
    pub(crate) fn finish(&mut self) {
        self.touched.clear();
        if self.touched.capacity() > TOUCHED_KEPT * 2 {
            self.touched = HashTable::new();
        }
    }

    /// Puts back what was there before the epoch.
    pub(crate) fn undo(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for Before { hash, key, .. } in &touched {
            if let Some(place) = self.place(*hash, key.as_slice()) {
                self.count -= self.entry(place).count;
                self.remove(*hash, place);
            }
        }
        for Before { hash, key, row, .. } in touched {
            if let Some((others, count)) = row {
                let back = self.insert(hash, key.as_slice(), others.as_slice(), count);
                back.expect("Invariant: what the epoch took away left its place free");
            }
        }
    }

    /// Becomes another state of the same table. Returns the difference.
    pub(crate) fn replace(&mut self, new: Self) -> Result<Vec<Delta>> {
        let mut difference = Difference::default();
        for entry in self.entries() {
            let now = new.find(entry.key).map(|entry| (entry.others, entry.count));
            difference.add(entry.key, Some((entry.others, entry.count)), now);
        }
        for entry in new.entries().filter(|entry| self.find(entry.key).is_none()) {
            difference.add(entry.key, None, Some((entry.others, entry.count)));
        }
        let deltas = self.deltas(&difference)?;
        let indexes = std::mem::take(&mut self.indexes);
        *self = new;
        self.indexes = indexes.iter().map(|index| self.filled(index.emptied())).collect();
        Ok(deltas)
    }

    /// All rows.
    pub(crate) fn contents(&self) -> Result<Vec<Delta>> {
        self.batches().collect()
    }

    /// All rows, batch by batch: only one is there at a time.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<Delta>> {
        let mut entries = self.entries().peekable();
        std::iter::from_fn(move || {
            entries.peek()?;
            let mut difference = Difference::default();
            for entry in entries.by_ref().take(BATCH_ROWS) {
                difference.push(entry.key, entry.others, entry.count);
            }
            Some(self.delta(&difference.keys, &difference.others, difference.weights))
        })
    }

    fn deltas(&self, difference: &Difference<'_>) -> Result<Vec<Delta>> {
        let mut deltas = Vec::new();
        let batches = difference.keys.chunks(BATCH_ROWS).zip(difference.others.chunks(BATCH_ROWS));
        for ((keys, others), weights) in batches.zip(difference.weights.chunks(BATCH_ROWS)) {
            deltas.push(self.delta(keys, others, weights.to_vec())?);
        }
        Ok(deltas)
    }

    fn delta(&self, keys: &[&[u8]], others: &[&[u8]], weights: Vec<i64>) -> Result<Delta> {
        Delta::new(batch(&self.loose, self.restore(keys, others)?, keys.len())?, weights)
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
            self.key.iter().flatten().map(|column| self.schema.field(*column).name().as_str()).collect();
        Error::DuplicateKey { service: self.service.to_string(), table: self.name.to_string(), key: names.join(", ") }
    }
}
