//! Token buckets of local rate limits; all workers take from the same one.
//!
//! Envoy: `source/extensions/filters/common/local_ratelimit`. Tokens come in steps, one for each interval.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use redplane_config::token_bucket::TokenBucket;

/// Tokens, and up to which interval they were filled.
#[derive(Debug)]
pub struct Bucket {
    max: u64,
    fill: u64,
    interval_micros: u64,
    since: Instant,
    /// Intervals that were counted in, in the upper half; tokens in the lower.
    state: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub fn new(config: &TokenBucket) -> Self {
        let micros = u64::try_from(config.interval.as_micros()).unwrap_or(u64::MAX);
        Self {
            max: u64::from(config.max),
            fill: u64::from(config.fill),
            interval_micros: micros.max(1),
            since: Instant::now(),
            state: AtomicU64::new(u64::from(config.max)),
        }
    }

    /// Takes a token if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_micros();
        let intervals =
            (u64::try_from(passed).unwrap_or(u64::MAX) / self.interval_micros) & u64::from(u32::MAX);
        let next = |state: u64| {
            let (filled, tokens) = (state >> 32, state & u64::from(u32::MAX));
            let new = intervals.saturating_sub(filled).saturating_mul(self.fill);
            let tokens = tokens.saturating_add(new).min(self.max);
            (intervals.max(filled) << 32, tokens)
        };
        let taken = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let (filled, tokens) = next(state);
            tokens.checked_sub(1).map(|left| filled | left)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_come_by_intervals() {
        let start = Instant::now();
        let bucket = Bucket {
            max: 2,
            fill: 1,
            interval_micros: 1_000_000,
            since: start,
            state: AtomicU64::new(2),
        };
        let at = |millis| bucket.take(start + Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(999)], [true, true, false]);
        assert_eq!(
            [at(1000), at(1500), at(5000), at(5000), at(5001)],
            [true, false, true, true, false]
        );
    }
}
