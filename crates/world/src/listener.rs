//! Listeners and chains with everything that their connections need.

use std::sync::Arc;

use redplane_config::listener::{self as config, FilterChain, Terminal};
use redplane_config::redis_proxy::RedisProxy;
use redplane_telemetry::Scope;
use redplane_telemetry::access_log::AccessLog;

use crate::access::Access;
use crate::http::HttpService;
use crate::life::Life;
use crate::tls::TlsServer;

/// A listener, ready for connections. Workers share it.
pub struct Listener {
    /// As configured.
    pub config: Arc<config::Listener>,
    /// Its chains, in the order of the configuration.
    pub chains: Vec<Arc<Chain>>,
    /// `default_filter_chain`.
    pub default: Option<Arc<Chain>>,
    /// The listener's own logs.
    pub access_logs: Vec<AccessLog>,
}

/// A filter chain, ready for connections.
pub struct Chain {
    /// As configured.
    pub config: Arc<FilterChain>,
    /// How long its connections may go on; shared with the versions of the chain before and behind this one.
    pub life: Arc<Life>,
    /// TLS towards the client.
    pub tls: Option<Arc<TlsServer>>,
    /// Logs of the terminal filter.
    pub access_logs: Vec<AccessLog>,
    /// Who may come in, filter by filter.
    pub access: Vec<Access>,
    /// `tcp.<stat_prefix>.`: held so that the names are printed before the first connection.
    pub tcp: Option<Arc<Scope>>,
    /// The connection manager at its end, if that is what it has.
    pub http: Option<Arc<HttpService>>,
}

impl Listener {
    /// All chains, the default one last.
    pub fn all_chains(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chains.iter().chain(&self.default)
    }

    /// The chain with this id.
    pub fn chain(&self, id: &str) -> Option<&Arc<Chain>> {
        self.all_chains().find(|chain| *chain.config.id == *id)
    }

    /// The lives of those chains whose connections do not go on under `next`: all of them when there is none.
    pub fn left_behind(&self, next: Option<&Self>) -> Vec<Arc<Life>> {
        let goes_on = |life: &Arc<Life>| {
            let mut chains = next.iter().flat_map(|next| next.all_chains());
            chains.any(|chain| Arc::ptr_eq(&chain.life, life))
        };
        let lives = self.all_chains().map(|chain| &chain.life);
        lives.filter(|life| !goes_on(life)).cloned().collect()
    }
}

impl Chain {
    /// The redis_proxy at its end, if that is what it has.
    pub fn redis(&self) -> Option<&Arc<RedisProxy>> {
        match &self.config.terminal {
            Terminal::Redis(proxy) => Some(proxy),
            _ => None,
        }
    }
}

/// Whether connections accepted under one version of a chain may go on under the next: what serves them is of the same
/// kind, and neither transport nor filters have become stricter.
pub(crate) fn goes_on(old: &FilterChain, next: &FilterChain) -> bool {
    let same_kind = match (&old.terminal, &next.terminal) {
        (Terminal::Redis(old), Terminal::Redis(next)) => old.auth.is_some() || next.auth.is_none(),
        (Terminal::Tcp(_), Terminal::Tcp(_)) => true,
        // An open connection keeps its connection manager; only its routes are exchanged under it.
        (Terminal::Http(old), Terminal::Http(next)) => old == next,
        _ => false,
    };
    let as_strict = match (&old.tls, &next.tls) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(old), Some(next)) => !next.is_stricter_than(old),
    };
    same_kind
        && as_strict
        && next
            .guards()
            .all(|guard| old.guards().any(|known| known == guard))
}
