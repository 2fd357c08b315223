//! What the engine asks of the driver, and why the driver says that a connection is gone.

use std::sync::Arc;

use redplane_config::cluster::DnsFamily;
use redplane_config::redis_proxy::ExternalAuth;
use redplane_redis_core::client::ClientId;
use redplane_redis_core::connection::ConnId;
use redplane_upstream::{Cluster, Host};

/// Plain-text bytes of a client, for the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From it.
    pub received: u64,
    /// To it.
    pub sent: u64,
}

/// What the engine asks the driver to do.
#[derive(Debug)]
pub enum Action {
    /// Open a connection to a host; `connected` or `closed` tells how it went.
    Connect(ConnId, Arc<Cluster>, Arc<Host>),
    /// Close an upstream connection. The engine has forgotten it already.
    CloseUpstream(ConnId),
    /// Close a client's connection. The engine has forgotten it by now.
    CloseClient(ClientId, Traffic),
    /// Read from this client again: its socket may hold bytes that no event will tell of.
    Resume(ClientId),
    /// Resolve a name for a redirection and call `Engine::resolved` with the ticket.
    Resolve {
        /// To be given back.
        ticket: u64,
        /// The name.
        host: String,
        /// The cluster whose rules apply.
        cluster: Arc<Cluster>,
        /// The filter's families, where it names any.
        family: Option<DnsFamily>,
    },
    /// Ask a service about a login and call `Engine::authenticated` with the ticket.
    Authenticate(Box<LoginQuestion>),
    /// Nobody waits for the verdict of this ticket any more.
    ForgetLogin(u64),
}

/// What the driver asks the service. `Debug` prints no user and no password.
pub struct LoginQuestion {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// The service.
    pub provider: Arc<ExternalAuth>,
    /// Its cluster; `None` while there is none.
    pub cluster: Option<Arc<Cluster>>,
    /// Empty where the client named none.
    pub user: String,
    /// What the client sent.
    pub password: String,
}

impl std::fmt::Debug for LoginQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginQuestion")
            .field("ticket", &self.ticket)
            .field("cluster", &self.provider.cluster)
            .finish_non_exhaustive()
    }
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It could not be opened.
    Refused,
    /// It was not open in time.
    ConnectTimeout,
    /// The server closed it or it broke.
    Remote,
    /// Its reply did not come in time.
    Timeout,
    /// Its bytes were no RESP.
    Protocol,
    /// We have no use for it any more.
    Local,
}
