//! Tag extraction: cutting label values out of flat names.
//!
//! Each extractor looks at the whole original name; the pieces are cut out together at the end, so one tag never hides
//! another (Envoy: `TagProducerImpl`). The default list is the part of Envoy's `well_known_names` that redplane's
//! own stats can meet.

use super::{Pattern, Tag, TagValue};

/// Tag, regex, and a part that must occur before the regex is tried.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("envoy.response_code", r"_rq(_(\d{3}))$", "_rq_"),
    ("envoy.response_code_class", r"_rq_((\d))xx$", "_rq_"),
    (
        "envoy.ssl_cipher",
        r"^listener\..*?\.ssl\.cipher(\.(.*?))$",
        ".ssl.",
    ),
    (
        "envoy.ssl_cipher_suite",
        r"^cluster\..*?\.ssl\.ciphers(\.(.*?))$",
        ".ssl.",
    ),
    (
        "envoy.rds_route_config",
        r"^http\..*?\.rds\.((.*?)\.)\w+?$",
        ".rds.",
    ),
    ("envoy.worker_id", r"(?:^|\.)worker_((\d+)\.)", "worker_"),
    ("envoy.tcp_prefix", r"^tcp\.((.*?)\.)", "tcp."),
    ("envoy.cluster_name", r"^cluster\.((.*?)\.)", "cluster."),
    (
        "envoy.http_conn_manager_prefix",
        r"^listener\..*?\.http\.((.*?)\.)",
        ".http.",
    ),
    ("envoy.http_conn_manager_prefix", r"^http\.((.*?)\.)", "http."),
    (
        "envoy.listener_address",
        r"^listener\.(((?:[_.\d]+|[_\[\]aAbBcCdDeEfF\d]+))\.)",
        "listener.",
    ),
    (
        "envoy.virtual_cluster",
        r"^vhost\..*?\.vcluster\.((.*?)\.)",
        ".vcluster.",
    ),
    ("envoy.route", r"^vhost\..*?\.route\.((.*?)\.)", ".route."),
    ("envoy.virtual_host", r"^vhost\.((.*?)\.)", "vhost."),
    ("envoy.redis_prefix", r"^redis\.((.*?)\.)", "redis."),
    (
        "envoy.rbac_prefix",
        r"^(?:.*\.)?rbac\.((.*?)\.)(?:allowed|denied|shadow)",
        ".rbac.",
    ),
    (
        "envoy.ratelimit_prefix",
        r"^ratelimit\.((.*?)\.)\w+?$",
        "ratelimit.",
    ),
    (
        "envoy.connection_limit_prefix",
        r"^connection_limit\.((.*?)\.)",
        "connection_limit.",
    ),
    (
        "envoy.local_network_ratelimit_prefix",
        r"^local_rate_limit\.((.*?)\.)",
        "local_rate_limit.",
    ),
    ("envoy.dns_cache", r"^dns_cache\.((.*?)\.)", "dns_cache."),
];

#[derive(Debug)]
pub(super) struct Extractors {
    fixed: Vec<(String, String)>,
    regexes: Vec<Extractor>,
}

#[derive(Debug)]
struct Extractor {
    tag: String,
    pattern: Pattern,
    needle: &'static str,
}

/// A name without its tags, and the tags in the order of extraction.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tagged {
    pub(crate) name: String,
    pub(crate) tags: Vec<(String, String)>,
}

impl Extractors {
    pub(super) fn new(own: Vec<Tag>, defaults: bool) -> Self {
        let (mut fixed, mut regexes) = (Vec::new(), Vec::new());
        for tag in own {
            match tag.value {
                TagValue::Fixed(value) => fixed.push((tag.name, value)),
                TagValue::Regex(pattern) => regexes.push(Extractor {
                    tag: tag.name,
                    pattern,
                    needle: "",
                }),
                // With all defaults on, the default of that name is there already.
                TagValue::Default if defaults => {}
                TagValue::Default => regexes.extend(default_extractors(|name| name == tag.name)),
            }
        }
        if defaults {
            regexes.extend(default_extractors(|_| true));
        }
        Self { fixed, regexes }
    }

    pub(super) fn extract(&self, name: &str) -> Tagged {
        let mut tags = Vec::new();
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        for extractor in self
            .regexes
            .iter()
            .filter(|extractor| name.contains(extractor.needle))
        {
            if tags.iter().any(|(tag, _)| *tag == extractor.tag) {
                continue;
            }
            let Some(found) = extractor.pattern.captures(name) else {
                continue;
            };
            let Some(cut) = found.get(1) else { continue };
            let value = found.get(2).unwrap_or(cut);
            tags.push((extractor.tag.clone(), value.as_str().to_owned()));
            cuts.push((cut.start(), cut.end()));
        }
        tags.extend(self.fixed.iter().cloned());
        Tagged {
            name: without(name, cuts),
            tags,
        }
    }
}

fn default_extractors(wanted: impl Fn(&str) -> bool) -> Vec<Extractor> {
    let wanted = DEFAULTS.iter().filter(|(tag, ..)| wanted(tag));
    let compiled = wanted.filter_map(|(tag, regex, needle)| {
        // Every entry compiles; a test holds that.
        let pattern = Pattern::search(regex).ok()?;
        Some(Extractor {
            tag: (*tag).to_owned(),
            pattern,
            needle,
        })
    });
    compiled.collect()
}

/// The name without the cut ranges, which may touch or overlap.
fn without(name: &str, mut cuts: Vec<(usize, usize)>) -> String {
    cuts.sort_unstable();
    let (mut kept, mut at) = (String::with_capacity(name.len()), 0);
    for (start, end) in cuts {
        if start > at {
            kept.push_str(&name[at..start]);
        }
        at = at.max(end);
    }
    kept.push_str(&name[at..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_compiles() {
        assert_eq!(default_extractors(|_| true).len(), DEFAULTS.len());
    }
}
