//! The process's log: tracing's events as lines in Envoy's form, on stderr or in a file.
//!
//! Each of our crates counts as one of Envoy's components, so that `--component-log-level` and `/logging` mean the
//! same here. A line is written with one call and never torn. Levels change at run time.

mod pattern;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use redplane_admin::Level;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

pub(crate) use self::pattern::Pattern;
use self::pattern::{Line, Message};

/// Our modules and the component each one logs as; the first prefix that fits counts.
const COMPONENTS: [(&str, &str); 17] = [
    ("redplane_xds", "config"),
    ("redplane_config", "config"),
    ("redplane_reconcile", "config"),
    ("redplane_upstream::dns", "dns"),
    ("redplane_upstream", "upstream"),
    ("redplane_discovery", "upstream"),
    ("redplane_listener::redis", "redis"),
    ("redplane_listener::tcp_proxy", "filter"),
    ("redplane_listener::tls", "connection"),
    ("redplane_listener", "conn_handler"),
    ("redplane_proxy", "redis"),
    ("redplane_admin", "admin"),
    ("redplane_telemetry", "stats"),
    ("redplane", "main"),
    // Targets that are Envoy's names already.
    ("redis", "redis"),
    ("upstream", "upstream"),
    ("", "misc"),
];

fn place(target: &str) -> usize {
    let fits = |(prefix, _): &(&str, &str)| target.starts_with(prefix);
    COMPONENTS.iter().position(fits).unwrap_or(COMPONENTS.len() - 1)
}

/// The log of the process. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    /// Envoy's levels by place in [`COMPONENTS`].
    levels: [AtomicUsize; COMPONENTS.len()],
    /// A std mutex: held while one line is written.
    output: Mutex<Output>,
    path: Option<PathBuf>,
}

struct Output {
    pattern: Pattern,
    /// `None` is stderr.
    file: Option<File>,
}

impl Log {
    /// Opens the log and makes it that of the process.
    pub(crate) fn install(path: Option<&Path>, pattern: Pattern) -> io::Result<Self> {
        let output = Output {
            pattern,
            file: path.map(open).transpose()?,
        };
        let log = Self(Arc::new(Shared {
            levels: std::array::from_fn(|_| AtomicUsize::new(Level::Info as usize)),
            output: Mutex::new(output),
            path: path.map(Path::to_owned),
        }));
        let subscriber = tracing_subscriber::registry().with(log.clone());
        tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
        Ok(log)
    }

    /// Sets the levels of all of Envoy's loggers.
    pub(crate) fn set_levels(&self, levels: &[(&'static str, Level)]) {
        for ((_, component), current) in COMPONENTS.iter().zip(&self.0.levels) {
            if let Some((_, level)) = levels.iter().find(|(name, _)| name == component) {
                current.store(*level as usize, Relaxed);
            }
        }
        tracing::callsite::rebuild_interest_cache();
    }

    /// The form of lines from now on.
    pub(crate) fn set_pattern(&self, pattern: Pattern) {
        self.0.output().pattern = pattern;
    }

    /// Opens the file anew, after a rotation moved the old one away.
    pub(crate) fn reopen(&self) {
        let Some(path) = &self.0.path else { return };
        match open(path) {
            Ok(file) => self.0.output().file = Some(file),
            Err(error) => tracing::error!(path = %path.display(), %error, "cannot reopen the log"),
        }
    }
}

impl Shared {
    fn output(&self) -> std::sync::MutexGuard<'_, Output> {
        // A panic in between leaves at worst half a line.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where one of tracing's levels stands among Envoy's.
fn rank(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::ERROR => Level::Error,
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        rank(*metadata.level()) as usize >= self.0.levels[place(metadata.target())].load(Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let lowest = self.0.levels.iter().map(|level| level.load(Relaxed)).min();
        Some(match lowest.unwrap_or(0) {
            0 => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            2 => LevelFilter::INFO,
            3 => LevelFilter::WARN,
            4 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut message = Message::default();
        event.record(&mut message);
        let line = Line {
            level: rank(*metadata.level()).word(),
            component: COMPONENTS[place(metadata.target())].1,
            file: metadata.file().unwrap_or_default(),
            number: metadata.line().unwrap_or_default(),
            message: message.text(),
        };
        let mut output = self.0.output();
        let mut text = output.pattern.render(&line);
        text.push('\n');
        // A log that cannot be written has nowhere to say so.
        let _ = match &mut output.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
    }
}
