//! Which Sentinels to ask: the configured ones, and those that they told of.

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::cluster::SentinelCluster;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::{Draft, Host, HostAddress};

use crate::node::NodeAddress;

/// Metadata of an endpoint: it chooses the transport.
type Metadata = Vec<(String, String)>;

/// What is known of the Sentinels.
pub(super) struct Contacts {
    settings: Arc<SentinelCluster>,
    told: Vec<Told>,
}

/// A Sentinel that another one told of. It is spoken to as that one is.
struct Told {
    address: NodeAddress,
    port: u16,
    metadata: Metadata,
}

/// A Sentinel's address.
struct Found {
    address: HostAddress,
    hostname: String,
    metadata: Metadata,
}

impl Contacts {
    pub(super) fn new(settings: Arc<SentinelCluster>) -> Self {
        Self {
            settings,
            told: Vec::new(),
        }
    }

    /// Takes what a Sentinel said about the others.
    pub(super) fn learn(&mut self, sentinels: Vec<(NodeAddress, u16)>, from: &Host) {
        let told = |(address, port)| Told {
            address,
            port,
            metadata: from.socket_match.clone(),
        };
        // The one that was heard may itself be known by hearsay only.
        let own = from
            .address
            .ip()
            .map(|own| (NodeAddress::Ip(own.ip()), own.port()));
        self.told = sentinels.into_iter().chain(own).map(told).collect();
    }

    /// The configured Sentinels, then those they told of, each address once. Names that lead nowhere go to `silent`.
    pub(super) async fn hosts(&self, cluster: &Cluster, silent: &mut Vec<String>) -> Vec<Arc<Host>> {
        let mut found = Vec::new();
        for endpoint in self.settings.sentinels.endpoints() {
            let metadata = &endpoint.socket_match;
            let address = match &endpoint.address {
                Address::Ip(address) => HostAddress::Ip(*address),
                Address::Pipe(path) => HostAddress::Pipe(path.clone()),
                Address::Name { host, port } => {
                    found.extend(self.named(cluster, host, *port, metadata, silent).await);
                    continue;
                }
            };
            found.push(Found {
                address,
                hostname: endpoint.hostname.clone(),
                metadata: metadata.clone(),
            });
        }
        for told in &self.told {
            match &told.address {
                NodeAddress::Ip(ip) => found.push(Found {
                    address: HostAddress::Ip(SocketAddr::new(*ip, told.port)),
                    hostname: String::new(),
                    metadata: told.metadata.clone(),
                }),
                NodeAddress::Name(name) => {
                    found.extend(self.named(cluster, name, told.port, &told.metadata, silent).await);
                }
            }
        }
        let mut hosts: Vec<Arc<Host>> = Vec::new();
        for one in found {
            if !hosts.iter().any(|host| host.address == one.address) {
                hosts.push(one.host(cluster));
            }
        }
        hosts
    }

    async fn named(
        &self,
        cluster: &Cluster,
        name: &str,
        port: u16,
        metadata: &Metadata,
        silent: &mut Vec<String>,
    ) -> Vec<Found> {
        let at = |ip| Found {
            address: HostAddress::Ip(SocketAddr::new(ip, port)),
            hostname: name.to_owned(),
            metadata: metadata.clone(),
        };
        match cluster.context().dns.resolve(name, self.settings.family).await {
            Ok(found) => {
                if found.addresses.is_empty() {
                    silent.push(format!("{name}: the name has no address"));
                }
                found.addresses.into_iter().map(at).collect()
            }
            Err(error) => {
                silent.push(error.to_string());
                Vec::new()
            }
        }
    }
}

impl Found {
    fn host(self, cluster: &Cluster) -> Arc<Host> {
        let transport = cluster.transport(&self.address, &self.hostname, &self.metadata);
        let draft = Draft {
            socket_match: self.metadata,
            ..Draft::plain(self.address, self.hostname, transport)
        };
        draft.fresh()
    }
}
