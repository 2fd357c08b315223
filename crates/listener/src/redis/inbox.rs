//! What reaches a driver from other threads between turns. A message wakes the driver; a turn reads them all.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Duration;

use redplane_proxy::Verdict;

use super::io_task::{ConnectionHandle, Mark};
use super::{Accepted, Whose};

/// What a driver is told.
pub(super) enum Message {
    Serve(Box<Accepted>, ConnectionHandle),
    Drain { whose: Whose, grace: Duration },
    Resolved(Mark, Option<IpAddr>),
    Decided(Mark, Verdict),
    Stop,
}

/// The messages of one driver.
pub(super) struct Inbox {
    /// A std mutex: held for a push or a pop.
    messages: Mutex<VecDeque<Message>>,
    /// Whether there may be any: a turn that has none takes no lock.
    told: AtomicBool,
    waker: mio::Waker,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            messages: Mutex::default(),
            told: AtomicBool::new(false),
            waker,
        }
    }

    /// Leaves a message and starts a turn.
    pub(super) fn tell(&self, message: Message) {
        self.messages().push_back(message);
        self.told.store(true, Ordering::Release);
        self.wake_driver();
    }

    /// The next message; `None` when all are read.
    pub(super) fn next(&self) -> Option<Message> {
        if !self.told.load(Ordering::Acquire) {
            return None;
        }
        let mut messages = self.messages();
        let next = messages.pop_front();
        if next.is_none() {
            self.told.store(false, Ordering::Release);
        }
        next
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<Message>> {
        // A push or a pop leaves nothing half done.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_driver(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(target: "redis", %error, "a worker could not be woken");
        }
    }
}

/// Messages of other workers' engines start a turn too.
impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.wake_driver();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_driver();
    }
}
