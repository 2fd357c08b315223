//! The time format of `%START_TIME(…)%`: the strftime letters that Envoy documents, in UTC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Envoy's default: `2026-01-02T03:04:05.678Z`.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

/// A parsed time format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat(String);

/// A moment as Envoy writes it: `2026-01-02T03:04:05.678Z`.
pub fn timestamp(time: SystemTime) -> String {
    TimeFormat::parse(None).render(time)
}

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
        let moment = moment(time);
        let mut text = String::with_capacity(32);
        let mut letters = self.0.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            match letters.next() {
                Some(digits @ '1'..='9') => match letters.next() {
                    Some('f') => fraction(&mut text, moment, digits as usize - '0' as usize),
                    other => text.extend(['%', digits].into_iter().chain(other)),
                },
                Some(letter) => write(&mut text, moment, letter),
                None => text.push('%'),
            }
        }
        text
    }
}

/// In UTC. Before 1970 and after 9999 the clock was never set right; then any answer will do.
fn moment(time: SystemTime) -> OffsetDateTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = i128::try_from(since.as_nanos()).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn write(text: &mut String, moment: OffsetDateTime, letter: char) {
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    let number = u8::from(month);
    // Writing into a String cannot fail.
    let _ = match letter {
        'Y' => write!(text, "{year:04}"),
        'y' => write!(text, "{:02}", year % 100),
        'm' => write!(text, "{number:02}"),
        'd' => write!(text, "{day:02}"),
        'e' => write!(text, "{day:2}"),
        'H' => write!(text, "{hour:02}"),
        'M' => write!(text, "{minute:02}"),
        'S' => write!(text, "{second:02}"),
        's' => write!(text, "{}", moment.unix_timestamp()),
        'F' => write!(text, "{year:04}-{number:02}-{day:02}"),
        'T' => write!(text, "{hour:02}:{minute:02}:{second:02}"),
        'b' | 'h' => write!(text, "{}", &month.to_string()[..3]),
        'B' => write!(text, "{month}"),
        'a' => write!(text, "{}", &moment.weekday().to_string()[..3]),
        'A' => write!(text, "{}", moment.weekday()),
        'f' => return fraction(text, moment, 9),
        'z' => write!(text, "+0000"),
        'Z' => write!(text, "UTC"),
        '%' => write!(text, "%"),
        other => write!(text, "%{other}"),
    };
}

fn fraction(text: &mut String, moment: OffsetDateTime, digits: usize) {
    let nanos = format!("{:09}", moment.nanosecond());
    text.push_str(&nanos[..digits.clamp(1, 9)]);
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
