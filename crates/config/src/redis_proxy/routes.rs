//! `PrefixRoutes` of the `redis_proxy` filter: where keys go.

use std::cmp::Reverse;
use std::collections::HashSet;

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::{
    PrefixRoutes, prefix_routes,
};

use super::key_formatter::KeyFormatter;
use crate::field::{non_empty, parts_per_million};
use crate::{Ignored, Invalid};

/// Longest prefix in bytes.
const MAX_PREFIX: usize = 1000;

/// `PrefixRoutes`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Routes {
    /// Sorted by prefix length, longest first; prefixes are lower-cased when `case_insensitive`.
    pub prefixes: Vec<Route>,
    /// Used when no prefix matches.
    pub catch_all: Option<Route>,
    /// Keys are matched in lower case and forwarded as they came.
    pub case_insensitive: bool,
}

/// One `PrefixRoutes.Route`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Route {
    /// At most 1000 bytes.
    pub prefix: Vec<u8>,
    /// The first `prefix.len()` bytes of the routing key are cut before forwarding.
    pub remove_prefix: bool,
    /// The cluster commands go to; it need not exist.
    pub cluster: String,
    /// The cluster read commands go to (`read_command_policy`).
    pub read_cluster: Option<String>,
    /// Parsed `key_formatter`; `None` leaves keys as they are.
    pub key_formatter: Option<KeyFormatter>,
    /// `request_mirror_policy`, in order.
    pub mirrors: Vec<Mirror>,
}

/// `RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The mirror's cluster; an unknown one is skipped and counted.
    pub cluster: String,
    /// Parts of a million that are mirrored; `1_000_000` without `runtime_fraction`.
    pub parts_per_million: u32,
    /// Mirror writes only.
    pub exclude_read_commands: bool,
}

impl Routes {
    /// Reads the message; absent and empty are refused alike.
    pub(crate) fn from_proto(message: Option<&PrefixRoutes>, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let no_upstream = || Invalid::new("", "cannot configure a redis-proxy without any upstream");
        let message = message.ok_or_else(no_upstream)?;
        let case_insensitive = message.case_insensitive;
        let read = |route: &prefix_routes::Route, ignored: &mut Ignored| {
            Route::from_proto(route, case_insensitive, ignored)
        };
        let mut prefixes = ignored.each("routes", &message.routes, read)?;
        let catch_all = match message.catch_all_route.as_ref() {
            Some(route) => Some(ignored.scope("catch_all_route", |ignored| read(route, ignored))?),
            None => None,
        };
        if prefixes.is_empty() && catch_all.is_none() {
            return Err(no_upstream());
        }
        refuse_duplicates(&prefixes)?;
        prefixes.sort_by_key(|route| Reverse(route.prefix.len()));
        Ok(Self {
            prefixes,
            catch_all,
            case_insensitive,
        })
    }
}

fn refuse_duplicates(prefixes: &[Route]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (i, route) in prefixes.iter().enumerate() {
        if !seen.insert(&route.prefix) {
            let prefix = String::from_utf8_lossy(&route.prefix);
            return Err(Invalid::new(
                format!("routes[{i}].prefix"),
                format!("prefix `{prefix}` already exists"),
            ));
        }
    }
    Ok(())
}

impl Route {
    fn from_proto(
        message: &prefix_routes::Route,
        case_insensitive: bool,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        if message.prefix.len() > MAX_PREFIX {
            return Err(Invalid::new(
                "prefix",
                format!("value length must be at most {MAX_PREFIX} bytes"),
            ));
        }
        let mut prefix = message.prefix.clone().into_bytes();
        if case_insensitive {
            prefix.make_ascii_lowercase();
        }
        let read_cluster = match message.read_command_policy.as_ref() {
            Some(policy) => Some(non_empty(&policy.cluster, "read_command_policy.cluster")?),
            None => None,
        };
        Ok(Self {
            prefix,
            remove_prefix: message.remove_prefix,
            cluster: non_empty(&message.cluster, "cluster")?,
            read_cluster,
            key_formatter: KeyFormatter::parse(&message.key_formatter)
                .map_err(|reason| Invalid::new("key_formatter", reason))?,
            mirrors: ignored.each(
                "request_mirror_policy",
                &message.request_mirror_policy,
                Mirror::from_proto,
            )?,
        })
    }
}

impl Mirror {
    fn from_proto(
        message: &prefix_routes::route::RequestMirrorPolicy,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let parts_per_million = match message.runtime_fraction.as_ref() {
            Some(fraction) => {
                ignored.scope("runtime_fraction", |ignored| parts_per_million(fraction, ignored))?
            }
            None => 1_000_000,
        };
        Ok(Self {
            cluster: non_empty(&message.cluster, "cluster")?,
            parts_per_million,
            exclude_read_commands: message.exclude_read_commands,
        })
    }
}
