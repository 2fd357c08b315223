//! Tokens that requests must carry. What makes one good is the crate `jwt`'s business; here keys are found, and what
//! follows from a token is done to the request.

mod fetch;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, header};
use redplane_config::jwt::{JwtAuthn, KeySet, KeySource, RouteRequirement};
use redplane_jwt::{Changes, Fetched, METADATA, Refusal, Verdict};
use redplane_telemetry::Block;
use redplane_telemetry::stats::jwt_authn as names;
use redplane_world::FilterStats;

use crate::asked::Asked;
use crate::exchange::Exchange;
use crate::reply::LocalReply;

/// Keys of a provider that this request has had to do with: `None` where they could not be had.
type Held = (usize, Option<Arc<KeySet>>);

/// Lets a request through, changed, or answers it. `true`: its route is to be looked for again.
pub(super) async fn run(
    config: &JwtAuthn,
    said: Option<&RouteRequirement>,
    stats: &FilterStats,
    asked: &mut Asked,
    exchange: &Rc<Exchange>,
) -> Result<bool, LocalReply> {
    let shared = &exchange.connection;
    let block = match stats {
        FilterStats::Jwt(scope) => Some(shared.worker.block(scope)),
        _ => None,
    };
    let inc = |counter| block.iter().for_each(|block: &Rc<Block>| block.inc(counter));
    let mut held = known(config, exchange);
    loop {
        let head = asked.head(&shared.facts);
        let values = |name: &str, each: &mut dyn FnMut(&[u8])| head.values(name, each);
        let fetched = |provider| match held.iter().find(|(known, _)| *known == provider) {
            None => Fetched::Missing,
            Some((_, None)) => Fetched::Failed,
            Some((_, Some(keys))) => Fetched::Keys(keys),
        };
        match redplane_jwt::check(config, said, &values, &fetched, now()) {
            Verdict::Passed(changes) => {
                if config.bypass_cors_preflight && redplane_jwt::is_preflight(&values) {
                    inc(names::CORS_PREFLIGHT_BYPASSED);
                }
                inc(names::ALLOWED);
                let again = changes.clear_route_cache;
                apply(*changes, asked, exchange);
                return Ok(again);
            }
            Verdict::Refused(refusal) => {
                inc(names::DENIED);
                return Err(reply(refusal, exchange));
            }
            Verdict::NeedsKeys(provider) => {
                let keys = match &config.providers[provider].keys {
                    KeySource::Remote(remote) => fetch::fetch(remote, &shared.worker).await,
                    KeySource::Local(_) | KeySource::None => None,
                };
                inc(if keys.is_some() {
                    names::JWKS_FETCH_SUCCESS
                } else {
                    names::JWKS_FETCH_FAILED
                });
                held.push((provider, keys));
            }
        }
    }
}

/// What this worker has fetched before and may still use.
fn known(config: &JwtAuthn, exchange: &Exchange) -> Vec<Held> {
    let providers = config.providers.iter().enumerate();
    let remote = providers.filter_map(|(at, provider)| match &provider.keys {
        KeySource::Remote(remote) => Some((at, Some(exchange.connection.worker.keys.known(remote)?))),
        KeySource::Local(_) | KeySource::None => None,
    });
    remote.collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Headers out, headers in, the path, the metadata.
fn apply(changes: Changes, asked: &mut Asked, exchange: &Exchange) {
    let headers = &mut asked.parts.headers;
    for name in &changes.remove {
        headers.remove(name.as_str());
    }
    for (name, value) in changes.add {
        // Names are checked with the configuration, values with the token.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    }
    if let Some(path) = changes.path
        && let Ok(path) = PathAndQuery::from_maybe_shared(Bytes::from(path))
    {
        asked.target.path = path;
    }
    write(changes.metadata, exchange);
}

fn write(metadata: redplane_rbac::Metadata, exchange: &Exchange) {
    for (key, value) in metadata {
        exchange.write_metadata(METADATA, key, value);
    }
}

fn reply(refusal: Refusal, exchange: &Exchange) -> LocalReply {
    write(refusal.metadata, exchange);
    let mut reply = LocalReply {
        details: refusal.details.into(),
        ..LocalReply::new(refusal.status, Bytes::from(refusal.body))
    };
    let challenge = refusal.www_authenticate.map(HeaderValue::try_from);
    if let Some(Ok(challenge)) = challenge {
        reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    reply
}
