//! One worker thread: a tokio runtime, its listeners, and what their connections share.
//!
//! Everything here belongs to one thread. What is configured is looked up in the published world; the control side's
//! [`Order`]s carry sockets, and say what is to end.

mod active;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use redplane_telemetry::stats::listener as listener_names;
use redplane_telemetry::{Block, Registry, Scope};
use redplane_world::{Life, Reader, Snapshot};
use socket2::Socket;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{LocalSet, spawn_local};

use crate::accept;
use crate::bind;
use crate::filters::FilterStats;
use crate::redis::{self, Whose};
use crate::stats::Stats;
use crate::workers::{Context, Draining};

pub(crate) use active::Active;

/// What the control side wants.
pub(crate) enum Order {
    /// Accept from these sockets for a listener: those that it knows go on, those that it does not find here end.
    Accept { name: String, sockets: Vec<Arc<Socket>> },
    /// A chain is gone, or has become another one: what is left of it after `grace` ends.
    EndChain { life: Arc<Life>, grace: Duration },
    /// A listener is gone: drain its connections, close what is left after `grace`.
    Remove {
        name: String,
        grace: Duration,
        token: Arc<Draining>,
    },
    /// Drain its connections, but close none by force.
    Drain { name: String },
    /// Stop listening when the time has passed.
    StopListening { name: String, after: Duration },
    /// End.
    Stop,
}

/// A drain that closes nothing by force still needs a number.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

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
    /// A buffer for whoever reads at the moment; never held over an await.
    pub scratch: RefCell<Box<[u8]>>,
    registry: Registry,
    store: RefCell<Reader>,
    listeners: RefCell<HashMap<String, Rc<Active>>>,
    blocks: RefCell<HashMap<String, Weak<Block>>>,
}

/// The body of a worker's thread.
pub(crate) fn run(
    index: usize,
    context: &Context,
    orders: UnboundedReceiver<Order>,
    ready: &SyncSender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        match (context.make_driver)(index) {
            Ok(driver) => {
                let worker = Rc::new(Worker::new(index, context, driver));
                // The other side waits for this and cannot be gone.
                let _ = ready.send(Ok(()));
                worker.obey(orders).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

impl Worker {
    fn new(index: usize, context: &Context, driver: redis::Handle) -> Self {
        Self {
            index,
            driver,
            filter_stats: FilterStats::new(&context.registry),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            registry: context.registry.clone(),
            store: RefCell::new(context.store.reader()),
            listeners: RefCell::default(),
            blocks: RefCell::default(),
        }
    }

    async fn obey(self: Rc<Self>, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Accept { name, sockets } => self.accept(&name, sockets),
                Order::EndChain { life, grace } => self.end_chain(life, grace),
                Order::Remove { name, grace, token } => self.remove(&name, grace, token),
                Order::Drain { name } => self.drain(Whose::Listener(name), FOREVER),
                Order::StopListening { name, after } => self.stop_listening(&name, after),
                Order::Stop => break,
            }
        }
    }

    fn accept(self: &Rc<Self>, name: &str, sockets: Vec<Arc<Socket>>) {
        let active = self.active(name);
        self.listeners
            .borrow_mut()
            .insert(name.to_owned(), Rc::clone(&active));
        active.accept_from(sockets, |socket| {
            spawn_local(accept::run(Rc::clone(self), Rc::downgrade(&active), socket)).abort_handle()
        });
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

    fn end_chain(&self, life: Arc<Life>, grace: Duration) {
        self.drain(Whose::Chain(life.number), grace);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            life.end();
        });
    }

    fn remove(&self, name: &str, grace: Duration, token: Arc<Draining>) {
        let Some(active) = self.listeners.borrow_mut().remove(name) else {
            return;
        };
        active.stop_accepting();
        active.hold(token);
        self.drain(Whose::Listener(name.to_owned()), grace);
        // Held weakly: a listener without connections is gone at once.
        let active = Rc::downgrade(&active);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            if let Some(active) = active.upgrade() {
                active.end();
            }
        });
    }

    fn drain(&self, whose: Whose, grace: Duration) {
        self.driver.tell(redis::Command::Drain { whose, grace });
    }

    fn stop_listening(&self, name: &str, after: Duration) {
        let Some(active) = self.listeners.borrow().get(name).map(Rc::downgrade) else {
            return;
        };
        spawn_local(async move {
            tokio::time::sleep(after).await;
            if let Some(active) = active.upgrade() {
                active
                    .stop_accepting()
                    .iter()
                    .for_each(|socket| bind::end(socket));
            }
        });
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
