//! The rows of a table by other columns than its key: one index for all views that join by them.
//!
//! It holds places of rows and no row: a row that changes elsewhere than in these columns costs the index nothing.
//!
//! Invariant: every row of the table is in it once, under the hash of its columns, but for those that nobody finds; no group is empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::layout::Span;
use crate::arrangement::narrow;
use crate::packed::Packed;
use crate::places::{Places, warm};
use crate::rows::{Fixed, hash, same};

/// Columns by which rows are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) columns: Vec<usize>,
    /// Whether rows with a NULL among them are found too.
    pub(crate) nulls: bool,
}

/// Held by each view that looks into an index, which lasts as long: how many bytes it has.
pub(crate) type InUse = Arc<AtomicUsize>;

#[derive(Debug)]
pub(crate) struct Index {
    by: By,
    spans: Vec<Span>,
    /// The number of a group by the hash of its columns.
    numbers: Places,
    groups: Vec<Group>,
    heap: usize,
    /// The key that is looked at.
    key: Vec<u8>,
    in_use: InUse,
}

/// The places of the rows that are equal in the columns.
#[derive(Debug)]
enum Group {
    One(u32),
    Few(Vec<u32>),
    /// With where each place stands in the list.
    Many(Box<(Vec<u32>, HashMap<u32, u32, Fixed>)>),
}

/// Up to so many rows are looked through one after the other.
const FEW: usize = 256;

impl Index {
    pub(super) fn new(by: By, spans: Vec<Span>) -> Self {
        let (numbers, in_use) = Default::default();
        Self { by, spans, numbers, groups: vec![], heap: 0, key: vec![], in_use }
    }

    /// The same, without rows.
    pub(super) fn emptied(&self) -> Self {
        let emptied = Self { in_use: Arc::clone(&self.in_use), ..Self::new(self.by.clone(), self.spans.clone()) };
        emptied.tell();
        emptied
    }

    /// Whether it finds all rows that are to be found.
    pub(super) fn serves(&self, by: &By) -> bool {
        self.by.columns == by.columns && (self.by.nulls || !by.nulls)
    }

    /// It is kept for as long as this is.
    pub(super) fn in_use(&self) -> InUse {
        Arc::clone(&self.in_use)
    }

    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.in_use) > 1
    }

    /// Whether a row with such other columns lies elsewhere.
    pub(super) fn tells_apart(&self, old: &[u8], new: &[u8]) -> bool {
        let mut spans = self.spans.iter().filter(|span| !span.in_key());
        spans.any(|span| span.of((&[], old)) != span.of((&[], new)))
    }

    /// Adds a row that is held.
    pub(super) fn insert(&mut self, held: &Packed, place: u32) {
        let Some(hash) = self.look_at(held, place) else { return };
        match self.number(held, hash, &self.key) {
            Some(number) => {
                let group = &mut self.groups[number];
                self.heap -= group.heap();
                group.push(place);
                self.heap += group.heap();
            }
            None => {
                self.numbers.insert(hash, narrow(self.groups.len()));
                if self.groups.len() == self.groups.capacity() {
                    self.groups.reserve_exact((self.groups.len() / 4).max(4));
                }
                self.groups.push(Group::One(place));
            }
        }
        self.tell();
    }

    /// Takes a row out that is held still.
    pub(super) fn remove(&mut self, held: &Packed, place: u32) {
        let Some(hash) = self.look_at(held, place) else { return };
        let Some(number) = self.number(held, hash, &self.key) else { return };
        let group = &mut self.groups[number];
        self.heap -= group.heap();
        let is_left = group.remove(place);
        if is_left {
            self.heap += group.heap();
            return self.tell();
        }
        self.numbers.remove(hash, narrow(number));
        let last = self.groups.len() - 1;
        if last != number {
            let hash = self.look_at(held, self.groups[last].places()[0]);
            self.numbers.relocate(hash.unwrap_or_default(), narrow(last), narrow(number));
        }
        self.groups.swap_remove(number);
        self.tell();
    }

    /// The places of the rows that are equal to a key.
    pub(super) fn get(&self, held: &Packed, hash: u64, key: &[u8]) -> &[u32] {
        self.number(held, hash, key).map_or(&[], |number| self.groups[number].places())
    }

    /// Loads what keys of these hashes will need into the processor's cache.
    pub(super) fn warm(&self, held: &Packed, hashes: &[u64]) {
        let numbers = self.numbers.likely(hashes);
        let groups = || numbers.iter().map(|number| &self.groups[*number as usize]);
        warm(groups().map(|group| group.places().len() as u64));
        warm(groups().filter_map(|group| group.places().first()).map(|place| held.first(*place)));
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.numbers.bytes() + self.groups.capacity() * size_of::<Group>() + self.heap
    }

    fn tell(&self) {
        self.in_use.store(self.bytes(), Ordering::Relaxed);
    }

    fn number(&self, held: &Packed, hash: u64, key: &[u8]) -> Option<usize> {
        let same = |number: u32| self.is_equal(held.get(self.groups[number as usize].places()[0]), key);
        self.numbers.find(hash, same).map(|number| number as usize)
    }

    fn is_equal(&self, row: (&[u8], &[u8]), mut key: &[u8]) -> bool {
        self.spans.iter().all(|span| {
            let Some((part, rest)) = key.split_at_checked(span.len()) else { return false };
            key = rest;
            same(span.of(row), part)
        })
    }

    /// Puts the columns of a row into `key`; their hash. `None` of a row that nobody finds.
    fn look_at(&mut self, held: &Packed, place: u32) -> Option<u64> {
        let row = held.get(place);
        if !self.by.nulls && self.spans.iter().any(|span| span.is_null(row)) {
            return None;
        }
        self.key.clear();
        self.spans.iter().for_each(|span| self.key.extend_from_slice(span.of(row)));
        Some(hash(&self.key))
    }
}

impl Group {
    fn places(&self) -> &[u32] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Few(places) => places,
            Self::Many(many) => &many.0,
        }
    }

    fn push(&mut self, place: u32) {
        match self {
            Self::One(first) => *self = Self::Few(vec![*first, place]),
            Self::Few(places) if places.len() < FEW => {
                if places.len() == places.capacity() {
                    // Most keys have few rows, so by half and not by twice.
                    places.reserve_exact((places.len() / 2).max(2));
                }
                places.push(place);
            }
            Self::Few(places) => {
                let mut places = std::mem::take(places);
                places.push(place);
                let at = places.iter().enumerate().map(|(at, place)| (*place, narrow(at))).collect();
                *self = Self::Many(Box::new((places, at)));
            }
            Self::Many(many) => {
                many.1.insert(place, narrow(many.0.len()));
                many.0.push(place);
            }
        }
    }

    /// Whether any is left.
    fn remove(&mut self, place: u32) -> bool {
        match self {
            Self::One(_) => return false,
            Self::Few(places) => {
                if let Some(at) = places.iter().position(|other| *other == place) {
                    places.swap_remove(at);
                }
                if let [last] = places[..] {
                    *self = Self::One(last);
                }
            }
            Self::Many(many) => {
                let (places, at) = many.as_mut();
                if let Some(hole) = at.remove(&place) {
                    places.swap_remove(hole as usize);
                    if let Some(moved) = places.get(hole as usize) {
                        at.insert(*moved, hole);
                    }
                }
                if places.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(places));
                }
            }
        }
        true
    }

    fn heap(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(places) => places.capacity() * size_of::<u32>(),
            Self::Many(many) => many.0.capacity() * size_of::<u32>() + many.1.allocation_size(),
        }
    }
}
