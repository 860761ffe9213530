//! A multiset of rows, found by key: the state of joins and of recomputed groups.
//!
//! Invariant: no row has weight 0, no group is empty, and the index holds each group once under the hash of its key. Weights below zero are
//! in order while an epoch is under way; at its end there are none.

use hashbrown::HashTable;

use crate::rows::{Bytes, hash};

/// Rows by key. `E` is what an operator keeps beside each row.
#[derive(Debug)]
pub(crate) struct Arrangement<E = ()> {
    index: HashTable<u32>,
    groups: Vec<Group<E>>,
    rows: usize,
    heap: usize,
}

/// The rows of one key.
#[derive(Debug)]
pub(crate) struct Group<E> {
    hash: u64,
    key: Bytes,
    rows: Vec<Row<E>>,
    /// Finds a row by its hash once there are more than [`NARROW`] of them.
    wide: Option<Box<HashTable<u32>>>,
}

/// A row and how often it is there.
#[derive(Debug)]
pub(crate) struct Row<E> {
    value: Bytes,
    hash: u64,
    pub(crate) weight: i64,
    pub(crate) extra: E,
}

/// Up to so many rows of a key are looked through one after the other.
const NARROW: usize = 16;

impl<E> Default for Arrangement<E> {
    fn default() -> Self {
        Self { index: HashTable::new(), groups: Vec::new(), rows: 0, heap: 0 }
    }
}

impl<E> Row<E> {
    pub(crate) fn value(&self) -> &[u8] {
        self.value.as_slice()
    }
}

impl<E> Group<E> {
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    pub(crate) fn rows(&self) -> &[Row<E>] {
        &self.rows
    }

    fn find(&self, hash: u64, value: &[u8]) -> Option<usize> {
        match &self.wide {
            Some(index) => {
                let same = |place: &u32| self.rows[*place as usize].value() == value;
                index.find(hash, same).map(|place| *place as usize)
            }
            None => self.rows.iter().position(|row| row.hash == hash && row.value() == value),
        }
    }

    fn push(&mut self, row: Row<E>) {
        if self.rows.len() == self.rows.capacity() {
            // Most keys have few rows: grow from one, not from four.
            self.rows.reserve_exact(self.rows.len().max(1));
        }
        let (hash, place) = (row.hash, self.rows.len());
        self.rows.push(row);
        let rows = &self.rows;
        let hash_of = |place: &u32| rows[*place as usize].hash;
        match &mut self.wide {
            Some(index) => {
                index.insert_unique(hash, narrow(place), hash_of);
            }
            None if rows.len() > NARROW => {
                let mut index = HashTable::with_capacity(rows.len() * 2);
                for (place, row) in rows.iter().enumerate() {
                    index.insert_unique(row.hash, narrow(place), hash_of);
                }
                self.wide = Some(Box::new(index));
            }
            None => {}
        }
    }

    fn remove(&mut self, place: usize) -> Row<E> {
        if let Some(index) = &mut self.wide {
            erase(index, self.rows[place].hash, place);
            let last = self.rows.len() - 1;
            if last != place
                && let Ok(mut moved) = index.find_entry(self.rows[last].hash, |at| *at as usize == last)
            {
                *moved.get_mut() = narrow(place);
            }
        }
        self.rows.swap_remove(place)
    }
}

impl<E: Default> Arrangement<E> {
    /// Adds to the weight of a row. Returns the weight before and after.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], weight: i64) -> (i64, i64) {
        self.add_with(key, value, weight, E::default)
    }

    /// The same; a row that was not there gets this beside it.
    pub(crate) fn add_with(&mut self, key: &[u8], value: &[u8], weight: i64, extra: impl FnOnce() -> E) -> (i64, i64) {
        if weight == 0 {
            return (0, 0);
        }
        let key_hash = hash(key);
        let value_hash = hash(value);
        let place = match self.find(key_hash, key) {
            Some(place) => place,
            None => self.insert_group(key_hash, key),
        };
        let group = &mut self.groups[place];
        if let Some(at) = group.find(value_hash, value) {
            let row = &mut group.rows[at];
            let before = row.weight;
            row.weight += weight;
            let after = row.weight;
            if after == 0 {
                let gone = group.remove(at);
                self.rows -= 1;
                self.heap -= gone.value.heap();
                if group.rows.is_empty() {
                    self.remove_group(place);
                }
            }
            return (before, after);
        }
        let row = Row { value: value.into(), hash: value_hash, weight, extra: extra() };
        self.rows += 1;
        self.heap += row.value.heap();
        group.push(row);
        (0, weight)
    }
}

impl<E> Arrangement<E> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Group<E>> {
        self.find(hash(key), key).map(|place| &self.groups[place])
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Group<E>> {
        self.find(hash(key), key).map(|place| &mut self.groups[place])
    }

    /// One row of a key.
    pub(crate) fn row(&self, key: &[u8], value: &[u8]) -> Option<&Row<E>> {
        let group = self.get(key)?;
        group.find(hash(value), value).map(|place| &group.rows[place])
    }

    /// One row of a key.
    pub(crate) fn row_mut(&mut self, key: &[u8], value: &[u8]) -> Option<&mut Row<E>> {
        let group = self.get_mut(key)?;
        group.find(hash(value), value).map(|place| &mut group.rows[place])
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
            + self.rows * size_of::<Row<E>>()
            + self.groups.len() * 2 * size_of::<u64>()
            + self.index.capacity() * (size_of::<u32>() + 1)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |place: &u32| self.groups[*place as usize].key.as_slice() == key;
        self.index.find(hash, same).map(|place| *place as usize)
    }

    fn insert_group(&mut self, hash: u64, key: &[u8]) -> usize {
        let place = self.groups.len();
        let group = Group { hash, key: key.into(), rows: Vec::new(), wide: None };
        self.heap += group.key.heap();
        self.groups.push(group);
        let groups = &self.groups;
        self.index.insert_unique(hash, narrow(place), |place| groups[*place as usize].hash);
        place
    }

    fn remove_group(&mut self, place: usize) {
        erase(&mut self.index, self.groups[place].hash, place);
        let last = self.groups.len() - 1;
        if last != place
            && let Ok(mut moved) = self.index.find_entry(self.groups[last].hash, |at| *at as usize == last)
        {
            *moved.get_mut() = narrow(place);
        }
        let gone = self.groups.swap_remove(place);
        self.heap -= gone.key.heap();
    }
}

fn erase(index: &mut HashTable<u32>, hash: u64, place: usize) {
    if let Ok(entry) = index.find_entry(hash, |at| *at as usize == place) {
        entry.remove();
    }
}

/// Places are 32 bits wide: four billion rows of one key, or keys of one state, are past any memory that a view may have.
pub(crate) fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("Invariant: fewer than 2^32 rows fit the memory of a view")
}
