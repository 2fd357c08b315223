//! How each field of INFO is made of those of several servers: one table.

use super::Own;

/// How the values of one field become one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Sum,
    Max,
    First,
    /// The proxy's own word.
    Fixed(&'static str),
    /// The proxy's own figure.
    Own(fn(&Own) -> u64),
    /// Two fields before it, one divided by the other; of a hundred, with a percent sign.
    Percent(&'static str, &'static str),
    /// The same without.
    Ratio(&'static str, &'static str),
    /// `latency_percentiles_usec_get:p50=1.003,…`: the highest of each.
    Highest,
    /// Made again from the field before the suffix.
    Human,
    /// `db0:keys=1,expires=0,avg_ttl=0`.
    Keyspace,
    /// `cmdstat_get:calls=1,usec=2,…` and `errorstat_ERR:count=1`.
    Pairs,
    /// The lowest version.
    Lowest,
}

/// Fields by name, or by the beginning of their name when it ends in `*`. The first that fits counts.
const RULES: &[(&str, Rule)] = &[
    ("redis_mode", Rule::Fixed("standalone")),
    ("cluster_enabled", Rule::Fixed("0")),
    ("role", Rule::Fixed("master")),
    ("connected_slaves", Rule::Fixed("0")),
    ("redis_version", Rule::Lowest),
    ("db*", Rule::Keyspace),
    ("cmdstat_*", Rule::Pairs),
    ("errorstat_*", Rule::Pairs),
    (
        "used_memory_peak_perc",
        Rule::Percent("used_memory", "used_memory_peak"),
    ),
    ("used_memory_dataset_perc", Rule::First),
    ("used_memory_scripts_eval", Rule::Sum),
    ("maxmemory", Rule::Sum),
    ("maxmemory_policy", Rule::First),
    ("total_system_memory", Rule::Max),
    ("used_memory*", Rule::Sum),
    (
        "allocator_frag_ratio",
        Rule::Ratio("allocator_active", "allocator_allocated"),
    ),
    (
        "allocator_rss_ratio",
        Rule::Ratio("allocator_resident", "allocator_active"),
    ),
    (
        "rss_overhead_ratio",
        Rule::Ratio("used_memory_rss", "allocator_resident"),
    ),
    (
        "mem_fragmentation_ratio",
        Rule::Ratio("used_memory_rss", "used_memory"),
    ),
    ("rss_overhead_bytes", Rule::Sum),
    ("allocator_*", Rule::Sum),
    ("mem_*", Rule::Sum),
    ("total_*", Rule::Sum),
    ("keyspace_*", Rule::Sum),
    ("expired_keys", Rule::Sum),
    ("expired_stale_perc", Rule::First),
    ("evicted_*", Rule::Sum),
    ("instantaneous_*", Rule::Sum),
    ("pubsub_channels", Rule::Max),
    ("pubsub_patterns", Rule::Max),
    ("rejected_connections", Rule::Sum),
    ("connected_clients", Rule::Own(|own| own.clients)),
    ("blocked_clients", Rule::Own(|own| own.blocked)),
    ("maxclients", Rule::Own(|own| own.max_clients)),
    ("tcp_port", Rule::Own(|own| own.port)),
    ("process_id", Rule::Own(|_| u64::from(std::process::id()))),
    ("uptime_in_seconds", Rule::Own(|own| own.uptime)),
    ("uptime_in_days", Rule::Own(|own| own.uptime / 86_400)),
    ("latency_percentiles_*", Rule::Highest),
    ("tracking_clients", Rule::Own(|own| own.tracking)),
    ("clients_in_timeout_table", Rule::Sum),
    ("unexpected_error_replies", Rule::Sum),
    ("rdb_changes_since_last_save", Rule::Sum),
    ("latest_fork_usec", Rule::Max),
    ("number_of_*", Rule::Max),
    ("used_cpu_*", Rule::Sum),
    ("client_recent_max_*", Rule::Max),
];

/// How the values of a field become one.
pub(super) fn rule(field: &str) -> Rule {
    if field.ends_with("_human") {
        return Rule::Human;
    }
    let fits = |name: &str| match name.strip_suffix('*') {
        Some("db") => field
            .strip_prefix("db")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
        Some(start) => field.starts_with(start),
        None => field == name,
    };
    RULES
        .iter()
        .find(|(name, _)| fits(name))
        .map_or(Rule::First, |(_, rule)| *rule)
}
