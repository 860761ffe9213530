//! From hashes to places: the index of what a state holds.
//!
//! Open addressing in one array of slots, looked through one by one from where a hash belongs, so that finding something reads one line of the
//! cache most often. A slot is 32 bits of the hash and the place. What is taken out leaves no mark: those behind it move up.
//!
//! Invariant: between the slot where a hash belongs and the slot where its place stands, no slot is empty.

/// Places by hash. It is for who calls to say whether a place is the one that is looked for.
#[derive(Debug, Default)]
pub(crate) struct Places {
    slots: Vec<u64>,
    used: usize,
}

const EMPTY: u64 = 0;

/// Seven of ten slots are used at most.
const FULL: (usize, usize) = (7, 10);

const SLOTS_MIN: usize = 4;

impl Places {
    /// The place of a hash for which `same` holds.
    pub(crate) fn find(&self, hash: u64, same: impl FnMut(u32) -> bool) -> Option<u32> {
        self.slot(hash, same).map(|at| place_of(self.slots[at]))
    }

    /// Adds a place that is not there.
    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        if (self.used + 1) * FULL.1 > self.slots.len() * FULL.0 {
            self.grow();
        }
        self.used += 1;
        self.put(slot_of(hash, place));
    }

    /// Takes a place out, if it is there.
    pub(crate) fn remove(&mut self, hash: u64, place: u32) {
        let Some(mut hole) = self.slot(hash, |other| other == place) else { return };
        let mut at = self.after(hole);
        while self.slots[at] != EMPTY {
            let home = self.home(self.slots[at]);
            if self.distance(home, at) >= self.distance(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
    }

    /// What was at a place is at another now.
    pub(crate) fn relocate(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(at) = self.slot(hash, |place| place == from) {
            self.slots[at] = slot_of(hash, to);
        }
    }

    /// The places that these hashes most likely have, with the lines of the cache loaded where they stand. See [`warm`].
    pub(crate) fn likely(&self, hashes: &[u64]) -> Vec<u32> {
        if self.slots.is_empty() {
            return vec![];
        }
        warm(hashes.iter().map(|hash| self.slots[self.home(slot_of(*hash, 0))]));
        hashes.iter().filter_map(|hash| self.find(*hash, |_| true)).collect()
    }

    /// All of them, in an order that depends on what was done alone.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().filter(|slot| **slot != EMPTY).map(|slot| place_of(*slot))
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    fn slot(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let wanted = slot_of(hash, 0);
        let mut at = self.home(wanted);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if slot >> 32 == wanted >> 32 && same(place_of(slot)) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    fn grow(&mut self) {
        let slots = ((self.used + 1) * 11 / 5).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        old.into_iter().filter(|slot| *slot != EMPTY).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, slot: u64) {
        let mut at = self.home(slot);
        while self.slots[at] != EMPTY {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Where a slot belongs: its part of the hash, spread over all slots (Lemire's multiplication in place of a division).
    fn home(&self, slot: u64) -> usize {
        (((slot >> 32) * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }
}

/// Both halves; the place plus one, so that no slot in use is [`EMPTY`].
fn slot_of(hash: u64, place: u32) -> u64 {
    debug_assert!(place < u32::MAX, "Invariant: a place is less than 2^32 - 1");
    (hash & 0xffff_ffff_0000_0000) | u64::from(place + 1)
}

fn place_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

/// Reads what will be needed for a batch of rows, one after the other without waiting for any: the processor then loads many lines of its cache at
/// once, where it would wait for each if it were needed right away. The numbers themselves mean nothing.
pub(crate) fn warm(loads: impl Iterator<Item = u64>) {
    std::hint::black_box(loads.fold(0, u64::wrapping_add));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Few hashes, so that they meet.
    fn hash_of(number: u64) -> u64 {
        (number % 7) << 61 | (number % 3) << 32
    }

    proptest! {
        #[test]
        fn places_are_found_until_they_are_removed(steps in proptest::collection::vec((0_u64..40, any::<bool>()), 0..300)) {
            let (mut places, mut model) = (Places::default(), HashMap::new());
            for (number, adds) in steps {
                let place = number as u32;
                if adds && model.insert(number, place).is_none() {
                    places.insert(hash_of(number), place);
                } else if !adds {
                    model.remove(&number);
                    places.remove(hash_of(number), place);
                }
                for number in 0..40 {
                    let found = places.find(hash_of(number), |place| u64::from(place) == number);
                    prop_assert_eq!(found, model.get(&number).copied());
                }
            }
        }
    }

    #[test]
    fn relocated_place_is_found_at_its_new_place() {
        let mut places = Places::default();
        (0..10).for_each(|place| places.insert(hash_of(1), place));
        places.relocate(hash_of(1), 4, 99);
        assert_eq!(places.find(hash_of(1), |place| place == 4), None);
        assert_eq!(places.find(hash_of(1), |place| place == 99), Some(99));
    }
}
