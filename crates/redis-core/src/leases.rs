//! Connections of one client each: which there are of a pool, and which of them wait for their next use.

use rustc_hash::FxHashMap;

/// The leased connections of a pool, by the ids of their hosts.
#[derive(Debug, Default)]
pub struct Leases(pub FxHashMap<u64, OfHost>);

/// Those of one host.
#[derive(Debug, Default)]
pub struct OfHost {
    /// How many are open.
    pub open: u32,
    /// Those that wait for their next use.
    pub idle: Vec<u32>,
}

impl Leases {
    /// Those that wait for their next use.
    pub fn idle(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.values().flat_map(|host| host.idle.iter().copied())
    }

    /// Takes out the idle ones to hosts that are not `known` any more.
    pub fn take_strays(&mut self, known: impl Fn(u64) -> bool) -> Vec<u32> {
        let strays = self.0.iter_mut().filter(|(id, _)| !known(**id));
        strays
            .flat_map(|(_, host)| std::mem::take(&mut host.idle))
            .collect()
    }

    /// One is gone.
    pub fn forget(&mut self, host: u64, connection: u32) {
        if let Some(of_host) = self.0.get_mut(&host) {
            of_host.open = of_host.open.saturating_sub(1);
            of_host.idle.retain(|idle| *idle != connection);
            if of_host.open == 0 {
                self.0.remove(&host);
            }
        }
    }
}
