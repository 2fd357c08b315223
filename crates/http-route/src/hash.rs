//! The hash of a request, for ring hash and Maglev clusters.
//!
//! Envoy: `Http::HashPolicyImpl`: each policy that finds something is mixed in, by a rotation and an exclusive or; the
//! hash is xxHash64.

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use redplane_config::http::route::{HashKey, HashPolicy};
use twox_hash::XxHash64;

use crate::request::Head;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// `None` where no policy found anything: any host will do.
    pub hash: Option<u64>,
    /// `set-cookie` for the response, where a cookie had to be made.
    pub set_cookie: Option<String>,
}

/// The hash of a request. `random` is used for a cookie that has to be made.
pub fn request(policies: &[HashPolicy], head: &Head<'_>, client: Option<IpAddr>, random: u64) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        let found = match &policy.key {
            HashKey::Header(name, rewrite) => header(head, name, rewrite.as_ref()),
            HashKey::Cookie {
                name,
                ttl,
                path,
                attributes,
            } => match (head.cookie(name), ttl) {
                (Some(value), _) => Some(xx(value.as_bytes(), 0)),
                (None, Some(ttl)) => {
                    let value = format!("{random:016x}");
                    hashed.set_cookie = Some(cookie(name, &value, *ttl, path, attributes));
                    Some(xx(value.as_bytes(), 0))
                }
                (None, None) => None,
            },
            HashKey::SourceIp => client.map(|client| xx(client.to_string().as_bytes(), 0)),
            HashKey::Query(name) => head.parameter(name).map(|value| xx(value.as_bytes(), 0)),
        };
        if let Some(found) = found {
            hashed.hash = Some(hashed.hash.map_or(found, |old| old.rotate_left(1) ^ found));
        }
        if policy.terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

/// All values of the header, in sorted order.
fn header(
    head: &Head<'_>,
    name: &http::HeaderName,
    rewrite: Option<&redplane_config::http::Rewrite>,
) -> Option<u64> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    for value in head.headers.get_all(name) {
        let rewritten = rewrite.and_then(|rewrite| rewrite.apply(value.to_str().ok()?));
        values.push(rewritten.map_or_else(|| value.as_bytes().to_vec(), String::into_bytes));
    }
    values.sort_unstable();
    values
        .iter()
        .fold(None, |seed, value| Some(xx(value, seed.unwrap_or(0))))
}

fn xx(bytes: &[u8], seed: u64) -> u64 {
    let mut hasher = XxHash64::with_seed(seed);
    hasher.write(bytes);
    hasher.finish()
}

fn cookie(name: &str, value: &str, ttl: Duration, path: &str, attributes: &[(String, String)]) -> String {
    let mut text = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        text.push_str(&format!("; {name}"));
        if !value.is_empty() {
            text.push_str(&format!("={value}"));
        }
    }
    text.push_str("; HttpOnly");
    text
}
