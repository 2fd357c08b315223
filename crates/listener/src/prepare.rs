//! A listener made ready on the control thread: certificates parsed, log files opened, stats named.
//!
//! What can be refused is refused here, before a socket or a worker is touched.

use std::sync::{Arc, Weak};

use redplane_config::listener::{FilterChain, Listener, Terminal};
use redplane_telemetry::access_log::{AccessLog, Files};
use redplane_telemetry::stats::tcp;
use redplane_telemetry::{Registry, Scope};

use crate::access_log;
use crate::chain::Choice;
use crate::tls::TlsServer;

/// A listener with everything its connections need. Workers share it.
pub(crate) struct Prepared {
    /// As configured.
    pub config: Arc<Listener>,
    chains: Vec<Arc<Chain>>,
    default: Option<Arc<Chain>>,
    /// The listener's own logs.
    pub access_logs: Vec<AccessLog>,
}

/// A filter chain with everything its connections need.
pub(crate) struct Chain {
    /// As configured.
    pub config: Arc<FilterChain>,
    /// TLS towards the client.
    pub tls: Option<Arc<TlsServer>>,
    /// Logs of the terminal filter.
    pub access_logs: Vec<AccessLog>,
    /// `tcp.<stat_prefix>.`: held so that the names are printed before the first connection.
    pub tcp: Option<Arc<Scope>>,
}

/// What preparing needs.
pub(crate) struct Preparer {
    /// Where stats are registered.
    pub registry: Registry,
    /// Where access logs are opened.
    pub files: Arc<Files>,
    /// TLS contexts in use: the same configuration keeps its session tickets across updates.
    pub tls: Vec<Weak<TlsServer>>,
}

impl Preparer {
    /// Prepares a listener. The error is the reason of the refusal.
    pub(crate) fn prepare(&mut self, config: Arc<Listener>) -> Result<Prepared, String> {
        let chains = config
            .chains
            .iter()
            .map(|chain| self.chain(chain))
            .collect::<Result<_, _>>()?;
        let default = config
            .default_chain
            .as_ref()
            .map(|chain| self.chain(chain))
            .transpose()?;
        Ok(Prepared {
            chains,
            default,
            access_logs: access_log::prepare(&config.access_log, &self.files)?,
            config,
        })
    }

    fn chain(&mut self, config: &Arc<FilterChain>) -> Result<Arc<Chain>, String> {
        let (access_logs, tcp) = match &config.terminal {
            Terminal::Tcp(filter) => {
                let scope = self
                    .registry
                    .scope(&format!("tcp.{}.", filter.stat_prefix), &tcp::SCHEMA);
                (access_log::prepare(&filter.access_log, &self.files)?, Some(scope))
            }
            Terminal::Redis(_) | Terminal::Inert { .. } => (Vec::new(), None),
        };
        Ok(Arc::new(Chain {
            tls: self.tls(config)?,
            config: Arc::clone(config),
            access_logs,
            tcp,
        }))
    }

    fn tls(&mut self, chain: &FilterChain) -> Result<Option<Arc<TlsServer>>, String> {
        let Some(config) = &chain.tls else {
            return Ok(None);
        };
        self.tls.retain(|known| known.strong_count() > 0);
        let known = self
            .tls
            .iter()
            .filter_map(Weak::upgrade)
            .find(|known| known.is_of(config));
        if known.is_some() {
            return Ok(known);
        }
        let server =
            TlsServer::new(Arc::clone(config)).map_err(|reason| format!("{}: {reason}", chain.id))?;
        let server = Arc::new(server);
        self.tls.push(Arc::downgrade(&server));
        Ok(Some(server))
    }
}

impl Prepared {
    /// The chain that was chosen.
    pub(crate) fn chain(&self, choice: Choice) -> Option<&Arc<Chain>> {
        match choice {
            Choice::Chain(index) => self.chains.get(index),
            Choice::Default => self.default.as_ref(),
            Choice::None => None,
        }
    }
}
