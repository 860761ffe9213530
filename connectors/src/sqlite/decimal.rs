//! Decimals, exactly: text and the digits of doubles into scaled integers, without rounding.

use arrow::datatypes::i256;

/// Parses `[+-]digits[.digits][e[+-]digits]` as an integer of units of 10^-scale.
///
/// `Err` says why the number has no such form: it is no number, or it needs more places or more digits.
pub(super) fn parse(text: &str, precision: u8, scale: i8) -> Result<i256, &'static str> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| NOT_A_NUMBER)?),
        None => (magnitude, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    // The value is digits * 10^shift units.
    let places = i64::try_from(fraction.len()).map_err(|_| NOT_A_NUMBER)?;
    let shift = i64::from(exponent) - places + i64::from(scale);
    let units = shifted(digits.trim_start_matches('0'), shift)?;
    if units.len() > usize::from(precision) {
        return Err("it has more digits than the declared precision");
    }
    let sign = if negative { "-" } else { "" };
    if units.is_empty() {
        return Ok(i256::ZERO);
    }
    i256::from_string(&format!("{sign}{units}")).ok_or(NOT_A_NUMBER)
}

/// The decimal that a double stands for: the shortest digits that read back as the same double.
///
/// Beyond 2^52 units, neighbouring decimals of the scale become one double, so the double no longer says which it was.
pub(super) fn of_double(double: f64, precision: u8, scale: i8) -> Result<i256, &'static str> {
    const UNITS_MAX: i256 = i256::from_i128(1 << 52);
    let units = parse(&format!("{double:e}"), precision, scale)?;
    if units > UNITS_MAX || units < -UNITS_MAX {
        return Err("it is stored as REAL, which does not tell apart decimals of so many digits");
    }
    Ok(units)
}

const NOT_A_NUMBER: &str = "it is not a decimal number";

/// Digits times 10^shift, as digits without leading zeros.
fn shifted(digits: &str, shift: i64) -> Result<String, &'static str> {
    /// More than any precision: longer numbers need not be written out to be refused.
    const ZEROS_MAX: i64 = 100;
    if digits.is_empty() {
        return Ok(String::new());
    }
    if shift >= 0 {
        let zeros = usize::try_from(shift.min(ZEROS_MAX)).unwrap_or_default();
        return Ok(format!("{digits}{}", "0".repeat(zeros)));
    }
    let kept = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - kept.len()).unwrap_or(i64::MAX);
    if zeros + shift < 0 {
        return Err("it has more decimal places than the declared scale");
    }
    let cut = usize::try_from(-shift).unwrap_or(usize::MAX);
    Ok(digits[..digits.len() - cut].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, precision: u8, scale: i8) -> Option<i128> {
        parse(text, precision, scale).ok().and_then(i256::to_i128)
    }

    #[test]
    fn number_is_exact_or_refused() {
        for (text, expected) in [
            ("12.50", Some(1250)),
            ("12.5", Some(1250)),
            ("-0.01", Some(-1)),
            ("+7", Some(700)),
            (".5", Some(50)),
            ("5.", Some(500)),
            ("1e2", Some(10_000)),
            ("1.25e1", Some(1250)),
            ("1250E-2", Some(1250)),
            ("0", Some(0)),
            ("-0.00", Some(0)),
            ("0e999999999", Some(0)),
            ("00012.500", Some(1250)),
            ("99999999.99", Some(9_999_999_999)),
            ("100000000", None),
            ("1e999999999", None),
            ("12.505", None),
            ("1e-999999999", None),
            ("0.30000000000000004", None),
            ("", None),
            (".", None),
            ("-", None),
            ("1.2.3", None),
            ("1e", None),
            ("0x10", None),
            ("1 ", None),
            ("NaN", None),
            ("é", None),
        ] {
            assert_eq!(units(text, 10, 2), expected, "{text}");
        }
    }

    #[test]
    fn double_is_the_decimal_that_alone_rounds_to_it() {
        let units = |double: f64| of_double(double, 38, 2).ok().and_then(i256::to_i128);
        assert_eq!(units(12.5), Some(1250));
        assert_eq!(units(9_999_999_999.99), Some(999_999_999_999));
        assert_eq!(units(45_035_996_273_704.96), Some(1 << 52));
        assert_eq!(units(45_035_996_273_704.97), None);
        assert_eq!(units(1e20), None);
        assert_eq!(units(0.1 + 0.2), None);
        assert_eq!(units(f64::INFINITY), None);
        assert_eq!(units(-0.0), Some(0));
    }

    #[test]
    fn seventy_six_digits_fit_256_bits() {
        let nines = "9".repeat(76);
        assert_eq!(parse(&nines, 76, 0).unwrap().to_string(), nines);
        assert!(parse(&format!("{nines}9"), 76, 0).is_err());
    }
}
