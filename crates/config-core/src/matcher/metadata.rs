//! `envoy.type.matcher.v3.MetadataMatcher` and `ValueMatcher`: conditions on metadata, as data.

use std::ops::Range;

use redplane_proto::pb::envoy::r#type::matcher::v3 as proto;
use redplane_proto::pb::envoy::r#type::matcher::v3::double_matcher::MatchPattern as Double;
use redplane_proto::pb::envoy::r#type::matcher::v3::list_matcher::MatchPattern as List;
use redplane_proto::pb::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use redplane_proto::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern as Pattern;

use super::StringMatcher;
use crate::Invalid;
use crate::field::{non_empty, required};

/// A condition on one value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatcher {
    /// Under which filter's name it stands.
    pub filter: String,
    /// The keys that lead to it, at least one.
    pub path: Vec<String>,
    /// What it must be.
    pub value: ValueMatcher,
    /// `invert`.
    pub invert: bool,
}

/// `ValueMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatcher {
    /// `null_match`.
    Null,
    /// A number in a range, the end not among it.
    Range(Range<f64>),
    /// This number.
    Number(f64),
    /// A string that fits.
    Text(StringMatcher),
    /// This truth value.
    Bool(bool),
    /// There is any value; `false` is never true in Envoy.
    Present(bool),
    /// A list of which one element fits.
    OneOf(Box<Self>),
    /// Any of these fits.
    Any(Vec<Self>),
}

impl MetadataMatcher {
    /// Reads the message.
    pub fn from_proto(message: &proto::MetadataMatcher) -> Result<Self, Invalid> {
        if message.path.is_empty() {
            return Err(Invalid::new("path", "value must contain at least 1 item(s)"));
        }
        let segment = |(i, segment): (usize, &proto::metadata_matcher::PathSegment)| {
            let path = format!("path[{i}]");
            let Segment::Key(key) = required(segment.segment.as_ref(), &path)?;
            non_empty(key, &format!("{path}.key"))
        };
        let value = required(message.value.as_ref(), "value")?;
        Ok(Self {
            filter: non_empty(&message.filter, "filter")?,
            path: message
                .path
                .iter()
                .enumerate()
                .map(segment)
                .collect::<Result<_, _>>()?,
            value: ValueMatcher::from_proto(value).map_err(|refusal| refusal.within("value"))?,
            invert: message.invert,
        })
    }
}

impl ValueMatcher {
    /// Reads the message; its depth is bounded by the protobuf decoder.
    pub fn from_proto(message: &proto::ValueMatcher) -> Result<Self, Invalid> {
        Ok(match required(message.match_pattern.as_ref(), "match_pattern")? {
            Pattern::NullMatch(_) => Self::Null,
            Pattern::DoubleMatch(double) => match required(double.match_pattern.as_ref(), "double_match")? {
                Double::Range(range) => Self::Range(range.start..range.end),
                Double::Exact(number) => Self::Number(*number),
            },
            Pattern::StringMatch(text) => {
                Self::Text(StringMatcher::from_proto(text).map_err(|refusal| refusal.within("string_match"))?)
            }
            Pattern::BoolMatch(wanted) => Self::Bool(*wanted),
            Pattern::PresentMatch(wanted) => Self::Present(*wanted),
            Pattern::ListMatch(list) => {
                let List::OneOf(one) = required(list.match_pattern.as_ref(), "list_match")?;
                let one = Self::from_proto(one).map_err(|refusal| refusal.within("list_match.one_of"))?;
                Self::OneOf(Box::new(one))
            }
            Pattern::OrMatch(any) => {
                if any.value_matchers.len() < 2 {
                    return Err(Invalid::new(
                        "or_match.value_matchers",
                        "value must contain at least 2 item(s)",
                    ));
                }
                let one = |(i, one)| {
                    let at = format!("or_match.value_matchers[{i}]");
                    Self::from_proto(one).map_err(|refusal| refusal.within(&at))
                };
                Self::Any(
                    any.value_matchers
                        .iter()
                        .enumerate()
                        .map(one)
                        .collect::<Result<_, _>>()?,
                )
            }
        })
    }
}
