//! `JwtProvider`: where a token stands, what it must say, and what becomes of it.

use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;

use super::KeySet;
use crate::field::{duration, duration_or, non_empty, required};
use crate::invalid::ignore_fields;
use crate::matcher::StringMatcher;
use crate::{Ignored, Invalid, data_source};

/// Envoy's clock skew where none is set.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its key in the map.
    pub name: String,
    /// What `iss` must be; empty is anything.
    pub issuer: String,
    /// One of them must be in `aud`; empty is anything.
    pub audiences: Vec<String>,
    /// What `sub` must be.
    pub subjects: Option<StringMatcher>,
    /// `exp` must be there.
    pub require_expiration: bool,
    /// `exp` must be there and no further away.
    pub max_lifetime: Option<Duration>,
    /// The token stays in the request.
    pub forward: bool,
    /// Headers that hold a token.
    pub from_headers: Vec<HeaderPlace>,
    /// Query parameters that hold one.
    pub from_params: Vec<String>,
    /// Cookies that hold one.
    pub from_cookies: Vec<String>,
    /// The header for the payload, lower case; empty: none.
    pub forward_payload_header: String,
    /// Its base64 is padded.
    pub pad_forward_payload_header: bool,
    /// Claims that become headers.
    pub claim_to_headers: Vec<ClaimHeader>,
    /// The metadata's key for the payload; empty: none.
    pub payload_in_metadata: String,
    /// Claims that are split at spaces there.
    pub space_delimited_claims: Vec<String>,
    /// The metadata's key for the token's header; empty: none.
    pub header_in_metadata: String,
    /// The metadata's key for a failure; empty: none.
    pub failed_status_in_metadata: String,
    /// How much clocks may differ.
    pub clock_skew: Duration,
    /// What was added to the request may change its route.
    pub clear_route_cache: bool,
    /// Where its keys are.
    pub keys: KeySource,
}

/// `JwtHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPlace {
    /// Lower case.
    pub name: String,
    /// What stands in front of the token; may be empty.
    pub prefix: String,
}

/// `JwtClaimToHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimHeader {
    /// Lower case.
    pub header: String,
    /// The keys that lead to the claim.
    pub path: Vec<String>,
}

/// `jwks_source_specifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// None: no token can be verified.
    None,
    /// In the configuration.
    Local(KeySet),
    /// To be fetched.
    Remote(RemoteKeys),
}

/// `RemoteJwks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeys {
    /// Where they are.
    pub uri: String,
    /// The cluster to ask.
    pub cluster: String,
    /// How long that may take.
    pub timeout: Duration,
    /// How long they are good for.
    pub cache_duration: Duration,
}

impl Provider {
    pub(super) fn from_proto(
        name: String,
        message: &proto::JwtProvider,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, jwt_cache_config);
        let subjects = message.subjects.as_ref();
        let lifetime = message.max_lifetime.as_ref();
        let normalized = message.normalize_payload_in_metadata.as_ref();
        let mut this = Self {
            name,
            issuer: message.issuer.clone(),
            audiences: message.audiences.clone(),
            subjects: subjects
                .map(StringMatcher::from_proto)
                .transpose()
                .map_err(|refusal| refusal.within("subjects"))?,
            require_expiration: message.require_expiration,
            max_lifetime: lifetime
                .map(|lifetime| duration(lifetime, "max_lifetime"))
                .transpose()?,
            forward: message.forward,
            from_headers: ignored.each("from_headers", &message.from_headers, |place, _| {
                Ok(HeaderPlace {
                    name: header_name(&place.name, "name")?,
                    prefix: place.value_prefix.clone(),
                })
            })?,
            from_params: message.from_params.clone(),
            from_cookies: message.from_cookies.clone(),
            forward_payload_header: optional_header(
                &message.forward_payload_header,
                "forward_payload_header",
            )?,
            pad_forward_payload_header: message.pad_forward_payload_header,
            claim_to_headers: ignored.each("claim_to_headers", &message.claim_to_headers, |claim, _| {
                ClaimHeader::from_proto(claim)
            })?,
            payload_in_metadata: message.payload_in_metadata.clone(),
            space_delimited_claims: normalized
                .map(|normalized| normalized.space_delimited_claims.clone())
                .unwrap_or_default(),
            header_in_metadata: message.header_in_metadata.clone(),
            failed_status_in_metadata: message.failed_status_in_metadata.clone(),
            clock_skew: match message.clock_skew_seconds {
                0 => CLOCK_SKEW,
                seconds => Duration::from_secs(u64::from(seconds)),
            },
            clear_route_cache: message.clear_route_cache,
            keys: KeySource::from_proto(message.jwks_source_specifier.as_ref(), ignored)?,
        };
        if this.from_headers.is_empty() && this.from_params.is_empty() && this.from_cookies.is_empty() {
            this.from_headers.push(HeaderPlace {
                name: "authorization".to_owned(),
                prefix: "Bearer ".to_owned(),
            });
            this.from_params.push("access_token".to_owned());
        }
        Ok(this)
    }
}

impl ClaimHeader {
    fn from_proto(message: &proto::JwtClaimToHeader) -> Result<Self, Invalid> {
        let path = match (message.claim_name.is_empty(), message.claim_path.is_empty()) {
            (false, true) => message.claim_name.split('.').map(str::to_owned).collect(),
            (true, false) => message
                .claim_path
                .iter()
                .map(|segment| segment.key.clone())
                .collect(),
            _ => {
                return Err(Invalid::new(
                    "claim_name",
                    "exactly one of claim_name and claim_path must be set",
                ));
            }
        };
        Ok(Self {
            header: header_name(&message.header_name, "header_name")?,
            path,
        })
    }
}

impl KeySource {
    fn from_proto(message: Option<&JwksSourceSpecifier>, ignored: &mut Ignored) -> Result<Self, Invalid> {
        match message {
            None => Ok(Self::None),
            Some(JwksSourceSpecifier::LocalJwks(source)) => ignored.scope("local_jwks", |ignored| {
                let text = data_source::read_text(source, ignored)?;
                let keys = KeySet::parse(&text)
                    .map_err(|reason| Invalid::new("", format!("invalid local jwks: {reason}")))?;
                keys.unsupported.iter().for_each(|key| ignored.note(key.clone()));
                Ok(Self::Local(keys))
            }),
            Some(JwksSourceSpecifier::RemoteJwks(remote)) => ignored.scope("remote_jwks", |ignored| {
                // How keys are fetched ahead, and how often a fetch is tried, changes no decision.
                ignore_fields!(ignored, remote, async_fetch, retry_policy);
                let uri = required(remote.http_uri.as_ref(), "http_uri")?;
                let cluster = uri.http_upstream_type.as_ref();
                let HttpUpstreamType::Cluster(cluster) = required(cluster, "http_uri.cluster")?;
                let timeout = required(uri.timeout.as_ref(), "http_uri.timeout")?;
                let cache = remote.cache_duration.as_ref();
                Ok(Self::Remote(RemoteKeys {
                    uri: non_empty(&uri.uri, "http_uri.uri")?,
                    cluster: non_empty(cluster, "http_uri.cluster")?,
                    timeout: duration(timeout, "http_uri.timeout")?,
                    cache_duration: duration_or(cache, "cache_duration", Duration::from_secs(600))?,
                }))
            }),
        }
    }
}

/// A header's name, lower case.
fn header_name(name: &str, path: &str) -> Result<String, Invalid> {
    let name = non_empty(name, path)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Err(Invalid::new(path, "value does not match regex pattern"));
    }
    Ok(name.to_ascii_lowercase())
}

fn optional_header(name: &str, path: &str) -> Result<String, Invalid> {
    if name.is_empty() {
        return Ok(String::new());
    }
    header_name(name, path)
}
