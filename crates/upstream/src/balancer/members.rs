//! ROUND_ROBIN, LEAST_REQUEST and RANDOM over localities and their hosts.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Weighted, scaled};
use crate::host::Host;

/// Localities with their shares summed up, and how a host is taken from one.
#[derive(Debug)]
pub(super) struct Members {
    localities: Vec<Locality>,
    rule: Rule,
}

#[derive(Debug)]
struct Locality {
    /// Sum of the shares up to and with this one.
    up_to: f64,
    hosts: Vec<usize>,
    /// The order of turns, host by host: each host as often as its weight asks for.
    schedule: Vec<u32>,
    turns: Turns,
}

#[derive(Debug)]
enum Rule {
    InTurn,
    LeastLoaded { choices: u32 },
    Random,
}

/// Longest schedule of a weighted round robin; finer weights are rounded.
const LONGEST_SCHEDULE: u64 = 8192;

impl Members {
    pub(super) fn in_turn(weighted: &Weighted, hosts: &[Arc<Host>]) -> Self {
        Self::new(weighted, Rule::InTurn, |members| {
            schedule(&weights(members, hosts))
        })
    }

    pub(super) fn least_loaded(weighted: &Weighted, hosts: &[Arc<Host>], choices: u32) -> Self {
        let rule = Rule::LeastLoaded {
            choices: choices.clamp(2, 64),
        };
        Self::new(weighted, rule, |members| schedule(&weights(members, hosts)))
    }

    /// Envoy's RANDOM knows no weights.
    pub(super) fn random(weighted: &Weighted) -> Self {
        Self::new(weighted, Rule::Random, |members| {
            (0..members.len() as u32).collect()
        })
    }

    fn new(weighted: &Weighted, rule: Rule, schedule: impl Fn(&[usize]) -> Vec<u32>) -> Self {
        let mut up_to = 0.0;
        let locality = |(share, hosts): &(f64, Vec<usize>)| {
            up_to += share;
            Locality {
                up_to,
                hosts: hosts.clone(),
                schedule: schedule(hosts),
                turns: Turns::default(),
            }
        };
        Self {
            localities: weighted.localities.iter().map(locality).collect(),
            rule,
        }
    }

    pub(super) fn choose(&self, hosts: &[Arc<Host>], random: u64) -> Option<usize> {
        let locality = self.locality(random)?;
        // The high bits chose the locality; fresh ones choose the host.
        let random = spread(random);
        Some(match self.rule {
            Rule::InTurn => locality.scheduled(locality.turns.next()),
            Rule::Random => locality.scheduled(scaled(random, locality.schedule.len())),
            Rule::LeastLoaded { choices } => locality.least_loaded(hosts, choices, random),
        })
    }

    pub(super) fn hosts(&self) -> Vec<usize> {
        self.localities
            .iter()
            .flat_map(|locality| locality.hosts.iter().copied())
            .collect()
    }

    fn locality(&self, random: u64) -> Option<&Locality> {
        let whole = self.localities.last()?.up_to;
        if self.localities.len() == 1 {
            return self.localities.first();
        }
        let point = random as f64 / u64::MAX as f64 * whole;
        self.localities
            .iter()
            .find(|locality| point <= locality.up_to)
            .or_else(|| self.localities.last())
    }
}

impl Locality {
    fn scheduled(&self, turn: usize) -> usize {
        self.hosts[self.schedule[turn % self.schedule.len()] as usize]
    }

    fn least_loaded(&self, hosts: &[Arc<Host>], choices: u32, mut random: u64) -> usize {
        let active = |at: usize| hosts[at].stats.rq_active.load(Relaxed);
        let mut best = self.scheduled(scaled(random, self.schedule.len()));
        for _ in 1..choices {
            random = spread(random);
            let other = self.scheduled(scaled(random, self.schedule.len()));
            if active(other) < active(best) {
                best = other;
            }
        }
        best
    }
}

fn weights(members: &[usize], hosts: &[Arc<Host>]) -> Vec<u64> {
    members.iter().map(|at| u64::from(hosts[*at].weight)).collect()
}

/// Places in the order of earliest deadline, so that a heavy host's turns lie evenly apart.
fn schedule(weights: &[u64]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, greatest_divisor).max(1);
    let mut weights: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().sum();
    let longest = LONGEST_SCHEDULE.max(weights.len() as u64);
    if total > longest {
        weights = weights
            .iter()
            .map(|weight| (u128::from(*weight) * u128::from(longest) / u128::from(total)).max(1) as u64)
            .collect();
    }
    let length: u64 = weights.iter().sum();
    let mut due: BinaryHeap<Reverse<(u64, u32)>> = weights
        .iter()
        .enumerate()
        .map(|(at, weight)| Reverse((PERIOD / weight, at as u32)))
        .collect();
    let mut order = Vec::with_capacity(length as usize);
    while let (true, Some(Reverse((deadline, at)))) = ((order.len() as u64) < length, due.pop()) {
        order.push(at);
        due.push(Reverse((deadline + PERIOD / weights[at as usize], at)));
    }
    order
}

/// Time in which a host of weight 1 gets one turn; large, so that rounding does not show.
const PERIOD: u64 = 1 << 40;

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Another number that looks random, from one (the finaliser of SplitMix64).
fn spread(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Turn counters, one for each of a few groups of threads, so that workers do not fight for one cache line.
#[derive(Debug, Default)]
struct Turns([Turn; 8]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Turn(AtomicUsize);

impl Turns {
    fn next(&self) -> usize {
        self.0[lane() % self.0.len()].0.fetch_add(1, Relaxed)
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// This thread's number.
fn lane() -> usize {
    LANE.with(|lane| {
        lane.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Relaxed);
            lane.set(Some(number));
            number
        })
    })
}

#[cfg(test)]
mod tests {
    use super::schedule;

    #[test]
    fn turns_follow_weights_and_lie_apart() {
        assert_eq!(schedule(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(schedule(&[20, 10]).len(), 3);
        let order = schedule(&[6, 2, 2]);
        assert_eq!(order.iter().filter(|at| **at == 0).count(), 3);
        assert_eq!(order.len(), 5);
        assert!(schedule(&[u64::from(u32::MAX), 1, 7]).len() <= 8200);
        assert!(schedule(&[]).is_empty());
    }
}
