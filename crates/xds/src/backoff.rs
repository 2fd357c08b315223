//! Pauses between attempts to reach the control plane.
//!
//! Envoy's `JitteredExponentialBackOffStrategy`: a random part of an interval that doubles from base to cap.
//! Pure: the randomness is seeded by the caller, and nothing here waits.

use std::time::Duration;

/// Envoy's default first interval for xDS.
pub const BASE: Duration = Duration::from_millis(500);
/// Envoy's default longest interval for xDS.
pub const CAP: Duration = Duration::from_secs(30);

/// The state of the pauses.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Intervals from `base` to `cap`; equal seeds give equal pauses.
    pub fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        let base = base.min(cap);
        Self {
            base,
            cap,
            next: base,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The next pause: somewhere in `[0, interval)`, and the interval doubles.
    pub fn pause(&mut self) -> Duration {
        let interval = self.next;
        self.next = interval.saturating_mul(2).min(self.cap);
        interval.mul_f64(self.random.f64())
    }

    /// After a healthy stream the intervals start at the base again.
    pub fn reset(&mut self) {
        self.next = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_a_doubling_interval() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, CAP, seed);
            for step in 0..12 {
                let interval = BASE.saturating_mul(1 << step).min(CAP);
                assert!(backoff.pause() < interval);
            }
        }
    }

    #[test]
    fn jitter_spreads_over_the_whole_interval() {
        let pauses: Vec<Duration> = (0..400)
            .map(|seed| Backoff::new(BASE, CAP, seed).pause())
            .collect();
        assert!(pauses.iter().any(|pause| *pause < BASE / 10));
        assert!(pauses.iter().any(|pause| *pause > BASE * 9 / 10));
    }

    #[test]
    fn a_reset_starts_over_and_equal_seeds_agree() {
        let mut one = Backoff::new(BASE, CAP, 7);
        let mut other = Backoff::new(BASE, CAP, 7);
        for _ in 0..10 {
            assert_eq!(one.pause(), other.pause());
        }
        one.reset();
        assert!(one.pause() < BASE);
    }

    #[test]
    fn a_cap_below_the_base_wins() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(1), 1);
        assert!((0..20).all(|_| backoff.pause() < Duration::from_secs(1)));
    }
}
