//! One worker thread: a tokio runtime, its listeners, and what their connections share.
//!
//! Everything here belongs to one thread. The control side sends [`Order`]s; stats, configuration and sockets are looked
//! up through the [`Active`] listener, so that a connection sees one version from its start to its end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use redplane_config::Address;
use redplane_telemetry::stats::tls_inspector;
use redplane_telemetry::{Block, Registry, Scope};
use redplane_upstream::{Cluster, Reader};
use socket2::Socket;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::accept;
use crate::bind;
use crate::prepare::Prepared;
use crate::redis;
use crate::stats::Stats;
use crate::workers::{Context, Draining};

/// What the control side wants.
pub(crate) enum Order {
    /// Serve a listener, new or changed.
    Serve(Serve),
    /// A listener is gone: drain its connections, close what is left after `grace`.
    Remove { name: String, grace: Duration, token: Arc<Draining> },
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
    /// `tls_inspector.`
    pub inspector: Block,
    /// A buffer for whoever reads at the moment; never held over an await.
    pub scratch: RefCell<Box<[u8]>>,
    registry: Registry,
    store: RefCell<Reader>,
    listeners: RefCell<HashMap<String, Rc<Active>>>,
    blocks: RefCell<HashMap<String, Weak<Block>>>,
}

/// A listener on this worker.
pub(crate) struct Active {
    /// Its name.
    pub name: Rc<str>,
    version: RefCell<(Arc<Prepared>, Rc<Stats>)>,
    accepting: RefCell<Vec<(Arc<Socket>, AbortHandle)>>,
    /// Becomes true when connections have to end.
    gone: watch::Sender<bool>,
    /// Set when the listener was removed: lives as long as its connections.
    token: Cell<Option<Arc<Draining>>>,
}

impl Active {
    /// The version that new connections get.
    pub(crate) fn version(&self) -> (Arc<Prepared>, Rc<Stats>) {
        let version = self.version.borrow();
        (Arc::clone(&version.0), Rc::clone(&version.1))
    }

    /// Waits until connections have to end.
    pub(crate) async fn gone(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    fn stop_accepting(&self) {
        self.accepting.take().into_iter().for_each(|(_, task)| task.abort());
    }
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
        let inspector = context.registry.scope("tls_inspector.", &tls_inspector::SCHEMA);
        Self {
            index,
            driver,
            inspector: inspector.block(),
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
                Order::Serve(serve) => self.serve(serve),
                Order::Remove { name, grace, token } => self.remove(&name, grace, token),
                Order::Drain { name } => self.tell_driver(name, FOREVER),
                Order::StopListening { name, after } => self.stop_listening(&name, after),
                Order::Stop => break,
            }
        }
    }

    fn serve(self: &Rc<Self>, serve: Serve) {
        let config = &serve.prepared.config;
        let mut listeners = self.listeners.borrow_mut();
        let active = match listeners.get(&config.name) {
            Some(active) => {
                let (old, mut stats) = active.version();
                if old.config.stat_name != config.stat_name {
                    stats = self.stats(&config.stat_name);
                }
                active.version.replace((serve.prepared, stats));
                Rc::clone(active)
            }
            None => {
                let active = Rc::new(Active {
                    name: config.name.as_str().into(),
                    version: RefCell::new((Arc::clone(&serve.prepared), self.stats(&config.stat_name))),
                    accepting: RefCell::default(),
                    gone: watch::Sender::new(false),
                    token: Cell::new(None),
                });
                listeners.insert(config.name.clone(), Rc::clone(&active));
                active
            }
        };
        drop(listeners);
        self.accept_from(&active, serve.sockets);
    }

    fn stats(&self, stat_name: &str) -> Rc<Stats> {
        Rc::new(Stats::new(&self.registry, stat_name, self.index))
    }

    fn accept_from(self: &Rc<Self>, active: &Rc<Active>, sockets: Vec<Arc<Socket>>) {
        let mut accepting = active.accepting.borrow_mut();
        let mut old = std::mem::take(&mut *accepting);
        for socket in sockets {
            let known = old.iter().position(|(known, _)| Arc::ptr_eq(known, &socket));
            accepting.push(match known {
                Some(known) => old.swap_remove(known),
                None => {
                    let work = accept::run(Rc::clone(self), Rc::downgrade(active), Arc::clone(&socket));
                    (socket, spawn_local(work).abort_handle())
                }
            });
        }
        old.into_iter().for_each(|(_, task)| task.abort());
    }

    fn remove(&self, name: &str, grace: Duration, token: Arc<Draining>) {
        let Some(active) = self.listeners.borrow_mut().remove(name) else {
            return;
        };
        active.stop_accepting();
        active.token.set(Some(token));
        self.tell_driver(name.to_owned(), grace);
        // Held weakly: a listener without connections is gone at once.
        let active = Rc::downgrade(&active);
        spawn_local(async move {
            tokio::time::sleep(grace).await;
            if let Some(active) = active.upgrade() {
                active.gone.send_replace(true);
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
                active.accepting.borrow().iter().for_each(|(socket, _)| bind::end(socket));
                active.stop_accepting();
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

    /// The listener that serves a destination without having opened a socket for it: the one at that very address, else
    /// the one at the port on any address. Envoy: `ConnectionHandlerImpl::getBalancedHandlerByAddress`.
    pub(crate) fn listener_at(&self, destination: SocketAddr) -> Option<Rc<Active>> {
        let listeners = self.listeners.borrow();
        let at = |wanted: SocketAddr| {
            let serves = |active: &&Rc<Active>| {
                let config = &active.version.borrow().0.config;
                !config.bind_to_port && config.addresses.contains(&Address::Ip(wanted))
            };
            listeners.values().find(serves).cloned()
        };
        let any: std::net::IpAddr = if destination.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        at(destination).or_else(|| at(SocketAddr::new(any, destination.port())))
    }
}
