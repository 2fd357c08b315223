//! Metadata: what rules ask of it.

use redplane_config::matcher::{MetadataMatcher, ValueMatcher};
use serde_json::Value;

use crate::facts::Metadata;

/// Whether the value that the path leads to fits. A path ends at what is no object.
pub(crate) fn matches(matcher: &MetadataMatcher, metadata: &Metadata) -> bool {
    let mut value = metadata.get(&matcher.filter);
    for key in &matcher.path {
        value = value.and_then(|value| value.as_object()?.get(key));
    }
    fits(&matcher.value, value) != matcher.invert
}

fn fits(matcher: &ValueMatcher, value: Option<&Value>) -> bool {
    let number = || value.and_then(Value::as_f64);
    match matcher {
        ValueMatcher::Null => value.is_some_and(Value::is_null),
        ValueMatcher::Range(range) => number().is_some_and(|number| range.contains(&number)),
        ValueMatcher::Number(wanted) => number() == Some(*wanted),
        ValueMatcher::Text(wanted) => value
            .and_then(Value::as_str)
            .is_some_and(|text| wanted.matches(text.as_bytes())),
        ValueMatcher::Bool(wanted) => value.and_then(Value::as_bool) == Some(*wanted),
        ValueMatcher::Present(wanted) => *wanted && value.is_some(),
        ValueMatcher::OneOf(one) => value
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|element| fits(one, Some(element)))),
        ValueMatcher::Any(any) => any.iter().any(|one| fits(one, value)),
    }
}
