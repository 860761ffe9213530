//! Days and times as PostgreSQL writes them.
//!
//! Days are counted from 1970-01-01 in the proleptic Gregorian calendar, as in Arrow. The algorithm is Howard Hinnant's `civil_from_days`.

use std::fmt::{self, Write};

pub(super) const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// From the epoch of Arrow to that of PostgreSQL, 2000-01-01, in days.
pub(super) const POSTGRES_EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds.
pub(super) const POSTGRES_EPOCH_MICROSECONDS: i64 = POSTGRES_EPOCH_DAYS as i64 * MICROSECONDS_PER_DAY;

/// Writes a day: `2024-02-29`, `0044-03-15 BC`.
pub(super) fn date(out: &mut impl Write, days: i64) -> fmt::Result {
    let year = day(out, days)?;
    if year > 0 { Ok(()) } else { out.write_str(" BC") }
}

/// Writes a day, before what says whether it is BC; and tells the year.
fn day(out: &mut impl Write, days: i64) -> Result<i64, fmt::Error> {
    let (year, month, day) = civil(days);
    match year {
        1..10_000 => {
            two(out, year / 100)?;
            two(out, year % 100)?;
        }
        10_000.. => write!(out, "{year}")?,
        _ => write!(out, "{:04}", 1 - year)?,
    }
    out.write_char('-')?;
    two(out, month)?;
    out.write_char('-')?;
    two(out, day)?;
    Ok(year)
}

/// Writes two digits. The formatter of the standard library takes several times as long.
fn two(out: &mut impl Write, number: i64) -> fmt::Result {
    let digit = |number: i64| char::from(b'0' + u8::try_from(number % 10).unwrap_or_default());
    out.write_char(digit(number / 10))?;
    out.write_char(digit(number))
}

/// Writes hours, minutes and seconds.
fn clock(out: &mut impl Write, seconds: i64) -> fmt::Result {
    match seconds / 3600 {
        hours @ 0..100 => two(out, hours)?,
        hours => write!(out, "{hours}")?,
    }
    out.write_char(':')?;
    two(out, seconds / 60 % 60)?;
    out.write_char(':')?;
    two(out, seconds % 60)
}

/// Writes a time of the day: `13:05:00.25`.
pub(super) fn time(out: &mut impl Write, microseconds: i64) -> fmt::Result {
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    clock(out, seconds)?;
    fraction_of(out, fraction)
}

/// Writes a point in time: `2024-02-29 13:05:00+00`. The zone, where it has one, is UTC.
pub(super) fn timestamp(out: &mut impl Write, microseconds: i64, zone: &str) -> fmt::Result {
    let days = microseconds.div_euclid(MICROSECONDS_PER_DAY);
    let year = day(out, days)?;
    out.write_char(' ')?;
    time(out, microseconds.rem_euclid(MICROSECONDS_PER_DAY))?;
    out.write_str(zone)?;
    if year > 0 { Ok(()) } else { out.write_str(" BC") }
}

/// Writes an interval in the style `postgres`: `1 year 2 mons -3 days 04:05:06.7`.
pub(super) fn interval(out: &mut impl Write, months: i32, days: i32, microseconds: i64) -> fmt::Result {
    let mut is_first = true;
    let mut part = |out: &mut dyn Write, number: i32, unit: &str| {
        if number == 0 {
            return Ok(());
        }
        let space = if std::mem::take(&mut is_first) { "" } else { " " };
        write!(out, "{space}{number} {unit}{}", if number == 1 { "" } else { "s" })
    };
    part(out, months / 12, "year")?;
    part(out, months % 12, "mon")?;
    part(out, days, "day")?;
    if microseconds != 0 || is_first {
        let space = if is_first { "" } else { " " };
        let sign = if microseconds < 0 { "-" } else { "" };
        let whole = microseconds.unsigned_abs();
        let (seconds, fraction) = (whole / 1_000_000, whole % 1_000_000);
        write!(out, "{space}{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        fraction_of(out, i64::try_from(fraction).unwrap_or_default())?;
    }
    Ok(())
}

fn fraction_of(out: &mut impl Write, microseconds: i64) -> fmt::Result {
    if microseconds == 0 {
        return Ok(());
    }
    let digits = format!("{microseconds:06}");
    write!(out, ".{}", digits.trim_end_matches('0'))
}

/// Year, month and day; the year before 1 is 0.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut String) -> fmt::Result) -> String {
        let mut text = String::new();
        write(&mut text).unwrap();
        text
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "10000-01-01"),
        ] {
            assert_eq!(written(|out| date(out, days)), text);
        }
        assert_eq!(written(|out| date(out, i64::from(POSTGRES_EPOCH_DAYS))), "2000-01-01");
    }

    #[test]
    fn times_keep_their_fraction_without_zeros_at_its_end() {
        assert_eq!(written(|out| timestamp(out, -1, "+00")), "1969-12-31 23:59:59.999999+00");
        assert_eq!(written(|out| timestamp(out, 1_500_000, "")), "1970-01-01 00:00:01.5");
        assert_eq!(written(|out| time(out, 47_100_000_000)), "13:05:00");
    }

    #[test]
    fn intervals_are_written_as_postgres_does() {
        for (months, days, microseconds, text) in [
            (0, 0, 0, "00:00:00"),
            (14, -3, 14_706_700_000, "1 year 2 mons -3 days 04:05:06.7"),
            (0, 1, 0, "1 day"),
            (-1, 0, -1_000_000, "-1 mons -00:00:01"),
        ] {
            assert_eq!(written(|out| interval(out, months, days, microseconds)), text);
        }
    }
}
