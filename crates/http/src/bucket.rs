//! Token buckets of local rate limits: one for each configuration in the whole process.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use redplane_config::http::filter::{LocalRateLimit, TokenBucket};
use redplane_world::Bucket;

/// Buckets of the process by the configuration they belong to. A std mutex: taken when a worker meets a limit for the
/// first time.
static BUCKETS: Mutex<Vec<(Weak<LocalRateLimit>, Weak<Bucket>)>> = Mutex::new(Vec::new());

/// Never asked: without a bucket nothing is limited.
const UNLIMITED: TokenBucket = TokenBucket {
    max: u32::MAX,
    fill: 1,
    interval: Duration::from_secs(1),
};

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
    let bucket = Arc::new(Bucket::new(&limit.bucket.unwrap_or(UNLIMITED)));
    buckets.push((Arc::downgrade(limit), Arc::downgrade(&bucket)));
    bucket
}
