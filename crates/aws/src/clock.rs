//! Points in time as AWS writes them: `20150830T123600Z` in signatures, `2015-08-30T12:36:00Z` in answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Day and time as signatures have them: `20150830T123600Z`. Before 1970 it is 1970.
pub(crate) fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = date(seconds / DAY);
    let of_day = seconds % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Reads `2015-08-30T12:36:00Z`, with or without a fraction of the second.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut day = day.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, date) = (day.next()??, day.next()??, day.next()??);
    let time = time.split('.').next()?;
    let mut time = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let plausible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&date)
        && hour < 24
        && minute < 60
        && second <= 60;
    let days = days_before(year, month)
        .checked_add(date - 1)
        .filter(|_| plausible)?;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Year, month and day of a number of days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // A first guess that is never late, then on by what is left.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12)
        .rev()
        .find(|month| days_before(year, *month) <= days)
        .unwrap_or(1);
    (year, month, days - days_before(year, month) + 1)
}

/// Days from 1970 to the first of a month. Months and years out of range give nothing of use, and no panic.
fn days_before(year: u64, month: u64) -> u64 {
    const MONTHS: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let before = year.saturating_sub(1);
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let in_year = MONTHS.get((month as usize).wrapping_sub(1)).copied().unwrap_or(0);
    let years = year.saturating_sub(1970).min(1 << 32) * 365;
    years + leaps(before).saturating_sub(leaps(1969)) + in_year + u64::from(is_leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, stamped, written) in [
            (0, "19700101T000000Z", "1970-01-01T00:00:00Z"),
            (951_782_399, "20000228T235959Z", "2000-02-28T23:59:59Z"),
            (951_782_400, "20000229T000000Z", "2000-02-29T00:00:00Z"),
            (951_868_800, "20000301T000000Z", "2000-03-01T00:00:00Z"),
            (1_440_938_160, "20150830T123600Z", "2015-08-30T12:36:00Z"),
            (1_735_689_599, "20241231T235959Z", "2024-12-31T23:59:59.25Z"),
            (4_107_542_400, "21000301T000000Z", "2100-03-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(stamp(time), stamped);
            assert_eq!(parse(written), Some(time), "{written}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "Z",
            "2015-08-30",
            "2015-08-30T12:36:00",
            "2015-13-01T00:00:00Z",
            "2015-00-01T00:00:00Z",
            "99999999999999999999-01-01T00:00:00Z",
            "2015-01-01T24:00:00Z",
            "2015-01-01T0:0Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
