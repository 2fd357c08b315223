//! How far a request and its response have come.

use std::cell::Cell;

use tokio::time::Instant;

/// How far a request and its response have come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the head of the request was complete.
    pub(crate) start: Instant,
    /// Bytes of the request's body.
    pub(crate) received: Cell<u64>,
    /// Bytes of the response's body.
    pub(crate) sent: Cell<u64>,
    /// The request has a body that nobody has begun to read.
    pub(crate) has_body: Cell<bool>,
    /// The response was sent whole.
    pub(crate) complete: Cell<bool>,
    /// When something of a body moved last; kept only where a limit asks for it.
    pub(crate) moved: Cell<Instant>,
    keeps_time: bool,
}

impl Progress {
    /// A request whose head has come. `keeps_time` says that a limit asks when something moved.
    pub(crate) fn begin(keeps_time: bool) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            received: Cell::new(0),
            sent: Cell::new(0),
            has_body: Cell::new(false),
            complete: Cell::new(false),
            moved: Cell::new(now),
            keeps_time,
        }
    }

    /// A piece of the request's body has come.
    pub(crate) fn receive(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
        self.has_body.set(false);
        self.touch();
    }

    /// A piece of the response's body has gone.
    pub(crate) fn send(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
        self.touch();
    }

    fn touch(&self) {
        if self.keeps_time {
            self.moved.set(Instant::now());
        }
    }
}
