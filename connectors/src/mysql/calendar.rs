//! Days and microseconds of the proleptic Gregorian calendar, which both servers and Arrow count in.
//!
//! The conversions are Howard Hinnant's (<https://howardhinnant.github.io/date_algorithms.html>): eras of 400 years that start in
//! March.

/// Microseconds of a day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// 0000-01-01 00:00:00, the servers' first moment, in microseconds since 1970.
pub(super) const MIN_US: i64 = -719_528 * DAY_US;

/// 9999-12-31 23:59:59.999999, the servers' last moment, in microseconds since 1970.
pub(super) const MAX_US: i64 = 2_932_897 * DAY_US - 1;

/// 838:59:59.999999, the end of TIME's range either way, in microseconds.
pub(super) const TIME_MAX_US: i64 = 839 * 3_600_000_000 - 1;

const ERA_DAYS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// The days since 1970 of a date, or `None` where the calendar does not have it.
pub(super) fn days(year: u16, month: u8, day: u8) -> Option<i32> {
    if !(1..=12).contains(&month) || day == 0 || day > month_days(year, month) {
        return None;
    }
    let (month, day) = (i64::from(month), i64::from(day));
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * ERA_DAYS + day_of_era - EPOCH).ok()
}

/// Year, month and day of a day in the servers' range.
pub(super) fn civil(days: i64) -> (u16, u8, u8) {
    let shifted = days + EPOCH;
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (
        u16::try_from(year).unwrap_or_default(),
        u8::try_from(month).unwrap_or_default(),
        u8::try_from(day).unwrap_or_default(),
    )
}

fn month_days(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_servers_range_goes_there_and_back() {
        let first = MIN_US / DAY_US;
        let last = MAX_US / DAY_US;
        assert_eq!((civil(first), civil(last)), ((0, 1, 1), (9999, 12, 31)));
        for day in first..=last {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date).map(i64::from), Some(day));
        }
    }

    #[test]
    fn day_that_no_calendar_has_is_none() {
        for (year, month, day) in
            [(2021, 2, 29), (1900, 2, 29), (2020, 13, 1), (2020, 0, 1), (2020, 1, 0), (2020, 4, 31)]
        {
            assert_eq!(days(year, month, day), None, "{year}-{month}-{day}");
        }
        assert_eq!(days(2000, 2, 29), Some(11_016));
    }
}
