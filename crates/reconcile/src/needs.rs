//! What something can need before it lives, and what can need it.

use std::time::Duration;

use redplane_config::cluster::Source;
use redplane_upstream::tls::secrets::SecretKey;

/// How long a DNS answer, a Redis topology or a token is worth waiting for. A cluster without one goes on looking.
pub(crate) const MOMENT: Duration = Duration::from_secs(2);

/// A name at a source. The same name at two sources is two things.
pub(crate) type Named = (Source, String);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Need {
    /// The first answer about everything of a type.
    All(&'static str),
    /// The assignment of an EDS service.
    Endpoints(Named),
    /// A secret.
    Secret(SecretKey),
    /// A route configuration.
    Route(Named),
    /// The first topology, DNS answer or token of a cluster, by the number of its wait.
    Discovery(u64),
    /// A cluster that warms.
    Cluster(String),
    /// That no listener names a removed cluster any more.
    Release(String),
}

/// What waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// The start.
    Start,
    /// A cluster: one that takes its place when it is warm, or one of the bootstrap, which has it already.
    Cluster(String),
    /// A listener.
    Listener(String),
    /// A route configuration that names clusters on their way.
    Route(Named),
    /// A cluster that has been removed.
    Removed(String),
}

/// How long a listener that serves goes on as it is while the clusters of its next version warm.
pub(crate) const HANDOVER: Duration = Duration::from_secs(5);

/// How long something is waited for; `None` is for ever.
pub(crate) type Patience = Option<Duration>;

/// What has to be there first.
pub(crate) type Needs = Vec<(Need, Patience)>;
