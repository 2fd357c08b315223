//! `/logging`: the levels of Envoy's loggers, changed while the process runs.
//!
//! istioctl looks for the logger's name in the list before it sets a level, so all of Envoy's names are there. What a
//! level does to our own log is decided by the function that the binary gives.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Sources;
use crate::reply::Reply;
use crate::request::Request;

/// Envoy's loggers, in its order.
pub const LOGGERS: &[&str] = &[
    "a2a",
    "admin",
    "ai_protocol_manager",
    "alternate_protocols_cache",
    "aws",
    "assert",
    "backtrace",
    "basic_auth",
    "cache_filter",
    "client",
    "config",
    "connection",
    "conn_handler",
    "compression",
    "credential_injector",
    "decompression",
    "dns",
    "dubbo",
    "envoy_bug",
    "ext_authz",
    "ext_proc",
    "rocketmq",
    "file",
    "filter",
    "forward_proxy",
    "geolocation",
    "grpc",
    "happy_eyeballs",
    "hc",
    "health_checker",
    "http",
    "http2",
    "hystrix",
    "init",
    "io",
    "jwt",
    "json_rpc",
    "kafka",
    "key_value_store",
    "lua",
    "local_rate_limit",
    "main",
    "matcher",
    "mcp",
    "misc",
    "mongo",
    "multi_connection",
    "notification",
    "oauth2",
    "quic",
    "quic_stream",
    "pool",
    "rate_limit_quota",
    "rbac",
    "rds",
    "redis",
    "router",
    "runtime",
    "stats",
    "secret",
    "sse",
    "tap",
    "testing",
    "thrift",
    "tracing",
    "upstream",
    "udp",
    "wasm",
    "websocket",
    "golang",
    "stats_sinks",
    "dynamic_modules",
    "ip_tagging",
];

/// A log level in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warning`, also read as `warn`
    Warning,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `off`
    Off,
}

const WORDS: [(Level, &str); 7] = [
    (Level::Trace, "trace"),
    (Level::Debug, "debug"),
    (Level::Info, "info"),
    (Level::Warning, "warning"),
    (Level::Error, "error"),
    (Level::Critical, "critical"),
    (Level::Off, "off"),
];

impl Level {
    /// The level of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = if word == "warn" { "warning" } else { word };
        WORDS
            .iter()
            .find(|(_, name)| *name == word)
            .map(|(level, _)| *level)
    }

    /// Envoy's word.
    pub fn word(self) -> &'static str {
        WORDS
            .iter()
            .find(|(level, _)| *level == self)
            .map_or("off", |(_, word)| word)
    }
}

type Apply = Box<dyn Fn(&[(&'static str, Level)]) + Send + Sync>;

/// The level of every logger.
pub struct Levels {
    /// A std mutex: taken by `/logging` only.
    levels: Mutex<Vec<(&'static str, Level)>>,
    apply: Apply,
}

impl Levels {
    /// All loggers at one level. `apply` is called with all of them after each change.
    pub fn new(level: Level, apply: Apply) -> Self {
        Self {
            levels: Mutex::new(LOGGERS.iter().map(|name| (*name, level)).collect()),
            apply,
        }
    }

    /// Sets single loggers, as `--component-log-level` does; false when one is not known, then none is set.
    pub fn set(&self, changes: &[(&str, Level)]) -> bool {
        self.change(changes).is_ok()
    }

    fn change(&self, changes: &[(&str, Level)]) -> Result<(), &'static str> {
        let mut levels = self.lock();
        if changes.iter().any(|(name, _)| !LOGGERS.contains(name)) {
            return Err("error: unknown logger name\n");
        }
        for (name, level) in changes {
            levels
                .iter_mut()
                .filter(|(logger, _)| logger == name)
                .for_each(|(_, current)| *current = *level);
        }
        (self.apply)(&levels);
        Ok(())
    }

    fn change_all(&self, level: Level) {
        let mut levels = self.lock();
        levels.iter_mut().for_each(|(_, current)| *current = level);
        (self.apply)(&levels);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, Level)>> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const USAGE: &str = "\nusage: /logging?<name>=<level> (change single level)\n\
    usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
    usage: /logging?level=<level> (change all levels)\n\
    usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
    levels: trace debug info warning error critical off \n";

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    // The home page's form sends every field, filled or not.
    let given = request.params.pairs().iter().chain(request.form.pairs());
    let given: Vec<_> = given.filter(|(_, value)| !value.is_empty()).collect();
    let changed = match given.as_slice() {
        [] => Ok(()),
        [(key, value)] => change(&sources.levels, key, value),
        _ => Err("error: invalid number of parameters\n"),
    };
    match changed {
        Ok(()) => Reply::text(list(&sources.levels)),
        Err(reason) => Reply::bad_request(format!("{reason}{USAGE}{}", list(&sources.levels))),
    }
}

fn change(levels: &Levels, key: &str, value: &str) -> Result<(), &'static str> {
    match key {
        "level" => {
            levels.change_all(level(value)?);
            Ok(())
        }
        // Groups are of files, which we do not have either.
        "group" => Err("error: group parameter requires fine-grain logging to be enabled\n"),
        "paths" => {
            let pairs = value.split(',').map(|pair| {
                let (name, word) = pair
                    .split_once(':')
                    .ok_or("error: empty logger name or empty logger level\n")?;
                Ok((name, level(word)?))
            });
            levels.change(&pairs.collect::<Result<Vec<_>, &'static str>>()?)
        }
        name => levels.change(&[(name, level(value)?)]),
    }
}

fn level(word: &str) -> Result<Level, &'static str> {
    Level::from_word(word).ok_or("error: unknown logger level\n")
}

fn list(levels: &Levels) -> String {
    let mut page = "active loggers:\n".to_owned();
    for (name, level) in levels.lock().iter() {
        // Writing into a String cannot fail.
        let _ = writeln!(page, "  {name}: {}", level.word());
    }
    page.push('\n');
    page
}
