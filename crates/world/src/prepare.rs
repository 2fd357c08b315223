//! A listener made ready on the control thread: certificates parsed, log files opened, stats named.
//!
//! What can be refused is refused here, before a socket or a worker is touched.

use std::sync::{Arc, Weak};

use redplane_config::http::RouteSource;
use redplane_config::listener::{self as config, ConnectionRate, FilterChain, Terminal};
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::Files;
use redplane_telemetry::stats::tcp;
use redplane_upstream::tls::secrets::Secrets;

use crate::access::Access;
use crate::access_log;
use crate::bucket::Bucket;
use crate::http::HttpService;
use crate::life::Life;
use crate::listener::{Chain, Listener, goes_on};
use crate::routes::Routes;
use crate::tls::TlsServer;

/// What preparing needs.
pub struct Preparer {
    /// Where stats are registered.
    registry: Registry,
    /// Where access logs are opened.
    files: Arc<Files>,
    /// What comes by name.
    secrets: Secrets,
    routes: Routes,
    /// TLS contexts in use: the same configuration keeps its session tickets across updates.
    tls: Vec<Weak<TlsServer>>,
    /// Buckets of rate limits that have a key to share them by.
    buckets: Vec<(Arc<ConnectionRate>, Weak<Bucket>)>,
}

impl Preparer {
    /// One that has prepared nothing yet.
    pub fn new(registry: Registry, files: Arc<Files>, secrets: Secrets, routes: Routes) -> Self {
        Self {
            registry,
            files,
            secrets,
            routes,
            tls: Vec::new(),
            buckets: Vec::new(),
        }
    }

    /// Prepares a listener, as the successor of the version that serves, if there is one.
    ///
    /// # Errors
    ///
    /// The reason of the refusal.
    pub fn prepare(
        &mut self,
        config: Arc<config::Listener>,
        serving: Option<&Listener>,
    ) -> Result<Listener, String> {
        let chains = config.chains.iter().map(|chain| self.chain(chain, serving));
        let chains = chains.collect::<Result<_, _>>()?;
        let default = config.default_chain.as_ref();
        Ok(Listener {
            chains,
            default: default.map(|chain| self.chain(chain, serving)).transpose()?,
            access_logs: access_log::prepare(&config.access_log, &self.files)?,
            config,
        })
    }

    /// What [`prepare`](Self::prepare) would refuse, but for log files, which it would open.
    ///
    /// # Errors
    ///
    /// The reason of the refusal.
    pub fn check(&mut self, config: &config::Listener) -> Result<(), String> {
        for chain in config.chains.iter().chain(&config.default_chain) {
            self.tls(chain)?;
        }
        Ok(())
    }

    fn chain(&mut self, config: &Arc<FilterChain>, serving: Option<&Listener>) -> Result<Arc<Chain>, String> {
        let (access_logs, tcp) = match &config.terminal {
            Terminal::Tcp(filter) => {
                let scope = self
                    .registry
                    .scope(&format!("tcp.{}.", filter.stat_prefix), &tcp::SCHEMA);
                (access_log::prepare(&filter.access_log, &self.files)?, Some(scope))
            }
            Terminal::Redis(_) | Terminal::Http(_) | Terminal::Inert { .. } => (Vec::new(), None),
        };
        let former = serving.and_then(|serving| serving.chain(&config.id));
        let access = match former.filter(|former| former.config == *config) {
            Some(former) => former.access.clone(),
            None => Access::of(config, &self.registry, |rate| bucket(&mut self.buckets, rate)),
        };
        let life = former
            .filter(|former| goes_on(&former.config, config))
            .map_or_else(|| Arc::new(Life::begin()), |former| Arc::clone(&former.life));
        Ok(Arc::new(Chain {
            tls: self.tls(config)?,
            config: Arc::clone(config),
            life,
            access_logs,
            access,
            tcp,
            http: self.http(config)?,
        }))
    }

    fn http(&self, config: &FilterChain) -> Result<Option<Arc<HttpService>>, String> {
        let Terminal::Http(manager) = &config.terminal else {
            return Ok(None);
        };
        let logs = access_log::prepare(&manager.access_log, &self.files)?;
        let slot = match &manager.routes {
            RouteSource::Rds { name, source } => Some(self.routes.slot(&source.source, name)),
            RouteSource::Inline(_) => None,
        };
        let service = HttpService::new(Arc::clone(manager), logs, slot, &self.registry);
        Ok(Some(Arc::new(service)))
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
        let server = TlsServer::new(Arc::clone(config), &self.secrets)
            .map_err(|reason| format!("{}: {reason}", chain.id))?;
        let server = Arc::new(server);
        self.tls.push(Arc::downgrade(&server));
        Ok(Some(server))
    }
}

/// The bucket of a rate limit: the one in use under the same key with the same numbers, or one of its own.
fn bucket(known: &mut Vec<(Arc<ConnectionRate>, Weak<Bucket>)>, rate: &ConnectionRate) -> Arc<Bucket> {
    known.retain(|(_, bucket)| bucket.strong_count() > 0);
    let same = |other: &ConnectionRate| other.share_key == rate.share_key && other.bucket == rate.bucket;
    let shared = known
        .iter()
        .filter(|(other, _)| !rate.share_key.is_empty() && same(other));
    if let Some(bucket) = shared.filter_map(|(_, bucket)| bucket.upgrade()).next() {
        return bucket;
    }
    let bucket = Arc::new(Bucket::new(&rate.bucket));
    known.push((Arc::new(rate.clone()), Arc::downgrade(&bucket)));
    bucket
}
