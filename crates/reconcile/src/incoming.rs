//! What the control thread has to look at.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::{GrpcSource, Source};
use redplane_xds::{Event, Handle, Update};

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
    /// A cluster has the topology, names or token that it waited for; the number is that of its wait.
    Discovered(u64),
}

/// Which source an event came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The ADS stream.
    Ads,
    /// A file of resources of a type.
    File(PathBuf, &'static str),
    /// A stream for one resource.
    Stream(Arc<GrpcSource>, String),
}

impl From {
    /// As configuration names it.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Ads => Source::Ads,
            Self::File(path, _) => Source::Path(path.clone()),
            Self::Stream(grpc, _) => Source::Grpc(Arc::clone(grpc)),
        }
    }
}

/// Tells of an update. Endpoints move too often to be told at `info`, as in Envoy.
pub(crate) fn log(update: &Update, rejected: usize, took: Duration) {
    let counts = (update.resources.len(), update.removed.len(), update.unchanged);
    let (changed, removed, unchanged) = counts;
    let (type_url, version) = (&update.type_url, &update.version);
    let rejected = rejected + update.refused.len();
    if update.type_url == redplane_xds::type_url::ENDPOINT {
        tracing::debug!(
            type_url,
            version,
            changed,
            removed,
            unchanged,
            rejected,
            ?took,
            "update"
        );
    } else {
        tracing::info!(
            type_url,
            version,
            changed,
            removed,
            unchanged,
            rejected,
            ?took,
            "update"
        );
    }
}
