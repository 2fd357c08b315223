//! Whether a request is tried again, and after how long.
//!
//! Envoy: `source/common/router/retry_state_impl.cc`.

use std::time::Duration;

use http::HeaderMap;
use redplane_config::http::route::{RetryOn, RetryPolicy};

use crate::grpc;
use crate::request::Head;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// No connection could be made.
    Connect,
    /// None in time.
    ConnectTimeout,
    /// The server closed before the head was complete.
    Closed {
        /// Nothing of the request had left.
        before_request: bool,
    },
    /// The server refused the stream (REFUSED_STREAM).
    Refused,
    /// What the server sent is no HTTP.
    Protocol,
    /// The server reset the stream.
    Remote,
    /// A circuit breaker.
    Overflow,
    /// `per_try_timeout`.
    PerTryTimeout,
}

/// What came of one try.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// A response with this status and these headers.
    Response(u16, &'a HeaderMap),
    /// None.
    Reset(Reset),
}

/// Whether the policy wants another try after this outcome; how many there were does not count here.
pub fn wants(policy: &RetryPolicy, outcome: Outcome<'_>) -> bool {
    match outcome {
        Outcome::Response(status, headers) => wants_response(policy, status, headers),
        Outcome::Reset(reset) => wants_reset(policy.on, reset),
    }
}

/// Whether requests like this one are retried at all.
pub fn concerns(policy: &RetryPolicy, head: &Head<'_>) -> bool {
    !policy.on.is_empty()
        && (policy.request_headers.is_empty()
            || policy
                .request_headers
                .iter()
                .any(|matcher| matcher.matches(|each| head.values(&matcher.name, each))))
}

fn wants_response(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    let on = |condition| policy.on.any_of(condition);
    let by_grpc = || match grpc::status(headers) {
        Some(1) => on(RetryOn::CANCELLED),
        Some(4) => on(RetryOn::DEADLINE_EXCEEDED),
        Some(8) => on(RetryOn::RESOURCE_EXHAUSTED),
        Some(13) => on(RetryOn::INTERNAL),
        Some(14) => on(RetryOn::UNAVAILABLE),
        _ => false,
    };
    (on(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
        || (on(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
        || (on(RetryOn::RETRIABLE_4XX) && status == 409)
        || (on(RetryOn::STATUS_CODES) && policy.status_codes.contains(&status))
        || (on(RetryOn::ENVOY_RATELIMITED) && headers.contains_key("x-envoy-ratelimited"))
        || (on(RetryOn::HEADERS)
            && policy.response_headers.iter().any(|matcher| {
                matcher.matches(|each| match matcher.name.as_str() {
                    ":status" => each(status.to_string().as_bytes()),
                    name => headers
                        .get_all(name)
                        .iter()
                        .for_each(|value| each(value.as_bytes())),
                })
            }))
        || by_grpc()
}

fn wants_reset(on: RetryOn, reset: Reset) -> bool {
    // Envoy: an overflow is only retried where the policy asks for it by other means than `reset`; nothing does.
    if reset == Reset::Overflow {
        return false;
    }
    let any = RetryOn::SERVER_ERROR
        .with(RetryOn::GATEWAY_ERROR)
        .with(RetryOn::RESET);
    if on.any_of(any) {
        return true;
    }
    match reset {
        Reset::Connect | Reset::ConnectTimeout => {
            on.any_of(RetryOn::CONNECT_FAILURE.with(RetryOn::RESET_BEFORE_REQUEST))
        }
        Reset::Refused => on.any_of(RetryOn::REFUSED_STREAM),
        Reset::Closed { before_request } => before_request && on.any_of(RetryOn::RESET_BEFORE_REQUEST),
        Reset::Protocol | Reset::Remote | Reset::PerTryTimeout | Reset::Overflow => false,
    }
}

/// How long to wait before try `number` (1 is the first retry): full jitter below the base times a power of two.
pub fn back_off(policy: &RetryPolicy, number: u32, random: u64) -> Duration {
    let base = u64::try_from(policy.base_interval.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let max = u64::try_from(policy.max_interval.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let factor = 1_u64.checked_shl(number.min(32)).unwrap_or(u64::MAX) - 1;
    let range = base.saturating_mul(factor).max(1);
    Duration::from_millis((random % range).min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: &str) -> RetryPolicy {
        RetryPolicy {
            on: RetryOn::parse(on).0,
            retries: 2,
            per_try_timeout: None,
            avoid_previous_hosts: false,
            host_attempts: 1,
            status_codes: vec![418],
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            response_headers: Vec::new(),
            request_headers: Vec::new(),
        }
    }

    #[test]
    fn responses() {
        let istio = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
        let table = [
            ("5xx", 500, None, true),
            ("5xx", 499, None, false),
            ("gateway-error", 500, None, false),
            ("gateway-error", 503, None, true),
            ("retriable-4xx", 409, None, true),
            ("retriable-4xx", 404, None, false),
            ("retriable-status-codes", 418, None, true),
            (istio, 503, None, false),
            (istio, 200, Some("14"), true),
            (istio, 200, Some("1"), true),
            (istio, 200, Some("4"), false),
            ("deadline-exceeded", 200, Some("4"), true),
        ];
        for (on, status, grpc, expected) in table {
            let mut headers = HeaderMap::new();
            if let Some(grpc) = grpc {
                headers.insert("grpc-status", grpc.parse().unwrap());
            }
            let found = wants(&policy(on), Outcome::Response(status, &headers));
            assert_eq!(found, expected, "{on} {status} {grpc:?}");
        }
    }

    #[test]
    fn resets() {
        let closed = Reset::Closed {
            before_request: false,
        };
        let before = Reset::Closed { before_request: true };
        let table = [
            ("5xx", closed, true),
            ("gateway-error", Reset::PerTryTimeout, true),
            ("reset", Reset::Protocol, true),
            ("reset", Reset::Overflow, false),
            ("connect-failure", Reset::Connect, true),
            ("connect-failure", closed, false),
            ("reset-before-request", before, true),
            ("reset-before-request", closed, false),
            ("refused-stream", Reset::Refused, true),
            ("retriable-4xx", closed, false),
        ];
        for (on, reset, expected) in table {
            assert_eq!(
                wants(&policy(on), Outcome::Reset(reset)),
                expected,
                "{on} {reset:?}"
            );
        }
    }

    #[test]
    fn intervals_grow_to_their_limit() {
        let policy = policy("5xx");
        let longest = |number| back_off(&policy, number, u64::MAX - 1).as_millis();
        assert!(back_off(&policy, 1, 24).as_millis() == 24 && back_off(&policy, 1, 25).as_millis() == 0);
        assert!((1..40).all(|number| longest(number) <= 250));
        assert_eq!(back_off(&policy, 10, 1000).as_millis(), 250);
    }
}
