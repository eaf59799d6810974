//! Dates (RFC 9110, section 5.6.7): the one format that is sent, IMF-fixdate, and the three that are read.

use std::time::Duration;

use crate::bytes::digits;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Formats seconds since 1970-01-01 00:00:00 UTC as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// ```
/// assert_eq!(overwire::http::format_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
pub fn format_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970 began on a Thursday
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Formats the time since 1970-01-01 00:00:00 UTC as RFC 3339 does, to the millisecond.
///
/// ```
/// use std::time::Duration;
/// use overwire::http::format_timestamp;
///
/// assert_eq!(format_timestamp(Duration::from_millis(784_111_777_250)), "1994-11-06T08:49:37.250Z");
/// ```
pub fn format_timestamp(since: Duration) -> String {
    let (seconds, milliseconds) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Parses a date in one of the three formats. Returns seconds since 1970-01-01 00:00:00 UTC. `None` for anything else,
/// and for dates before 1970. `now` decides on the century of a year with two digits: it is at most 50 years later.
///
/// ```
/// use overwire::http::parse_date;
///
/// for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
///     assert_eq!(parse_date(date.as_bytes(), 1_700_000_000), Some(784_111_777));
/// }
/// assert_eq!(parse_date(b"1994-11-06", 1_700_000_000), None);
/// ```
pub fn parse_date(text: &[u8], now: u64) -> Option<u64> {
    let words = str::from_utf8(text).ok()?.split([' ', ',', '-']).filter(|word| !word.is_empty());
    let (day, month, year, time) = match words.collect::<Vec<_>>()[..] {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let number = |text: &str| digits(text.as_bytes());
    let (day, month) = (number(day)?, MONTHS.iter().position(|name| *name == month)? as u64 + 1);
    let year = match (year.len(), number(year)?) {
        (2, year) => full_year(year, civil(now / 86_400).0),
        (4, year) => year,
        _ => return None,
    };
    let days = days(year, month, day).filter(|days| civil(*days) == (year, month, day))?;
    match time.split(':').map(number).collect::<Option<Vec<_>>>()?[..] {
        // Second 60 is a leap second.
        [hour @ ..24, minute @ ..60, second @ ..=60] => Some(days * 86_400 + hour * 3600 + minute * 60 + second),
        _ => None,
    }
}

/// The year that ends with these two digits and is at most 50 years after `this_year`.
fn full_year(year: u64, this_year: u64) -> u64 {
    let year = this_year / 100 * 100 + year;
    match year {
        _ if year > this_year + 50 => year - 100,
        _ if year + 50 <= this_year => year + 100,
        _ => year,
    }
}

/// The inverse of [`civil`]. `None` before 1970, and for a year that is not one.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the Gregorian
/// calendar. Years are made to begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097); // 400 years
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_at_the_edges_of_the_calendar() {
        assert_eq!(format_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format_date(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(format_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(format_date(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(format_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    #[test]
    fn parsed_dates_are_the_inverse_of_formatted_ones() {
        for seconds in (0..8_000_000_000).step_by(40_000_003).chain([951_782_399, 951_782_400, 4_107_542_399]) {
            assert_eq!(parse_date(format_date(seconds).as_bytes(), 0), Some(seconds));
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_50_years_later() {
        let year = |year: &str, now| {
            let date = format!("Sunday, 06-Nov-{year} 08:49:37 GMT");
            parse_date(date.as_bytes(), now).map(|seconds| civil(seconds / 86_400).0)
        };
        let in_2023 = 1_700_000_000;
        assert_eq!(["94", "00", "73", "74"].map(|text| year(text, in_2023)), [1994, 2000, 2073, 1974].map(Some));
        assert_eq!(year("10", 3_800_000_000), Some(2110), "in 2090");
    }

    #[test]
    fn texts_that_are_not_dates_are_refused() {
        for text in [
            "",
            "5",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 18446744073709551615 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(text.as_bytes(), 1_700_000_000), None, "{text:?}");
        }
    }
}
