//! Access logs: a line for each connection (or HTTP request) that ended.
//!
//! A [`Format`] is parsed once, when the configuration is built. [`AccessLog::write`] renders a [`Record`] and hands the
//! line to a [`Sink`], which never makes the caller wait: a line that finds the sink full is counted and dropped.
//! Follows Envoy's access logging docs (command operators, `FileAccessLog`, filters).

mod format;
mod operator;
mod record;
mod sink;
mod time;

pub use format::{BadFormat, Format};
pub use record::{Downstream, Http, Peer, Record, ResponseFlags, Upstream};
pub use sink::{Files, Options, Sink};
pub use time::timestamp;

use std::sync::Arc;
use std::time::Duration;

/// Which records are written.
#[derive(Clone, Debug, Default)]
pub enum Filter {
    /// All.
    #[default]
    Always,
    /// Those with one of these flags (`response_flag_filter`); an empty set stands for any flag.
    ResponseFlags(ResponseFlags),
    /// Those with a response code in this range (`status_code_filter`).
    ResponseCode(std::ops::RangeInclusive<u16>),
    /// Those that took at least so long (`duration_filter`).
    AtLeast(Duration),
    /// Those that took at most so long (`duration_filter`).
    AtMost(Duration),
    /// Those that pass every one.
    And(Vec<Self>),
    /// Those that pass one.
    Or(Vec<Self>),
}

impl Filter {
    /// Whether a record is to be written.
    pub fn admits(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::ResponseFlags(flags) if flags.is_empty() => !record.response_flags.is_empty(),
            Self::ResponseFlags(flags) => record.response_flags.intersects(*flags),
            Self::ResponseCode(range) => range.contains(&record.http.map_or(0, |http| http.response_code)),
            Self::AtLeast(limit) => record.duration >= *limit,
            Self::AtMost(limit) => record.duration <= *limit,
            Self::And(filters) => filters.iter().all(|filter| filter.admits(record)),
            Self::Or(filters) => filters.iter().any(|filter| filter.admits(record)),
        }
    }
}

/// One configured access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Which records.
    pub filter: Filter,
    /// How they look.
    pub format: Arc<Format>,
    /// Where they go.
    pub sink: Arc<Sink>,
}

impl AccessLog {
    /// Writes a record if the filter admits it. Never blocks.
    pub fn write(&self, record: &Record<'_>) {
        if self.filter.admits(record) {
            let mut line = String::with_capacity(256);
            self.format.render(record, &mut line);
            self.sink.write(line);
        }
    }
}

#[cfg(test)]
mod tests;
