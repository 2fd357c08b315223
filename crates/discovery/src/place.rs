//! Endpoints to hosts and groups: what STATIC, DNS and EDS clusters have in common.

use std::collections::HashSet;
use std::sync::Arc;

use redplane_config::cluster::Cluster as Config;
use redplane_config::endpoint::{Assignment, Endpoint, Locality};
use redplane_upstream::balancer::{Balancer, Group, Plan};
use redplane_upstream::cluster::{Cluster, Roster};
use redplane_upstream::host::{Draft, Host, HostAddress, Region};
use redplane_upstream::topology::{Layout, Topology};

/// The plan for groups of a cluster.
pub(super) fn plan(config: &Config, overprovisioning: u32, groups: Vec<Group>) -> Plan {
    Plan {
        policy: config.lb_policy,
        common: config.common_lb,
        overprovisioning,
        groups,
    }
}

/// Publishes the hosts of an assignment; says whether that was a change. `found` gives the addresses of an endpoint.
/// With `logical` a host is known by its name, and its address is only where it is now.
pub(super) fn place(
    cluster: &Cluster,
    assignment: &Assignment,
    logical: bool,
    found: impl Fn(&Endpoint) -> Vec<HostAddress>,
) -> bool {
    cluster.publish(|current, roster| {
        let mut placing = Placing {
            cluster,
            current,
            roster,
            logical,
            hosts: Vec::new(),
            seen: HashSet::new(),
            told: false,
        };
        let groups = assignment
            .localities
            .iter()
            .map(|locality| placing.group(locality, &found))
            .collect();
        let plan = plan(cluster.config(), assignment.overprovisioning_factor, groups);
        let Placing { hosts, told, .. } = placing;
        let same = hosts.len() == current.hosts.len()
            && hosts.iter().zip(&current.hosts).all(|(a, b)| Arc::ptr_eq(a, b))
            && matches!(&current.layout, Layout::Balanced(balancer) if *balancer.plan() == plan);
        (!same || told).then(|| {
            let balancer = Balancer::new(plan, &hosts);
            (hosts, Layout::Balanced(balancer))
        })
    })
}

struct Placing<'a> {
    cluster: &'a Cluster,
    current: &'a Topology,
    roster: &'a mut Roster,
    logical: bool,
    hosts: Vec<Arc<Host>>,
    seen: HashSet<HostAddress>,
    /// Some host's health is news.
    told: bool,
}

impl Placing<'_> {
    fn group(&mut self, locality: &Locality, found: &impl Fn(&Endpoint) -> Vec<HostAddress>) -> Group {
        let mut group = Group {
            priority: locality.priority.min(HIGHEST_PRIORITY),
            locality: (
                locality.region.clone(),
                locality.zone.clone(),
                locality.sub_zone.clone(),
            ),
            weight: locality.weight,
            hosts: Vec::new(),
        };
        for endpoint in &locality.endpoints {
            for address in found(endpoint) {
                if let Some(at) = self.host(locality, endpoint, address) {
                    group.hosts.push(at);
                }
            }
        }
        group
    }

    /// The host's index; `None` for one that is there already.
    fn host(&mut self, locality: &Locality, endpoint: &Endpoint, address: HostAddress) -> Option<usize> {
        let hostname = match (&endpoint.address, endpoint.hostname.is_empty()) {
            (redplane_config::Address::Name { host, .. }, true) => host.clone(),
            _ => endpoint.hostname.clone(),
        };
        if !self.seen.insert(address.clone()) {
            return None;
        }
        let transport = self
            .cluster
            .transport(&address, &hostname, &endpoint.socket_match);
        let draft = Draft {
            address,
            hostname,
            zone: locality.zone.clone(),
            region: Region {
                region: locality.region.clone(),
                sub_zone: locality.sub_zone.clone(),
            },
            weight: endpoint.weight,
            priority: locality.priority,
            transport,
            workload: endpoint.workload.clone(),
            socket_match: endpoint.socket_match.clone(),
        };
        let host = if self.logical {
            self.roster.renamed(draft, self.current.hosts.first())
        } else {
            self.roster.host(draft)
        };
        self.told |= host.told(endpoint.health);
        self.hosts.push(host);
        Some(self.hosts.len() - 1)
    }
}

/// Envoy refuses priorities above 128; they would cost memory for nothing.
const HIGHEST_PRIORITY: u32 = 128;
