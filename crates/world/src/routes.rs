//! Route tables that come by name: a connection manager that names one holds its slot, and one owner fills it.
//!
//! A table is exchanged by itself, as secrets are: each request takes the one of its moment, on open connections too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use redplane_config::cluster::Source;
use redplane_config::http::RouteConfiguration;
use redplane_http_route::RouteTable;

/// Where a route table is put when RDS brings one, and taken from by every request.
pub type RouteSlot = Arc<ArcSwapOption<RouteTable>>;

type Slots = HashMap<(Source, String), RouteSlot>;

/// All slots. Cloning shares them.
#[derive(Clone, Default)]
pub struct Routes {
    /// A std mutex: taken by the control thread only, which prepares listeners and fills slots.
    slots: Arc<Mutex<Slots>>,
}

impl Routes {
    /// Where the table of that name is, or will be.
    pub fn slot(&self, source: &Source, name: &str) -> RouteSlot {
        let mut slots = self.slots();
        Arc::clone(slots.entry((source.clone(), name.to_owned())).or_default())
    }

    /// Exchanges a table: requests from now on take this one.
    pub fn put(&self, source: &Source, name: &str, config: Arc<RouteConfiguration>) {
        let table = Arc::new(RouteTable::new(config));
        self.slot(source, name).store(Some(table));
    }

    /// Nobody names it any more. Connections that end keep the table that they have.
    pub fn forget(&self, source: &Source, name: &str) {
        self.slots().remove(&(source.clone(), name.to_owned()));
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Slots are whole or not there.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
