//! What the connections of one worker share: the published world, the Redis driver, listeners and cells. Everything here
//! belongs to one thread.

mod active;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use redplane_telemetry::stats::listener as listener_names;
use redplane_telemetry::{Block, Registry, Scope};
use redplane_world::{Reader, Snapshot};

use crate::context::Context;
use crate::filters::FilterStats;
use crate::redis;
use crate::stats::Stats;

pub(crate) use active::Active;

/// What a connection may take in one read; also what tcp_proxy may hold back for a slow peer, each way.
pub(crate) const SCRATCH: usize = 32 * 1024;

/// The state of a worker.
pub(crate) struct Worker {
    /// Its number.
    pub index: usize,
    /// The Redis driver.
    pub driver: redis::Handle,
    /// What listener filters count.
    pub filter_stats: FilterStats,
    /// What HTTP connections share.
    pub http: Rc<redplane_http::Worker>,
    /// A buffer for whoever reads at the moment; never held over an await.
    pub scratch: RefCell<Box<[u8]>>,
    registry: Registry,
    store: RefCell<Reader>,
    /// Those that accept, by name.
    pub listeners: RefCell<HashMap<String, Rc<Active>>>,
    blocks: RefCell<HashMap<String, Weak<Block>>>,
}

impl Worker {
    /// Nothing is accepted yet.
    pub(crate) fn new(index: usize, context: &Context, driver: redis::Handle) -> Self {
        Self {
            index,
            driver,
            filter_stats: FilterStats::new(&context.registry),
            http: redplane_http::Worker::new(context.store.reader()),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            registry: context.registry.clone(),
            store: RefCell::new(context.store.reader()),
            listeners: RefCell::default(),
            blocks: RefCell::default(),
        }
    }

    /// The listener of this name on this worker. One that is on its way here, or gone already, lives as long as the
    /// connections that were handed to it.
    pub(crate) fn active(&self, name: &str) -> Rc<Active> {
        let known = self.listeners.borrow().get(name).cloned();
        known.unwrap_or_else(|| Active::new(name))
    }

    /// The world as it is published now.
    pub(crate) fn world(&self) -> Arc<Snapshot> {
        Arc::clone(self.store.borrow_mut().load())
    }

    /// The cells of a listener on this worker.
    pub(crate) fn stats(&self, active: &Active, stat_name: &str) -> Rc<Stats> {
        active.stats(stat_name, || Stats::new(&self.registry, stat_name, self.index))
    }

    /// So many connections came at once.
    pub(crate) fn accepted(&self, active: &Active, count: u64) {
        if let Some(listener) = self.world().listener(&active.name) {
            let stats = self.stats(active, &listener.config.stat_name);
            stats
                .listener
                .record(listener_names::CONNECTIONS_ACCEPTED_PER_SOCKET_EVENT, count);
        }
    }

    /// This worker's cells of a scope, shared by all who count for it at the moment.
    pub(crate) fn block(&self, scope: &Arc<Scope>) -> Rc<Block> {
        let mut blocks = self.blocks.borrow_mut();
        let living = blocks.get(scope.prefix()).and_then(Weak::upgrade);
        if let Some(block) = living.filter(|block| Arc::ptr_eq(block.scope(), scope)) {
            return block;
        }
        blocks.retain(|_, block| block.strong_count() > 0);
        let block = Rc::new(scope.block());
        blocks.insert(scope.prefix().to_owned(), Rc::downgrade(&block));
        block
    }
}
