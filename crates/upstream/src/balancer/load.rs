//! How much of the traffic each priority gets: Envoy's `recalculatePerPriorityState` and `choosePriority`.
//!
//! A priority is as available as its healthy share times the overprovisioning factor, at most 100. What a priority
//! cannot take goes to the next one; when nothing is left to take it, priorities panic and use every host.

use std::sync::Arc;

use super::Plan;
use crate::host::{Health, Host};

/// Hosts of one priority by health.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) healthy: u64,
    pub(super) degraded: u64,
}

impl Counts {
    pub(super) fn of(plan: &Plan, priority: u32, hosts: &[Arc<Host>]) -> Self {
        let mut counts = Self::default();
        for group in plan.groups.iter().filter(|group| group.priority == priority) {
            for at in &group.hosts {
                counts.total += 1;
                match hosts[*at].health() {
                    Health::Healthy => counts.healthy += 1,
                    Health::Degraded => counts.degraded += 1,
                    Health::Unhealthy | Health::Draining => {}
                }
            }
        }
        counts
    }

    /// In percent, at most 100.
    fn available(self, hosts: u64, overprovisioning: u32) -> u64 {
        (u64::from(overprovisioning) * hosts)
            .checked_div(self.total)
            .unwrap_or(0)
            .min(100)
    }

    /// Fewer usable hosts than the threshold (hundredths of a percent) asks for.
    fn panics(self, threshold: u32) -> bool {
        (self.healthy + self.degraded) * 10_000 < u64::from(threshold.min(10_000)) * self.total
            || self.total == 0
    }
}

/// Percent of the traffic for each priority, and which of them panic.
#[derive(Debug, Default)]
pub(super) struct Load {
    healthy: Vec<u64>,
    degraded: Vec<u64>,
    panic: Vec<bool>,
}

impl Load {
    pub(super) fn new(counts: &[Counts], overprovisioning: u32, panic_threshold: u32) -> Self {
        let healthy: Vec<u64> = counts
            .iter()
            .map(|c| c.available(c.healthy, overprovisioning))
            .collect();
        let degraded: Vec<u64> = counts
            .iter()
            .map(|c| c.available(c.degraded, overprovisioning))
            .collect();
        let available = (healthy.iter().sum::<u64>() + degraded.iter().sum::<u64>()).min(100);
        let mut load = Self {
            panic: vec![false; counts.len()],
            ..Self::default()
        };
        let mut left = 100;
        load.healthy = distribute(&healthy, available, &mut left);
        load.degraded = distribute(&degraded, available, &mut left);
        load.round_up(&healthy, &degraded, left);
        if available == 100 || counts.is_empty() {
            return load;
        }
        if panic_threshold == 0 && available == 0 {
            load.healthy[0] = 100;
            return load;
        }
        load.panic = counts.iter().map(|c| c.panics(panic_threshold)).collect();
        if load.panic.iter().all(|panics| *panics) {
            load.by_size(counts);
        }
        load
    }

    /// What rounding left goes to the first priority that can take it.
    fn round_up(&mut self, healthy: &[u64], degraded: &[u64], left: u64) {
        if let Some(at) = healthy.iter().position(|available| *available > 0) {
            self.healthy[at] += left;
        } else if let Some(at) = degraded.iter().position(|available| *available > 0) {
            self.degraded[at] += left;
        }
    }

    /// Every priority panics: traffic follows the number of hosts.
    fn by_size(&mut self, counts: &[Counts]) {
        let total: u64 = counts.iter().map(|c| c.total).sum();
        self.degraded.fill(0);
        self.healthy = counts
            .iter()
            .map(|c| (100 * c.total).checked_div(total).unwrap_or(0))
            .collect();
        let left = 100 - self.healthy.iter().sum::<u64>();
        let first = counts.iter().position(|c| c.total > 0).unwrap_or(0);
        self.healthy[first] += left;
    }

    /// The priority for a hash, and whether its degraded hosts are meant.
    pub(super) fn level(&self, hash: u64) -> (usize, bool) {
        let point = hash % 100 + 1;
        let mut sum = 0;
        let healthy = self
            .healthy
            .iter()
            .enumerate()
            .map(|(at, share)| (at, false, share));
        let degraded = self
            .degraded
            .iter()
            .enumerate()
            .map(|(at, share)| (at, true, share));
        for (at, degraded, share) in healthy.chain(degraded) {
            sum += share;
            if point <= sum {
                return (at, degraded);
            }
        }
        (0, false)
    }

    /// Percent for the healthy and for the degraded hosts of a priority.
    pub(super) fn share(&self, level: usize) -> (u64, u64) {
        (self.healthy[level], self.degraded[level])
    }

    pub(super) fn panics(&self, level: usize) -> bool {
        self.panic[level]
    }
}

fn distribute(available: &[u64], total: u64, left: &mut u64) -> Vec<u64> {
    let share = |available: &u64| {
        let share = (available * 100).checked_div(total).unwrap_or(0).min(*left);
        *left -= share;
        share
    };
    available.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(u64, u64, u64)]) -> Vec<Counts> {
        rows.iter()
            .map(|(total, healthy, degraded)| Counts {
                total: *total,
                healthy: *healthy,
                degraded: *degraded,
            })
            .collect()
    }

    /// Rows of Envoy's documentation on priority levels, degraded endpoints and the panic threshold.
    #[test]
    fn follows_envoys_tables() {
        type Case = (&'static [(u64, u64, u64)], &'static [u64], &'static [u64]);
        let cases: &[Case] = &[
            (&[(100, 100, 0), (100, 100, 0)], &[100, 0], &[0, 0]),
            (&[(100, 72, 0), (100, 72, 0)], &[100, 0], &[0, 0]),
            (&[(100, 71, 0), (100, 71, 0)], &[99, 1], &[0, 0]),
            (&[(100, 50, 0), (100, 60, 0)], &[70, 30], &[0, 0]),
            (&[(100, 25, 0), (100, 100, 0)], &[35, 65], &[0, 0]),
            (&[(100, 0, 0), (100, 100, 0)], &[0, 100], &[0, 0]),
            (&[(100, 0, 80), (100, 0, 0)], &[0, 0], &[100, 0]),
            (&[(100, 50, 50)], &[70], &[30]),
        ];
        for (rows, healthy, degraded) in cases {
            let load = Load::new(&counts(rows), 140, 5000);
            assert_eq!(
                (load.healthy.as_slice(), load.degraded.as_slice()),
                (*healthy, *degraded),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn panics_below_the_threshold_only() {
        let load = Load::new(&counts(&[(10, 4, 0)]), 140, 5000);
        assert!(load.panics(0));
        assert_eq!(load.share(0), (100, 0));
        let load = Load::new(&counts(&[(10, 5, 0)]), 140, 5000);
        assert!(!load.panics(0));
        let load = Load::new(&counts(&[(10, 0, 0), (30, 0, 0)]), 140, 5000);
        assert_eq!((load.share(0), load.share(1)), ((25, 0), (75, 0)));
        let load = Load::new(&counts(&[(10, 0, 0), (30, 0, 0)]), 140, 0);
        assert!(!load.panics(0));
        assert_eq!(load.level(77), (0, false));
    }

    #[test]
    fn no_priority_at_all_is_no_fault() {
        assert_eq!(Load::new(&[], 140, 5000).level(5), (0, false));
    }
}
