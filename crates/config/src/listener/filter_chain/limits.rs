//! Filters that let in only so many connections: `connection_limit` and `local_ratelimit`.

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::network::connection_limit::v3 as connection_limit;
use redplane_proto::pb::envoy::extensions::filters::network::local_ratelimit::v3 as local_ratelimit;

use crate::field::{duration_or, feature_flag, non_empty, required};
use crate::token_bucket::TokenBucket;
use crate::{Ignored, Invalid};

/// `connection_limit`: so many connections at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Stats go under `connection_limit.<stat_prefix>.`.
    pub stat_prefix: String,
    /// Connections that the chain serves at a time, at least one.
    pub max: u64,
    /// How long one too many is kept waiting before it is closed.
    pub delay: Duration,
}

/// `local_ratelimit`: so many new connections in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRate {
    /// Stats go under `local_rate_limit.<stat_prefix>.`.
    pub stat_prefix: String,
    /// Each connection takes one token, and is closed where there is none.
    pub bucket: TokenBucket,
    /// Filters with the same key and the same numbers share a bucket; empty shares with none.
    pub share_key: String,
}

impl ConnectionLimit {
    /// Reads the message; `None` is switched off.
    pub(super) fn from_proto(
        message: &connection_limit::ConnectionLimit,
        ignored: &mut Ignored,
    ) -> Result<Option<Self>, Invalid> {
        let max = required(message.max_connections.as_ref(), "max_connections")?.value;
        if max == 0 {
            return Err(Invalid::new(
                "max_connections",
                "value must be greater than or equal to 1",
            ));
        }
        let limit = Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            max,
            delay: duration_or(message.delay.as_ref(), "delay", Duration::ZERO)?,
        };
        let is_on = ignored.scope("runtime_enabled", |ignored| {
            feature_flag(message.runtime_enabled.as_ref(), ignored)
        })?;
        Ok(is_on.then_some(limit))
    }
}

impl ConnectionRate {
    /// Reads the message; `None` is switched off.
    pub(super) fn from_proto(
        message: &local_ratelimit::LocalRateLimit,
        ignored: &mut Ignored,
    ) -> Result<Option<Self>, Invalid> {
        let bucket = required(message.token_bucket.as_ref(), "token_bucket")?;
        let rate = Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            bucket: TokenBucket::from_proto(bucket).map_err(|refusal| refusal.within("token_bucket"))?,
            share_key: message.share_key.clone(),
        };
        let is_on = ignored.scope("runtime_enabled", |ignored| {
            feature_flag(message.runtime_enabled.as_ref(), ignored)
        })?;
        Ok(is_on.then_some(rate))
    }
}
