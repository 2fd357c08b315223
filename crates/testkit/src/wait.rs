//! Waiting for a condition, never for a time: the only place in the tests that sleeps, a few milliseconds between
//! two looks at the condition.

use std::thread::sleep;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` answers `Some` and returns what it found.
///
/// # Panics
/// When `limit` has passed; the message names `what` was waited for.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        sleep(LOOK_EVERY);
    }
}

/// Waits until `look` answers true.
///
/// # Panics
/// When `limit` has passed; the message names `what` was waited for.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    until_some(what, limit, || look().then_some(()));
}
