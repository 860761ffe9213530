//! A multiset of rows, found by key: the state of joins and of recomputed groups.
//!
//! A key with a single row, which most keys of one side of most joins are, lies in one line of the cache with it.
//!
//! Invariant: no row has weight 0, no group is empty, and the index holds each group once under the hash of its key. Weights below zero are
//! in order while an epoch is under way; at its end there are none.

use crate::places::{Places, warm};
use crate::rows::{Bytes, hash};

/// Rows by key. `E` is what an operator keeps beside each row.
#[derive(Debug)]
pub(crate) struct Arrangement<E = ()> {
    index: Places,
    groups: Vec<Group<E>>,
    rows: usize,
    heap: usize,
}

/// The rows of one key.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Group<E> {
    key: Bytes,
    rows: Held<E>,
    /// Finds a row by its hash once there are more than [`NARROW`] of them.
    wide: Option<Box<Places>>,
}

#[derive(Debug)]
enum Held<E> {
    One(Row<E>),
    Many(Vec<Row<E>>),
}

/// A row and how often it is there.
#[derive(Debug)]
pub(crate) struct Row<E> {
    value: Bytes,
    pub(crate) weight: i64,
    pub(crate) extra: E,
}

/// Up to so many rows of a key are looked through one after the other.
const NARROW: usize = 16;

impl<E> Default for Arrangement<E> {
    fn default() -> Self {
        Self { index: Places::default(), groups: Vec::new(), rows: 0, heap: 0 }
    }
}

impl<E> Row<E> {
    pub(crate) fn value(&self) -> &[u8] {
        self.value.as_slice()
    }

    fn hash(&self) -> u64 {
        hash(self.value())
    }
}

impl<E> Held<E> {
    fn rows(&self) -> &[Row<E>] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    fn rows_mut(&mut self) -> &mut [Row<E>] {
        match self {
            Self::One(row) => std::slice::from_mut(row),
            Self::Many(rows) => rows,
        }
    }

    fn push(&mut self, row: Row<E>) {
        if let Self::One(_) = self
            && let Self::One(first) = std::mem::replace(self, Self::Many(Vec::with_capacity(2)))
        {
            self.push(first);
        }
        if let Self::Many(rows) = self {
            if rows.len() == rows.capacity() {
                // Most keys have few rows, so by half and not by twice.
                rows.reserve_exact((rows.len() / 2).max(1));
            }
            rows.push(row);
        }
    }
}

impl<E> Group<E> {
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    pub(crate) fn rows(&self) -> &[Row<E>] {
        self.rows.rows()
    }

    fn find(&self, value: &[u8]) -> Option<usize> {
        let rows = self.rows();
        match &self.wide {
            Some(index) => {
                index.find(hash(value), |place| rows[place as usize].value() == value).map(|place| place as usize)
            }
            None => {
                let value = Bytes::from(value);
                rows.iter().position(|row| row.value == value)
            }
        }
    }

    fn push(&mut self, row: Row<E>) {
        let hash = self.wide.as_ref().map(|_| row.hash());
        self.rows.push(row);
        let rows = self.rows.rows();
        let last = rows.len() - 1;
        match (&mut self.wide, hash) {
            (Some(index), Some(hash)) => index.insert(hash, narrow(last)),
            _ if rows.len() > NARROW => {
                let mut index = Places::default();
                rows.iter().enumerate().for_each(|(place, row)| index.insert(row.hash(), narrow(place)));
                self.wide = Some(Box::new(index));
            }
            _ => {}
        }
    }

    /// Takes a row out, which is not the only one.
    fn remove(&mut self, place: usize) -> Option<Row<E>> {
        let Held::Many(rows) = &mut self.rows else { return None };
        if let Some(index) = &mut self.wide {
            index.remove(rows[place].hash(), narrow(place));
            let last = rows.len() - 1;
            if last != place {
                index.relocate(rows[last].hash(), narrow(last), narrow(place));
            }
        }
        Some(rows.swap_remove(place))
    }
}

impl<E: Default> Arrangement<E> {
    /// Adds to the weight of a row. Returns the weight before and after.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], weight: i64) -> (i64, i64) {
        self.add_with(key, value, weight, E::default)
    }

    /// The same, with the hash of the key.
    pub(crate) fn add_hashed(&mut self, hash: u64, key: &[u8], value: &[u8], weight: i64) -> (i64, i64) {
        self.add_all(hash, key, value, weight, E::default)
    }

    /// The same; a row that was not there gets this beside it.
    pub(crate) fn add_with(&mut self, key: &[u8], value: &[u8], weight: i64, extra: impl FnOnce() -> E) -> (i64, i64) {
        self.add_all(hash(key), key, value, weight, extra)
    }

    fn add_all(&mut self, hash: u64, key: &[u8], value: &[u8], weight: i64, extra: impl FnOnce() -> E) -> (i64, i64) {
        if weight == 0 {
            return (0, 0);
        }
        let Some(place) = self.find(hash, key) else {
            let row = Row { value: value.into(), weight, extra: extra() };
            self.insert_group(hash, key, row);
            return (0, weight);
        };
        let group = &mut self.groups[place];
        let Some(at) = group.find(value) else {
            let row = Row { value: value.into(), weight, extra: extra() };
            self.rows += 1;
            self.heap += row.value.heap();
            self.groups[place].push(row);
            return (0, weight);
        };
        let row = &mut group.rows.rows_mut()[at];
        let before = row.weight;
        row.weight += weight;
        let after = row.weight;
        if after == 0 {
            self.rows -= 1;
            self.heap -= row.value.heap();
            if group.rows().len() == 1 {
                self.remove_group(place);
            } else {
                group.remove(at);
            }
        }
        (before, after)
    }
}

impl<E> Arrangement<E> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Group<E>> {
        self.find(hash(key), key).map(|place| &self.groups[place])
    }

    /// The same, with the hash of the key.
    pub(crate) fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&Group<E>> {
        self.find(hash, key).map(|place| &self.groups[place])
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Group<E>> {
        self.find(hash(key), key).map(|place| &mut self.groups[place])
    }

    /// One row of a key.
    pub(crate) fn row(&self, key: &[u8], value: &[u8]) -> Option<&Row<E>> {
        let group = self.get(key)?;
        group.find(value).map(|place| &group.rows()[place])
    }

    /// One row of a key.
    pub(crate) fn row_mut(&mut self, key: &[u8], value: &[u8]) -> Option<&mut Row<E>> {
        let group = self.get_mut(key)?;
        group.find(value).map(|place| &mut group.rows.rows_mut()[place])
    }

    pub(crate) fn groups(&self) -> &[Group<E>] {
        &self.groups
    }

    /// How many different rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes it takes; about.
    pub(crate) fn bytes(&self) -> usize {
        self.heap
            + self.groups.capacity() * size_of::<Group<E>>()
            + (self.rows - self.groups.len()) * size_of::<Row<E>>()
            + self.index.bytes()
    }

    /// Loads what keys of these hashes will need into the processor's cache.
    pub(crate) fn warm(&self, hashes: &[u64]) {
        let places = self.index.likely(hashes);
        let groups = || places.iter().map(|place| &self.groups[*place as usize]);
        warm(groups().map(|group| group.rows().len() as u64));
        warm(groups().filter_map(|group| group.rows().first()).map(|row| row.weight as u64));
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |place| self.groups[place as usize].key() == key).map(|place| place as usize)
    }

    fn insert_group(&mut self, hash: u64, key: &[u8], row: Row<E>) {
        let group = Group { key: key.into(), rows: Held::One(row), wide: None };
        self.rows += 1;
        self.heap += group.key.heap() + group.rows()[0].value.heap();
        if self.groups.len() == self.groups.capacity() {
            self.groups.reserve_exact((self.groups.len() / 4).max(4));
        }
        self.index.insert(hash, narrow(self.groups.len()));
        self.groups.push(group);
    }

    fn remove_group(&mut self, place: usize) {
        let hash_of = |group: &Group<E>| hash(group.key());
        self.index.remove(hash_of(&self.groups[place]), narrow(place));
        let last = self.groups.len() - 1;
        if last != place {
            self.index.relocate(hash_of(&self.groups[last]), narrow(last), narrow(place));
        }
        let gone = self.groups.swap_remove(place);
        self.heap -= gone.key.heap();
    }
}

/// Places are 32 bits wide: four billion rows of one key, or keys of one state, are past any memory that a view may have.
pub(crate) fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("Invariant: fewer than 2^32 rows fit the memory of a view")
}
