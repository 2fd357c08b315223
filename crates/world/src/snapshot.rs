//! The one world that readers see: listeners ready for connections, clusters as they live.
//!
//! One owner builds the next [`Snapshot`] and publishes it; the maps are persistent, so a push costs what it changes
//! (O(log N) for each resource). Readers never lock and never see half a push.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache, Guard};
use redplane_config::Address;
use redplane_upstream::Cluster;
use redplane_upstream::tls::secrets::Secrets;
use rpds::HashTrieMapSync;

use crate::listener::Listener;
use crate::routes::Routes;

/// Everything a worker needs to serve, as of one accepted push.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Grows with every published snapshot.
    pub version: u64,
    listeners: HashTrieMapSync<String, Arc<Listener>>,
    /// Listeners that open no socket, by address: what is redirected there is handed to them.
    places: HashTrieMapSync<SocketAddr, String>,
    /// Clusters by name; each publishes its own topology.
    pub clusters: HashTrieMapSync<String, Arc<Cluster>>,
}

impl Snapshot {
    /// One with nothing in it, of this version.
    pub fn empty(version: u64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The listener of that name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values()
    }

    /// The listener that serves a destination without a socket of its own: the one at that very address, else the one at
    /// the port on any address. Envoy: `ConnectionHandlerImpl::getBalancedHandlerByAddress`.
    pub fn listener_at(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let any: IpAddr = if destination.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let at = |address| self.places.get(&address);
        let name = at(destination).or_else(|| at(SocketAddr::new(any, destination.port())))?;
        self.listener(name)
    }

    /// Takes a listener in, in place of the one with its name.
    pub fn put_listener(&mut self, listener: Arc<Listener>) {
        let name = listener.config.name.clone();
        self.remove_listener(&name);
        for address in unbound(&listener) {
            self.places.insert_mut(address, name.clone());
        }
        self.listeners.insert_mut(name, listener);
    }

    /// Takes a listener out.
    pub fn remove_listener(&mut self, name: &str) -> Option<Arc<Listener>> {
        let old = self.listeners.get(name).cloned()?;
        self.listeners.remove_mut(name);
        for address in unbound(&old) {
            if self.places.get(&address).is_some_and(|holder| holder == name) {
                self.places.remove_mut(&address);
            }
        }
        Some(old)
    }
}

/// The addresses that a listener serves without a socket.
fn unbound(listener: &Listener) -> impl Iterator<Item = SocketAddr> + '_ {
    let config = &listener.config;
    let addresses = config.addresses.iter().filter(|_| !config.bind_to_port);
    addresses.filter_map(|address| match address {
        Address::Ip(address) => Some(*address),
        Address::Pipe(_) | Address::Name { .. } => None,
    })
}

/// The current [`Snapshot`]. Cloning shares it.
#[derive(Clone, Default)]
pub struct Store {
    current: Arc<ArcSwap<Snapshot>>,
    secrets: Secrets,
    routes: Routes,
}

impl Store {
    /// A store that holds an empty snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current snapshot, for a short look.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The secrets that are named in it; each is exchanged by itself.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The route tables that are named in it; each is exchanged by itself.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The current snapshot, to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes a snapshot the current one. Only one owner may call this.
    pub fn publish(&self, next: Arc<Snapshot>) {
        self.current.store(next);
    }

    /// A reader for one worker: looking is one relaxed load as long as nothing was published.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.current)))
    }
}

/// One worker's view of a [`Store`].
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Reader {
    /// The current snapshot.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}
