//! Random choices that a seed repeats: what a test prints is enough to meet its failure again.

/// A source of random numbers (SplitMix64, Steele et al. 2014). The same seed makes the same choices on every machine.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other dice, told from those of the same seed by a number: the choices of one do not move those of the other.
    pub fn branch(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self(dice.draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize fits into 64 bits");
        usize::try_from(self.draw() % end).expect("less than a usize")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of these, which are not none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One of these by weight, of which one is not 0.
    pub fn weighted<T: Copy>(&mut self, from: &[(usize, T)]) -> T {
        let total = from.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(total);
        for (weight, value) in from {
            if at < *weight {
                return *value;
            }
            at -= weight;
        }
        unreachable!("the weights sum to the total")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_makes_same_choices_and_weights_of_nothing_are_never_chosen() {
        let (mut left, mut right) = (Dice::new(7), Dice::new(7));
        assert!((0..100).all(|_| left.draw() == right.draw()));
        assert!((0..100).all(|_| left.weighted(&[(0, 'a'), (1, 'b'), (0, 'c')]) == 'b'));
        assert!((0..100).all(|_| (3..=5).contains(&left.between(3, 5))));
        assert_ne!(Dice::branch(7, 0).draw(), Dice::branch(7, 1).draw());
    }
}
