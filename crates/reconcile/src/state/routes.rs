//! What is known of route configurations, and how many listeners name them.

use std::collections::HashMap;
use std::sync::Arc;

use redplane_admin::ResourceVersion;
use redplane_config::http::RouteConfiguration;

use crate::needs::Named;
use crate::stats::Subscription;

/// Route configurations and how many name them.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) known: HashMap<Named, Known>,
}

pub(crate) struct Known {
    pub(crate) users: usize,
    /// There was an answer, if only a bad one.
    pub(crate) answered: bool,
    /// What serves.
    pub(crate) table: Option<Arc<RouteConfiguration>>,
    /// What waits for clusters.
    pub(crate) next: Option<Next>,
    /// `http.<stat_prefix>.rds.<name>.`, of the connection manager that asked first.
    pub(crate) stats: Subscription,
}

/// A route configuration that does not serve yet.
pub(crate) struct Next {
    pub(crate) wait: u64,
    pub(crate) config: Arc<RouteConfiguration>,
    pub(crate) resource: ResourceVersion,
}

impl Routes {
    /// Every cluster that a route configuration names.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        let known = self.known.values();
        let tables = known.flat_map(|known| {
            known
                .table
                .iter()
                .chain(known.next.as_ref().map(|next| &next.config))
        });
        tables.flat_map(|table| table.clusters())
    }
}
