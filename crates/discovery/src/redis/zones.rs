//! Zone discovery: each node is asked for the zone it runs in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::Host;
use tokio::task::JoinSet;

use super::ask;

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 8;

/// Zones of the hosts that a cluster begins with.
pub(super) fn known(cluster: &Cluster) -> HashMap<SocketAddr, String> {
    let topology = cluster.topology();
    let zoned = topology.hosts.iter().filter(|host| !host.zone.is_empty());
    zoned
        .filter_map(|host| Some((host.address.ip()?, host.zone.clone())))
        .collect()
}

/// Asks all hosts whose zone is not known yet and forgets those that left; says whether anything was learned.
pub(super) async fn learn(
    cluster: &Arc<Cluster>,
    zones: &mut HashMap<SocketAddr, String>,
    timeout: Duration,
) -> bool {
    let topology = cluster.topology().clone();
    let present = |address: &SocketAddr| topology.host_by_address(*address).is_some();
    zones.retain(|address, _| present(address));
    let unknown = |host: &&Arc<Host>| {
        host.address
            .ip()
            .is_some_and(|address| !zones.contains_key(&address))
    };
    let mut waiting: Vec<Arc<Host>> = topology.hosts.iter().filter(unknown).cloned().collect();
    let mut asking = JoinSet::new();
    let mut learned = false;
    loop {
        while asking.len() < AT_ONCE {
            let Some(host) = waiting.pop() else { break };
            let cluster = Arc::clone(cluster);
            asking.spawn(async move { (host.address.ip(), ask::zone(&cluster, &host, timeout).await) });
        }
        match asking.join_next().await {
            None => return learned,
            Some(Ok((Some(address), Ok(zone)))) if !zone.is_empty() => {
                zones.insert(address, zone);
                learned = true;
            }
            // It will be asked again with the next refresh.
            Some(_) => {}
        }
    }
}
