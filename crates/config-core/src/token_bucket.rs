//! `TokenBucket`, of which local rate limits are made.

use std::time::Duration;

use redplane_proto::pb::envoy::r#type::v3 as proto;

use crate::Invalid;
use crate::field::{duration, required};

/// `TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    /// Most tokens, and how many there are at first.
    pub max: u32,
    /// Tokens that come with each interval.
    pub fill: u32,
    /// The interval, at least 50 ms.
    pub interval: Duration,
}

impl TokenBucket {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// A bucket that Envoy refuses.
    pub fn from_proto(message: &proto::TokenBucket) -> Result<Self, Invalid> {
        let interval = duration(
            required(message.fill_interval.as_ref(), "fill_interval")?,
            "fill_interval",
        )?;
        if interval < Duration::from_millis(50) {
            return Err(Invalid::new(
                "fill_interval",
                "local rate limit token bucket fill timer must be >= 50ms",
            ));
        }
        if message.max_tokens == 0 {
            return Err(Invalid::new("max_tokens", "value must be greater than 0"));
        }
        let fill = message.tokens_per_fill.map_or(1, |fill| fill.value);
        if fill == 0 {
            return Err(Invalid::new("tokens_per_fill", "value must be greater than 0"));
        }
        Ok(Self {
            max: message.max_tokens,
            fill,
            interval,
        })
    }
}
