//! Token buckets of local rate limits: one for each configuration in the whole process.
//!
//! Envoy: `source/extensions/filters/common/local_ratelimit`. Tokens come in steps, one for each interval.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use redplane_config::http::filter::LocalRateLimit;
use tokio::time::Instant;

/// Tokens, and up to which interval they were filled.
#[derive(Debug)]
pub(crate) struct Bucket {
    max: u64,
    fill: u64,
    interval_micros: u64,
    since: Instant,
    /// Intervals that were counted in, in the upper half; tokens in the lower.
    state: AtomicU64,
}

/// Buckets of the process by the configuration they belong to. A std mutex: taken when a worker meets a limit for the
/// first time.
static BUCKETS: Mutex<Vec<(Weak<LocalRateLimit>, Weak<Bucket>)>> = Mutex::new(Vec::new());

/// The bucket of a limit, made when it is first asked for. A limit without one never refuses.
pub(crate) fn bucket_of(limit: &Arc<LocalRateLimit>) -> Arc<Bucket> {
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    buckets.retain(|(limit, bucket)| limit.strong_count() > 0 && bucket.strong_count() > 0);
    let known = buckets
        .iter()
        .find(|(known, _)| known.as_ptr() == Arc::as_ptr(limit));
    if let Some(bucket) = known.and_then(|(_, bucket)| bucket.upgrade()) {
        return bucket;
    }
    let bucket = Arc::new(Bucket::new(limit));
    buckets.push((Arc::downgrade(limit), Arc::downgrade(&bucket)));
    bucket
}

impl Bucket {
    fn new(limit: &LocalRateLimit) -> Self {
        let (max, fill, interval) = match limit.bucket {
            // Never asked: without a bucket nothing is limited.
            None => (u64::from(u32::MAX), 1, 1_000_000),
            Some(bucket) => {
                let micros = u64::try_from(bucket.interval.as_micros()).unwrap_or(u64::MAX);
                (u64::from(bucket.max), u64::from(bucket.fill), micros.max(1))
            }
        };
        Self {
            max,
            fill,
            interval_micros: interval,
            since: Instant::now(),
            state: AtomicU64::new(max),
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&self, now: Instant) -> bool {
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
