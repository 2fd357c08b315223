//! The command line: Envoy's flags, those of older releases included, both as `--flag value` and `--flag=value`.
//!
//! A flag that is not known is dropped with a warning, never refused: newer Istio releases add flags, and a pod must
//! not crash over one. Envoy: operations/cli; the vector that pilot-agent gives.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use redplane_admin::{LOGGERS, Level};
use redplane_reconcile::bootstrap::Given;
use serde_json::{Map, Value, json};

/// An Envoy-compatible, xDS-configured Redis data plane.
#[derive(Clone, Debug, Parser)]
#[command(name = "redplane", disable_version_flag = true, args_override_self = true)]
pub(crate) struct Flags {
    /// The bootstrap: JSON, YAML or (`.pb`) protobuf.
    #[arg(short = 'c', long)]
    pub(crate) config_path: Option<PathBuf>,
    /// A bootstrap, or what is merged over the file, as YAML or JSON text.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) config_yaml: Option<String>,
    /// Serve, or only check the configuration.
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub(crate) mode: Mode,
    /// Print the version.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) version: bool,
    /// Worker threads; by default what the container's CPU quota gives.
    #[arg(long)]
    pub(crate) concurrency: Option<usize>,
    /// trace, debug, info, warning, error, critical or off.
    #[arg(short = 'l', long, default_value = "info", value_parser = level)]
    pub(crate) log_level: Level,
    /// Levels of single components: `upstream:debug,redis:trace`.
    #[arg(long, default_value = "", value_parser = components)]
    pub(crate) component_log_level: Components,
    /// The form of a log line, in spdlog's letters.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) log_format: Option<String>,
    /// A log file instead of stderr.
    #[arg(long)]
    pub(crate) log_path: Option<PathBuf>,
    /// How long connections may go on when their listener goes, in seconds.
    #[arg(long, default_value_t = 600)]
    pub(crate) drain_time_s: u64,
    /// Where the admin address is written, for port 0.
    #[arg(long)]
    pub(crate) admin_address_path: Option<PathBuf>,
    /// How often access logs are written out, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) file_flush_interval_msec: u64,
    /// How many KiB of access log make a write.
    #[arg(long, default_value_t = 64)]
    pub(crate) file_flush_min_size_kb: usize,
    /// Overrides `node.cluster`.
    #[arg(long)]
    pub(crate) service_cluster: Option<String>,
    /// Overrides `node.id`.
    #[arg(long)]
    pub(crate) service_node: Option<String>,
    /// Overrides `node.locality.zone`.
    #[arg(long)]
    pub(crate) service_zone: Option<String>,
    /// Unknown fields of the bootstrap are ignored and counted instead of refused.
    #[arg(long, alias = "allow-unknown-fields", action = ArgAction::SetTrue)]
    pub(crate) allow_unknown_static_fields: bool,
    /// Accepted but without effect, by name.
    #[arg(skip)]
    pub(crate) inert: BTreeMap<String, String>,
    /// Not known, and dropped.
    #[arg(skip)]
    pub(crate) unknown: Vec<String>,
}

/// `--component-log-level`, checked.
pub(crate) type Components = std::sync::Arc<[(&'static str, Level)]>;

/// `--mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Serve,
    Validate,
    #[value(name = "init_only")]
    InitOnly,
}

/// Flags of Envoy, past and present, that have nothing to act on here, and whether a value follows.
const INERT: &[(&str, bool)] = &[
    ("base-id", true),
    ("base-id-path", true),
    ("bootstrap-version", true),
    ("cpuset-threads", false),
    ("disable-extensions", true),
    ("disable-hot-restart", false),
    ("drain-strategy", true),
    ("enable-core-dump", false),
    ("enable-fine-grain-logging", false),
    ("enable-mutex-tracing", false),
    ("hot-restart-version", false),
    ("ignore-unknown-dynamic-fields", false),
    ("local-address-ip-version", true),
    ("log-format-escaped", false),
    ("log-format-prefix-with-location", true),
    ("max-obj-name-len", true),
    ("max-stats", true),
    ("parent-shutdown-time-s", true),
    ("reject-unknown-dynamic-fields", false),
    ("restart-epoch", true),
    ("skip-deprecated-logs", false),
    ("skip-hot-restart-on-no-parent", false),
    ("skip-hot-restart-parent-stats", false),
    ("socket-mode", true),
    ("socket-path", true),
    ("stats-tag", true),
    ("use-dynamic-base-id", false),
];

fn level(word: &str) -> Result<Level, String> {
    Level::from_word(word).ok_or_else(|| format!("error: invalid log level specified '{word}'"))
}

fn components(text: &str) -> Result<Components, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, word) = pair
            .split_once(':')
            .ok_or_else(|| format!("error: component log level not correctly specified '{pair}'"))?;
        let known = LOGGERS.iter().find(|logger| **logger == name);
        let name = known.ok_or_else(|| format!("error: invalid component specified '{name}'"))?;
        Ok((*name, level(word)?))
    });
    pairs.collect()
}

impl Flags {
    /// Reads the arguments, the program's name first.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut arguments = arguments.into_iter();
        let mut kept: Vec<OsString> = arguments.next().into_iter().collect();
        let (mut inert, mut unknown) = (BTreeMap::new(), Vec::new());
        let command = Self::command();
        let mut rest = arguments.peekable();
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy().into_owned();
            let Some(flag) = text.strip_prefix("--") else {
                // A short flag, whose value is its own.
                let value = (text == "-c" || text == "-l").then(|| rest.next()).flatten();
                kept.extend(std::iter::once(argument).chain(value));
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some((_, has_value)) = INERT.iter().find(|(known, _)| *known == name) {
                let next = (*has_value && inline.is_none()).then(|| rest.next()).flatten();
                let next = next.map(|value| value.to_string_lossy().into_owned());
                inert.insert(name.to_owned(), inline.or(next).unwrap_or_default());
            } else if let Some(known) = named(&command, name) {
                let value = (inline.is_none() && known.get_action().takes_values()).then(|| rest.next());
                kept.extend(std::iter::once(argument).chain(value.flatten()));
            } else {
                // What follows is taken for its value unless it looks like a flag.
                let value = |next: &OsString| inline.is_none() && !next.to_string_lossy().starts_with('-');
                let value = rest.next_if(value);
                unknown.push(match value {
                    Some(value) => format!("{text} {}", value.to_string_lossy()),
                    None => text,
                });
            }
        }
        let flags = Self::try_parse_from(kept)?;
        Ok(Self {
            inert,
            unknown,
            ..flags
        })
    }

    /// `--drain-time-s`
    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s)
    }

    /// Where the bootstrap is, and what is laid over it.
    pub(crate) fn bootstrap(&self) -> Given<'_> {
        Given {
            file: self.config_path.as_deref(),
            yaml: self.config_yaml.as_deref(),
            allow_unknown: self.allow_unknown_static_fields,
            service_node: self.service_node.as_deref(),
            service_cluster: self.service_cluster.as_deref(),
            service_zone: self.service_zone.as_deref(),
        }
    }

    /// As `envoy.admin.v3.CommandLineOptions`; values at their defaults are left out, as in Envoy.
    pub(crate) fn options(&self, concurrency: usize) -> Value {
        let mut options = Map::new();
        let mut put = |key: &str, value: Value| options.insert(key.to_owned(), value);
        put("concurrency", json!(concurrency));
        put("log_level", json!(self.log_level.word()));
        put("drain_time", json!(format!("{}s", self.drain_time_s)));
        put(
            "file_flush_interval",
            json!(format!("{}s", self.file_flush_interval_msec as f64 / 1000.0)),
        );
        put("file_flush_min_size_kb", json!(self.file_flush_min_size_kb));
        let mode = match self.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
            Mode::InitOnly => "InitOnly",
        };
        put("mode", json!(mode));
        let components: Vec<String> = self
            .component_log_level
            .iter()
            .map(|(name, level)| format!("{name}:{}", level.word()))
            .collect();
        let texts = [
            (
                "config_path",
                self.config_path.as_ref().map(|path| path.display().to_string()),
            ),
            ("config_yaml", self.config_yaml.clone()),
            ("log_format", self.log_format.clone()),
            (
                "log_path",
                self.log_path.as_ref().map(|path| path.display().to_string()),
            ),
            ("service_cluster", self.service_cluster.clone()),
            ("service_node", self.service_node.clone()),
            ("service_zone", self.service_zone.clone()),
            ("component_log_level", Some(components.join(","))),
        ];
        for (key, text) in texts {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                put(key, json!(text));
            }
        }
        if self.allow_unknown_static_fields {
            put("allow_unknown_static_fields", json!(true));
        }
        for (name, value) in &self.inert {
            let (key, value) = inert_option(name, value);
            put(&key, value);
        }
        Value::Object(options)
    }
}

/// An inert flag in the words of the message.
fn inert_option(name: &str, value: &str) -> (String, Value) {
    let key = name.replace('-', "_");
    match (name, value.parse::<u64>()) {
        ("drain-strategy", _) if value == "immediate" => (key, json!("Immediate")),
        ("drain-strategy", _) => (key, json!("Gradual")),
        ("parent-shutdown-time-s", Ok(seconds)) => {
            ("parent_shutdown_time".to_owned(), json!(format!("{seconds}s")))
        }
        ("disable-extensions", _) => ("disabled_extensions".to_owned(), value.split(',').collect()),
        (_, Ok(number)) => (key, json!(number)),
        (_, Err(_)) if value.is_empty() => (key, json!(true)),
        (_, Err(_)) => (key, json!(value)),
    }
}

fn named<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    if name == "help" {
        // Made by clap only when it parses: any argument without a value stands for it.
        return command.get_arguments().find(|known| known.get_id() == "version");
    }
    command.get_arguments().find(|known| {
        let aliases = known.get_all_aliases().unwrap_or_default();
        known.get_long() == Some(name) || aliases.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Flags {
        Flags::read(line.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn the_vector_of_pilot_agent() {
        let flags = read(
            "redplane -c envoy-rev.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 \
             --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning \
             --component-log-level misc:error --skip-deprecated-logs --concurrency 2",
        );
        assert_eq!(flags.config_path, Some("envoy-rev.json".into()));
        assert_eq!((flags.drain_time_s, flags.concurrency), (45, Some(2)));
        assert_eq!(flags.log_level, Level::Warning);
        assert_eq!(&*flags.component_log_level, &[("misc", Level::Error)]);
        assert!(flags.allow_unknown_static_fields && flags.unknown.is_empty());
        let options = flags.options(2);
        assert_eq!(options["drain_strategy"], "Immediate");
        assert_eq!(options["drain_time"], "45s");
        assert_eq!(options["disable_hot_restart"], true);
    }

    #[test]
    fn old_flags_equal_signs_and_what_nobody_knows() {
        let flags = read(
            "redplane --config-path=a.json --restart-epoch 0 --parent-shutdown-time-s=60 --service-cluster c \
             --service-node=n --max-obj-name-len 189 --log-format-prefix-with-location 0 --bootstrap-version 3 \
             --cpuset-threads --brand-new 7 --newer --newest=x --log-level=warn -ldebug",
        );
        assert_eq!(flags.config_path, Some("a.json".into()));
        assert_eq!(flags.service_cluster.as_deref(), Some("c"));
        assert_eq!(flags.service_node.as_deref(), Some("n"));
        assert_eq!(flags.unknown, ["--brand-new 7", "--newer", "--newest=x"]);
        assert_eq!(flags.log_level, Level::Debug);
        assert_eq!(flags.options(1)["parent_shutdown_time"], "60s");
    }

    #[test]
    fn bad_values_are_named() {
        let refused = |line: &str| {
            Flags::read(line.split(' ').map(OsString::from))
                .unwrap_err()
                .to_string()
        };
        assert!(refused("redplane -l loud").contains("'loud'"));
        assert!(refused("redplane --component-log-level nobody:info").contains("'nobody'"));
        assert!(refused("redplane --concurrency many").contains("many"));
    }
}
