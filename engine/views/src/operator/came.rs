//! The rows of an epoch's deltas of one side of a join, by their keys.

use hashbrown::HashTable;

use super::side::Keyed;
use crate::Result;
use crate::arrangement::narrow;

/// Where each row is, found by its key.
#[derive(Debug)]
pub(crate) struct Came<'a> {
    deltas: &'a [Keyed],
    rows: Vec<Row>,
    /// The last row of each key.
    last: HashTable<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    delta: usize,
    row: usize,
    /// The one before it of the same key.
    before: Option<u32>,
}

impl<'a> Came<'a> {
    /// All rows; with NULL in their keys only where that is equal to NULL.
    pub(crate) fn of(deltas: &'a [Keyed], nulls_match: bool) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let mut last: HashTable<u32> = HashTable::new();
        for (delta, keyed) in deltas.iter().enumerate() {
            for row in (0..keyed.delta.len()).filter(|row| nulls_match || !keyed.is_null(*row)) {
                let (hash, place) = (keyed.hashes[row], narrow(rows.len()));
                let is_same = |place: &u32| is_equal(deltas, rows[*place as usize], hash, keyed.keys.bytes(row));
                let before = match last.find_mut(hash, is_same) {
                    Some(last) => Some(std::mem::replace(last, place)),
                    None => {
                        let hash_of = |place: &u32| hash_of(deltas, rows[*place as usize]);
                        last.insert_unique(hash, place, hash_of);
                        None
                    }
                };
                rows.push(Row { delta, row, before });
            }
        }
        Self { deltas, rows, last }
    }

    /// The delta and the row in it of each row of a key.
    pub(crate) fn each(&self, hash: u64, key: &[u8], mut row: impl FnMut(usize, usize) -> Result<()>) -> Result<()> {
        let is_same = |place: &u32| is_equal(self.deltas, self.rows[*place as usize], hash, key);
        let mut next = self.last.find(hash, is_same).copied();
        while let Some(place) = next {
            let found = self.rows[place as usize];
            row(found.delta, found.row)?;
            next = found.before;
        }
        Ok(())
    }
}

fn hash_of(deltas: &[Keyed], row: Row) -> u64 {
    deltas[row.delta].hashes[row.row]
}

fn is_equal(deltas: &[Keyed], row: Row, hash: u64, key: &[u8]) -> bool {
    hash_of(deltas, row) == hash && deltas[row.delta].keys.bytes(row.row) == key
}
