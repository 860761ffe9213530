//! Postgres's binary numeric, read as an unscaled integer without ever passing through a float.
//!
//! The format (numeric_send in numeric.c): the count of base-10000 digits, the weight of the first, a sign word, the display
//! scale, then the digits.

use arrow::datatypes::i256;

const BASE: i64 = 10_000;
const BASE_DIGITS: i32 = 4;
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// An integer wide enough for a decimal.
pub(super) trait Unscaled: Copy + Sized {
    /// A small number.
    fn small(value: i64) -> Self;
    /// `self * factor + digit`, or nothing where it does not fit.
    fn push(self, factor: i64, digit: i64) -> Option<Self>;
    /// The negation.
    fn negated(self) -> Self;
}

impl Unscaled for i128 {
    fn small(value: i64) -> Self {
        value.into()
    }

    fn push(self, factor: i64, digit: i64) -> Option<Self> {
        self.checked_mul(factor.into())?.checked_add(digit.into())
    }

    fn negated(self) -> Self {
        -self
    }
}

impl Unscaled for i256 {
    fn small(value: i64) -> Self {
        Self::from(value)
    }

    fn push(self, factor: i64, digit: i64) -> Option<Self> {
        self.checked_mul(Self::from(factor))?.checked_add(Self::from(digit))
    }

    fn negated(self) -> Self {
        self.wrapping_neg()
    }
}

/// The same for a finite value of at most four base-10000 digits, without looking at each for what may go wrong; `None` for any other,
/// which [`read`] takes.
#[inline]
pub(super) fn short(bytes: &[u8], scale: i8) -> Option<i64> {
    let (head, digits) = bytes.split_first_chunk::<8>()?;
    let count = u16::from_be_bytes([head[0], head[1]]);
    let weight = i16::from_be_bytes([head[2], head[3]]);
    let sign = u16::from_be_bytes([head[4], head[5]]);
    if count == 0 || count > 4 || digits.len() != usize::from(count) * 2 || !matches!(sign, POSITIVE | NEGATIVE) {
        return None;
    }
    let mut value = 0;
    for digit in digits.chunks_exact(2) {
        value = value * BASE + i64::from(u16::from_be_bytes([digit[0], digit[1]]));
    }
    // The power of ten of the last digit, in units of the scaled value: at most 16 digits and so many zeros fit.
    let exponent = BASE_DIGITS * (i32::from(weight) + 1 - i32::from(count)) + i32::from(scale);
    let value = match exponent {
        0 => value,
        1 => value * 10,
        2 => value * 100,
        -1 if value % 10 == 0 => value / 10,
        -2 if value % 100 == 0 => value / 100,
        -3 if value % 1000 == 0 => value / 1000,
        _ => return None,
    };
    Some(if sign == NEGATIVE { -value } else { value })
}

/// The value times ten to the `scale`, or why there is none.
pub(super) fn read<T: Unscaled>(bytes: &[u8], scale: i8) -> Result<T, &'static str> {
    const MALFORMED: &str = "a malformed numeric";
    let word = |index: usize| bytes.get(index * 2..index * 2 + 2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let count = word(0).ok_or(MALFORMED)?;
    let weight = word(1).ok_or(MALFORMED)?.cast_signed();
    let negative = match word(2).ok_or(MALFORMED)? {
        POSITIVE => false,
        NEGATIVE => true,
        NAN => return Err("NaN; read it through a view that casts the column to text"),
        INFINITY | MINUS_INFINITY => return Err("an infinity; read it through a view that casts the column to text"),
        _ => return Err(MALFORMED),
    };
    let mut value = T::small(0);
    // The power of ten of the last digit that was taken, in units of the scaled value.
    let mut exponent = 0;
    for index in 0..count {
        let digit = i64::from(word(4 + usize::from(index)).ok_or(MALFORMED)?);
        exponent = BASE_DIGITS * (i32::from(weight) - i32::from(index)) + i32::from(scale);
        value = place(value, digit, exponent)?;
    }
    if count > 0 && exponent > 0 {
        value = shifted(value, exponent)?;
    }
    Ok(if negative { value.negated() } else { value })
}

const TOO_LONG: &str = "more digits than the decimal has that the column is read as";

/// Takes one base-10000 digit. One that lies partly behind the scale gives only its upper decimal digits.
fn place<T: Unscaled>(value: T, digit: i64, exponent: i32) -> Result<T, &'static str> {
    if exponent >= 0 {
        return value.push(BASE, digit).ok_or(TOO_LONG);
    }
    let behind = exponent.unsigned_abs().min(BASE_DIGITS.unsigned_abs());
    let cut = 10_i64.pow(behind);
    if digit % cut != 0 {
        return Err("more digits behind the point than the decimal has that the column is read as");
    }
    value.push(BASE / cut, digit / cut).ok_or(TOO_LONG)
}

fn shifted<T: Unscaled>(mut value: T, exponent: i32) -> Result<T, &'static str> {
    for _ in 0..exponent {
        value = value.push(10, 0).ok_or(TOO_LONG)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let words = [digits.len() as u16, weight.cast_unsigned(), sign, 0];
        words.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn digits_on_both_sides_of_the_point_are_kept() {
        assert_eq!(read::<i128>(&encoded(1, POSITIVE, &[12, 3456, 7800]), 2), Ok(12_345_678));
        assert_eq!(read::<i128>(&encoded(0, NEGATIVE, &[1]), 10), Ok(-10_000_000_000));
        assert_eq!(read::<i128>(&encoded(-1, POSITIVE, &[100]), 2), Ok(1));
        assert_eq!(read::<i128>(&encoded(-2, POSITIVE, &[5]), 8), Ok(5));
        assert_eq!(read::<i128>(&encoded(2, POSITIVE, &[7]), 0), Ok(700_000_000));
        assert_eq!(read::<i128>(&encoded(0, POSITIVE, &[]), 4), Ok(0));
        assert_eq!(
            read::<i256>(&encoded(18, POSITIVE, &[9999; 19]), 0).map(|value| value.to_string()),
            Ok("9".repeat(76))
        );
    }

    #[test]
    fn longest_decimal_with_a_partial_last_digit_fits() {
        let mut digits = vec![9; 1];
        digits.extend([9999; 9]);
        digits.push(9000);
        assert_eq!(read::<i128>(&encoded(9, POSITIVE, &digits), 1).map(|value| value.to_string()), Ok("9".repeat(38)));
    }

    #[test]
    fn short_way_reads_as_the_long_way_does_or_not_at_all() {
        let mut taken = 0;
        for digits in [&[][..], &[1], &[9999], &[3, 3078, 9400], &[1, 0, 0, 9990], &[9999; 4], &[1; 5], &[5000]] {
            for weight in -3..5 {
                for scale in [0, 1, 2, 3, 4, 6, 10] {
                    for sign in [POSITIVE, NEGATIVE, NAN, INFINITY] {
                        let bytes = encoded(weight, sign, digits);
                        let Some(value) = short(&bytes, scale) else { continue };
                        assert_eq!(read::<i128>(&bytes, scale), Ok(value.into()), "{digits:?} {weight} {scale}");
                        taken += 1;
                    }
                }
            }
        }
        assert!(taken > 50, "{taken}");
        assert_eq!(short(&encoded(1, POSITIVE, &[3, 3078, 9400]), 2), Some(3_307_894));
        assert_eq!(short(&encoded(0, NEGATIVE, &[7]), 2), Some(-700));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(read::<i128>(&encoded(0, NAN, &[]), 2).is_err());
        assert!(read::<i128>(&encoded(0, POSITIVE, &[1, 50]), 2).is_err());
        assert!(read::<i128>(&encoded(20, POSITIVE, &[1]), 0).is_err());
        assert!(read::<i128>(&encoded(0, POSITIVE, &[1])[..8], 0).is_err());
        assert!(read::<i128>(&[], 0).is_err());
    }
}
