//! `RetryPolicy`.

use std::time::Duration;

use redplane_proto::pb::envoy::config::route::v3 as proto;

use crate::field::{duration, positive_or};
use crate::http::matcher::HeaderMatcher;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// When and how often a request is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryOn,
    /// `num_retries`: tries after the first. Default 1.
    pub retries: u32,
    /// `per_try_timeout`.
    pub per_try_timeout: Option<Duration>,
    /// `previous_hosts` is among the predicates: hosts that were tried are passed over.
    pub avoid_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`: how often another host is drawn. Default 1.
    pub host_attempts: u32,
    /// `retriable_status_codes`.
    pub status_codes: Vec<u16>,
    /// First interval of the back-off. Default 25 ms.
    pub base_interval: Duration,
    /// Longest interval. Default ten times the first.
    pub max_interval: Duration,
    /// `retriable_headers`: a response with one of them is retried where `retriable-headers` is named.
    pub response_headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: only requests with one of them are retried; empty is all.
    pub request_headers: Vec<HeaderMatcher>,
}

/// A set of retry conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($bit:literal $name:ident $text:literal;)*) => {
        impl RetryOn {
            $(#[doc = concat!("`", $text, "`.")] pub const $name: Self = Self(1 << $bit);)*
        }

        const CONDITIONS: &[(&str, RetryOn)] = &[$(($text, RetryOn::$name)),*];
    };
}

conditions! {
    0 SERVER_ERROR "5xx";
    1 GATEWAY_ERROR "gateway-error";
    2 RESET "reset";
    3 RESET_BEFORE_REQUEST "reset-before-request";
    4 CONNECT_FAILURE "connect-failure";
    5 REFUSED_STREAM "refused-stream";
    6 RETRIABLE_4XX "retriable-4xx";
    7 STATUS_CODES "retriable-status-codes";
    8 HEADERS "retriable-headers";
    9 ENVOY_RATELIMITED "envoy-ratelimited";
    10 HTTP3_POST_CONNECT_FAILURE "http3-post-connect-failure";
    11 CANCELLED "cancelled";
    12 DEADLINE_EXCEEDED "deadline-exceeded";
    13 INTERNAL "internal";
    14 RESOURCE_EXHAUSTED "resource-exhausted";
    15 UNAVAILABLE "unavailable";
}

impl RetryOn {
    /// Reads a list joined by commas; words that are not known are given back.
    pub fn parse(text: &str) -> (Self, Vec<&str>) {
        let mut set = Self::default();
        let mut unknown = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match CONDITIONS.iter().find(|(known, _)| *known == word) {
                Some((_, condition)) => set = set.with(*condition),
                None => unknown.push(word),
            }
        }
        (set, unknown)
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any condition of the other set is in this one.
    pub fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Nothing is retried.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl RetryPolicy {
    pub(super) fn from_proto(message: &proto::RetryPolicy, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            rate_limited_retry_back_off,
            retry_options_predicates
        );
        ignore_fields!(ignored, message, refresh_cluster_on_retry, per_try_idle_timeout);
        if message.retry_priority.is_some() {
            ignored.note("retry_priority: every try chooses its priority as the first does");
        }
        let (on, unknown) = RetryOn::parse(&message.retry_on);
        unknown
            .iter()
            .for_each(|word| ignored.note(format!("retry_on: {word} is not known")));
        let mut avoid_previous_hosts = false;
        for (at, predicate) in message.retry_host_predicate.iter().enumerate() {
            match predicate.name.as_str() {
                "envoy.retry_host_predicates.previous_hosts" => avoid_previous_hosts = true,
                name => ignored.note(format!("retry_host_predicate[{at}]: {name} is not known")),
            }
        }
        let (base_interval, max_interval) = back_off(message)?;
        let limit = |value: Option<&_>, path| value.map(|value| duration(value, path)).transpose();
        Ok(Self {
            on,
            retries: message.num_retries.map_or(1, |number| number.value),
            per_try_timeout: limit(message.per_try_timeout.as_ref(), "per_try_timeout")?
                .filter(|limit| !limit.is_zero()),
            avoid_previous_hosts,
            host_attempts: u32::try_from(message.host_selection_retry_max_attempts.max(1))
                .unwrap_or(u32::MAX),
            status_codes: message
                .retriable_status_codes
                .iter()
                .filter_map(|code| u16::try_from(*code).ok())
                .collect(),
            base_interval,
            max_interval,
            response_headers: headers(&message.retriable_headers, "retriable_headers")?,
            request_headers: headers(&message.retriable_request_headers, "retriable_request_headers")?,
        })
    }
}

fn headers(messages: &[proto::HeaderMatcher], path: &str) -> Result<Vec<HeaderMatcher>, Invalid> {
    let read = |(at, message)| {
        HeaderMatcher::from_proto(message)
            .map_err(|refusal: Invalid| refusal.within(&format!("{path}[{at}]")))
    };
    messages.iter().enumerate().map(read).collect()
}

fn back_off(message: &proto::RetryPolicy) -> Result<(Duration, Duration), Invalid> {
    let Some(config) = message.retry_back_off.as_ref() else {
        return Ok((Duration::from_millis(25), Duration::from_millis(250)));
    };
    if config.base_interval.is_none() {
        return Err(Invalid::new("retry_back_off.base_interval", "value is required"));
    }
    let base = positive_or(
        config.base_interval.as_ref(),
        "retry_back_off.base_interval",
        Duration::from_millis(25),
    )?;
    let max = positive_or(
        config.max_interval.as_ref(),
        "retry_back_off.max_interval",
        base * 10,
    )?;
    if max < base {
        let reason = "retry_policy.max_interval must greater than or equal to the base_interval";
        return Err(Invalid::new("retry_back_off.max_interval", reason));
    }
    Ok((base, max))
}
