//! The owner of everything that is configured: what is known of each type of resource, the next snapshot, and the ledger of
//! what waits for what. What happens to them is said in `events` and in a module for each type.

use std::sync::Arc;

use redplane_upstream::Context;
use redplane_world::Snapshot;

use crate::bootstrap::Bootstrap;
use crate::feeds::Feeds;
use crate::ledger::Ledger;
use crate::needs::{Need, Waiter};
use crate::state::clusters::Clusters;
use crate::state::endpoints::Endpoints;
use crate::state::listeners::Listeners;
use crate::state::routes::Routes;
use crate::state::secrets::Secrets;
use crate::state::start::Start;
use crate::stats::ControlPlane;
use crate::world::World;

/// The owner of everything that is configured.
pub struct Reconcile {
    pub(crate) world: Arc<World>,
    pub(crate) context: Context,
    pub(crate) feeds: Feeds,
    /// The next snapshot in the making.
    pub(crate) draft: Snapshot,
    pub(crate) ledger: Ledger<Waiter, Need>,
    pub(crate) clusters: Clusters,
    pub(crate) endpoints: Endpoints,
    pub(crate) listeners: Listeners,
    pub(crate) routes: Routes,
    pub(crate) secrets: Secrets,
    pub(crate) start: Start,
    pub(crate) control_plane: ControlPlane,
}

impl Reconcile {
    /// Ready to start; nothing is configured yet.
    pub fn new(world: Arc<World>, context: Context, feeds: Feeds, bootstrap: &Bootstrap) -> Self {
        let registry = &world.registry;
        let config = &bootstrap.config;
        Self {
            start: Start::new(registry, config.cds.as_ref(), config.lds.as_ref()),
            ledger: Ledger::default(),
            clusters: Clusters::new(registry),
            endpoints: Endpoints::default(),
            listeners: Listeners::new(registry),
            routes: Routes::default(),
            secrets: Secrets::default(),
            control_plane: ControlPlane::new(registry),
            draft: Snapshot::default(),
            world,
            context,
            feeds,
        }
    }
}
