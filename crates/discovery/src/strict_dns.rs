//! STRICT_DNS: every address of every name is a host. LOGICAL_DNS shares the watching of names.
//!
//! Each name is looked up by a task of its own, at the refresh rate or when its TTL ends. A failed look-up keeps the
//! addresses of the last good one; an answer without addresses takes them away, as in Envoy.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redplane_config::Address;
use redplane_config::cluster::Dns as Settings;
use redplane_config::endpoint::Endpoint;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::dns::{DnsError, Resolved};
use redplane_upstream::host::HostAddress;

use super::fixed::literal;
use super::place::place;

/// Shortest time between look-ups of a name, for answers with a TTL of 0.
const SHORTEST: Duration = Duration::from_secs(1);

/// Every address counts.
pub(super) fn start(cluster: &Arc<Cluster>, settings: &Settings) {
    Names::watch(cluster, settings, false);
}

/// The names of a cluster and what is known of them.
pub(super) struct Names {
    cluster: Weak<Cluster>,
    settings: Settings,
    /// One host for the whole cluster, at the first address.
    logical: bool,
    /// A std mutex: held to note an answer and to read all of them.
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    addresses: HashMap<String, Vec<IpAddr>>,
    /// Names without a first answer.
    open: BTreeSet<String>,
}

impl Names {
    pub(super) fn watch(cluster: &Arc<Cluster>, settings: &Settings, logical: bool) {
        let endpoints = settings
            .assignment
            .localities
            .iter()
            .flat_map(|locality| &locality.endpoints);
        let open: BTreeSet<String> = endpoints
            .filter_map(|endpoint| name(endpoint))
            .map(str::to_owned)
            .collect();
        let names = Arc::new(Self {
            cluster: Arc::downgrade(cluster),
            settings: settings.clone(),
            logical,
            answers: Mutex::new(Answers {
                addresses: HashMap::new(),
                open: open.clone(),
            }),
        });
        names.publish(cluster);
        if open.is_empty() {
            cluster.set_warm();
        }
        for name in open {
            let task = cluster.context().runtime.spawn(Arc::clone(&names).follow(name));
            cluster.adopt(task.abort_handle());
        }
    }

    async fn follow(self: Arc<Self>, name: String) {
        loop {
            let Some(dns) = self
                .cluster
                .upgrade()
                .map(|cluster| cluster.context().dns.clone())
            else {
                return;
            };
            let answer = dns.resolve(&name, self.settings.family).await;
            let pause = self.pause(answer.as_ref().ok());
            let Some(cluster) = self.cluster.upgrade() else {
                return;
            };
            self.take(&cluster, &name, answer);
            drop(cluster);
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self, answer: Option<&Resolved>) -> Duration {
        match answer {
            Some(answer) if self.settings.respect_ttl && !answer.addresses.is_empty() => {
                answer.ttl.max(SHORTEST)
            }
            _ => self.settings.refresh_rate.max(Duration::from_millis(1)),
        }
    }

    fn take(&self, cluster: &Arc<Cluster>, name: &str, answer: Result<Resolved, DnsError>) {
        let outcome = match answer {
            Ok(answer) => {
                let empty = answer.addresses.is_empty();
                self.answers().addresses.insert(name.to_owned(), answer.addresses);
                let changed = self.publish(cluster);
                Ok((empty, changed))
            }
            Err(error) => {
                tracing::warn!(cluster = cluster.name(), %error, "name could not be resolved");
                Err(())
            }
        };
        cluster.count(|block| {
            block.inc(names::UPDATE_ATTEMPT);
            match outcome {
                Ok((empty, changed)) => {
                    block.inc(names::UPDATE_SUCCESS);
                    block.add(names::UPDATE_EMPTY, u64::from(empty));
                    block.add(names::UPDATE_NO_REBUILD, u64::from(!changed));
                }
                Err(()) => block.inc(names::UPDATE_FAILURE),
            }
        });
        let warm = {
            let mut answers = self.answers();
            answers.open.remove(name);
            answers.open.is_empty()
        };
        if warm {
            cluster.set_warm();
        }
    }

    fn publish(&self, cluster: &Cluster) -> bool {
        let answers = self.answers();
        place(cluster, &self.settings.assignment, self.logical, |endpoint| {
            self.addresses(&answers, endpoint)
        })
    }

    fn addresses(&self, answers: &Answers, endpoint: &Endpoint) -> Vec<HostAddress> {
        let Address::Name { host, port } = &endpoint.address else {
            return literal(endpoint).into_iter().collect();
        };
        let addresses = answers.addresses.get(host).map_or(&[][..], Vec::as_slice);
        let count = if self.logical { 1 } else { usize::MAX };
        addresses
            .iter()
            .take(count)
            .map(|ip| HostAddress::Ip(SocketAddr::new(*ip, *port)))
            .collect()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(endpoint: &Endpoint) -> Option<&str> {
    match &endpoint.address {
        Address::Name { host, .. } => Some(host),
        Address::Ip(_) | Address::Pipe(_) => None,
    }
}
