//! What is done beside forwarding: copies of requests to other clusters, upgrades of connections.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use redplane_proto::pb::envoy::config::route::v3 as proto;

use super::forward::{cluster_or_header, header_value};
use crate::field::{non_empty, parts_per_million};
use crate::{Ignored, Invalid};

/// `RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Where copies go; `Err` is the header that names it.
    pub cluster: Result<Arc<str>, HeaderName>,
    /// So many of a million requests.
    pub fraction: u32,
    /// `-shadow` is appended to the copy's host.
    pub suffix: bool,
    /// `host_rewrite_literal`.
    pub host: Option<HeaderValue>,
}

/// One `UpgradeConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// In lower case: `websocket`, `connect`.
    pub kind: String,
    /// Whether it is allowed.
    pub enabled: bool,
}

impl Mirror {
    /// Reads the message.
    pub(super) fn from_proto(
        message: &proto::route_action::RequestMirrorPolicy,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        // Spans are not made, so that their sampling says nothing.
        if !message.request_headers_mutations.is_empty() {
            return Err(Invalid::new("request_headers_mutations", "is not supported"));
        }
        let fraction = message.runtime_fraction.as_ref();
        let host = match message.host_rewrite_literal.as_str() {
            "" => None,
            host => Some(header_value(host, "host_rewrite_literal")?),
        };
        Ok(Self {
            cluster: cluster_or_header(&message.cluster, &message.cluster_header, "cluster")?,
            fraction: match fraction {
                None => 1_000_000,
                Some(fraction) => {
                    ignored.scope("runtime_fraction", |ignored| parts_per_million(fraction, ignored))?
                }
            },
            suffix: !message.disable_shadow_host_suffix_append,
            host,
        })
    }
}

impl Upgrade {
    pub(super) fn from_proto(
        message: &proto::route_action::UpgradeConfig,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let kind = non_empty(&message.upgrade_type, "upgrade_type")?.to_ascii_lowercase();
        if kind == "connect" || message.connect_config.is_some() {
            ignored.note("upgrade_type: CONNECT is not served");
        }
        Ok(Self {
            kind,
            enabled: message.enabled.is_none_or(|flag| flag.value),
        })
    }
}
