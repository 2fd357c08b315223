//! CORS: preflights are answered here, simple requests get their headers. Envoy: `source/extensions/filters/http/cors`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use redplane_config::http::filter::CorsPolicy;
use redplane_http_route::Head;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cors as names;

use super::drawn;
use crate::reply::LocalReply;

const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const ASK_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// Answers a preflight, or leaves headers for the response.
pub(super) fn run(
    policy: &CorsPolicy,
    head: &Head<'_>,
    response: &mut HeaderMap,
    stats: Option<&Block>,
) -> Result<(), LocalReply> {
    let Some(origin) = head.headers.get(header::ORIGIN) else {
        return Ok(());
    };
    if origin.is_empty() || !drawn(policy.share) {
        return Ok(());
    }
    let allowed = policy.allows(origin.as_bytes());
    if let Some(stats) = stats {
        stats.inc(if allowed {
            names::ORIGIN_VALID
        } else {
            names::ORIGIN_INVALID
        });
    }
    let asks = head
        .headers
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .is_some_and(|method| !method.is_empty());
    if *head.method == Method::OPTIONS && asks {
        if !allowed && policy.forward_other_preflights {
            return Ok(());
        }
        return Err(preflight(policy, head, origin, allowed));
    }
    if allowed {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials {
            response.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        set(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose);
    }
    Ok(())
}

fn preflight(policy: &CorsPolicy, head: &Head<'_>, origin: &HeaderValue, allowed: bool) -> LocalReply {
    let mut reply = LocalReply {
        details: "cors_response".into(),
        ..LocalReply::new(200, Bytes::new())
    };
    let headers = &mut reply.headers;
    if allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if policy.private_network && head.headers.get(ASK_PRIVATE).is_some_and(|asked| asked == "true") {
            headers.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
        }
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers);
        set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, &policy.max_age);
    }
    set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &policy.methods);
    reply
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}
