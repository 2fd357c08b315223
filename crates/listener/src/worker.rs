//! One worker thread: a tokio runtime, its listeners, and what their connections share.
//!
//! Everything here belongs to one thread. The control side sends [`Order`]s; stats, configuration and sockets are looked
//! up through the [`Active`] listener, so that a connection sees one version from its start to its end.

mod active;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use redplane_telemetry::{Block, Registry, Scope};
use redplane_upstream::{Cluster, Reader};
use socket2::Socket;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{LocalSet, spawn_local};

use crate::accept;
use crate::bind;
use crate::filters::FilterStats;
use crate::prepare::Prepared;
use crate::redis;
use crate::stats::Stats;
use crate::workers::{Context, Draining};

pub(crate) use active::Active;
use active::Places;

/// What the control side wants.
pub(crate) enum Order {
    /// Serve a listener, new or changed.
    Serve(Serve),
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

/// A version of a listener.
pub(crate) struct Serve {
    /// Shared by all workers.
    pub prepared: Arc<Prepared>,
    /// The sockets of this worker, all of them: those it knows go on, those it does not find here end.
    pub sockets: Vec<Arc<Socket>>,
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
    places: RefCell<Places>,
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
            places: RefCell::default(),
            blocks: RefCell::default(),
        }
    }

    async fn obey(self: Rc<Self>, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Serve(serve) => self.serve(serve),
                Order::Remove { name, grace, token } => self.remove(&name, grace, token),
                Order::Drain { name } => self.tell_driver(name, FOREVER),
                Order::StopListening { name, after } => self.stop_listening(&name, after),
                Order::Stop => break,
            }
        }
    }

    fn serve(self: &Rc<Self>, serve: Serve) {
        let prepared = serve.prepared;
        let config = Arc::clone(&prepared.config);
        let known = self.listeners.borrow().get(&config.name).cloned();
        let active = match known {
            Some(active) => {
                let (old, stats) = active.version();
                let same = old.config.stat_name == config.stat_name;
                let stats = if same {
                    stats
                } else {
                    self.stats(&config.stat_name)
                };
                self.places.borrow_mut().leave(&active);
                active.renew(prepared, stats);
                active
            }
            None => {
                let active = Active::new(prepared, self.stats(&config.stat_name));
                self.listeners
                    .borrow_mut()
                    .insert(config.name.clone(), Rc::clone(&active));
                active
            }
        };
        self.places.borrow_mut().enter(&config, &active);
        active.accept_from(serve.sockets, |socket| {
            spawn_local(accept::run(Rc::clone(self), Rc::downgrade(&active), socket)).abort_handle()
        });
    }

    fn stats(&self, stat_name: &str) -> Rc<Stats> {
        Rc::new(Stats::new(&self.registry, stat_name, self.index))
    }

    fn remove(&self, name: &str, grace: Duration, token: Arc<Draining>) {
        let Some(active) = self.listeners.borrow_mut().remove(name) else {
            return;
        };
        self.places.borrow_mut().leave(&active);
        active.stop_accepting();
        active.hold(token);
        self.tell_driver(name.to_owned(), grace);
        // Held weakly: a listener without connections is gone at once.
        let active = Rc::downgrade(&active);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            if let Some(active) = active.upgrade() {
                active.end();
            }
        });
    }

    fn tell_driver(&self, listener: String, grace: Duration) {
        self.driver.tell(redis::Command::Drain { listener, grace });
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

    /// The cluster of that name, if there is one.
    pub(crate) fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.store.borrow_mut().load().cluster(name).cloned()
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

    /// The listener that serves a destination without having opened a socket for it.
    pub(crate) fn listener_at(&self, destination: SocketAddr) -> Option<Rc<Active>> {
        self.places.borrow().find(destination)
    }
}
