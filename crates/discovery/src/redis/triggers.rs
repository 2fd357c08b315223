//! When events ask for a refresh before its time.
//!
//! Envoy: `ClusterRefreshManagerImpl`. Redirections, failures and degraded hosts have a threshold each and share one
//! interval; what happens within the interval is not counted. Unlike Envoy, a move (which is applied at once, so that
//! redirections do not pile up) asks for a refresh as soon as the interval allows, unless the threshold is 0.

use std::time::{Duration, Instant};

use redplane_config::cluster::RedisCluster;
use redplane_upstream::cluster::Tally;

pub(super) struct Triggers {
    interval: Duration,
    redirects: u32,
    failures: u32,
    degraded: u32,
    seen: Tally,
    last: Option<Instant>,
    /// When the first move came that no refresh has followed.
    moved: Option<Instant>,
}

impl Triggers {
    pub(super) fn new(settings: &RedisCluster) -> Self {
        Self {
            interval: settings.redirect_refresh_interval,
            redirects: settings.redirect_refresh_threshold,
            failures: settings.failure_refresh_threshold,
            degraded: settings.host_degraded_refresh_threshold,
            seen: Tally::default(),
            last: None,
            moved: None,
        }
    }

    /// Takes what happened; says whether to refresh now.
    pub(super) fn note(&mut self, tally: Tally, now: Instant) -> bool {
        if self.last.is_some_and(|last| now < last + self.interval) {
            return false;
        }
        self.seen.redirected = self.seen.redirected.saturating_add(tally.redirected);
        self.seen.failed = self.seen.failed.saturating_add(tally.failed);
        self.seen.degraded = self.seen.degraded.saturating_add(tally.degraded);
        let reached = |seen: u32, threshold: u32| threshold > 0 && seen >= threshold;
        let due = reached(self.seen.redirected, self.redirects)
            || reached(self.seen.failed, self.failures)
            || reached(self.seen.degraded, self.degraded);
        if due {
            self.refreshed_by_event(now);
        }
        due
    }

    /// A slot moved.
    pub(super) fn moved(&mut self, now: Instant) {
        if self.redirects > 0 {
            self.moved.get_or_insert(now);
        }
    }

    /// When a refresh that a move asked for may happen.
    pub(super) fn due(&self) -> Option<Instant> {
        let moved = self.moved?;
        Some(self.last.map_or(moved, |last| moved.max(last + self.interval)))
    }

    /// A refresh begins because its time has come.
    pub(super) fn refreshed(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.refreshed_by_event(now);
        }
        self.moved = None;
    }

    fn refreshed_by_event(&mut self, now: Instant) {
        self.last = Some(now);
        self.seen = Tally::default();
        self.moved = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(redirects: u32, failures: u32) -> Triggers {
        Triggers {
            interval: Duration::from_secs(5),
            redirects,
            failures,
            degraded: 0,
            seen: Tally::default(),
            last: None,
            moved: None,
        }
    }

    fn redirected(redirected: u32) -> Tally {
        Tally {
            redirected,
            ..Tally::default()
        }
    }

    #[test]
    fn thresholds_count_up_and_the_interval_swallows() {
        let mut triggers = triggers(5, 0);
        let start = Instant::now();
        assert!(!triggers.note(redirected(4), start));
        assert!(triggers.note(redirected(1), start));
        assert!(!triggers.note(redirected(100), start + Duration::from_secs(4)));
        assert!(
            !triggers.note(redirected(4), start + Duration::from_secs(5)),
            "events within the interval do not count"
        );
        assert!(triggers.note(redirected(1), start + Duration::from_secs(6)));
        assert!(!triggers.note(
            Tally {
                failed: 1000,
                ..Tally::default()
            },
            start + Duration::from_secs(60)
        ));
    }

    #[test]
    fn failures_have_their_own_threshold() {
        let mut triggers = triggers(0, 2);
        let now = Instant::now();
        assert!(!triggers.note(redirected(100), now));
        assert!(triggers.note(
            Tally {
                failed: 2,
                ..Tally::default()
            },
            now
        ));
    }

    #[test]
    fn a_move_waits_for_the_interval() {
        let mut triggers = triggers(5, 0);
        assert_eq!(triggers.due(), None);
        let start = Instant::now();
        triggers.moved(start);
        assert_eq!(triggers.due(), Some(start));
        triggers.refreshed(start);
        assert_eq!(triggers.due(), None);
        triggers.moved(start + Duration::from_secs(1));
        assert_eq!(triggers.due(), Some(start + Duration::from_secs(5)));
        let mut never = self::triggers(0, 0);
        never.moved(start);
        assert_eq!(never.due(), None);
    }
}
