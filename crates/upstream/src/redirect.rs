//! Hosts that are known only through `-MOVED` and `-ASK`.
//!
//! Envoy keeps them for each worker until discovery adds the address; here all workers of a cluster share one
//! [`Host`] for an address, and discovery goes on with it, so a connection made for a redirection stays in use.

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_config::cluster::{Discovery, DnsFamily};

use crate::cluster::Cluster;
use crate::host::{Draft, Host, HostAddress};

impl Cluster {
    /// The host of a redirection that names a host: one of the topology, else the first address of the name. `None` if
    /// the name has no address or cannot be resolved. To be awaited on the control thread, where the resolver lives.
    pub async fn stranger_by_name(&self, name: &str, port: u16) -> Option<Arc<Host>> {
        {
            let topology = self.topology();
            if let Some(at) = topology.host_by_name(name, port) {
                return Some(Arc::clone(&topology.hosts[at]));
            }
        }
        let family = match &self.config().discovery {
            Discovery::Redis(settings) => settings.family,
            Discovery::Sentinel(settings) => settings.family,
            Discovery::StrictDns(settings) | Discovery::LogicalDns(settings) => settings.family,
            Discovery::Fixed(_) | Discovery::Eds { .. } | Discovery::OriginalDst => DnsFamily::Auto,
        };
        let found = self.dns().resolve(name, family).await.ok()?;
        Some(self.stranger(SocketAddr::new(*found.addresses.first()?, port), name))
    }

    /// The host at an address that a redirection named, with the cluster's transport. `hostname` may be empty.
    pub fn stranger(&self, address: SocketAddr, hostname: &str) -> Arc<Host> {
        let topology = self.topology();
        if let Some(at) = topology.host_by_address(address) {
            return Arc::clone(&topology.hosts[at]);
        }
        let address = HostAddress::Ip(address);
        let transport = self.transport(&address, hostname, &[]);
        self.remember(Draft::plain(address, hostname.to_owned(), transport))
    }
}
