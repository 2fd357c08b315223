//! `LocalRateLimit`: one token bucket for all requests that it concerns.

use redplane_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3 as proto;

use crate::field::{non_empty, parts_per_million};
use crate::http::change::{HeaderAdd, HeaderChanges};
use crate::invalid::ignore_fields;
use crate::token_bucket::TokenBucket;
use crate::{Ignored, Invalid};

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalRateLimit {
    /// `<stat_prefix>.http_local_rate_limit.`.
    pub stat_prefix: String,
    /// Of a request that finds no token. Default 429.
    pub status: u16,
    /// `None` limits nothing.
    pub bucket: Option<TokenBucket>,
    /// So many of a million requests are counted.
    pub enabled: u32,
    /// So many of a million requests without a token are refused.
    pub enforced: u32,
    /// Added to what is refused.
    pub response_headers: Vec<HeaderAdd>,
    /// Added to what is let through without a token.
    pub request_headers: Vec<HeaderAdd>,
    /// gRPC is told RESOURCE_EXHAUSTED in place of UNAVAILABLE.
    pub resource_exhausted: bool,
}

impl LocalRateLimit {
    pub(super) fn from_proto(
        message: &proto::LocalRateLimit,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, descriptors, stage, local_cluster_rate_limit);
        ignore_fields!(
            ignored,
            message,
            enable_x_ratelimit_headers,
            vh_rate_limits,
            rate_limits
        );
        ignore_fields!(
            ignored,
            message,
            always_consume_default_token_bucket,
            max_dynamic_descriptors
        );
        ignore_fields!(ignored, message, enable_retry_after_header);
        if message.local_rate_limit_per_downstream_connection {
            ignored.note("local_rate_limit_per_downstream_connection: all connections share one bucket");
        }
        // Absent is never, as in Envoy.
        let mut share = |field: Option<&_>, path| match field {
            None => Ok(0),
            Some(share) => ignored.scope(path, |ignored| parts_per_million(share, ignored)),
        };
        let enabled = share(message.filter_enabled.as_ref(), "filter_enabled")?;
        let enforced = share(message.filter_enforced.as_ref(), "filter_enforced")?;
        let bucket = message.token_bucket.as_ref();
        let status = message.status.as_ref().map_or(429, |status| status.code);
        let response = &message.response_headers_to_add;
        let request = &message.request_headers_to_add_when_not_enforced;
        Ok(Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            // Envoy: a status below 400 counts as 429.
            status: u16::try_from(status)
                .ok()
                .filter(|status| (400..600).contains(status))
                .unwrap_or(429),
            bucket: bucket
                .map(TokenBucket::from_proto)
                .transpose()
                .map_err(|refusal| refusal.within("token_bucket"))?,
            enabled,
            enforced,
            response_headers: HeaderChanges::read("response", response, &[], ignored)?.add,
            request_headers: HeaderChanges::read("request", request, &[], ignored)?.add,
            resource_exhausted: message.rate_limited_as_resource_exhausted,
        })
    }
}
