//! What the control thread has to look at.

use redplane_xds::{Event, Handle};

/// An event for [`Reconcile::take`](crate::Reconcile::take).
pub enum Incoming {
    /// A source has something to say; verdicts go to the handle.
    Xds {
        /// Which one.
        from: From,
        /// Its handle.
        handle: Handle,
        /// What it says.
        event: Box<Event>,
    },
    /// A cluster has what it waited for, or has waited long enough.
    Warm {
        /// Its name.
        name: String,
        /// The number of the wait.
        id: u64,
        /// It has waited long enough.
        timed_out: bool,
    },
    /// The first answer about a type has not come in time.
    Overdue(&'static str),
    /// A handover has waited long enough.
    OutOfPatience(u64),
}

/// Which source an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The ADS stream.
    Ads,
    /// The file of this type.
    File(&'static str),
}
