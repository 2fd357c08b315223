//! Which stats are shown, and how a flat name becomes a Prometheus name with labels: the bootstrap's `stats_config`.
//!
//! Follows Envoy's `StatsConfig`, `StatsMatcher` and `TagSpecifier`. Regexes may use look-ahead, as one of Istio's does.
//! All of it is evaluated when a page is printed, never when something is counted.

mod tags;

use fancy_regex::{Regex, RegexBuilder};
use redplane_config_core::matcher::StringMatcher;

pub(crate) use tags::Tagged;

/// A regex that was refused.
#[derive(Debug, thiserror::Error)]
#[error("invalid regex \"{pattern}\": {reason}")]
pub struct BadPattern {
    /// The text that was refused.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

/// A compiled regex. One that gives up (too much backtracking) does not match.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Longer regexes are refused; Istio's longest has under 200 bytes.
const MAX_PATTERN: usize = 16 * 1024;

/// Steps per name, for the few regexes that cannot do without backtracking.
const BACKTRACK_LIMIT: usize = 50_000;

impl Pattern {
    /// A regex that is searched for anywhere in the name.
    ///
    /// # Errors
    /// When the text is no regex, or absurdly long.
    pub fn search(pattern: &str) -> Result<Self, BadPattern> {
        let refuse = |reason: String| BadPattern {
            pattern: pattern.chars().take(200).collect(),
            reason,
        };
        if pattern.len() > MAX_PATTERN {
            return Err(refuse("longer than 16384 bytes".to_owned()));
        }
        let compiled = RegexBuilder::new(pattern)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build();
        compiled.map(Self).map_err(|error| refuse(error.to_string()))
    }

    /// A regex that must match the whole name.
    ///
    /// # Errors
    /// As [`Pattern::search`].
    pub fn whole(pattern: &str) -> Result<Self, BadPattern> {
        Self::search(&format!("^(?:{pattern})$"))
    }

    /// Whether it matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text).unwrap_or(false)
    }

    fn captures<'t>(&self, text: &'t str) -> Option<fancy_regex::Captures<'t, str>> {
        self.0.captures(text).ok().flatten()
    }
}

/// `stats_matcher`: which stats exist for the outside.
#[derive(Clone, Debug, Default)]
pub enum Matcher {
    /// All of them.
    #[default]
    All,
    /// None of them (`reject_all`).
    None,
    /// Those that match.
    Inclusion(Vec<StringMatcher>),
    /// Those that do not match.
    Exclusion(Vec<StringMatcher>),
}

impl Matcher {
    /// Whether a stat is shown.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Inclusion(list) => list.iter().any(|matcher| matcher.matches(name.as_bytes())),
            Self::Exclusion(list) => !list.iter().any(|matcher| matcher.matches(name.as_bytes())),
        }
    }

    /// Whether anything below a prefix could be shown; spares building the names of whole scopes.
    pub(crate) fn may_admit_below(&self, prefix: &str) -> bool {
        match self {
            Self::All | Self::Exclusion(_) => true,
            Self::None => false,
            Self::Inclusion(list) => list.iter().any(|matcher| may_match_below(matcher, prefix)),
        }
    }
}

/// Whether some name with this prefix could match.
fn may_match_below(matcher: &StringMatcher, prefix: &str) -> bool {
    match matcher {
        StringMatcher::Exact(text) => text.starts_with(prefix),
        StringMatcher::Prefix(text) => text.starts_with(prefix) || prefix.starts_with(text.as_str()),
        StringMatcher::Suffix(_)
        | StringMatcher::Contains(_)
        | StringMatcher::Regex(_)
        | StringMatcher::IgnoreCase(_) => true,
    }
}

/// One entry of `stats_tags`.
#[derive(Clone, Debug)]
pub struct Tag {
    /// The label. An own entry with the name of a default tag replaces nothing; both are tried.
    pub name: String,
    /// Where its value comes from.
    pub value: TagValue,
}

/// Where a label's value comes from.
#[derive(Clone, Debug)]
pub enum TagValue {
    /// The first group is cut out of the name, the second is the value (the first when there is only one).
    Regex(Pattern),
    /// Always the same.
    Fixed(String),
    /// The regex of the default tag of this name.
    Default,
}

/// One entry of `histogram_bucket_settings`.
#[derive(Clone, Debug)]
pub struct BucketSetting {
    /// Which histograms.
    pub matcher: StringMatcher,
    /// Upper bounds, ascending.
    pub buckets: Vec<f64>,
}

/// The bootstrap's `stats_config`, checked.
#[derive(Clone, Debug)]
pub struct StatsConfig {
    /// Which stats are shown.
    pub matcher: Matcher,
    /// Own tags, tried before the default ones in this order.
    pub tags: Vec<Tag>,
    /// `use_all_default_tags`, true when unset.
    pub default_tags: bool,
    /// Histogram buckets; the first match counts.
    pub buckets: Vec<BucketSetting>,
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self {
            matcher: Matcher::All,
            tags: Vec::new(),
            default_tags: true,
            buckets: Vec::new(),
        }
    }
}

/// Envoy's default upper bounds.
const DEFAULT_BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0,
    300000.0, 600000.0, 1800000.0, 3600000.0,
];

/// A [`StatsConfig`] made ready for printing.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) matcher: Matcher,
    extractors: tags::Extractors,
    buckets: Vec<BucketSetting>,
}

impl Default for Names {
    fn default() -> Self {
        Self::new(StatsConfig::default())
    }
}

impl Names {
    pub(crate) fn new(config: StatsConfig) -> Self {
        let extractors = tags::Extractors::new(config.tags, config.default_tags);
        Self {
            matcher: config.matcher,
            extractors,
            buckets: config.buckets,
        }
    }

    pub(crate) fn buckets(&self, name: &str) -> &[f64] {
        let own = self
            .buckets
            .iter()
            .find(|setting| setting.matcher.matches(name.as_bytes()));
        own.map_or(&DEFAULT_BUCKETS, |setting| &setting.buckets)
    }

    /// The name without its tags, and the tags.
    pub(crate) fn tagged(&self, name: &str) -> Tagged {
        self.extractors.extract(name)
    }
}

#[cfg(test)]
mod tests;
