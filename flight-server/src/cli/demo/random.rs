//! Numbers that look random and are the same everywhere: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
//! Generators, 2014).

/// A generator. Not for secrets.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; `bound` must be positive.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        // The high half of a 32 by 32 bit product is below the bound.
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// A number in `0..bound` of which small ones are more frequent, as few customers place most orders.
    pub(super) fn skewed(&mut self, bound: u32) -> u32 {
        let unit = f64::from(self.below(1 << 30)) / f64::from(1 << 30);
        ((unit * unit * f64::from(bound)) as u32).min(bound - 1)
    }

    /// Whether something of this many percent happens.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of a list that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(u32::try_from(list.len()).unwrap_or(u32::MAX)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.below(1000), random.below(1000), random.skewed(1000), random.skewed(1000)]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] += 1;
            assert!(random.skewed(3) < 3);
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}
