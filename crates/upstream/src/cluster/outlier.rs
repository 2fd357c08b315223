//! Outliers: a host that fails several times in a row is taken out of the balance for a while.
//!
//! Workers tell what became of requests; whoever completes a run of failures ejects. Each ejection lasts longer than the
//! one before, and is forgiven one interval after the other.
//!
//! Envoy: `source/common/upstream/outlier_detection_impl.cc`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redplane_config::cluster::{Outlier, Run};
use redplane_config::endpoint::Health;
use redplane_telemetry::stats::outlier_detection as names;
use redplane_telemetry::{Block, CounterId};
use tokio::time::sleep;

use super::{Cluster, Signal};
use crate::host::Host;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this status.
    Answer(u16),
    /// There was no answer: no connection, a reset, or a time limit.
    None,
}

/// The kinds of runs with their counters.
struct Kind {
    run: Run,
    detected: CounterId,
    enforced: CounterId,
}

fn kinds(config: &Outlier) -> [Kind; 3] {
    [
        Kind {
            run: config.server_errors,
            detected: names::EJECTIONS_DETECTED_CONSECUTIVE_5XX,
            enforced: names::EJECTIONS_ENFORCED_CONSECUTIVE_5XX,
        },
        Kind {
            run: config.gateway_failures,
            detected: names::EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE,
            enforced: names::EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE,
        },
        Kind {
            run: config.local_failures,
            detected: names::EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
            enforced: names::EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
        },
    ]
}

/// Whether an outcome goes on with the run of each kind (`true`), ends it (`false`) or says nothing of it.
fn verdicts(config: &Outlier, outcome: Outcome) -> [Option<bool>; 3] {
    match outcome {
        Outcome::Answer(status) => {
            let gateway = matches!(status, 502..=504);
            [Some(status >= 500), Some(gateway), config.splits.then_some(false)]
        }
        Outcome::None if config.splits => [None, None, Some(true)],
        // To Envoy it is a 503 or 504 then.
        Outcome::None => [Some(true), Some(true), None],
    }
}

/// Hosts that came back into a balance, in this process: a cluster that has taken the place of another one learns so
/// that one of its hosts is back.
static RETURNED: AtomicU64 = AtomicU64::new(0);

impl Cluster {
    /// Tells what became of a request. `lot` is any number.
    pub fn report(self: &Arc<Self>, host: &Arc<Host>, outcome: Outcome, lot: u32) {
        let Some(config) = &self.config.outlier else {
            return;
        };
        let returned = RETURNED.load(Relaxed);
        if self.balance.returned.load(Relaxed) != returned
            && self.balance.returned.swap(returned, Relaxed) != returned
        {
            self.signal(Signal::Degraded);
        }
        for (at, verdict) in verdicts(config, outcome).into_iter().enumerate() {
            let Some(fails) = verdict else { continue };
            let run = &host.condition.outlier.runs[at];
            if !fails {
                // Reading is cheaper than writing, and mostly there is nothing to forget.
                if run.load(Relaxed) != 0 {
                    run.store(0, Relaxed);
                }
                continue;
            }
            let length = run.fetch_add(1, Relaxed) + 1;
            if length == kinds(config)[at].run.length {
                run.store(0, Relaxed);
                let (cluster, host) = (Arc::clone(self), Arc::clone(host));
                self.context
                    .runtime
                    .spawn(async move { cluster.detect(&host, at, lot) });
            }
        }
    }

    /// A run is complete. On the control side.
    fn detect(self: &Arc<Self>, host: &Arc<Host>, at: usize, lot: u32) {
        let Some(config) = &self.config.outlier else {
            return;
        };
        let kind = &kinds(config)[at];
        let record = &host.condition.outlier;
        if record.out.load(Relaxed) {
            return;
        }
        self.count_outliers(|stats| stats.inc(kind.detected));
        if lot % 100 >= kind.run.enforced {
            return;
        }
        let (out, all) = self.out_of();
        let may = 100 * (out + 1) <= config.max_percent as usize * all || (config.always_one && out == 0);
        if !may {
            self.count_outliers(|stats| stats.inc(names::EJECTIONS_OVERFLOW));
            return;
        }
        record.out.store(true, Relaxed);
        let times = record.times.fetch_add(1, Relaxed) + 1;
        host.set_health(Health::Unhealthy);
        self.count_outliers(|stats| {
            stats.inc(kind.enforced);
            stats.inc(names::EJECTIONS_ENFORCED_TOTAL);
            stats.set(names::EJECTIONS_ACTIVE, out as u64 + 1);
        });
        self.signal(Signal::Degraded);
        let length = config.base_time.saturating_mul(times).min(config.max_time);
        let stay = Stay {
            cluster: Arc::downgrade(self),
            host: Arc::clone(host),
            interval: config.interval,
        };
        self.context.runtime.spawn(stay.over(length));
    }

    /// How many hosts are out, and how many there are.
    fn out_of(&self) -> (usize, usize) {
        let hosts = &self.topology().hosts;
        let out = hosts
            .iter()
            .filter(|host| host.condition.outlier.out.load(Relaxed));
        (out.count(), hosts.len())
    }

    fn count_outliers(&self, count: impl FnOnce(&Block)) {
        if let Some(block) = &self.control().outlier {
            count(block);
        }
    }
}

/// An ejection that lasts.
struct Stay {
    cluster: Weak<Cluster>,
    host: Arc<Host>,
    interval: Duration,
}

impl Stay {
    /// Waits until it is over, and until it is forgiven.
    async fn over(self, length: Duration) {
        let Self {
            cluster,
            host,
            interval,
        } = self;
        // Envoy looks at ejected hosts once in an interval.
        let ticks = length.as_millis().div_ceil(interval.as_millis().max(1));
        sleep(interval.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))).await;
        let record = &host.condition.outlier;
        record.out.store(false, Relaxed);
        host.set_health(Health::Healthy);
        RETURNED.fetch_add(1, Relaxed);
        if let Some(cluster) = cluster.upgrade() {
            let (out, _) = cluster.out_of();
            cluster.count_outliers(|stats| stats.set(names::EJECTIONS_ACTIVE, out as u64));
            cluster.signal(Signal::Degraded);
        }
        // Each interval without an ejection forgives one.
        loop {
            sleep(interval).await;
            let less = |times: u32| times.checked_sub(1);
            if record.out.load(Relaxed) || record.times.fetch_update(Relaxed, Relaxed, less).is_err() {
                return;
            }
        }
    }
}
