//! Where the pages come from, and where orders go.

use redplane_telemetry::Registry;
use tokio::sync::{mpsc, oneshot};

use crate::dump::DumpInput;
use crate::levels::Levels;
use crate::view::{
    ClusterView, InitTargets, ListenerView, RuntimeView, ServerView, TlsCertificates, WaitingView,
};

/// A look at something that lives elsewhere. Called on a blocking thread, once per page.
pub type Source<T> = Box<dyn Fn() -> T + Send + Sync>;

/// All that the admin interface shows and reaches; filled by the binary.
pub struct Sources {
    /// The stats.
    pub registry: Registry,
    /// Brings gauges up to date that are computed only when they are read (`server.uptime`, `server.memory_*`), before stats are printed.
    pub refresh: Source<()>,
    /// What the other pages show.
    pub views: Views,
    /// `/logging`: the levels, and the way to make them count.
    pub levels: Levels,
    /// Whether a path, with its query, may be asked for (`admin.allow_paths`).
    pub allows: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
}

/// Looks at what is configured and what lives, one for each page.
pub struct Views {
    /// `/clusters`.
    pub clusters: Source<Vec<ClusterView>>,
    /// `/listeners`, in the order of their names.
    pub listeners: Source<Vec<ListenerView>>,
    /// `/config_dump`.
    pub config: Source<DumpInput>,
    /// `/server_info` and `/ready`.
    pub server: Source<ServerView>,
    /// `/certs`, one element per TLS context.
    pub certificates: Source<Vec<TlsCertificates>>,
    /// `/runtime`.
    pub runtime: Source<RuntimeView>,
    /// `/init_dump`: what start-up still waits for.
    pub init: Source<Vec<InitTargets>>,
    /// `/redis/waiting`
    pub waiting: Source<WaitingView>,
}

/// Something to be done, and the way to say that it was. A dropped `done` counts as refused.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub action: Action,
    /// To be sent when it has taken effect; the client's answer waits for it.
    pub done: oneshot::Sender<()>,
}

/// What the admin interface can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `/drain_listeners`
    DrainListeners {
        /// Only listeners with `traffic_direction: INBOUND`.
        inbound_only: bool,
        /// Close them only after the drain time.
        graceful: bool,
        /// Drain connections, but never close the listeners.
        skip_exit: bool,
    },
    /// `/healthcheck/fail`
    FailHealthCheck,
    /// `/healthcheck/ok`
    PassHealthCheck,
    /// `/reopen_logs`
    ReopenLogs,
    /// `/runtime_modify`: keys with their values; an empty value removes the key.
    ModifyRuntime(Vec<(String, String)>),
    /// `/quitquitquit`
    Quit,
}
