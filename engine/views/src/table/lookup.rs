//! The rows of a table as a join looks them up.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::Table;
use super::index::Index;
use crate::Result;

/// A table by some of its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(super) table: &'a Table,
    /// `None`: by the table's key.
    pub(super) index: Option<&'a Index>,
}

impl Lookup<'_> {
    /// The place of each row of a key and how often it is there.
    pub(crate) fn each(&self, hash: u64, key: &[u8], mut row: impl FnMut(u32, i64)) {
        let Self { table, index } = self;
        let (one, many) = match index {
            Some(index) => (None, index.get(&table.held, hash, key)),
            None => (table.place(hash, key), &[][..]),
        };
        for place in one.iter().chain(many) {
            row(*place, if table.key.is_some() { 1 } else { table.entry(*place).count });
        }
    }

    /// Some columns of rows, by their places.
    pub(crate) fn columns(&self, columns: &[usize], places: &[u32]) -> Result<Vec<ArrayRef>> {
        let table = self.table;
        let rows: Vec<(&[u8], &[u8])> = places.iter().map(|place| table.held.get(*place)).collect();
        let mut whole: Option<Vec<ArrayRef>> = None;
        let mut column = |column: &usize| {
            if let Some(decoded) = table.layout.decode(*column, &rows) {
                return decoded;
            }
            if whole.is_none() {
                let (keys, others): (Vec<&[u8]>, Vec<&[u8]>) =
                    places.iter().map(|place| table.entry(*place)).map(|entry| (entry.key, entry.others)).unzip();
                whole = Some(table.restore(&keys, &others)?);
            }
            Ok(Arc::clone(&whole.as_ref().expect("Invariant: it was just made")[*column]))
        };
        columns.iter().map(&mut column).collect()
    }

    /// Loads what keys of these hashes will need into the processor's cache.
    pub(crate) fn warm(&self, hashes: &[u64]) {
        match self.index {
            Some(index) => index.warm(&self.table.held, hashes),
            None => self.table.warm(hashes),
        }
    }

    /// Whether a key has one row at most.
    pub(crate) fn is_unique(&self) -> bool {
        self.index.is_none()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.table.count()
    }

    /// Bytes that the table takes for it besides its rows.
    pub(crate) fn bytes(&self) -> usize {
        self.index.map_or(0, Index::bytes)
    }
}
