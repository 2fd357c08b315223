//! `RouteAction`: to which cluster a request goes, what is rewritten, how long it may take.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use redplane_proto::pb::envoy::config::core::v3::RoutingPriority;
use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier,
};
use redplane_proto::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier as MemberRewrite;

use super::hash::HashPolicy;
use super::mirror::{Mirror, Upgrade};
use super::retry::RetryPolicy;
use super::timeouts::RouteTimeouts;
use super::{BothWays, both_ways};
use crate::field::{enumeration, non_empty};
use crate::http::filter::Overrides;
use crate::http::pattern::Rewrite;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Where a request goes, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The cluster, or several.
    pub cluster: ClusterTarget,
    /// `cluster_not_found_response_code`.
    pub not_found_status: u16,
    /// The path.
    pub path: PathRewrite,
    /// The Host header.
    pub host: HostRewrite,
    /// `append_x_forwarded_host`.
    pub append_forwarded_host: bool,
    /// How long it may take.
    pub timeouts: RouteTimeouts,
    /// `None` retries nothing.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// `hash_policy`, in order.
    pub hash: Vec<HashPolicy>,
    /// `upgrade_configs`.
    pub upgrades: Vec<Upgrade>,
    /// `priority: HIGH`: the other set of circuit breakers.
    pub high_priority: bool,
}

/// `cluster_specifier`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterTarget {
    /// One.
    Named(Arc<str>),
    /// The one that this header names.
    Header(HeaderName),
    /// One drawn by weight, with the sum of all weights.
    Weighted(Vec<WeightedCluster>, u64),
}

/// One member of `weighted_clusters`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// Its cluster; `Err` is the header that names it.
    pub cluster: Result<Arc<str>, HeaderName>,
    /// Its share of the sum; may be zero.
    pub weight: u32,
    /// Its header changes.
    pub headers: BothWays,
    /// `host_rewrite_literal`, which wins over the route's.
    pub host: Option<HeaderValue>,
    /// `typed_per_filter_config`.
    pub overrides: Overrides,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// Nothing.
    Keep,
    /// What matched is replaced.
    Prefix(String),
    /// `regex_rewrite`.
    Regex(Rewrite),
}

/// What becomes of the Host header.
#[derive(Clone, Debug, PartialEq)]
pub enum HostRewrite {
    /// Nothing.
    Keep,
    /// This one.
    Literal(HeaderValue),
    /// The name of the host that was chosen, if it has one.
    Auto,
    /// The value of this header, if it is there.
    Header(HeaderName),
    /// Made from the path without its query.
    Path(Rewrite),
}

impl Forward {
    pub(super) fn from_proto(
        message: &proto::RouteAction,
        (retry, mirrors): (&Option<Arc<RetryPolicy>>, &[Mirror]),
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        note_ignored(message, ignored)?;
        let own = message.retry_policy.as_ref();
        let own = own
            .map(|retry| ignored.scope("retry_policy", |ignored| RetryPolicy::from_proto(retry, ignored)))
            .transpose()?;
        let own_mirrors = &message.request_mirror_policies;
        let own_mirrors = ignored.each("request_mirror_policies", own_mirrors, Mirror::from_proto)?;
        let hash = ignored.each("hash_policy", &message.hash_policy, HashPolicy::from_proto)?;
        Ok(Self {
            cluster: ClusterTarget::from_proto(message.cluster_specifier.as_ref(), ignored)?,
            not_found_status: match enumeration(
                message.cluster_not_found_response_code,
                "cluster_not_found_response_code",
            )? {
                ClusterNotFoundResponseCode::ServiceUnavailable => 503,
                ClusterNotFoundResponseCode::NotFound => 404,
                ClusterNotFoundResponseCode::InternalServerError => 500,
            },
            path: PathRewrite::from_proto(message)?,
            host: HostRewrite::from_proto(message.host_rewrite_specifier.as_ref())?,
            append_forwarded_host: message.append_x_forwarded_host,
            timeouts: RouteTimeouts::from_proto(message, ignored)?,
            retry: own.map(Arc::new).or_else(|| retry.clone()),
            mirrors: if own_mirrors.is_empty() {
                mirrors.to_vec()
            } else {
                own_mirrors
            },
            hash: hash.into_iter().flatten().collect(),
            upgrades: ignored.each("upgrade_configs", &message.upgrade_configs, Upgrade::from_proto)?,
            high_priority: enumeration::<RoutingPriority>(message.priority, "priority")?
                == RoutingPriority::High,
        })
    }
}

fn note_ignored(message: &proto::RouteAction, ignored: &mut Ignored) -> Result<(), Invalid> {
    // Rate limits of a service, hedging, early data: nothing is answered differently without them.
    ignore_fields!(
        ignored,
        message,
        rate_limits,
        include_vh_rate_limits,
        hedge_policy
    );
    ignore_fields!(ignored, message, early_data_policy, flush_timeout, cors);
    ignore_fields!(ignored, message, grpc_timeout_offset, retry_policy_typed_config);
    ignore_fields!(ignored, message, metadata_match, max_internal_redirects);
    if message.internal_redirect_policy.is_some() || message.internal_redirect_action != 0 {
        return Err(Invalid::new(
            "internal_redirect_policy",
            "internal redirects are not supported",
        ));
    }
    if message.path_rewrite_policy.is_some() {
        return Err(Invalid::new("path_rewrite_policy", "is not supported"));
    }
    if !message.path_rewrite.is_empty() {
        return Err(Invalid::new("path_rewrite", "is not supported"));
    }
    Ok(())
}

fn header_name(text: &str, path: &str) -> Result<HeaderName, Invalid> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| Invalid::new(path, "is no header name"))
}

pub(super) fn header_value(text: &str, path: &str) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_str(text).map_err(|_| Invalid::new(path, "is no header value"))
}

impl ClusterTarget {
    fn from_proto(specifier: Option<&ClusterSpecifier>, ignored: &mut Ignored) -> Result<Self, Invalid> {
        match specifier {
            None => Err(Invalid::new("cluster_specifier", "value is required")),
            Some(ClusterSpecifier::Cluster(name)) => Ok(Self::Named(non_empty(name, "cluster")?.into())),
            Some(ClusterSpecifier::ClusterHeader(name)) => {
                header_name(name, "cluster_header").map(Self::Header)
            }
            Some(ClusterSpecifier::WeightedClusters(weighted)) => ignored
                .scope("weighted_clusters", |ignored| {
                    weighted_clusters(weighted, ignored)
                }),
            Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => Err(Invalid::new(
                "cluster_specifier_plugin",
                "plugins are not supported",
            )),
            Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => Err(Invalid::new(
                "inline_cluster_specifier_plugin",
                "plugins are not supported",
            )),
        }
    }
}

fn weighted_clusters(
    message: &proto::WeightedCluster,
    ignored: &mut Ignored,
) -> Result<ClusterTarget, Invalid> {
    ignore_fields!(ignored, message, total_weight, runtime_key_prefix);
    if message.random_value_specifier.is_some() {
        return Err(Invalid::new("random_value_specifier", "is not supported"));
    }
    let members = ignored.each("clusters", &message.clusters, WeightedCluster::from_proto)?;
    let sum: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if members.is_empty() {
        return Err(Invalid::new("clusters", "value must contain at least 1 item(s)"));
    }
    if sum == 0 {
        return Err(Invalid::new(
            "clusters",
            "Sum of weights in the weighted_cluster must be greater than 0.",
        ));
    }
    if sum > u64::from(u32::MAX) {
        return Err(Invalid::new(
            "clusters",
            "The sum of weights of all weighted clusters of route exceeds 4294967295",
        ));
    }
    Ok(ClusterTarget::Weighted(members, sum))
}

impl WeightedCluster {
    fn from_proto(
        message: &proto::weighted_cluster::ClusterWeight,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, metadata_match);
        let host = match message.host_rewrite_specifier.as_ref() {
            None => None,
            Some(MemberRewrite::HostRewriteLiteral(host)) => {
                Some(header_value(host, "host_rewrite_literal")?)
            }
        };
        Ok(Self {
            cluster: cluster_or_header(&message.name, &message.cluster_header, "name")?,
            weight: message.weight.map_or(0, |weight| weight.value),
            headers: both_ways!(message, ignored),
            host,
            overrides: Overrides::from_proto(&message.typed_per_filter_config, ignored)?,
        })
    }
}

pub(super) fn cluster_or_header(
    name: &str,
    header: &str,
    path: &str,
) -> Result<Result<Arc<str>, HeaderName>, Invalid> {
    match (name, header) {
        ("", "") => Err(Invalid::new(
            path,
            "At least one of name or cluster_header need to be specified",
        )),
        (name, "") => Ok(Ok(name.into())),
        ("", header) => header_name(header, "cluster_header").map(Err),
        _ => Err(Invalid::new(
            path,
            "Only one of name or cluster_header can be specified",
        )),
    }
}

impl PathRewrite {
    fn from_proto(message: &proto::RouteAction) -> Result<Self, Invalid> {
        match (message.prefix_rewrite.as_str(), message.regex_rewrite.as_ref()) {
            ("", None) => Ok(Self::Keep),
            (prefix, None) => Ok(Self::Prefix(prefix.to_owned())),
            ("", Some(regex)) => Rewrite::from_proto(regex)
                .map(Self::Regex)
                .map_err(|refusal| refusal.within("regex_rewrite")),
            _ => Err(Invalid::new(
                "prefix_rewrite",
                "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
            )),
        }
    }
}

impl HostRewrite {
    fn from_proto(specifier: Option<&HostRewriteSpecifier>) -> Result<Self, Invalid> {
        Ok(match specifier {
            None => Self::Keep,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => Self::Keep,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                Self::Literal(header_value(host, "host_rewrite_literal")?)
            }
            Some(HostRewriteSpecifier::AutoHostRewrite(auto)) if auto.value => Self::Auto,
            Some(HostRewriteSpecifier::AutoHostRewrite(_)) => Self::Keep,
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
                Self::Header(header_name(name, "host_rewrite_header")?)
            }
            Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => Self::Path(
                Rewrite::from_proto(regex).map_err(|refusal| refusal.within("host_rewrite_path_regex"))?,
            ),
            Some(HostRewriteSpecifier::HostRewrite(_)) => {
                return Err(Invalid::new("host_rewrite", "is not supported"));
            }
        })
    }
}
