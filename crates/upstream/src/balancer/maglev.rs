//! MAGLEV: a table filled in turn along each host's own permutation, as Envoy's `maglev_lb.cc` fills it.

use twox_hash::XxHash64;

/// A host's index for each place of the table.
#[derive(Debug, Default)]
pub(super) struct Maglev {
    table: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

struct Entry {
    host: u32,
    offset: u64,
    skip: u64,
    share: f64,
    target: f64,
    next: u64,
}

impl Entry {
    fn place(&self, size: u64) -> usize {
        let step = u128::from(self.skip) * u128::from(self.next) + u128::from(self.offset);
        (step % u128::from(size)) as usize
    }
}

impl Maglev {
    /// Hosts with their shares, what stands for each, and the size of the table (a prime).
    pub(super) fn new(hosts: &[(usize, f64)], key: impl Fn(usize) -> String, size: u64) -> Self {
        let size = size.max(2);
        let most = hosts.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        if most <= 0.0 {
            return Self::default();
        }
        let mut keyed: Vec<(String, usize, f64)> =
            hosts.iter().map(|(at, share)| (key(*at), *at, *share)).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut entries: Vec<Entry> = keyed
            .iter()
            .map(|(key, at, share)| Entry {
                host: *at as u32,
                offset: XxHash64::oneshot(0, key.as_bytes()) % size,
                skip: XxHash64::oneshot(1, key.as_bytes()) % (size - 1) + 1,
                share: *share,
                target: 0.0,
                next: 0,
            })
            .collect();
        Self {
            table: fill(&mut entries, size, most),
        }
    }

    pub(super) fn choose(&self, hash: u64) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        Some(self.table[(hash % self.table.len() as u64) as usize] as usize)
    }

    pub(super) fn hosts(&self) -> Vec<usize> {
        let mut hosts: Vec<usize> = self.table.iter().map(|host| *host as usize).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

/// The heaviest host gets a place in every round, one of half its weight in every second, and so on.
fn fill(entries: &mut [Entry], size: u64, most: f64) -> Vec<u32> {
    let mut table = vec![EMPTY; size as usize];
    let mut left = size;
    let mut round = 0.0;
    while left > 0 {
        round += 1.0;
        for entry in entries.iter_mut() {
            if left == 0 {
                break;
            }
            if round * entry.share < entry.target {
                continue;
            }
            entry.target += most;
            while table[entry.place(size)] != EMPTY {
                entry.next += 1;
            }
            table[entry.place(size)] = entry.host;
            entry.next += 1;
            left -= 1;
        }
    }
    table
}
