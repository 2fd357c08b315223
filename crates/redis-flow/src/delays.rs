//! What fault injection holds back.

use std::collections::BTreeMap;
use std::time::Duration;

use redplane_redis_core::client::Waiter;
use redplane_redis_core::client::features::{Feature, PerClient};

/// A client's requests whose replies are held back, and for how long.
#[derive(Debug, Default)]
pub struct Delays(pub(crate) Vec<(u32, Duration)>);

/// What faults hold back.
pub struct Faults {
    /// Requests whose replies are held back.
    pub delays: PerClient<Delays>,
    /// Those replies, by the time they are due.
    pub delayed: BTreeMap<(u64, u64), (Waiter, Vec<u8>)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            delays: PerClient::new(Feature::Delays),
            delayed: BTreeMap::new(),
        }
    }
}

impl Delays {
    /// Takes the delay of a request out.
    pub(crate) fn take(&mut self, sequence: u32) -> Option<Duration> {
        let at = self.0.iter().position(|(delayed, _)| *delayed == sequence)?;
        let (_, delay) = self.0.swap_remove(at);
        Some(delay)
    }
}
