//! The rows of a source's table, by its key.
//!
//! A source says of a row that went no more than its key; what the row held is known here. Changes are applied transaction by transaction, and
//! what comes out at the end of an epoch is the difference (`changes.rs`): a row that changed twice shows once. Changes that do not fit the rows are an
//! error, and the table is put back as it was before the epoch.
//!
//! Joins look rows up here as well, by the key or by an [`Index`], so that a row is there once for all views that read it.

mod changes;
mod difference;
mod index;
mod layout;
mod lookup;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use headwater_source::TableDef;

use changes::Touched;
use difference::Difference;
use index::Index;
pub(crate) use index::{By, InUse};
pub(crate) use layout::width;
use layout::{Layout, fixed_first};
pub(crate) use lookup::Lookup;

use crate::delta::{batch, loosened, same_columns};
use crate::packed::Packed;
use crate::places::{Places, warm};
use crate::rows::{Bytes, Codec, Encoded, hash, same};
use crate::{Delta, Error, Result};

/// Rows per batch of what a table holds.
const BATCH_ROWS: usize = 32_768;

/// So many rows at a time are loaded into the processor's cache before they are needed: what they need fits there.
pub(crate) const WARM_ROWS: usize = 512;

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
    touched: Touched,
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
            touched: Touched::default(),
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
        self.touched = Touched::default();
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
        self.rows.find(hashed, |place| same(self.held.key(place), key))
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

    /// Loads what changes of rows of these hashes will need into the processor's cache.
    fn warm(&self, hashes: &[u64]) {
        let places = self.rows.likely(hashes);
        warm(places.iter().map(|place| self.held.first(*place)));
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
        match same_columns(&rows.schema(), &self.schema) {
            true => Ok(()),
            false => Err(self.inconsistent("its columns are not those that are held")),
        }
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
