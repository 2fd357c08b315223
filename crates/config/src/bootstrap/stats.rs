//! `stats_config`: which stats are shown, and how their names become labels.
//!
//! Tag regexes stay text: they are Envoy's older dialect (one of Istio's looks ahead), which is compiled where names
//! are taken apart.

use redplane_proto::pb::envoy::config::metrics::v3 as proto;
use redplane_proto::pb::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Rule;
use redplane_proto::pb::envoy::config::metrics::v3::tag_specifier::TagValue as Value;
use redplane_proto::pb::envoy::r#type::matcher::v3::ListStringMatcher;

use crate::field::required;
use crate::invalid::ignore_fields;
use crate::tls::StringMatcher;
use crate::{Ignored, Invalid};

/// `StatsConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Which stats are shown.
    pub matcher: StatsMatcher,
    /// `stats_tags`, in order.
    pub tags: Vec<StatsTag>,
    /// `use_all_default_tags`. Default true.
    pub use_all_default_tags: bool,
    /// `histogram_bucket_settings`: whose histograms, and their upper bounds, ascending; the first match counts.
    pub buckets: Vec<(StringMatcher, Vec<f64>)>,
}

/// `StatsMatcher`, on the full name of a stat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatsMatcher {
    /// Every stat.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those that one of these matches.
    Inclusion(Vec<StringMatcher>),
    /// Those that none of these matches.
    Exclusion(Vec<StringMatcher>),
}

/// `TagSpecifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsTag {
    /// The label.
    pub name: String,
    /// Its value.
    pub value: TagValue,
}

/// Where the value of a label comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// The first group of the regex is cut out of the name, the second is the value.
    Regex(String),
    /// Always the same.
    Fixed(String),
    /// The default tag of that name.
    Default,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            matcher: StatsMatcher::All,
            tags: Vec::new(),
            use_all_default_tags: true,
            buckets: Vec::new(),
        }
    }
}

impl Stats {
    /// Reads the message.
    pub(super) fn from_proto(
        message: Option<&proto::StatsConfig>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        ignored.scope("stats_config", |ignored| {
            ignore_fields!(ignored, message, allow_default_tag_overrides);
            Ok(Self {
                matcher: matcher(message.stats_matcher.as_ref(), ignored)?,
                tags: ignored.each("stats_tags", &message.stats_tags, |tag, _| tag_of(tag))?,
                use_all_default_tags: message.use_all_default_tags.is_none_or(|all| all.value),
                buckets: ignored.each(
                    "histogram_bucket_settings",
                    &message.histogram_bucket_settings,
                    buckets,
                )?,
            })
        })
    }
}

fn tag_of(message: &proto::TagSpecifier) -> Result<StatsTag, Invalid> {
    let value = match message.tag_value.as_ref() {
        None => TagValue::Default,
        Some(Value::Regex(regex)) if regex.len() > 1024 => {
            return Err(Invalid::new("regex", "value length must be at most 1024 bytes"));
        }
        Some(Value::Regex(regex)) => TagValue::Regex(regex.clone()),
        Some(Value::FixedValue(value)) => TagValue::Fixed(value.clone()),
    };
    Ok(StatsTag {
        name: message.tag_name.clone(),
        value,
    })
}

fn matcher(message: Option<&proto::StatsMatcher>, ignored: &mut Ignored) -> Result<StatsMatcher, Invalid> {
    let Some(message) = message else {
        return Ok(StatsMatcher::All);
    };
    let mut list = |field: &str, list: &ListStringMatcher| {
        let path = format!("stats_matcher.{field}.patterns");
        ignored.each(&path, &list.patterns, |pattern, _| {
            StringMatcher::from_proto(pattern)
        })
    };
    match message.stats_matcher.as_ref() {
        None => Err(Invalid::new("stats_matcher.stats_matcher", "value is required")),
        Some(Rule::RejectAll(true)) => Ok(StatsMatcher::Nothing),
        Some(Rule::RejectAll(false)) => Ok(StatsMatcher::All),
        Some(Rule::InclusionList(patterns)) => list("inclusion_list", patterns).map(StatsMatcher::Inclusion),
        Some(Rule::ExclusionList(patterns)) => list("exclusion_list", patterns).map(StatsMatcher::Exclusion),
    }
}

fn buckets(
    message: &proto::HistogramBucketSettings,
    ignored: &mut Ignored,
) -> Result<(StringMatcher, Vec<f64>), Invalid> {
    ignore_fields!(ignored, message, bins);
    let matcher = required(message.r#match.as_ref(), "match")?;
    let matcher = StringMatcher::from_proto(matcher).map_err(|refusal| refusal.within("match"))?;
    let bounds = &message.buckets;
    if let Some(i) = bounds
        .iter()
        .position(|bound| !bound.is_finite() || *bound <= 0.0)
    {
        return Err(Invalid::new(
            format!("buckets[{i}]"),
            "value must be greater than 0",
        ));
    }
    // Envoy takes any order and sorts.
    let mut sorted = bounds.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    Ok((matcher, sorted))
}
