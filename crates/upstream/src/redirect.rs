//! Hosts that are known only through `-MOVED` and `-ASK`.
//!
//! Envoy keeps them for each worker until discovery adds the address; here all workers of a cluster share one
//! [`Host`] for an address, and discovery goes on with it, so a connection made for a redirection stays in use.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::host::{Draft, Host, HostAddress};

impl Cluster {
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
