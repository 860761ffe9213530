//! Rows in two parts, packed: many of any length in a few large pieces of memory, each found by 32 bits.
//!
//! A record is the lengths of both parts and their bytes, rounded up to 8 bytes. What a record leaves is for the next of the same size; sizes above
//! 512 bytes are rounded up to an eighth of a power of two, so that there are few.

/// Records by place.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pages: Vec<Vec<u8>>,
    /// The page that is being filled.
    filling: usize,
    /// Places that are free, by the class of their size.
    free: Vec<Vec<u32>>,
}

/// A place counts in so many bytes.
const GRANULE: usize = 8;
/// Granules of a page, but for the page of a record that is larger: 1 MiB.
const PAGE_BITS: u32 = 17;
const PAGE_BYTES: usize = GRANULE << PAGE_BITS;
/// One less than fit: the last place is none.
const PAGES_MAX: u32 = (1 << (32 - PAGE_BITS)) - 1;
/// Sizes up to so many granules are classes of their own.
const EXACT: usize = 64;
/// Lengths from here on do not fit the short header.
const LONG: usize = u16::MAX as usize;
const SHORT_HEADER: usize = 4;
const LONG_HEADER: usize = 12;

impl Packed {
    /// Adds a record. `None` where all places are taken: 32 bits of 8 bytes are 32 GiB.
    pub(crate) fn insert(&mut self, key: &[u8], others: &[u8]) -> Option<u32> {
        if key.len().max(others.len()) > u32::MAX as usize {
            return None;
        }
        let header = if key.len() < LONG && others.len() < LONG { SHORT_HEADER } else { LONG_HEADER };
        let (class, granules) = class_of((header + key.len() + others.len()).div_ceil(GRANULE));
        let place = match self.free.get_mut(class).and_then(Vec::pop) {
            Some(place) => place,
            None => self.extend(granules * GRANULE)?,
        };
        let record = self.record_mut(place);
        if header == SHORT_HEADER {
            record[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
            record[2..4].copy_from_slice(&(others.len() as u16).to_le_bytes());
        } else {
            record[..4].fill(0xff);
            record[4..8].copy_from_slice(&(key.len() as u32).to_le_bytes());
            record[8..12].copy_from_slice(&(others.len() as u32).to_le_bytes());
        }
        record[header..][..key.len()].copy_from_slice(key);
        record[header + key.len()..][..others.len()].copy_from_slice(others);
        Some(place)
    }

    /// Both parts of a record that is there.
    pub(crate) fn get(&self, place: u32) -> (&[u8], &[u8]) {
        let record = self.record(place);
        let (header, key, others) = lengths(record);
        record[header..][..key + others].split_at(key)
    }

    /// The first part.
    pub(crate) fn key(&self, place: u32) -> &[u8] {
        self.get(place).0
    }

    /// The second part, to be written over.
    pub(crate) fn others_mut(&mut self, place: u32) -> &mut [u8] {
        let record = self.record_mut(place);
        let (header, key, others) = lengths(record);
        &mut record[header + key..][..others]
    }

    /// Writes another second part over the one that is there, if it is as long.
    pub(crate) fn overwrite(&mut self, place: u32, others: &[u8]) -> bool {
        let there = self.others_mut(place);
        if there.len() != others.len() {
            return false;
        }
        there.copy_from_slice(others);
        true
    }

    /// Gives a record's place up.
    pub(crate) fn remove(&mut self, place: u32) {
        let (header, key, others) = lengths(self.record(place));
        let (class, _) = class_of((header + key + others).div_ceil(GRANULE));
        if self.free.len() <= class {
            self.free.resize_with(class + 1, Vec::new);
        }
        self.free[class].push(place);
    }

    /// The first byte, to load it.
    pub(crate) fn first(&self, place: u32) -> u64 {
        self.record(place).first().copied().map_or(0, u64::from)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let free: usize = self.free.iter().map(Vec::capacity).sum();
        self.pages.iter().map(Vec::capacity).sum::<usize>() + free * size_of::<u32>()
    }

    fn extend(&mut self, bytes: usize) -> Option<u32> {
        let fits = self.pages.get(self.filling).is_some_and(|page| page.len() + bytes <= PAGE_BYTES);
        let page = if fits { self.filling } else { self.pages.len() };
        let number = u32::try_from(page).ok().filter(|page| *page < PAGES_MAX)?;
        if !fits {
            self.pages.push(Vec::new());
        }
        // A page of a record that is larger than a page is full, and the one before goes on.
        if bytes <= PAGE_BYTES {
            self.filling = page;
        }
        let offset = self.pages[page].len();
        self.pages[page].resize(offset + bytes, 0);
        Some(number << PAGE_BITS | (offset / GRANULE) as u32)
    }

    fn record(&self, place: u32) -> &[u8] {
        let (page, offset) = parts(place);
        &self.pages[page][offset..]
    }

    fn record_mut(&mut self, place: u32) -> &mut [u8] {
        let (page, offset) = parts(place);
        &mut self.pages[page][offset..]
    }
}

fn parts(place: u32) -> (usize, usize) {
    ((place >> PAGE_BITS) as usize, (place as usize & ((1 << PAGE_BITS) - 1)) * GRANULE)
}

/// Of the header and of both parts.
fn lengths(record: &[u8]) -> (usize, usize, usize) {
    let short = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
    if short(0) < LONG {
        return (SHORT_HEADER, short(0), short(2));
    }
    let long = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]) as usize;
    (LONG_HEADER, long(4), long(8))
}

/// The class of a size, and the size of that class.
fn class_of(granules: usize) -> (usize, usize) {
    if granules <= EXACT {
        return (granules, granules);
    }
    let power = granules.ilog2();
    let eighth = 1 << (power - 3);
    let rounded = granules.div_ceil(eighth);
    ((power as usize - EXACT.ilog2() as usize) * 8 + rounded + EXACT - 8, rounded * eighth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_do_not_overlap_and_hold_their_sizes() {
        let mut before = class_of(1);
        for granules in 2..100_000 {
            let class = class_of(granules);
            assert!(class.1 >= granules && class.1 <= granules + granules / 8 + 1, "{granules}: {class:?}");
            assert_eq!(class.0 == before.0, class.1 == before.1, "{granules}: {before:?}, {class:?}");
            before = class;
        }
    }

    proptest! {
        #[test]
        fn records_are_what_was_put_in(steps in proptest::collection::vec((0_usize..8, 0_usize..700, 0_usize..9), 0..200)) {
            let (mut packed, mut model) = (Packed::default(), Vec::<(u32, Vec<u8>, Vec<u8>)>::new());
            for (number, (key, others, remove)) in steps.into_iter().enumerate() {
                // Some are longer than the short header, and than a page, can say.
                let others = match others { 0 => 2_000_000, 1 => 70_000, others => others };
                let (key, others) = (vec![number as u8; key], vec![!number as u8; others]);
                model.push((packed.insert(&key, &others).unwrap(), key, others));
                if remove < 6 {
                    let (place, ..) = model.swap_remove(remove % model.len());
                    packed.remove(place);
                }
                for (place, key, others) in &model {
                    prop_assert!(packed.get(*place) == (key, others));
                }
            }
        }
    }

    #[test]
    fn places_that_were_given_up_are_taken_again() {
        let mut packed = Packed::default();
        let places: Vec<u32> = (0..1_000).map(|_| packed.insert(&[1; 9], &[2; 19]).unwrap()).collect();
        let bytes = packed.bytes();
        places.iter().for_each(|place| packed.remove(*place));
        (0..1_000).for_each(|_| assert!(packed.insert(&[3; 9], &[4; 18]).is_some()));
        assert!(packed.bytes() <= bytes + 1_000 * size_of::<u32>() * 2, "{} after {bytes}", packed.bytes());
    }
}
