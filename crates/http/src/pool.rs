//! Connections to hosts that wait for the next request: one worker's own, so that nothing is locked.
//!
//! HTTP/1 connections are given out last in, first out; an HTTP/2 connection is shared until its host's limit of
//! streams. A connection is driven by a task of its own, which also ends it when it has been idle for too long.

mod driver;
mod lease;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use redplane_config::http::UpstreamProtocol;
use redplane_telemetry::Block;
use redplane_upstream::{Cluster, Host};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::feed::RequestBody;
use driver::Life;

pub(crate) use lease::{Failed, Lease};

/// Which connections are as good as each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    place: PlaceKey,
    /// What TLS offers, where a filter says so.
    offer: Option<Arc<[Vec<u8>]>>,
    /// The name that TLS asks for, where the request says so.
    sni: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PlaceKey {
    Host(u64),
    Address(Arc<str>, SocketAddr),
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A host of the cluster.
    Host(Arc<Host>),
    /// The connection's own destination.
    Address(SocketAddr),
}

/// What is asked of a pool.
pub(crate) struct Wanted<'a> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) place: &'a Place,
    /// HTTP/1 or HTTP/2; never `Downstream`.
    pub(crate) protocol: UpstreamProtocol,
    /// What TLS offers in place of what the cluster says.
    pub(crate) offer: Option<Arc<[Vec<u8>]>>,
    /// The name that TLS asks for in place of the cluster's.
    pub(crate) sni: Option<Arc<str>>,
    /// The cluster's cells.
    pub(crate) stats: &'a Rc<Block>,
    /// Only a connection that no request has been on.
    pub(crate) fresh: bool,
}

/// One worker's connections.
#[derive(Default)]
pub(crate) struct Pools {
    http1: RefCell<FxHashMap<Key, Vec<Http1>>>,
    http2: RefCell<FxHashMap<Key, Vec<Rc<Http2>>>>,
    /// HTTP/2 connections on their way: whoever needs the same one waits for it.
    coming: RefCell<FxHashMap<Key, Rc<Notify>>>,
}

/// An HTTP/1 connection.
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    life: Rc<Life>,
}

/// An HTTP/2 connection.
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<usize>,
    life: Rc<Life>,
}

impl Place {
    fn key(&self, cluster: &Cluster) -> PlaceKey {
        match self {
            Self::Host(host) => PlaceKey::Host(host.id),
            Self::Address(address) => PlaceKey::Address(cluster.name().into(), *address),
        }
    }

    /// The host, where it is one.
    pub(crate) fn host(&self) -> Option<&Arc<Host>> {
        match self {
            Self::Host(host) => Some(host),
            Self::Address(_) => None,
        }
    }

    /// `ip:port`, or a path.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Host(host) => host.address.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// A connection for one request: one that waits, or a new one.
///
/// # Errors
///
/// The connection could not be made.
pub(crate) async fn lease(pools: &Rc<Pools>, wanted: Wanted<'_>) -> io::Result<Lease> {
    let key = Key {
        place: wanted.place.key(wanted.cluster),
        offer: wanted.offer.clone(),
        sni: wanted.sni.clone(),
    };
    match wanted.protocol {
        UpstreamProtocol::Http2 => lease_http2(pools, key, wanted).await,
        _ => lease_http1(pools, key, wanted).await,
    }
}

async fn lease_http1(pools: &Rc<Pools>, key: Key, wanted: Wanted<'_>) -> io::Result<Lease> {
    while let Some(mut waiting) = pools.take_http1(&key, wanted.fresh) {
        if waiting.sender.ready().await.is_ok() {
            waiting.life.begin();
            return Ok(Lease::http1(pools, key, waiting.sender, waiting.life, true));
        }
    }
    let (sender, life) = driver::http1(&wanted).await?;
    life.begin();
    Ok(Lease::http1(pools, key, sender, life, false))
}

async fn lease_http2(pools: &Rc<Pools>, key: Key, wanted: Wanted<'_>) -> io::Result<Lease> {
    loop {
        if let Some(shared) = pools.find_http2(&key).filter(|_| !wanted.fresh) {
            return Ok(Lease::http2(pools, key, shared, true));
        }
        let coming = match pools.coming.borrow_mut().entry(key.clone()) {
            Entry::Occupied(coming) => Some(Rc::clone(coming.get())),
            Entry::Vacant(place) => {
                place.insert(Rc::default());
                None
            }
        };
        match coming {
            Some(coming) => coming.notified().await,
            None => break,
        }
    }
    let arrival = Arrival { pools, key: &key };
    let (sender, life) = driver::http2(&wanted).await?;
    let shared = Rc::new(Http2 {
        sender,
        streams: Cell::new(0),
        life,
    });
    let mut known = pools.http2.borrow_mut();
    known.entry(key.clone()).or_default().push(Rc::clone(&shared));
    drop(known);
    drop(arrival);
    Ok(Lease::http2(pools, key, shared, false))
}

/// Wakes those that wait for a connection, whatever became of it.
struct Arrival<'a> {
    pools: &'a Pools,
    key: &'a Key,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if let Some(coming) = self.pools.coming.borrow_mut().remove(self.key) {
            coming.notify_waiters();
        }
    }
}

impl Pools {
    /// The connection that came back last.
    fn take_http1(&self, key: &Key, fresh: bool) -> Option<Http1> {
        if fresh {
            return None;
        }
        let mut pools = self.http1.borrow_mut();
        let waiting = pools.get_mut(key)?;
        while let Some(next) = waiting.pop() {
            if !next.sender.is_closed() && !next.life.has_ended() {
                return Some(next);
            }
        }
        pools.remove(key);
        None
    }

    fn give_http1(&self, key: Key, connection: Http1) {
        let mut pools = self.http1.borrow_mut();
        let waiting = pools.entry(key).or_default();
        // Those that were closed meanwhile lie at the bottom and would never be looked at.
        if waiting.len() >= 64 {
            waiting.retain(|known| !known.sender.is_closed());
        }
        waiting.push(connection);
    }

    fn find_http2(&self, key: &Key) -> Option<Rc<Http2>> {
        let mut pools = self.http2.borrow_mut();
        let known = pools.get_mut(key)?;
        known.retain(|connection| !connection.sender.is_closed() && !connection.life.has_ended());
        let room = |connection: &&Rc<Http2>| {
            connection.streams.get() < connection.life.streams && !connection.life.is_spent()
        };
        let found = known.iter().find(room).cloned();
        if known.is_empty() {
            pools.remove(key);
        }
        found
    }
}
