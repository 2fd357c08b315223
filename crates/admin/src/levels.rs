//! The levels of Envoy's loggers. What a level does to our own log is decided by the function that the binary gives.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

    pub(crate) fn change(&self, changes: &[(&str, Level)]) -> Result<(), &'static str> {
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

    pub(crate) fn change_all(&self, level: Level) {
        let mut levels = self.lock();
        levels.iter_mut().for_each(|(_, current)| *current = level);
        (self.apply)(&levels);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, Level)>> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
