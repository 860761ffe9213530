//! Sums of floats without rounding: what is added and taken away again leaves no trace.
//!
//! A sum is an integer multiple of 2^-1074, the smallest double, held as digits of 32 bits in a window that grows to what it is given (after
//! Radford Neal, "Fast exact summation using small and large superaccumulators", 2015). It is rounded once, when it is read.

/// A sum of doubles, each with a weight.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactSum {
    /// The place of the lowest digit, in digits above 2^-1074.
    lowest: usize,
    /// Digits of 32 bits with what they carry in the upper half; signed.
    digits: Vec<i64>,
    /// How many additions may follow before carries must be passed on.
    room: u32,
    not_a_number: i64,
    infinite: i64,
    negative_infinite: i64,
}

/// A digit takes this many additions of up to 32 bits each before its upper half is full.
const ADDITIONS_MAX: u32 = 1 << 29;

impl ExactSum {
    /// Adds a value so many times.
    pub(crate) fn add(&mut self, value: f64, weight: i64) {
        if !value.is_finite() {
            *(if value.is_nan() {
                &mut self.not_a_number
            } else if value > 0.0 {
                &mut self.infinite
            } else {
                &mut self.negative_infinite
            }) += weight;
            return;
        }
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | (1 << 52), exponent - 1) };
        if mantissa == 0 || weight == 0 {
            return;
        }
        let negative = value.is_sign_negative() != (weight < 0);
        // 53 bits times 64 bits, moved by less than 32: at most 149 bits.
        let product = u128::from(mantissa) * u128::from(weight.unsigned_abs());
        let (place, offset) = (shift / 32, shift % 32);
        let mut rest = product;
        self.make_room(place, 6);
        let mut carry = 0_u64;
        let mut at = place - self.lowest;
        while rest != 0 || carry != 0 {
            let low = (((rest as u64) & 0xffff_ffff) << offset) | carry;
            let digit = (low & 0xffff_ffff) as i64;
            self.digits[at] += if negative { -digit } else { digit };
            carry = low >> 32;
            rest >>= 32;
            at += 1;
        }
    }

    /// The sum, rounded to the nearest double.
    pub(crate) fn value(&self) -> f64 {
        match (self.not_a_number != 0, self.infinite != 0, self.negative_infinite != 0) {
            (false, false, false) => self.finite(),
            (false, true, false) => f64::INFINITY,
            (false, false, true) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
    }

    fn make_room(&mut self, place: usize, count: usize) {
        if self.digits.is_empty() {
            self.lowest = place;
        } else if place < self.lowest {
            let more = self.lowest - place;
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.lowest = place;
        }
        let needed = place - self.lowest + count;
        if self.digits.len() < needed {
            self.digits.resize(needed, 0);
        }
        if self.room == 0 {
            self.pass_carries();
        }
        self.room -= 1;
    }

    /// Brings every digit but the last between 0 and 2^32.
    fn pass_carries(&mut self) {
        let mut carry = 0;
        for digit in &mut self.digits {
            let sum = *digit + carry;
            carry = sum >> 32;
            *digit = sum & 0xffff_ffff;
        }
        if carry != 0 {
            self.digits.push(carry);
        }
        self.room = ADDITIONS_MAX;
    }

    fn finite(&self) -> f64 {
        let mut exact = self.clone();
        exact.pass_carries();
        let negative = exact.digits.last().is_some_and(|digit| *digit < 0);
        if negative {
            exact.digits.iter_mut().for_each(|digit| *digit = -*digit);
            exact.pass_carries();
        }
        let Some(top) = exact.digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
        // The highest 64 bits and whether anything lies below them.
        let digit = |place: usize| exact.digits[place] as u128;
        let (mut window, mut low_place) = (0_u128, top);
        for place in (top.saturating_sub(3)..=top).rev() {
            window = (window << 32) | digit(place);
            low_place = place;
        }
        let mut sticky = exact.digits[..low_place].iter().any(|digit| *digit != 0);
        let mut exponent = ((exact.lowest + low_place) * 32) as i64 - 1074;
        let bits = 128 - i64::from(window.leading_zeros());
        if bits > 53 {
            let dropped = bits - 53;
            let (kept, below) = (window >> dropped, window & ((1 << dropped) - 1));
            let half = 1_u128 << (dropped - 1);
            sticky |= below & (half - 1) != 0;
            let up = below & half != 0 && (sticky || kept & 1 == 1);
            window = kept + u128::from(up);
            exponent += dropped;
        }
        let magnitude = scale(window as f64, exponent);
        if negative { -magnitude } else { magnitude }
    }
}

/// `value` times two to the power of `exponent`; exact unless it leaves the range of doubles.
fn scale(value: f64, exponent: i64) -> f64 {
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    match exponent {
        ..-1022 => value * power(-1022) * power((exponent + 1022).max(-1022)),
        -1022..=1023 => value * power(exponent),
        _ => value * power(1023) * power((exponent - 1023).min(1023)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[(f64, i64)]) -> f64 {
        let mut exact = ExactSum::default();
        values.iter().for_each(|(value, weight)| exact.add(*value, *weight));
        exact.value()
    }

    #[test]
    fn sum_is_rounded_once_and_forgets_what_is_taken_away() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[(0.1, 10)]), 1.0);
        assert_eq!(sum(&[(1e308, 1), (1.0, 1), (1e308, -1)]), 1.0);
        assert_eq!(sum(&[(1e300, 1), (5e-324, 3), (1e300, -1)]), 1.5e-323);
        assert_eq!(sum(&[(-2.5, 2), (1.25, 1)]), -3.75);
        assert_eq!(sum(&[(f64::MAX, 2)]), f64::INFINITY);
        assert_eq!(sum(&[(f64::INFINITY, 1), (2.0, 1), (f64::INFINITY, -1)]), 2.0);
        assert!(sum(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 1)]).is_nan());
        assert_eq!(sum(&[(9007199254740993.0, 1), (1.0, 1)]), 9007199254740992.0 + 2.0 - 1.0);
    }

    #[test]
    fn single_value_comes_back_whatever_its_size() {
        for value in [5e-324, 1e-310, f64::MIN_POSITIVE, 0.1, 1.0, -3.0, 1e16, 1.7976931348623157e308, -f64::MAX] {
            assert_eq!(sum(&[(value, 1)]), value, "{value}");
            assert_eq!(sum(&[(value, 3), (value, -2)]), value, "{value}");
        }
    }
}
