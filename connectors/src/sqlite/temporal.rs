//! Dates and times as the ISO text that SQLite keeps them in.
//!
//! Every date that is read starts with `YYYY-MM-DD` in just this form, so the order of the texts is the order of the days;
//! the dialect's comparisons stand on that.

/// Microseconds of a day.
pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// Whether a timestamp's text may carry an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// None but `Z` and `+00:00`.
    Utc,
    /// Any up to 23:59, subtracted.
    Any,
}

/// Parses `YYYY-MM-DD` into days since 1970-01-01.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else { return None };
    let year = number(&[y1, y2, y3, y4])?;
    let (month, day) = (number(&[m1, m2])?, number(&[d1, d2])?);
    let known = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    known.then(|| days_from_civil(year, month, day))
}

/// Parses `HH:MM[:SS[.f]]` into microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let (hour, minute, second) = match *clock.as_bytes() {
        [h1, h2, b':', m1, m2] if fraction.is_none() => (number(&[h1, h2])?, number(&[m1, m2])?, 0),
        [h1, h2, b':', m1, m2, b':', s1, s2] => (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?),
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = fraction.map_or(Some(0), parse_fraction)?;
    Some(i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

/// Parses `YYYY-MM-DD[(T| )time][offset]` into microseconds since 1970-01-01 00:00.
pub(super) fn parse_timestamp(text: &str, offset: Offset) -> Option<i64> {
    let day = |date: &str| parse_date(date).map(|days| i64::from(days) * DAY_MICROS);
    let Some((date, rest)) = text.split_at_checked(10) else { return day(text) };
    let start = day(date)?;
    if rest.is_empty() {
        return Some(start);
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let (time, shift) = split_offset(rest)?;
    if offset == Offset::Utc && shift != 0 {
        return None;
    }
    Some(start + parse_time(time)? - shift)
}

/// Writes days since 1970-01-01 as `YYYY-MM-DD`; `None` outside the years 0000 to 9999.
pub(super) fn format_date(days: i64) -> Option<String> {
    let (year, month, day) = civil_from_days(days);
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Digits after the point as microseconds; more than six only where the rest are zeros.
fn parse_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (kept, rest) = digits.split_at(digits.len().min(6));
    let micros: i64 = format!("{kept:0<6}").parse().ok()?;
    rest.bytes().all(|byte| byte == b'0').then_some(micros)
}

/// Splits an offset off a time, as microseconds east of UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (time, offset) = text.split_at(at);
    let (sign, clock) = offset.split_at(1);
    let micros = parse_time(clock).filter(|_| clock.len() == 5)?;
    Some((time, if sign == "-" { -micros } else { micros }))
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i32::from(byte - b'0')))
}

fn days_of(year: i32, month: i32) -> i32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil; here for years from 0.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse, civil_from_days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_ten_thousand_years_survives_the_round_trip_in_order() {
        let first = parse_date("0000-01-01").unwrap();
        let last = parse_date("9999-12-31").unwrap();
        assert_eq!((first, last), (-719_528, 2_932_896));
        let mut previous = String::new();
        for days in first..=last {
            let text = format_date(i64::from(days)).unwrap();
            assert_eq!(parse_date(&text), Some(days), "{text}");
            assert!(previous < text, "{previous} then {text}");
            previous = text;
        }
        assert_eq!(format_date(i64::from(first) - 1), None);
        assert_eq!(format_date(i64::from(last) + 1), None);
    }

    #[test]
    fn date_of_another_form_is_refused() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        for bad in [
            "1970-1-2",
            "1970-02-30",
            "1900-02-29",
            "1970-13-01",
            "1970-01-00",
            "70-01-02",
            "1970-01-02 ",
            "+970-01-02",
            "",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_takes_minutes_seconds_and_microseconds() {
        for (text, micros) in [
            ("00:00", Some(0)),
            ("23:59:59.999999", Some(DAY_MICROS - 1)),
            ("12:30:00.1", Some(45_000_100_000)),
            ("12:30:00.1000000", Some(45_000_100_000)),
            ("12:30:00.1234567", None),
            ("12:30.5", None),
            ("24:00:00", None),
            ("12:60:00", None),
            ("12:30:60", None),
            ("12:30:00.", None),
            ("1:30", None),
            ("12:30:+1", None),
        ] {
            assert_eq!(parse_time(text), micros, "{text}");
        }
    }

    #[test]
    fn timestamp_takes_both_separators_and_offsets_only_where_it_has_a_zone() {
        let noon = DAY_MICROS / 2;
        for text in ["1970-01-01 12:00", "1970-01-01T12:00:00", "1970-01-01T12:00:00.000Z", "1970-01-01 12:00:00+00:00"]
        {
            assert_eq!(parse_timestamp(text, Offset::Utc), Some(noon), "{text}");
        }
        assert_eq!(parse_timestamp("1970-01-02", Offset::Utc), Some(DAY_MICROS));
        assert_eq!(parse_timestamp("1970-01-01 12:00:00+02:00", Offset::Utc), None);
        assert_eq!(parse_timestamp("1970-01-01 12:00:00+02:00", Offset::Any), Some(noon - 7_200_000_000));
        assert_eq!(parse_timestamp("1970-01-01 12:00:00-00:30", Offset::Any), Some(noon + 1_800_000_000));
        for bad in ["1970-01-01 ", "1970-01-01x12:00", "1970-01-01 12", "12:00", "1970-01-01 12:00 UTC", "1970-01-01é"]
        {
            assert_eq!(parse_timestamp(bad, Offset::Any), None, "{bad}");
        }
    }
}
