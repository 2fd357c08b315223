//! The listeners of one worker: their versions, their accept loops, and where redirected connections find them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::listener::Listener;
use socket2::Socket;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::prepare::Prepared;
use crate::stats::Stats;
use crate::workers::Draining;

/// A listener on this worker.
pub(crate) struct Active {
    /// Its name.
    pub name: Arc<str>,
    version: RefCell<(Arc<Prepared>, Rc<Stats>)>,
    accepting: RefCell<Vec<(Arc<Socket>, AbortHandle)>>,
    /// Becomes true when connections have to end.
    gone: watch::Sender<bool>,
    /// Set when the listener was removed: lives as long as its connections.
    token: Cell<Option<Arc<Draining>>>,
}

impl Active {
    /// A listener that accepts nothing yet.
    pub(super) fn new(prepared: Arc<Prepared>, stats: Rc<Stats>) -> Rc<Self> {
        Rc::new(Self {
            name: prepared.config.name.as_str().into(),
            version: RefCell::new((prepared, stats)),
            accepting: RefCell::default(),
            gone: watch::Sender::new(false),
            token: Cell::new(None),
        })
    }

    /// The version that new connections get.
    pub(crate) fn version(&self) -> (Arc<Prepared>, Rc<Stats>) {
        let version = self.version.borrow();
        (Arc::clone(&version.0), Rc::clone(&version.1))
    }

    /// Takes another version.
    pub(super) fn renew(&self, prepared: Arc<Prepared>, stats: Rc<Stats>) {
        self.version.replace((prepared, stats));
    }

    /// Waits until connections have to end.
    pub(crate) async fn gone(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Ends the connections that are left.
    pub(super) fn end(&self) {
        self.gone.send_replace(true);
    }

    /// Keeps a token until the last connection has let go of the listener.
    pub(super) fn hold(&self, token: Arc<Draining>) {
        self.token.set(Some(token));
    }

    /// Accepts from these sockets: loops that run go on, others are started or ended.
    pub(super) fn accept_from(&self, sockets: Vec<Arc<Socket>>, start: impl Fn(Arc<Socket>) -> AbortHandle) {
        let mut accepting = self.accepting.borrow_mut();
        let mut old = std::mem::take(&mut *accepting);
        for socket in sockets {
            let known = old.iter().position(|(known, _)| Arc::ptr_eq(known, &socket));
            accepting.push(match known {
                Some(known) => old.swap_remove(known),
                None => (Arc::clone(&socket), start(socket)),
            });
        }
        old.into_iter().for_each(|(_, task)| task.abort());
    }

    /// Ends all accept loops and answers their sockets.
    pub(super) fn stop_accepting(&self) -> Vec<Arc<Socket>> {
        let stop = |(socket, task): (Arc<Socket>, AbortHandle)| {
            task.abort();
            socket
        };
        self.accepting.take().into_iter().map(stop).collect()
    }
}

/// Listeners by the address that they serve without a socket of their own.
#[derive(Default)]
pub(super) struct Places(HashMap<SocketAddr, Weak<Active>>);

impl Places {
    /// Notes where a listener is; a listener that binds its port is nowhere.
    pub(super) fn enter(&mut self, config: &Listener, active: &Rc<Active>) {
        self.leave(active);
        let addresses = config.addresses.iter().filter(|_| !config.bind_to_port);
        for address in addresses {
            if let Address::Ip(address) = address {
                self.0.insert(*address, Rc::downgrade(active));
            }
        }
    }

    /// Forgets a listener.
    pub(super) fn leave(&mut self, active: &Rc<Active>) {
        let (prepared, _) = active.version();
        for address in &prepared.config.addresses {
            if let Address::Ip(address) = address
                && self
                    .0
                    .get(address)
                    .is_some_and(|known| known.as_ptr() == Rc::as_ptr(active))
            {
                self.0.remove(address);
            }
        }
    }

    /// The listener at that very address, else the one at the port on any address. Envoy:
    /// `ConnectionHandlerImpl::getBalancedHandlerByAddress`.
    pub(super) fn find(&self, destination: SocketAddr) -> Option<Rc<Active>> {
        let any: IpAddr = if destination.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let at = |address| self.0.get(&address).and_then(Weak::upgrade);
        at(destination).or_else(|| at(SocketAddr::new(any, destination.port())))
    }
}
