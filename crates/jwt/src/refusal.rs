//! How a request without the tokens that it needs is answered, in Envoy's words.

use redplane_config::jwt::JwtAuthn;

use crate::changes::Changes;
use crate::extract::first;
use crate::{Headers, Status};

/// How much of a path is told in `www-authenticate`, in bytes.
const REALM_PATH: usize = 256;

/// How a request is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The value of `www-authenticate`.
    pub www_authenticate: Option<String>,
    /// The response code details.
    pub details: String,
    /// What goes into the metadata all the same, under [`crate::METADATA`].
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// The answer to what became of the tokens.
pub(crate) fn of_status(status: Status, config: &JwtAuthn, headers: &Headers<'_>, path: &str) -> Refusal {
    let is_bare = config.strip_failure_response;
    let error = if status == Status::Missed {
        ""
    } else {
        ", error=\"invalid_token\""
    };
    let challenge = || format!("Bearer realm=\"{}\"{error}", realm(headers, path));
    Refusal {
        status: if status == Status::AudienceNotAllowed {
            403
        } else {
            401
        },
        body: if is_bare {
            String::new()
        } else {
            status.text().to_owned()
        },
        www_authenticate: (!is_bare).then(challenge),
        details: details(status.text()),
        metadata: serde_json::Map::new(),
    }
}

/// What is asked for: scheme, host and the path as the client sent it, cut.
fn realm(headers: &Headers<'_>, path: &str) -> String {
    let (scheme, host) = (first(headers, "x-forwarded-proto"), first(headers, ":authority"));
    let scheme = if scheme.is_empty() {
        first(headers, ":scheme")
    } else {
        scheme
    };
    let original = first(headers, "x-envoy-original-path");
    let path = if original.is_empty() { path } else { &original };
    let end = (0..=path.len().min(REALM_PATH))
        .rev()
        .find(|&end| path.is_char_boundary(end));
    format!("{scheme}://{host}{}", &path[..end.unwrap_or_default()])
}

fn details(text: &str) -> String {
    format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"))
}

/// A route asks for what the filter does not know.
pub(crate) fn unknown_name(config: &JwtAuthn, name: &str) -> Refusal {
    let known: Vec<&str> = config.named.iter().map(|(known, _)| known.as_str()).collect();
    let known = known.join(",");
    let text = format!("Wrong requirement_name: {name}. It should be one of [{known}]");
    Refusal {
        status: 403,
        body: if config.strip_failure_response {
            String::new()
        } else {
            format!("Failed JWT authentication: {text}")
        },
        www_authenticate: None,
        details: details(&text),
        metadata: serde_json::Map::new(),
    }
}

/// A claim that cannot be a header's value: an application must not get the request without it, nor one with two lines.
pub(crate) fn unfit_header(changes: &Changes) -> Option<Refusal> {
    let is_unfit = |value: &str| {
        value
            .bytes()
            .any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    };
    let (name, _) = changes.add.iter().find(|(_, value)| is_unfit(value))?;
    Some(Refusal {
        status: 503,
        body: format!("invalid header value for: {name}"),
        www_authenticate: None,
        details: format!("filter_removed_required_request_headers{{invalid_header_value_for:_{name}}}"),
        metadata: changes.metadata.clone(),
    })
}
