//! The time format of `%START_TIME(…)%`: the strftime letters that Envoy documents, in UTC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Envoy's default: `2026-01-02T03:04:05.678Z`.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

/// A parsed time format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat(String);

/// A moment as Envoy writes it: `2026-01-02T03:04:05.678Z`.
pub fn timestamp(time: SystemTime) -> String {
    TimeFormat::parse(None).render(time)
}

/// A moment in civil terms.
struct Civil {
    seconds: i64,
    nanos: u32,
    year: i64,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl TimeFormat {
    pub(super) fn parse(argument: Option<&str>) -> Self {
        Self(
            argument
                .filter(|format| !format.is_empty())
                .unwrap_or(DEFAULT)
                .to_owned(),
        )
    }

    pub(super) fn render(&self, time: SystemTime) -> String {
        let civil = Civil::of(time);
        let mut text = String::with_capacity(32);
        let mut letters = self.0.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            match letters.next() {
                Some(digits @ '1'..='9') => match letters.next() {
                    Some('f') => civil.fraction(&mut text, digits as usize - '0' as usize),
                    other => text.extend(['%', digits].into_iter().chain(other)),
                },
                Some(letter) => civil.write(&mut text, letter),
                None => text.push('%'),
            }
        }
        text
    }
}

impl Civil {
    fn of(time: SystemTime) -> Self {
        // Before 1970 the clock was never set; then any answer will do.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0).min(253_402_300_799);
        // Days to a civil date: years that begin in March, in eras of 400 years.
        let days = seconds / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            seconds,
            nanos: since.subsec_nanos(),
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u32,
            day: (of_year - (153 * shifted + 2) / 5 + 1) as u32,
        }
    }

    fn write(&self, text: &mut String, letter: char) {
        let (hour, minute, second) = (
            self.seconds / 3600 % 24,
            self.seconds / 60 % 60,
            self.seconds % 60,
        );
        let (year, month, day) = (self.year, self.month, self.day);
        let weekday = DAYS[((self.seconds / 86_400 + 4) % 7) as usize];
        let month_name = MONTHS[month as usize - 1];
        // Writing into a String cannot fail.
        let _ = match letter {
            'Y' => write!(text, "{year:04}"),
            'y' => write!(text, "{:02}", year % 100),
            'm' => write!(text, "{month:02}"),
            'd' => write!(text, "{day:02}"),
            'e' => write!(text, "{day:2}"),
            'H' => write!(text, "{hour:02}"),
            'M' => write!(text, "{minute:02}"),
            'S' => write!(text, "{second:02}"),
            's' => write!(text, "{}", self.seconds),
            'F' => write!(text, "{year:04}-{month:02}-{day:02}"),
            'T' => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            'b' | 'h' => write!(text, "{}", &month_name[..3]),
            'B' => write!(text, "{month_name}"),
            'a' => write!(text, "{}", &weekday[..3]),
            'A' => write!(text, "{weekday}"),
            'f' => return self.fraction(text, 9),
            'z' => write!(text, "+0000"),
            'Z' => write!(text, "UTC"),
            '%' => write!(text, "%"),
            other => write!(text, "%{other}"),
        };
    }

    fn fraction(&self, text: &mut String, digits: usize) {
        let nanos = format!("{:09}", self.nanos);
        text.push_str(&nanos[..digits.clamp(1, 9)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn render(format: Option<&str>, seconds: u64, nanos: u32) -> String {
        TimeFormat::parse(format).render(UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(render(None, 0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(render(None, 951_827_696, 123_456_789), "2000-02-29T12:34:56.123Z");
        assert_eq!(
            render(Some("%F %T.%6f"), 4_107_542_399, 1_000),
            "2100-02-28 23:59:59.000001"
        );
        assert_eq!(
            render(Some("%a, %e %b %y %s%%"), 951_827_696, 0),
            "Tue, 29 Feb 00 951827696%"
        );
        assert_eq!(render(Some("%9f %2x %"), 0, 5), "000000005 %2x %");
    }

    #[test]
    fn no_time_and_no_format_panics() {
        for seconds in [0, 1, u64::from(u32::MAX), 253_402_300_799, i64::MAX as u64] {
            if let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
                TimeFormat::parse(Some("%Y%m%d%A%B%q%é%")).render(time);
            }
        }
    }
}
