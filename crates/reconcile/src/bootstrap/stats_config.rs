//! `stats_config` of the bootstrap as telemetry understands it: `envoy.config.metrics.v3.StatsConfig`.

use redplane_config::matcher::StringMatcher;
use redplane_proto::pb::envoy::config::metrics::v3 as proto;
use redplane_proto::pb::envoy::config::metrics::v3::stats_matcher::StatsMatcher;
use redplane_proto::pb::envoy::config::metrics::v3::tag_specifier::TagValue as ProtoValue;
use redplane_proto::pb::envoy::r#type::matcher::v3 as matcher;
use redplane_telemetry::{BadPattern, BucketSetting, Matcher, Pattern, StatsConfig, Tag, TagValue};

/// Reads the message.
///
/// # Errors
/// The field's path and the reason.
pub(super) fn read(message: Option<&proto::StatsConfig>) -> Result<StatsConfig, String> {
    let Some(message) = message else {
        return Ok(StatsConfig::default());
    };
    let tags = message.stats_tags.iter().enumerate().map(|(i, tag)| {
        let at = |bad: BadPattern| format!("stats_config.stats_tags[{i}].regex: {bad}");
        let value = match &tag.tag_value {
            Some(ProtoValue::Regex(regex)) if !regex.is_empty() => {
                TagValue::Regex(Pattern::search(regex).map_err(at)?)
            }
            Some(ProtoValue::FixedValue(value)) => TagValue::Fixed(value.clone()),
            Some(ProtoValue::Regex(_)) | None => TagValue::Default,
        };
        Ok(Tag {
            name: tag.tag_name.clone(),
            value,
        })
    });
    let buckets = message.histogram_bucket_settings.iter().enumerate();
    let buckets = buckets.map(|(i, setting)| {
        let path = format!("stats_config.histogram_bucket_settings[{i}]");
        let matcher = setting
            .r#match
            .as_ref()
            .ok_or_else(|| format!("{path}.match: value is required"))?;
        let mut buckets = setting.buckets.clone();
        buckets.sort_by(f64::total_cmp);
        Ok(BucketSetting {
            matcher: StringMatcher::from_proto(matcher).map_err(|bad| format!("{path}.match.{bad}"))?,
            buckets,
        })
    });
    Ok(StatsConfig {
        tags: tags.collect::<Result<_, String>>()?,
        buckets: buckets.collect::<Result<_, String>>()?,
        matcher: stats_matcher(message.stats_matcher.as_ref())
            .map_err(|reason| format!("stats_config.stats_matcher.{reason}"))?,
        default_tags: message
            .use_all_default_tags
            .as_ref()
            .is_none_or(|flag| flag.value),
    })
}

fn stats_matcher(message: Option<&proto::StatsMatcher>) -> Result<Matcher, String> {
    Ok(match message.and_then(|message| message.stats_matcher.as_ref()) {
        None | Some(StatsMatcher::RejectAll(false)) => Matcher::All,
        Some(StatsMatcher::RejectAll(true)) => Matcher::None,
        Some(StatsMatcher::InclusionList(patterns)) => Matcher::Inclusion(list("inclusion_list", patterns)?),
        Some(StatsMatcher::ExclusionList(patterns)) => Matcher::Exclusion(list("exclusion_list", patterns)?),
    })
}

fn list(field: &str, message: &matcher::ListStringMatcher) -> Result<Vec<StringMatcher>, String> {
    let patterns = message.patterns.iter().enumerate();
    let patterns = patterns.map(|(i, pattern)| {
        StringMatcher::from_proto(pattern).map_err(|bad| format!("{field}.patterns[{i}].{bad}"))
    });
    patterns.collect()
}
