//! The form of a log line in spdlog's letters, as `--log-format` and `application_log_config` give it.
//!
//! Envoy: operations/cli, `--log-format`. Letters that are not known are printed as they stand.

use std::fmt::{self, Write};
use std::time::SystemTime;

use redplane_telemetry::access_log::timestamp;
use tracing::field::{Field, Visit};

/// Envoy's form before the bootstrap says otherwise.
const DEFAULT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

/// The form of a line.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(String);

impl Default for Pattern {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl Pattern {
    /// A form in spdlog's letters.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn render(&self, line: &Line) -> String {
        let now = SystemTime::now();
        let mut text = String::with_capacity(self.0.len() + line.message.len() + 48);
        let mut letters = self.0.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => match letters.next() {
                    Some(letter) => line.write(&mut text, letter, now),
                    None => text.push('%'),
                },
                letter => text.push(letter),
            }
        }
        text
    }
}

/// What a line is made of.
pub(super) struct Line<'a> {
    pub(super) level: &'static str,
    pub(super) component: &'static str,
    pub(super) file: &'a str,
    pub(super) number: u32,
    pub(super) message: String,
}

impl Line<'_> {
    fn write(&self, text: &mut String, letter: char, now: SystemTime) {
        // `2026-01-02T03:04:05.678Z`, of which letters take their parts.
        let stamp = timestamp(now);
        let part = |range: std::ops::Range<usize>| stamp.get(range).unwrap_or_default().to_owned();
        let nanos = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let base = self.file.rsplit('/').next().unwrap_or_default();
        text.push_str(&match letter {
            'Y' => part(0..4),
            'm' => part(5..7),
            'd' => part(8..10),
            'H' => part(11..13),
            'M' => part(14..16),
            'S' => part(17..19),
            'T' | 'X' => part(11..19),
            'e' => part(20..23),
            'f' => format!("{:06}", nanos / 1000),
            'F' => format!("{nanos:09}"),
            'z' => "+00:00".to_owned(),
            'l' => self.level.to_owned(),
            'L' => self.level.chars().take(1).flat_map(char::to_uppercase).collect(),
            'n' => self.component.to_owned(),
            'v' => self.message.clone(),
            // Envoy: `%_` escapes line breaks, `%j` is JSON.
            '_' => self.message.replace('\n', "\\n"),
            'j' => json_inner(&self.message),
            't' => thread(),
            'P' => std::process::id().to_string(),
            'g' => self.file.to_owned(),
            's' => base.to_owned(),
            '#' => self.number.to_string(),
            '@' => format!("{}:{}", self.file, self.number),
            '%' => "%".to_owned(),
            other => format!("%{other}"),
        });
    }
}

fn json_inner(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The kernel's number of this thread.
fn thread() -> String {
    thread_local! {
        static ID: String = std::fs::read_link("/proc/thread-self")
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
    }
    ID.with(String::clone)
}

/// An event's message with its fields.
#[derive(Default)]
pub(super) struct Message {
    text: String,
    fields: String,
}

impl Message {
    pub(super) fn text(self) -> String {
        self.text + &self.fields
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.text, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(pattern: &str, message: &str) -> String {
        let line = Line {
            level: "warning",
            component: "config",
            file: "src/a.rs",
            number: 7,
            message: message.to_owned(),
        };
        Pattern::new(pattern).render(&line)
    }

    #[test]
    fn letters() {
        assert_eq!(
            render("%l %L %n %g:%# %s %v %% %q", "hi"),
            "warning W config src/a.rs:7 a.rs hi % %q"
        );
        assert_eq!(render("{\"msg\":\"%j\"}", "a\"b\n"), r#"{"msg":"a\"b\n"}"#);
        assert_eq!(render("%_", "a\nb"), "a\\nb");
    }

    #[test]
    fn istio_s_form_is_tab_separated_with_utc_microseconds() {
        let line = render("%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t", "m");
        let parts: Vec<&str> = line.split('\t').collect();
        assert_eq!(parts.len(), 5, "{line}");
        assert_eq!(parts[0].len(), "2026-01-02T03:04:05.678901Z".len(), "{line}");
        assert_eq!((parts[2], parts[3]), ("envoy config src/a.rs:7", "m"));
        assert!(
            parts[4].strip_prefix("thread=").unwrap().parse::<u32>().is_ok(),
            "{line}"
        );
    }
}
