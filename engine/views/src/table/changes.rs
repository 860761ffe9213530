//! What an epoch makes of a table: a source's changes, the difference that they come to, and the way back.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use hashbrown::HashTable;
use headwater_source::{Change, Kept, RowChanges, RowOp};

use super::difference::Difference;
use super::{Table, WARM_ROWS};
use crate::arrangement::narrow;
use crate::delta::batch;
use crate::places::warm;
use crate::rows::{Bytes, Encoded, hash, same};
use crate::{Delta, Result};

/// What an epoch of so many rows touches is no reason to keep memory for the next one.
const TOUCHED_KEPT: usize = 16_384;

/// What was there before an epoch, of each key that it touched, in the order in which it did.
#[derive(Debug, Default)]
pub(super) struct Touched {
    keys: Vec<Before>,
    index: HashTable<u32>,
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

impl Touched {
    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_same = |number: &u32| {
            let before = &self.keys[*number as usize];
            before.hash == hash && same(before.key.as_slice(), key)
        };
        self.index.find(hash, is_same).copied()
    }

    fn reserve(&mut self, keys: usize) {
        self.keys.reserve(keys);
        self.index.reserve(keys, |number| self.keys[*number as usize].hash);
    }

    fn push(&mut self, before: Before) {
        let (hash, number) = (before.hash, narrow(self.keys.len()));
        self.keys.push(before);
        self.index.insert_unique(hash, number, |number| self.keys[*number as usize].hash);
    }

    fn clear(&mut self) {
        if self.keys.capacity() > TOUCHED_KEPT * 2 {
            *self = Self::default();
        }
        self.keys.clear();
        self.index.clear();
    }
}

impl Table {
    /// Applies one change of a transaction.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Truncate => {
                for place in self.places() {
                    let key = Bytes::from(self.held.key(place));
                    self.remember(hash(key.as_slice()), key.as_slice(), Some(place));
                }
                self.touched.keys.iter_mut().for_each(|before| before.now = None);
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
        self.touched.reserve(hashes.len().min(TOUCHED_KEPT) / 2);
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

    fn remember(&mut self, hashed: u64, key: &[u8], place: Option<u32>) {
        if self.touched.find(hashed, key).is_none() {
            let row = place.map(|place| self.entry(place)).map(|entry| (entry.others.into(), entry.count));
            self.touched.push(Before { hash: hashed, key: key.into(), row, now: place });
        }
    }

    /// Notes where a key is after it was touched.
    fn stands_at(&mut self, hashed: u64, key: &[u8], now: Option<u32>) {
        if let Some(number) = self.touched.find(hashed, key) {
            self.touched.keys[number as usize].now = now;
        }
    }

    /// The difference to what was there before the epoch.
    pub(crate) fn difference(&self) -> Result<Vec<Delta>> {
        let mut difference = Difference::default();
        for some in self.touched.keys.chunks(WARM_ROWS) {
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
    }

    /// Puts back what was there before the epoch.
    pub(crate) fn undo(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for Before { hash, key, .. } in &touched.keys {
            if let Some(place) = self.place(*hash, key.as_slice()) {
                self.count -= self.entry(place).count;
                self.remove(*hash, place);
            }
        }
        for Before { hash, key, row, .. } in touched.keys {
            if let Some((others, count)) = row {
                let back = self.insert(hash, key.as_slice(), others.as_slice(), count);
                back.expect("Invariant: what the epoch took away left its place free");
            }
        }
    }
}
