//! What the workers know of each other's subscriptions: how many clients hold a name, and on which hosts it is
//! subscribed to for them.
//!
//! A server counts one subscriber for each worker that subscribed there; publishers want to hear of clients. Each
//! worker writes a ledger of its own when subscriptions come and go, and reads all of them when something is published
//! or counted while anybody subscribes at all.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::{Kind, glob};

/// One name in one cluster, as a worker has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Clients that get its messages.
    pub(super) clients: usize,
    /// Hosts (by id) that send them; twice where two connections do.
    pub(super) hosts: Vec<u64>,
}

type Names = [FxHashMap<Bytes, Entry>; 3];

#[derive(Debug, Default)]
struct Tally {
    clusters: FxHashMap<String, Names>,
}

/// A std mutex: held for a look-up, by its worker at each change and by others while they count.
type Shared = Arc<Mutex<Tally>>;

/// The subscriptions of all workers. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    /// A std mutex: taken when a worker starts and when something is counted.
    workers: Arc<Mutex<Vec<Weak<Mutex<Tally>>>>>,
    names: Arc<AtomicUsize>,
}

impl Subscriptions {
    /// A worker's own part.
    pub(super) fn ledger(&self) -> Ledger {
        let own = Shared::default();
        let mut workers = locked(&self.workers);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&own));
        drop(workers);
        Ledger {
            own,
            all: self.clone(),
            entries: 0,
        }
    }

    fn each(&self, mut look: impl FnMut(&Tally)) {
        for worker in locked(&self.workers).iter().filter_map(Weak::upgrade) {
            look(&locked(&worker));
        }
    }
}

/// Nothing is left half done by a change that panics: a count may be off by one worker's subscription.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one worker holds. It takes its entries along when the worker's engine ends.
#[derive(Debug)]
pub(super) struct Ledger {
    own: Shared,
    all: Subscriptions,
    entries: usize,
}

impl Ledger {
    /// Whether any worker subscribes to anything.
    #[inline]
    pub(super) fn is_anybody_there(&self) -> bool {
        self.all.names.load(Relaxed) > 0
    }

    /// Notes how things stand with a name; without clients and hosts it is forgotten.
    pub(super) fn note(&mut self, cluster: &str, kind: Kind, name: &Bytes, entry: Entry) {
        let mut tally = locked(&self.own);
        let is_gone = entry == Entry::default();
        if !tally.clusters.contains_key(cluster) {
            if is_gone {
                return;
            }
            tally.clusters.insert(cluster.to_owned(), Names::default());
        }
        let Some(names) = tally.clusters.get_mut(cluster) else {
            return;
        };
        let known = &mut names[kind as usize];
        let before = known.len();
        match is_gone {
            true => drop(known.remove(name)),
            false => drop(known.insert(name.clone(), entry)),
        }
        let after = known.len();
        if after > before {
            self.entries += 1;
            self.all.names.fetch_add(1, Relaxed);
        } else if after < before {
            self.entries -= 1;
            self.all.names.fetch_sub(1, Relaxed);
            if names.iter().all(FxHashMap::is_empty) {
                tally.clusters.remove(cluster);
            }
        }
    }

    /// What must be added to a server's count of those that got a message.
    pub(super) fn correction(&self, cluster: &str, kind: Kind, channel: &[u8], host: u64) -> i64 {
        let mut sum = 0;
        self.all.each(|tally| {
            let Some(names) = tally.clusters.get(cluster) else {
                return;
            };
            if let Some(entry) = names[kind as usize].get(channel) {
                sum += entry.beyond(&[host]);
            }
            if kind == Kind::Channel {
                let patterns = names[Kind::Pattern as usize].iter();
                let matching = patterns.filter(|(pattern, _)| glob::matches(pattern, channel));
                sum += matching.map(|(_, entry)| entry.beyond(&[host])).sum::<i64>();
            }
        });
        sum
    }

    /// What must be added to the sum of several servers' counts of subscribers to a name.
    pub(super) fn subscribers_beyond(
        &self,
        clusters: &[&str],
        kind: Kind,
        name: &[u8],
        hosts: &[u64],
    ) -> i64 {
        let mut sum = 0;
        self.all.each(|tally| {
            let own = clusters.iter().filter_map(|cluster| tally.clusters.get(*cluster));
            let entries = own.filter_map(|names| names[kind as usize].get(name));
            sum += entries.map(|entry| entry.beyond(hosts)).sum::<i64>();
        });
        sum
    }

    /// What must be added to the sum of several servers' numbers of patterns: each of ours counts once.
    pub(super) fn patterns_beyond(&self, clusters: &[&str], hosts: &[u64]) -> i64 {
        // By pattern, the hosts that count it.
        let mut patterns: FxHashMap<Bytes, Vec<u64>> = FxHashMap::default();
        self.all.each(|tally| {
            let own = clusters.iter().filter_map(|cluster| tally.clusters.get(*cluster));
            for (name, entry) in own.flat_map(|names| &names[Kind::Pattern as usize]) {
                let known = patterns.entry(name.clone()).or_default();
                known.extend(entry.hosts.iter().filter(|host| hosts.contains(host)));
            }
        });
        let beyond = patterns.into_values().map(|mut hosts| {
            hosts.sort_unstable();
            hosts.dedup();
            1 - hosts.len() as i64
        });
        beyond.sum()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.all.names.fetch_sub(self.entries, Relaxed);
    }
}

impl Entry {
    /// Clients beyond those that these hosts count.
    fn beyond(&self, hosts: &[u64]) -> i64 {
        let counted = self.hosts.iter().filter(|host| hosts.contains(host)).count();
        self.clients as i64 - counted as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(clients: usize, hosts: &[u64]) -> Entry {
        Entry {
            clients,
            hosts: hosts.to_vec(),
        }
    }

    #[test]
    fn publishers_hear_of_clients_and_not_of_workers() {
        let all = Subscriptions::default();
        let (mut one, mut two) = (all.ledger(), all.ledger());
        let (news, pattern) = (Bytes::from_static(b"news"), Bytes::from_static(b"n*"));
        assert!(!one.is_anybody_there());
        one.note("c", Kind::Channel, &news, entry(10, &[1]));
        two.note("c", Kind::Channel, &news, entry(5, &[1]));
        two.note("c", Kind::Pattern, &pattern, entry(2, &[1, 2]));
        two.note("d", Kind::Channel, &news, entry(100, &[1]));
        assert!(one.is_anybody_there());
        assert_eq!(one.correction("c", Kind::Channel, b"news", 1), 9 + 4 + 1);
        assert_eq!(one.correction("c", Kind::Channel, b"news", 2), 10 + 5 + 1);
        assert_eq!(one.correction("c", Kind::Shard, b"news", 1), 0);
        assert_eq!(
            one.subscribers_beyond(&["c"], Kind::Channel, b"news", &[1, 2]),
            13
        );
        assert_eq!(one.patterns_beyond(&["c"], &[1, 2]), -1);
    }

    #[test]
    fn a_worker_takes_its_part_along() {
        let all = Subscriptions::default();
        let (one, mut two) = (all.ledger(), all.ledger());
        let name = Bytes::from_static(b"a");
        two.note("c", Kind::Shard, &name, entry(1, &[]));
        two.note("c", Kind::Shard, &name, entry(2, &[7]));
        assert!(one.is_anybody_there());
        drop(two);
        assert!(!one.is_anybody_there());
        assert_eq!(one.correction("c", Kind::Shard, b"a", 1), 0);
    }

    #[test]
    fn the_last_one_out_leaves_nothing() {
        let all = Subscriptions::default();
        let mut own = all.ledger();
        let name = Bytes::from_static(b"a");
        own.note("c", Kind::Channel, &name, entry(1, &[1]));
        own.note("c", Kind::Channel, &name, Entry::default());
        own.note("c", Kind::Channel, &name, Entry::default());
        assert!(!own.is_anybody_there());
        assert!(locked(&own.own).clusters.is_empty());
    }
}
