//! How many connections of this worker there are to a place, and who waits for one of them.
//!
//! The circuit breaker of a cluster bounds its connections. A place that has none gets one in any case: else requests
//! would wait for what never comes. Envoy: `ConnPoolImplBase::tryCreateNewConnection`.

use std::cell::Cell;
use std::rc::Rc;

use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Permit, Resource};
use tokio::sync::Notify;

use super::Wanted;

/// The connections to one place.
#[derive(Default)]
pub(super) struct Room {
    open: Cell<usize>,
    freed: Notify,
}

/// One connection's place among them.
pub(super) struct Seat {
    room: Rc<Room>,
    _permit: Option<Permit>,
}

impl Room {
    /// Whether there are any.
    pub(super) fn is_used(self: &Rc<Self>) -> bool {
        self.open.get() > 0 || Rc::strong_count(self) > 1
    }

    /// Something that others may wait for has become free.
    pub(super) fn free(&self) {
        self.freed.notify_one();
    }

    /// Waits for that.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// A place for one more connection; `None` where there may be no more.
    pub(super) fn seat(self: &Rc<Self>, wanted: &Wanted<'_>) -> Option<Seat> {
        let permit = wanted.cluster.admit_one(wanted.high, Resource::Connection);
        if permit.is_none() {
            wanted.stats.inc(names::UPSTREAM_CX_OVERFLOW);
            if self.open.get() > 0 {
                return None;
            }
        }
        self.open.set(self.open.get() + 1);
        Some(Seat {
            room: Rc::clone(self),
            _permit: permit,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.open.set(self.room.open.get().saturating_sub(1));
        self.room.free();
    }
}
