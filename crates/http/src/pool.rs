//! Connections to hosts that wait for the next request: one worker's own, so that nothing is locked.
//!
//! HTTP/1 connections are given out last in, first out; an HTTP/2 connection is shared until its host's limit of
//! streams. A connection is driven by a task of its own, which also ends it when it has been idle for too long.

mod driver;
mod lease;
mod room;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use redplane_config::http::UpstreamProtocol;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Host, Permit, Resource};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::feed::RequestBody;
use driver::Life;
use room::Room;

pub(crate) use lease::{Failed, Lease};

/// Which connections are as good as each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    place: PlaceKey,
    /// What TLS offers, where a filter says so.
    offer: Option<Arc<[Vec<u8>]>>,
    /// The name that TLS asks for, where the request says so.
    sni: Option<Arc<str>>,
    /// `priority: HIGH` has connections of its own.
    high: bool,
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
    /// Which circuit breakers count.
    pub(crate) high: bool,
}

/// Why there is no connection.
pub(crate) enum NoLease {
    /// A circuit breaker is open.
    Overflow,
    /// It could not be made.
    Failed(io::Error),
}

impl From<io::Error> for NoLease {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// One worker's connections.
#[derive(Default)]
pub(crate) struct Pools {
    http1: RefCell<FxHashMap<Key, Vec<Http1>>>,
    http2: RefCell<FxHashMap<Key, Vec<Rc<Http2>>>>,
    /// HTTP/2 connections on their way: whoever needs the same one waits for it.
    coming: RefCell<FxHashMap<Key, Rc<Notify>>>,
    /// How many there are.
    rooms: RefCell<FxHashMap<Key, Rc<Room>>>,
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
/// The connection could not be made, or there may be no more of something.
pub(crate) async fn lease(pools: &Rc<Pools>, wanted: Wanted<'_>) -> Result<Lease, NoLease> {
    let key = Key {
        place: wanted.place.key(wanted.cluster),
        offer: wanted.offer.clone(),
        sni: wanted.sni.clone(),
        high: wanted.high,
    };
    match wanted.protocol {
        UpstreamProtocol::Http2 => lease_http2(pools, key, wanted).await,
        _ => lease_http1(pools, key, wanted).await,
    }
}

/// A request that waits for a connection.
struct Waiting<'a> {
    stats: &'a Block,
    _permit: Permit,
}

impl<'a> Waiting<'a> {
    fn begin(wanted: &Wanted<'a>) -> Result<Self, NoLease> {
        let stats: &'a Block = wanted.stats;
        let permit = wanted.cluster.admit_one(wanted.high, Resource::Pending);
        let permit = permit.ok_or_else(|| {
            stats.inc(names::UPSTREAM_RQ_PENDING_OVERFLOW);
            NoLease::Overflow
        })?;
        stats.inc(names::UPSTREAM_RQ_PENDING_TOTAL);
        stats.inc(names::UPSTREAM_RQ_PENDING_ACTIVE);
        Ok(Self {
            stats,
            _permit: permit,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.stats.dec(names::UPSTREAM_RQ_PENDING_ACTIVE);
    }
}

/// Leave to be on a connection.
fn request(wanted: &Wanted<'_>) -> Result<Permit, NoLease> {
    let permit = wanted.cluster.admit_one(wanted.high, Resource::Request);
    permit.ok_or_else(|| {
        wanted.stats.inc(names::UPSTREAM_RQ_ACTIVE_OVERFLOW);
        NoLease::Overflow
    })
}

async fn lease_http1(pools: &Rc<Pools>, key: Key, wanted: Wanted<'_>) -> Result<Lease, NoLease> {
    let mut waiting = None;
    let (connection, reused) = loop {
        if let Some(mut idle) = pools.take_http1(&key, wanted.fresh) {
            if idle.sender.ready().await.is_ok() {
                break (idle, true);
            }
            continue;
        }
        if waiting.is_none() {
            waiting = Some(Waiting::begin(&wanted)?);
        }
        let room = pools.room(&key);
        if let Some(seat) = room.seat(&wanted) {
            let (sender, life) = driver::http1(&wanted, seat).await?;
            break (Http1 { sender, life }, false);
        }
        room.freed().await;
    };
    drop(waiting);
    match request(&wanted) {
        Ok(permit) => {
            connection.life.begin();
            Ok(Lease::http1(pools, key, connection, permit, reused))
        }
        Err(overflow) => {
            pools.give_http1(key, connection);
            Err(overflow)
        }
    }
}

async fn lease_http2(pools: &Rc<Pools>, key: Key, wanted: Wanted<'_>) -> Result<Lease, NoLease> {
    let mut waiting = None;
    loop {
        if let Some(shared) = pools.find_http2(&key).filter(|_| !wanted.fresh) {
            let permit = request(&wanted)?;
            return Ok(Lease::http2(pools, key, shared, permit, true));
        }
        if waiting.is_none() {
            waiting = Some(Waiting::begin(&wanted)?);
        }
        let coming = match pools.coming.borrow_mut().entry(key.clone()) {
            Entry::Occupied(coming) => Some(Rc::clone(coming.get())),
            Entry::Vacant(place) => {
                place.insert(Rc::default());
                None
            }
        };
        if let Some(coming) = coming {
            coming.notified().await;
            continue;
        }
        let arrival = Arrival { pools, key: &key };
        let room = pools.room(&key);
        let Some(seat) = room.seat(&wanted) else {
            drop(arrival);
            room.freed().await;
            continue;
        };
        let (sender, life) = driver::http2(&wanted, seat).await?;
        let shared = Rc::new(Http2 {
            sender,
            streams: Cell::new(0),
            life,
        });
        let mut known = pools.http2.borrow_mut();
        known.entry(key.clone()).or_default().push(Rc::clone(&shared));
        drop(known);
        drop(arrival);
        let permit = request(&wanted)?;
        return Ok(Lease::http2(pools, key, shared, permit, false));
    }
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

    /// The connections to a place.
    fn room(&self, key: &Key) -> Rc<Room> {
        let mut rooms = self.rooms.borrow_mut();
        if let Some(room) = rooms.get(key) {
            return Rc::clone(room);
        }
        rooms.retain(|_, room| room.is_used());
        Rc::clone(rooms.entry(key.clone()).or_default())
    }

    /// A request is over: others may have its place.
    fn freed(&self, key: &Key) {
        if let Some(room) = self.rooms.borrow().get(key) {
            room.free();
        }
    }

    fn give_http1(&self, key: Key, connection: Http1) {
        self.freed(&key);
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
