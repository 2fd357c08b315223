//! The listeners of one worker: their accept loops, their cells, and how they end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use socket2::Socket;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::draining::Draining;
use crate::stats::Stats;

/// A listener on this worker.
pub(crate) struct Active {
    /// Its name.
    pub name: Arc<str>,
    /// By the name that they have in statistics.
    stats: RefCell<Option<(Box<str>, Rc<Stats>)>>,
    accepting: RefCell<Vec<(Arc<Socket>, AbortHandle)>>,
    /// Becomes true when connections have to end.
    gone: watch::Sender<bool>,
    /// Becomes true when connections should end as soon as they owe nothing.
    draining: watch::Sender<bool>,
    /// Set when the listener was removed: lives as long as its connections.
    token: Cell<Option<Arc<Draining>>>,
}

impl Active {
    /// A listener that accepts nothing yet.
    pub(crate) fn new(name: &str) -> Rc<Self> {
        Rc::new(Self {
            name: name.into(),
            stats: RefCell::default(),
            accepting: RefCell::default(),
            gone: watch::Sender::new(false),
            draining: watch::Sender::new(false),
            token: Cell::new(None),
        })
    }

    /// Its cells under this name; `make` makes them when it has had another name or none.
    pub(crate) fn stats(&self, stat_name: &str, make: impl FnOnce() -> Stats) -> Rc<Stats> {
        let mut stats = self.stats.borrow_mut();
        match &*stats {
            Some((name, cells)) if **name == *stat_name => Rc::clone(cells),
            _ => {
                let cells = Rc::new(make());
                *stats = Some((stat_name.into(), Rc::clone(&cells)));
                cells
            }
        }
    }

    /// Waits until connections have to end.
    pub(crate) async fn gone(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Waits until connections should take nothing new.
    pub(crate) async fn draining(&self) {
        // As above.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Asks connections to end when they owe nothing.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Ends the connections that are left.
    pub(crate) fn end(&self) {
        self.gone.send_replace(true);
    }

    /// Keeps a token until the last connection has let go of the listener.
    pub(crate) fn hold(&self, token: Arc<Draining>) {
        self.token.set(Some(token));
    }

    /// Accepts from these sockets: loops that run go on, others are started or ended.
    pub(crate) fn accept_from(&self, sockets: Vec<Arc<Socket>>, start: impl Fn(Arc<Socket>) -> AbortHandle) {
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
    pub(crate) fn stop_accepting(&self) -> Vec<Arc<Socket>> {
        let stop = |(socket, task): (Arc<Socket>, AbortHandle)| {
            task.abort();
            socket
        };
        self.accepting.take().into_iter().map(stop).collect()
    }
}
